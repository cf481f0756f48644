package investigate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/verdict"
)

const tokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// inCluster is a pod that is broken into, with all that the API server says of it.
func inCluster(s *scene) {
	s.AsPod(0)
	attacks["static program dropped, run, deleted"].make(s)
	s.Mounts = append(s.Mounts, record.Mounted{Point: record.Name(strings.TrimSuffix(tokenFile, "/token")), FSType: "tmpfs", Kind: "secret"})
	s.Files = append(s.Files, record.File{Tree: record.TreeRoot, Path: tokenFile, Mount: record.Name(strings.TrimSuffix(tokenFile, "/token")), Type: record.TypeFile, Mode: 0o644, Size: 900,
		SHA256: detecttest.Hash("sa"), Layer: record.WritableLayer, Btime: detecttest.Start.UnixNano(), Ctime: detecttest.Start.UnixNano(), Mtime: detecttest.Start.UnixNano()})
	s.Document("exposure", record.Exposure{
		Ways: []record.Way{
			{Kind: "service", Name: "shop/cart", Port: 80, Target: 8080, Protocol: "TCP", Reach: "cluster"},
			{Kind: "ingress", Name: "shop/cart", Hosts: []string{"shop.example"}, Port: 443, Target: 8080, Protocol: "TCP", Reach: "outside", Via: "service shop/cart"},
			{Kind: "service", Name: "shop/metrics", Port: 9090, Target: 9090, Protocol: "TCP", Reach: "outside"},
		}, Ingress: "all", Egress: "all",
	})
	s.Document("permissions", record.Permissions{
		Identity: detecttest.Account,
		Rules:    []record.Permission{{Verbs: []string{"get", "list"}, Resources: []string{"secrets"}, Namespace: "shop", Role: "Role/cart", Binding: "RoleBinding/shop/cart"}},
		Dangers:  []record.Danger{{What: "read every secret of namespace shop", Kind: "secrets", Technique: "T1552.007", Namespace: "shop", Rules: []int{0}}},
		Tokens:   []record.Token{{Path: tokenFile, Seconds: 3607, Container: []string{"app"}}},
	})
	s.Document("siblings", record.Siblings{Digest: s.Container.Image.Digest, Siblings: []record.Sibling{
		{Namespace: "shop", Pod: "cart-2", Container: "app", Node: "node2", ID: strings.Repeat("5b", 32)}}})
}

// stolenCalls are those of an application that reads its settings, and of a thief, from the pod and from elsewhere.
func stolenCalls(s *scene) {
	const ua = "python-requests/2"
	call := func(after time.Duration, verb, resource, namespace, name, from, agent string) detecttest.Called {
		return detecttest.Called{Time: at.Add(after), Verb: verb, Resource: resource, Namespace: namespace, Name: name, From: from, Agent: agent}
	}
	refused := call(4*time.Minute, "list", "secrets", "kube-system", "", "10.0.7.5", ua)
	refused.Code = 403
	other := call(4*time.Minute, "delete", "pods", "shop", "cart-9", "10.0.7.77", "shop/1")
	other.Pod = "cart-2"
	s.Audit(call(-time.Hour, "get", "configmaps", "shop", "settings", "10.0.7.5", "shop/1"), call(time.Minute, "get", "configmaps", "shop", "settings", "10.0.7.5", "shop/1"),
		call(2*time.Minute, "list", "secrets", "shop", "", "10.0.7.5", ua), call(3*time.Minute, "get", "secrets", "shop", "payment", "10.0.7.5", ua), refused, other,
		call(5*time.Minute, "create", "pods", "shop", "warm", "10.0.7.5", ua), call(6*time.Minute, "get", "secrets", "shop", "ledger", "203.0.113.9", "curl/8"))
}

func find[T any](t *testing.T, all []T, is func(T) bool) T {
	t.Helper()
	i := slices.IndexFunc(all, is)
	if i < 0 {
		t.Fatalf("none of %+v", all)
	}
	return all[i]
}

func impactWith(t *testing.T, v *verdict.Verdict, kind, words string) verdict.Impact {
	t.Helper()
	return find(t, v.Impact, func(i verdict.Impact) bool { return i.Type == kind && strings.Contains(i.Statement, words) })
}

func cited(cs []verdict.Citation, artifact string) bool {
	return slices.ContainsFunc(cs, func(c verdict.Citation) bool { return c.Artifact == artifact })
}

