package sigma

import (
	"cmp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/lake/query"
)

// matcher finds the rules that an event matches. For each source of events, one automaton looks for the texts without which a rule can't
// match; the rules whose text is there are evaluated, and those that need none.
type matcher struct{ sources []*indexed }

// indexed is the rules of one source.
type indexed struct {
	source  *source
	rules   []*rule
	always  []int // rules that need no text
	auto    *automaton
	of      [][]int // rules by pattern of auto
	columns []string
}

// Bounds of what a rule is looked for by.
const (
	minLiteral  = 2
	maxLiterals = 2000 // of one rule
)

// newMatcher indexes rules; without an index every rule is evaluated.
func newMatcher(rules []*rule, index bool) *matcher {
	m := &matcher{}
	by := map[*source]*indexed{}
	for _, r := range rules {
		if r.query == nil {
			continue
		}
		x := by[r.source]
		if x == nil {
			x = &indexed{source: r.source}
			by[r.source] = x
			m.sources = append(m.sources, x)
		}
		x.rules = append(x.rules, r)
	}
	for _, x := range m.sources {
		x.build(index)
	}
	return m
}

func (x *indexed) build(index bool) {
	patterns := map[string]int{}
	var list []string
	uses := map[string]int{} // of each text, by how many rules
	for _, r := range x.rules {
		if !index {
			continue
		}
		mine := map[string]bool{}
		literalsOf(r.query.Root, mine)
		for t := range mine {
			uses[t]++
		}
	}
	for i, r := range x.rules {
		var best *needle
		if index {
			best = rarest(needles(r.query.Root, uses), uses)
		}
		if best == nil || len(best.texts) > maxLiterals {
			x.always = append(x.always, i)
			continue
		}
		for c := range best.columns {
			x.column(c)
		}
		for _, t := range best.texts {
			p, ok := patterns[t]
			if !ok {
				p = len(list)
				patterns[t], list, x.of = p, append(list, t), append(x.of, nil)
			}
			if n := len(x.of[p]); n == 0 || x.of[p][n-1] != i {
				x.of[p] = append(x.of[p], i)
			}
		}
	}
	if len(list) == 0 {
		return
	}
	x.auto = newAutomaton(list)
}

func (x *indexed) column(c string) {
	if strings.HasPrefix(c, "attributes.") {
		c = "attributes"
	}
	for _, have := range x.columns {
		if have == c {
			return
		}
	}
	x.columns = append(x.columns, c)
}

// needle is a list of texts, in lower case, one of which an event that matches has in its columns.
type needle struct {
	texts   []string
	columns map[string]bool
}

// rarest takes the most telling of several: what many rules ask for tells the events of a source from others, not one event from
// another. Of equals the longest.
func rarest(all []*needle, uses map[string]int) *needle {
	var best *needle
	rank := func(n *needle) (common, length int) {
		length = 1 << 20
		for _, t := range n.texts {
			common, length = max(common, uses[t]), min(length, len(t))
		}
		return common, -min(length, 12)
	}
	for _, n := range all {
		if best == nil {
			best = n
			continue
		}
		c1, l1 := rank(n)
		c2, l2 := rank(best)
		if cmp.Or(cmp.Compare(c1, c2), cmp.Compare(l1, l2), cmp.Compare(len(n.texts), len(best.texts))) < 0 {
			best = n
		}
	}
	return best
}

// literalsOf collects the texts that could be asked for.
func literalsOf(n query.Node, into map[string]bool) {
	switch n := n.(type) {
	case *query.And:
		for _, x := range n.Nodes {
			literalsOf(x, into)
		}
	case *query.Or:
		for _, x := range n.Nodes {
			literalsOf(x, into)
		}
	case *query.Pattern, *query.Search:
		for _, one := range needles(n, nil) {
			into[one.texts[0]] = true
		}
	}
}

// needles gives the lists of texts that a condition needs, of each at least one.
func needles(n query.Node, uses map[string]int) []*needle {
	switch n := n.(type) {
	case *query.And:
		var out []*needle
		for _, x := range n.Nodes {
			out = append(out, needles(x, uses)...)
		}
		return out
	case *query.Or:
		all := &needle{columns: map[string]bool{}}
		for _, x := range n.Nodes {
			one := rarest(needles(x, uses), uses)
			if one == nil || len(all.texts)+len(one.texts) > maxLiterals {
				return nil
			}
			all.texts = append(all.texts, one.texts...)
			for c := range one.columns {
				all.columns[c] = true
			}
		}
		return []*needle{all}
	case *query.Pattern:
		best := ""
		for _, l := range n.Literals() {
			best = longer(best, l)
		}
		return of(n.Field, best)
	case *query.Search:
		return of(n.Field, literalOf(n.Syntax()))
	}
	return nil
}

