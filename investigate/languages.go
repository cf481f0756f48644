package investigate

import (
	"context"

	"github.com/sherd-forensics/sherd/detect"
)

// languages asks the rules that are written in languages of their own. One that fails as a whole is a gap, and the rest goes on.
func (w *work) languages(ctx context.Context, o Options) error {
	in := detect.Input{Facts: w.f, Package: w.p, Events: o.Events}
	for _, l := range o.Languages {
		answers, err := l.Answers(ctx, in)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.answers = append(w.answers, answers...)
		if err != nil {
			w.gap("what the rules in "+l.Name()+" would say", err.Error(), "they were not asked, or not to the end")
		}
	}
	w.r.Answers = w.answers
	w.collectFindings()
	return nil
}
