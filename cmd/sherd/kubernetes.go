package main

import (
	"context"
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

// accessFlags say which cluster.
func accessFlags(fs *pflag.FlagSet, a *kubernetes.Access) {
	fs.StringVar(&a.Kubeconfig, "kubeconfig", "", "kubeconfig `FILE` (default $KUBECONFIG, then ~/.kube/config, then the pod's own account)")
	fs.StringVar(&a.Context, "context", "", "`CONTEXT` of the kubeconfig")
	fs.StringVar(&a.As, "as", "", "`USER` to impersonate in the cluster")
}

// collectorFlags say how collectors run in a cluster.
type collectorFlags struct {
	namespace, image, pull string
	secrets                []string
	deadline, start        time.Duration
	chosen                 func() bool // whether the user named an image, or how it is pulled
}

func (f *collectorFlags) add(fs *pflag.FlagSet) {
	namespaceFlag(fs, &f.namespace)
	f.chosen = func() bool {
		return fs.Changed("collector-image") || fs.Changed("collector-pull") || fs.Changed("collector-pull-secret")
	}
	fs.StringVar(&f.image, "collector-image", "sherd-forensics/sherd-collector:"+version, "`IMAGE` of the collector, as the node pulls it")
	fs.StringVar(&f.pull, "collector-pull", "IfNotPresent", "when the node pulls it: Always, IfNotPresent or Never")
	fs.StringArrayVar(&f.secrets, "collector-pull-secret", nil, "`SECRET` of Sherd's namespace to pull it with (repeatable)")
	fs.DurationVar(&f.deadline, "collector-deadline", 30*time.Minute, "when the cluster ends a collector, whatever it does")
	fs.DurationVar(&f.start, "collector-start", 90*time.Second, "how long a collector may take to come up")
}

func namespaceFlag(fs *pflag.FlagSet, to *string) {
	fs.StringVar(to, "sherd-namespace", "sherd", "`NAMESPACE` of Sherd's own in the cluster; made for the capture if it is not there")
}

func (f *captureFlags) collectors(a *app, stage func(string)) (cluster.Options, error) {
	switch corev1.PullPolicy(f.collector.pull) {
	case corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		return cluster.Options{}, usagef("--collector-pull is Always, IfNotPresent or Never, not %q", f.collector.pull)
	}
	if f.collector.deadline < time.Minute || f.collector.start < time.Second {
		return cluster.Options{}, usagef("--collector-deadline is at least 1m and --collector-start at least 1s")
	}
	return cluster.Options{Namespace: f.collector.namespace, Image: f.collector.image, Pull: corev1.PullPolicy(f.collector.pull), Secrets: f.collector.secrets, Deadline: f.collector.deadline, Start: f.collector.start, Preset: !f.collector.chosen(),
		Freeze: f.Freeze, ContainerdAddress: a.places.ContainerdAddress, Stage: stage}, nil
}

// clusterCapture captures containers of one cluster.
type clusterCapture struct {
	a     *app
	c     *kubernetes.Cluster
	f     *captureFlags
	key   *evidence.Key
	audit audits
	// upload is where packages go from their node; nil: they come here.
	upload *upload
	// way is the one asked for, and user whom a collector in the pod is to run as, nil for as the target does.
	way  cluster.Way
	user *cluster.User
}

func (a *app) clusterCapture(f *captureFlags) (*clusterCapture, error) {
	if err := f.Check(); err != nil {
		return nil, &usageError{err}
	}
	if len(f.Add) > 0 {
		return nil, usagef("--add takes files of this machine, and the container runs on a node of the cluster")
	}
	way, user, err := f.via.parse()
	if err != nil {
		return nil, err
	}
	c, err := kubernetes.Connect(a.cluster)
	if err != nil {
		return nil, err
	}
	key, err := f.SigningKey()
	if err != nil {
		return nil, err
	}
	up, err := f.upload.open(f.collector.deadline)
	if err != nil {
		return nil, err
	}
	if up != nil {
		if way != cluster.Auto && way != cluster.Node {
			return nil, usagef("an upload goes from the container's node: --via %s takes nothing there", way)
		}
		way = cluster.Node
	}
	return &clusterCapture{a: a, c: c, f: f, key: key, upload: up, way: way, user: user}, nil
}

// one captures one container, by a collector on its node that is there for it alone or by the way that is open.
func (k *clusterCapture) one(ctx context.Context, i *kubernetes.Instance) (*captured, error) {
	why, err := k.fit(i)
	if err != nil {
		return nil, err
	}
	p := k.a.progress(nil)
	defer p.Done()
	o, err := k.f.collectors(k.a, p.Stage)
	if err != nil {
		return nil, err
	}
	g, err := k.gate(ctx, []*kubernetes.Instance{i}, o)
	if err != nil {
		return nil, err
	}
	if why == "" {
		why = g.closed
	}
	if why != "" {
		return g.beyond(ctx, i, why, p.Stage)
	}
	return k.onNode(ctx, g, i, p.Stage)
}

// onNode captures a container by a collector on its node.
func (k *clusterCapture) onNode(ctx context.Context, g *gate, i *kubernetes.Instance, stage func(string)) (_ *captured, err error) {
	s, err := cluster.Start(ctx, k.c, i.Pod.Spec.NodeName, g.o)
	if k.way == cluster.Auto && cluster.Passes(ctx, err) {
		return g.beyond(ctx, i, firstLine(err), stage)
	}
	if err != nil {
		return nil, k.otherwise(err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return k.again(ctx, s, i, stage)
}

// fit says why no collector on its node can capture a container, if that settles nothing yet; it is an error where nothing can.
func (k *clusterCapture) fit(i *kubernetes.Instance) (why string, err error) {
	if k.way == cluster.Pod || k.way == cluster.API {
		return "", nil
	}
	_, err = nodeTarget(i)
	if err != nil && i.ID != "" && i.Pod.Spec.NodeName != "" && k.way == cluster.Auto {
		return err.Error(), nil
	}
	return "", err
}

// otherwise adds to an error of the way node what else there is.
func (k *clusterCapture) otherwise(err error) error {
	var start *cluster.StartError
	if errors.As(err, &start) {
		return fmt.Errorf("%w\nOther ways are --via pod, which changes the pod, and --via api, by which nothing runs; --via auto takes the first that is open", err)
	}
	return err
}

// take has a collector make the package of a container, and signs it.
func (k *clusterCapture) take(ctx context.Context, s *cluster.Session, i *kubernetes.Instance, output string, stage func(string)) (*captured, error) {
	if k.upload != nil {
		return k.send(ctx, s, i, stage)
	}
	req, err := k.request(ctx, i)
	if err != nil {
		return nil, err
	}
	out, path, err := k.a.destination(output, &target.Container{Name: packageName(i)})
	if err != nil {
		return nil, err
	}
	res, err := s.Capture(ctx, req, out, stage)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", i.URL(), err), out.Abort())
	}
	got := &captured{path: path, node: res, way: cluster.Node, container: &target.Container{URL: i.URL(), Name: i.Pod.Name}}
	return got, k.finish(ctx, out, got, i.URL())
}

// request is what a collector is asked for, with what the API server says of the container's surroundings.
func (k *clusterCapture) request(ctx context.Context, i *kubernetes.Instance) (relay.Request, error) {
	at, err := nodeTarget(i)
	if err != nil {
		return relay.Request{}, err
	}
	docs, missed := k.surroundings(ctx, i)
	req := relay.Request{
		Target: at, URL: i.URL(), Warnings: missed, Expect: expected(i),
		Capture: relay.Capture{Memory: k.f.Memory, Freeze: k.f.Freeze, WithSecrets: k.f.WithSecrets, Remote: k.f.Remote, EncryptTo: k.f.EncryptTo},
	}
	for _, d := range docs {
		req.Records = append(req.Records, relay.Record{Name: "kubernetes/" + d.Name, Origin: d.Origin, Data: d.Data})
	}
	if k.f.via.checkpoint {
		k.checkpoint(ctx, i, &req)
	}
	return req, nil
}

// checkpoint has the kubelet make its archive before the capture. Without one the capture goes on.
func (k *clusterCapture) checkpoint(ctx context.Context, i *kubernetes.Instance, req *relay.Request) {
	at, err := cluster.Checkpoint(ctx, k.c, i)
	if err != nil {
		k.a.note("%s: no checkpoint: %s", printable.Text(i.URL()), printable.Text(err.Error()))
		req.Warnings = append(req.Warnings, "the kubelet's checkpoint: "+firstLine(err))
		return
	}
	req.Checkpoint = at
	k.a.note("%s: the kubelet's checkpoint stays on node %s as %s, with all of the container's memory in it: remove it when you are done",
		printable.Text(i.URL()), printable.Text(i.Pod.Spec.NodeName), printable.Text(at))
}

// nodeTarget is the container as its node's runtime names it.
func nodeTarget(i *kubernetes.Instance) (string, error) {
	at := onNode(i.ID)
	switch {
	case i.Pod.Spec.NodeName == "":
		return "", fmt.Errorf("%s is on no node yet: there is nothing to take", i.URL())
	case i.ID == "":
		why := ""
		if i.Reason != "" {
			why = " (" + printable.Text(i.Reason) + ")"
		}
		return "", fmt.Errorf("%s has not been started yet%s: there is nothing to take", i.URL(), why)
	case at != "":
		return at, nil
	}
	runtime, _, _ := strings.Cut(i.ID, "://")
	return "", fmt.Errorf("%s runs under %q, which a collector does not know yet: known are containerd and docker", i.URL(), printable.Text(runtime))
}

// onNode is a container's id, as a pod's status has it, as a target for a collector on its node; "" if its runtime is not known there.
func onNode(containerID string) string {
	runtime, id, _ := strings.Cut(containerID, "://")
	switch runtime {
	case "containerd":
		return "containerd://k8s.io/" + id
	case "docker":
		return "docker://" + id
	}
	return ""
}

// finish signs what came and puts it under its name.
func (k *clusterCapture) finish(ctx context.Context, out sink, got *captured, url string) error {
	res := got.node
	sum := res.SHA256
	note := k.tellOfNode(url, got.path, res)
	if got.path != "-" {
		again, err := evidence.Resign(ctx, evidence.PartialPath(got.path), k.key, res.KeyID)
		switch {
		case errors.Is(err, evidence.ErrEncrypted):
			k.a.note("%s: %v", printable.Text(got.path), err)
		case err != nil:
			return errors.Join(fmt.Errorf("the package that came is not the one that the collector sealed: %w", err), out.Abort())
		default:
			sum = again
		}
	}
	if err := out.Commit(); err != nil {
		return err
	}
	if got.path != "-" {
		if err := acquire.Handled(got.path, "collected", tool, res.ID, sum, note); err != nil {
			k.a.note("custody not recorded: %v", err)
		}
	}
	if res.Stopped != "" {
		return fmt.Errorf("the capture was stopped; what was taken until then is sealed in %s: %s", printable.Text(got.path), printable.Text(res.Stopped))
	}
	return nil
}

func (c *captured) nodeSummary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "● %s\n  by the way %s  %s  %s", printable.Text(c.container.URL), c.way, console.Plural(c.node.Processes, "process"), console.Plural(c.node.Artifacts, "artifact"))
	if c.receipt != "" {
		fmt.Fprintf(&b, "\n  → %s   %s   sha256 %s\n    receipt %s\n", printable.Text(c.path), console.Bytes(c.node.Size), printable.Text(c.node.SHA256), printable.Text(c.receipt))
		return b.String()
	}
	if c.node.Missed > 0 {
		fmt.Fprintf(&b, "  not obtained or left out: %s (sherd show %s coverage.json)", console.Plural(c.node.Missed, "thing"), printable.Text(c.path))
	}
	fmt.Fprintf(&b, "\n  → %s   %s\n", printable.Text(c.path), console.Bytes(c.node.Size))
	return b.String()
}
