package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/acquire"
	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/collect/cluster"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/contain"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// containFlags are shared by isolate and release.
type containFlags struct {
	contain.Options
	chosen    selectFlags
	capture   captureFlags // for the collector that freezes
	evidence  string
	asJSON    bool
	exception []string
}

func (f *containFlags) add(a *app, c *cobra.Command) {
	f.chosen.addFilters(c.Flags())
	c.Flags().BoolVar(&f.DryRun, "dry-run", false, "change nothing: show what would be changed, and what the server says to it")
	c.Flags().StringVar(&f.evidence, "evidence", "", "note each step in the chain of custody of this `PACKAGE` (default: in a log of your own)")
	c.Flags().BoolVar(&f.asJSON, "json", false, "write JSON, with each document that is sent")
	f.capture.collector.add(c.Flags())
	a.identityFlag(c)
}

const isolateLong = `Isolate keeps a pod of a cluster alive and keeps what is in it in. It does what its flags name, and nothing else:

  --deny-network  a network policy for this pod alone that denies everything, but for what --allow names
  --detach        other labels, so that its services and its controller let go of it: it lives on, and a clean pod takes its place
  --freeze        stop the processes of its containers, through a collector on its node
  --cordon        no new pods on its node
  --keep          annotations by which Cluster Autoscaler, Karpenter and the descheduler leave it alone

What was before is recorded on the pod first; "sherd release" puts it back. Several pods are isolated one after the other. The pod
gets the label sherd.io/isolated, by which it is found again: sherd targets -A -l sherd.io/isolated

A container that the kubelet would kill for not answering its liveness probe is frozen only with --force: its memory would be lost.`

func newIsolate(a *app) *cobra.Command {
	f := &containFlags{}
	c := &cobra.Command{
		Use:   "isolate TARGET...",
		Short: "keep a pod of a cluster alive, and what is in it in",
		Long:  isolateLong,
		Example: `  sherd isolate k8s://shop/checkout-7d9f --detach --deny-network --keep --dry-run
  sherd isolate k8s://shop/checkout-7d9f --detach --deny-network --keep
  sherd isolate k8s://shop/checkout-7d9f --deny-network --allow 10.1.2.3:443
  sherd isolate k8s://shop/checkout-7d9f/app --freeze --evidence case7.sherd
  sherd isolate --image sha256:3b1f… --deny-network --cordon`,
		Args: containArgs(&f.chosen, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !f.Any() {
				return usagef("say what to do: --detach, --deny-network, --freeze, --cordon, --keep, or several. "+
					"To cut a pod off and keep it for a capture: --detach --deny-network --keep; `%s --help` tells what each does", cmd.CommandPath())
			}
			if len(f.exception) > 0 && !f.DenyNetwork {
				return usagef("--allow names exceptions from --deny-network, which is not given")
			}
			for _, s := range f.exception {
				allow, err := contain.ParseAllow(s)
				if err != nil {
					return usagef("--allow: %w", err)
				}
				f.Allow = append(f.Allow, allow)
			}
			return a.contain(cmd.Context(), args, f, "isolated", contain.Isolate)
		},
	}
	fs := c.Flags()
	fs.BoolVar(&f.Detach, "detach", false, "take it out of its services and its controller by its labels")
	fs.BoolVar(&f.DenyNetwork, "deny-network", false, "a network policy for it alone that denies everything")
	fs.StringArrayVar(&f.exception, "allow", nil, "an exception from --deny-network, both ways: `CIDR[:PORT]` (repeatable)")
	fs.BoolVar(&f.Freeze, "freeze", false, "stop its processes until it is released")
	fs.BoolVar(&f.Cordon, "cordon", false, "keep new pods off its node")
	fs.BoolVar(&f.Keep, "keep", false, "annotations by which autoscalers and the descheduler leave it alone")
	fs.BoolVar(&f.Force, "force", false, "freeze also what its liveness probe would have killed for it")
	f.add(a, c)
	return c
}

