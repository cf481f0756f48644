// Package laketest is the suite that every engine passes: a corpus of queries with the rows that they must find, written down in plain
// text, and random queries whose answers are compared with those of the engine in memory.
package laketest

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/lake/memory"
	"github.com/sherd-forensics/sherd/lake/query"
)

//go:embed corpus.txt
var corpus string

// Open makes an engine over events. Their rows must be numbered as the events of a lake are; rows gives them in the order of their
// numbers.
type Open func(t *testing.T, events []event.Event) (e lake.Engine, rows []lake.Row)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// Run holds an engine to the suite.
func Run(t *testing.T, open Open) {
	t.Run("corpus", func(t *testing.T) { runCorpus(t, open) })
	t.Run("random", func(t *testing.T) { runRandom(t, open) })
	t.Run("empty", func(t *testing.T) { runEmpty(t, open) })
}

// runCorpus: lines of the file are "event JSON", then "query => messages that match, in order".
func runCorpus(t *testing.T, open Open) {
	var events []event.Event
	type question struct {
		line        int
		query, want string
	}
	var questions []question
	s := bufio.NewScanner(strings.NewReader(corpus))
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if rest, ok := strings.CutPrefix(line, "event "); ok {
			var e struct {
				event.Event
				At string `json:"at"`
			}
			if err := json.Unmarshal([]byte(rest), &e); err != nil {
				t.Fatalf("corpus.txt:%d: %v", n, err)
			}
			if e.At != "" {
				at, err := time.Parse(time.RFC3339Nano, e.At)
				if err != nil {
					t.Fatalf("corpus.txt:%d: %v", n, err)
				}
				e.Time = at.UnixNano()
			}
			events = append(events, e.Event)
			continue
		}
		q, want, ok := strings.Cut(line, "=>")
		if !ok {
			t.Fatalf("corpus.txt:%d: no =>", n)
		}
		questions = append(questions, question{n, strings.TrimSpace(q), strings.TrimSpace(want)})
	}
	e, rows := open(t, events)
	oracle := memory.New(rows)
	for _, q := range questions {
		parsed, err := query.Parse(q.query, query.Options{Now: now})
		if err != nil {
			t.Fatalf("corpus.txt:%d: %v", q.line, err)
		}
		var got []string
		err = e.Scan(context.Background(), parsed, func(r *lake.Row) error {
			name, _, _ := strings.Cut(r.Message, " ")
			got = append(got, name)
			return nil
		})
		if err != nil {
			t.Errorf("corpus.txt:%d: %s: %v", q.line, q.query, err)
			continue
		}
		if s := strings.Join(got, " "); s != q.want {
			t.Errorf("corpus.txt:%d: %s finds %q, not %q", q.line, q.query, s, q.want)
		}
		compare(t, q.query, parsed, e, oracle)
	}
}

// compare asks both everything.
func compare(t *testing.T, text string, q *query.Query, e, oracle lake.Engine) {
	t.Helper()
	ctx := context.Background()
	check := func(what string, ask func(lake.Engine) (any, error)) {
		t.Helper()
		want, err := ask(oracle)
		if err != nil {
			t.Fatalf("%s of %s in memory: %v", what, text, err)
		}
		got, err := ask(e)
		if err != nil {
			t.Errorf("%s of %s: %v", what, text, err)
			return
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s of %s (-memory +engine):\n%.3000s", what, text, d)
		}
	}
	check("count", func(e lake.Engine) (any, error) { return e.Count(ctx, q) })
	check("histogram", func(e lake.Engine) (any, error) { return e.Histogram(ctx, q, 7) })
	check("facets", func(e lake.Engine) (any, error) {
		return e.Facets(ctx, q, []string{"kind", "container", "pid", "attributes.level", "src_ip"}, 3)
	})
	check("rows", func(e lake.Engine) (any, error) {
		var n []string
		err := e.Scan(ctx, q, func(r *lake.Row) error { n = append(n, key(r)); return nil })
		return n, err
	})
	for _, backward := range []bool{false, true} {
		check(fmt.Sprintf("pages (backward %v)", backward), func(e lake.Engine) (any, error) {
			var n []string
			var from *lake.Position
			for range 4 {
				p, err := e.Page(ctx, lake.PageRequest{Query: q, From: from, Backward: backward, Limit: 137})
				if err != nil {
					return nil, err
				}
				for i := range p.Rows {
					n = append(n, key(&p.Rows[i]))
				}
				if !p.More {
					n = append(n, "end")
					break
				}
				last := p.Rows[len(p.Rows)-1]
				from = &lake.Position{Time: last.Time, Row: last.Row}
			}
			return n, nil
		})
	}
}

