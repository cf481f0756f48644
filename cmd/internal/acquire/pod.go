package acquire

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/distroless"
)

// kubelets are the runtimes by which kubelets run pods.
var kubelets = []string{"containerd", "docker"}

// InPods lists the containers here that their runtime knows as those of a Kubernetes pod, the newest last. It is no error that a runtime is
// not there, unless none is.
func (p *Places) InPods(ctx context.Context) ([]*target.Container, error) {
	var out []*target.Container
	var errs []error
	for _, scheme := range kubelets {
		cs, err := p.list(ctx, scheme)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, c := range cs {
			same := func(o *target.Container) bool { return o.ID == c.ID }
			if c.Pod != nil && c.Pod.Container != "" && c.Labels["io.cri-containerd.kind"] != "sandbox" && !slices.ContainsFunc(out, same) {
				out = append(out, c)
			}
		}
	}
	if len(errs) == len(kubelets) {
		return nil, errors.Join(errs...)
	}
	slices.SortStableFunc(out, func(a, b *target.Container) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

func (p *Places) list(ctx context.Context, scheme string) (_ []*target.Container, err error) {
	rt, err := p.open(scheme)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rt.Close()) }()
	return rt.List(ctx)
}

// Judge says of a listed container whether it is distroless; nil if its files can't be read.
func (p *Places) Judge(c *target.Container) *target.Distroless {
	if c.Distroless != nil {
		return c.Distroless
	}
	return distroless.Judge(c, p.HostRoot)
}
