// Package containerd finds the containers of a containerd daemon, version 1.3 and later, through its API, in all of its
// namespaces: those that Kubernetes, Docker, nerdctl or ctr started. It only reads: no snapshot, lease or view is made.
package containerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/procfs"
)

// Runtime is one containerd daemon.
type Runtime struct {
	places    target.Places
	api       *conn
	kernel    *procfs.Runtime // nil when /proc can't be read
	namespace string          // the only one to look into, "" for all
	confined  string          // where that choice came from
}

var _ target.Runtime = (*Runtime)(nil)

// usual are the sockets of containerd itself, k3s, RKE2, k0s, MicroK8s, and of the one that Docker starts when there is none.
var usual = []string{"/run/containerd/containerd.sock", "/var/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock",
	"/run/k0s/containerd.sock", "/var/snap/microk8s/common/run/containerd.sock", "/run/docker/containerd/containerd.sock",
	"/var/run/docker/containerd/containerd.sock"}

// New finds containerd's socket and checks that something listens there. The error is a *target.SilentError if nothing does.
func New(p target.Places) (*Runtime, error) { return open(p, usual) }

// NewFor finds the containerd that another runtime uses: the one that it started itself comes first.
func NewFor(p target.Places, runtime string) (*Runtime, error) {
	places := slices.Clone(usual)
	if runtime == "Docker" {
		slices.Reverse(places)
	}
	return open(p, places)
}

func open(p target.Places, places []string) (*Runtime, error) {
	r := &Runtime{places: p, namespace: p.ContainerdNamespace, confined: "--containerd-namespace"}
	if r.namespace == "" {
		r.namespace, r.confined = os.Getenv("CONTAINERD_NAMESPACE"), "CONTAINERD_NAMESPACE"
	}
	var cs []target.Candidate
	if p.ContainerdAddress != "" {
		cs = append(cs, target.Candidate{Path: strings.TrimPrefix(p.ContainerdAddress, "unix://"), From: "--containerd-address"})
	} else if a := os.Getenv("CONTAINERD_ADDRESS"); a != "" {
		cs = append(cs, target.Candidate{Path: strings.TrimPrefix(a, "unix://"), From: "CONTAINERD_ADDRESS"})
	}
	for _, s := range places {
		cs = append(cs, target.Candidate{Path: s})
	}
	ctx, cancel := context.WithTimeout(context.Background(), target.Asking)
	defer cancel()
	at, err := p.FindSocket(ctx, "containerd", cs)
	if err != nil {
		return nil, err
	}
	r.api = dial(at)
	if k, err := procfs.New(p); err == nil {
		r.kernel = k
	}
	return r, nil
}

// Scheme is "containerd".
func (r *Runtime) Scheme() string { return "containerd" }

// Close ends the connection.
func (r *Runtime) Close() error {
	r.api.close()
	return nil
}

// found is a container with its task, if it has one.
type found struct {
	containerRecord
	namespace string
	task      *taskRecord
}

func (r *Runtime) failed(what string, err error) error {
	var silent *target.SilentError
	if errors.As(err, &silent) {
		return err
	}
	return fmt.Errorf("containerd at %s: %s: %w", r.api.socket, what, err)
}

// all reads the containers of every namespace that is to be looked into.
func (r *Runtime) all(ctx context.Context, only string) ([]found, error) {
	namespaces := []string{only}
	if only == "" {
		var err error
		if namespaces, err = r.api.namespaces(ctx); err != nil {
			return nil, r.failed("listing namespaces", err)
		}
	}
	var out []found
	for _, ns := range namespaces {
		cs, err := r.api.containers(ctx, ns)
		if err != nil {
			return nil, r.failed("listing the containers of namespace "+ns, err)
		}
		if len(cs) == 0 {
			continue
		}
		tasks, err := r.api.tasks(ctx, ns)
		if err != nil {
			return nil, r.failed("listing the tasks of namespace "+ns, err)
		}
		for _, c := range cs {
			f := found{containerRecord: c, namespace: ns}
			if t, ok := tasks[c.id]; ok {
				f.task = &t
			}
			out = append(out, f)
		}
	}
	return out, nil
}

