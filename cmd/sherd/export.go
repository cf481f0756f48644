package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/lake/query"
	"github.com/sherd-forensics/sherd/report/export"
)

func newExport(a *app) *cobra.Command {
	f := &timelineFlags{}
	var names strings.Builder
	for _, x := range export.Formats() {
		fmt.Fprintf(&names, "  %-15s %s\n", x.Name, x.Title)
	}
	fmt.Fprintf(&names, "  %-15s %s", "parquet", "our columns, as one Parquet file")
	c := &cobra.Command{
		Use:   "export EVIDENCE|FILE|FOLDER... [QUERY] --format FORMAT",
		Short: "write events for other tools",
		Long: `Export writes the events that a query matches (all without one) in the format of another tool, in the order of time. Each carries the
artifact and the bytes that prove it, where the format has a place for them. Formats:

` + names.String(),
		Example: `  sherd export case7.sherd --format timesketch -o case7.jsonl
  sherd export case7.sherd 'kind:net.* OR kind:alert.raised' --format stix -o case7.json
  sherd export case7.sherd --format bodyfile | mactime -d -b - > mactime.csv`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("a package, file or folder is missing: %s", strings.TrimSpace(cmd.UseLine()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.export(cmd.Context(), args, f, cmd.ArgsLenAtDash())
		},
	}
	c.Flags().StringVar(&f.format, "format", "", "the `FORMAT`, one of those above")
	c.Flags().StringVarP(&f.output, "output", "o", "-", "write to `FILE`, - for standard output")
	c.Flags().StringVar(&f.query, "query", "", "the query, instead of the last arguments")
	a.identityFlag(c)
	a.revealFlag(c)
	return c
}

func (a *app) export(ctx context.Context, args []string, f *timelineFlags, dash int) error {
	if f.format == "" {
		return usagef("--format is missing; `sherd export --help` lists the formats")
	}
	if f.format != "parquet" {
		if _, err := export.New(f.format, io.Discard, export.Meta{}); err != nil {
			return usagef("--format: %w", err)
		}
	}
	if f.output == "-" && f.format == "parquet" && console.IsTerminal(a.out) {
		return usagef("Parquet is not for a terminal: name a file with -o")
	}
	sources, text, err := f.split(args, dash)
	if err != nil {
		return err
	}
	q, err := a.query(text)
	if err != nil {
		return err
	}
	n := 0
	err = a.withTimeline(ctx, sources, func(t *timeline) error {
		n = 0
		if f.output != "-" {
			return writeAside(f.output, func(w io.Writer) error {
				b := bufio.NewWriterSize(w, 1<<20)
				return errors.Join(writeEvents(ctx, b, f.format, t, q, &n), b.Flush())
			})
		}
		w := bufio.NewWriterSize(a.out, 256<<10)
		if err := errors.Join(writeEvents(ctx, w, f.format, t, q, &n), w.Flush()); err != nil {
			return errors.Join(err, errBegun)
		}
		return nil
	})
	if err == nil && f.output != "-" {
		a.note("%s → %s", console.Plural(n, "event"), f.output)
	}
	return err
}

// writeEvents writes all matching events in a format, and counts them.
func writeEvents(ctx context.Context, w io.Writer, format string, t *timeline, q *query.Query, n *int) error {
	var write func(*lake.Row) error
	var end func() error
	if format == "parquet" {
		p := lake.NewFileWriter(w)
		write, end = func(r *lake.Row) error { return p.Write(&r.Event) }, p.Close
	} else {
		e, err := export.New(format, w, export.Meta{Tool: tool})
		if err != nil {
			return err
		}
		write, end = func(r *lake.Row) error { return e.Write(&r.Event) }, e.Close
	}
	err := t.Scan(ctx, q, func(r *lake.Row) error { *n++; return write(r) })
	if err != nil {
		return err
	}
	return end()
}
