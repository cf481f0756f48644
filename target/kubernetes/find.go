package kubernetes

import (
	"cmp"
	"context"
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
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sherd-forensics/sherd/target"
)

// Role is what a container is in its pod.
type Role string

// The roles. A sidecar is an init container that keeps running.
const (
	App       Role = "app"
	Init      Role = "init"
	Sidecar   Role = "sidecar"
	Ephemeral Role = "ephemeral"
)

// Instance is one container of one pod. Its strings are the cluster's: escape them before showing.
type Instance struct {
	Pod *corev1.Pod
	// Raw is the pod as the server sent it, JSON.
	Raw       []byte
	Container string
	Role      Role
	// ID is the runtime's, as the pod's status names it: "containerd://…"; "" if none was started yet.
	ID string
	// Previous are the ids of instances before it that the status still names.
	Previous []string
	Image    string // as the specification names it
	ImageID  string // as the status names it, with a digest where the runtime knows one
	State    target.State
	Reason   string // why it waits or ended, in the kubelet's word
	Restarts int
	// Started is when it was started, of one that runs.
	Started time.Time
}

// URL is what the user may type again.
func (i *Instance) URL() string {
	return "k8s://" + Ref{Namespace: i.Pod.Namespace, Name: i.Pod.Name, Container: i.Container}.String()
}

// Digest is that of the image, "sha256:…", "" if unknown.
func (i *Instance) Digest() string {
	if _, d, ok := strings.Cut(i.ImageID, "@"); ok {
		return d
	}
	if strings.HasPrefix(i.ImageID, "sha256:") {
		return i.ImageID
	}
	return ""
}

// Query says which containers are meant. Exactly one of Ref, and the others together, is used.
type Query struct {
	Ref       *Ref
	Namespace string // "" for all
	Selector  string // of labels, as kubectl's -l
	Node      string
	Digest    string // of an image, "sha256:…", or a part of it of at least 12 digits
}

