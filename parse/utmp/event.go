package utmp

import (
	"path"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
)

// maxOpen bounds the terminals whose last login is remembered.
const maxOpen = 4096

// opened is what began at a terminal and has not ended yet.
type opened struct {
	user    string
	login   bool // of a user, not of the program that waits for one
	seconds int64
	offset  int64
}

// writer makes events of records.
type writer struct {
	in       *parse.Input
	emit     parse.Emit
	layout   layout
	open     map[string]opened // by line
	failures bool              // the file's name says that it has failed logins alone
	a        event.Attributes
}

// failures reports whether the artifact is named as the file of failed logins is: btmp, btmp.1, btmp-20261124.gz.
func failures(artifact string) bool {
	return strings.HasPrefix(path.Base(artifact), "btmp")
}

func (w *writer) record(b []byte, offset int64) error {
	if zeros(b) {
		w.in.Skip(offset, int64(len(b)), "a record of zeros: never used in utmp, wiped in wtmp or btmp")
		return nil
	}
	r := w.layout.decode(b)
	r.offset, r.length = offset, int64(len(b))
	e := w.in.Base
	e.Offset, e.Length = r.offset, r.length
	e.TimeKind, e.Kind = event.Logged, event.LogLine
	if r.seconds > 0 && r.seconds < 1<<33 {
		e.Time = r.seconds*1e9 + r.micros*1e3
	}
	w.a.Reset()
	w.fill(&e, &r)
	w.a.String("type", name(r.kind))
	if r.kind >= typeInit {
		w.a.String("line", r.line)
		w.a.String("terminal_id", r.id)
		if r.session != 0 {
			w.a.Int("session", r.session)
		}
		e.PID = int(max(0, r.pid))
		e.SrcIP = r.peer()
		if r.host != e.SrcIP {
			w.a.String("host", r.host)
		}
	}
	if r.kind == typeDead && (r.termination != 0 || r.exit != 0) {
		w.a.Int("exit_signal", int64(r.termination))
		w.a.Int("exit_status", int64(r.exit))
	}
	// A wiper that overwrites only the beginning of a text leaves the rest; so do careless programs.
	if r.residue {
		w.a.Bool("bytes_after_text", true)
	}
	e.Attributes = w.a.JSON()
	return w.emit(&e)
}

func name(kind int) string {
	return [...]string{"EMPTY", "RUN_LVL", "BOOT_TIME", "NEW_TIME", "OLD_TIME", "INIT_PROCESS", "LOGIN_PROCESS", "USER_PROCESS", "DEAD_PROCESS", "ACCOUNTING"}[kind]
}

// fill says what happened.
func (w *writer) fill(e *event.Event, r *record) {
	switch r.kind {
	case typeRunLevel:
		w.runLevel(e, r)
	case typeBoot:
		e.Kind, e.Message = event.SystemBooted, "The system booted"
		w.kernel(r)
		clear(w.open) // whatever was open ended without saying so
	case typeOldTime, typeNewTime:
		e.Message = "The clock was set: this is the time before"
		if r.kind == typeNewTime {
			e.Message = "The clock was set: this is the time after"
		}
	case typeInit:
		e.Kind, e.Message = event.ProcessStarted, "init started a process for "+place(r)
		w.begin(r, false)
	case typeLogin:
		if r.user == "LOGIN" || r.user == "" && !w.failures {
			e.Message = "A login program waits at " + place(r)
			w.begin(r, false)
			return
		}
		w.failed(e, r)
	case typeUser:
		if w.failures {
			w.failed(e, r)
			w.a.String("judged_by", "the name of the file")
			return
		}
		e.Kind, e.User = event.Login, r.user
		e.Message = who(r.user) + " logged in at " + place(r) + from(r)
		w.begin(r, true)
	case typeDead:
		w.dead(e, r)
	default:
		e.User = r.user
		e.Message = "A record of the type " + name(r.kind) + " for " + place(r)
	}
}

func (w *writer) failed(e *event.Event, r *record) {
	e.Kind, e.User = event.LoginFailed, r.user
	e.Message = who(r.user) + " failed to log in at " + place(r) + from(r)
	if strings.HasPrefix(r.line, "ssh") {
		e.Protocol = "ssh"
	}
}

// runLevel: the pid holds the level as a character, and the one before times 256.
func (w *writer) runLevel(e *event.Event, r *record) {
	w.kernel(r)
	if r.user == "shutdown" {
		e.Kind, e.Message = event.SystemStopped, "The system was shut down"
		clear(w.open)
		return
	}
	e.Kind, e.Message = event.ServiceState, "The run level changed"
	now, before := byte(r.pid), byte(r.pid>>8)
	if now > ' ' && now < 0x7f {
		e.Message += " to " + string(now)
		w.a.String("run_level", string(now))
	}
	if before > ' ' && before < 0x7f {
		w.a.String("run_level_before", string(before))
	}
}

// kernel keeps what stands in place of a host's name in records of the system itself.
func (w *writer) kernel(r *record) { w.a.String("kernel", r.host) }

// begin remembers what runs at a terminal, to tell who it was when it ends.
func (w *writer) begin(r *record, login bool) {
	if r.line == "" {
		return
	}
	if _, ok := w.open[r.line]; !ok && len(w.open) >= maxOpen {
		return
	}
	w.open[r.line] = opened{r.user, login, r.seconds, r.offset}
}

// dead: the end of a session in wtmp has no name; the last login at its terminal has.
func (w *writer) dead(e *event.Event, r *record) {
	o, known := w.open[r.line]
	delete(w.open, r.line)
	switch {
	case known && !o.login:
		e.Kind, e.Message = event.ProcessExited, "A process that init had started for "+place(r)+" ended"
		return
	case known:
		e.Kind, e.User = event.Logout, o.user
		w.a.Int("login_offset", o.offset)
		if d := r.seconds - o.seconds; d >= 0 {
			w.a.Int("session_seconds", d)
		}
	case r.user != "":
		e.User = r.user
	}
	e.Kind = event.Logout
	if e.User != "" {
		e.Message = who(e.User) + " logged out at " + place(r)
	} else {
		e.Message = "A session at " + place(r) + " ended; its login is not in this file"
	}
}

func who(user string) string {
	if user == "" {
		return "A user without a name"
	}
	return user
}

func place(r *record) string {
	switch {
	case r.line != "":
		return r.line
	case r.id != "":
		return "the terminal " + strconv.Quote(r.id)
	}
	return "no terminal"
}

func from(r *record) string {
	peer := r.peer()
	switch {
	case peer == "" && r.host == "":
		return ""
	case peer == "" || peer == r.host:
		return " from " + r.host
	case r.host == "":
		return " from " + peer
	}
	return " from " + r.host + " (" + peer + ")"
}
