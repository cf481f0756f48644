// Package sampletest holds formats of sensors and clouds to what their tests have in common.
package sampletest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

// Files are the samples of the folder, with no golden files and no notes.
func Files(t testing.TB, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "testdata", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range all {
		if s, err := os.Stat(f); err != nil || s.IsDir() || strings.HasSuffix(f, ".golden") || strings.HasSuffix(f, ".md") {
			continue
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		t.Fatalf("%s has no samples", dir)
	}
	return out
}

// Run compares each sample with its golden file, tries the sniffer on them and on the samples of the other formats named, and damages them.
func Run(t *testing.T, f parse.Format, others ...string) {
	t.Helper()
	for _, file := range Files(t, ".") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			parsetest.Golden(t, f, file, parsetest.Options{})
			content := read(t, file)
			if c := f.Sniff(content[:min(len(content), parse.SniffLength)]); c < parse.Likely {
				t.Errorf("only %d sure of its own sample", c)
			}
			if len(content) > 200 {
				if c := f.Sniff(content[:len(content)-100]); c < parse.Likely && len(content) < parse.SniffLength {
					t.Errorf("only %d sure when the sample ends early", c)
				}
			}
			damage(t, f, content)
		})
	}
	for _, o := range others {
		for _, file := range Files(t, filepath.Join("..", o)) {
			content := read(t, file)
			if c := f.Sniff(content[:min(len(content), parse.SniffLength)]); c >= parse.Likely {
				t.Errorf("%d sure of %s", c, file)
			}
		}
	}
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// damage cuts the content everywhere, and puts junk into it: what stands before the cut stays, and what was left out is told.
func damage(t *testing.T, f parse.Format, content []byte) {
	t.Helper()
	whole, _ := parsetest.Events(t, f, content)
	step := max(1, len(content)/150)
	for cut := 0; cut < len(content); cut += step {
		got, skips := parsetest.Events(t, f, content[:cut])
		before := 0
		for i := range whole {
			if whole[i].Offset+whole[i].Length <= int64(cut) {
				before++
			}
		}
		if len(got) < before {
			t.Fatalf("cut after %d bytes, %d of %d events are left (%v)", cut, len(got), before, skips)
		}
		for _, junk := range []string{"\x00\x00\x00\x00", "\xff\xfe{{[\"\n", strings.Repeat("A", 70_000) + "\n"} {
			b := append(append(bytes.Clone(content[:cut]), junk...), content[cut:]...)
			got, _ := parsetest.Events(t, f, b)
			if len(got)+3 < before {
				t.Fatalf("with %.10q after %d bytes, %d of %d events are left", junk, cut, len(got), before)
			}
		}
	}
}

// Bench reads a file's content, repeated to a megabyte.
func Bench(b *testing.B, f parse.Format, file string) {
	b.Helper()
	content := read(b, file)
	if content[len(content)-1] != '\n' {
		content = append(content, '\n')
	}
	parsetest.Bench(b, f, bytes.Repeat(content, max(1, (1<<20)/len(content))))
}

// Find gives the first event whose kind is k.
func Find(t testing.TB, f parse.Format, content string, k event.Kind) event.Event {
	t.Helper()
	all, skips := parsetest.Events(t, f, []byte(content))
	for _, e := range all {
		if e.Kind == k {
			return e
		}
	}
	t.Fatalf("no %s in %d events of %s; skipped %+v", k, len(all), content, skips)
	return event.Event{}
}
