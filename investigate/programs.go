package investigate

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/program"
	"github.com/sherd-forensics/sherd/verdict"
)

// factsRule tells what the programs are that findings which weigh are about. It grades nothing.
var factsRule = detect.Rule{
	ID: "program-facts", Title: "What a foreign program is by its own bytes", Severity: verdict.Info, Technique: "",
	Rationale:   "How a program was built, what it needs and what its code can do say where to look next, and its hashes find it and its kin elsewhere.",
	FalseAlarms: "It is no accusation: it describes files that other findings are about. What code can do it need not have done, and what it says of itself its maker chose.",
	Needs:       nil,
}

// Bounds of the programs that are read.
const (
	maxPrograms     = 64
	maxProgramBytes = 1 << 30
)

// subjectOf is a program that a finding is about.
type subjectOf struct {
	name    string
	finding *detect.Finding
}

// describePrograms reads the programs that findings which weigh are about, as far as the package holds them.
func (w *work) describePrograms(ctx context.Context) error {
	wanted := map[string]subjectOf{}
	want := func(sum string, f *detect.Finding) {
		if _, known := wanted[sum]; known || sum == "" || w.f.Files.Image[sum] != "" {
			return // what the image holds is not foreign
		}
		name := f.Path
		if p := w.f.Process(f.PID); name == "" && p != nil {
			name = detect.ExeName(p)
		}
		wanted[sum] = subjectOf{name, f}
	}
	for i := range w.findings {
		f := &w.findings[i]
		if !weighs(f) {
			continue
		}
		want(f.SHA256, f)
		for _, c := range f.Citations {
			if c.Offset == 0 && c.Length == 0 && strings.HasPrefix(c.Artifact, "process/") {
				want(c.SHA256, f)
			}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	a := detect.Answer{Rule: &factsRule}
	w.programs = map[string]*program.Facts{}
	left := int64(maxProgramBytes)
	for _, e := range w.p.Artifacts("") {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		x, ok := wanted[e.SHA256]
		if !ok || w.programs[e.SHA256] != nil {
			continue
		}
		art, err := w.p.Open(e.Path)
		if err != nil {
			a.BlindTo("what "+clip(x.name, 160)+" is", err.Error())
			continue
		}
		head := make([]byte, 4)
		if _, err := art.ReadAt(head, 0); err != nil || string(head) != "\x7fELF" {
			continue
		}
		if left -= art.Size(); left < 0 || len(w.programs) >= maxPrograms {
			a.BlindTo("what "+clip(x.name, 160)+" is", "more programs are foreign than are described")
			break
		}
		facts, err := program.Read(art, art.Size())
		if err != nil {
			continue
		}
		w.programs[e.SHA256] = facts
		f := detect.Finding{PID: x.finding.PID, Path: x.finding.Path, SHA256: e.SHA256}
		f.Statement = clip(cmp.Or(x.name, e.Path), 160) + " is a " + facts.Words()
		f.Citations = []verdict.Citation{{Artifact: e.Path, SHA256: e.SHA256}}
		a.Add(f)
	}
	slices.SortStableFunc(a.Hits, func(x, y detect.Finding) int {
		return cmp.Or(cmp.Compare(x.Path, y.Path), cmp.Compare(x.SHA256, y.SHA256))
	})
	w.answers = append(w.answers, a)
	return nil
}

// programWords are a program's facts for an entry of the scope, "" if they are not known.
func (w *work) programWords(sum string) string {
	if x := w.programs[sum]; x != nil {
		return x.Summary()
	}
	return ""
}