// What the cluster says of the pod is part of root cause, scope and impact, each with its proof.
func TestPodsSurroundings(t *testing.T) {
	s := detecttest.Busy()
	inCluster(s)
	v := judge(t, s).Verdict
	rc := v.RootCause
	if rc == nil || !strings.Contains(rc.Statement, "reachable from outside of the cluster by ingress shop/cart (shop.example)") || strings.Contains(rc.Statement, "metrics") || !cited(rc.Citations, detect.ExposurePath) {
		t.Errorf("root cause %+v", rc)
	}
	may := impactWith(t, &v, verdict.ImpactCredential, "within reach with the token of "+detecttest.Account)
	if !strings.Contains(may.Statement, "read every secret of namespace shop; that it was done is not said") || !cited(may.Citations, detect.PermissionsPath) {
		t.Errorf("%+v", may)
	}
	id := find(t, v.Scope, func(e verdict.Entity) bool { return e.Type == verdict.EntityIdentity })
	if id.Value != detecttest.Account || id.Role != "within reach" {
		t.Errorf("%+v", id)
	}
	same := find(t, v.Scope, func(e verdict.Entity) bool { return e.Role == "sibling" })
	if same.Value != strings.Repeat("5b", 32) || !strings.Contains(same.Why, "not known: k8s://shop/cart-2/app") || !cited(same.Citations, detect.SiblingsPath) {
		t.Errorf("%+v", same)
	}
	next := strings.Join(v.Next, "\n")
	for _, want := range []string{"delete pod shop/cart-1, with which its tokens end", "cut what that account is granted by RoleBinding/shop/cart", "look at k8s://shop/cart-2/app too"} {
		if !strings.Contains(next, want) {
			t.Errorf("next lacks %q:\n%s", want, next)
		}
	}
	if slices.ContainsFunc(v.Impact, func(i verdict.Impact) bool { return i.Type == verdict.ImpactAPI }) {
		t.Errorf("calls without an audit log: %+v", v.Impact)
	}
	find(t, v.Gaps, func(g verdict.Gap) bool { return strings.Contains(g.What, "audit log") })
}

// A variable or file within reach is told with the secret that it comes from, so that the right one is rotated.
func TestSecretsBehindCredentials(t *testing.T) {
	s := detecttest.Busy()
	inCluster(s)
	s.Document("references", record.References{References: []record.Reference{
		{Kind: "secret", Name: "db", Keys: []string{"password"}, As: "env", Variables: []string{"DB_PASSWORD"}, Containers: []string{"app"}},
		{Kind: "secret", Name: "other", As: "volume", Paths: []string{"/var/run/secrets/token"}, Containers: []string{"sidecar"}},
		{Kind: "configmap", Name: "settings", As: "volume", Paths: []string{"/var/run/secrets"}, Containers: []string{"app"}},
	}})
	for _, e := range judge(t, s).Verdict.Scope {
		if e.Type != verdict.EntityCredential {
			continue
		}
		if from := strings.Contains(e.Why, "it comes from secret shop/db"); from != (e.Value == "DB_PASSWORD") || from != cited(e.Citations, detect.ReferencesPath) || strings.Contains(e.Why, "other") {
			t.Errorf("%+v", e)
		}
	}
}

// Ways in by what the documents say.
func TestExposureWords(t *testing.T) {
	service := record.Way{Kind: "service", Name: "shop/cart", Target: 8080, Reach: "cluster"}
	for want, x := range map[string]record.Exposure{
		"no service or ingress leads to the pod":                                        {},
		"reachable from within the cluster alone, by service shop/cart":                 {Ways: []record.Way{service}},
		"reachable at its nodes' addresses by host port (10.0.0.1)":                     {Ways: []record.Way{service, {Kind: "host-port", Addresses: []string{"10.0.0.1"}, Target: 8080, Reach: "nodes"}}},
		"as far as could be asked":                                                      {Ways: []record.Way{service}, Missed: []string{"ingresses: forbidden"}},
		"network policy shop/deny lets nobody in":                                       {Policies: []record.NetworkPolicy{{Name: "shop/deny", Ingress: "none"}}, Ingress: "none"},
		"cluster alone, by service shop/cart; network policy shop/front bounds who may": {Ways: []record.Way{service}, Policies: []record.NetworkPolicy{{Name: "shop/front", Ingress: "some"}}, Ingress: "some"},
	} {
		s := detecttest.Busy()
		inCluster(s)
		s.Document("exposure", x)
		if rc := judge(t, s).Verdict.RootCause; rc == nil || !strings.Contains(rc.Statement, want) {
			t.Errorf("%q is not in %+v", want, rc)
		}
	}
}

