package query

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Dialect is a kind of SQL.
type Dialect int

// The dialects. DuckDB needs the function sherd_within(address, network) for networks of IPv6; see package duckdb.
const (
	DuckDB Dialect = iota
	Trino
)

// writer builds a condition and its arguments.
type writer struct {
	strings.Builder
	d    Dialect
	args []any
}

func (w *writer) arg(v any) {
	w.WriteByte('?')
	w.args = append(w.args, v)
}

// SQL gives the query as a condition. Values are arguments, each a ? in the text.
func (q *Query) SQL(d Dialect) (where string, args []any, err error) {
	if d != DuckDB && d != Trino {
		return "", nil, errors.New("no such dialect")
	}
	if q == nil || q.Root == nil {
		return "true", nil, nil
	}
	w := &writer{d: d}
	q.Root.sql(w)
	return w.String(), w.args, nil
}

// Column gives a column, or an attribute, as an expression of SQL.
func Column(name string, d Dialect) (expr string, args []any, err error) {
	if shorthands[name] != nil {
		return "", nil, fmt.Errorf("%s stands for %s: name one of them", name, strings.Join(shorthands[name], " and "))
	}
	if err := known(scanner{}, name); err != nil {
		return "", nil, errors.New(err.What + " (" + err.Hint + ")")
	}
	w := &writer{d: d}
	w.column(name)
	return w.String(), w.args, nil
}

// column writes a column or attribute, never null.
func (w *writer) column(name string) {
	if _, ok := columns[name]; ok {
		w.WriteString(`"` + name + `"`)
		return
	}
	// The name has letters, digits and _ . @ - alone where it comes from Parse; Column may be given any.
	key := `$."` + strings.ReplaceAll(strings.ReplaceAll(attributeName(name), `\`, `\\`), `"`, `\"`) + `"`
	if w.d == DuckDB {
		w.WriteString("coalesce(json_extract_string(nullif(attributes, ''), ")
		w.arg(key)
		w.WriteString("), '')")
		return
	}
	w.WriteString("coalesce(json_extract_scalar(nullif(attributes, ''), ")
	w.arg(key)
	w.WriteString("), '')")
}

func (w *writer) join(nodes []Node, word string) {
	w.WriteByte('(')
	for i, n := range nodes {
		if i > 0 {
			w.WriteString(word)
		}
		n.sql(w)
	}
	w.WriteByte(')')
}

func (n *And) sql(w *writer) { w.join(n.Nodes, " AND ") }
func (n *Or) sql(w *writer)  { w.join(n.Nodes, " OR ") }
func (n *Not) sql(w *writer) {
	w.WriteString("NOT (")
	n.Node.sql(w)
	w.WriteByte(')')
}

// any writes a condition for a column, or for one of all columns of text.
func (w *writer) any(column string, one func(column string)) {
	if column != "" {
		one(column)
		return
	}
	w.WriteByte('(')
	for i, c := range TextColumns {
		if i > 0 {
			w.WriteString(" OR ")
		}
		one(c)
	}
	w.WriteByte(')')
}

func (n *Contains) sql(w *writer) {
	w.any(n.Column, func(c string) {
		if w.d == DuckDB {
			w.WriteString("contains(lower(")
			w.column(c)
			w.WriteString("), ")
			w.arg(n.Text)
			w.WriteByte(')')
			return
		}
		w.WriteString("strpos(lower(")
		w.column(c)
		w.WriteString("), ")
		w.arg(n.Text)
		w.WriteString(") > 0")
	})
}

func (n *Equal) sql(w *writer) {
	w.WriteString("lower(")
	w.column(n.Column)
	w.WriteString(") = ")
	w.arg(n.Text)
}

func (n *Like) sql(w *writer) {
	pattern := likePattern(n.Pattern)
	if floating(n.Column) {
		pattern = "%" + pattern + "%"
	}
	w.any(n.Column, func(c string) {
		w.WriteString("lower(")
		w.column(c)
		w.WriteString(") LIKE ")
		w.arg(pattern)
		w.WriteString(` ESCAPE '\'`)
	})
}

