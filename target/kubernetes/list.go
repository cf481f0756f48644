package kubernetes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

const (
	// maxObjects bounds how many of a kind are kept of one list.
	maxObjects = 20_000
	// fresh is how long an answer serves others who ask the same: containers that are captured together have most of their
	// surroundings in common.
	fresh = time.Minute
)

// answers are what the server said a moment ago, each asked for once however many want it at the same time.
type answers struct {
	mu sync.Mutex
	of map[string]*answer
}

type answer struct {
	done chan struct{}
	at   time.Time
	got  any
	err  error
}

// once gives what ask gives, or gave to somebody else a moment ago. A question that was cancelled with its asker's context is asked again.
func (a *answers) once(ctx context.Context, key string, ask func() (any, error)) (any, error) {
	for {
		a.mu.Lock()
		if a.of == nil {
			a.of = map[string]*answer{}
		}
		w, ok := a.of[key]
		if !ok || !w.at.IsZero() && time.Since(w.at) > fresh {
			w = &answer{done: make(chan struct{})}
			a.of[key] = w
			a.mu.Unlock()
			got, err := ask()
			a.mu.Lock()
			w.got, w.err, w.at = got, err, time.Now()
			if !lasting(err) {
				delete(a.of, key)
			}
			a.mu.Unlock()
			close(w.done)
			return got, err
		}
		a.mu.Unlock()
		select {
		case <-w.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if w.err != nil && errors.Is(w.err, context.Canceled) && ctx.Err() == nil {
			continue // its asker gave up, not we
		}
		return w.got, w.err
	}
}

// lasting reports whether who asks again would hear the same: a right that is missing, an object that is not there.
func lasting(err error) bool {
	var denied *DeniedError
	var cut *TruncatedError
	return err == nil || apierrors.IsNotFound(err) || errors.As(err, &denied) || errors.As(err, &cut)
}

// TruncatedError says that there are more objects than are looked at.
type TruncatedError struct {
	Resource string
	Kept     int
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("the cluster has more than %d %s: the others were not looked at", e.Kept, e.Resource)
}

// each calls fn with every object of a kind, page by page. A list that grew too old in between is begun again, after begin.
func (c *Cluster) each(ctx context.Context, gvr schema.GroupVersionResource, namespace string, o metav1.ListOptions, begin func(), fn func([]unstructured.Unstructured)) error {
	o.Limit = pageSize
	n := 0
	for again := 0; ; {
		l, err := c.dynamic.Resource(gvr).Namespace(namespace).List(ctx, o)
		if apierrors.IsResourceExpired(err) && again < 3 {
			again++
			o.Continue, n = "", 0
			begin()
			continue
		}
		if err != nil {
			return c.Explain(err, "list", gvr, "", namespace)
		}
		for i := range l.Items { // lists leave it out where it is the list's own
			if l.Items[i].GetKind() == "" && len(l.GetKind()) > len("List") {
				l.Items[i].SetKind(l.GetKind()[:len(l.GetKind())-len("List")])
				l.Items[i].SetAPIVersion(l.GetAPIVersion())
			}
		}
		fn(l.Items)
		n += len(l.Items)
		if o.Continue = l.GetContinue(); o.Continue == "" {
			return nil
		}
		if n >= maxObjects {
			return &TruncatedError{Resource: gvr.Resource, Kept: n}
		}
	}
}

// List gives all objects of a kind in a namespace, or of the cluster, by namespace and name. The answer serves everybody who asks within a
// minute, and must not be changed. A *TruncatedError comes with those that were looked at.
func (c *Cluster) List(ctx context.Context, gvr schema.GroupVersionResource, namespace string) ([]unstructured.Unstructured, error) {
	got, err := c.known.once(ctx, "list "+gvr.String()+" "+namespace, func() (any, error) {
		var out []unstructured.Unstructured
		err := c.each(ctx, gvr, namespace, metav1.ListOptions{}, func() { out = nil }, func(page []unstructured.Unstructured) { out = append(out, page...) })
		slices.SortStableFunc(out, func(a, b unstructured.Unstructured) int {
			return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
		})
		return out, err
	})
	list, _ := got.([]unstructured.Unstructured)
	return list, err
}

// Get gives one object. Like that of List, the answer serves others.
func (c *Cluster) Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	got, err := c.known.once(ctx, "get "+gvr.String()+" "+namespace+"/"+name, func() (any, error) {
		u, err := c.dynamic.Resource(gvr).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		return u, c.Explain(err, "get", gvr, "", namespace)
	})
	u, _ := got.(*unstructured.Unstructured)
	if err != nil {
		return nil, err
	}
	return u, nil
}

// Running is a container that runs now, with what tells it from others of its image.
type Running struct {
	Namespace, Pod, Container, Node, ID, Digest, Account, Started string
}

// Running gives the running containers of a namespace, or of the cluster, by namespace, pod and order in the pod. Of a large cluster only this is
// kept, not the pods.
func (c *Cluster) Running(ctx context.Context, namespace string) ([]Running, error) {
	got, err := c.known.once(ctx, "running "+namespace, func() (any, error) {
		var out []Running
		err := c.each(ctx, Pods, namespace, metav1.ListOptions{}, func() { out = nil }, func(page []unstructured.Unstructured) {
			for i := range page {
				out = append(out, running(&page[i])...)
			}
		})
		slices.SortStableFunc(out, func(a, b Running) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod))
		})
		return out, err
	})
	list, _ := got.([]Running)
	return list, err
}

func running(u *unstructured.Unstructured) (out []Running) {
	is, err := instances(*u)
	if err != nil {
		return nil // one that can't be read is no sibling that could be named
	}
	for _, i := range is {
		if i.State != "running" {
			continue
		}
		r := Running{Namespace: i.Pod.Namespace, Pod: i.Pod.Name, Container: i.Container, Node: i.Pod.Spec.NodeName, ID: i.ID, Digest: i.Digest(), Account: i.Pod.Spec.ServiceAccountName}
		if t := i.Started; !t.IsZero() {
			r.Started = t.UTC().Format(time.RFC3339)
		}
		out = append(out, r)
	}
	return out
}

// Versions gives those of a group of the API that the server has, none if it has no such group. Everybody who is known to the server may ask.
func (c *Cluster) Versions(ctx context.Context, group string) ([]string, error) {
	got, err := c.known.once(ctx, "group "+group, func() (any, error) {
		u, _, err := rest.DefaultServerUrlFor(c.Config)
		if err != nil {
			return nil, err
		}
		client, err := rest.HTTPClientFor(c.Config)
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("apis", group).String(), nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, c.Explain(err, "get", schema.GroupVersionResource{Group: group}, "", "")
		}
		defer resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
		case http.StatusNotFound:
			return nil, nil
		default:
			return nil, fmt.Errorf("asking which versions of %s the server has: %s", group, resp.Status)
		}
		var g metav1.APIGroup
		if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&g); err != nil {
			return nil, fmt.Errorf("asking which versions of %s the server has: %w", group, err)
		}
		var out []string
		for _, v := range g.Versions {
			out = append(out, v.Version)
		}
		return out, nil
	})
	list, _ := got.([]string)
	return list, err
}
