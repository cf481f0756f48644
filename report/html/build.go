package html

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/report"
	"github.com/sherd-forensics/sherd/verdict"
)

// What one page shows at most; the package has the rest.
const (
	maxProofs    = 600
	maxEvents    = 2000
	maxDrift     = 2000
	maxProcesses = 2000
)

// numbers gives each citation its number: those of the verdict as in the terminal's report, then the page's own.
type numbers struct {
	index map[verdict.Citation]int
	list  []verdict.Citation
}

func (n *numbers) of(cs []verdict.Citation) []int {
	var out []int
	for _, c := range cs {
		k, ok := n.index[c]
		if !ok {
			if len(n.list) >= maxProofs {
				continue
			}
			n.list = append(n.list, c)
			k = len(n.list)
			n.index[c] = k
		}
		out = append(out, k)
	}
	return out
}

// build turns an investigation into words.
func build(r *investigate.Result, ps []*evidence.Package) (*page, error) {
	v := &r.Verdict
	if err := v.Check(); err != nil {
		return nil, fmt.Errorf("the verdict is not fit to be shown: %w", err)
	}
	n := &numbers{index: map[verdict.Citation]int{}}
	for _, c := range report.Proofs(r) {
		n.list = append(n.list, c)
		n.index[c] = len(n.list)
	}
	shared := len(n.list)
	pg := &page{
		Title: printable.Text(v.Target.Name) + ": " + string(v.Verdict), Word: strings.ToUpper(string(v.Verdict)),
		Judgement: v.Verdict, Confidence: fmt.Sprintf("%.2f", v.Confidence), Sentence: sentence(r),
		Evidence: printable.Text(v.Target.Evidence), EvidenceID: v.Target.EvidenceID, SHA256: v.Target.SHA256, Zone: "UTC",
		TargetWords: targetWords(r), Next: texts(v.Next), Gaps: gaps(v.Gaps),
	}
	if pg.Evidence == "" {
		pg.Evidence = "PACKAGE"
	}
	if rc := v.RootCause; rc != nil {
		pg.RootCause = &claim{Statement: printable.Text(rc.Statement), Technique: rc.Technique, Time: rc.Time,
			Confidence: fmt.Sprintf("%.2f", rc.Confidence), Cites: n.of(rc.Citations)}
	} else {
		pg.NoRootCause = "None to name: nothing malicious was found."
		if v.Verdict != verdict.Clean {
			pg.NoRootCause = "Not known: the evidence does not show it. What is missing stands under “Not seen”."
		}
	}
	if rc := v.RootCause; rc != nil {
		pg.Reasons = reasons(rc.For, rc.Against, n)
	}
	for _, c := range v.Candidates {
		pg.Candidates = append(pg.Candidates, candidate{Weight: fmt.Sprintf("%.2f", c.Weight), Reasons: reasons(c.For, c.Against, n),
			claim: claim{Statement: printable.Text(c.Statement), Time: c.Time, Cites: n.of(c.Citations)}})
	}
	pg.members(r, n)
	if d := draw(r, n); d != nil {
		pg.Graph, pg.GraphTall, pg.GraphWords, pg.GraphPath = d.wide(), d.tall(), d.words, len(r.Graph.Path) > 0
	}
	for _, e := range v.Scope {
		pg.Scope = append(pg.Scope, entity{Type: e.Type, Value: printable.Text(e.Value), SHA256: e.SHA256, Role: printable.Text(e.Role),
			Why: printable.Text(e.Why), PID: e.PID, Cites: n.of(e.Citations)})
	}
	for _, i := range append(append([]verdict.Impact{}, v.Impact...), r.NotFound...) {
		pg.Impact = append(pg.Impact, claim{Type: i.Type, Statement: printable.Text(i.Statement), Technique: i.Technique, Cites: n.of(i.Citations)})
	}
	for _, s := range v.Story {
		pg.Story = append(pg.Story, claim{Time: s.Time, Statement: printable.Text(s.Statement), Cites: n.of(s.Citations)})
	}
	for _, f := range v.Findings {
		pg.Findings = append(pg.Findings, claim{Rule: f.Rule, Severity: string(f.Severity), Statement: printable.Text(f.Statement),
			Technique: f.Technique, Time: f.Time, Cites: n.of(f.Citations)})
	}
	pg.processes(r, n)
	pg.drift(r, n)
	pg.events(r, n)
	for i, c := range n.list {
		p, file := packageOf(r, ps, c.Evidence)
		pf := bytesOf(p, i+1, c, r.Revealed)
		if pf.File = file; file == "" {
			file = pg.Evidence
		}
		if i >= shared || pf.File != "" {
			pf.Hint = fmt.Sprintf("sherd show %s %s --offset %d --length %d", file, pf.Artifact, c.Offset, max(c.Length, 1))
		}
		pg.Proofs = append(pg.Proofs, pf)
	}
	return pg, nil
}

