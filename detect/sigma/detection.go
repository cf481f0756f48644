package sigma

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sherd-forensics/sherd/lake/query"
)

// Bounds of one rule.
const (
	maxValues = 10_000 // values of all selections
	maxNodes  = 40_000 // of the tree that it becomes
	maxValue  = 64 << 10
	maxNested = 16 // lists and maps within each other
)

// detection compiles the selections of one rule.
type detection struct {
	source       *source
	placeholders map[string][]string
	values       int
}

// lineError is what is wrong, and where in the file.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return e.err.Error() }
func (e *lineError) Unwrap() error { return e.err }

func at(n *yaml.Node, format string, args ...any) error {
	return &lineError{n.Line, fmt.Errorf(format, args...)}
}

// compile gives the tree of a rule's detection.
func (d *detection) compile(n *yaml.Node) (query.Node, error) {
	if n.Kind != yaml.MappingNode {
		return nil, at(n, "detection is no map")
	}
	var names []string
	selections := map[string]query.Node{}
	var conditions []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, follow(n.Content[i+1])
		switch name {
		case "condition":
			var err error
			if conditions, err = words(value); err != nil {
				return nil, err
			}
			continue
		case "timeframe":
			return nil, at(value, "timeframe belongs to aggregations, which Sigma has dropped: write a correlation")
		}
		s, err := d.selection(value, 0)
		if err != nil {
			return nil, err
		}
		if selections[name] == nil {
			names = append(names, name)
		}
		selections[name] = s
	}
	if len(conditions) == 0 {
		return nil, at(n, "the detection has no condition")
	}
	var all []query.Node
	for _, c := range conditions {
		t, err := parseCondition(c, names, selections)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	tree := all[0]
	if len(all) > 1 {
		tree = &query.Or{Nodes: all}
	}
	if left := maxNodes; !fits(tree, &left) {
		return nil, fmt.Errorf("the rule has more than %d parts", maxNodes)
	}
	return tree, nil
}

// fits counts the nodes of a tree down from left.
func fits(n query.Node, left *int) bool {
	if *left--; *left < 0 {
		return false
	}
	each := func(nodes []query.Node) bool {
		return !slices.ContainsFunc(nodes, func(x query.Node) bool { return !fits(x, left) })
	}
	switch n := n.(type) {
	case *query.And:
		return each(n.Nodes)
	case *query.Or:
		return each(n.Nodes)
	case *query.Not:
		return fits(n.Node, left)
	}
	return true
}

// follow resolves an alias of YAML.
func follow(n *yaml.Node) *yaml.Node {
	for i := 0; n.Kind == yaml.AliasNode && n.Alias != nil && i < 8; i++ {
		n = n.Alias
	}
	return n
}

// words are a scalar or a list of scalars.
func words(n *yaml.Node) ([]string, error) {
	n = follow(n)
	switch n.Kind {
	case yaml.ScalarNode:
		return []string{n.Value}, nil
	case yaml.SequenceNode:
		var out []string
		for _, c := range n.Content {
			if c = follow(c); c.Kind != yaml.ScalarNode {
				return nil, at(c, "a text is expected here")
			}
			out = append(out, c.Value)
		}
		return out, nil
	}
	return nil, at(n, "a text or a list of texts is expected here")
}

// selection is a map (all items hold), a list of maps (one does), or keywords.
func (d *detection) selection(n *yaml.Node, depth int) (query.Node, error) {
	n = follow(n)
	if depth > maxNested {
		return nil, at(n, "a selection is nested deeper than %d", maxNested)
	}
	switch n.Kind {
	case yaml.MappingNode:
		var all []query.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			x, err := d.item(n.Content[i], follow(n.Content[i+1]))
			if err != nil {
				return nil, err
			}
			all = append(all, x)
		}
		if len(all) == 0 {
			return nil, at(n, "a selection is empty")
		}
		return and(all), nil
	case yaml.SequenceNode:
		var any []query.Node
		for _, c := range n.Content {
			x, err := d.selection(c, depth+1)
			if err != nil {
				return nil, err
			}
			any = append(any, x)
		}
		if len(any) == 0 {
			return nil, at(n, "a selection is empty")
		}
		return or(any), nil
	case yaml.ScalarNode:
		return d.item(&yaml.Node{Kind: yaml.ScalarNode, Line: n.Line}, n)
	}
	return nil, at(n, "a selection is neither a map nor a list nor a text")
}

func and(n []query.Node) query.Node {
	if len(n) == 1 {
		return n[0]
	}
	return &query.And{Nodes: n}
}

