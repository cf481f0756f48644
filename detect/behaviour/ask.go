package behaviour

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/verdict"
)

// maxStatement is how many runes a statement has at most.
const maxStatement = 600

// asking is one rule being asked of one package.
type asking struct {
	*rule
	w     *world
	a     *detect.Answer
	vars  variables
	said  map[string]bool // values of once
	blind blindness
	spent uint64 // of maxRuleSum
	dear  int    // objects that cost too much
}

// variables are what an expression can name. They implement CEL's Activation.
type variables []*object

// ResolveName implements cel.Activation.
func (v variables) ResolveName(name string) (any, bool) {
	for _, o := range v {
		if o.kind.name == name {
			return o, true
		}
	}
	return nil, false
}

// Parent implements cel.Activation.
func (variables) Parent() cel.Activation { return nil }

func newAsking(r *rule, w *world, a *detect.Answer) *asking {
	k := &asking{rule: r, w: w, a: a, said: map[string]bool{}}
	in := &scope{world: w}
	for _, kind := range r.over.kinds {
		k.vars = append(k.vars, in.object(kind, nil))
	}
	k.vars = append(k.vars, in.object(containerKind, w))
	return k
}

// all asks the rule of everything that it ranges over.
func (k *asking) all(ctx context.Context) {
	if k.over.note != nil {
		k.over.note(k.w, k.a)
	}
	k.over.each(k.w, func(vals ...any) bool { return ctx.Err() == nil && k.one(vals...) })
	k.done()
}

// done notes what could not be looked at.
func (k *asking) done() { k.blind.note(k.a) }

// one asks the rule of one combination of objects; false ends the asking.
func (k *asking) one(vals ...any) bool {
	for i, v := range vals {
		k.vars[i].v = v
	}
	if k.guard != nil {
		if v, _, err := k.guard.Eval(k.vars); err == nil && v == types.False {
			k.spent++
			return true
		}
	}
	hit, err := k.truth(k.when)
	if err != nil {
		k.failed(vals, err)
	} else if hit {
		k.hit(vals)
	}
	if k.spent > maxRuleSum || k.dear > maxOver {
		k.a.BlindTo("what follows "+k.subject(vals), "its condition has cost as much as one rule may")
		return false
	}
	return true
}

func (k *asking) subject(vals []any) string {
	if len(vals) == 0 {
		return "the container"
	}
	return named(vals[0])
}

// truth evaluates a condition.
func (k *asking) truth(p cel.Program) (bool, error) {
	v, details, err := p.Eval(k.vars)
	k.pay(details)
	if err != nil {
		return false, err
	}
	return v == types.True, nil
}

func (k *asking) pay(d *cel.EvalDetails) {
	k.spent++
	if d != nil {
		if cost := d.ActualCost(); cost != nil {
			k.spent += *cost
		}
	}
}

// hit makes a finding of what met the condition.
func (k *asking) hit(vals []any) {
	if k.once != nil {
		v, details, err := k.once.Eval(k.vars)
		k.pay(details)
		if err != nil {
			k.failed(vals, err)
			return
		}
		key := fmt.Sprint(v.Value())
		if k.said[key] {
			return
		}
		k.said[key] = true
	}
	fd := detect.Finding{Finding: verdict.Finding{Severity: k.Severity, Technique: k.Technique}}
	fill(k.w, &fd, vals)
	say, foreign := k.say, k.foreign
	for i := range k.grades {
		g := &k.grades[i]
		yes, err := k.truth(g.when)
		if err != nil {
			// What the milder grade rests on can't be seen: the hit stands as the mildest of what it may be.
			k.failed(vals, err)
			fd.Severity = milder(fd.Severity, g.severity)
			continue
		}
		if yes {
			fd.Severity = g.severity
			if g.attack != "" {
				fd.Technique = g.attack
			}
			if g.say != nil {
				say = g.say
			}
			if g.foreign != nil {
				foreign = g.foreign
			}
			break
		}
	}
	if foreign != nil {
		yes, err := k.truth(foreign)
		if err != nil {
			k.failed(vals, err)
		}
		fd.Foreign = yes && err == nil
	}
	if err := k.state(&fd, say, vals); err != nil {
		k.failed(vals, err)
		return
	}
	k.a.Add(fd)
}

