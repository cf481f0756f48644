package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/lake/query"
)

// Histogram counts matching events in equal parts of the time between the first and the last of them.
func (e *Engine) Histogram(ctx context.Context, q *query.Query, buckets int) ([]lake.Bucket, error) {
	if buckets < 1 {
		return nil, nil
	}
	p, err := e.plan(q)
	if err != nil || p.none() {
		return nil, err
	}
	table, args, done, err := e.matching(ctx, p, []string{"time"}, nil)
	if err != nil {
		return nil, err
	}
	defer done()
	table += " WHERE time <> 0"
	first, last := lake.Times(e.lakes)
	if q != nil && q.Root != nil {
		var a, z sql.NullInt64
		if err := e.each(ctx, "finding the span of time", "SELECT min(time), max(time) FROM "+table, args, func(r *sql.Rows) error { return r.Scan(&a, &z) }); err != nil {
			return nil, err
		}
		if !a.Valid {
			return nil, nil
		}
		first, last = a.Int64, z.Int64
	}
	if first == 0 && last == 0 {
		return nil, nil
	}
	out := lake.Buckets(first, last, buckets)
	width := new(big.Int).Sub(big.NewInt(out[0].End), big.NewInt(out[0].Start))
	number := fmt.Sprintf("(time - %d) // %s", first, width)
	if last-first < 0 { // the span doesn't fit in 64 bits
		number = fmt.Sprintf("(time::HUGEINT - %d) // %s", first, width)
	}
	err = e.each(ctx, "counting events by time", "SELECT CAST("+number+" AS BIGINT) AS bucket, count(*) FROM "+table+" GROUP BY 1", args, func(r *sql.Rows) error {
		var i, n int64
		if err := r.Scan(&i, &n); err != nil {
			return err
		}
		if i < 0 || i >= int64(len(out)) {
			return fmt.Errorf("an event lies in bucket %d of %d", i, len(out))
		}
		out[i].Count = n
		return nil
	})
	return out, err
}

// Facets counts the values of all columns in one pass.
func (e *Engine) Facets(ctx context.Context, q *query.Query, names []string, top int) ([]lake.Facet, error) {
	out := make([]lake.Facet, len(names))
	for i, n := range names {
		out[i].Column = n
	}
	if len(names) == 0 || top < 0 {
		return out, nil
	}
	p, err := e.plan(q)
	if err != nil || p.none() {
		return out, err
	}
	exprs := make([]string, len(names))
	var args []any
	for i, n := range names {
		x, a, err := query.Column(n, query.DuckDB)
		if err != nil {
			return nil, err
		}
		exprs[i] = x
		args = append(args, a...)
	}
	var inner, sets, ids, pick []string
	for i, x := range exprs {
		c := fmt.Sprintf("c%d", i)
		inner = append(inner, x+" AS "+c)
		sets = append(sets, "("+c+")")
		ids = append(ids, c)
		pick = append(pick, fmt.Sprintf("WHEN %d THEN CAST(%s AS VARCHAR)", facetID(i, len(exprs)), c))
	}
	table, args, done, err := e.matching(ctx, p, inner, args)
	if err != nil {
		return nil, err
	}
	defer done()
	// Numbers that are 0 are missing, as empty texts are.
	stmt := "WITH g AS (SELECT GROUPING(" + strings.Join(ids, ",") + ") AS id, " + strings.Join(ids, ",") + ", count(*) AS n FROM " + table + " GROUP BY GROUPING SETS (" + strings.Join(sets, ",") + "))," +
		" v AS (SELECT id, coalesce(CASE id " + strings.Join(pick, " ") + " END, '') AS v, n FROM g)," +
		" r AS (SELECT id, v, n, row_number() OVER (PARTITION BY id ORDER BY n DESC, v) AS place, count(*) OVER (PARTITION BY id) AS d FROM v WHERE v <> '' AND v <> '0')" +
		fmt.Sprintf(" SELECT id, v, n, d FROM r WHERE place <= %d UNION ALL SELECT id, '', sum(n)::BIGINT, 0 FROM v WHERE v = '' OR v = '0' GROUP BY id", top)
	err = e.each(ctx, "counting values", stmt, args, func(r *sql.Rows) error {
		var id, n, d int64
		var v string
		if err := r.Scan(&id, &v, &n, &d); err != nil {
			return err
		}
		for i := range out {
			if int64(facetID(i, len(out))) != id {
				continue
			}
			if v == "" {
				out[i].Missing = n
			} else {
				out[i].Values = append(out[i].Values, lake.FacetValue{Value: v, Count: n})
				out[i].Distinct = d
			}
		}
		return nil
	})
	for i := range out {
		slices.SortFunc(out[i].Values, func(a, b lake.FacetValue) int {
			if a.Count != b.Count {
				return int(min(max(b.Count-a.Count, -1), 1))
			}
			return strings.Compare(a.Value, b.Value)
		})
	}
	return out, err
}

// facetID is what GROUPING gives for the set of column i of n: a bit for each column that is not in it, the first the highest.
func facetID(i, n int) int { return 1<<n - 1 - 1<<(n-1-i) }

// matching gives the matching rows, of which it has the columns, as a table with its arguments. done gives back what the table needs.
func (e *Engine) matching(ctx context.Context, p *plan, columns []string, args []any) (table string, all []any, done func(), err error) {
	body := func(groups []group) string {
		return "SELECT " + strings.Join(columns, ", ") + " FROM " + e.from(p, groups) + " WHERE (" + p.where + ")"
	}
	all = append(slices.Clone(args), p.args...)
	chunks := p.chunks()
	if len(chunks) == 1 {
		return "(" + body(chunks[0]) + ")", all, func() {}, nil
	}
	// One after the other, for each takes memory of its own.
	name := fmt.Sprintf("matching_%d", e.made.Add(1))
	done = func() { _, _ = e.db.ExecContext(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS "+name) } // it goes with the engine at the latest
	for i, c := range chunks {
		stmt := "INSERT INTO " + name + " "
		if i == 0 {
			stmt = "CREATE TABLE " + name + " AS "
		}
		if _, err := e.db.ExecContext(ctx, stmt+body(c), all...); err != nil {
			done()
			return "", nil, nil, e.fault("collecting events", err)
		}
	}
	return name, nil, done, nil
}
