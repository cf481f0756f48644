package contain

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// keeper is one pod's isolation, or its release.
type keeper struct {
	c   *kubernetes.Cluster
	p   *Pod
	o   Options
	rep *Report

	id     string
	frozen []string // what an isolation before this one froze
	let    *owner   // the controller that must let go
	around *surroundings
}

// Isolate does with one pod what o asks for, and reports each step; what fails does not keep the rest from being done, unless the pod can't
// be marked, for then nothing could be put back. An error means that nothing was tried.
func Isolate(ctx context.Context, c *kubernetes.Cluster, p *Pod, o Options) (*Report, error) {
	k := &keeper{c: c, p: p, o: o, rep: &Report{Target: p.URL(), Node: p.Spec.NodeName}}
	if err := k.begin(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", p.URL(), err)
	}
	k.rep.Warnings = append(k.rep.Warnings, mortal(p.Pod)...)
	if !k.record(ctx) {
		return k.rep, nil
	}
	if o.DenyNetwork {
		k.deny(ctx)
	}
	if o.Cordon {
		k.cordon(ctx)
	}
	if o.Detach {
		k.detach(ctx)
	}
	if o.Freeze {
		k.freeze(ctx)
	}
	if o.Detach && !o.DryRun {
		k.left(ctx)
	}
	return k.rep, nil
}

// begin looks at the pod as it is now, and chooses the isolation's id: the one that it has, if it is isolated already.
func (k *keeper) begin(ctx context.Context) error {
	u, err := k.c.Resource(kubernetes.Pods).Namespace(k.p.Namespace).Get(ctx, k.p.Name, metav1.GetOptions{})
	if err != nil {
		return explain(k.c, err, "get", kubernetes.Pods, k.p.Namespace)
	}
	now, err := podOf(u)
	if err != nil {
		return err
	}
	if now.UID != k.p.UID {
		return errors.New("the pod was replaced by another of the same name just now")
	}
	k.p.Pod = now
	switch r, err := readRecord(now); {
	case errors.Is(err, errNone):
		var b [6]byte
		if _, err := rand.Read(b[:]); err != nil {
			return err
		}
		k.id = hex.EncodeToString(b[:])
	case err != nil:
		return err
	default:
		k.id, k.frozen = r.ID, r.Frozen
	}
	k.rep.ID = k.id
	return nil
}

// step does one thing and reports it. do returns false if there was nothing to do.
func (k *keeper) step(action, what string, do func(s *Step) (bool, error)) bool {
	s := Step{Action: action, What: what, State: Done}
	var err error
	if !k.o.DryRun {
		err = k.note(action, what+": begins")
	}
	changed := false
	if err == nil {
		changed, err = do(&s)
	}
	switch {
	case err != nil:
		s.State, s.Err, s.Error = Failed, err, err.Error()
		if k.o.DryRun {
			s.Trial = "refused: " + err.Error()
		}
	case !changed:
		s.State = Already
	case k.o.DryRun:
		s.State = Planned
	}
	k.rep.Steps = append(k.rep.Steps, s)
	if !k.o.DryRun {
		words := what + ": " + string(s.State)
		if s.Error != "" {
			words += ": " + s.Error
		}
		if s.Request != "" {
			words += "; " + s.Request + " " + string(s.Document)
		}
		// It is done: that it is not noted is told, and undoes nothing.
		if err := k.note(action, words); err != nil {
			k.rep.warn(fmt.Sprintf("custody does not tell how %q ended: %v", what, err))
		}
	}
	return s.State != Failed
}

// maxNote bounds an entry of the chain of custody.
const maxNote = 16 << 10

func (k *keeper) note(action, words string) error {
	if k.o.Note == nil {
		return nil
	}
	words = k.p.URL() + " (" + k.id + "): " + words
	return k.o.Note(action, words[:min(len(words), maxNote)])
}

func (k *keeper) stage(words string) {
	if k.o.Stage != nil {
		k.o.Stage(k.p.URL() + ": " + words)
	}
}

