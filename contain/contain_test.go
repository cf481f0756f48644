package contain

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

const id = "0123456789ab"

func selecting(t *testing.T, texts ...string) []selects {
	t.Helper()
	var out []selects
	for _, s := range texts {
		sel, err := labels.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, selects{what: s, selector: sel})
	}
	return out
}

// TestLoose: whatever selects the pod by what it is lets go of it; what selects it by what it is not is told.
func TestLoose(t *testing.T) {
	for _, tc := range []struct {
		name   string
		have   map[string]string
		by     []string
		change []string // keys, with - before those that go
		left   []string
	}{
		{"a deployment behind a service", map[string]string{"app": "web", "pod-template-hash": "x", "team": "a"},
			[]string{"app=web", "app=web,pod-template-hash=x"}, []string{"app"}, nil},
		{"a controller without a service", map[string]string{"app": "web", "pod-template-hash": "x"}, []string{"app=web,pod-template-hash=x"}, []string{"app", "pod-template-hash"}, nil},
		{"others are not touched", map[string]string{"app": "web"}, []string{"app=db", "tier=front"}, nil, nil},
		{"sets", map[string]string{"app": "web", "env": "prod"}, []string{"app in (web,api)", "env"}, []string{"-env", "app"}, nil},
		{"one that comes into play afterwards", map[string]string{"app": "web"}, []string{"app=web", "app!=web,sherd.io/isolated"}, []string{"app"}, []string{"app!=web,sherd.io/isolated"}},
		{"what can't be escaped", map[string]string{"app": "web"}, []string{"app=web", "!canary"}, []string{"app"}, []string{"!canary"}},
		{"everything", map[string]string{"app": "web"}, []string{""}, nil, []string{""}},
		{"no labels", nil, []string{"app=web"}, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := maps.Clone(tc.have)
			changes, left := loose(tc.have, selecting(t, tc.by...), id)
			var got []string
			for _, k := range slices.Sorted(maps.Keys(changes)) {
				if changes[k] == nil {
					k = "-" + k
				}
				got = append(got, k)
			}
			slices.Sort(got)
			var names []string
			for _, l := range left {
				names = append(names, l.what)
			}
			if !slices.Equal(got, tc.change) || !slices.Equal(names, tc.left) {
				t.Errorf("changes %q and leaves %q", got, names)
			}
			if !maps.Equal(before, tc.have) {
				t.Error("the pod's own labels were changed")
			}
		})
	}
}

// TestBack: what was changed is put back, what somebody else changed since is left alone.
func TestBack(t *testing.T) {
	have := map[string]string{"app": "web", "env": "prod", "tier": "front"}
	var noted map[string]change
	value := "isolated"
	for _, k := range []string{"app", "new"} {
		if !set(&noted, have, k, &value) {
			t.Errorf("%s did not change", k)
		}
	}
	if !set(&noted, have, "env", nil) || set(&noted, have, "tier", &[]string{"front"}[0]) {
		t.Error("what changes is not told")
	}
	now := map[string]string{"app": "isolated", "new": "isolated", "tier": "front"}
	if set(&noted, now, "app", &value) || *noted["app"].Before != "web" {
		t.Error("a second time forgets what was before")
	}
	values, foreign := back(noted, now)
	if len(values) != 3 || *values["app"] != "web" || values["new"] != nil || *values["env"] != "prod" || foreign != nil {
		t.Errorf("%v, %v", values, foreign)
	}
	values, foreign = back(noted, map[string]string{"app": "other", "env": "prod", "new": "isolated"})
	if len(values) != 1 || !slices.Equal(foreign, []string{"app"}) {
		t.Errorf("%v, %v", values, foreign)
	}
	if values, foreign = back(noted, have); len(values) != 0 || foreign != nil {
		t.Errorf("done already: %v, %v", values, foreign)
	}
}

