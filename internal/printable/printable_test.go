package printable

import (
	"testing"
	"unicode"
)

func TestText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"/usr/bin/app", "/usr/bin/app"},
		{"naïve 名前", "naïve 名前"},
		{"a\x1b[31mred", `a\x1b[31mred`},
		{"line\nbreak\ttab\r", `line\nbreak\ttab\r`},
		{"evil\u202egpj.exe", `evil\u202egpj.exe`},
		{"bad\xff\xfe", `bad\xff\xfe`},
		{"\u009b31m", `\u009b31m`},
		{"zero\u200bwidth", `zero\u200bwidth`},
		{"nbsp\u00a0x", `nbsp\u00a0x`},
		{`back\slash`, `back\slash`},
	} {
		if got := Text(c.in); got != c.want {
			t.Errorf("Text(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestClip(t *testing.T) {
	if got := Clip("abcdef", 4); got != "abc…" {
		t.Errorf("Clip = %q", got)
	}
	if got := Clip("abcd", 4); got != "abcd" {
		t.Errorf("Clip = %q", got)
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\x1b]0;title\x07b")
	f.Add("\u2066x\u2069")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range Text(s) {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
				t.Fatalf("Text(%q) kept %U", s, r)
			}
		}
	})
}
