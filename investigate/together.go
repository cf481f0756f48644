package investigate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/investigate/graph"
	"github.com/sherd-forensics/sherd/verdict"
)

// Member is one container of a result over several.
type Member struct {
	Name       string // unique among the members
	Evidence   string // the package's file name
	EvidenceID string // as citations carry it
	SHA256     string // of the package
	Role       string // RoleFirst …
	Verdict    verdict.Judgement
	Confidence float64
	First      int64 // as Result.First
}

// Roles of containers in a verdict over several.
const (
	RoleFirst   = "first touched"
	RoleReached = "reached from another"
	RoleTouched = "touched"
	RoleAlone   = "not touched, as far as was seen"
)

// maxTold bounds the story of several containers.
const maxTold = 60

// Together draws one verdict over several containers from the results on each. It does not depend on their order: they are put in
// that in which they were touched, then by their evidence's id. The same package given twice counts once. The results are not changed.
func Together(results []*Result) *Result {
	t := &together{r: &Result{Graph: &graph.Graph{}}}
	for _, r := range canonical(results) {
		t.r.Revealed = t.r.Revealed || r.Revealed
		t.take(r)
	}
	t.relate()
	t.judge()
	t.rootCause()
	t.scope()
	t.claims()
	t.story()
	t.gaps()
	t.next()
	t.pictures()
	w := &work{r: t.r}
	w.fill()
	return t.r
}

type together struct {
	r   *Result
	all []*Result // copies, whose citations name their evidence
}

// canonical orders results: those that claim an intrusion by when it began, unknown times last, then the others; ties by evidence.
func canonical(results []*Result) []*Result {
	key := func(r *Result) int {
		switch {
		case !r.bad():
			return 2
		case r.First == 0:
			return 1
		}
		return 0
	}
	out := slices.Clone(results)
	slices.SortStableFunc(out, func(a, b *Result) int {
		x, y := &a.Verdict.Target, &b.Verdict.Target
		c := cmp.Compare(key(a), key(b))
		if c == 0 && key(a) == 0 {
			c = cmp.Compare(a.First, b.First)
		}
		return cmp.Or(c, cmp.Compare(x.EvidenceID, y.EvidenceID), cmp.Compare(x.SHA256, y.SHA256), cmp.Compare(x.Evidence, y.Evidence))
	})
	return slices.CompactFunc(out, func(a, b *Result) bool {
		x, y := &a.Verdict.Target, &b.Verdict.Target
		return x.EvidenceID == y.EvidenceID && x.SHA256 == y.SHA256 && (x.SHA256 != "" || a == b)
	})
}

// take adds a copy of a result as a member.
func (t *together) take(r *Result) {
	v := &r.Verdict
	m := Member{Name: cmp.Or(v.Target.Name, v.Target.ID, v.Target.Evidence, "container"), Evidence: v.Target.Evidence, EvidenceID: v.Target.EvidenceID, SHA256: v.Target.SHA256, Verdict: v.Verdict, Confidence: v.Confidence, First: r.First}
	if v.Target.Pod != "" {
		m.Name = v.Target.Namespace + "/" + v.Target.Pod + "/" + m.Name
	}
	m.Name = clip(m.Name, 80)
	if n := t.count(func(o *Member) bool { return o.Name == m.Name || strings.HasPrefix(o.Name, m.Name+" (") }); n > 0 {
		m.Name = fmt.Sprintf("%s (%d)", m.Name, n+1)
	}
	if m.EvidenceID == "" || t.count(func(o *Member) bool { return o.EvidenceID == m.EvidenceID }) > 0 {
		m.EvidenceID = cmp.Or(v.Target.SHA256, fmt.Sprintf("%s#%d", m.EvidenceID, len(t.all)+1))
	}
	t.r.Members = append(t.r.Members, m)
	t.all = append(t.all, stamped(r, m.EvidenceID))
}

func (t *together) count(which func(*Member) bool) int {
	n := 0
	for i := range t.r.Members {
		if which(&t.r.Members[i]) {
			n++
		}
	}
	return n
}

