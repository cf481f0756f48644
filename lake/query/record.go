package query

import "github.com/sherd-forensics/sherd/event"

// Record is an event that many queries are asked of: its attributes are decoded once. The event must not change meanwhile.
type Record struct{ row row }

// NewRecord wraps an event.
func NewRecord(e *event.Event) *Record { return &Record{row{e: e}} }

// Reset takes another event.
func (r *Record) Reset(e *event.Event) { r.row = row{e: e} }

// Event is the event.
func (r *Record) Event() *event.Event { return r.row.e }

// MatchRecord is Match for an event that was wrapped before.
func (q *Query) MatchRecord(r *Record) bool {
	if q == nil || q.Root == nil {
		return true
	}
	return q.Root.match(&r.row)
}
