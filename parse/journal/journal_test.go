package journal

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func load(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if b, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestGolden(t *testing.T) {
	for f, format := range map[string]parse.Format{
		"regular.journal.gz": Binary, "compact.journal.gz": Binary, "plain.journal.gz": Binary, "journal.export": Export, "journal.json": JSON, "pretty.json": JSON,
	} {
		t.Run(f, func(t *testing.T) { parsetest.Golden(t, format, "testdata/"+f, parsetest.Options{}) })
	}
}

// TestSame: whichever way the journal comes, its events are the same.
func TestSame(t *testing.T) {
	want, skips := parsetest.Events(t, Binary, load(t, "regular.journal.gz"))
	if len(want) != 15 || len(skips) != 0 {
		t.Fatalf("%d events, %v", len(want), skips)
	}
	for f, format := range map[string]parse.Format{"compact.journal.gz": Binary, "plain.journal.gz": Binary, "online.journal.gz": Binary, "journal.export": Export, "journal.json": JSON} {
		got, skips := parsetest.Events(t, format, load(t, f))
		if len(got) != len(want) || len(skips) != 0 {
			t.Errorf("%s: %d events, %v", f, len(got), skips)
			continue
		}
		for i := range got {
			a, b := got[i], want[i]
			am, bm := attributes(t, &a), attributes(t, &b)
			for _, place := range []string{"last_piece", "message_offset"} {
				delete(am, place)
				delete(bm, place)
			}
			// Which of several values of one field comes first is the writer's choice.
			delete(am, "udev_devlink")
			delete(bm, "udev_devlink")
			as, _ := json.Marshal(am)
			bs, _ := json.Marshal(bm)
			a.Offset, a.Length, a.Parser, a.Attributes = b.Offset, b.Length, b.Parser, nil
			b.Attributes = nil
			ae, _ := json.Marshal(a)
			be, _ := json.Marshal(b)
			if !bytes.Equal(ae, be) || !bytes.Equal(as, bs) {
				t.Errorf("%s, event %d:\n%s\n%s\n%s\n%s", f, i, ae, be, as, bs)
			}
		}
	}
}

func attributes(t testing.TB, e *event.Event) map[string]any {
	t.Helper()
	m := map[string]any{}
	if len(e.Attributes) > 0 {
		if err := json.Unmarshal(e.Attributes, &m); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func FuzzRead(f *testing.F) {
	for _, compact := range []bool{false, true} {
		f.Add(small(compact).b)
		f.Add(compressed(f, compact).b)
	}
	parsetest.Fuzz(f, Binary, "testdata/plain.journal.gz")
}

func FuzzExport(f *testing.F) {
	parsetest.Fuzz(f, Export, "testdata/journal.export")
}

func FuzzJSON(f *testing.F) {
	parsetest.Fuzz(f, JSON, "testdata/journal.json")
}
