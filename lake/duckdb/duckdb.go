// Package duckdb answers questions of lakes with DuckDB, embedded and in memory: nothing is imported, the Parquet files are queried
// where they are.
//
// What DuckDB is not left to do by itself, because it was measured to take ten times as long: finding the row groups that can match
// (the lake's text index and the groups' times do), and the newest or oldest matches (the groups are asked in the order of their
// times, in growing steps, until there are enough). Wide rows are fetched by number after they are found.
package duckdb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/lake/query"
)

// Engine is lake.Engine over one or more lakes.
type Engine struct {
	db     *sql.DB
	lakes  []*lake.Lake
	groups []group
	files  []string
	made   atomic.Int64 // tables
}

// group is a row group and its file's place in Engine.files.
type group struct {
	lake.Group
	file int
}

var _ lake.Engine = (*Engine)(nil)

// memoryLimit is DuckDB's own, of buffers; what it needs beside them is about half as much.
const memoryLimit = "384MB"

// Open answers questions of all the lakes together. The lakes stay the caller's, and open as long as the engine is used.
func Open(ctx context.Context, lakes ...*lake.Lake) (*Engine, error) {
	e := &Engine{lakes: lakes}
	seen := map[int64]string{}
	for _, l := range lakes {
		if len(l.Groups) > 0 {
			base := l.Groups[0].Row >> 40
			if other, ok := seen[base]; ok {
				return nil, fmt.Errorf("the rows in %s and %s have the same numbers: query them one after the other", other, l.Dir)
			}
			seen[base] = l.Dir
		}
		for _, g := range l.Groups {
			e.groups = append(e.groups, group{g, len(e.files) + g.File})
		}
		e.files = append(e.files, l.Runs()...)
	}
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return nil, fmt.Errorf("starting DuckDB: %w", err)
	}
	for _, s := range []string{
		"SET threads=" + strconv.Itoa(runtime.NumCPU()),
		"SET memory_limit='" + memoryLimit + "'",
		"SET preserve_insertion_order=false",
		"SET parquet_metadata_cache=true",
		"SET autoinstall_known_extensions=false",
		"SET autoload_known_extensions=false",
	} {
		if _, err := db.ExecContext(ctx, s); err != nil {
			db.Close()
			return nil, fmt.Errorf("starting DuckDB: %w", err)
		}
	}
	if err := register(ctx, db); err != nil {
		db.Close()
		return nil, fmt.Errorf("starting DuckDB: %w", err)
	}
	e.db = db
	return e, nil
}

// Close ends DuckDB.
func (e *Engine) Close() error { return e.db.Close() }

// plan is what must be read for a query.
type plan struct {
	where  string
	args   []any
	groups []group // that can hold a match
	// spans, unless nil, are the rows that can match, by group's first row.
	spans map[int64][]lake.Span
}

// none reports whether nothing can match.
func (p *plan) none() bool { return len(p.groups) == 0 }

func (e *Engine) plan(q *query.Query) (*plan, error) {
	p := &plan{where: "true", groups: e.groups}
	if q == nil || q.Root == nil {
		return p, nil
	}
	var err error
	if p.where, p.args, err = q.SQL(query.DuckDB); err != nil {
		return nil, fmt.Errorf("translating the query: %w", err)
	}
	needles := q.Required()
	if len(needles) == 0 {
		return p, nil
	}
	spans := map[int64][]lake.Span{}
	for _, l := range e.lakes {
		found, told, err := l.Candidates(needles)
		if err != nil {
			return nil, err
		}
		if !told {
			return p, nil
		}
		for _, s := range found {
			spans[s.Group.Row] = append(spans[s.Group.Row], s)
		}
	}
	p.groups = nil
	rows, all := int64(0), int64(0)
	for _, g := range e.groups {
		all += g.Rows
		if len(spans[g.Row]) > 0 {
			p.groups = append(p.groups, g)
			for _, s := range spans[g.Row] {
				rows += s.To - s.From + 1
			}
		}
	}
	// Picking rows out costs more than reading all of them when it leaves out little.
	if rows < all/2 {
		p.spans = spans
	}
	return p, nil
}

