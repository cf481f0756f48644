package investigate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/redact"
	"github.com/sherd-forensics/sherd/verdict"
)

// maxScope bounds entities of one type.
const maxScope = 50

func (w *work) processEntity(p *detect.Process) verdict.Entity {
	pid := p.ContainerPID
	if pid == 0 {
		pid = p.PID
	}
	return verdict.Entity{Type: verdict.EntityProcess, Value: escaped(detect.ExeName(p)), PID: pid, SHA256: p.Exe.SHA256, Citations: []verdict.Citation{p.Cite}}
}

func (w *work) add(e verdict.Entity) {
	v := &w.r.Verdict
	n := 0
	for i := range v.Scope {
		if v.Scope[i].ID() == e.ID() {
			v.Scope[i].Citations = unique(append(v.Scope[i].Citations, e.Citations...))
			if v.Scope[i].SHA256 == "" {
				v.Scope[i].SHA256 = e.SHA256
			}
			return
		}
		if v.Scope[i].Type == e.Type {
			n++
		}
	}
	if n >= maxScope {
		w.gap("more of type "+e.Type, fmt.Sprintf("only %d are listed", maxScope), "the findings name the rest")
		return
	}
	if words := w.programWords(e.SHA256); words != "" && (e.Type == verdict.EntityFile || e.Type == verdict.EntityProcess && !strings.HasPrefix(e.Value, "/")) {
		e.Why += "; " + words
	}
	e.Citations = unique(e.Citations)
	v.Scope = append(v.Scope, e)
}

func (w *work) scope() {
	if !w.bad() {
		return
	}
	w.scopeProcesses()
	w.scopeFiles()
	w.scopeAddresses()
	w.scopeCredentials()
	w.scopeAround()
	if c := &w.f.Container; c.ID != "" {
		if cite, ok := w.containerCite(); ok {
			w.add(verdict.Entity{Type: verdict.EntityContainer, Value: c.ID, Role: "target", Why: "the container that was examined", Citations: []verdict.Citation{cite}})
		}
	}
}

// containerCite points at the runtime's own record of the container, or at the sealed list of its processes.
func (w *work) containerCite() (verdict.Citation, bool) {
	for _, e := range w.p.Artifacts("target/") {
		if e.SHA256 != "" {
			return w.f.Cite(e.Path, 0, 0)
		}
	}
	return w.f.Cite("process/processes.jsonl", 0, 0)
}

func (w *work) scopeProcesses() {
	for _, p := range w.foreign() {
		e := w.processEntity(p)
		e.Role = "suspect"
		if w.altered(p.PID) {
			e.Role = "altered"
		}
		if w.f.Foreign(p) {
			e.Role = "foreign"
		}
		for i := range w.findings {
			f := &w.findings[i]
			if f.PID != p.PID || !weighs(f) {
				continue
			}
			if e.Why == "" {
				e.Why = w.whyProcess(p, f.Statement)
			}
			e.Citations = append(e.Citations, f.Citations...)
		}
		w.add(e)
	}
	// The process that delivered: it served the request and is the intruder's way in.
	if rc := w.r.Verdict.RootCause; rc != nil {
		if p := w.server(); p != nil && slices.Contains(rc.Entities, w.processEntity(p).ID()) {
			e := w.processEntity(p)
			e.Role, e.Why = "entry", "it served the request that let them in"
			w.add(e)
		}
	}
}

// whyProcess is a finding's statement without what the entity says already.
func (w *work) whyProcess(p *detect.Process, statement string) string {
	name := `"` + clip(string(p.Comm), 40) + `"`
	rest, ok := strings.CutPrefix(statement, detect.Describe(p)+" ")
	if !ok {
		return name + ": " + statement
	}
	return name + ", which " + strings.Replace(rest, "runs "+clip(detect.ExeName(p), 160)+", which ", "", 1)
}

// altered reports whether what a process runs is not what its image's program is.
func (w *work) altered(pid int) bool {
	return slices.ContainsFunc(w.findings, func(f detect.Finding) bool {
		return f.PID == pid && weighs(&f) && (strings.HasPrefix(f.Rule, "memory-") || f.Rule == "environment-injects-code" || f.Rule == "process-agent-foreign")
	})
}

