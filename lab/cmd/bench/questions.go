package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	_ "github.com/duckdb/duckdb-go/v2" // the rival: plain SQL over plain Parquet

	"github.com/sherd-forensics/sherd/lab/generate"
	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/lake/duckdb"
	"github.com/sherd-forensics/sherd/lake/query"
)

// question is one that an examiner asks of a lake.
type question struct {
	name, title string
	ask         func(ctx context.Context, e lake.Engine, turn int) (int64, error)
	// sql asks the same of the table "events". Each of the statements is run.
	sql func(turn int) []string
	// want is how many rows both must find: asMany is any number, as long as it is the same, and with 0 rows are not compared.
	want int64
}

const asMany = -1

// namespaces, by turn, so that no turn repeats another.
var (
	askedContainers = []string{"cart", "payment", "catalog", "search", "frontend", "gateway", "auth", "session", "inventory", "shipping"}
	facetColumns    = []string{"kind", "container", "namespace"}
)

const (
	pageRows = 200
	buckets  = 100
	// contains is of all columns in which a word can be, as "a word anywhere" means.
	anyColumn = "concat_ws(' ', message, attributes, cmdline, path, process, container, pod, namespace, node, \"user\", identity, artifact, src_ip, dst_ip, sha256)"
	// unfixed matches what generate.Expression does, and has no fixed text that an index could look up.
	unfixed = `[s-t]{2}[q-s]at[t-v]m[+,]t[a-c]p`
)

func day(turn int) time.Time { return generate.Start.AddDate(0, 0, 1+turn%12) }

func page(text string, newest bool) func(context.Context, lake.Engine, int) (int64, error) {
	return func(ctx context.Context, e lake.Engine, _ int) (int64, error) { return askPage(ctx, e, text, newest) }
}

func askPage(ctx context.Context, e lake.Engine, text string, newest bool) (int64, error) {
	q, err := query.Parse(text, query.Options{Now: time.Now()})
	if err != nil {
		return 0, err
	}
	p, err := e.Page(ctx, lake.PageRequest{Query: q, Limit: pageRows, Backward: newest})
	if err != nil {
		return 0, err
	}
	return int64(len(p.Rows)), nil
}

func facets(ctx context.Context, e lake.Engine, text string, columns []string) (int64, error) {
	q, err := query.Parse(text, query.Options{Now: time.Now()})
	if err != nil {
		return 0, err
	}
	f, err := e.Facets(ctx, q, columns, 20)
	if err != nil {
		return 0, err
	}
	h, err := e.Histogram(ctx, q, buckets)
	if err != nil {
		return 0, err
	}
	if len(f) != len(columns) || len(h) == 0 {
		return 0, fmt.Errorf("%d facets and %d buckets", len(f), len(h))
	}
	return 0, nil
}

// facetSQL counts three columns and a histogram, as one would by hand: in one statement for the facets, which reads the rows once.
func facetSQL(where string, columns []string) []string {
	list := columns[0] + "," + columns[1] + "," + columns[2]
	return []string{
		"SELECT " + list + ", count(*) AS n FROM events WHERE " + where + " GROUP BY GROUPING SETS ((" + columns[0] + "),(" + columns[1] + "),(" + columns[2] + ")) ORDER BY n DESC",
		fmt.Sprintf("SELECT (time-%d)//%d AS b, count(*) FROM events WHERE %s GROUP BY 1 ORDER BY 1", generate.Start.UnixNano(), int64(generate.Days*24*time.Hour)/buckets, where),
	}
}

func sqlPage(where string) func(int) []string {
	return func(int) []string {
		return []string{"SELECT * FROM events WHERE " + where + " ORDER BY time, row LIMIT " + strconv.Itoa(pageRows)}
	}
}

