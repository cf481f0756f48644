// Package redact knows what secrets look like, so that no output shows one unless it was asked to: keys and tokens by the forms that
// those who issue them gave them, and values by the names that stand before them. What is hidden keeps its length, and what is said
// of it instead is its kind, its first letters, its length and the start of its SHA-256, by which a person who has it can tell that
// it is the same.
//
// A secret without a form and without a telling name is not known as one.
package redact

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Class says what a secret is good for.
type Class int

// The classes.
const (
	Token    Class = iota // lets its bearer in
	Key                   // signs or deciphers
	Password              // short enough to be guessed, so that not even a hash of it is shown
)

// Secret is one secret in a run of bytes.
type Secret struct {
	Kind           string // "GitHub token"
	Class          Class
	Offset, Length int
	// Shown is how many of its first bytes say nothing but the kind.
	Shown int
	// Detail is what a token says of itself in clear: issuer, subject, expiry. "" if nothing. Not fit to be shown unescaped.
	Detail string
	// Subject is whom a token was issued to, as it says itself; "" if it does not.
	Subject string
}

// Words describes a secret of b without giving it away.
func (s *Secret) Words(b []byte) string {
	v := b[s.Offset : s.Offset+s.Length]
	w := s.Kind
	if s.Shown > 0 && s.Class != Password {
		w += " " + strings.TrimSpace(string(v[:s.Shown])) + "…"
	}
	w += fmt.Sprintf(" (%d B", s.Length)
	if s.Class != Password {
		w += ", sha256 " + Sum(v)
	}
	if s.Detail != "" {
		w += ", " + s.Detail
	}
	return w + ")"
}

// Sum is the start of a secret's SHA-256, enough to compare and too little to be the hash.
func Sum(v []byte) string {
	h := sha256.Sum256(v)
	return hex.EncodeToString(h[:6])
}

// Find gives the keys and tokens of b that have forms, in order.
func Find(b []byte) []Secret {
	var out []Secret
	for i := 0; i < len(b); i++ {
		if !starts[b[i]] || i > 0 && word[b[i-1]] {
			continue
		}
		if s, ok := At(b, i); ok {
			out = append(out, s)
			i = s.Offset + s.Length - 1
		}
	}
	return out
}

// name matches names of variables, options and fields that usually hold secrets.
var name = regexp.MustCompile(`(?i)(PASS(WORD|WD|PHRASE)?$|PASSWORD|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|ENCRYPTION_?KEY|SIGNING_?KEY|CREDENTIAL|_DSN$|^DSN$|DATABASE_URL|CONNECTION_?STRING|_PAT$|MONGO(DB)?_UR[IL]|REDIS_URL|AMQP_URL)`)

// fragments are what every name that matches has in it, in lower case with dashes as underscores, by first letter. Most texts have none,
// and are spared the expressions below.
var fragments = func() (by [256][]string) {
	for _, f := range []string{"pass", "secret", "token", "key", "credential", "dsn", "database_url", "connection", "_pat", "mongo", "redis_url", "amqp_url"} {
		by[f[0]] = append(by[f[0]], f)
	}
	for c := byte('a'); c <= 'z'; c++ {
		by[c-'a'+'A'] = by[c]
	}
	by['-'] = by['_']
	return by
}()

// telling reports whether a name that usually holds a secret may be in b.
func telling(b []byte) bool {
	for i, c := range b {
		for _, f := range fragments[c] {
			if len(b)-i >= len(f) && fold(b[i:i+len(f)], f) {
				return true
			}
		}
	}
	return false
}

func fold(b []byte, f string) bool {
	for i, c := range b {
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c == '-':
			c = '_'
		}
		if c != f[i] {
			return false
		}
	}
	return true
}

// Name reports whether a variable, an option or a field of that name usually holds a secret.
func Name(s string) bool {
	s = strings.ReplaceAll(s, "-", "_")
	return name.MatchString(s) && !about.MatchString(s)
}

// about matches names of what only tells of a secret: a manifest's secretName.
var about = regexp.MustCompile(`(?i)(SECRET|TOKEN|KEY|CREDENTIAL)S?_?(NAME|TYPE|REF)$`)

// Span is a part of a run of bytes.
type Span struct{ From, To int }

