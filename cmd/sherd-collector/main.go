// Sherd-collector is the part of Sherd that runs on a node or in a pod: one small static file that captures a container into
// a sealed package, and nothing else. It makes the same packages as `sherd collect`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/sherd-forensics/sherd/cmd/internal/acquire"
	"github.com/sherd-forensics/sherd/collect/memory"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/target"
)

var version = "devel"

const usage = `sherd-collector takes everything from a container into one sealed package.

  sherd-collector collect TARGET [-o PATH]    - writes to standard output
  sherd-collector targets                     containers here, a URL a line
  sherd-collector wait                        a collector's pod: waits for what "ask", run beside it, passes on
  sherd-collector ask                         passes a request from standard input to "wait", and its answer to standard output

TARGET is docker://NAME, containerd://NAMESPACE/ID, podman://NAME or pid://PID.

`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run returns the exit status: 0 done, 1 failed, 2 wrong usage.
func run(args []string, out, errOut io.Writer) int {
	if memory.IsWatchdog(args) {
		return memory.WatchdogMain(args)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	var places acquire.Places
	var capture acquire.Capture
	flags := pflag.NewFlagSet("sherd-collector", pflag.ContinueOnError)
	flags.SetOutput(errOut)
	flags.Usage = func() { fmt.Fprint(errOut, usage, flags.FlagUsages()) }
	output := flags.StringP("output", "o", "", "write the package to `PATH`, - for standard output (default TIME.sherd here)")
	dir := flags.String("dir", "/tmp/sherd", "`DIR` where wait keeps packages until they are fetched")
	deadline := flags.Duration("deadline", 30*time.Minute, "when wait ends, whatever it does")
	idle := flags.Duration("idle", 5*time.Minute, "how long wait stays when nothing is asked for")
	beside := flags.Bool("beside", false, "wait and ask in an ephemeral container of the target's own pod")
	showVersion := flags.Bool("version", false, "print the version")
	places.Flags(flags)
	capture.Flags(flags)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return 0
		}
		fmt.Fprintf(errOut, "sherd-collector: %v\n", err)
		return 2
	}
	var err error
	switch {
	case *showVersion:
		fmt.Fprintln(out, version)
	case flags.NArg() == 1 && flags.Arg(0) == "targets":
		err = list(ctx, &places, out, errOut)
	case flags.NArg() == 1 && flags.Arg(0) == "wait" && *beside:
		err = waitBeside(ctx, &places, *dir, *deadline, *idle)
	case flags.NArg() == 1 && flags.Arg(0) == "ask" && *beside:
		err = askBeside(ctx, &places, *dir, os.Stdin, out)
	case flags.NArg() == 1 && flags.Arg(0) == "wait":
		err = wait(ctx, &places, *dir, *deadline, *idle)
	case flags.NArg() == 1 && flags.Arg(0) == "ask":
		err = relay.Ask(ctx, filepath.Join(*dir, "sock"), os.Stdin, out)
	case flags.NArg() == 2 && flags.Arg(0) == "collect":
		ref, perr := target.ParseRef(flags.Arg(1))
		if perr != nil {
			fmt.Fprintf(errOut, "sherd-collector: %v\n", perr)
			return 2
		}
		if cerr := capture.Check(); cerr != nil {
			fmt.Fprintf(errOut, "sherd-collector: %v\n", cerr)
			return 2
		}
		err = collectTo(ctx, &places, ref, capture, *output, out, errOut)
	default:
		flags.Usage()
		return 2
	}
	if err != nil {
		fmt.Fprintf(errOut, "sherd-collector: %v\n", err)
		return 1
	}
	return 0
}

func list(ctx context.Context, places *acquire.Places, out, errOut io.Writer) error {
	sv, err := places.Survey(ctx)
	if err != nil {
		return err
	}
	for _, c := range sv.Containers {
		fmt.Fprintf(out, "%s\t%s\t%d\t%s\n", printable.Text(c.URL), c.State, c.PID, printable.Text(c.Image.Name))
	}
	for _, a := range sv.Anomalies {
		fmt.Fprintf(errOut, "! %s: %s\n", a.Kind, printable.Text(a.Statement))
	}
	return nil
}

// sink is where the package goes.
type sink interface {
	io.Writer
	Commit() error
	Abort() error
}

type stream struct{ io.Writer }

func (stream) Commit() error { return nil }
func (stream) Abort() error  { return nil }

func collectTo(ctx context.Context, places *acquire.Places, ref target.Ref, capture acquire.Capture, path string, out, errOut io.Writer) error {
	src, err := places.Find(ctx, ref, capture.Partial)
	if err != nil {
		return err
	}
	defer src.Close()
	var dst sink = stream{out}
	if path != "-" {
		if path == "" {
			path = time.Now().UTC().Format("20060102T150405Z") + ".sherd"
		}
		if dst, err = evidence.CreateFile(path); err != nil {
			return err
		}
	}
	w, err := src.Writer(dst, capture, "sherd-collector "+version)
	if err != nil {
		return errors.Join(err, dst.Abort())
	}
	res, err := src.Collect(ctx, w, capture, func(string) {})
	if res == nil {
		return errors.Join(err, dst.Abort())
	}
	if cerr := dst.Commit(); cerr != nil {
		return cerr
	}
	s := res.Sealed
	if path != "-" {
		if cerr := acquire.Handled(path, "collected", "sherd-collector "+version, s.ID, s.SHA256, ref.String()); cerr != nil {
			fmt.Fprintf(errOut, "custody not recorded: %v\n", cerr)
		}
	}
	fmt.Fprintf(errOut, "%s  %d bytes  %d artifacts  %d not obtained  sha256 %s  signed by %s\n",
		printable.Text(path), s.Size, s.Artifacts, len(res.Coverage.Missed), s.SHA256, printable.Text(s.Signer))
	if err != nil {
		return fmt.Errorf("the capture was stopped; what was taken until then is sealed: %w", err)
	}
	return nil
}
