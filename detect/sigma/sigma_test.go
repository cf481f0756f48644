package sigma

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/lake/query"
)

// one makes a rule of process_creation with a detection.
func one(detection string) string {
	return "title: t\nlogsource: {product: linux, category: process_creation}\ndetection:\n" + indent(detection)
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n  ") + "\n"
}

func load(t *testing.T, src string) *Set {
	t.Helper()
	s := Empty()
	n, refused := s.Add("rule.yml", []byte(src))
	refused = append(refused, s.Resolve()...)
	if n == 0 || len(refused) > 0 {
		t.Fatalf("%d loaded, refused: %+v\n%s", n, refused, src)
	}
	return s
}

// matches asks the matcher, with the index and without, which must agree.
func matches(t *testing.T, s *Set, e *event.Event) []string {
	t.Helper()
	var answers [2][]string
	for i, index := range []bool{true, false} {
		var sc scratch
		newMatcher(s.rules, index).match(e, &sc, func(*source) {}, func(r *rule, _ *query.Record) { answers[i] = append(answers[i], r.Title) })
		slices.Sort(answers[i])
	}
	if !slices.Equal(answers[0], answers[1]) {
		t.Errorf("with the index %q, without %q", answers[0], answers[1])
	}
	return answers[0]
}

func process(path, cmdline string, attributes ...string) *event.Event {
	e := &event.Event{Time: 1795489331_204000000, Kind: event.ProcessStarted, Parser: "auditd", Path: path, Cmdline: cmdline, User: "dana", PID: 42,
		Artifact: "added/audit.log", Length: 10}
	if len(attributes) > 0 {
		e.Attributes = json.RawMessage(attributes[0])
	}
	return e
}

