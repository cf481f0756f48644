package investigate

import (
	"fmt"
	"slices"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/redact"
	"github.com/sherd-forensics/sherd/verdict"
)

// intruders are processes of other containers that a finding which weighs says to have reached into this one.
func (w *work) intruders() []*detect.Sharer {
	var out []*detect.Sharer
	for i := range w.findings {
		f := &w.findings[i]
		if s := w.f.Sharer(f.PID); s != nil && f.Rule == "sharing-reaches-in" && weighs(f) && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// scopeAround names what lies around the container: who reached in from a container beside it, containers that the intruder started, and
// the machine's metadata service with the keys that came from there.
func (w *work) scopeAround() {
	for _, s := range w.intruders() {
		if w.r.Verdict.RootCause == nil {
			w.gap("how they got in", detect.DescribeSharer(s)+", started "+detect.Time(s.StartTime)+", reached in from beside: how it came there is not in this container's evidence",
				"that container's evidence, or the runtime's own log, may tell")
		}
		pid := s.PID
		if slices.Contains(s.Shares, "pid") && s.ContainerPID != 0 {
			pid = s.ContainerPID
		}
		w.add(verdict.Entity{Type: verdict.EntityProcess, Value: escaped(string(s.Exe)), PID: pid, Role: "outsider", Why: detect.DescribeSharer(s) + ", which has this container in its hands", Citations: []verdict.Citation{s.Cite}})
		if id := s.Whose(); id != "" {
			w.add(verdict.Entity{Type: verdict.EntityContainer, Value: escaped(id), Role: "outsider", Why: "a process of it has this container in its hands", Citations: []verdict.Citation{s.Cite}})
		}
		for _, c := range w.connectionsOf(s) {
			w.add(verdict.Entity{Type: verdict.EntityAddress, Value: detect.Peer(c.RemoteIP, c.RemotePort), Role: "peer", Why: "connected with " + detect.DescribeSharer(s), Citations: []verdict.Citation{c.Cite, s.Cite}})
		}
	}
	w.scopeNode()
	suspects := w.foreign()
	for i := range w.findings {
		f := &w.findings[i]
		suspect := slices.ContainsFunc(suspects, func(p *detect.Process) bool { return p.PID == f.PID })
		switch {
		case f.Rule == "memory-runtime-order" && weighs(f):
			w.add(verdict.Entity{Type: verdict.EntityContainer, Value: f.Container, Role: "started", Why: f.Statement, Citations: f.Citations})
		case f.Rule == "network-metadata-service" && (suspect || f.PID == 0 && len(suspects) > 0):
			w.add(verdict.Entity{Type: verdict.EntityAddress, Value: f.Peer, Role: "metadata service", Why: f.Statement, Citations: f.Citations})
		case f.Rule == "memory-machine-keys" && suspect:
			w.add(verdict.Entity{Type: verdict.EntityCredential, Value: escaped(f.Key), Role: "within reach", Why: f.Statement, Citations: f.Citations})
		}
	}
}

// aroundEvents are the starts of processes of other containers that share the pid namespace; those that reached in weigh.
func (w *work) aroundEvents(add func(Event)) {
	intruders := w.intruders()
	for i := range w.f.Sharers {
		s := &w.f.Sharers[i]
		if s.StartTime == 0 || !slices.Contains(s.Shares, "pid") {
			continue
		}
		add(Event{Time: s.StartTime, TimeKind: event.Started, Kind: event.ProcessStarted, Text: detect.DescribeSharer(s) + " starts, running " + clip(string(s.Exe), 120),
			Marked: slices.Contains(intruders, s), Citations: []verdict.Citation{s.Cite}})
	}
}

// scopeNode names the machine where something reached it, or could have.
func (w *work) scopeNode() {
	name := w.f.Host.Hostname
	if name == "" {
		return
	}
	for i := range w.findings {
		f := &w.findings[i]
		if words, role := escape(f); words != "" {
			e := verdict.Entity{Type: verdict.EntityNode, Value: escaped(name), Role: role, Why: f.Statement, Citations: f.Citations}
			if c, ok := w.f.Cite("host/host.json", 0, 0); ok {
				e.Citations = append(slices.Clone(f.Citations), c)
			}
			w.add(e)
		}
	}
}

// escape says in words what a finding means for the machine that the container runs on, and the machine's role then; "" if it means nothing.
func escape(f *detect.Finding) (words, role string) {
	if !weighs(f) {
		return "", ""
	}
	switch f.Rule {
	case "file-steers-node", "node-kernel-helper":
		return "look at that machine too", "reached"
	case "memory-runtime-order":
		return "look into that container and at the machine", "reached"
	case "network-runtime-socket":
		return "it can start containers that own the machine", "within reach"
	}
	return "", ""
}

// escaped tells of what reached the machine that the container runs on.
func (w *work) escaped() {
	for i := range w.findings {
		f := &w.findings[i]
		if words, _ := escape(f); words != "" {
			w.effect(verdict.ImpactEscape, f.Technique, f.Statement+": "+words, f.Citations)
		}
	}
}

// connectionsOf are a sharer's connections that a finding says nothing explains.
func (w *work) connectionsOf(s *detect.Sharer) []*detect.Socket {
	var out []*detect.Socket
	for i := range w.f.Sockets {
		c := &w.f.Sockets[i]
		if !detect.Remote(c) || !slices.ContainsFunc(c.Others, func(o record.Owner) bool { return o.PID == s.PID }) {
			continue
		}
		peer := detect.Peer(c.RemoteIP, c.RemotePort)
		if slices.ContainsFunc(w.findings, func(f detect.Finding) bool { return f.PID == s.PID && f.Peer == peer && weighs(&f) }) {
			out = append(out, c)
		}
	}
	return out
}

// reachedInto are secrets in environments that a process of another container had in its hands: who holds a process's memory reads all of it.
func (w *work) reachedInto() []reach {
	var out []reach
	for _, s := range w.intruders() {
		for i := range w.f.Processes {
			p := &w.f.Processes[i]
			if p.ContainerPID == 0 || p.TracerPID != s.PID && !s.InMemory(p.ContainerPID, false) {
				continue
			}
			for _, v := range p.Env {
				if redact.Name(v.Name) && v.Value != "" {
					out = append(out, reach{v.Name, "readable by " + detect.DescribeSharer(s) + " in the memory of " + detect.Describe(p), nil, false, 0, []verdict.Citation{v.NameCite, s.Cite}})
				}
			}
		}
	}
	return out
}

// takenAround tells what may have left by way of a container beside this one, and of the machine's keys.
func (w *work) takenAround() {
	for _, s := range w.intruders() {
		for _, c := range w.connectionsOf(s) {
			if c.BytesSent == nil || *c.BytesSent == 0 {
				continue
			}
			w.effect(verdict.ImpactExfiltration, "T1041", fmt.Sprintf("at most %s (%d bytes) left for %s over a connection of %s",
				bytesWords(*c.BytesSent), *c.BytesSent, detect.Peer(c.RemoteIP, c.RemotePort), detect.DescribeSharer(s)), []verdict.Citation{c.Cite, s.Cite})
		}
	}
	suspects := w.foreign()
	for i := range w.findings {
		f := &w.findings[i]
		suspect := slices.ContainsFunc(suspects, func(p *detect.Process) bool { return p.PID == f.PID })
		switch {
		case f.Rule == "memory-machine-keys" && suspect:
			w.effect(verdict.ImpactCredential, f.Technique, f.Statement+": revoke it, and look for its use in the cloud's audit log", f.Citations)
		case f.Rule == "network-metadata-service" && (suspect || f.PID == 0 && len(suspects) > 0):
			w.effect(verdict.ImpactCredential, f.Technique, f.Statement+": the keys of the machine's cloud identity were within reach", f.Citations)
		}
	}
}
