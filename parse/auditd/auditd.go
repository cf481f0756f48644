// Package auditd reads the log of the Linux audit daemon, raw and enriched. Records of one event share a serial number and may stand between those of
// others; they are joined into one event of the timeline.
//
// Specification: https://github.com/linux-audit/audit-documentation/wiki/SPEC-Audit-Event-Enrichment and the field dictionary beside it
//
// A record of the kernel's proves that a process made this call at this time with these credentials and what the kernel answered. It does not prove what lies behind
// a path that another process could change meanwhile, and text in records of user space (USER_*) is the word of the process that sent it. Records that the rules do
// not ask for, and those lost under load, are missing.
package auditd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
)

// Format is auditd's log.
var Format = parse.Format{
	Name:  "auditd",
	Title: "Linux audit log",
	Spec:  "https://github.com/linux-audit/audit-documentation/wiki",
	Sniff: sniff,
	Read:  read,
}

const (
	// maxOpen bounds the events that wait for further records, and maxAge how many records later one is taken as whole: the daemon writes the records
	// of an event close together.
	maxOpen    = 256
	maxAge     = 512
	maxRecords = 64       // of one event
	maxMessage = 8 << 10  // of an event's text
	maxValue   = 16 << 10 // of one field
	separator  = 0x1d     // before the enriched fields
)

func sniff(head []byte) parse.Confidence {
	good, lines := 0, 0
	for lines < 16 {
		line, rest, more := bytes.Cut(head, []byte("\n"))
		if len(bytes.TrimSpace(line)) > 0 {
			lines++
			if _, ok := head1(line); ok {
				good++
			}
		}
		if head = rest; !more {
			break
		}
	}
	if good > 0 && good*2 >= lines {
		return parse.Certain
	}
	return parse.No
}

// record is one line.
type record struct {
	typ    string
	node   string
	at     int64
	serial uint64
	body   []byte // fields, the enriched ones behind the separator
}

// head1 reads "[node=N ]type=T msg=audit(SECONDS.MS:SERIAL): ".
func head1(line []byte) (r record, ok bool) {
	if rest, ok := bytes.CutPrefix(line, []byte("node=")); ok {
		node, after, ok := bytes.Cut(rest, []byte(" "))
		if !ok {
			return r, false
		}
		r.node, line = string(node), after
	}
	rest, ok := bytes.CutPrefix(line, []byte("type="))
	if !ok {
		return r, false
	}
	typ, rest, ok := bytes.Cut(rest, []byte(" msg=audit("))
	if !ok || len(typ) == 0 || len(typ) > 40 {
		return r, false
	}
	stamp, _, ok := bytes.Cut(rest[:min(len(rest), 64)], []byte(")"))
	if !ok {
		return r, false
	}
	body := rest[len(stamp)+1:]
	secs, serial, ok := bytes.Cut(stamp, []byte(":"))
	if !ok {
		return r, false
	}
	whole, frac, _ := bytes.Cut(secs, []byte("."))
	s, err1 := strconv.ParseInt(string(whole), 10, 64)
	n, err2 := strconv.ParseUint(string(serial), 10, 64)
	if err1 != nil || err2 != nil || s < 0 || s > 9_000_000_000 {
		return r, false
	}
	r.at = s * 1e9
	if f, err := strconv.ParseInt(string(frac), 10, 64); err == nil && len(frac) == 3 {
		r.at += f * 1e6
	}
	r.typ, r.serial = string(typ), n
	r.body = bytes.TrimPrefix(bytes.TrimPrefix(body, []byte(":")), []byte(" "))
	return r, true
}

// group is an event whose records are collected.
type group struct {
	record
	from, to int64 // bytes of the log, records of others between them included
	last     int   // number of its last record
	types    []string
	fields   map[string]string // of the first record that has it; not PATH's
	names    map[string]string // enriched
	paths    []map[string]string
	args     map[int]string
}

type key struct {
	node   string
	serial uint64
	at     int64
}

