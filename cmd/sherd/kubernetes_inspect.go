package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/sherd-forensics/sherd/collect/cluster"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// inspect has a collector on each node of the containers say which of them are distroless. The answers are in the containers' order; what a node
// did not tell says why.
func (a *app) inspect(ctx context.Context, c *kubernetes.Cluster, found []*kubernetes.Instance, f *captureFlags) ([]relay.Judgement, error) {
	out := make([]relay.Judgement, len(found))
	of := map[string][]int{}
	at := make([]string, len(found))
	var nodes []string
	for n, i := range found {
		var err error
		if at[n], err = nodeTarget(i); err != nil {
			out[n].Reason = "never started"
			if i.ID != "" {
				out[n].Reason = "its runtime is not known"
			}
			continue
		}
		if node := i.Pod.Spec.NodeName; of[node] == nil {
			nodes = append(nodes, node)
		}
		of[i.Pod.Spec.NodeName] = append(of[i.Pod.Spec.NodeName], n)
	}
	p := a.progress(nil)
	defer p.Done()
	o, err := f.collectors(a, p.Stage)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var notes []string
	err = cluster.Each(ctx, c, nodes, o, f.limits, func(k int, s *cluster.Session, err error) {
		var asked relay.Targets
		for _, n := range of[nodes[k]] {
			asked.Targets = append(asked.Targets, at[n])
		}
		var judged relay.Judged
		if err == nil {
			var args json.RawMessage
			if args, err = json.Marshal(asked); err == nil {
				p.Stage("looking at containers on " + nodes[k])
				err = s.Ask(ctx, relay.Request{Ask: relay.AskDistroless, Args: args}, &judged)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			notes = append(notes, fmt.Sprintf("node %s was not asked: %v", nodes[k], err))
		}
		for _, n := range of[nodes[k]] {
			j, ok := judged.Of[at[n]]
			if !ok {
				j.Reason = "its node was not asked"
			}
			out[n] = j
		}
	})
	p.Done()
	for _, n := range notes {
		a.note("%s", n)
	}
	if len(notes) > 0 && len(notes) == len(nodes) {
		return nil, fmt.Errorf("no node could be asked")
	}
	return out, err
}

// judgementWords are a judgement in a table's cell.
func judgementWords(j relay.Judgement) string {
	switch {
	case j.Distroless == nil:
		return "? " + j.Reason
	case *j.Distroless:
		return "yes: " + j.Reason
	}
	return "no: " + j.Reason
}
