package investigate

import (
	"context"
	"errors"
	"iter"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/applog"
	"github.com/sherd-forensics/sherd/parse/containerlog"
	"github.com/sherd-forensics/sherd/verdict"
)

// logLine is a line of output. Text is valid until the next one. A line of a compressed file is cited by the whole file, in which it has
// no place of its own.
type logLine struct {
	Time int64 // as the runtime stamped it; 0 when it keeps no times
	Text []byte
	Cite verdict.Citation
}

var errEnough = errors.New("the reader of lines has seen enough")

// logLines gives the container's log lines: as the runtimes keep them, or as they came. An error is of one artifact, and the next
// follows. What could not be read as lines is told by skipped.
func logLines(ctx context.Context, p *evidence.Package, skipped func(parse.Skip)) iter.Seq2[logLine, error] {
	return func(yield func(logLine, error) bool) {
		for _, e := range p.Artifacts("logs/") {
			err := artifactLines(ctx, p, &e, skipped, yield)
			if errors.Is(err, errEnough) || err != nil && !yield(logLine{}, err) {
				return
			}
		}
	}
}

func artifactLines(ctx context.Context, p *evidence.Package, e *evidence.Entry, skipped func(parse.Skip), yield func(logLine, error) bool) error {
	if e.Type != 0 && e.Type != '0' && e.Type != '1' {
		return nil
	}
	a, err := p.Open(e.Path)
	if err != nil {
		return err
	}
	in, err := parse.NewInput(a, event.Event{Artifact: e.Path})
	if err != nil {
		return err
	}
	defer in.Close()
	defer func() {
		for _, s := range in.Skips() {
			skipped(s)
		}
	}()
	each := func(l *applog.Line) error {
		c := verdict.Citation{Artifact: e.Path, Offset: l.Offset, Length: l.Length, SHA256: e.SHA256}
		if in.Compression != "" {
			c.Offset, c.Length = 0, e.Size
		}
		if !yield(logLine{l.Time, l.Text, c}, nil) {
			return errEnough
		}
		return nil
	}
	if containerlog.Recognises(in) {
		return containerlog.Each(ctx, in, each)
	}
	for l, err := range in.Lines() {
		if err != nil {
			return err
		}
		if err := each(&applog.Line{Text: l.Data, Offset: l.Offset, Length: l.Length}); err != nil {
			return err
		}
	}
	return nil
}
