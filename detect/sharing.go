package detect

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/verdict"
)

// Sharer is a process of somebody else that shares the container's pid or network namespace.
type Sharer struct {
	record.Sharer
	Cite verdict.Citation
}

// maxSharers bounds what is read of them; the collector lists no more.
const maxSharers = 1024

func (f *Facts) loadSharers(p *evidence.Package) {
	bad := 0
	for r, c := range rows[record.Sharer](p, "process/sharing.jsonl", &bad) {
		if len(f.Sharers) >= maxSharers {
			break
		}
		f.Sharers = append(f.Sharers, Sharer{r, c})
	}
}

// Sharer returns the sharing process of a pid, as the collector's /proc numbers it; nil if there is none.
func (f *Facts) Sharer(pid int) *Sharer {
	for i := range f.Sharers {
		if f.Sharers[i].PID == pid {
			return &f.Sharers[i]
		}
	}
	return nil
}

// containerID matches the last part of a control group's path as runtimes make it of a container's id: bare, or docker-ID.scope.
var containerID = regexp.MustCompile(`^(?:[a-z-]+-)?([0-9a-f]{64})(?:[.]scope)?$`)

// Whose is the id of the container that a sharer belongs to by its control group, or the last part of that group's path where a runtime uses
// names; "" if its group tells nothing.
func (s *Sharer) Whose() string {
	name := ""
	for line := range strings.Lines(s.Cgroup) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 || parts[2] == "/" {
			continue
		}
		base := path.Base(parts[2])
		if m := containerID.FindStringSubmatch(base); m != nil {
			return m[1]
		}
		if name == "" && !strings.HasSuffix(base, ".slice") && !strings.HasSuffix(base, ".service") && base != "." {
			name = base
		}
	}
	return name
}

// DescribeSharer names it for a statement: process 31 "gdb" of another container (0123456789ab).
func DescribeSharer(s *Sharer) string {
	n := s.ContainerPID
	if !s.in("pid") || n == 0 {
		n = s.PID
	}
	who := "process " + itoa(n) + ` "` + printable.Clip(string(s.Comm), 40) + `" of another container`
	if id := s.Whose(); id != "" {
		who += " (" + printable.Clip(clipID(id), 40) + ")"
	}
	return who
}

// clipID shortens a container's id as people write it.
func clipID(id string) string {
	if len(id) == 64 {
		return id[:12]
	}
	return id
}

func (s *Sharer) in(namespace string) bool { return slices.Contains(s.Shares, namespace) }

// InMemory reports whether it has the memory or environment of one of the container's processes in its hands; of is that process as the
// namespace numbers it, 0 for any.
func (s *Sharer) InMemory(of int, writable bool) bool {
	return slices.ContainsFunc(s.Holds, func(h record.Hold) bool {
		return (h.Part == "mem" || h.Part == "environ" && !writable) && (h.Writable || !writable) && (of == 0 || h.Of == of)
	})
}

func sharingRules() []Rule {
	return []Rule{{
		ID: "sharing-reaches-in", Title: "A process of another container has this one in its hands", Severity: verdict.High, Technique: "T1055",
		Rationale: "Who shares a pid namespace can open the memory, environment and files of its other processes. A debug container of an intruder's does what an operator's does, " +
			"and then takes what it found away or changes what runs.",
		FalseAlarms: "Debuggers and profilers hold memory and look at files: that alone is low. It weighs where code in the memory that is held for writing is not its file's, or where who holds memory for " +
			"writing, or came long after the start, speaks with a peer that nothing explains. Sidecars that hold nothing are not told of.",
		Needs: []Fact{Processes}, check: reachesIn,
	}}
}

func reachesIn(f *Facts, a *Answer) {
	for i := range f.Sharers {
		s := &f.Sharers[i]
		if !s.in("pid") || len(s.Holds) == 0 && f.traces(s) == nil {
			continue
		}
		fd := Finding{PID: s.PID, Path: string(s.Exe), When: 0, Finding: verdict.Finding{Severity: verdict.Low, Citations: []verdict.Citation{s.Cite}}}
		fd.Statement = DescribeSharer(s) + " shares the pid namespace and " + f.holding(s)
		if p := f.rewritten(s); p != nil {
			fd.Severity, fd.Foreign, fd.When = verdict.High, true, s.StartTime
			fd.Statement += "; code in the memory of " + Describe(p) + " is not its file's"
			fd.Citations = append(fd.Citations, p.Cite)
		}
		if c := f.unexplainedOf(s); c != nil && (s.InMemory(0, true) || f.settled(s.StartTime)) {
			if fd.Severity == verdict.Low {
				fd.Severity = verdict.Medium
			}
			fd.Foreign, fd.Peer, fd.When = true, Peer(c.RemoteIP, c.RemotePort), s.StartTime
			fd.Statement += fmt.Sprintf("; it has a connection with %s, which nothing explains%s", fd.Peer, traffic(c))
			fd.Citations = append(fd.Citations, c.Cite)
		}
		a.hit(fd)
	}
}

// holding says in words what a sharer holds.
func (f *Facts) holding(s *Sharer) string {
	var words []string
	if p := f.traces(s); p != nil {
		words = append(words, "traces "+Describe(p))
	}
	for _, h := range s.Holds {
		w := ""
		switch h.Part {
		case "file", "folder":
			w = h.Part + " " + say(h.Target) + " of this container's root"
		default:
			w = "the " + h.Part + " of process " + itoa(h.Of)
		}
		if h.Writable {
			w += " for writing"
		}
		if w = "holds " + w; !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	if len(words) > 4 {
		words = append(words[:4], "more")
	}
	return strings.Join(words, ", ")
}

// traces is the process of the container that a sharer traces, nil if none.
func (f *Facts) traces(s *Sharer) *Process {
	for i := range f.Processes {
		if f.Processes[i].TracerPID == s.PID {
			return &f.Processes[i]
		}
	}
	return nil
}

// rewritten is a process whose code differs from its file's and that a sharer traces or holds the memory of for writing.
func (f *Facts) rewritten(s *Sharer) *Process {
	for i := range f.Processes {
		p := &f.Processes[i]
		if (p.TracerPID == s.PID || p.ContainerPID != 0 && s.InMemory(p.ContainerPID, true)) && f.overwritten(p) {
			return p
		}
	}
	return nil
}

// overwritten reports whether code in a process's memory is not its file's by more than breakpoints.
func (f *Facts) overwritten(p *Process) bool {
	for j := range p.Maps {
		for _, c := range p.Maps[j].Changed {
			if c.DiffBytes <= 0 {
				continue
			}
			if only, known := f.onlyTraps(p, c); known && !only || !known && c.DiffBytes > maxProbes*max(c.Length>>12, 1) {
				return true
			}
		}
	}
	return false
}

// unexplainedOf is a connection of a sharer's, seen in the network namespace that it shares, with a peer that neither a known service's port
// nor this container's settings explain; nil if there is none.
func (f *Facts) unexplainedOf(s *Sharer) *Socket {
	for i := range f.Sockets {
		c := &f.Sockets[i]
		if Remote(c) && !f.Inbound(c) && !services[c.RemotePort] && !f.named(c) && slices.ContainsFunc(c.Others, func(o record.Owner) bool { return o.PID == s.PID }) {
			return c
		}
	}
	return nil
}
