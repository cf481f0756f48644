// Package graph is the provenance graph of an investigation: what took part (processes, files, addresses, requests, identities,
// credentials, containers, images, hosts), and who did what to whom. Every edge is there by a declared rule (Rules), with its
// confidence, its time if it has one, and the bytes that prove it. The graph is bounded and depends on nothing but the order
// in which it was built.
package graph

import (
	"cmp"
	"math"
	"slices"

	"github.com/sherd-forensics/sherd/verdict"
)

// Kind is what a node is.
type Kind string

// The kinds of nodes.
const (
	Process    Kind = "process"
	File       Kind = "file"
	Address    Kind = "address"
	Request    Kind = "request" // a line of a log that tells of one
	Identity   Kind = "identity"
	Credential Kind = "credential"
	Container  Kind = "container"
	Image      Kind = "image"
	Host       Kind = "host"
)

// Verb is what an edge's subject did to its object.
type Verb string

// The verbs.
const (
	Started      Verb = "started"
	Wrote        Verb = "wrote"
	Executed     Verb = "executed"
	Mapped       Verb = "mapped"
	Opened       Verb = "opened"
	Connected    Verb = "connected to"
	Listened     Verb = "listened on"
	Deleted      Verb = "deleted"
	Injected     Verb = "injected into"
	UsedIdentity Verb = "used identity"
	Logged       Verb = "logged"
	Sent         Verb = "sent"
	LedTo        Verb = "led to"
	CouldRead    Verb = "could read"
)

// Bounds of one graph. What is beyond them is counted.
const (
	MaxNodes = 4_000
	MaxEdges = 16_000
)

// Node is one thing that took part. Label is fit to be shown.
type Node struct {
	ID        string // unique in the graph
	Kind      Kind
	Label     string
	Note      string
	Time      int64  // nanoseconds UTC: when it came, 0 unknown
	Foreign   bool   // taken for the intruder's
	Container string // whose it is, in a graph over several; "" for what stands outside
	Citations []verdict.Citation
}

// Edge says that From did Verb to To. From and To are indexes of nodes.
type Edge struct {
	From, To   int
	Verb       Verb
	Rule       string
	Confidence float64
	Time       int64 // nanoseconds UTC, 0 unknown
	Note       string
	Citations  []verdict.Citation
}

// Graph is built by Node and Edge.
type Graph struct {
	Nodes   []Node
	Edges   []Edge
	Dropped int // nodes and edges beyond the bounds
	// Path are the edges from the entry to the gravest effect, in that order; empty while no entry is known.
	Path []int

	index map[string]int
	known map[edgeKey]int
}

type edgeKey struct {
	from, to int
	rule     string
}

// Add adds a node, or completes the one that has its ID, and returns its index; -1 when the graph is full.
func (g *Graph) Add(n Node) int {
	if g.index == nil {
		g.index, g.known = map[string]int{}, map[edgeKey]int{}
	}
	if i, ok := g.index[n.ID]; ok {
		old := &g.Nodes[i]
		old.Foreign = old.Foreign || n.Foreign
		old.Time, old.Note = cmp.Or(old.Time, n.Time), cmp.Or(old.Note, n.Note)
		old.Citations = merged(old.Citations, n.Citations)
		return i
	}
	if len(g.Nodes) >= MaxNodes {
		g.Dropped++
		return -1
	}
	n.Citations = merged(nil, n.Citations)
	g.index[n.ID] = len(g.Nodes)
	g.Nodes = append(g.Nodes, n)
	return len(g.Nodes) - 1
}

// Find is the index of a node by its ID, -1 if there is none.
func (g *Graph) Find(id string) int {
	if i, ok := g.index[id]; ok {
		return i
	}
	return -1
}

// Link adds an edge by a rule and returns its index, -1 when an end is missing, the rule is not declared, or the graph is full. A
// confidence of 0 stands for the rule's own; more than that is cut to it. Of two edges by one rule between the same ends the surer stays.
func (g *Graph) Link(rule string, e Edge) int {
	r, ok := RuleOf(rule)
	if !ok || e.From < 0 || e.To < 0 || e.From == e.To {
		return -1
	}
	e.Rule, e.Verb = r.Name, r.Verb
	if e.Confidence <= 0 || e.Confidence > r.Confidence {
		e.Confidence = r.Confidence
	}
	k := edgeKey{e.From, e.To, rule}
	if i, ok := g.known[k]; ok {
		old := &g.Edges[i]
		old.Citations = merged(old.Citations, e.Citations)
		if e.Confidence > old.Confidence {
			old.Confidence, old.Time, old.Note = e.Confidence, e.Time, e.Note
		}
		return i
	}
	if len(g.Edges) >= MaxEdges {
		g.Dropped++
		return -1
	}
	e.Citations = merged(nil, e.Citations)
	g.known[k] = len(g.Edges)
	g.Edges = append(g.Edges, e)
	return len(g.Edges) - 1
}

