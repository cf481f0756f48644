// Package mention finds in raw bytes what says where a program talks to and what it holds: URLs, addresses, keys, tokens and wallets.
// Each is found by a form that chance and prose hardly make: checksums are verified where the form has one, hosts and numbers must be
// possible ones. Text in letters of one byte and of two (UTF-16, as some run times keep it) is read. What is found was written there,
// by anybody: a client's request passes through memory too.
package mention

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/sherd-forensics/sherd/internal/redact"
)

// Kind is what a mention is of.
type Kind string

// The kinds.
const (
	URL     Kind = "url"
	Address Kind = "address" // IPv4 or IPv6, with or without a port
	Key     Kind = "key"     // a private key
	Token   Kind = "token"
	Wallet  Kind = "wallet"
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{URL, Address, Key, Token, Wallet} }

// Mention is one thing found.
type Mention struct {
	Kind           Kind
	Offset, Length int // in the bytes that were searched
	// Value says what was found, fit for a machine to match; of a secret it is a description that does not give it away. Its bytes are
	// as found, not yet fit for a terminal.
	Value string
	// Raw is what was found, secrets included; of two-byte letters the letters.
	Raw string
	// Form is the token's or the wallet's kind: "GitHub token", "Bitcoin".
	Form string
	// Host and Port are of a URL or an address; Scheme of a URL.
	Host   string
	Port   int
	Scheme string
	// Subject is whom a token was issued to, as it says itself.
	Subject string
	// Sum is the start of the SHA-256 of a secret, "" for what is none.
	Sum string
	// Sure is false for what has no checksum and looks like other things too.
	Sure bool
	Wide bool // in letters of two bytes
}

// Secret reports whether the value must not be shown.
func (m *Mention) Secret() bool { return m.Kind == Key || m.Kind == Token }

// ID tells mentions of the same thing from others.
func (m *Mention) ID() string {
	h := sha256.Sum256([]byte(string(m.Kind) + "\x00" + m.Raw))
	return hex.EncodeToString(h[:12])
}

const (
	maxWide = 8 << 10 // letters of two bytes that are read in one piece
	maxURL  = 2048
)

var wordByte, urlByte, hostByte, schemeByte, hexByte [256]bool

func init() { //nolint:gochecknoinits // tables of constants
	const alnum = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	set := func(t *[256]bool, s string) {
		for i := range len(s) {
			t[s[i]] = true
		}
	}
	set(&wordByte, alnum+"_")
	set(&urlByte, alnum+"-._~:/?#[]@!$&()*+,;=%")
	set(&hostByte, alnum+"-._")
	set(&schemeByte, alnum[:36]+"+-.")
	set(&hexByte, "0123456789abcdefABCDEF")
}

// finder looks through one run of bytes.
type finder struct {
	b    []byte
	take func(Mention)
}

// Find hands to take what begins in b[from:to]; what lies around is looked at to see where things begin and end.
func Find(b []byte, from, to int, take func(Mention)) {
	f := finder{b, take}
	for i := from; i < to; {
		c := b[i]
		if c == 0 && i+8 <= to && binary.LittleEndian.Uint64(b[i:]) == 0 {
			i += 8
			continue
		}
		if !wordByte[c] {
			if c == '-' || c == '[' {
				i += f.mark(i)
			} else {
				i++
			}
			continue
		}
		n := 1
		for i+n < len(b) && wordByte[b[i+n]] {
			n++
		}
		if n == 1 && i+4 <= len(b) && b[i+1] == 0 && wide(b[i+2]) && b[i+3] == 0 {
			// What began before from is another window's.
			i += f.wide(i, i-from >= 2 || i < 2 || b[i-1] != 0 || !wide(b[i-2]))
			continue
		}
		if i == from && i > 0 && wordByte[b[i-1]] {
			i += n
			continue
		}
		if k := f.word(i, n); k > 0 {
			i += k
			continue
		}
		// URLs are found where their scheme's last word ends.
		if e := i + n; e+3 < len(b) && b[e] == ':' && b[e+1] == '/' && b[e+2] == '/' {
			if k := f.url(e); k > 0 {
				i = e + k
				continue
			}
		}
		i += n
	}
}

func wide(c byte) bool { return c >= 0x20 && c < 0x7f || c == '\n' || c == '\r' }

// wide reads letters of two bytes, and says how far it read.
func (f *finder) wide(i int, tell bool) int {
	letters := make([]byte, 0, 64)
	for k := i; k+1 < len(f.b) && f.b[k+1] == 0 && wide(f.b[k]) && len(letters) < maxWide; k += 2 {
		letters = append(letters, f.b[k])
	}
	if tell && len(letters) >= 8 {
		Find(letters, 0, len(letters), func(m Mention) {
			m.Offset, m.Length, m.Wide = i+2*m.Offset, 2*m.Length, true
			f.take(m)
		})
	}
	return 2 * len(letters)
}

// mark looks at what begins with a byte that is no letter, and says how far it read.
func (f *finder) mark(i int) int {
	switch f.b[i] {
	case '-':
		if i+11 < len(f.b) && string(f.b[i:i+11]) == "-----BEGIN " {
			return max(1, f.secret(i))
		}
	case '[':
		return max(1, f.bracket(i))
	}
	return 1
}

// word looks at a word of n bytes, and says how far it read; 0 if it is nothing.
func (f *finder) word(i, n int) int {
	c := f.b[i]
	if redact.Starts(c) && f.likely(i, n) {
		if k := f.secret(i); k > 0 {
			return k
		}
	}
	if c >= '0' && c <= '9' && n <= 3 && i+n < len(f.b) && f.b[i+n] == '.' {
		if k := f.ipv4(i); k > 0 {
			return k
		}
	}
	if n <= 4 && i+n < len(f.b) && f.b[i+n] == ':' && hexByte[c] {
		if k := f.ipv6(i); k > 0 {
			return k
		}
	}
	if n >= 26 && n <= 110 {
		return f.wallet(i, n)
	}
	return 0
}