func (w *work) scopeFiles() {
	for i := range w.findings {
		f := &w.findings[i]
		if !weighs(f) || f.Path == "" || f.Path[0] != '/' {
			continue
		}
		role := "foreign"
		switch f.Rule {
		case "file-program-replaced", "file-configuration-changed", "file-gained-privilege", "file-log-cut", "file-configuration-names-peer":
			role = "changed"
		case "file-locked-many":
			role = "note"
		case "file-takes-commands", "file-steers-node", "file-foreign-program", "file-program-in-memory-mount", "process-deleted-program-open", "memory-library-foreign", "process-agent-foreign", "file-holds-environment":
		case "process-foreign-program":
			if !f.Foreign {
				continue
			}
		default:
			// Rules in languages of their own say so of a file that can run.
			if !f.Foreign || !strings.HasPrefix(f.Rule, "yara") {
				continue
			}
		}
		why := f.Statement
		if f.Rule == "process-foreign-program" {
			why = "the program of a foreign process"
			if p := w.f.Process(f.PID); p != nil {
				why = "the program of " + detect.Describe(p)
				if p.Exe.Deleted || p.Exe.Origin == record.ExeDeleted {
					why += ", deleted after its start"
				}
				if p.Exe.Artifact != "" {
					why += ", kept in the package"
				}
			}
		}
		w.add(verdict.Entity{Type: verdict.EntityFile, Value: escaped(f.Path), SHA256: f.SHA256, Role: role, Why: why, Citations: f.Citations})
	}
}

// peer sums connections up.
type peer struct {
	value     string
	sockets   []*detect.Socket
	processes []*detect.Process
	out, in   uint64
	counted   int
}

// peers are the other ends of the foreign processes' connections, in the order of the package.
func (w *work) peers() []peer {
	foreign := w.foreign()
	var out []peer
	for i := range w.f.Sockets {
		s := &w.f.Sockets[i]
		if !detect.Remote(s) {
			continue
		}
		for _, p := range w.f.Owners(s) {
			if !slices.Contains(foreign, p) || !w.f.Foreign(p) && w.f.Inbound(s) {
				continue // what comes in on an altered server's own port are its clients
			}
			v := detect.Peer(s.RemoteIP, s.RemotePort)
			if !w.f.Foreign(p) && !w.stdio(p, s) && !w.unexplained(p, v) {
				continue
			}
			k := slices.IndexFunc(out, func(x peer) bool { return x.value == v })
			if k < 0 {
				out = append(out, peer{value: v})
				k = len(out) - 1
			}
			x := &out[k]
			if !slices.Contains(x.processes, p) {
				x.processes = append(x.processes, p)
			}
			if slices.Contains(x.sockets, s) {
				continue
			}
			x.sockets = append(x.sockets, s)
			if s.BytesSent != nil && s.BytesReceived != nil {
				x.out, x.in, x.counted = x.out+*s.BytesSent, x.in+*s.BytesReceived, x.counted+1
			}
		}
	}
	return out
}

// unexplained reports whether a finding says that nothing explains a process's connection with a peer.
func (w *work) unexplained(p *detect.Process, peer string) bool {
	return slices.ContainsFunc(w.findings, func(f detect.Finding) bool { return f.PID == p.PID && f.Peer == peer && weighs(&f) })
}

// stdio reports whether a socket is among a process's standard streams.
func (w *work) stdio(p *detect.Process, s *detect.Socket) bool {
	return slices.ContainsFunc(s.Owners, func(o record.Owner) bool { return o.PID == p.PID && o.FD <= 2 })
}

func bytesWords(n uint64) string { return humanize.IBytes(n) }

