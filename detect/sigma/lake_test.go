package sigma

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/lake/duckdb"
	"github.com/sherd-forensics/sherd/lake/query"
)

var vocabulary = []string{"curl", "Wget", "/usr/bin/curl", "a", "", "secrets", "pods/exec", "100%", "a_b", `C:\x`, `say "hi"`, "ünïcode", "10.1.2.3", "fd00::1", "42", "-7.5", "list", "LIST",
	"x*y", "what?", "line\nbreak", "a,b", "a b c", "shop", "-k", "/k", "–k", "YTNhM2N1cmw=", "Y3VybA==", "true", "system:serviceaccount:shop:checkout"}

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func phrase(r *rand.Rand) string {
	var out []string
	for range 1 + r.IntN(3) {
		out = append(out, pick(r, vocabulary))
	}
	return strings.Join(out, pick(r, []string{" ", "", "/", ","}))
}

// anEvent is one of any source, with values from a small vocabulary.
func anEvent(r *rand.Rand, i int) event.Event {
	e := event.Event{Time: epoch.UnixNano() + int64(i)*7_654_321_098, TimeKind: event.Logged, Message: phrase(r), Artifact: "a", Offset: int64(i), Length: 1, EvidenceID: "e"}
	if r.IntN(20) == 0 {
		e.Time = 0
	}
	s := pick(r, sources)
	e.Kind = event.LogLine
	if len(s.kinds) > 0 {
		e.Kind = pick(r, s.kinds)
	}
	e.Parser = "process"
	if len(s.parsers) > 0 {
		e.Parser = pick(r, s.parsers)
	}
	if len(s.processes) > 0 {
		e.Process = pick(r, s.processes)
	}
	for _, to := range []*string{&e.Path, &e.Cmdline, &e.User, &e.Identity, &e.Namespace, &e.Node} {
		if r.IntN(3) > 0 {
			*to = phrase(r)
		}
	}
	if r.IntN(2) == 0 {
		e.PID, e.DstPort = r.IntN(50), r.IntN(50)
		e.SrcIP, e.DstIP = pick(r, []string{"10.1.2.3", "192.168.7.9", "fd00::1", ""}), "203.0.113.9"
	}
	attributes := map[string]any{}
	for range r.IntN(8) {
		f := pick(r, fieldNames(&s))
		for _, c := range s.fields[f].Columns {
			name, ok := strings.CutPrefix(c, "attributes.")
			switch {
			case !ok:
			case s.fields[f].Element > 0:
				attributes[name] = []string{pick(r, vocabulary), pick(r, vocabulary), "-k"}
			case r.IntN(4) == 0:
				attributes[name] = pick(r, []any{true, 42, 201, "404"})
			default:
				attributes[name] = phrase(r)
			}
		}
	}
	if len(attributes) > 0 {
		b, err := json.Marshal(attributes)
		if err != nil {
			panic(err)
		}
		e.Attributes = b
	}
	return e
}

