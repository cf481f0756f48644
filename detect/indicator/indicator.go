// Package indicator reads lists of indicators of compromise and finds them in text, hashes and addresses.
//
// Lists are plain text (a value, or value;description, on each line), CSV with a header, MISP's JSON
// (https://www.misp-project.org/openapi/, events with attributes and objects) and bundles of STIX 2.1
// (https://docs.oasis-open.org/cti/stix/v2.1/, the equality comparisons of patterns). What kind a value is, is told by its form
// unless the list says. Values that were made harmless (hxxp://, example[.]com) are read as what they were. What can't be used is
// counted and told, with its place.
//
// A match proves that the value stands in the evidence, not why: a list's own mistakes, a scanner's database and a log of blocked
// requests hold such values too.
package indicator

import (
	"fmt"
	"net/netip"
	"strings"
)

// Kind is what an indicator's value is.
type Kind string

// The kinds.
const (
	SHA256  Kind = "sha256"
	SHA1    Kind = "sha1"
	MD5     Kind = "md5"
	Address Kind = "address" // one, or a network
	Domain  Kind = "domain"  // and those below it
	URL     Kind = "url"
	Path    Kind = "path" // absolute
	Name    Kind = "name" // of a file, without its folder
)

// Indicator is one value to look for.
type Indicator struct {
	Kind        Kind
	Value       string // in lower case but for URL, Path and Name
	Description string
	List        string // the file that it is from
	Line        int    // of the list, or the number of the object in it; from 1
}

// String names an indicator for a reader.
func (i *Indicator) String() string {
	s := fmt.Sprintf("%s %s", i.Kind, i.Value)
	if i.Description != "" {
		s += " (" + i.Description + ")"
	}
	return s
}

// Skip is something in a list that could not be used.
type Skip struct {
	List   string
	Line   int // of the first
	Reason string
	Count  int
}

// Limits of what a list may make this program hold.
const (
	maxIndicators = 10_000_000
	maxValue      = 2048
	maxText       = 512 // of a description
)

// Set is what is looked for. The zero value is empty. It may be used by many at once when nothing is added any more.
type Set struct {
	Skips []Skip

	all      []Indicator
	hashes   map[string]int // hexadecimal, of any of the three lengths
	exact    map[netip.Addr]int
	networks []network
	domains  map[string]int
	maybe    *filter // of domains
	urls     map[string]int
	paths    map[string]int
	names    map[string]int
}

type network struct {
	prefix netip.Prefix
	at     int
}

// Len is the number of indicators.
func (s *Set) Len() int { return len(s.all) }

// Has reports whether there are indicators of a kind.
func (s *Set) Has(k Kind) bool {
	for i := range s.all {
		if s.all[i].Kind == k {
			return true
		}
	}
	return false
}

func (s *Set) skip(list string, line int, reason string) {
	for i := range s.Skips {
		if s.Skips[i].List == list && s.Skips[i].Reason == reason {
			s.Skips[i].Count++
			return
		}
	}
	if len(s.Skips) < 1000 {
		s.Skips = append(s.Skips, Skip{list, line, reason, 1})
	}
}

var fangs = strings.NewReplacer("[.]", ".", "(.)", ".", "{.}", ".", "[dot]", ".", "(dot)", ".", "[:]", ":", "[://]", "://", "hxxp", "http", "hXXp", "http", "fxp", "ftp")

// hexes reports whether v has hexadecimal digits alone. A list has a million values: an expression would take most of its time.
func hexes(v string) bool {
	for i := range len(v) {
		if c := v[i]; (c < '0' || c > '9') && ((c|0x20) < 'a' || (c|0x20) > 'f') {
			return false
		}
	}
	return v != ""
}