// maxParts bounds the row groups that are each a part of a statement. DuckDB leaves out row groups by a range of rows, but not by
// several, so each is a SELECT of its own; each takes about 4 MiB of memory.
const maxParts = 32

// chunks divides the groups of a plan into what one statement may read.
func (p *plan) chunks() [][]group {
	if p.spans == nil {
		return [][]group{p.groups}
	}
	return slices.Collect(slices.Chunk(p.groups, maxParts))
}

// from gives a table that has all rows of groups that can match, and perhaps others.
func (e *Engine) from(p *plan, groups []group) string {
	if p.spans == nil {
		return e.tables(groups)
	}
	var b strings.Builder
	b.WriteByte('(')
	for i, g := range groups {
		if i > 0 {
			b.WriteString(" UNION ALL ")
		}
		spans := p.spans[g.Row]
		b.WriteString("SELECT * FROM read_parquet(")
		quote(&b, e.files[g.file])
		fmt.Fprintf(&b, ") WHERE row BETWEEN %d AND %d", spans[0].From, spans[len(spans)-1].To)
		if len(spans) > 1 {
			b.WriteString(" AND (")
			for j, s := range spans {
				if j > 0 {
					b.WriteString(" OR ")
				}
				fmt.Fprintf(&b, "row BETWEEN %d AND %d", s.From, s.To)
			}
			b.WriteByte(')')
		}
	}
	b.WriteByte(')')
	return b.String()
}

// tables gives the files of groups as a table.
func (e *Engine) tables(groups []group) string {
	used := make([]bool, len(e.files))
	for _, g := range groups {
		used[g.file] = true
	}
	var b strings.Builder
	b.WriteString("read_parquet([")
	n := 0
	for i, f := range e.files {
		if used[i] {
			comma(&b, n)
			quote(&b, f)
			n++
		}
	}
	b.WriteString("])")
	return b.String()
}

func comma(b *strings.Builder, i int) {
	if i > 0 {
		b.WriteByte(',')
	}
}

// quote writes a string literal.
func quote(b *strings.Builder, s string) {
	b.WriteByte('\'')
	b.WriteString(strings.ReplaceAll(s, "'", "''"))
	b.WriteByte('\'')
}

