package permission

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sherd-forensics/sherd/evidence/record"
)

func rule(verbs, groups, resources string, names ...string) rbacv1.PolicyRule {
	split := func(s string) []string {
		return strings.Split(strings.ReplaceAll(s, "core", ""), ",")
	}
	return rbacv1.PolicyRule{Verbs: strings.Split(verbs, ","), APIGroups: split(groups), Resources: strings.Split(resources, ","), ResourceNames: names}
}

func urls(verbs string, urls ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: strings.Split(verbs, ","), NonResourceURLs: urls}
}

func work(namespace string, rules ...rbacv1.PolicyRule) *record.Permissions {
	return Work(Account("shop", "cart"), []Grant{{Binding: "b", Namespace: namespace, Role: rbacv1.RoleRef{Kind: "ClusterRole", Name: "r"}, Rules: rules}})
}

// TestBindings: which subjects reach a service account, and which do not.
func TestBindings(t *testing.T) {
	for _, c := range []struct {
		subject    rbacv1.Subject
		namespaced bool // in a RoleBinding of the namespace shop as well
		cluster    bool
	}{
		{rbacv1.Subject{Kind: "ServiceAccount", Namespace: "shop", Name: "cart"}, true, true},
		{rbacv1.Subject{Kind: "ServiceAccount", Name: "cart"}, true, false}, // its namespace is the binding's
		{rbacv1.Subject{Kind: "ServiceAccount", Namespace: "other", Name: "cart"}, false, false},
		{rbacv1.Subject{Kind: "ServiceAccount", Namespace: "shop", Name: "Cart"}, false, false},
		{rbacv1.Subject{Kind: "User", Name: "system:serviceaccount:shop:cart"}, true, true},
		{rbacv1.Subject{Kind: "User", Name: "cart"}, false, false},
		{rbacv1.Subject{Kind: "User", Name: "*"}, false, false},
		{rbacv1.Subject{Kind: "Group", Name: "system:serviceaccounts"}, true, true},
		{rbacv1.Subject{Kind: "Group", Name: "system:serviceaccounts:shop"}, true, true},
		{rbacv1.Subject{Kind: "Group", Name: "system:serviceaccounts:other"}, false, false},
		{rbacv1.Subject{Kind: "Group", Name: "system:authenticated"}, true, true},
		{rbacv1.Subject{Kind: "Group", Name: "system:unauthenticated"}, false, false},
		{rbacv1.Subject{Kind: "Group", Name: "system:masters"}, false, false},
		{rbacv1.Subject{Kind: "group", Name: "system:authenticated"}, false, false},
		{rbacv1.Subject{Kind: "Node", Name: "cart"}, false, false},
	} {
		subjects := []rbacv1.Subject{{Kind: "User", Name: "nobody"}, c.subject}
		got := Bindings(Account("shop", "cart"), []rbacv1.ClusterRoleBinding{{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Subjects: subjects}}, nil)
		if (len(got) == 1) != c.cluster {
			t.Errorf("%+v in a cluster role binding: %+v", c.subject, got)
		}
		got = Bindings(Account("shop", "cart"), nil, []rbacv1.RoleBinding{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "c"}, Subjects: subjects}})
		if (len(got) == 1) != c.namespaced {
			t.Errorf("%+v in a role binding: %+v", c.subject, got)
		}
	}
}