// TestReadRecord: a record that somebody else wrote names nothing but what is the pod's own.
func TestReadRecord(t *testing.T) {
	pod := func(text string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{RecordKey: text}},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{ContainerID: "containerd://aa"}}}}
	}
	good := &record{Schema: 1, ID: id, Policy: policyName(id), Frozen: []string{"containerd://aa", "containerd://bb"}, Labels: map[string]change{"app": {}}}
	text, err := good.encode()
	if err != nil {
		t.Fatal(err)
	}
	r, err := readRecord(pod(text))
	if err != nil || r.ID != id || !slices.Equal(r.Frozen, []string{"containerd://aa"}) {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := readRecord(&corev1.Pod{}); err == nil || !strings.Contains(err.Error(), "not isolated") {
		t.Error(err)
	}
	long := strings.Repeat("x", 70)
	for name, r := range map[string]*record{
		"another's policy":    {Schema: 1, ID: id, Policy: "default-deny"},
		"an id":               {Schema: 1, ID: "../../x"},
		"a label":             {Schema: 1, ID: id, Labels: map[string]change{"a b": {}}},
		"a label's value":     {Schema: 1, ID: id, Labels: map[string]change{"a": {Before: &long}}},
		"another annotation":  {Schema: 1, ID: id, Annotations: map[string]change{"kubectl.kubernetes.io/x": {}}},
		"a form of tomorrow":  {Schema: 2, ID: id},
		"its own label":       {Schema: 1, ID: id, Labels: map[string]change{Label: {}}},
		"more than it may be": {Schema: 1, ID: id, Tool: strings.Repeat("x", maxRecord)},
	} {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readRecord(pod(string(b))); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := (&record{Tool: strings.Repeat("x", maxRecord)}).encode(); err == nil {
		t.Error("a record that is too large is written")
	}
}

func TestParseAllow(t *testing.T) {
	for in, want := range map[string]string{
		"10.1.2.0/24": "10.1.2.0/24", "10.1.2.3": "10.1.2.3/32", "10.1.2.3/24:443": "[10.1.2.0/24]:443", "10.1.2.3:1": "[10.1.2.3/32]:1",
		"2001:db8::/32": "2001:db8::/32", "[2001:db8::/32]:53": "[2001:db8::/32]:53", "[::1]": "::1/128", "0.0.0.0/0:53": "[0.0.0.0/0]:53",
	} {
		a, err := ParseAllow(in)
		if err != nil || a.String() != want {
			t.Errorf("%s: %s, %v; want %s", in, a, err, want)
		}
	}
	for _, in := range []string{"", "example.org", "10.1.2.0/33", "10.1.2.3:", "10.1.2.3:0", "10.1.2.3:65536", "[::1]x", "[::1]:", "fe80::1%eth0", "[::1", "10.0.0.1:1:2"} {
		if a, err := ParseAllow(in); err == nil {
			t.Errorf("%q is read as %s", in, a)
		}
	}
}

func TestEnforcer(t *testing.T) {
	for _, tc := range []struct {
		daemons, keys []string
		seen          bool
		want          string
	}{
		{[]string{"kube-proxy", "calico-node"}, nil, true, "seems to be Calico"},
		{nil, []string{"network.cilium.io/ipv4-cilium-host"}, false, "seems to be Cilium"},
		{[]string{"kube-flannel-ds", "antrea-agent"}, nil, true, "seems to be Antrea"},
		{[]string{"kube-flannel-ds"}, nil, true, "seen: Flannel"},
		{[]string{"kube-proxy"}, nil, true, "no network plugin is seen"},
		{nil, nil, false, "is unknown"},
	} {
		if got := enforcer(tc.daemons, tc.keys, tc.seen); !strings.Contains(got, tc.want) {
			t.Errorf("%v %v: %s; want %s", tc.daemons, tc.keys, got, tc.want)
		}
	}
}

// TestWanted: a controller that wants no pod where this one is would delete it.
func TestWanted(t *testing.T) {
	for _, tc := range []struct {
		name, object, pod string
		want              int
	}{
		{"replica set", `{"kind":"ReplicaSet","spec":{"replicas":3}}`, "web-x", 3},
		{"replica set of an old version", `{"kind":"ReplicaSet","spec":{"replicas":0}}`, "web-x", 0},
		{"daemon set", `{"kind":"DaemonSet"}`, "d-x", 1},
		{"stateful set", `{"kind":"StatefulSet","spec":{"replicas":2}}`, "db-1", 2},
		{"stateful set that was made smaller", `{"kind":"StatefulSet","spec":{"replicas":1}}`, "db-1", 0},
		{"stateful set that starts elsewhere", `{"kind":"StatefulSet","spec":{"replicas":1,"ordinals":{"start":5}}}`, "db-5", 1},
		{"stateful set's pod of another name", `{"kind":"StatefulSet","spec":{"replicas":1}}`, "db-x", 0},
		{"job", `{"kind":"Job","spec":{"parallelism":2}}`, "j-x", 2},
		{"job at its end", `{"kind":"Job","status":{"conditions":[{"type":"Complete","status":"True"}]}}`, "j-x", 0},
		{"suspended job", `{"kind":"Job","spec":{"parallelism":2,"suspend":true}}`, "j-x", 0},
		{"on its way out", `{"kind":"ReplicaSet","metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"replicas":3}}`, "web-x", 0},
	} {
		u := &unstructured.Unstructured{}
		var m map[string]any
		if err := json.Unmarshal([]byte(tc.object), &m); err != nil {
			t.Fatal(err)
		}
		u.Object = jsonNumbers(m).(map[string]any)
		if got := wanted(u, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: tc.pod}}); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

// jsonNumbers makes whole numbers what the client library makes of them.
func jsonNumbers(v any) any {
	switch x := v.(type) {
	case float64:
		return int64(x)
	case map[string]any:
		for k := range x {
			x[k] = jsonNumbers(x[k])
		}
	case []any:
		for i := range x {
			x[i] = jsonNumbers(x[i])
		}
	}
	return v
}

func TestKilledBy(t *testing.T) {
	p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Name: "a", LivenessProbe: &corev1.Probe{PeriodSeconds: 10, FailureThreshold: 3, TimeoutSeconds: 1}}, {Name: "b", ReadinessProbe: &corev1.Probe{}}}}}
	if got := killedBy(p, "a"); !strings.Contains(got, "within 31s") {
		t.Error(got)
	}
	if got := killedBy(p, "b"); got != "" {
		t.Error(got)
	}
}

// TestPolicy: everything is denied for the pod with the isolation's label, but for what is named, and the policy goes with the pod.
func TestPolicy(t *testing.T) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u"}}
	np := policy(p, id, nil)
	if len(np.Spec.Ingress)+len(np.Spec.Egress) != 0 || len(np.Spec.PolicyTypes) != 2 || np.Spec.PodSelector.MatchLabels[Label] != id || np.OwnerReferences[0].UID != "u" {
		t.Errorf("%+v", np)
	}
	a, err := ParseAllow("10.0.0.1:443")
	if err != nil {
		t.Fatal(err)
	}
	np = policy(p, id, []Allow{a})
	if len(np.Spec.Egress) != 1 || np.Spec.Egress[0].To[0].IPBlock.CIDR != "10.0.0.1/32" || len(np.Spec.Ingress[0].Ports) != 2 {
		t.Errorf("%+v", np.Spec)
	}
}
