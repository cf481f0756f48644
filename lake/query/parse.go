package query

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sherd-forensics/sherd/internal/timestamp"
)

// Parse reads a query; an empty one matches everything. The error is an *Error.
func Parse(text string, o Options) (*Query, error) {
	if len(text) > maxLength {
		return nil, &Error{1, fmt.Sprintf("the query has %d bytes", len(text)), fmt.Sprintf("at most %d are read", maxLength)}
	}
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return nil, &Error{1, "the query is not valid text", "look for bytes with attributes or a wildcard instead"}
	}
	p := &parser{scanner: scanner{text: text}, o: o, times: timestamp.Resolver{Latest: o.Now, Zone: o.Zone}}
	p.space()
	q := &Query{Text: text}
	if p.end() {
		return q, nil
	}
	n, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if !p.end() {
		return nil, p.fail("a parenthesis is closed that was not opened", "")
	}
	q.Root = n
	return q, nil
}

type parser struct {
	scanner
	o     Options
	times timestamp.Resolver
	terms int
}

func (p *parser) or(depth int) (Node, *Error) {
	if depth > maxDepth {
		return nil, p.fail("the query is nested too deeply", "")
	}
	var nodes []Node
	for {
		n, err := p.and(depth)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
		p.space()
		if !p.keyword("OR", "||") {
			break
		}
	}
	if len(nodes) == 1 {
		return nodes[0], nil
	}
	return &Or{nodes}, nil
}

func (p *parser) and(depth int) (Node, *Error) {
	var nodes []Node
	for {
		n, err := p.not(depth)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
		p.space()
		if p.keyword("AND", "&&") {
			continue
		}
		here := p.scanner
		if p.end() || p.peek() == ')' || p.keyword("OR", "||") {
			p.scanner = here
			break
		}
	}
	if len(nodes) == 1 {
		return nodes[0], nil
	}
	return &And{nodes}, nil
}

func (p *parser) not(depth int) (Node, *Error) {
	p.space()
	if depth > maxDepth {
		return nil, p.fail("the query is nested too deeply", "")
	}
	if p.keyword("NOT", "!") || p.peek() == '-' && p.minus() {
		n, err := p.not(depth + 1)
		if err != nil {
			return nil, err
		}
		return &Not{n}, nil
	}
	return p.primary(depth)
}

// minus takes a - that negates what follows at once.
func (p *parser) minus() bool {
	if p.at+1 < len(p.text) && !strings.ContainsRune(" \t\n\r)-", rune(p.text[p.at+1])) {
		p.at++
		return true
	}
	return false
}

func (p *parser) primary(depth int) (Node, *Error) {
	p.space()
	switch {
	case p.end():
		return nil, p.fail("a word or a condition is missing at the end", "")
	case p.peek() == ')':
		return nil, p.fail("a word or a condition is missing before the parenthesis", "")
	case p.peek() == '(':
		return p.group(depth, "")
	}
	for _, w := range []string{"AND", "OR"} {
		here := p.scanner
		if p.keyword(w, "") {
			return nil, here.fail("there is nothing before "+w, `write "`+strings.ToLower(w)+`" for the word itself`)
		}
	}
	if p.terms++; p.terms > maxTerms {
		return nil, p.fail("the query has too many conditions", "")
	}
	begin := p.scanner
	if name, ok := p.field(); ok {
		return p.condition(begin, name, depth)
	}
	return p.text1("")
}

// group takes (…), whose words are of the field.
func (p *parser) group(depth int, field string) (Node, *Error) {
	open := p.scanner
	p.at++
	var n Node
	var err *Error
	if field == "" {
		n, err = p.or(depth + 1)
	} else {
		n, err = p.values(field)
	}
	if err != nil {
		return nil, err
	}
	p.space()
	if p.peek() != ')' {
		return nil, open.fail("the parenthesis is not closed", "")
	}
	p.at++
	return n, nil
}

