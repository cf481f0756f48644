package indicator

import (
	"bytes"
	"net/netip"
	"path"
	"strings"
)

// Hash finds a hash, in hexadecimal.
func (s *Set) Hash(hex string) *Indicator { return s.at(s.hashes, strings.ToLower(hex)) }

// File finds a path or the name of a file.
func (s *Set) File(p string) *Indicator {
	if i := s.at(s.paths, p); i != nil {
		return i
	}
	return s.at(s.names, path.Base(p))
}

func (s *Set) at(m map[string]int, key string) *Indicator {
	if k, ok := m[key]; ok {
		return &s.all[k]
	}
	return nil
}

// Address finds an address, or the network that it is of.
func (s *Set) Address(text string) *Indicator {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return nil
	}
	return s.address(a)
}

func (s *Set) address(a netip.Addr) *Indicator {
	a = a.Unmap().WithZone("")
	if k, ok := s.exact[a]; ok {
		return &s.all[k]
	}
	for _, n := range s.networks {
		if n.prefix.Contains(a) {
			return &s.all[n.at]
		}
	}
	return nil
}

// Domain finds a domain, or one above it.
func (s *Set) Domain(name string) *Indicator {
	if len(s.domains) == 0 {
		return nil
	}
	name = strings.ToLower(strings.Trim(name, "."))
	for {
		if i := s.at(s.domains, name); i != nil {
			return i
		}
		_, above, ok := strings.Cut(name, ".")
		if !ok {
			return nil
		}
		name = above
	}
}

// Match is where a text holds an indicator.
type Match struct {
	Indicator      *Indicator
	Offset, Length int // in the text, in bytes
}

// class of a byte: what runs of text an indicator can be are made of.
var class = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_', c == '.', c == ':':
			t[c] = 1 // of a hash, an address, a domain
		}
	}
	return t
}()

// maxRun is the length of a run from which it is nothing that is looked for.
const maxRun = 300

// Text calls each for the indicators that a text holds, in their order, as whole words: 10.0.0.1 is not in 10.0.0.12, nor
// evil.example in not-evil.example; a.evil.example is evil.example's. It looks each word up, so that its time hardly depends on how
// many indicators there are. Paths and names of files are not looked for. A false from each ends it.
func (s *Set) Text(text []byte, each func(Match) bool) {
	for i := 0; i < len(text); {
		if class[text[i]] == 0 {
			i++
			continue
		}
		begin := i
		for i < len(text) && class[text[i]] != 0 {
			i++
		}
		if n := i - begin; n < 4 || n > maxRun {
			continue
		}
		if !s.word(text, begin, i, each) {
			return
		}
	}
}

// word looks one run of letters, digits and the signs between them up.
func (s *Set) word(text []byte, begin, end int, each func(Match) bool) bool {
	run := text[begin:end]
	// sha256:… as registries write it, and md5:… as tools do.
	if c := bytes.LastIndexByte(run, ':'); c >= 0 && (len(run)-c-1 == 64 || len(run)-c-1 == 40 || len(run)-c-1 == 32) {
		run, begin = run[c+1:], begin+c+1
	}
	dots, colons, hex := 0, 0, len(run) == 64 || len(run) == 40 || len(run) == 32
	for _, c := range run {
		switch c {
		case '.':
			dots++
		case ':':
			colons++
		}
		hex = hex && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F')
	}
	if hex {
		if i := s.Hash(string(run)); i != nil {
			return each(Match{i, begin, len(run)})
		}
		return true
	}
	// http://host:port/path: the scheme is a run that ends in a colon.
	if len(s.urls) > 0 && end+1 < len(text) && run[len(run)-1] == ':' && text[end] == '/' && text[end+1] == '/' {
		stop := end
		for stop < len(text) && stop-begin < maxValue && text[stop] > ' ' && text[stop] < 0x7f && strings.IndexByte("\"'<>`)]}", text[stop]) < 0 {
			stop++
		}
		if i := s.at(s.urls, strings.TrimSuffix(string(text[begin:stop]), "/")); i != nil {
			return each(Match{i, begin, stop - begin})
		}
		return true
	}
	if dots == 0 && colons < 2 {
		return true
	}
	trimmed := run
	for len(trimmed) > 0 && (trimmed[0] == '.' || trimmed[0] == ':' || trimmed[0] == '-') {
		trimmed, begin = trimmed[1:], begin+1
	}
	for len(trimmed) > 0 && strings.IndexByte(".:-", trimmed[len(trimmed)-1]) >= 0 {
		trimmed = trimmed[:len(trimmed)-1]
	}
	if len(trimmed) < 4 {
		return true
	}
	if i, n := s.hostOrAddress(trimmed, dots, colons); i != nil {
		return each(Match{i, begin, n})
	}
	return true
}

// hostOrAddress looks up "host", "host:port", an address with or without a port.
func (s *Set) hostOrAddress(word []byte, dots, colons int) (*Indicator, int) {
	if (len(s.exact) > 0 || len(s.networks) > 0) && addressy(word, dots, colons) {
		text := string(word)
		if a, err := netip.ParseAddr(text); err == nil {
			return s.address(a), len(text)
		}
		if ap, err := netip.ParseAddrPort(text); err == nil {
			return s.address(ap.Addr()), len(ap.Addr().String())
		}
	}
	if dots == 0 || s.maybe == nil {
		return nil, 0
	}
	host, _, _ := bytes.Cut(word, []byte(":"))
	for len(host) > 0 && host[len(host)-1] == '.' {
		host = host[:len(host)-1]
	}
	if !s.maybe.may(host) {
		return nil, 0
	}
	return s.Domain(string(host)), len(host)
}

// addressy reports whether a word can be an address, with a port or without: most words that hold dots or colons are names, versions
// and times.
func addressy(word []byte, dots, colons int) bool {
	if dots != 3 && colons < 7 && !bytes.Contains(word, []byte("::")) {
		return false
	}
	for _, c := range word {
		if (c < '0' || c > '9') && c != '.' && c != ':' && (colons < 2 || (c|0x20) < 'a' || (c|0x20) > 'f') {
			return false
		}
	}
	return true
}
