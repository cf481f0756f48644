package evidence

import (
	"maps"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
)

const (
	maxAlike  = 64   // listed one by one before alike ones are folded
	maxMissed = 4096 // listed in all
	maxText   = 4096 // bytes of What and Reason
)

// coverage gathers coverage.json. A target that makes every read fail must not make it grow without end.
type coverage struct {
	collected map[string]string
	missed    []record.Miss
	groups    map[missGroup]*missFold
	dropped   int
}

// missGroup is what makes misses alike.
type missGroup struct {
	kind, reason        string
	partial, deliberate bool
}

type missFold struct {
	n    int
	at   int            // index of the entry that stands for the folded ones, 0 for none yet (it is never the first)
	what map[string]int // index of each listed one
}

// Miss notes something that was asked for and not obtained.
func (w *Writer) Miss(m record.Miss) {
	w.covMu.Lock()
	defer w.covMu.Unlock()
	w.cov.add(m)
}

// Status notes what became of a kind of evidence: "complete", "partial", "none" or "skipped".
func (w *Writer) Status(kind, status string) {
	w.covMu.Lock()
	defer w.covMu.Unlock()
	if w.cov.collected == nil {
		w.cov.collected = map[string]string{}
	}
	w.cov.collected[kind] = status
}

// Coverage is what coverage.json says, or will say.
func (w *Writer) Coverage() record.Coverage {
	w.covMu.Lock()
	defer w.covMu.Unlock()
	c := record.Coverage{Collected: maps.Clone(w.cov.collected), Missed: slices.Clone(w.cov.missed), Dropped: w.cov.dropped}
	if c.Collected == nil {
		c.Collected = map[string]string{}
	}
	if c.Missed == nil {
		c.Missed = []record.Miss{}
	}
	return c
}

func (c *coverage) add(m record.Miss) {
	m.Count = max(m.Count, 1)
	m.What, m.Reason = text(m.What), text(m.Reason)
	g := missGroup{m.Kind, m.Reason, m.Partial, m.Deliberate}
	if c.groups == nil {
		c.groups = map[missGroup]*missFold{}
	}
	f := c.groups[g]
	if f == nil {
		if len(c.missed) >= maxMissed {
			c.dropped += m.Count
			return
		}
		f = &missFold{what: map[string]int{}}
		c.groups[g] = f
	}
	if i, ok := f.what[m.What]; ok {
		c.missed[i].Count += m.Count
		return
	}
	f.n++
	switch {
	case f.at > 0:
		c.missed[f.at].Count += m.Count
	case len(c.missed) >= maxMissed:
		c.dropped += m.Count
	case f.n > maxAlike:
		f.at = len(c.missed)
		m.What = "more of this kind, the first of them " + m.What
		c.missed = append(c.missed, m)
	default:
		f.what[m.What] = len(c.missed)
		c.missed = append(c.missed, m)
	}
}

// text makes a string fit for JSON and bounded.
func text(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// tooLong is the miss for an artifact whose path no tar reader would take.
func tooLong(path string) record.Miss {
	return record.Miss{What: text(path), Kind: "filesystem", Reason: "its path in the package " + errPathLong.Error(), Count: 1}
}