func or(n []query.Node) query.Node {
	if len(n) == 1 {
		return n[0]
	}
	return &query.Or{Nodes: n}
}

// item is one field with its modifiers and values.
func (d *detection) item(key, n *yaml.Node) (query.Node, error) {
	parts := strings.Split(key.Value, "|")
	m, err := parseModifiers(parts[1:])
	if err != nil {
		return nil, at(key, "%w", err)
	}
	var nodes []*yaml.Node
	switch n.Kind {
	case yaml.ScalarNode:
		nodes = []*yaml.Node{n}
	case yaml.SequenceNode:
		nodes = n.Content
	default:
		return nil, at(n, "the values of %s are neither a text nor a list", clip(key.Value, 60))
	}
	if len(nodes) == 0 {
		return nil, at(n, "%s has no value", clip(key.Value, 60))
	}
	targets, err := d.targets(parts[0])
	if err != nil {
		return nil, at(key, "%w", err)
	}
	var all []query.Node
	for _, v := range nodes {
		v = follow(v)
		if v.Kind != yaml.ScalarNode {
			return nil, at(v, "a value of %s is no text, number or null", clip(key.Value, 60))
		}
		if len(v.Value) > maxValue {
			return nil, at(v, "a value is longer than %d bytes", maxValue)
		}
		if d.values++; d.values > maxValues {
			return nil, at(v, "the rule has more than %d values", maxValues)
		}
		var any []query.Node
		for _, t := range targets {
			x, err := d.value(t, m, v)
			if err != nil {
				return nil, at(v, "%w", err)
			}
			any = append(any, x)
		}
		all = append(all, or(any))
	}
	tree := or(all)
	if m.all {
		tree = and(all)
	}
	if m.not {
		tree = &query.Not{Node: tree}
	}
	return tree, nil
}

// target is where a value is looked for.
type target struct {
	field   *query.Field
	keyword bool // anywhere in it
	json    bool // as a part of JSON
}

// targets are one field, or all text of an event for a keyword.
func (d *detection) targets(name string) ([]target, error) {
	if name == "" {
		return []target{{field: column("message"), keyword: true}, {field: column("cmdline"), keyword: true}, {field: column("path"), keyword: true},
			{field: column("attributes"), keyword: true, json: true}}, nil
	}
	f, ok := d.source.field(name)
	if !ok {
		return nil, fmt.Errorf("field %s: events of %s don't have it", clip(name, 80), d.source.name)
	}
	return []target{{field: f}}, nil
}

// value compiles one value.
func (d *detection) value(t target, m *modifiers, v *yaml.Node) (query.Node, error) {
	switch {
	case v.Tag == "!!null":
		if t.keyword || m.how != "" {
			return nil, errors.New("null can't be searched for")
		}
		return &query.Not{Node: &query.Filled{Field: t.field}}, nil
	case m.how == "exists":
		yes, err := strconv.ParseBool(strings.ToLower(v.Value))
		if err != nil || t.keyword {
			return nil, errors.New("modifier exists takes a field and true or false")
		}
		if yes {
			return &query.Filled{Field: t.field}, nil
		}
		return &query.Not{Node: &query.Filled{Field: t.field}}, nil
	case m.how == "re":
		flags := ""
		if m.flags != "" {
			flags = "(?" + m.flags + ")"
		}
		s, err := query.NewSearch(t.field, flags+v.Value)
		if err != nil {
			return nil, fmt.Errorf("modifier re: the expression is not one of RE2's: %w", err)
		}
		return s, nil
	case m.how == "cidr":
		p, err := netip.ParsePrefix(v.Value)
		if err != nil || t.keyword {
			return nil, fmt.Errorf("modifier cidr: %s is no network", clip(v.Value, 60))
		}
		return &query.Inside{Field: t.field, Prefix: p.Masked()}, nil
	case m.how == "fieldref":
		other, ok := d.source.field(v.Value)
		if !ok || t.keyword || other.Split != "" && other.Side == query.Each {
			return nil, fmt.Errorf("modifier fieldref: events of %s have no single field %s", d.source.name, clip(v.Value, 80))
		}
		how := map[string]query.How{"": query.Whole, "contains": query.Inner, "startswith": query.Beginning, "endswith": query.End}[m.place]
		return &query.Same{A: t.field, B: other, How: how, Cased: m.cased}, nil
	case m.part != "":
		n, err := strconv.Atoi(v.Value)
		if err != nil {
			return nil, fmt.Errorf("modifier %s takes a number", m.part)
		}
		if t.keyword || len(t.field.Columns) != 1 || t.field.Columns[0] != "time" {
			return nil, fmt.Errorf("modifier %s: only an event's own time can be asked for its parts (field timestamp)", m.part)
		}
		op := m.op
		if op == "" {
			op = query.Equals
		}
		return &query.Clock{Part: m.part, Op: op, Number: n}, nil
	case m.op != "":
		f, err := strconv.ParseFloat(v.Value, 64)
		if err != nil || t.keyword || f != f || f > 1e300 || f < -1e300 {
			return nil, fmt.Errorf("modifier %s takes a field and a number", m.opName)
		}
		return &query.Compare{Field: t.field, Op: m.op, Number: f}, nil
	}
	if len(t.field.Columns) == 1 && t.field.Columns[0] == "time" {
		return nil, errors.New("a time is asked for by its parts (minute, hour, day, week, month, year), not by a text")
	}
	return d.texts(t, m, v)
}

