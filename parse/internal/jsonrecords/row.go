package jsonrecords

import (
	"context"
	"net/netip"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/internal/timestamp"
	"github.com/sherd-forensics/sherd/parse"
)

const (
	maxMessage = 4096    // runes of Event.Message
	maxValue   = 2 << 10 // bytes of one attribute
)

// Row is an event while it is filled from a record.
type Row struct {
	event.Event
	Attr event.Attributes

	clock *timestamp.Resolver
}

// When takes the event's time from n: a text in a known form, or a number since 1970 in seconds to nanoseconds. It reports whether it
// was one.
func (r *Row) When(n Node) bool {
	var m timestamp.Mark
	var ok bool
	switch n.Type() {
	case String:
		s := n.Text()
		if r.Time, ok = timestamp.RFC3339(s); !ok {
			r.Time, m, ok = r.clock.Parse(s)
		}
	case Number:
		r.Time, ok = timestamp.Epoch(string(n.Raw()))
	}
	if !ok {
		r.Time = 0
		return false
	}
	if m != 0 {
		r.Attr.String("time_assumed", m.String())
	}
	return true
}

// Put adds n as an attribute, unless it is missing, null or empty: what is no text as JSON, all bounded.
func (r *Row) Put(name string, n Node) {
	switch n.Type() {
	case Missing, Null:
	case String:
		r.Attr.String(name, Clip(n.Text()))
	case Object, Array:
		if n.Len() > 0 {
			r.Attr.Raw(name, n.Append(nil, maxValue))
		}
	default:
		if len(n.Raw()) <= 64 {
			r.Attr.Raw(name, n.Raw())
		}
	}
}

// Clip bounds the text of an attribute.
func Clip(s string) string {
	if len(s) <= maxValue {
		return s
	}
	return s[:maxValue] + "…"
}

// Address is s without brackets, port or zone when it is an IP address, and empty when it is none.
func Address(s string) string {
	a, _ := AddressPort(s)
	return a
}

// AddressPort is an IP address and the port after it, 0 when there is none. Both are empty when s is no address.
func AddressPort(s string) (string, int) {
	if s == "" || len(s) > 64 {
		return "", 0
	}
	// What it can be is tried alone: an error of netip costs an allocation.
	if s[0] == '[' || strings.Count(s, ":") == 1 {
		if p, err := netip.ParseAddrPort(s); err == nil {
			return p.Addr().Unmap().WithZone("").String(), int(p.Port())
		}
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return a.Unmap().WithZone("").String(), 0
	}
	return "", 0
}

// Port is a port number, 0 when n is none.
func Port(n Node) int {
	if v := n.Whole(); v > 0 && v < 1<<16 {
		return v
	}
	return 0
}

// Technique is the first of tags that is a technique's number of MITRE ATT&CK, such as T1059 or attack.t1059.004.
func Technique(tags []string) string {
	for _, t := range tags {
		t = strings.ToUpper(t)
		if i := strings.LastIndex(t, "ATTACK."); i >= 0 {
			t = t[i+len("ATTACK."):]
		}
		if isTechnique(t) {
			return t
		}
	}
	return ""
}

func isTechnique(s string) bool {
	if len(s) != 5 && len(s) != 9 || s[0] != 'T' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if i == 5 && s[i] == '.' {
			continue
		}
		if i == 5 || s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// Strings is the texts of an array, at most 64.
func Strings(n Node) []string {
	var out []string
	if n.Type() != Array {
		return nil
	}
	n.Each(func(_ string, v Node) bool {
		if s := v.Text(); s != "" {
			out = append(out, s)
		}
		return len(out) < 64
	})
	return out
}

// Events reads records that are one event each. fill takes what it knows from a record and says whether it is one of its format.
func Events(ctx context.Context, in *parse.Input, emit parse.Emit, o Options, fill func(r *Row, root Node) bool) error {
	row := Row{clock: in.Resolver()}
	return Read(ctx, in, o, func(rec Record, root Node) (bool, error) {
		row.Begin(in, rec)
		if !fill(&row, root) {
			return false, nil
		}
		return true, row.Emit(emit)
	})
}

// NewRow is for formats whose records are several events: Begin and Emit each.
func NewRow(in *parse.Input) *Row { return &Row{clock: in.Resolver()} }

// Begin empties the row for an event that cites rec.
func (r *Row) Begin(in *parse.Input, rec Record) {
	r.Event = in.Base
	r.Offset, r.Length = rec.Offset, rec.Length
	r.TimeKind = event.Logged
	r.Attr.Reset()
	if rec.Cut {
		r.Attr.Bool("cut", true)
	}
}

// Emit hands the event on.
func (r *Row) Emit(emit parse.Emit) error {
	r.Message = printable.Clip(r.Message, maxMessage)
	r.Attributes = r.Attr.JSON()
	return emit(&r.Event)
}
