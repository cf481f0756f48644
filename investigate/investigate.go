// Package investigate draws a verdict from one sealed package: which of the rules' findings weigh, how an intruder got in,
// what is touched, what was done, the story in order of time, and what could not be seen. It is a pure function of
// the package: the same bytes give the same result, byte for byte. Nothing is claimed without a citation, and a
// missing part of the evidence can only weaken the verdict.
package investigate

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/indicator"
	"github.com/sherd-forensics/sherd/detect/program"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/redact"
	"github.com/sherd-forensics/sherd/investigate/graph"
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/verdict"
)

// Options adjust an investigation. All who read the same package with the same options read the same verdict.
type Options struct {
	// Indicators are looked for in the evidence; nil looks for none. It is only read.
	Indicators *indicator.Set
	// Languages are sets of rules beside those of package detect, asked in this order.
	Languages []detect.Language
	// Events gives the package's events, each time from the start; nil where nobody can read them.
	Events iter.Seq2[*event.Event, error]
	// Reveal leaves secrets in statements and command lines as they are.
	Reveal bool
}

// Result is a verdict with what pictures and headers need. Its strings are fit to be shown, except where a field says
// that it is raw.
type Result struct {
	Verdict verdict.Verdict
	Header  Header
	// Processes is the process tree, parents before children.
	Processes []Process
	// Drift lists changes, those that weigh first; DriftTotal counts all of them.
	Drift      []Change
	DriftTotal int
	// Timeline has events around what weighs, in order of time; TimelineTotal counts those before the cut.
	Timeline      []Event
	TimelineTotal int
	// NotFound are things that were looked for and not found, each with what was looked at.
	NotFound []verdict.Impact
	// Answers are all rules' answers.
	Answers []detect.Answer
	// Graph is what took part and who did what to whom; it is empty of a verdict that claims no intrusion.
	Graph *graph.Graph
	// First is the earliest moment that the verdict's root cause or a finding that weighs bears, in nanoseconds UTC; 0 is unknown.
	First int64
	// Members, Moves and Shared are of a result over several containers (Together): the containers in the order in which they were touched,
	// those that were not last; which reached which; and what they have in common. The indexes are those of Members.
	Members []Member
	Moves   []Move
	Shared  []Link
	// Revealed is true if secrets were left as they are, by Options.Reveal.
	Revealed bool
	// Own are the container's addresses, as its connections show them; loopback is none.
	Own []string
}

// Header sums the capture up.
type Header struct {
	Sockets, Processes int
	Memory             int64 // bytes resident in the container's processes
	LayerBytes         int64
	LayerFiles         int
	// NoImage says that the image's files are not known, so that LayerFiles are all that the container shows.
	NoImage     bool
	LogBytes    int64
	Distroless  *target.Distroless
	Truncated   bool  // the package is cut short
	PackageSize int64 // bytes
}

// Process is one process of the tree.
type Process struct {
	PID, ContainerPID, PPID int
	Depth                   int // 0 is a root of the tree
	Comm, Cmdline           string
	Exe, Origin             string // Origin is one of record.Exe…
	UID                     uint32
	Started                 int64 // nanoseconds UTC, 0 unknown
	CPUTime                 int64 // nanoseconds
	Foreign                 bool
	Citations               []verdict.Citation
	Container               string // its name, in a result over several
}

// Change is one path that differs from the image.
type Change struct {
	Kind, Path, Note string
	Type             string
	Mode             uint32
	Size             int64
	Time             int64 // nanoseconds UTC, 0 unknown
	Layer            int   // of the image's version, record.WritableLayer if the image has none
	LayerDigest      string
	SHA256           string
	Marked           bool // a finding that weighs concerns it
	Citations        []verdict.Citation
	Container        string // its name, in a result over several
}

// Event is one point of the timeline.
type Event struct {
	Time      int64 // nanoseconds UTC
	TimeKind  event.TimeKind
	Kind      event.Kind
	Text      string
	Marked    bool
	Citations []verdict.Citation
	Container string // its name, in a result over several
}

// work is the state of one investigation.
type work struct {
	p        *evidence.Package
	f        *detect.Facts
	answers  []detect.Answer
	findings []detect.Finding // by severity, then time
	requests []request        // logged requests around what weighs, by time
	logs     logSummary
	entry    string                    // the way in, for advice
	programs map[string]*program.Facts // foreign programs by SHA-256
	held     []held
	r        *Result
	gaps     []verdict.Gap
	g        *graph.Graph
	comings  []arrival   // of what weighs, by time
	cands    []candidate // the ways in
	use      identityUse
}

