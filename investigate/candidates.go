package investigate

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/investigate/graph"
	"github.com/sherd-forensics/sherd/verdict"
)

// candidate is a possible way in: one request, or a few of one client, and what it is thought to have led to.
type candidate struct {
	rule       string
	a          *arrival // nil where nothing that was found has a time
	rs         []*request
	confidence float64 // of the edge in the graph
	doubtful   bool    // the log itself contradicts its line
	pro, con   []verdict.Evidence
}

// maxCandidates bounds those around one moment that are weighed and told.
const maxCandidates = 16

// candidates are all ways in that the evidence allows, those that it names first. A line that the log itself contradicts is set aside
// where there is another.
func (w *work) candidates(all []arrival) []candidate {
	var out []candidate
	if len(all) == 0 {
		if r := w.onlyOne(); r != nil {
			out = append(out, w.candidate(graph.RequestStandsOut, nil, graph.CauseConfidence(graph.RequestStandsOut), r))
		}
		return out
	}
	named := map[*request]bool{}
	for i := range all {
		a := &all[i]
		if a.path == "" {
			continue
		}
		var naming []*request
		for _, r := range w.around(a.time, windowBefore, windowAfter) {
			if r.names(a.path) {
				naming = append(naming, r)
			}
		}
		if naming = w.believable(naming); len(naming) > 0 && len(out) < maxCandidates {
			named[naming[0]] = true
			out = append(out, w.candidate(graph.RequestNamesFile, a, graph.CauseConfidence(graph.RequestNamesFile), naming[0]))
		}
	}
	return append(out, w.nearby(&all[0], named)...)
}

// nearby are the candidates around the first thing that was found, which name nothing.
func (w *work) nearby(first *arrival, named map[*request]bool) []candidate {
	var out []candidate
	cands := slices.DeleteFunc(w.rareOnes(w.around(first.time, near, near)), func(r *request) bool { return named[r] })
	believed := w.believable(cands)
	aside := func(r *request) {
		if len(out) < maxCandidates {
			out = append(out, w.candidate(graph.RequestNear, first, 0.2*graph.CauseConfidence(graph.RequestNear), r))
		}
	}
	// That no other stands out can only be said of a log that is whole, and of a first thing that is known to be the first.
	_, files := w.f.Missing[detect.Inventory]
	whole := !files && !w.p.Truncated()
	switch {
	case len(believed) == 1 && len(named) == 0 && whole:
		c := graph.CauseConfidence(graph.RequestAlone)
		if n, ok := w.logs.byChance(); ok {
			c *= math.Exp(-n)
		}
		out = append(out, w.candidate(graph.RequestAlone, first, math.Floor(100*c)/100, believed[0]))
	case len(believed) > 1 && len(believed) <= 4 && oneClient(believed) && len(named) == 0 && whole:
		out = append(out, w.candidate(graph.RequestsOfOne, first, graph.CauseConfidence(graph.RequestsOfOne), believed...))
	default:
		if r := w.onlyOne(); r != nil && len(named) == 0 && whole && (slices.ContainsFunc(believed, func(x *request) bool { return x.Cite == r.Cite }) || first.bound && r.Time <= first.time+near) {
			// When a connection was first heard of is a bound: what made it may have been asked for before.
			out = append(out, w.candidate(graph.RequestStandsOut, nil, graph.CauseConfidence(graph.RequestStandsOut), r))
		}
		for _, r := range believed[:min(len(believed), maxCandidates)] {
			out = append(out, w.candidate(graph.RequestNear, first, graph.CauseConfidence(graph.RequestNear)/float64(len(believed)), r))
		}
	}
	for _, r := range cands {
		if !slices.Contains(believed, r) {
			aside(r)
		}
	}
	return out
}

