package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sherd-forensics/sherd/collect/cluster"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// targets finds the containers that arguments and flags mean. Pods that the API server does not know (any more) are looked for on the nodes
// themselves, where that was asked for: a kubelet takes a while to remove what was deleted, and does not know what it did not start.
func (k *clusterCapture) targets(ctx context.Context, refs []kubernetes.Ref, chosen *selectFlags) ([]*kubernetes.Instance, error) {
	if len(refs) == 0 {
		return k.a.clusterTargets(ctx, k.c, nil, chosen)
	}
	var out []*kubernetes.Instance
	var gone []kubernetes.Ref
	seen := map[string]bool{}
	for i, r := range refs {
		found, err := k.a.clusterTargets(ctx, k.c, refs[i:i+1], nil)
		var unknown *target.NotFoundError
		switch {
		case errors.As(err, &unknown) && r.Kind == nil && (chosen.node != "" || chosen.search):
			gone = append(gone, r)
		case errors.As(err, &unknown) && r.Kind == nil:
			return nil, fmt.Errorf("%w\nWhat is left of a deleted pod may still be on its node: name that with --node, or have all asked with --search-nodes", err)
		case err != nil:
			return nil, err
		}
		for _, i := range found {
			if !seen[i.URL()] {
				seen[i.URL()] = true
				out = append(out, i)
			}
		}
	}
	if len(gone) == 0 {
		return out, nil
	}
	left, err := k.onNodes(ctx, gone, chosen)
	if err != nil {
		return nil, err
	}
	return append(out, left...), nil
}

// onNodes asks nodes for what they have of pods.
func (k *clusterCapture) onNodes(ctx context.Context, gone []kubernetes.Ref, chosen *selectFlags) ([]*kubernetes.Instance, error) {
	nodes := []string{chosen.node}
	if chosen.node == "" {
		l, err := k.c.Resource(kubernetes.Nodes).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, k.c.Explain(err, "list", kubernetes.Nodes, "", "")
		}
		nodes = nil
		for i := range l.Items {
			nodes = append(nodes, l.Items[i].GetName())
		}
	}
	p := k.a.progress(nil)
	defer p.Done()
	o, err := k.f.collectors(k.a, p.Stage)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	of := map[string]*kubernetes.Instance{}
	var failed []error
	err = cluster.Each(ctx, k.c, nodes, o, k.f.limits, func(n int, s *cluster.Session, err error) {
		for _, r := range gone {
			var found relay.Found
			if err == nil {
				err = s.Ask(ctx, relay.Request{Ask: relay.AskPods, Expect: &relay.Expect{Namespace: r.Namespace, Pod: r.Name, Container: r.Container}}, &found)
			}
			mu.Lock()
			for _, f := range found.Containers { // the newest last
				if i := leftover(nodes[n], f); i != nil {
					of[i.URL()] = i
				}
			}
			mu.Unlock()
		}
		if err != nil {
			mu.Lock()
			failed = append(failed, err)
			mu.Unlock()
		}
	})
	if err != nil {
		return nil, err
	}
	p.Done()
	var names []string
	for _, r := range gone {
		names = append(names, "k8s://"+r.String())
		prefix := "k8s://" + r.Namespace + "/" + r.Name + "/"
		if !slices.ContainsFunc(keys(of), func(url string) bool { return strings.HasPrefix(url, prefix) }) {
			return nil, errors.Join(fmt.Errorf("the API server knows no pod %s/%s, and nothing of it was found on %s", r.Namespace, r.Name, strings.Join(nodes, ", ")), errors.Join(failed...))
		}
	}
	for _, err := range failed {
		k.a.note("not asked: %v", err)
	}
	k.a.note("%s: the API server knows this no more; what its node still has is captured", strings.Join(names, ", "))
	var out []*kubernetes.Instance
	for _, url := range keys(of) {
		out = append(out, of[url])
	}
	return out, nil
}

func keys(m map[string]*kubernetes.Instance) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// leftover is a container that only its node still knows; nil if its labels, which anybody may have set there, are not names.
func leftover(node string, f relay.FoundContainer) *kubernetes.Instance {
	scheme, id, ok := strings.Cut(f.Target, "://")
	if scheme == "containerd" {
		id, ok = strings.CutPrefix(id, "k8s.io/")
	}
	_, err := kubernetes.ParseRef(f.Namespace + "/" + f.Pod + "/" + f.Container)
	if !ok || err != nil {
		return nil
	}
	i := &kubernetes.Instance{Container: f.Container, Role: kubernetes.App, ID: scheme + "://" + id, Image: f.Image, State: target.State(printable.Text(f.State))}
	if f.Digest != "" {
		i.ImageID = f.Image + "@" + f.Digest
	}
	i.Pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: f.Namespace, Name: f.Pod, UID: types.UID(f.UID)}}
	i.Pod.Spec.NodeName = node
	i.Pod.Spec.Containers = []corev1.Container{{Name: f.Container, Image: f.Image}}
	return i
}
