package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/acquire"
	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/collect"
	"github.com/sherd-forensics/sherd/collect/cluster"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/target"
)

// captureFlags are the flags of a capture, shared by collect and investigate.
type captureFlags struct {
	acquire.Capture
	collector collectorFlags
	via       viaFlags
	limits    cluster.Limits
	auditLogs []string
	upload    uploadFlags
	output    string
}

func (f *captureFlags) add(c *cobra.Command) {
	c.Flags().StringVarP(&f.output, "output", "o", "", "write the package to `PATH`, - for standard output (default NAME-TIME.sherd here); of several, the folder for them")
	f.Flags(c.Flags())
	f.collector.add(c.Flags())
	f.via.add(c.Flags())
	c.Flags().IntVar(&f.limits.Node, "per-node", 2, "how many containers of a node of a cluster are captured at once")
	c.Flags().StringArrayVar(&f.auditLogs, "audit-log", nil, "of a cluster: take what `FILE`, an audit log of its API server (also .gz), holds about the pods and by their identity (repeatable)")
	c.Flags().IntVar(&f.limits.All, "at-once", 8, "how many containers of a cluster are captured at once in all")
}

func newCollect(a *app) *cobra.Command {
	f, chosen := &captureFlags{}, &selectFlags{}
	plan := false
	c := &cobra.Command{
		Use:   "collect TARGET...",
		Short: "take everything from a container into one sealed package",
		Long: `Collect reads a container from the outside, in order of volatility: sockets and processes, memory, files and volumes,
logs and configuration. Nothing runs in the container, nothing is written to it, and no access time changes. The package
is signed and says itself what could not be had.

In a Kubernetes cluster a collector runs on the container's node for as long as that takes, in a namespace of Sherd's own; the
container's pod is not touched. Where that can't be had, --via tells of the other ways. docs/kubernetes.md tells what each needs.`,
		Example: `  sherd collect docker://checkout
  sherd collect containerd://k8s.io/3f2a -o case7.sherd
  sherd collect podman://web --memory full --freeze
  sherd collect k8s://shop/checkout-7d9f/app
  sherd collect k8s://shop/deployment/checkout -o evidence/
  sherd collect --image sha256:3b1f… -o evidence/
  sherd collect k8s://shop/checkout-7d9f/app --plan
  sherd collect k8s://shop/checkout-7d9f/app --via api
  sherd collect k8s://shop/checkout-7d9f/app --audit-log /var/log/kubernetes/audit.log
  sherd collect k8s://shop/checkout-old/app --search-nodes
  sherd collect k8s://shop/checkout-7d9f/app --upload s3://case7/checkout.sherd --encrypt-to age1…
  sherd collect docker://checkout --add /var/log/audit --add /var/log/syslog
  sherd collect pid://4711 --encrypt-to age1… -o - | ssh vault 'cat > case7.sherd'`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && !chosen.given():
				return exactly(1, "the target")(cmd, args)
			case len(args) > 0 && (chosen.beside() || chosen.given() && !strings.HasPrefix(args[0], "k8s:")):
				return usagef("name targets, or choose them by --namespace, --all-namespaces, --selector, --node and --image, not both")
			case len(args) == 0 && *chosen == selectFlags{search: true}:
				return usagef("--search-nodes looks for a pod that is named, k8s://NAMESPACE/POD")
			case len(args) > 1 && !strings.HasPrefix(args[0], "k8s:"):
				return exactly(1, "the target")(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || strings.HasPrefix(args[0], "k8s:") {
				return a.collectCluster(cmd.Context(), args, chosen, f, plan)
			}
			if plan {
				return usagef("--plan shows what would be done in a cluster; here, nothing is made or changed")
			}
			if f.upload != (uploadFlags{}) {
				return usagef("--upload sends a package from a node of a cluster; here, write it with -o, or pipe it with -o -")
			}
			ref, err := target.ParseRef(args[0])
			if err != nil {
				return &usageError{err}
			}
			got, err := a.capture(cmd.Context(), ref, f)
			if err != nil {
				return err
			}
			if got.path != "-" && !a.quiet {
				fmt.Fprint(a.out, got.summary(console.Width(a.out)))
			}
			return nil
		},
	}
	chosen.addFilters(c.Flags())
	c.Flags().BoolVar(&chosen.search, "search-nodes", false, "in a cluster: look for a pod that was deleted on all nodes; with --node only there")
	c.Flags().BoolVar(&plan, "plan", false, "in a cluster: show what would be made, which rights that needs and whether you have them; make nothing")
	f.add(c)
	f.upload.add(c.Flags())
	return c
}

// captured is a finished capture.
type captured struct {
	path      string
	container *target.Container
	result    *collect.Result
	node      *relay.Result // of a capture by a collector in a cluster
	way       cluster.Way   // of a capture in a cluster
	receipt   string        // of a package that was uploaded to path
}

