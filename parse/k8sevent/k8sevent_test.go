package k8sevent

import (
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

var files = []string{"testdata/events.json", "testdata/events.v1.json", "testdata/watch.jsonl"}

func TestGolden(t *testing.T) {
	for _, f := range files {
		parsetest.Golden(t, Format, f, parsetest.Options{})
	}
}

// TestDamage keeps the whole events of a list that breaks off, and of lines among junk.
func TestDamage(t *testing.T) {
	one := `{"kind":"Event","involvedObject":{"kind":"Pod","name":"a"},"reason":"Started","message":"m","lastTimestamp":"2026-11-24T03:00:00Z"}`
	for s, want := range map[string]int{
		`{"kind":"List","items":[` + one + `,` + one + `,{"kind":"Event","invol`: 2,
		one + "\n\x00\xff junk\n" + one + "\n":                                   2,
		`{"kind":"Pod","metadata":{}}` + "\n" + one + "\n":                       1,
	} {
		events, skips := parsetest.Events(t, Format, []byte(s))
		if len(events) != want || len(skips) == 0 {
			t.Errorf("%.40q: %d events, %v", s, len(events), skips)
		}
	}
	if Format.Sniff([]byte(strings.Replace(one, `"kind":"Event"`, `"kind":"Pod"`, 1))) != parse.No {
		t.Error("a pod is taken for an event")
	}
}

func FuzzRead(f *testing.F) { parsetest.Fuzz(f, Format, files...) }
