package timesketch

import (
	"bytes"
	"os"
	"testing"

	"github.com/sherd-forensics/sherd/parse/parsetest"
)

const sample = "testdata/timeline.jsonl"

func TestGolden(t *testing.T) { parsetest.Golden(t, Format, sample, parsetest.Options{}) }

// TestDamage: cut anywhere, and with junk before and after, the rest is read and what is left out is told.
func TestDamage(t *testing.T) {
	b, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	whole, _ := parsetest.Events(t, Format, b)
	for i := 0; i < len(b); i += 3 {
		parsetest.Events(t, Format, b[:i])
	}
	got, skips := parsetest.Events(t, Format, append(bytes.Clone(b), "\n\x00\xff junk\n"...))
	if len(got) != len(whole) || len(skips) == 0 {
		t.Errorf("%d events and %v with junk behind, %d without", len(got), skips, len(whole))
	}
	if Format.Sniff(nil) != 0 || Format.Sniff([]byte("a line of text\n")) != 0 {
		t.Error("it claims what is not its own")
	}
}

func FuzzRead(f *testing.F) { parsetest.Fuzz(f, Format, sample) }

func BenchmarkRead(b *testing.B) {
	c, err := os.ReadFile(sample)
	if err != nil {
		b.Fatal(err)
	}
	parsetest.Bench(b, Format, bytes.Repeat(c, 500))
}