func (w *work) scopeAddresses() {
	for _, x := range w.peers() {
		why := "connected with " + detect.Describe(x.processes[0])
		if x.counted > 0 {
			why += fmt.Sprintf("; %s out, %s in", bytesWords(x.out), bytesWords(x.in))
		}
		e := verdict.Entity{Type: verdict.EntityAddress, Value: x.value, Role: "peer", Why: why}
		for _, s := range x.sockets {
			e.Citations = append(e.Citations, s.Cite)
		}
		w.add(e)
	}
	for i := range w.findings {
		if f := &w.findings[i]; f.Peer != "" && f.PID == 0 && weighs(f) {
			w.add(verdict.Entity{Type: verdict.EntityAddress, Value: f.Peer, Role: "peer", Why: f.Statement, Citations: f.Citations})
		}
	}
	rc := w.r.Verdict.RootCause
	if rc == nil {
		return
	}
	for i := range w.requests {
		r := &w.requests[i]
		if r.Client != "" && slices.Contains(rc.Citations, r.Cite) {
			w.add(verdict.Entity{Type: verdict.EntityAddress, Value: r.Client, Role: "source", Why: "sent " + clip(r.Method+" "+r.Path, 120), Citations: []verdict.Citation{r.Cite}})
		}
	}
}

// reach is a secret that a foreign process could read.
type reach struct {
	value, why string
	reader     *detect.Process // nil where it is a process of another container
	file       bool
	read       int64 // when a file was last read, if that is known and lies after the first foreign thing; 0 otherwise
	cites      []verdict.Citation
}

// reaches lists secrets within reach of foreign processes: in their own environment, in that of processes of the same user,
// and files on mounts of secrets whose mode lets their user read. Directories above are not weighed.
func (w *work) reaches() []reach {
	var out []reach
	seen := map[string]bool{}
	add := func(r reach) {
		if !seen[r.value] {
			seen[r.value] = true
			out = append(out, r)
		}
	}
	for _, r := range w.reachedInto() {
		add(r)
	}
	for _, p := range w.foreign() {
		for i := range w.f.Processes {
			q := &w.f.Processes[i]
			if q.PID != p.PID && p.EUID != 0 && p.EUID != q.UID {
				continue
			}
			whose := "its own environment"
			if q.PID != p.PID {
				whose = "the environment of " + detect.Describe(q)
			}
			for _, v := range q.Env {
				if redact.Name(v.Name) && v.Value != "" {
					add(reach{v.Name, "readable by " + detect.Describe(p) + " in " + whose, p, false, 0, []verdict.Citation{v.NameCite, p.Cite}})
				}
			}
		}
		for i := range w.f.Files.Secrets {
			r := &w.f.Files.Secrets[i]
			if strings.Contains(string(r.Path), "/..") || !readable(p, r) || publicFile(string(r.Path)) {
				continue // Kubernetes keeps versions in ..data; the names beside it are links to them
			}
			add(reach{escaped(string(r.Path)), "its mode lets " + detect.Describe(p) + " read it", p, true, w.readSince(r), []verdict.Citation{r.Cite, p.Cite}})
		}
	}
	return out
}

// readSince is the time of access of a secret where it tells something: it lies after the start of the first foreign process, and after all that
// else happened to the file, so that the mount keeps such times. 0 otherwise.
func (w *work) readSince(r *detect.File) int64 {
	var first int64
	for _, p := range w.foreign() {
		if w.f.Foreign(p) && p.StartTime != 0 && (first == 0 || p.StartTime < first) {
			first = p.StartTime
		}
	}
	if first == 0 || r.Atime < first || r.Atime <= max(r.Mtime, r.Ctime, r.Btime) {
		return 0
	}
	return r.Atime
}

// publicFile names what lies beside a service account's token and is no secret.
func publicFile(p string) bool {
	return strings.HasSuffix(p, "/ca.crt") || strings.HasSuffix(p, "/namespace")
}

func readable(p *detect.Process, r *detect.File) bool {
	const dacOverride, dacReadSearch = 1 << 1, 1 << 2
	switch {
	case p.CapEff&(dacOverride|dacReadSearch) != 0:
		return true
	case p.EUID == r.UID:
		return r.Mode&0o400 != 0
	case p.EGID == r.GID:
		return r.Mode&0o040 != 0
	}
	return r.Mode&0o004 != 0
}

func (w *work) scopeCredentials() {
	for _, r := range w.reaches() {
		why, cites := r.why, r.cites
		if of, c := w.secretOf(&r); of != "" {
			why, cites = why+"; it comes from secret "+of, append(slices.Clone(cites), c)
		}
		w.add(verdict.Entity{Type: verdict.EntityCredential, Value: r.value, Role: "within reach", Why: why, Citations: cites})
	}
	for _, h := range w.held {
		w.add(verdict.Entity{Type: verdict.EntityCredential, Value: h.value, Role: "held", Why: detect.Describe(h.process) + " held it in its memory: " + h.words, Citations: h.cites})
	}
}