func fieldNames(s *source) []string {
	var out []string
	for f := range s.fields {
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}

// aRule is a rule of any source with random selections, modifiers and condition. It may be one that is refused.
func aRule(r *rand.Rand, i int) string {
	s := pick(r, sources)
	l := s.specs[0]
	var b strings.Builder
	fmt.Fprintf(&b, "title: r%d\nlogsource: {product: %q, category: %q, service: %q}\ndetection:\n", i, l.product, l.category, l.service)
	quote := func(s string) string { j, _ := json.Marshal(s); return string(j) } //nolint:errchkjson // a text
	for _, name := range []string{"sel_a", "sel_b", "other"} {
		if r.IntN(6) == 0 {
			fmt.Fprintf(&b, "  %s: [%s]\n", name, quote(pick(r, vocabulary[:4])))
			continue
		}
		fmt.Fprintf(&b, "  %s:\n", name)
		for range 1 + r.IntN(2) {
			f := pick(r, fieldNames(&s))
			m, v := "", ""
			switch r.IntN(12) {
			case 0, 1, 2:
				m = pick(r, []string{"|contains", "|startswith", "|endswith"})
				v = fmt.Sprintf("[%s, %s]", quote(pick(r, vocabulary)), quote(pick(r, vocabulary)))
				m += pick(r, []string{"", "", "|all", "|cased", "|windash", "|neq"})
			case 3:
				m, v = pick(r, []string{"|lt", "|lte", "|gt", "|gte"}), fmt.Sprint(r.IntN(50))
			case 4:
				m, v = "|cidr", pick(r, []string{"10.0.0.0/8", "192.168.0.0/17", "'fd00::/8'", "0.0.0.0/0"})
			case 5:
				m, v = "|re"+pick(r, []string{"", "|i", "|s", "|m"}), pick(r, []string{"'c[u]rl'", "'^/usr'", "'(?:list|get)s?$'", "'a.b'", "'sk'", "'[0-9]{2}'"})
			case 6:
				m, v = "|exists", pick(r, []string{"true", "false"})
			case 7:
				m, v = "|fieldref"+pick(r, []string{"", "|contains", "|startswith", "|endswith", "|cased", "|neq"}), pick(r, fieldNames(&s))
			case 8:
				m, v = "|base64offset|contains", "curl"
			case 9:
				v = pick(r, []string{"null", "'*'", "'*curl*'", "'?ist'", "42", "''", "'/usr/*/c?rl'", `'*\**'`})
			case 10:
				f, m, v = "timestamp", "|"+pick(r, []string{"minute", "hour", "day", "week", "month", "year"})+pick(r, []string{"", "|gte", "|lt"}), fmt.Sprint(pick(r, []int{3, 4, 24, 25, 11, 48, 2026, 30}))
			default:
				v = quote(phrase(r))
			}
			fmt.Fprintf(&b, "    %s: %s\n", quote(f+m), v)
		}
	}
	fmt.Fprintf(&b, "  condition: %s\n", pick(r, []string{"sel_a", "sel_a and not sel_b", "1 of sel_*", "all of them", "1 of them", "sel_a or (sel_b and other)", "not (sel_a or other)", "not 1 of sel*"}))
	return b.String()
}

// inLake writes events into a lake and opens it.
func inLake(t testing.TB, list []event.Event) lake.Engine {
	t.Helper()
	dir := t.TempDir()
	w, err := lake.NewWriter(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		if err := w.Write(&list[i]); err != nil {
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
	e, err := duckdb.Open(context.Background(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(); l.Close() })
	return e
}

// TestLakeAgrees: SQL over a lake, the matcher with its index, and the plain evaluation of each rule say the same.
func TestLakeAgrees(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 11))
	var list []event.Event
	for i := range 3000 {
		list = append(list, anEvent(rng, i))
	}
	s := Empty()
	refused := 0
	for i := range 160 {
		_, r := s.Add(fmt.Sprint(i), []byte(aRule(rng, i)))
		refused += len(r)
	}
	if len(s.rules) < 100 {
		t.Fatalf("only %d of 160 random rules can be loaded", len(s.rules))
	}
	stream, naive := map[string][]int64{}, map[string][]int64{}
	indexed := newMatcher(s.rules, true)
	var sc scratch
	for i := range list {
		e := &list[i]
		indexed.match(e, &sc, func(*source) {}, func(r *rule, _ *query.Record) { stream[r.Title] = append(stream[r.Title], e.Offset) })
		for _, r := range s.rules {
			q := query.Query{Root: r.node()}
			if q.Match(e) {
				naive[r.Title] = append(naive[r.Title], e.Offset)
			}
		}
	}
	engine := inLake(t, list)
	hits := 0
	for _, r := range s.rules {
		var rows []int64
		err := engine.Scan(context.Background(), &query.Query{Root: r.node()}, func(row *lake.Row) error { rows = append(rows, row.Offset); return nil })
		if err != nil {
			t.Fatalf("%s: %v", r.Title, err)
		}
		slices.Sort(rows)
		hits += len(rows)
		if want := naive[r.Title]; !slices.Equal(rows, want) || !slices.Equal(stream[r.Title], want) {
			t.Errorf("%s: lake %d, stream %d, each by itself %d\n%s", r.Title, len(rows), len(stream[r.Title]), len(want), r.query.Root)
		}
	}
	if hits < 1000 {
		t.Errorf("only %d hits: the test shows little", hits)
	}
	t.Logf("%d rules, %d refused, %d hits", len(s.rules), refused, hits)
}
