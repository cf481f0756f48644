package journal

import (
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/authlog"
)

// place is where a field goes that has one.
type place int

const (
	extra place = iota // among the attributes, under its own name
	used               // it is looked up where it is needed
	drop               // it says nothing that the citation or another field does not
)

// places of the fields that are not simply attributes.
var places = map[string]place{
	"MESSAGE": used, "PRIORITY": used, "SYSLOG_FACILITY": used, "SYSLOG_IDENTIFIER": used, "_COMM": used, "_EXE": used, "_CMDLINE": used, "_PID": used, "_UID": used,
	"_HOSTNAME": used, "_AUDIT_LOGINUID": used, "_SYSTEMD_UNIT": used, "UNIT": used, "USER_UNIT": used, "_SOURCE_REALTIME_TIMESTAMP": used, "__REALTIME_TIMESTAMP": used,
	"CONTAINER_ID_FULL": used, "CONTAINER_NAME": used, "CONTAINER_PARTIAL_MESSAGE": used, "CONTAINER_PARTIAL_ID": used, "CONTAINER_PARTIAL_LAST": used,

	"__CURSOR": drop, "__SEQNUM": drop, "__SEQNUM_ID": drop, "__MONOTONIC_TIMESTAMP": drop, "_SOURCE_MONOTONIC_TIMESTAMP": drop, "_SOURCE_BOOTTIME_TIMESTAMP": drop,
	"SYSLOG_RAW": drop, "SYSLOG_TIMESTAMP": drop, "_STREAM_ID": drop, "_RUNTIME_SCOPE": drop, "_SYSTEMD_SLICE": drop, "_SYSTEMD_USER_SLICE": drop, "_SYSTEMD_INVOCATION_ID": drop,
	"_CAP_EFFECTIVE": drop, "CODE_FILE": drop, "CODE_LINE": drop, "CODE_FUNC": drop, "CONTAINER_ID": drop, "CONTAINER_PARTIAL_ORDINAL": drop, "_LINE_BREAK": drop,
}

var levels = [...]string{"emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"}

// own are the names of attributes that are given here; a field that has the same name in small letters is told by a prefix.
var own = map[string]bool{
	"level": true, "facility": true, "identifier": true, "unit": true, "about_unit": true, "carried_by": true, "time_received": true, "pieces": true, "last_piece": true,
	"message_offset": true,
	"unread_fields":  true, "fields_left_out": true, "not_in_index": true, "covered": true, "altered_fields": true, "altered_entry": true, "cut": true, "compression": true,
	"uid": true, "exe": true, "cmdline": true,
	"method": true, "key": true, "invalid_user": true, "tty": true, "pwd": true, "group": true, "as": true, "refused": true,
}

// writer makes events of entries.
type writer struct {
	in      *parse.Input
	emit    parse.Emit
	a       event.Attributes
	names   map[string]string // of attributes, by field
	seen    map[string]bool   // fields that are among the attributes
	columns map[string]bool   // fields that an event's columns have, beside those that always do
	pending []piece
}

func newWriter(in *parse.Input, emit parse.Emit) *writer {
	return &writer{in: in, emit: emit, names: map[string]string{}, seen: map[string]bool{}, columns: map[string]bool{}}
}

// write emits the entry's event, or keeps it when it is a piece of a line that goes on.
func (w *writer) write(e *entry) error {
	if e.get("CONTAINER_ID_FULL") != "" && len(w.pending)+len(e.get("CONTAINER_PARTIAL_MESSAGE")) > 0 {
		return w.join(e)
	}
	return w.event(e, nil)
}

// micros reads a time in microseconds since 1970. Those before 1970 or after 2242 are none.
func micros(s string) int64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > 1<<53 {
		return 0
	}
	return int64(n) * 1000
}