// TestDetection: what values and modifiers mean.
func TestDetection(t *testing.T) {
	e := process("/usr/bin/curl", `curl -k "http://203.0.113.9/a?b=*" --out C:\x`, `{"cwd":"/tmp/Ünïcode \"dir\"","parent":"/usr/bin/CURL","euid":"0","args":["curl","-k"],"n":"12.5","ip":"10.1.2.3"}`)
	for _, x := range []struct {
		name, detection string
		want            bool
	}{
		{"equal ignores case", "a: {Image: /USR/bin/Curl}\ncondition: a", true},
		{"equal is of the whole", "a: {Image: curl}\ncondition: a", false},
		{"cased", "a: {Image|cased: /USR/bin/curl}\ncondition: a", false},
		{"cased equal", "a: {Image|cased: /usr/bin/curl}\ncondition: a", true},
		{"contains", "a: {CommandLine|contains: 'HTTP://'}\ncondition: a", true},
		{"startswith", "a: {CommandLine|startswith: 'curl '}\ncondition: a", true},
		{"startswith not", "a: {CommandLine|startswith: 'url '}\ncondition: a", false},
		{"endswith", "a: {Image|endswith: '/curl'}\ncondition: a", true},
		{"endswith not", "a: {Image|endswith: '/cur'}\ncondition: a", false},
		{"list is or", "a: {Image|endswith: ['/wget', '/curl']}\ncondition: a", true},
		{"all", "a: {CommandLine|contains|all: ['http', '--out']}\ncondition: a", true},
		{"all not", "a: {CommandLine|contains|all: ['http', '--in']}\ncondition: a", false},
		{"map is and", "a: {Image|endswith: /curl, User: root}\ncondition: a", false},
		{"list of maps is or", "a: [{User: root}, {User: dana}]\ncondition: a", true},
		{"wildcards", "a: {Image: '/usr/*/c?rl'}\ncondition: a", true},
		{"one rune", "a: {Image: '/usr/bin/c??rl'}\ncondition: a", false},
		{"escaped star", `a: {CommandLine|contains: 'b=\*'}` + "\ncondition: a", true},
		{"escaped star is no wildcard", `a: {CommandLine|contains: 'curl\*b='}` + "\ncondition: a", false},
		{"plain backslash", `a: {CommandLine|endswith: 'C:\x'}` + "\ncondition: a", true},
		{"two backslashes", `a: {CommandLine|endswith: 'C:\\x'}` + "\ncondition: a", true},
		{"keyword", "a: ['203.0.113.9']\ncondition: a", true},
		{"keyword in attributes", "a: ['\"dir\"']\ncondition: a", true},
		{"keyword not", "a: ['198.51.100.1']\ncondition: a", false},
		{"keywords all", "a: {'|all': ['203.0.113.9', 'ünïcode']}\ncondition: a", true},
		{"keywords all not", "a: {'|all': ['203.0.113.9', 'absent']}\ncondition: a", false},
		{"keyword re", "a: {'|re': '203\\.[0-9]+\\.113'}\ncondition: a", true},
		{"unicode", "a: {CurrentDirectory|contains: 'ÜNÏCODE'}\ncondition: a", true},
		{"null", "a: {ParentCommandLine: null}\ncondition: a", true},
		{"null not", "a: {ParentImage: null}\ncondition: a", false},
		{"empty", "a: {ParentCommandLine: ''}\ncondition: a", true},
		{"star is something", "a: {ParentCommandLine: '*'}\ncondition: a", false},
		{"number", "a: {ProcessId: 42}\ncondition: a", true},
		{"number in hex", "a: {ProcessId: 0x2a}\ncondition: a", true},
		{"exists", "a: {ParentImage|exists: true}\ncondition: a", true},
		{"exists not", "a: {ParentCommandLine|exists: false}\ncondition: a", true},
		{"re", "a: {CommandLine|re: 'https?://[0-9.]+/'}\ncondition: a", true},
		{"re keeps case", "a: {CommandLine|re: 'HTTP'}\ncondition: a", false},
		{"re i", "a: {CommandLine|re|i: 'HTTP'}\ncondition: a", true},
		{"re s", "a: {CommandLine|re|s: 'curl.*out'}\ncondition: a", true},
		{"re m", "a: {CommandLine|re|m: '^curl'}\ncondition: a", true},
		{"gt", "a: {ProcessId|gt: 41}\ncondition: a", true},
		{"gte", "a: {ProcessId|gte: 42}\ncondition: a", true},
		{"lt", "a: {ProcessId|lt: 42}\ncondition: a", false},
		{"lte", "a: {ProcessId|lte: 42}\ncondition: a", true},
		{"neq", "a: {User|neq: root}\ncondition: a", true},
		{"neq list", "a: {User|neq: [root, dana]}\ncondition: a", false},
		{"fieldref ignores case", "a: {Image|fieldref: ParentImage}\ncondition: a", true},
		{"fieldref cased", "a: {Image|fieldref|cased: ParentImage}\ncondition: a", false},
		{"fieldref neq", "a: {Image|fieldref|neq: CommandLine}\ncondition: a", true},
		{"fieldref startswith", "a: {CommandLine|fieldref|startswith: comm}\ncondition: a", false},
		{"windash", "a: {CommandLine|windash|contains: ' /k '}\ncondition: a", true},
		{"windash leaves others", "a: {CommandLine|windash|contains: '/usr/k '}\ncondition: a", false},
		{"not", "a: {User: root}\ncondition: not a", true},
		{"and or not", "a: {User: root}\nb: {User: dana}\ncondition: b and not a or a", true},
		{"parentheses", "a: {User: root}\nb: {User: dana}\ncondition: a and (b or not b)", false},
		{"1 of them", "a: {User: root}\nb: {User: dana}\ncondition: 1 of them", true},
		{"all of them", "a: {User: root}\nb: {User: dana}\ncondition: all of them", false},
		{"them leaves _ out", "_a: {User: root}\nb: {User: dana}\ncondition: all of them", true},
		{"1 of pattern", "sel_a: {User: root}\nsel_b: {User: dana}\nother: {User: root}\ncondition: 1 of sel_* and not other", true},
		{"all of pattern", "sel_a: {User: root}\nsel_b: {User: dana}\ncondition: all of sel*", false},
		{"any of", "sel_a: {User: root}\nsel_b: {User: dana}\ncondition: ANY of sel_*", true},
		{"conditions", "a: {User: root}\nb: {User: dana}\ncondition: [a, b]", true},
		{"hour", "a: {timestamp|hour: 3}\ncondition: a", true},
		{"hour gte", "a: {timestamp|hour|gte: 4}\ncondition: a", false},
		{"minute", "a: {timestamp|minute: 2}\ncondition: a", true},
		{"day month year week", "a: {timestamp|day: 24, timestamp|month: 11, timestamp|year: 2026, timestamp|week: 48}\ncondition: a", true},
	} {
		s := load(t, one(x.detection))
		if got := len(matches(t, s, e)) == 1; got != x.want {
			t.Errorf("%s: %v, want %v\n%s", x.name, got, x.want, x.detection)
		}
	}
}