// values takes the inside of field:(a OR b c): any of them, or all where no OR stands between.
func (p *parser) values(field string) (Node, *Error) {
	var or []Node
	var and []Node
	flush := func() {
		if len(and) == 1 {
			or = append(or, and[0])
		} else if len(and) > 1 {
			or = append(or, &And{and})
		}
		and = nil
	}
	for {
		p.space()
		if p.end() || p.peek() == ')' {
			break
		}
		if p.keyword("OR", "||") {
			flush()
			continue
		}
		p.keyword("AND", "&&")
		p.space()
		if p.terms++; p.terms > maxTerms {
			return nil, p.fail("the query has too many conditions", "")
		}
		n, err := p.value(field)
		if err != nil {
			return nil, err
		}
		and = append(and, n)
	}
	flush()
	switch len(or) {
	case 0:
		return nil, p.fail("values are missing in the parentheses", "")
	case 1:
		return or[0], nil
	}
	return &Or{or}, nil
}

// nameLength is the length of a field's name that s begins with, 0 without one.
func nameLength(s string) int {
	i := 0
	for ; i < len(s); i++ {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '@'
		if !letter && (i == 0 || strings.IndexByte("0123456789.-", c) < 0) {
			break
		}
	}
	return i
}

// field takes NAME: and reports whether there was one. http://… and fe80::1 are no fields.
func (p *parser) field() (string, bool) {
	i := p.at + nameLength(p.text[p.at:])
	if i == p.at || i >= len(p.text) || p.text[i] != ':' {
		return "", false
	}
	name := p.text[p.at:i]
	_, column := columns[strings.ToLower(name)]
	if !column && shorthands[name] == nil && (strings.HasPrefix(p.text[i:], "://") || strings.HasPrefix(p.text[i:], "::")) {
		return "", false
	}
	p.at = i + 1
	if _, ok := columns[strings.ToLower(name)]; ok {
		name = strings.ToLower(name)
	}
	return name, true
}

// condition takes what follows NAME:.
func (p *parser) condition(begin scanner, name string, depth int) (Node, *Error) {
	if p.end() || strings.IndexByte(" \t\n\r)", p.peek()) >= 0 {
		return nil, p.fail("the value of "+name+" is missing", "write "+name+":* for any value")
	}
	switch name {
	case "around":
		return p.around()
	case "has":
		at := p.scanner
		v, _ := p.word("()")
		if nameLength(v) != len(v) {
			return nil, at.fail("a field's name is letters, digits and _ . - @", "has:sha256, has:http_status")
		}
		if err := known(begin, v); err != nil {
			return nil, err
		}
		return &Has{v}, nil
	}
	if err := known(begin, name); err != nil {
		return nil, err
	}
	if p.peek() == '(' {
		return p.group(depth, name)
	}
	return p.value(name)
}

// shorthands are names for one of two columns.
var shorthands = map[string][]string{"ip": {"src_ip", "dst_ip"}, "port": {"src_port", "dst_port"}}

// known refuses names that are most likely columns spelled wrongly; other names are attributes.
func known(at scanner, name string) *Error {
	if name == "" {
		return at.fail("the name of a field is missing", "")
	}
	if _, ok := columns[name]; ok || shorthands[name] != nil || strings.ContainsAny(name, ".@") {
		return nil
	}
	var names []string
	for c := range columns {
		names = append(names, c)
	}
	sort.Strings(names)
	for _, c := range names {
		if len(name) > 3 && distance(name, c) == 1 || len(name) > 6 && distance(name, c) == 2 {
			return at.fail("there is no field "+name, "did you mean "+c+"? An attribute of that name is attributes."+name)
		}
	}
	return nil
}

// distance is how many letters differ (Levenshtein), with neighbours that changed places counted once.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, prev, cur := rows[(i+1)%3], rows[(i+2)%3], rows[i%3]
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
	}
	return rows[len(a)%3][len(b)]
}

// text1 takes a plain word, a phrase or a regular expression.
func (p *parser) text1(field string) (Node, *Error) {
	switch p.peek() {
	case '"':
		s, err := p.quoted()
		if err != nil {
			return nil, err
		}
		return &Contains{field, lower(s)}, nil
	case '/':
		if n, ok, err := p.regexp(field); ok {
			return n, err
		}
	}
	begin := p.scanner
	s, escaped := p.word("()")
	if s == "" {
		return nil, begin.fail("nothing is written here that can be looked for", "")
	}
	if wild(s, escaped) {
		if pattern := glob(s, escaped); strings.Trim(pattern, "*") != "" {
			return &Like{field, lower(pattern)}, nil
		}
		return &Has{cmp.Or(field, "message")}, nil
	}
	return &Contains{field, lower(s)}, nil
}

