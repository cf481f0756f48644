package behaviour

import (
	"fmt"
	"slices"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/verdict"
)

// ranging is what a rule can range over: each combination of objects of these kinds is asked.
type ranging struct {
	name  string
	about string
	kinds []*kind // its variables bear their names
	needs []detect.Fact
	// each calls yield with objects of these kinds, as the fields of the kinds expect them, until that says no.
	each func(w *world, yield func(...any) bool)
	// note tells for all combinations that can't be had what is missing.
	note func(w *world, a *detect.Answer)
}

// ranges are all of them; events are read by whoever asks, since there may be many.
var ranges = []*ranging{
	{
		name: "process", about: "each process", kinds: []*kind{processKind}, needs: []detect.Fact{detect.Processes},
		each: func(w *world, yield func(...any) bool) {
			for i := range w.f.Processes {
				if !yield(&w.f.Processes[i]) {
					return
				}
			}
		},
	},
	{
		name: "process+descriptor", about: "each open file with the process that has it open", kinds: []*kind{descriptorKind, processKind}, needs: []detect.Fact{detect.Processes},
		each: func(w *world, yield func(...any) bool) {
			for i := range w.f.Processes {
				for j := range w.f.Processes[i].FDs {
					if !yield(&descriptor{&w.f.Processes[i].FDs[j], &w.f.Processes[i]}, &w.f.Processes[i]) {
						return
					}
				}
			}
		},
		note: func(w *world, a *detect.Answer) {
			for i := range w.f.Processes {
				p := &w.f.Processes[i]
				for _, e := range p.Errors {
					if len(e) > 4 && e[:4] == "fd: " {
						a.BlindTo("open files of "+detect.Describe(p), e[4:])
					}
				}
			}
		},
	},
	{
		name: "process+mapping", about: "each memory mapping with its process", kinds: []*kind{mappingKind, processKind}, needs: []detect.Fact{detect.Processes, detect.Memory},
		each: func(w *world, yield func(...any) bool) {
			for i := range w.f.Processes {
				for j := range w.f.Processes[i].Maps {
					if !yield(&mapping{&w.f.Processes[i].Maps[j], &w.f.Processes[i]}, &w.f.Processes[i]) {
						return
					}
				}
			}
		},
		note: func(w *world, a *detect.Answer) {
			noteProcesses(w, a, "memory of ", "its mappings were not collected", func(p *detect.Process) bool { return p.HasMaps })
		},
	},
	{
		name: "process+variable", about: "each environment variable with its process", kinds: []*kind{variableKind, processKind}, needs: []detect.Fact{detect.Processes, detect.Environments},
		each: func(w *world, yield func(...any) bool) {
			for i := range w.f.Processes {
				for j := range w.f.Processes[i].Env {
					if !yield(&variable{&w.f.Processes[i].Env[j], &w.f.Processes[i]}, &w.f.Processes[i]) {
						return
					}
				}
			}
		},
		note: func(w *world, a *detect.Answer) {
			noteProcesses(w, a, "environment of ", "it was not collected", func(p *detect.Process) bool { return p.HasEnv })
		},
	},
	{
		name: "process+socket", about: "each socket with each process of the container that holds it", kinds: []*kind{socketKind, processKind}, needs: []detect.Fact{detect.Processes, detect.Sockets},
		each: func(w *world, yield func(...any) bool) {
			for i := range w.f.Sockets {
				for _, p := range w.f.Owners(&w.f.Sockets[i]) {
					if !yield(&w.f.Sockets[i], p) {
						return
					}
				}
			}
		},
	},
	{
		name: "socket", about: "each socket, also those that nobody holds", kinds: []*kind{socketKind}, needs: []detect.Fact{detect.Sockets},
		each: func(w *world, yield func(...any) bool) {
			for i := range w.f.Sockets {
				if !yield(&w.f.Sockets[i]) {
					return
				}
			}
		},
	},
	{
		name: "change", about: "each path at which the container differs from its image", kinds: []*kind{changeKind}, needs: []detect.Fact{detect.Inventory, detect.Baseline},
		each: func(w *world, yield func(...any) bool) {
			for i := range w.f.Files.Changes {
				if !yield(&w.f.Files.Changes[i]) {
					return
				}
			}
		},
		note: func(w *world, a *detect.Answer) {
			if n := w.f.Files.Dropped; n > 0 {
				a.BlindTo(fmt.Sprintf("%d changed data files", n), "there are more changes than are kept")
			}
		},
	},
	{
		name: "file+mount", about: "each program (ELF file or script) on a mount, with the mount", kinds: []*kind{fileKind, mountKind}, needs: []detect.Fact{detect.Inventory, detect.Mounts},
		each: func(w *world, yield func(...any) bool) {
			for i := range w.f.Files.Mounted {
				r := &w.f.Files.Mounted[i]
				if m := w.f.MountOf(string(r.Path)); m != nil && !yield(r, m) {
					return
				}
			}
		},
	},
	{
		name: "mount", about: "each mount", kinds: []*kind{mountKind}, needs: []detect.Fact{detect.Mounts},
		each: func(w *world, yield func(...any) bool) {
			for i := range w.f.Mounts {
				if !yield(&w.f.Mounts[i]) {
					return
				}
			}
		},
	},
	{name: "event", about: "each row of the timeline", kinds: []*kind{eventKind}},
	{
		name: "container", about: "the container, once", needs: nil,
		each: func(_ *world, yield func(...any) bool) { yield() },
	},
}

