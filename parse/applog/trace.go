package applog

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/printable"
)

// trace is whose stack trace lines belong to.
type trace uint8

const (
	noTrace trace = iota
	java          // Java, .NET, Node below a message
	python
	pythonEnd // the line of the exception was read
	golang
	node // Node's report of what nothing caught
	rust
)

func (t trace) String() string {
	switch t {
	case java:
		return "java"
	case python, pythonEnd:
		return "python"
	case golang:
		return "go"
	case node:
		return "node"
	case rust:
		return "rust"
	}
	return ""
}

// Bounds of one joined event. A trace that goes on after that begins another.
const (
	maxTraceLines = 1000
	maxTraceBytes = 64 << 10
	// maxGap is how long a process may take between two lines of a trace.
	maxGap = int64(5 * time.Second)
)

// pending is an event that further lines may belong to.
type pending struct {
	ev        event.Event
	attr      []byte
	stream    string
	headed    bool // its first line says its time or level
	heading   bool // the next line begins with the level: java.util.logging
	stacked   bool // names of functions may follow without anything before them: zap
	kind      trace
	last      int64 // time of its last line
	more      []byte
	lines     int
	exception string
}

func (p *pending) begin(ev *event.Event, attr *event.Attributes, l *Line, kind trace, rec *Record) {
	*p = pending{ev: *ev, attr: append(p.attr[:0], attr.JSON()...), stream: l.Stream, headed: rec.Form != "", heading: rec.heading, kind: kind, last: l.Time, more: p.more[:0], lines: 1,
		stacked: rec.Form == Text && rec.Caller != "" && rec.Level != "info"}
	t := l.Text
	if bytes.HasPrefix(t, []byte("Exception in thread \"")) { // and the thread's name in quotes
		if _, after, ok := bytes.Cut(t[len("Exception in thread \""):], []byte("\" ")); ok {
			t = after
		}
	}
	t = bytes.TrimPrefix(t, []byte("Unhandled exception. "))
	if exception(t) {
		p.exception = string(t[:min(len(t), 256)])
	}
}

// end gives the event with all its lines.
func (p *pending) end() *event.Event {
	if len(p.attr) > 0 {
		p.ev.Attributes = p.attr
	}
	if p.lines > 1 {
		p.ev.Message = printable.Clip(cutText(p.ev.Message+string(p.more[:min(len(p.more), 4*maxMessage)])), maxMessage)
		var a event.Attributes
		a.Int("lines", int64(p.lines))
		a.String("stack", p.kind.String())
		a.String("exception", p.exception)
		p.add(&a)
		p.ev.Attributes = p.attr
	}
	return &p.ev
}

// take adds a line that belongs to the event, and reports whether it does.
func (p *pending) take(l *Line) bool {
	if p.lines >= maxTraceLines || p.ev.Size+l.Size > maxTraceBytes || l.Time != 0 && p.last != 0 && (l.Time-p.last > maxGap || p.last-l.Time > maxGap) ||
		l.Offset+l.Length < p.ev.Offset || !p.continues(l.Text) {
		return false
	}
	p.lines++
	p.last = l.Time
	p.ev.Length = max(p.ev.Length, l.Offset+l.Length-p.ev.Offset)
	if p.heading {
		p.heading = false
		p.headline(l.Text)
		return true
	}
	p.more = append(append(p.more, '\n'), l.Text...)
	p.ev.Size += 1 + l.Size
	return true
}

// headline takes the line after one that said only when and where: "INFO: text".
func (p *pending) headline(t []byte) {
	word, text, _ := strings.Cut(string(t), ": ")
	l, _ := level(word)
	p.ev.Message = printable.Clip(cutText(text), maxMessage)
	p.ev.Size += 1 + int64(len(t))
	var a event.Attributes
	a.String("level", l)
	p.add(&a)
}

// add appends to the attributes.
func (p *pending) add(a *event.Attributes) {
	own := a.JSON()
	if len(own) == 0 {
		return
	}
	if len(p.attr) > 2 {
		p.attr = append(append(p.attr[:len(p.attr)-1], ','), own[1:]...)
	} else {
		p.attr = append(p.attr[:0], own...)
	}
}