var questions = []question{
	{
		name: "page", title: "200 rows: one container, one day", want: asMany,
		ask: func(ctx context.Context, e lake.Engine, turn int) (int64, error) {
			return askPage(ctx, e, "container:"+askedContainers[turn%len(askedContainers)]+" time:"+day(turn).Format(time.DateOnly), false)
		},
		sql: func(turn int) []string {
			from := day(turn)
			return sqlPage(fmt.Sprintf("container = '%s' AND time >= %d AND time < %d", askedContainers[turn%len(askedContainers)], from.UnixNano(), from.AddDate(0, 0, 1).UnixNano()))(turn)
		},
	},
	{
		name: "newest", title: "200 rows, newest first: an attribute", want: asMany, ask: page("kind:http.request http_status:500", true),
		sql: func(int) []string {
			return []string{"SELECT * FROM events WHERE kind = 'http.request' AND json_extract_string(attributes, '$.http_status') = '500' ORDER BY time DESC, row DESC LIMIT 200"}
		},
	},
	{
		name: "facets", title: "facets of 3 columns and histogram, all events",
		ask: func(ctx context.Context, e lake.Engine, _ int) (int64, error) {
			return facets(ctx, e, "", facetColumns)
		},
		sql: func(int) []string { return facetSQL("true", facetColumns) },
	},
	{
		name: "facets-some", title: "the same, one namespace and its addresses",
		ask: func(ctx context.Context, e lake.Engine, _ int) (int64, error) {
			return facets(ctx, e, "namespace:payments", []string{"kind", "container", "src_ip"})
		},
		sql: func(int) []string { return facetSQL("namespace = 'payments'", []string{"kind", "container", "src_ip"}) },
	},
	{name: "word", title: "a word that occurs 20 times, anywhere", want: generate.WordCount, ask: page(generate.Word, false), sql: sqlPage(anyColumn + " ILIKE '%" + generate.Word + "%'")},
	{
		name: "regex", title: "an expression with fixed parts", want: generate.ExpressionCount,
		ask: page("message:/"+`stratum\+tcp:\/\/[a-z0-9.-]+:(3333|4444|14444)`+"/", false), sql: sqlPage("regexp_matches(message, '" + generate.Expression + "')"),
	},
	{name: "regex-any", title: "an expression without fixed parts", want: generate.ExpressionCount, ask: page("message:/"+unfixed+"/", false), sql: sqlPage("regexp_matches(message, '" + unfixed + "')")},
	{name: "hash", title: "a SHA-256 that occurs 3 times", want: generate.HashCount, ask: page("sha256:"+generate.Hash, false), sql: sqlPage("sha256 = '" + generate.Hash + "'")},
	{name: "address", title: "an address that occurs 50 times", want: generate.AddressCount, ask: page("dst_ip:"+generate.Address, false), sql: sqlPage("dst_ip = '" + generate.Address + "'")},
	{
		name: "count", title: "how many logins failed for root",
		ask: func(ctx context.Context, e lake.Engine, _ int) (int64, error) {
			q, err := query.Parse("kind:auth.failed user:root", query.Options{})
			if err != nil {
				return 0, err
			}
			_, err = e.Count(ctx, q)
			return 0, err
		},
		sql: func(int) []string {
			return []string{"SELECT count(*) FROM events WHERE kind = 'auth.failed' AND lower(\"user\") = 'root'"}
		},
	},
	{name: "open", title: "the first page", want: pageRows, ask: page("", true), sql: func(int) []string {
		return []string{"SELECT * FROM events ORDER BY time DESC, row DESC LIMIT 200"}
	}},
}

// answer is what a child says of a question.
type answer struct {
	Open  time.Duration   `json:"open"`
	Turns []time.Duration `json:"turns"`
	Rows  int64           `json:"rows"`
}

func (a *answer) median() time.Duration {
	t := slices.Sorted(slices.Values(a.Turns))
	return t[len(t)/2]
}

func findQuestion(name string) (*question, error) {
	for i := range questions {
		if questions[i].name == name {
			return &questions[i], nil
		}
	}
	return nil, fmt.Errorf("no question %q", name)
}

// childAsk asks a lake one question several times, of one engine. A lake keeps no answers.
func childAsk(dir, name string, turns int) error {
	q, err := findQuestion(name)
	if err != nil {
		return err
	}
	ctx := context.Background()
	begin := time.Now()
	l, err := lake.Open(dir)
	if err != nil {
		return err
	}
	defer l.Close()
	e, err := duckdb.Open(ctx, l)
	if err != nil {
		return err
	}
	defer e.Close()
	out := answer{Open: time.Since(begin)}
	for turn := range turns {
		begin := time.Now()
		if out.Rows, err = q.ask(ctx, e, turn); err != nil {
			return err
		}
		out.Turns = append(out.Turns, time.Since(begin))
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// childSQL asks the rival: DuckDB over one plain Parquet file, by SQL as one would write it by hand.
func childSQL(file, name string, turns int) error {
	q, err := findQuestion(name)
	if err != nil {
		return err
	}
	begin := time.Now()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec("CREATE VIEW events AS SELECT * FROM read_parquet('" + file + "')"); err != nil {
		return err
	}
	out := answer{Open: time.Since(begin)}
	for turn := range turns {
		begin := time.Now()
		for _, stmt := range q.sql(turn) {
			if out.Rows, err = drain(db, stmt); err != nil {
				return fmt.Errorf("%s: %w", stmt, err)
			}
		}
		out.Turns = append(out.Turns, time.Since(begin))
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// drain fetches all rows of a statement.
func drain(db *sql.DB, stmt string) (n int64, err error) {
	rows, err := db.Query(stmt)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	values := make([]any, len(names))
	for i := range values {
		values[i] = new(any)
	}
	for ; rows.Next(); n++ {
		if err := rows.Scan(values...); err != nil {
			return n, err
		}
	}
	return n, rows.Err()
}
