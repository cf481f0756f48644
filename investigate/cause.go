package investigate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/investigate/graph"
	"github.com/sherd-forensics/sherd/verdict"
)

func clip(s string, n int) string { return printable.Clip(s, n) }

// arrival is a foreign thing's first appearance.
type arrival struct {
	time    int64
	path    string // raw, the file that came; "" for a process without one
	process *detect.Process
	entity  string
	words   string // "/x was created"
	node    string // its ID in the graph
	cites   []verdict.Citation
	bound   bool // it was no later than time, and may have been before
}

// arrivals are the first appearances of what is foreign, by time: births of the files that which names, starts of processes, and calls.
func (w *work) arrivals(which func(*detect.Finding) bool) []arrival {
	var out []arrival
	seen := map[string]bool{}
	file := func(a arrival) {
		if a.time != 0 && !seen[a.path] {
			seen[a.path] = true
			out = append(out, a)
		}
	}
	for i := range w.findings {
		f := &w.findings[i]
		if !which(f) || f.When == 0 || f.Path == "" || !strings.HasPrefix(f.Rule, "file-") {
			continue
		}
		verb := " was created"
		if f.Rule == "file-program-replaced" || f.Rule == "file-configuration-names-peer" || f.Rule == "file-configuration-changed" && !strings.Contains(f.Statement, " was added") {
			verb = " was changed"
		}
		file(arrival{time: f.When, path: f.Path, entity: verdict.EntityFile + ":" + escaped(f.Path), node: fileNode(f.Path), words: clip(f.Path, 120) + verb, cites: f.Citations})
	}
	for i := range w.findings {
		f := &w.findings[i]
		if p := w.f.Process(f.PID); p != nil && weighs(f) && f.When != 0 && f.Peer != "" {
			out = append(out, arrival{time: f.When, entity: verdict.EntityAddress + ":" + f.Peer, node: addressNode(f.Peer), words: detect.Describe(p) + " was first known to speak with " + f.Peer, cites: f.Citations, bound: true})
		}
		if f.Rule == detect.TokenElsewhere && which(f) && f.When != 0 {
			out = append(out, arrival{time: f.When, entity: verdict.EntityIdentity + ":" + f.Key, node: identityNode(f.Key), words: "the pod's token was first known to be used from elsewhere", cites: f.Citations, bound: true})
		}
	}
	for _, p := range w.foreign() {
		if p.Exe.Btime != 0 && p.Exe.Origin != record.ExeMemfd && p.Exe.Origin != record.ExeImage {
			path := string(p.Exe.Path)
			file(arrival{time: p.Exe.Btime, path: path, entity: verdict.EntityFile + ":" + escaped(path), node: fileNode(path), words: clip(path, 120) + " was created", cites: []verdict.Citation{p.Cite}})
		}
		if p.StartTime != 0 && (w.f.Init() == nil || p.PID != w.f.Init().PID) {
			out = append(out, arrival{time: w.startOf(p), process: p, entity: w.processEntity(p).ID(), node: processNode(p.PID), words: detect.Describe(p) + " was started", cites: []verdict.Citation{p.Cite}})
		}
	}
	slices.SortStableFunc(out, func(a, b arrival) int { return cmp.Compare(a.time, b.time) })
	return out
}

// rootCause says how they got in, as far as the evidence goes: the request from which the surest way through the graph leads to what was
// found. Anything less is told as a gap with the candidates.
func (w *work) rootCause() *verdict.RootCause {
	if !w.bad() {
		return nil
	}
	best := w.entryOf()
	switch {
	case best == nil || best.rule == graph.RequestNear:
		w.noCause()
		return nil
	case len(w.cands) > 1:
		w.r.Verdict.Candidates = listed(w.cands)
	}
	var c *verdict.RootCause
	switch best.rule {
	case graph.RequestStandsOut:
		c = w.stoodOut(best)
	case graph.RequestsOfOne:
		c = w.session(best)
	default:
		c = w.cause(best)
	}
	c.Basis = best.rule
	c.For, c.Against = best.pro, best.con
	w.aside(c, best)
	w.exposed(c)
	doubt(c, best.rs...)
	c.Citations, c.Entities = unique(c.Citations), uniqueStrings(c.Entities)
	return c
}

// aside tells which lines were set aside because the log contradicts them.
func (w *work) aside(c *verdict.RootCause, best *candidate) {
	if best.doubtful {
		c.Statement += "; the log itself contradicts that line"
		return
	}
	n := 0
	for i := range w.cands {
		if o := &w.cands[i]; o.doubtful && o != best {
			n++
			c.For = append(c.For, verdict.Evidence{Statement: o.rs[0].words() + " was set aside: " + o.con[0].Statement, Citations: o.con[0].Citations})
		}
	}
	if n > 0 {
		c.Statement += fmt.Sprintf("; %s of that time set aside, which the log itself contradicts", plural(n, "line"))
	}
}

