package investigate

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/verdict"
)

// Link is something that more than one investigated container's scope holds.
type Link struct {
	Type  string // verdict.EntityAddress, EntityImage, EntityIdentity, EntityNode, or EntityFile for a program's or file's hash
	Value string // an address without its port where ports differ, an image's digest, or a SHA-256
	In    []int  // indexes of the results, ascending
}

// Across finds what several results share, so that one intrusion in many containers is seen as one: hashes and addresses of what is the
// intruder's; and of containers of which one is touched, the image, by which the same way leads into the others, identities, and
// the machine. The order is that of first occurrence.
func Across(results []*Result) []Link {
	var out []Link
	add := func(kind, value string, i int) {
		k := slices.IndexFunc(out, func(l Link) bool { return l.Type == kind && l.Value == value })
		if k < 0 {
			out = append(out, Link{Type: kind, Value: value})
			k = len(out) - 1
		}
		if !slices.Contains(out[k].In, i) {
			out[k].In = append(out[k].In, i)
		}
	}
	for i, r := range results {
		for _, e := range r.Verdict.Scope {
			switch {
			case e.Type == verdict.EntityAddress:
				add(verdict.EntityAddress, host(e.Value), i)
			case e.Type != verdict.EntityIdentity && e.SHA256 != "" && (e.Role == "foreign" || e.Role == "changed"):
				add(verdict.EntityFile, e.SHA256, i)
			case e.Type == verdict.EntityIdentity:
				add(verdict.EntityIdentity, e.Value, i)
			}
		}
		t := &r.Verdict.Target
		if t.ImageDigest != "" {
			add(verdict.EntityImage, t.ImageDigest, i)
		}
		if t.Node != "" {
			add(verdict.EntityNode, t.Node, i)
		}
	}
	return slices.DeleteFunc(out, func(l Link) bool {
		return len(l.In) < 2 || !slices.ContainsFunc(l.In, func(i int) bool { return results[i].bad() })
	})
}

// bad reports whether a result claims an intrusion.
func (r *Result) bad() bool {
	return r.Verdict.Verdict == verdict.Compromised || r.Verdict.Verdict == verdict.Suspicious
}

// Move is one container of an intrusion reaching another.
type Move struct {
	From, To int    // indexes of the results
	Why      string // in words
	// Citations are of the package of the container that shows it: From's if Out, else To's.
	Citations []verdict.Citation
	Out       bool
}

// Sequence says in which order several containers were first touched, as far as the evidence gives a time, and which reached which:
// one is the source of the request by which another was entered, or called an address that is another's. Results that claim no
// intrusion take no part.
func Sequence(results []*Result) (order []int, moves []Move) {
	for i, r := range results {
		if r.bad() {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := results[a].First, results[b].First
		switch {
		case x == y:
			return 0
		case x == 0:
			return 1
		case y == 0:
			return -1
		}
		return cmp.Compare(x, y)
	})
	for _, from := range order {
		for _, to := range order {
			if from == to {
				continue
			}
			if m := reached(results[from], results[to]); m.Why != "" {
				m.From, m.To = from, to
				moves = append(moves, m)
			}
		}
	}
	return order, moves
}

// reached says how one container reached another; without a Why it is not known to have. An address that both have, as on the host's own
// network, tells nothing.
func reached(from, to *Result) Move {
	only := func(a string, of, not *Result) bool {
		return slices.Contains(of.Own, a) && !slices.Contains(not.Own, a)
	}
	for _, e := range to.Verdict.Scope {
		if e.Type == verdict.EntityAddress && e.Role == "source" && only(host(e.Value), from, to) {
			return Move{Why: "the request that entered the second came from " + host(e.Value) + ", an address of the first", Citations: e.Citations}
		}
	}
	for _, e := range from.Verdict.Scope {
		if e.Type == verdict.EntityAddress && e.Role == "peer" && only(host(e.Value), to, from) {
			return Move{Why: "a process of the first that is not its own had a connection with " + e.Value + ", an address of the second", Citations: e.Citations, Out: true}
		}
	}
	return Move{}
}

// host is an address without its port: one listener may be called on several.
func host(s string) string {
	if h, ok := strings.CutPrefix(s, "["); ok {
		h, _, _ = strings.Cut(h, "]")
		return h
	}
	if strings.Count(s, ":") == 1 {
		s, _, _ = strings.Cut(s, ":")
	}
	return s
}