// patchPod is patch for the pod, whose record is read, changed by compute, and written with the rest.
func (k *keeper) patchPod(ctx context.Context, s *Step, compute func(p *corev1.Pod, r *record) (edit, error)) (bool, error) {
	changed := false
	err := patch(ctx, k.c, kubernetes.Pods, k.p.Namespace, k.p.Name, k.o.DryRun, s, func(u *unstructured.Unstructured) (edit, error) {
		p, err := podOf(u)
		if err != nil {
			return edit{}, err
		}
		if p.UID != k.p.UID {
			return edit{}, errors.New("the pod was replaced by another of the same name just now")
		}
		r, err := readRecord(p)
		if errors.Is(err, errNone) {
			r, err = &record{Schema: 1, ID: k.id, Time: time.Now().UTC().Format(time.RFC3339), Tool: k.o.Tool, LabelSum: sum(p.Labels), AnnotationSum: sum(p.Annotations)}, nil
		}
		if err != nil {
			return edit{}, err
		}
		if r.ID != k.id {
			return edit{}, errors.New("somebody else isolates the pod at the same moment")
		}
		e, err := compute(p, r)
		if err != nil {
			return edit{}, err
		}
		text, err := r.encode()
		if err != nil {
			return edit{}, err
		}
		if e.annotations == nil {
			e.annotations = map[string]*string{}
		}
		if p.Annotations[RecordKey] != text {
			e.annotations[RecordKey] = &text
		}
		changed = !e.empty()
		return e, nil
	})
	if err == nil && changed && k.o.DryRun {
		s.Trial = "admitted"
	}
	return changed, err
}

// record marks the pod and notes what will be done, before any of it is; the annotations that keep it alive come with it.
func (k *keeper) record(ctx context.Context) bool {
	cordon := k.o.Cordon && k.uncordoned(ctx)
	what := "mark the pod and record on it what was before"
	action := "record"
	if k.o.Keep {
		action, what = "keep", "keep autoscalers and the descheduler away, "+what
	}
	ok := k.step(action, what, func(s *Step) (bool, error) {
		return k.patchPod(ctx, s, func(p *corev1.Pod, r *record) (edit, error) {
			e := edit{labels: map[string]*string{}, annotations: map[string]*string{}}
			if p.Labels[Label] != k.id {
				e.labels[Label] = &k.id
			}
			if k.o.Keep {
				for key, v := range keepers {
					if set(&r.Annotations, p.Annotations, key, &v) {
						e.annotations[key] = &v
					}
				}
			}
			if k.o.DenyNetwork && !p.Spec.HostNetwork {
				r.Policy = policyName(k.id)
			}
			r.Cordoned = r.Cordoned || cordon
			if k.o.Freeze {
				for _, i := range k.freezable() {
					if !slices.Contains(r.Frozen, i.ID) {
						r.Frozen = append(r.Frozen, i.ID)
					}
				}
			}
			return e, nil
		})
	})
	if ok && k.o.Keep {
		k.rep.warn(keepLimits)
	}
	return ok
}

// deny makes the network policy.
func (k *keeper) deny(ctx context.Context) {
	k.step("deny-network", "deny the pod the network", func(s *Step) (bool, error) {
		if k.p.Spec.HostNetwork {
			return false, errors.New("the pod uses its node's network, to which network policies don't apply: cut the node off outside the cluster, or freeze the pod")
		}
		np := policy(k.p.Pod, k.id, k.o.Allow)
		s.Request = "POST networkpolicies " + np.Namespace + "/" + np.Name
		s.Changes = []string{"networkpolicy " + np.Name + ": denies all ingress and egress of pods with the label " + Label + "=" + k.id}
		for _, a := range k.o.Allow {
			s.Changes = append(s.Changes, "but for "+a.String()+", both ways")
		}
		var err error
		if s.Document, err = json.Marshal(np); err != nil {
			return false, err
		}
		obj, err := runtime.DefaultUnstructuredConverter.ToUnstructured(np)
		if err != nil {
			return false, err
		}
		o := metav1.CreateOptions{FieldManager: manager}
		if k.o.DryRun {
			o.DryRun = []string{metav1.DryRunAll}
		}
		_, err = k.c.Resource(networkPolicies).Namespace(np.Namespace).Create(ctx, &unstructured.Unstructured{Object: obj}, o)
		switch {
		case apierrors.IsAlreadyExists(err) && len(k.o.Allow) > 0:
			return false, errors.New("there is one from before, which stays as it is: release the pod to change its exceptions")
		case apierrors.IsAlreadyExists(err):
			return false, nil
		}
		if err == nil && k.o.DryRun {
			s.Trial = "admitted"
		}
		return true, explain(k.c, err, "create", networkPolicies, np.Namespace)
	})
	k.rep.warn(policyLimits)
	if !k.p.Spec.HostNetwork {
		k.rep.warn(enforcement(ctx, k.c, k.p.Spec.NodeName))
	}
	if k.o.Detach {
		return // which looks at the other policies, and leaves them
	}
	others, err := policies(ctx, k.c, k.p.Namespace)
	if err != nil {
		k.rep.warn("whether other network policies still allow the pod something is not known: " + brief(err))
		return
	}
	others = slices.DeleteFunc(others, func(s selects) bool { return !s.opens })
	if names := matching(others, k.p.Labels); len(names) > 0 {
		k.rep.warn(strings.Join(names, ", ") + " applies to the pod too, and what it allows stays allowed, since policies add up; --detach also changes the labels by which it does")
	}
}