// noCause tells why no cause is named, with the candidates and their weights.
func (w *work) noCause() {
	const what = "how they got in"
	exposed := ""
	if words, _ := w.exposure(); words != "" {
		exposed = "; " + words
	}
	if len(w.comings) == 0 {
		w.gap(what, "nothing that was found has a time that could be linked to a request"+w.standOut()+exposed, "no root cause is named")
		return
	}
	first := &w.comings[0]
	switch {
	case !w.logs.any:
		w.gap(what, "no logs of the container were collected, and "+first.words+" at "+detect.Time(first.time)+exposed, "no root cause is named")
	case len(w.cands) == 0:
		w.gap(what, "no request was logged near "+detect.Time(first.time)+", when "+first.words+exposed, "no root cause is named; the way in may be one that the application does not log")
	default:
		all := listed(w.cands)
		w.r.Verdict.Candidates = all
		words := ""
		for i, c := range all[:min(len(all), 4)] {
			if i > 0 {
				words += "; "
			}
			words += fmt.Sprintf("%s, logged %s (weight %.2f)", c.Statement, c.Time, c.Weight)
		}
		count := plural(len(all), "request") + " were"
		if len(all) == 1 {
			count = "1 request was"
		}
		w.gap(what, fmt.Sprintf("%s logged within 2 s of the moment when %s: %s", count, first.words, words)+exposed, "no single root cause is named")
	}
}

// onlyOne is a cause of which nothing but its being alone speaks: in all of the log one request, and no other, changed something on a
// route that was served hardly ever, and it succeeded.
func (w *work) onlyOne() *request {
	var found *request
	for i := range w.logs.firsts {
		r := &w.logs.firsts[i]
		if !w.standsOut(r) || w.logs.usual.doubtful(r) || r.Status >= 400 || r.Time == 0 {
			continue
		}
		if found != nil {
			return nil
		}
		found = r
	}
	// Of few requests each is rare.
	if found == nil || w.logs.lines < 20 || w.p.Truncated() {
		return nil
	}
	return found
}

func (w *work) stoodOut(b *candidate) *verdict.RootCause {
	found := b.rs[0]
	c := &verdict.RootCause{Technique: "T1190", Confidence: b.confidence, Time: detect.Time(found.Time), Citations: []verdict.Citation{found.Cite}}
	w.entry = clip(found.route(), 100)
	c.Statement = found.words() + " is the only request in the logs that changed something on a route that was served hardly ever; nothing that was found has a time by which it could be linked more closely"
	if found.Client != "" {
		c.Entities = append(c.Entities, verdict.EntityAddress+":"+found.Client)
		w.requests = append(w.requests, *found) // so that the scope names who sent it
	}
	w.entered(c)
	return c
}

// standsOut reports whether a request is meant to change something, on a route that was served hardly ever.
func (w *work) standsOut(r *request) bool {
	return r.Method != "GET" && r.Method != "HEAD" && r.Method != "OPTIONS" && w.logs.routes[r.route()] <= rare
}

// standingOut are the first few requests that change something on routes that were served hardly ever.
func (w *work) standingOut() []*request {
	var out []*request
	for i := range w.logs.firsts {
		r := &w.logs.firsts[i]
		if w.standsOut(r) && len(out) < 4 {
			out = append(out, r)
		}
	}
	return out
}

// standOut lists them for a reader to look at.
func (w *work) standOut() string {
	var list []string
	for _, r := range w.standingOut() {
		list = append(list, r.words()+" at "+detect.Time(r.Time))
	}
	if len(list) == 0 {
		return ""
	}
	return "; logged and hardly ever served: " + strings.Join(list, "; ")
}

func oneClient(rs []*request) bool {
	return rs[0].Client != "" && !slices.ContainsFunc(rs, func(r *request) bool { return r.Client != rs[0].Client })
}

// session is a cause of which only the client is certain: a few requests of its that stand out surround the moment.
func (w *work) session(b *candidate) *verdict.RootCause {
	a, rs := b.a, b.rs
	c := &verdict.RootCause{Technique: "T1190", Confidence: b.confidence, Time: detect.Time(min(rs[0].Time, a.time))}
	w.entry = "one of the requests from " + rs[0].Client
	c.Statement = a.words + " amid requests from " + rs[0].Client + ":"
	for i, r := range rs {
		if i > 0 {
			c.Statement += ","
		}
		c.Statement += " " + r.Method + " " + clip(r.Path, 100) + " (logged " + offset(r.Time-a.time) + ")"
		c.Citations = append(c.Citations, r.Cite)
	}
	c.Statement += "; which of them did it is not proven"
	c.Entities = []string{verdict.EntityAddress + ":" + rs[0].Client, a.entity}
	c.Citations = append(c.Citations, a.cites...)
	w.entered(c)
	return c
}

