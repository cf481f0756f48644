package yara

import (
	"context"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	libyara "github.com/hillu/go-yara/v4"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/internal/printable"
)

const (
	wholeFile  = 32 << 20 // up to which a file is given to libyara in one piece, as modules want it
	maxWorkers = 4
	maxPlaces  = 4096 // of matches of one rule's strings in one target that are looked at
	maxData    = 256  // bytes of a match that libyara tells
	noTryCatch = libyara.ScanFlags(4)
)

// spot is where a string of a rule matched.
type spot struct {
	name   string // of the string, "$a"
	addr   uint64 // in memory, or the offset in a file
	length int64  // at most maxData
}

// match is one rule that matched a target.
type match struct {
	rule  int // of the set
	spots []spot
	more  int // spots beyond those
}

// result is what came of one target.
type result struct {
	matches []match
	failed  []failure
	segs    []segment
	unread  error // why a part of it could not be read
	wrong   int   // segments that can't be true
}

// failure is a rule that could not be asked of a target.
type failure struct {
	rule int // of the set; -1: all
	why  string
}

// programs are the compiled rules, without those that were set aside because they were too slow more than once.
type programs struct {
	set *Set

	mu    sync.Mutex
	full  *libyara.Rules
	tired map[int]int // how often a rule was too slow
	aside []int       // rules that are not in full
}

// maxTired is how often a rule may be too slow before it is set aside.
const maxTired = 2

// get is the program with which the next target is scanned, and the rules that it lacks.
func (p *programs) get() (*libyara.Rules, []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.full, p.aside
}

// tire notes that a rule was too slow. Programs that others still use are left to the garbage collector.
func (p *programs) tire(rule int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tired[rule]++; p.tired[rule] != maxTired {
		return
	}
	aside := append(slices.Clone(p.aside), rule)
	if full, err := p.set.compilePart(p.set.others(aside)); err == nil {
		p.full, p.aside = full, aside
	}
}

func newAsking(s *Set, full *libyara.Rules, in detect.Input) *asking {
	a := &asking{set: s, program: &programs{set: s, full: full, tired: map[int]int{}}, in: in, images: map[string]string{}, bySum: map[string]*content{}, claimed: map[string]bool{}}
	a.answers = make([]detect.Answer, len(s.rules))
	for i := range s.rules {
		a.answers[i].Rule = &s.rules[i].Rule
	}
	return a
}

var limitMatches = sync.OnceValue(func() error { return libyara.SetConfiguration(libyara.ConfigMaxMatchData, maxData) })

// scan scans all targets, as many at a time as there are cores.
func (a *asking) scan(ctx context.Context) error {
	if err := limitMatches(); err != nil {
		return err
	}
	n := len(a.procs) + len(a.files)
	a.results = make([]result, n)
	work := make(chan int)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), maxWorkers, n) {
		wg.Go(func() {
			for i := range work {
				if i < len(a.procs) {
					a.memory(ctx, a.procs[i], &a.results[i])
				} else {
					a.file(ctx, a.files[i-len(a.procs)], &a.results[i])
				}
			}
		})
	}
	// Processes first: they take longest.
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		work <- i
	}
	close(work)
	wg.Wait()
	return ctx.Err()
}

// patience is how long a target of a size may take.
func (a *asking) patience(size int64) time.Duration {
	if a.set.patience > 0 {
		return a.set.patience
	}
	return 30*time.Second + time.Duration(size>>23)*time.Second
}

// scannable is what one scan needs: how to begin it, and the values of the external variables.
type scannable struct {
	run    func(*libyara.Scanner) error
	values map[string]string
	size   int64
}

func (a *asking) memory(ctx context.Context, p *detect.Process, out *result) {
	art, err := a.in.Package.Open(p.Dir + "/core")
	if err != nil {
		out.unread = err
		return
	}
	segs, regions, wrong := segmentsOf(p.Maps, art.Size())
	out.segs, out.wrong = segs, wrong
	if len(segs) == 0 {
		return
	}
	s := scannable{size: art.Size(), values: variables(detect.ExeName(p), nil, p.UID, true)}
	s.run = func(sc *libyara.Scanner) error {
		b := newBlocks(ctx, art, segs, regions)
		defer b.wait()
		err := sc.SetFlags(libyara.ScanFlagsProcessMemory | noTryCatch).ScanMemBlocks(b)
		if out.unread == nil {
			out.unread = b.failed
		}
		return err
	}
	a.match(ctx, &s, out)
}

func (a *asking) file(ctx context.Context, c *content, out *result) {
	art, err := a.in.Package.Open(c.artifact)
	if err != nil {
		out.unread = err
		return
	}
	p := &c.places[0]
	s := scannable{size: c.size}
	if c.size <= wholeFile {
		b, err := a.in.Package.ReadFile(c.artifact, wholeFile)
		if err != nil {
			out.unread = err
			return
		}
		s.values = variables(p.path, b[:min(8, len(b))], p.uid, p.hasUID)
		s.run = func(sc *libyara.Scanner) error { return sc.SetFlags(noTryCatch).ScanMem(b) }
	} else {
		s.values = variables(p.path, p.magic, p.uid, p.hasUID)
		s.run = func(sc *libyara.Scanner) error {
			b := newFileBlocks(ctx, art, c.size)
			defer b.wait()
			err := sc.SetFlags(noTryCatch).ScanMemBlocks(b)
			if out.unread == nil {
				out.unread = b.failed
			}
			return err
		}
	}
	a.match(ctx, &s, out)
}

