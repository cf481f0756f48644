package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"github.com/sherd-forensics/sherd/cmd/internal/acquire"
	"github.com/sherd-forensics/sherd/collect"
	"github.com/sherd-forensics/sherd/collect/cluster"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// viaFlags say how a container of a cluster is reached.
type viaFlags struct {
	via, user             string
	changePod, checkpoint bool
}

func (f *viaFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.via, "via", string(cluster.Auto), "`WAY` to a container of a cluster: node (a collector on its node), pod (one in its pod, which changes the pod for good), api (nothing runs), "+
		"or auto, the first of them that is open")
	fs.BoolVar(&f.changePod, "allow-pod-change", false, "let --via auto add an ephemeral container to the pod where its node can't be had; it can't be taken out of the pod again")
	fs.StringVar(&f.user, "pod-user", "", "with the way pod: `UID:GID` that the target runs as, where the cluster does not say it")
	fs.BoolVar(&f.checkpoint, "checkpoint", false, "with the way node: have the kubelet checkpoint the container first, which stops it for a moment, and take the archive too; the archive also stays on the node")
}

// parse checks the flags against each other.
func (f *viaFlags) parse() (via cluster.Way, user *cluster.User, err error) {
	if via, err = cluster.ParseWay(f.via); err != nil {
		return "", nil, usagef("--via: %w", err)
	}
	if f.user != "" {
		u, err := cluster.ParseUser(f.user)
		if err != nil {
			return "", nil, usagef("--pod-user: %w", err)
		}
		user = &u
	}
	if f.checkpoint && (via == cluster.Pod || via == cluster.API) {
		return "", nil, usagef("--checkpoint needs the way node: the archive lies on the container's node")
	}
	return via, user, nil
}

// gate knows which ways are open to the containers of one command, and tells why not, each reason once.
type gate struct {
	k      *clusterCapture
	o      cluster.Options
	closed string // why the way node is not to be tried, "" if it is

	mu   sync.Mutex
	told map[string]bool
}

// gate asks beforehand whether nodes can be had, if that is not settled.
func (k *clusterCapture) gate(ctx context.Context, found []*kubernetes.Instance, o cluster.Options) (*gate, error) {
	g := &gate{k: k, o: o, told: map[string]bool{}}
	switch k.way {
	case cluster.Node:
		return g, nil
	case cluster.Pod, cluster.API:
		g.closed = "another way was asked for"
		return g, nil
	case cluster.Auto:
	}
	nodes := nodesOf(found)
	if len(nodes) == 0 {
		return g, nil
	}
	// Rights are the same for all nodes, and admission looks at the namespace: one is asked about for all.
	p, err := cluster.NewPlan(ctx, k.c, nodes[:1], o)
	if err != nil {
		return nil, err
	}
	g.closed = p.Against()
	return g, nil
}

// taken says which way was taken and why none before it, if that was left to us. Of the best one the summary tells.
func (g *gate) taken(w cluster.Way, against ...string) {
	words := "captured by the way " + string(w)
	for _, a := range against {
		words += "; not by " + a
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.told[words] {
		g.told[words] = true
		g.k.a.note("%s", printable.Text(words))
	}
}

// beyond captures a container where a collector on its node is out of the question for the reason why.
func (g *gate) beyond(ctx context.Context, i *kubernetes.Instance, why string, stage func(string)) (*captured, error) {
	k := g.k
	switch k.way {
	case cluster.Pod:
		return k.beside(ctx, i, g.o, stage)
	case cluster.API:
		return k.told(ctx, i, stage)
	case cluster.Node, cluster.Auto:
	}
	against := []string{"node, since " + why}
	pod := k.closedPod(ctx, i, g.o)
	if pod == "" {
		got, err := k.beside(ctx, i, g.o, stage)
		if !cluster.Passes(ctx, err) {
			if err == nil {
				g.taken(cluster.Pod, against...)
			}
			return got, err
		}
		pod = firstLine(err)
	}
	g.taken(cluster.API, append(against, "pod, since "+pod)...)
	return k.told(ctx, i, stage)
}

// closedPod says why a container is not to be captured from within its pod unless that was asked for, "" if it is.
func (k *clusterCapture) closedPod(ctx context.Context, i *kubernetes.Instance, o cluster.Options) string {
	var unfit *cluster.UnfitError
	if err := cluster.FitBeside(i); errors.As(err, &unfit) {
		return unfit.Why
	}
	if !k.f.via.changePod {
		return "it would add an ephemeral container to the pod, which can't be taken out again (--allow-pod-change or --via pod permits it)"
	}
	p, err := cluster.NewPodPlan(ctx, k.c, []*kubernetes.Instance{i}, k.user, o)
	if err != nil {
		return firstLine(err)
	}
	return p.Against()
}

func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimSuffix(s, ". Who administers the cluster grants it with:")
}

