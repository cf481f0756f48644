package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/collect/cluster"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// selectFlags choose containers of a cluster otherwise than by name.
type selectFlags struct {
	namespace, selector, node, image string
	all, search                      bool
}

func (f *selectFlags) add(fs *pflag.FlagSet) {
	fs.StringVarP(&f.namespace, "namespace", "n", "", "in a cluster: the containers of this `NAMESPACE`")
	fs.BoolVarP(&f.all, "all-namespaces", "A", false, "in a cluster: the containers of all namespaces")
}

func (f *selectFlags) addFilters(fs *pflag.FlagSet) {
	f.add(fs)
	fs.StringVarP(&f.selector, "selector", "l", "", "in a cluster: of pods with these `LABELS`, as kubectl takes them")
	fs.StringVar(&f.node, "node", "", "in a cluster: on this `NODE`")
	fs.StringVar(&f.image, "image", "", "in a cluster: of the image with this `DIGEST` (sha256:…), each running instance of it")
}

func (f *selectFlags) given() bool { return *f != selectFlags{} }

// beside reports whether there are flags that can't stand beside targets that are named: all but those that say where else to look for them.
func (f *selectFlags) beside() bool { return *f != selectFlags{node: f.node, search: f.search} }

// query is what the flags ask for. Filters alone look into all namespaces, since an incident does not stop at one.
func (f *selectFlags) query() (kubernetes.Query, error) {
	if f.all && f.namespace != "" {
		return kubernetes.Query{}, usagef("--namespace and --all-namespaces exclude each other")
	}
	if d := strings.TrimPrefix(f.image, "sha256:"); f.image != "" && (len(d) < 12 || strings.Trim(d, "0123456789abcdef") != "") {
		return kubernetes.Query{}, usagef("--image takes a digest (sha256:…) or at least its first 12 digits, not %q: what a name points to changes", f.image)
	}
	return kubernetes.Query{Namespace: f.namespace, Selector: f.selector, Node: f.node, Digest: f.image}, nil
}

// clusterTargets finds the containers that arguments and flags mean, each once.
func (a *app) clusterTargets(ctx context.Context, c *kubernetes.Cluster, refs []kubernetes.Ref, f *selectFlags) ([]*kubernetes.Instance, error) {
	var out []*kubernetes.Instance
	seen := map[string]bool{}
	add := func(q kubernetes.Query) error {
		found, err := c.Find(ctx, q)
		for _, i := range found {
			if !seen[i.URL()] {
				seen[i.URL()] = true
				out = append(out, i)
			}
		}
		return err
	}
	for i := range refs {
		if err := add(kubernetes.Query{Ref: &refs[i]}); err != nil {
			return nil, err
		}
	}
	if len(refs) > 0 {
		return out, nil
	}
	q, err := f.query()
	if err != nil {
		return nil, err
	}
	return out, add(q)
}

// clusterRefs reads arguments of which the first is a cluster's.
func clusterRefs(args []string) ([]kubernetes.Ref, error) {
	var out []kubernetes.Ref
	for _, arg := range args {
		ref, err := target.ParseRef(arg)
		if err != nil {
			return nil, &usageError{err}
		}
		if ref.Scheme != "k8s" {
			return nil, usagef("%s is not in a cluster: several targets are taken at once only there", printable.Text(arg))
		}
		r, err := kubernetes.ParseRef(ref.Rest)
		if err != nil {
			return nil, &usageError{err}
		}
		out = append(out, r)
	}
	return out, nil
}

// outcome is what became of one container of several.
type outcome struct {
	i    *kubernetes.Instance
	got  *captured
	err  error
	none bool // it was never started, so that there is nothing to take
}

