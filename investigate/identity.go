package investigate

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/investigate/graph"
	"github.com/sherd-forensics/sherd/verdict"
)

// identityUse is what an audit log says of the container's own identity.
type identityUse struct {
	identity string
	calls    []call // after the first thing that was found, of kinds that were not made before it
	count    int    // of all such calls
}

type call struct {
	time int64
	what string
	cite verdict.Citation
}

const (
	maxCallKinds = 4096
	maxCalls     = 64
)

// readIdentity looks in audit lines for calls by the container's identity: those whose user is a service account of its pod's namespace and
// that name its pod, or come from an address that it has. A kind of call that was made before the first finding is the application's own.
func (w *work) readIdentity(ctx context.Context, events iter.Seq2[*event.Event, error]) error {
	pod := w.f.Container.Pod
	if events == nil || pod == nil || !w.bad() || w.r.First == 0 {
		return nil
	}
	prefix := "system:serviceaccount:" + pod.Namespace + ":"
	before := map[string]bool{}
	n := 0
	for e, err := range events {
		if n++; n&0xfff == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			w.gap("events of other logs", err.Error(), "calls under the container's identity may be missing")
			return nil
		}
		if e.Kind != event.K8sAudit || !strings.HasPrefix(e.Identity, prefix) || !w.own(e, pod.Name) {
			continue
		}
		entry, ok := w.p.Artifact(e.Artifact)
		if !ok || entry.SHA256 == "" {
			continue
		}
		what := clip(e.Message, 160)
		if e.Time < w.r.First {
			if len(before) < maxCallKinds {
				before[what] = true
			}
			continue
		}
		w.use.identity = cmp.Or(w.use.identity, e.Identity)
		if before[what] {
			continue
		}
		w.use.count++
		if len(w.use.calls) < maxCalls {
			w.use.calls = append(w.use.calls, call{e.Time, what, verdict.Citation{Artifact: e.Artifact, Offset: e.Offset, Length: e.Length, SHA256: entry.SHA256}})
		}
	}
	slices.SortStableFunc(w.use.calls, func(a, b call) int { return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.what, b.what)) })
	return nil
}

// own reports whether a call came from the container, as far as the audit line says.
func (w *work) own(e *event.Event, pod string) bool {
	if e.SrcIP != "" && slices.Contains(w.r.Own, e.SrcIP) {
		return true
	}
	var more struct {
		Pod string `json:"pod_of_user"`
	}
	return len(e.Attributes) > 0 && json.Unmarshal(e.Attributes, &more) == nil && more.Pod == pod
}

// identityClaims puts the calls into graph, scope and impact.
func (w *work) identityClaims() {
	if len(w.use.calls) == 0 {
		return
	}
	var cites []verdict.Citation
	var kinds []string
	for _, c := range w.use.calls {
		cites = append(cites, c.cite)
		kinds = append(kinds, c.what)
	}
	cites = cites[:min(len(cites), 16)]
	node := w.g.Add(graph.Node{ID: "identity:" + w.use.identity, Kind: graph.Identity, Label: clip(w.use.identity, 80), Foreign: true, Citations: cites})
	w.g.Link(graph.IdentityCalled, graph.Edge{From: w.g.Find("container"), To: node, Time: w.use.calls[0].time, Citations: cites})
	w.add(verdict.Entity{Type: verdict.EntityIdentity, Value: w.use.identity, Role: "used", Why: "calls under it that it had not made before", Citations: cites})
	w.effect(verdict.ImpactAPI, "T1078.004", fmt.Sprintf("%s under %s since then, of kinds that it had not made before: %s", plural(w.use.count, "call"), clip(w.use.identity, 80), list(uniqueStrings(kinds), 5)), cites)
}
