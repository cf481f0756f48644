package applog

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/timestamp"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func samples(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.log")
	if err != nil || len(files) == 0 {
		t.Fatal("no samples", err)
	}
	return files
}

func TestGolden(t *testing.T) {
	for _, f := range samples(t) {
		t.Run(filepath.Base(f), func(t *testing.T) { parsetest.Golden(t, Format, f, parsetest.Options{}) })
	}
}

// TestLayouts reads one line in each layout that no sample has.
func TestLayouts(t *testing.T) {
	for _, c := range []struct{ name, text, level, logger, message string }{
		{"Google Cloud", `{"severity":"ERROR","textPayload":"boom","timestamp":"2026-11-24T03:02:11Z"}`, "error", "", "boom"},
		{"Google Cloud, seconds", `{"severity":"WARNING","message":"m","timestamp":{"seconds":1795489331,"nanos":5}}`, "warn", "", "m"},
		{"Log4j JSON", `{"instant":{"epochSecond":1795489331,"nanoOfSecond":123000000},"thread":"main","level":"INFO","loggerName":"c.e.App","message":"up"}`, "info", "c.e.App", "up"},
		{"Serilog", `{"@t":"2026-11-24T03:02:11Z","@mt":"n {x}","@l":"Warning","x":7,"SourceContext":"Shop"}`, "warn", "Shop", "n {x}"},
		{"ECS flat", `{"@timestamp":"2026-11-24T03:02:11Z","log.level":"error","message":"m","log.logger":"db","ecs.version":"1.6.0"}`, "error", "db", "m"},
		{"ECS nested", `{"@timestamp":"2026-11-24T03:02:11Z","log":{"level":"error","logger":"db"},"message":"m"}`, "error", "db", "m"},
		{"Spring Boot", `2026-11-24T03:02:11.123Z  WARN 1 --- [shop] [nio-8080-exec-1] c.e.shop.Cart   : empty cart`, "warn", "c.e.shop.Cart", "empty cart"},
		{"Spring Boot 2", `2026-11-24 03:02:11.123 ERROR 1 --- [main] c.e.App : boom`, "error", "c.e.App", "boom"},
		{"Tomcat", `24-Nov-2026 03:02:11.204 SEVERE [main] org.apache.catalina.startup.Catalina.start failed`, "error", "", "[main] org.apache.catalina.startup.Catalina.start failed"},
		{"PostgreSQL", `2026-11-24 03:02:11.123 UTC [77] FATAL:  password authentication failed for user "shop"`, "fatal", "", `password authentication failed for user "shop"`},
		{"env_logger", `[2026-11-24T03:02:11Z ERROR shop::cart] boom`, "error", "shop::cart", "boom"},
		{"tracing", `2026-11-24T03:02:11.123456Z  INFO shop: listening addr=0.0.0.0:8080`, "info", "", "shop: listening addr=0.0.0.0:8080"},
		{".NET", `info: Microsoft.Hosting.Lifetime[14]`, "info", "", "Microsoft.Hosting.Lifetime[14]"},
		{"zerolog console", "\x1b[90m2026-11-24T03:02:11Z\x1b[0m \x1b[32mINF\x1b[0m up \x1b[36mport=\x1b[0m8080", "info", "", "up port=8080"},
		{"loguru", `2026-11-24 03:02:11.123 | ERROR    | app:main:7 - boom`, "error", "app:main:7", "boom"},
		{"Go", `2026/11/24 03:02:11 listening on :8080`, "", "", "listening on :8080"},
		{"structlog console", `2026-11-24T09:42:32.444236Z [warning  ] stock is low  item=shoe`, "warn", "", "stock is low  item=shoe"},
		{"a sentence", `error opening the file`, "", "", "error opening the file"},
		{"Redis", `1:M 24 Nov 2026 03:02:11.123 * Ready to accept connections`, "", "", "* Ready to accept connections"},
	} {
		rec := read(c.text)
		if rec.Level != c.level || rec.Logger != c.logger || rec.Message != c.message {
			t.Errorf("%s: level %q, logger %q, message %q", c.name, rec.Level, rec.Logger, rec.Message)
		}
		if timed := rec.Time != 0; timed == (c.name == ".NET" || c.name == "a sentence") {
			t.Errorf("%s: time %d", c.name, rec.Time)
		}
	}
}

