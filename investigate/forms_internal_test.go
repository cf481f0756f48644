package investigate

import "testing"

// FuzzFormOf feeds lines of any kind: a form is short, and does not change when the same line is seen again.
func FuzzFormOf(f *testing.F) {
	for _, s := range []string{`{"time":"2026-11-28T21:44:58.645029620Z","method":"GET","path":"/?item=29","status":200}`, `{"a":{"time": "x"},"ts" :1}`, `{"path":"\"`, "10.0.0.1 - - [24/Nov/2026:03:02:11 +0000] \"GET / HTTP/1.1\" 200 1",
		"2026-11-24 03:02:11,123 INFO x", "03:02:11", "{", `{"`, "::::::::::::", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		a := formOf(line)
		if len(a) > 400 {
			t.Errorf("a form of %d bytes", len(a))
		}
		if a != formOf(line) {
			t.Error("two forms of one line")
		}
	})
}

func TestFormOf(t *testing.T) {
	same := func(a, b string, want bool) {
		t.Helper()
		if got := formOf([]byte(a)) == formOf([]byte(b)); got != want {
			t.Errorf("%q and %q: %q, %q", a, b, formOf([]byte(a)), formOf([]byte(b)))
		}
	}
	const line = `{"time":"2026-11-28T21:44:58.6450Z","method":"GET","path":"/a","status":200}`
	same(line, `{"time":"2027-01-01T00:00:00.1Z","method":"POST","path":"/b?x=\"time\"","status":500}`, true)
	same(line, `{"time":"2026-11-28T21:44:58.6450Z","method":"GET","path":"/a","error":"EOF","status":200,"bytes":3}`, true)
	same(line, `{"time":"2026-11-28T21:44:58Z","method":"GET","path":"/a","status":200}`, false)
	same(line, `{"time": "2026-11-28T21:44:58.6450Z", "method": "GET", "path": "/a", "status": 200}`, false)
	same(line, `{"method":"GET","time":"2026-11-28T21:44:58.6450Z","path":"/a","status":200}`, false)
	const access = `10.0.0.1 - - [24/Nov/2026:03:02:11 +0000] "GET / HTTP/1.1" 200 1`
	same(access, `fd00::7 - admin [25/Nov/2026:13:02:11 +0000] "POST /x HTTP/1.1" 404 17`, true)
	same(access, `10.0.0.1 - - [24/Nov/2026 03:02:11 +0000] "GET / HTTP/1.1" 200 1`, false)
}
