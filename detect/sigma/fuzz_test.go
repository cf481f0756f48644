package sigma

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/lake/query"
)

// FuzzLoad: no file makes the loader panic, and what it takes can be asked, in a stream and as SQL.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("rules/*.yml")
	if err != nil || len(files) == 0 {
		f.Fatal(err, len(files))
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	for _, s := range []string{
		one("a: {CommandLine|windash|contains|all: [' -a ', '%x%']}\ncondition: a"), one("a: &x {Image: y}\nb: *x\ncondition: 1 of them"),
		one("a: {Image|wide|base64offset|contains: [x, 1, null]}\ncondition: not (a or a)"), base("x") + "title: c\ncorrelation: {type: value_avg, rules: [x], group-by: [user], timespan: 1m, condition: {field: v, gt: 1.5}}",
		"a: &a [*a]", "title: t\nname: n\ncorrelation: {type: temporal, rules: [n], timespan: 1m}", one("a: {'|re': '(a+)+$'}\ncondition: a"),
	} {
		f.Add([]byte(s))
	}
	list := []event.Event{*process("/usr/bin/curl", "curl -a x", `{"cwd":"/","v":"2"}`), line(0, "x", "a", "1"), line(1, "x", "a", "2"), k8s(0, account, `{"verb":"list","resource":"secrets/x"}`),
		sshd(0, "10.0.0.1", "Accepted x"), {Kind: event.LogLine, Parser: "syslog", Attributes: json.RawMessage(`{"a":`)}}
	f.Fuzz(func(t *testing.T, src []byte) {
		s := Empty()
		s.Placeholders = map[string][]string{"x": {"1", "%x%"}}
		n, refused := s.Add("f.yml", src)
		if n == 0 && len(refused) == 0 && len(src) > 0 {
			if docs, err := documents(src); err == nil && len(docs) > 0 {
				t.Error("neither loaded nor refused")
			}
		}
		for _, r := range refused {
			if r.Why == "" || r.File == "" {
				t.Errorf("%+v", r)
			}
		}
		s.Resolve()
		if _, err := s.Answers(context.Background(), detect.Input{Facts: facts(), Events: seq(list, nil)}); err != nil {
			t.Error(err)
		}
		if q, _ := s.Query(); q != nil {
			for _, d := range []query.Dialect{query.DuckDB, query.Trino} {
				if _, _, err := q.SQL(d); err != nil {
					t.Error(err)
				}
			}
			q.Required()
		}
		for i := range list {
			matches(t, s, &list[i]) // with the index and without
		}
	})
}

// FuzzCondition: no condition makes the parser panic, and what it takes has the names that there are.
func FuzzCondition(f *testing.F) {
	for _, s := range []string{"a", "not a and (b or c)", "1 of them", "all of sel_*", "1 of", "((((a))))", "a | count() > 5", "not not not a", "any of a*", "2 of them", "a b", ")", "\x00", "1 of [a-"} {
		f.Add(s)
	}
	names := []string{"a", "b", "sel_a", "sel_b", "_x"}
	selections := map[string]query.Node{}
	for _, n := range names {
		selections[n] = &query.Filled{Field: column("message")}
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseCondition(s, names, selections)
		if (n == nil) == (err == nil) {
			t.Fatalf("%q: %v, %v", s, n, err)
		}
		if n != nil {
			left := 1 << 30
			if !fits(n, &left) {
				t.Error("too large")
			}
			q := query.Query{Root: n}
			q.Match(&event.Event{Message: "x"})
		}
	})
}

// FuzzMatch: whatever an event holds, the index leaves no match out.
func FuzzMatch(f *testing.F) {
	s := Empty()
	for _, d := range []string{"a: {CommandLine|contains: 'ksk'}", "a: {CommandLine|re|i: 'ksk'}", "a: {CommandLine: '*a?b*'}", "a: ['say \"x\"', 'é']", "a: {CurrentDirectory|endswith: 'b\\\\c'}",
		"a: {CurrentDirectory|cased: 'Kelvin'}", "a: {ParentImage|re: 'x{2,}y|zz'}", "a: {euid|base64offset|contains: ab}"} {
		src := one(d + "\ncondition: a")
		src = "title: " + string(rune('a'+len(s.rules))) + src[len("title: t"):]
		if _, refused := s.Add("f", []byte(src)); len(refused) > 0 {
			f.Fatal(refused)
		}
	}
	f.Add("KſK ksk", `{"cwd":"a\u0062\\c"}`)
	f.Add("a\u212abb", `{"parent":"xxy","euid":"YWI="}`)
	f.Add("", `{"cwd":"Kelvin","x":["say \"x\""]}`)
	f.Fuzz(func(t *testing.T, cmdline, attributes string) {
		e := process("/x", cmdline, attributes)
		if !json.Valid(e.Attributes) {
			e.Attributes = nil
		}
		matches(t, s, e)
	})
}
