package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/sherd-forensics/sherd/collect/surroundings"
	"github.com/sherd-forensics/sherd/collect/surroundings/permission"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// rightsOf are roles and bindings of every form that reach a service account or only seem to. NS is the namespace.
const rightsOf = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: cart, annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::123456789012:role/cart"}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules:
  - {apiGroups: [""], resources: [secrets], resourceNames: [db, cart], verbs: [get, update, create]}
  - {apiGroups: [""], resources: [pods, pods/log], verbs: [get, list]}
  - {apiGroups: ["*"], resources: ["*/scale"], verbs: [patch]}
  - {apiGroups: [apps], resources: ["*"], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: exec}
rules: [{apiGroups: [""], resources: [pods/exec], verbs: ["*"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: cart, namespace: NS}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: exec-by-user}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: exec}
subjects: [{kind: User, name: "system:serviceaccount:NS:cart", apiGroup: rbac.authorization.k8s.io}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: gone}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: never-made}
subjects: [{kind: Group, name: "system:serviceaccounts:NS", apiGroup: rbac.authorization.k8s.io}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: view-by-group}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: NS-cluster}
subjects: [{kind: Group, name: "system:serviceaccounts:NS", apiGroup: rbac.authorization.k8s.io}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: not-mine}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: cart, namespace: kube-system}, {kind: Group, name: "system:serviceaccounts:other", apiGroup: rbac.authorization.k8s.io}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: elsewhere, namespace: kube-public}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{kind: ServiceAccount, name: cart, namespace: NS}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: NS-cluster, labels: {lab: "NS"}}
rules:
  - {apiGroups: [""], resources: [nodes, nodes/proxy, namespaces], verbs: [get, list]}
  - {apiGroups: [rbac.authorization.k8s.io], resources: [roles, clusterroles], verbs: [bind]}
  - {nonResourceURLs: ["*"], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: NS-part, labels: {part-of-NS: "yes", lab: "NS"}}
