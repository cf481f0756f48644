// Package containerlog reads what a container wrote to its standard streams, as its runtime kept it, and the kernel's lines about it.
//
// Each file is recognised by its content, whatever its name says:
//
//   - Docker's json-file: one JSON object a line (https://docs.docker.com/engine/logging/drivers/json-file/), lines longer than
//     16 KiB in pieces without a line feed at their end
//   - Docker's local: protobuf LogEntry messages, each between its length as 4 bytes, big-endian
//     (https://docs.docker.com/engine/logging/drivers/local/, api/types/plugins/logdriver/entry.proto of moby)
//   - CRI, which containerd, CRI-O and Podman's k8s-file write: "TIME STREAM TAG TEXT", tag P for a piece that goes on and F for
//     the end of a line (design-proposals-archive/node/kubelet-cri-logging.md of the Kubernetes community)
//   - what the Kubernetes API server gives of a log with timestamps=true: "TIME TEXT", the time in RFC 3339 with nine digits of
//     a second, pieces of lines joined, and no word of the stream
//     (https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.34/#read-log-pod-v1-core)
//   - records of /dev/kmsg (Documentation/ABI/testing/dev-kmsg of the kernel)
//
// What is inside, package applog reads.
//
// What it proves: that the container's processes wrote this text, when the runtime received it, by the clock of the host.
//
// What it does not prove: that the text is true. Any process of the container may write anything to the streams, lines that
// look like the application's requests included, and times inside the text are the writer's. Lines that were rotated away
// or never written are not missed here. A CRI log does not tell output that ended without a line feed from a piece of a line: when the
// container starts again and goes on in the same file, its first line is joined to that.
package containerlog

import (
	"bytes"
	"context"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/applog"
)

// Formats, as applog.Line.Format names them.
const (
	JSONFile = "json-file"
	Local    = "local"
	CRI      = "cri"
	Kmsg     = "kmsg"
	API      = "kubernetes-api"
)

// kernel is the stream of records of the kernel.
const kernel = "kernel"

const (
	maxText   = 1 << 20 // of one line, joined from its pieces
	maxSource = 2 << 20 // bytes of a record of the local driver
	// maxStreams bounds the lines that wait for their end at one time: streams have two names, more come from junk.
	maxStreams = 8
	maxMessage = 4096 // runes
)

// Format reads the logs of runtimes. A line whose time is not known has time 0.
var Format = parse.Format{
	Name:  "containerlog",
	Title: "container log",
	Spec:  "https://docs.docker.com/engine/logging/drivers/json-file/",
	Sniff: func(head []byte) parse.Confidence {
		switch sniff(head) {
		case "":
			return parse.No
		case Local:
			return parse.Certain
		case API:
			return parse.Maybe
		}
		return parse.Likely
	},
	Read: func(ctx context.Context, in *parse.Input, emit parse.Emit) error {
		w := applog.NewWriter(in, emit)
		err := Each(ctx, in, func(l *applog.Line) error {
			if l.Stream == kernel {
				return kernelLine(in, l, emit)
			}
			return w.Line(l)
		})
		if err != nil {
			return err
		}
		return w.Close()
	},
}

// kernelLine makes an event of a record of the kernel, whose text is no application's.
func kernelLine(in *parse.Input, l *applog.Line, emit parse.Emit) error {
	ev := in.Base
	ev.Time, ev.TimeKind, ev.Kind = l.Time, event.Logged, event.KernelLine
	ev.Message = printable.Clip(string(l.Text[:min(len(l.Text), 4*maxMessage)]), maxMessage)
	ev.Offset, ev.Length, ev.Size = l.Offset, l.Length, l.Size
	var a event.Attributes
	a.String("stream", l.Stream)
	a.String("format", l.Format)
	ev.Attributes = a.JSON()
	return emit(&ev)
}

// Each calls fn with each line of output, joined from its pieces, in the order of their ends. Bytes that are no part of any are told as
// skipped. Between the pieces of a long line those of the other stream may stand, and are then in its citation too. Errors are those of
// reading the evidence, of ctx and of fn.
func Each(ctx context.Context, in *parse.Input, fn func(*applog.Line) error) error {
	r := &reader{in: in, fn: fn, ctx: ctx, format: sniff(in.Head())}
	var err error
	if r.format == Local {
		err = r.local()
	} else {
		err = r.lines()
	}
	for err == nil && len(r.wait) > 0 {
		err = r.flush(0)
	}
	return err
}

// reader reads one artifact.
type reader struct {
	in     *parse.Input
	ctx    context.Context
	fn     func(*applog.Line) error
	format string
	line   applog.Line
	text   []byte // of an entry with escapes
	wait   []*pieces
	free   []*pieces
	n      int
}

// pieces are of a line that goes on.
type pieces struct {
	applog.Line
	text []byte
	id   string
}

// emit hands on a line that ends at end.
func (r *reader) emit(l *applog.Line, end int64) error {
	if r.n++; r.n&0xfff == 0 && r.ctx.Err() != nil {
		return r.ctx.Err()
	}
	l.Format, l.Length = r.format, end-l.Offset
	return r.fn(l)
}

// piece takes a record that holds a whole line, or a part of one when more is true. end is where it ends in the file.
func (r *reader) piece(l *applog.Line, id string, end int64, more bool) error {
	i := r.waiting(l.Stream)
	if i < 0 && !more {
		return r.emit(l, end)
	}
	if i >= 0 {
		p := r.wait[i]
		room := maxText - len(p.text)
		p.Cut = p.Cut || l.Cut || len(l.Text) > room
		p.text = append(p.text, l.Text[:min(len(l.Text), room)]...)
		p.Size += l.Size
		p.Length = end - p.Offset
		p.id = id
		if !more {
			return r.flush(i)
		}
		return nil
	}
	if len(r.wait) >= maxStreams {
		if err := r.flush(0); err != nil {
			return err
		}
	}
	p := &pieces{}
	if n := len(r.free); n > 0 {
		p, r.free = r.free[n-1], r.free[:n-1]
	}
	p.text = append(p.text[:0], l.Text...)
	p.Line, p.id = *l, id
	p.Length = end - l.Offset
	r.wait = append(r.wait, p)
	return nil
}

func (r *reader) waiting(stream string) int {
	for i, p := range r.wait {
		if p.Stream == stream {
			return i
		}
	}
	return -1
}

// flush emits what waits.
func (r *reader) flush(i int) error {
	p := r.wait[i]
	r.wait = append(r.wait[:i], r.wait[i+1:]...)
	r.free = append(r.free, p)
	p.Text = p.text
	return r.emit(&p.Line, p.Offset+p.Length)
}

// trimLine takes off the carriage return of a program that ends its lines in the way of DOS.
func trimLine(b []byte) []byte { return bytes.TrimSuffix(b, []byte{'\r'}) }