func (w *work) impact() {
	if w.bad() {
		w.execution()
		w.credentials()
		w.exfiltration()
		w.resource()
		w.mined()
		w.staged()
		w.openDoors()
		w.destroyed()
		w.escaped()
		w.takenAround()
	}
	w.persistence()
}

func (w *work) effect(kind, tech, statement string, cites []verdict.Citation) {
	w.r.Verdict.Impact = append(w.r.Verdict.Impact, verdict.Impact{Type: kind, Statement: statement, Technique: tech, Citations: unique(cites)})
}

func (w *work) execution() {
	var names []string
	var cites []verdict.Citation
	for _, p := range w.foreign() {
		if w.f.Foreign(p) {
			names = append(names, detect.Describe(p))
			cites = append(cites, p.Cite)
		}
	}
	if len(names) > 0 {
		w.effect(verdict.ImpactExecution, "T1059", "a foreign program ran: "+list(names, 5), cites)
	}
	done := map[int]bool{}
	for i := range w.findings {
		f := &w.findings[i]
		if !weighs(f) || w.isForeign(f.PID) || done[f.PID] {
			continue
		}
		switch {
		case strings.HasPrefix(f.Rule, "memory-"), f.Rule == "environment-injects-code", f.Rule == "process-agent-foreign", f.Rule == "network-standard-stream" && f.Severity == verdict.Critical:
			done[f.PID] = true
			w.effect(verdict.ImpactExecution, f.Technique, "foreign code or commands ran in a program of the image: "+f.Statement, f.Citations)
		}
	}
}

func (w *work) isForeign(pid int) bool {
	p := w.f.Process(pid)
	return p != nil && w.f.Foreign(p)
}

func list(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
}

func (w *work) credentials() {
	var env, files []string
	var envCites, fileCites []verdict.Citation
	for _, r := range w.reaches() {
		if r.file {
			files, fileCites = append(files, clip(r.value, 80)), append(fileCites, r.cites...)
		} else {
			env, envCites = append(env, clip(r.value, 60)), append(envCites, r.cites...)
		}
	}
	var read []string
	var readCites []verdict.Citation
	for _, r := range w.reaches() {
		if r.read != 0 {
			read, readCites = append(read, clip(r.value, 80)+" at "+detect.Time(r.read)), append(readCites, r.cites...)
		}
	}
	if len(read) > 0 {
		w.effect(verdict.ImpactCredential, "T1552.001", "last read since the first foreign process started, by it or by the application: "+list(read, 5), readCites[:min(len(readCites), 16)])
	}
	if len(env) > 0 {
		w.effect(verdict.ImpactCredential, "T1552", list(env, 8)+" could be read from environments by foreign processes", envCites[:min(len(envCites), 16)])
	}
	if len(files) > 0 {
		w.effect(verdict.ImpactCredential, "T1552.001", list(files, 8)+" could be read by foreign processes", fileCites[:min(len(fileCites), 16)])
	}
	var names []string
	var cites []verdict.Citation
	for _, h := range w.held {
		names, cites = append(names, h.words+" by "+detect.Describe(h.process)), append(cites, h.cites...)
	}
	if len(names) > 0 {
		w.effect(verdict.ImpactCredential, "T1552", "held in memory: "+list(names, 8), cites[:min(len(cites), 16)])
	}
}

func (w *work) exfiltration() {
	for _, x := range w.peers() {
		var cites []verdict.Citation
		for _, s := range x.sockets {
			cites = append(cites, s.Cite)
		}
		if x.counted < len(x.sockets) {
			w.gap("how much left for "+x.value, "the kernel gave no byte counts for the connection", "no bound can be given")
			continue
		}
		if x.out > 0 {
			w.effect(verdict.ImpactExfiltration, "T1041", fmt.Sprintf("at most %s (%d bytes) left for %s over what was still connected", bytesWords(x.out), x.out, x.value), cites)
		}
	}
	if len(w.peers()) > 0 {
		w.gap("connections that had ended before the capture", "the kernel keeps no count of them", "more may have left than the bound on the open connections says")
	}
}