// TestProxies reads what Envoy and Istio add to a request.
func TestProxies(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Request
	}{
		{"Envoy", `[2026-11-24T03:02:11.123Z] "POST /cart HTTP/1.1" 503 UF 0 91 3 - "10.0.0.9" "curl/8" "5a7c" "shop.example" "10.1.0.7:8080"`,
			Request{Method: "POST", Path: "/cart", Status: 503, UserAgent: "curl/8", Host: "shop.example", ForwardedFor: "10.0.0.9", Upstream: "10.1.0.7:8080", Bytes: -1, RemoteIP: "10.0.0.9"}},
		{"Istio", `[2026-11-24T03:02:11.123Z] "GET / HTTP/2" 200 - via_upstream - "-" 0 12 3 2 "-" "ua x" "id" "shop" "10.1.0.7:8080" inbound|8080|| 127.0.0.6:4 10.1.0.7:8080 10.1.0.4:5 outbound default`,
			Request{Method: "GET", Path: "/", Status: 200, UserAgent: "ua x", Host: "shop", Upstream: "10.1.0.7:8080", Bytes: -1}},
		{"chi", `2026/11/24 03:02:11 "GET http://shop/x HTTP/1.1" from 10.0.0.9:1 - 200 12B in 1ms`,
			Request{Method: "GET", Path: "http://shop/x", Status: 200, RemoteIP: "10.0.0.9", RemotePort: 1, Bytes: -1}},
		{"morgan short", `::1 - GET /k HTTP/1.1 404 12 - 4.5 ms`, Request{Method: "GET", Path: "/k", Status: 404, RemoteIP: "::1", Bytes: -1}},
	} {
		rec := read(c.text)
		got := rec.Request
		if c.name == "Istio" {
			got.RemoteIP, got.RemotePort = "", 0 // which of the addresses is the peer depends on the direction
		}
		if !rec.IsRequest || got != c.want {
			t.Errorf("%s: %v\n%+v, want\n%+v", c.name, rec.IsRequest, got, c.want)
		}
	}
}

// TestServerErrors: the lines of error logs name the peer, and are no requests of their own.
func TestServerErrors(t *testing.T) {
	for _, s := range []string{
		`2026/11/24 03:02:11 [error] 7#7: *1 open() "/srv/x" failed (2: No such file or directory), client: 10.0.0.9, server: _, request: "GET /x HTTP/1.1", host: "shop"`,
		`[Tue Nov 24 03:02:11.123456 2026] [core:error] [pid 7:tid 8] [client 10.0.0.9:555] AH00126: Invalid URI in request GET /x HTTP/1.1`,
	} {
		rec := read(s)
		if rec.IsRequest || rec.Level != "error" || rec.Request.RemoteIP != "10.0.0.9" || rec.Time == 0 {
			t.Errorf("%s: %+v", s, rec)
		}
	}
	if rec := read(`10.0.0.9 - - [24/Nov/2026:03:02:11 +0000] "\x16\x03\x01\x02" 400 157 "-" "-"`); rec.IsRequest || rec.Request.Status != 400 || rec.Request.RemoteIP != "10.0.0.9" {
		t.Errorf("bytes of a scanner: %+v", rec)
	}
}

