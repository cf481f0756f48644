package investigate_test

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/investigate/graph"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/verdict"
)

// edges counts a graph's edges by rule, and checks what holds for all of them.
func edges(t *testing.T, r *investigate.Result, into map[string]int) {
	t.Helper()
	for _, e := range r.Graph.Edges {
		into[e.Rule]++
		rule, ok := graph.RuleOf(e.Rule)
		if !ok || e.Verb != rule.Verb || e.Confidence <= 0 || e.Confidence > rule.Confidence {
			t.Errorf("%+v is not what its rule allows", e)
		}
		if len(e.Citations) == 0 {
			t.Errorf("%s %s %s has no citation", r.Graph.Nodes[e.From].Label, e.Verb, r.Graph.Nodes[e.To].Label)
		}
	}
	for _, n := range r.Graph.Nodes {
		if len(n.Citations) == 0 {
			t.Errorf("%s has no citation", n.ID)
		}
	}
}

// traced is a foreign process that traces the server and has a listener, a client, a mapped and a held program of its own.
func traced(s *scene) {
	p := s.Foreign(4017, 17, 4001, "/usr/lib/conv", record.ExeDeleted, implant, at)
	p.Exe.Btime, p.Exe.Ctime = at.UnixNano(), at.Add(time.Second).UnixNano()
	p.FDs = append(p.FDs, record.FD{N: 9, Target: "/memfd:stage2 (deleted)", Kind: "memfd", Deleted: true, Ino: 77, Magic: []byte(elf)})
	s.AddFile("/data/cache/x.so", elf+"hook", 0o755, at)
	s.Maps[4017] = append(s.Maps[4017], record.Mapping{Start: 0x7f0000000000, End: 0x7f0000001000, Perms: "r-xp", Inode: 78, Path: "/data/cache/x.so"})
	s.Connect(p, 4, "203.0.113.9", 51000, 10, 10)
	in := &s.Sockets[len(s.Sockets)-1]
	in.LocalPort = 4444
	s.Sockets = append(s.Sockets, record.Socket{Family: "inet", Protocol: "tcp", State: "listen", LocalIP: "0.0.0.0", LocalPort: 4444, Inode: 9900, Owners: []record.Owner{{PID: 4017, FD: 5}}, Source: "sock_diag", Observed: detecttest.Capture.UnixNano()})
	s.Processes[0].TracerPID = 4017
	for i := range s.Files {
		if f := &s.Files[i]; strings.HasSuffix(string(f.Path), "/token/token") {
			f.Atime = at.Add(time.Minute).UnixNano()
		}
	}
}

// Every rule of inference has a case in which it draws an edge, and no edge is drawn by anything else.
func TestEveryRuleHasACase(t *testing.T) {
	seen := map[string]int{}
	for _, change := range []func(*scene){
		attacks["static program dropped, run, deleted"].make, attacks["run from a memfd"].make, attacks["code in the application's own process"].make, traced,
		func(s *scene) { // two requests of one client
			s.Foreign(4017, 17, 4001, "/memfd:x", record.ExeMemfd, implant, at)
			s.Request(at.Add(-20*time.Millisecond), "10.0.7.31:1", "POST", "/avatar?name=x", 201)
			s.Request(at.Add(5*time.Millisecond), "10.0.7.31:2", "GET", "/convert", 202)
		},
		func(s *scene) { // and of two
			s.Foreign(4017, 17, 4001, "/memfd:x", record.ExeMemfd, implant, at)
			s.Request(at.Add(10*time.Millisecond), "10.0.7.31:1", "POST", "/a", 200)
			s.Request(at.Add(12*time.Millisecond), "10.0.7.32:1", "POST", "/b", 200)
		},
		func(s *scene) { // nothing has a time, and one request stands out
			s.Connect(&s.Processes[0], 9, "203.0.113.9", 4444, 2048, 20)
			s.Request(at, "10.0.7.31:1", "POST", "/render", 200)
		},
	} {
		s := detecttest.Busy()
		change(s)
		edges(t, judge(t, s), seen)
	}
	edges(t, together(t, shop(), payments()), seen)
	edges(t, audited(t), seen)
	for _, r := range graph.Rules() {
		if seen[r.Name] == 0 {
			t.Errorf("%s draws no edge in any scene", r.Name)
		}
		if r.Concludes == "" || r.From == "" || r.Why == "" {
			t.Errorf("%s does not say what it concludes from what, and why", r.Name)
		}
	}
	for rule := range seen {
		if _, ok := graph.RuleOf(rule); !ok {
			t.Errorf("%s is not declared", rule)
		}
	}
}

