package surroundings

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// api is an API server that answers with documents by path, and counts what it was asked. What it does not know is not found;
// an answer that begins with "deny " is Forbidden.
type api struct {
	mu      sync.Mutex
	answers map[string]string
	asked   map[string]int
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked[r.URL.Path]++
	answer, ok := a.answers[r.URL.Path]
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case !ok:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":%q}`, r.URL.Path+" is not found")
	case strings.HasPrefix(answer, "deny"):
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"it is forbidden: User \"kira\" cannot"}`)
	default:
		fmt.Fprint(w, answer)
	}
}

func serve(t *testing.T, answers map[string]string) (*kubernetes.Cluster, *api) {
	t.Helper()
	a := &api{answers: answers, asked: map[string]int{}}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "config")
	config := `{"apiVersion":"v1","kind":"Config","current-context":"x","contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],
		"users":[{"name":"x","user":{}}],"clusters":[{"name":"x","cluster":{"server":"` + s.URL + `"}}]}`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := kubernetes.Connect(kubernetes.Access{Kubeconfig: file})
	if err != nil {
		t.Fatal(err)
	}
	return c, a
}

const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"shop","name":"NAME","uid":"u-NAME","labels":{"app":"cart"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"cart-1","uid":"rs1","controller":true}]},
"spec":{"nodeName":"n1","serviceAccountName":"cart","containers":[{"name":"app","image":"app:1"}]},
"status":{"podIP":"10.0.0.1","containerStatuses":[{"name":"app","containerID":"containerd://NAME","imageID":"reg/app@sha256:abcdefabcdef0123","state":{"running":{"startedAt":"2026-11-24T03:00:00Z"}}}]}}`

func list(kind string, items ...string) string {
	return `{"apiVersion":"v1","kind":"` + kind + `List","metadata":{},"items":[` + strings.Join(items, ",") + `]}`
}

// world is what a server says that lets one see everything.
func world() map[string]string {
	w := map[string]string{
		"/apis/apps/v1/namespaces/shop/replicasets/cart-1": `{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"cart-1","ownerReferences":[{"apiVersion":"argoproj.io/v1","kind":"Rollout","name":"cart","uid":"r","controller":true}]}}`,
		"/api/v1/namespaces/shop/events":                   list("Event"),
		"/api/v1/nodes/n1":                                 `{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"}}`,
		"/api/v1/namespaces/shop":                          `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"kubernetes.io/metadata.name":"shop"}}}`,
		"/api/v1/namespaces/shop/serviceaccounts/cart":     `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"cart","namespace":"shop"}}`,
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings": list("ClusterRoleBinding",
			`{"metadata":{"name":"all"},"subjects":[{"kind":"Group","name":"system:authenticated"}],"roleRef":{"kind":"ClusterRole","name":"basic"}}`,
			`{"metadata":{"name":"none"},"subjects":[{"kind":"User","name":"kira"}],"roleRef":{"kind":"ClusterRole","name":"cluster-admin"}}`),
		"/apis/rbac.authorization.k8s.io/v1/rolebindings": list("RoleBinding",
			`{"metadata":{"namespace":"shop","name":"gone"},"subjects":[{"kind":"ServiceAccount","name":"cart"}],"roleRef":{"kind":"Role","name":"gone"}}`,
			`{"metadata":{"namespace":"shop","name":"read"},"subjects":[{"kind":"ServiceAccount","name":"cart"}],"roleRef":{"kind":"Role","name":"read"}}`),
		"/apis/rbac.authorization.k8s.io/v1/clusterroles/basic":                 `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"basic"},"rules":[{"verbs":["get"],"nonResourceURLs":["/healthz"]}]}`,
		"/apis/rbac.authorization.k8s.io/v1/namespaces/shop/roles/read":         `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"namespace":"shop","name":"read"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["secrets"]}]}`,
		"/api/v1/namespaces/shop/services":                                      list("Service", `{"metadata":{"namespace":"shop","name":"cart"},"spec":{"selector":{"app":"cart"},"clusterIP":"10.1.0.1","ports":[{"port":80,"targetPort":8080}]}}`, `{"metadata":{"namespace":"shop","name":"other"},"spec":{"selector":{"app":"other"},"ports":[{"port":80}]}}`),
		"/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices":              list("EndpointSlice"),
		"/apis/networking.k8s.io/v1/namespaces/shop/ingresses":                  list("Ingress"),
		"/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies":            list("NetworkPolicy", `{"metadata":{"namespace":"shop","name":"deny"},"spec":{"podSelector":{},"policyTypes":["Ingress"]}}`),
		"/api/v1/namespaces/shop/resourcequotas":                                list("ResourceQuota"),
		"/api/v1/namespaces/shop/limitranges":                                   list("LimitRange"),
		"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations":   list("MutatingWebhookConfiguration"),
		"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations": list("ValidatingWebhookConfiguration"),
		"/api/v1/pods": list("Pod"),
	}
	var pods []string
	for _, n := range []string{"a", "b", "c"} {
		p := strings.ReplaceAll(pod, "NAME", n)
		w["/api/v1/namespaces/shop/pods/"+n] = p
		pods = append(pods, p)
	}
	w["/api/v1/pods"] = list("Pod", pods...)
	return w
}

