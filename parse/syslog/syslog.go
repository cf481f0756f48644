// Package syslog reads the log files of syslog daemons: lines of RFC 3164 as /var/log/messages and kern.log have them, with the traditional or an
// ISO 8601 time, with or without a priority, and messages of RFC 5424 as lines or with their length before them (RFC 6587).
//
// Specifications: https://www.rfc-editor.org/rfc/rfc3164, https://www.rfc-editor.org/rfc/rfc5424
//
// A line proves that the daemon received this text, at about this time by the clock of whoever wrote the stamp. It does not prove who sent it: any process
// on the machine, and with a listening daemon anybody on the network, may write any program's name. The traditional stamp has neither year nor zone; they
// are resolved and marked.
package syslog

import (
	"bytes"
	"context"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/timestamp"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/authlog"
)

// Format is syslog in any of its forms.
var Format = parse.Format{
	Name:  "syslog",
	Title: "syslog",
	Spec:  "https://www.rfc-editor.org/rfc/rfc5424",
	Sniff: sniff,
	Read:  read,
}

// maxMessage bounds the text of an event; the citation has all of it.
const maxMessage = 16 << 10

func sniff(head []byte) parse.Confidence {
	lines, good := 0, 0
	clock := timestamp.Resolver{}
	for lines < 32 {
		line, rest, more := bytes.Cut(head, []byte("\n"))
		if !more && lines > 0 {
			break // it may be cut
		}
		if len(bytes.TrimSpace(line)) > 0 {
			lines++
			var m message
			if m.parse(frame(line), &clock) && (m.program != "" || m.version) {
				good++
			}
		}
		if head = rest; !more {
			break
		}
	}
	switch {
	case good == 0 || good < (lines+1)/2:
		return parse.No
	case good == lines:
		return 75
	}
	return parse.Likely
}

// frame takes off the length that stands before a message of RFC 6587.
func frame(b []byte) []byte {
	i := 0
	for i < len(b) && i < 6 && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	if i > 0 && i+1 < len(b) && b[i] == ' ' && b[i+1] == '<' {
		return b[i+1:]
	}
	return b
}

// message is one parsed line.
type message struct {
	at            int64
	assumed       timestamp.Mark
	priority      int // -1 if there is none
	version       bool
	host, program string
	pid           int
	id            string
	data          string // structured
	text          string
}

// parse reads a line. It is not ok when the line has no time where one must be.
func (m *message) parse(b []byte, clock *timestamp.Resolver) bool {
	s := string(b)
	m.priority = -1
	if strings.HasPrefix(s, "<") {
		if end := strings.IndexByte(s[:min(len(s), 6)], '>'); end > 1 {
			if p, err := strconv.Atoi(s[1:end]); err == nil && p < 192 {
				m.priority, s = p, s[end+1:]
			}
		}
	}
	if m.priority >= 0 && strings.HasPrefix(s, "1 ") {
		m.version = true
		return m.rfc5424(s[2:], clock)
	}
	at, assumed, n, ok := clock.Prefix(s)
	if !ok || n >= len(s) || s[n] != ' ' || s[0] == '[' || len(s) > 4 && s[4] == '/' { // with slashes Go and nginx write dates
		return false
	}
	m.at, m.assumed = at, assumed
	s = strings.TrimLeft(s[n:], " ")
	host, rest, ok := strings.Cut(s, " ")
	if !ok || strings.HasSuffix(host, ":") { // dmesg of some daemons has no host
		m.tag(s)
		return true
	}
	m.host = host
	m.tag(rest)
	return true
}

// tag takes "program[pid]: text".
func (m *message) tag(s string) {
	m.text = s
	end := strings.IndexByte(s[:min(len(s), 128)], ':')
	if end <= 0 {
		return
	}
	tag := s[:end]
	if i := strings.IndexByte(tag, '['); i > 0 && strings.HasSuffix(tag, "]") {
		pid, err := strconv.ParseInt(tag[i+1:len(tag)-1], 10, 32)
		if err != nil || pid < 0 {
			return
		}
		m.pid = int(pid)
		tag = tag[:i]
	}
	if strings.ContainsAny(tag, " \t\"'={}") {
		m.pid = 0
		return
	}
	m.program, m.text = tag, strings.TrimPrefix(s[end+1:], " ")
}

// rfc5424 takes what follows the version.
func (m *message) rfc5424(s string, clock *timestamp.Resolver) bool {
	var f [5]string // time, host, program, pid, id
	for i := range f {
		head, rest, ok := strings.Cut(s, " ")
		if !ok {
			return false
		}
		if head != "-" {
			f[i] = head
		}
		s = rest
	}
	if f[0] != "" {
		var ok bool
		if m.at, m.assumed, ok = clock.Parse(f[0]); !ok {
			return false
		}
	}
	m.host, m.program, m.id = f[1], f[2], f[4]
	if pid, err := strconv.ParseInt(f[3], 10, 32); err == nil && pid > 0 {
		m.pid = int(pid)
	}
	if strings.HasPrefix(s, "-") {
		m.text = strings.TrimPrefix(s[1:], " ")
	} else {
		end := elements(s)
		m.data, m.text = s[:end], strings.TrimPrefix(s[end:], " ")
	}
	m.text = strings.TrimPrefix(m.text, "\ufeff")
	return true
}

// elements is the length of the structured data that s begins with: [id name="value"][…], in which a backslash escapes.
func elements(s string) int {
	end := 0
	for end < len(s) && s[end] == '[' {
		n := element(s[end:])
		if n == 0 {
			return end // it is cut: all of it is text
		}
		end += n
	}
	return end
}

// element is the length of [id name="value"], 0 when it is not closed.
func element(s string) int {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ']' && !quoted:
			return i + 1
		}
	}
	return 0
}

var severities = [...]string{"emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	clock := in.Resolver()
	var a event.Attributes
	n := 0
	for l, err := range in.Lines() {
		if err != nil {
			return err
		}
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line := bytes.TrimLeft(l.Data, "\x00")
		if len(bytes.TrimSpace(line)) == 0 {
			if len(l.Data) > len(line) {
				in.Skip(l.Offset, l.Length, "zero bytes")
			}
			continue
		}
		var m message
		body := frame(line)
		if !m.parse(body, clock) {
			// A continuation, or a line of something else: it is text, at a time that is not known.
			m = message{priority: -1, text: string(body)}
		}
		e := in.Base
		e.Offset, e.Length = l.Offset, l.Length
		m.fill(&e, &a)
		if l.Cut {
			a.Bool("cut", true)
		}
		e.Attributes = a.JSON()
		if err := emit(&e); err != nil {
			return err
		}
	}
	return nil
}

// fill makes the event.
func (m *message) fill(e *event.Event, a *event.Attributes) {
	a.Reset()
	e.Time, e.TimeKind, e.Kind = m.at, event.Logged, event.LogLine
	e.Process, e.PID = m.program, m.pid
	if m.host != "" {
		e.Node = m.host
	}
	e.Message = strings.TrimLeft(m.text[:min(len(m.text), maxMessage)], " ")
	if m.program == "kernel" {
		e.Kind = event.KernelLine
	}
	if m.priority >= 0 {
		a.Int("facility", int64(m.priority/8))
		a.String("level", severities[m.priority%8])
	}
	a.String("message_id", m.id)
	a.String("structured_data", m.data[:min(len(m.data), maxMessage)])
	a.String("time_assumed", m.assumed.String())
	authlog.Interpret(m.program, e, a)
}
