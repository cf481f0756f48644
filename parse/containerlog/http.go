package containerlog

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Request is an HTTP request as a line of a log tells it. All but Status and Bytes comes from whoever sent the request.
type Request struct {
	Method, Path string // path with query, as logged
	Status       int    // 0 if the line does not say
	RemoteIP     string // empty if the line does not say, or names a host
	RemotePort   int
	UserAgent    string
	Referer      string
	Bytes        int64 // of the answer, -1 if the line does not say
	// Time is the application's, in nanoseconds UTC, where it says its zone; otherwise the line's.
	Time int64
}

const methods = `GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PROPFIND|MKCOL|COPY|MOVE|LOCK|UNLOCK|SEARCH|PURGE|DEBUG`

var (
	isMethod = regexp.MustCompile(`^(?:` + methods + `)$`)
	// ncsa is the common or combined log format, also with a port at the address, or a virtual host before it.
	ncsa = regexp.MustCompile(`^(?:\S+ )??(\S+) \S+ \S+ \[([^\]]{10,40})\] "(` + methods + `) ((?:[^"\\]|\\.)+?)(?: HTTP/[0-9.]+)?" (\d{3}) (\d+|-)(?: "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)")?`)
	// gin is `[GIN] 2026/11/24 - 03:02:11 | 200 | 1.2ms | 10.0.0.1 | POST "/avatar"`.
	gin = regexp.MustCompile(`\| *(\d{3}) *\| *[^|]*\| *([0-9a-fA-F.:]+) *\| *(` + methods + `) +"?([^"\s]+)`)
	// quoted is `10.0.0.1:5000 - "GET / HTTP/1.1" 200`, of uvicorn, Python's http.server and others.
	quoted = regexp.MustCompile(`"(` + methods + `) ((?:[^"\\]|\\.)+?)(?: HTTP/[0-9.]+)?" (\d{3})(?: |$)`)
	// bare is `GET /path 200 4.5 ms`, of Express and hand-made loggers; the status may be missing.
	bare = regexp.MustCompile(`(?:^|[\s\]|:])(` + methods + `) (/\S*|https?://\S+)(?: HTTP/[0-9.]+)?(?:[ :|-]+(\d{3})(?:[^0-9]|$))?`)
)

const (
	maxRequestLine = 64 << 10
	// maxPattern bounds what patterns are tried on: no framework logs a longer line.
	maxPattern = 16 << 10
)

// HTTP recognises a line that logs a request: JSON with method and path, NCSA common and combined, and the forms of common
// frameworks. Whoever can write to the container's streams, or choose a path that is logged unescaped, can make
// such lines.
func HTTP(l Line) (Request, bool) {
	s := strings.TrimSpace(l.Text[:min(len(l.Text), maxRequestLine)])
	q, ok := Request{Bytes: -1}, false
	switch {
	case strings.HasPrefix(s, "{"):
		ok = jsonRequest(&q, s)
	case strings.Contains(s, "method="):
		ok = logfmtRequest(&q, s)
	case mayRequest(s):
		ok = textRequest(&q, s)
	}
	if !ok {
		return Request{}, false
	}
	if q.Time == 0 {
		q.Time = l.Time
	}
	return q, true
}

// mayRequest reports whether a word in s is a method: most lines are no requests, and patterns are slow.
func mayRequest(s string) bool {
	begin := 0
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			continue
		}
		if c == ' ' && i-begin >= 3 && i-begin <= 10 && isMethod.MatchString(s[begin:i]) {
			return true
		}
		begin = i + 1
	}
	return false
}

// The names that loggers give to the same things.
var (
	methodKeys  = []string{"method", "http_method", "requestMethod", "request_method", "verb", "http.method", "http.request.method"}
	pathKeys    = []string{"path", "uri", "url", "request_uri", "requestUrl", "http.target", "url.path", "request_path", "target"}
	statusKeys  = []string{"status", "status_code", "statusCode", "code", "http.status_code", "http.response.status_code", "response_code"}
	remoteKeys  = []string{"remote", "remote_ip", "remote_addr", "remoteAddr", "remoteAddress", "client_ip", "clientIp", "client", "ip", "remoteIp", "source_ip", "peer", "addr", "fwd"}
	agentKeys   = []string{"user_agent", "userAgent", "agent", "user-agent", "User-Agent", "http_user_agent", "ua"}
	refererKeys = []string{"referer", "referrer", "Referer", "http_referer"}
	bytesKeys   = []string{"bytes", "size", "bytes_sent", "body_bytes_sent", "response_size", "responseSize", "bytes_out"}
	portKeys    = []string{"remote_port", "remotePort", "client_port"}
	nested      = []string{"request", "req", "http", "httpRequest", "http_request", "res", "response", "headers", "context", "fields"}
)