// detach changes the labels by which services and the controller know the pod.
func (k *keeper) detach(ctx context.Context) {
	k.step("detach", "take the pod out of its services and its controller", func(s *Step) (bool, error) {
		var err error
		if k.around, err = look(ctx, k.c, k.p.Pod); err != nil {
			return false, err
		}
		k.rep.Warnings = append(k.rep.Warnings, k.around.warnings...)
		by := slices.Concat(k.around.services, k.around.controllers)
		if k.o.DenyNetwork {
			// Policies add up: what another one allows, a deny-all beside it does not take away.
			by = append(by, slices.DeleteFunc(slices.Clone(k.around.policies), func(s selects) bool { return !s.opens })...)
		}
		own := metav1.GetControllerOf(k.p.Pod)
		k.rep.Warnings = append(k.rep.Warnings, leaving(ctx, k.c, k.p.Pod, k.around, k.o.DenyNetwork)...)
		if names := matching(by, k.p.Labels); len(names) > 0 {
			defer func() { s.Changes = append([]string{"leaves " + strings.Join(names, ", ")}, s.Changes...) }()
		}
		var left []selects
		changed, err := k.patchPod(ctx, s, func(p *corev1.Pod, r *record) (edit, error) {
			var changes map[string]*string
			changes, left = loose(p.Labels, by, k.id)
			for key, v := range changes {
				if !set(&r.Labels, p.Labels, key, v) {
					delete(changes, key)
				}
			}
			if own != nil && own.Kind != "Node" && r.Owner == nil {
				r.Owner = &owner{own.APIVersion, own.Kind, own.Name, string(own.UID)}
			}
			k.let = r.Owner
			return edit{labels: changes}, nil
		})
		for _, x := range left {
			k.rep.warn(x.what + " selects the pod whatever its labels are: it can't be taken out of that, or what that allows stays allowed")
		}
		return changed, err
	})
}

// left waits until the controller let go, and no service leads to the pod any more.
func (k *keeper) left(ctx context.Context) {
	if k.around == nil {
		return // it was not detached
	}
	k.stage("waiting until its controller and its services have let go")
	if k.let != nil {
		k.released(ctx)
	}
	if len(matching(k.around.services, k.p.Labels)) == 0 {
		return
	}
	var still []string
	err := until(ctx, 20*time.Second, func() error {
		var err error
		if still, err = k.endpoints(ctx); err == nil && len(still) > 0 {
			return errStill
		}
		return err
	})
	switch {
	case errors.Is(err, errStill):
		k.rep.warn("still in endpointslice " + strings.Join(still, ", ") + ": what leads there still leads to the pod")
	case err != nil:
		k.rep.warn("whether services still lead to the pod is not known: " + brief(err))
	default:
		k.rep.Verified = append(k.rep.Verified, "no endpoint slice leads to the pod")
	}
}