var (
	assigned = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_.-]{0,80})(\\?["']?[ \t]{0,2}[=:][ \t]{0,2}\\?["']?)`)
	option   = regexp.MustCompile(`--?([A-Za-z][A-Za-z0-9_-]{1,60})(\x00|[ \t]+|\\?",[ \t]?\\?")`)
	userinfo = regexp.MustCompile(`[a-z][a-z0-9+.-]{1,20}://[^\s/?#@:"'<>\x00]{0,128}:([^\s/?#@"'<>\x00]{1,256})@`)
)

// spans lists what of b must not be shown, in order and apart: keys and tokens beyond what says their kind, values behind telling names,
// and passwords in URLs. strict leaves out what stands behind a colon, as it does in prose.
func spans(b []byte, strict bool) []Span {
	var out []Span
	hide := func(from, to int) {
		if from < to {
			out = append(out, Span{from, to})
		}
	}
	for _, s := range Find(b) {
		hide(s.Offset+s.Shown, s.Offset+s.Length)
	}
	if telling(b) {
		named(b, strict, hide)
	}
	if bytes.Contains(b, []byte("://")) {
		for _, m := range userinfo.FindAllSubmatchIndex(b, -1) {
			hide(m[2], m[3])
		}
	}
	slices.SortFunc(out, func(a, b Span) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	joined := out[:0]
	for _, s := range out {
		if n := len(joined); n > 0 && s.From <= joined[n-1].To {
			joined[n-1].To = max(joined[n-1].To, s.To)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// named finds the values behind telling names.
func named(b []byte, strict bool, hide func(from, to int)) {
	for _, m := range assigned.FindAllSubmatchIndex(b, -1) {
		sep := b[m[4]:m[5]]
		quoted := bytes.ContainsAny(sep, `"'`)
		// In prose, a quotation may end in such a word: its quote is not the name's own.
		if strict && quoted && !ownQuote(b, m[2], sep) {
			quoted = false
		}
		if strict && !quoted && bytes.IndexByte(sep, '=') < 0 || !Name(string(b[m[2]:m[3]])) {
			continue
		}
		hide(m[5], m[5]+valueEnd(b, m[2], m[5], sep))
	}
	for _, m := range option.FindAllSubmatchIndex(b, -1) {
		if !Name(string(b[m[2]:m[3]])) || strict && b[m[4]] == ' ' && !bytes.HasPrefix(b[m[0]:], []byte("--")) {
			continue
		}
		hide(m[5], m[5]+valueEnd(b, m[5], m[5], b[m[4]:m[5]]))
	}
}

// ownQuote reports whether the quote that stands behind a name at b[from:], if sep begins with one, stands before it too.
func ownQuote(b []byte, from int, sep []byte) bool {
	q := bytes.TrimPrefix(sep, []byte(`\`))
	if len(q) == 0 || q[0] != '"' && q[0] != '\'' {
		return true // the quote is the value's
	}
	for from > 0 && (word[b[from-1]] || bytes.IndexByte([]byte("-./:@"), b[from-1]) >= 0) { // "2fa_token"
		from--
	}
	return from > 0 && b[from-1] == q[0]
}

// valueEnd is how long the value at b[at:] is, behind a name at b[from:] and sep.
func valueEnd(b []byte, from, at int, sep []byte) int {
	quote := byte(0)
	switch {
	case bytes.IndexByte(sep, '"') >= 0:
		quote = '"'
	case bytes.IndexByte(sep, '\'') >= 0:
		quote = '\''
	case from > 0 && (b[from-1] == '"' || b[from-1] == '\''):
		quote = b[from-1] // "NAME=value" in a list
	}
	// An environment: the assignment begins behind a NUL, or at the very beginning, and a NUL ends it.
	environ := quote == 0 && string(sep) == "=" && bytes.IndexByte(b, 0) >= 0 && (from == 0 || b[from-1] == 0)
	escaped := false
	for n, c := range b[at:] {
		switch {
		case c == 0:
			return n
		case environ:
		case quote != 0:
			if c == quote && !escaped || c == '\n' {
				return n
			}
		case bytes.IndexByte([]byte(" \t\r\n\"'&,;)}]<>\\"), c) >= 0:
			return n
		}
		escaped = c == '\\' && !escaped
	}
	return len(b) - at
}

// Spans lists what of b must not be shown, in order and apart: keys and tokens beyond what says their kind, also those of two-byte
// letters, values behind telling names, and passwords in URLs.
func Spans(b []byte) []Span {
	out := spans(b, false)
	return append(out, wide(b)...)
}

// wide finds what is written in letters of two bytes, as the memory of some run times holds text.
func wide(b []byte) []Span {
	var out []Span
	for phase := range 2 {
		half := make([]byte, 0, len(b)/2)
		zeros := 0
		for i := phase; i+1 < len(b); i += 2 {
			half = append(half, b[i])
			if b[i+1] == 0 {
				zeros++
			}
		}
		if zeros < 16 {
			continue
		}
		for _, s := range spans(half, false) {
			letters := true
			for i := s.From; i < s.To && letters; i++ {
				letters = b[phase+2*i+1] == 0
			}
			if letters {
				out = append(out, Span{phase + 2*s.From, min(phase+2*s.To, len(b))})
			}
		}
	}
	return out
}

// Bytes gives b with each byte of a secret replaced by a star, and how many secrets that were. b is not changed.
func Bytes(b []byte) ([]byte, int) {
	hidden := Spans(b)
	if len(hidden) == 0 {
		return b, 0
	}
	out := bytes.Clone(b)
	for _, s := range hidden {
		for i := s.From; i < s.To; i++ {
			out[i] = '*'
		}
	}
	return out, len(hidden)
}

// Text gives s with each secret in it replaced by a few stars, for a sentence or a command line.
func Text(s string) string {
	hidden := spans([]byte(s), true)
	if len(hidden) == 0 {
		return s
	}
	var b strings.Builder
	at := 0
	for _, h := range hidden {
		b.WriteString(s[at:h.From] + "***")
		at = h.To
	}
	b.WriteString(s[at:])
	return b.String()
}