func offset(ns int64) string {
	if ns < 0 {
		return span(ns) + " before"
	}
	return span(ns) + " after"
}

func (w *work) cause(b *candidate) *verdict.RootCause {
	a, r, all := b.a, b.rs[0], w.comings
	c := &verdict.RootCause{Technique: "T1190", Confidence: b.confidence, Time: detect.Time(min(r.Time, a.time))}
	w.entry = clip(r.route(), 100)
	c.Statement = r.words() + ", " + relation(r.Time, a.time) + a.words
	if a.path != "" && r.names(a.path) {
		c.Statement += ", which the request names"
		if r.traversal() {
			c.Statement += " by a path that climbs out of its folder"
		}
	} else {
		c.Statement += "; no other request that stands out was logged within 2 s of that"
	}
	c.Citations = append([]verdict.Citation{r.Cite}, a.cites...)
	c.Entities = append(c.Entities, a.entity)
	if r.Client != "" {
		c.Entities = append([]string{verdict.EntityAddress + ":" + r.Client}, c.Entities...)
	}
	w.entered(c)
	// What started the first foreign process.
	for i := range all {
		s := &all[i]
		if s.process == nil || s.time < a.time-windowAfter {
			continue
		}
		if s != a {
			c.Statement += w.startWords(s, a, r, c)
			c.Entities = append(c.Entities, s.entity)
			c.Citations = append(c.Citations, s.cites...)
		}
		break
	}
	return c
}

// doubt lowers the confidence of a cause whose requests bear no time but the application's own word.
func doubt(c *verdict.RootCause, rs ...*request) {
	if slices.ContainsFunc(rs, func(r *request) bool { return r.Claimed }) {
		c.Confidence = min(c.Confidence, 0.7)
		c.Statement += " (times of requests are the application's own: the runtime stamped none)"
	}
}

// entered names the process that served the request: the image's own one that listens.
func (w *work) entered(c *verdict.RootCause) {
	if p := w.server(); p != nil {
		c.Entities = append(c.Entities, w.processEntity(p).ID())
		c.Citations = append(c.Citations, p.Cite)
	} else {
		// The line proves a request, not that this container's port is open to others.
		c.Confidence = min(c.Confidence, 0.8)
	}
}

// server is the image's own process that listens for others, if there is exactly one.
func (w *work) server() *detect.Process {
	var found *detect.Process
	for i := range w.f.Sockets {
		s := &w.f.Sockets[i]
		if !detect.Listening(s) {
			continue
		}
		for _, p := range w.f.Owners(s) {
			if p.Exe.Origin != record.ExeImage || found == p {
				continue
			}
			if found != nil {
				return nil
			}
			found = p
		}
	}
	return found
}

func (w *work) startWords(s, a *arrival, r *request, c *verdict.RootCause) string {
	by := ""
	if parent := w.f.Process(s.process.PPID); parent != nil && !w.f.Foreign(parent) {
		by = " by " + clip(detect.ExeName(parent), 80)
		c.Citations = append(c.Citations, parent.Cite)
	}
	later := span(s.time-a.time) + " later"
	if s.time-a.time < int64(20*time.Millisecond) {
		later = "at once"
	}
	out := fmt.Sprintf("; %s ran as %s, started%s %s", clip(detect.ExeName(s.process), 80), detect.Describe(s.process), by, later)
	for _, q := range w.around(s.time, near, near) {
		if q != r && !w.logs.usual.doubtful(q) {
			out += ", as " + q.words() + " was logged"
			c.Citations = append(c.Citations, q.Cite)
			break
		}
	}
	return out
}

// relation says how a logged request lies to what it may have caused.
func relation(logged, happened int64) string {
	switch d := logged - happened; {
	case abs(d) < int64(time.Millisecond):
		return "logged as "
	case d < 0:
		return "logged " + span(-d) + " before "
	default:
		return "logged " + span(d) + " after "
	}
}

// span writes a length of time with the precision that matters.
func span(ns int64) string {
	d := time.Duration(abs(ns))
	switch {
	case d < time.Millisecond:
		return "less than 1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func unique(c []verdict.Citation) []verdict.Citation {
	var out []verdict.Citation
	for _, x := range c {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

func uniqueStrings(s []string) []string {
	var out []string
	for _, x := range s {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

func (w *work) gap(what, why, consequence string) {
	g := verdict.Gap{What: what, Why: why, Consequence: consequence}
	if !slices.Contains(w.gaps, g) {
		w.gaps = append(w.gaps, g)
	}
}
