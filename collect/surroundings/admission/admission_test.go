package admission

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
)

const pod = `{"metadata":{"namespace":"shop","name":"cart","labels":{"app":"cart","security.istio.io/tlsMode":"istio"},"annotations":{"sidecar.istio.io/status":"{\"x\":1}","kubernetes.io/limit-ranger":"` + "LONG" + `","other":"x"}},
 "spec":{"initContainers":[{"name":"istio-init","image":"proxy:1"}],"containers":[{"name":"app","env":[{"name":"AWS_WEB_IDENTITY_TOKEN_FILE","value":"/t"}]}]}}`

func thePod(t *testing.T) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{}
	if err := json.Unmarshal([]byte(strings.ReplaceAll(pod, "LONG", strings.Repeat("x", 600))), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestWebhooks: which are asked about a pod of a namespace with these labels.
func TestWebhooks(t *testing.T) {
	const all = `"rules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE","UPDATE"],"resources":["pods"]}]`
	const service = `"clientConfig":{"service":{"namespace":"mesh","name":"inject","path":"/pods"}}`
	for _, c := range []struct{ name, hook, want string }{
		{"all", all + "," + service, "service mesh/inject:443/pods [CREATE UPDATE] Fail []"},
		{"url", all + `,"clientConfig":{"url":"https://x.example/h"},"failurePolicy":"Ignore"`, "https://x.example/h [CREATE UPDATE] Ignore []"},
		{"wild", `"rules":[{"apiGroups":["*"],"apiVersions":["*"],"operations":["*"],"resources":["*/*"],"scope":"*"}],` + service, "service mesh/inject:443/pods [*] Fail []"},
		{"other kinds", `"rules":[{"apiGroups":["apps"],"apiVersions":["v1"],"operations":["CREATE"],"resources":["*"]},{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["services"]}],` + service, ""},
		{"of the cluster", `"rules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["*"],"scope":"Cluster"}],` + service, ""},
		{"namespace", all + `,"namespaceSelector":{"matchLabels":{"inject":"yes"}},` + service, "service mesh/inject:443/pods [CREATE UPDATE] Fail []"},
		{"another namespace", all + `,"namespaceSelector":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"NotIn","values":["shop"]}]},` + service, ""},
		{"object", all + `,"objectSelector":{"matchLabels":{"app":"cart"}},` + service, "service mesh/inject:443/pods [CREATE UPDATE] Fail []"},
		{"another object", all + `,"objectSelector":{"matchExpressions":[{"key":"app","operator":"DoesNotExist"}]},` + service, ""},
		{"empty selectors", all + `,"objectSelector":{},"namespaceSelector":{},` + service, "service mesh/inject:443/pods [CREATE UPDATE] Fail []"},
		{"bad selector", all + `,"objectSelector":{"matchExpressions":[{"key":"app","operator":"Near"}]},` + service, ""},
		{"conditions", all + `,"matchConditions":[{"name":"n","expression":"true"}],` + service, "service mesh/inject:443/pods [CREATE UPDATE] Fail [n: true]"},
	} {
		doc := `{"metadata":{"name":"conf"},"webhooks":[{"name":"h.example",` + c.hook + `}]}`
		labels := map[string]string{"inject": "yes", "kubernetes.io/metadata.name": "shop"}
		var m admissionv1.MutatingWebhookConfiguration
		var v admissionv1.ValidatingWebhookConfiguration
		for _, to := range []any{&m, &v} {
			if err := json.Unmarshal([]byte(doc), to); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		got := ""
		for _, w := range Mutating(&m, thePod(t), labels) {
			got = fmt.Sprint(w.Calls, " ", w.Operations, " ", w.OnFailure, " ", w.Conditions)
			if w.Configuration != "MutatingWebhookConfiguration/conf" || w.Name != "h.example" || !w.Mutating {
				t.Errorf("%s: %+v", c.name, w)
			}
		}
		if got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
		if n := len(Validating(&v, thePod(t), labels)); n != 1 && c.want != "" || n != 0 && c.want == "" {
			t.Errorf("%s: %d validating", c.name, n)
		}
	}
}

func TestTraces(t *testing.T) {
	var got []string
	for _, x := range Traces(thePod(t)) {
		got = append(got, x.By+" by "+x.From+fmt.Sprint(" ", len(x.Value)))
	}
	want := "Istio by annotation sidecar.istio.io/status 7\nLimitRange by annotation kubernetes.io/limit-ranger 515\nIstio by label security.istio.io/tlsMode 5\n" +
		"Istio by container istio-init 7\nEKS pod identity webhook by variable AWS_WEB_IDENTITY_TOKEN_FILE of container app 2"
	if strings.Join(got, "\n") != want {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}