// TestAllowed are questions whose answers are the API server's rules; the live test asks the server itself.
func TestAllowed(t *testing.T) {
	q := func(s string) Question {
		f := strings.Split(s, " ")
		if strings.HasPrefix(f[1], "/") {
			return Question{Verb: f[0], URL: f[1]}
		}
		q := Question{Verb: f[0]}
		resource, group, _ := strings.Cut(f[1], ".")
		q.Resource, q.Sub, _ = strings.Cut(resource, "/")
		q.Group = group
		if len(f) > 2 {
			q.Namespace, q.Name, _ = strings.Cut(f[2], "/")
		}
		return q
	}
	for _, c := range []struct {
		name      string
		namespace string
		rule      rbacv1.PolicyRule
		yes, no   []string
	}{
		{"plain", "shop", rule("get,list", "core", "secrets"), []string{"get secrets shop", "list secrets shop", "get secrets shop/a"}, []string{"get secrets other", "get secrets", "watch secrets shop", "get secrets.apps shop", "get pods shop", "get secrets/x shop"}},
		{"cluster", "", rule("get", "core", "pods"), []string{"get pods", "get pods shop", "get pods other/x"}, []string{"get pods/log shop", "list pods"}},
		{"names", "shop", rule("get,create", "core", "secrets", "a", "b"), []string{"get secrets shop/a", "create secrets shop/b"}, []string{"get secrets shop", "get secrets shop/c", "create secrets shop"}},
		{"sub", "shop", rule("create", "core", "pods/exec"), []string{"create pods/exec shop", "create pods/exec shop/x"}, []string{"create pods shop", "create pods/attach shop", "get pods/exec shop"}},
		{"all resources", "shop", rule("get", "core", "*"), []string{"get pods shop", "get pods/log shop", "get secrets shop"}, []string{"get deployments.apps shop"}},
		{"a sub of all", "shop", rule("update", "apps", "*/scale"), []string{"update deployments/scale.apps shop"}, []string{"update deployments.apps shop", "update deployments/status.apps shop"}},
		{"all of one", "shop", rule("get", "core", "pods/*"), nil, []string{"get pods/log shop", "get pods shop"}}, // which means nothing to the server
		{"all verbs", "shop", rule("*", "core", "pods"), []string{"impersonate pods shop", "get pods shop"}, []string{"get pods other"}},
		{"all groups", "shop", rule("get", "*", "pods"), []string{"get pods shop", "get pods.metrics.k8s.io shop"}, []string{"get nodes shop"}},
		{"all", "", rule("*", "*", "*"), []string{"get pods", "escalate clusterroles.rbac.authorization.k8s.io", "create pods/exec shop"}, []string{"get /metrics"}},
		{"address", "", urls("get", "/metrics"), []string{"get /metrics"}, []string{"get /metrics/x", "post /metrics", "get /"}},
		{"addresses", "", urls("get", "/api/*"), []string{"get /api/", "get /api/v1"}, []string{"get /api", "get /apis"}},
		{"all addresses", "", urls("*", "*"), []string{"get /", "post /logs/x"}, []string{"get pods"}},
		{"addresses of a namespace", "shop", urls("get", "*"), nil, []string{"get /metrics"}},
	} {
		p := work(c.namespace, c.rule)
		for _, s := range c.yes {
			if !Allowed(p.Rules, q(s)) {
				t.Errorf("%s does not allow %s", c.name, s)
			}
		}
		for _, s := range c.no {
			if Allowed(p.Rules, q(s)) {
				t.Errorf("%s allows %s", c.name, s)
			}
		}
	}
}

