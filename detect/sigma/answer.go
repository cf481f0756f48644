package sigma

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/verdict"
)

//go:embed rules/*.yml
var embedded embed.FS

// answers are those of rules that matched single events.
func (r *reading) answers() []detect.Answer {
	var out []detect.Answer
	for _, x := range r.set.rules {
		both := r.matches[x]
		if both == nil {
			continue
		}
		a := detect.Answer{Rule: &x.Rule}
		for i, f := range both {
			if f.count == 0 {
				continue
			}
			most := x.source.most
			if i == 1 {
				most = verdict.Low
			}
			r.hit(&a, x, &f, least(x.level, most))
		}
		out = append(out, a)
	}
	return out
}

func least(a, b verdict.Severity) verdict.Severity {
	if a.Rank() < b.Rank() {
		return a
	}
	return b
}

// hit is one finding for all events of a rule.
func (r *reading) hit(a *detect.Answer, x *rule, f *found, severity verdict.Severity) {
	d := detect.Finding{When: f.first}
	d.Severity = severity
	d.Statement = fmt.Sprintf("%s of %s match the Sigma rule %q", plural(f.count, "event"), x.source.name, x.Title)
	if f.count == 1 {
		d.Statement = fmt.Sprintf("an event of %s matches the Sigma rule %q", x.source.name, x.Title)
	}
	if f.count > 1 && f.last > f.first {
		d.Statement += fmt.Sprintf(", from %s to %s", clock(f.first), clock(f.last))
	}
	for i, s := range f.samples {
		if c, ok := r.cite(s.place); ok && !slices.Contains(d.Citations, c) {
			d.Citations = append(d.Citations, c)
		}
		switch {
		case i == 0:
			d.PID, d.Path = s.pid, s.path
		case s.pid != d.PID:
			d.PID, d.Path = 0, ""
		}
	}
	if d.PID == 0 {
		d.Path = ""
	}
	if f.samples[0].message != "" {
		if f.count > 1 {
			d.Statement += "; the first"
		}
		d.Statement += ": " + f.samples[0].message
	}
	r.add(a, d)
}

// add notes a finding, or that it can't be proven.
func (r *reading) add(a *detect.Answer, d detect.Finding) {
	if len(d.Citations) == 0 {
		a.BlindTo("events that match "+a.Rule.ID, "the package does not hold the bytes that they are read from")
		return
	}
	a.Add(d)
}

// cite proves an event. What is compressed can only be cited as a whole.
func (r *reading) cite(p place) (verdict.Citation, bool) {
	if r.in.Facts == nil || r.in.Facts.Cite == nil {
		return verdict.Citation{}, false
	}
	if p.whole && r.in.Package != nil {
		if e, ok := r.in.Package.Artifact(p.artifact); ok {
			p.offset, p.length = 0, e.Size
		}
	}
	return r.in.Facts.Cite(p.artifact, p.offset, p.length)
}

// maxEpisodes bounds the findings of one correlation.
const maxEpisodes = 20

// correlated are the answers of correlations.
func (r *reading) correlated() []detect.Answer {
	type outcome struct {
		episodes []episode
		done     []*hit
	}
	known := map[*rule]*outcome{}
	var of func(x *rule) []*hit
	ask := func(x *rule) *outcome {
		if known[x] == nil {
			o := &outcome{}
			known[x] = o
			o.episodes, o.done = x.cor.correlate(x, of)
		}
		return known[x]
	}
	of = func(x *rule) []*hit {
		if x.cor == nil {
			return r.hits[x]
		}
		return ask(x).done
	}
	var out []detect.Answer
	for _, x := range r.set.rules {
		if x.cor == nil || x.hidden {
			continue
		}
		a := detect.Answer{Rule: &x.Rule}
		found := ask(x).episodes
		for i := range found[:min(len(found), maxEpisodes)] {
			r.episode(&a, x, &found[i], len(found)-i)
		}
		if r.full {
			a.BlindTo("what Sigma's correlations rest on", fmt.Sprintf("more than %d events matched, and only so many are kept", maxHits))
		}
		if len(a.Hits) > 0 || len(a.Blind) > 0 {
			out = append(out, a)
		}
	}
	return out
}

func (r *reading) episode(a *detect.Answer, x *rule, e *episode, left int) {
	first, last := e.hits[0], e.hits[len(e.hits)-1]
	d := detect.Finding{When: first.time}
	d.Severity = least(x.level, e.level)
	d.Statement = fmt.Sprintf("%s within %s match the Sigma correlation %q", plural(len(e.hits), "event"), time.Duration(last.time-first.time).Round(time.Second), x.Title)
	if len(e.hits) >= maxEpisodeHits {
		d.Statement = "at least " + d.Statement
	}
	if group := x.cor.describe(e.group); group != "" {
		d.Statement += ", " + group
	}
	d.Statement += fmt.Sprintf(", from %s to %s", clock(first.time), clock(last.time))
	if len(a.Hits) == maxEpisodes-1 && left > 1 {
		d.Statement = fmt.Sprintf("%d more like it, the next: %s", left-1, d.Statement)
	}
	some := e.hits[:min(len(e.hits), maxCited-1)]
	for _, h := range append(slices.Clone(some), last) {
		for h.last != nil {
			h = h.last
		}
		if c, ok := r.cite(h.place); ok && !slices.Contains(d.Citations, c) {
			d.Citations = append(d.Citations, c)
		}
	}
	r.add(a, d)
}

// sourcesRule says which log sources a user's rules had nothing to look at.
var sourcesRule = detect.Rule{
	ID: "sigma-log-sources", Title: "Rules whose log source the package has no events of", Severity: verdict.Info, Language: Name,
	Rationale: "A rule that had nothing to look at says nothing.", Origin: "the rules that were given",
}

// blind says in one word which log sources of the user's rules are missing. Sherd's own rules ask of the logs that there are; no reader
// expects a cloud's audit log in every package.
func (r *reading) blind() *detect.Answer {
	count := map[*source]int{}
	total := 0
	for _, x := range r.set.rules {
		if x.source != nil && x.Origin != "" && !r.present[x.source] {
			count[x.source]++
			total++
		}
	}
	if total == 0 {
		return nil
	}
	var names []string
	for i := range sources {
		if n := count[&sources[i]]; n > 0 {
			names = append(names, fmt.Sprintf("%s (%s)", sources[i].name, plural(n, "rule")))
		}
	}
	why := "the package has no events of "
	if r.in.Events == nil {
		why = "no events could be read of "
	}
	a := &detect.Answer{Rule: &sourcesRule}
	verb := " ask for"
	if total == 1 {
		verb = " asks for"
	}
	a.BlindTo("what "+plural(total, "Sigma rule")+verb, why+strings.Join(names, ", "))
	return a
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func clock(ns int64) string {
	return time.Unix(0, ns).UTC().Format("2006-01-02 15:04:05.000Z")
}
