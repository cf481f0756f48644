// Sherd investigates distroless containers: it preserves what is there without running anything inside, and says
// with proof how somebody got in, what they touched and what they did.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/collect/memory"
)

// Exit statuses, part of the command line's contract.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitVerdict = 3 // done, and a target was judged compromised or suspicious
)

// version is set by the linker.
var version = "devel"

// tool is how packages and custody name this program.
var tool = "sherd " + version

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run is main without the process: tests call it.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	if memory.IsWatchdog(args) {
		return memory.WatchdogMain(args)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot(out, errOut)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	var judged *judgedError
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &judged):
		return exitVerdict
	case errors.As(err, &usage):
		fmt.Fprintf(errOut, "sherd: %s\n", asCalled(invokedAs(), usage.Error()))
		return exitUsage
	}
	fmt.Fprintf(errOut, "sherd: %s\n", asCalled(invokedAs(), err.Error()))
	return exitFailed
}

// judgedError ends `sherd investigate` with status 3.
type judgedError struct{}

func (*judgedError) Error() string { return "judged compromised or suspicious" }

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, a ...any) error { return &usageError{fmt.Errorf(format, a...)} }

func newRoot(out, errOut io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "sherd",
		Short: "forensics for distroless containers",
		Long: `Sherd investigates distroless containers from the outside: it preserves memory, processes, sockets, files and
logs in one sealed package without running anything in the container, and explains root cause, scope and
impact with proof.`,
		Example: `  sherd targets
  sherd investigate docker://checkout
  sherd collect containerd://k8s.io/3f2a -o case7.sherd
  sherd verify case7.sherd`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q; `sherd --help` lists the commands", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; `%s --help` lists the flags", err, cmd.CommandPath())
	})
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.HiddenDefaultCmd = true
	a := &app{out: out, err: errOut}
	a.flags(root)
	root.AddCommand(
		newTargets(a), newCollect(a), newVerify(a), newInvestigate(a), newShow(a), newStrings(a), newCarve(a), newTimeline(a), newExport(a), newRules(a), newKey(a), newIsolate(a), newRelease(a), newInstall(a), newCleanup(a),
	)
	rename(root, invokedAs())
	return root
}

// exactly is cobra.ExactArgs with an error that helps.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < n:
			return usagef("%s is missing: %s", what, strings.TrimSpace(cmd.UseLine()))
		case len(args) > n:
			return usagef("too many arguments, from %q on: %s", args[n], strings.TrimSpace(cmd.UseLine()))
		}
		return nil
	}
}