// TestDangers: what is told of rules, and what is not told since it is ordinary.
func TestDangers(t *testing.T) {
	for _, c := range []struct {
		name      string
		namespace string
		rules     []rbacv1.PolicyRule
		want      []string
	}{
		{"ordinary", "", []rbacv1.PolicyRule{
			urls("get", "/healthz", "/livez", "/readyz", "/version/", "/api", "/api/*", "/apis/*", "/openapi/*"),
			rule("create", "authorization.k8s.io", "selfsubjectaccessreviews,selfsubjectrulesreviews"),
			rule("create", "authentication.k8s.io", "selfsubjectreviews"), rule("get,list,watch", "core", "pods,configmaps,services,nodes,namespaces,endpoints,pods/log"),
			rule("get,list,watch", "apps", "*")}, nil},
		{"secrets", "shop", []rbacv1.PolicyRule{rule("get,list", "core", "secrets")}, []string{"T1552.007 read secrets in namespace shop (get, list)"}},
		{"one secret", "shop", []rbacv1.PolicyRule{rule("get", "core", "secrets", "db")}, []string{"T1552.007 read the secrets db in namespace shop (get)"}},
		{"one of all", "shop", []rbacv1.PolicyRule{rule("get", "core", "secrets", "db"), rule("get", "core", "secrets")}, []string{"T1552.007 read secrets in namespace shop (get)"}},
		{"create by name is nothing", "shop", []rbacv1.PolicyRule{rule("create,deletecollection", "core", "pods", "x")}, nil},
		{"nodes of a namespace are nothing", "shop", []rbacv1.PolicyRule{rule("*", "core", "nodes,nodes/proxy,persistentvolumes")}, []string{
			"T1485 delete data (namespaces, volumes, secrets, config maps) in namespace shop (delete, deletecollection)", "T1489 delete what runs (pods, nodes, services) in namespace shop (delete, deletecollection)"}},
		{"exec", "shop", []rbacv1.PolicyRule{rule("create", "core", "pods/exec")}, []string{"T1609 run commands in pods in namespace shop (create)"}},
		{"pods", "shop", []rbacv1.PolicyRule{rule("create", "core", "pods")}, []string{"T1610 start pods in namespace shop (create): as any service account there, and on the node's files where admission lets them"}},
		{"token", "shop", []rbacv1.PolicyRule{rule("create", "core", "serviceaccounts/token", "admin")}, []string{"T1528 get tokens of the service accounts admin in namespace shop (create)"}},
		{"roles", "", []rbacv1.PolicyRule{rule("escalate,bind", "rbac.authorization.k8s.io", "clusterroles")}, []string{"T1098.006 grant the rights of cluster roles in the whole cluster (bind)", "T1098.006 put any right into cluster roles in the whole cluster (escalate)"}},
		{"impersonate", "", []rbacv1.PolicyRule{rule("impersonate", "core", "users,groups,serviceaccounts")}, []string{"T1078 act as users or groups in the whole cluster (impersonate)", "T1078 act as service accounts in the whole cluster (impersonate)"}},
		{"kubelet", "", []rbacv1.PolicyRule{rule("get", "core", "nodes/proxy")}, []string{"T1609 speak with the kubelets of nodes in the whole cluster (get): which run commands in their pods"}},
		{"webhooks", "", []rbacv1.PolicyRule{rule("patch", "admissionregistration.k8s.io", "mutatingwebhookconfigurations")}, []string{"T1546 change what is created in the cluster, by mutating webhooks in the whole cluster (patch)"}},
		{"csr", "", []rbacv1.PolicyRule{rule("update", "certificates.k8s.io", "certificatesigningrequests/approval"), rule("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client")}, []string{
			"T1649 approve or sign requests for certificates in the whole cluster (update): which make any user or node",
			"T1649 have certificates made by the signers kubernetes.io/kube-apiserver-client in the whole cluster (approve)"}},
		{"system", "kube-system", []rbacv1.PolicyRule{rule("update", "core", "configmaps")}, []string{"T1098 change config maps in namespace kube-system (update): by which the cluster's own parts are set up"}},
		{"not system", "shop", []rbacv1.PolicyRule{rule("update", "core", "configmaps")}, nil},
		{"system by all", "", []rbacv1.PolicyRule{rule("update", "core", "configmaps")}, []string{"T1098 change config maps in namespace kube-system (update): by which the cluster's own parts are set up"}},
		{"addresses", "", []rbacv1.PolicyRule{urls("get", "*")}, []string{"T1613 ask the API server for every address beside its resources (metrics, logs, profiles)"}},
		{"administrator", "", []rbacv1.PolicyRule{rule("*", "*", "*"), urls("*", "*")}, []string{"T1078 do everything in the whole cluster"}},
		{"administrator here", "shop", []rbacv1.PolicyRule{rule("*", "*", "*")}, []string{"T1078 do everything in namespace shop"}},
		{"wild", "shop", []rbacv1.PolicyRule{rule("get", "*", "*")}, []string{"T1552.007 read secrets in namespace shop (get)", "T1609 run commands in pods in namespace shop (get)", "T1572 reach the ports of pods through the API server in namespace shop (get)"}},
	} {
		p := work(c.namespace, c.rules...)
		var got []string
		for _, d := range p.Dangers {
			got = append(got, d.Technique+" "+d.What)
			if d.Kind == "" || len(d.Rules) == 0 || slices.ContainsFunc(d.Rules, func(i int) bool { return i >= len(p.Rules) }) {
				t.Errorf("%s: %+v is not proven", c.name, d)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// TestTable: each line of the table is found by a rule that grants just that, and by one that grants all of its group.
func TestTable(t *testing.T) {
	for i := range table {
		d := &table[i]
		for _, r := range []rbacv1.PolicyRule{
			{Verbs: d.verbs[:1], APIGroups: []string{d.group}, Resources: d.resources[:1]},
			{Verbs: []string{"*"}, APIGroups: []string{d.group}, Resources: []string{"*"}},
		} {
			p := work(d.only, r)
			if !slices.ContainsFunc(p.Dangers, func(g record.Danger) bool { return g.Kind == d.kind && strings.HasPrefix(g.What, d.do) }) {
				t.Errorf("%s: %s is not found in %+v", d.kind, d.do, r)
			}
		}
	}
}

// TestWork: of two namespaces and the cluster, each is told once, and what is not there is said.
func TestWork(t *testing.T) {
	role := rbacv1.RoleRef{Kind: "Role", Name: "r"}
	p := Work(Account("shop", "cart"), []Grant{
		{Binding: "ClusterRoleBinding/c", Role: rbacv1.RoleRef{Kind: "ClusterRole", Name: "view"}, Rules: []rbacv1.PolicyRule{rule("get", "core", "secrets")}},
		{Binding: "RoleBinding/a/b", Namespace: "a", Role: role, Rules: []rbacv1.PolicyRule{rule("get", "core", "secrets")}},
		{Binding: "RoleBinding/b/b", Namespace: "b", Role: role, Rules: []rbacv1.PolicyRule{rule("get,list", "core", "secrets")}},
		{Binding: "RoleBinding/b/gone", Namespace: "b", Role: role, Absent: true},
	})
	var got []string
	for _, d := range p.Dangers {
		got = append(got, fmt.Sprint(d.What, d.Rules, d.Namespace))
	}
	want := []string{"read secrets in the whole cluster (get)[0]", "read secrets in namespace b (get, list)[2]b"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if !slices.Equal(p.Dangling, []string{"RoleBinding/b/gone: Role/b/r"}) || p.Rules[2].Role != "Role/b/r" || p.Rules[0].Role != "ClusterRole/view" {
		t.Errorf("%+v", p)
	}
}

const pod = `{"metadata":{"namespace":"shop","name":"cart","annotations":{"iam.amazonaws.com/role":"old"}},"spec":{
 "volumes":[{"name":"kube-api-access-x","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt"}}]}},
  {"name":"vault","projected":{"sources":[{"serviceAccountToken":{"audience":"vault","path":"a/vault"}}]}},
  {"name":"unused","projected":{"sources":[{"serviceAccountToken":{"audience":"none","expirationSeconds":600,"path":"t"}}]}}],
 "initContainers":[{"name":"setup"}],
 "containers":[{"name":"app","env":[{"name":"AWS_ROLE_ARN","value":"arn:aws:iam::1:role/cart"}],"volumeMounts":[{"name":"kube-api-access-x","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"},{"name":"vault","mountPath":"/v"}]},
  {"name":"side","volumeMounts":[{"name":"kube-api-access-x","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount/"},{"name":"vault","mountPath":"/only","subPath":"a"},{"name":"vault","mountPath":"/not","subPath":"b"}]}]}}`

func TestTokens(t *testing.T) {
	var p corev1.Pod
	if err := json.Unmarshal([]byte(pod), &p); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range Tokens(&p) {
		got = append(got, fmt.Sprintf("%s %q %d %v", k.Path, k.Audience, k.Seconds, k.Container))
	}
	want := []string{
		`/var/run/secrets/kubernetes.io/serviceaccount/token "" 3607 [app side]`, `/v/a/vault "vault" 3600 [app]`, `/only/vault "vault" 3600 [side]`, ` "none" 600 []`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	if len(Tokens(&corev1.Pod{})) != 0 {
		t.Error("a pod without volumes has tokens")
	}
}

func TestCloud(t *testing.T) {
	var p corev1.Pod
	if err := json.Unmarshal([]byte(pod), &p); err != nil {
		t.Fatal(err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/cart",
		"iam.gke.io/gcp-service-account": "cart@p.iam.gserviceaccount.com", "azure.workload.identity/client-id": "c1", "azure.workload.identity/tenant-id": "t1"}}}
	var got []string
	for _, c := range Cloud(&p, account) {
		got = append(got, c.Provider+" "+c.Role+" "+c.Tenant)
	}
	if want := []string{"aws arn:aws:iam::1:role/cart ", "gcp cart@p.iam.gserviceaccount.com ", "azure c1 t1", "aws old "}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := Cloud(&corev1.Pod{}, nil); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}