// packageOf is the package that a citation is of, with its file name where there are several.
func packageOf(r *investigate.Result, ps []*evidence.Package, id string) (*evidence.Package, string) {
	if len(r.Members) == 0 {
		if len(ps) == 0 {
			return nil, ""
		}
		return ps[0], ""
	}
	for i := range r.Members {
		m := &r.Members[i]
		if m.EvidenceID != id {
			continue
		}
		for _, p := range ps {
			if p.SHA256() == m.SHA256 && p.ID() == r.Verdict.Containers[i].Target.EvidenceID {
				return p, printable.Text(m.Evidence)
			}
		}
	}
	return nil, ""
}

// sentence is the verdict for somebody who reads only one.
func sentence(r *investigate.Result) string {
	v := &r.Verdict
	name := printable.Text(v.Target.Name)
	switch v.Verdict {
	case verdict.Clean:
		return "Nothing in " + name + " runs or was changed that its image and its configuration do not explain."
	case verdict.Inconclusive:
		return "Nothing malicious was found in " + name + ", but too much could not be seen to call it clean."
	case verdict.Compromised, verdict.Suspicious:
	}
	if v.RootCause != nil {
		return printable.Text(v.RootCause.Statement)
	}
	if len(v.Findings) > 0 {
		return printable.Text(v.Findings[0].Statement)
	}
	return ""
}

func targetWords(r *investigate.Result) []string {
	t, h := &r.Verdict.Target, &r.Header
	var out []string
	add := func(s string) {
		if s != "" {
			out = append(out, printable.Clip(s, 120))
		}
	}
	add(t.Name)
	image := t.Image
	if t.ImageDigest != "" && !strings.Contains(image, "@") {
		image += "@" + t.ImageDigest
	}
	add(image)
	add(t.Runtime)
	if t.Pod != "" {
		add("pod " + t.Namespace + "/" + t.Pod)
	}
	add(t.State)
	if !t.Collected.IsZero() {
		add("captured " + t.Collected.UTC().Format(time.RFC3339))
	}
	if d := h.Distroless; d != nil {
		if d.Distroless {
			add("distroless: " + d.Reason)
		} else {
			add("not distroless: " + d.Reason)
		}
	}
	add(fmt.Sprintf("%d processes, %d sockets", h.Processes, h.Sockets))
	return out
}

// reasons puts what speaks for a conclusion before what speaks against it.
func reasons(pro, con []verdict.Evidence, n *numbers) []reason {
	var out []reason
	for _, e := range pro {
		out = append(out, reason{claim: claim{Statement: printable.Text(e.Statement), Cites: n.of(e.Citations)}})
	}
	for _, e := range con {
		out = append(out, reason{Against: true, claim: claim{Statement: printable.Text(e.Statement), Cites: n.of(e.Citations)}})
	}
	return out
}

func (pg *page) members(r *investigate.Result, n *numbers) {
	for i := range r.Members {
		m := &r.Members[i]
		pg.Members = append(pg.Members, member{Name: printable.Text(m.Name), Evidence: printable.Text(m.Evidence), Word: string(m.Verdict), Judgement: m.Verdict,
			Confidence: fmt.Sprintf("%.2f", m.Confidence), Role: m.Role, First: when(m.First)})
	}
	for _, m := range r.Moves {
		pg.Moves = append(pg.Moves, claim{Cites: n.of(m.Citations),
			Statement: "from " + printable.Text(r.Members[m.From].Name) + " to " + printable.Text(r.Members[m.To].Name) + ": " + printable.Text(m.Why)})
	}
}

// of prefixes a container's name where there are several.
func of(container, s string) string {
	if container == "" {
		return s
	}
	return printable.Text(container) + ": " + s
}

