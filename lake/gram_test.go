package lake

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/event"
)

// TestCandidates: whatever part of whatever text is looked for, the block that holds it is among the candidates; and needles that are
// nowhere leave next to nothing.
func TestCandidates(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	words := strings.Fields("GET POST error panic container shop Überlauf naïve ΣΊΣΥΦΟΣ 10.0.7.31 payments İstanbul \u212Aelvin /usr/lib/conv 9a1e07ff deadbeef {\"level\":\"info\"}")
	n := 2*groupRows + 3*blockRows + 17
	in := make([]event.Event, n)
	for i := range in {
		var m strings.Builder
		for range 1 + r.IntN(6) {
			m.WriteString(words[r.IntN(len(words))] + " ")
		}
		fmt.Fprintf(&m, "%x", r.Uint64())
		in[i] = event.Event{Time: int64(i) + 1, Kind: "log.line", Message: m.String(), Container: fmt.Sprintf("svc-%d", i/5000), Path: fmt.Sprintf("/p/%d", i%97)}
	}
	l := write(t, in)
	for range 3000 {
		i := r.IntN(n)
		s := []string{in[i].Message, in[i].Container, in[i].Path}[r.IntN(3)]
		runes := []rune(s)
		from := r.IntN(len(runes))
		needle := strings.ToLower(string(runes[from : from+1+r.IntN(len(runes)-from)]))
		spans, told, err := l.Candidates([][]string{{needle}})
		if err != nil {
			t.Fatal(err)
		}
		if !told {
			if g := gramsOf(needle); g != nil {
				t.Fatalf("%q was called too short", needle)
			}
			continue
		}
		row, found := l.Groups[0].Row+int64(i), false
		for _, s := range spans {
			found = found || s.From <= row && row <= s.To
		}
		if !found {
			t.Fatalf("%q is in row %d, %q, which is no candidate", needle, i, s)
		}
	}
	absent := 0
	for range 500 {
		spans, _, err := l.Candidates([][]string{{fmt.Sprintf("%016x", r.Uint64())}})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range spans {
			absent += int(s.To - s.From + 1)
		}
	}
	if absent > 500*n/100 {
		t.Errorf("needles that are nowhere leave %d of %d rows", absent/500, n)
	}
	// Of several lists each must be met; of one list any.
	both, _, err := l.Candidates([][]string{{"svc-0"}, {"svc-13"}})
	if err != nil {
		t.Fatal(err)
	}
	either, _, err := l.Candidates([][]string{{"svc-0", "svc-13"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(either) < 2 || len(both) >= len(either) {
		t.Errorf("%d spans with both, %d with either", len(both), len(either))
	}
	if _, told, _ := l.Candidates([][]string{{"ab"}, nil}); told {
		t.Error("two letters tell nothing")
	}
}

// TestFold: halving a set keeps each hash at its place.
func TestFold(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, count := range []int{0, 1, 100, 5000, 100000, 400000} {
		g := newGrams()
		var hashes []uint32
		for range count {
			h := uint32(r.IntN(1 << longBits))
			hashes = append(hashes, h)
			g.long[h>>6] |= 1 << (h & 63)
		}
		set, width := g.folded()
		if len(set)*64 != 1<<width || width < minLong || width > longBits {
			t.Fatalf("%d words of width %d", len(set), width)
		}
		for _, h := range hashes {
			if b := h >> (longBits - width); set[b>>6]>>(b&63)&1 == 0 {
				t.Fatalf("of %d hashes %d was lost at width %d", count, h, width)
			}
		}
		ones := 0
		for _, w := range set {
			for ; w != 0; w &= w - 1 {
				ones++
			}
		}
		if ones > count {
			t.Errorf("%d bits of %d hashes", ones, count)
		}
	}
}