rules:
  - {apiGroups: [""], resources: [nodes], verbs: [get, patch]}
  - {apiGroups: [""], resources: [users], verbs: [impersonate], resourceNames: [kira]}
  - {nonResourceURLs: [/metrics, /logs/*], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: NS-whole, labels: {lab: "NS"}}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {part-of-NS: "yes"}}]}
rules: []
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: NS-whole, labels: {lab: "NS"}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: NS-whole}
subjects: [{kind: ServiceAccount, name: cart, namespace: NS}]
`

// clusterWide is what of rightsOf lies in no namespace of the test's own.
func (s *shop) removeRights(t *testing.T) {
	t.Cleanup(func() {
		for _, args := range [][]string{
			{"delete", "clusterroles,clusterrolebindings", "-l", "lab=" + s.namespace},
			{"delete", "rolebinding", "-n", "kube-public", "elsewhere", "--ignore-not-found"},
		} {
			if _, err := s.l.Kubectl(context.Background(), args...); err != nil {
				t.Error(err)
			}
		}
	})
}

// applyAll is apply for objects that name their namespaces themselves.
func (s *shop) applyAll(t *testing.T, manifest string) {
	t.Helper()
	for _, doc := range strings.Split(strings.ReplaceAll(manifest, "NS", s.namespace), "\n---\n") {
		if strings.Contains(doc, "namespace: kube-public}") {
			file := filepath.Join(t.TempDir(), "x.yaml")
			if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
				t.Fatal(err)
			}
			s.kubectl(t, "apply", "-f", file)
			continue
		}
		s.apply(t, doc)
	}
}

// asked is a client that holds back no question.
func (s *shop) asked(t *testing.T, as string) (*kubernetes.Cluster, dynamic.Interface) {
	t.Helper()
	c, err := kubernetes.Connect(kubernetes.Access{Kubeconfig: s.l.Kubeconfig(), As: as})
	if err != nil {
		t.Fatal(err)
	}
	cfg := rest.CopyConfig(c.Config)
	cfg.QPS = -1
	d, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, d
}

const accountOnly = `
apiVersion: v1
kind: Pod
metadata: {name: cart, labels: {app: cart}}
spec:
  serviceAccountName: cart
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers: [{name: app, image: "GOWEB", imagePullPolicy: Never, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]
`

// TestLiveContextPermissions asks the API server itself, as the account, about each verb on each resource in three namespaces and in none:
// what Sherd worked out must say the same every time.
func TestLiveContextPermissions(t *testing.T) {
	s := openShop(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: none}\n")
	s.removeRights(t)
	s.applyAll(t, rightsOf)
	s.apply(t, strings.ReplaceAll(accountOnly, "GOWEB", "sherd-lab/none:1")) // it need not run
	// The controller fills an aggregated role a moment later.
	s.waitFor(t, "the aggregated role", func() bool {
		return strings.Contains(s.kubectl(t, "get", "clusterrole", s.namespace+"-whole", "-o", "jsonpath={.rules}"), "/metrics")
	})
	c, _ := s.asked(t, "")
	ref, err := kubernetes.ParseRef(s.namespace + "/cart/app")
	if err != nil {
		t.Fatal(err)
	}
	found, err := c.Find(t.Context(), kubernetes.Query{Ref: &ref})
	if err != nil {
		t.Fatal(err)
	}
	docs, missed := surroundings.Collect(t.Context(), c, found[0])
	if len(missed) != 1 || !strings.Contains(missed[0], "does not name the image's digest") {
		t.Errorf("missed %q", missed)
	}
	var p record.Permissions
	for _, d := range docs {
		if d.Name == "permissions.json" {
			if err := json.Unmarshal(d.Data, &p); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s", d.Data)
		}
	}
	if want := []string{"RoleBinding/" + s.namespace + "/gone: Role/" + s.namespace + "/never-made"}; !slices.Equal(p.Dangling, want) || len(p.Missed) > 0 {
		t.Errorf("dangling %q, missed %q", p.Dangling, p.Missed)
	}
	var kinds []string
	for _, d := range p.Dangers {
		kinds = append(kinds, d.Kind+" "+d.Namespace)
	}
	for _, want := range []string{"impersonate ", "exec " + s.namespace, "secrets " + s.namespace, "run-pods kube-public", "nodes ", "escalate " + s.namespace, "secrets kube-public"} {
		if !slices.Contains(kinds, want) {
			t.Errorf("the dangers lack %q: %q", want, kinds)
		}
	}
	for _, d := range p.Dangers {
		for _, r := range d.Rules {
			if b := p.Rules[r].Binding; strings.HasPrefix(b, "ClusterRoleBinding/system:") {
				t.Errorf("what everybody may is called a danger: %s by %s", d.What, b)
			}
		}
	}
	if len(p.Cloud) != 1 || len(p.Tokens) != 1 || p.Tokens[0].Path != "/var/run/secrets/kubernetes.io/serviceaccount/token" || !slices.Equal(p.Tokens[0].Container, []string{"app"}) {
		t.Errorf("cloud %+v, tokens %+v", p.Cloud, p.Tokens)
	}
	_, as := s.asked(t, p.Identity)
	s.agree(t, as, &p)
}

func (s *shop) agree(t *testing.T, as dynamic.Interface, p *record.Permissions) {
	var questions []permission.Question
	for _, resource := range strings.Fields("pods pods/exec pods/log pods/status secrets configmaps services nodes nodes/proxy namespaces events users serviceaccounts serviceaccounts/token persistentvolumes " +
		"apps:deployments apps:deployments/scale apps:replicasets apps:daemonsets batch:jobs batch:cronjobs networking.k8s.io:networkpolicies networking.k8s.io:ingresses policy:poddisruptionbudgets " +
		"rbac.authorization.k8s.io:roles rbac.authorization.k8s.io:clusterroles rbac.authorization.k8s.io:rolebindings authorization.k8s.io:selfsubjectaccessreviews authentication.k8s.io:selfsubjectreviews " +
		"admissionregistration.k8s.io:mutatingwebhookconfigurations certificates.k8s.io:certificatesigningrequests/approval example.com:things example.com:things/scale") {
		group, name, ok := strings.Cut(resource, ":")
		if !ok {
			group, name = "", resource
		}
		name, sub, _ := strings.Cut(name, "/")
		for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate", "bind", "escalate"} {
			for _, ns := range []string{s.namespace, "kube-public", "kube-system", ""} {
				questions = append(questions, permission.Question{Verb: verb, Group: group, Resource: name, Sub: sub, Namespace: ns})
			}
			questions = append(questions, permission.Question{Verb: verb, Group: group, Resource: name, Sub: sub, Namespace: s.namespace, Name: "db"}, permission.Question{Verb: verb, Group: group, Resource: name, Sub: sub, Name: "kira"})
		}
	}
	for _, url := range []string{"/", "/api", "/api/v1", "/metrics", "/metrics/cadvisor", "/logs/kubelet.log", "/logs", "/healthz", "/healthz/etcd", "/version", "/version/", "/openapi/v2", "/debug/pprof", "/.well-known/openid-configuration"} {
		for _, verb := range []string{"get", "post", "put"} {
			questions = append(questions, permission.Question{Verb: verb, URL: url})
		}
	}
	reviews := as.Resource(schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"})
	var wg sync.WaitGroup
	next := make(chan permission.Question)
	var mu sync.Mutex
	yes, differ := 0, 0
	for range 8 {
		wg.Go(func() {
			for q := range next {
				server, err := review(t.Context(), reviews, q)
				ours := permission.Allowed(p.Rules, q)
				mu.Lock()
				if server {
					yes++
				}
				if err != nil || server != ours {
					differ++
					if differ < 20 {
						t.Errorf("%+v: the server says %v, we say %v, %v", q, server, ours, err)
					}
				}
				mu.Unlock()
			}
		})
	}
	for _, q := range questions {
		next <- q
	}
	close(next)
	wg.Wait()
	t.Logf("%d questions, %d allowed, %d differ", len(questions), yes, differ)
	if yes < 60 || yes > len(questions)/2 {
		t.Errorf("%d of %d allowed: the matrix tries little", yes, len(questions))
	}
}

func review(ctx context.Context, c dynamic.ResourceInterface, q permission.Question) (bool, error) {
	r := &authorizationv1.SelfSubjectAccessReview{TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"}}
	if q.URL != "" {
		r.Spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: q.URL, Verb: q.Verb}
	} else {
		r.Spec.ResourceAttributes = &authorizationv1.ResourceAttributes{Namespace: q.Namespace, Verb: q.Verb, Group: q.Group, Version: "*", Resource: q.Resource, Subresource: q.Sub, Name: q.Name}
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(r)
	if err != nil {
		return false, err
	}
	u, err := c.Create(ctx, &unstructured.Unstructured{Object: m}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	allowed, _, err := unstructured.NestedBool(u.Object, "status", "allowed")
	return allowed, err
}

func readDocument[T any](t *testing.T, p *evidence.Package, name string) T {
	t.Helper()
	var out T
	b, err := p.ReadFile("target/kubernetes/"+name, 8<<20)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return out
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return out
}

var _ = fmt.Sprint
var _ = time.Now
