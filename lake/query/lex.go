package query

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// scanner goes through a query rune by rune.
type scanner struct {
	text string
	at   int // byte
}

func (s *scanner) column() int { return utf8.RuneCountInString(s.text[:s.at]) + 1 }

func (s *scanner) fail(what, hint string) *Error { return &Error{s.column(), what, hint} }

func (s *scanner) space() {
	for s.at < len(s.text) {
		r, n := utf8.DecodeRuneInString(s.text[s.at:])
		if !unicode.IsSpace(r) {
			return
		}
		s.at += n
	}
}

func (s *scanner) end() bool { return s.at >= len(s.text) }

// peek is the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.end() {
		return 0
	}
	return s.text[s.at]
}

// keyword takes a word such as AND, or a sign, when it stands there by itself.
func (s *scanner) keyword(word, sign string) bool {
	rest := s.text[s.at:]
	if strings.HasPrefix(rest, word) {
		after := rest[len(word):]
		if after == "" || strings.ContainsAny(after[:1], " \t\n\r()") {
			s.at += len(word)
			return true
		}
	}
	if sign != "" && strings.HasPrefix(rest, sign) {
		s.at += len(sign)
		return true
	}
	return false
}

// word takes runes up to a space or a parenthesis. A backslash takes the next rune as it is; marks has a true for each byte that was taken so.
func (s *scanner) word(stop string) (text string, escaped []bool) {
	var b strings.Builder
	for !s.end() {
		r, n := utf8.DecodeRuneInString(s.text[s.at:])
		if r == '\\' && s.at+1 < len(s.text) {
			s.at++
			r, n = utf8.DecodeRuneInString(s.text[s.at:])
			b.WriteString(s.text[s.at : s.at+n])
			s.at += n
			for range n {
				escaped = append(escaped, true)
			}
			_ = r
			continue
		}
		if unicode.IsSpace(r) || strings.ContainsRune(stop, r) {
			break
		}
		b.WriteString(s.text[s.at : s.at+n])
		for range n {
			escaped = append(escaped, false)
		}
		s.at += n
	}
	return b.String(), escaped
}

// quoted takes "…", in which \" and \\ stand for themselves.
func (s *scanner) quoted() (string, *Error) {
	begin := *s
	s.at++
	var b strings.Builder
	for !s.end() {
		c := s.text[s.at]
		switch {
		case c == '"':
			s.at++
			return b.String(), nil
		case c == '\\' && s.at+1 < len(s.text) && (s.text[s.at+1] == '"' || s.text[s.at+1] == '\\'):
			b.WriteByte(s.text[s.at+1])
			s.at += 2
		default:
			b.WriteByte(c)
			s.at++
		}
	}
	return "", begin.fail("the quotes are not closed", `write \" for a quote inside`)
}

// pattern takes /…/ and an i behind it. \/ is a slash.
func (s *scanner) pattern() (source string, foldCase bool, err *Error) {
	begin := *s
	s.at++
	var b strings.Builder
	for !s.end() {
		c := s.text[s.at]
		switch {
		case c == '/':
			s.at++
			if s.peek() == 'i' && (s.at+1 >= len(s.text) || strings.IndexByte(" \t\n\r)", s.text[s.at+1]) >= 0) {
				s.at++
				foldCase = true
			}
			return b.String(), foldCase, nil
		case c == '\\' && s.at+1 < len(s.text):
			if s.text[s.at+1] != '/' {
				b.WriteByte(c)
			}
			b.WriteByte(s.text[s.at+1])
			s.at += 2
		default:
			b.WriteByte(c)
			s.at++
		}
	}
	return "", false, begin.fail("the regular expression is not closed", `end it with /, and write \/ for a slash inside`)
}