// many captures several containers, at most limits at once, into files of the folder --output. One failure does not stop the rest.
func (k *clusterCapture) many(ctx context.Context, found []*kubernetes.Instance, limits cluster.Limits) ([]outcome, error) {
	if k.f.output != "" {
		if err := os.MkdirAll(k.f.output, 0o700); err != nil {
			return nil, fmt.Errorf("--output is the folder for several packages: %w", err)
		}
	}
	var mu sync.Mutex
	done := 0
	p := k.a.progress(func() string {
		mu.Lock()
		defer mu.Unlock()
		return fmt.Sprintf("%d of %d", done, len(found))
	})
	defer p.Done()
	o, err := k.f.collectors(k.a, p.Stage)
	if err != nil {
		return nil, err
	}
	g, err := k.gate(ctx, found, o)
	if err != nil {
		return nil, err
	}
	out := make([]outcome, len(found))
	var nodes, whys []string
	var byNode, beyond []int // indexes of found
	for n, i := range found {
		out[n].i = i
		why, err := k.fit(i)
		switch {
		case err != nil:
			out[n].err, out[n].none = err, i.ID == ""
			done++
		case why != "" || g.closed != "":
			beyond, whys = append(beyond, n), append(whys, cmp.Or(why, g.closed))
		default:
			byNode, nodes = append(byNode, n), append(nodes, i.Pod.Spec.NodeName)
		}
	}
	stage := func(x *outcome) func(string) { return func(s string) { p.Stage(x.i.URL() + ": " + s) } }
	count := func() {
		mu.Lock()
		defer mu.Unlock()
		done++
	}
	err = each(ctx, k.c, nodes, o, limits, func(n int, s *cluster.Session, err error) {
		defer count()
		x := &out[byNode[n]]
		switch {
		case err == nil:
			x.got, x.err = k.again(ctx, s, x.i, stage(x))
		case k.way == cluster.Auto && cluster.Passes(ctx, err):
			x.got, x.err = g.beyond(ctx, x.i, firstLine(err), stage(x))
		default:
			x.err = k.otherwise(err)
		}
	})
	var wait errgroup.Group
	wait.SetLimit(max(1, limits.All))
	for n, at := range beyond {
		wait.Go(func() error {
			defer count()
			x := &out[at]
			if x.err = context.Cause(ctx); x.err == nil {
				x.got, x.err = g.beyond(ctx, x.i, whys[n], stage(x))
			}
			return nil
		})
	}
	return out, errors.Join(err, wait.Wait())
}

// each is cluster.Each, unless there is no node at all.
func each(ctx context.Context, c *kubernetes.Cluster, nodes []string, o cluster.Options, l cluster.Limits, do func(int, *cluster.Session, error)) error {
	if len(nodes) == 0 {
		return nil
	}
	return cluster.Each(ctx, c, nodes, o, l, do)
}

// again captures a container, and once more if it was replaced by its next instance between being listed and being captured.
func (k *clusterCapture) again(ctx context.Context, s *cluster.Session, i *kubernetes.Instance, stage func(string)) (*captured, error) {
	got, err := k.take(ctx, s, i, k.f.output, stage)
	var said *relay.CollectorError
	if !errors.As(err, &said) {
		return got, err
	}
	ref := kubernetes.Ref{Namespace: i.Pod.Namespace, Name: i.Pod.Name, Container: i.Container}
	found, ferr := k.c.Find(ctx, kubernetes.Query{Ref: &ref})
	if ferr != nil || len(found) != 1 || found[0].ID == i.ID || found[0].Pod.UID != i.Pod.UID {
		return got, err
	}
	return k.take(ctx, s, found[0], k.f.output, stage)
}

// summary is a table of what became of all.
func (k *clusterCapture) summary(w io.Writer, out []outcome) {
	var rows [][]string
	for _, x := range out {
		row := []string{x.i.URL(), x.i.Pod.Spec.NodeName, string(x.i.State)}
		switch {
		case x.got != nil && x.got.node != nil:
			row = append(row, string(x.got.way), fmt.Sprint(x.got.node.Processes), fmt.Sprint(x.got.node.Artifacts), console.Bytes(x.got.node.Size), x.got.path)
		case x.got != nil:
			s := x.got.result.Sealed
			row = append(row, string(x.got.way), "", fmt.Sprint(s.Artifacts), console.Bytes(s.Size), x.got.path)
		case x.none:
			row = append(row, "", "", "", "", "nothing to take: never started")
		default:
			row = append(row, "", "", "", "", "failed, see above")
		}
		rows = append(rows, row)
	}
	console.Table(w, 1<<16, []string{"TARGET", "NODE", "STATE", "WAY", "PROCESSES", "ARTIFACTS", "SIZE", "PACKAGE"}, rows)
}

