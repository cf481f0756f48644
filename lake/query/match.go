package query

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sherd-forensics/sherd/event"
)

// row is an event, with its attributes decoded once.
type row struct {
	e     *event.Event
	attrs map[string]json.RawMessage
	read  bool
	lists map[string][]string // elements of attributes that are lists
}

// text is a column or attribute as text; numbers are in decimal.
func (r *row) text(column string) string {
	switch column {
	case "time_kind":
		return string(r.e.TimeKind)
	case "kind":
		return string(r.e.Kind)
	case "message":
		return r.e.Message
	case "evidence_id":
		return r.e.EvidenceID
	case "container_id":
		return r.e.ContainerID
	case "container":
		return r.e.Container
	case "image_digest":
		return r.e.ImageDigest
	case "pod":
		return r.e.Pod
	case "namespace":
		return r.e.Namespace
	case "node":
		return r.e.Node
	case "process":
		return r.e.Process
	case "cmdline":
		return r.e.Cmdline
	case "user":
		return r.e.User
	case "identity":
		return r.e.Identity
	case "path":
		return r.e.Path
	case "sha256":
		return r.e.SHA256
	case "src_ip":
		return r.e.SrcIP
	case "dst_ip":
		return r.e.DstIP
	case "protocol":
		return r.e.Protocol
	case "technique":
		return r.e.Technique
	case "parser":
		return r.e.Parser
	case "artifact":
		return r.e.Artifact
	case "attributes":
		return string(r.e.Attributes)
	}
	if n, ok := r.number(column); ok {
		return strconv.FormatInt(n, 10)
	}
	return r.attribute(attributeName(column))
}

func (r *row) number(column string) (int64, bool) {
	switch column {
	case "time":
		return r.e.Time, true
	case "pid":
		return int64(r.e.PID), true
	case "ppid":
		return int64(r.e.PPID), true
	case "size":
		return r.e.Size, true
	case "src_port":
		return int64(r.e.SrcPort), true
	case "dst_port":
		return int64(r.e.DstPort), true
	case "offset":
		return r.e.Offset, true
	case "length":
		return r.e.Length, true
	}
	return 0, false
}

// attribute is a value of the attributes as text: a text without its quotes, anything else as it is written.
func (r *row) attribute(name string) string {
	if !r.read {
		r.read = true
		_ = json.Unmarshal(r.e.Attributes, &r.attrs) // what is no object has no attributes
	}
	return plain(r.attrs[name])
}

// plain is a value of JSON as text.
func plain(v json.RawMessage) string {
	if len(v) == 0 || string(v) == "null" {
		return ""
	}
	if v[0] == '"' {
		if bytes.IndexByte(v, '\\') < 0 && utf8.Valid(v) {
			return string(v[1 : len(v)-1])
		}
		var s string
		if json.Unmarshal(v, &s) == nil {
			return s
		}
	}
	return string(v)
}

// Value is a column or attribute of an event as text, as facets count it.
func Value(e *event.Event, name string) string {
	r := row{e: e}
	if n, ok := r.number(name); ok && n == 0 {
		return ""
	}
	return r.text(name)
}

func (n *And) match(r *row) bool {
	for _, x := range n.Nodes {
		if !x.match(r) {
			return false
		}
	}
	return true
}

func (n *Or) match(r *row) bool {
	for _, x := range n.Nodes {
		if x.match(r) {
			return true
		}
	}
	return false
}

func (n *Not) match(r *row) bool { return !n.Node.match(r) }

// any tries a column, or all columns of text.
func anyText(r *row, column string, try func(string) bool) bool {
	if column != "" {
		return try(r.text(column))
	}
	for _, c := range TextColumns {
		if try(r.text(c)) {
			return true
		}
	}
	return false
}

func (n *Contains) match(r *row) bool {
	return anyText(r, n.Column, func(s string) bool { return strings.Contains(lower(s), n.Text) })
}

func (n *Equal) match(r *row) bool { return lower(r.text(n.Column)) == n.Text }

func (n *Like) match(r *row) bool {
	pattern := n.Pattern
	if floating(n.Column) {
		pattern = "*" + pattern + "*"
	}
	return anyText(r, n.Column, func(s string) bool { return like(pattern, lower(s)) })
}

// floating reports whether a pattern may match a part of the column.
func floating(column string) bool { return column == "" || columns[column] == freeText }

// like matches all of s; * is any text, ? any one rune, \ takes what follows as it is.
func like(pattern, s string) bool {
	// The usual two pointers: on a mismatch go back to the last * and let it take one rune more.
	star, back := -1, 0
	i, j := 0, 0
	for j < len(s) {
		_, width := utf8.DecodeRuneInString(s[j:])
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, back = i, j
			i++
			continue
		case i < len(pattern) && pattern[i] == '?':
			i++
			j += width
			continue
		case i < len(pattern):
			at := i
			if pattern[at] == '\\' && at+1 < len(pattern) {
				at++
			}
			if pattern[at] == s[j] {
				i = at + 1
				j++
				continue
			}
		}
		if star < 0 {
			return false
		}
		_, width = utf8.DecodeRuneInString(s[back:])
		back += width
		i, j = star+1, back
	}
	for i < len(pattern) && pattern[i] == '*' {
		i++
	}
	return i == len(pattern)
}

func (n *Regexp) match(r *row) bool { return anyText(r, n.Column, n.re.MatchString) }

func (n *Between) match(r *row) bool {
	v, ok := r.number(n.Column)
	if n.Column == "time" && v == 0 {
		return false // it has no time
	}
	if !ok {
		f, err := strconv.ParseFloat(r.attribute(attributeName(n.Column)), 64)
		return err == nil && f >= float64(n.From) && f <= float64(n.To)
	}
	return v >= n.From && v <= n.To
}

func (n *Within) match(r *row) bool {
	a, err := netip.ParseAddr(r.text(n.Column))
	return err == nil && a.Zone() == "" && n.Prefix.Contains(a)
}

func (n *Has) match(r *row) bool {
	if v, ok := r.number(n.Column); ok {
		return v != 0
	}
	if both := shorthands[n.Column]; both != nil {
		return (&Has{both[0]}).match(r) || (&Has{both[1]}).match(r)
	}
	return r.text(n.Column) != ""
}
