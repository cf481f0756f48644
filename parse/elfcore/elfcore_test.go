package elfcore

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

var files = []string{"testdata/gcore.core", "testdata/sherd.core"}

func TestGolden(t *testing.T) {
	for _, f := range files {
		parsetest.Golden(t, Format, f, parsetest.Options{})
	}
}

// TestMapped: what has no file any more is said as such.
func TestMapped(t *testing.T) {
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	all, _ := parsetest.Events(t, Format, b)
	origins := map[string]int{}
	for _, e := range all {
		if e.Kind == event.ProcessDumped && (e.Process != "victim" || e.PID == 0) {
			t.Errorf("%+v", e)
		}
		for _, o := range []string{"memfd", "deleted"} {
			if bytes.Contains(e.Attributes, []byte(`"origin":"`+o+`"`)) {
				origins[o]++
			}
		}
	}
	if origins["memfd"] != 1 || origins["deleted"] != 1 {
		t.Errorf("%v", origins)
	}
}

// TestDamage reads cores of which little is left, or whose numbers lie.
func TestDamage(t *testing.T) {
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{5, 63, 64, 200, len(whole) / 2, len(whole) - 1} {
		if _, skips := parsetest.Events(t, Format, whole[:n]); len(skips) == 0 {
			t.Errorf("%d bytes pass for a whole core", n)
		}
	}
	for at := range 64 { // each number of the header
		b := bytes.Clone(whole)
		binary.LittleEndian.PutUint32(b[at:], 0xfffffff0)
		parsetest.Events(t, Format, b)
	}
	for at := 64; at < min(len(whole)-8, 8192); at += 4 {
		b := bytes.Clone(whole)
		binary.LittleEndian.PutUint64(b[at:], 0xfffffffffffffff0)
		parsetest.Events(t, Format, b)
	}
}

func FuzzRead(f *testing.F) { parsetest.Fuzz(f, Format, files...) }