// of is a needle of one text in one field. What is no text in the event as it stands there is none.
func of(f *query.Field, s string) []*needle {
	if f.Default != "" || f.Suffix != "" || len(s) < minLiteral {
		return nil
	}
	n := &needle{texts: []string{strings.ToLower(s)}, columns: map[string]bool{}}
	for _, c := range f.Columns {
		if !searchable[c] && !strings.HasPrefix(c, "attributes") {
			return nil
		}
		n.columns[c] = true
	}
	return []*needle{n}
}

// longer takes the longest run of plain ASCII: how JSON and lower case write anything else is not for the index to know. A text of JSON
// itself may be escaped, so that quotes and backslashes divide as well.
func longer(best, s string) string {
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] >= 0x20 && s[i] < 0x7f && s[i] != '"' && s[i] != '\\' {
			continue
		}
		if i-start > len(best) {
			best = s[start:i]
		}
		start = i + 1
	}
	return best
}

// literalOf is the longest text that every match of an expression holds.
func literalOf(re *syntax.Regexp) string {
	best := ""
	switch re.Op {
	case syntax.OpLiteral:
		s := string(re.Rune)
		if re.Flags&syntax.FoldCase != 0 {
			// Without regard to case, k and s are also letters beyond ASCII, of which one stays itself in lower case.
			s = strings.Map(func(r rune) rune {
				if strings.ContainsRune("ksKS", r) {
					return 0x80
				}
				return r
			}, strings.ToLower(s))
		}
		return longer("", s)
	case syntax.OpConcat:
		for _, x := range re.Sub {
			if l := literalOf(x); len(l) > len(best) {
				best = l
			}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return literalOf(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return literalOf(re.Sub[0])
		}
	}
	return best
}

// searchable are the columns of text that the index looks into.
var searchable = map[string]bool{"message": true, "path": true, "cmdline": true, "process": true, "user": true, "identity": true, "container": true,
	"container_id": true, "image_digest": true, "pod": true, "namespace": true, "node": true, "sha256": true, "src_ip": true, "dst_ip": true, "protocol": true}

// scratch is what one goroutine needs to match.
type scratch struct {
	record     query.Record
	text       []byte
	seen       []bool
	candidates []int // those that are seen
}

// match calls found for each rule that an event matches, and for each source that it is of.
func (m *matcher) match(e *event.Event, s *scratch, of func(*source), found func(*rule, *query.Record)) {
	s.record.Reset(e)
	for _, x := range m.sources {
		if !x.source.has(e) {
			continue
		}
		of(x.source)
		for _, i := range x.always {
			if x.rules[i].query.MatchRecord(&s.record) {
				found(x.rules[i], &s.record)
			}
		}
		if x.auto == nil {
			continue
		}
		x.gather(e, s)
		if len(s.seen) < len(x.rules) {
			s.seen = make([]bool, len(x.rules))
		}
		s.candidates = s.candidates[:0]
		x.auto.find(s.text, func(t int32) {
			for _, i := range x.of[t] {
				if !s.seen[i] {
					s.seen[i] = true
					s.candidates = append(s.candidates, i)
				}
			}
		})
		slices.Sort(s.candidates) // rules answer in their order
		for _, i := range s.candidates {
			s.seen[i] = false
			if x.rules[i].query.MatchRecord(&s.record) {
				found(x.rules[i], &s.record)
			}
		}
	}
}

// gather writes the columns in lower case, attributes also without the escapes of JSON.
func (x *indexed) gather(e *event.Event, s *scratch) {
	b := s.text[:0]
	for _, c := range x.columns {
		v := ""
		switch c {
		case "message":
			v = e.Message
		case "path":
			v = e.Path
		case "cmdline":
			v = e.Cmdline
		case "process":
			v = e.Process
		case "user":
			v = e.User
		case "identity":
			v = e.Identity
		case "container":
			v = e.Container
		case "container_id":
			v = e.ContainerID
		case "image_digest":
			v = e.ImageDigest
		case "pod":
			v = e.Pod
		case "namespace":
			v = e.Namespace
		case "node":
			v = e.Node
		case "sha256":
			v = e.SHA256
		case "src_ip":
			v = e.SrcIP
		case "dst_ip":
			v = e.DstIP
		case "protocol":
			v = e.Protocol
		case "attributes":
			b = lowered(b, string(e.Attributes))
			b = append(b, 0)
			if plain := unescape(e.Attributes); plain != "" {
				b = lowered(b, plain)
				b = append(b, 0)
			}
			continue
		}
		b = lowered(b, v)
		b = append(b, 0)
	}
	s.text = b
}

// lowered appends s in lower case.
func lowered(b []byte, s string) []byte {
	start := len(b)
	b = append(b, s...)
	for i := start; i < len(b); i++ {
		switch c := b[i]; {
		case c >= 0x80: // a letter beyond ASCII may have one of ASCII as its lower case
			return append(b[:start], strings.ToLower(s)...)
		case 'A' <= c && c <= 'Z':
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}
