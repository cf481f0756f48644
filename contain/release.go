package contain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// SurplusError says that a pod's controller has as many pods as it wants: given back to it, one of them would be deleted.
type SurplusError struct {
	Owner string
	Want  int // pods that it wants, where this one could be among them
	Have  int // pods that it has, without this one
	Known bool
}

func (e *SurplusError) Error() string {
	switch {
	case !e.Known:
		return "whether " + e.Owner + " would delete the pod when it is given back can't be told: --force gives it back all the same, --leave-detached releases all but that"
	case e.Want == 0:
		return e.Owner + " wants no pod where this one is and would delete it when it is given back, and what is in it would be lost: --leave-detached releases all but that"
	}
	return fmt.Sprintf("%s wants %d here and has %d without this pod: given back, one too many, and it deletes one. --force gives it back, so that another is deleted; "+
		"--leave-detached releases all but that", e.Owner, e.Want, e.Have)
}

// Release puts back what Isolate changed, by what is recorded on the pod, and checks that all is as it was before. An error means that nothing
// was tried: a *SurplusError if the pod could be lost.
func Release(ctx context.Context, c *kubernetes.Cluster, p *Pod, o Options) (*Report, error) {
	k := &keeper{c: c, p: p, o: o, rep: &Report{Target: p.URL(), Node: p.Spec.NodeName}}
	fail := func(err error) (*Report, error) { return nil, fmt.Errorf("%s: %w", p.URL(), err) }
	if err := k.begin(ctx); err != nil {
		return fail(err)
	}
	r, err := readRecord(k.p.Pod)
	if err != nil {
		return fail(err)
	}
	if r.Policy == "" {
		r.Policy = policyName(r.ID)
	}
	surplus, err := k.surplus(ctx, r)
	if err != nil {
		return fail(err)
	}
	if surplus != nil && !o.Detached && (!o.Force || surplus.Known && surplus.Want == 0) {
		return fail(surplus)
	}
	ok := k.thaw(ctx, r)
	ok = k.allow(ctx, r) && ok
	if r.Cordoned {
		ok = k.uncordon(ctx) && ok
	}
	switch {
	case o.Detached:
		k.giveBack(ctx, "put back the annotations; the labels stay changed", func(p *corev1.Pod, r *record, e *edit) {
			k.annotations(p, r, e)
			r.Policy, r.Cordoned, r.Frozen, r.Annotations = "", false, nil, nil
		}, ok)
		return k.rep, nil
	case surplus != nil && !o.DryRun:
		if !k.forced(ctx, r, surplus) {
			return k.rep, nil
		}
	}
	done := k.giveBack(ctx, "put back labels and annotations", func(p *corev1.Pod, r *record, e *edit) {
		k.labels(p, r, e)
		k.annotations(p, r, e)
		if ok {
			e.labels[Label], e.annotations[RecordKey] = nil, nil
		}
	}, ok)
	if !ok {
		k.rep.warn("not everything could be put back: the record stays on the pod, and `sherd release` may be asked again")
	}
	if done && ok && !o.DryRun {
		k.verify(ctx, r)
	}
	return k.rep, nil
}

// giveBack changes the pod's own labels and annotations.
func (k *keeper) giveBack(ctx context.Context, what string, compute func(*corev1.Pod, *record, *edit), ok bool) bool {
	return k.step("record", what, func(s *Step) (bool, error) {
		changed := false
		err := patch(ctx, k.c, kubernetes.Pods, k.p.Namespace, k.p.Name, k.o.DryRun, s, func(u *unstructured.Unstructured) (edit, error) {
			p, err := podOf(u)
			if err != nil {
				return edit{}, err
			}
			r, err := readRecord(p)
			if err != nil {
				return edit{}, err
			}
			e := edit{labels: map[string]*string{}, annotations: map[string]*string{}}
			compute(p, r, &e)
			if _, removed := e.annotations[RecordKey]; !removed && ok {
				text, err := r.encode()
				if err != nil {
					return edit{}, err
				}
				if p.Annotations[RecordKey] != text {
					e.annotations[RecordKey] = &text
				}
			}
			changed = !e.empty()
			return e, nil
		})
		if err == nil && changed && k.o.DryRun {
			s.Trial = "admitted"
		}
		return changed, err
	})
}

func (k *keeper) labels(p *corev1.Pod, r *record, e *edit) {
	values, foreign := back(r.Labels, p.Labels)
	for key, v := range values {
		e.labels[key] = v
	}
	k.foreign("label", foreign)
}

func (k *keeper) annotations(p *corev1.Pod, r *record, e *edit) {
	values, foreign := back(r.Annotations, p.Annotations)
	for key, v := range values {
		e.annotations[key] = v
	}
	k.foreign("annotation", foreign)
}

func (k *keeper) foreign(kind string, keys []string) {
	for _, key := range keys {
		k.rep.warn(fmt.Sprintf("the %s %s was changed by somebody else since, and stays as it is", kind, key))
	}
}