// Find gives the containers that q means, by namespace, pod and order in the pod. Nothing found is a *target.NotFoundError.
func (c *Cluster) Find(ctx context.Context, q Query) ([]*Instance, error) {
	if q.Ref != nil {
		return c.byRef(ctx, *q.Ref)
	}
	opts := metav1.ListOptions{LabelSelector: q.Selector}
	if q.Node != "" {
		opts.FieldSelector = "spec.nodeName=" + q.Node
	}
	pods, err := c.pods(ctx, q.Namespace, opts)
	if err != nil {
		return nil, err
	}
	var out []*Instance
	for _, p := range pods {
		is, err := instances(p)
		if err != nil {
			return nil, err
		}
		for _, i := range is {
			if q.Digest == "" || sameDigest(i.Digest(), q.Digest) {
				out = append(out, i)
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no container of the cluster is meant by that; `sherd targets --all-namespaces` lists what there is")
	}
	return out, nil
}

func sameDigest(have, want string) bool {
	hex := strings.TrimPrefix(want, "sha256:")
	return len(hex) >= 12 && strings.HasPrefix(strings.TrimPrefix(have, "sha256:"), hex)
}

// pageSize keeps the answers of large clusters small.
const pageSize = 500

// pods lists pods page by page. A list that grew too old in between is begun again.
func (c *Cluster) pods(ctx context.Context, namespace string, o metav1.ListOptions) ([]unstructured.Unstructured, error) {
	var out []unstructured.Unstructured
	o.Limit = pageSize
	for again := 0; ; {
		l, err := c.dynamic.Resource(Pods).Namespace(namespace).List(ctx, o)
		if apierrors.IsResourceExpired(err) && again < 3 {
			again++
			out, o.Continue = nil, ""
			continue
		}
		if err != nil {
			return nil, c.Explain(err, "list", Pods, "", namespace)
		}
		out = append(out, l.Items...)
		if o.Continue = l.GetContinue(); o.Continue == "" {
			break
		}
	}
	slices.SortStableFunc(out, func(a, b unstructured.Unstructured) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return out, nil
}

func (c *Cluster) byRef(ctx context.Context, r Ref) ([]*Instance, error) {
	var found []unstructured.Unstructured
	if r.Kind == nil {
		u, err := c.dynamic.Resource(Pods).Namespace(r.Namespace).Get(ctx, r.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, c.notFound(ctx, r)
		}
		if err != nil {
			return nil, c.Explain(err, "get", Pods, "", r.Namespace)
		}
		found = []unstructured.Unstructured{*u}
	} else {
		var err error
		if found, err = c.ofWorkload(ctx, r); err != nil {
			return nil, err
		}
	}
	var out []*Instance
	var names []string
	for _, u := range found {
		is, err := instances(u)
		if err != nil {
			return nil, err
		}
		for _, i := range is {
			names = append(names, i.Container)
			if r.Container == "" || r.Container == i.Container {
				out = append(out, i)
			}
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("%s %s/%s runs no pod now", r.Kind.Name, r.Namespace, r.Name)
	case len(out) == 0:
		slices.Sort(names)
		return nil, fmt.Errorf("k8s://%s: the pod has no container %q; it has %s", r, r.Container, strings.Join(slices.Compact(names), ", "))
	}
	return out, nil
}

// notFound says which pods are called alike.
func (c *Cluster) notFound(ctx context.Context, r Ref) error {
	e := &target.NotFoundError{Runtime: "Kubernetes", Ref: r.Namespace + "/" + r.Name}
	pods, err := c.pods(ctx, r.Namespace, metav1.ListOptions{})
	if err != nil {
		return e // what was asked for is not there; whether others are can't be told
	}
	var names []string
	for _, p := range pods {
		names = append(names, p.GetName())
	}
	e.Others = len(names)
	e.Near = target.Near(r.Name, names)
	for i, n := range e.Near {
		e.Near[i] = r.Namespace + "/" + n
	}
	return e
}

// ofWorkload gives a workload's pods: those that its selector finds and that belong to it. A cron job's are its jobs'.
func (c *Cluster) ofWorkload(ctx context.Context, r Ref) ([]unstructured.Unstructured, error) {
	w, err := c.dynamic.Resource(r.Kind.GVR).Namespace(r.Namespace).Get(ctx, r.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("no %s named %q in namespace %s", r.Kind.Name, r.Name, r.Namespace)
	}
	if err != nil {
		return nil, c.Explain(err, "get", r.Kind.GVR, "", r.Namespace)
	}
	owners := map[types.UID]bool{w.GetUID(): true}
	// Deployments own replica sets which own pods, cron jobs own jobs.
	switch r.Kind.Name {
	case "deployment":
		err = c.ownedBy(ctx, ReplicaSets, r.Namespace, owners)
	case "cronjob":
		err = c.ownedBy(ctx, Jobs, r.Namespace, owners)
	}
	if err != nil {
		return nil, err
	}
	selector, err := selectorOf(w)
	if err != nil {
		return nil, fmt.Errorf("%s %s/%s: %w", r.Kind.Name, r.Namespace, r.Name, err)
	}
	pods, err := c.pods(ctx, r.Namespace, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(pods, func(p unstructured.Unstructured) bool { return !owned(&p, owners) }), nil
}

// ownedBy adds to owners the objects of a kind that belong to one of them.
func (c *Cluster) ownedBy(ctx context.Context, gvr schema.GroupVersionResource, namespace string, owners map[types.UID]bool) error {
	l, err := c.dynamic.Resource(gvr).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return c.Explain(err, "list", gvr, "", namespace)
	}
	for i := range l.Items {
		if owned(&l.Items[i], owners) {
			owners[l.Items[i].GetUID()] = true
		}
	}
	return nil
}

func owned(u *unstructured.Unstructured, owners map[types.UID]bool) bool {
	return slices.ContainsFunc(u.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return owners[o.UID] })
}

// selectorOf is a workload's selector as a query; a cron job and some jobs have none, which finds all.
func selectorOf(w *unstructured.Unstructured) (string, error) {
	m, ok, err := unstructured.NestedMap(w.Object, "spec", "selector")
	if err != nil || !ok {
		return "", err
	}
	if w.GetKind() == "ReplicationController" { // labels alone
		flat, _, err := unstructured.NestedStringMap(w.Object, "spec", "selector")
		return labels.SelectorFromSet(flat).String(), err
	}
	var s metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(m, &s); err != nil {
		return "", fmt.Errorf("its selector can't be read: %w", err)
	}
	sel, err := metav1.LabelSelectorAsSelector(&s)
	if err != nil {
		return "", fmt.Errorf("its selector can't be read: %w", err)
	}
	return sel.String(), nil
}

// instances takes a pod apart: its containers in the order init, app, ephemeral.
func instances(u unstructured.Unstructured) ([]*Instance, error) {
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return nil, fmt.Errorf("pod %s/%s: %w", u.GetNamespace(), u.GetName(), err)
	}
	p := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, p); err != nil {
		return nil, fmt.Errorf("pod %s/%s can't be read: %w", u.GetNamespace(), u.GetName(), err)
	}
	var out []*Instance
	add := func(name, image string, role Role, statuses []corev1.ContainerStatus) {
		i := &Instance{Pod: p, Raw: raw, Container: name, Image: image, Role: role, State: target.Created}
		for k := range statuses {
			if statuses[k].Name == name {
				i.status(&statuses[k])
			}
		}
		out = append(out, i)
	}
	for i := range p.Spec.InitContainers {
		c, role := &p.Spec.InitContainers[i], Init
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			role = Sidecar
		}
		add(c.Name, c.Image, role, p.Status.InitContainerStatuses)
	}
	for i := range p.Spec.Containers {
		add(p.Spec.Containers[i].Name, p.Spec.Containers[i].Image, App, p.Status.ContainerStatuses)
	}
	for i := range p.Spec.EphemeralContainers {
		add(p.Spec.EphemeralContainers[i].Name, p.Spec.EphemeralContainers[i].Image, Ephemeral, p.Status.EphemeralContainerStatuses)
	}
	return out, nil
}