func find(t *testing.T, c *kubernetes.Cluster, name string) *kubernetes.Instance {
	t.Helper()
	ref, err := kubernetes.ParseRef("shop/" + name + "/app")
	if err != nil {
		t.Fatal(err)
	}
	found, err := c.Find(t.Context(), kubernetes.Query{Ref: &ref})
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	return found[0]
}

func document[T any](t *testing.T, docs []Document, name string) T {
	t.Helper()
	var out T
	for _, d := range docs {
		if d.Name == name {
			if err := json.Unmarshal(d.Data, &out); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return out
		}
	}
	t.Errorf("there is no %s", name)
	return out
}

// TestCollect: what the server says, and what follows from it. What is asked of the cluster is asked once, however many pods ask.
func TestCollect(t *testing.T) {
	c, a := serve(t, world())
	var first []Document
	var wg sync.WaitGroup
	for n := range 12 {
		i := find(t, c, []string{"a", "b", "c"}[n%3])
		wg.Go(func() {
			docs, missed := Collect(t.Context(), c, i)
			if len(missed) != 1 || !strings.Contains(missed[0], `Rollout "cart", which owns the pod`) {
				t.Errorf("missed %q", missed)
			}
			if i.Pod.Name == "a" {
				a.mu.Lock()
				first = docs
				a.mu.Unlock()
			}
		})
	}
	wg.Wait()
	var names []string
	for _, d := range first {
		names = append(names, d.Name)
	}
	if want := strings.Fields("pod.json events.json owner-1.json node.json namespace.json serviceaccount.json bindings.json roles.json permissions.json services.json endpointslices.json " +
		"ingresses.json networkpolicies.json exposure.json references.json quotas.json webhooks.json admission.json siblings.json"); !slices.Equal(names, want) {
		t.Errorf("got %q", names)
	}
	p := document[record.Permissions](t, first, "permissions.json")
	if len(p.Rules) != 2 || len(p.Dangers) != 1 || p.Dangers[0].Kind != "secrets" || !slices.Equal(p.Dangling, []string{"RoleBinding/shop/gone: Role/shop/gone"}) || len(p.Missed) != 0 {
		t.Errorf("%+v", p)
	}
	e := document[record.Exposure](t, first, "exposure.json")
	if len(e.Ways) != 1 || e.Ways[0].Target != 8080 || e.Ingress != "none" || e.Egress != "all" {
		t.Errorf("%+v", e)
	}
	s := document[record.Siblings](t, first, "siblings.json")
	if len(s.Siblings) != 2 || s.Siblings[0].Pod != "b" || s.Siblings[1].ID != "c" || s.Siblings[0].Started != "2026-11-24T03:00:00Z" {
		t.Errorf("%+v", s)
	}
	for path, n := range a.asked {
		if n > 1 && !strings.HasSuffix(path, "/events") && !strings.Contains(path, "/pods/") {
			t.Errorf("%s was asked for %d times", path, n)
		}
	}
	for _, name := range []string{"bindings.json", "roles.json"} {
		l := document[struct{ Items []struct{ Kind string } }](t, first, name)
		if len(l.Items) == 0 || name == "bindings.json" && (len(l.Items) != 3 || l.Items[0].Kind != "ClusterRoleBinding" || l.Items[1].Kind != "RoleBinding") {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// TestDenied: each right that is missing is named, and all that does not depend on it is there.
func TestDenied(t *testing.T) {
	for _, c := range []struct {
		path    string
		missing string // of the documents
		word    string // of what is missed
		check   func(*testing.T, []Document)
	}{
		{"/api/v1/nodes/n1", "node.json", "kira may not get nodes in the whole cluster", nil},
		{"/api/v1/namespaces/shop/events", "events.json", "may not list events in namespace shop", nil},
		{"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", "", "may not list clusterrolebindings in the whole cluster", func(t *testing.T, docs []Document) {
			if p := document[record.Permissions](t, docs, "permissions.json"); len(p.Missed) != 1 || len(p.Dangers) != 1 {
				t.Errorf("%+v", p)
			}
		}},
		{"/apis/rbac.authorization.k8s.io/v1/namespaces/shop/roles/read", "", "may not get roles in namespace shop", func(t *testing.T, docs []Document) {
			if p := document[record.Permissions](t, docs, "permissions.json"); len(p.Missed) != 1 || len(p.Dangers) != 0 || len(p.Rules) != 1 || len(p.Dangling) != 1 {
				t.Errorf("%+v", p)
			}
		}},
		{"/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies", "networkpolicies.json", "may not list networkpolicies in namespace shop", func(t *testing.T, docs []Document) {
			if e := document[record.Exposure](t, docs, "exposure.json"); len(e.Missed) != 1 || e.Ingress != "" || len(e.Ways) != 1 {
				t.Errorf("%+v", e)
			}
		}},
		{"/api/v1/namespaces/shop/services", "services.json", "may not list services in namespace shop", nil},
		{"/api/v1/namespaces/shop/limitranges", "quotas.json", "may not list limitranges", nil},
		{"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", "webhooks.json", "may not list mutatingwebhookconfigurations", nil},
		{"/api/v1/pods", "", "may not list pods in the whole cluster", func(t *testing.T, docs []Document) {
			if s := document[record.Siblings](t, docs, "siblings.json"); len(s.Missed) != 1 || len(s.Siblings) != 1 {
				t.Errorf("%+v", s)
			}
		}},
	} {
		w := world()
		all := len(w)
		w["/api/v1/namespaces/shop/pods"] = list("Pod", strings.ReplaceAll(pod, "NAME", "b"))
		w[c.path] = "deny"
		if len(w) != all+1 {
			t.Errorf("%s is not asked for", c.path)
		}
		k, _ := serve(t, w)
		docs, missed := Collect(t.Context(), k, find(t, k, "a"))
		if len(missed) != 2 || !strings.Contains(strings.Join(missed, "\n"), c.word) || !strings.Contains(strings.Join(missed, "\n"), "kubectl create") {
			t.Errorf("%s: missed %q", c.path, missed)
		}
		if slices.ContainsFunc(docs, func(d Document) bool { return d.Name == c.missing }) {
			t.Errorf("%s is there", c.missing)
		}
		if c.check != nil {
			c.check(t, docs)
		}
	}
	// Nothing but the pod may be read.
	w := world()
	for path := range maps.Clone(w) {
		if !strings.HasPrefix(path, "/api/v1/namespaces/shop/pods/") {
			w[path] = "deny"
		}
	}
	k, _ := serve(t, w)
	docs, missed := Collect(t.Context(), k, find(t, k, "a"))
	if len(missed) < 12 || len(docs) < 5 {
		t.Errorf("%d documents, missed %q", len(docs), missed)
	}
}

func TestReferences(t *testing.T) {
	var p corev1.Pod
	err := json.Unmarshal([]byte(`{"spec":{"imagePullSecrets":[{"name":"registry"}],
	 "volumes":[{"name":"tls","secret":{"secretName":"tls","items":[{"key":"tls.key","path":"k"}]}},{"name":"conf","configMap":{"name":"conf","optional":true}},
	  {"name":"all","projected":{"sources":[{"secret":{"name":"db"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}}]}},{"name":"drive","csi":{"driver":"d","nodePublishSecretRef":{"name":"csi"}}}],
	 "initContainers":[{"name":"setup","envFrom":[{"prefix":"DB_","secretRef":{"name":"db"}}]}],
	 "containers":[{"name":"app","env":[{"name":"PASSWORD","valueFrom":{"secretKeyRef":{"name":"db","key":"password"}}},{"name":"USER","valueFrom":{"secretKeyRef":{"name":"db","key":"user"}}},{"name":"PLAIN","value":"x"}],
	   "volumeMounts":[{"name":"tls","mountPath":"/tls/"},{"name":"all","mountPath":"/all"}]},
	  {"name":"side","env":[{"name":"PASSWORD","valueFrom":{"secretKeyRef":{"name":"db","key":"password"}}}],"volumeMounts":[{"name":"conf","mountPath":"/conf"}]}]}}`), &p)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range references(&p).References {
		got = append(got, fmt.Sprintf("%s %s %s keys=%v paths=%v variables=%v containers=%v optional=%v", r.Kind, r.Name, r.As, r.Keys, r.Paths, r.Variables, r.Containers, r.Optional))
	}
	want := []string{
		"secret csi csi keys=[] paths=[] variables=[] containers=[] optional=false",
		"secret db env keys=[password user] paths=[] variables=[PASSWORD USER] containers=[app side] optional=false",
		"secret db env-from keys=[] paths=[] variables=[DB_*] containers=[setup] optional=false",
		"secret db projected keys=[] paths=[/all] variables=[] containers=[app] optional=false",
		"secret registry image-pull keys=[] paths=[] variables=[] containers=[] optional=false",
		"secret tls volume keys=[tls.key] paths=[/tls] variables=[] containers=[app] optional=false",
		"configmap conf volume keys=[] paths=[/conf] variables=[] containers=[side] optional=true",
		"configmap kube-root-ca.crt projected keys=[ca.crt] paths=[/all] variables=[] containers=[app] optional=false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}
