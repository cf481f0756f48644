package investigate

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/investigate/graph"
	"github.com/sherd-forensics/sherd/verdict"
)

// identityUse is what audit logs say of the container's own identity since the first thing that was found.
type identityUse struct {
	identity string
	// calls are of kinds that were not made before; counts are of all such calls, of those of them that were refused, and of those of kinds
	// that were made before.
	calls                    []detect.Call
	count, refused, ordinary int
	// earlier is true if the log has calls from before.
	earlier bool
	// nameless are calls since then under the identity that name no pod and came from none of the container's addresses, by address.
	nameless map[string]int
}

const (
	maxCallKinds = 4096
	maxCalls     = 512
	maxNameless  = 64
)

// readIdentity looks in audit lines for calls by the container's identity: those whose user is its service account (one of its pod's namespace,
// where the account is not known) and that name its pod, or come from an address that it has. A kind of call that was made before the first
// finding is the application's own.
func (w *work) readIdentity(ctx context.Context, events iter.Seq2[*event.Event, error]) error {
	pod := w.f.Container.Pod
	if pod == nil || !w.bad() || w.r.First == 0 {
		return nil
	}
	// A request is logged when it is done: what it made the application call came before its line.
	since := w.r.First - near
	before := map[string]bool{}
	take := func(c *detect.Call) {
		mine := w.ownCall(c, pod.Name)
		switch {
		case mine && c.Time < since:
			w.use.earlier = true
			if len(before) < maxCallKinds {
				before[w.kindOf(c)] = true
			}
		case mine:
			w.use.take(c, before[w.kindOf(c)])
		case c.Pod == "" && c.Time >= since && (w.use.nameless[c.From] > 0 || len(w.use.nameless) < maxNameless):
			if w.use.nameless == nil {
				w.use.nameless = map[string]int{}
			}
			w.use.nameless[c.From]++
		}
	}
	identity := ""
	if c := w.f.Cluster; c != nil {
		identity = c.Identity
		for i := range c.Calls {
			take(&c.Calls[i])
		}
	}
	if err := w.otherLogs(ctx, events, func(c *detect.Call) {
		if identity == "" && strings.HasPrefix(c.Identity, "system:serviceaccount:"+pod.Namespace+":") || identity != "" && c.Identity == identity {
			take(c)
		}
	}); err != nil {
		return err
	}
	slices.SortStableFunc(w.use.calls, func(a, b detect.Call) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Words, b.Words))
	})
	return nil
}

// otherLogs gives the calls of audit logs that the package has beside the cluster's own.
func (w *work) otherLogs(ctx context.Context, events iter.Seq2[*event.Event, error], take func(*detect.Call)) error {
	if events == nil {
		return nil
	}
	n := 0
	for e, err := range events {
		if n++; n&0xfff == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			w.gap("events of other logs", err.Error(), "calls under the container's identity may be missing")
			return nil
		}
		if e.Kind != event.K8sAudit || e.Artifact == detect.AuditPath {
			continue
		}
		entry, ok := w.p.Artifact(e.Artifact)
		if !ok || entry.SHA256 == "" {
			continue
		}
		c := detect.CallOf(e, entry.SHA256)
		take(&c)
	}
	return nil
}

// take notes a call since the first thing that was found.
func (u *identityUse) take(c *detect.Call, known bool) {
	u.identity = cmp.Or(u.identity, c.Identity)
	if known {
		u.ordinary++
		return
	}
	u.count++
	if c.Refused() {
		u.refused++
	}
	if len(u.calls) < maxCalls {
		u.calls = append(u.calls, *c)
	}
}

// kindOf says of which kind a call is: calls of one are the same work. A client that names itself otherwise, or calls from elsewhere, is another.
func (w *work) kindOf(c *detect.Call) string {
	if c.Verb == "" {
		return clip(c.Words, 160)
	}
	from, name := c.From, ""
	if w.home(from) {
		from = "home"
	}
	if strings.HasPrefix(c.Resource, "secrets") || strings.Contains(c.Resource, "/") {
		name = c.Name // which one makes the difference
	}
	return strings.Join([]string{c.Verb, c.Group, c.Resource, c.Namespace, name, from, c.Agent}, "\x00")
}

// home reports whether the container's own calls come from an address.
func (w *work) home(addr string) bool {
	return addr == "" || slices.Contains(w.r.Own, addr) || w.f.Cluster != nil && w.f.Cluster.Home(addr)
}

// ownCall reports whether a call was made by the container, or with its token, as far as the audit line says.
func (w *work) ownCall(c *detect.Call, pod string) bool {
	if c.Pod != "" {
		return c.Pod == pod
	}
	return c.From != "" && (slices.Contains(w.r.Own, c.From) || w.f.Cluster != nil && w.f.Cluster.Own(c.From))
}

// identityClaims puts the calls into graph, scope and impact.
func (w *work) identityClaims() {
	w.namelessGap()
	if len(w.use.calls) == 0 {
		return
	}
	w.sayCalls()
	w.sayTakenToken()
	w.sayReads()
	w.sayChanges()
}

