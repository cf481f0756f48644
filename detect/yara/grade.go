package yara

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/verdict"
)

const (
	maxCited = 6   // matches that a finding cites one by one
	maxHits  = 200 // of one rule
)

// grade turns results into answers, in the order of the targets.
func (a *asking) grade() {
	for i := range a.results {
		r := &a.results[i]
		isMemory := i < len(a.procs)
		what := ""
		if isMemory {
			what = "memory of " + detect.Describe(a.procs[i])
		} else {
			what = "the file " + printable.Clip(a.files[i-len(a.procs)].places[0].path, 160)
		}
		if r.unread != nil {
			a.blind(isMemory, what, printable.Clip(r.unread.Error(), 240))
		}
		if r.wrong > 0 {
			a.blind(isMemory, what, fmt.Sprintf("%d entries of the list of what its core holds can't be true", r.wrong))
		}
		for _, x := range r.failed {
			a.answers[x.rule].BlindTo(what, x.why)
		}
		for k := range r.matches {
			m := &r.matches[k]
			f := &a.set.rules[m.rule].facts
			switch {
			case isMemory && !f.noMemory:
				a.inMemory(a.procs[i], r, m)
			case !isMemory && !f.noFiles:
				a.inFile(a.files[i-len(a.procs)], m)
			}
		}
	}
	for i := range a.answers {
		x := &a.answers[i]
		sorted(x.Hits)
		if rest := len(x.Hits) - maxHits; rest > 0 {
			next := x.Hits[maxHits]
			next.Statement = fmt.Sprintf("%d more like it, the next: %s", rest, next.Statement)
			x.Hits = append(x.Hits[:maxHits:maxHits], next)
		}
	}
}

// named is how a statement speaks of a rule.
func named(r *rule) string {
	s := "the YARA rule " + printable.Clip(r.name, 80)
	if r.description != "" {
		s += " (" + printable.Clip(r.description, 120) + ")"
	}
	return s
}

// inFile grades a match in a file. Files of the image are the baseline. One that holds data and can't run says as little as memory does,
// for it may hold what clients sent.
func (a *asking) inFile(c *content, m *match) {
	r := &a.set.rules[m.rule]
	ours := r.Origin == ""
	at, runs := &c.places[0], false
	for i := range c.places {
		p := &c.places[i]
		runs = runs || p.runs || canRun(p)
		// The place that says most: a process that runs it, then a path.
		if p.runs && !at.runs || p.runs == at.runs && strings.HasPrefix(p.path, "/") && !strings.HasPrefix(at.path, "/") {
			at = p
		}
	}
	f := detect.Finding{Path: at.path, SHA256: c.sha256, When: at.when}
	f.Severity = r.severity
	subject := printable.Clip(at.path, 160)
	switch {
	case c.image != "":
		subject = "the image's own file " + printable.Clip(c.image, 160)
		f.Path = c.image
		if ours {
			f.Severity = verdict.Info
		}
	case !runs && ours:
		f.Severity = lesser(f.Severity, verdict.Low)
	}
	for _, p := range c.places {
		if strings.HasPrefix(f.Path, "/") {
			break
		}
		if strings.HasPrefix(p.path, "/") {
			f.Path = p.path
		}
	}
	if at.runs {
		f.PID = at.proc.PID
		subject = detect.Describe(at.proc) + " runs " + subject + ", which"
	}
	f.Foreign = c.image == "" && runs && f.Severity.Rank() >= verdict.High.Rank()
	f.Statement = subject + " matches " + named(r)
	if s := a.words(m.spots, m.more, func(s *spot) string { return fmt.Sprintf("at byte %d", s.addr) }); s != "" {
		f.Statement += ": " + s
	}
	if n := len(c.places) - 1; n > 0 {
		f.Statement += fmt.Sprintf("; the same content in %d more places", n)
	}
	if len(m.spots) == 0 {
		f.Citations = append(f.Citations, verdict.Citation{Artifact: c.artifact, SHA256: c.sha256, Length: c.size})
	}
	for _, s := range pick(m.spots) {
		f.Citations = append(f.Citations, verdict.Citation{Artifact: c.artifact, SHA256: c.sha256, Offset: int64(s.addr), Length: s.length})
	}
	for i := range c.places {
		if x := c.places[i].cite; x.Artifact != "" && i < 4 && !slices.Contains(f.Citations, x) {
			f.Citations = append(f.Citations, x)
		}
	}
	a.answers[m.rule].Add(f)
}

// pick chooses spots to cite: the first of each string, then more of them.
func pick(spots []spot) []spot {
	var out, rest []spot
	seen := map[string]bool{}
	for _, s := range spots {
		if seen[s.name] {
			if len(rest) < maxCited {
				rest = append(rest, s)
			}
			continue
		}
		seen[s.name] = true
		out = append(out, s)
	}
	out = append(out, rest...)
	return out[:min(len(out), maxCited)]
}

