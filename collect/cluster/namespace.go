package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// What whoever installs Sherd's namespace in advance may say on it, for all who capture there.
const (
	ImagePreset  = "sherd.io/collector-image"
	PullPreset   = "sherd.io/collector-pull"
	SecretPreset = "sherd.io/collector-pull-secrets" // names, separated by commas
)

// room is the namespace of one session, or of the sessions of a fleet. What one room made no other uses: no capture takes the namespace
// away from another, and none waits for one that is going away, which a cluster takes some seconds for.
type room struct {
	mu    sync.Mutex
	users int
	base  string // as the user names it
	name  string // the one in use, "" before the first is prepared
	made  map[string]types.UID
}

func (r *room) enter() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users++
}

// prepare gives the options of a collector in a namespace that is there: the one that the user names if somebody installed it, or if it is
// not there, when it is made, with the label by which Pod Security admits a collector; else one of the room's own.
func (r *room) prepare(ctx context.Context, c *kubernetes.Cluster, o Options) (Options, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.name == "" {
		r.base, r.name = o.Namespace, o.Namespace
	}
	o.Namespace = r.name
	u, err := c.Resource(kubernetes.Namespaces).Get(ctx, r.name, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(err):
		// Who may not read namespaces may still work in one that is there: creating the job tells.
		return o, nil
	case apierrors.IsNotFound(err):
		err := r.make(ctx, c, r.name)
		if !apierrors.IsAlreadyExists(err) {
			return o, c.Explain(err, "create", kubernetes.Namespaces, "", "")
		}
		// Another capture was faster, and it is that one's.
	case err != nil:
		return o, c.Explain(err, "get", kubernetes.Namespaces, "", "")
	case installed(u), r.made[r.name] == u.GetUID() && u.GetDeletionTimestamp() == nil:
		return preset(o, u), nil
	}
	id, err := randomID()
	if err != nil {
		return o, err
	}
	own := r.base + "-" + id
	err = r.make(ctx, c, own)
	if apierrors.IsForbidden(err) && u != nil && u.GetDeletionTimestamp() == nil {
		return o, nil // who may not make one shares that of another capture, for as long as it is there
	}
	if err == nil {
		r.name, o.Namespace = own, own
	}
	return o, c.Explain(err, "create", kubernetes.Namespaces, "", "")
}

// installed reports whether somebody made a namespace to stay.
func installed(u *unstructured.Unstructured) bool {
	return u.GetAnnotations()[CreatedMark] == "" && u.GetDeletionTimestamp() == nil
}

func preset(o Options, u *unstructured.Unstructured) Options {
	if !o.Preset || !installed(u) {
		return o
	}
	a := u.GetAnnotations()
	if v := a[ImagePreset]; v != "" {
		o.Image = v
	}
	if v := corev1.PullPolicy(a[PullPreset]); v == corev1.PullAlways || v == corev1.PullIfNotPresent || v == corev1.PullNever {
		o.Pull = v
	}
	for s := range strings.SplitSeq(a[SecretPreset], ",") {
		if s = strings.TrimSpace(s); s != "" {
			o.Secrets = append(o.Secrets[:len(o.Secrets):len(o.Secrets)], s)
		}
	}
	return o
}

func (r *room) make(ctx context.Context, c *kubernetes.Cluster, name string) error {
	u, err := c.Resource(kubernetes.Namespaces).Create(ctx, namespaceObject(name), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if r.made == nil {
		r.made = map[string]types.UID{}
	}
	r.made[name] = u.GetUID()
	return nil
}

func namespaceObject(name string) *unstructured.Unstructured {
	labels := map[string]any{ManagedBy: Manager}
	for _, mode := range []string{"enforce", "audit", "warn"} {
		labels["pod-security.kubernetes.io/"+mode] = "privileged"
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": name, "labels": labels, "annotations": map[string]any{CreatedMark: "yes"}},
	}}
}

// leave takes away what the room made when the last of its users is gone.
func (r *room) leave(ctx context.Context, c *kubernetes.Cluster) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users--; r.users > 0 {
		return nil
	}
	var errs error
	for name, uid := range r.made {
		errs = errors.Join(errs, removeNamespace(ctx, c, name, uid))
	}
	r.made = nil
	return errs
}

// removeNamespace takes a namespace away that was made for a capture, unless another capture has come to share it.
func removeNamespace(ctx context.Context, c *kubernetes.Cluster, name string, uid types.UID) error {
	l, err := c.Resource(kubernetes.Jobs).Namespace(name).List(ctx, metav1.ListOptions{LabelSelector: ManagedBy + "=" + Manager})
	if err == nil {
		for i := range l.Items {
			if l.Items[i].GetDeletionTimestamp() == nil {
				return nil
			}
		}
	}
	err = c.Resource(kubernetes.Namespaces).Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or another one by now
	}
	return fmt.Errorf("the namespace %s is left behind (`sherd cleanup` removes it): %w", name, c.Explain(err, "delete", kubernetes.Namespaces, "", ""))
}
