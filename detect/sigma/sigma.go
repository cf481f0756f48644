// Package sigma asks rules in Sigma (https://sigmahq.io, specification 2.1) of events: of a stream, with an index of the texts that
// rules need, and of a lake, as conditions of its query language. Correlations are asked of streams alone.
//
// What a rule says that can't be answered here is refused by name when the rule is loaded, never passed over: a modifier, a field that the
// events of a log source don't have, a log source of which there are none. docs/sigma.md lists what there is.
package sigma

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/lake/query"
	"github.com/sherd-forensics/sherd/verdict"
)

// Name is that of the language.
const Name = "Sigma"

// Set is a set of rules. Make it with New, add rules, then ask; it may not be changed while it is asked.
type Set struct {
	// Placeholders are the values for the modifier expand, by name without the percent signs. Set them before rules are added.
	Placeholders map[string][]string

	rules    []*rule
	byName   map[string]*rule
	ids      map[string]bool
	own      bool // Sherd's own rules are being added
	resolved bool
	matcher  *matcher
	plain    bool // each rule is asked of each event, for comparison
}

// Empty makes a set without any rules.
func Empty() *Set { return &Set{byName: map[string]*rule{}, ids: map[string]bool{}} }

// New makes a set that has Sherd's own rules.
func New() *Set {
	s := Empty()
	s.own = true
	files, err := embedded.ReadDir("rules")
	if err != nil {
		panic(err) // it is part of the program
	}
	for _, f := range files {
		src, err := embedded.ReadFile("rules/" + f.Name())
		if err != nil {
			panic(err)
		}
		if _, refused := s.Add(f.Name(), src); len(refused) > 0 {
			panic(fmt.Sprintf("%s: %v", f.Name(), refused))
		}
	}
	s.own = false
	return s
}

// Name is that of the language.
func (s *Set) Name() string { return Name }

// Rules lists all rules that have findings of their own, Sherd's first, then as they were added.
func (s *Set) Rules() []detect.Rule {
	s.Resolve()
	out := make([]detect.Rule, 0, len(s.rules))
	for _, r := range s.rules {
		if !r.hidden {
			out = append(out, r.Rule)
		}
	}
	return out
}

// Query gives what a lake is asked for all events that match any of the rules that were added, Sherd's own left out. Correlations look at
// many events, which no condition on one can: their names are given, and what they rest on is asked for.
func (s *Set) Query() (q *query.Query, correlations []string) {
	s.Resolve()
	var any []query.Node
	for _, r := range s.rules {
		switch {
		case r.Origin == "":
		case r.cor != nil:
			correlations = append(correlations, r.Title)
		default:
			any = append(any, r.node())
		}
	}
	if len(any) == 0 {
		return nil, correlations
	}
	return &query.Query{Text: Name, Root: &query.Or{Nodes: any}}, correlations
}

// node is a rule with its log source.
func (r *rule) node() query.Node {
	return &query.And{Nodes: []query.Node{r.source.node(), r.query.Root}}
}

// maxHits bounds what is kept for correlations, of all of them together.
const (
	maxHits  = 1_000_000
	maxBytes = 128 << 20 // of their fields' values
	maxKept  = 1024      // bytes of one value: longer ones are told apart by these
)

// maxCited is how many events of a rule are cited, the earliest.
const maxCited = 5

// found is what a rule matched, all in all.
type found struct {
	count       int
	first, last int64 // nanoseconds UTC, of those that have a time
	samples     []sample
}

// sample is one of the first events that matched.
type sample struct {
	time, seq int64
	place     place
	message   string
	pid       int
	path      string
}

// reading is one pass over the events.
type reading struct {
	set     *Set
	in      detect.Input
	matches map[*rule]*[2]found // of what others can't have forged, and of what the container can have
	hits    map[*rule][]*hit
	total   int
	bytes   int // of strings
	full    bool
	present map[*source]bool
	strings map[string]string
}

