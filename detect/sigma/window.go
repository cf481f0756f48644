package sigma

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/verdict"
)

// hit is an event that matched a rule that correlations rest on, or the event that completed a correlation.
type hit struct {
	time, seq int64
	of        *rule
	values    []string // of rule.fields
	last      *hit     // of a correlation: the event that completed it
	place     place
	most      verdict.Severity // that a finding on it can have
}

// place is where an event stands in the package.
type place struct {
	artifact       string
	offset, length int64
	whole          bool // it can only be cited by all of the artifact
}

// value reads a field of a hit.
func (h *hit) value(name string) string {
	if h.of.cor != nil {
		return h.last.value(h.of.cor.fieldOf(name, h.last.of))
	}
	if i := slices.Index(h.of.fields, name); i >= 0 && i < len(h.values) {
		return h.values[i]
	}
	return ""
}

// episode is one time that a correlation held: the hits of one group, and when.
type episode struct {
	group []string
	hits  []*hit
	level verdict.Severity // the least of what the hits can prove
}

// member is a hit as a correlation sees it.
type member struct {
	*hit
	rule int // its place among the correlation's rules
}

// correlate finds the episodes of a correlation, by group and time, and the hits by which others see it. Hits need not be in order. Windows
// include both ends.
func (c *correlation) correlate(self *rule, of func(*rule) []*hit) (out []episode, done []*hit) {
	groups := map[string][]member{}
	for i, r := range c.rules {
		for _, h := range of(r) {
			if h.time == 0 {
				continue // nobody knows when: it can be in no span of time
			}
			key, ok := c.key(h, r)
			if ok {
				groups[key] = append(groups[key], member{h, i})
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		g := groups[key]
		// Of one event that matched several rules the last rule comes first, so that it can't be its own follower.
		slices.SortStableFunc(g, func(a, b member) int {
			return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.seq, b.seq), cmp.Compare(b.rule, a.rule))
		})
		var names []string
		if len(c.groupBy) > 0 {
			names = strings.Split(key, "\x00")
		}
		found := &collector{self: self, group: names}
		switch {
		case c.kind == "temporal_ordered":
			c.ordered(g, found)
		case c.rising():
			c.sliding(g, found)
		default:
			c.tumbling(g, found)
		}
		found.end()
		out = append(out, found.episodes...)
		done = append(done, found.done...)
	}
	slices.SortStableFunc(out, func(a, b episode) int { return cmp.Compare(a.hits[0].time, b.hits[0].time) })
	return out, done
}

// key is the group of a hit; false if it lacks a value.
func (c *correlation) key(h *hit, r *rule) (string, bool) {
	var b strings.Builder
	for i, name := range c.groupBy {
		v := h.value(c.fieldOf(name, r))
		if v == "" {
			return "", false
		}
		if i > 0 {
			b.WriteByte(0)
		}
		b.WriteString(strings.ReplaceAll(v, "\x00", " "))
	}
	return b.String(), true
}

// maxEpisodeHits bounds what is kept of one episode; the first and the last are.
const maxEpisodeHits = 1000

// collector joins windows that overlap into one episode.
type collector struct {
	self     *rule
	group    []string
	episodes []episode
	done     []*hit
	open     []*hit
	count    int
	until    int // index behind the last member of the open episode
}

// window notes that members from i to j (both included) hold.
func (f *collector) window(g []member, i, j int) {
	last := g[j].hit
	f.done = append(f.done, &hit{time: last.time, seq: last.seq, of: f.self, last: last, place: last.place, most: last.most})
	if len(f.open) > 0 && i >= f.until {
		f.end()
	}
	if len(f.open) == 0 {
		f.until = i
	}
	for k := max(i, f.until); k <= j; k++ {
		f.add(g[k].hit)
	}
	f.until = max(f.until, j+1)
}

func (f *collector) add(h *hit) {
	if len(f.open) >= maxEpisodeHits {
		f.open[len(f.open)-1] = h
	} else {
		f.open = append(f.open, h)
	}
	f.count++
}