// noteProcesses notes living processes of the container's own root of which a part was not collected.
func noteProcesses(w *world, a *detect.Answer, what, why string, has func(*detect.Process) bool) {
	for i := range w.f.Processes {
		if p := &w.f.Processes[i]; !has(p) && p.State != "Z" && p.State != "X" && !w.f.OtherRoot(p) && !w.f.Ended(p) {
			a.BlindTo(what+detect.Describe(p), why)
		}
	}
}

func rangeOver(name string) *ranging {
	for _, r := range ranges {
		if r.name == name {
			return r
		}
	}
	return nil
}

func rangeNames() []string {
	out := make([]string, len(ranges))
	for i, r := range ranges {
		out[i] = r.name
	}
	return out
}

// named names an object for what is said about not being able to look at it.
func named(v any) string {
	switch v := v.(type) {
	case *detect.Process:
		return detect.Describe(v)
	case *descriptor:
		return fmt.Sprintf("open file %d of %s", v.N, detect.Describe(v.of))
	case *mapping:
		return fmt.Sprintf("memory at %#x of %s", v.Start, detect.Describe(v.of))
	case *variable:
		return "variable " + printable.Clip(v.Name, 60) + " of " + detect.Describe(v.of)
	case *detect.Socket:
		if v.Family == "unix" {
			return "a unix socket"
		}
		return "the socket at " + printable.Clip(detect.Peer(v.LocalIP, v.LocalPort), 80)
	case *inventory.Change:
		return printable.Clip(v.Path, maxWord)
	case *detect.File:
		return printablePath(v)
	case *detect.Mount:
		return "the mount at " + printable.Clip(string(v.Point), maxWord)
	case *event.Event:
		return fmt.Sprintf("the event at byte %d of %s", v.Offset, printable.Clip(v.Artifact, maxWord))
	}
	return "the container"
}

// cite gives the places of an object in the package.
func cite(w *world, v any) []verdict.Citation {
	whole := func(c []verdict.Citation, artifact string) []verdict.Citation {
		if artifact != "" && w.f.Cite != nil {
			if x, ok := w.f.Cite(artifact, 0, 0); ok {
				c = append(c, x)
			}
		}
		return c
	}
	switch v := v.(type) {
	case *detect.Process:
		return []verdict.Citation{v.Cite}
	case *descriptor:
		return whole([]verdict.Citation{v.of.Cite}, v.Artifact)
	case *mapping:
		return []verdict.Citation{v.Mapping.Cite}
	case *variable:
		return []verdict.Citation{v.NameCite}
	case *detect.Socket:
		return []verdict.Citation{v.Cite}
	case *inventory.Change:
		return w.f.ChangeCites(v)
	case *detect.File:
		return w.f.FileCites(v)
	case *detect.Mount:
		return whole(nil, inventory.MountsPath)
	case *event.Event:
		if c, ok := w.f.Cite(v.Artifact, v.Offset, v.Length); ok {
			return []verdict.Citation{c}
		}
	case *world:
		return whole(whole(nil, "target/config.json"), "target/image-config.json")
	}
	return nil
}

// fill sets what an investigation links a finding by from the objects that it is about.
func fill(w *world, fd *detect.Finding, vals []any) {
	for _, v := range vals {
		switch v := v.(type) {
		case *detect.Process:
			fd.PID, fd.Foreign = v.PID, fd.Foreign || w.foreign[v]
			if fd.Path == "" {
				fd.Path, fd.SHA256 = detect.ExeName(v), v.Exe.SHA256
			}
			// The first process was started by the runtime, and what a process has open or mapped may have come at any time since.
			_, inherited := vals[0].(*variable)
			if (len(vals) == 1 || inherited) && w.f.Init() != v {
				fd.When = v.StartTime
			}
		case *descriptor:
			if v.Kind == "file" || v.Kind == "memfd" {
				fd.Path, fd.SHA256 = detect.ExeName(&detect.Process{Process: record.Process{Exe: record.Exe{Path: v.Target, Origin: originOfKind(v.Kind)}}}), v.SHA256
			}
		case *mapping:
			if len(v.Path) > 0 && v.Path[0] == '/' {
				fd.Path, fd.SHA256 = string(v.Path), v.FileSHA256
			}
		case *detect.Socket:
			if detect.Remote(v) {
				fd.Peer = detect.Peer(v.RemoteIP, v.RemotePort)
			}
			if owners := w.f.Owners(v); len(owners) > 0 && len(vals) == 1 {
				fd.PID = owners[0].PID
			}
		case *inventory.Change:
			fd.Path, fd.When = v.Path, detect.ChangedAt(v)
			if v.After != nil {
				fd.SHA256 = v.After.SHA256
			}
		case *detect.File:
			fd.Path, fd.SHA256, fd.When = string(v.Path), v.SHA256, max(v.Btime, v.Ctime)
		case *detect.Mount:
			if fd.Path == "" {
				fd.Path = string(v.Point)
			}
		case *event.Event:
			fd.PID, fd.Path, fd.SHA256, fd.When = v.PID, v.Path, v.SHA256, v.Time
			if v.DstIP != "" && v.DstPort != 0 {
				fd.Peer = detect.Peer(v.DstIP, v.DstPort)
			}
		}
	}
	if s := slices.IndexFunc(vals, func(v any) bool { _, ok := v.(*detect.Socket); return ok }); s >= 0 && fd.Peer != "" {
		// A connection began when it was first heard of, not when the process that has it did.
		if p := slices.IndexFunc(vals, func(v any) bool { _, ok := v.(*detect.Process); return ok }); p >= 0 {
			fd.When = w.f.HeardOf(vals[s].(*detect.Socket), vals[p].(*detect.Process))
		}
	}
}

func originOfKind(kind string) string {
	if kind == "memfd" {
		return record.ExeMemfd
	}
	return record.ExeDeleted
}
