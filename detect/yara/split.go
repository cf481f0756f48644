package yara

import (
	"strings"
)

// kind of an item of a source of rules.
type kind uint8

const (
	itemBlank   kind = iota // comments and white space alone
	itemRule                // rule, with its modifiers
	itemImport              // import "module"
	itemInclude             // include "file"
	itemJunk                // what is none of these
)

// item is one piece of a source. The texts of all items, one after another, are the source.
type item struct {
	kind kind
	file string // that it is from
	line int    // of its first word, from 1
	top  int    // of its text's first byte
	text string // with the comments and the white space before it, and behind the last
	name string // of the rule, the module or the file

	private, global bool
	// uses are the identifiers of a rule's condition: rules that it refers to, among others. One that ends in an asterisk stands for
	// all that begin so.
	uses []string
	// modules are the identifiers that a dot follows.
	modules []string
	bad     string // why it can't be right; "" if nothing was seen
}

// word is one word of the language, as far as cutting a source needs to tell them apart.
type word struct {
	start, end int
	sort       sort
	bad        string
}

type sort uint8

const (
	wordEnd sort = iota
	wordIdent
	wordString
	wordRegexp
	wordSign // any other single byte
)

// lexer cuts a source into words. It follows libyara's own: https://yara.readthedocs.io/en/v4.2.3/writingrules.html.
type lexer struct {
	src string
	pos int
	bad string // of a comment that does not end
}

func identByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// space skips white space and comments.
func (l *lexer) space() {
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			l.pos++
		case strings.HasPrefix(l.src[l.pos:], "//"):
			n := strings.IndexByte(l.src[l.pos:], '\n')
			if n < 0 {
				n = len(l.src) - l.pos
			}
			l.pos += n
		case strings.HasPrefix(l.src[l.pos:], "/*"):
			n := strings.Index(l.src[l.pos+2:], "*/")
			if n < 0 {
				l.bad, l.pos = "a comment does not end", len(l.src)
				return
			}
			l.pos += 2 + n + 2
		case l.pos == 0 && strings.HasPrefix(l.src, byteOrderMark):
			l.pos += len(byteOrderMark)
		default:
			return
		}
	}
}

const byteOrderMark = "\xef\xbb\xbf"

func (l *lexer) next() word {
	l.space()
	w := word{start: l.pos, sort: wordEnd}
	if l.pos >= len(l.src) {
		w.end, w.bad = l.pos, l.bad
		return w
	}
	switch c := l.src[l.pos]; {
	case identByte(c):
		w.sort = wordIdent
		for l.pos < len(l.src) && identByte(l.src[l.pos]) {
			l.pos++
		}
	case c == '"':
		w.sort = wordString
		w.bad = l.quoted('"', "a string does not end on its line")
	case c == '/':
		w.sort = wordRegexp
		w.bad = l.quoted('/', "a regular expression does not end on its line")
	default:
		w.sort = wordSign
		l.pos++
	}
	w.end = l.pos
	return w
}

// quoted skips to the end of what quote begins and ends; a line's end ends it too, which it should not.
func (l *lexer) quoted(quote byte, otherwise string) string {
	for l.pos++; l.pos < len(l.src); l.pos++ {
		switch l.src[l.pos] {
		case '\\':
			if l.pos+1 < len(l.src) && l.src[l.pos+1] != '\n' {
				l.pos++
			}
		case '\n':
			return otherwise
		case quote:
			l.pos++
			return ""
		}
	}
	return otherwise
}

// splitter cuts a source into items.
type splitter struct {
	lexer
	file  string
	items []item
	from  int // where the current item's text begins
	line  int // of at
	at    int
	ahead []word
}

func (s *splitter) peek(i int) word {
	for len(s.ahead) <= i {
		s.ahead = append(s.ahead, s.lexer.next())
	}
	return s.ahead[i]
}

func (s *splitter) take() word {
	w := s.peek(0)
	s.ahead = s.ahead[1:]
	return w
}

func (s *splitter) text(w word) string { return s.src[w.start:w.end] }

// lineOf gives the line of a position; positions must not fall.
func (s *splitter) lineOf(pos int) int {
	if pos > s.at {
		s.line += strings.Count(s.src[s.at:pos], "\n")
		s.at = pos
	}
	return s.line
}

