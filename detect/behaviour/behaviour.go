// Package behaviour holds rules that are written down as data: YAML around conditions in CEL, the Common Expression Language
// (https://cel.dev), over the facts of one package: processes and what belongs to them, sockets, mounts, what differs from the image, and
// events. A condition is typed before it is ever asked, always ends, can't reach anything but what it is given, and has a price that
// is known and bounded; what it looks at and was not collected makes it blind, unless the rest of it decides all the same.
// docs/writing-a-rule.md is its manual.
package behaviour

import (
	"context"
	"embed"
	"fmt"
	"path"
	"slices"
	"sync"

	"github.com/sherd-forensics/sherd/detect"
)

const language = "CEL"

//go:embed rules/*.yaml
var embedded embed.FS

// own are Sherd's own rules, compiled once.
var own = sync.OnceValue(func() []*rule {
	files, err := embedded.ReadDir("rules")
	if err != nil {
		panic(fmt.Sprintf("the program's own rules can't be read: %v", err)) // they are part of the program
	}
	var out []*rule
	for _, f := range files {
		src, err := embedded.ReadFile(path.Join("rules", f.Name()))
		if err != nil {
			panic(fmt.Sprintf("the program's own rules can't be read: %v", err))
		}
		rules, refused := load(f.Name(), src, "", nil)
		if len(refused) > 0 {
			panic(fmt.Sprintf("the program's own rules don't load: %+v", refused)) // a test loads them
		}
		out = append(out, rules...)
	}
	return out
})

// Set is a set of rules. It implements detect.Language.
type Set struct {
	rules []*rule
	ids   map[string]string // to their file
}

// New makes a set with Sherd's own rules.
func New() *Set {
	s := &Set{rules: slices.Clone(own()), ids: map[string]string{}}
	for _, r := range s.rules {
		s.ids[r.ID] = "Sherd itself"
	}
	return s
}

// Add loads the rules of a file, one in each of its YAML documents. What is wrong with one does not touch the others.
func (s *Set) Add(file string, src []byte) (loaded int, refused []detect.Refusal) {
	rules, refused := load(file, src, file, s.ids)
	if room := maxRules - len(s.rules); len(rules) > room {
		refused = append(refused, detect.Refusal{File: file, Why: fmt.Sprintf("%d of its rules are more than the %d that can be asked", len(rules)-room, maxRules)})
		rules = rules[:room]
	}
	for _, r := range rules {
		s.ids[r.ID] = file
	}
	s.rules = append(s.rules, rules...)
	return len(rules), refused
}

func load(file string, src []byte, origin string, taken map[string]string) ([]*rule, []detect.Refusal) {
	defs, refused := read(file, src)
	var out []*rule
	here := map[string]bool{}
	for i := range defs {
		d := &defs[i]
		where := taken[d.id]
		if here[d.id] {
			where = "this file, above"
		}
		if where != "" {
			refused = append(refused, detect.Refusal{File: file, Line: d.line, Rule: d.id, Why: "there is a rule of this id already, from " + where})
			continue
		}
		r, err := compile(d, origin)
		if err != nil {
			refused = append(refused, refusal(file, d.id, d.line, err))
			continue
		}
		here[d.id] = true
		out = append(out, r)
	}
	slices.SortStableFunc(refused, func(a, b detect.Refusal) int { return a.Line - b.Line })
	return out, refused
}

// Name implements detect.Language.
func (*Set) Name() string { return language }

// Rules implements detect.Language.
func (s *Set) Rules() []detect.Rule {
	out := make([]detect.Rule, len(s.rules))
	for i, r := range s.rules {
		out[i] = r.Rule
	}
	return out
}

// Answers implements detect.Language. It gives an answer of each rule, in the order in which they were loaded.
func (s *Set) Answers(ctx context.Context, in detect.Input) ([]detect.Answer, error) {
	w := newWorld(in.Facts)
	out := make([]detect.Answer, len(s.rules))
	var overEvents []int
	for i, r := range s.rules {
		if r.over.each == nil {
			overEvents = append(overEvents, i)
			continue
		}
		out[i] = detect.Ask(&r.Rule, in.Facts, func(a *detect.Answer) { newAsking(r, w, a).all(ctx) })
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("ask the rules: %w", err)
		}
	}
	s.events(ctx, in, w, overEvents, out)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("ask the rules: %w", err)
	}
	return out, nil
}

// events asks the rules over events, in one pass through them.
func (s *Set) events(ctx context.Context, in detect.Input, w *world, which []int, out []detect.Answer) {
	if len(which) == 0 {
		return
	}
	asked := make([]*asking, len(which))
	for n, i := range which {
		asked[n] = newAsking(s.rules[i], w, &detect.Answer{Rule: &s.rules[i].Rule})
	}
	ended := ""
	if in.Events == nil {
		ended = "nobody reads them here"
	} else {
		live := slices.Clone(asked)
		for e, err := range in.Events {
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				ended = err.Error()
				break
			}
			live = slices.DeleteFunc(live, func(k *asking) bool { return !k.one(e) })
			if len(live) == 0 {
				break
			}
		}
	}
	for n, i := range which {
		k := asked[n]
		k.done()
		out[i] = detect.Ask(&s.rules[i].Rule, in.Facts, func(a *detect.Answer) {
			a.Hits, a.Blind = k.a.Hits, k.a.Blind
			if ended != "" {
				a.BlindTo("events", ended)
			}
		})
	}
}