// Without the documents nothing is claimed of them, and a gap says so.
func TestPodWithoutSurroundings(t *testing.T) {
	s := detecttest.Busy()
	inCluster(s)
	v := judge(t, s, "cluster", "audit").Verdict
	g := find(t, v.Gaps, func(g verdict.Gap) bool { return strings.HasPrefix(g.What, "who reaches the pod") })
	if g.What != "who reaches the pod, what its identity may do, where else its image runs" {
		t.Error(g.What)
	}
	for _, e := range v.Scope {
		if e.Type == verdict.EntityIdentity || e.Role == "sibling" {
			t.Errorf("scope has %+v", e)
		}
	}
	if strings.Contains(v.RootCause.Statement, "reachable") {
		t.Error(v.RootCause.Statement)
	}
	// Of a container that is none of a pod nobody asks.
	s = detecttest.Busy()
	attacks["static program dropped, run, deleted"].make(s)
	for _, g := range judge(t, s).Verdict.Gaps {
		if strings.Contains(g.What, "pod") || strings.Contains(g.What, "audit") {
			t.Errorf("gap %+v", g)
		}
	}
}

// Calls under the identity: what is the application's own is left out, what was refused is not done, and what came from elsewhere is said so.
func TestCallsUnderTheIdentity(t *testing.T) {
	s := detecttest.Busy()
	inCluster(s)
	stolenCalls(s)
	v := judge(t, s).Verdict
	sum := impactWith(t, &v, verdict.ImpactAPI, "5 calls under "+detecttest.Account)
	for _, want := range []string{"of kinds that it had not made before", "list secrets in shop, get secret shop/payment", "4 from 10.0.7.5, the pod's own address", "1 from 203.0.113.9, which is not the pod's",
		"python-requests/2, curl/8", "1 of them refused", "1 more of the kinds that it made before"} {
		if !strings.Contains(sum.Statement, want) {
			t.Errorf("%q is not in %s", want, sum.Statement)
		}
	}
	if len(sum.Citations) != 5 || sum.Citations[0].Artifact != detect.AuditPath || sum.Citations[0].Length == 0 {
		t.Errorf("%+v", sum.Citations)
	}
	if read := impactWith(t, &v, verdict.ImpactCredential, "were listed"); strings.Contains(read.Statement, "kube-system") {
		t.Error(read.Statement)
	}
	impactWith(t, &v, verdict.ImpactCredential, "the pod's token was taken: it was used from 203.0.113.9")
	if made := impactWith(t, &v, verdict.ImpactAPI, "done under "+detecttest.Account+": create pod shop/warm"); made.Technique != "T1610" || strings.Contains(made.Statement, "cart-9") {
		t.Errorf("%+v", made)
	}
	have := map[string]string{}
	for _, e := range v.Scope {
		have[e.ID()] = e.Role
	}
	for id, role := range map[string]string{"credential:secret/shop/*": "read", "credential:secret/shop/payment": "read", "credential:secret/shop/ledger": "read", "credential:" + tokenFile: "within reach",
		"container:pod/shop/warm": "started", "address:203.0.113.9": "caller", "identity:" + detecttest.Account: "used"} {
		if have[id] != role {
			t.Errorf("%s is %q in the scope, want %q", id, have[id], role)
		}
	}
	for _, id := range []string{"credential:secret/kube-system/*", "container:pod/shop/cart-9"} {
		if have[id] != "" {
			t.Errorf("the scope has %s", id)
		}
	}
	find(t, v.Story, func(st verdict.Step) bool { return strings.Contains(st.Statement, "list secrets namespace shop") })
}