// Investigate judges one package. Its error means that ctx ended or that the verdict would have been unproven, which is a
// defect of this program and never shown as a verdict.
func Investigate(ctx context.Context, p *evidence.Package, o Options) (*Result, error) {
	f, err := detect.Load(ctx, p)
	if err != nil {
		return nil, err
	}
	w := &work{p: p, f: f, r: &Result{Revealed: o.Reveal}}
	if err := w.rules(ctx, o); err != nil {
		return nil, err
	}
	if err := w.readLogs(ctx); err != nil {
		return nil, err
	}
	w.correlate()
	w.contradictions()
	if err := w.indicators(ctx, o.Indicators); err != nil {
		return nil, err
	}
	if err := w.languages(ctx, o); err != nil {
		return nil, err
	}
	if err := w.describePrograms(ctx); err != nil {
		return nil, err
	}
	if err := w.readMemory(ctx); err != nil {
		return nil, err
	}
	w.r.Answers = w.answers
	w.collectFindings()
	v := &w.r.Verdict
	v.Schema = verdict.Schema
	v.Target = w.target()
	w.header()
	w.judge()
	w.place()
	w.provenance()
	v.RootCause = w.rootCause()
	w.place()
	if err := w.readIdentity(ctx, o.Events); err != nil {
		return nil, err
	}
	w.scope()
	w.impact()
	w.identityClaims()
	w.clusterClaims()
	w.mark()
	w.story()
	w.processTree()
	w.drift()
	w.coverageGaps()
	w.next()
	v.Gaps = w.gaps
	w.fill()
	if !o.Reveal {
		w.hideSecrets()
	}
	if err := v.Check(); err != nil {
		return nil, fmt.Errorf("the verdict is not proven throughout: %w", err)
	}
	return w.r, nil
}

// place notes where and when the verdict stands among others.
func (w *work) place() {
	for i := range w.f.Sockets {
		s := &w.f.Sockets[i]
		if detect.Remote(s) && !s.Shared && !slices.Contains(w.r.Own, s.LocalIP) && len(w.r.Own) < 64 {
			w.r.Own = append(w.r.Own, s.LocalIP)
		}
	}
	take := func(t int64) {
		if t != 0 && (w.r.First == 0 || t < w.r.First) {
			w.r.First = t
		}
	}
	for i := range w.findings {
		if f := &w.findings[i]; weighs(f) {
			take(f.When)
		}
	}
	if rc := w.r.Verdict.RootCause; rc != nil {
		if t, err := time.Parse(time.RFC3339Nano, rc.Time); err == nil {
			take(t.UnixNano())
		}
	}
}

