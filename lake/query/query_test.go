package query_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/lake/query"
)

var now = time.Date(2026, 11, 24, 4, 0, 0, 0, time.UTC)

func at(s string) int64 {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t.UnixNano()
}

var sample = event.Event{
	Time: at("2026-11-24T03:02:11.204Z"), TimeKind: event.Logged, Kind: event.HTTPRequest, Message: `POST /avatar?name=../../usr/lib/conv 201 "Überlauf" 100%_done`,
	Container: "checkout", ContainerID: "0123abcd", Namespace: "shop", Pod: "checkout-5d9f-x2", PID: 17, PPID: 1, Process: "kworker/0:1",
	Cmdline: "/usr/lib/conv --pool 203.0.113.9:4444", User: "65532", Path: "/usr/lib/conv", SHA256: "9a1e07", Size: 1_500_000,
	SrcIP: "10.0.7.31", SrcPort: 51234, DstIP: "fd00::9", DstPort: 4444, Protocol: "tcp", Technique: "T1190", Parser: "cri", Artifact: "logs/0.log",
	Offset: 812204, Length: 131, Attributes: []byte(`{"http_status":201,"http_user_agent":"curl/8.5","level":"INFO","trace.id":"ab","ok":true,"ratio":0.5,"none":null}`),
}

// TestHints says what may have been meant where nothing matched.
func TestHints(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"avatar kind:http.request":       "",
		"curl or wget":                   `"or" is a word`,
		"curl and not wget":              `"and" is a word to look for; the operator is AND|"not" is a word`,
		"system:anonymous":               `"system:anonymous" in quotes`,
		"NOT (http_status:500 OR x)":     `"http_status:500" in quotes`,
		"system:a OR system:b":           `"system:a" in quotes`,
		"attributes.level:info user:bob": `"level:info" in quotes`,
	} {
		q, err := query.Parse(text, query.Options{Now: now})
		if err != nil {
			t.Fatal(err)
		}
		got := q.Hints()
		if want == "" && len(got) > 0 {
			t.Errorf("%q: %q", text, got)
		}
		for i, w := range strings.Split(want, "|") {
			if want != "" && (i >= len(got) || !strings.Contains(got[i], w)) {
				t.Errorf("%q: hint %d of %q lacks %s", text, i, got, w)
			}
		}
	}
}

