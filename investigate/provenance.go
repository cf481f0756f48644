package investigate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/investigate/graph"
	"github.com/sherd-forensics/sherd/verdict"
)

func processNode(pid int) string     { return "process:" + itoa(pid) }
func fileNode(path string) string    { return "file:" + escaped(path) }
func addressNode(addr string) string { return "address:" + addr }
func requestNode(r *request) string {
	return fmt.Sprintf("request:%s+%d", r.Cite.Artifact, r.Cite.Offset)
}

// provenance builds the graph of what took part: the foreign processes and what surrounds them, what the findings that weigh name, and
// the requests that may have led there.
func (w *work) provenance() {
	w.g = &graph.Graph{}
	w.r.Graph = w.g
	if !w.bad() {
		return
	}
	w.containerNodes()
	w.processNodes()
	w.findingNodes()
	w.socketNodes()
	w.secretNodes()
	w.comings = w.arrivals(weighs)
	w.cands = w.candidates(w.comings)
	w.requestNodes()
	w.writers()
}

func (w *work) containerNodes() {
	c := &w.f.Container
	cite, ok := w.containerCite()
	if !ok {
		return
	}
	cites := []verdict.Citation{cite}
	self := w.g.Add(graph.Node{ID: "container", Kind: graph.Container, Label: clip(cmp.Or(c.Name, c.ID, "the container"), 60), Time: w.f.Started, Citations: cites})
	if c.Image.Name != "" || c.Image.Digest != "" {
		image := w.g.Add(graph.Node{ID: "image", Kind: graph.Image, Label: clip(cmp.Or(c.Image.Name, c.Image.Digest), 80), Citations: cites})
		w.g.Link(graph.ContainerOfImage, graph.Edge{From: image, To: self, Time: w.f.Started, Citations: cites})
	}
	if host, ok := w.f.Cite("host/host.json", 0, 0); ok && w.f.Host.Hostname != "" {
		node := w.g.Add(graph.Node{ID: "host", Kind: graph.Host, Label: clip(w.f.Host.Hostname, 60), Citations: []verdict.Citation{host}})
		w.g.Link(graph.ContainerOnHost, graph.Edge{From: node, To: self, Time: w.f.Started, Citations: []verdict.Citation{host}})
	}
}

// process adds a process with what the kernel links it to: its parents up to the first process, its program, whom it is, and what it may
// write into.
func (w *work) process(p *detect.Process) int {
	if i := w.g.Find(processNode(p.PID)); i >= 0 {
		return i
	}
	foreign := w.f.Foreign(p)
	node := w.g.Add(graph.Node{ID: processNode(p.PID), Kind: graph.Process, Label: detect.Describe(p), Note: clip(detect.ExeName(p), 160), Time: w.startOf(p),
		Foreign: foreign || w.victim(p.PID), Citations: []verdict.Citation{p.Cite}})
	cites := []verdict.Citation{p.Cite}
	if exe := string(p.Exe.Path); exe != "" {
		file := w.g.Add(graph.Node{ID: fileNode(exe), Kind: graph.File, Label: clip(detect.ExeName(p), 120), Time: p.Exe.Btime, Foreign: foreign, Citations: cites})
		w.g.Link(graph.ProcessRunsFile, graph.Edge{From: node, To: file, Time: w.startOf(p), Citations: cites})
		if (p.Exe.Deleted || p.Exe.Origin == record.ExeDeleted) && p.Exe.Origin != record.ExeMemfd && p.Exe.Ctime >= p.StartTime && p.StartTime != 0 && foreign {
			w.g.Link(graph.ProgramGone, graph.Edge{From: node, To: file, Time: p.Exe.Ctime, Citations: cites})
		}
	}
	if p == w.f.Init() {
		w.g.Link(graph.ProcessInContainer, graph.Edge{From: w.g.Find("container"), To: node, Time: p.StartTime, Citations: cites})
	}
	return node
}