// fill makes empty lists of nil ones: JSON readers expect lists.
func (w *work) fill() {
	v := &w.r.Verdict
	v.Scope = notNil(v.Scope)
	v.Impact = notNil(v.Impact)
	v.Findings = notNil(v.Findings)
	v.Story = notNil(v.Story)
	v.Gaps = notNil(v.Gaps)
	v.Next = notNil(v.Next)
	if v.RootCause != nil {
		v.RootCause.Entities = notNil(v.RootCause.Entities)
	}
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func (w *work) collectFindings() {
	w.findings, w.r.Verdict.Findings = nil, nil
	for i := range w.answers {
		w.findings = append(w.findings, w.answers[i].Hits...)
	}
	slices.SortStableFunc(w.findings, func(a, b detect.Finding) int {
		if d := b.Severity.Rank() - a.Severity.Rank(); d != 0 {
			return d
		}
		switch {
		case a.When < b.When:
			return -1
		case a.When > b.When:
			return 1
		}
		return 0
	})
	for i := range w.findings {
		w.r.Verdict.Findings = append(w.r.Verdict.Findings, w.findings[i].Finding)
	}
}

func (w *work) target() verdict.Target {
	c := &w.f.Container
	t := verdict.Target{
		URL: c.URL, Runtime: c.Runtime, ID: c.ID, Name: c.Name, Image: c.Image.Name, ImageDigest: c.Image.Digest, Node: w.f.Host.Hostname,
		State: string(c.State), Started: c.Started.UTC(), EvidenceID: w.p.ID(), Evidence: filepath.Base(w.p.Path()), SHA256: w.p.SHA256(),
	}
	if t.ImageDigest == "" {
		t.ImageDigest = c.Image.ConfigID
	}
	if c.Pod != nil {
		t.Pod, t.Namespace = c.Pod.Name, c.Pod.Namespace
	}
	if w.f.Host.Realtime != 0 {
		t.Collected = asTime(w.f.Host.Realtime)
	}
	return t
}

func (w *work) header() {
	h := &w.r.Header
	h.Sockets, h.Processes = len(w.f.Sockets), len(w.f.Processes)
	for i := range w.f.Processes {
		h.Memory += w.f.Processes[i].RSS
	}
	h.LayerBytes, h.LayerFiles = w.f.Files.LayerBytes, w.f.Files.LayerFiles
	h.NoImage = w.f.Missing[detect.Baseline] != ""
	for _, e := range w.p.Artifacts("logs/") {
		h.LogBytes += e.Size
	}
	h.Distroless, h.Truncated, h.PackageSize = w.f.Container.Distroless, w.p.Truncated(), w.p.Size()
}

// weighs are findings that a verdict can rest on.
func weighs(f *detect.Finding) bool { return f.Severity.Rank() >= verdict.Medium.Rank() }

func (w *work) processTree() {
	children := map[int][]int{}
	isRoot := func(p *detect.Process) bool { return w.f.Process(p.PPID) == nil || p.PPID == p.PID }
	var roots []int
	for i := range w.f.Processes {
		p := &w.f.Processes[i]
		if isRoot(p) {
			roots = append(roots, i)
		} else {
			children[p.PPID] = append(children[p.PPID], i)
		}
	}
	done := make([]bool, len(w.f.Processes))
	type item struct{ i, depth int }
	var stack []item
	visit := func(from int) {
		stack = append(stack, item{from, 0})
		for len(stack) > 0 {
			it := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if done[it.i] {
				continue
			}
			done[it.i] = true
			p := &w.f.Processes[it.i]
			w.r.Processes = append(w.r.Processes, w.processRow(p, it.depth))
			kids := children[p.PID]
			for k := len(kids) - 1; k >= 0; k-- {
				stack = append(stack, item{kids[k], it.depth + 1})
			}
		}
	}
	for _, i := range roots {
		visit(i)
	}
	for i := range done { // parents in a circle can only be forged; show them all the same
		if !done[i] {
			visit(i)
		}
	}
}

func (w *work) processRow(p *detect.Process, depth int) Process {
	line := ""
	for i, a := range p.Cmdline {
		if i > 0 {
			line += " "
		}
		if line += string(a); len(line) > 512 {
			break
		}
	}
	if !w.r.Revealed {
		line = redact.Text(line) // before it is cut: half a token is not known as one
	}
	return Process{
		PID: p.PID, ContainerPID: p.ContainerPID, PPID: p.PPID, Depth: depth, Comm: clip(string(p.Comm), 40), Cmdline: clip(line, 200),
		Exe: clip(detect.ExeName(p), 200), Origin: p.Exe.Origin, UID: p.UID, Started: p.StartTime, CPUTime: p.CPUTime,
		Foreign: w.f.Foreign(p) || w.victim(p.PID), Citations: []verdict.Citation{p.Cite},
	}
}

// victim reports whether a finding that weighs says that a process does what its image's program does not do by itself.
func (w *work) victim(pid int) bool {
	return slices.ContainsFunc(w.findings, func(f detect.Finding) bool {
		return f.PID == pid && weighs(&f) && f.Rule != "process-traced" && f.Rule != "process-outside-cgroup"
	})
}

// maxDrift bounds the list of changes that is shown.
const maxDrift = 500

func (w *work) drift() {
	marked := map[string]string{}
	for i := range w.findings {
		if f := &w.findings[i]; f.Path != "" && weighs(f) && marked[f.Path] == "" {
			marked[f.Path] = f.Statement
		}
	}
	var first, rest []Change
	for i := range w.f.Files.Changes {
		c := &w.f.Files.Changes[i]
		if c.Runtime {
			continue
		}
		w.r.DriftTotal++
		row := driftRow(c)
		if note := marked[c.Path]; note != "" {
			row.Marked, row.Note = true, note
			if len(first) < maxDrift {
				first = append(first, row)
			}
		} else if len(rest) < maxDrift {
			rest = append(rest, row)
		}
	}
	w.r.DriftTotal += w.f.Files.Dropped
	w.r.Drift = slices.Concat(first, rest[:min(len(rest), maxDrift-len(first))])
}

func driftRow(c *inventory.Change) Change {
	row := Change{Kind: string(c.Kind), Path: clip(c.Path, 300), Layer: record.WritableLayer}
	at := c.After
	if at == nil {
		at = c.Before
	}
	row.Type, row.Mode, row.Size, row.SHA256 = at.Type, at.Mode, at.Size, at.SHA256
	if c.Before != nil {
		row.Layer, row.LayerDigest = c.Before.Layer, c.Before.LayerDigest
	}
	row.Time = detect.ChangedAt(c)
	for _, r := range []*inventory.Row{c.After, c.Whiteout, c.Before} {
		if r != nil {
			row.Citations = append(row.Citations, r.Cite)
		}
	}
	return row
}