// relate finds out who was first and who reached whom.
func (t *together) relate() {
	order, moves := Sequence(t.all)
	t.r.Moves, t.r.Shared = moves, Across(t.all)
	for i := range t.r.Members {
		t.r.Members[i].Role = RoleAlone
	}
	for k, i := range order {
		m := &t.r.Members[i]
		switch {
		case k == 0 && m.First != 0:
			m.Role = RoleFirst
		case slices.ContainsFunc(moves, func(v Move) bool { return v.To == i }):
			m.Role = RoleReached
		default:
			m.Role = RoleTouched
		}
	}
}

// judge gives the gravest word of all. That at least one container is compromised is as sure as the surest of them; that all are clean
// is as sure as the least sure.
func (t *together) judge() {
	v := &t.r.Verdict
	v.Schema, v.Verdict = verdict.Schema, verdict.Clean
	grave := []verdict.Judgement{verdict.Clean, verdict.Inconclusive, verdict.Suspicious, verdict.Compromised}
	for _, r := range t.all {
		if slices.Index(grave, r.Verdict.Verdict) > slices.Index(grave, v.Verdict) {
			v.Verdict = r.Verdict.Verdict
		}
	}
	first := true
	for _, r := range t.all {
		c := r.Verdict.Confidence
		switch {
		case r.Verdict.Verdict != v.Verdict:
			continue
		case first:
			v.Confidence = c
		case v.Verdict == verdict.Compromised || v.Verdict == verdict.Suspicious:
			v.Confidence = math.Max(v.Confidence, c)
		default:
			v.Confidence = math.Min(v.Confidence, c)
		}
		first = false
	}
	names := make([]string, len(t.r.Members))
	for i := range t.r.Members {
		names[i] = t.r.Members[i].Name
	}
	v.Target = verdict.Target{Name: fmt.Sprintf("%d containers: %s", len(names), list(names, 6))}
	for i, r := range t.all {
		x := &r.Verdict.Target
		if i == 0 {
			v.Target.Runtime, v.Target.Node, v.Target.Namespace = x.Runtime, x.Node, x.Namespace
		}
		same := func(a *string, b string) {
			if *a != b {
				*a = ""
			}
		}
		same(&v.Target.Runtime, x.Runtime)
		same(&v.Target.Node, x.Node)
		same(&v.Target.Namespace, x.Namespace)
		if x.Collected.After(v.Target.Collected) {
			v.Target.Collected = x.Collected
		}
		v.Containers = append(v.Containers, r.Verdict)
		h := &t.r.Header
		h.Sockets, h.Processes, h.Memory = h.Sockets+r.Header.Sockets, h.Processes+r.Header.Processes, h.Memory+r.Header.Memory
		h.LayerBytes, h.LayerFiles, h.LogBytes = h.LayerBytes+r.Header.LayerBytes, h.LayerFiles+r.Header.LayerFiles, h.LogBytes+r.Header.LogBytes
		h.PackageSize, h.Truncated = h.PackageSize+r.Header.PackageSize, h.Truncated || r.Header.Truncated
		if r.First != 0 && (t.r.First == 0 || r.First < t.r.First) {
			t.r.First = r.First
		}
	}
}

// rootCause is that of the container that was touched first. What let them into the others is told by the moves, and in each verdict.
func (t *together) rootCause() {
	v := &t.r.Verdict
	if len(t.all) == 0 || !t.all[0].bad() {
		return
	}
	first := &t.all[0].Verdict
	v.Candidates = first.Candidates
	if first.RootCause == nil {
		return // its gap says why
	}
	rc := *first.RootCause
	rc.Statement = t.r.Members[0].Name + ": " + rc.Statement
	rc.Entities = nil
	for _, id := range first.RootCause.Entities {
		if kind, _, _ := strings.Cut(id, ":"); local(kind) {
			id += "@" + t.id(0)[:min(len(t.id(0)), 12)] // as Entity.ID has it
		}
		rc.Entities = append(rc.Entities, id)
	}
	if t.r.Members[0].First == 0 && t.count(func(m *Member) bool { return m.Role != RoleAlone }) > 1 {
		rc.Confidence = math.Round(50*rc.Confidence) / 100
		rc.Statement += "; that this container was the first is not known, since the evidence gives no time"
	}
	v.RootCause = &rc
}

