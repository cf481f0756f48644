package record

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

func FuzzNameRoundTrip(f *testing.F) {
	for _, s := range []string{"/usr/bin/app", "a\nb", "\xff\xfe", `a\b`, `\x41`, "名前", "\x00abstract"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := json.Marshal(Name(s))
		if err != nil || !utf8.Valid(b) {
			t.Fatalf("marshal %q: %q %v", s, b, err)
		}
		var n Name
		if err := json.Unmarshal(b, &n); err != nil || string(n) != s {
			t.Fatalf("%q became %s became %q (%v)", s, b, n, err)
		}
	})
}

func TestUnescapeRefusesStrayBackslash(t *testing.T) {
	for _, s := range []string{`a\`, `\x4`, `\n`, `\xZZ`} {
		if _, err := Unescape(s); err == nil {
			t.Errorf("Unescape(%q) accepted", s)
		}
	}
}