// thaw lets frozen containers go on.
func (k *keeper) thaw(ctx context.Context, r *record) bool {
	ok := true
	for _, id := range r.Frozen {
		ok = k.step("freeze", "thaw "+k.nameOf(id), func(s *Step) (bool, error) {
			s.Request = "thaw " + id + " on node " + k.p.Spec.NodeName
			if k.o.DryRun {
				s.Trial = "not tried: a collector on the node does it"
				return true, nil
			}
			word, err := k.o.Freezer(ctx, k.p.Spec.NodeName, id, true)
			return err == nil && word == Thawed, err
		}) && ok
	}
	return ok
}

func (k *keeper) nameOf(id string) string {
	for _, l := range [][]corev1.ContainerStatus{k.p.Status.InitContainerStatuses, k.p.Status.ContainerStatuses, k.p.Status.EphemeralContainerStatuses} {
		for i := range l {
			if l[i].ContainerID == id {
				return "the container " + l[i].Name
			}
		}
	}
	return id
}

// allow takes the network policy away.
func (k *keeper) allow(ctx context.Context, r *record) bool {
	np, err := k.c.Resource(networkPolicies).Namespace(k.p.Namespace).Get(ctx, r.Policy, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true
	}
	return k.step("deny-network", "take away the network policy "+r.Policy, func(s *Step) (bool, error) {
		switch {
		case err != nil:
			return false, explain(k.c, err, "get", networkPolicies, k.p.Namespace)
		case np.GetLabels()[Label] != r.ID || !slices.ContainsFunc(np.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.UID == k.p.UID }):
			return false, fmt.Errorf("networkpolicy %s is not this pod's, and stays", r.Policy)
		}
		s.Request = "DELETE networkpolicies " + k.p.Namespace + "/" + r.Policy
		uid := np.GetUID()
		o := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}
		if k.o.DryRun {
			o.DryRun = []string{metav1.DryRunAll}
		}
		err := k.c.Resource(networkPolicies).Namespace(k.p.Namespace).Delete(ctx, r.Policy, o)
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		if err == nil && k.o.DryRun {
			s.Trial = "admitted"
		}
		return true, explain(k.c, err, "delete", networkPolicies, k.p.Namespace)
	})
}

// surplus reports that the controller which the pod would be given back to would delete a pod then; nil if it would not.
func (k *keeper) surplus(ctx context.Context, r *record) (*SurplusError, error) {
	values, _ := back(r.Labels, k.p.Labels)
	if len(values) == 0 || r.Owner == nil || metav1.GetControllerOf(k.p.Pod) != nil {
		return nil, nil
	}
	e := &SurplusError{Owner: r.Owner.String()}
	gvr, known := controllers[r.Owner.Kind]
	if !known {
		return e, nil
	}
	u, err := k.c.Resource(gvr).Namespace(k.p.Namespace).Get(ctx, r.Owner.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && string(u.GetUID()) != r.Owner.UID {
		k.rep.warn(r.Owner.String() + " is gone: the pod stays without a controller")
		r.Owner = nil
		return nil, nil
	}
	if err != nil {
		return nil, explain(k.c, err, "get", gvr, k.p.Namespace)
	}
	mine, err := ownedBy(ctx, k.c, k.p.Namespace, u.GetUID())
	if err != nil {
		return nil, err
	}
	e.Known = true
	e.Want, e.Have = wanted(u, k.p.Pod), len(mine)
	if r.Owner.Kind == "DaemonSet" {
		e.Have = 0
		for i := range mine {
			if p, err := podOf(&mine[i]); err == nil && meantFor(p, k.p.Spec.NodeName) {
				e.Have++
			}
		}
		// One that wants a pod here has made it by now: it does not wait for anything.
		e.Want = min(e.Want, e.Have)
	}
	if e.Have < e.Want {
		return nil, nil
	}
	return e, nil
}

// meantFor reports whether a daemon set's pod runs on a node, or waits for it.
func meantFor(p *corev1.Pod, node string) bool {
	if p.Spec.NodeName != "" {
		return p.Spec.NodeName == node
	}
	a := p.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return false
	}
	return slices.ContainsFunc(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool {
		return slices.ContainsFunc(t.MatchFields, func(r corev1.NodeSelectorRequirement) bool {
			return r.Key == "metadata.name" && slices.Contains(r.Values, node)
		})
	})
}

// wanted is how many pods a controller wants where this one is.
func wanted(u *unstructured.Unstructured, p *corev1.Pod) int {
	number := func(unset int64, path ...string) int64 {
		n, ok, err := unstructured.NestedInt64(u.Object, path...)
		if err != nil || !ok {
			return unset
		}
		return n
	}
	if u.GetDeletionTimestamp() != nil {
		return 0
	}
	switch u.GetKind() {
	case "DaemonSet":
		return 1
	case "Job":
		if suspended, _, err := unstructured.NestedBool(u.Object, "spec", "suspend"); err != nil || suspended || finished(u) {
			return 0
		}
		return int(number(1, "spec", "parallelism"))
	case "StatefulSet":
		// Its pods are numbered, and one beyond the last number goes.
		first, n := number(0, "spec", "ordinals", "start"), number(1, "spec", "replicas")
		if at := ordinal(p.Name); at < first || at >= first+n {
			return 0
		}
		return int(n)
	}
	return int(number(1, "spec", "replicas"))
}