// event makes the event of an entry; p is not nil when it was joined.
func (w *writer) event(j *entry, p *piece) error {
	e := w.in.Base
	w.a.Reset()
	clear(w.columns)
	e.Offset, e.Length = j.offset, j.length
	e.TimeKind, e.Kind = event.Logged, event.LogLine
	w.times(&e, j)
	if e.Message = j.get("MESSAGE"); e.Message == "" {
		if e.Message = "An entry without a message"; j.unread > 0 {
			e.Message = "An entry whose message was not read"
		}
	}
	if h := j.get("_HOSTNAME"); h != "" {
		e.Node = h
	}
	identifier, comm := j.get("SYSLOG_IDENTIFIER"), j.get("_COMM")
	uid, exe, cmdline := j.get("_UID"), j.get("_EXE"), j.get("_CMDLINE")
	if id := j.get("CONTAINER_ID_FULL"); id != "" {
		e.ContainerID, e.Container = id, strings.TrimPrefix(j.get("CONTAINER_NAME"), "/")
		w.a.String("carried_by", comm)
	} else {
		if e.Process = comm; comm == "" {
			e.Process = identifier
		}
		e.PID = number(j.get("_PID"))
		e.User, e.Path, e.Cmdline = uid, exe, cmdline
		if id := j.get("_AUDIT_LOGINUID"); id != "4294967295" {
			e.Identity = id
		}
	}
	if identifier != e.Process {
		w.a.String("identifier", identifier)
	}
	w.levels(j)
	w.a.String("unit", j.get("_SYSTEMD_UNIT"))
	if u := j.get("UNIT"); u != "" {
		w.a.String("about_unit", u)
	} else {
		w.a.String("about_unit", j.get("USER_UNIT"))
	}
	w.known(&e, j)
	if e.ContainerID == "" {
		w.login(&e, uid, exe, cmdline)
	}
	w.extras(j)
	w.marks(j, p)
	e.Attributes = w.a.JSON()
	return w.emit(&e)
}

// login understands messages of sshd and sudo. What the journal says of the sender gives way to what the message says, and goes to the attributes.
func (w *writer) login(e *event.Event, uid, exe, cmdline string) {
	before := *e
	e.Message = strings.TrimLeft(e.Message, " ")
	e.User, e.Path, e.Cmdline = "", "", ""
	if !authlog.Interpret(e.Process, e, &w.a) {
		*e = before
		return
	}
	for _, c := range []struct {
		column    *string
		name, was string
	}{{&e.User, "uid", uid}, {&e.Path, "exe", exe}, {&e.Cmdline, "cmdline", cmdline}} {
		if *c.column == "" {
			*c.column = c.was
		} else if *c.column != c.was {
			w.a.String(c.name, c.was)
		}
	}
}

// times: the sender's time as the daemon saw it, else the time of receipt, which is told as well when it is another second.
func (w *writer) times(e *event.Event, j *entry) {
	var received int64
	if j.realtime <= 1<<53 {
		received = int64(j.realtime) * 1000
	}
	if e.Time = micros(j.get("_SOURCE_REALTIME_TIMESTAMP")); e.Time == 0 {
		e.Time = received
	} else if d := received - e.Time; received != 0 && (d > 1e9 || d < -1e9) {
		w.a.Int("time_received", received)
	}
}

func (w *writer) levels(j *entry) {
	if n, err := strconv.ParseUint(j.get("PRIORITY"), 10, 8); err == nil && n < uint64(len(levels)) {
		w.a.String("level", levels[n])
	}
	if n, err := strconv.ParseUint(j.get("SYSLOG_FACILITY"), 10, 8); err == nil {
		w.a.Int("facility", int64(n))
	}
}

// number is a process's, 0 when s is none.
func number(s string) int {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int(n)
}

// extras gives the fields that have no place of their own, under their names in small letters. The underscore of those that the daemon vouches for stays.
func (w *writer) extras(j *entry) {
	clear(w.seen)
	kept := 0
	for i := range j.fields {
		f := &j.fields[i]
		if places[f.name] != extra || f.value == "" || w.columns[f.name] {
			continue
		}
		if w.seen[f.name] || kept >= maxExtra {
			j.left++
			continue
		}
		w.seen[f.name] = true
		kept++
		v := f.value
		if f.cut {
			v += "…"
		}
		w.a.String(w.name(f.name), v)
	}
}

func (w *writer) name(field string) string {
	if n, ok := w.names[field]; ok {
		return n
	}
	n := strings.ToLower(field)
	if own[n] {
		n = "field_" + n
	}
	if len(w.names) >= 4096 {
		clear(w.names)
	}
	w.names[field] = n
	return n
}

func (w *writer) marks(j *entry, p *piece) {
	if j.message > 0 {
		w.a.Int("message_offset", j.message)
	}
	if p != nil {
		w.a.Int("pieces", int64(p.count))
		w.a.Int("last_piece", p.last)
	}
	if j.unread > 0 {
		w.a.Int("unread_fields", int64(j.unread))
	}
	if j.left > 0 {
		w.a.Int("fields_left_out", int64(j.left))
	}
	if j.unlisted {
		w.a.Bool("not_in_index", true)
	}
	if j.covered {
		w.a.Bool("covered", true)
	}
	cut, altered := j.cut, ""
	for i := range j.fields {
		f := &j.fields[i]
		cut = cut || f.cut && f.name == "MESSAGE"
		if f.altered && len(altered) < maxValue {
			altered += " " + f.name
		}
	}
	w.a.String("altered_fields", strings.TrimPrefix(altered, " "))
	if j.altered {
		w.a.Bool("altered_entry", true)
	}
	if cut {
		w.a.Bool("cut", true)
	}
}