func newRelease(a *app) *cobra.Command {
	f := &containFlags{}
	c := &cobra.Command{
		Use:   "release TARGET...",
		Short: "put back what `isolate` changed",
		Long: `Release thaws what was frozen, takes the network policy away, uncordons the node if it was cordoned for this pod, and gives the pod the labels and
annotations that it had; then it compares them with what was recorded.

A pod that its controller has replaced is one too many when it gets its labels back, and the controller deletes one. Release refuses that, before anything
is done, and leaves the choice: --force gives it back such that another one is deleted, --leave-detached releases all but that.`,
		Example: `  sherd release k8s://shop/checkout-7d9f
  sherd release k8s://shop/checkout-7d9f --force
  sherd release -n shop -l sherd.io/isolated --leave-detached --dry-run`,
		Args: containArgs(&f.chosen, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.Force && f.Detached {
				return usagef("--force and --leave-detached exclude each other")
			}
			return a.contain(cmd.Context(), args, f, "released", contain.Release)
		},
	}
	c.Flags().BoolVar(&f.Force, "force", false, "give the pod back to a controller that has replaced it: another of its pods is deleted")
	c.Flags().BoolVar(&f.Detached, "leave-detached", false, "release all but what --detach did")
	f.add(a, c)
	return c
}

// containArgs takes targets of a cluster, or flags that choose pods; narrow refuses flags that choose whole namespaces.
func containArgs(chosen *selectFlags, narrow bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 && !chosen.given():
			return exactly(1, "the target")(cmd, args)
		case len(args) > 0 && chosen.given():
			return usagef("name targets, or choose them by flags, not both")
		case len(args) == 0 && narrow && chosen.selector == "" && chosen.image == "":
			return usagef("that would isolate every pod there: choose by --selector or --image, or name targets")
		}
		return nil
	}
}

// contained is what became of all pods.
type contained struct {
	Custody string            `json:"custody,omitempty"` // the log
	Pods    []*contain.Report `json:"pods"`
	Refused []string          `json:"refused,omitempty"` // pods with which nothing was tried, and why
}

// contain isolates or releases what arguments and flags mean.
func (a *app) contain(ctx context.Context, args []string, f *containFlags, word string,
	do func(context.Context, *kubernetes.Cluster, *contain.Pod, contain.Options) (*contain.Report, error)) (err error) {
	refs, err := clusterRefs(args)
	if err != nil {
		return err
	}
	k, err := kubernetes.Connect(a.cluster)
	if err != nil {
		return err
	}
	found, err := a.clusterTargets(ctx, k, refs, &f.chosen)
	if err != nil {
		return err
	}
	doc := contained{Pods: []*contain.Report{}}
	if !f.DryRun {
		if doc.Custody, f.Note, err = a.containCustody(f.evidence, word); err != nil {
			return err
		}
	}
	p := a.progress(nil)
	defer p.Done()
	h := &holders{a: a, k: k, f: &f.capture, stage: p.Stage, on: map[string]*cluster.Session{}}
	defer func() { err = errors.Join(err, h.close()) }()
	f.Freezer, f.Tool, f.Stage = h.hold, tool, p.Stage
	failed := 0
	for _, pod := range contain.Pods(found) {
		rep, err := do(ctx, k, pod, f.Options)
		if err != nil {
			failed++
			doc.Refused = append(doc.Refused, err.Error())
			continue
		}
		if rep.Failed() {
			failed++
		}
		doc.Pods = append(doc.Pods, rep)
	}
	p.Done()
	if err := a.containReport(&doc, f, word); err != nil {
		return err
	}
	switch n := len(doc.Pods) + len(doc.Refused); {
	case failed == 0:
		return nil
	case n == 1 && len(doc.Refused) == 1:
		return errors.New(doc.Refused[0])
	case n == 1:
		return fmt.Errorf("the pod could not be %s in all: see what failed above", word)
	default:
		return fmt.Errorf("%d of %s could not be %s, or not in all", failed, console.Plural(n, "pod"), word)
	}
}

// containCustody opens where steps are noted: beside a package, or in a log of the user's own.
func (a *app) containCustody(pkg, word string) (log string, note func(action, note string) error, err error) {
	id, sum := "", ""
	path := filepath.Join(stateDir(), "containment")
	if pkg != "" {
		p, err := a.open(pkg)
		if err != nil {
			return "", nil, err
		}
		id, sum, path = p.ID(), p.SHA256(), pkg
		if err := p.Close(); err != nil {
			return "", nil, err
		}
	} else if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", nil, fmt.Errorf("a place for the chain of custody: %w (name a package with --evidence)", err)
	}
	return path + ".custody.jsonl", func(action, note string) error {
		if err := acquire.Handled(path, word+": "+action, tool, id, sum, note); err != nil {
			return fmt.Errorf("custody can't be recorded: %w", err)
		}
		return nil
	}, nil
}