// TestMatch says what each construct means.
func TestMatch(t *testing.T) {
	for q, want := range map[string]bool{
		"":                                true,
		"avatar":                          true,
		"AVATAR":                          true,
		"vatar":                           true,
		"überlauf":                        true,
		"ÜBERLAUF":                        true,
		"nothing":                         false,
		"checkout":                        true, // another column
		"curl/8.5":                        true, // attributes
		`"name=../../usr"`:                true,
		`"lib/conv 201"`:                  true,
		`"conv lib"`:                      false,
		"avatar conv":                     true,
		"avatar nothing":                  false,
		"avatar AND nothing":              false,
		"avatar && conv":                  true,
		"avatar OR nothing":               true,
		"nothing || avatar":               true,
		"NOT nothing":                     true,
		"-nothing avatar":                 true,
		"!avatar":                         false,
		"avatar -conv":                    false,
		"nothing OR avatar conv":          true, // AND binds tighter
		"(nothing OR avatar) lost":        false,
		"NOT (nothing OR lost)":           true,
		"kind:http.request":               true,
		"kind:http":                       false, // identifiers are compared whole
		"kind:http.*":                     true,
		"kind:HTTP.*":                     true,
		"kind:(log.line OR http.*)":       true,
		"kind:(log.line http.*)":          false,
		"path:/usr/lib/conv":              true,
		"path:/usr/*":                     true,
		"path:*conv":                      true,
		"path:*/co?v":                     true,
		"path:/usr":                       false,
		`path:"/usr/lib/conv"`:            true,
		"message:avatar":                  true, // free text is searched within
		"message:av*201":                  true,
		"message:*":                       true,
		"cmdline:pool":                    true,
		"cmdline:nothing":                 false,
		`100%_done`:                       true,
		`100?_d*`:                         true,
		`message:0\*`:                     false,
		"path:/^.usr.*conv$/":             true,
		"path:/LIB/":                      false,
		"path:/LIB/i":                     true,
		"/POST .avatar/":                  true,
		"/post .avatar/i":                 true,
		"/^conv/":                         false,
		"/usr/lib/conv":                   true, // a path, not an expression
		"pid:17":                          true,
		"pid:18":                          false,
		"pid:>=17":                        true,
		"pid:>17":                         false,
		"pid:<18":                         true,
		"pid:<=16":                        false,
		"pid:[10 TO 17]":                  true,
		"pid:[10 TO 17}":                  false,
		"pid:{17 TO *]":                   false,
		"pid:[* TO 20]":                   true,
		"size:>1MB":                       true,
		"size:>1.5MB":                     false,
		"size:[1MiB TO 2MiB]":             true,
		"time:2026-11-24":                 true,
		"time:2026-11-23":                 false,
		"time:2026-11-24T03:02":           true,
		"time:2026-11-24T03:03":           false,
		"time:2026-11-24T03:02:11":        true, // all of the second
		"time:2026-11-24T03:02:11Z":       true,
		"time:2026-11-24T03:02:12":        false,
		"time:2026":                       true,
		"time:>2026-11-24T03:02:11":       false, // after that second
		"time:>=2026-11-24T03:02:11":      true,
		"time:<2026-11-24T03:02:12":       true,
		"time:[2026-11-01 TO 2026-11-24]": true, // the last day too
		"time:[2026-11-01 TO 2026-11-24}": false,
		`time:["2026-11-24 03:02" TO "2026-11-24 03:03"]`: true,
		"time:last 2h":                    true,
		"time:last 30m":                   false,
		"time:today":                      true,
		"time:yesterday":                  false,
		"around:2026-11-24T03:05:00Z±5m":  true,
		"around:2026-11-24T03:05:00Z+-1m": false,
		"around:2026-11-24T03:05:00Z":     true, // five minutes unless said
		"src_ip:10.0.7.31":                true,
		"src_ip:10.0.0.0/8":               true,
		"src_ip:10.0.4.0/22":              true,
		"src_ip:10.0.8.0/22":              false,
		"src_ip:10.0.7.31/32":             true,
		"src_ip:10.0.7.3/32":              false,
		"src_ip:10.0.7.*":                 true,
		"dst_ip:fd00::/8":                 true,
		"dst_ip:0:0::/8":                  false,
		"dst_ip:fd00:0:0:0:0:0:0:9":       true,
		"ip:10.0.7.31":                    true,
		"ip:fd00::9":                      true,
		"ip:10.1.0.0/16":                  false,
		"port:4444":                       true,
		"port:22":                         false,
		"http_status:201":                 true,
		"http_status:[200 TO 299]":        true,
		"http_status:>=400":               false,
		"attributes.http_status:201":      true,
		"attr.level:info":                 true,
		"trace.id:ab":                     true,
		"ok:true":                         true,
		"has:technique":                   true,
		"has:identity":                    false,
		"identity:*":                      false,
		"has:http_user_agent":             true,
		"attributes.none:*":               false,
		"has:attributes.absent":           false,
		"NOT has:identity":                true,
		"http_user_agent:curl*":           true,
		"http_user_agent:/curl.8/":        true,
		"technique:t1190":                 true,
		"http://x":                        false, // no field
		"fd00::9":                         true,
		`\"Überlauf\"`:                    true,
		"NOT":                             false, // never reached, see TestErrors
		"Kind:http.request":               true,
	} {
		if q == "NOT" {
			continue
		}
		parsed, err := query.Parse(q, query.Options{Now: now})
		if err != nil {
			t.Errorf("%q: %v", q, err)
			continue
		}
		if got := parsed.Match(&sample); got != want {
			t.Errorf("%q: %v; it is read as %s", q, got, parsed)
		}
		// What is required must be in an event that matches.
		if want {
			for _, list := range parsed.Required() {
				if !anywhere(list) {
					t.Errorf("%q requires %q", q, list)
				}
			}
		}
		again, err := query.Parse(parsed.String(), query.Options{Now: now})
		if err != nil || again.String() != parsed.String() {
			t.Errorf("%q is written as %s, which is read as %s, %v", q, parsed, again, err)
		} else if again.Match(&sample) != want {
			t.Errorf("%q is written as %s, which means something else", q, parsed)
		}
		for _, d := range []query.Dialect{query.DuckDB, query.Trino} {
			where, args, err := parsed.SQL(d)
			if err != nil || strings.Count(where, "?") != len(args) {
				t.Errorf("%q: %s with %d arguments, %v", q, where, len(args), err)
			}
		}
	}
}