func (w *work) processNodes() {
	for _, p := range w.foreign() {
		child := w.process(p)
		user := w.g.Add(graph.Node{ID: fmt.Sprintf("identity:uid %d", p.EUID), Kind: graph.Identity, Label: fmt.Sprintf("user %d", p.EUID), Citations: []verdict.Citation{p.Cite}})
		if w.f.Foreign(p) {
			w.g.Link(graph.ProcessIdentity, graph.Edge{From: child, To: user, Citations: []verdict.Citation{p.Cite}})
		}
		// Parents in a circle can only be forged: a bound ends them.
		for q, depth := p, 0; depth < 32; depth++ {
			parent := w.f.Process(q.PPID)
			if parent == nil || parent.PID == q.PID {
				break
			}
			known := w.g.Find(processNode(parent.PID)) >= 0
			up := w.process(parent)
			e := graph.Edge{From: up, To: w.process(q), Time: w.startOf(q), Citations: []verdict.Citation{q.Cite, parent.Cite}}
			if parent == w.f.Init() {
				e.Confidence = 0.6 // or it adopted the child
			}
			w.g.Link(graph.ProcessParent, e)
			if known && depth > 0 {
				break
			}
			q = parent
		}
		if t := w.f.Process(p.TracerPID); t != nil {
			w.g.Link(graph.ProcessTraces, graph.Edge{From: w.process(t), To: child, Citations: []verdict.Citation{p.Cite, t.Cite}})
		}
		w.filesOf(p, child)
	}
	for i := range w.f.Processes { // whom a foreign process traces
		p := &w.f.Processes[i]
		if t := w.f.Process(p.TracerPID); t != nil && w.f.Foreign(t) {
			w.g.Link(graph.ProcessTraces, graph.Edge{From: w.process(t), To: w.process(p), Citations: []verdict.Citation{p.Cite, t.Cite}})
		}
	}
}

// filesOf adds code that a process mapped or holds and that the image does not have.
func (w *work) filesOf(p *detect.Process, node int) {
	for i := range p.Maps {
		m := &p.Maps[i]
		path := string(m.Path)
		if !strings.Contains(m.Perms, "x") || path == "" || path == string(p.Exe.Path) || path[0] != '/' || !w.marksFile(path) && !strings.HasPrefix(path, "/memfd:") {
			continue
		}
		file := w.g.Add(graph.Node{ID: fileNode(path), Kind: graph.File, Label: clip(path, 120), Foreign: true, Citations: []verdict.Citation{m.Cite}})
		w.g.Link(graph.ProcessMapsFile, graph.Edge{From: node, To: file, Citations: []verdict.Citation{m.Cite}})
	}
	for _, fd := range p.FDs {
		if !fd.Deleted || len(fd.Magic) < 4 || string(fd.Magic[:4]) != "\x7fELF" {
			continue
		}
		file := w.g.Add(graph.Node{ID: fileNode(string(fd.Target)), Kind: graph.File, Label: clip(string(fd.Target), 120), Foreign: true, Citations: []verdict.Citation{p.Cite}})
		w.g.Link(graph.ProcessHoldsFile, graph.Edge{From: node, To: file, Citations: []verdict.Citation{p.Cite}})
	}
}

// marksFile reports whether a finding that weighs names a file.
func (w *work) marksFile(path string) bool {
	return slices.ContainsFunc(w.findings, func(f detect.Finding) bool { return f.Path == path && weighs(&f) })
}

// findingNodes adds the files that findings which weigh name.
func (w *work) findingNodes() {
	for i := range w.findings {
		f := &w.findings[i]
		if !weighs(f) {
			continue
		}
		p := w.f.Process(f.PID)
		// A finding on what one of the image's programs does names that program, which is no file of the intruder's.
		own := p != nil && f.Path == string(p.Exe.Path) && !w.f.Foreign(p)
		if f.Path != "" && f.Path[0] == '/' && !own && !strings.HasPrefix(f.Path, "/memfd:") {
			w.g.Add(graph.Node{ID: fileNode(f.Path), Kind: graph.File, Label: clip(f.Path, 120), Note: f.Statement, Time: w.bornAt(f), Foreign: true, Citations: f.Citations})
		}
		if p != nil {
			w.process(p)
		}
		if f.Rule == detect.TokenElsewhere {
			w.g.Add(graph.Node{ID: identityNode(f.Key), Kind: graph.Identity, Label: clip(f.Key, 80), Note: f.Statement, Foreign: true, Citations: f.Citations})
		}
	}
}