// TestEncodings: base64, base64offset and the forms of UTF-16.
func TestEncodings(t *testing.T) {
	for _, x := range []struct{ detection, line string }{
		{"a: {CommandLine|base64|contains: 'secret!'}\ncondition: a", "x c2VjcmV0IQ== y"},
		{"a: {CommandLine|base64offset|contains: 'curl http://'}\ncondition: a", "echo Y3VybCBodHRwOi8vMTA= | sh"},    // curl http://10
		{"a: {CommandLine|base64offset|contains: 'curl http://'}\ncondition: a", "echo YWN1cmwgaHR0cDovLzEw | sh"},    // acurl http://10
		{"a: {CommandLine|base64offset|contains: 'curl http://'}\ncondition: a", "echo YmFjdXJsIGh0dHA6Ly8xMA== | x"}, // bacurl http://10
		{"a: {CommandLine|wide|base64offset|contains: 'ping'}\ncondition: a", "-enc cABpAG4AZwA="},
		{"a: {CommandLine|utf16le|base64|contains: 'ping'}\ncondition: a", "-enc cABpAG4AZwA="},
		{"a: {CommandLine|utf16be|base64|contains: 'ping'}\ncondition: a", "-enc AHAAaQBuAGc="},
		{"a: {CommandLine|utf16|base64|contains: 'ping'}\ncondition: a", "-enc //5wAGkAbgBnAA=="},
	} {
		s := load(t, one(x.detection))
		if len(matches(t, s, process("/bin/x", x.line))) != 1 {
			t.Errorf("%s does not match %s", x.detection, x.line)
		}
		if len(matches(t, s, process("/bin/x", "echo something else"))) != 0 {
			t.Errorf("%s matches all", x.detection)
		}
	}
}

