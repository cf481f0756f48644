package contain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// manager is the name by which the server notes what was changed.
const manager = "sherd"

// explain tells a right that is missing from a refusal by admission: both are Forbidden.
func explain(c *kubernetes.Cluster, err error, verb string, gvr schema.GroupVersionResource, namespace string) error {
	if apierrors.IsForbidden(err) && !strings.Contains(err.Error(), "cannot "+verb+" resource") {
		return fmt.Errorf("the cluster's admission refuses it: %w", err)
	}
	return c.Explain(err, verb, gvr, "", namespace)
}

// brief is an error for a warning: without what would grant a right.
func brief(err error) string {
	var denied *kubernetes.DeniedError
	if errors.As(err, &denied) {
		words, _, _ := strings.Cut(denied.Error(), ". Who administers")
		return words
	}
	return err.Error()
}

// edit is what a patch changes: nil takes a key away.
type edit struct {
	labels, annotations map[string]*string
	spec                map[string]any
}

func (e edit) empty() bool { return len(e.labels)+len(e.annotations)+len(e.spec) == 0 }

// document is the edit as a JSON merge patch that the server takes only if the object is still the one that was looked at.
func (e edit) document(m metav1.Object) ([]byte, error) {
	meta := map[string]any{"uid": m.GetUID(), "resourceVersion": m.GetResourceVersion()}
	if len(e.labels) > 0 {
		meta["labels"] = e.labels
	}
	if len(e.annotations) > 0 {
		meta["annotations"] = e.annotations
	}
	doc := map[string]any{"metadata": meta}
	if len(e.spec) > 0 {
		doc["spec"] = e.spec
	}
	return json.Marshal(doc)
}

// changes are the edit for people.
func (e edit) changes(m metav1.Object) []string {
	var out []string
	one := func(kind string, edits map[string]*string, have map[string]string) {
		for _, k := range slices.Sorted(maps.Keys(edits)) {
			old, there := have[k]
			before, after := "none", "none"
			if there {
				before = old
			}
			if v := edits[k]; v != nil {
				after = *v
			}
			if k == RecordKey {
				before, after = noteOf(there), noteOf(edits[k] != nil)
			}
			if before != after {
				out = append(out, fmt.Sprintf("%s %s: %s → %s", kind, k, before, after))
			}
		}
	}
	one("label", e.labels, m.GetLabels())
	one("annotation", e.annotations, m.GetAnnotations())
	for _, k := range slices.Sorted(maps.Keys(e.spec)) {
		after := "none"
		if v := e.spec[k]; v != nil {
			after = fmt.Sprint(v)
		}
		out = append(out, "spec."+k+" → "+after)
	}
	return out
}

func noteOf(there bool) string {
	if there {
		return "what was before"
	}
	return "none"
}

// attempts is how often a change is made anew because somebody else was faster.
const attempts = 6

// patch changes an object: compute is given it as it is now, and is asked again when it has changed in between. What was sent goes into step.
func patch(ctx context.Context, c *kubernetes.Cluster, gvr schema.GroupVersionResource, namespace, name string, dry bool, step *Step,
	compute func(u *unstructured.Unstructured) (edit, error)) error {
	r := c.Resource(gvr).Namespace(namespace)
	for n := 0; ; n++ {
		u, err := r.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return explain(c, err, "get", gvr, namespace)
		}
		e, err := compute(u)
		if err != nil || e.empty() {
			return err
		}
		doc, err := e.document(u)
		if err != nil {
			return err
		}
		step.Request = "PATCH " + gvr.Resource + " " + strings.TrimPrefix(namespace+"/"+name, "/")
		step.Document, step.Changes = doc, e.changes(u)
		o := metav1.PatchOptions{FieldManager: manager}
		if dry {
			o.DryRun = []string{metav1.DryRunAll}
		}
		_, err = r.Patch(ctx, name, types.MergePatchType, doc, o)
		if apierrors.IsConflict(err) && n < attempts {
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		return explain(c, err, "patch", gvr, namespace)
	}
}

func podOf(u *unstructured.Unstructured) (*corev1.Pod, error) {
	p := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, p); err != nil {
		return nil, fmt.Errorf("pod %s/%s can't be read: %w", u.GetNamespace(), u.GetName(), err)
	}
	return p, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// until asks again and again until something is so: ok is told by an error of nil, not yet by errStill. It returns errStill if the time is over.
func until(ctx context.Context, limit time.Duration, ask func() error) error {
	for end := time.Now().Add(limit); ; {
		err := ask()
		if !errors.Is(err, errStill) || time.Now().After(end) {
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}