// id is what entities carry of a member: the container's id, or its evidence's.
func (t *together) id(i int) string {
	return cmp.Or(t.all[i].Verdict.Target.ID, t.r.Members[i].EvidenceID)
}

// local are the types of things that belong to one container.
func local(kind string) bool {
	return kind == verdict.EntityProcess || kind == verdict.EntityFile || kind == verdict.EntityCredential
}

// scope merges the entities: what is of one container says which, what stands outside is named once.
func (t *together) scope() {
	v := &t.r.Verdict
	at := map[string]int{}
	add := func(e verdict.Entity) {
		if k, ok := at[e.ID()]; ok {
			x := &v.Scope[k]
			x.Citations = unique(append(slices.Clone(x.Citations), e.Citations...))
			if !strings.Contains(x.Why, e.Why) {
				x.Why += "; " + e.Why
			}
			return
		}
		at[e.ID()] = len(v.Scope)
		v.Scope = append(v.Scope, e)
	}
	for i, r := range t.all {
		name := t.r.Members[i].Name
		for _, e := range r.Verdict.Scope {
			switch {
			case e.Type == verdict.EntityContainer && e.Value != r.Verdict.Target.ID:
				if m := t.member(e.Value); m != nil && (e.Role == siblingRole || m.bad()) {
					continue // it stands for itself
				}
				e.Why = name + ": " + e.Why
			case e.Type == verdict.EntityContainer:
				e.Role, e.Why = t.r.Members[i].Role, name+": judged "+string(r.Verdict.Verdict)
			case local(e.Type):
				e.Container = t.id(i)
				e.Why = name + ": " + e.Why
			default:
				e.Why = name + ": " + e.Why
			}
			add(e)
		}
	}
}

// member is the result on a container, nil if it was not examined.
func (t *together) member(id string) *Result {
	for _, r := range t.all {
		if id != "" && r.Verdict.Target.ID == id {
			return r
		}
	}
	return nil
}

// claims merges impact and findings, and makes of each move an impact of its own.
func (t *together) claims() {
	v := &t.r.Verdict
	for _, m := range t.r.Moves {
		v.Impact = append(v.Impact, verdict.Impact{Type: verdict.ImpactLateral, Technique: "T1210", Citations: m.Citations,
			Statement: "from " + t.r.Members[m.From].Name + " to " + t.r.Members[m.To].Name + ": " + m.Why})
	}
	for i, r := range t.all {
		name := t.r.Members[i].Name
		for _, x := range r.Verdict.Impact {
			x.Statement = name + ": " + x.Statement
			v.Impact = append(v.Impact, x)
		}
		for _, x := range r.NotFound {
			x.Statement = name + ": " + x.Statement
			t.r.NotFound = append(t.r.NotFound, x)
		}
		for _, x := range r.Verdict.Findings {
			x.Statement = name + ": " + x.Statement
			v.Findings = append(v.Findings, x)
		}
		t.r.Answers = append(t.r.Answers, r.Answers...)
	}
	slices.SortStableFunc(v.Findings, func(a, b verdict.Finding) int {
		return cmp.Or(cmp.Compare(b.Severity.Rank(), a.Severity.Rank()), compareTimes(a.Time, b.Time))
	})
}

// compareTimes orders times in RFC 3339; an empty one is unknown and comes last.
func compareTimes(a, b string) int {
	x, errA := time.Parse(time.RFC3339Nano, a)
	y, errB := time.Parse(time.RFC3339Nano, b)
	switch {
	case errA != nil && errB != nil:
		return 0
	case errA != nil:
		return 1
	case errB != nil:
		return -1
	}
	return x.Compare(y)
}

func (t *together) story() {
	v := &t.r.Verdict
	for i, r := range t.all {
		for _, s := range r.Verdict.Story {
			s.Statement = t.r.Members[i].Name + ": " + s.Statement
			v.Story = append(v.Story, s)
		}
	}
	slices.SortStableFunc(v.Story, func(a, b verdict.Step) int { return compareTimes(a.Time, b.Time) })
	if len(v.Story) > maxTold {
		v.Gaps = append(v.Gaps, verdict.Gap{What: "the rest of the story", Why: fmt.Sprintf("%d steps are told", maxTold), Consequence: "each container's own has more"})
		v.Story = v.Story[:maxTold]
	}
}

