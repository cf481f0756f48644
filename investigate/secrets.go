package investigate

import (
	"github.com/sherd-forensics/sherd/internal/redact"
)

// hideSecrets takes the values of secrets out of all that is said. What a machine matches, the values of the scope, names no secret's value.
func (w *work) hideSecrets() {
	v := &w.r.Verdict
	hide := func(s *string) { *s = redact.Text(*s) }
	if v.RootCause != nil {
		hide(&v.RootCause.Statement)
	}
	for i := range v.Scope {
		hide(&v.Scope[i].Why)
	}
	for i := range v.Impact {
		hide(&v.Impact[i].Statement)
	}
	for i := range v.Findings {
		hide(&v.Findings[i].Statement)
	}
	for i := range v.Story {
		hide(&v.Story[i].Statement)
	}
	for i := range v.Gaps {
		hide(&v.Gaps[i].Why)
	}
	for i := range v.Next {
		hide(&v.Next[i])
	}
	for i := range w.r.Processes {
		hide(&w.r.Processes[i].Cmdline)
	}
	for i := range w.r.Drift {
		hide(&w.r.Drift[i].Note)
	}
	for i := range w.r.Timeline {
		hide(&w.r.Timeline[i].Text)
	}
	if g := w.r.Graph; g != nil {
		for i := range g.Nodes {
			hide(&g.Nodes[i].Label)
			hide(&g.Nodes[i].Note)
		}
		for i := range g.Edges {
			hide(&g.Edges[i].Note)
		}
	}
	// Rules' answers share nothing with the verdict's findings.
	for i := range w.r.Answers {
		for k := range w.r.Answers[i].Hits {
			hide(&w.r.Answers[i].Hits[k].Statement)
		}
	}
}