// believable keeps the requests that nothing in the log contradicts; when all are contradicted, all stay.
func (w *work) believable(rs []*request) []*request {
	var out []*request
	for _, r := range rs {
		if !w.logs.usual.doubtful(r) {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return rs
	}
	return out
}

func (w *work) candidate(rule string, a *arrival, confidence float64, rs ...*request) candidate {
	c := candidate{rule: rule, a: a, rs: slices.Clone(rs), confidence: max(confidence, 0.01)}
	slices.SortStableFunc(c.rs, func(x, y *request) int { return cmp.Compare(x.Time, y.Time) })
	for _, r := range c.rs {
		w.weigh(&c, r)
	}
	// Who forges a line to lay a false trail does not point at his own file, so one that names it keeps more.
	switch {
	case c.doubtful && rule == graph.RequestNamesFile:
		c.confidence /= 2
	case c.doubtful:
		c.confidence = min(c.confidence, graph.CauseConfidence(graph.RequestNear))
	}
	return c
}

// weigh notes what speaks for and against one request.
func (w *work) weigh(c *candidate, r *request) {
	pro := func(s string, cites ...verdict.Citation) {
		c.pro = append(c.pro, verdict.Evidence{Statement: s, Citations: cites})
	}
	con := func(s string, cites ...verdict.Citation) {
		c.con = append(c.con, verdict.Evidence{Statement: s, Citations: cites})
	}
	log := verdict.Citation{Artifact: r.Cite.Artifact, SHA256: r.Cite.SHA256}
	name := r.Method + " " + clip(r.Path, 80)
	if c.a != nil {
		when := name + " was " + relation(r.Time, c.a.time) + c.a.words
		if c.rule == graph.RequestNamesFile {
			when += ", and names that file"
		}
		pro(when, unique(append([]verdict.Citation{r.Cite}, c.a.cites...))...)
	}
	if n := w.logs.routes[r.route()]; n <= rare {
		pro(fmt.Sprintf("its route was served %s in all of the log", times(n)), log)
	}
	if s := w.connectionOf(r); s != nil {
		pro("the kernel still knew the connection "+detect.Peer(s.RemoteIP, s.RemotePort)+" that the line names", s.Cite)
	}
	u := &w.logs.usual
	if u.strange(r) {
		c.doubtful = true
		con(fmt.Sprintf("the line is not in the form in which %d of %d requests of this log are written", u.most, u.total), r.Cite, log)
	}
	if u.offTime(r) {
		c.doubtful = true
		con("the line states a time that is "+span(r.stated-r.Time)+" off the runtime's stamp, as others of this log are not", r.Cite, log)
	}
	if c.doubtful && r.Client != "" && u.clients[r.Client] <= rare && w.connectionOf(r) == nil {
		con(fmt.Sprintf("%s is named by %s of this log and by no connection", r.Client, plural(u.clients[r.Client], "request")), r.Cite, log)
	}
	if r.Claimed {
		con("its time is the application's own word", r.Cite)
	}
	if n, ok := w.logs.byChance(); ok && n >= 0.01 && (c.rule == graph.RequestAlone || c.rule == graph.RequestsOfOne) {
		con(fmt.Sprintf("by chance %.2f such requests fall into any 4 s of this log", n), log)
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return itoa(n) + " " + what + "s"
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return plural(n, "time")
}

// connectionOf is the connection of the client's that a line names by address and port, nil if the kernel did not know it any more.
func (w *work) connectionOf(r *request) *detect.Socket {
	if r.Client == "" || r.Port == 0 {
		return nil
	}
	for i := range w.f.Sockets {
		if s := &w.f.Sockets[i]; s.RemotePort == r.Port && s.RemoteIP == r.Client {
			return s
		}
	}
	return nil
}

// listed are the candidates for a reader: each request with its share of all weights, the likeliest first.
func listed(cands []candidate) []verdict.Candidate {
	sum := 0.0
	for i := range cands {
		sum += cands[i].confidence
	}
	var out []verdict.Candidate
	for i := range cands {
		c := &cands[i]
		v := verdict.Candidate{Weight: math.Round(100*c.confidence/sum) / 100, Time: detect.Time(c.rs[0].Time), For: c.pro, Against: c.con}
		for k, r := range c.rs {
			if k > 0 {
				v.Statement += ", "
			}
			v.Statement += r.words()
			v.Citations = append(v.Citations, r.Cite)
		}
		v.Citations = unique(v.Citations)
		if !slices.ContainsFunc(out, func(o verdict.Candidate) bool { return slices.Equal(o.Citations, v.Citations) }) {
			out = append(out, v)
		}
	}
	slices.SortStableFunc(out, func(a, b verdict.Candidate) int { return cmp.Compare(b.Weight, a.Weight) })
	return out[:min(len(out), maxCandidates)]
}
