// Package surroundings asks a cluster's API server what stands around a container: its pod, the owners, node, namespace and account, what
// the account may do, who reaches the pod, what it refers to, what admission asks about it, and where else its image runs. All
// questions only read. What can't be had is said, with the right that is missing; a capture does not depend on any of it.
package surroundings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// Document is something that the API server says of a container's surroundings, or that was worked out from it.
type Document struct {
	Name   string // a file's name: "pod.json"
	Origin string // the question
	Data   []byte // JSON
}

const (
	// maxOwners bounds the chain from a pod to its topmost owner.
	maxOwners = 6
	// maxEvents is how many events about a pod are asked for.
	maxEvents = 500
	// maxDocument and maxAll bound one document and all of them: they travel to the collector in one request.
	maxDocument = 4 << 20
	maxAll      = 20 << 20
	// atOnce is how many questions of one capture are open at the same time.
	atOnce = 8
)

// gatherer asks for the surroundings of one container.
type gatherer struct {
	ctx  context.Context
	c    *kubernetes.Cluster
	i    *kubernetes.Instance
	pod  *corev1.Pod
	slot chan struct{}
}

// part is what one line of questions gave.
type part struct {
	docs   []Document
	missed []string
}

// Collect gives the documents in a fixed order. What could not be had is in missed, with its reason.
func Collect(ctx context.Context, c *kubernetes.Cluster, i *kubernetes.Instance) (docs []Document, missed []string) {
	g := &gatherer{ctx, c, i, i.Pod, make(chan struct{}, atOnce)}
	lines := []func(*part){g.itself, g.owners, g.place, g.permissions, g.exposure, g.refers, g.quota, g.admission, g.siblings}
	parts := make([]part, len(lines))
	together(len(lines), func(n int) { lines[n](&parts[n]) })
	left := maxAll
	for _, p := range parts {
		missed = append(missed, p.missed...)
		for _, d := range p.docs {
			if left -= len(d.Data); left < 0 {
				missed = append(missed, fmt.Sprintf("the cluster's %s: what is around the container has more than %d MiB", d.Name, maxAll>>20))
				left += len(d.Data)
				continue
			}
			docs = append(docs, d)
		}
	}
	return docs, missed
}

// together runs fn for each number below n, all at the same time.
func together(n int, fn func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}

// miss notes what could not be had.
func (p *part) miss(what string, err error) {
	if err != nil {
		p.missed = append(p.missed, fmt.Sprintf("the cluster's %s: %v", what, err))
	}
}

// put adds a document.
func (p *part) put(name, origin string, o any) {
	b, err := json.MarshalIndent(o, "", "  ")
	switch {
	case err != nil:
		p.miss(name, err)
	case len(b) > maxDocument:
		p.miss(name, fmt.Errorf("it has %d MiB, more than %d", len(b)>>20, maxDocument>>20))
	default:
		p.docs = append(p.docs, Document{Name: name, Origin: origin, Data: append(b, '\n')})
	}
}

// objects adds objects as one list, as many as a document holds.
func (p *part) objects(name, what string, list []unstructured.Unstructured) {
	items, size := []any{}, 0
	for i := range list {
		b, err := json.Marshal(list[i].Object)
		if err != nil {
			p.miss(what, err)
			continue
		}
		// Indenting makes them longer: twice is more than any real object needs.
		if size += 2 * len(b); size > maxDocument {
			p.miss(what, fmt.Errorf("%d of %d are left out: a document holds at most %d MiB", len(list)-i, len(list), maxDocument>>20))
			break
		}
		items = append(items, list[i].Object)
	}
	p.put(name, "GET "+what+" of the API server", map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
}

// get asks for one object. Of many that ask the same at once, one does.
func (g *gatherer) get(gvr schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	g.slot <- struct{}{}
	defer func() { <-g.slot }()
	return g.c.Get(g.ctx, gvr, namespace, name)
}

// list asks for all objects of a kind.
func (g *gatherer) list(gvr schema.GroupVersionResource, namespace string) ([]unstructured.Unstructured, error) {
	g.slot <- struct{}{}
	defer func() { <-g.slot }()
	return g.c.List(g.ctx, gvr, namespace)
}

// wide lists a kind in the whole cluster, and in the pod's namespace alone if the cluster is denied. errs are what was missed.
func (g *gatherer) wide(gvr schema.GroupVersionResource) (list []unstructured.Unstructured, errs []error) {
	list, err := g.list(gvr, "")
	if err == nil {
		return list, nil
	}
	var denied *kubernetes.DeniedError
	if !errors.As(err, &denied) {
		return list, []error{err}
	}
	list, again := g.list(gvr, g.pod.Namespace)
	if again != nil {
		return list, []error{err, again}
	}
	return list, []error{err}
}

// short is an error's first line: documents need not hold how a right is granted.
func short(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	s, _, _ = strings.Cut(s, ". Who administers")
	return s
}

func shorts(errs []error) (out []string) {
	for _, err := range errs {
		out = append(out, short(err))
	}
	return out
}

// typed gives objects as what they are. Those that can't be read are missed.
func typed[T any](p *part, what string, list []unstructured.Unstructured) []T {
	out := make([]T, 0, len(list))
	for i := range list {
		var t T
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list[i].Object, &t); err != nil {
			p.miss(what, fmt.Errorf("%s/%s can't be read: %w", list[i].GetNamespace(), list[i].GetName(), err))
			continue
		}
		out = append(out, t)
	}
	return out
}