// audited is an investigation with an audit log, in which the pod's service account lists pods all day, and secrets after the attack.
func audited(t *testing.T) *investigate.Result {
	t.Helper()
	s := detecttest.Busy()
	s.Container.Pod = &target.Pod{Name: "shop-1", Namespace: "default"}
	attacks["static program dropped, run, deleted"].make(s)
	s.Extra["logs/audit.log"] = "{}\n{}\n{}\n"
	line := func(at time.Time, what, who, pod, from string) *event.Event {
		attr, _ := json.Marshal(map[string]string{"pod_of_user": pod})
		return &event.Event{Time: at.UnixNano(), Kind: event.K8sAudit, Message: what, Identity: who, SrcIP: from, Artifact: "logs/audit.log", Length: 2, Attributes: attr}
	}
	const who = "system:serviceaccount:default:shop"
	all := []*event.Event{
		line(at.Add(-time.Hour), "list pods", who, "shop-1", ""), line(at.Add(time.Minute), "list pods", who, "shop-1", ""),
		line(at.Add(time.Minute), "list secrets in default", who, "shop-1", ""), line(at.Add(2*time.Minute), "get secrets/db in default", who, "", "10.0.7.5"),
		line(at.Add(time.Minute), "delete nodes", who, "other-pod", "10.9.9.9"), line(at.Add(time.Minute), "delete all", "admin", "", "10.0.7.5"),
	}
	var events iter.Seq2[*event.Event, error] = func(yield func(*event.Event, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
	r, err := investigate.Investigate(context.Background(), s.Write(t), investigate.Options{Events: events})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Calls under the container's identity count if they are of kinds that it did not make before, and are the container's own.
func TestIdentityCalls(t *testing.T) {
	v := audited(t).Verdict
	i := slices.IndexFunc(v.Impact, func(i verdict.Impact) bool { return i.Type == verdict.ImpactAPI })
	if i < 0 {
		t.Fatalf("no impact tells of calls: %+v", v.Impact)
	}
	got := v.Impact[i].Statement
	if !strings.Contains(got, "2 calls") || !strings.Contains(got, "list secrets") || !strings.Contains(got, "get secrets/db") || strings.Contains(got, "list pods") || strings.Contains(got, "delete") {
		t.Error(got)
	}
	if !slices.ContainsFunc(v.Scope, func(e verdict.Entity) bool { return e.ID() == "identity:system:serviceaccount:default:shop" }) {
		t.Errorf("scope %+v", v.Scope)
	}
}

// The way from entry to impact leads from the client over the request and the file to the process and whom it called.
func TestPath(t *testing.T) {
	s := detecttest.Busy()
	attacks["static program dropped, run, deleted"].make(s)
	g := judge(t, s).Graph
	var got []string
	for _, i := range g.Path {
		e := g.Edges[i]
		got = append(got, g.Nodes[e.From].Label+" "+string(e.Verb)+" "+g.Nodes[e.To].Label)
	}
	want := []string{"10.0.7.31 sent POST /avatar?name=..%2F..%2Fusr%2Flib%2Fconv", "POST /avatar?name=..%2F..%2Fusr%2Flib%2Fconv led to /usr/lib/conv",
		`process 17 "conv" executed /usr/lib/conv`, `process 17 "conv" connected to 203.0.113.9:4444`}
	if !slices.Equal(got, want) {
		t.Errorf("the way is %q", got)
	}
	if n := len(judge(t, detecttest.Busy()).Graph.Nodes); n != 0 {
		t.Errorf("a clean verdict has a graph of %d nodes", n)
	}
}
