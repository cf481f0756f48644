// Package printable makes text that an attacker may have chosen fit to be shown. All evidence is hostile:
// a file name can hold terminal escapes, bidirectional overrides, or markup.
package printable

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text returns s with everything that could move a cursor, colour a screen, reorder or hide text written as
// a visible escape (\n, \x1b, \u202e). Backslashes stay as they are: the result is for people, not for
// decoding. It never contains a control character, so it fits on one line.
func Text(s string) string {
	clean := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			b.WriteString(`\x`)
			b.WriteByte(hexDigit(s[i] >> 4))
			b.WriteByte(hexDigit(s[i] & 15))
		case r == '\n' || r == '\t' || r == '\r':
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		case !unicode.IsGraphic(r) || hidden(r):
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// hidden reports graphic runes that still mislead a reader: exotic spaces and combining joiners.
func hidden(r rune) bool {
	return unicode.Is(unicode.Zs, r) && r != ' ' || r == 0x034f || r == 0x115f || r == 0x1160 || r == 0x3164 || r == 0xffa0
}

func hexDigit(c byte) byte { return "0123456789abcdef"[c] }

// Clip is Text cut to at most n runes, with an ellipsis where something was cut.
func Clip(s string, n int) string {
	s = Text(s)
	if n <= 0 || utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return string(r[:n-1]) + "…"
}
