package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/acquire"
	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// app holds what all commands share.
type app struct {
	out, err io.Writer
	verbose  bool
	quiet    bool
	tz       string
	places   acquire.Places
	cluster  kubernetes.Access
	ids      []string // files with age identities
	reveal   bool     // secrets in events
}

func (a *app) flags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.BoolVarP(&a.verbose, "verbose", "v", false, "explain each step and its source on standard error")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no summary")
	f.StringVar(&a.tz, "tz", "UTC", "time zone for times shown, as in Europe/Berlin")
	a.places.Flags(f)
	accessFlags(f, &a.cluster)
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if _, err := a.zone(); err != nil {
			return usagef("%w", err)
		}
		level := slog.LevelWarn
		if a.verbose {
			level = slog.LevelDebug
		}
		slog.SetDefault(slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level})))
		return nil
	}
}

func (a *app) zone() (*time.Location, error) {
	loc, err := time.LoadLocation(a.tz)
	if err != nil {
		return nil, fmt.Errorf("--tz %s: %w (use a name such as UTC, Local or Europe/Berlin)", a.tz, err)
	}
	return loc, nil
}

// progress shows a line on a terminal unless the user wants quiet.
func (a *app) progress(tail func() string) *console.Progress {
	w := a.err
	if a.quiet || a.verbose {
		w = io.Discard
	}
	return console.NewProgress(w, tail)
}

// note writes to standard error unless --quiet.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.err, format+"\n", args...)
	}
}

// open opens a package for reading, with the identities that --identity names.
func (a *app) open(path string) (*evidence.Package, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("reading evidence: %w", err)
	}
	ids, err := evidence.LoadIdentities(a.ids)
	if err != nil {
		return nil, err
	}
	return evidence.Open(path, evidence.OpenOptions{Identities: ids})
}

// identityFlag adds --identity to a command that reads packages.
func (a *app) identityFlag(c *cobra.Command) {
	c.Flags().StringArrayVarP(&a.ids, "identity", "i", nil, "age identity `FILE` that opens an encrypted package (repeatable)")
}
