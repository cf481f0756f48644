package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"strings"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"github.com/sherd-forensics/sherd/cmd/internal/acquire"
	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/collect/cluster"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// clusterFlags say which cluster, and how collectors run there.
type clusterFlags struct {
	kubernetes.Access
	namespace, image, pull string
	secrets                []string
	deadline, start        time.Duration
}

func (f *clusterFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.Kubeconfig, "kubeconfig", "", "kubeconfig `FILE` (default $KUBECONFIG, then ~/.kube/config, then the pod's own account)")
	fs.StringVar(&f.Context, "context", "", "`CONTEXT` of the kubeconfig")
	fs.StringVar(&f.As, "as", "", "`USER` to impersonate in the cluster")
	fs.StringVar(&f.namespace, "sherd-namespace", "sherd", "`NAMESPACE` of Sherd's own in the cluster; made for the capture if it is not there")
	fs.StringVar(&f.image, "collector-image", "sherd-forensics/sherd-collector:"+version, "`IMAGE` of the collector, as the node pulls it")
	fs.StringVar(&f.pull, "collector-pull", "IfNotPresent", "when the node pulls it: Always, IfNotPresent or Never")
	fs.StringArrayVar(&f.secrets, "collector-pull-secret", nil, "`SECRET` of Sherd's namespace to pull it with (repeatable)")
	fs.DurationVar(&f.deadline, "collector-deadline", 30*time.Minute, "when the cluster ends a collector, whatever it does")
	fs.DurationVar(&f.start, "collector-start", 90*time.Second, "how long a collector may take to come up")
}

func (f *clusterFlags) options(a *app, stage func(string)) (cluster.Options, error) {
	switch corev1.PullPolicy(f.pull) {
	case corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		return cluster.Options{}, usagef("--collector-pull is Always, IfNotPresent or Never, not %q", f.pull)
	}
	return cluster.Options{Namespace: f.namespace, Image: f.image, Pull: corev1.PullPolicy(f.pull), Secrets: f.secrets, Deadline: f.deadline, Start: f.start,
		ContainerdAddress: a.places.ContainerdAddress, Stage: stage}, nil
}

// captureKubernetes takes one container of a cluster into a package.
func (a *app) captureKubernetes(ctx context.Context, ref target.Ref, f *captureFlags) (_ *captured, err error) {
	kref, err := kubernetes.ParseRef(ref.Rest)
	if err != nil {
		return nil, &usageError{err}
	}
	c, err := kubernetes.Connect(a.cluster.Access)
	if err != nil {
		return nil, err
	}
	found, err := c.Find(ctx, kubernetes.Query{Ref: &kref})
	if err != nil {
		return nil, err
	}
	if len(found) > 1 {
		var names []string
		for _, i := range found {
			names = append(names, i.URL())
		}
		return nil, usagef("%s has %d containers, name one: %s", ref, len(found), strings.Join(names, ", "))
	}
	i := found[0]
	at, err := nodeTarget(i)
	if err != nil {
		return nil, err
	}
	p := a.progress(nil)
	defer p.Done()
	o, err := a.cluster.options(a, p.Stage)
	if err != nil {
		return nil, err
	}
	key, err := f.SigningKey()
	if err != nil {
		return nil, err
	}
	s, err := cluster.Start(ctx, c, i.Pod.Spec.NodeName, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	out, path, err := a.destination(f.output, &target.Container{Name: i.Pod.Namespace + "-" + i.Pod.Name + "-" + i.Container})
	if err != nil {
		return nil, err
	}
	res, err := s.Capture(ctx, relay.Request{
		Target: at, URL: i.URL(), Capture: relay.Capture{Memory: f.Memory, Freeze: f.Freeze, WithSecrets: f.WithSecrets, EncryptTo: f.EncryptTo},
		Records: []relay.Record{{Name: "kubernetes/pod.json", Origin: "GET pod from the API server", Data: indentedJSON(i.Raw)}},
	}, out, p.Stage)
	p.Done()
	if err != nil {
		return nil, errors.Join(err, out.Abort())
	}
	return &captured{path: path, node: res, container: &target.Container{URL: i.URL(), Name: i.Pod.Name}}, a.finish(ctx, out, path, key, res, ref)
}

func indentedJSON(raw []byte) []byte {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return raw
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return raw
	}
	return b
}

// nodeTarget is the container as its node's runtime names it.
func nodeTarget(i *kubernetes.Instance) (string, error) {
	runtime, id, ok := strings.Cut(i.ID, "://")
	switch {
	case i.ID == "":
		return "", fmt.Errorf("%s has not been started yet (%s): there is nothing to take", i.URL(), printable.Text(i.Reason))
	case i.Pod.Spec.NodeName == "":
		return "", fmt.Errorf("%s is on no node yet", i.URL())
	case ok && runtime == "containerd":
		return "containerd://k8s.io/" + id, nil
	case ok && runtime == "docker":
		return "docker://" + id, nil
	}
	return "", fmt.Errorf("%s runs under %q, which a collector does not know yet: known are containerd and docker", i.URL(), printable.Text(runtime))
}

// finish signs what came and puts it under its name.
func (a *app) finish(ctx context.Context, out sink, path string, key *evidence.Key, res *relay.Result, ref target.Ref) error {
	sum := res.SHA256
	if path != "-" {
		again, err := evidence.Resign(ctx, evidence.PartialPath(path), key, res.KeyID)
		switch {
		case errors.Is(err, evidence.ErrEncrypted):
		case err != nil:
			return errors.Join(fmt.Errorf("the package that came is not the one that the collector sealed: %w", err), out.Abort())
		default:
			sum = again
		}
	}
	if err := out.Commit(); err != nil {
		return err
	}
	if path != "-" {
		if err := acquire.Handled(path, "collected", tool, res.ID, sum, ref.String()); err != nil {
			a.note("custody not recorded: %v", err)
		}
	}
	if res.Stopped != "" {
		return fmt.Errorf("the capture was stopped; what was taken until then is sealed in %s: %s", printable.Text(path), printable.Text(res.Stopped))
	}
	return nil
}

func (c *captured) nodeSummary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "● %s\n  %s  %s", printable.Text(c.container.URL), console.Plural(c.node.Processes, "process"), console.Plural(c.node.Artifacts, "artifact"))
	if c.node.Missed > 0 {
		fmt.Fprintf(&b, "  not obtained: %s", console.Plural(c.node.Missed, "thing"))
	}
	fmt.Fprintf(&b, "\n  → %s   %s\n", printable.Text(c.path), console.Bytes(c.node.Size))
	return b.String()
}
