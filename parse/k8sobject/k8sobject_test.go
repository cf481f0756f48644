package k8sobject

import (
	"slices"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestGolden(t *testing.T) {
	parsetest.Golden(t, Format, "testdata/objects.json", parsetest.Options{})
}

const one = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","namespace":"shop","creationTimestamp":"2026-11-24T03:00:00Z"},"spec":{"type":"ClusterIP"}}`

// TestForms reads an object alone, in a list, on lines and in a watch. Pods and events are not its own.
func TestForms(t *testing.T) {
	for s, want := range map[string]int{
		one: 1, `{"apiVersion":"v1","kind":"List","items":[` + one + `]}`: 1, one + "\n" + one + "\n": 2, `{"type":"DELETED","object":` + one + `}` + "\n": 1,
	} {
		if c := Format.Sniff([]byte(s)); c != parse.Certain {
			t.Errorf("%.40q: confidence %d", s, c)
		}
		events, skips := parsetest.Events(t, Format, []byte(s))
		if len(events) != want || len(skips) != 0 || events[0].Kind != event.K8sNetwork || events[0].Namespace != "shop" || events[0].Message != "Service shop/a created: ClusterIP" {
			t.Errorf("%.40q: %+v, %v", s, events, skips)
		}
	}
	for _, s := range []string{
		strings.Replace(one, "Service", "Pod", 1), strings.Replace(one, "Service", "Event", 1), strings.Replace(one, "creationTimestamp", "x", 1),
		`{"apiVersion":"audit.k8s.io/v1","kind":"Event","verb":"get"}`, `{"kind":"List","apiVersion":"v1","items":[]}`, `{"identity":"system:serviceaccount:shop:cart","rules":[]}`,
	} {
		if c := Format.Sniff([]byte(s)); c != parse.No {
			t.Errorf("%q is taken for an object", s)
		}
	}
}

// TestWords: kinds that the sample does not have, and what is told of them.
func TestWords(t *testing.T) {
	object := func(api, kind, rest string) string {
		return `{"apiVersion":"` + api + `","kind":"` + kind + `","metadata":{"name":"a","creationTimestamp":"2026-11-24T03:00:00Z"},` + rest + `}`
	}
	for _, c := range []struct {
		s    string
		kind event.Kind
		want []string
	}{
		{object("rbac.authorization.k8s.io/v1", "RoleBinding", `"roleRef":{"kind":"ClusterRole","name":"admin"},"subjects":[{"kind":"ServiceAccount","namespace":"shop","name":"cart"},{"kind":"Group","name":"g"}]`), event.K8sRBAC,
			[]string{"RoleBinding a created: grants ClusterRole/admin to ServiceAccount shop/cart; Group g"}},
		{object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", `"roleRef":{"kind":"ClusterRole","name":"admin"}`), event.K8sRBAC, []string{"ClusterRoleBinding a created: grants ClusterRole/admin to nobody"}},
		{object("rbac.authorization.k8s.io/v1", "ClusterRole", `"rules":[{"verbs":["get","list"],"resources":["secrets"],"resourceNames":["x"]},{"verbs":["get"],"nonResourceURLs":["*"]}]`), event.K8sRBAC,
			[]string{"ClusterRole a created: allows get, list secrets named x; get *"}},
		{object("gateway.networking.k8s.io/v1", "Gateway", `"spec":{"listeners":[{"protocol":"HTTPS","port":443,"hostname":"x.example"}]},"status":{"conditions":[{"type":"Programmed","status":"True","lastTransitionTime":"2026-11-24T03:00:05Z"}]}`), event.K8sNetwork,
			[]string{"Gateway a created: listens for HTTPS 443 for x.example", "Gateway a is Programmed: True"}},
		{object("gateway.networking.k8s.io/v1", "HTTPRoute", `"spec":{"rules":[{"backendRefs":[{"name":"cart"}]}]},"status":{"parents":[{"conditions":[{"type":"Accepted","status":"False","message":"no","lastTransitionTime":"2026-11-24T03:00:05Z"}]}]}`), event.K8sNetwork,
			[]string{"HTTPRoute a created: leads to cart", "HTTPRoute a is Accepted: False: no"}},
		{object("v1", "Node", `"spec":{"taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoExecute","timeAdded":"2026-11-24T04:00:00Z"},{"key":"plain"}]}`), event.K8sNode,
			[]string{"Node a created", "Node a was tainted: node.kubernetes.io/unreachable NoExecute"}},
		{object("v1", "ResourceQuota", `"spec":{}`), event.K8sObject, []string{"ResourceQuota a created"}},
		{object("batch/v1", "CronJob", `"spec":{"schedule":"* * * * *","jobTemplate":{"spec":{"template":{"spec":{"containers":[{"image":"x"}]}}}}},"status":{"lastScheduleTime":"2026-11-24T05:00:00Z"}`), event.K8sWorkload,
			[]string{"CronJob a created: runs x at * * * * *", "CronJob a last started a job"}},
		{object("example.com/v1", "Thing", `"status":{"conditions":{"not":"a list"}}`), event.K8sObject, []string{"Thing a created"}},
	} {
		events, _ := parsetest.Events(t, Format, []byte(c.s))
		var got []string
		for _, e := range events {
			got = append(got, e.Message)
			if e.Kind != c.kind {
				t.Errorf("%s has the kind %s", e.Message, e.Kind)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}

func TestDamage(t *testing.T) {
	for s, want := range map[string]int{
		`{"kind":"List","items":[` + one + `,{"kind":"Service","meta`: 1,
		one + "\n\x00\xff junk\n" + one + "\n":                        2,
		`{"apiVersion":"v1","kind":"Pod","metadata":{}}` + "\n" + one: 1,
		strings.Replace(one, "2026-11-24T03:00:00Z", "soon", 1) + "{": 0,
	} {
		events, skips := parsetest.Events(t, Format, []byte(s))
		if len(events) != want || len(skips) == 0 {
			t.Errorf("%.40q: %d events, %v", s, len(events), skips)
		}
	}
}

func FuzzRead(f *testing.F) { parsetest.Fuzz(f, Format, "testdata/objects.json") }
