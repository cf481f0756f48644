// Package memory answers questions of a few events with nothing but loops, so that it can be believed: it is what other engines are
// compared with.
package memory

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/lake/query"
)

// Engine is lake.Engine over a slice.
type Engine struct{ rows []lake.Row }

var _ lake.Engine = (*Engine)(nil)

// New takes events with their row numbers.
func New(rows []lake.Row) *Engine {
	e := &Engine{slices.Clone(rows)}
	slices.SortFunc(e.rows, func(a, b lake.Row) int { return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Row, b.Row)) })
	return e
}

// matching calls fn for each matching row in order, until it says false.
func (e *Engine) matching(ctx context.Context, q *query.Query, fn func(*lake.Row) bool) error {
	for i := range e.rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		if q.Match(&e.rows[i].Event) && !fn(&e.rows[i]) {
			return nil
		}
	}
	return nil
}

// Page goes through all rows.
func (e *Engine) Page(ctx context.Context, r lake.PageRequest) (*lake.Page, error) {
	var all []lake.Row
	err := e.matching(ctx, r.Query, func(x *lake.Row) bool {
		if r.From != nil {
			c := cmp.Or(cmp.Compare(x.Time, r.From.Time), cmp.Compare(x.Row, r.From.Row))
			if !r.Backward && c <= 0 || r.Backward && c >= 0 {
				return true
			}
		}
		all = append(all, *x)
		return true
	})
	if err != nil || r.Limit < 1 {
		return &lake.Page{}, err
	}
	if r.Backward {
		slices.Reverse(all)
	}
	n := min(len(all), r.Limit)
	return &lake.Page{Rows: all[:n], More: len(all) > n}, nil
}

// Count goes through all rows.
func (e *Engine) Count(ctx context.Context, q *query.Query) (int64, error) {
	n := int64(0)
	err := e.matching(ctx, q, func(*lake.Row) bool { n++; return true })
	return n, err
}

// Histogram goes through all rows twice.
func (e *Engine) Histogram(ctx context.Context, q *query.Query, buckets int) ([]lake.Bucket, error) {
	var times []int64
	err := e.matching(ctx, q, func(r *lake.Row) bool {
		if r.Time != 0 {
			times = append(times, r.Time)
		}
		return true
	})
	if err != nil || len(times) == 0 || buckets < 1 {
		return nil, err
	}
	out := lake.Buckets(times[0], times[len(times)-1], buckets)
	for _, t := range times {
		for i := range out {
			if t >= out[i].Start && (t < out[i].End || i == len(out)-1) {
				out[i].Count++
				break
			}
		}
	}
	return out, nil
}

// Facets goes through all rows for each column.
func (e *Engine) Facets(ctx context.Context, q *query.Query, columns []string, top int) ([]lake.Facet, error) {
	out := make([]lake.Facet, 0, len(columns))
	for _, c := range columns {
		if _, _, err := query.Column(c, query.DuckDB); err != nil {
			return nil, err
		}
		f := lake.Facet{Column: c}
		counts := map[string]int64{}
		err := e.matching(ctx, q, func(r *lake.Row) bool {
			if v := query.Value(&r.Event, c); v == "" || v == "0" {
				f.Missing++
			} else {
				counts[v]++
			}
			return true
		})
		if err != nil {
			return nil, err
		}
		for v, n := range counts {
			f.Values = append(f.Values, lake.FacetValue{Value: v, Count: n})
		}
		f.Distinct = int64(len(counts))
		slices.SortFunc(f.Values, func(a, b lake.FacetValue) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Value, b.Value))
		})
		f.Values = f.Values[:min(len(f.Values), max(top, 0))]
		out = append(out, f)
	}
	return out, nil
}

// Scan calls fn for each.
func (e *Engine) Scan(ctx context.Context, q *query.Query, fn func(*lake.Row) error) error {
	var ferr error
	err := e.matching(ctx, q, func(r *lake.Row) bool {
		c := *r
		ferr = fn(&c)
		return ferr == nil
	})
	if ferr != nil {
		return ferr
	}
	return err
}

// Close does nothing.
func (e *Engine) Close() error { return nil }