func (i *Instance) status(s *corev1.ContainerStatus) {
	i.ID, i.ImageID, i.Restarts = s.ContainerID, s.ImageID, int(s.RestartCount)
	switch {
	case s.State.Running != nil:
		i.State, i.Started = target.Running, s.State.Running.StartedAt.Time
	case s.State.Terminated != nil:
		i.State, i.Reason = target.Exited, s.State.Terminated.Reason
	case s.State.Waiting != nil:
		i.Reason = s.State.Waiting.Reason
	}
	if t := s.LastTerminationState.Terminated; t != nil && t.ContainerID != "" {
		if i.ID == "" {
			i.ID = t.ContainerID
		}
		if t.ContainerID != i.ID {
			i.Previous = append(i.Previous, t.ContainerID)
		}
		if i.State == target.Created { // it waits to be started again: what ended is there
			i.State = target.Exited
		}
	}
}

// Security is the container's own security context, nil if it has none; the pod's applies beside it.
func (i *Instance) Security() *corev1.SecurityContext {
	for _, l := range [][]corev1.Container{i.Pod.Spec.InitContainers, i.Pod.Spec.Containers} {
		for k := range l {
			if l[k].Name == i.Container {
				return l[k].SecurityContext
			}
		}
	}
	for k := range i.Pod.Spec.EphemeralContainers {
		if e := &i.Pod.Spec.EphemeralContainers[k]; e.Name == i.Container {
			return e.SecurityContext
		}
	}
	return nil
}

// Status is what the kubelet says of the container, nil if nothing yet.
func (i *Instance) Status() *corev1.ContainerStatus {
	for _, l := range [][]corev1.ContainerStatus{i.Pod.Status.InitContainerStatuses, i.Pod.Status.ContainerStatuses, i.Pod.Status.EphemeralContainerStatuses} {
		for k := range l {
			if l[k].Name == i.Container {
				return &l[k]
			}
		}
	}
	return nil
}
