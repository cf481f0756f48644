package collect

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	hostcontext "github.com/sherd-forensics/sherd/collect/context"
	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target"
)

// Told makes a package of what an API tells of a container: its records and streams. Nothing of the container is looked at, and nothing
// of this machine is taken: that is not the one it runs on. why says in the coverage for what reason the rest is missing. Errors and
// cancelling are as with Run.
func Told(ctx context.Context, c *target.Container, w *evidence.Writer, why string) (*Result, error) {
	begin := time.Now()
	for _, kind := range []struct{ name, what string }{
		{"process", "processes"}, {"memory", "memory"}, {"network", "sockets, connections and the network around them"},
		{"filesystem", "the files of container and image"}, {"volumes", "what lies on its volumes"}, {"context", "the node: kernel, clocks, counters of control groups"},
	} {
		w.Status(kind.name, "none")
		w.Miss(record.Miss{What: kind.what, Kind: kind.name, Reason: why, Count: 1})
	}
	for _, warning := range c.Warnings {
		w.Miss(record.Miss{What: "target", Kind: "target", Reason: warning, Partial: true, Count: 1})
	}
	logs := "none"
	for _, s := range c.Streams {
		if strings.HasPrefix(s.Path, "logs/") {
			logs = "partial"
		}
	}
	w.Status("logs", logs)
	w.Status("target", "partial")
	s := subject.Subject{Container: c}
	err := streams(ctx, s, w)
	if err == nil {
		err = hostcontext.Target(w, c, nil)
	}
	if err = errors.Join(err, ctx.Err()); err != nil && ctx.Err() == nil {
		return nil, err
	}
	if err != nil {
		w.Miss(record.Miss{What: "the rest of the capture", Kind: "target", Reason: "stopped: " + context.Cause(ctx).Error(), Partial: true, Count: 1})
	}
	sealed, cerr := w.Close()
	if cerr != nil {
		return nil, fmt.Errorf("sealing the package: %w", cerr)
	}
	r := &Result{Sealed: sealed, Coverage: w.Coverage(), Elapsed: time.Since(begin)}
	if err != nil {
		return r, context.Cause(ctx)
	}
	return r, nil
}
