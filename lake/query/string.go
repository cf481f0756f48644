package query

import (
	"math"
	"strconv"
	"strings"
	"time"
)

func join(nodes []Node, word string) string {
	var b strings.Builder
	b.WriteByte('(')
	for i, n := range nodes {
		if i > 0 {
			b.WriteString(word)
		}
		b.WriteString(n.String())
	}
	b.WriteByte(')')
	return b.String()
}

func (n *And) String() string { return join(n.Nodes, " AND ") }
func (n *Or) String() string  { return join(n.Nodes, " OR ") }
func (n *Not) String() string { return "NOT (" + n.Node.String() + ")" }

func named(column, value string) string {
	if column == "" {
		return value
	}
	return column + ":" + value
}

func phrase(s string) string {
	return `"` + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `"`, `\"`) + `"`
}

func (n *Contains) String() string { return named(n.Column, phrase(n.Text)) }
func (n *Equal) String() string    { return named(n.Column, phrase(n.Text)) }

// String escapes what would end the word.
func (n *Like) String() string {
	var b strings.Builder
	for i := 0; i < len(n.Pattern); i++ {
		c := n.Pattern[i]
		if c == '\\' && i+1 < len(n.Pattern) {
			b.WriteString(n.Pattern[i : i+2])
			i++
			continue
		}
		if strings.IndexByte(" \t\n\r\v\f()\":/<>[]{}-!&|", c) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return named(n.Column, escapeSpaces(b.String()))
}

// escapeSpaces puts a backslash before the spaces of Unicode beyond ASCII.
func escapeSpaces(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r >= 0x80 && strings.TrimSpace(string(r)) == "" {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (n *Regexp) String() string {
	s := "/" + strings.ReplaceAll(n.Source, "/", `\/`) + "/"
	if n.Fold {
		s += "i"
	}
	return named(n.Column, s)
}

func (n *Between) String() string {
	bound := func(v, open int64) string {
		switch {
		case v == open:
			return "*"
		case n.Column == "time" && v > -8e18 && v < 8e18:
			return time.Unix(0, v).UTC().Format("2006-01-02T15:04:05.000000000Z")
		case n.Column == "time" && v < 0:
			return "1700-01-01T00:00:00.000000000Z"
		case n.Column == "time":
			return "2260-01-01T00:00:00.000000000Z"
		}
		return strconv.FormatInt(v, 10)
	}
	return named(n.Column, "["+bound(n.From, math.MinInt64)+" TO "+bound(n.To, math.MaxInt64)+"]")
}

func (n *Within) String() string { return named(n.Column, n.Prefix.String()) }
func (n *Has) String() string    { return "has:" + n.Column }