func (pg *page) processes(r *investigate.Result, n *numbers) {
	for i, p := range r.Processes {
		if i == maxProcesses {
			break
		}
		row := processRow{Indent: 10 + 18*min(p.Depth, 20), Branch: p.Depth > 0, PID: p.ContainerPID, HostPID: p.PID, Foreign: p.Foreign,
			Comm: of(p.Container, printable.Text(p.Comm)), Cmdline: printable.Clip(p.Cmdline, 300), Exe: printable.Text(p.Exe), Origin: originWords(p.Origin),
			Started: when(p.Started), Cites: n.of(p.Citations)}
		if row.PID == 0 {
			row.PID, row.HostPID = p.PID, 0
		}
		pg.Processes = append(pg.Processes, row)
	}
}

// originWords says in words where an executable is from.
func originWords(o string) string {
	switch o {
	case record.ExeImage:
		return "from the image"
	case record.ExeDrift:
		return "added or changed since the image"
	case record.ExeDeleted:
		return "deleted"
	case record.ExeMemfd:
		return "never had a name in a file system (memfd)"
	case record.ExeVolume:
		return "from a volume"
	case record.ExeOutside:
		return "from outside the container"
	}
	return ""
}

func (pg *page) drift(r *investigate.Result, n *numbers) {
	pg.NoDrift = "No file differs from the image."
	for _, a := range r.Verdict.Gaps {
		if strings.Contains(a.What, "file") || strings.Contains(a.What, "layer") {
			pg.NoDrift = "None was found in what could be read; see “Not seen”."
		}
	}
	for i, c := range r.Drift {
		if i == maxDrift {
			break
		}
		row := driftRow{Kind: c.Kind, Path: of(c.Container, printable.Text(c.Path)), Note: printable.Text(c.Note), Mode: fmt.Sprintf("%04o", c.Mode),
			Time: when(c.Time), Marked: c.Marked, Layer: "not in the image"}
		if c.Type == record.TypeFile {
			row.Size = humanize.IBytes(uint64(max(c.Size, 0)))
		}
		if c.Layer != record.WritableLayer {
			row.Layer = fmt.Sprintf("layer %d", c.Layer)
			if d := strings.TrimPrefix(c.LayerDigest, "sha256:"); d != "" {
				row.Layer += " " + d[:min(len(d), 12)]
			}
		}
		if c.Marked || i < 100 {
			row.Cites = n.of(c.Citations)
		}
		pg.Drift = append(pg.Drift, row)
	}
	if r.DriftTotal > len(pg.Drift) {
		pg.DriftCut = fmt.Sprintf("%d of %d changes are listed, those that weigh first; the package's inventory has all.", len(pg.Drift), r.DriftTotal)
	}
}

func (pg *page) events(r *investigate.Result, n *numbers) {
	var dots []dot
	for i, e := range r.Timeline {
		if i == maxEvents {
			break
		}
		ms := e.Time / int64(time.Millisecond)
		text := of(e.Container, printable.Clip(e.Text, 300))
		lane, _, _ := strings.Cut(string(e.Kind), ".")
		dots = append(dots, dot{MS: ms, Lane: lane, Label: when(e.Time) + "  " + text, Marked: e.Marked})
		row := eventRow{MS: ms, Time: when(e.Time), Kind: string(e.Kind), Text: text, Marked: e.Marked}
		if e.Marked {
			row.Cites = n.of(e.Citations)
		}
		pg.Events = append(pg.Events, row)
	}
	pg.Timeline = picture(dots)
	if r.TimelineTotal > len(pg.Events) {
		pg.EventsCut = fmt.Sprintf("%d of %d events are shown, those around what weighs.", len(pg.Events), r.TimelineTotal)
	}
}

// when shows nanoseconds since the epoch with milliseconds, "" for 0.
func when(ns int64) string {
	if ns == 0 {
		return ""
	}
	return time.Unix(0, ns).UTC().Format("2006-01-02 15:04:05.000Z")
}

func texts(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = printable.Text(s)
	}
	return out
}

func gaps(in []verdict.Gap) []verdict.Gap {
	out := make([]verdict.Gap, len(in))
	for i, g := range in {
		out[i] = verdict.Gap{What: printable.Text(g.What), Why: printable.Text(g.Why), Consequence: printable.Text(g.Consequence)}
	}
	return out
}
