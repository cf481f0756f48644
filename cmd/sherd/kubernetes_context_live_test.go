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

// removeRights takes away, at the end, what lies in no namespace of the test's own.
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
	began := time.Now()
	docs, missed := surroundings.Collect(t.Context(), c, s.find(t, c, "cart"))
	t.Logf("all questions took %v", time.Since(began).Round(time.Millisecond))
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
			for _, ns := range []string{s.namespace, "kube-public", ""} {
				questions = append(questions, permission.Question{Verb: verb, Group: group, Resource: name, Sub: sub, Namespace: ns})
			}
			if !slices.Contains([]string{"get", "create", "impersonate"}, verb) {
				continue
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

// contextObjects are what stands around a deployment of two pods: every form of exposure, policies, references, quota, a webhook, gateways.
// NS is the namespace.
const contextObjects = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: cart}
---
apiVersion: v1
kind: Secret
metadata: {name: db}
stringData: {password: "a-secret-that-no-document-may-hold", user: cart}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {level: "a-setting-that-no-document-may-hold"}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: bound}
spec: {hard: {count/configmaps: "50"}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [secrets], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: cart, namespace: NS}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart}
spec:
  replicas: 2
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      serviceAccountName: cart
      terminationGracePeriodSeconds: 1
      imagePullSecrets: [{name: registry}]
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      volumes:
        - {name: vault, projected: {sources: [{serviceAccountToken: {audience: vault, expirationSeconds: 1200, path: vault-token}}]}}
        - {name: settings, configMap: {name: settings}}
      containers:
        - name: app
          image: "GOWEB"
          imagePullPolicy: Never
          ports: [{name: http, containerPort: 8080}]
          env: [{name: DB_PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}]
          volumeMounts: [{name: vault, mountPath: /var/run/vault}, {name: settings, mountPath: /settings}]
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Service
metadata: {name: plain}
spec: {selector: {app: cart}, ports: [{name: web, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: node}
spec: {type: NodePort, selector: {app: cart}, ports: [{port: 81, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: lb}
spec: {type: LoadBalancer, selector: {app: cart}, externalIPs: [198.51.100.7], loadBalancerSourceRanges: [192.0.2.0/24], ports: [{port: 82, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, selector: {app: cart}, ports: [{port: 83, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {selector: {app: other}, ports: [{port: 84}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: front}
spec:
  tls: [{hosts: [shop.example.test], secretName: tls}]
  rules: [{host: shop.example.test, http: {paths: [{path: /cart, pathType: Prefix, backend: {service: {name: plain, port: {name: web}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: elsewhere}
spec: {defaultBackend: {service: {name: other, port: {number: 84}}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: to-cart}
spec: {podSelector: {matchLabels: {app: cart}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {matchLabels: {app: front}}}], ports: [{port: 8080}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: to-other}
spec: {podSelector: {matchLabels: {app: other}}}
`

// contextWide is what lies in no namespace. The webhook is never called: it is asked about pods of the namespace that are made after it. The kinds of
// the Gateway API are the cluster's own while the test lasts.
const contextWide = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gateways.gateway.networking.k8s.io, labels: {lab: NS}, annotations: {api-approved.kubernetes.io: "unapproved, for a test"}}
spec: {group: gateway.networking.k8s.io, scope: Namespaced, names: {kind: Gateway, plural: gateways, singular: gateway}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: httproutes.gateway.networking.k8s.io, labels: {lab: NS}, annotations: {api-approved.kubernetes.io: "unapproved, for a test"}}
spec: {group: gateway.networking.k8s.io, scope: Namespaced, names: {kind: HTTPRoute, plural: httproutes, singular: httproute}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: NS-inject, labels: {lab: NS}}
webhooks:
  - name: inject.example.test
    clientConfig: {service: {namespace: NS, name: inject, path: /pods}}
    rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NS}}
    failurePolicy: Ignore
    timeoutSeconds: 1
    sideEffects: None
    admissionReviewVersions: [v1]
`

const contextGateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: none, addresses: [{value: 203.0.113.9}], listeners: [{name: http, port: 8000, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart}
spec: {parentRefs: [{name: edge}], hostnames: [gw.example.test], rules: [{matches: [{path: {type: PathPrefix, value: /c}}], backendRefs: [{name: plain, port: 80}]}]}
`

// TestLiveContext captures a pod with all of that around it and holds each document of the package against what is there. Then the same with no
// right but to find the pod.
func TestLiveContext(t *testing.T) {
	s := openShop(t, strings.ReplaceAll(contextObjects, "NS", "shop-context"))
	t.Cleanup(func() {
		if _, err := s.l.Kubectl(context.Background(), "delete", "mutatingwebhookconfigurations,crds", "-l", "lab="+s.namespace, "--timeout=60s"); err != nil {
			t.Error(err)
		}
	})
	s.kubectl(t, "wait", "-n", s.namespace, "--for=condition=Available", "deployment/cart", "--timeout=90s")
	s.applyAll(t, contextWide)
	s.kubectl(t, "wait", "--for=condition=Established", "crd", "-l", "lab="+s.namespace, "--timeout=60s")
	s.apply(t, contextGateway)
	pods := strings.Fields(s.kubectl(t, "get", "pods", "-n", s.namespace, "-l", "app=cart", "-o", "jsonpath={.items[*].metadata.name}"))
	if len(pods) != 2 {
		t.Fatalf("%d pods: %q", len(pods), pods)
	}
	// What a thief of the account does, and somebody with the pod.
	_, thief := s.asked(t, "system:serviceaccount:"+s.namespace+":cart")
	if _, err := thief.Resource(schema.GroupVersionResource{Version: "v1", Resource: "secrets"}).Namespace(s.namespace).List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	s.kubectl(t, "logs", "-n", s.namespace, pods[0])
	pkg := filepath.Join(t.TempDir(), "x.sherd")
	if status, _, errOut := s.sherd(t, "collect", "k8s://"+s.namespace+"/"+pods[0]+"/app", "-o", pkg, "--audit-log", s.l.KubernetesAudit()); status != 0 {
		t.Fatalf("ended with %d: %s", status, errOut)
	}
	p, err := evidence.Open(pkg, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s.checkContext(t, p, pods)
	s.checkTimeline(t, pkg)
	if status, _, errOut := s.sherd(t, "collect", "containerd://k8s.io/none", "--audit-log", "x"); status != 2 || !strings.Contains(errOut, "--audit-log is for containers of a cluster") {
		t.Errorf("a container of this machine with --audit-log ended with %d", status)
	}
	t.Run("denied", func(t *testing.T) { s.contextDenied(t, pods[0]) })
	t.Run("documented", func(t *testing.T) { s.contextDocumented(t, pods[0]) })
}

// contextDocumented: whoever has the role to look that the documentation gives misses nothing.
func (s *shop) contextDocumented(t *testing.T, pod string) {
	doc, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "## Rights\n")
	_, rest, ok := strings.Cut(rest, "\n    apiVersion: rbac")
	role, _, ok2 := strings.Cut("    apiVersion: rbac"+rest, "\n    ---\n")
	if !ok || !ok2 || !strings.Contains(role, "name: sherd-look}") {
		t.Fatalf("the documentation has no role to look: %q", role)
	}
	role = strings.ReplaceAll(strings.ReplaceAll("\n"+role, "\n    ", "\n"), "name: sherd-look}", "name: NS-look, labels: {lab: NS}}")
	s.removeRights(t)
	s.applyAll(t, role+`
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: NS-look, labels: {lab: NS}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: NS-look}
subjects: [{kind: User, name: NS-lena, apiGroup: rbac.authorization.k8s.io}]
`)
	c, _ := s.asked(t, s.namespace+"-lena")
	for _, r := range surroundings.Rights(t.Context(), c, s.namespace) {
		if !r.Granted || r.Unknown {
			t.Errorf("the role lacks %s", r.String())
		}
	}
	status, out, _ := s.sherd(t, "collect", "k8s://"+s.namespace+"/"+pod+"/app", "--plan", "--via", "node", "--as", s.namespace+"-kira")
	if status != 1 || !strings.Contains(out, "list services in namespace "+s.namespace) || !strings.Contains(out, "no: it will be missing") {
		t.Errorf("a plan without rights ended with %d", status)
	}
	docs, missed := surroundings.Collect(t.Context(), c, s.find(t, c, pod))
	if len(missed) > 0 || len(docs) < 20 {
		t.Errorf("%d documents, missed %q", len(docs), missed)
	}
}

func (s *shop) find(t *testing.T, c *kubernetes.Cluster, pod string) *kubernetes.Instance {
	t.Helper()
	ref, err := kubernetes.ParseRef(s.namespace + "/" + pod + "/app")
	if err != nil {
		t.Fatal(err)
	}
	found, err := c.Find(t.Context(), kubernetes.Query{Ref: &ref})
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

func (s *shop) checkContext(t *testing.T, p *evidence.Package, pods []string) {
	ns := s.namespace
	for _, a := range p.Artifacts("target/kubernetes/") {
		b, err := p.ReadFile(a.Path, 32<<20)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(a.Path, ".json") && (strings.Contains(string(b), "no-document-may-hold") || !json.Valid(b)) {
			t.Errorf("%s holds a secret's contents, or is no JSON", a.Path)
		}
	}
	for _, m := range p.Coverage().Missed {
		if strings.Contains(m.Reason, "cluster's") {
			t.Errorf("missed: %s", m.Reason)
		}
	}
	perm := readDocument[record.Permissions](t, p, "permissions.json")
	if len(perm.Dangers) != 1 || perm.Dangers[0].Kind != "secrets" || perm.Dangers[0].Namespace != ns || len(perm.Missed) > 0 {
		t.Errorf("permissions: %+v", perm)
	}
	var tokens []string
	for _, k := range perm.Tokens {
		tokens = append(tokens, fmt.Sprintf("%s %q %d %v", k.Path, k.Audience, k.Seconds, k.Container))
	}
	if want := []string{`/var/run/vault/vault-token "vault" 1200 [app]`, `/var/run/secrets/kubernetes.io/serviceaccount/token "" 3607 [app]`}; !slices.Equal(tokens, want) {
		t.Errorf("tokens %q", tokens)
	}
	exp := readDocument[record.Exposure](t, p, "exposure.json")
	var ways []string
	for _, w := range exp.Ways {
		ways = append(ways, fmt.Sprintf("%s %s %s %d>%d %s %v%v", w.Kind, w.Name, w.Type, w.Port*min(1, max(0, 30000-w.Port)), w.Target, w.Reach, w.Hosts, w.Paths))
	}
	for _, want := range []string{
		"gateway " + ns + "/cart HTTPRoute 8000>8080 outside [gw.example.test][/c]", "ingress " + ns + "/front  443>8080 outside [shop.example.test][/cart]",
		"service " + ns + "/lb ExternalIPs 82>8080 outside [][]", "service " + ns + "/lb LoadBalancer 82>8080 outside [][]", "service " + ns + "/node NodePort 0>8080 nodes [][]",
		"service " + ns + "/plain ClusterIP 80>8080 cluster [][]", "service " + ns + "/headless Headless 8080>8080 cluster [][]",
	} {
		if !slices.Contains(ways, want) {
			t.Errorf("the ways lack %q:\n%s", want, strings.Join(ways, "\n"))
		}
	}
	if len(exp.Policies) != 1 || exp.Ingress != "some" || exp.Egress != "none" || strings.Contains(strings.Join(ways, "\n"), "elsewhere") || len(exp.Missed) > 0 {
		t.Errorf("policies %+v, ingress %s, egress %s, missed %q", exp.Policies, exp.Ingress, exp.Egress, exp.Missed)
	}
	ref := readDocument[record.References](t, p, "references.json")
	var refs []string
	for _, r := range ref.References {
		refs = append(refs, fmt.Sprintf("%s %s %s %v %v", r.Kind, r.Name, r.As, r.Keys, r.Containers))
	}
	if want := []string{"secret db env [password] [app]", "secret registry image-pull [] []", "configmap kube-root-ca.crt projected [ca.crt] [app]", "configmap settings volume [] [app]"}; !slices.Equal(refs, want) {
		t.Errorf("references %q", refs)
	}
	sib := readDocument[record.Siblings](t, p, "siblings.json")
	if !slices.ContainsFunc(sib.Siblings, func(b record.Sibling) bool {
		return b.Namespace == ns && b.Pod == pods[1] && b.Container == "app" && b.Node != "" && len(b.ID) == 64
	}) || slices.ContainsFunc(sib.Siblings, func(b record.Sibling) bool { return b.Namespace == ns && b.Pod == pods[0] }) {
		t.Errorf("siblings: %+v", sib)
	}
	adm := readDocument[record.Admission](t, p, "admission.json")
	if len(adm.Webhooks) != 1 || adm.Webhooks[0].Calls != "service "+ns+"/inject:443/pods" || !adm.Webhooks[0].Mutating {
		t.Errorf("admission: %+v", adm)
	}
	for name, want := range map[string][]string{
		"bindings.json": {"RoleBinding/reader", "ClusterRoleBinding/system:basic-user"}, "roles.json": {"Role/reader", "ClusterRole/system:basic-user"}, "quotas.json": {"ResourceQuota/bound"},
		"services.json": {"Service/plain", "Service/node", "Service/lb", "Service/headless"}, "endpointslices.json": {"EndpointSlice/plain"}, "ingresses.json": {"Ingress/front"},
		"gateways.json": {"Gateway/edge", "HTTPRoute/cart"}, "networkpolicies.json": {"NetworkPolicy/to-cart"}, "webhooks.json": {"MutatingWebhookConfiguration/" + ns + "-inject"},
	} {
		l := readDocument[struct {
			Items []struct {
				Kind     string `json:"kind"`
				Metadata struct{ Name string }
			}
		}](t, p, name)
		for _, w := range want {
			if !slices.ContainsFunc(l.Items, func(i struct {
				Kind     string `json:"kind"`
				Metadata struct{ Name string }
			}) bool {
				return strings.HasPrefix(i.Kind+"/"+i.Metadata.Name, w)
			}) {
				t.Errorf("%s lacks %s: %+v", name, w, l.Items)
			}
		}
	}
}

// checkTimeline: what stands around the pod is in the timeline of its package, with the calls of the audit log.
func (s *shop) checkTimeline(t *testing.T, pkg string) {
	t.Helper()
	status, out, errOut := sherd(t, s.l, "timeline", pkg, "kind:k8s.*", "--format", "jsonl", "--limit", "0")
	if status != 0 {
		t.Fatalf("timeline ended with %d: %s", status, errOut)
	}
	for _, want := range []string{
		"RoleBinding " + s.namespace + "/reader created: grants Role/reader to ServiceAccount " + s.namespace + "/cart", "Deployment " + s.namespace + "/cart created: runs ", "rollout 1 ",
		"Ingress " + s.namespace + "/front created", "HTTPRoute " + s.namespace + "/cart created", "NetworkPolicy " + s.namespace + "/to-cart created", "Node lab-node is Ready: True",
		"MutatingWebhookConfiguration " + s.namespace + "-inject created", "taken by the kubelet of lab-node", "k8sevent", "system:serviceaccount:" + s.namespace + ":cart: list secrets namespace " + s.namespace, "read the log of pod " + s.namespace,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the timeline lacks %q", want)
		}
	}
}

// contextDenied captures as somebody who may find the pod and run a collector, and nothing else: each right that is missing is told, and
// the capture is whole.
func (s *shop) contextDenied(t *testing.T, pod string) {
	s.apply(t, strings.ReplaceAll(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: find}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: find}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: find}
subjects: [{kind: User, name: NS-kira, apiGroup: rbac.authorization.k8s.io}]
`, "NS", s.namespace))
	c, _ := s.asked(t, s.namespace+"-kira")
	docs, missed := surroundings.Collect(t.Context(), c, s.find(t, c, pod))
	all := strings.Join(missed, "\n")
	for _, want := range strings.Fields("list/events get/replicasets get/nodes get/namespaces get/serviceaccounts list/clusterrolebindings list/rolebindings list/services list/endpointslices list/ingresses " +
		"list/networkpolicies list/gateways list/httproutes list/resourcequotas list/mutatingwebhookconfigurations list/validatingwebhookconfigurations list/pods") {
		verb, resource, _ := strings.Cut(want, "/")
		if !strings.Contains(all, "may not "+verb+" "+resource+" in") {
			t.Errorf("missed lacks %s %s", verb, resource)
		}
	}
	var names []string
	for _, d := range docs {
		names = append(names, d.Name)
	}
	if want := strings.Fields("pod.json bindings.json roles.json permissions.json gateways.json exposure.json references.json admission.json siblings.json"); !slices.Equal(names, want) {
		t.Errorf("documents %q", names)
	}
}