type reader struct {
	in    *parse.Input
	emit  parse.Emit
	open  map[key]*group
	order []key
	n     int
	attrs event.Attributes
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	r := &reader{in: in, emit: emit, open: map[key]*group{}}
	for l, err := range in.Lines() {
		if err != nil {
			return err
		}
		if r.n++; r.n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line := bytes.TrimLeft(l.Data, "\x00")
		if len(bytes.TrimSpace(line)) == 0 {
			if len(line) < len(l.Data) {
				in.Skip(l.Offset, l.Length, "zero bytes")
			}
			continue
		}
		rec, ok := head1(line)
		if !ok {
			in.Skip(l.Offset, l.Length, "not a record of the audit daemon")
			continue
		}
		if err := r.add(rec, l); err != nil {
			return err
		}
	}
	for len(r.order) > 0 {
		if err := r.flush(); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) add(rec record, l parse.Line) error {
	k := key{rec.node, rec.serial, rec.at}
	g := r.open[k]
	if g == nil {
		for len(r.order) >= maxOpen || len(r.order) > 0 && r.n-r.open[r.order[0]].last > maxAge {
			if err := r.flush(); err != nil {
				return err
			}
		}
		g = &group{record: rec, from: l.Offset, fields: map[string]string{}, names: map[string]string{}}
		g.body = nil
		r.open[k] = g
		r.order = append(r.order, k)
	}
	g.to, g.last = l.Offset+l.Length, r.n
	if len(g.types) < maxRecords {
		g.take(rec)
	}
	if rec.typ != "EOE" {
		return nil
	}
	return r.end(k)
}

func (r *reader) flush() error { return r.end(r.order[0]) }

func (r *reader) end(k key) error {
	g := r.open[k]
	delete(r.open, k)
	for i := range r.order {
		if r.order[i] == k {
			r.order = append(r.order[:i], r.order[i+1:]...)
			break
		}
	}
	if len(g.types) == 0 {
		return nil
	}
	e := r.in.Base
	g.fill(&e, &r.attrs)
	e.Attributes = r.attrs.JSON()
	return r.emit(&e)
}

// take adds a record's fields.
func (g *group) take(rec record) {
	if rec.typ == "EOE" {
		return
	}
	g.types = append(g.types, rec.typ)
	raw, enriched, _ := bytes.Cut(rec.body, []byte{separator})
	into := g.fields
	switch rec.typ {
	case "PATH":
		into = map[string]string{}
		g.paths = append(g.paths, into)
	case "EXECVE":
		if g.args == nil {
			g.args = map[int]string{}
		}
	}
	fields(string(raw), func(name, value string, quoted bool) {
		if rec.typ == "EXECVE" && len(name) > 1 && name[0] == 'a' {
			if i, err := strconv.Atoi(name[1:]); err == nil && i < 1024 {
				g.args[i] = decode(value, quoted)
				return
			}
		}
		if encoded[name] {
			value = decode(value, quoted)
		}
		if _, ok := into[name]; !ok && len(into) < 256 {
			into[name] = value
		}
	})
	fields(string(enriched), func(name, value string, _ bool) {
		if _, ok := g.names[name]; !ok && len(g.names) < 256 {
			g.names[name] = value
		}
	})
}

// encoded are fields that the kernel writes in hexadecimal when they hold other than plain characters.
var encoded = map[string]bool{"name": true, "exe": true, "comm": true, "cwd": true, "proctitle": true, "cmd": true, "acct": true, "data": true, "key": true, "path": true}

// decode undoes that; a text in quotes is as it stands.
func decode(s string, quoted bool) string {
	if quoted || len(s) < 2 || len(s)%2 != 0 || strings.Trim(s, "0123456789ABCDEF") != "" {
		return s
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return s
	}
	return string(b)
}

// fields gives name=value pairs, values in double or single quotes without them. What stands in msg='…' of records from user space is given as well.
func fields(s string, fn func(name, value string, quoted bool)) {
	for range 512 {
		s = strings.TrimLeft(s, " \t,")
		eq := strings.IndexAny(s, "= ")
		if eq < 0 {
			return
		}
		if s[eq] == ' ' { // a word that is no pair
			s = s[eq+1:]
			continue
		}
		name := s[:eq]
		s = s[eq+1:]
		value, quoted := "", false
		switch {
		case strings.HasPrefix(s, `"`):
			quoted = true
			end := strings.IndexByte(s[1:], '"')
			if end < 0 {
				value, s = s[1:], ""
			} else {
				value, s = s[1:1+end], s[end+2:]
			}
		case strings.HasPrefix(s, "'"):
			end := strings.LastIndexByte(s, '\'')
			if end == 0 {
				end = len(s)
			}
			fields(s[1:end], fn)
			s = s[min(end+1, len(s)):]
			continue
		default:
			value, s, _ = strings.Cut(s, " ")
		}
		fn(name, value[:min(len(value), maxValue)], quoted)
	}
}

// fill makes the event.
func (g *group) fill(e *event.Event, a *event.Attributes) {
	a.Reset()
	f := g.fields
	e.Time, e.TimeKind = g.at, event.Logged
	e.Offset, e.Length = g.from, g.to-g.from
	if g.node != "" {
		e.Node = g.node
	}
	e.PID, e.PPID = number(f["pid"]), number(f["ppid"])
	e.Process, e.Path = f["comm"], f["exe"]
	e.User = cmp.Or(g.names["UID"], f["uid"])
	if who := cmp.Or(g.names["AUID"], f["auid"]); who != "4294967295" && who != "unset" {
		e.Identity = who
	}
	a.String("type", strings.Join(g.unique(), ","))
	a.Int("serial", int64(g.serial&(1<<63-1)))
	call := cmp.Or(g.names["SYSCALL"], f["syscall"])
	for _, x := range [][2]string{{"syscall", call}, {"success", f["success"]}, {"exit", f["exit"]}, {"key", f["key"]}, {"cwd", f["cwd"]}, {"euid", f["euid"]}, {"tty", f["tty"]},
		{"ses", f["ses"]}, {"op", f["op"]}, {"result", f["res"]}, {"terminal", f["terminal"]}, {"sig", f["sig"]}, {"subj", f["subj"]}} {
		if x[1] != "4294967295" && x[1] != "(none)" && x[1] != "(null)" && x[1] != "?" && x[1] != "unconfined" {
			a.String(x[0], x[1])
		}
	}
	e.Cmdline = g.command()
	a.Raw("args", g.list())
	g.kind(e, call, a)
	if len(g.paths) > 0 {
		var all []string
		for _, p := range g.paths {
			all = append(all, p["name"])
		}
		a.String("paths", strings.Join(all, " ")[:min(len(strings.Join(all, " ")), maxMessage)])
	}
}

// unique are the types of the records, each once.
func (g *group) unique() []string {
	var out []string
	for i, t := range g.types {
		if i == 0 || t != g.types[i-1] {
			out = append(out, t)
		}
	}
	return out
}

// maxArgs bounds the arguments that are kept one by one; the command line has them all.
const maxArgs = 10

// list is the first arguments as a list of JSON, since the command line does not say where one ends.
func (g *group) list() []byte {
	var args []string
	for i := 0; i < min(len(g.args), maxArgs); i++ {
		args = append(args, g.args[i][:min(len(g.args[i]), 1024)])
	}
	if args == nil {
		return nil
	}
	b, err := json.Marshal(args)
	if err != nil {
		return nil
	}
	return b
}

func (g *group) command() string {
	if len(g.args) > 0 {
		var b strings.Builder
		for i := 0; i < len(g.args); i++ {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(g.args[i])
		}
		return b.String()
	}
	return strings.ReplaceAll(cmp.Or(g.fields["proctitle"], g.fields["cmd"]), "\x00", " ")
}

func number(s string) int {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int(n)
}

// kind says what happened, and the sentence.
func (g *group) kind(e *event.Event, call string, a *event.Attributes) {
	f := g.fields
	e.Kind = event.Syscall
	by := cmp.Or(e.Process, e.Path, "a process")
	failed := f["success"] == "no" || f["res"] == "failed" || f["res"] == "0"
	var object string
	for _, p := range g.paths {
		if t := p["nametype"]; t == "CREATE" || t == "DELETE" || t == "NORMAL" {
			object = p["name"]
			if t != "NORMAL" {
				break
			}
		}
	}
	if object != "" && !strings.HasPrefix(object, "/") && f["cwd"] != "" {
		object = strings.TrimSuffix(f["cwd"], "/") + "/" + object
	}
	switch t := g.types[0]; {
	case g.args != nil:
		e.Kind = event.ProcessStarted
		e.Message = by + " started: " + e.Cmdline
	case f["saddr"] != "":
		g.address(e, a)
		e.Message = by + " connected to " + e.DstIP + ":" + strconv.Itoa(e.DstPort)
		if e.DstIP == "" {
			e.Message = by + " used a socket"
		}
	case object != "" && t == "SYSCALL":
		e.Kind = event.FileOpened
		for _, p := range g.paths {
			switch p["nametype"] {
			case "CREATE":
				e.Kind = event.FileCreated
			case "DELETE":
				e.Kind = event.FileDeleted
			}
		}
		a.String("exe", e.Path)
		e.Path = object
		e.Message = by + " " + cmp.Or(call, "used") + " " + object
	case t == "SECCOMP":
		e.Message = by + " was stopped by seccomp in call " + call
	case t == "AVC":
		e.Message = "AVC: " + strings.TrimSpace(g.describe())
	case strings.HasPrefix(t, "USER_") || strings.HasPrefix(t, "CRED_") || t == "LOGIN" || strings.HasPrefix(t, "ADD_") || strings.HasPrefix(t, "DEL_") || t == "ACCT_LOCK":
		g.account(e, t, failed)
	default:
		e.Message = strings.Join(g.unique(), ", ") + " by " + by
		if call != "" {
			e.Message = by + " called " + call
		}
	}
	if failed && e.Kind != event.LoginFailed {
		e.Message += " (failed)"
	}
	e.Message = e.Message[:min(len(e.Message), maxMessage)]
}

func (g *group) describe() string {
	return cmp.Or(g.fields["apparmor"], cmp.Or(g.fields["scontext"], g.fields["comm"])) + " " + g.fields["name"]
}

// account is for records of logins, sessions and accounts.
func (g *group) account(e *event.Event, t string, failed bool) {
	f := g.fields
	e.User = cmp.Or(f["acct"], cmp.Or(f["id"], e.User))
	if a, err := netip.ParseAddr(f["addr"]); err == nil {
		e.SrcIP = a.String()
	}
	e.Kind = event.LogLine
	switch {
	case t == "USER_CMD":
		e.Kind = event.Sudo
	case failed && (t == "USER_AUTH" || t == "USER_LOGIN"):
		e.Kind = event.LoginFailed
	case t == "USER_LOGIN" || t == "USER_START" || t == "LOGIN":
		e.Kind = event.Login
	case t == "USER_END" || t == "USER_LOGOUT":
		e.Kind = event.Logout
	case strings.HasPrefix(t, "ADD_") || strings.HasPrefix(t, "DEL_") || strings.HasPrefix(t, "USER_CH") || t == "ACCT_LOCK" || t == "USER_MGMT":
		e.Kind = event.AuthChanged
	}
	e.Message = t
	if e.User != "" {
		e.Message += " of " + e.User
	}
	if f["op"] != "" {
		e.Message += ", " + f["op"]
	}
	if e.SrcIP != "" {
		e.Message += " from " + e.SrcIP
	}
	if e.Cmdline != "" {
		e.Message += ": " + e.Cmdline
	}
}

// address reads a socket's address, a struct sockaddr in hexadecimal.
func (g *group) address(e *event.Event, a *event.Attributes) {
	b, err := hex.DecodeString(g.fields["saddr"])
	if err != nil || len(b) < 2 {
		a.String("saddr", g.fields["saddr"])
		return
	}
	switch family := int(b[0]) | int(b[1])<<8; {
	case family == 2 && len(b) >= 8:
		e.DstPort, e.DstIP = int(b[2])<<8|int(b[3]), netip.AddrFrom4([4]byte(b[4:8])).String()
		e.Kind = event.NetConnected
	case family == 10 && len(b) >= 24:
		e.DstPort, e.DstIP = int(b[2])<<8|int(b[3]), netip.AddrFrom16([16]byte(b[8:24])).String()
		e.Kind = event.NetConnected
	case family == 1:
		a.String("socket", string(bytes.TrimRight(b[2:min(len(b), 110)], "\x00")))
	default:
		a.Int("family", int64(family))
	}
}
