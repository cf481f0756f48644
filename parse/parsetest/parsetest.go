// Package parsetest holds parsers to what all of them promise: golden events, citations that lie within the content, no
// panic and no error whatever the bytes.
package parsetest

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/parse"
)

var update = flag.Bool("update", false, "write golden files anew")

// Latest is the time of the capture that tests pretend, unless Options say otherwise.
var Latest = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

// Options change how content is read.
type Options struct {
	Latest time.Time // Latest of this package when zero
	Zone   *time.Location
	Name   string // Event.Artifact, "sample" when empty
}

// Read gives all events and skips of content. It fails the test on an error, on a citation outside the content, and on attributes that are
// no JSON.
func Read(t testing.TB, f parse.Format, content []byte, o Options) ([]event.Event, []parse.Skip) {
	t.Helper()
	var out []event.Event
	skips := each(t, f, content, o, func(e *event.Event) {
		c := *e
		c.Attributes = bytes.Clone(e.Attributes)
		out = append(out, c)
	})
	return out, skips
}

// Events is Read with no options.
func Events(t testing.TB, f parse.Format, content []byte) ([]event.Event, []parse.Skip) {
	t.Helper()
	return Read(t, f, content, Options{})
}

func each(t testing.TB, f parse.Format, content []byte, o Options, fn func(*event.Event)) []parse.Skip {
	t.Helper()
	if o.Name == "" {
		o.Name = "sample"
	}
	if o.Latest.IsZero() {
		o.Latest = Latest
	}
	in, err := parse.NewInput(bytes.NewReader(content), event.Event{Artifact: o.Name, Parser: f.Name})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	in.Latest, in.Zone = o.Latest, o.Zone
	err = f.Read(context.Background(), in, func(e *event.Event) error {
		if e.Offset < 0 || e.Length < 0 || in.Compression == "" && e.Offset+e.Length > int64(len(content)) {
			t.Fatalf("the event %q cites bytes %d+%d of %d", e.Message, e.Offset, e.Length, len(content))
		}
		if len(e.Attributes) > 0 && !json.Valid(e.Attributes) {
			t.Fatalf("attributes are no JSON: %q", e.Attributes)
		}
		if e.Kind == "" || e.Parser == "" || e.Artifact != o.Name {
			t.Fatalf("the event %q lacks its kind, parser or artifact: %+v", e.Message, *e)
		}
		fn(e)
		return nil
	})
	if err != nil {
		t.Fatalf("reading: %v", err)
	}
	skips := in.Skips()
	for _, s := range skips {
		if s.Offset < 0 || s.Bytes < 0 || s.Count < 1 || s.Reason == "" {
			t.Fatalf("a skip that says nothing: %+v", s)
		}
	}
	return skips
}

// shown is a golden line: the event without what is empty, its time readable, and the beginning of the bytes that it cites.
func shown(t testing.TB, e *event.Event, content []byte, compressed bool) map[string]any {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	for k, v := range m {
		if s, ok := v.(string); ok && s == "" {
			delete(m, k)
		}
		if n, ok := v.(json.Number); ok && n == "0" && k != "offset" {
			delete(m, k)
		}
	}
	delete(m, "artifact")
	m["time"] = time.Unix(0, e.Time).UTC().Format(time.RFC3339Nano)
	if e.Time == 0 {
		m["time"] = "none"
	}
	if !compressed {
		cited := content[e.Offset : e.Offset+e.Length]
		m["cited"] = string(bytes.ToValidUTF8(cited[:min(len(cited), 40)], []byte("?")))
	}
	return m
}

// Golden compares the events and skips of a file with file.golden, one JSON line each; -update writes it.
func Golden(t *testing.T, f parse.Format, file string, o Options) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if in, err := parse.NewInput(bytes.NewReader(content), event.Event{}); err != nil {
		t.Fatal(err)
	} else if c := f.Sniff(in.Head()); c <= parse.No {
		t.Errorf("%s does not recognise %s", f.Name, file)
	}
	compressed := bytes.HasPrefix(content, []byte{0x1f, 0x8b}) || bytes.HasPrefix(content, []byte{0x28, 0xb5, 0x2f, 0xfd})
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	skips := each(t, f, content, o, func(e *event.Event) {
		if err := enc.Encode(shown(t, e, content, compressed)); err != nil {
			t.Fatal(err)
		}
	})
	for _, s := range skips {
		if err := enc.Encode(map[string]any{"skipped": s.Reason, "offset": s.Offset, "bytes": s.Bytes, "count": s.Count}); err != nil {
			t.Fatal(err)
		}
	}
	Compare(t, file+".golden", got.Bytes())
}

// Compare holds got against a golden file; -update writes it.
func Compare(t *testing.T, golden string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got; -update writes it):\n%s", golden, d)
	}
}

// Package seals artifacts, by their paths, into a package and opens it.
func Package(t testing.TB, artifacts map[string][]byte) *evidence.Package {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.sherd")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w, err := evidence.NewWriter(out, evidence.WriterOptions{Tool: "test", ID: "0123456789abcdef0123456789abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range artifacts {
		if _, err := w.Add(evidence.Meta{Path: name, Origin: "test"}, b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// maxFuzzEvents bounds what a few bytes may turn into: more is an amplification that an attacker could use.
const maxFuzzEvents = 16

// Fuzz seeds f's corpus with the files and fuzzes the reader: no panic, no error, citations within the content, no more events than
// 16 for each byte, and the same again when it is read a second time.
func Fuzz(f *testing.F, format parse.Format, files ...string) {
	f.Helper()
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:min(len(b), 8<<10)])
	}
	f.Add([]byte{})
	f.Add([]byte("\x00\xff\n\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		format.Sniff(b[:min(len(b), parse.SniffLength)])
		n, sum := 0, 0
		each(t, format, b, Options{}, func(e *event.Event) {
			n++
			sum += len(e.Message) + int(e.Time&0xffff)
		})
		if n > maxFuzzEvents*(len(b)+1) && !compressedHead(b) {
			t.Fatalf("%d events of %d bytes", n, len(b))
		}
		m, again := 0, 0
		each(t, format, b, Options{}, func(e *event.Event) {
			m++
			again += len(e.Message) + int(e.Time&0xffff)
		})
		if m != n || sum != again {
			t.Fatalf("%d events, and %d when read again", n, m)
		}
	})
}

func compressedHead(b []byte) bool {
	return bytes.HasPrefix(b, []byte{0x1f, 0x8b}) || bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd})
}

// Bench reads content over and over, and reports events and bytes a second.
func Bench(b *testing.B, f parse.Format, content []byte) {
	b.Helper()
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		in, err := parse.NewInput(bytes.NewReader(content), event.Event{Artifact: "bench", Parser: f.Name})
		if err != nil {
			b.Fatal(err)
		}
		in.Latest = Latest
		if err := f.Read(context.Background(), in, func(*event.Event) error { n++; return nil }); err != nil {
			b.Fatal(err)
		}
		in.Close()
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}