// likely spares most words a closer look.
func (f *finder) likely(i, n int) bool {
	switch c := f.b[i]; {
	case c >= '0' && c <= '9':
		return n >= 8 && n <= 10
	case c == 'e':
		return n > 1 && f.b[i+1] == 'y'
	case c == 'B' || c == 'b':
		return (n == 5 || n == 6) && i+n < len(f.b) && f.b[i+n] == ' '
	}
	return n > 1
}

func (f *finder) secret(i int) int {
	s, ok := redact.At(f.b, i)
	if !ok {
		return 0
	}
	v := f.b[s.Offset : s.Offset+s.Length]
	m := Mention{Kind: Token, Offset: s.Offset, Length: s.Length, Value: s.Words(f.b), Raw: string(v), Form: s.Kind, Subject: s.Subject, Sum: redact.Sum(v), Sure: true}
	if s.Class == redact.Key {
		m.Kind = Key
	}
	if s.Class == redact.Password {
		m.Sum = ""
	}
	f.take(m)
	return s.Offset + s.Length - i
}

// ipv4 reads an address whose first number begins at i. Four numbers with dots are also how versions are written: those behind a
// slash or a letter, and those that end in two zeros, are none.
func (f *finder) ipv4(i int) int {
	if i > 0 {
		if p := f.b[i-1]; p == '.' || p == '-' || p == '/' || p == ':' && i > 1 && wordByte[f.b[i-2]] && f.b[i-2] >= '0' && f.b[i-2] <= '9' {
			return 0
		}
	}
	k := i
	var part [4]int
	for g := range 4 {
		n, v := 0, 0
		for k < len(f.b) && n < 4 && f.b[k] >= '0' && f.b[k] <= '9' {
			v = 10*v + int(f.b[k]-'0')
			n++
			k++
		}
		if n == 0 || n > 3 || v > 255 || n > 1 && f.b[k-n] == '0' {
			return 0
		}
		part[g] = v
		if g < 3 {
			if k >= len(f.b) || f.b[k] != '.' {
				return 0
			}
			k++
		}
	}
	if k < len(f.b) && (wordByte[f.b[k]] || f.b[k] == '-' || f.b[k] == '.' && k+1 < len(f.b) && wordByte[f.b[k+1]]) {
		return 0
	}
	if part[0] == 0 || part[0] == 127 || part[0] > 223 {
		return 0
	}
	host := string(f.b[i:k])
	port, pn := f.port(k)
	if pn == 0 && part[2] == 0 && part[3] == 0 {
		return 0
	}
	f.take(Mention{Kind: Address, Offset: i, Length: k + pn - i, Value: string(f.b[i : k+pn]), Raw: string(f.b[i : k+pn]), Host: host, Port: port, Sure: pn > 0})
	return k + pn - i
}

// port reads ":N" at k, and says how long it is; 0 if there is none.
func (f *finder) port(k int) (port, n int) {
	if k >= len(f.b) || f.b[k] != ':' {
		return 0, 0
	}
	n = 1
	for k+n < len(f.b) && n < 7 && f.b[k+n] >= '0' && f.b[k+n] <= '9' {
		port = 10*port + int(f.b[k+n]-'0')
		n++
	}
	if n == 1 || port == 0 || port > 65535 || k+n < len(f.b) && wordByte[f.b[k+n]] {
		return 0, 0
	}
	return port, n
}

// ipv6 reads an address without brackets. Clocks, hardware addresses and fingerprints have the same letters: one of its groups must
// have three or four.
func (f *finder) ipv6(i int) int {
	if i > 0 && (f.b[i-1] == ':' || f.b[i-1] == '.' || f.b[i-1] == '[') {
		return 0
	}
	k := i
	for k < len(f.b) && k-i < 46 && (hexByte[f.b[k]] || f.b[k] == ':' || f.b[k] == '.') {
		k++
	}
	if k < len(f.b) && wordByte[f.b[k]] {
		return 0
	}
	host, ok := globalV6(strings.TrimRight(string(f.b[i:k]), ":."))
	if !ok {
		return 0
	}
	f.take(Mention{Kind: Address, Offset: i, Length: len(host), Value: host, Raw: host, Host: host})
	return len(host)
}

// globalV6 reports whether s is an IPv6 address of somebody else's, with a group long enough not to be something else.
func globalV6(s string) (string, bool) {
	if strings.Count(s, ":") < 2 {
		return "", false
	}
	long := false
	for g := range strings.SplitSeq(s, ":") {
		long = long || len(g) == 3 || len(g) == 4
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !long || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() {
		return "", false
	}
	return s, true
}

// bracket reads "[address]:port".
func (f *finder) bracket(i int) int {
	end := i + 1
	for end < len(f.b) && end-i < 48 && (hexByte[f.b[end]] || f.b[end] == ':' || f.b[end] == '.') {
		end++
	}
	if end >= len(f.b) || f.b[end] != ']' {
		return 0
	}
	host := string(f.b[i+1 : end])
	a, err := netip.ParseAddr(host)
	port, n := f.port(end + 1)
	if err != nil || n == 0 || !a.Is6() || a.IsLoopback() || a.IsUnspecified() {
		return 0
	}
	l := end + 1 + n - i
	f.take(Mention{Kind: Address, Offset: i, Length: l, Value: string(f.b[i : i+l]), Raw: string(f.b[i : i+l]), Host: host, Port: port, Sure: true})
	return l
}
