package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
	formats "github.com/sherd-forensics/sherd/parse"
)

// Parser is the name of this parser in events.
const Parser = "process"

// maxCommand bounds the command line in an event, in bytes before escaping; the row has the whole.
const maxCommand = 64 << 10

// attributes is what has no column of its own.
type attributes struct {
	ContainerPID int         `json:"container_pid,omitempty"`
	StartTicks   uint64      `json:"start_ticks"`
	State        string      `json:"state,omitempty"`
	Relation     string      `json:"relation,omitempty"`
	Origin       string      `json:"origin"`
	Deleted      bool        `json:"deleted,omitempty"`
	EUID         uint32      `json:"euid"`
	GID          uint32      `json:"gid"`
	CapEff       string      `json:"cap_eff"` // hexadecimal, as in status
	TracerPID    int         `json:"tracer_pid,omitempty"`
	Cwd          record.Name `json:"cwd,omitempty"`
	// Parent and ParentCommand are of the process that had the parent's number at the capture.
	Parent        record.Name `json:"parent,omitempty"`
	ParentCommand record.Name `json:"parent_cmdline,omitempty"`
	Errors        []string    `json:"errors,omitempty"`
}

// Events emits process.started for each process, at its start time. User is the real uid in decimal, as the host
// numbers it. Process, Cmdline and Path are escaped as record.Name is; the arguments stand between single spaces, so that the
// row must be asked where one ends. A process whose start time is unknown has no event, and malformed lines are passed
// over: Read gives both.
func Events(p *evidence.Package, skip func(formats.Skip), emit func(event.Event) error) error {
	parents := map[int]parent{}
	for r, err := range Read(p) {
		if err == nil && len(parents) < maxParents {
			cmd, _ := command(r.Cmdline)
			parents[r.PID] = parent{r.Exe.Path, record.Name(cmd[:min(len(cmd), maxParentCommand)])}
		}
	}
	for r, err := range Read(p) {
		if err != nil {
			if bad := (*LineError)(nil); errors.As(err, &bad) {
				skip(bad.Skip())
				continue
			}
			return err
		}
		if r.StartTime == 0 {
			continue
		}
		e, err := started(&r, parents[r.PPID])
		if err != nil {
			return err
		}
		e.EvidenceID = p.ID()
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}

// parent is what is told of a process's parent.
type parent struct{ exe, command record.Name }

// Bounds of what is remembered of parents.
const (
	maxParents       = 1 << 17
	maxParentCommand = 1 << 10
)

func started(r *Row, by parent) (event.Event, error) {
	cmd, cut := command(r.Cmdline)
	e := event.Event{
		Time: r.StartTime, TimeKind: event.Started, Kind: event.ProcessStarted, PID: r.PID, PPID: r.PPID,
		Process: record.Escape(string(r.Comm)), Cmdline: record.Escape(cmd), Path: record.Escape(string(r.Exe.Path)),
		SHA256: r.Exe.SHA256, Size: max(r.Exe.Size, 0), Parser: Parser,
		Artifact: r.Cite.Artifact, Offset: r.Cite.Offset, Length: r.Cite.Length,
	}
	if cut {
		e.Cmdline += "…"
	}
	// A row of a process that ended before it was read has no credentials, and the zero there is not root.
	if r.State != "" {
		e.User = strconv.FormatUint(uint64(r.UID), 10)
	}
	e.Message = message(r, cmd)
	b, err := json.Marshal(attributes{
		ContainerPID: r.ContainerPID, StartTicks: r.StartTicks, State: r.State, Relation: r.Relation, Origin: r.Exe.Origin,
		Deleted: r.Exe.Deleted, EUID: r.EUID, GID: r.GID, CapEff: fmt.Sprintf("%016x", r.CapEff), TracerPID: r.TracerPID,
		Cwd: r.Cwd, Parent: by.exe, ParentCommand: by.command, Errors: r.Errors,
	})
	if err != nil {
		return e, fmt.Errorf("attributes of process %d: %w", r.PID, err)
	}
	e.Attributes = b
	return e, nil
}

// message says what the process ran when it was captured: that need not be what it started as.
func message(r *Row, cmd string) string {
	const shown = 200
	s := fmt.Sprintf("process %d started; ", r.PID)
	exe, comm := printable.Clip(string(r.Exe.Path), shown), printable.Clip(string(r.Comm), shown)
	switch {
	case exe != "":
		s += "it runs " + exe
		if r.Exe.Deleted && r.Exe.Origin != record.ExeMemfd {
			s += ", deleted since"
		}
	case r.State == "Z":
		s += "it has ended and was named " + comm
	case comm != "":
		s += "it is named " + comm
	default:
		s += "it was gone before it was read"
	}
	if cmd != "" && cmd != string(r.Exe.Path) {
		s += ": " + printable.Clip(cmd, shown)
	}
	return s
}

// command joins the arguments, at most maxCommand bytes of them.
func command(args []record.Name) (s string, cut bool) {
	var b strings.Builder
	for i, a := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		if b.Len()+len(a) > maxCommand {
			b.WriteString(string(a[:max(maxCommand-b.Len(), 0)]))
			return b.String(), true
		}
		b.WriteString(string(a))
	}
	return b.String(), false
}