func citesOf(calls []detect.Call) []verdict.Citation {
	var out []verdict.Citation
	for i := range calls[:min(len(calls), 16)] {
		out = append(out, calls[i].Cite)
	}
	return out
}

// sayCalls sums up all calls that are not the application's usual ones.
func (w *work) sayCalls() {
	u, cites := &w.use, citesOf(w.use.calls)
	node := w.g.Add(graph.Node{ID: identityNode(u.identity), Kind: graph.Identity, Label: clip(u.identity, 80), Foreign: true, Citations: cites})
	w.g.Link(graph.IdentityCalled, graph.Edge{From: w.g.Find("container"), To: node, Time: u.calls[0].Time, Citations: cites})
	why := "calls under it that it had not made before"
	if !u.earlier {
		why = "calls under it since then"
	}
	w.add(verdict.Entity{Type: verdict.EntityIdentity, Value: u.identity, Role: "used", Why: why, Citations: cites})
	var kinds, agents, from []string
	counts := map[string]int{}
	for i := range u.calls {
		c := &u.calls[i]
		kinds = append(kinds, c.Did())
		if c.Agent != "" {
			agents = append(agents, clip(c.Agent, 60))
		}
		if c.From != "" {
			counts[c.From]++
			from = append(from, c.From)
		}
	}
	said := fmt.Sprintf("%s under %s since then", plural(u.count, "call"), clip(u.identity, 80))
	if u.earlier {
		said += ", of kinds that it had not made before"
	}
	said += ": " + list(uniqueStrings(kinds), 6)
	var places []string
	for _, a := range uniqueStrings(from) {
		words := fmt.Sprintf("%d from %s", counts[a], clip(a, 60))
		switch {
		case slices.Contains(w.r.Own, a) || w.f.Cluster != nil && w.f.Cluster.Own(a):
			words += ", the pod's own address"
		case w.home(a):
			words += ", its node's address"
		default:
			words += ", which is not the pod's"
		}
		places = append(places, words)
	}
	if len(places) > 0 && u.count <= maxCalls {
		said += "; " + list(places, 4)
	}
	if len(agents) > 0 {
		said += "; by what calls itself " + list(uniqueStrings(agents), 3)
	}
	if u.refused > 0 {
		said += fmt.Sprintf("; %d of them refused", u.refused)
	}
	if u.ordinary > 0 {
		said += fmt.Sprintf("; %d more of the kinds that it made before are left out", u.ordinary)
	}
	w.effect(verdict.ImpactAPI, "T1078.004", said, cites)
	if !u.earlier {
		w.gap("which calls are the application's own", "the audit log has none under its identity from before "+detect.Time(w.r.First), "calls that it always makes are among those that are told")
	}
}

func identityNode(name string) string { return "identity:" + name }

// sayTakenToken tells that the token itself is in somebody else's hands.
func (w *work) sayTakenToken() {
	calls := w.f.Elsewhere()
	calls = slices.DeleteFunc(calls, func(c detect.Call) bool { return c.Time < w.r.First-near })
	if len(calls) == 0 {
		return
	}
	cites := citesOf(calls)
	var from []string
	for i := range calls {
		from = append(from, calls[i].From)
	}
	from = uniqueStrings(from)
	for _, a := range from {
		w.add(verdict.Entity{Type: verdict.EntityAddress, Value: escaped(a), Role: "caller", Why: "the pod's token was used from there", Citations: cites})
	}
	for _, path := range w.tokenPaths() {
		w.add(verdict.Entity{Type: verdict.EntityCredential, Value: escaped(path), Role: "taken", Why: "a copy of it was used from " + list(from, 3), Citations: cites})
	}
	w.effect(verdict.ImpactCredential, "T1528", "the pod's token was taken: it was used from "+list(from, 3)+" as "+clip(w.use.identity, 80), cites)
}

// tokenPaths are where the pod's token for the API server lies in this container.
func (w *work) tokenPaths() []string {
	if w.f.Cluster == nil || w.f.Cluster.Permissions == nil {
		return nil
	}
	var out []string
	for _, t := range w.f.Cluster.Permissions.Tokens {
		if t.Path != "" && t.Audience == "" && (w.f.Container.Pod == nil || len(t.Container) == 0 || slices.Contains(t.Container, w.f.Container.Pod.Container)) && len(out) < 4 {
			out = append(out, t.Path)
		}
	}
	return out
}

