package sigma

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/lake/query"
)

// Bounds of a condition.
const (
	maxCondition = 16 << 10 // bytes
	maxDepth     = 64       // of parentheses and not
)

// condition reads a condition over the named selections.
type condition struct {
	tokens     []string
	at, depth  int
	selections map[string]query.Node
	names      []string // in the rule's order
}

// parseCondition gives the tree that a condition means.
func parseCondition(s string, names []string, selections map[string]query.Node) (query.Node, error) {
	if len(s) > maxCondition {
		return nil, fmt.Errorf("the condition is longer than %d bytes", maxCondition)
	}
	c := &condition{selections: selections, names: names}
	for i := 0; i < len(s); {
		switch b := s[i]; { //nolint:staticcheck // classes of bytes read better as conditions
		case b == ' ' || b == '\t' || b == '\n' || b == '\r':
			i++
		case b == '(' || b == ')':
			c.tokens = append(c.tokens, s[i:i+1])
			i++
		case b == '|':
			return nil, fmt.Errorf("the condition has an aggregation (%s), which Sigma has dropped: write a correlation", clip(strings.TrimSpace(s[i:]), 60))
		default:
			end := i
			for end < len(s) && strings.IndexByte(" \t\r\n()|", s[end]) < 0 {
				end++
			}
			c.tokens = append(c.tokens, s[i:end])
			i = end
		}
	}
	n, err := c.or()
	if err != nil {
		return nil, err
	}
	if c.at < len(c.tokens) {
		return nil, fmt.Errorf("the condition is not understood from %q on", clip(c.tokens[c.at], 40))
	}
	return n, nil
}

func (c *condition) peek() string {
	if c.at < len(c.tokens) {
		return c.tokens[c.at]
	}
	return ""
}

func (c *condition) keyword(w string) bool {
	if strings.EqualFold(c.peek(), w) {
		c.at++
		return true
	}
	return false
}

func (c *condition) or() (query.Node, error) {
	return c.joined("or", c.and, func(n []query.Node) query.Node { return &query.Or{Nodes: n} })
}

func (c *condition) and() (query.Node, error) {
	return c.joined("and", c.not, func(n []query.Node) query.Node { return &query.And{Nodes: n} })
}

func (c *condition) joined(word string, next func() (query.Node, error), join func([]query.Node) query.Node) (query.Node, error) {
	first, err := next()
	if err != nil {
		return nil, err
	}
	all := []query.Node{first}
	for c.keyword(word) {
		n, err := next()
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	if len(all) == 1 {
		return first, nil
	}
	return join(all), nil
}

func (c *condition) not() (query.Node, error) {
	if c.depth++; c.depth > maxDepth {
		return nil, fmt.Errorf("the condition is nested deeper than %d", maxDepth)
	}
	defer func() { c.depth-- }()
	if c.keyword("not") {
		n, err := c.not()
		if err != nil {
			return nil, err
		}
		return &query.Not{Node: n}, nil
	}
	return c.primary()
}

func (c *condition) primary() (query.Node, error) {
	t := c.peek()
	if t == "" {
		return nil, fmt.Errorf("the condition ends too early")
	}
	c.at++
	switch lower := strings.ToLower(t); {
	case t == "(":
		n, err := c.or()
		if err != nil {
			return nil, err
		}
		if !c.keyword(")") {
			return nil, fmt.Errorf("a parenthesis of the condition is not closed")
		}
		return n, nil
	case t == ")" || lower == "and" || lower == "or":
		return nil, fmt.Errorf("the condition has %q where a selection is expected", t)
	case strings.EqualFold(c.peek(), "of"):
		c.at++
		return c.quantified(lower)
	}
	if n, ok := c.selections[t]; ok {
		return n, nil
	}
	return nil, fmt.Errorf("the condition names %q, which the detection has not", clip(t, 60))
}

func (c *condition) quantified(how string) (query.Node, error) {
	if how != "1" && how != "any" && how != "all" {
		return nil, fmt.Errorf("the condition asks for %q of several selections: 1, any and all are known", clip(how, 20))
	}
	pattern := c.peek()
	if pattern == "" {
		return nil, fmt.Errorf("the condition ends after %q of", how)
	}
	c.at++
	var all []query.Node
	for _, name := range c.names {
		ok := false
		if strings.EqualFold(pattern, "them") {
			ok = !strings.HasPrefix(name, "_")
		} else if strings.ContainsAny(pattern, `[]?\`) {
			return nil, fmt.Errorf("the condition has the pattern %q: only * is known", clip(pattern, 40))
		} else {
			ok, _ = path.Match(strings.ReplaceAll(pattern, "/", "_"), strings.ReplaceAll(name, "/", "_"))
		}
		if ok {
			all = append(all, c.selections[name])
		}
	}
	switch {
	case len(all) == 0:
		return nil, fmt.Errorf("no selection is named %s", clip(pattern, 40))
	case len(all) == 1:
		return all[0], nil
	case how == "all":
		return &query.And{Nodes: slices.Clip(all)}, nil
	}
	return &query.Or{Nodes: slices.Clip(all)}, nil
}