// domainish reports whether v has a domain's form: labels of letters, digits, hyphens and underscores (which services have), at least two,
// the last of which is letters or internationalized. See RFC 1035 and RFC 5891.
func domainish(v string) bool {
	v = strings.TrimSuffix(v, ".")
	labels, last := 0, ""
	for l := range strings.SplitSeq(v, ".") {
		if len(l) == 0 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for i := range len(l) {
			if c := l[i]; (c < '0' || c > '9') && ((c|0x20) < 'a' || (c|0x20) > 'z') && c != '-' && c != '_' {
				return false
			}
		}
		labels, last = labels+1, l
	}
	if labels < 2 {
		return false
	}
	if p := strings.ToLower(last); strings.HasPrefix(p, "xn--") {
		return len(p) > 4 && !strings.Contains(p, "_")
	}
	for i := range len(last) {
		if c := last[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return len(last) >= 2 && len(last) <= 24
}

// kindOf tells what a value is by its form; "" is nothing that can be looked for.
func kindOf(v string) Kind {
	switch n := len(v); {
	case hexes(v) && n == 64:
		return SHA256
	case hexes(v) && n == 40:
		return SHA1
	case hexes(v) && n == 32:
		return MD5
	}
	if _, err := netip.ParseAddr(v); err == nil {
		return Address
	}
	if _, err := netip.ParsePrefix(v); err == nil {
		return Address
	}
	if _, err := netip.ParseAddrPort(v); err == nil {
		return Address
	}
	switch {
	case strings.Contains(v, "://"):
		return URL
	case strings.HasPrefix(v, "/") && len(v) > 1:
		return Path
	case domainish(v):
		return Domain
	}
	return ""
}

// add takes one value. kind may be "", then the form tells.
func (s *Set) add(kind Kind, value, description, list string, line int) {
	value = strings.TrimSpace(value)
	if value == "" {
		return
	}
	if len(value) > maxValue {
		s.skip(list, line, "the value is longer than 2,048 bytes")
		return
	}
	if kind != Path && kind != Name {
		value = fangs.Replace(value)
	}
	if kind == "" {
		if kind = kindOf(value); kind == "" {
			s.skip(list, line, "the value is no hash, address, domain, URL or path")
			return
		}
	}
	if len(s.all) >= maxIndicators {
		s.skip(list, line, "there are more than 10,000,000 indicators")
		return
	}
	if len(description) > maxText {
		description = strings.ToValidUTF8(description[:maxText], "")
	}
	i := Indicator{Kind: kind, Value: value, Description: strings.TrimSpace(description), List: list, Line: line}
	if why := s.index(&i); why != "" {
		s.skip(list, line, why)
		return
	}
	s.all = append(s.all, i)
}

// index puts the indicator that is added next where it is found again; what it says is why it can't be.
func (s *Set) index(i *Indicator) string {
	put := func(m *map[string]int, key string) string {
		if *m == nil {
			*m = map[string]int{}
		}
		if _, known := (*m)[key]; known {
			return "it is listed twice"
		}
		(*m)[key] = len(s.all)
		return ""
	}
	switch i.Kind {
	case SHA256, SHA1, MD5:
		i.Value = strings.ToLower(i.Value)
		if want := map[Kind]int{SHA256: 64, SHA1: 40, MD5: 32}[i.Kind]; len(i.Value) != want || !hexes(i.Value) {
			return "the value is no " + string(i.Kind)
		}
		return put(&s.hashes, i.Value)
	case Address:
		return s.indexAddress(i)
	case Domain:
		i.Value = strings.ToLower(strings.TrimSuffix(i.Value, "."))
		if !domainish(i.Value) {
			return "the value is no domain"
		}
		if s.maybe == nil {
			s.maybe = &filter{}
		}
		s.maybe.add(i.Value)
		return put(&s.domains, i.Value)
	case URL:
		i.Value = strings.TrimSuffix(i.Value, "/")
		return put(&s.urls, i.Value)
	case Path:
		return put(&s.paths, i.Value)
	case Name:
		return put(&s.names, i.Value)
	}
	return "the kind " + string(i.Kind) + " is not known"
}

func (s *Set) indexAddress(i *Indicator) string {
	text := i.Value
	if ap, err := netip.ParseAddrPort(text); err == nil {
		text = ap.Addr().String() // whoever is at one port is at the others
	}
	if p, err := netip.ParsePrefix(text); err == nil && !p.IsSingleIP() {
		if p.Bits() < 8 {
			return "the network is larger than a /8"
		}
		s.networks = append(s.networks, network{p.Masked(), len(s.all)})
		i.Value = p.Masked().String()
		return ""
	} else if err == nil {
		text = p.Addr().String()
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return "the value is no address"
	}
	a = a.Unmap().WithZone("")
	if a.IsUnspecified() || a.IsLoopback() {
		return "the address is everybody's own"
	}
	if _, known := s.exact[a]; known {
		return "it is listed twice"
	}
	if s.exact == nil {
		s.exact = map[netip.Addr]int{}
	}
	s.exact[a], i.Value = len(s.all), a.String()
	return ""
}