func milder(a, b verdict.Severity) verdict.Severity {
	if a.Rank() < b.Rank() {
		return a
	}
	return b
}

// state gives a finding its statement, and the citations of all that it speaks of.
func (k *asking) state(fd *detect.Finding, say cel.Program, vals []any) error {
	var touched []*object
	in := &scope{world: k.w, shown: true, touched: &touched}
	shown := make(variables, len(k.vars))
	for i, o := range k.vars {
		shown[i] = in.object(o.kind, o.v)
	}
	v, details, err := say.Eval(shown)
	k.pay(details)
	if err != nil {
		return err
	}
	text, ok := v.(types.String)
	if !ok || strings.TrimSpace(string(text)) == "" {
		return errors.New("its statement is empty")
	}
	fd.Statement = printable.Clip(string(text), maxStatement)
	for _, v := range vals {
		fd.Citations = append(fd.Citations, cite(k.w, v)...)
	}
	for _, o := range touched {
		// What a statement says of the container it says of the objects; their places prove it.
		if o.kind == containerKind && len(fd.Citations) > 0 {
			continue
		}
		fd.Citations = append(fd.Citations, cite(k.w, o.v)...)
	}
	if len(vals) == 0 && len(fd.Citations) == 0 {
		fd.Citations = cite(k.w, k.w)
	}
	fd.Citations = unique(fd.Citations)
	if len(fd.Citations) == 0 {
		return errors.New("the package has nothing that a statement could cite")
	}
	return nil
}

// maxCites bounds the proofs of one finding.
const maxCites = 24

func unique(list []verdict.Citation) []verdict.Citation {
	var out []verdict.Citation
	for _, c := range list {
		if !slices.Contains(out, c) && len(out) < maxCites {
			out = append(out, c)
		}
	}
	return out
}

// failed notes why a combination could not be judged.
func (k *asking) failed(vals []any, err error) {
	var gap *unseen
	var cancelled interpreter.EvalCancelledError
	switch {
	case errors.As(err, &gap):
		k.blind.add(gap.what, gap.why)
	case errors.As(err, &cancelled):
		k.dear++
		k.blind.add(k.subject(vals), "its condition costs more than may be spent on one")
	default:
		why, _, _ := strings.Cut(err.Error(), "\n")
		k.blind.add(k.subject(vals), "its condition can't be told: "+printable.Clip(why, maxWord))
	}
}

// blindness gathers what one rule could not look at: the first few by name, the rest by number.
type blindness struct {
	order []string
	by    map[string]*reason
}

type reason struct {
	what []string
	seen map[string]bool
	more int
}

const maxBlind = 5

func (b *blindness) add(what, why string) {
	if b.by == nil {
		b.by = map[string]*reason{}
	}
	r := b.by[why]
	switch {
	case r == nil && len(b.order) >= 40:
		why = "for other reasons"
		if r = b.by[why]; r != nil {
			break
		}
		fallthrough
	case r == nil:
		r = &reason{seen: map[string]bool{}}
		b.by[why], b.order = r, append(b.order, why)
	}
	switch {
	case r.seen[what]:
	case len(r.what) < maxBlind:
		r.what, r.seen[what] = append(r.what, what), true
	default:
		r.more++
	}
}

func (b *blindness) note(a *detect.Answer) {
	for _, why := range b.order {
		r := b.by[why]
		for _, what := range r.what {
			a.BlindTo(what, why)
		}
		if r.more > 0 {
			a.BlindTo(fmt.Sprintf("%d more like %s", r.more, r.what[0]), why)
		}
	}
}