// maxCitations bounds those of one node or edge.
const maxCitations = 16

func merged(old, more []verdict.Citation) []verdict.Citation {
	for _, c := range more {
		if len(old) < maxCitations && !slices.Contains(old, c) {
			old = append(old, c)
		}
	}
	return old
}

// cause and effect are the ends of an edge in the order of time.
func (g *Graph) ends(i int) (cause, effect int) {
	e := &g.Edges[i]
	if r, _ := RuleOf(e.Rule); r.Backward {
		return e.To, e.From
	}
	return e.From, e.To
}

// Reached is what a walk found of one node: how surely it is tied to where the walk began, and by which edge it was reached (-1 at the
// beginning itself).
type Reached struct {
	Confidence float64 // 0: not reached
	Edge       int
}

// Back walks from effects to causes, Forth from causes to effects. Each node is reached on the surest way, whose confidence is the
// product of those of its edges; of equally sure ways the shorter counts, then the one that was added first. Edges that which refuses
// are not taken; nil takes all.
func (g *Graph) Back(from []int, which func(*Edge) bool) []Reached { return g.walk(from, true, which) }

// Forth is Back the other way round.
func (g *Graph) Forth(from []int, which func(*Edge) bool) []Reached {
	return g.walk(from, false, which)
}

func (g *Graph) walk(from []int, back bool, which func(*Edge) bool) []Reached {
	out := make([]Reached, len(g.Nodes))
	next := make([][]int, len(g.Nodes))
	for i := range g.Edges {
		if which != nil && !which(&g.Edges[i]) {
			continue
		}
		at, effect := g.ends(i)
		if back {
			at = effect
		}
		next[at] = append(next[at], i)
	}
	// A way's cost is the sum of the logarithms, so that it only grows, and a little for each step.
	const step = 1e-9
	cost := make([]float64, len(g.Nodes))
	for i := range cost {
		cost[i] = math.Inf(1)
	}
	for i := range out {
		out[i].Edge = -1
	}
	var queue heap
	for _, n := range from {
		if n >= 0 && cost[n] > 0 {
			cost[n], out[n].Confidence = 0, 1
			queue.push(item{0, n})
		}
	}
	for len(queue) > 0 {
		it := queue.pop()
		if it.cost > cost[it.node] {
			continue
		}
		for _, i := range next[it.node] {
			a, b := g.ends(i)
			if back {
				b = a
			}
			c := it.cost - math.Log(g.Edges[i].Confidence) + step
			if c < cost[b] {
				cost[b] = c
				out[b] = Reached{out[it.node].Confidence * g.Edges[i].Confidence, i}
				queue.push(item{c, b})
			}
		}
	}
	return out
}

// Trace gives the edges of the way by which a walk reached a node, from its beginning on.
func (g *Graph) Trace(way []Reached, to int, back bool) []int {
	var out []int
	for n := to; n >= 0 && way[n].Edge >= 0 && len(out) <= len(g.Nodes); {
		i := way[n].Edge
		out = append(out, i)
		cause, effect := g.ends(i)
		if n = cause; back {
			n = effect
		}
	}
	slices.Reverse(out)
	return out
}

type item struct {
	cost float64
	node int
}

// heap is a binary heap of the cheapest first, ties by node.
type heap []item

func (a item) less(b item) bool { return a.cost < b.cost || a.cost == b.cost && a.node < b.node }

func (h *heap) push(it item) {
	*h = append(*h, it)
	s := *h
	for i := len(s) - 1; i > 0 && s[i].less(s[(i-1)/2]); i = (i - 1) / 2 {
		s[i], s[(i-1)/2] = s[(i-1)/2], s[i]
	}
}

func (h *heap) pop() item {
	s := *h
	top := s[0]
	last := len(s) - 1
	s[0] = s[last]
	s = s[:last]
	for i := 0; ; {
		k := 2*i + 1
		if k+1 < last && s[k+1].less(s[k]) {
			k++
		}
		if k >= last || !s[k].less(s[i]) {
			break
		}
		s[i], s[k] = s[k], s[i]
		i = k
	}
	*h = s
	return top
}
