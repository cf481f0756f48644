package sigma

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestAutomaton: it finds each text where strings.Contains does, overlapping ones too.
func TestAutomaton(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	some := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "ab\x00\xff"[rng.IntN(4)]
		}
		return string(b)
	}
	for range 500 {
		var texts []string
		for range 1 + rng.IntN(12) {
			texts = append(texts, some(1+rng.IntN(5)))
		}
		a := newAutomaton(texts)
		hay := some(rng.IntN(40))
		count := make([]int, len(texts))
		a.find([]byte(hay), func(i int32) { count[i]++ })
		for i, x := range texts {
			want := 0
			for k := range hay {
				if strings.HasPrefix(hay[k:], x) {
					want++
				}
			}
			if count[i] != want {
				t.Fatalf("%q in %q: %d, want %d", x, hay, count[i], want)
			}
		}
	}
	var all []string // every byte there is
	for c := range 256 {
		all = append(all, string([]byte{byte(c), 'x'}))
	}
	n := 0
	newAutomaton(all).find([]byte{0, 'x', 255, 'x'}, func(int32) { n++ })
	if n != 2 {
		t.Errorf("%d of 2 found", n)
	}
}

// TestUnescape: each string of JSON stands in what it gives as it is.
func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"b"}`: "", `{"a":"\"x\\y\/"}`: `{"a":""x\y/"}`, `\u0041\n\t`: "A\n\t", `\ud83d\ude00`: "😀", `\ud83dx`: "\ufffdx", `\u00`: "00", `\`: `\`, `\ud83d\u0041`: "\ufffdA",
	} {
		if got := unescape([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
