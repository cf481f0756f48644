package applog

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/internal/timestamp"
	"github.com/sherd-forensics/sherd/parse"
)

const (
	maxMessage = 4096 // runes of an event's message
	// maxStreams bounds the lines that wait for what may belong to them: streams have two names, more come from junk.
	maxStreams = 8
	// clocks is how far a writer's time may be from the runtime's before it is worth a word.
	clocks = int64(2 * time.Second)
)

// Line is a line of output and where it stands.
type Line struct {
	// Time is when the runtime received it, in nanoseconds UTC; 0 when nobody but the writer says.
	Time   int64
	Stream string // stdout, stderr; empty when it is not known
	Format string // how the runtime keeps it; empty for a plain file
	Text   []byte // without its line feed, valid until the next line
	// Size is the length of the whole text in bytes, of which Text may be the first; Cut is true when it is.
	Size int64
	Cut  bool
	// Offset and Length are of the bytes of the evidence.
	Offset, Length int64
}

// Writer makes events of lines: what each says in its own form, and the lines of a stack trace joined to one event. Close it.
type Writer struct {
	in     *parse.Input
	emit   parse.Emit
	reader *Reader
	attr   event.Attributes
	rec    Record
	wait   []*pending
	free   []*pending
}

// NewWriter makes events of lines of in.
func NewWriter(in *parse.Input, emit parse.Emit) *Writer {
	return &Writer{in: in, emit: emit, reader: NewReader(in.Resolver())}
}

// Line takes the next line. Events of one stream come in the order of its lines.
func (w *Writer) Line(l *Line) error {
	i := slices.IndexFunc(w.wait, func(p *pending) bool { return p.stream == l.Stream })
	if i >= 0 {
		if w.wait[i].take(l) {
			return nil
		}
		if err := w.flush(i); err != nil {
			return err
		}
	}
	w.attr.Reset()
	ev := w.in.Base
	ev.Time, ev.TimeKind, ev.Kind = l.Time, event.Logged, event.LogLine
	ev.Offset, ev.Length, ev.Size = l.Offset, l.Length, l.Size
	w.attr.String("stream", l.Stream)
	w.attr.String("format", l.Format)
	if l.Cut {
		w.attr.Bool("cut", true)
	}
	w.reader.Read(l.Text, &w.rec, &w.attr)
	w.rec.Fill(&ev, &w.attr)
	if w.rec.complete || len(l.Text) == 0 {
		ev.Attributes = w.attr.JSON()
		return w.emit(&ev)
	}
	kind := begins(ev.Message)
	if kind == noTrace && w.rec.Form == "" && !exception(l.Text) {
		ev.Attributes = w.attr.JSON()
		return w.emit(&ev)
	}
	return w.hold(&ev, l, kind)
}

// Close emits what waits.
func (w *Writer) Close() error {
	for len(w.wait) > 0 {
		if err := w.flush(0); err != nil {
			return err
		}
	}
	return nil
}

// hold keeps an event until the next line of its stream says whether it belongs to it.
func (w *Writer) hold(ev *event.Event, l *Line, kind trace) error {
	if len(w.wait) >= maxStreams {
		if err := w.flush(0); err != nil {
			return err
		}
	}
	var p *pending
	if n := len(w.free); n > 0 {
		p, w.free = w.free[n-1], w.free[:n-1]
	} else {
		p = &pending{}
	}
	p.begin(ev, &w.attr, l, kind, &w.rec)
	w.wait = append(w.wait, p)
	return nil
}

func (w *Writer) flush(i int) error {
	p := w.wait[i]
	w.wait = slices.Delete(w.wait, i, i+1)
	w.free = append(w.free, p)
	return w.emit(p.end())
}

// Fill puts what the record says into an event and its attributes. An event that has a time keeps it.
func (rec *Record) Fill(e *event.Event, attr *event.Attributes) {
	q := &rec.Request
	e.Message = rec.Message
	if rec.IsRequest {
		e.Kind, e.Protocol = event.HTTPRequest, "http"
		if rec.Form == JSON || rec.Form == Logfmt {
			e.Message = q.words(rec.Message)
		}
	} else if e.Message == "" {
		e.Message = rec.Error
	}
	e.Message = printable.Clip(cutText(e.Message), maxMessage)
	if rec.Time != 0 {
		switch {
		case e.Time == 0:
			e.Time = rec.Time
			if rec.Assumed != 0 {
				attr.String("time_assumed", rec.Assumed.String())
			}
		case rec.Assumed&(timestamp.Zone|timestamp.Date) == 0 && (rec.Time-e.Time > clocks || e.Time-rec.Time > clocks):
			attr.String("app_time", time.Unix(0, rec.Time).UTC().Format(time.RFC3339Nano))
		}
	}
	if rec.User != "" {
		e.User = rec.User
	}
	if q.RemoteIP != "" {
		e.SrcIP, e.SrcPort = q.RemoteIP, q.RemotePort
	}
	if rec.Host != "" && e.Node == "" && e.Container == "" {
		e.Node = rec.Host
	} else if rec.Host != e.Container && rec.Host != e.Pod {
		attr.String("host", clip(rec.Host, maxValue))
	}
	if rec.Pod != "" && e.Pod == "" {
		e.Pod, e.Namespace = rec.Pod, rec.Namespace
		e.Container = cmp.Or(e.Container, clip(rec.Container, 256))
	}
	attr.String("form", rec.Form)
	attr.String("level", rec.Level)
	attr.String("logger", clip(rec.Logger, 256))
	attr.String("caller", clip(rec.Caller, 256))
	attr.String("thread", clip(rec.Thread, 256))
	if rec.PID > 0 {
		attr.Int("app_pid", int64(rec.PID)) // by the container's own counting
	}
	if rec.Error != e.Message {
		attr.String("error", clip(rec.Error, maxValue))
	}
	attr.String("stack_trace", clip(rec.Stack, maxRest))
	attr.String("trace_id", clip(rec.Trace, 128))
	q.fill(attr)
}

// fill adds a request's parts. Status and address also stand in lines about requests that are none themselves.
func (q *Request) fill(attr *event.Attributes) {
	attr.String("http_method", q.Method)
	attr.String("http_path", clip(q.Path, 4*maxValue))
	if q.Status != 0 {
		attr.Int("http_status", int64(q.Status))
	}
	attr.String("http_user_agent", clip(q.UserAgent, 256))
	attr.String("http_referer", clip(q.Referer, 256))
	attr.String("http_host", clip(q.Host, 256))
	attr.String("http_forwarded_for", clip(q.ForwardedFor, 256))
	attr.String("upstream", clip(q.Upstream, 256))
	if q.Bytes > 0 {
		attr.Int("http_bytes", q.Bytes)
	}
}

// words tells a request, after the message where there is one that says more.
func (q *Request) words(message string) string {
	s := q.Method + " " + q.Path
	if q.Status != 0 {
		s += " " + strconv.Itoa(q.Status)
	}
	if q.RemoteIP != "" {
		s += " from " + q.RemoteIP
	}
	if message != "" && len(message) < 256 {
		s += ": " + message
	}
	return s
}

// cutText bounds a text before it is made printable.
func cutText(s string) string { return s[:min(len(s), 4*maxMessage)] }