// traces are logs whose lines belong together, and how many events they are.
var traces = []struct {
	name, text string
	events     int
	stack      string
	exception  string
}{
	{"Java after a line", "2026-11-24 03:02:11.123 ERROR 1 --- [main] c.e.App : boom\njava.lang.IllegalStateException: no cart\n\tat c.e.App.main(App.java:7)\n" +
		"\t... 3 more\nCaused by: java.io.IOException: disk\n\tat c.e.Disk.read(Disk.java:1)\n2026-11-24 03:02:12.000  INFO 1 --- [main] c.e.App : next\n", 2, "java", "java.lang.IllegalStateException: no cart"},
	{"Java alone", "Exception in thread \"main\" java.lang.Error: x\n\tat A.main(A.java:3)\n\tat B.c(B.java:4)\n", 1, "java", "java.lang.Error: x"},
	{"Python", "2026-11-24 03:02:11,123 - app - ERROR - failed\nTraceback (most recent call last):\n  File \"/app.py\", line 3, in f\n    g()\nKeyError: 'x'\n\n" +
		"During handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"/app.py\", line 9, in h\n    k()\nValueError: y\n2026-11-24 03:02:12,000 - app - INFO - up\n",
		2, "python", "ValueError: y"},
	{"Go", "2026/11/24 03:02:11 starting\npanic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/app/main.go:7 +0x1d\nexit status 2\n2026/11/24 03:02:12 starting\n", 3, "go", ""},
	{"Go's http", "2026/11/24 03:02:11 http: panic serving 10.0.0.9:5: boom\ngoroutine 7 [running]:\nnet/http.(*conn).serve.func1(0xc000)\n\t/server.go:1 +0x1\npanic({0x1, 0x2})\n\t/panic.go:2 +0x2\n2026/11/24 03:02:12 next\n", 2, "go", ""},
	{"Node", "/app/server.js:10\n    throw new Error('x');\n    ^\n\nError: x\n    at f (/app/server.js:10:9)\n\nNode.js v18.19.0\nserver up\n", 2, "node", "Error: x"},
	{"Rust", "thread 'main' panicked at src/main.rs:4:5:\nboom\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\nnext line\n", 2, "rust", ""},
	{".NET", "Unhandled exception. System.InvalidOperationException: x\n   at Shop.Main() in /app/P.cs:line 3\n", 1, "java", "System.InvalidOperationException: x"},
	{"indented", "2026-11-24 03:02:11.123 INFO config\n  port: 8080\n  host: x\n2026-11-24 03:02:11.124 INFO up\n", 2, "", ""},
	{"no trace", "one\n  two\nthree\n", 3, "", ""},
}

func TestTraces(t *testing.T) {
	for _, c := range traces {
		events, skips := parsetest.Events(t, Format, []byte(c.text))
		if len(events) != c.events || len(skips) != 0 {
			t.Errorf("%s: %d events, not %d; %v", c.name, len(events), c.events, skips)
			continue
		}
		var all int64
		found := false
		for _, e := range events {
			all += e.Length
			found = found || bytes.Contains(e.Attributes, []byte(`"stack":"`+c.stack+`"`)) && (c.exception == "" || bytes.Contains(e.Attributes, []byte(`"exception":"`+c.exception+`"`)))
		}
		if c.stack != "" && !found {
			t.Errorf("%s: no event has the stack %q with %q", c.name, c.stack, c.exception)
		}
		if lines := int64(strings.Count(c.text, "\n")); all < int64(len(c.text))-lines {
			t.Errorf("%s: %d of %d bytes are cited", c.name, all, len(c.text))
		}
	}
}

// TestTraceBounds: a trace without end becomes several events.
func TestTraceBounds(t *testing.T) {
	text := "panic: x\n" + strings.Repeat("\t/app/main.go:7 +0x1d\n", 5*maxTraceLines)
	events, _ := parsetest.Events(t, Format, []byte(text))
	for _, e := range events {
		if e.Size > maxTraceBytes+1<<10 || len(e.Message) > 4*maxMessage {
			t.Errorf("an event of %d bytes", e.Size)
		}
	}
	if len(events) < 5 {
		t.Errorf("%d events", len(events))
	}
}

