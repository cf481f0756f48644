package podstatus

import (
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestGolden(t *testing.T) { parsetest.Golden(t, Format, "testdata/pods.json", parsetest.Options{}) }

const one = `{"kind":"Pod","metadata":{"name":"a","creationTimestamp":"2026-11-24T03:00:00Z"},"spec":{"containers":[{"name":"c"}]},"status":{}}`

// TestForms reads a pod alone, in a PodList, on lines and in a watch.
func TestForms(t *testing.T) {
	for s, want := range map[string]int{
		one: 1, `{"kind":"PodList","items":[` + strings.Replace(one, `"kind":"Pod",`, "", 1) + `]}`: 1, one + "\n" + one + "\n": 2,
		`{"type":"DELETED","object":` + one + `}` + "\n": 1,
	} {
		if c := Format.Sniff([]byte(s)); c != parse.Certain {
			t.Errorf("%.40q: confidence %d", s, c)
		}
		events, skips := parsetest.Events(t, Format, []byte(s))
		if len(events) != want || len(skips) != 0 || events[0].Kind != event.K8sPod || events[0].Pod != "a" {
			t.Errorf("%.40q: %+v, %v", s, events, skips)
		}
	}
}

func TestDamage(t *testing.T) {
	for s, want := range map[string]int{
		`{"kind":"List","items":[` + one + `,{"kind":"Pod","meta`:     1,
		one + "\n\x00\xff junk\n" + one + "\n":                        2,
		`{"kind":"Service","metadata":{}}` + "\n" + one + "\n":        1,
		strings.Replace(one, "2026-11-24T03:00:00Z", "soon", 1) + "{": 0,
	} {
		events, skips := parsetest.Events(t, Format, []byte(s))
		if len(events) != want || len(skips) == 0 {
			t.Errorf("%.40q: %d events, %v", s, len(events), skips)
		}
	}
}

func FuzzRead(f *testing.F) { parsetest.Fuzz(f, Format, "testdata/pods.json") }
