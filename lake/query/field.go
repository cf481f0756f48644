package query

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"time"
)

// The nodes of this file have no form in the language of queries: rules of other languages are compiled to them, so that both a stream
// of events and a lake can be asked. They compare one Field, which never is missing: what is not there is the empty text.

// Field is a value of an event as text: a column or an attribute, or a part of one. A number that is 0 is empty.
type Field struct {
	// Columns are columns or attributes ("attributes.NAME"); the first that is not empty is taken.
	Columns []string
	// Element, from 1, is a place in an attribute that is a list; 0 takes the attribute as it is.
	Element int
	// Split divides the value. With Each it is a list, of which any one may match; else Side says what is taken.
	Split string
	Side  Side
	// Default is the value where there is none, Suffix is put behind one.
	Default, Suffix string
}

// Side is a part of a value that is divided by Field.Split.
type Side uint8

// The parts. After is empty where nothing divides the value.
const (
	Each   Side = iota // every part on its own
	Before             // the first divider
	After              // the first divider
)

// Name writes a field for people.
func (f *Field) Name() string { return strings.Join(f.Columns, " or ") }

// one is the value before it is made a list of.
func (f *Field) one(r *row) string {
	v := ""
	for _, c := range f.Columns {
		if f.Element > 0 {
			v = r.element(attributeName(c), f.Element-1)
		} else if n, ok := r.number(c); !ok {
			v = r.text(c)
		} else if n != 0 {
			v = strconv.FormatInt(n, 10)
		}
		if v != "" {
			break
		}
	}
	if f.Split != "" && f.Side != Each {
		before, after, _ := strings.Cut(v, f.Split)
		if v = before; f.Side == After {
			v = after
		}
	}
	if v == "" {
		return f.Default
	}
	return v + f.Suffix
}

// any tries the value, or each of a list.
func (f *Field) any(r *row, try func(string) bool) bool {
	v := f.one(r)
	if f.Split == "" || f.Side != Each {
		return try(v)
	}
	for more := true; more; {
		var part string
		part, v, more = strings.Cut(v, f.Split)
		if try(part) {
			return true
		}
	}
	return false
}

// Value is the field's value in an event, lists as they are written.
func (f *Field) Value(r *Record) string { return f.one(&r.row) }

// element is one of an attribute that is a list.
func (r *row) element(name string, i int) string {
	list, ok := r.lists[name]
	if !ok {
		r.attribute(name) // reads the attributes
		var raw []json.RawMessage
		if json.Unmarshal(r.attrs[name], &raw) == nil {
			for _, v := range raw {
				list = append(list, plain(v))
			}
		}
		if r.lists == nil {
			r.lists = map[string][]string{}
		}
		r.lists[name] = list
	}
	if i >= len(list) {
		return ""
	}
	return list[i]
}

// scalar writes the value as SQL.
func (f *Field) scalar(w *writer) {
	cut := func(body func()) {
		if f.Split == "" || f.Side == Each {
			body()
			return
		}
		if f.Side == Before {
			w.WriteString("split_part(")
			body()
			w.WriteString(", ")
			w.arg(f.Split)
			w.WriteString(", 1)")
			return
		}
		w.WriteString("CASE WHEN strpos(")
		body()
		w.WriteString(", ")
		w.arg(f.Split)
		w.WriteString(") > 0 THEN substr(")
		body()
		w.WriteString(", strpos(")
		body()
		w.WriteString(", ")
		w.arg(f.Split)
		fmt.Fprintf(w, ") + %d) ELSE '' END", len([]rune(f.Split)))
	}
	if f.Default == "" && f.Suffix == "" {
		cut(func() { f.columns(w) })
		return
	}
	w.WriteString("CASE WHEN ")
	cut(func() { f.columns(w) })
	w.WriteString(" = '' THEN ")
	w.arg(f.Default)
	w.WriteString(" ELSE concat(")
	cut(func() { f.columns(w) })
	w.WriteString(", ")
	w.arg(f.Suffix)
	w.WriteString(") END")
}

