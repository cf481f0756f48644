package investigate

import (
	"slices"

	"github.com/sherd-forensics/sherd/investigate/graph"
	"github.com/sherd-forensics/sherd/verdict"
)

// stamped is a copy of a result whose citations name their evidence.
func stamped(r *Result, id string) *Result {
	out := *r
	cites := func(in []verdict.Citation) []verdict.Citation {
		c := slices.Clone(in)
		for i := range c {
			c[i].Evidence = id
		}
		return c
	}
	reasons := func(in []verdict.Evidence) []verdict.Evidence {
		e := slices.Clone(in)
		for i := range e {
			e[i].Citations = cites(e[i].Citations)
		}
		return e
	}
	v := &out.Verdict
	if v.RootCause != nil {
		rc := *v.RootCause
		rc.Citations, rc.For, rc.Against = cites(rc.Citations), reasons(rc.For), reasons(rc.Against)
		v.RootCause = &rc
	}
	v.Candidates = copied(v.Candidates, func(c *verdict.Candidate) {
		c.Citations, c.For, c.Against = cites(c.Citations), reasons(c.For), reasons(c.Against)
	})
	v.Scope = copied(v.Scope, func(e *verdict.Entity) { e.Citations = cites(e.Citations) })
	v.Impact = copied(v.Impact, func(i *verdict.Impact) { i.Citations = cites(i.Citations) })
	v.Findings = copied(v.Findings, func(f *verdict.Finding) { f.Citations = cites(f.Citations) })
	v.Story = copied(v.Story, func(s *verdict.Step) { s.Citations = cites(s.Citations) })
	out.NotFound = copied(r.NotFound, func(i *verdict.Impact) { i.Citations = cites(i.Citations) })
	out.Processes = copied(r.Processes, func(p *Process) { p.Citations = cites(p.Citations) })
	out.Drift = copied(r.Drift, func(c *Change) { c.Citations = cites(c.Citations) })
	out.Timeline = copied(r.Timeline, func(e *Event) { e.Citations = cites(e.Citations) })
	if r.Graph != nil {
		out.Graph = &graph.Graph{Dropped: r.Graph.Dropped, Path: r.Graph.Path,
			Nodes: copied(r.Graph.Nodes, func(n *graph.Node) { n.Citations = cites(n.Citations) }),
			Edges: copied(r.Graph.Edges, func(e *graph.Edge) { e.Citations = cites(e.Citations) })}
	}
	return &out
}

func copied[T any](in []T, change func(*T)) []T {
	out := slices.Clone(in)
	for i := range out {
		change(&out[i])
	}
	return out
}
