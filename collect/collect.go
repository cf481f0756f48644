// Package collect takes everything that a container is made of, from outside, in order of volatility (RFC 3227),
// and writes it into a sealed package. Nothing is run in, written to or signalled in the target. What could
// not be had becomes an entry of the package's coverage.
package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sherd-forensics/sherd/collect/added"
	hostcontext "github.com/sherd-forensics/sherd/collect/context"
	"github.com/sherd-forensics/sherd/collect/filesystem"
	"github.com/sherd-forensics/sherd/collect/logs"
	"github.com/sherd-forensics/sherd/collect/memory"
	"github.com/sherd-forensics/sherd/collect/network"
	"github.com/sherd-forensics/sherd/collect/process"
	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
	"github.com/sherd-forensics/sherd/target"
)

// Options choose what is taken and how. The zero value takes everything but secrets' contents and file-backed
// memory that equals its file.
type Options struct {
	HostRoot    string // where the machine's root is seen, "" on the machine itself
	Proc        string // where its /proc is seen, "" means /proc below HostRoot
	Memory      memory.Mode
	Freeze      bool
	WithSecrets bool
	// Remote enters volumes whose file system answers from elsewhere (FUSE, network).
	Remote bool
	// MaxFile bounds one file's content, MaxVolumes all volumes' contents, in bytes; 0 means the collectors' defaults.
	MaxFile    int64
	MaxVolumes int64
	// Checkpoint is an archive on the machine that the runtime made of this container for the capture, "" for none.
	Checkpoint string
	// Added are files and folders of this machine that the user wants beside the container.
	Added []string
	// Anomalies are what the survey of this machine found about this container.
	Anomalies []target.Anomaly
	// Stage is called when a stage begins, for progress; may be nil.
	Stage func(name string)
}

// Result is what a capture came to.
type Result struct {
	Sealed    *evidence.Sealed
	Processes int
	Coverage  record.Coverage
	Elapsed   time.Duration
}

// Run captures c into w and seals it. Its error means that the package could not be written or that ctx ended; what the
// target would not give is in Result.Coverage. When ctx ends, what was taken until then is sealed all the
// same, with that fact in its coverage, and ctx's error is returned beside the result.
func Run(ctx context.Context, c *target.Container, w *evidence.Writer, o Options) (*Result, error) {
	begin := time.Now()
	s := subject.Subject{Container: c, HostRoot: o.HostRoot, Proc: o.Proc}
	if s.Proc == "" {
		s.Proc = s.Host("/proc")
	}
	for _, warning := range c.Warnings {
		w.Miss(record.Miss{What: "target", Kind: "target", Reason: warning, Partial: true, Count: 1})
	}
	procs, err := subject.List(c, s.Proc)
	if err != nil {
		w.Miss(record.Miss{What: "the list of processes", Kind: "process", Reason: err.Error(), Partial: true, Count: 1})
	}
	s.Processes = procs

	err = run(ctx, s, w, o)
	stopped := err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err())
	if err != nil && !stopped {
		return nil, err
	}
	if stopped {
		w.Miss(record.Miss{What: "the rest of the capture", Kind: "target", Reason: "stopped: " + context.Cause(ctx).Error(), Partial: true, Count: 1})
	}
	if n := safefs.Touched(); n > 0 {
		w.Miss(record.Miss{What: "access times as they were", Kind: "filesystem", Partial: true, Count: 1,
			Reason: fmt.Sprintf("%d files and folders of other users were read without the right to leave no trace: those that the image does not hold may have a new access time; that from before is in the inventory", n)})
	}
	stage(o, "seal")
	sealed, cerr := w.Close()
	if cerr != nil {
		return nil, fmt.Errorf("sealing the package: %w", cerr)
	}
	r := &Result{Sealed: sealed, Processes: len(procs), Coverage: w.Coverage(), Elapsed: time.Since(begin)}
	if stopped {
		return r, context.Cause(ctx)
	}
	return r, nil
}

func stage(o Options, name string) {
	if o.Stage != nil {
		o.Stage(name)
	}
}

