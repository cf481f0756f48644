package lake

import (
	"context"
	"math"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/lake/query"
)

// Position is a place in the order of a lake's rows: by time, then by row. Row numbers are unique in one lake, and the same
// whenever it is built from the same sources.
type Position struct {
	Time int64 `json:"time"`
	Row  int64 `json:"row"`
}

// Row is an event and its number in the lake.
type Row struct {
	event.Event
	Row int64 `json:"row"`
}

// PageRequest asks for the next Limit matching rows after From, or before it when Backward; without From, from the oldest or the
// newest. A nil Query matches all.
type PageRequest struct {
	Query    *query.Query
	From     *Position
	Backward bool
	Limit    int
}

// Page is the rows in the order asked for. More is true when further rows match.
type Page struct {
	Rows []Row
	More bool
}

// Bucket counts the matching events with Start <= time < End, in nanoseconds UTC.
type Bucket struct {
	Start, End, Count int64
}

// FacetValue is one value of a column and how many matching events have it.
type FacetValue struct {
	Value string
	Count int64
}

// Facet is the most frequent values of a column, by count and then by value. Missing counts the events in which the column is empty
// (0 for a number); such events are in no value.
type Facet struct {
	Column   string
	Values   []FacetValue
	Distinct int64 // values there are in all
	Missing  int64
}

// Engine answers questions of one lake. DuckDB is the first; a distributed SQL engine over the same files can be another. All give
// the same answers: laketest holds them to it. A part that can't be read is an error, never fewer rows. An Engine may be used by
// several goroutines.
type Engine interface {
	Page(ctx context.Context, r PageRequest) (*Page, error)
	Count(ctx context.Context, q *query.Query) (int64, error)
	// Histogram divides the time from the first to the last matching event that has a time into at most the given number of equal
	// buckets. It is empty when none matches.
	Histogram(ctx context.Context, q *query.Query, buckets int) ([]Bucket, error)
	// Facets takes names of columns, or of attributes as "attributes.NAME".
	Facets(ctx context.Context, q *query.Query, columns []string, top int) ([]Facet, error)
	// Scan gives all matching rows by time and row. The row is the engine's again when fn returns.
	Scan(ctx context.Context, q *query.Query, fn func(*Row) error) error
	Close() error
}

// Buckets divides the time from first to last into at most n parts of the same width, in nanoseconds; the last one ends behind last. All
// engines use it, so that they agree. n must be at least 1.
func Buckets(first, last int64, n int) []Bucket {
	// Unsigned: the years 1678 to 2261 are more than a signed number holds.
	span := uint64(last) - uint64(first) + 1
	width := (span + uint64(n) - 1) / uint64(n)
	if span == 0 { // all of the 64 bits
		width = 1 << 63
	}
	out := make([]Bucket, 0, n)
	for start := uint64(0); start < span && len(out) < n; start += width {
		end := first + int64(start+width)
		if uint64(end)-uint64(first) < start { // beyond what a time can be
			end = math.MaxInt64
		}
		out = append(out, Bucket{Start: first + int64(start), End: end})
	}
	return out
}