func key(r *lake.Row) string {
	b, err := json.Marshal(&r.Event)
	if err != nil {
		return err.Error()
	}
	return strconv.FormatInt(r.Row, 10) + " " + string(b)
}

var (
	words      = strings.Fields("alpha beta gamma Überlauf naïve 10.0.7.31 /usr/lib/conv 100%_done back\\slash quo\"te xmrig deadbeef GET POST error")
	containers = []string{"", "shop", "Payments", "db-1"}
	addresses  = []string{"", "10.0.7.31", "10.0.8.1", "172.16.3.4", "192.0.2.7", "fd00::9", "2001:db8::1", "not-an-address"}
)

func randomEvents(r *rand.Rand, n int) []event.Event {
	out := make([]event.Event, n)
	start := now.Add(-48 * time.Hour).UnixNano()
	for i := range out {
		var m []string
		for range 1 + r.IntN(4) {
			m = append(m, words[r.IntN(len(words))])
		}
		e := event.Event{Time: start + r.Int64N(int64(47*time.Hour)), TimeKind: event.Logged, Kind: []event.Kind{event.LogLine, event.HTTPRequest, event.FileCreated}[r.IntN(3)],
			Message: strings.Join(m, " "), Container: containers[r.IntN(len(containers))], SrcIP: addresses[r.IntN(len(addresses))], DstIP: addresses[r.IntN(len(addresses))],
			PID: r.IntN(20), Size: r.Int64N(3_000_000), Parser: "test", Offset: int64(i) * 100, Length: 100}
		switch r.IntN(30) {
		case 0:
			e.Time = 0
		case 1:
			e.Time = start // many at once
		}
		var a event.Attributes
		if r.IntN(3) > 0 {
			a.String("level", []string{"info", "WARN", "quo\"te", "ü"}[r.IntN(4)])
		}
		if r.IntN(3) == 0 {
			a.Int("http_status", int64(200+r.IntN(300)))
		}
		e.Attributes = slices.Clone(a.JSON())
		out[i] = e
	}
	return out
}

func randomQuery(r *rand.Rand, depth int) string {
	if depth > 0 && r.IntN(3) > 0 {
		a, b := randomQuery(r, depth-1), randomQuery(r, depth-1)
		return []string{"(" + a + " OR " + b + ")", a + " AND " + b, "NOT (" + a + ")", a + " " + b}[r.IntN(4)]
	}
	w := words[r.IntN(len(words))]
	runes := []rune(w)
	part := string(runes[r.IntN(len(runes)):])
	quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(part) + `"`
	return []string{
		quoted, quoted, "message:" + quoted, "alp*", "*rig*", "kind:log.line", "kind:*.c*", "container:shop", "container:PAYMENTS", "has:container", "src_ip:10.0.0.0/8", "ip:172.16.0.0/12",
		"dst_ip:fd00::/8", "ip:192.0.2.7", "ip:0.0.0.0/0", "src_ip:10.0.7.0/29", "pid:>=10", "pid:[3 TO 7}", "size:>1MB", "size:<2MiB", "level:info", "level:w*", "has:level", "http_status:>=400", "http_status:[200 TO 299]",
		"time:last 24h", "time:2026-11-23", "around:2026-11-23T06:00:00Z±2h", "/alpha|xmrig/", "/XMR.G/i", "message:/^GET/", "level:/^.$/", "time:>2026-11-24", "NOT has:time", `level:"quo\"te"`, "parser:test",
	}[r.IntN(36)]
}

func runRandom(t *testing.T, open Open) {
	r := rand.New(rand.NewPCG(9, 10))
	e, rows := open(t, randomEvents(r, 8_000))
	oracle := memory.New(rows)
	rounds := 25
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		text := randomQuery(r, 2)
		q, err := query.Parse(text, query.Options{Now: now})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		compare(t, text, q, e, oracle)
	}
	compare(t, "everything", nil, e, oracle)
}

func runEmpty(t *testing.T, open Open) {
	e, rows := open(t, nil)
	q, err := query.Parse("a kind:b", query.Options{})
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "a kind:b", q, e, memory.New(rows))
	compare(t, "everything", nil, e, memory.New(rows))
}