// gaps names what several containers have in common once, with their names.
func (t *together) gaps() {
	v := &t.r.Verdict
	var order []verdict.Gap
	who := map[verdict.Gap][]string{}
	for i, r := range t.all {
		for _, g := range r.Verdict.Gaps {
			if who[g] == nil {
				order = append(order, g)
			}
			who[g] = append(who[g], t.r.Members[i].Name)
		}
	}
	for _, g := range order {
		if names := who[g]; g.What != "how they got in" || names[0] != t.r.Members[0].Name {
			g.What = list(names, 4) + ": " + g.What
		}
		v.Gaps = append(v.Gaps, g)
	}
}

// next merges the advice, and adds what the containers have in common.
func (t *together) next() {
	v := &t.r.Verdict
	add := func(s string) {
		if !slices.Contains(v.Next, s) {
			v.Next = append(v.Next, s)
		}
	}
	for i, r := range t.all {
		for _, s := range r.Verdict.Next {
			if strings.HasPrefix(s, "isolate ") || strings.HasPrefix(s, "look at the findings") {
				add(s)
			} else if r.bad() || v.Verdict == verdict.Inconclusive {
				add(s + " (" + t.r.Members[i].Name + ")")
			}
		}
	}
	slices.SortStableFunc(v.Next, func(a, b string) int {
		urgent := func(s string) int {
			if strings.HasPrefix(s, "isolate ") {
				return 0
			}
			return 1
		}
		return urgent(a) - urgent(b)
	})
	for _, l := range t.r.Shared {
		if l.Type != verdict.EntityImage {
			continue
		}
		for _, i := range l.In {
			if !t.all[i].bad() {
				add(t.r.Members[i].Name + " is made from the same image as a container that was entered: the same way leads into it")
			}
		}
	}
}

// pictures merges what pictures and tables are made of.
func (t *together) pictures() {
	for i, r := range t.all {
		name := t.r.Members[i].Name
		for _, p := range r.Processes {
			p.Container = name
			t.r.Processes = append(t.r.Processes, p)
		}
		for _, c := range r.Drift {
			c.Container = name
			t.r.Drift = append(t.r.Drift, c)
		}
		t.r.DriftTotal += r.DriftTotal
		for _, e := range r.Timeline {
			e.Container = name
			t.r.Timeline = append(t.r.Timeline, e)
		}
		t.r.TimelineTotal += r.TimelineTotal
		t.graph(i, r.Graph)
	}
	slices.SortStableFunc(t.r.Timeline, func(a, b Event) int { return cmp.Compare(a.Time, b.Time) })
	for _, m := range t.r.Moves {
		from, to := t.r.Graph.Find(itoa(m.From)+"/container"), t.r.Graph.Find(itoa(m.To)+"/container")
		t.r.Graph.Link(graph.ContainerReached, graph.Edge{From: from, To: to, Time: t.r.Members[m.To].First, Note: m.Why, Citations: m.Citations})
	}
}

// graph adds a member's graph. Addresses are the same thing in all; hosts and images are if they have the same name.
func (t *together) graph(i int, g *graph.Graph) {
	if g == nil {
		return
	}
	to := make([]int, len(g.Nodes))
	for k, n := range g.Nodes {
		switch {
		case n.Kind == graph.Host || n.Kind == graph.Image:
			n.ID += "/" + n.Label
		case !strings.HasPrefix(n.ID, "address:"):
			n.ID = itoa(i) + "/" + n.ID
			n.Container = t.r.Members[i].Name
		}
		to[k] = t.r.Graph.Add(n)
	}
	edges := make([]int, len(g.Edges))
	for k, e := range g.Edges {
		e.From, e.To = to[e.From], to[e.To]
		edges[k] = t.r.Graph.Link(e.Rule, e)
	}
	t.r.Graph.Dropped += g.Dropped
	if i > 0 {
		return // the way in is the first one's
	}
	for _, k := range g.Path {
		if edges[k] >= 0 {
			t.r.Graph.Path = append(t.r.Graph.Path, edges[k])
		}
	}
}
