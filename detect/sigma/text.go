package sigma

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// text is a value with wildcards: pieces of plain text, and '*' or '?' between them.
type text []piece

type piece struct {
	plain string
	wild  byte // '*' or '?'; 0 for plain text
}

// parseText reads a value: * and ? are wildcards, a backslash before *, ? or a backslash takes it as it is, and stands for itself
// before anything else.
func parseText(s string) text {
	var out text
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			out = append(out, piece{plain: b.String()})
			b.Reset()
		}
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\\':
			if i+1 < len(s) && strings.IndexByte(`*?\`, s[i+1]) >= 0 {
				i++
			}
			b.WriteByte(s[i])
		case '*', '?':
			flush()
			out = append(out, piece{wild: c})
		default:
			b.WriteByte(c)
		}
	}
	flush()
	return out
}

// plainText is a value without wildcards.
func plainText(s string) text {
	if s == "" {
		return nil
	}
	return text{{plain: s}}
}

// literal is the value if it has no wildcards.
func (t text) literal() (string, bool) {
	switch {
	case len(t) == 0:
		return "", true
	case len(t) == 1 && t[0].wild == 0:
		return t[0].plain, true
	}
	return "", false
}

// pattern writes the value as package query has it.
func (t text) pattern(cased bool) string {
	var b strings.Builder
	for _, p := range t {
		if p.wild != 0 {
			b.WriteByte(p.wild)
			continue
		}
		s := p.plain
		if !cased {
			s = strings.ToLower(s)
		}
		for i := range len(s) {
			if strings.IndexByte(`*?\`, s[i]) >= 0 {
				b.WriteByte('\\')
			}
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// inJSON is the value as it stands within a text of JSON.
func (t text) inJSON() text {
	out := make(text, len(t))
	for i, p := range t {
		out[i] = p
		out[i].plain = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(p.plain)
	}
	return out
}

// around puts * before and after the value, where it has none yet.
func (t text) around(before, after bool) text {
	star := piece{wild: '*'}
	if before && (len(t) == 0 || t[0] != star) {
		t = append(text{star}, t...)
	}
	if after && t.last() != star {
		t = append(t[:len(t):len(t)], star)
	}
	return t
}

func (t text) last() piece {
	if len(t) == 0 {
		return piece{}
	}
	return t[len(t)-1]
}

// any reports whether the value is nothing but *.
func (t text) any() bool {
	for _, p := range t {
		if p.wild != '*' {
			return false
		}
	}
	return len(t) > 0
}

// dashes are what a program of Windows takes for the sign of an option.
var dashes = []rune{'-', '/', '–', '—', '―'}

// maxDashes bounds how many dashes of one value are varied: 5 to the power of it.
const maxDashes = 4

// windash gives the value with each dash that begins a word in all forms.
func (t text) windash() ([]text, error) {
	var out []text
	count := 0
	var rec func(i int, done text)
	rec = func(i int, done text) {
		if i == len(t) {
			out = append(out, append(text(nil), done...))
			return
		}
		if t[i].wild != 0 {
			rec(i+1, append(done[:len(done):len(done)], t[i]))
			return
		}
		for _, v := range dashed(t[i].plain) {
			rec(i+1, append(done[:len(done):len(done)], piece{plain: v}))
		}
	}
	for _, p := range t {
		count += len(dashPlaces(p.plain))
	}
	if count > maxDashes {
		return nil, fmt.Errorf("modifier windash: more than %d dashes in one value", maxDashes)
	}
	rec(0, nil)
	return out, nil
}

func word(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= 0x80 && r != utf8.RuneError && !strings.ContainsRune(string(dashes), r)
}

// dashPlaces are the bytes where dashes stand between what is no word and a word.
func dashPlaces(s string) []int {
	var out []int
	before := ' '
	for i, r := range s {
		next, _ := utf8.DecodeRuneInString(s[i+utf8.RuneLen(max(r, 0)):])
		if strings.ContainsRune(string(dashes), r) && !word(before) && word(next) {
			out = append(out, i)
		}
		before = r
	}
	return out
}

func dashed(s string) []string {
	out := []string{""}
	at := 0
	for _, p := range dashPlaces(s) {
		_, n := utf8.DecodeRuneInString(s[p:])
		var more []string
		for _, o := range out {
			for _, d := range dashes {
				more = append(more, o+s[at:p]+string(d))
			}
		}
		out, at = more, p+n
	}
	for i := range out {
		out[i] += s[at:]
	}
	return out
}

// wide encodes in UTF-16.
func wide(s string, big, mark bool) string {
	var b bytes.Buffer
	put := func(u uint16) {
		if big {
			b.Write([]byte{byte(u >> 8), byte(u)})
		} else {
			b.Write([]byte{byte(u), byte(u >> 8)})
		}
	}
	if mark {
		put(0xfeff)
	}
	for _, u := range utf16.Encode([]rune(s)) {
		put(u)
	}
	return b.String()
}

// offsets gives what stays of s in Base64, whatever stands before and after it: one for each place in a group of three.
func offsets(s string) []string {
	var out []string
	for i := range 3 {
		enc := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(" ", i) + s))
		start := []int{0, 2, 3}[i]
		end := len(enc)
		switch (len(s) + i) % 3 {
		case 1:
			end -= 3
		case 2:
			end -= 2
		}
		if start < end {
			out = append(out, enc[start:end])
		}
	}
	return out
}