// beside captures a container by a collector in its own pod.
func (k *clusterCapture) beside(ctx context.Context, i *kubernetes.Instance, o cluster.Options, stage func(string)) (_ *captured, err error) {
	if err := cluster.FitBeside(i); err != nil {
		return nil, err
	}
	u, err := cluster.UserFor(i, k.user)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.URL(), err)
	}
	plan, err := cluster.NewPodPlan(ctx, k.c, []*kubernetes.Instance{i}, k.user, o)
	if err != nil {
		return nil, err
	}
	// Before the pod is changed for good: half of the rights would change it for nothing.
	if grants := plan.Grants(); len(grants) > 0 {
		return nil, errors.New(strings.Join(grants, "\n"))
	}
	k.a.note("adding an ephemeral container to the pod %s/%s, as user %s (%s): it can't be taken out of the pod's specification again", printable.Text(i.Pod.Namespace), printable.Text(i.Pod.Name), u, u.From)
	s, err := cluster.StartBeside(ctx, k.c, i, u, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := s.Close(); cerr != nil {
			k.a.note("%s", printable.Text(cerr.Error()))
		}
	}()
	out, path, err := k.a.destination(k.f.output, &target.Container{Name: packageName(i)})
	if err != nil {
		return nil, err
	}
	c, logs := k.said(ctx, i, cluster.MaxLogBeside)
	req := relay.Request{URL: i.URL(), Container: c, Warnings: append(c.Warnings,
		"the collector ran in the target's pod as the target's user: whoever controls the container could see and end it"),
		Capture: relay.Capture{Memory: k.f.Memory, WithSecrets: k.f.WithSecrets, Remote: k.f.Remote, EncryptTo: k.f.EncryptTo}}
	if k.f.Freeze {
		req.Warnings = append(req.Warnings, "the freeze asked for: from within a pod nothing can be frozen")
	}
	c.Warnings = nil
	for _, r := range c.Records {
		req.Records = append(req.Records, relay.Record(r))
	}
	for _, l := range logs {
		req.Logs = append(req.Logs, relay.Record(l))
	}
	res, err := s.Capture(ctx, req, out, stage)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", i.URL(), err), out.Abort())
	}
	got := &captured{path: path, node: res, way: cluster.Pod, container: &target.Container{URL: i.URL(), Name: i.Pod.Name}}
	return got, k.finish(ctx, out, got, i.URL())
}

// said is the container as the API server describes it, with what it says around it in its Records, and its logs, of each the last limit
// bytes.
func (k *clusterCapture) said(ctx context.Context, i *kubernetes.Instance, limit int) (c *target.Container, logs []target.Record) {
	c = i.Describe()
	docs, missed := k.surroundings(ctx, i)
	for _, d := range docs {
		c.Records = append(c.Records, target.Record{Name: "kubernetes/" + d.Name, Origin: d.Origin, Data: d.Data})
	}
	m, err := k.c.Metrics(ctx, i)
	if err != nil {
		missed = append(missed, "metrics: "+err.Error())
	} else {
		m.Name = "kubernetes/" + m.Name
		c.Records = append(c.Records, *m)
	}
	logs, more := k.c.Logs(ctx, i, limit)
	c.Warnings = k.notCheckpointed(append(missed, more...))
	return c, logs
}

// notCheckpointed adds to what is missing that a checkpoint is, if it was asked for.
func (k *clusterCapture) notCheckpointed(missed []string) []string {
	if k.f.via.checkpoint {
		missed = append(missed, "the checkpoint asked for: it takes a collector on the node")
	}
	return missed
}

// maxLog is how much of a log is kept where only the API server is asked.
const maxLog = 64 << 20

// told makes a package of what the API server says of a container.
func (k *clusterCapture) told(ctx context.Context, i *kubernetes.Instance, stage func(string)) (*captured, error) {
	recipients, err := evidence.ParseRecipients(k.f.EncryptTo)
	if err != nil {
		return nil, fmt.Errorf("--encrypt-to: %w", err)
	}
	out, path, err := k.a.destination(k.f.output, &target.Container{Name: packageName(i)})
	if err != nil {
		return nil, err
	}
	stage("asking the API server about " + i.URL())
	c, logs := k.said(ctx, i, maxLog)
	for _, l := range logs {
		c.Streams = append(c.Streams, target.Stream{Path: "logs/" + l.Name, Origin: l.Origin, Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(l.Data)), nil
		}})
	}
	w, err := collect.NewWriter(out, c, evidence.WriterOptions{Tool: tool, Key: k.key, Recipients: recipients})
	if err != nil {
		return nil, errors.Join(err, out.Abort())
	}
	res, err := collect.Told(ctx, c, w, "nothing ran in the cluster for this capture (--via api): only what the API server says was taken")
	if res == nil {
		return nil, errors.Join(err, out.Abort())
	}
	if cerr := out.Commit(); cerr != nil {
		return nil, cerr
	}
	if path != "-" {
		if cerr := acquire.Handled(path, "collected", tool, res.Sealed.ID, res.Sealed.SHA256, i.URL()); cerr != nil {
			k.a.note("custody not recorded: %v", cerr)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the capture was stopped; what was taken until then is sealed in %s: %w", printable.Text(path), err)
	}
	return &captured{path: path, container: c, result: res, way: cluster.API}, nil
}