// variables are the values of the external variables for a file or the program of a process.
func variables(name string, magic []byte, uid uint32, hasUID bool) map[string]string {
	// They end at a zero byte for libyara.
	name = strings.ReplaceAll(name, "\x00", "")
	v := map[string]string{"filepath": name, "filename": path.Base(name), "extension": path.Ext(name), "filetype": "", "owner": ""}
	switch m := string(magic); {
	case strings.HasPrefix(m, "\x7fELF"):
		v["filetype"] = "ELF"
	case strings.HasPrefix(m, "#!"):
		v["filetype"] = "SCRIPT"
	case strings.HasPrefix(m, "MZ"):
		v["filetype"] = "EXE"
	case strings.HasPrefix(m, "PK\x03\x04"):
		v["filetype"] = "ZIP"
	}
	if hasUID {
		v["owner"] = strconv.Itoa(int(uid))
	}
	return v
}

// match asks all rules of a subject; where that fails or takes too long, which of them it is.
func (a *asking) match(ctx context.Context, s *scannable, out *result) {
	limit := a.patience(s.size)
	program, aside := a.program.get()
	for _, r := range aside {
		out.failed = append(out.failed, failure{r, "it was set aside, for it had been too slow before"})
	}
	found, err := a.once(s, program, limit)
	if err == nil {
		out.matches = found
		return
	}
	if ctx.Err() != nil {
		return
	}
	i := isolation{a: a, s: s, out: out, ctx: ctx, end: time.Now().Add(4 * limit), each: max(limit/4, time.Second)}
	i.halves(a.set.others(aside), true)
}

func reason(err error, limit time.Duration) string {
	var e libyara.Error
	if errors.As(err, &e) && e == errTimeout {
		return fmt.Sprintf("it was not done within %s", limit.Round(time.Second))
	}
	return "libyara failed: " + err.Error()
}

// errTimeout is libyara's ERROR_SCAN_TIMEOUT.
const errTimeout = libyara.Error(26)

// isolation finds the rules that make a scan fail, by asking ever fewer at a time.
type isolation struct {
	a    *asking
	s    *scannable
	out  *result
	ctx  context.Context
	end  time.Time
	each time.Duration
}

// halves asks some rules; whole says that they have just failed together.
func (i *isolation) halves(rules []int, whole bool) {
	if i.ctx.Err() != nil || len(rules) == 0 {
		return
	}
	if time.Now().After(i.end) {
		for _, r := range rules {
			i.out.failed = append(i.out.failed, failure{r, "it was not asked, for another rule took all the time"})
		}
		return
	}
	if !whole || len(rules) == 1 {
		found, err := i.part(rules)
		if err == nil {
			i.out.matches = append(i.out.matches, found...)
			return
		}
		if len(rules) == 1 {
			i.out.failed = append(i.out.failed, failure{rules[0], reason(err, i.each)})
			i.a.program.tire(rules[0])
			return
		}
	}
	i.halves(rules[:len(rules)/2], false)
	i.halves(rules[len(rules)/2:], false)
}

// part asks some rules alone.
func (i *isolation) part(rules []int) ([]match, error) {
	program, err := i.a.set.compilePart(rules)
	if err != nil {
		return nil, err
	}
	defer program.Destroy()
	found, err := i.a.once(i.s, program, i.each)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(m match) bool { return !slices.Contains(rules, m.rule) }), nil
}

// once scans a subject with a program.
func (a *asking) once(s *scannable, program *libyara.Rules, limit time.Duration) ([]match, error) {
	sc, err := libyara.NewScanner(program)
	if err != nil {
		return nil, err
	}
	defer sc.Destroy()
	for _, name := range externals {
		if err := sc.DefineVariable(name, s.values[name]); err != nil {
			return nil, fmt.Errorf("setting %s to %q: %w", name, printable.Clip(s.values[name], 80), err)
		}
	}
	c := &collector{set: a.set}
	err = s.run(sc.SetTimeout(limit).SetCallback(c))
	return c.found, err
}

// collector takes what libyara reports.
type collector struct {
	set   *Set
	found []match
}

// RuleMatching implements libyara.ScanCallback.
func (c *collector) RuleMatching(sc *libyara.ScanContext, r *libyara.Rule) (abort bool, err error) {
	unit, err := strconv.Atoi(r.Namespace())
	if err != nil {
		return false, nil //nolint:nilerr // no rule of the set's
	}
	i, ok := c.set.index[key{unit, r.Identifier()}]
	if !ok {
		return false, nil
	}
	m := match{rule: i}
	for _, s := range r.Strings() {
		all := s.Matches(sc)
		name := s.Identifier()
		for k := range all {
			if len(m.spots) >= maxPlaces {
				m.more += len(all) - k
				break
			}
			x := &all[k]
			m.spots = append(m.spots, spot{name, uint64(x.Base()) + uint64(x.Offset()), int64(len(x.Data()))})
		}
	}
	c.found = append(c.found, m)
	return false, nil
}
