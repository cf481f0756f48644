package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	formats "github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

// seal makes a package of an inventory and a list of mounts.
func seal(t testing.TB, inventory, mounts []byte) *evidence.Package {
	t.Helper()
	artifacts := map[string][]byte{Path: inventory, MountsPath: mounts}
	maps.DeleteFunc(artifacts, func(_ string, b []byte) bool { return b == nil })
	return parsetest.Package(t, artifacts)
}

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGolden(t *testing.T) {
	p := seal(t, testdata(t, "inventory.jsonl"), testdata(t, "mounts.jsonl"))
	var b bytes.Buffer
	for c, err := range Drift(p) {
		if err != nil {
			fmt.Fprintf(&b, "error: %v\n", err)
			continue
		}
		fmt.Fprintf(&b, "%-9s %v %q runtime=%v", c.Kind, c.Also, c.Path, c.Runtime)
		for _, r := range []struct {
			name string
			row  *Row
		}{{"before", c.Before}, {"after", c.After}, {"whiteout", c.Whiteout}} {
			if r.row != nil {
				fmt.Fprintf(&b, " %s=%s@%d", r.name, r.row.Tree, r.row.Cite.Offset)
			}
		}
		b.WriteByte('\n')
	}
	parsetest.Compare(t, "testdata/drift.golden", b.Bytes())

	b.Reset()
	err := Events(p, func(formats.Skip) {}, func(e event.Event) error {
		j, err := json.Marshal(e)
		if err != nil {
			return err
		}
		b.Write(j)
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	parsetest.Compare(t, "testdata/events.golden", b.Bytes())
}

// TestCitations: the bytes that a row cites are the row.
func TestCitations(t *testing.T) {
	raw := testdata(t, "inventory.jsonl")
	p := seal(t, raw, nil)
	n := 0
	for r, err := range Read(p) {
		var bad *LineError
		if errors.As(err, &bad) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		got, err := parse(raw[r.Cite.Offset : r.Cite.Offset+r.Cite.Length])
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r.File, got); d != "" || len(r.Cite.SHA256) != 64 {
			t.Errorf("%+v: %s", r.Cite, d)
		}
	}
	if n < 10 {
		t.Errorf("only %d rows", n)
	}
}

func TestNoInventory(t *testing.T) {
	p := seal(t, nil, nil)
	for _, err := range Read(p) {
		if err == nil {
			t.Error("a row from nothing")
		}
	}
}

// TestMemory: a hostile inventory that repeats one path for ever must not be held.
func TestMemory(t *testing.T) {
	var rows iter.Seq2[Row, error] = func(yield func(Row, error) bool) {
		for range 1_000_000 {
			if !yield(Row{File: record.File{Tree: record.TreeRoot, Path: "/same", Type: record.TypeFile, Layer: -1}}, nil) {
				return
			}
		}
	}
	n := 0
	drift(rows, mountPoints{}, func(Change, error) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d changes, want 1", n)
	}
}

func TestCapabilities(t *testing.T) {
	for _, c := range []struct {
		attr      []byte
		permitted uint64
		effective bool
		ok        bool
	}{
		{[]byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, 1<<13 | 1<<32, true, true},
		{[]byte{0, 0, 0, 1, 0, 4, 0, 0, 0, 0, 0, 0}, 1 << 10, false, true},
		{[]byte{0, 0, 0, 9, 0}, 0, false, false},
		{nil, 0, false, false},
	} {
		p, e, ok := Capabilities(c.attr)
		if p != c.permitted || e != c.effective || ok != c.ok {
			t.Errorf("Capabilities(%x) = %x, %v, %v", c.attr, p, e, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	for line := range strings.Lines(string(testdata(f, "inventory.jsonl"))) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			return
		}
		j, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(j)
		if err != nil || again.Path != r.Path || again.Target != r.Target || again.SHA256 != r.SHA256 {
			t.Fatalf("%s\nbecame %s: %v", b, j, err)
		}
		for _, e := range events(&Row{File: r}, nil) {
			if strings.ContainsAny(e.Message, "\x1b\n\r") {
				t.Fatalf("message %q", e.Message)
			}
		}
	})
}

func FuzzDrift(f *testing.F) {
	f.Add(testdata(f, "inventory.jsonl"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var rows iter.Seq2[Row, error] = func(yield func(Row, error) bool) {
			for line := range bytes.Lines(b) {
				r, err := parse(line)
				if !yield(Row{File: r}, err) {
					return
				}
			}
		}
		drift(rows, mountPoints{"/etc": false, "/etc/hosts": true}, func(c Change, err error) bool {
			if err == nil && (c.Kind == "" || c.Before == nil && c.After == nil) {
				t.Fatalf("change %+v", c)
			}
			return true
		})
	})
}
