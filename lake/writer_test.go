package lake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"

	"github.com/sherd-forensics/sherd/event"
)

// write makes a lake of events in a folder of its own.
func write(t testing.TB, events []event.Event) *Lake {
	t.Helper()
	dir := t.TempDir()
	w, err := NewWriter(dir, 7<<40)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		if err := w.Write(&events[i]); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.Events(); n != int64(len(events)) {
		t.Errorf("the writer counts %d of %d events", n, len(events))
	}
	if _, err := w.Close("key", nil); err != nil {
		t.Fatal(err)
	}
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// rows reads the runs back with the Parquet library alone, as any other program would.
func rows(t testing.TB, l *Lake) []Row {
	t.Helper()
	var out []Row
	for _, path := range l.Runs() {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		p, err := parquet.OpenFile(f, info.Size())
		if err != nil {
			t.Fatal(err)
		}
		names := make([]string, 0, 40)
		for _, c := range p.Schema().Columns() {
			names = append(names, c[0])
		}
		for _, g := range p.RowGroups() {
			r := g.Rows()
			buf := make([]parquet.Row, 512)
			for {
				n, err := r.ReadRows(buf)
				for _, v := range buf[:n] {
					out = append(out, row(names, v))
				}
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			r.Close()
		}
	}
	return out
}

func row(names []string, v parquet.Row) (r Row) {
	for _, x := range v {
		name := names[x.Column()]
		if name == "row" {
			r.Row = x.Int64()
		}
		for i := range texts {
			if texts[i].name == name {
				texts[i].set(&r.Event, string(x.ByteArray()))
			}
		}
		for i := range numbers {
			if numbers[i].name == name {
				numbers[i].set(&r.Event, x.Int64())
			}
		}
	}
	return r
}

// TestRoundTrip writes every column and reads it back.
func TestRoundTrip(t *testing.T) {
	full := event.Event{Time: 5, TimeKind: "logged", Kind: "log.line", Message: "m", EvidenceID: "e", ContainerID: "ci", Container: "c", ImageDigest: "i",
		Pod: "p", Namespace: "ns", Node: "n", PID: 1, PPID: 2, Process: "pr", Cmdline: "cmd", User: "u", Identity: "id", Path: "/p", SHA256: "ab", Size: 3,
		SrcIP: "10.0.0.1", SrcPort: 4, DstIP: "::1", DstPort: 5, Protocol: "tcp", Technique: "T1", Parser: "x", Artifact: "a", Offset: 6, Length: 7,
		Attributes: json.RawMessage(`{"a":1}`)}
	b, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	if len(fields) != len(texts)+len(numbers) {
		t.Errorf("an event has %d columns, the lake %d", len(fields), len(texts)+len(numbers))
	}
	year := func(y int64) int64 { return (y - 1970) * 31556952 * 1e9 }
	in := []event.Event{full, {Time: year(2200)}, {Time: year(1900), Message: "old"}, {Message: "no time"}, {Time: 5, Message: "second of its time"}}
	l := write(t, in)
	got := rows(t, l)
	want := []int{2, 3, 0, 4, 1} // by time, and as they came
	if len(got) != len(want) {
		t.Fatalf("%d rows of %d", len(got), len(want))
	}
	for i, w := range want {
		g, e := got[i], in[w]
		if g.Row != 7<<40+int64(i) {
			t.Errorf("row %d has the number %d", i, g.Row)
		}
		a, _ := json.Marshal(g.Event)
		b, _ := json.Marshal(e)
		if !bytes.Equal(a, b) {
			t.Errorf("row %d is\n%s, not\n%s", i, a, b)
		}
	}
	if l.First != year(1900) || l.Last != year(2200) || l.Events != 5 {
		t.Errorf("the lake has %d events from %d to %d", l.Events, l.First, l.Last)
	}
}

// TestHostileText: a lake's text is UTF-8 without NUL whatever the evidence holds, and a huge one is cut.
func TestHostileText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain", "plain"},
		{"a\x00b", `a\x00b`},
		{"bad \xff\xfe end", `bad \xff\xfe end`},
		{"half \xe2\x82", `half \xe2\x82`},
		{"ü€😀", "ü€😀"},
		{"\x1b[31mred", "\x1b[31mred"}, // faces escape it
		{strings.Repeat("x", maxText+5), strings.Repeat("x", maxText)},
	} {
		got := string(appendText([]byte("before"), c.in, true))
		if got != "before"+c.want {
			t.Errorf("%.40q became %.60q", c.in, got)
		}
	}
	long := strings.Repeat("ä", maxText)
	if got := appendText(nil, long, true); len(got) > maxText || !utf8.Valid(got) {
		t.Errorf("a long text was cut within a rune, or not at all: %d bytes", len(got))
	}
	if got := string(appendText(nil, `{"a":"`+long+`"}`, false)); got != `{"truncated":true}` {
		t.Errorf("a huge object became %.60q", got)
	}
}

