package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/lake"
)

// stream reads whole rows past database/sql's conversions, which take several times as long as the query.
func (e *Engine) stream(ctx context.Context, stmt string, args []any, fn func(*lake.Row) error) error {
	conn, err := e.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("reading events: %w", err)
	}
	defer conn.Close()
	named := make([]driver.NamedValue, len(args))
	for i, a := range args {
		v, err := driver.DefaultParameterConverter.ConvertValue(a)
		if err != nil {
			return fmt.Errorf("reading events: argument %d: %w", i+1, err)
		}
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return conn.Raw(func(c any) error {
		q, ok := c.(driver.QueryerContext)
		if !ok {
			return errors.New("the driver of DuckDB can't run queries")
		}
		rows, err := q.QueryContext(ctx, stmt, named)
		if err != nil {
			return e.fault("reading events", err)
		}
		defer rows.Close()
		v := make([]driver.Value, len(rows.Columns()))
		var r lake.Row
		for {
			if err := rows.Next(v); err != nil {
				if errors.Is(err, io.EOF) {
					return nil
				}
				return e.fault("reading events", err)
			}
			if err := take(v, &r); err != nil {
				return err
			}
			if err := fn(&r); err != nil {
				return err
			}
		}
	})
}

// take is scan for a row of the driver, whose columns are those of columns.
func take(v []driver.Value, r *lake.Row) error {
	bad := -1
	text := func(i int) string {
		s, ok := v[i].(string)
		if !ok {
			bad = i
		}
		return s
	}
	number := func(i int) int64 {
		n, ok := v[i].(int64)
		if !ok {
			bad = i
		}
		return n
	}
	r.Event = event.Event{
		Time: number(0), TimeKind: event.TimeKind(text(1)), Kind: event.Kind(text(2)), Message: text(3), EvidenceID: text(4), ContainerID: text(5),
		Container: text(6), ImageDigest: text(7), Pod: text(8), Namespace: text(9), Node: text(10), PID: int(number(11)), PPID: int(number(12)),
		Process: text(13), Cmdline: text(14), User: text(15), Identity: text(16), Path: text(17), SHA256: text(18), Size: number(19), SrcIP: text(20),
		SrcPort: int(number(21)), DstIP: text(22), DstPort: int(number(23)), Protocol: text(24), Technique: text(25), Parser: text(26), Artifact: text(27),
		Offset: number(28), Length: number(29),
	}
	if s := text(30); s != "" {
		r.Attributes = []byte(s)
	}
	r.Row = number(31)
	if bad >= 0 {
		return fmt.Errorf("reading events: column %d is a %T", bad, v[bad])
	}
	return nil
}