// bornAt is when the file of a finding came, 0 for findings whose time is something else's.
func (w *work) bornAt(f *detect.Finding) int64 {
	if strings.HasPrefix(f.Rule, "file-") {
		return f.When
	}
	return 0
}

func (w *work) socketNodes() {
	for _, x := range w.peers() {
		note := ""
		if x.counted > 0 {
			note = fmt.Sprintf("%s out, %s in", bytesWords(x.out), bytesWords(x.in))
		}
		var cites []verdict.Citation
		for _, s := range x.sockets {
			cites = append(cites, s.Cite)
		}
		rule := graph.ProcessConnected
		if w.f.Inbound(x.sockets[0]) {
			rule = graph.ProcessAccepted
		}
		peer := w.g.Add(graph.Node{ID: addressNode(x.value), Kind: graph.Address, Label: x.value, Note: note, Foreign: true, Citations: cites})
		for _, p := range x.processes {
			e := graph.Edge{From: w.process(p), To: peer, Note: note, Citations: cites}
			if rule == graph.ProcessAccepted {
				e.From, e.To = e.To, e.From
			}
			w.g.Link(rule, e)
		}
	}
	for i := range w.f.Sockets {
		s := &w.f.Sockets[i]
		if !detect.Listening(s) || s.LocalPort == 0 {
			continue
		}
		for _, p := range w.f.Owners(s) {
			if !w.f.Foreign(p) && p != w.server() {
				continue
			}
			at := detect.Peer(s.LocalIP, s.LocalPort)
			port := w.g.Add(graph.Node{ID: "listen:" + at, Kind: graph.Address, Label: at, Foreign: w.f.Foreign(p), Citations: []verdict.Citation{s.Cite}})
			w.g.Link(graph.ProcessListens, graph.Edge{From: w.process(p), To: port, Citations: []verdict.Citation{s.Cite}})
		}
	}
}

func (w *work) secretNodes() {
	for _, r := range w.reaches() {
		secret := w.g.Add(graph.Node{ID: "credential:" + r.value, Kind: graph.Credential, Label: clip(r.value, 80), Note: r.why, Citations: r.cites})
		if r.reader == nil {
			continue // a process beside the container, which the graph does not hold
		}
		reader := w.process(r.reader)
		w.g.Link(graph.SecretReadable, graph.Edge{From: reader, To: secret, Citations: r.cites})
		if r.read != 0 {
			w.g.Link(graph.SecretRead, graph.Edge{From: reader, To: secret, Time: r.read, Citations: r.cites})
		}
	}
}

// requestNodes adds the candidates: who sent them, who served them, and what they may have led to.
func (w *work) requestNodes() {
	server := w.server()
	for i := range w.cands {
		c := &w.cands[i]
		for _, r := range c.rs {
			cites := []verdict.Citation{r.Cite}
			node := w.g.Add(graph.Node{ID: requestNode(r), Kind: graph.Request, Label: r.Method + " " + clip(r.Path, 100), Time: r.Time, Foreign: !c.doubtful, Citations: cites})
			if r.Client != "" {
				from := w.g.Add(graph.Node{ID: addressNode(r.Client), Kind: graph.Address, Label: r.Client, Citations: cites})
				e := graph.Edge{From: from, To: node, Time: r.Time, Citations: cites}
				if c.doubtful {
					e.Confidence = 0.3
				}
				w.g.Link(graph.RequestFrom, e)
			}
			if server != nil {
				w.g.Link(graph.RequestLogged, graph.Edge{From: w.process(server), To: node, Time: r.Time, Citations: append(cites, server.Cite)})
			}
			for _, to := range w.effectsOf(c) {
				w.g.Link(c.rule, graph.Edge{From: node, To: to.node, Time: to.time, Confidence: c.confidence, Citations: append(cites, to.cites...)})
			}
		}
	}
}

type effect struct {
	node  int
	time  int64
	cites []verdict.Citation
}

