package sigma

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/verdict"
)

var epoch = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)

// seq makes a stream of events, which are stamped with their place.
func seq(list []event.Event, err error) iter.Seq2[*event.Event, error] {
	return func(yield func(*event.Event, error) bool) {
		for i := range list {
			e := list[i]
			if e.Artifact == "" {
				e.Artifact = "added/a.log"
			}
			e.Offset, e.Length = int64(i*100), 100
			if !yield(&e, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// ask gives the answers that have something to say.
func ask(t *testing.T, s *Set, list []event.Event) []detect.Answer {
	t.Helper()
	out, err := s.Answers(context.Background(), detect.Input{Facts: facts(), Events: seq(list, nil)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func facts() *detect.Facts {
	return &detect.Facts{Cite: func(a string, off, n int64) (verdict.Citation, bool) {
		return verdict.Citation{Artifact: a, Offset: off, Length: n, SHA256: "x"}, true
	}}
}

func answer(list []detect.Answer, id string) *detect.Answer {
	for i := range list {
		if list[i].Rule.ID == id {
			return &list[i]
		}
	}
	return nil
}

func hitsOf(list []detect.Answer, id string) []detect.Finding {
	if a := answer(list, id); a != nil {
		return a.Hits
	}
	return nil
}

// k8s is a call to the API server.
func k8s(after time.Duration, who, attributes string) event.Event {
	return event.Event{Time: epoch.Add(after).UnixNano(), Kind: event.K8sAudit, Parser: "k8saudit", Identity: who, Namespace: "shop", Message: who + " called",
		Attributes: json.RawMessage(attributes)}
}

func sshd(after time.Duration, ip, message string) event.Event {
	return event.Event{Time: epoch.Add(after).UnixNano(), Kind: event.LoginFailed, Parser: "syslog", Process: "sshd", SrcIP: ip, Message: message}
}

func guesses(n int) []event.Event {
	const ip = "203.0.113.9"
	var out []event.Event
	for i := range n {
		out = append(out, sshd(time.Duration(i)*time.Second, ip, "Failed password for root from "+ip))
	}
	return out
}

const account = "system:serviceaccount:shop:checkout"

// TestOwnRules: each of Sherd's rules fires on what it is for, and not on what looks like it.
func TestOwnRules(t *testing.T) {
	audit := func(exe, kind string) event.Event {
		return event.Event{Time: epoch.UnixNano(), Kind: event.ProcessStarted, Parser: "auditd", Path: exe, Attributes: json.RawMessage(`{"type":"SYSCALL,` + kind + `"}`)}
	}
	trail := func(name, more string) event.Event {
		return event.Event{Time: epoch.UnixNano(), Kind: event.CloudAPI, Parser: "cloudtrail", Attributes: json.RawMessage(`{"service":"cloudtrail","operation":"` + name + `"` + more + `}`)}
	}
	tried := map[string]bool{}
	for _, x := range []struct {
		rule       string
		fires, not []event.Event
	}{
		{"k8s-exec", []event.Event{k8s(0, "dana", `{"verb":"create","resource":"pods/exec","response_code":101}`)},
			[]event.Event{k8s(0, "dana", `{"verb":"create","resource":"pods/exec","response_code":403}`), k8s(0, "dana", `{"verb":"get","resource":"pods/log"}`)}},
		{"k8s-ephemeral-container", []event.Event{k8s(0, "dana", `{"verb":"patch","resource":"pods/ephemeralcontainers","response_code":200}`)},
			[]event.Event{k8s(0, "dana", `{"verb":"get","resource":"pods/ephemeralcontainers"}`)}},
		{"k8s-secrets-listed", []event.Event{k8s(0, account, `{"verb":"list","resource":"secrets","response_code":200}`)},
			[]event.Event{k8s(0, "dana", `{"verb":"list","resource":"secrets"}`), k8s(0, account, `{"verb":"get","resource":"secrets","name":"db"}`),
				k8s(0, account, `{"verb":"list","resource":"secrets","response_code":403}`), k8s(0, "system:serviceaccount:kube-system:x", `{"verb":"list","resource":"secrets"}`)}},
		{"k8s-privileged-pod", []event.Event{k8s(0, "dana", `{"verb":"create","resource":"pods","privileged":true,"response_code":201}`)},
			[]event.Event{k8s(0, "dana", `{"verb":"create","resource":"pods","response_code":201}`), k8s(0, "system:serviceaccount:kube-system:daemon-set-controller", `{"verb":"create","resource":"pods","privileged":true}`)}},
		{"k8s-anonymous-access", []event.Event{k8s(0, "system:anonymous", `{"verb":"list","resource":"pods","response_code":200}`)},
			[]event.Event{k8s(0, "system:anonymous", `{"verb":"get","response_code":200}`), k8s(0, "system:anonymous", `{"verb":"list","resource":"pods","response_code":403}`),
				{Time: 1, Kind: event.K8sAudit, Identity: "system:anonymous", Namespace: "kube-public", Attributes: json.RawMessage(`{"verb":"get","resource":"configmaps","name":"cluster-info","response_code":200}`)}}},
		{"k8s-token-of-another", []event.Event{k8s(0, account, `{"verb":"create","resource":"serviceaccounts/token","response_code":201}`)},
			[]event.Event{k8s(0, "system:node:n1", `{"verb":"create","resource":"serviceaccounts/token","response_code":201}`)}},
		{"k8s-own-rights-listed", []event.Event{k8s(0, account, `{"verb":"create","resource":"selfsubjectrulesreviews"}`)},
			[]event.Event{k8s(0, account, `{"verb":"create","resource":"selfsubjectaccessreviews"}`)}},
		{"k8s-rights-then-secrets", []event.Event{k8s(0, account, `{"verb":"create","resource":"selfsubjectrulesreviews"}`), k8s(time.Minute, account, `{"verb":"list","resource":"secrets"}`)},
			[]event.Event{k8s(0, account, `{"verb":"list","resource":"secrets"}`), k8s(time.Minute, account, `{"verb":"create","resource":"selfsubjectrulesreviews"}`),
				k8s(2*time.Minute, account+"2", `{"verb":"list","resource":"secrets"}`), k8s(20*time.Minute, account, `{"verb":"list","resource":"secrets"}`)}},
		{"ssh-guessing", guesses(20), guesses(19)},
		{"ssh-guessed", append(guesses(20), sshd(time.Minute, "203.0.113.9", "Accepted password for root from 203.0.113.9")),
			append(guesses(20), sshd(time.Minute, "198.51.100.7", "Accepted publickey for dana"), sshd(-time.Minute, "203.0.113.9", "Accepted password for root"))},
		{"audit-program-in-memory", []event.Event{audit("/memfd:x (deleted)", "EXECVE"), audit("/dev/shm/a", "EXECVE")},
			[]event.Event{audit("/memfd:runc_cloned:/proc/self/exe (deleted)", "EXECVE"), audit("/usr/bin/x", "EXECVE"), audit("/dev/shm/a", "PATH")}},
		{"cloudtrail-logging-stopped", []event.Event{trail("StopLogging", "")}, []event.Event{trail("StartLogging", ""), trail("StopLogging", `,"error_code":"AccessDenied"`)}},
	} {
		tried[x.rule] = true
		for i := range x.fires {
			one := x.fires
			if !strings.Contains(x.rule, "guess") && !strings.Contains(x.rule, "then") {
				one = x.fires[i : i+1]
			}
			if f := hitsOf(ask(t, New(), one), x.rule); len(f) == 0 || len(f[0].Citations) == 0 {
				t.Errorf("%s does not fire, or proves nothing: %+v", x.rule, f)
			}
		}
		if f := hitsOf(ask(t, New(), x.not), x.rule); len(f) > 0 {
			t.Errorf("%s fires on harmless events: %s", x.rule, f[0].Statement)
		}
	}
	for _, r := range New().Rules() {
		if !tried[r.ID] {
			t.Errorf("%s has no test here", r.ID)
		}
		if r.FalseAlarms == "" || r.Rationale == "" || r.Technique == "" || r.Language != Name || r.Origin != "" {
			t.Errorf("%s lacks a part: %+v", r.ID, r)
		}
		if r.Severity.Rank() > verdict.Medium.Rank() {
			t.Errorf("%s is graver than what a log line proves", r.ID)
		}
	}
}

// TestAnswers: what a rule's events become, and that blindness is told once.
func TestAnswers(t *testing.T) {
	s := New()
	user := "title: Shell\nid: 5a1\nlevel: critical\ntags: [attack.execution, attack.t1059.004]\nlogsource: {product: linux, category: process_creation}\ndetection: {a: {Image|endswith: /sh}, condition: a}\n" +
		"---\ntitle: Web\nlevel: critical\nlogsource: {category: webserver}\ndetection: {a: {cs-uri-query|contains: jndi}, condition: a}\n" +
		"---\ntitle: Trail\nlogsource: {product: aws, service: cloudtrail}\ndetection: {a: {eventName: x}, condition: a}\n" +
		"---\ntitle: Trail 2\nlogsource: {product: aws, service: cloudtrail}\ndetection: {a: {eventName: y}, condition: a}\n"
	if n, refused := s.Add("user.yml", []byte(user)); n != 4 || len(refused) > 0 {
		t.Fatal(n, refused)
	}
	list := []event.Event{
		{Time: epoch.Add(2 * time.Second).UnixNano(), Kind: event.ProcessStarted, Parser: "process", PID: 7, Path: "/bin/sh", Message: "second", Artifact: "process/processes.jsonl"},
		{Time: epoch.UnixNano(), Kind: event.ProcessStarted, Parser: "process", PID: 7, Path: "/bin/sh", Message: "first", Artifact: "process/processes.jsonl"},
		{Time: epoch.UnixNano(), Kind: event.ProcessStarted, Parser: "auditd", Path: "/bin/sh", Message: "a forged line", Artifact: "filesystem/upper/tmp/audit.log"},
		{Time: epoch.UnixNano(), Kind: event.HTTPRequest, Parser: "containerlog", Message: "a request", Artifact: "logs/0.log", Attributes: json.RawMessage(`{"http_path":"/?x=${jndi:ldap"}`)},
	}
	out := ask(t, s, list)
	f := hitsOf(out, "5a1")
	if len(f) != 2 || f[0].Severity != verdict.Critical || f[1].Severity != verdict.Low || f[0].Technique != "T1059.004" || f[0].PID != 7 || f[0].Path != "/bin/sh" {
		t.Fatalf("%+v", f)
	}
	if want := `2 events of linux processes match the Sigma rule "Shell", from 2026-11-24 03:00:00.000Z to 2026-11-24 03:00:02.000Z; the first: first`; f[0].Statement != want {
		t.Errorf("got  %s\nwant %s", f[0].Statement, want)
	}
	if f[0].When != epoch.UnixNano() || len(f[0].Citations) != 2 || f[0].Citations[0].Offset != 100 {
		t.Errorf("%+v", f[0])
	}
	if w := hitsOf(out, "web"); len(w) != 1 || w[0].Severity != verdict.Low {
		t.Errorf("what a client sends proves that it was sent: %+v", w)
	}
	b := answer(out, "sigma-log-sources")
	if b == nil || b.State() != detect.Blind || len(b.Blind) != 1 || b.Blind[0].What != "what 2 Sigma rules ask for" || b.Blind[0].Why != "the package has no events of aws cloudtrail (2 rules)" {
		t.Errorf("%+v", b)
	}
	// Clean: there were such events, and none matched.
	if a := answer(ask(t, s, []event.Event{{Kind: event.CloudAPI, Parser: "cloudtrail"}}), "trail"); a != nil {
		t.Errorf("%+v", a)
	}
	// Sherd's own rules are blind for no log that nobody collected.
	if out := ask(t, New(), nil); len(out) != 0 {
		t.Errorf("%+v", out)
	}
	// No events at all.
	out, err := s.Answers(context.Background(), detect.Input{Facts: facts()})
	if err != nil || len(out) != 1 || !strings.Contains(out[0].Blind[0].Why, "no events could be read of") {
		t.Errorf("%v %+v", err, out)
	}
	// An error ends the reading, and what came before it stands.
	out, err = s.Answers(context.Background(), detect.Input{Facts: facts(), Events: seq(list, errors.New("torn"))})
	if err == nil || !strings.Contains(err.Error(), "torn") || len(hitsOf(out, "5a1")) != 2 {
		t.Errorf("%v %+v", err, out)
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if _, err := s.Answers(ctx, detect.Input{Facts: facts(), Events: seq(list, nil)}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// base is a rule that matches log lines with a word.
func base(name string) string {
	return "title: " + name + "\nname: " + name + "\nlogsource: {product: linux, service: syslog}\ndetection: {a: {message: " + name + "}, condition: a}\n---\n"
}

func line(at int, word, user, value string) event.Event {
	return event.Event{Time: epoch.Add(time.Duration(at) * time.Second).UnixNano(), Kind: event.LogLine, Parser: "syslog", Message: word, User: user,
		Attributes: json.RawMessage(fmt.Sprintf(`{"v":%q}`, value))}
}

// TestCorrelations: each type, in any order of the stream.
func TestCorrelations(t *testing.T) {
	for _, x := range []struct {
		name, correlation string
		events            []event.Event
		want              []int // events of each episode
	}{
		{"count", "type: event_count, rules: [x], group-by: [user], timespan: 10s, condition: {gte: 3}",
			[]event.Event{line(0, "x", "a", ""), line(5, "x", "a", ""), line(10, "x", "a", ""), line(11, "x", "b", ""), line(12, "y", "a", "")}, []int{3}},
		{"count, not within", "type: event_count, rules: [x], group-by: [user], timespan: 9s, condition: {gte: 3}",
			[]event.Event{line(0, "x", "a", ""), line(5, "x", "a", ""), line(10, "x", "a", "")}, nil},
		{"count without group", "type: event_count, rules: [x, y], timespan: 10s, condition: {gt: 2}",
			[]event.Event{line(0, "x", "a", ""), line(5, "y", "b", ""), line(10, "x", "", "")}, []int{3}},
		{"no value, no group", "type: event_count, rules: [x], group-by: [user], timespan: 10s, condition: {gte: 2}",
			[]event.Event{line(0, "x", "", ""), line(5, "x", "", "")}, nil},
		{"two episodes", "type: event_count, rules: [x], timespan: 10s, condition: {gte: 2}",
			[]event.Event{line(0, "x", "", ""), line(5, "x", "", ""), line(12, "x", "", ""), line(100, "x", "", ""), line(101, "x", "", "")}, []int{3, 2}},
		{"range", "type: event_count, rules: [x], timespan: 10s, condition: {gt: 1, lte: 3}",
			[]event.Event{line(0, "x", "", ""), line(5, "x", "", ""), line(50, "x", "", ""), line(51, "x", "", ""), line(52, "x", "", ""), line(53, "x", "", "")}, []int{2}},
		{"exactly", "type: event_count, rules: [x], timespan: 10s, condition: {eq: 2}", []event.Event{line(0, "x", "", ""), line(5, "x", "", "")}, []int{2}},
		{"values", "type: value_count, rules: [x], group-by: [user], timespan: 10s, condition: {field: v, gte: 2}",
			[]event.Event{line(0, "x", "a", "1"), line(1, "x", "a", "1"), line(2, "x", "a", ""), line(3, "x", "a", "2"), line(4, "x", "b", "3")}, []int{4}},
		{"values, the same", "type: value_count, rules: [x], timespan: 10s, condition: {field: v, gte: 2}",
			[]event.Event{line(0, "x", "a", "1"), line(1, "x", "b", "1")}, nil},
		{"sum", "type: value_sum, rules: [x], timespan: 10s, condition: {field: v, gt: 100}",
			[]event.Event{line(0, "x", "", "60"), line(1, "x", "", "50"), line(2, "x", "", "none")}, []int{3}},
		{"mean", "type: value_avg, rules: [x], timespan: 10s, condition: {field: v, gt: 54}", []event.Event{line(0, "x", "", "60"), line(1, "x", "", "50")}, []int{2}},
		{"temporal", "type: temporal, rules: [x, y], group-by: [user], timespan: 10s",
			[]event.Event{line(0, "y", "a", ""), line(10, "x", "a", ""), line(30, "y", "b", ""), line(31, "x", "c", "")}, []int{2}},
		{"temporal, one of them is missing", "type: temporal, rules: [x, y], timespan: 10s", []event.Event{line(0, "x", "", ""), line(1, "x", "", "")}, nil},
		{"temporal, some", "type: temporal, rules: [x, y, z], timespan: 10s, condition: {gte: 2}", []event.Event{line(0, "x", "", ""), line(1, "z", "", "")}, []int{2}},
		{"ordered", "type: temporal_ordered, rules: [x, y, z], timespan: 10s", []event.Event{line(0, "x", "", ""), line(1, "y", "", ""), line(10, "z", "", "")}, []int{3}},
		{"ordered, the other way", "type: temporal_ordered, rules: [x, y], timespan: 10s", []event.Event{line(0, "y", "", ""), line(1, "x", "", "")}, nil},
		{"ordered, the latest beginning", "type: temporal_ordered, rules: [x, y], timespan: 10s", []event.Event{line(0, "x", "", ""), line(8, "x", "", ""), line(12, "y", "", "")}, []int{2}},
		{"aliases", "type: temporal, rules: [x, y], group-by: [who], timespan: 10s, aliases: {who: {x: user, y: v}}",
			[]event.Event{line(0, "x", "a", "no"), line(1, "y", "no", "a")}, []int{2}},
		{"no time, no span", "type: event_count, rules: [x], timespan: 10s, condition: {gte: 1}", []event.Event{{Kind: event.LogLine, Parser: "syslog", Message: "x"}}, nil},
	} {
		s := load(t, base("x")+base("y")+base("z")+"title: c\nname: c\nlevel: high\ncorrelation: {"+x.correlation+"}\n")
		for turn := range 4 {
			list := slices.Clone(x.events)
			if turn > 0 && x.name != "exactly" {
				rand.New(rand.NewPCG(uint64(turn), 1)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			}
			out := ask(t, s, list)
			var got []int
			for _, f := range hitsOf(out, "c") {
				var n int
				if _, err := fmt.Sscanf(f.Statement, "%d event", &n); err != nil {
					t.Error(f.Statement)
				}
				got = append(got, n)
				if f.Severity != verdict.Medium { // of syslog
					t.Errorf("%s is %s", x.name, f.Severity)
				}
			}
			if !slices.Equal(got, x.want) {
				t.Errorf("%s, order %d: %v, want %v", x.name, turn, got, x.want)
			}
			if a := answer(out, "x"); a != nil {
				t.Errorf("%s: a rule of a correlation has findings of its own", x.name)
			}
		}
	}
}

// TestChain: a correlation of a correlation, and one that lets its rules speak.
func TestChain(t *testing.T) {
	s := load(t, base("x")+base("y")+"title: many\nname: many\ncorrelation: {type: event_count, rules: [x], group-by: [user, v], timespan: 10s, condition: {gte: 2}}\n---\n"+
		"title: then\nname: then\ncorrelation: {type: temporal_ordered, rules: [many, y], group-by: [user], timespan: 1m, generate: true}\n")
	out := ask(t, s, []event.Event{line(40, "y", "a", ""), line(0, "x", "a", "1"), line(5, "x", "a", "1"), line(5, "x", "b", "1"), line(6, "x", "b", "2"), line(50, "y", "b", "")})
	f := hitsOf(out, "then")
	if len(f) != 1 || !strings.Contains(f[0].Statement, `user "a"`) || len(f[0].Citations) != 2 {
		t.Errorf("%+v", f)
	}
	if len(hitsOf(out, "many")) != 1 || len(hitsOf(out, "y")) != 1 || answer(out, "x") != nil {
		t.Errorf("%+v", out)
	}
}

// TestCorrelationOracle: windows that slide say the same as trying every window.
func TestCorrelationOracle(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	for range 300 {
		n, need, span := 1+rng.IntN(30), 2+rng.IntN(4), 1+rng.IntN(20)
		kind := []string{"event_count", "value_count", "temporal"}[rng.IntN(3)]
		var list []event.Event
		for range n {
			list = append(list, line(rng.IntN(100), []string{"x", "y", "z"}[rng.IntN(3)], "u", fmt.Sprint(rng.IntN(5))))
		}
		cond := fmt.Sprintf("{gte: %d}", need)
		if kind == "value_count" {
			cond = fmt.Sprintf("{field: v, gte: %d}", need)
		}
		s := load(t, base("x")+base("y")+base("z")+fmt.Sprintf("title: c\nname: c\ncorrelation: {type: %s, rules: [x, y, z], group-by: [user], timespan: %ds, condition: %s}\n", kind, span, cond))
		got := len(hitsOf(ask(t, s, list), "c")) > 0
		want := false
		for _, end := range list {
			seen := map[string]bool{}
			for i, e := range list {
				if d := end.Time - e.Time; d >= 0 && d <= int64(span)*int64(time.Second) {
					seen[map[string]string{"event_count": fmt.Sprint(i), "value_count": string(e.Attributes), "temporal": e.Message}[kind]] = true
				}
			}
			want = want || len(seen) >= need
		}
		if got != want {
			t.Fatalf("%s of %d within %d s: %v, want %v: %v", kind, need, span, got, want, list)
		}
	}
}
