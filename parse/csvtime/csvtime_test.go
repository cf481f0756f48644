package csvtime

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

var files = []string{"testdata/firewall.csv", "testdata/epoch.csv", "testdata/python.tsv"}

func TestGolden(t *testing.T) {
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) { parsetest.Golden(t, Format, f, parsetest.Options{}) })
	}
}

func TestSniff(t *testing.T) {
	for s, want := range map[string]parse.Confidence{
		"time,a\n2026-11-24T03:02:11Z,x\n":       parse.Maybe,
		"time,a\nsoon,x\n":                       parse.No, // no time in its place
		"a,b\n2026-11-24T03:02:11Z,x\n":          parse.No, // no name
		"time,a\n":                               parse.No,
		"we met at that time, and left\nx, y\n":  parse.No,
		"{\"time\":1}\n":                         parse.No,
		"Time\tcount\n2026-11-24 03:02:11\t5\n":  parse.Maybe,
		"date;n\n24/Nov/2026:03:02:11 +0000;1\n": parse.Maybe,
	} {
		if got := Format.Sniff([]byte(s)); got != want {
			t.Errorf("%q: %d, not %d", s, got, want)
		}
	}
}

// TestDamage keeps the rows around what is no row.
func TestDamage(t *testing.T) {
	head := "a,b,time\nx,y,2026-11-24T03:02:11Z\n"
	for s, want := range map[string]int{
		head + "only one\nx,y,2026-11-24T03:02:12Z\n":       2,
		head + "x,\"never closed\nx,y,2026-11-24T03:02:12Z": 1,
		head + "\x00\xff\n":                      1,
		head + strings.Repeat("x", 3<<20) + "\n": 1,
	} {
		events, skips := parsetest.Events(t, Format, []byte(s))
		if len(events) != want || len(skips) == 0 {
			t.Errorf("%.40q: %d events, %v", s, len(events), skips)
		}
	}
}

func FuzzRead(f *testing.F) { parsetest.Fuzz(f, Format, files...) }

func BenchmarkRead(b *testing.B) {
	parsetest.Bench(b, Format, []byte("time,host,message\n"+strings.Repeat("2026-11-24T03:02:11Z,node-1,\"a message, of some length, with a number 4711\"\n", 10000)))
}