// released waits until the pod belongs to its controller no more, and tells which pod came in its place.
func (k *keeper) released(ctx context.Context) {
	err := until(ctx, 30*time.Second, func() error {
		u, err := k.c.Resource(kubernetes.Pods).Namespace(k.p.Namespace).Get(ctx, k.p.Name, metav1.GetOptions{})
		if err != nil {
			return explain(k.c, err, "get", kubernetes.Pods, k.p.Namespace)
		}
		if own := metav1.GetControllerOf(u); own != nil && string(own.UID) == k.let.UID {
			return errStill
		}
		return nil
	})
	switch {
	case errors.Is(err, errStill):
		k.rep.warn(k.let.String() + " has not let go of the pod: it may still delete it")
		return
	case err != nil:
		k.rep.warn("whether " + k.let.String() + " let go of the pod is not known: " + brief(err))
		return
	}
	words := k.let.String() + " let go of the pod"
	var name string
	err = until(ctx, 5*time.Second, func() error {
		mine, err := ownedBy(ctx, k.c, k.p.Namespace, types.UID(k.let.UID))
		if err != nil {
			return err
		}
		var newest metav1.Time
		for i := range mine {
			if t := mine[i].GetCreationTimestamp(); !t.Before(&newest) {
				name, newest = mine[i].GetName(), t
			}
		}
		if name == "" || !k.p.CreationTimestamp.Before(&newest) {
			name = ""
			return errStill
		}
		return nil
	})
	switch {
	case err == nil:
		words += "; the youngest of its own is " + name
	case errors.Is(err, errStill):
		words += "; it has made no other so far"
	}
	k.rep.Verified = append(k.rep.Verified, words)
}

// endpoints are the endpoint slices that lead to the pod.
func (k *keeper) endpoints(ctx context.Context) ([]string, error) {
	l, err := k.c.Resource(endpointSlices).Namespace(k.p.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, explain(k.c, err, "list", endpointSlices, k.p.Namespace)
	}
	var out []string
	for i := range l.Items {
		list, _ := l.Items[i].Object["endpoints"].([]any) // null where there is none
		for _, e := range list {
			m, _ := e.(map[string]any)
			uid, _, err := unstructured.NestedString(m, "targetRef", "uid")
			if err == nil && uid == string(k.p.UID) {
				out = append(out, l.Items[i].GetName())
				break
			}
		}
	}
	return out, nil
}

// freezable are the containers that are frozen: those that run, and that are not killed for it.
func (k *keeper) freezable() []*kubernetes.Instance {
	if k.o.Force {
		return running(k.p)
	}
	return slices.DeleteFunc(running(k.p), func(i *kubernetes.Instance) bool { return killedBy(k.p.Pod, i.Container) != "" })
}

// freeze stops the containers by way of a collector on their node.
func (k *keeper) freeze(ctx context.Context) {
	if len(running(k.p)) == 0 {
		k.step("freeze", "freeze the pod", func(*Step) (bool, error) { return false, errors.New("none of its containers runs") })
		return
	}
	k.rep.warn(freezeLimits)
	var foreign []string
	for _, i := range running(k.p) {
		killed := killedBy(k.p.Pod, i.Container)
		if killed != "" && k.o.Force {
			k.rep.warn("container " + i.Container + ": " + killed)
		}
		k.step("freeze", "freeze the container "+i.Container, func(s *Step) (bool, error) {
			s.Request = "freeze " + i.ID + " on node " + k.p.Spec.NodeName
			switch {
			case killed != "" && !k.o.Force:
				return false, fmt.Errorf("it is not frozen: %s; capture it first, or say --force", killed)
			case k.o.DryRun:
				s.Trial = "not tried: a collector on the node does it"
				return true, nil
			}
			word, err := k.o.Freezer(ctx, k.p.Spec.NodeName, i.ID, false)
			switch {
			case err != nil:
				return false, err // it may be frozen all the same: the record keeps it
			case word == Gone:
				return false, errors.New("it ended in the meantime")
			case word == FrozenAlready:
				if !slices.Contains(k.frozen, i.ID) {
					foreign = append(foreign, i.ID)
				}
				return false, nil
			}
			return true, nil
		})
	}
	if len(foreign) > 0 && !k.o.DryRun {
		k.disown(ctx, foreign)
	}
}

// disown takes containers that were not frozen here out of the record, so that a release leaves them to whoever froze them.
func (k *keeper) disown(ctx context.Context, ids []string) {
	s := Step{}
	_, err := k.patchPod(ctx, &s, func(_ *corev1.Pod, r *record) (edit, error) {
		r.Frozen = slices.DeleteFunc(r.Frozen, func(id string) bool { return slices.Contains(ids, id) && !slices.Contains(k.frozen, id) })
		return edit{}, nil
	})
	if err != nil {
		k.rep.warn("the record on the pod says that it was frozen here, which it was not: " + brief(err))
	}
}