// capture takes ref into a package and records it in the package's custody.
func (a *app) capture(ctx context.Context, ref target.Ref, f *captureFlags) (*captured, error) {
	if err := f.Check(); err != nil {
		return nil, &usageError{err}
	}
	if len(f.auditLogs) > 0 {
		return nil, usagef("--audit-log is for containers of a cluster (k8s://…); another container's package takes a file of this machine with --add")
	}
	src, err := a.places.Find(ctx, ref, f.Partial)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	out, path, err := a.destination(f.output, src.Container)
	if err != nil {
		return nil, err
	}
	var w *evidence.Writer
	p := a.progress(func() string {
		if w == nil {
			return ""
		}
		n, in, _ := w.Progress()
		return fmt.Sprintf("%s  %s", console.Plural(n, "artifact"), console.Bytes(in))
	})
	defer p.Done()
	w, err = src.Writer(out, f.Capture, tool)
	if err != nil {
		return nil, errors.Join(err, out.Abort())
	}
	res, err := src.Collect(ctx, w, f.Capture, p.Stage)
	p.Done()
	if err != nil && res == nil {
		return nil, errors.Join(err, out.Abort())
	}
	if cerr := out.Commit(); cerr != nil {
		return nil, cerr
	}
	if path != "-" {
		if cerr := acquire.Handled(path, "collected", tool, res.Sealed.ID, res.Sealed.SHA256, ref.String()); cerr != nil {
			a.note("custody not recorded: %v", cerr)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the capture was stopped; what was taken until then is sealed in %s: %w", printable.Text(path), err)
	}
	return &captured{path: path, container: src.Container, result: res}, nil
}

// sink is where a package goes: a file that appears under its name only when whole, or standard output.
type sink interface {
	io.Writer
	Commit() error
	Abort() error
}

type stdoutSink struct{ io.Writer }

func (stdoutSink) Commit() error { return nil }
func (stdoutSink) Abort() error  { return nil }

func (a *app) destination(output string, c *target.Container) (sink, string, error) {
	if output == "-" {
		if console.IsTerminal(a.out) {
			return nil, "", usagef("a package is not for a terminal: redirect standard output, or name a file with -o")
		}
		return stdoutSink{a.out}, "-", nil
	}
	path := output
	if path == "" {
		path = fileName(c.Name, c.ID) + "-" + time.Now().UTC().Format("20060102T150405Z") + ".sherd"
	} else if st, err := os.Stat(path); err == nil && st.IsDir() {
		path = strings.TrimRight(path, "/") + "/" + fileName(c.Name, c.ID) + "-" + time.Now().UTC().Format("20060102T150405Z") + ".sherd"
	}
	f, err := evidence.CreateFile(path)
	if err != nil {
		return nil, "", err
	}
	return f, path, nil
}

// fileName turns a container's name, which somebody else chose, into a file's.
func fileName(name, id string) string {
	if name == "" {
		name = id
	}
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '_'
	}, name)
	safe = strings.TrimLeft(safe, ".-")
	if safe == "" {
		safe = "container"
	}
	return safe[:min(len(safe), 64)]
}

// summary is what a capture came to, in a few lines.
func (c *captured) summary(width int) string {
	if c.node != nil {
		return c.nodeSummary()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "● %s\n", strings.Join(describe(c.container), "  "))
	s := c.result.Sealed
	fmt.Fprintf(&b, "  %s  %s  sealed in %s\n", console.Plural(c.result.Processes, "process"),
		console.Plural(s.Artifacts, "artifact"), console.Duration(c.result.Elapsed))
	fmt.Fprintf(&b, "  → %s   %s   signed by %s\n    sha256 %s\n", printable.Text(c.path), console.Bytes(s.Size), printable.Text(s.Signer), s.SHA256)
	lost, chosen := 0, 0
	for _, m := range c.result.Coverage.Missed {
		if m.Deliberate {
			chosen++
		} else {
			lost++
		}
	}
	lost += c.result.Coverage.Dropped
	if lost > 0 {
		fmt.Fprintf(&b, "  not obtained: %s\n", console.Plural(lost, "thing"))
		shown := 0
		for _, m := range c.result.Coverage.Missed {
			if m.Deliberate {
				continue
			}
			if shown == 5 {
				fmt.Fprintf(&b, "    … the rest: sherd show %s coverage.json\n", printable.Text(c.path))
				break
			}
			fmt.Fprintf(&b, "    %s\n", printable.Clip(m.What+": "+m.Reason, width-4))
			shown++
		}
	}
	if chosen > 0 {
		fmt.Fprintf(&b, "  left out by choice: %s   (sherd show %s coverage.json --raw | jq)\n", console.Plural(chosen, "thing"), printable.Text(c.path))
	}
	return b.String()
}

// line is the capture in one line, before the verdict that says the rest.
func (c *captured) line() string {
	if c.node != nil {
		return fmt.Sprintf("captured by the way "+string(c.way)+" and sealed → %s   %s", printable.Text(c.path), console.Bytes(c.node.Size))
	}
	return fmt.Sprintf("captured and sealed in %s → %s   %s   signed by %s", console.Duration(c.result.Elapsed),
		printable.Text(c.path), console.Bytes(c.result.Sealed.Size), printable.Text(c.result.Sealed.Signer))
}

// describe names a container in a few words.
func describe(c *target.Container) []string {
	out := []string{printable.Clip(c.Name, 60)}
	if c.Image.Name != "" {
		img := c.Image.Name
		if c.Image.Digest != "" && !strings.Contains(img, "@") {
			img += "@" + c.Image.Digest[:min(len(c.Image.Digest), 15)] + "…"
		}
		out = append(out, printable.Clip(img, 80))
	}
	out = append(out, c.Runtime, string(c.State))
	if c.Distroless != nil {
		word := "not distroless"
		if c.Distroless.Distroless {
			word = "distroless"
		}
		out = append(out, word+" ("+printable.Clip(c.Distroless.Reason, 60)+")")
	}
	return out
}
