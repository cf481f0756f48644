package investigate

import (
	"testing"
	"time"
)

func TestParseRequest(t *testing.T) {
	for _, c := range []struct {
		line string
		want request
	}{
		{`{"level":"info","remote":"10.0.7.31:4022","method":"POST","path":"/avatar?name=x","status":201}`, request{Method: "POST", Path: "/avatar?name=x", Client: "10.0.7.31", Status: 201}},
		{`{"req":{"method":"GET","url":"/a","remoteAddress":"::ffff:10.1.1.1"},"status":200}`, request{Method: "GET", Path: "/a", Client: "10.1.1.1", Status: 200}},
		{`10.1.2.3 - - [23/Nov/2026:03:02:11 +0000] "GET /x?y=1 HTTP/1.1" 404 12`, request{Method: "GET", Path: "/x?y=1", Client: "10.1.2.3", Status: 404}},
		{`10.1.2.3:5000 - - [23/Nov/2026:03:02:11 +0000] "GET /x HTTP/1.1" 200 12`, request{Method: "GET", Path: "/x", Client: "10.1.2.3", Status: 200}},
		{`INFO:     10.0.0.1:5432 - "POST /session HTTP/1.1" 200 OK`, request{Method: "POST", Path: "/session", Client: "10.0.0.1", Status: 200}},
		{`[fd00::7]:80 "PUT /f HTTP/2" 204`, request{Method: "PUT", Path: "/f", Client: "fd00::7", Status: 204}},
	} {
		got, _, ok := newRequestReader(0).read([]byte(c.line))
		got.Port = 0
		if !ok || got != c.want {
			t.Errorf("%s\n gave %+v, want %+v", c.line, got, c.want)
		}
	}
	for _, line := range []string{"", "listening on :8080", `{"method":"x","path":"/"}`, "{", "GET", "TARGET /x"} {
		if got, _, ok := newRequestReader(0).read([]byte(line)); ok {
			t.Errorf("%q is taken for a request: %+v", line, got)
		}
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		path, file string
		want       bool
	}{
		{"/avatar?name=../../usr/lib/conv", "/usr/lib/conv", true},
		{"/avatar?name=..%2F..%2Fusr%2Flib%2Fconv", "/usr/lib/conv", true},
		{"/avatar?name=..%252F..%252Fusr%252Flib%252Fconv", "/usr/lib/conv", true},
		{"/convert", "/usr/lib/conv", false},
		{"/preconv?x", "/usr/lib/conv", false},
		{"/", "/", false},
		{"/upload/shell.py", "/data/shell.py", true},
	} {
		if got := (&request{Path: c.path}).names(c.file); got != c.want {
			t.Errorf("%s names %s: %v", c.path, c.file, got)
		}
	}
}

func TestClaimedTime(t *testing.T) {
	want := time.Date(2026, 11, 23, 3, 2, 11, 0, time.UTC).UnixNano()
	for _, line := range []string{
		`{"time":"2026-11-23T03:02:11Z"}`, `10.1.2.3 - - [23/Nov/2026:03:02:11 +0000] "GET / HTTP/1.1" 200`, `2026/11/23 03:02:11 listening`,
		`2026-11-23 03:02:11,000 INFO`, `10.1.1.1 - - [23/Nov/2026 03:02:11] "GET / HTTP/1.1" 200 -`, `2026-11-23T05:02:11+02:00 x`,
	} {
		if _, got, _ := newRequestReader(0).read([]byte(line)); got != want {
			t.Errorf("%s gave %v", line, time.Unix(0, got).UTC())
		}
	}
	for _, line := range []string{"no time 12:00", "2026-99-99T99:99:99Z"} {
		if _, got, _ := newRequestReader(0).read([]byte(line)); got != 0 {
			t.Errorf("a time where there is none: %s", line)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{`{"method":"GET","path":"/%2e%2e/x","remote":"[::1]:1"}`, `1.1.1.1 - "GET /%zz HTTP/1.1" 200`, "{\"req\":{\"method\":1}}", "\x00GET /\xff", "2026-11-23T03:02:11.123Z POST /x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, _, ok := newRequestReader(0).read([]byte(s))
		if ok && (r.Method == "" || r.Path == "") {
			t.Fatalf("%q gave %+v", s, r)
		}
		r.names("/usr/lib/conv")
		r.traversal()
	})
}