// texts compiles a value that is text, in all forms that its modifiers give it.
func (d *detection) texts(t target, m *modifiers, v *yaml.Node) (query.Node, error) {
	given := v.Value
	if v.Tag == "!!int" {
		if n, err := strconv.ParseInt(strings.ReplaceAll(given, "_", ""), 0, 64); err == nil {
			given = strconv.FormatInt(n, 10)
		}
	}
	forms := []text{parseText(given)}
	for _, change := range m.changes {
		var next []text
		for _, f := range forms {
			out, err := d.change(change, f)
			if err != nil {
				return nil, err
			}
			next = append(next, out...)
		}
		if forms = next; len(forms) > maxForms {
			return nil, fmt.Errorf("one value becomes more than %d", maxForms)
		}
	}
	var any []query.Node
	for _, f := range forms {
		if strings.ContainsRune(f.pattern(true), 0) {
			return nil, errors.New("modifier utf16: what is not encoded in Base64 after it holds NUL, which no event does")
		}
		if t.json {
			f = f.inJSON()
		}
		if t.keyword {
			f = f.around(true, true)
		}
		f = f.around(m.place == "contains" || m.place == "endswith", m.place == "contains" || m.place == "startswith")
		if f.any() {
			any = append(any, &query.Filled{Field: t.field})
			continue
		}
		any = append(any, &query.Pattern{Field: t.field, Text: f.pattern(m.cased), Cased: m.cased})
	}
	if len(any) == 0 {
		return nil, fmt.Errorf("the value %s is too short for its modifiers", clip(given, 40))
	}
	return or(any), nil
}

// maxForms bounds what one value becomes.
const maxForms = 700

// change applies one modifier that makes other texts of a text.
func (d *detection) change(name string, t text) ([]text, error) {
	switch name {
	case "windash":
		return t.windash()
	case "expand":
		return d.expand(t)
	}
	s, ok := t.literal()
	if !ok {
		return nil, fmt.Errorf("modifier %s: a value with wildcards can't be encoded", name)
	}
	switch name {
	case "base64":
		return []text{plainText(base64.StdEncoding.EncodeToString([]byte(s)))}, nil
	case "base64offset":
		var out []text
		for _, o := range offsets(s) {
			out = append(out, plainText(o))
		}
		return out, nil
	case "utf16":
		return []text{plainText(wide(s, false, true))}, nil
	case "utf16le", "wide":
		return []text{plainText(wide(s, false, false))}, nil
	case "utf16be":
		return []text{plainText(wide(s, true, false))}, nil
	}
	return nil, fmt.Errorf("modifier %s is not known", clip(name, 40))
}

// expand puts the values of placeholders in. A value without one stays as it is.
func (d *detection) expand(t text) ([]text, error) {
	for i, p := range t {
		from := strings.IndexByte(p.plain, '%')
		if from < 0 {
			continue
		}
		to := strings.IndexByte(p.plain[from+1:], '%')
		if to < 1 {
			continue
		}
		to += from + 1
		name := p.plain[from+1 : to]
		values, ok := d.placeholders[name]
		if !ok {
			return nil, fmt.Errorf("modifier expand: the placeholder %%%s%% has no values here", clip(name, 60))
		}
		var out []text
		for _, v := range values {
			var x text
			x = append(x, t[:i]...)
			x = append(x, plainText(p.plain[:from]+v)...)
			rest, err := d.expand(append(plainText(p.plain[to+1:]), t[i+1:]...))
			if err != nil {
				return nil, err
			}
			for _, r := range rest {
				out = append(out, append(x[:len(x):len(x)], r...))
			}
			if len(out) > maxForms {
				return nil, fmt.Errorf("one value becomes more than %d", maxForms)
			}
		}
		return out, nil
	}
	return []text{t}, nil
}