// effectsOf is what a candidate is thought to have led to: the thing that came at its time, or, where nothing has a time, all that was
// found.
func (w *work) effectsOf(c *candidate) []effect {
	if c.a != nil {
		return []effect{{w.g.Find(c.a.node), c.a.time, c.a.cites}}
	}
	var out []effect
	for i := range w.findings {
		f := &w.findings[i]
		if !weighs(f) || len(out) >= maxCandidates {
			continue
		}
		node := w.g.Find(fileNode(f.Path))
		if f.Rule == detect.TokenElsewhere {
			node = w.g.Find(identityNode(f.Key))
		} else if p := w.f.Process(f.PID); p != nil {
			node = w.process(p)
		} else if node < 0 && f.Peer != "" { // connections that are nobody's any more
			node = w.g.Add(graph.Node{ID: addressNode(f.Peer), Kind: graph.Address, Label: f.Peer, Note: f.Statement, Foreign: true, Citations: f.Citations})
		}
		if node >= 0 {
			out = append(out, effect{node, 0, f.Citations})
		}
	}
	return out
}

// writers ties files that came while the container ran to the only process that served requests as their owner.
func (w *work) writers() {
	p := w.server()
	if p == nil || p.StartTime == 0 {
		return
	}
	for i := range w.f.Files.Changes {
		c := &w.f.Files.Changes[i]
		if c.After == nil || c.After.UID != p.EUID || c.After.Btime <= p.StartTime {
			continue
		}
		if n := w.g.Find(fileNode(c.Path)); n >= 0 {
			w.g.Link(graph.OneWriter, graph.Edge{From: w.process(p), To: n, Time: c.After.Btime, Citations: []verdict.Citation{c.After.Cite, p.Cite}})
		}
	}
}

// causal are the edges that lead from what was found back to an entry: who sent and what led to what, what a process runs, who started it.
// What a process merely could read, or who owns a file, leads nowhere.
func causal(e *graph.Edge) bool {
	switch e.Rule {
	case graph.ProcessParent, graph.ProcessRunsFile, graph.ProcessMapsFile, graph.ProcessConnected, graph.RequestNamesFile, graph.RequestAlone, graph.RequestsOfOne,
		graph.RequestStandsOut, graph.RequestNear:
		return true
	}
	return false
}

// entryOf walks back from all that was found to the request that the surest way begins with; nil if no way does. Of equally sure ones the
// first candidate counts, which is of what came first.
func (w *work) entryOf() *candidate {
	var from []int
	for i := range w.comings {
		from = append(from, w.g.Find(w.comings[i].node))
	}
	for i := range w.findings {
		if f := &w.findings[i]; weighs(f) {
			from = append(from, w.g.Find(fileNode(f.Path)), w.g.Find(processNode(f.PID)), w.g.Find(addressNode(f.Peer)))
		}
	}
	way := w.g.Back(from, causal)
	var best *candidate
	sure := 0.0
	for i := range w.cands {
		c := &w.cands[i]
		n := w.g.Find(requestNode(c.rs[0]))
		if n < 0 || way[n].Edge < 0 {
			continue
		}
		e := &w.g.Edges[way[n].Edge]
		if e.Rule == c.rule && way[n].Confidence > sure+1e-9 && (best == nil || best.rule == graph.RequestNear || c.rule != graph.RequestNear) {
			best, sure = c, way[n].Confidence
		}
	}
	return best
}

// mark finds the way from the entry to the gravest effect, which pictures show in one colour.
func (w *work) mark() {
	rc := w.r.Verdict.RootCause
	if rc == nil {
		return
	}
	best := w.entryOf()
	entry := w.g.Find(requestNode(best.rs[0]))
	way := w.g.Forth([]int{entry}, causal)
	goal, rank := -1, 0
	for i := range w.g.Nodes {
		if i == entry || way[i].Edge < 0 {
			continue
		}
		if k := gravity(&w.g.Nodes[i]); k > rank {
			goal, rank = i, k
		}
	}
	if goal < 0 {
		return
	}
	path := w.g.Trace(way, goal, false)
	// The request came from somewhere.
	for i := range w.g.Edges {
		if e := &w.g.Edges[i]; e.Rule == graph.RequestFrom && e.To == entry {
			path = append([]int{i}, path...)
			break
		}
	}
	w.g.Path = path
}

// gravity orders what an attack leads to: who was called, then what ran, then what was written.
func gravity(n *graph.Node) int {
	if !n.Foreign {
		return 0
	}
	switch n.Kind {
	case graph.Address:
		return 3
	case graph.Process:
		return 2
	case graph.File:
		return 1
	case graph.Request, graph.Identity, graph.Credential, graph.Container, graph.Image, graph.Host:
	}
	return 0
}
