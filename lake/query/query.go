// Package query is the language in which events are searched: parsed from text into a tree, evaluated on an event (Match, which is the
// meaning), and translated to SQL with every value as a parameter.
//
// docs/query.md has the grammar. All comparisons of text ignore case.
package query

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/event"
)

// Limits of a query.
const (
	maxLength = 64 << 10 // bytes
	maxDepth  = 100      // of parentheses and NOT
	maxTerms  = 4000
)

// Options resolve what a query says about time.
type Options struct {
	Now  time.Time      // of "last 2h", "today"
	Zone *time.Location // of times that name no zone; nil is UTC
}

// Query is a parsed query. Root is nil when everything matches.
type Query struct {
	Text string
	Root Node
}

// Node is a part of a query.
type Node interface {
	// match evaluates it on an event.
	match(*row) bool
	// sql writes it.
	sql(*writer)
	// String writes it in the language.
	String() string
}

type (
	// And matches where all of Nodes do, Or where one does.
	And struct{ Nodes []Node }
	// Or is the other.
	Or struct{ Nodes []Node }
	// Not matches where Node doesn't.
	Not struct{ Node Node }
	// Contains matches where a text column contains Text, which is in lower case. Column "" is any text column.
	Contains struct{ Column, Text string }
	// Equal matches where a column, or an attribute, is Text, which is in lower case.
	Equal struct{ Column, Text string }
	// Like matches a text with * and ?. The whole of a column must match; with Column "" a part of any text column.
	Like struct{ Column, Pattern string }
	// Regexp matches where a part of a column matches. Column "" is any text column.
	Regexp struct {
		Column, Source string
		Fold           bool // ignores case
		re             *regexp.Regexp
	}
	// Between matches numbers From to To, both included.
	Between struct {
		Column   string
		From, To int64
	}
	// Within matches addresses of a network. Column is src_ip, dst_ip, or an attribute.
	Within struct {
		Column string
		Prefix netip.Prefix
	}
	// Has matches where a column is neither empty nor 0.
	Has struct{ Column string }
)

// Error says what is wrong in a query, and where.
type Error struct {
	Column int // of the first rune that is not understood, from 1
	What   string
	Hint   string // what to write instead; may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("at column %d: %s", e.Column, e.What)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// kind of a column.
type kind uint8

const (
	identifier kind = iota // compared whole
	freeText               // searched within
	number
	address
	moment
	attribute
)

// columns are those of an event that a query may name.
var columns = map[string]kind{
	"time": moment, "time_kind": identifier, "kind": identifier, "message": freeText, "evidence_id": identifier, "container_id": identifier,
	"container": identifier, "image_digest": identifier, "pod": identifier, "namespace": identifier, "node": identifier, "pid": number, "ppid": number,
	"process": identifier, "cmdline": freeText, "user": identifier, "identity": identifier, "path": identifier, "sha256": identifier, "size": number,
	"src_ip": address, "src_port": number, "dst_ip": address, "dst_port": number, "protocol": identifier, "technique": identifier, "parser": identifier,
	"artifact": identifier, "offset": number, "length": number, "attributes": freeText,
}

// TextColumns are those that a plain word is looked for in.
var TextColumns = []string{"message", "path", "cmdline", "process", "user", "identity", "container", "container_id", "pod", "namespace", "node", "image_digest",
	"sha256", "src_ip", "dst_ip", "protocol", "kind", "technique", "parser", "artifact", "attributes"}

// kindOf tells what a name is; all that is no column is an attribute.
func kindOf(name string) kind {
	if k, ok := columns[name]; ok {
		return k
	}
	return attribute
}

// attributeName is the key of an attribute that a name means.
func attributeName(name string) string {
	for _, p := range []string{"attributes.", "attr."} {
		if s, ok := strings.CutPrefix(name, p); ok {
			return s
		}
	}
	return name
}

// String writes the query so that Parse reads the same again.
func (q *Query) String() string {
	if q == nil || q.Root == nil {
		return ""
	}
	return q.Root.String()
}

// Match reports whether an event matches: this is what a query means, for every engine.
func (q *Query) Match(e *event.Event) bool {
	if q == nil || q.Root == nil {
		return true
	}
	return q.Root.match(&row{e: e})
}