// TestRefusals: what can't be run is refused by name, and where it stands.
func TestRefusals(t *testing.T) {
	for _, x := range []struct{ src, want string }{
		{one("a: {Image|frobnicate: x}\ncondition: a"), "modifier frobnicate is not known"},
		{one("a: {Image|: x}\ncondition: a"), "a modifier is missing"},
		{one("a: {Image|re|cidr: x}\ncondition: a"), "re and cidr can't stand together"},
		{one("a: {Image|contains|re: x}\ncondition: a"), "can't stand together"},
		{one("a: {Image|i: x}\ncondition: a"), "after re alone"},
		{one("a: {Image|re: '(?<=x)y'}\ncondition: a"), "modifier re"},
		{one("a: {Image|cidr: 10.0.0.0/99}\ncondition: a"), "modifier cidr"},
		{one("a: {Image|lt: many}\ncondition: a"), "modifier lt"},
		{one("a: {Image|exists: perhaps}\ncondition: a"), "modifier exists"},
		{one("a: {Image|fieldref: Nothing}\ncondition: a"), "modifier fieldref"},
		{one("a: {Image|utf16le: x}\ncondition: a"), "modifier utf16"},
		{one("a: {Image|base64: 'x*y'}\ncondition: a"), "wildcards can't be encoded"},
		{one("a: {Image|expand: '%admins%'}\ncondition: a"), "the placeholder %admins% has no values"},
		{one("a: {Image|hour: 3}\ncondition: a"), "modifier hour"},
		{one("a: {timestamp|hour: three}\ncondition: a"), "modifier hour takes a number"},
		{one("a: {timestamp: '2026'}\ncondition: a"), "by its parts"},
		{one("a: {CommandLine|windash|contains: ' -a -b -c -d -e '}\ncondition: a"), "modifier windash"},
		{one("a: {IntegrityLevel: System}\ncondition: a"), "field IntegrityLevel: events of linux processes don't have it"},
		{one("a: {Image: x}\ncondition: a | count() > 5"), "aggregation"},
		{one("a: {Image: x}\ntimeframe: 5m\ncondition: a"), "timeframe"},
		{one("a: {Image: x}\ncondition: b"), `names "b"`},
		{one("a: {Image: x}\ncondition: a and"), "ends too early"},
		{one("a: {Image: x}\ncondition: (a"), "not closed"},
		{one("a: {Image: x}\ncondition: a b"), "not understood"},
		{one("a: {Image: x}\ncondition: 2 of them"), `"2" of several`},
		{one("a: {Image: x}\ncondition: 1 of b*"), "no selection is named b*"},
		{one("a: {Image: x}"), "no condition"},
		{one("a: {}\ncondition: a"), "a selection is empty"},
		{one("a: {Image: {b: c}}\ncondition: a"), "neither a text nor a list"},
		{"title: t\nlogsource: {product: windows, category: process_creation}\ndetection: {a: {Image: x}, condition: a}", "no events of product windows here"},
		{"title: t\nlogsource: {product: linux, service: telepathy}\ndetection: {a: {Image: x}, condition: a}", "no events of product linux, service telepathy here"},
		{"title: t\ndetection: {a: {Image: x}, condition: a}", "no logsource"},
		{"title: t\nlogsource: {product: linux, category: process_creation}", "no detection"},
		{"logsource: {product: linux}\ndetection: {a: {Image: x}, condition: a}", "no title"},
		{"title: t\nstatus: unsupported\nlogsource: {product: linux}\ndetection: {a: [x], condition: a}", "status is unsupported"},
		{"title: t\nlevel: dreadful\nlogsource: {product: linux}\ndetection: {a: [x], condition: a}", "level dreadful"},
		{"title: t\nfilter: {rules: [x]}", "filter"},
		{"action: global\ntitle: t", "action"},
		{"- a\n- b", "no rule of Sigma"},
		{"title: [", "no YAML"},
		{"title: t\ncorrelation: {type: value_percentile, rules: [a], timespan: 1m, condition: {gt: 1}}", "value_percentile is not supported"},
		{"title: t\ncorrelation: {type: event_count, rules: [absent], timespan: 1m, condition: {gt: 1}}", "the rule absent is not loaded"},
		{"title: t\ncorrelation: {type: event_count, rules: [a], timespan: soon, condition: {gt: 1}}", "timespan"},
		{"title: t\ncorrelation: {type: event_count, rules: [a], timespan: 1m}", "condition is missing"},
		{"title: t\ncorrelation: {type: value_count, rules: [a], timespan: 1m, condition: {gt: 1}}", "needs the field"},
		{"title: t\ncorrelation: {type: temporal, rules: [a, b], timespan: 1m, condition: a and not b}", "in words"},
		{"title: t\nname: a\ncorrelation: {type: event_count, rules: [b], timespan: 1m, condition: {gt: 1}}\n---\ntitle: u\nname: b\ncorrelation: {type: event_count, rules: [a], timespan: 1m, condition: {gt: 1}}", "rests on itself"},
	} {
		s := Empty()
		_, refused := s.Add("f.yml", []byte(x.src))
		refused = append(refused, s.Resolve()...)
		if len(refused) == 0 || !slices.ContainsFunc(refused, func(r detect.Refusal) bool { return strings.Contains(r.Why, x.want) }) {
			t.Errorf("want %q, got %+v of\n%s", x.want, refused, x.src)
		}
	}
	// One bad rule leaves the others, and says its line.
	s := Empty()
	n, refused := s.Add("f.yml", []byte(one("a: {Image: x}\ncondition: a")+"---\n"+strings.ReplaceAll(one("a: {Image|bad: x}\ncondition: a"), "title: t", "title: u")))
	if n != 1 || len(refused) != 1 || refused[0].Line != 10 || refused[0].Rule != "u" || refused[0].File != "f.yml" {
		t.Errorf("%d loaded, %+v", n, refused)
	}
}

// TestPlaceholders: expand takes the values that it is given.
func TestPlaceholders(t *testing.T) {
	s := Empty()
	s.Placeholders = map[string][]string{"admins": {"root", "dana"}}
	if _, refused := s.Add("f.yml", []byte(one("a: {User|expand: '%admins%'}\ncondition: a"))); len(refused) > 0 {
		t.Fatal(refused)
	}
	if len(matches(t, s, process("/x", ""))) != 1 {
		t.Error("dana is one of them")
	}
}