// fill takes the parts of a request from named fields.
func (q *Request) fill(get func(keys ...string) string) bool {
	q.Method, q.Path = strings.ToUpper(get(methodKeys...)), get(pathKeys...)
	if !isMethod.MatchString(q.Method) || q.Path == "" {
		return false
	}
	q.Status = status(get(statusKeys...))
	q.remote(get(remoteKeys...))
	if n, err := strconv.ParseUint(get(portKeys...), 10, 16); err == nil && q.RemotePort == 0 {
		q.RemotePort = int(n)
	}
	q.UserAgent, q.Referer = get(agentKeys...), get(refererKeys...)
	if n, err := strconv.ParseInt(get(bytesKeys...), 10, 64); err == nil && n >= 0 {
		q.Bytes = n
	}
	return true
}

func jsonRequest(q *Request, s string) bool {
	f, ok := object(s)
	if !ok {
		return false
	}
	all := []map[string]any{f}
	for _, k := range nested {
		if m, ok := f[k].(map[string]any); ok {
			all = append(all, m)
			if h, ok := m["headers"].(map[string]any); ok {
				all = append(all, h)
			}
		}
	}
	q.Time = fieldTime(f)
	return q.fill(func(keys ...string) string {
		for _, m := range all {
			if v := str(m, keys...); v != "" {
				return v
			}
		}
		return ""
	})
}

func logfmtRequest(q *Request, s string) bool {
	kv := logfmt(s)
	if t, err := time.Parse(time.RFC3339Nano, first(kv, "time", "ts", "t")); err == nil {
		q.Time = nanos(t)
	}
	return q.fill(func(keys ...string) string { return first(kv, keys...) })
}

func textRequest(q *Request, s string) bool {
	s = s[:min(len(s), maxPattern)]
	if m := ncsa.FindStringSubmatch(s); m != nil {
		q.remote(m[1])
		q.Method, q.Path, q.Status = m[3], m[4], status(m[5])
		if n, err := strconv.ParseInt(m[6], 10, 64); err == nil {
			q.Bytes = n
		}
		q.Referer, q.UserAgent = dash(m[7]), dash(m[8])
		if t, err := time.Parse("02/Jan/2006:15:04:05 -0700", m[2]); err == nil {
			q.Time = nanos(t)
		}
		return true
	}
	if m := gin.FindStringSubmatch(s); m != nil {
		q.Method, q.Path, q.Status = m[3], m[4], status(m[1])
		q.remote(m[2])
		return true
	}
	m := quoted.FindStringSubmatchIndex(s)
	if m == nil {
		m = bare.FindStringSubmatchIndex(s)
	}
	if m == nil {
		return false
	}
	q.Method, q.Path = s[m[2]:m[3]], s[m[4]:m[5]]
	if m[6] >= 0 {
		q.Status = status(s[m[6]:m[7]])
	}
	// The address stands before or after the request; what is between, the sender chose.
	for _, part := range []string{s[:m[2]], s[m[1]:]} {
		for _, word := range strings.FieldsFunc(part, func(r rune) bool { return strings.ContainsRune(` \t,="()`, r) }) {
			if q.RemoteIP == "" {
				q.remote(strings.TrimSuffix(word, ":"))
			}
		}
	}
	q.Time = ownTime(s)
	return true
}

func dash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

func status(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 100 || n > 999 {
		return 0
	}
	return n
}

// remote reads an address with or without a port, the first of a chain of proxies; names are left out.
func (q *Request) remote(s string) {
	s, _, _ = strings.Cut(s, ",")
	s = strings.TrimSpace(s)
	if ap, err := netip.ParseAddrPort(s); err == nil {
		q.RemoteIP, q.RemotePort = ap.Addr().Unmap().String(), int(ap.Port())
		return
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		q.RemoteIP = a.Unmap().String()
	}
}