// regexp takes /…/ where that is all of the value: /usr/lib is a path.
func (p *parser) regexp(field string) (Node, bool, *Error) {
	begin := p.scanner
	source, foldCase, err := p.pattern()
	if err != nil || !p.end() && strings.IndexByte(" \t\n\r)", p.peek()) < 0 {
		unclosed := err != nil && strings.IndexByte(begin.text[begin.at+1:], '/') < 0 && strings.ContainsAny(begin.text[begin.at:], "|[+^$")
		p.scanner = begin
		if unclosed {
			return nil, true, err
		}
		return nil, false, nil
	}
	if source == "" {
		return nil, true, begin.fail("the regular expression is empty", "")
	}
	n, rerr := newRegexp(field, source, foldCase)
	if rerr != nil {
		return nil, true, begin.fail("the regular expression can't be read: "+rerr.Error(), "the syntax is RE2's: no look-around, no back-references")
	}
	return n, true, nil
}

func newRegexp(field, source string, foldCase bool) (*Regexp, error) {
	flags := ""
	if foldCase {
		flags = "(?i)"
	}
	re, err := regexp.Compile(flags + source)
	if err != nil {
		return nil, err
	}
	return &Regexp{field, source, foldCase, re}, nil
}

// wild reports whether s has a * or ? that was not escaped.
func wild(s string, escaped []bool) bool {
	for i := range len(s) {
		if (s[i] == '*' || s[i] == '?') && !escaped[i] {
			return true
		}
	}
	return false
}

// glob writes a pattern in which \ stands before a *, ? or \ that is meant itself.
func glob(s string, escaped []bool) string {
	var b strings.Builder
	for i := range len(s) {
		if (s[i] == '*' || s[i] == '?') && escaped[i] || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// value takes what field: is compared with.
func (p *parser) value(field string) (Node, *Error) {
	if both := shorthands[field]; both != nil {
		begin := p.scanner
		var or []Node
		for _, f := range both {
			p.scanner = begin
			n, err := p.value(f)
			if err != nil {
				return nil, err
			}
			or = append(or, n)
		}
		return &Or{or}, nil
	}
	if after, ok := strings.CutPrefix(p.text[p.at:], "*"); ok && ends(after) {
		p.at++
		return &Has{field}, nil
	}
	switch k := kindOf(field); k {
	case number:
		return p.number(field)
	case moment:
		return p.moment()
	case freeText:
		return p.text1(field)
	case attribute:
		if strings.IndexByte("<>[{", p.peek()) >= 0 {
			return p.number(field)
		}
		return p.exact(field, k)
	default:
		return p.exact(field, k)
	}
}

// exact takes a value that the whole column must have.
func (p *parser) exact(field string, k kind) (Node, *Error) {
	begin := p.scanner
	switch p.peek() {
	case '"':
		s, err := p.quoted()
		if err != nil {
			return nil, err
		}
		return &Equal{field, lower(s)}, nil
	case '/':
		if n, ok, err := p.regexp(field); ok {
			return n, err
		}
	case '<', '>', '[', '{':
		return nil, begin.fail(field+" has no order, so that a range says nothing", "numbers and time have ranges")
	}
	s, escaped := p.word("()")
	if s == "" {
		return nil, begin.fail("the value of "+field+" is missing", "")
	}
	if k == address {
		if n, ok, err := network(begin, field, s); ok {
			return n, err
		}
	}
	if wild(s, escaped) {
		if pattern := glob(s, escaped); strings.Trim(pattern, "*") != "" {
			return &Like{field, lower(pattern)}, nil
		}
		return &Has{field}, nil
	}
	return &Equal{field, lower(s)}, nil
}

// network reads ADDRESS/BITS.
func network(at scanner, field, s string) (Node, bool, *Error) {
	if !strings.Contains(s, "/") {
		if a, err := netip.ParseAddr(s); err == nil {
			return &Equal{field, lower(a.String())}, true, nil // as parsers write it: ::1, not 0:0:…:1
		}
		return nil, false, nil
	}
	x, err := netip.ParsePrefix(s)
	if err != nil {
		return nil, true, at.fail("the network "+s+" can't be read", "10.0.0.0/8 or fd00::/8")
	}
	return &Within{field, x.Masked()}, true, nil
}

func lower(s string) string { return strings.ToLower(s) }

// ends reports whether a word is over where s begins.
func ends(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return s == "" || r == ')' || unicode.IsSpace(r)
}
