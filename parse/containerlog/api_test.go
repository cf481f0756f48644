package containerlog

import (
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/parse"
)

// TestAPI reads what an API server gives of a log with times.
func TestAPI(t *testing.T) {
	text := "2026-11-24T01:00:00.000000001Z hello\n2026-11-24T02:00:00.100000000+01:00 \nnot a line\n2026-11-24T01:00:00.200000000Z {\"level\":\"info\"}\n"
	if all, _ := lines(t, []byte(text)); len(all) != 0 {
		t.Errorf("a file with junk at its top passes for the API server's: %d lines", len(all))
	}
	text = strings.Replace(text, "not a line\n", "", 1) + "junk\n"
	head := strings.SplitAfterN(text, "\n", 4)
	if got := sniff([]byte(strings.Join(head[:3], ""))); got != API {
		t.Fatalf("taken for %q", got)
	}
	for range 70 {
		text = head[0] + text
	}
	all, skips := lines(t, []byte(text))
	if len(all) != 73 || len(skips) != 1 || skips[0].Bytes != 4 {
		t.Fatalf("%d lines, skips %v", len(all), skips)
	}
	last := all[72]
	if string(last.Text) != `{"level":"info"}` || last.Time != time.Date(2026, 11, 24, 1, 0, 0, 200_000_000, time.UTC).UnixNano() || last.Stream != "" ||
		text[last.Offset:last.Offset+last.Length] != strings.TrimSuffix(head[2], "\n") {
		t.Errorf("the last line is %+v, %q", last, last.Text)
	}
	if all[71].Time != time.Date(2026, 11, 24, 1, 0, 0, 100_000_000, time.UTC).UnixNano() || len(all[71].Text) != 0 {
		t.Errorf("a line with an offset and no text is %+v", all[71])
	}
}

// TestNotAPI are logs whose lines begin with a time and are not the API server's.
func TestNotAPI(t *testing.T) {
	for name, text := range map[string]string{
		"cri":     "2026-11-24T01:00:00.000000001Z stdout F hello\n",
		"seconds": "2026-11-24T01:00:00Z hello\n",
		"millis":  "2026-11-24T01:00:00.000Z hello\n",
		"no text": "2026-11-24T01:00:00.000000001Z",
		"empty":   "",
		"no time": "2026-13-24T01:00:00.000000001Z hello\n",
	} {
		if got := sniff([]byte(text)); got == API {
			t.Errorf("%s passes for the API server's", name)
		}
	}
	if Format.Sniff([]byte("2026-11-24T01:00:00.000000001Z hello\n")) != parse.Maybe {
		t.Error("a shape that others have too is not told as one")
	}
}
