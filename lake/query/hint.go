package query

import (
	"fmt"
	"strings"
)

// Hints say what may have been meant by a query that matched nothing: small operators, which are words to look for, and names that
// are no column, which are attributes. They are for people, and empty for most queries.
func (q *Query) Hints() []string {
	if q == nil || q.Root == nil {
		return nil
	}
	var out []string
	seen := map[string]bool{}
	say := func(key, format string, args ...any) {
		if !seen[key] {
			seen[key] = true
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	var walk func(Node)
	walk = func(n Node) {
		switch n := n.(type) {
		case *And:
			for _, x := range n.Nodes {
				walk(x)
			}
		case *Or:
			for _, x := range n.Nodes {
				walk(x)
			}
		case *Not:
			walk(n.Node)
		case *Contains:
			// A quoted word reads the same: then the hint is superfluous, not wrong.
			if n.Column == "" && (n.Text == "or" || n.Text == "and" || n.Text == "not") {
				say(n.Text, "%q is a word to look for; the operator is %s", n.Text, strings.ToUpper(n.Text))
			}
		case *Equal:
			if kindOf(n.Column) == attribute {
				name := attributeName(n.Column)
				say("."+name, `%s is no column and was taken for an attribute; the text is found by "%s:%s" in quotes`, name, name, n.Text)
			}
		}
	}
	walk(q.Root)
	return out
}