// itself is the pod as the server sent it when it was found, not as it is by now, and the events about it.
func (g *gatherer) itself(p *part) {
	name := g.pod.Namespace + "/" + g.pod.Name
	if len(g.i.Raw) > 0 {
		p.put("pod.json", "GET pods "+name+" of the API server", json.RawMessage(g.i.Raw))
	} else {
		p.miss("pods "+name, errors.New("the API server knows it no more; what its node still has was captured"))
	}
	g.slot <- struct{}{}
	defer func() { <-g.slot }()
	events, err := g.c.Resource(kubernetes.Events).Namespace(g.pod.Namespace).List(g.ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.uid=" + string(g.pod.UID), Limit: maxEvents})
	if err != nil {
		p.miss("events about "+name, g.c.Explain(err, "list", kubernetes.Events, "", g.pod.Namespace))
		return
	}
	p.put("events.json", "GET events about "+name+" of the API server", events)
	if events.GetContinue() != "" {
		p.miss("events about "+name, fmt.Errorf("there are more than %d", maxEvents))
	}
}

// document asks for an object and adds it as it is.
func (g *gatherer) document(p *part, name string, gvr schema.GroupVersionResource, namespace, object string) *unstructured.Unstructured {
	what := gvr.Resource + " " + object
	if namespace != "" {
		what = gvr.Resource + " " + namespace + "/" + object
	}
	u, err := g.get(gvr, namespace, object)
	if err != nil {
		p.miss(what, err)
		return nil
	}
	p.put(name, "GET "+what+" of the API server", u)
	return u
}

// owners are the pod's, up to the topmost.
func (g *gatherer) owners(p *part) {
	owners := g.pod.OwnerReferences
	for n := range maxOwners {
		owner := metav1.GetControllerOfNoCopy(&metav1.ObjectMeta{OwnerReferences: owners})
		if owner == nil || owner.Kind == "Node" { // of a static pod: the node is asked for anyway
			return
		}
		gvr, known := kubernetes.WorkloadOf(owner)
		if !known {
			p.missed = append(p.missed, fmt.Sprintf("the cluster's %s %q, which owns the pod: that kind is not asked for", owner.Kind, owner.Name))
			return
		}
		u := g.document(p, fmt.Sprintf("owner-%d.json", n+1), gvr, g.pod.Namespace, owner.Name)
		if u == nil {
			return
		}
		owners = u.GetOwnerReferences()
	}
}

// place is where the pod is, and as whom.
func (g *gatherer) place(p *part) {
	if g.pod.Spec.NodeName != "" {
		g.document(p, "node.json", kubernetes.Nodes, "", g.pod.Spec.NodeName)
	}
	g.document(p, "namespace.json", kubernetes.Namespaces, "", g.pod.Namespace)
	if name := g.pod.Spec.ServiceAccountName; name != "" {
		g.document(p, "serviceaccount.json", kubernetes.ServiceAccounts, g.pod.Namespace, name)
	}
}

// absent reports whether an object or a kind is not there.
func absent(err error) bool { return apierrors.IsNotFound(err) }
