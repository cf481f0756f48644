package query

import (
	"regexp/syntax"
	"strings"
	"unicode"
)

// Limits of what Required gives.
const (
	minNeedle  = 3
	maxNeedles = 64 // of one list
)

// Required gives texts, in lower case, that every matching event must contain in its text columns: of each list at least one. It may be
// empty. What looks for rows by their text uses it to leave out the rest.
func (q *Query) Required() [][]string {
	if q == nil || q.Root == nil {
		return nil
	}
	return required(q.Root)
}

func required(n Node) [][]string {
	switch n := n.(type) {
	case *And:
		var out [][]string
		for _, x := range n.Nodes {
			out = append(out, required(x)...)
		}
		return out
	case *Or:
		return either(len(n.Nodes), func(i int) [][]string { return required(n.Nodes[i]) })
	case *Contains:
		return list(n.Column, n.Text)
	case *Equal:
		if n.Text == "" {
			return nil // also what is not there
		}
		return list(n.Column, n.Text)
	case *Like:
		if like(n.Pattern, "") {
			return nil
		}
		out := key(n.Column)
		for _, part := range literals(n.Pattern) {
			out = append(out, value(n.Column, part)...)
		}
		return out
	case *Regexp:
		if n.re.MatchString("") {
			return nil
		}
		out := key(n.Column)
		if kindOf(n.Column) == attribute && n.Column != "" {
			return out // JSON may write the text otherwise
		}
		tree, err := syntax.Parse(flagged(n), syntax.Perl)
		if err != nil {
			return out
		}
		return append(out, ofRegexp(tree.Simplify())...)
	case *Within:
		out := key(n.Column)
		if n.Prefix.Addr().Is4() {
			prefix, _, _, _ := divide(n.Prefix)
			out = append(out, value(n.Column, prefix)...)
		}
		return out
	case *Pattern:
		if n.MatchesEmpty() {
			return nil
		}
		return n.Field.required(n.Literals()...)
	case *Search:
		if n.MatchesEmpty() {
			return nil
		}
		return n.Field.required()
	case *Compare:
		return n.Field.required()
	case *Inside:
		return n.Field.required()
	case *Filled:
		return n.Field.required()
	case *Between:
		return key(n.Column)
	case *Has:
		if shorthands[n.Column] == nil {
			return key(n.Column)
		}
	}
	return nil
}

// list is for a text that a column or attribute has.
func list(column, text string) [][]string { return append(key(column), value(column, text)...) }

// key is for the name of an attribute, which stands in the attributes.
func key(column string) [][]string {
	if column == "" || kindOf(column) != attribute {
		return nil
	}
	name := lower(attributeName(column))
	if !plainJSON(name) || len(name) < minNeedle {
		return nil
	}
	return [][]string{{name}}
}

// value is for a part of a column's text.
func value(column, text string) [][]string {
	if k := kindOf(column); column != "" && (k == number || k == moment) {
		return nil // not in the index
	}
	if column != "" && kindOf(column) == attribute && !plainJSON(text) {
		return nil // JSON may write it otherwise
	}
	if len(text) < minNeedle || strings.ContainsRune(text, unicode.ReplacementChar) {
		return nil
	}
	return [][]string{{text}}
}

// plainJSON reports whether every writer of JSON writes the text as it is.
func plainJSON(s string) bool {
	for _, c := range []byte(s) {
		if c < 0x20 || c >= 0x7f || strings.IndexByte(`"\<>&/'`, c) >= 0 {
			return false
		}
	}
	return true
}

// literals are the parts of a pattern between its * and ?.
func literals(pattern string) []string {
	var out []string
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*', '?':
			out = append(out, b.String())
			b.Reset()
		default:
			if c == '\\' && i+1 < len(pattern) {
				i++
				c = pattern[i]
			}
			b.WriteByte(c)
		}
	}
	return append(out, b.String())
}

// either is what one of n alternatives requires: of each the most telling list, all in one. If one requires nothing, so do they all.
func either(n int, of func(int) [][]string) [][]string {
	var out []string
	for i := range n {
		best := []string(nil)
		for _, l := range of(i) {
			if best == nil || shortest(l) > shortest(best) || shortest(l) == shortest(best) && len(l) < len(best) {
				best = l
			}
		}
		if best == nil {
			return nil
		}
		if out = append(out, best...); len(out) > maxNeedles {
			return nil
		}
	}
	return [][]string{out}
}

func shortest(list []string) int {
	n := len(list[0])
	for _, s := range list {
		n = min(n, len(s))
	}
	return n
}

func flagged(n *Regexp) string {
	if n.Fold {
		return "(?i)" + n.Source
	}
	return n.Source
}

// ofRegexp gives what a regular expression requires: the texts that stand in it as they are, not optional, as long as can be.
func ofRegexp(re *syntax.Regexp) [][]string {
	var out [][]string
	var run strings.Builder
	flush := func() {
		// Lower case is of the whole, as it is of the event's text: a final sigma depends on nothing here, but be sure.
		if s := lower(run.String()); len(s) >= minNeedle && ascii(s) {
			out = append(out, []string{s})
		}
		run.Reset()
	}
	var walk func(*syntax.Regexp)
	walk = func(re *syntax.Regexp) {
		switch re.Op {
		case syntax.OpLiteral:
			for _, c := range re.Rune {
				if c >= 0x80 {
					flush()
					continue
				}
				run.WriteRune(c)
			}
		case syntax.OpConcat:
			for _, s := range re.Sub {
				walk(s)
			}
		case syntax.OpCapture:
			walk(re.Sub[0])
		case syntax.OpPlus:
			flush()
			walk(re.Sub[0])
			flush()
		case syntax.OpRepeat:
			flush()
			if re.Min > 0 {
				walk(re.Sub[0])
				flush()
			}
		case syntax.OpAlternate:
			flush()
			out = append(out, either(len(re.Sub), func(i int) [][]string { return ofRegexp(re.Sub[i]) })...)
		case syntax.OpEmptyMatch, syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
			// They take no text: what stands on both sides is together.
		default:
			flush()
		}
	}
	walk(re)
	flush()
	return out
}

func ascii(s string) bool {
	for _, c := range []byte(s) {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
