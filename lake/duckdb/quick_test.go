package duckdb

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/lake/query"
)

func TestQuick(t *testing.T) {
	dir := os.Getenv("LAKEDIR")
	if dir == "" {
		t.Skip()
	}
	ctx := context.Background()
	t0 := time.Now()
	l, err := lake.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("lake open", time.Since(t0))
	e, err := Open(ctx, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("engine open", time.Since(t0))
	defer e.Close()
	tm := func(name string, f func() (any, error)) {
		for range 3 {
			t1 := time.Now()
			v, err := f()
			t.Logf("%-20s %8.1f ms %v %v", name, float64(time.Since(t1).Microseconds())/1000, v, err)
		}
	}
	pg := func(q *query.Query, back bool) func() (any, error) {
		return func() (any, error) {
			p, err := e.Page(ctx, lake.PageRequest{Query: q, Limit: 200, Backward: back})
			if err != nil {
				return nil, err
			}
			if len(p.Rows) == 0 {
				return 0, nil
			}
			return []any{len(p.Rows), p.More, p.Rows[0].Row, p.Rows[0].Message}, nil
		}
	}
	tm("oldest", pg(nil, false))
	t.Log("cold to first page", time.Since(t0))
	tm("newest", pg(nil, true))
	cq := &query.Query{Root: 1, W: "container = 'svc-3'"}
	tm("container", pg(cq, true))
	rare := &query.Query{Root: 1, W: "container = 'svc-198' and kind='process.started'"}
	tm("rare", pg(rare, true))
	w := &query.Query{Root: 1, W: "contains(lower(message),'xmrig-needle') or contains(lower(attributes),'xmrig-needle') or contains(lower(path),'xmrig-needle') or contains(lower(container),'xmrig-needle') or contains(lower(src_ip),'xmrig-needle')or contains(lower(pod),'xmrig-needle')", R: [][]string{{"xmrig-needle"}}}
	tm("word", pg(w, true))
	tm("word count", func() (any, error) { return e.Count(ctx, w) })
	tm("facets", func() (any, error) {
		f, err := e.Facets(ctx, nil, []string{"kind", "container", "namespace"}, 10)
		return len(f[1].Values), err
	})
	tm("facets pid", func() (any, error) { return e.Facets(ctx, nil, []string{"pid", "kind"}, 3) })
	tm("histogram", func() (any, error) { f, err := e.Histogram(ctx, nil, 60); return len(f), err })
	tm("facets filtered", func() (any, error) {
		f, err := e.Facets(ctx, cq, []string{"kind", "src_ip", "namespace"}, 10)
		return len(f[1].Values), err
	})
	tm("histogram filtered", func() (any, error) { f, err := e.Histogram(ctx, cq, 60); return len(f), err })
	n := 0
	t1 := time.Now()
	err = e.Scan(ctx, cq, func(*lake.Row) error { n++; return nil })
	t.Log("scan", n, time.Since(t1), err)
}
