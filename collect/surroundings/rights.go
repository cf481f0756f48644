package surroundings

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// Right is one that a part of the surroundings takes, and whether it is granted.
type Right struct {
	For      string // what it is for
	Verb     string
	Resource schema.GroupVersionResource
	// Namespace is where, "" for the whole cluster.
	Namespace string
	Granted   bool
	// Unknown says that the server did not answer.
	Unknown bool
}

// String is the right in words.
func (r *Right) String() string {
	s := r.Verb + " " + r.Resource.GroupResource().String()
	if r.Namespace != "" {
		s += " in namespace " + r.Namespace
	}
	return s
}

// taken are the rights, by what they are for.
var taken = []struct {
	what, verb string
	gvr        schema.GroupVersionResource
	wide       bool
}{
	{"events about the pod", "list", kubernetes.Events, false},
	{"its owners", "get", kubernetes.ReplicaSets, false},
	{"its node", "get", kubernetes.Nodes, true},
	{"its namespace", "get", kubernetes.Namespaces, false},
	{"its account", "get", kubernetes.ServiceAccounts, false},
	{"what the account may do", "list", clusterRoleBindings, true},
	{"what the account may do", "list", roleBindings, true},
	{"what the account may do", "get", clusterRoles, true},
	{"what the account may do", "get", roles, true},
	{"who reaches it", "list", services, false},
	{"who reaches it", "list", endpointSlices, false},
	{"who reaches it", "list", ingresses, false},
	{"network policies", "list", networkPolicies, false},
	{"webhooks that saw it", "list", mutatingHooks, true},
	{"webhooks that saw it", "list", validatingHooks, true},
	{"quota", "list", quotas, false},
	{"quota", "list", limitRanges, false},
	{"others of its image", "list", kubernetes.Pods, true},
}

// Rights asks the server which of the rights that the surroundings of a pod in the namespace take are granted.
func Rights(ctx context.Context, c *kubernetes.Cluster, namespace string) []Right {
	reviews := c.Resource(schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"})
	out := make([]Right, len(taken))
	slot := make(chan struct{}, atOnce)
	together(len(taken), func(n int) {
		slot <- struct{}{}
		defer func() { <-slot }()
		t := taken[n]
		r := Right{For: t.what, Verb: t.verb, Resource: t.gvr, Namespace: namespace}
		if t.wide {
			r.Namespace = ""
		}
		attributes := map[string]any{"verb": r.Verb, "group": r.Resource.Group, "resource": r.Resource.Resource, "namespace": r.Namespace}
		if t.gvr == kubernetes.Namespaces {
			attributes["name"] = namespace // a namespace lies in itself
		}
		u, err := reviews.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": map[string]any{"resourceAttributes": attributes},
		}}, metav1.CreateOptions{})
		if err == nil {
			r.Granted, _, err = unstructured.NestedBool(u.Object, "status", "allowed")
		}
		r.Unknown = err != nil
		out[n] = r
	})
	return out
}
