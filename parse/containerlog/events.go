package containerlog

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/printable"
)

const (
	parser     = "containerlog"
	maxMessage = 4096    // runes of a line in an event
	maxEvents  = 4 << 20 // of one file
)

// attributes is what has no column of its own.
type attributes struct {
	Stream             string `json:"stream,omitempty"`
	Format             string `json:"format"`
	DecompressedOffset *int64 `json:"decompressed_offset,omitempty"`
	Level              string `json:"level,omitempty"`
	Method             string `json:"http_method,omitempty"`
	Path               string `json:"http_path,omitempty"`
	Status             int    `json:"http_status,omitempty"`
	UserAgent          string `json:"http_user_agent,omitempty"`
}

// Events emits log.line for each line, at the time that the runtime stamped it with, or else the line's own; of a request line
// src_ip and src_port are the peer that it names. Lines without any time have time 0. Of each file at most 4 million lines
// are emitted; one more event says how many were not. Problems are passed over: Read reports them.
func Events(p *evidence.Package, emit func(event.Event) error) error {
	for _, a := range Artifacts(p) {
		if err := artifactEvents(p, a, maxEvents, emit); err != nil {
			return err
		}
	}
	return nil
}

func artifactEvents(p *evidence.Package, a evidence.Entry, limit int, emit func(event.Event) error) error {
	count := 0
	var last event.Event
	for l, err := range ReadArtifact(p, a) {
		if err != nil {
			if pr := (*Problem)(nil); errors.As(err, &pr) {
				continue
			}
			return err
		}
		if count++; count > limit {
			if count == limit+1 {
				last = event.Event{Time: l.Time, TimeKind: event.Logged, Kind: event.LogLine, EvidenceID: p.ID(), Parser: parser,
					Artifact: l.Cite.Artifact, Offset: l.Cite.Offset, Length: l.Cite.Length}
			}
			continue
		}
		e, err := lineEvent(p.ID(), l)
		if err != nil {
			return err
		}
		if err := emit(e); err != nil {
			return err
		}
	}
	if count <= limit {
		return nil
	}
	last.Message = fmt.Sprintf("%d further lines of this log are left out of the timeline", count-limit)
	return emit(last)
}

func lineEvent(id string, l Line) (event.Event, error) {
	e := event.Event{Time: l.Time, TimeKind: event.Logged, Kind: event.LogLine, Message: printable.Clip(l.Text[:min(len(l.Text), 4*maxMessage)], maxMessage),
		EvidenceID: id, Parser: parser, Artifact: l.Cite.Artifact, Offset: l.Cite.Offset, Length: l.Cite.Length, Size: int64(len(l.Text))}
	a := attributes{Stream: l.Stream, Format: l.Format}
	if l.Compressed {
		a.DecompressedOffset = &l.Position
	}
	if app, ok := App(l); ok {
		a.Level = printable.Clip(app.Level, 32)
		if e.Time == 0 {
			e.Time = app.Time
		}
	}
	if q, ok := HTTP(l); ok {
		a.Method, a.Path, a.Status, a.UserAgent = q.Method, printable.Clip(q.Path, 1024), q.Status, printable.Clip(q.UserAgent, 256)
		e.SrcIP, e.SrcPort, e.Protocol = q.RemoteIP, q.RemotePort, "http"
		if e.Time == 0 {
			e.Time = q.Time
		}
	}
	b, err := json.Marshal(a)
	if err != nil {
		return e, fmt.Errorf("attributes of a log line: %w", err)
	}
	e.Attributes = b
	return e, nil
}
