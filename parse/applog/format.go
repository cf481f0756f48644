package applog

import (
	"bytes"
	"context"

	"github.com/sherd-forensics/sherd/internal/timestamp"
	"github.com/sherd-forensics/sherd/parse"
)

// Format reads files of lines: an application's log that no runtime wrapped, and any text that no other format claims.
var Format = parse.Format{
	Name:  "applog",
	Title: "application log or text",
	Spec:  "https://www.elastic.co/guide/en/ecs/current/ecs-field-reference.html",
	Sniff: sniff,
	Read: func(_ context.Context, in *parse.Input, emit parse.Emit) error {
		w := NewWriter(in, emit)
		for l, err := range in.Lines() {
			if err != nil {
				return err
			}
			if err := w.Line(&Line{Text: l.Data, Size: int64(len(l.Data)), Cut: l.Cut, Offset: l.Offset, Length: l.Length}); err != nil {
				return err
			}
		}
		return w.Close()
	},
}

// sniffed is how many lines are judged.
const sniffed = 32

// sniff claims lines of which most have a form that only logs have, and falls back to any text.
func sniff(head []byte) parse.Confidence {
	if len(head) == 0 || unprintable(head) {
		return parse.No
	}
	r := NewReader(&timestamp.Resolver{})
	var rec Record
	known, all := 0, 0
	for rest := head; len(rest) > 0 && all < sniffed; {
		line, after, ended := bytes.Cut(rest, []byte{'\n'})
		rest = after
		if !ended && all > 0 || len(line) == 0 {
			continue
		}
		r.Read(line, &rec, nil)
		all++
		switch rec.Form {
		case JSON:
			if rec.Level != "" && (rec.Message != "" || rec.Error != "") || rec.IsRequest && rec.Time != 0 {
				known++
			}
		case Klog, Logfmt, Access:
			known++
		case Text:
			if rec.Time != 0 && rec.Level != "" {
				known++
			}
		}
	}
	if known*2 > all {
		return parse.Maybe + 10
	}
	return parse.Fallback
}

// unprintable reports whether content is hardly text: more than a tenth of its first bytes are control bytes that no log has.
func unprintable(head []byte) bool {
	head = head[:min(len(head), 4096)]
	n := 0
	for _, c := range head {
		if c < 0x20 && c != '\n' && c != '\r' && c != '\t' && c != 0x1b {
			n++
		}
	}
	return n > len(head)/10
}
