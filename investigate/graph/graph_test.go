package graph

import (
	"fmt"
	"math"
	"math/rand"
	"testing"

	"github.com/sherd-forensics/sherd/verdict"
)

func TestLinkKeepsToItsRule(t *testing.T) {
	g := &Graph{}
	a, b := g.Add(Node{ID: "a"}), g.Add(Node{ID: "b"})
	if g.Link("no such rule", Edge{From: a, To: b}) >= 0 || g.Link(RequestFrom, Edge{From: a, To: a}) >= 0 || g.Link(RequestFrom, Edge{From: a, To: -1}) >= 0 {
		t.Error("an edge was drawn that no rule allows")
	}
	i := g.Link(RequestFrom, Edge{From: a, To: b, Confidence: 0.3, Citations: []verdict.Citation{{Artifact: "x"}}})
	if g.Edges[i].Confidence != 0.3 || g.Edges[i].Verb != Sent {
		t.Errorf("%+v", g.Edges[i])
	}
	if k := g.Link(RequestFrom, Edge{From: a, To: b, Confidence: 5, Citations: []verdict.Citation{{Artifact: "y"}}}); k != i || g.Edges[i].Confidence != 0.9 || len(g.Edges[i].Citations) != 2 {
		t.Errorf("the second edge between the same: %d, %+v", k, g.Edges[i])
	}
}

func TestBounds(t *testing.T) {
	g := &Graph{}
	for i := range MaxNodes + 100 {
		g.Add(Node{ID: fmt.Sprint(i)})
	}
	if len(g.Nodes) != MaxNodes || g.Dropped != 100 {
		t.Errorf("%d nodes, %d dropped", len(g.Nodes), g.Dropped)
	}
	for i := range 2 * MaxEdges {
		g.Link(ProcessParent, Edge{From: i % MaxNodes, To: (i*7 + 1) % MaxNodes})
	}
	if len(g.Edges) > MaxEdges {
		t.Errorf("%d edges", len(g.Edges))
	}
	g.Back([]int{0, 1, 2}, nil)
}

// TestWalkIsSurest compares walks over random graphs, circles included, with the slow way of trying every edge again and again.
func TestWalkIsSurest(t *testing.T) {
	rules := Rules()
	for seed := range int64(50) {
		rnd := rand.New(rand.NewSource(seed))
		g := &Graph{}
		n := 2 + rnd.Intn(20)
		for i := range n {
			g.Add(Node{ID: fmt.Sprint(i)})
		}
		for range 3 * n {
			g.Link(rules[rnd.Intn(len(rules))].Name, Edge{From: rnd.Intn(n), To: rnd.Intn(n), Confidence: 0.1 + rnd.Float64()})
		}
		way := g.Back([]int{0}, nil)
		best := make([]float64, n)
		best[0] = 1
		for range n {
			for i := range g.Edges {
				cause, effect := g.ends(i)
				best[cause] = max(best[cause], best[effect]*g.Edges[i].Confidence)
			}
		}
		for i := range way {
			if math.Abs(way[i].Confidence-best[i]) > 1e-6 {
				t.Fatalf("seed %d: node %d is reached with %v, not %v", seed, i, way[i].Confidence, best[i])
			}
			at := 0
			for _, k := range g.Trace(way, i, true) {
				cause, effect := g.ends(k)
				if effect != at {
					t.Fatalf("seed %d: the way to %d is broken", seed, i)
				}
				at = cause
			}
			if best[i] > 0 && at != i {
				t.Fatalf("seed %d: the way to %d ends at %d", seed, i, at)
			}
		}
	}
}