// A token that is used from elsewhere tells of a theft even where the container shows nothing.
func TestTokenElsewhereAlone(t *testing.T) {
	s := detecttest.Busy()
	s.AsPod(0)
	s.Request(at, "10.0.7.31:40000", "POST", "/session?next=..%2F", 200)
	s.Audit(detecttest.Called{Time: at.Add(-time.Hour), Verb: "get", Resource: "configmaps", Namespace: "shop", Name: "settings", From: "10.0.7.5", Agent: "shop/1"},
		// The request that asked for it was logged when it was done.
		detecttest.Called{Time: at.Add(-50 * time.Millisecond), Verb: "create", Resource: "pods", Namespace: "shop", Name: "warm", From: "10.0.7.5", Agent: "x/1"},
		detecttest.Called{Time: at.Add(time.Hour), Verb: "list", Resource: "secrets", Namespace: "shop", From: "203.0.113.9", Agent: "curl/8"})
	r := judge(t, s)
	v := r.Verdict
	if v.Verdict != verdict.Suspicious {
		t.Fatalf("judged %s: %+v", v.Verdict, v.Findings)
	}
	impactWith(t, &v, verdict.ImpactAPI, "2 calls under "+detecttest.Account)
	impactWith(t, &v, verdict.ImpactCredential, "the pod's token was taken")
	if rc := v.RootCause; rc == nil || rc.Confidence > 0.7 || !strings.Contains(rc.Statement, "POST /session") {
		t.Errorf("root cause %+v", rc)
	}
	if again := judge(t, s); investigateText(again) != investigateText(r) {
		t.Error("the same package gives another verdict")
	}
}

func investigateText(r *investigate.Result) string {
	var b strings.Builder
	for _, i := range r.Verdict.Impact {
		b.WriteString(i.Statement + "\n")
	}
	for _, e := range r.Verdict.Scope {
		b.WriteString(e.ID() + e.Role + e.Why + "\n")
	}
	return b.String()
}

// A log that begins after the entry can't tell what is usual, and says so.
func TestAuditLogThatBeginsLate(t *testing.T) {
	s := detecttest.Busy()
	inCluster(s)
	s.Audit(detecttest.Called{Time: at.Add(time.Minute), Verb: "get", Resource: "configmaps", Namespace: "shop", Name: "settings", From: "10.0.7.5", Agent: "shop/1"})
	v := judge(t, s).Verdict
	if i := impactWith(t, &v, verdict.ImpactAPI, "1 call under"); strings.Contains(i.Statement, "had not made before") {
		t.Error(i.Statement)
	}
	find(t, v.Gaps, func(g verdict.Gap) bool { return g.What == "which calls are the application's own" })
}

// An honest pod with an account that may much, in a cluster that tells all, is clean, however often it was started again.
func TestHonestPod(t *testing.T) {
	s := detecttest.Busy()
	inCluster(s)
	honest := detecttest.Busy()
	for name, doc := range s.Extra {
		if strings.HasPrefix(name, "target/kubernetes/") {
			honest.Extra[name] = doc
		}
	}
	honest.AsPod(4)
	for i := range 20 {
		from := "10.0.7.5"
		if i%3 == 0 {
			from = "10.0.0.1" // the node's, as some networks have it
		}
		honest.Audit(detecttest.Called{Time: at.Add(time.Duration(i) * time.Minute), Verb: []string{"list", "get", "create"}[i%3], Resource: []string{"secrets", "secrets", "pods"}[i%3], Namespace: "shop", Name: "x", From: from, Agent: "operator/1"})
	}
	v := judge(t, honest).Verdict
	if v.Verdict != verdict.Clean || len(v.Scope)+len(v.Impact) > 0 {
		t.Errorf("judged %s: %+v %+v", v.Verdict, v.Findings, v.Impact)
	}
	if without := judge(t, honest, "audit").Verdict; without.Verdict != verdict.Clean || without.Confidence >= v.Confidence {
		t.Errorf("without the audit log it is %s, %v, with it %v", without.Verdict, without.Confidence, v.Confidence)
	}
}

// Of two members of a verdict over several, none is the other's sibling any more.
func TestSiblingsThatWereExamined(t *testing.T) {
	one, two := detecttest.Busy(), detecttest.Busy()
	inCluster(one)
	one.ID, two.ID = strings.Repeat("1", 32), strings.Repeat("2", 32)
	two.Container.ID, two.Container.Name = strings.Repeat("5b", 32), "shop-2"
	v := investigate.Together([]*investigate.Result{judge(t, one), judge(t, two)}).Verdict
	for _, e := range v.Scope {
		if e.Type == verdict.EntityContainer && e.Value == two.Container.ID {
			t.Errorf("the scope has %+v", e)
		}
	}
	alone := investigate.Together([]*investigate.Result{judge(t, one)}).Verdict
	if e := find(t, alone.Scope, func(e verdict.Entity) bool { return e.Value == two.Container.ID }); e.Role != "sibling" || strings.Contains(e.Why, "judged") {
		t.Errorf("%+v", e)
	}
}
