package sigma

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sherd-forensics/sherd/detect"
)

// Bounds of correlations.
const (
	maxCorrelated = 100 // rules of one
	maxChain      = 8   // correlations of correlations
)

// correlation is what a rule of rules asks for.
type correlation struct {
	kind     string
	names    []string // of its rules
	rules    []*rule
	groupBy  []string
	timespan int64 // nanoseconds
	bounds   []bound
	field    []string
	aliases  map[string]map[string]string // alias to rule's name to field
	generate bool
}

// bound is one part of a condition.
type bound struct {
	op    string
	value float64
}

func (c *correlation) holds(v float64) bool {
	for _, b := range c.bounds {
		ok := false
		switch b.op {
		case "gt":
			ok = v > b.value
		case "gte":
			ok = v >= b.value
		case "lt":
			ok = v < b.value
		case "lte":
			ok = v <= b.value
		case "eq":
			ok = v == b.value
		case "neq":
			ok = v != b.value
		}
		if !ok {
			return false
		}
	}
	return true
}

// rising reports whether more events can't make the condition false.
func (c *correlation) rising() bool {
	return !slices.ContainsFunc(c.bounds, func(b bound) bool { return b.op != "gt" && b.op != "gte" }) && c.kind != "value_sum" && c.kind != "value_avg"
}

// correlations by name: those that work, and whether they need a field.
var kinds = map[string]bool{"event_count": false, "value_count": true, "value_sum": true, "value_avg": true, "temporal": false, "temporal_ordered": false}

func parseCorrelation(n *yaml.Node) (*correlation, error) {
	if n.Kind != yaml.MappingNode {
		return nil, errors.New("correlation is no map")
	}
	c := &correlation{kind: scalar(n, "type"), aliases: map[string]map[string]string{}, generate: scalar(n, "generate") == "true"}
	if _, ok := kinds[c.kind]; !ok {
		return nil, fmt.Errorf("correlation type %s is not supported", clip(c.kind, 40))
	}
	for i := 0; i < len(n.Content); i += 2 {
		switch k := n.Content[i].Value; k {
		case "type", "rules", "group-by", "timespan", "timeframe", "condition", "aliases", "generate", "ordered":
		default:
			return nil, at(n.Content[i], "correlation: %s is not known", clip(k, 40))
		}
	}
	rules := entry(n, "rules")
	if rules == nil {
		return nil, errors.New("correlation: rules are missing")
	}
	var err error
	if c.names, err = words(rules); err != nil {
		return nil, err
	}
	if len(c.names) == 0 || len(c.names) > maxCorrelated {
		return nil, fmt.Errorf("correlation: 1 to %d rules are expected", maxCorrelated)
	}
	for i, name := range c.names {
		if slices.Contains(c.names[:i], name) {
			return nil, fmt.Errorf("correlation: the rule %s is named twice", clip(name, 80))
		}
	}
	if g := entry(n, "group-by"); g != nil {
		if c.groupBy, err = words(g); err != nil {
			return nil, err
		}
	}
	span := scalar(n, "timespan")
	if span == "" {
		span = scalar(n, "timeframe")
	}
	if c.timespan, err = timespan(span); err != nil {
		return nil, err
	}
	if err := c.parseAliases(entry(n, "aliases")); err != nil {
		return nil, err
	}
	return c, c.parseCondition(entry(n, "condition"))
}

// timespan reads a number with s, m, h, d, w, M (30 days) or y (365 days).
func timespan(s string) (int64, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour, 'M': 30 * 24 * time.Hour,
		'y': 365 * 24 * time.Hour}
	if s != "" {
		n, err := strconv.ParseInt(s[:len(s)-1], 10, 32)
		if u, ok := units[s[len(s)-1]]; ok && err == nil && n > 0 && n <= int64(100*units['y']/u) {
			return n * int64(u), nil
		}
	}
	return 0, fmt.Errorf("correlation: the timespan %q is none (15s, 10m, 1h, 7d)", clip(s, 40))
}

func (c *correlation) parseAliases(n *yaml.Node) error {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return at(n, "correlation: aliases are no map")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		of := follow(n.Content[i+1])
		if of.Kind != yaml.MappingNode {
			return at(of, "correlation: an alias is no map of rules to fields")
		}
		m := map[string]string{}
		for j := 0; j+1 < len(of.Content); j += 2 {
			m[of.Content[j].Value] = of.Content[j+1].Value
		}
		c.aliases[n.Content[i].Value] = m
	}
	return nil
}

