package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/cmd/internal/acquire"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

// hide keeps this process from those that share its pid namespace and run as the same user, as a collector beside its target does: they
// can't read its memory or descriptors.
func hide() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	return nil
}

// yield makes this process the first to be ended where memory is short.
func yield() error { return os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) }

// waitBeside is wait in an ephemeral container. Where nothing may be written it keeps no packages: then `ask` makes them itself, and a
// stream that breaks can't be taken up again.
func waitBeside(ctx context.Context, places *acquire.Places, dir string, deadline, idle time.Duration) error {
	safefs.MayTouch()
	// Before it hides: then this file is root's.
	if err := errors.Join(yield(), hide()); err != nil {
		fmt.Fprintf(os.Stderr, "sherd-collector: %v\n", err)
	}
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		return serveAll(ctx, places, dir, deadline, idle)
	}
	fmt.Fprintf(os.Stderr, "sherd-collector: packages are not kept here: %v\n", err)
	t := time.NewTimer(deadline)
	defer t.Stop()
	select {
	case <-ctx.Done(): // SIGTERM, from `ask`
	case <-t.C:
	}
	return nil
}

// askBeside passes a question on to waitBeside or, where that keeps nothing, answers it.
func askBeside(ctx context.Context, places *acquire.Places, dir string, in io.Reader, out io.Writer) error {
	safefs.MayTouch()
	if err := errors.Join(yield(), hide()); err != nil {
		fmt.Fprintf(os.Stderr, "sherd-collector: %v\n", err)
	}
	socket := filepath.Join(dir, "sock")
	if _, err := os.Stat(socket); err == nil {
		return relay.Ask(ctx, socket, in, out)
	}
	quit, err := relay.Answer(ctx, in, out, func(ctx context.Context, r *relay.Request, w io.Writer, stage func(string)) (*relay.Result, error) {
		return serve(ctx, places, r, w, stage)
	})
	if quit {
		err = errors.Join(err, endOthers())
	}
	return err
}

// endOthers ends the other processes of this program in our own container, which its cgroup tells apart from all others.
func endOthers() error {
	ours, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	self := os.Getpid()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var errs error
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == self {
			continue
		}
		comm, cerr := os.ReadFile("/proc/" + e.Name() + "/comm")
		group, gerr := os.ReadFile("/proc/" + e.Name() + "/cgroup")
		if cerr != nil || gerr != nil || string(group) != string(ours) || strings.TrimSpace(string(comm)) != "sherd-collector" {
			continue
		}
		if err := unix.Kill(pid, unix.SIGTERM); err != nil {
			errs = errors.Join(errs, fmt.Errorf("ending the collector: %w", err))
		}
	}
	return errs
}