// TestFields keeps what has no column of its own, under names that clash with nothing.
func TestFields(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"level":"info","msg":"m","order":17,"stream":"x","deep":{"a":[1,2]},"ok":true,"none":null,"empty":""}`, `{"order":17,"app_stream":"x","deep":{"a":[1,2]},"ok":true}`},
		{`{"level":"info","msg":"m","a":1,"a":2}`, `{"a":1}`},
		{`{"msg":"m","status":"ok","code":7,"message":"other","ctx":{"b":"c"}}`, `{"code":7,"message":"other","ctx.b":"c","status":"ok"}`},
		{`level=warn msg="x y" a=b c="d \"e\""`, `{"a":"b","c":"d \"e\""}`},
		{`I1124 03:02:11.123456       7 a.go:1] "Pod started" pod="ns/p" n=3`, `{"pod":"ns/p","n":"3"}`},
		{"2026-11-24T03:02:11.123Z\tINFO\tshop\tm/a.go:7\tup now\t{\"port\": 80}", `{"port":80}`},
	} {
		var rec Record
		var attr event.Attributes
		NewReader(&timestamp.Resolver{}).Read([]byte(c.text), &rec, &attr)
		if got := string(attr.JSON()); got != c.want {
			t.Errorf("%s:\n%s, want\n%s (%+v)", c.text, got, c.want, rec)
		}
	}
	var attr event.Attributes
	var rec Record
	NewReader(&timestamp.Resolver{}).Read([]byte(`{"msg":"m"`+strings.Repeat(`,"k`+strings.Repeat("x", 50)+`":"`+strings.Repeat("v", 500)+`"`, 100)+`}`), &rec, &attr)
	if attr.Len() > maxRest+1024 {
		t.Errorf("%d bytes of attributes", attr.Len())
	}
}

// TestDamage reads what no logger wrote.
func TestDamage(t *testing.T) {
	for _, s := range []string{"\x00\x00\n", "{\n", `{"msg":"cut`, "\xff\xfe\n", strings.Repeat("{", 5000), "[", "[]", "I1", "a=\"", strings.Repeat("a=", 5000), "\x1b[", "\x1b[31",
		`"GET `, `"GET /x`, `- - [`, `a b c [24/Nov/2026:03:02:11 +0000] "`, strings.Repeat("GET /x ", 3000), strings.Repeat("|", 9000) + " GET /x", "\t\tat x", "Caused by: "} {
		events, _ := parsetest.Events(t, Format, []byte(s))
		if len(events) == 0 {
			t.Errorf("%.20q makes no event", s)
		}
	}
}

func TestSniff(t *testing.T) {
	for s, want := range map[string]parse.Confidence{
		"any text\nat all\n": parse.Fallback, "": parse.No, strings.Repeat("\x00\x01\x02", 100): parse.No,
		`{"level":"info","msg":"x","time":1}` + "\n": parse.Maybe + 10, `{"a":1}` + "\n": parse.Fallback,
	} {
		if got := Format.Sniff([]byte(s)); got != want {
			t.Errorf("%.20q: %d, not %d", s, got, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, c := range traces {
		f.Add([]byte(c.text))
	}
	f.Add([]byte(`{"req":{"method":"GET","url":"/","headers":{"user-agent":["x"]}},"time":1e300,"http.request.method":"GET"}` + "\n"))
	f.Add([]byte("method=GET path=\"/\\x00\" status=200\n| 200 | x | ::1 | GET \"/\"\nINFO: 10.0.0.9:5 - \"GET / HTTP/1.1\" 200 OK\nGET /k 200 4 ms 1.2.3.4:99999 \n"))
	f.Add([]byte("I1124 03:02:11.123456 7 a.go:1] \"m\" k=\"v\"\n2026-11-24T03:02:11Z\tINFO\tx\ty\t{\"a\":1}\n[2026-11-24T03:02:11Z ERROR a] b\n"))
	var files []string
	files = append(files, samples(f)...)
	parsetest.Fuzz(f, Format, files...)
}

func BenchmarkRead(b *testing.B) {
	for _, f := range samples(b) {
		content, err := os.ReadFile(f)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(filepath.Base(f), func(b *testing.B) { parsetest.Bench(b, Format, bytes.Repeat(content, 1+(1<<20)/len(content))) })
	}
}
