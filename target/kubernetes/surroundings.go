package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Document is something that the API server says of a container's surroundings.
type Document struct {
	Name   string // a file's name: "pod.json"
	Origin string // the question
	Data   []byte // JSON
}

// More of what is asked for around a container.
var (
	Events          = schema.GroupVersionResource{Version: "v1", Resource: "events"}
	ServiceAccounts = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
)

// maxOwners bounds the chain from a pod to its topmost owner.
const maxOwners = 6

// Surroundings gives what the API server says of the container's pod, its owners up to the topmost, the events about it, its node,
// namespace and service account. What could not be had is in missed, with its reason: the container itself does not depend on it.
func (c *Cluster) Surroundings(ctx context.Context, i *Instance) (docs []Document, missed []string) {
	add := func(name, what string, o any, err error) {
		if err != nil {
			missed = append(missed, fmt.Sprintf("the cluster's %s: %v", what, err))
			return
		}
		b, err := json.MarshalIndent(o, "", "  ")
		if err != nil {
			missed = append(missed, fmt.Sprintf("the cluster's %s: %v", what, err))
			return
		}
		docs = append(docs, Document{Name: name, Origin: "GET " + what + " of the API server", Data: append(b, '\n')})
	}
	get := func(name string, gvr schema.GroupVersionResource, namespace, object string) *unstructured.Unstructured {
		what := gvr.Resource + " " + object
		if namespace != "" {
			what = gvr.Resource + " " + namespace + "/" + object
		}
		u, err := c.dynamic.Resource(gvr).Namespace(namespace).Get(ctx, object, metav1.GetOptions{})
		add(name, what, u, c.Explain(err, "get", gvr, "", namespace))
		if err != nil {
			return nil
		}
		return u
	}
	p := i.Pod
	// The pod as the server sent it when it was found, not as it is by now.
	add("pod.json", "pods "+p.Namespace+"/"+p.Name, json.RawMessage(i.Raw), nil)
	events, err := c.dynamic.Resource(Events).Namespace(p.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.uid=" + string(p.UID), Limit: pageSize})
	add("events.json", "events about "+p.Namespace+"/"+p.Name, events, c.Explain(err, "list", Events, "", p.Namespace))
	owners := p.OwnerReferences
	for n := 0; n < maxOwners; n++ {
		owner := metav1.GetControllerOfNoCopy(&metav1.ObjectMeta{OwnerReferences: owners})
		if owner == nil || owner.Kind == "Node" { // of a static pod: the node is asked for below
			break
		}
		gvr, known := workload(owner)
		if !known {
			missed = append(missed, fmt.Sprintf("the cluster's %s %q, which owns the pod: that kind is not asked for", owner.Kind, owner.Name))
			break
		}
		u := get(fmt.Sprintf("owner-%d.json", n+1), gvr, p.Namespace, owner.Name)
		if u == nil {
			break
		}
		owners = u.GetOwnerReferences()
	}
	if p.Spec.NodeName != "" {
		get("node.json", Nodes, "", p.Spec.NodeName)
	}
	get("namespace.json", Namespaces, "", p.Namespace)
	if p.Spec.ServiceAccountName != "" {
		get("serviceaccount.json", ServiceAccounts, p.Namespace, p.Spec.ServiceAccountName)
	}
	return docs, missed
}

// workload is the resource of an owner that is one of Kubernetes's own workloads.
func workload(o *metav1.OwnerReference) (schema.GroupVersionResource, bool) {
	gv, err := schema.ParseGroupVersion(o.APIVersion)
	if err != nil {
		return schema.GroupVersionResource{}, false
	}
	if k := kindOf(o.Kind); k != nil && k.GVR.Group == gv.Group {
		return k.GVR, true
	}
	return schema.GroupVersionResource{}, false
}