func anywhere(list []string) bool {
	for _, c := range query.TextColumns {
		for _, s := range list {
			if strings.Contains(strings.ToLower(query.Value(&sample, c)), s) {
				return true
			}
		}
	}
	return false
}

// TestErrors: each points at the place, and says what to write.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		q      string
		column int
		words  string
	}{
		{`"open`, 1, "quotes are not closed"},
		{`a "open`, 3, "quotes are not closed"},
		{"(a", 1, "parenthesis is not closed"},
		{"a)", 2, "was not opened"},
		{"a AND", 6, "missing at the end"},
		{"OR a", 1, "nothing before OR"},
		{"a OR OR b", 6, "nothing before OR"},
		{"()", 2, "missing before the parenthesis"},
		{"kind:", 6, "value of kind is missing"},
		{"kind: x", 6, "value of kind is missing"},
		{"contaner:x", 1, "did you mean container"},
		{"x mesage:y", 3, "did you mean message"},
		{"pid:abc", 5, "is a number"},
		{"pid:[1 2]", 8, "TO is missing"},
		{"pid:[1 TO 2", 5, "not closed"},
		{"pid:[x TO 2]", 6, "is a number"},
		{"size:>1XB", 7, "is a number"},
		{"time:soon", 6, "can't be read"},
		{"time:[2026-11-01 TO 2026-13-01]", 21, "can't be read"},
		{"time:last", 10, "length of time"},
		{"time:last x", 11, "length of time"},
		{"around:2026-11-24T03:02:11Z±x", 8, "length of time"},
		{"around:x±5m", 8, "can't be read"},
		{"src_ip:10.0.0.0/99", 8, "network"},
		{"path:/(/", 6, "regular expression"},
		{"/a(?!b)/", 1, "look-around"},
		{"kind:>a", 6, "no order"},
		{"ü ü kind:[a TO b]", 10, "no order"}, // runes, not bytes
		{"has:", 5, "missing"},
		{`has:a\\`, 5, "letters"},
		{strings.Repeat("(", 200) + "a", 0, "nested"},
		{strings.Repeat("NOT ", 200) + "a", 0, "nested"},
		{strings.Repeat("a ", 40000), 1, "bytes"},
		{"a\x00", 1, "valid text"},
		{"\xff", 1, "valid text"},
	} {
		_, err := query.Parse(c.q, query.Options{Now: now})
		var bad *query.Error
		if !errors.As(err, &bad) {
			t.Errorf("%.40q: %v", c.q, err)
			continue
		}
		if c.column != 0 && bad.Column != c.column || !strings.Contains(bad.Error(), c.words) {
			t.Errorf("%.40q: %v; want column %d and %q", c.q, bad, c.column, c.words)
		}
	}
}

// FuzzParse: no panic; what is read can be written and read again, and means the same; values are arguments; what is required is in what matches.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a OR (b AND NOT c)", `kind:x "ph\"rase" path:/a.b/i`, "time:[2026-11-01 TO 2026-11-02} size:>1MB", "around:2026-11-24T03:02:11Z±5m", "ip:10.0.0.0/9 -x*y?z", "has:a pid:(1 OR 2)", `a\ b\*`, "http_status:>=400 attr.x.y:z", "time:last 2h", "Y:*\r", "ip:fe80::1%ETH0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := query.Parse(s, query.Options{Now: now})
		if err != nil {
			var bad *query.Error
			if !errors.As(err, &bad) || bad.Column < 1 || bad.Column > len([]rune(s))+1 {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		text := q.String()
		again, err := query.Parse(text, query.Options{Now: now})
		if err != nil {
			var bad *query.Error
			if errors.As(err, &bad) && (strings.Contains(bad.What, "nested") || strings.Contains(bad.What, "bytes")) {
				return // written with more parentheses than it was read with
			}
			t.Fatalf("%q is written as %q: %v", s, text, err)
		}
		if again.String() != text {
			t.Fatalf("%q, %q, %q", s, text, again)
		}
		match := q.Match(&sample)
		if again.Match(&sample) != match {
			t.Fatalf("%q is written as %q, which means something else", s, text)
		}
		if match {
			for _, list := range q.Required() {
				if !anywhere(list) {
					t.Fatalf("%q requires %q", s, list)
				}
			}
		}
		where, args, err := q.SQL(query.DuckDB)
		if err != nil || strings.Count(where, "?") != len(args) {
			t.Fatalf("%q: %s, %d arguments, %v", s, where, len(args), err)
		}
	})
}