// words lists where strings matched, without what stands there: it may be a secret.
func (a *asking) words(spots []spot, more int, where func(*spot) string) string {
	chosen := pick(spots)
	var parts []string
	for i := range min(len(chosen), 3) {
		parts = append(parts, chosen[i].name+" "+where(&chosen[i]))
	}
	if rest := len(spots) + more - len(parts); rest > 0 && len(parts) > 0 {
		parts = append(parts, fmt.Sprintf("%d more matches", rest))
	}
	return strings.Join(parts, ", ")
}

// class is what a match at an address means.
type class int

const (
	classImage   class = iota // bytes of a file of the image, as the image has them
	classData                 // what a process has written or read: it may have come from a client
	classMapped               // a file that is not the image's
	classCode                 // code that the image does not hold
	classForeign              // any memory of a process that runs what the image does not hold
)

// classify grades the memory that an address lies in.
func (a *asking) classify(p *detect.Process, addr uint64) (class, *detect.Mapping) {
	f := a.in.Facts
	var m *detect.Mapping
	if i := mappingAt(p.Maps, addr); i >= 0 {
		m = &p.Maps[i]
	}
	switch {
	case f.Foreign(p):
		return classForeign, m
	case m == nil:
		return classData, m
	}
	code := len(m.Perms) > 2 && m.Perms[2] == 'x'
	for _, c := range m.Changed {
		if c.DiffBytes > 0 && addr >= c.Addr && addr < c.Addr+uint64(c.Length) {
			return classCode, m
		}
	}
	file := strings.HasPrefix(string(m.Path), "/") && m.Inode != 0 && !strings.HasPrefix(string(m.Path), "/memfd:")
	switch {
	case !file && code:
		return classCode, m
	case !file:
		return classData, m
	case a.ofImage(m) && strings.HasPrefix(m.Perms, "rw"):
		return classData, m // variables: the file's at first
	case a.ofImage(m):
		return classImage, m
	case code:
		return classCode, m
	}
	return classMapped, m
}

// ofImage reports whether the file behind a mapping is the image's.
func (a *asking) ofImage(m *detect.Mapping) bool {
	if m.FileSHA256 != "" {
		return a.images[m.FileSHA256] != ""
	}
	r, ok := a.in.Facts.Files.ByPath[string(m.Path)]
	return ok && !m.Deleted && r.Tree == record.TreeBoth
}

// inMemory grades a match in the memory of a process by the gravest of the places where its strings lie.
func (a *asking) inMemory(p *detect.Process, res *result, m *match) {
	r := &a.set.rules[m.rule]
	worst := classData
	if len(m.spots) > 0 {
		worst = classImage
	}
	classes := make([]class, len(m.spots))
	for i := range m.spots {
		classes[i], _ = a.classify(p, m.spots[i].addr)
		worst = max(worst, classes[i])
	}
	if a.in.Facts.Foreign(p) {
		worst = classForeign
	}
	sev := r.severity
	switch {
	case worst == classImage:
		sev = verdict.Info
	case worst == classData && !r.inMemory, worst == classMapped && !r.inMemory:
		sev = lesser(sev, verdict.Low)
	}
	// What decides comes first.
	var spots []spot
	for _, deciding := range []bool{true, false} {
		for i := range m.spots {
			if (classes[i] == worst) == deciding {
				spots = append(spots, m.spots[i])
			}
		}
	}
	f := detect.Finding{PID: p.PID, Path: detect.ExeName(p), SHA256: p.Exe.SHA256}
	f.Severity = sev
	if worst == classForeign {
		f.When, f.Foreign = p.StartTime, true
	}
	f.Statement = detect.Describe(p) + " holds in " + classWords[worst] + " what " + named(r) + " looks for"
	if s := a.words(spots, m.more, func(s *spot) string { return a.where(p, s) }); s != "" {
		f.Statement += ": " + s
	}
	core := p.Dir + "/core"
	for _, s := range pick(spots) {
		off, n, ok := offsetOf(res.segs, s.addr, max(s.length, 1))
		if !ok {
			continue
		}
		if c, ok := a.in.Facts.Cite(core, off, n); ok {
			f.Citations = append(f.Citations, c)
		}
	}
	if len(f.Citations) == 0 {
		if c, ok := a.in.Facts.Cite(core, 0, 0); ok {
			f.Citations = append(f.Citations, c)
		}
	}
	if len(spots) > 0 {
		if _, x := a.classify(p, spots[0].addr); x != nil {
			f.Citations = append(f.Citations, x.Cite)
		}
	}
	f.Citations = append(f.Citations, p.Cite)
	a.answers[m.rule].Add(f)
}

var classWords = map[class]string{
	classImage: "memory that is the image's file", classData: "its data", classMapped: "a mapped file", classCode: "memory that is executable and not the image's",
	classForeign: "its memory",
}

// where names an address for a reader: 0x7f001000 in [heap] (rw-p).
func (a *asking) where(p *detect.Process, s *spot) string {
	out := fmt.Sprintf("at %#x", s.addr)
	_, m := a.classify(p, s.addr)
	if m == nil {
		return out
	}
	name := "memory of no file"
	if m.Path != "" {
		name = printable.Clip(string(m.Path), 80)
	}
	return out + " in " + name + " (" + printable.Clip(m.Perms, 8) + ")"
}