// fault makes damage of a file out of an error of DuckDB that tells of it.
func (e *Engine) fault(what string, err error) error {
	text := err.Error()
	for _, sign := range []string{"arquet", "ecompress", "ZSTD", "TProtocol", "No magic bytes", "No files found", "Cannot open file", "Could not read"} {
		if strings.Contains(text, sign) && !errors.Is(err, context.Canceled) {
			file := "a run of events"
			for _, f := range e.files {
				if strings.Contains(text, f) {
					file = f
				}
			}
			dir := ""
			if len(e.lakes) > 0 {
				dir = e.lakes[0].Dir
			}
			for _, l := range e.lakes {
				if strings.HasPrefix(file, l.Dir) {
					dir = l.Dir
				}
			}
			return fmt.Errorf("%s: %w", what, &lake.DamagedError{Dir: dir, File: file, Why: text})
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// each runs a statement and scans its rows.
func (e *Engine) each(ctx context.Context, what, stmt string, args []any, scan func(*sql.Rows) error) error {
	rows, err := e.db.QueryContext(ctx, stmt, args...)
	if err != nil {
		return e.fault(what, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if err := rows.Err(); err != nil {
		return e.fault(what, err)
	}
	return nil
}

// Count counts the matching rows.
func (e *Engine) Count(ctx context.Context, q *query.Query) (int64, error) {
	if q == nil || q.Root == nil {
		n := int64(0)
		for _, g := range e.groups {
			n += g.Rows
		}
		return n, nil
	}
	p, err := e.plan(q)
	if err != nil || p.none() {
		return 0, err
	}
	sum := int64(0)
	for _, c := range p.chunks() {
		var n int64
		if err := e.each(ctx, "counting", "SELECT count(*) FROM "+e.from(p, c)+" WHERE ("+p.where+")", p.args, func(r *sql.Rows) error { return r.Scan(&n) }); err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// step is how many rows the first step of a page reads at most; each further one reads eight times as many.
const step = 2 * 32 << 10

// Page finds the rows first by their time and number alone, then fetches them whole; of rows that the text index found it reads all
// at once, for there are few.
func (e *Engine) Page(ctx context.Context, r lake.PageRequest) (*lake.Page, error) {
	if r.Limit < 1 {
		return &lake.Page{}, nil
	}
	p, err := e.plan(r.Query)
	if err != nil {
		return nil, err
	}
	order := " ORDER BY time, row LIMIT "
	if r.Backward {
		order = " ORDER BY time DESC, row DESC LIMIT "
	}
	var keys []lake.Position
	var rows []lake.Row
	err = e.steps(p, r.From, r.Backward, func(groups []group, cond string) (bool, error) {
		tail := " FROM " + e.from(p, groups) + " WHERE " + cond + " AND (" + p.where + ")" + order
		if p.spans != nil {
			err := e.each(ctx, "finding events", "SELECT "+columns+tail+strconv.Itoa(r.Limit+1-len(rows)), p.args, func(rs *sql.Rows) error {
				var row lake.Row
				err := scan(rs, &row)
				rows = append(rows, row)
				return err
			})
			return len(rows) > r.Limit, err
		}
		err := e.each(ctx, "finding events", "SELECT time, row"+tail+strconv.Itoa(r.Limit+1-len(keys)), p.args, func(rs *sql.Rows) error {
			var k lake.Position
			err := rs.Scan(&k.Time, &k.Row)
			keys = append(keys, k)
			return err
		})
		return len(keys) > r.Limit, err
	})
	if err != nil {
		return nil, err
	}
	page := &lake.Page{More: len(keys) > r.Limit || len(rows) > r.Limit}
	if page.Rows = rows[:min(len(rows), r.Limit)]; p.spans == nil {
		page.Rows, err = e.fetch(ctx, keys[:min(len(keys), r.Limit)])
	}
	return page, err
}

// steps goes through the groups of a plan in the order of time, in steps that grow, and calls fn with groups and a condition on time and row
// that together hold the next rows: all of step n are before all of step n+1. It ends when fn says so.
func (e *Engine) steps(p *plan, from *lake.Position, backward bool, fn func(groups []group, cond string) (done bool, err error)) error {
	groups := slices.Clone(p.groups)
	slices.SortStableFunc(groups, func(a, b group) int {
		x, y := a.Min, b.Min
		if backward {
			x, y = b.Max, a.Max
		}
		return cmp.Compare(x, y)
	})
	cond := "true"
	if from != nil {
		op, keep := ">", func(g group) bool { return g.Max >= from.Time }
		if backward {
			op, keep = "<", func(g group) bool { return g.Min <= from.Time }
		}
		groups = slices.DeleteFunc(groups, func(g group) bool { return !keep(g) })
		// Written out, so that the first part leaves row groups out.
		cond = fmt.Sprintf("time %s= %d AND (time %s %d OR row %s %d)", op, from.Time, op, from.Time, op, from.Row)
	}
	var bound *int64 // rows up to here are done
	rows, first := int64(step), 0
	for next := 0; next < len(groups); {
		for sum := int64(0); next < len(groups) && sum < rows && (p.spans == nil || next-first < maxParts); next++ {
			sum += groups[next].Rows
		}
		rows *= 8
		c, use := cond, groups[:next]
		if bound != nil {
			b := *bound
			use = slices.DeleteFunc(slices.Clone(use), func(g group) bool { return !backward && g.Max < b || backward && g.Min > b })
			if backward {
				c += fmt.Sprintf(" AND time <= %d", b)
			} else {
				c += fmt.Sprintf(" AND time >= %d", b)
			}
		}
		if next < len(groups) {
			b := groups[next].Min
			if backward {
				b = groups[next].Max
			}
			if bound != nil && b == *bound {
				continue // nothing lies between: take more groups at once
			}
			first = next
			if backward {
				c += fmt.Sprintf(" AND time > %d", b)
			} else {
				c += fmt.Sprintf(" AND time < %d", b)
			}
			bound = &b
		}
		done, err := fn(use, c)
		if err != nil || done {
			return err
		}
	}
	return nil
}

// fetch reads rows whole, in the order of the keys.
func (e *Engine) fetch(ctx context.Context, keys []lake.Position) ([]lake.Row, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	place := make(map[int64]int, len(keys))
	var in strings.Builder
	for i, k := range keys {
		comma(&in, i)
		in.WriteString(strconv.FormatInt(k.Row, 10))
		place[k.Row] = i
	}
	numbers := make([]int64, 0, len(keys))
	for _, k := range keys {
		numbers = append(numbers, k.Row)
	}
	slices.Sort(numbers)
	var groups []group
	for _, g := range e.groups {
		if i, _ := slices.BinarySearch(numbers, g.Row); i < len(numbers) && numbers[i] < g.Row+g.Rows {
			groups = append(groups, g)
		}
	}
	out := make([]lake.Row, len(keys))
	found := 0
	err := e.each(ctx, "fetching events", "SELECT "+columns+" FROM "+e.tables(groups)+" WHERE row IN ("+in.String()+")", nil, func(rs *sql.Rows) error {
		var r lake.Row
		if err := scan(rs, &r); err != nil {
			return err
		}
		i, ok := place[r.Row]
		if !ok {
			return fmt.Errorf("row %d was not asked for", r.Row)
		}
		out[i] = r
		found++
		return nil
	})
	if err == nil && found != len(keys) {
		err = fmt.Errorf("fetching events: %d of %d rows were found", found, len(keys))
	}
	return out, err
}

// Scan reads in steps of time, so that nothing must be sorted that does not fit in memory.
func (e *Engine) Scan(ctx context.Context, q *query.Query, fn func(*lake.Row) error) error {
	p, err := e.plan(q)
	if err != nil {
		return err
	}
	return e.even(p, func(groups []group, cond string) error {
		stmt := "SELECT " + columns + " FROM " + e.from(p, groups) + " WHERE " + cond + " AND (" + p.where + ") ORDER BY time, row"
		return e.stream(ctx, stmt, p.args, fn)
	})
}

// even is steps that do not grow.
func (e *Engine) even(p *plan, fn func(groups []group, cond string) error) error {
	groups := slices.Clone(p.groups)
	slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(a.Min, b.Min) })
	bound := int64(math.MinInt64)
	for next := 0; next < len(groups); {
		for sum := int64(0); next < len(groups) && (sum < 2*step || groups[next].Min == bound); next++ {
			sum += groups[next].Rows
		}
		use := slices.DeleteFunc(slices.Clone(groups[:next]), func(g group) bool { return g.Max < bound })
		c := fmt.Sprintf("time >= %d", bound)
		if next < len(groups) {
			if bound == groups[next].Min {
				continue
			}
			c += fmt.Sprintf(" AND time < %d", groups[next].Min)
			bound = groups[next].Min
		}
		if err := fn(use, c); err != nil {
			return err
		}
	}
	return nil
}

const columns = `time, time_kind, kind, message, evidence_id, container_id, container, image_digest, pod, namespace, node, pid, ppid, process, cmdline,
 "user", identity, path, sha256, size, src_ip, src_port, dst_ip, dst_port, protocol, technique, parser, artifact, "offset", length, attributes, row`

func scan(rs *sql.Rows, r *lake.Row) error {
	var attributes string
	err := rs.Scan(&r.Time, &r.TimeKind, &r.Kind, &r.Message, &r.EvidenceID, &r.ContainerID, &r.Container, &r.ImageDigest, &r.Pod, &r.Namespace,
		&r.Node, &r.PID, &r.PPID, &r.Process, &r.Cmdline, &r.User, &r.Identity, &r.Path, &r.SHA256, &r.Size, &r.SrcIP, &r.SrcPort, &r.DstIP,
		&r.DstPort, &r.Protocol, &r.Technique, &r.Parser, &r.Artifact, &r.Offset, &r.Length, &attributes, &r.Row)
	if attributes != "" {
		r.Attributes = []byte(attributes)
	}
	return err
}
