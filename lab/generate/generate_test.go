package generate_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/lab/generate"
)

// TestMix holds the events to what the package's documentation says of them.
func TestMix(t *testing.T) {
	const n = 200_000
	expr := regexp.MustCompile(generate.Expression)
	got := map[string]int{}
	kinds, containers, paths := map[event.Kind]int{}, map[string]int{}, map[string]int{}
	var last, late int64
	messages := 0
	err := generate.Events(n, 1, func(e *event.Event) error {
		if strings.Contains(e.Message, generate.Word) {
			got["word"]++
		}
		if e.SHA256 == generate.Hash {
			got["hash"]++
		}
		if e.DstIP == generate.Address {
			got["address"]++
		}
		if expr.MatchString(e.Message) {
			got["expression"]++
		}
		if e.SHA256 != "" {
			got["any hash"]++
		}
		if strings.Contains(string(e.Attributes), `"trace_id"`) {
			got["trace"]++
		}
		if len(e.Attributes) > 0 && !json.Valid(e.Attributes) {
			t.Fatalf("no JSON: %s", e.Attributes)
		}
		if e.Message == "" || e.Artifact == "" || e.Parser == "" || e.Length == 0 {
			t.Fatalf("lacks something: %+v", e)
		}
		if e.Time < last {
			late = max(late, last-e.Time)
		}
		last = max(last, e.Time)
		kinds[e.Kind]++
		containers[e.ContainerID]++
		paths[e.Path]++
		messages += len(e.Message)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]int{"word": generate.WordCount, "hash": generate.HashCount, "address": generate.AddressCount, "expression": generate.ExpressionCount} {
		if got[what] != want {
			t.Errorf("%d events with the needle %s, want %d", got[what], what, want)
		}
	}
	between := func(what string, v, least, most float64) {
		t.Logf("%s: %.4g", what, v)
		if v < least || v > most {
			t.Errorf("%s is %.4g, want %.4g to %.4g", what, v, least, most)
		}
	}
	between("kinds", float64(len(kinds)), 18, 30)
	between("containers", float64(len(containers)), 190, 202)
	between("paths", float64(len(paths)), 5000, 100_000)
	between("length of messages", float64(messages)/n, 60, 120)
	between("share of hashes", float64(got["any hash"])/n, 0.007, 0.013)
	between("share of trace ids", float64(got["trace"])/n, 0.05, 0.12)
	between("share of application logs", float64(kinds[event.LogLine])/n, 0.35, 0.40)
	between("seconds out of order", time.Duration(late).Seconds(), 0.1, 2)
	between("days", time.Duration(last-generate.Start.UnixNano()).Hours()/24, generate.Days-0.1, generate.Days+0.1)
}

// TestSame: the same seed gives the same events, another one others.
func TestSame(t *testing.T) {
	events := func(seed uint64) string {
		var b strings.Builder
		enc := json.NewEncoder(&b)
		if err := generate.Events(3000, seed, func(e *event.Event) error { return enc.Encode(e) }); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	a := events(7)
	if a != events(7) {
		t.Error("the same seed gave other events")
	}
	if a == events(8) {
		t.Error("another seed gave the same events")
	}
}

// TestFew: less than needles need is no error.
func TestFew(t *testing.T) {
	for _, n := range []int{0, 1, 10} {
		got := 0
		if err := generate.Events(n, 1, func(*event.Event) error { got++; return nil }); err != nil || got != n {
			t.Errorf("%d events of %d, %v", got, n, err)
		}
	}
}

func BenchmarkEvents(b *testing.B) {
	b.ReportAllocs()
	bytes := 0
	if err := generate.Events(b.N, 1, func(e *event.Event) error { bytes += len(e.Message); return nil }); err != nil {
		b.Fatal(err)
	}
}
