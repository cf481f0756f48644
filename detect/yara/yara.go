// Package yara asks rules in the language YARA of the files of a package that are not the image's, of the programs that ran, and of the
// memory of processes.
//
// The rules are compiled and matched by libyara 4.2 (https://yara.readthedocs.io/en/v4.2.3/). What this package adds: a rule that is
// broken is refused by name and the rest of its file is loaded; memory is given to libyara as one space of true addresses, read
// window by window from the sealed package; each match is cited as the bytes of an artifact; and what a match means is graded by
// where it lies, because a process's data hold what clients send to it.
//
// A match proves that the bytes are there. It does not prove that they ran.
package yara

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	libyara "github.com/hillu/go-yara/v4"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/verdict"
)

//go:embed rules/*.yar
var own embed.FS

// rule is one that is told of when it matches.
type rule struct {
	detect.Rule
	facts
	unit int
	name string
}

// Set is a set of rules. It may be asked by many at once when nothing is added any more.
type Set struct {
	units []unit
	rules []rule
	index map[key]int // of rules
	seen  map[string]bool
	ids   map[string]bool
	// wrong is why Sherd's own rules can't be asked; only a defect of this program can make it.
	wrong error

	mu       sync.Mutex
	compiled *libyara.Rules

	// patience is how long one file or process may take; 0 is by its size.
	patience time.Duration
}

// key names a rule as libyara does.
type key struct {
	unit int
	name string
}

// New returns a set that has Sherd's own rules in it. They are compiled once in a process.
func New() *Set {
	s := ours()
	// What is added to one set is not in another. The compiled program is only read.
	return &Set{units: slices.Clone(s.units), rules: slices.Clone(s.rules), index: maps.Clone(s.index), seen: maps.Clone(s.seen), ids: maps.Clone(s.ids),
		wrong: s.wrong, compiled: s.compiled}
}

var ours = sync.OnceValue(func() *Set {
	s := Empty()
	names, err := fs.Glob(own, "rules/*.yar")
	if err != nil || len(names) == 0 {
		s.wrong = errors.Join(errors.New("Sherd's own rules are not to be found"), err) //nolint:staticcheck // Sherd is a name
		return s
	}
	for _, name := range names {
		src, err := own.ReadFile(name)
		if err != nil {
			s.wrong = err
			return s
		}
		if _, refused := s.add(name, src, true); len(refused) > 0 {
			s.wrong = fmt.Errorf("%s: line %d: rule %s: %s", path.Base(name), refused[0].Line, refused[0].Rule, refused[0].Why)
		}
	}
	if _, err := s.program(); err != nil {
		s.wrong = errors.Join(s.wrong, err)
	}
	return s
})

// Empty returns a set without rules.
func Empty() *Set {
	return &Set{index: map[key]int{}, seen: map[string]bool{}, ids: map[string]bool{}}
}

// Add adds the rules of a file, which is read for its includes alone: src is what it holds. It returns how many rules it took, private
// ones among them, and those that it could not take.
func (s *Set) Add(file string, src []byte) (loaded int, refused []detect.Refusal) {
	return s.add(file, src, false)
}

func (s *Set) add(file string, src []byte, ours bool) (int, []detect.Refusal) {
	l := load(file, src)
	if l.compiled == nil {
		return 0, l.refused
	}
	defer l.compiled.Destroy()
	at := len(s.units)
	s.units = append(s.units, l.unit)
	byName := map[string]*item{}
	for i := range l.unit.rules {
		byName[l.unit.rules[i].name] = &l.unit.rules[i]
	}
	for _, r := range l.compiled.GetRules() {
		it := byName[r.Identifier()]
		if it == nil || r.IsPrivate() {
			continue
		}
		// Collections hold one another's rules: the same text is told of once. It stays in its file, for others refer to it.
		sum := digest(it.text)
		same := it.name + string(sum[:])
		if s.seen[same] {
			continue
		}
		s.seen[same] = true
		s.index[key{at, it.name}] = len(s.rules)
		s.rules = append(s.rules, s.rule(&r, it, at, ours))
	}
	s.mu.Lock()
	s.compiled = nil
	s.mu.Unlock()
	return len(l.unit.rules), l.refused
}

