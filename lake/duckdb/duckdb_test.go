package duckdb_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/lake/duckdb"
	"github.com/sherd-forensics/sherd/lake/laketest"
	"github.com/sherd-forensics/sherd/lake/query"
)

func build(t *testing.T, base int64, events []event.Event) *lake.Lake {
	t.Helper()
	dir := t.TempDir()
	w, err := lake.NewWriter(dir, base)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		if err := w.Write(&events[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close("", nil); err != nil {
		t.Fatal(err)
	}
	l, err := lake.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func open(t *testing.T, lakes ...*lake.Lake) *duckdb.Engine {
	t.Helper()
	e, err := duckdb.Open(context.Background(), lakes...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// all is what the engine itself says that there is, which the suite compares with the events.
func all(t *testing.T, e lake.Engine, want int) []lake.Row {
	t.Helper()
	var rows []lake.Row
	if err := e.Scan(context.Background(), nil, func(r *lake.Row) error { rows = append(rows, *r); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(rows) != want {
		t.Fatalf("%d rows of %d events", len(rows), want)
	}
	return rows
}

func TestOneLake(t *testing.T) {
	laketest.Run(t, func(t *testing.T, events []event.Event) (lake.Engine, []lake.Row) {
		e := open(t, build(t, 5<<40, events))
		return e, all(t, e, len(events))
	})
}

// TestSeveralLakes answers of a case of three as if it were one.
func TestSeveralLakes(t *testing.T) {
	laketest.Run(t, func(t *testing.T, events []event.Event) (lake.Engine, []lake.Row) {
		n := len(events) / 3
		e := open(t, build(t, 9<<40, events[:n]), build(t, 2<<40, events[n:2*n]), build(t, 7<<40, events[2*n:]))
		return e, all(t, e, len(events))
	})
}

func TestSameNumbers(t *testing.T) {
	events := []event.Event{{Time: 1, Message: "x"}}
	if _, err := duckdb.Open(context.Background(), build(t, 1<<40, events), build(t, 1<<40, events)); err == nil {
		t.Error("two lakes whose rows have the same numbers were opened together")
	}
}

// TestDamaged: what is broken in a run is told as damage, never as fewer rows.
func TestDamaged(t *testing.T) {
	events := make([]event.Event, 5000)
	for i := range events {
		events[i] = event.Event{Time: int64(i) + 1, Kind: "log.line", Message: "a message that is there"}
	}
	for name, do := range map[string]func(path string) error{
		"cut":     func(p string) error { return os.Truncate(p, 5000) },
		"missing": os.Remove,
		"zeroed": func(p string) error {
			f, err := os.OpenFile(p, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, 4000), 100)
			return errors.Join(err, f.Close())
		},
	} {
		l := build(t, 1<<40, events)
		e := open(t, l)
		if err := do(l.Runs()[0]); err != nil {
			t.Fatal(err)
		}
		n := 0
		err := e.Scan(context.Background(), nil, func(*lake.Row) error { n++; return nil })
		var bad *lake.DamagedError
		if !errors.As(err, &bad) || bad.Dir != l.Dir {
			t.Errorf("%s: %d rows, %v", name, n, err)
		}
	}
}

// TestInjection: no value of a query becomes SQL.
func TestInjection(t *testing.T) {
	e := open(t, build(t, 1<<40, []event.Event{{Time: 1, Kind: "log.line", Message: `it's "one" \ ; DROP TABLE x; --`}}))
	for text, want := range map[string]int64{
		`"it's"`:                       1,
		`"; DROP TABLE x; --"`:         1,
		`"' OR true --"`:               0,
		`container:"' OR true --"`:     0,
		`message:*'*`:                  1,
		`container:*'*`:                0,
		`/it's/`:                       1,
		`/') OR true --/`:              0,
		`attributes.a-b@c.d:"' OR 1"`:  0,
		`src_ip:"' OR ''='"`:           0,
		`"%"`:                          0,
		`"_"`:                          0,
		`container:"?" OR "?" OR "$1"`: 0,
	} {
		q, err := query.Parse(text, query.Options{})
		if err != nil {
			if text == `/') OR true --/` {
				continue
			}
			t.Fatalf("%s: %v", text, err)
		}
		if n, err := e.Count(context.Background(), q); err != nil || n != want {
			t.Errorf("%s: %d, %v", text, n, err)
		}
	}
	for _, name := range []string{`x"; DROP`, "attributes.x' OR '1", "nosuchthing.", `attributes.a"b\c`} {
		if _, err := e.Facets(context.Background(), nil, []string{name}, 3); err != nil {
			t.Logf("%s: %v", name, err) // refused is as good as empty
		}
	}
}
