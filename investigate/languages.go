package investigate

import (
	"context"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/behaviour"
)

// rules asks Sherd's own rules: those in Go, and those in CEL, which nobody can leave out. A user's set of the latter holds Sherd's own too.
func (w *work) rules(ctx context.Context, o Options) error {
	w.answers = detect.Run(w.f)
	set := behaviourOf(o)
	if set == nil {
		set = behaviour.New()
	}
	return w.ask(ctx, set, detect.Input{Facts: w.f, Package: w.p, Events: o.Events})
}

// behaviourOf is the first set of rules in CEL that the options bring along, nil if there is none.
func behaviourOf(o Options) *behaviour.Set {
	for _, l := range o.Languages {
		if s, ok := l.(*behaviour.Set); ok {
			return s
		}
	}
	return nil
}

// languages asks the rules that are written in languages of their own, but for those that were asked at first.
func (w *work) languages(ctx context.Context, o Options) error {
	in := detect.Input{Facts: w.f, Package: w.p, Events: o.Events}
	first := behaviourOf(o)
	for _, l := range o.Languages {
		if s, ok := l.(*behaviour.Set); ok && s == first {
			continue
		}
		if err := w.ask(ctx, l, in); err != nil {
			return err
		}
	}
	return nil
}

// ask asks the rules of one language. One that fails as a whole is a gap, and the rest goes on.
func (w *work) ask(ctx context.Context, l detect.Language, in detect.Input) error {
	answers, err := l.Answers(ctx, in)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	w.answers = append(w.answers, answers...)
	if err != nil {
		w.gap("what the rules in "+l.Name()+" would say", err.Error(), "they were not asked, or not to the end")
	}
	w.r.Answers = w.answers
	w.collectFindings()
	return nil
}