// rule fills in what lists of rules show.
func (s *Set) rule(r *libyara.Rule, it *item, at int, ours bool) rule {
	f := describe(r)
	out := rule{facts: f, unit: at, name: it.name}
	d := &out.Rule
	d.Title, d.Severity, d.Technique, d.Language = f.description, f.severity, f.technique, language
	if d.Title == "" {
		d.Title = it.name
	}
	d.Rationale, d.FalseAlarms = f.rationale, f.falseAlarms
	if ours {
		d.ID = "yara-" + strings.ReplaceAll(strings.ToLower(it.name), "_", "-")
		if f.reference != "" {
			d.Rationale = strings.TrimSpace(d.Rationale + " See " + f.reference + ".")
		}
		s.ids[d.ID] = true
		return out
	}
	d.Origin = it.file
	said := []string{fmt.Sprintf("line %d of %s", it.line, printable.Clip(it.file, 200))}
	for _, x := range [][2]string{{"by ", f.author}, {"of ", f.date}, {"see ", f.reference}} {
		if x[1] != "" {
			said = append(said, x[0]+x[1])
		}
	}
	d.Rationale = strings.TrimSpace(d.Rationale + " From " + strings.Join(said, ", ") + ".")
	d.ID = "yara:" + it.name
	for n := 2; s.ids[d.ID]; n++ {
		d.ID = fmt.Sprintf("yara:%s#%d", it.name, n)
	}
	s.ids[d.ID] = true
	return out
}

const language = "YARA"

// Name is YARA.
func (s *Set) Name() string { return language }

// Rules lists the rules that are told of: those that are not private, each once.
func (s *Set) Rules() []detect.Rule {
	out := make([]detect.Rule, len(s.rules))
	for i := range s.rules {
		out[i] = s.rules[i].Rule
	}
	return out
}

// program is all rules, compiled.
func (s *Set) program() (*libyara.Rules, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.compiled != nil {
		return s.compiled, nil
	}
	all := make([][]item, len(s.units))
	for i := range s.units {
		all[i] = s.units[i].rules
	}
	r, err := s.compileUnits(all)
	if err == nil {
		s.compiled = r
	}
	return r, err
}

// compileUnits compiles some rules of each unit into one program; a unit's number is its namespace.
func (s *Set) compileUnits(rules [][]item) (*libyara.Rules, error) {
	c, err := newCompiler()
	if err != nil {
		return nil, err
	}
	defer c.Destroy()
	for i := range s.units {
		if len(rules[i]) == 0 {
			continue
		}
		src, _ := s.units[i].source(rules[i])
		if err := c.AddString(src, fmt.Sprint(i)); err != nil {
			return nil, fmt.Errorf("compiling the rules of %s: %w", printable.Clip(rules[i][0].file, 200), err)
		}
	}
	return c.GetRules()
}

// others are the rules without some of them.
func (s *Set) others(but []int) []int {
	var out []int
	for i := range s.rules {
		if !slices.Contains(but, i) {
			out = append(out, i)
		}
	}
	return out
}

// compilePart compiles some rules, with those that they refer to and the global rules of their files.
func (s *Set) compilePart(rules []int) (*libyara.Rules, error) {
	parts := make([][]item, len(s.units))
	wanted := make([]map[string]bool, len(s.units))
	for _, r := range rules {
		u := s.rules[r].unit
		if wanted[u] == nil {
			wanted[u] = map[string]bool{}
		}
		wanted[u][s.rules[r].name] = true
	}
	for u := range parts {
		if wanted[u] == nil {
			continue
		}
		have := map[string]item{}
		for _, it := range s.units[u].rules {
			have[it.name] = it
		}
		need := map[string]bool{}
		for _, it := range s.units[u].rules {
			if it.global || wanted[u][it.name] {
				need[it.name] = true
				for _, x := range closure(&it, have) {
					need[x.name] = true
				}
			}
		}
		for _, it := range s.units[u].rules {
			if need[it.name] {
				parts[u] = append(parts[u], it)
			}
		}
	}
	return s.compileUnits(parts)
}

// Answers asks the rules of a package.
func (s *Set) Answers(ctx context.Context, in detect.Input) ([]detect.Answer, error) {
	if s.wrong != nil {
		return nil, s.wrong
	}
	if len(s.rules) == 0 {
		return nil, nil
	}
	program, err := s.program()
	if err != nil {
		return nil, err
	}
	a := newAsking(s, program, in)
	if err := a.collect(ctx); err != nil {
		return nil, err
	}
	if err := a.scan(ctx); err != nil {
		return nil, err
	}
	a.grade()
	out := make([]detect.Answer, 0, len(s.rules))
	for i := range a.answers {
		if x := &a.answers[i]; x.Rule.Origin == "" || x.State() != detect.Clean {
			out = append(out, *x)
		}
	}
	return out, nil
}

// sorted orders hits as those of other rules are: the gravest first, then by time and place.
func sorted(hits []detect.Finding) {
	slices.SortStableFunc(hits, func(x, y detect.Finding) int {
		if d := y.Severity.Rank() - x.Severity.Rank(); d != 0 {
			return d
		}
		return strings.Compare(x.Statement, y.Statement)
	})
}

// lesser is the lesser of two severities.
func lesser(a, b verdict.Severity) verdict.Severity {
	if a.Rank() < b.Rank() {
		return a
	}
	return b
}
