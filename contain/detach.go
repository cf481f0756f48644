package contain

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// The kinds that are asked for beside those of target/kubernetes.
var (
	services        = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	endpointSlices  = schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}
	networkPolicies = schema.GroupVersionResource{Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"}
	budgets         = schema.GroupVersionResource{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}
	autoscalers     = schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}
)

// controllers are the kinds that take pods for their own by labels.
var controllers = map[string]schema.GroupVersionResource{
	"ReplicaSet": kubernetes.ReplicaSets, "StatefulSet": kubernetes.StatefulSets, "DaemonSet": kubernetes.DaemonSets,
	"ReplicationController": kubernetes.Controllers, "Job": kubernetes.Jobs,
}

// loose gives the labels that a pod must have so that nothing selects it any more: nil takes one away. What still selects it then can't
// be escaped by labels.
func loose(have map[string]string, by []selects, id string) (changes map[string]*string, left []selects) {
	now := maps.Clone(have)
	if now == nil {
		now = map[string]string{}
	}
	now[Label] = id
	changes = map[string]*string{}
	value := "isolated-" + id
	for again := true; again; {
		again, left = false, nil
		for _, s := range by {
			if !s.selector.Matches(labels.Set(now)) {
				continue
			}
			moved := false
			requirements, _ := s.selector.Requirements()
			for _, r := range requirements {
				_, there := now[r.Key()]
				if !there || r.Key() == Label {
					continue
				}
				switch r.Operator() {
				case selection.In, selection.Equals, selection.DoubleEquals:
					// Another value, not none: many clusters refuse pods without certain labels.
					changes[r.Key()], now[r.Key()], moved = &value, value, true
				case selection.Exists, selection.GreaterThan, selection.LessThan:
					changes[r.Key()], moved = nil, true
					delete(now, r.Key())
				case selection.NotIn, selection.NotEquals, selection.DoesNotExist:
				}
			}
			if moved {
				again = true
			} else {
				left = append(left, s)
			}
		}
	}
	return changes, left
}

// surroundings is all that selects a pod, or may.
type surroundings struct {
	services, controllers, policies, budgets []selects
	warnings                                 []string
}

// look finds what selects pods in a pod's namespace. Only services and the pod's own controller are needed.
func look(ctx context.Context, c *kubernetes.Cluster, p *corev1.Pod) (*surroundings, error) {
	s := &surroundings{}
	l, err := c.Resource(services).Namespace(p.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, explain(c, err, "list", services, p.Namespace)
	}
	for i := range l.Items {
		flat, _, err := unstructured.NestedStringMap(l.Items[i].Object, "spec", "selector")
		if err == nil && len(flat) > 0 {
			s.services = append(s.services, selects{what: "service " + l.Items[i].GetName(), selector: labels.SelectorFromSet(flat), uid: l.Items[i].GetUID()})
		}
	}
	own := metav1.GetControllerOf(p)
	if own != nil {
		if gvr, known := controllers[own.Kind]; known {
			u, err := c.Resource(gvr).Namespace(p.Namespace).Get(ctx, own.Name, metav1.GetOptions{})
			if err != nil {
				return nil, explain(c, err, "get", gvr, p.Namespace)
			}
			if err := s.controller(u); err != nil {
				return nil, err
			}
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(controllers)) {
		l, err := c.Resource(controllers[kind]).Namespace(p.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			s.warnings = append(s.warnings, fmt.Sprintf("whether another %s would take the pod for its own is not known: %s", strings.ToLower(kind), brief(explain(c, err, "list", controllers[kind], p.Namespace))))
			continue
		}
		for i := range l.Items {
			if own == nil || l.Items[i].GetUID() != own.UID {
				// One that can't be read selects nothing that this program could escape.
				if err := s.controller(&l.Items[i]); err != nil {
					s.warnings = append(s.warnings, err.Error())
				}
			}
		}
	}
	if s.policies, err = policies(ctx, c, p.Namespace); err != nil {
		s.warnings = append(s.warnings, "which network policies apply to the pod is not known: "+brief(err))
	}
	s.budget(ctx, c, p.Namespace)
	return s, nil
}

// controller adds a workload by its selector.
func (s *surroundings) controller(u *unstructured.Unstructured) error {
	what := strings.ToLower(u.GetKind()) + " " + u.GetName()
	sel, err := selectorOf(u)
	if err != nil {
		return fmt.Errorf("the selector of %s can't be read: %w", what, err)
	}
	if sel != nil && !sel.Empty() {
		s.controllers = append(s.controllers, selects{what: what, selector: sel, uid: u.GetUID()})
	}
	return nil
}

// selectorOf reads spec.selector: labels alone in a replication controller, else a label selector; nil if there is none.
func selectorOf(u *unstructured.Unstructured) (labels.Selector, error) {
	m, ok, err := unstructured.NestedMap(u.Object, "spec", "selector")
	if err != nil || !ok {
		return nil, err
	}
	if u.GetKind() == "ReplicationController" {
		flat, _, err := unstructured.NestedStringMap(u.Object, "spec", "selector")
		return labels.SelectorFromSet(flat), err
	}
	var sel metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(m, &sel); err != nil {
		return nil, err
	}
	return metav1.LabelSelectorAsSelector(&sel)
}

func (s *surroundings) budget(ctx context.Context, c *kubernetes.Cluster, namespace string) {
	l, err := c.Resource(budgets).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return // only for a note
	}
	for i := range l.Items {
		if sel, err := selectorOf(&l.Items[i]); err == nil && sel != nil {
			s.budgets = append(s.budgets, selects{what: "poddisruptionbudget " + l.Items[i].GetName(), selector: sel})
		}
	}
}