// List gives the containers of all namespaces.
func (r *Runtime) List(ctx context.Context) ([]*target.Container, error) {
	all, err := r.all(ctx, r.namespace)
	if err != nil {
		return nil, err
	}
	var out []*target.Container
	images := album{}
	for _, f := range all {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		img, note := r.imageOf(ctx, f, images)
		c := r.fill(ctx, f, img)
		if note != "" {
			c.Warn(note)
		}
		out = append(out, c)
	}
	return out, nil
}

// Find takes NAMESPACE/ID, or an id, a name from the labels, or the beginning of an id, when only one container has it.
func (r *Runtime) Find(ctx context.Context, ref string) (*target.Container, error) {
	ref = strings.Trim(ref, "/")
	ns, id, both := strings.Cut(ref, "/")
	if !both {
		ns, id = r.namespace, ref
	}
	all, err := r.all(ctx, ns)
	if err != nil {
		return nil, err
	}
	f, err := pick(all, id, ref)
	if err != nil {
		return nil, r.elsewhere(ctx, err, ns, id, both)
	}
	img, note := r.imageOf(ctx, f, album{})
	c := r.fill(ctx, f, img)
	if note != "" {
		c.Warn(note)
	}
	r.records(c, f, img)
	return c, nil
}

// nameOf is what a person calls the container: the name inside its pod, nerdctl's name, or its id.
func nameOf(f found) string {
	return cmp.Or(f.labels["io.kubernetes.container.name"], f.labels["nerdctl/name"], f.id)
}

// pick chooses by id, then by name, then by the beginning of an id.
func pick(all []found, id, ref string) (found, error) {
	var names []string
	for _, by := range []func(found) bool{
		func(f found) bool { return f.id == id },
		func(f found) bool { return nameOf(f) == id },
		func(f found) bool { return id != "" && strings.HasPrefix(f.id, id) },
	} {
		var hits []found
		for _, f := range all {
			if by(f) {
				hits = append(hits, f)
			}
		}
		if len(hits) == 1 {
			return hits[0], nil
		}
		if len(hits) > 1 {
			var where []string
			for _, f := range hits[:min(len(hits), 6)] {
				where = append(where, "containerd://"+f.namespace+"/"+f.id)
			}
			return found{}, fmt.Errorf("%d containers of containerd answer to %q: %s; name one of them", len(hits), ref, strings.Join(where, ", "))
		}
	}
	for _, f := range all {
		if f.task == nil || f.task.status == taskStopped { // the error calls them running
			continue
		}
		names = append(names, f.id)
		if n := nameOf(f); n != f.id {
			names = append(names, n)
		}
	}
	return found{}, &target.NotFoundError{Runtime: "containerd", Ref: ref, Near: target.Near(id, names), Others: len(all)}
}

// elsewhere adds to a NotFoundError which other namespaces have the container.
func (r *Runtime) elsewhere(ctx context.Context, err error, ns, id string, asked bool) error {
	var nf *target.NotFoundError
	if !errors.As(err, &nf) || ns == "" {
		return err
	}
	all, lerr := r.all(ctx, "")
	if lerr != nil {
		return err
	}
	f, perr := pick(all, id, id)
	if perr != nil {
		return err
	}
	where := ns
	if !asked {
		where += " (from " + r.confined + ")"
	}
	return &elsewhereError{fmt.Sprintf("namespace %s of containerd has no container %q, but %s has: containerd://%s/%s", where, id, f.namespace, f.namespace, f.id), nf}
}

// elsewhereError is a NotFoundError that knows better.
type elsewhereError struct {
	text string
	nf   *target.NotFoundError
}

func (e *elsewhereError) Error() string { return e.text }
func (e *elsewhereError) Unwrap() error { return e.nf }