// TestOrder: whatever order events come in, groups are sorted, do not overlap within a buffer, and know their bounds.
func TestOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	n := 3*groupRows + 100
	in := make([]event.Event, n)
	for i := range in {
		in[i] = event.Event{Time: 1 + r.Int64N(1e12), Kind: "log.line", Message: fmt.Sprint(i)}
	}
	l := write(t, in)
	got := rows(t, l)
	if len(got) != n || len(l.Groups) != 4 {
		t.Fatalf("%d rows in %d groups", len(got), len(l.Groups))
	}
	seen := map[string]bool{}
	for i, g := range got {
		if i > 0 && g.Time < got[i-1].Time {
			t.Fatalf("row %d is before row %d", i, i-1)
		}
		seen[g.Message] = true
	}
	if len(seen) != n {
		t.Errorf("%d different events of %d", len(seen), n)
	}
	at := 0
	for _, g := range l.Groups {
		part := got[at : at+int(g.Rows)]
		if part[0].Time != g.Min || part[len(part)-1].Time != g.Max || part[0].Row != g.Row {
			t.Errorf("the group at row %d says %d to %d", g.Row, g.Min, g.Max)
		}
		at += int(g.Rows)
	}
}

// TestManyRuns crosses the bounds of buffers and files.
func TestManyRuns(t *testing.T) {
	n := buffersPerRun*bufferRows + 1000
	dir := t.TempDir()
	w, err := NewWriter(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	e := event.Event{Kind: "log.line", Message: "x"}
	for i := range n {
		e.Time = int64(i) + 1
		if err := w.Write(&e); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close("", nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(&e); err == nil {
		t.Error("an event was taken after the end")
	}
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if len(l.Runs()) != 2 {
		t.Fatalf("%d runs", len(l.Runs()))
	}
	next := int64(0)
	for _, g := range l.Groups {
		if g.Row != next || g.Min != next+1 {
			t.Errorf("a group begins at row %d, time %d, after %d rows", g.Row, g.Min, next)
		}
		next += g.Rows
		if want := (g.Row) / int64(buffersPerRun*bufferRows); int64(g.File) != want {
			t.Errorf("the group at row %d is in file %d", g.Row, g.File)
		}
	}
	if next != int64(n) {
		t.Errorf("%d rows in groups of %d", next, n)
	}
	for i, path := range l.Runs() {
		if filepath.Base(path) != fmt.Sprintf("run-%06d.parquet", i+1) {
			t.Errorf("run %d is %s", i, path)
		}
	}
}

// A disk that is full while a lake is written gives an error and no lake.
func TestWriterFails(t *testing.T) {
	dir := t.TempDir()
	w, err := NewWriter(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "run-000001.parquet"), nil, 0o600); err != nil {
		t.Fatal(err) // in the way
	}
	if err := w.Write(&event.Event{Time: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close("", nil); err == nil {
		t.Fatal("a lake that could not be written was closed without an error")
	}
	if _, err := Open(dir); err == nil {
		t.Error("half a lake was opened")
	}
}