// mined tells of foreign processes that know a mining pool.
func (w *work) mined() {
	for i := range w.findings {
		if f := &w.findings[i]; f.Rule == miningRule.ID && f.Severity == verdict.Low {
			w.effect(verdict.ImpactResource, f.Technique, f.Statement, f.Citations)
		}
	}
}

// staged tells of secrets that were put ready to be taken away.
func (w *work) staged() {
	for i := range w.findings {
		if f := &w.findings[i]; f.Rule == "file-holds-environment" {
			w.effect(verdict.ImpactCredential, f.Technique, f.Statement+", ready to be taken away", f.Citations)
		}
	}
}

// destroyed tells of data that was made useless.
func (w *work) destroyed() {
	for i := range w.findings {
		if f := &w.findings[i]; f.Rule == "file-locked-many" && weighs(f) {
			statement, cites := f.Statement, f.Citations
			if words, more := w.touched(); words != "" {
				statement, cites = statement+"; "+words, append(slices.Clone(cites), more...)
			}
			w.effect(verdict.ImpactDestruction, f.Technique, statement, cites)
		}
	}
}

// openDoors tells of foreign listeners: a way in for later.
func (w *work) openDoors() {
	for i := range w.findings {
		if f := &w.findings[i]; f.Rule == "network-foreign-listener" {
			w.effect(verdict.ImpactLateral, f.Technique, f.Statement, f.Citations)
		}
	}
}

// persistence tells what would start again with the container, and if nothing would, that it was looked for.
func (w *work) persistence() {
	found := false
	var stays []string
	var staysCites []verdict.Citation
	for i := range w.findings {
		f := &w.findings[i]
		if !weighs(f) || f.Path == "" || f.Path[0] != '/' {
			continue
		}
		switch f.Rule {
		case "file-program-replaced", "file-configuration-changed":
			if strings.HasSuffix(f.Statement, " was deleted") {
				continue
			}
			found = true
			comes := ": it comes back when this container restarts, not when it is created anew"
			if m := w.mount(f.Path); m != nil && m.Kind == "volume" {
				comes = ": it lies on a volume, and comes back with the next container too"
			}
			w.effect(verdict.ImpactPersistence, f.Technique, f.Statement+comes, f.Citations)
		case "file-takes-commands":
			found = true
			w.effect(verdict.ImpactPersistence, f.Technique, f.Statement+": it waits for requests as long as this container exists", f.Citations)
		case "file-foreign-program", "file-gained-privilege":
			stays = append(stays, clip(f.Path, 80))
			staysCites = append(staysCites, f.Citations...)
		case "file-program-in-memory-mount":
			if m := w.mount(f.Path); m != nil && m.FSType != "tmpfs" {
				stays = append(stays, clip(f.Path, 80)+" (on a volume, which outlives the container)")
				staysCites = append(staysCites, f.Citations...)
			}
		}
	}
	if found {
		return
	}
	if len(stays) > 0 {
		w.effect(verdict.ImpactPersistence, "", list(uniqueStrings(stays), 5)+" will still be there when the container restarts, but nothing was found that would start it", staysCites[:min(len(staysCites), 8)])
		return
	}
	if _, blind := w.f.Missing[detect.Inventory]; blind || !w.bad() {
		return
	}
	if _, blind := w.f.Missing[detect.Baseline]; blind {
		return
	}
	if c, ok := w.f.Cite("filesystem/inventory.jsonl", 0, 0); ok {
		w.r.NotFound = append(w.r.NotFound, verdict.Impact{Type: verdict.ImpactPersistence, Citations: []verdict.Citation{c},
			Statement: "no persistence found: no file of the writable layer would start anything again with the container"})
	}
}

func (w *work) mount(path string) *record.Mounted {
	var best *record.Mounted
	for i := range w.f.Mounts {
		m := &w.f.Mounts[i]
		if strings.HasPrefix(path, strings.TrimSuffix(string(m.Point), "/")+"/") && (best == nil || len(m.Point) >= len(best.Point)) {
			best = m
		}
	}
	return best
}
