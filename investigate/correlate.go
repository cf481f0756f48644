package investigate

import (
	"slices"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/behaviour"
	"github.com/sherd-forensics/sherd/verdict"
)

// requestRule links what other rules found with the container's own log.
var requestRule = detect.Rule{
	ID: "request-wrote-file", Title: "A client's request put a program, code or setting in place", Severity: verdict.Critical, Technique: "T1190",
	Rationale:   "A request that names a file by a path that climbs out of its folder, at the very moment when that file came or changed, is the intrusion itself.",
	FalseAlarms: "Applications whose purpose is to store programs do so on request, but need no path that climbs: graded high.",
	Needs:       []detect.Fact{detect.Inventory, detect.Baseline},
}

// Rules are all rules that a verdict rests on: those of package detect in Go and in CEL, those that link findings with logs, the one that
// compares with lists of indicators, and those over foreign programs and memory.
func Rules() []detect.Rule {
	return slices.Concat(detect.Rules(), behaviour.New().Rules(), []detect.Rule{requestRule, logFormRule, logTimeRule, fileTimeRule, indicatorRule,
		factsRule, carvedRule, peerRule, mentionRule, heldRule, miningRule})
}

// correlate asks requestRule.
func (w *work) correlate() {
	a := detect.Answer{Rule: &requestRule}
	seen := map[string]bool{}
	for _, x := range w.arrivals(leads) {
		if x.path == "" || seen[x.path] {
			continue
		}
		if !w.logs.any {
			a.Blind = append(a.Blind, detect.Blindness{What: "who asked for " + clip(x.path, 120), Why: "no logs of the container were collected"})
			continue
		}
		for _, r := range w.around(x.time, windowBefore, windowAfter) {
			if !r.names(x.path) {
				continue
			}
			seen[x.path] = true
			f := detect.Finding{Path: x.path, When: min(r.Time, x.time), Foreign: true}
			f.Severity = verdict.High
			f.Statement = r.words() + ", " + relation(r.Time, x.time) + x.words + ", names that file"
			if r.traversal() {
				f.Severity = verdict.Critical
				f.Statement += " by a path that climbs out of its folder"
			}
			f.Citations = unique(append([]verdict.Citation{r.Cite}, x.cites...))
			a.Add(f)
			w.notEarly(x.path)
			break
		}
	}
	w.answers = append(w.answers, a)
	w.r.Answers = w.answers
	w.collectFindings()
}

// notEarly takes back that an entry point or an update may have changed a setting or a program: a client's request asked for it.
func (w *work) notEarly(path string) {
	for i := range w.answers {
		for k := range w.answers[i].Hits {
			if h := &w.answers[i].Hits[k]; (h.Rule == "file-configuration-changed" || h.Rule == "file-program-replaced") && h.Path == path && !weighs(h) {
				h.Severity, h.Foreign = verdict.Medium, true
				h.Statement += "; but a client's request asked for it"
			}
		}
	}
}
