package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/acquire"
	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/detect/indicator"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/report"
	"github.com/sherd-forensics/sherd/report/html"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/verdict"
)

func newInvestigate(a *app) *cobra.Command {
	f := &captureFlags{}
	var jsonOut, htmlOut string
	var lists, rules []string
	var reveal bool
	c := &cobra.Command{
		Use:   "investigate EVIDENCE|TARGET...",
		Short: "say what happened, with proof",
		Long: `Investigate judges sealed packages, or captures a running container first and judges what it got. Every statement cites
the bytes that prove it; "sherd show PACKAGE N" shows them. Of several, the verdict on each comes first, then one over all:
who was touched first, which reached which. It exits with 3 when a target was judged compromised or
suspicious, with 0 when not.`,
		Example: `  sherd investigate docker://checkout
  sherd investigate checkout-20261123T031502Z.sherd --html report.html
  sherd investigate k8s://shop/checkout-7d9f
  sherd investigate a.sherd b.sherd --json - | jq .verdict
  sherd investigate checkout.sherd --indicators misp.json --indicators seen-last-week.txt
  sherd investigate checkout.sherd --rules sigma/rules/linux --rules my-rules`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exactly(1, "a package or a target")(cmd, args)
			}
			if len(args) > 1 && f.output != "" {
				return usagef("--output takes one target at a time")
			}
			if f.output == "-" {
				return usagef("investigate keeps the package it makes: name a file with -o, or use `sherd collect -o -`")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := a.indicators(lists)
			if err != nil {
				return err
			}
			more, err := a.ruleset(rules)
			if err != nil {
				return err
			}
			return a.investigate(cmd.Context(), args, f, investigate.Options{Indicators: set, Languages: more.Languages(), Reveal: reveal}, more.Folders(), jsonOut, htmlOut)
		},
	}
	f.add(c)
	c.Flags().StringVar(&jsonOut, "json", "", "write the verdict as JSON to `FILE`, - for standard output (and nothing else there)")
	c.Flags().BoolVar(&reveal, "reveal", false, "show secrets as they are in statements, command lines and the report's bytes")
	c.Flags().StringVar(&htmlOut, "html", "", "write a self-contained report to `FILE`")
	c.Flags().StringArrayVar(&lists, "indicators", nil, "look for the indicators of `FILE` too: text (value;description), CSV, MISP JSON or STIX 2.1 (repeatable)")
	rulesFlag(c, &rules)
	a.identityFlag(c)
	return c
}

// indicators reads lists of indicators; nil if there are none.
func (a *app) indicators(lists []string) (*indicator.Set, error) {
	if len(lists) == 0 {
		return nil, nil
	}
	set := &indicator.Set{}
	for _, l := range lists {
		if err := set.Load(l); err != nil {
			return nil, err
		}
	}
	skipped := 0
	for _, s := range set.Skips {
		skipped += s.Count
	}
	words := ""
	if skipped > 0 {
		words = fmt.Sprintf("; %s left out, which the gaps tell", console.Plural(skipped, "entry"))
	}
	a.note("looking for %s%s", console.Plural(set.Len(), "indicator"), words)
	return set, nil
}