func (f *collector) end() {
	if len(f.open) == 0 {
		return
	}
	e := episode{group: f.group, hits: f.open, level: verdict.Critical}
	for _, h := range f.open {
		if h.most.Rank() < e.level.Rank() {
			e.level = h.most
		}
	}
	f.episodes = append(f.episodes, e)
	f.open, f.count = nil, 0
}

// measure is what a condition compares, over a window that moves.
type measure struct {
	c      *correlation
	n      int
	values map[string]int
	rules  map[int]int
	sum    float64
}

func (m *measure) change(h member, by int) {
	m.n += by
	switch m.c.kind {
	case "value_count", "value_sum", "value_avg":
		var all []string
		for _, f := range m.c.field {
			all = append(all, h.value(m.c.fieldOf(f, m.c.rules[h.rule])))
		}
		v := strings.Join(all, "\x00")
		if m.c.kind != "value_count" {
			if f, err := strconv.ParseFloat(v, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
				m.sum += float64(by) * f
			} else {
				m.n -= by // what is no number has no part in the sum or the mean
			}
			return
		}
		if strings.Trim(v, "\x00") == "" {
			return // no value is none
		}
		count(m.values, v, by)
	case "temporal":
		count(m.rules, h.rule, by)
	}
}

func count[K comparable](m map[K]int, k K, by int) {
	if m[k] += by; m[k] <= 0 {
		delete(m, k)
	}
}

func (m *measure) now() float64 {
	switch m.c.kind {
	case "value_count":
		return float64(len(m.values))
	case "temporal":
		return float64(len(m.rules))
	case "value_sum":
		return m.sum
	case "value_avg":
		if m.n == 0 {
			return math.NaN()
		}
		return m.sum / float64(m.n)
	}
	return float64(m.n)
}

func (c *correlation) measure() *measure {
	return &measure{c: c, values: map[string]int{}, rules: map[int]int{}}
}

// sliding is for conditions that more events can't make false: any window of the timespan may hold.
func (c *correlation) sliding(g []member, f *collector) {
	m := c.measure()
	from := 0
	for i := range g {
		m.change(g[i], 1)
		for g[i].time-g[from].time > c.timespan {
			m.change(g[from], -1)
			from++
		}
		if c.holds(m.now()) {
			f.window(g, from, i)
		}
	}
}

// tumbling is for the others: a window begins with the first event behind the last window.
func (c *correlation) tumbling(g []member, f *collector) {
	for from := 0; from < len(g); {
		m := c.measure()
		to := from
		for ; to < len(g) && g[to].time-g[from].time <= c.timespan; to++ {
			m.change(g[to], 1)
		}
		if c.holds(m.now()) {
			f.window(g, from, to-1)
			f.end()
		}
		from = to
	}
}

// ordered finds one hit of each rule in the rules' order: of each beginning of the chain the latest is kept.
func (c *correlation) ordered(g []member, f *collector) {
	chains := make([][]*hit, len(c.rules))
	for _, h := range g {
		k := h.rule
		switch {
		case k == 0:
			chains[0] = []*hit{h.hit}
		case chains[k-1] == nil || h.time-chains[k-1][0].time > c.timespan:
			continue
		default:
			chains[k] = append(slices.Clone(chains[k-1]), h.hit)
		}
		if k == len(c.rules)-1 {
			chain := chains[k]
			all := make([]member, len(chain))
			for i, x := range chain {
				all[i] = member{x, i}
			}
			f.window(all, 0, len(all)-1)
			f.end()
			chains[k] = nil
			f.until = 0
		}
	}
}

// describe names a group for a statement.
func (c *correlation) describe(group []string) string {
	var out []string
	for i, name := range c.groupBy {
		if i < len(group) {
			out = append(out, clip(name, 60)+" "+strconv.Quote(clip(group[i], 80)))
		}
	}
	return strings.Join(out, ", ")
}
