package export

import (
	"net/netip"
	"strings"
	"time"
)

// Datetime is a time in ISO 8601 with microseconds and zone, as Timesketch and plaso write it; empty when the time is not known.
func Datetime(ns int64) string {
	if ns == 0 {
		return ""
	}
	return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000000+00:00")
}

// Guard keeps a spreadsheet from taking evidence for a formula: a text that begins like one gets an apostrophe before it. Other control
// bytes than a line feed and a tab become spaces.
func Guard(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\n' && r != '\t' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if s == "" {
		return s
	}
	switch s[0] {
	case '=', '+', '@', '\t', '\r', '\n':
		return "'" + s
	case '-':
		if strings.Trim(s[1:], "0123456789.") != "" || len(s) == 1 {
			return "'" + s
		}
	}
	return s
}

// ip is s where it is an address, which others would refuse otherwise.
func ip(s string) string {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.WithZone("").String()
	}
	return ""
}