// begins reports whether an item begins at word i: with rule, import or include, or with modifiers before rule.
func (s *splitter) begins(i int) bool {
	for n := 0; ; n++ {
		w := s.peek(i + n)
		if w.sort != wordIdent {
			return false
		}
		switch s.text(w) {
		case "rule":
			return s.peek(i+n+1).sort == wordIdent
		case "import", "include":
			return n == 0 && s.peek(i+1).sort == wordString
		case "private", "global":
			if n > 8 {
				return false
			}
		default:
			return false
		}
	}
}

// add ends an item at end.
func (s *splitter) add(it item, end int) {
	it.file, it.text = s.file, s.src[s.from:end]
	it.top = s.lineOf(s.from)
	s.from = end
	s.items = append(s.items, it)
}

// split cuts a source into items, whose texts make up the source. It never fails: what can't be right says so.
func split(file, src string) []item {
	s := &splitter{lexer: lexer{src: src}, file: file, line: 1}
	for {
		w := s.peek(0)
		if w.sort == wordEnd {
			break
		}
		switch {
		case !s.begins(0):
			s.junk()
		case s.text(w) == "import", s.text(w) == "include":
			s.line1(w)
		default:
			s.rule(w)
		}
	}
	if s.bad != "" {
		s.add(item{kind: itemJunk, bad: s.bad}, len(src))
	} else if s.from < len(src) {
		if n := len(s.items); n > 0 {
			s.items[n-1].text += src[s.from:]
		} else {
			s.add(item{kind: itemBlank}, len(src))
		}
	}
	for i := range s.items {
		it := &s.items[i]
		it.line = it.top + strings.Count(it.text[:lead(it.text)], "\n")
	}
	return s.items
}

// lead is the length of the comments and white space that a text begins with.
func lead(text string) int {
	l := lexer{src: text}
	l.space()
	return min(l.pos, len(text))
}

func (s *splitter) junk() {
	end := s.take().end
	for s.peek(0).sort != wordEnd && !s.begins(0) {
		end = s.take().end
	}
	s.add(item{kind: itemJunk, bad: "neither a rule nor an import nor an include"}, end)
}

// line1 takes import or include with what is named.
func (s *splitter) line1(w word) {
	it := item{kind: itemImport}
	if s.text(w) == "include" {
		it.kind = itemInclude
	}
	s.take()
	arg := s.take()
	it.bad = arg.bad
	if it.bad == "" {
		it.name = s.src[arg.start+1 : arg.end-1]
	}
	s.add(it, arg.end)
}

// rule takes a rule up to the brace that ends it, or to where the next item begins if it has none.
func (s *splitter) rule(w word) {
	it := item{kind: itemRule}
	for ; s.text(w) != "rule"; w = s.peek(0) {
		it.private = it.private || s.text(w) == "private"
		it.global = it.global || s.text(w) == "global"
		s.take()
	}
	s.take()
	name := s.take()
	it.name = s.text(name)
	end, depth, condition := name.end, 0, false
	var before word
	for {
		w := s.peek(0)
		if w.sort == wordEnd || s.begins(0) {
			it.bad = "the brace that ends the rule is missing"
			break
		}
		s.take()
		end = w.end
		if w.bad != "" && it.bad == "" {
			it.bad = w.bad
		}
		switch {
		case w.sort == wordSign && s.src[w.start] == '{':
			depth++
		case w.sort == wordSign && s.src[w.start] == '}':
			depth--
		case w.sort == wordIdent && depth == 1 && s.text(w) == "condition":
			condition = true
		case w.sort == wordIdent && condition:
			s.mention(&it, w, before)
		}
		before = w
		if depth <= 0 && w.sort == wordSign && s.src[w.start] == '}' {
			break
		}
	}
	s.add(it, end)
}

// mention notes an identifier of a condition.
func (s *splitter) mention(it *item, w, before word) {
	if before.sort == wordSign && before.end == w.start && strings.IndexByte("$#@!.", s.src[before.start]) >= 0 {
		return
	}
	id := s.text(w)
	if next := s.peek(0); next.sort == wordSign {
		switch s.src[next.start] {
		case '.':
			it.modules = append(it.modules, id)
			return
		case '*':
			if next.start == w.end {
				id += "*"
			}
		}
	}
	it.uses = append(it.uses, id)
}