// continues reports whether t belongs to what came before it, and notes what kind of trace it is.
func (p *pending) continues(t []byte) bool {
	t = bytes.TrimSuffix(t, []byte{'\r'})
	if len(t) == 0 {
		return p.kind == golang || p.kind == node || p.kind == pythonEnd && p.lines > 1
	}
	if t[0] == ' ' || t[0] == '\t' {
		in := bytes.TrimLeft(t, " \t")
		switch {
		case len(in) == 0:
			return p.kind != noTrace
		case bytes.HasPrefix(in, []byte("at ")) || bytes.HasPrefix(in, []byte("... ")):
			if p.kind == noTrace {
				p.kind = java
			}
			return true
		case bytes.HasPrefix(in, []byte(`File "`)):
			p.kind = python
			return true
		}
		return p.kind != noTrace || p.headed
	}
	has := func(s string) bool { return bytes.HasPrefix(t, []byte(s)) }
	switch {
	case p.heading:
		word, _, ok := bytes.Cut(t[:min(len(t), 16)], []byte(": "))
		_, isLevel := level(string(word))
		return ok && isLevel
	case p.stacked && bytes.IndexByte(t, '.') > 0 && !bytes.ContainsAny(t, " \t:{") && len(t) < 256:
		p.kind = golang
		return true
	case has("Caused by: ") || has("Suppressed: ") || has("--- End of "):
		p.note(java, t)
		return p.headed || p.exception != "" || p.lines > 1
	case has("Traceback (most recent call last):"):
		if ok := p.headed && p.kind == noTrace || p.kind == pythonEnd; !ok {
			return false
		}
		p.kind = python
		return true
	case p.kind == python:
		p.kind = pythonEnd
		p.exception = string(t[:min(len(t), 256)])
		return true
	case p.kind == pythonEnd:
		return has("During handling of the above exception") || has("The above exception was the direct cause")
	case p.kind == golang:
		return goTrace(t)
	case p.kind == node:
		if exception(t) {
			p.note(node, t)
			return true
		}
		return has("Node.js v") || has("}") || has("Thrown at")
	case p.kind == rust:
		return p.lines == 1 || has("note: ") || has("stack backtrace:")
	case p.headed && has("goroutine ") && bytes.HasSuffix(t, []byte("]:")):
		p.kind = golang
		return true
	case p.headed && p.exception == "" && exception(t):
		p.note(java, t)
		return true
	}
	return false
}

func (p *pending) note(kind trace, t []byte) {
	p.kind = kind
	if p.exception == "" {
		p.exception = string(t[:min(len(t), 256)])
	}
}

// begins says which trace a message is the first line of.
func begins(s string) trace {
	switch {
	case s == "":
		return noTrace
	case strings.HasPrefix(s, "Traceback (most recent call last):"):
		return python
	case strings.HasPrefix(s, "panic: ") || strings.HasPrefix(s, "fatal error: ") || strings.HasPrefix(s, "goroutine ") && strings.HasSuffix(s, "]:") ||
		strings.HasPrefix(s, "SIGSEGV: ") || strings.HasPrefix(s, "SIGQUIT: ") || strings.HasPrefix(s, "SIGABRT: ") || strings.HasPrefix(s, "runtime: "):
		return golang
	case strings.HasPrefix(s, "Exception in thread ") || strings.HasPrefix(s, "Unhandled exception."):
		return java
	case strings.HasPrefix(s, "thread '") && strings.Contains(s, "panicked at "):
		return rust
	case (s[0] == '/' || strings.HasPrefix(s, "file://") || strings.HasPrefix(s, "node:")) && len(s) < 512 && !strings.Contains(s, " "):
		if i := strings.LastIndexByte(s, ':'); i > 0 && i < len(s)-1 && strings.Trim(s[i+1:], "0123456789") == "" {
			return node
		}
	}
	return noTrace
}

// exception reports whether t is the line that names an exception: "java.lang.IllegalStateException: text".
func exception(t []byte) bool {
	t = bytes.TrimPrefix(t, []byte("Uncaught "))
	name := t[:min(len(t), 200)]
	if i := bytes.IndexAny(name, ": "); i >= 0 {
		if name[i] == ' ' && !bytes.HasPrefix(t[i:], []byte(" [")) && !bytes.HasPrefix(t[i:], []byte(" (")) {
			return false
		}
		name = name[:i]
	} else if len(t) > 200 {
		return false
	}
	for _, c := range name {
		if c|0x20-'a' >= 26 && c-'0' >= 10 && c != '.' && c != '_' && c != '$' {
			return false
		}
	}
	for _, end := range []string{"Exception", "Error", "Throwable"} {
		if bytes.HasSuffix(name, []byte(end)) {
			return true
		}
	}
	return false
}

// goTrace reports whether t is a line of what Go writes when a program dies.
func goTrace(t []byte) bool {
	has := func(s string) bool { return bytes.HasPrefix(t, []byte(s)) }
	switch {
	case has("goroutine ") || has("created by ") || has("[signal ") || has("exit status ") || has("panic: ") || has("...additional frames") ||
		has("runtime: ") || has("PC=") || has("fatal error: ") || has("[originating from "):
		return true
	case bytes.HasSuffix(t, []byte(")")) && bytes.IndexByte(t, '(') > 0 && bytes.IndexByte(t[:bytes.IndexByte(t, '(')], ' ') < 0: // a call
		return true
	}
	// A register: "rax    0x0".
	f := bytes.Fields(t[:min(len(t), 64)])
	return len(f) == 2 && len(f[0]) <= 6 && bytes.HasPrefix(f[1], []byte("0x")) && slices.IndexFunc(f[0], func(r byte) bool { return r|0x20-'a' >= 26 && r-'0' >= 10 }) < 0
}
