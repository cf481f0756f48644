package applog

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sherd-forensics/sherd/internal/timestamp"
)

// read is what one line says.
func read(s string) Record {
	var rec Record
	NewReader(&timestamp.Resolver{}).Read([]byte(s), &rec, nil)
	return rec
}

func req(method, path string, status int, ip string, port int, agent, referer string, bytes int64) Request {
	return Request{Method: method, Path: path, Status: status, RemoteIP: ip, RemotePort: port, UserAgent: agent, Referer: referer, Bytes: bytes}
}

func TestHTTP(t *testing.T) {
	at := time.Date(2026, 11, 24, 3, 2, 11, 0, time.UTC).UnixNano()
	const line = 42
	for _, c := range []struct {
		name, text string
		want       Request
		time       int64
	}{
		{"common", `10.0.7.31 - - [24/Nov/2026:03:02:11 +0000] "POST /avatar?name=../../x HTTP/1.1" 201 12`,
			req("POST", "/avatar?name=../../x", 201, "10.0.7.31", 0, "", "", 12), at},
		{"common with a port", `10.0.7.31:4001 - - [24/Nov/2026:04:02:11 +0100] "GET / HTTP/1.1" 200 -`,
			req("GET", "/", 200, "10.0.7.31", 4001, "", "", -1), at},
		{"combined", `::1 - bob [24/Nov/2026:03:02:11 +0000] "GET /a\"b HTTP/2.0" 404 5 "http://x/" "curl/8 \"q\""`,
			req("GET", `/a\"b`, 404, "::1", 0, `curl/8 \"q\"`, "http://x/", 5), at},
		{"virtual host", `example.org:80 10.1.2.3 - - [24/Nov/2026:03:02:11 +0000] "GET / HTTP/1.1" 200 3 "-" "-"`,
			req("GET", "/", 200, "10.1.2.3", 0, "", "", 3), at},
		{"Python", `10.0.7.31 - - [24/Nov/2026 03:02:11] "GET / HTTP/1.1" 200 -`, req("GET", "/", 200, "10.0.7.31", 0, "", "", -1), line},
		{"JSON", `{"time":"2026-11-24T03:02:11Z","method":"post","path":"/x","status":201,"remote":"[::ffff:10.0.0.9]:55","agent":"a","bytes":7}`,
			req("POST", "/x", 201, "10.0.0.9", 55, "a", "", 7), at},
		{"pino", `{"level":30,"time":1795489331000,"req":{"method":"GET","url":"/y","headers":{"user-agent":"ua"},"remoteAddress":"10.0.0.9","remotePort":5},"res":{"statusCode":200}}`,
			req("GET", "/y", 200, "10.0.0.9", 5, "ua", "", -1), at},
		{"Caddy", `{"ts":1795489331.0,"request":{"remote_ip":"10.0.0.9","remote_port":"77","method":"GET","uri":"/","headers":{"User-Agent":["c"]}},"size":9,"status":200}`,
			req("GET", "/", 200, "10.0.0.9", 77, "c", "", 9), at},
		{"logfmt", `time=2026-11-24T03:02:11Z level=info msg="handled request" method=GET path=/a?b=c status=302 remote=10.0.0.9:5 agent="x y"`,
			req("GET", "/a?b=c", 302, "10.0.0.9", 5, "x y", "", -1), at},
		{"gin", `[GIN] 2026/11/24 - 03:02:11 | 200 |     1.2ms |  10.0.0.9 | POST     "/avatar"`, req("POST", "/avatar", 200, "10.0.0.9", 0, "", "", -1), line},
		{"uvicorn", `INFO:     10.0.0.9:5000 - "GET /z HTTP/1.1" 200 OK`, req("GET", "/z", 200, "10.0.0.9", 5000, "", "", -1), line},
		{"Express", "GET /k 200 4.5 ms - 12", req("GET", "/k", 200, "", 0, "", "", -1), line},
		{"Go", "2026/11/24 03:02:11 10.0.0.9:1 GET /k", req("GET", "/k", 0, "10.0.0.9", 1, "", "", -1), line},
		{"own time", "2026-11-24T03:02:11Z DELETE /k?ip=1.2.3.4 200", req("DELETE", "/k?ip=1.2.3.4", 200, "", 0, "", "", -1), at},
	} {
		rec := read(c.text)
		if d := cmp.Diff(c.want, rec.Request); !rec.IsRequest || d != "" {
			t.Errorf("%s: %v (-want +got):\n%s", c.name, rec.IsRequest, d)
		}
		at := int64(line)
		if rec.Time != 0 && rec.Assumed == 0 {
			at = rec.Time
		}
		if at != c.time {
			t.Errorf("%s: at %d, not %d", c.name, at, c.time)
		}
	}
	for _, s := range []string{"", "GET", "we GET things done", "{}", `{"method":"GET"}`, `{"method":"notify","path":"/x"}`, "method=x path=/", "FORGET /x 200",
		"starting on :8080", strings.Repeat("[", 100000), "{" + strings.Repeat(`"a":[`, 1000)} {
		if rec := read(s); rec.IsRequest {
			t.Errorf("%.40q is a request: %+v", s, rec.Request)
		}
	}
}

func TestApp(t *testing.T) {
	at := time.Date(2026, 11, 24, 3, 2, 11, 500_000_000, time.UTC).UnixNano()
	for _, s := range []string{
		`{"time":"2026-11-24T03:02:11.5Z","level":"warn","msg":"m"}`,
		`{"ts":1795489331.5,"level":"warn","message":"m"}`,
		`{"timestamp":1795489331500,"severity":"warn","message":"m"}`,
		`time=2026-11-24T03:02:11.5Z level=warn msg=m`,
		`time="2026-11-24T03:02:11.5Z" level=warn msg="m" other`,
	} {
		e := read(s)
		if e.Time != at || e.Level != "warn" || e.Message != "m" {
			t.Errorf("%s: %+v", s, e)
		}
	}
	for _, s := range []string{"plain", "{", "level= msg=", `{"a":` + strings.Repeat("[", 100)} {
		if e := read(s); e.Level != "" || e.Time != 0 {
			t.Errorf("%q: %+v", s, e)
		}
	}
}
