package detecttest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/target"
)

// Account is the identity of a scene's pod.
const Account = "system:serviceaccount:shop:cart"

// AsPod makes the scene's container the one of pod shop/cart-1, as a cluster's API server tells of it, started again so many times.
func (s *Scene) AsPod(restarts int) {
	s.Container.Pod = &target.Pod{Name: "cart-1", Namespace: "shop", UID: "u-1", Container: "app"}
	status := map[string]any{"name": "app", "containerID": "containerd://" + s.Container.ID, "restartCount": restarts, "state": map[string]any{"running": map[string]any{"startedAt": Start}}}
	if restarts > 0 {
		status["lastState"] = map[string]any{"terminated": map[string]any{"exitCode": 3, "reason": "Error", "startedAt": Start.Add(-time.Minute), "finishedAt": Start.Add(-2 * time.Second)}}
	}
	s.Document("pod", map[string]any{
		"metadata": map[string]any{"name": "cart-1", "namespace": "shop", "uid": "u-1"},
		"spec":     map[string]any{"serviceAccountName": "cart", "nodeName": "node1"},
		"status": map[string]any{"podIP": "10.0.7.5", "hostIP": "10.0.0.1", "containerStatuses": []any{status},
			"conditions": []any{map[string]any{"type": "Initialized", "status": "True", "lastTransitionTime": Start.Add(-10 * time.Minute)}}},
	})
	s.Document("node", map[string]any{"status": map[string]any{"addresses": []any{map[string]any{"type": "InternalIP", "address": "10.0.0.1"}}}})
}

// Document adds what the API server said: target/kubernetes/NAME.json.
func (s *Scene) Document(name string, doc any) {
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err) // a scene is made of what can be marshalled
	}
	s.Extra["target/kubernetes/"+name+".json"] = string(b) + "\n"
}

// Called is one call that the audit log has.
type Called struct {
	Time                            time.Time
	Verb, Resource, Namespace, Name string
	From, Agent                     string
	Identity, Pod                   string // Account and cart-1 unless said
	Code                            int    // 200 unless said
}

// Audit adds lines to the audit log.
func (s *Scene) Audit(calls ...Called) {
	const path = "target/kubernetes/audit.jsonl"
	var b strings.Builder
	b.WriteString(s.Extra[path])
	for _, c := range calls {
		if c.Identity == "" {
			c.Identity = Account
		}
		if c.Pod == "" {
			c.Pod = "cart-1"
		}
		if c.Code == 0 {
			c.Code = 200
		}
		resource, sub, _ := strings.Cut(c.Resource, "/")
		line, err := json.Marshal(map[string]any{
			"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "stage": "ResponseComplete", "verb": c.Verb, "requestURI": "/",
			"user":      map[string]any{"username": c.Identity, "extra": map[string]any{"authentication.kubernetes.io/pod-name": []string{c.Pod}}},
			"sourceIPs": []string{c.From}, "userAgent": c.Agent, "objectRef": map[string]string{"resource": resource, "subresource": sub, "namespace": c.Namespace, "name": c.Name},
			"responseStatus": map[string]any{"code": c.Code}, "requestReceivedTimestamp": c.Time.Format(time.RFC3339Nano),
		})
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "%s\n", line)
	}
	s.Extra[path] = b.String()
}