// TestFields: fields of each source reach what the parsers write.
func TestFields(t *testing.T) {
	audit := `{"verb":"create","resource":"pods/exec","name":"cart","groups":"system:masters,system:authenticated","response_code":201,"http_user_agent":"kubectl","images":"a:1,b:2","privileged":true}`
	k8s := &event.Event{Kind: event.K8sAudit, Parser: "k8saudit", Identity: "dana", SrcIP: "10.1.2.3", Namespace: "shop", Attributes: json.RawMessage(audit)}
	trail := &event.Event{Kind: event.CloudAPI, Parser: "cloudtrail", Attributes: json.RawMessage(`{"service":"s3","operation":"GetObject","bucket":"b","source":"ec2.amazonaws.com"}`)}
	web := &event.Event{Kind: event.HTTPRequest, Parser: "containerlog", SrcIP: "10.0.0.9", Attributes: json.RawMessage(`{"http_method":"GET","http_path":"/a?x=..%2f","http_status":200,"http_user_agent":"curl/8"}`)}
	execve := &event.Event{Kind: event.ProcessStarted, Parser: "auditd", Process: "conv", Path: "/usr/lib/conv", Cmdline: "conv -a b",
		Attributes: json.RawMessage(`{"type":"SYSCALL,EXECVE,CWD","key":"exec","args":["conv","-a","b c"],"paths":"./ root"}`)}
	sshd := &event.Event{Kind: event.LoginFailed, Parser: "syslog", Process: "sshd", User: "root", SrcIP: "203.0.113.9", Message: "Failed password for root"}
	for _, x := range []struct {
		source, detection string
		e                 *event.Event
		want              bool
	}{
		{"product: kubernetes, category: application, service: audit", "verb: create, objectRef.resource: pods, objectRef.subresource: exec", k8s, true},
		{"product: kubernetes, service: audit", "objectRef.resource: secrets", k8s, false},
		{"product: kubernetes, service: audit", "user.groups: system:masters", k8s, true},
		{"product: kubernetes, service: audit", "user.groups|startswith: 'system:auth'", k8s, true},
		{"product: kubernetes, service: audit", "user.groups: system:mast", k8s, false},
		{"product: kubernetes, service: audit", "responseStatus.code|lt: 400", k8s, true},
		{"product: kubernetes, service: audit", "stage: ResponseComplete", k8s, true},
		{"product: kubernetes, service: audit", "sourceIPs|cidr: 10.0.0.0/8", k8s, true},
		{"product: kubernetes, service: audit", "sourceIPs|cidr: ['192.168.0.0/16', 'fd00::/8']", k8s, false},
		{"product: kubernetes, service: audit", "privileged: true", k8s, true},
		{"product: aws, service: cloudtrail", "eventSource: s3.amazonaws.com, eventName: GetObject", trail, true},
		{"product: aws, service: cloudtrail", "eventSource: iam.amazonaws.com", trail, false},
		{"product: aws, service: cloudtrail", "eventType: AwsApiCall, sourceIPAddress: ec2.amazonaws.com, requestParameters.bucketName: b", trail, true},
		{"category: webserver", "cs-method: GET, cs-uri-query|contains: '..%2f', cs-uri-stem: /a, sc-status: 200", web, true},
		{"category: webserver", "c-ip: 10.0.0.9, cs-user-agent|startswith: curl", web, true},
		{"product: linux, service: auditd", "type: EXECVE, a0: conv, a1: '-a', a2|contains: ' c'", execve, true},
		{"product: linux, service: auditd", "type: PATH", execve, false},
		{"product: linux, service: auditd", "name: root, comm: conv, exe|endswith: /conv, key: exec", execve, true},
		{"product: linux, service: sshd", "user: root, src_ip: 203.0.113.9", sshd, true},
		{"product: linux, service: auth", "message|contains: 'Failed password'", sshd, true},
		{"product: linux, service: cron", "message|contains: 'Failed password'", sshd, false},
		{"product: linux", "message|contains: 'Failed password'", sshd, true},
	} {
		s := load(t, fmt.Sprintf("title: t\nlogsource: {%s}\ndetection:\n  a: {%s}\n  condition: a\n", x.source, x.detection))
		if got := len(matches(t, s, x.e)) == 1; got != x.want {
			t.Errorf("%s, %s: %v, want %v", x.source, x.detection, got, x.want)
		}
	}
}