func (c *correlation) parseCondition(n *yaml.Node) error {
	temporal := c.kind == "temporal" || c.kind == "temporal_ordered"
	switch {
	case n == nil && temporal:
		c.bounds = []bound{{"gte", float64(len(c.names))}}
		return nil
	case n == nil:
		return errors.New("correlation: the condition is missing")
	case n.Kind == yaml.ScalarNode:
		return errors.New("correlation: conditions in words over the rules are not supported")
	case n.Kind != yaml.MappingNode:
		return at(n, "correlation: the condition is no map")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i].Value, follow(n.Content[i+1])
		switch k {
		case "field":
			f, err := words(v)
			if err != nil {
				return err
			}
			c.field = f
		case "gt", "gte", "lt", "lte", "eq", "neq":
			f, err := strconv.ParseFloat(v.Value, 64)
			if err != nil || f != f {
				return at(v, "correlation: %s takes a number", k)
			}
			c.bounds = append(c.bounds, bound{k, f})
		default:
			return at(n.Content[i], "correlation: the condition %s is not known", clip(k, 40))
		}
	}
	switch need := kinds[c.kind]; {
	case len(c.bounds) == 0 && temporal:
		c.bounds = []bound{{"gte", float64(len(c.names))}}
	case len(c.bounds) == 0:
		return errors.New("correlation: the condition compares with nothing (gt, gte, lt, lte, eq)")
	case need && len(c.field) == 0:
		return fmt.Errorf("correlation: %s needs the field that it looks at in its condition", c.kind)
	case !need && len(c.field) > 0:
		return fmt.Errorf("correlation: %s has no use for a field", c.kind)
	case len(c.field) > 1 && c.kind != "value_count":
		return fmt.Errorf("correlation: %s takes one field", c.kind)
	case c.kind == "temporal_ordered" && !slices.Equal(c.bounds, []bound{{"gte", float64(len(c.names))}}):
		return errors.New("correlation: temporal_ordered has no condition but all of its rules")
	}
	return nil
}

// fieldOf is what a field of the correlation is called in the events of one of its rules.
func (c *correlation) fieldOf(name string, r *rule) string {
	if a, ok := c.aliases[name]; ok {
		for _, key := range []string{r.name, r.id} {
			if f, ok := a[key]; ok && key != "" {
				return f
			}
		}
	}
	return name
}

// Resolve ties correlations to their rules. What it gives are those that can't be asked, since a rule is missing.
func (s *Set) Resolve() []detect.Refusal {
	if s.resolved {
		return nil
	}
	var refused []detect.Refusal
	for again := true; again; { // a refusal takes those along that rest on it
		again = false
		kept := s.rules[:0:0]
		for _, r := range s.rules {
			if err := s.tie(r); err != nil {
				refused = append(refused, detect.Refusal{File: r.file, Line: r.line, Rule: r.Title, Why: err.Error()})
				s.forget(r)
				again = true
				continue
			}
			kept = append(kept, r)
		}
		s.rules = kept
	}
	for _, r := range s.rules {
		r.hidden, r.serving, r.fields, r.values = false, false, nil, nil
	}
	seen := map[named]bool{}
	for _, r := range s.rules {
		if r.cor == nil {
			continue
		}
		for _, base := range r.cor.rules {
			base.serving = true
			base.hidden = base.hidden || !r.cor.generate
			for _, f := range append(slices.Clone(r.cor.groupBy), r.cor.field...) {
				base.need(r.cor.fieldOf(f, base), seen)
			}
		}
	}
	s.resolved = true
	return refused
}

func (s *Set) forget(r *rule) {
	delete(s.ids, r.ID)
	for _, k := range []string{r.id, r.name} {
		if s.byName[k] == r {
			delete(s.byName, k)
		}
	}
}

func (s *Set) tie(r *rule) error {
	if r.cor == nil {
		return nil
	}
	r.cor.rules = nil
	for _, name := range r.cor.names {
		base := s.byName[name]
		if base == nil {
			return fmt.Errorf("correlation: the rule %s is not loaded", clip(name, 80))
		}
		r.cor.rules = append(r.cor.rules, base)
	}
	if r.depth(map[*rule]int{}) > maxChain {
		return fmt.Errorf("correlation: it rests on itself, or on more than %d correlations after each other", maxChain)
	}
	for _, f := range append(slices.Clone(r.cor.groupBy), r.cor.field...) {
		for _, base := range r.cor.rules {
			if err := base.offers(r.cor.fieldOf(f, base), map[named]bool{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// depth is how many correlations stand above each other; more than maxChain for a ring.
func (r *rule) depth(known map[*rule]int) int {
	if r.cor == nil {
		return 0
	}
	if n, ok := known[r]; ok {
		return n
	}
	known[r] = maxChain + 1 // as long as it is not known: a ring
	most := 0
	for _, b := range r.cor.rules {
		most = max(most, b.depth(known))
	}
	known[r] = most + 1
	return most + 1
}

// named is a field that is asked of a rule.
type named struct {
	rule *rule
	name string
}

// offers says why events of a rule don't have a field, if they don't.
func (r *rule) offers(name string, seen map[named]bool) error {
	if seen[named{r, name}] {
		return nil
	}
	seen[named{r, name}] = true
	if r.cor != nil {
		for _, b := range r.cor.rules {
			if err := b.offers(r.cor.fieldOf(name, b), seen); err != nil {
				return err
			}
		}
		return nil
	}
	if _, ok := r.source.field(name); !ok {
		return fmt.Errorf("correlation: field %s: events of %s don't have it", clip(name, 80), r.source.name)
	}
	return nil
}

// need notes a field that a correlation looks at, down to the rules that see events.
func (r *rule) need(name string, seen map[named]bool) {
	if seen[named{r, name}] {
		return
	}
	seen[named{r, name}] = true
	if r.cor != nil {
		for _, b := range r.cor.rules {
			b.need(r.cor.fieldOf(name, b), seen)
		}
		return
	}
	if f, ok := r.source.field(name); ok && !slices.Contains(r.fields, name) {
		r.fields = append(r.fields, name)
		r.values = append(r.values, f)
	}
}