func (f *Field) columns(w *writer) {
	each := func(c string) {
		switch k := kindOf(c); {
		case f.Element > 0:
			w.element(c, f.Element-1)
		case k == number || k == moment:
			w.WriteString("CASE WHEN ")
			w.column(c)
			w.WriteString(" = 0 THEN '' ELSE CAST(")
			w.column(c)
			w.WriteString(" AS VARCHAR) END")
		default:
			w.column(c)
		}
	}
	if len(f.Columns) == 1 {
		each(f.Columns[0])
		return
	}
	w.WriteString("coalesce(")
	for _, c := range f.Columns {
		w.WriteString("nullif(")
		each(c)
		w.WriteString(", ''), ")
	}
	w.WriteString("'')")
}

// element writes one of an attribute that is a list.
func (w *writer) element(column string, i int) {
	name := "json_extract_string"
	if w.d == Trino {
		name = "json_extract_scalar"
	}
	key := fmt.Sprintf(`$."%s"[%d]`, strings.ReplaceAll(strings.ReplaceAll(attributeName(column), `\`, `\\`), `"`, `\"`), i)
	w.WriteString("coalesce(" + name + "(nullif(attributes, ''), ")
	w.arg(key)
	w.WriteString("), '')")
}

// condition writes what must hold for the value, or for one of a list; value writes the value.
func (f *Field) condition(w *writer, one func(value func())) {
	if f.Split == "" || f.Side != Each {
		one(func() { f.scalar(w) })
		return
	}
	if w.d == Trino {
		w.WriteString("any_match(split(")
		f.scalar(w)
		w.WriteString(", ")
		w.arg(f.Split)
		w.WriteString("), part -> (")
		one(func() { w.WriteString("part") })
		w.WriteString("))")
		return
	}
	w.WriteString("len(list_filter(string_split(")
	f.scalar(w)
	w.WriteString(", ")
	w.arg(f.Split)
	w.WriteString("), lambda part: (")
	one(func() { w.WriteString("part") })
	w.WriteString("))) > 0")
}

func (f *Field) String() string {
	s := strings.Join(f.Columns, "|")
	if f.Element > 0 {
		s += "[" + strconv.Itoa(f.Element) + "]"
	}
	if f.Split != "" {
		s += " by " + strconv.Quote(f.Split) + []string{" any", " before", " after"}[f.Side]
	}
	return s
}

type (
	// Pattern matches a field as a whole with * and ?, as Like does; \ takes what follows as it is. Text must be in lower case unless Cased.
	Pattern struct {
		Field *Field
		Text  string
		Cased bool
	}
	// Search matches where a part of the field matches a regular expression; NewSearch makes it.
	Search struct {
		Field  *Field
		Source string
		re     *regexp.Regexp
	}
	// Compare matches a field that is a number: digits with at most a sign and a fraction.
	Compare struct {
		Field  *Field
		Op     Op
		Number float64
	}
	// Inside matches a field that is an address of the network.
	Inside struct {
		Field  *Field
		Prefix netip.Prefix
	}
	// Filled matches a field that is not empty.
	Filled struct{ Field *Field }
	// Same compares two fields of an event, neither of which is empty.
	Same struct {
		A, B  *Field
		How   How
		Cased bool
	}
	// Clock compares a part of the event's time, in UTC. An event without a time doesn't match.
	Clock struct {
		Part   Part
		Op     Op
		Number int
	}
)

// Op compares numbers.
type Op string

// The comparisons.
const (
	Less    Op = "<"
	AtMost  Op = "<="
	More    Op = ">"
	AtLeast Op = ">="
	Equals  Op = "="
)

func holds[T int | float64](a T, op Op, b T) bool {
	switch op {
	case Less:
		return a < b
	case AtMost:
		return a <= b
	case More:
		return a > b
	case AtLeast:
		return a >= b
	case Equals:
		return a == b
	}
	return false
}

// How two fields are compared.
type How uint8

// The ways: the second is all of the first, a part of it, its beginning, its end.
const (
	Whole How = iota
	Inner
	Beginning
	End
)

// Part of a time.
type Part string

// The parts. A week is that of ISO 8601.
const (
	Minute Part = "minute"
	Hour   Part = "hour"
	Day    Part = "day"
	Week   Part = "week"
	Month  Part = "month"
	Year   Part = "year"
)

// NewSearch compiles a regular expression, in the syntax of RE2, which all engines share.
func NewSearch(f *Field, source string) (*Search, error) {
	re, err := regexp.Compile(source)
	if err != nil {
		return nil, err
	}
	return &Search{f, source, re}, nil
}

// Syntax is the parsed expression.
func (n *Search) Syntax() *syntax.Regexp {
	re, err := syntax.Parse(n.Source, syntax.Perl)
	if err != nil {
		return &syntax.Regexp{Op: syntax.OpAnyChar} // it was compiled, so this can't be
	}
	return re.Simplify()
}

// MatchesEmpty reports whether the expression matches the empty text.
func (n *Search) MatchesEmpty() bool { return n.re.MatchString("") }

func (n *Pattern) match(r *row) bool {
	return n.Field.any(r, func(s string) bool {
		if !n.Cased {
			s = lower(s)
		}
		return like(n.Text, s)
	})
}

// MatchesEmpty reports whether the pattern matches the empty text.
func (n *Pattern) MatchesEmpty() bool { return like(n.Text, "") }

// Literals are the parts of the pattern between its * and ?.
func (n *Pattern) Literals() []string { return literals(n.Text) }

func (n *Search) match(r *row) bool { return n.Field.any(r, n.re.MatchString) }

var decimal = regexp.MustCompile(numberForm)

const numberForm = `^-?[0-9]+(\.[0-9]+)?$`

func (n *Compare) match(r *row) bool {
	return n.Field.any(r, func(s string) bool {
		if !decimal.MatchString(s) {
			return false
		}
		f, err := strconv.ParseFloat(s, 64)
		return err == nil && holds(f, n.Op, n.Number)
	})
}

func (n *Inside) match(r *row) bool {
	return n.Field.any(r, func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Zone() == "" && n.Prefix.Contains(a)
	})
}

func (n *Filled) match(r *row) bool { return n.Field.one(r) != "" }

func (n *Same) match(r *row) bool {
	b := n.B.one(r)
	if !n.Cased {
		b = lower(b)
	}
	return b != "" && n.A.any(r, func(a string) bool {
		if !n.Cased {
			a = lower(a)
		}
		if a == "" {
			return false
		}
		switch n.How {
		case Inner:
			return strings.Contains(a, b)
		case Beginning:
			return strings.HasPrefix(a, b)
		case End:
			return strings.HasSuffix(a, b)
		case Whole:
		}
		return a == b
	})
}

func (n *Clock) match(r *row) bool {
	if r.e.Time == 0 {
		return false
	}
	t := time.Unix(0, r.e.Time).UTC()
	v := 0
	switch n.Part {
	case Minute:
		v = t.Minute()
	case Hour:
		v = t.Hour()
	case Day:
		v = t.Day()
	case Week:
		_, v = t.ISOWeek()
	case Month:
		v = int(t.Month())
	case Year:
		v = t.Year()
	}
	return holds(v, n.Op, n.Number)
}

func (n *Pattern) sql(w *writer) {
	n.Field.condition(w, func(value func()) {
		write := value
		if !n.Cased {
			write = func() {
				w.WriteString("lower(")
				value()
				w.WriteByte(')')
			}
		}
		w.WriteByte('(')
		write()
		if parts := literals(n.Text); len(parts) == 1 {
			w.WriteString(" = ")
			w.arg(parts[0])
		} else {
			w.WriteString(" LIKE ")
			w.arg(likePattern(n.Text))
			w.WriteString(` ESCAPE '\'`)
		}
		w.WriteByte(')')
	})
}

func (n *Search) sql(w *writer) {
	name := "regexp_matches("
	if w.d == Trino {
		name = "regexp_like("
	}
	n.Field.condition(w, func(value func()) {
		w.WriteString(name)
		value()
		w.WriteString(", ")
		w.arg(n.Source)
		w.WriteByte(')')
	})
}

func (n *Compare) sql(w *writer) {
	name := "regexp_matches("
	if w.d == Trino {
		name = "regexp_like("
	}
	n.Field.condition(w, func(value func()) {
		w.WriteString("(" + name)
		value()
		w.WriteString(", '" + numberForm + "') AND coalesce(TRY_CAST(")
		value()
		w.WriteString(" AS DOUBLE) " + string(n.Op) + " CAST(")
		w.arg(strconv.FormatFloat(n.Number, 'f', -1, 64))
		w.WriteString(" AS DOUBLE), false))")
	})
}

func (n *Inside) sql(w *writer) {
	n.Field.condition(w, func(value func()) {
		if w.d == Trino {
			w.WriteString("coalesce(contains(")
			w.arg(n.Prefix.String())
			w.WriteString(", TRY_CAST(")
			value()
			w.WriteString(" AS IPADDRESS)), false)")
			return
		}
		w.WriteString("sherd_within(")
		value()
		w.WriteString(", ")
		w.arg(n.Prefix.String())
		w.WriteByte(')')
	})
}

func (n *Filled) sql(w *writer) {
	w.WriteByte('(')
	n.Field.scalar(w)
	w.WriteString(" <> '')")
}

func (n *Same) sql(w *writer) {
	text := func(write func()) func() {
		if n.Cased {
			return write
		}
		return func() {
			w.WriteString("lower(")
			write()
			w.WriteByte(')')
		}
	}
	b := text(func() { n.B.scalar(w) })
	n.A.condition(w, func(value func()) {
		a := text(value)
		w.WriteByte('(')
		a()
		w.WriteString(" <> '' AND ")
		b()
		w.WriteString(" <> '' AND ")
		switch n.How {
		case Whole:
			a()
			w.WriteString(" = ")
			b()
		case Inner:
			w.WriteString("strpos(")
			a()
			w.WriteString(", ")
			b()
			w.WriteString(") > 0")
		case Beginning:
			w.WriteString("starts_with(")
			a()
			w.WriteString(", ")
			b()
			w.WriteByte(')')
		case End:
			w.WriteString("substr(")
			a()
			w.WriteString(", greatest(length(")
			a()
			w.WriteString(") - length(")
			b()
			w.WriteString(") + 1, 1)) = ")
			b()
		}
		w.WriteByte(')')
	})
}

func (n *Clock) sql(w *writer) {
	if w.d == Trino {
		fmt.Fprintf(w, "(time <> 0 AND extract(%s FROM from_unixtime_nanos(time)) %s %d)", n.Part, n.Op, n.Number)
		return
	}
	fmt.Fprintf(w, "(time <> 0 AND date_part('%s', make_timestamp(time // 1000)) %s %d)", n.Part, n.Op, n.Number)
}

func (n *Pattern) String() string { return fmt.Sprintf("{%s ~ %q}", n.Field, n.Text) }
func (n *Search) String() string  { return fmt.Sprintf("{%s ~ /%s/}", n.Field, n.Source) }
func (n *Compare) String() string { return fmt.Sprintf("{%s %s %v}", n.Field, n.Op, n.Number) }
func (n *Inside) String() string  { return fmt.Sprintf("{%s in %s}", n.Field, n.Prefix) }
func (n *Filled) String() string  { return fmt.Sprintf("{has %s}", n.Field) }
func (n *Same) String() string    { return fmt.Sprintf("{%s ~ %s}", n.A, n.B) }
func (n *Clock) String() string   { return fmt.Sprintf("{%s %s %d}", n.Part, n.Op, n.Number) }

// required of a field's text: what the index of a lake can be asked for.
func (f *Field) required(texts ...string) [][]string {
	if len(f.Columns) != 1 || f.Default != "" || f.Suffix != "" {
		return nil
	}
	out := key(f.Columns[0])
	for _, t := range texts {
		out = append(out, value(f.Columns[0], lower(t))...)
	}
	return out
}