// ordinal is the number at the end of the name of a stateful set's pod, -1 if there is none.
func ordinal(name string) int64 {
	n, err := strconv.ParseUint(name[strings.LastIndex(name, "-")+1:], 10, 31)
	if err != nil {
		return -1
	}
	return int64(n)
}

// finished reports whether a job has come to its end: it takes no pods any more.
func finished(u *unstructured.Unstructured) bool {
	list, _, err := unstructured.NestedSlice(u.Object, "status", "conditions")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(list, func(x any) bool {
		m, _ := x.(map[string]any)
		return m["status"] == "True" && (m["type"] == "Complete" || m["type"] == "Failed")
	})
}

// forced gives the pod back to a controller that has enough of them, so that it deletes another: this one must be ready, or it would be the
// first to go, and has the highest cost of deletion until the surplus is gone.
func (k *keeper) forced(ctx context.Context, r *record, surplus *SurplusError) bool {
	gone := errors.New("the pod was deleted")
	get := func() (*corev1.Pod, error) {
		u, err := k.c.Resource(kubernetes.Pods).Namespace(k.p.Namespace).Get(ctx, k.p.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, gone
		}
		if err != nil {
			return nil, explain(k.c, err, "get", kubernetes.Pods, k.p.Namespace)
		}
		p, err := podOf(u)
		if err == nil && (p.UID != k.p.UID || p.DeletionTimestamp != nil) {
			err = gone
		}
		return p, err
	}
	k.stage("waiting until the pod is ready")
	ready := k.step("detach", "wait until the pod is ready, so that another is deleted", func(*Step) (bool, error) {
		err := until(ctx, 60*time.Second, func() error {
			p, err := get()
			if err != nil {
				return err
			}
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					return nil
				}
			}
			return errStill
		})
		if errors.Is(err, errStill) {
			err = fmt.Errorf("the pod is not ready, so that %s would delete this one: --leave-detached releases all but that", r.Owner)
		}
		return true, err
	})
	if !ready {
		return false
	}
	most := "2147483647"
	if !k.giveBack(ctx, "put back the labels", func(p *corev1.Pod, r *record, e *edit) {
		k.labels(p, r, e)
		if r.Owner.Kind == "ReplicaSet" || r.Owner.Kind == "ReplicationController" {
			if set(&r.Annotations, p.Annotations, deletionCost, &most) {
				e.annotations[deletionCost] = &most
			}
		}
	}, true) {
		return false
	}
	k.stage("waiting until " + r.Owner.String() + " has taken the pod back")
	return k.step("detach", "wait until "+r.Owner.String()+" has as many pods as it wants", func(*Step) (bool, error) {
		err := until(ctx, 60*time.Second, func() error {
			p, err := get()
			if err != nil {
				return err
			}
			own := metav1.GetControllerOf(p)
			mine, err := ownedBy(ctx, k.c, k.p.Namespace, types.UID(r.Owner.UID))
			if err != nil {
				return err
			}
			if own == nil || surplus.Known && r.Owner.Kind != "DaemonSet" && len(mine) > surplus.Want {
				return errStill
			}
			return nil
		})
		if errors.Is(err, errStill) {
			err = errors.New("it has not yet, after a minute; `sherd release` may be asked again")
		}
		return true, err
	})
}

// verify holds the pod against what it was before.
func (k *keeper) verify(ctx context.Context, r *record) {
	u, err := k.c.Resource(kubernetes.Pods).Namespace(k.p.Namespace).Get(ctx, k.p.Name, metav1.GetOptions{})
	if err != nil {
		k.rep.warn("the pod could not be looked at afterwards: " + brief(explain(k.c, err, "get", kubernetes.Pods, k.p.Namespace)))
		return
	}
	for _, x := range []struct{ what, was, is string }{
		{"labels", r.LabelSum, sum(u.GetLabels())}, {"annotations", r.AnnotationSum, sum(u.GetAnnotations())},
	} {
		if x.was == x.is {
			k.rep.Verified = append(k.rep.Verified, "the pod's "+x.what+" are what they were before")
		} else {
			k.rep.warn("the pod's " + x.what + " are not what they were before: somebody else changed some since")
		}
	}
	if r.Owner == nil {
		return
	}
	if _, known := controllers[r.Owner.Kind]; !known {
		return
	}
	err = until(ctx, 20*time.Second, func() error {
		u, err := k.c.Resource(kubernetes.Pods).Namespace(k.p.Namespace).Get(ctx, k.p.Name, metav1.GetOptions{})
		if err == nil && metav1.GetControllerOf(u) == nil {
			err = errStill
		}
		return err
	})
	if err == nil {
		k.rep.Verified = append(k.rep.Verified, r.Owner.String()+" has taken the pod back")
	} else {
		k.rep.warn(r.Owner.String() + " has not taken the pod back so far")
	}
}
