package kubernetes

import (
	"strings"
	"testing"
)

func TestTail(t *testing.T) {
	text := "one\ntwo\nthree\n"
	for limit, want := range map[int]string{1000: text, len(text): text, len(text) - 1: "two\nthree\n", 10: "two\nthree\n", 7: "three\n", 6: "three\n", 3: ""} {
		got, cut, err := tail(strings.NewReader(text), limit)
		if err != nil || string(got) != want || int(cut) != len(text)-len(want) {
			t.Errorf("of %d bytes: %q, %d left out, %v; not %q", limit, got, cut, err, want)
		}
	}
	long := strings.Repeat("0123456789\n", 1000)
	if got, cut, err := tail(strings.NewReader(long), 100); err != nil || string(got) != strings.Repeat("0123456789\n", 9) || cut != 11*991 {
		t.Errorf("%q, %d left out, %v", got, cut, err)
	}
}

func TestInstead(t *testing.T) {
	for text, said := range map[string]bool{
		"":                                       false,
		"2026-11-24T01:00:00.000000001Z hello":   false,
		"2026-11-24T01:00:00.000000001Z hello\n": false,
		"unable to retrieve container logs for containerd://9a":           true,
		"a line\nand another of an old server that knows no timestamps\n": false,
	} {
		if got := instead([]byte(text)); (got != "") != said {
			t.Errorf("%q is taken for %q", text, got)
		}
	}
}