// run goes from the most to the least volatile. Within one stage collectors run beside each other where both are small
// or wait for different things.
func run(ctx context.Context, s subject.Subject, w *evidence.Writer, o Options) error {
	thaw := func() error { return nil }
	if o.Freeze && len(s.Processes) > 0 {
		stage(o, "freeze")
		t, err := memory.Freeze(ctx, s, w)
		if err != nil {
			w.Miss(record.Miss{What: "the freeze asked for", Kind: "memory", Reason: err.Error(), Count: 1})
		} else {
			thaw = t
		}
	}
	err := volatile(ctx, s, w, o)
	if terr := thaw(); terr != nil {
		w.Miss(record.Miss{What: "thawing the container", Kind: "memory", Reason: terr.Error(), Count: 1})
		err = errors.Join(err, fmt.Errorf("the container may still be frozen: %w", terr))
	}
	if err != nil {
		return err
	}
	stage(o, "files and logs")
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return filesystem.Collect(gctx, s, w, filesystem.Options{WithSecrets: o.WithSecrets, Remote: o.Remote, MaxFile: o.MaxFile, MaxVolumes: o.MaxVolumes})
	})
	g.Go(func() error { return logs.Collect(gctx, s, w, logs.Options{}) })
	if err := g.Wait(); err != nil {
		return err
	}
	if err := streams(ctx, s, w); err != nil {
		return err
	}
	if o.Checkpoint != "" {
		stage(o, "checkpoint")
		if err := checkpoint(s, w, o.Checkpoint); err != nil {
			return err
		}
	}
	if err := hostcontext.Collect(ctx, s, w, hostcontext.Options{Anomalies: o.Anomalies}); err != nil {
		return err
	}
	return added.Collect(ctx, w, o.Added, added.Options{})
}

// streamPart is how much of a stream of unknown length goes into one artifact: maxStream bounds them all together.
const (
	streamPart = 4 << 20
	maxStream  = 1 << 30
)

// streams takes what the runtime's API gives where files may not be read. Their length is not known beforehand, so they are sealed
// in parts.
func streams(ctx context.Context, s subject.Subject, w *evidence.Writer) error {
	for _, st := range s.Container.Streams {
		miss := func(err error, partial bool) {
			w.Miss(record.Miss{What: st.Path, Kind: "target", Reason: err.Error(), Partial: partial, Count: 1})
		}
		r, err := st.Open(ctx)
		if err != nil {
			miss(err, false)
			continue
		}
		err = parts(w, st, r, miss)
		r.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// parts seals one stream; its error is fatal.
func parts(w *evidence.Writer, st target.Stream, r io.Reader, miss func(error, bool)) error {
	buf := make([]byte, streamPart)
	for i, total := 0, 0; ; i++ {
		n, err := io.ReadFull(r, buf)
		path := st.Path
		if i > 0 {
			path = fmt.Sprintf("%s.%d", st.Path, i)
		}
		if n > 0 || i == 0 {
			if _, err := w.Add(evidence.Meta{Path: path, Origin: st.Origin}, buf[:n]); err != nil {
				return err
			}
		}
		total += n
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			miss(err, true)
			return nil
		case total >= maxStream:
			miss(fmt.Errorf("only the first %d bytes were taken", total), true)
			return nil
		}
	}
}

// volatile takes what is gone first: sockets and processes together, then memory.
func volatile(ctx context.Context, s subject.Subject, w *evidence.Writer, o Options) error {
	stage(o, "network and processes")
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return network.Collect(gctx, s, w, network.Options{}) })
	g.Go(func() error { return process.Collect(gctx, s, w, process.Options{}) })
	if err := g.Wait(); err != nil {
		return err
	}
	if len(s.Processes) == 0 {
		w.Status("memory", "none")
		w.Miss(record.Miss{What: "memory", Kind: "memory", Reason: "no process of the container was running", Count: 1})
		return nil
	}
	stage(o, "memory")
	return memory.Collect(ctx, s, w, memory.Options{Mode: o.Memory})
}

// NewWriter begins a package for c on out. It is here so that both programs describe a capture alike.
func NewWriter(out io.Writer, c *target.Container, wo evidence.WriterOptions) (*evidence.Writer, error) {
	wo.Target = c
	return evidence.NewWriter(out, wo)
}