// likePattern turns * and ? into % and _.
func likePattern(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		switch c := p[i]; c {
		case '*':
			b.WriteByte('%')
		case '?':
			b.WriteByte('_')
		default:
			if c == '\\' && i+1 < len(p) {
				i++
				c = p[i]
			}
			if c == '%' || c == '_' || c == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		}
	}
	return b.String()
}

func (n *Regexp) sql(w *writer) {
	source := n.Source
	if n.Fold {
		source = "(?i)" + source
	}
	name := "regexp_matches("
	if w.d == Trino {
		name = "regexp_like("
	}
	w.any(n.Column, func(c string) {
		w.WriteString(name)
		w.column(c)
		w.WriteString(", ")
		w.arg(source)
		w.WriteByte(')')
	})
}

func (n *Between) sql(w *writer) {
	w.WriteByte('(')
	if k := kindOf(n.Column); k == attribute {
		// A bound that isn't there is the end of the numbers, which a float holds only nearly.
		w.WriteString("coalesce(TRY_CAST(")
		w.column(n.Column)
		w.WriteString(" AS DOUBLE) BETWEEN " + strconv.FormatInt(n.From, 10) + " AND " + strconv.FormatInt(n.To, 10) + ", false)")
	} else {
		// Written out: these are numbers, and a plan that knows them leaves row groups out.
		w.column(n.Column)
		w.WriteString(" BETWEEN " + strconv.FormatInt(n.From, 10) + " AND " + strconv.FormatInt(n.To, 10))
		if n.Column == "time" && n.From <= 0 && n.To >= 0 {
			w.WriteString(" AND time <> 0")
		}
	}
	w.WriteByte(')')
}

func (n *Within) sql(w *writer) {
	if w.d == Trino {
		w.WriteString("coalesce(contains(")
		w.arg(n.Prefix.String())
		w.WriteString(", TRY_CAST(")
		w.column(n.Column)
		w.WriteString(" AS IPADDRESS)), false)")
		return
	}
	if !n.Prefix.Addr().Is4() {
		w.WriteString("sherd_within(")
		w.column(n.Column)
		w.WriteString(", ")
		w.arg(n.Prefix.String())
		w.WriteByte(')')
		return
	}
	// Whole parts as a text, and the part that the network divides as a number.
	prefix, part, low, high := divide(n.Prefix)
	w.WriteString("(regexp_matches(")
	w.column(n.Column)
	w.WriteString(`, '^(\d{1,3}\.){3}\d{1,3}$')`)
	switch {
	case n.Prefix.Bits() == 32:
		w.WriteString(" AND ")
		w.column(n.Column)
		w.WriteString(" = ")
		w.arg(prefix)
	case prefix != "":
		w.WriteString(" AND starts_with(")
		w.column(n.Column)
		w.WriteString(", ")
		w.arg(prefix)
		w.WriteByte(')')
	}
	if part > 0 {
		w.WriteString(" AND TRY_CAST(split_part(")
		w.column(n.Column)
		fmt.Fprintf(w, ", '.', %d) AS INTEGER) BETWEEN %d AND %d", part, low, high)
	}
	w.WriteByte(')')
}

// divide gives the text that all addresses of an IPv4 network begin with, and which part (from 1; 0 for none) lies between two numbers.
func divide(p netip.Prefix) (prefix string, part, low, high int) {
	b := p.Masked().Addr().As4()
	whole := p.Bits() / 8
	for i := range whole {
		prefix += strconv.Itoa(int(b[i]))
		if i < 3 {
			prefix += "."
		}
	}
	if rest := p.Bits() % 8; rest > 0 {
		part, low = whole+1, int(b[whole])
		high = low | 0xff>>rest
	}
	return prefix, part, low, high
}

func (n *Has) sql(w *writer) {
	if both := shorthands[n.Column]; both != nil {
		w.join([]Node{&Has{both[0]}, &Has{both[1]}}, " OR ")
		return
	}
	w.column(n.Column)
	if k := kindOf(n.Column); k == number || k == moment {
		w.WriteString(" <> 0")
		return
	}
	w.WriteString(" <> ''")
}