// stateDir is where this program keeps what is to last and is no configuration (XDG Base Directory Specification).
func stateDir() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sherd")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "."
	}
	return filepath.Join(home, ".local", "state", "sherd")
}

// containReport tells what was done.
func (a *app) containReport(doc *contained, f *containFlags, word string) error {
	if f.asJSON {
		e := json.NewEncoder(a.out)
		e.SetIndent("", "  ")
		return e.Encode(doc)
	}
	w, width := a.out, console.Width(a.out)
	if f.DryRun {
		word = "would be " + word
	}
	for _, rep := range doc.Pods {
		if a.quiet {
			break
		}
		not := ""
		if rep.Failed() && !slices.ContainsFunc(rep.Steps, func(s contain.Step) bool { return s.State != contain.Failed }) {
			not = "not "
		}
		fmt.Fprintf(w, "● %s  %s%s on %s, as %s\n", printable.Text(rep.Target), not, word, printable.Text(rep.Node), rep.ID)
		for _, s := range rep.Steps {
			mark := map[contain.State]string{contain.Done: "✓", contain.Planned: "·", contain.Already: "=", contain.Failed: "✗"}[s.State]
			line := s.What
			if s.State != contain.Done && s.State != contain.Planned {
				line += ": " + string(s.State)
			}
			fmt.Fprintf(w, "  %s %s\n", mark, printable.Text(line))
			for line := range strings.Lines(s.Error) {
				fmt.Fprintf(w, "      %s\n", printable.Text(strings.TrimRight(line, "\n")))
			}
			for _, c := range s.Changes {
				if s.State == contain.Failed {
					break // it is not so
				}
				fmt.Fprintf(w, "      %s\n", printable.Text(c))
			}
			if f.DryRun && s.Request != "" {
				fmt.Fprintf(w, "      %s\n", printable.Text(strings.TrimSpace(s.Request+" "+string(s.Document))))
			}
			if s.Trial != "" && s.Error == "" {
				fmt.Fprintf(w, "      the server: %s\n", printable.Text(s.Trial))
			}
		}
		for _, v := range rep.Verified {
			fmt.Fprintf(w, "  ✓ %s\n", printable.Text(v))
		}
		for _, n := range rep.Warnings {
			fmt.Fprint(w, wrapped("  ! ", printable.Text(n), width))
		}
	}
	if len(doc.Refused) > 1 || len(doc.Pods) > 0 {
		for _, r := range doc.Refused {
			fmt.Fprintf(a.err, "sherd: %s\n", r)
		}
	}
	if doc.Custody != "" && len(doc.Pods) > 0 {
		a.note("noted in %s", printable.Text(doc.Custody))
	}
	return nil
}

// wrapped breaks words into lines of a width, of which the first begins with a mark and the others are indented as far.
func wrapped(mark, words string, width int) string {
	var b strings.Builder
	line, at := mark, len([]rune(mark))
	for i, word := range strings.Fields(words) {
		n := len([]rune(word))
		if i > 0 && at+1+n > width {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line, at = strings.Repeat(" ", len([]rune(mark))), len([]rune(mark))
		} else if i > 0 {
			line, at = line+" ", at+1
		}
		line, at = line+word, at+n
	}
	b.WriteString(line + "\n")
	return b.String()
}

// holders are collectors that freeze and thaw, one for each node that it is asked of.
type holders struct {
	a     *app
	k     *kubernetes.Cluster
	f     *captureFlags
	stage func(string)
	on    map[string]*cluster.Session
}

func (h *holders) hold(ctx context.Context, node, container string, thaw bool) (string, error) {
	at := onNode(container)
	if at == "" {
		return "", fmt.Errorf("the runtime of %s is not known to collectors: known are containerd and docker", container)
	}
	s := h.on[node]
	if s == nil {
		h.f.Freeze = true
		o, err := h.f.collectors(h.a, h.stage)
		if err != nil {
			return "", err
		}
		if s, err = cluster.Start(ctx, h.k, node, o); err != nil {
			return "", err
		}
		h.on[node] = s
	}
	word, err := s.Hold(ctx, at, thaw)
	switch word {
	case relay.Frozen:
		word = contain.Frozen
	case relay.FrozenAlready:
		word = contain.FrozenAlready
	case relay.Thawed:
		word = contain.Thawed
	case relay.Gone:
		word = contain.Gone
	}
	return word, err
}

func (h *holders) close() error {
	var errs error
	for _, s := range h.on {
		errs = errors.Join(errs, s.Close())
	}
	return errs
}