// Answers reads the events once and asks all rules. Where the package can't hold events of any rule's log source, nothing is read.
func (s *Set) Answers(ctx context.Context, in detect.Input) ([]detect.Answer, error) {
	s.Resolve()
	if s.matcher == nil {
		s.matcher = newMatcher(s.rules, !s.plain)
	}
	r := &reading{set: s, in: in, matches: map[*rule]*[2]found{}, hits: map[*rule][]*hit{}, present: map[*source]bool{}, strings: map[string]string{}}
	var err error
	if in.Events != nil && s.possible(in) {
		err = r.read(ctx, in.Events)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	out := r.answers()
	out = append(out, r.correlated()...)
	if b := r.blind(); b != nil {
		out = append(out, *b)
	}
	if err != nil {
		err = fmt.Errorf("reading events: %w", err)
	}
	return out, err
}

// Folders are the folders of a package in which events of the rules' log sources can be.
func (s *Set) Folders() []string {
	s.Resolve()
	var out []string
	for _, r := range s.rules {
		if r.source == nil {
			continue
		}
		for _, f := range r.source.folders {
			if !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return out
}

// possible reports whether the package can hold events of any rule's log source.
func (s *Set) possible(in detect.Input) bool {
	if in.Package == nil {
		return true
	}
	return slices.ContainsFunc(s.Folders(), func(f string) bool {
		return slices.ContainsFunc(in.Package.Artifacts(f), func(e evidence.Entry) bool { return e.Size > 0 })
	})
}

// batch is events that one goroutine matches.
type batch struct {
	events []event.Event
	seqs   []int64 // of the events, in the order of the stream
	out    []result
	seen   map[*source]bool
	done   chan struct{}
}

// result is one rule that one event matched.
type result struct {
	rule   *rule
	event  int
	values []string
}

const batchSize = 1024

// read passes all events to the matcher, on all processors. What comes out is taken in the order of the events, so that bounds cut at the
// same place each time.
func (r *reading) read(ctx context.Context, events iter.Seq2[*event.Event, error]) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	workers := min(runtime.GOMAXPROCS(0), 8)
	work, order := make(chan *batch), make(chan *batch, 2*workers)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			var s scratch
			for b := range work {
				r.set.matcher.batch(b, &s)
				close(b.done)
			}
		})
	}
	free := sync.Pool{New: func() any { return &batch{} }}
	all.Go(func() {
		for b := range order {
			<-b.done
			r.take(b)
			free.Put(b)
		}
	})
	send := func(b *batch) bool {
		if ctx.Err() != nil {
			return false
		}
		b.done = make(chan struct{})
		work <- b
		order <- b
		return true
	}
	fresh := func() *batch {
		b, _ := free.Get().(*batch)
		*b = batch{events: b.events[:0], seqs: b.seqs[:0], out: b.out[:0]}
		return b
	}
	var failed error
	n := int64(0)
	b := fresh()
	for e, err := range events {
		if err != nil {
			failed = err
			break
		}
		if !r.set.matcher.wants(e) {
			n++
			continue
		}
		b.add(e, n)
		n++
		if len(b.events) == batchSize {
			if !send(b) {
				failed = ctx.Err()
				b = nil
				break
			}
			b = fresh()
		}
	}
	if b != nil && len(b.events) > 0 {
		send(b)
	}
	close(work)
	close(order)
	all.Wait()
	return failed
}

// wants reports whether an event is of any rule's log source.
func (m *matcher) wants(e *event.Event) bool {
	for _, x := range m.sources {
		if x.source.has(e) {
			return true
		}
	}
	return false
}

// add copies an event, whose attributes are its reader's again.
func (b *batch) add(e *event.Event, n int64) {
	b.seqs = append(b.seqs, n)
	b.events = append(b.events, *e)
	b.events[len(b.events)-1].Attributes = slices.Clone(e.Attributes)
}

func (m *matcher) batch(b *batch, s *scratch) {
	b.seen = map[*source]bool{}
	for i := range b.events {
		m.match(&b.events[i], s, func(x *source) { b.seen[x] = true }, func(r *rule, rec *query.Record) {
			out := result{rule: r, event: i}
			for _, f := range r.values {
				out.values = append(out.values, f.Value(rec))
			}
			b.out = append(b.out, out)
		})
	}
}

// take counts what a batch has found.
func (r *reading) take(b *batch) {
	for x := range b.seen {
		r.present[x] = true
	}
	for _, x := range b.out {
		e := &b.events[x.event]
		seq := b.seqs[x.event]
		p := place{r.intern(e.Artifact), e.Offset, e.Length, strings.HasPrefix(string(e.Attributes), `{"compression":`)}
		if x.rule.serving {
			r.keep(&x, e, seq, p)
		}
		if x.rule.hidden {
			continue
		}
		both := r.matches[x.rule]
		if both == nil {
			both = &[2]found{}
			r.matches[x.rule] = both
		}
		f := &both[0]
		if forgeable(e.Artifact) {
			f = &both[1]
		}
		f.note(e, seq, p)
	}
}

func (f *found) note(e *event.Event, seq int64, p place) {
	f.count++
	if e.Time != 0 {
		if f.first == 0 || e.Time < f.first {
			f.first = e.Time
		}
		f.last = max(f.last, e.Time)
	}
	before := func(a, b *sample) int {
		return cmp.Or(b2i(a.time == 0)-b2i(b.time == 0), cmp.Compare(a.time, b.time), cmp.Compare(a.seq, b.seq))
	}
	s := sample{time: e.Time, seq: seq, place: p}
	if n := len(f.samples); n == maxCited && before(&s, &f.samples[n-1]) >= 0 {
		return
	}
	s.message, s.path = clip(e.Message, 160), e.Path
	if e.Parser == "process" || e.Parser == "socket" {
		s.pid = e.PID
	}
	f.samples = append(f.samples, s)
	slices.SortStableFunc(f.samples, func(a, b sample) int { return before(&a, &b) })
	f.samples = f.samples[:min(len(f.samples), maxCited)]
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// keep notes an event for correlations.
func (r *reading) keep(x *result, e *event.Event, seq int64, p place) {
	if r.total >= maxHits || r.bytes >= maxBytes {
		r.full = true
		return
	}
	r.total++
	h := &hit{time: e.Time, seq: seq, of: x.rule, place: p, most: x.rule.source.most}
	if forgeable(e.Artifact) {
		h.most = verdict.Low
	}
	for _, v := range x.values {
		h.values = append(h.values, r.intern(v[:min(len(v), maxKept)]))
	}
	r.hits[x.rule] = append(r.hits[x.rule], h)
}

// intern keeps one copy of a text.
func (r *reading) intern(s string) string {
	if have, ok := r.strings[s]; ok {
		return have
	}
	s = strings.Clone(s)
	r.bytes += len(s)
	r.strings[s] = s
	return s
}

// forgeable reports whether the container itself can have written an artifact, so that it proves nothing but that it was written.
func forgeable(artifact string) bool {
	return strings.HasPrefix(artifact, "filesystem/upper/") || strings.HasPrefix(artifact, "volumes/") || strings.HasPrefix(artifact, "logs/")
}
