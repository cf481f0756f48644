package containerlog

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/parse"
)

// Format reads the logs of runtimes, and lines of text that no other format claims. A line whose time is not known has time 0.
var Format = parse.Format{
	Name:  parser,
	Title: "container or text log",
	Spec:  "https://docs.docker.com/engine/logging/drivers/json-file/",
	Sniff: func(head []byte) parse.Confidence {
		switch sniff(head) {
		case Plain:
			if len(head) == 0 || unprintable(head) {
				return parse.No
			}
			return parse.Fallback
		case Local:
			return parse.Certain
		}
		return parse.Likely
	},
	Read: readInput,
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

func readInput(_ context.Context, in *parse.Input, emit parse.Emit) error {
	var failed error
	r := newReader(evidence.Entry{Path: in.Base.Artifact}, 0, func(l Line, err error) bool {
		if p := (*Problem)(nil); errors.As(err, &p) {
			in.Skip(p.Offset, p.Length, p.Reason)
			return true
		}
		if err != nil {
			failed = err
			return false
		}
		e := in.Base
		if err := fill(&e, l, in); err != nil {
			failed = err
			return false
		}
		failed = emit(&e)
		return failed == nil
	})
	if err := r.run(in); err != nil && !errors.Is(err, errDone) {
		return err
	}
	return failed
}

// fill makes an event of a line.
func fill(e *event.Event, l Line, in *parse.Input) error {
	made, err := lineEvent(e.EvidenceID, l)
	if err != nil {
		return err
	}
	e.Time, e.TimeKind, e.Kind, e.Message, e.Size = made.Time, made.TimeKind, made.Kind, made.Message, made.Size
	e.Offset, e.Length, e.Attributes = made.Offset, made.Length, made.Attributes
	e.SrcIP, e.SrcPort, e.Protocol = made.SrcIP, made.SrcPort, made.Protocol
	text := printable.Clip(l.Text[:min(len(l.Text), 4*maxMessage)], maxMessage)
	if e.Protocol == "http" {
		e.Kind = event.HTTPRequest
		if q, ok := HTTP(l); ok && strings.HasPrefix(text, "{") {
			text = q.Method + " " + q.Path
			if q.Status != 0 {
				text += " " + strconv.Itoa(q.Status)
			}
			if q.RemoteIP != "" {
				text += " from " + q.RemoteIP
			}
			text = printable.Clip(text, maxMessage)
		}
	}
	if e.Time == 0 {
		clock := in.Resolver()
		if at, assumed, _, ok := clock.Prefix(l.Text[:min(len(l.Text), 128)]); ok {
			e.Time = at
			if assumed != 0 && len(e.Attributes) > 1 {
				e.Attributes = append(e.Attributes[:len(e.Attributes)-1], `,"time_assumed":"`+assumed.String()+`"}`...)
			}
		}
	}
	e.Message = text
	return nil
}
