package contain

import (
	"context"
	"errors"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// CordonKey is the annotation on a node that was cordoned for isolated pods: their UIDs, separated by commas.
const CordonKey = "sherd.io/cordoned-for"

// maxCordons bounds how many isolations one node is cordoned for.
const maxCordons = 1000

func cordonsOf(m metav1.Object) []string {
	var out []string
	for id := range strings.SplitSeq(m.GetAnnotations()[CordonKey], ",") {
		if id != "" && len(out) < maxCordons {
			out = append(out, id)
		}
	}
	return out
}

func unschedulable(u *unstructured.Unstructured) bool {
	is, _, err := unstructured.NestedBool(u.Object, "spec", "unschedulable")
	return err == nil && is
}

// uncordoned reports whether the node is to be cordoned for this pod. One that somebody else cordoned stays theirs. If it can't be read, the step
// that cordons it tells.
func (k *keeper) uncordoned(ctx context.Context) bool {
	u, err := k.c.Resource(kubernetes.Nodes).Get(ctx, k.p.Spec.NodeName, metav1.GetOptions{})
	return err == nil && (!unschedulable(u) || len(cordonsOf(u)) > 0)
}

// cordon keeps new pods off the node.
func (k *keeper) cordon(ctx context.Context) {
	k.step("cordon", "cordon the node "+k.p.Spec.NodeName, func(s *Step) (bool, error) {
		if k.p.Spec.NodeName == "" {
			return false, errors.New("the pod is on no node yet")
		}
		changed := false
		err := patch(ctx, k.c, kubernetes.Nodes, "", k.p.Spec.NodeName, k.o.DryRun, s, func(u *unstructured.Unstructured) (edit, error) {
			ids := cordonsOf(u)
			changed = false
			if unschedulable(u) && len(ids) == 0 {
				s.Changes = []string{"somebody else cordoned it, and it is left to them"}
				return edit{}, nil
			}
			if unschedulable(u) && slices.Contains(ids, string(k.p.UID)) {
				return edit{}, nil
			}
			changed = true
			if !slices.Contains(ids, string(k.p.UID)) {
				ids = append(ids, string(k.p.UID))
			}
			list := strings.Join(ids, ",")
			e := edit{annotations: map[string]*string{CordonKey: &list}}
			if !unschedulable(u) {
				e.spec = map[string]any{"unschedulable": true}
			}
			return e, nil
		})
		if err == nil && changed && k.o.DryRun {
			s.Trial = "admitted"
		}
		return changed, err
	})
	if k.o.Detach && metav1.GetControllerOf(k.p.Pod) != nil {
		k.rep.warn("the node takes no new pods: the one that replaces this must find another node")
	}
}

// uncordon undoes cordon: the node takes pods again when none of those it was cordoned for is left, unless somebody did that before.
func (k *keeper) uncordon(ctx context.Context) bool {
	return k.step("cordon", "uncordon the node "+k.p.Spec.NodeName, func(s *Step) (bool, error) {
		changed := false
		err := patch(ctx, k.c, kubernetes.Nodes, "", k.p.Spec.NodeName, k.o.DryRun, s, func(u *unstructured.Unstructured) (edit, error) {
			ids := cordonsOf(u)
			rest := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == string(k.p.UID) })
			changed = len(rest) < len(ids)
			switch {
			case !changed:
				return edit{}, nil
			case len(rest) > 0:
				list := strings.Join(rest, ",")
				k.rep.warn("the node stays cordoned for other isolated pods")
				return edit{annotations: map[string]*string{CordonKey: &list}}, nil
			}
			e := edit{annotations: map[string]*string{CordonKey: nil}}
			if unschedulable(u) {
				e.spec = map[string]any{"unschedulable": nil}
			}
			return e, nil
		})
		if err == nil && changed && k.o.DryRun {
			s.Trial = "admitted"
		}
		return changed, err
	})
}