// matching are the names of those that select labels.
func matching(by []selects, have map[string]string) []string {
	var out []string
	for _, s := range by {
		if s.selector.Matches(labels.Set(have)) {
			out = append(out, s.what)
		}
	}
	return out
}

// leaving says what becomes of a pod's surroundings when it leaves its controller.
func leaving(ctx context.Context, c *kubernetes.Cluster, p *corev1.Pod, s *surroundings, denied bool) []string {
	var out []string
	own := metav1.GetControllerOf(p)
	switch {
	case own == nil:
		out = append(out, "the pod has no controller: nothing replaces it")
	case own.Kind == "StatefulSet":
		out = append(out, fmt.Sprintf("statefulset %s can't make the pod's successor, which must have the same name, until this pod is released or deleted; its volumes stay with it", own.Name))
	case own.Kind == "DaemonSet":
		out = append(out, fmt.Sprintf("daemonset %s starts another pod on the same node, which stays pending if it needs a port of the node that this one holds", own.Name))
	case own.Kind == "Job":
		out = append(out, fmt.Sprintf("job %s starts another pod, which does the work again; how this one ends no longer counts", own.Name))
	case own.Kind == "Node":
		out = append(out, "the pod is a static one, which its node's kubelet starts from a file: labels don't take it from there")
	case controllers[own.Kind] == schema.GroupVersionResource{}:
		out = append(out, fmt.Sprintf("its controller is %s %s, and by what that knows its pods is not known here: whether it lets go is seen afterwards", strings.ToLower(own.Kind), own.Name))
	}
	if names := matching(s.budgets, p.Labels); len(names) > 0 {
		out = append(out, strings.Join(names, ", ")+" no longer counts the pod, nor protects it from eviction")
	}
	if names := matching(s.policies, p.Labels); len(names) > 0 && !denied {
		out = append(out, strings.Join(names, ", ")+" applied to the pod by its labels, and may do so no longer: what it denied is open then; --deny-network closes it")
	}
	if own != nil {
		if hpa := scaledBy(ctx, c, p.Namespace, own); hpa != "" {
			out = append(out, "horizontalpodautoscaler "+hpa+" no longer sees the pod's load")
		}
	}
	return out
}

// scaledBy is the name of what scales a pod's controller, or the deployment above it; "" if nothing is known to.
func scaledBy(ctx context.Context, c *kubernetes.Cluster, namespace string, own *metav1.OwnerReference) string {
	names := map[string]bool{own.Kind + "/" + own.Name: true}
	if own.Kind == "ReplicaSet" {
		if u, err := c.Resource(kubernetes.ReplicaSets).Namespace(namespace).Get(ctx, own.Name, metav1.GetOptions{}); err == nil {
			if top := metav1.GetControllerOf(u); top != nil {
				names[top.Kind+"/"+top.Name] = true
			}
		}
	}
	l, err := c.Resource(autoscalers).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "" // only for a note
	}
	for i := range l.Items {
		ref, _, err := unstructured.NestedStringMap(l.Items[i].Object, "spec", "scaleTargetRef")
		if err == nil && names[ref["kind"]+"/"+ref["name"]] {
			return l.Items[i].GetName()
		}
	}
	return ""
}

// ownedBy are the pods of a controller that are not on their way out.
func ownedBy(ctx context.Context, c *kubernetes.Cluster, namespace string, uid types.UID) ([]unstructured.Unstructured, error) {
	l, err := c.Resource(kubernetes.Pods).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, explain(c, err, "list", kubernetes.Pods, namespace)
	}
	return slices.DeleteFunc(l.Items, func(u unstructured.Unstructured) bool {
		own := metav1.GetControllerOf(&u)
		phase, _, err := unstructured.NestedString(u.Object, "status", "phase")
		return own == nil || own.UID != uid || u.GetDeletionTimestamp() != nil || err != nil || phase == "Failed" || phase == "Succeeded"
	}), nil
}

var errStill = errors.New("it is not so yet")