// sayReads tells which secrets the API server handed out.
func (w *work) sayReads() {
	var said []string
	var calls []detect.Call
	for i := range w.use.calls {
		c := &w.use.calls[i]
		if c.Refused() || c.Verb == "" {
			continue
		}
		value, why := "", ""
		switch {
		case c.Resource == "secrets" && c.Verb == "get" && c.Name != "":
			value, why = "secret/"+c.Namespace+"/"+c.Name, "the secret "+clip(c.Namespace+"/"+c.Name, 100)+" was read"
		case c.Resource == "secrets" && (c.Verb == "list" || c.Verb == "watch"):
			place := c.Namespace
			value, why = "secret/"+place+"/*", "all secrets of namespace "+clip(place, 80)+" were listed, contents and all"
			if place == "" {
				value, why = "secret/*", "all secrets of the cluster were listed, contents and all"
			}
		case c.Resource == "serviceaccounts/token" && c.Verb == "create":
			value, why = "token/"+c.Namespace+"/"+c.Name, "a token of the service account "+clip(c.Namespace+"/"+c.Name, 100)+" was made"
		default:
			continue
		}
		w.add(verdict.Entity{Type: verdict.EntityCredential, Value: escaped(value), Role: "read", Why: why + w.byWhom(c), Citations: []verdict.Citation{c.Cite}})
		said, calls = append(said, why), append(calls, *c)
	}
	if len(said) > 0 {
		w.effect(verdict.ImpactCredential, "T1552.007", list(uniqueStrings(said), 6), citesOf(calls))
	}
}

func (w *work) byWhom(c *detect.Call) string {
	if w.home(c.From) {
		return ""
	}
	return ", from " + clip(c.From, 60)
}

// changing are the verbs that change something.
var changing = []string{"create", "update", "patch", "delete", "deletecollection"}

// running are the resources that run containers.
var running = map[string]string{"pods": "pod", "deployments": "deployment", "daemonsets": "daemonset", "statefulsets": "statefulset", "replicasets": "replicaset", "jobs": "job", "cronjobs": "cronjob"}

// sayChanges tells what was made, changed or deleted, and in which pods commands were run.
func (w *work) sayChanges() {
	type group struct {
		said  []string
		calls []detect.Call
	}
	var order []string
	groups := map[string]*group{}
	note := func(technique, words string, c *detect.Call) {
		g := groups[technique]
		if g == nil {
			g = &group{}
			groups[technique], order = g, append(order, technique)
		}
		g.said, g.calls = append(g.said, words), append(g.calls, *c)
	}
	for i := range w.use.calls {
		c := &w.use.calls[i]
		kind, runs := running[c.Resource]
		switch {
		case c.Refused() || c.Verb == "":
		case c.Resource == "pods/exec" || c.Resource == "pods/attach" || c.Resource == "pods/ephemeralcontainers" && c.Verb != "get":
			note("T1609", c.Did(), c)
			w.add(verdict.Entity{Type: verdict.EntityContainer, Value: escaped("pod/" + c.Namespace + "/" + c.Name), Role: "entered", Why: c.Did() + " under the container's identity" + w.byWhom(c), Citations: []verdict.Citation{c.Cite}})
		case !slices.Contains(changing, c.Verb) || c.Resource == "serviceaccounts/token":
		case runs && c.Verb == "create":
			note("T1610", c.Did(), c)
			if c.Name != "" {
				w.add(verdict.Entity{Type: verdict.EntityContainer, Value: escaped(kind + "/" + c.Namespace + "/" + c.Name), Role: "started", Why: "it was made under the container's identity" + w.byWhom(c), Citations: []verdict.Citation{c.Cite}})
			}
		case c.Group == "rbac.authorization.k8s.io":
			note("T1098.006", c.Did(), c)
		case c.Verb == "delete" || c.Verb == "deletecollection":
			note("T1485", c.Did(), c)
		case strings.HasPrefix(c.Resource, "selfsubject") || strings.HasSuffix(c.Resource, "reviews"):
			// They ask; nothing is made.
		default:
			note("T1565", c.Did(), c)
		}
	}
	for _, t := range order {
		g := groups[t]
		w.effect(verdict.ImpactAPI, t, "done under "+clip(w.use.identity, 80)+": "+list(uniqueStrings(g.said), 6), citesOf(g.calls))
	}
}

// namelessGap tells of calls that may be anybody's.
func (w *work) namelessGap() {
	var words []string
	var from []string
	for a := range w.use.nameless {
		from = append(from, a)
	}
	slices.Sort(from)
	for _, a := range from {
		words = append(words, fmt.Sprintf("%d from %s", w.use.nameless[a], clip(cmp.Or(a, "an address that is not told"), 60)))
	}
	if len(words) > 0 {
		w.gap("calls under the identity that name no pod", list(words, 4), "they may be another's, or made with a token that belongs to no pod; they are not counted")
	}
	if c := w.f.Cluster; c != nil && c.More > 0 {
		w.gap("the rest of the calls under the identity", fmt.Sprintf("%d are more than are held", c.More), "they are not counted")
	}
}

// callEvents are the calls that were not the application's own, one of each kind marked.
func (w *work) callEvents(add func(Event)) {
	said := map[string]bool{}
	for i := range w.use.calls {
		c := &w.use.calls[i]
		text := clip(c.Words, 200)
		kind := w.kindOf(c)
		add(Event{Time: c.Time, TimeKind: event.Logged, Kind: event.K8sAudit, Text: text, Marked: !said[kind] && len(said) < 10, Citations: []verdict.Citation{c.Cite}})
		said[kind] = true
	}
}