func (a *app) investigate(ctx context.Context, args []string, f *captureFlags, o investigate.Options, folders []string, jsonOut, htmlOut string) error {
	zone, err := a.zone()
	if err != nil {
		return err
	}
	text := a.out
	if jsonOut == "-" {
		text = io.Discard
	}
	var results []*investigate.Result
	var packages []*evidence.Package
	bad := false
	taken, failed, err := a.evidenceOf(ctx, args, f)
	if err != nil {
		return err
	}
	for i, t := range taken {
		path, head := t.path, t.head
		p, err := a.open(path)
		if err != nil {
			return err
		}
		defer p.Close()
		res, err := a.judge(ctx, path, p, o, folders)
		if err != nil {
			return err
		}
		packages = append(packages, p)
		if i > 0 {
			fmt.Fprintln(text)
		}
		if head != "" && !a.quiet {
			fmt.Fprintln(text, head)
		}
		if err := report.Text(text, res, a.reportOptions(zone)); err != nil {
			return err
		}
		results = append(results, res)
		switch res.Verdict.Verdict {
		case verdict.Compromised, verdict.Suspicious:
			bad = true
		case verdict.Clean, verdict.Inconclusive:
		}
	}
	whole := results[0]
	if len(results) > 1 {
		whole = investigate.Together(results)
		if err := whole.Verdict.Check(); err != nil {
			return fmt.Errorf("the verdict over all is not proven throughout: %w", err)
		}
		fmt.Fprintln(text)
		if err := report.Text(text, whole, a.reportOptions(zone)); err != nil {
			return err
		}
	}
	if htmlOut != "" {
		if err := writeAside(htmlOut, func(w io.Writer) error { return html.Write(w, whole, packages...) }); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
		fmt.Fprintf(text, "\nReport        %s\n", printable.Text(htmlOut))
	}
	if jsonOut != "" {
		if err := a.writeJSON(jsonOut, &whole.Verdict); err != nil {
			return err
		}
	}
	if bad {
		return &judgedError{}
	}
	return failed
}

func (a *app) reportOptions(zone *time.Location) report.Options {
	return report.Options{Width: min(console.Width(a.out), 120), Colour: console.Colour(a.out), Zone: zone, Verbose: a.verbose}
}

// taken is a package to judge; head sums up its capture, if there was one.
type taken struct{ path, head string }

// evidenceOf returns the packages that args name, capturing targets first, all of them before any is judged: what they hold is volatile.
// failed says what of several containers of a cluster could not be captured, which does not keep the others from being judged.
func (a *app) evidenceOf(ctx context.Context, args []string, f *captureFlags) (out []taken, failed, err error) {
	for _, arg := range args {
		if !target.IsRef(arg) {
			if _, err := os.Stat(arg); err != nil {
				return nil, nil, fmt.Errorf("%q is neither a target (a URL such as docker://NAME) nor a package that can be read: %w", printable.Text(arg), err)
			}
			out = append(out, taken{path: arg})
			continue
		}
		ref, err := target.ParseRef(arg)
		if err != nil {
			return nil, nil, &usageError{err}
		}
		if ref.Scheme == "k8s" {
			of, ferr, err := a.evidenceOfCluster(ctx, arg, f)
			if err != nil {
				return nil, nil, err
			}
			out, failed = append(out, of...), errors.Join(failed, ferr)
			continue
		}
		got, err := a.capture(ctx, ref, f)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, taken{got.path, got.line()})
	}
	return out, failed, nil
}

// judge investigates one package, with the events of folders for the rules that ask for them.
func (a *app) judge(ctx context.Context, path string, p *evidence.Package, o investigate.Options, folders []string) (*investigate.Result, error) {
	line := a.progress(nil)
	line.Stage("investigating " + printable.Text(filepath.Base(path)))
	defer line.Done()
	o.Events = events(ctx, p, folders)
	res, err := investigate.Investigate(ctx, p, o)
	if err != nil {
		return nil, fmt.Errorf("investigating %s: %w", printable.Text(path), err)
	}
	if cerr := acquire.Handled(path, "investigated", tool, p.ID(), p.SHA256(), "judged "+string(res.Verdict.Verdict)); cerr != nil {
		a.note("custody not recorded: %v", cerr)
	}
	return res, nil
}

func (a *app) writeJSON(dest string, v *verdict.Verdict) error {
	write := func(w io.Writer) error { return report.JSON(w, v) }
	if dest == "-" {
		return write(a.out)
	}
	if err := writeAside(dest, write); err != nil {
		return fmt.Errorf("writing the verdict: %w", err)
	}
	return nil
}

// writeAside writes a file under another name first, so that nothing half-written looks whole.
func writeAside(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// proofs numbers a package's citations as the report with the same options does.
func proofs(ctx context.Context, p *evidence.Package, o investigate.Options, folders []string) ([]verdict.Citation, error) {
	o.Events = events(ctx, p, folders)
	res, err := investigate.Investigate(ctx, p, o)
	if err != nil {
		return nil, err
	}
	return report.Proofs(res), nil
}