// failures tells what went wrong, a reason that is shared once, and returns an error if anything did.
func (k *clusterCapture) failures(out []outcome) error {
	var order []string
	of := map[string][]string{}
	failed := 0
	for _, x := range out {
		if x.err == nil || x.none {
			continue
		}
		failed++
		why := x.err.Error()
		if of[why] == nil {
			order = append(order, why)
		}
		of[why] = append(of[why], x.i.URL())
	}
	for _, why := range order {
		names := of[why]
		more := ""
		if len(names) > 5 {
			more = fmt.Sprintf(" and %d more", len(names)-5)
		}
		fmt.Fprintf(k.a.err, "sherd: %s%s: %s\n", strings.Join(names[:min(5, len(names))], ", "), more, strings.TrimPrefix(why, names[0]+": "))
	}
	if failed > 0 {
		return fmt.Errorf("%d of %s could not be captured", failed, console.Plural(len(out), "container"))
	}
	if !slices.ContainsFunc(out, func(x outcome) bool { return x.got != nil }) {
		return errors.New("none of these containers was ever started: there is nothing to take")
	}
	return nil
}

// nodesOf are the nodes of containers that were ever started, each once.
func nodesOf(found []*kubernetes.Instance) []string {
	var out []string
	for _, i := range found {
		if i.Pod.Spec.NodeName != "" && i.ID != "" && !slices.Contains(out, i.Pod.Spec.NodeName) {
			out = append(out, i.Pod.Spec.NodeName)
		}
	}
	return out
}

// packageName names a container's package so that no two of a cluster are called alike, however long their names.
func packageName(i *kubernetes.Instance) string {
	name := i.Pod.Namespace + "-" + i.Pod.Name + "-" + i.Container
	if len(name) > 64 {
		name = name[:51] + "-" + fmt.Sprintf("%x", sha256.Sum256([]byte(i.URL())))[:12]
	}
	return name
}

// collectCluster is `sherd collect` of containers of a cluster.
func (a *app) collectCluster(ctx context.Context, args []string, chosen *selectFlags, f *captureFlags, plan bool) error {
	refs, err := clusterRefs(args)
	if err != nil {
		return err
	}
	if _, err := chosen.query(); err != nil {
		return err
	}
	k, err := a.clusterCapture(f)
	if err != nil {
		return err
	}
	found, err := k.targets(ctx, refs, chosen)
	if err != nil {
		return err
	}
	if plan {
		defer k.planSurroundings(ctx, found)
		return k.plan(ctx, found)
	}
	if err := k.readAudit(ctx, found); err != nil {
		return err
	}
	if len(found) == 1 {
		got, err := k.one(ctx, found[0])
		if err != nil {
			return err
		}
		if got.path != "-" && !a.quiet {
			fmt.Fprint(a.out, got.summary(console.Width(a.out)))
		}
		return nil
	}
	if k.upload != nil && k.upload.one() {
		return usagef("%s are meant, and --upload names one object: name a folder of a bucket, s3://BUCKET/FOLDER/", console.Plural(len(found), "container"))
	}
	if f.output == "-" {
		return usagef("%s are meant, and standard output takes one package: name a folder with -o", console.Plural(len(found), "container"))
	}
	out, err := k.many(ctx, found, f.limits)
	if err != nil && out == nil {
		return err
	}
	err = errors.Join(k.failures(out), err)
	if !a.quiet {
		k.summary(a.out, out)
	}
	return err
}

// evidenceOfCluster captures the containers that one argument of `sherd investigate` means.
func (a *app) evidenceOfCluster(ctx context.Context, arg string, f *captureFlags) (got []taken, failed, err error) {
	refs, err := clusterRefs([]string{arg})
	if err != nil {
		return nil, nil, err
	}
	k, err := a.clusterCapture(f)
	if err != nil {
		return nil, nil, err
	}
	found, err := a.clusterTargets(ctx, k.c, refs, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := k.readAudit(ctx, found); err != nil {
		return nil, nil, err
	}
	if len(found) == 1 {
		one, err := k.one(ctx, found[0])
		if err != nil {
			return nil, nil, err
		}
		return []taken{{one.path, one.line()}}, nil, nil
	}
	out, err := k.many(ctx, found, f.limits)
	if err != nil && out == nil {
		return nil, nil, err
	}
	failed = errors.Join(k.failures(out), err)
	for _, x := range out {
		if x.got != nil && x.err == nil {
			got = append(got, taken{x.got.path, x.got.line()})
		}
	}
	if len(got) == 0 {
		return nil, nil, failed
	}
	return got, failed, nil
}
