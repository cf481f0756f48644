// Package applog reads what applications write into their logs, line by line: wherever a line comes from, a container's output as its
// runtime kept it or a file of text, it is understood in the same way.
//
// It knows
//
//   - JSON, by the field names of zap, zerolog, logrus, log/slog, pino, winston, bunyan, structlog, python-json-logger, logstash,
//     the Elastic Common Schema (https://www.elastic.co/guide/en/ecs/current/ecs-field-reference.html), Google Cloud
//     (https://cloud.google.com/logging/docs/structured-logging), Log4j's JSON layouts, Serilog's compact form, Caddy, Traefik, Envoy
//   - klog (https://github.com/kubernetes/klog), of Kubernetes' own programs
//   - logfmt (https://brandur.org/logfmt): logrus, log/slog, go-kit, Traefik, Grafana
//   - access logs: common and combined of nginx, Apache, Gunicorn, Traefik, Werkzeug; Envoy's and Istio's default; gin, chi, Express with
//     morgan, Uvicorn (https://httpd.apache.org/docs/current/logs.html#accesslog,
//     https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage)
//   - error logs of nginx and Apache, and lines that begin with a time or a level: Go, Python, Logback, Log4j, Spring Boot, Tomcat, Rust's
//     env_logger and tracing, zap's and zerolog's console, PostgreSQL, Redis, .NET
//   - stack traces of Java, .NET, Python, Go, Node and Rust, whose lines are joined to one event
//
// What a line proves: that some process could write it to that log. It does not prove that it is true: whoever controls the
// application, or chooses a text that is logged unescaped, can make lines of any form. Times inside the text are by the writer's
// clock; where a runtime stamped the line, the runtime's time is the event's, and a writer's time that is more than two seconds away
// from it is kept beside it (app_time).
package applog

import (
	"bytes"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/timestamp"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Forms, as Record.Form names them.
const (
	JSON   = "json"
	Klog   = "klog"
	Logfmt = "logfmt"
	Access = "access" // one request a line
	Text   = "text"   // a time or a level, and text
)

const (
	maxLine  = 256 << 10 // bytes of a line that are looked at
	maxValue = 1 << 10   // bytes of one field that are kept
	maxRest  = 4 << 10   // bytes of all other fields together
	maxNames = 4096      // names of fields that are kept for comparing
)

// Record is what a line says in its own form. All of it is the writer's word.
type Record struct {
	// Form is one of the constants, empty when the line has none that is known: then Message is the line.
	Form string
	// Time is in nanoseconds UTC, 0 when the line has none; Assumed says what of it the line leaves out.
	Time    int64
	Assumed timestamp.Mark
	// Level is in lower case: trace, debug, info, notice, warn, error, critical, fatal, panic, or what else the writer says.
	Level   string
	Message string
	Logger  string // the part of the program that wrote the line
	Caller  string // source file and line
	Thread  string
	PID     int // as the writer sees itself
	User    string
	Error   string
	Stack   string // a stack trace inside the record
	Trace   string // an identifier that joins lines of one request
	Host    string
	// Pod, Namespace and Container are whom a line of the kubelet or of another part of Kubernetes is about.
	Pod, Namespace, Container string
	// Request is of a line that logs one; its Method is empty otherwise. An error log's line about a request has a Request with no Status
	// and IsRequest false.
	Request   Request
	IsRequest bool
	// complete is true of a line that no further lines belong to, heading of one that says the time of the next.
	complete, heading bool
}

// Reader reads lines. It is for one goroutine.
type Reader struct {
	clock *timestamp.Resolver
	tree  jsonrecords.Tree
	slots [slotCount]found
	names map[string]string
	kv    []pair // of the line of logfmt
	rest  *rest  // nil when nobody wants the other fields
	kept  rest
}

// NewReader reads lines whose times are resolved by clock.
func NewReader(clock *timestamp.Resolver) *Reader {
	return &Reader{clock: clock, names: map[string]string{}}
}

// Read fills rec from a line without its line feed. Fields that have no place in rec are added to attr under their own names, unless
// attr is nil: at most 4 KiB, and those whose names this package uses itself with the prefix app_.
func (r *Reader) Read(line []byte, rec *Record, attr *event.Attributes) {
	*rec = Record{Request: Request{Bytes: -1}}
	line = line[:min(len(line), maxLine)]
	r.rest = nil
	if attr != nil {
		r.kept.attr, r.kept.left, r.kept.count = attr, maxRest, 0
		r.rest = &r.kept
	}
	b := bytes.TrimLeft(line, " \t")
	if len(b) > 1 && b[0] == '{' {
		if r.json(b, rec) {
			rec.Form, rec.complete = JSON, true
			return
		}
	}
	s := string(bytes.TrimRight(line, " \t\r\n"))
	if strings.IndexByte(s, 0x1b) >= 0 {
		s = withoutColours(s)
	}
	r.text(s, rec)
	if rec.Form == "" {
		rec.Message = s
	}
}

// withoutColours takes out the sequences that set colours, which loggers write even where no terminal is.
func withoutColours(s string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, "\x1b[")
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		j := i + 2
		for j < len(s) && (s[j] >= '0' && s[j] <= '9' || s[j] == ';') {
			j++
		}
		if j == len(s) || s[j] != 'm' {
			b.WriteString(s[:i+2]) // anything else an attacker may have reason to write
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		s = s[j+1:]
	}
}

// rest collects the fields that have no place of their own.
type rest struct {
	attr  *event.Attributes
	left  int
	names [64]string
	count int
}

// own are the attributes that this package and the readers of container logs set themselves.
func own(name string) bool {
	switch name {
	case "stream", "format", "form", "level", "logger", "caller", "thread", "exception", "stack", "lines", "error", "trace_id", "host", "app_time",
		"time_assumed", "cut", "compression", "http_method", "http_path", "http_status", "http_user_agent", "http_referer", "http_bytes", "http_host",
		"http_forwarded_for", "upstream", "app_pid", "stack_trace":
		return true
	}
	return false
}

// take reports whether a field fits, and under which name.
func (r *rest) take(name string, size int) (string, bool) {
	if r == nil || name == "" || size == 0 {
		return "", false
	}
	if len(name) > 64 {
		name = name[:64]
	}
	if own(name) {
		name = "app_" + name
	}
	if r.count == len(r.names) || size+len(name) > r.left {
		return "", false
	}
	for _, n := range r.names[:r.count] {
		if n == name {
			return "", false
		}
	}
	r.names[r.count] = name
	r.count++
	r.left -= size + len(name)
	return name, true
}

func (r *rest) text(name, value string) {
	if len(value) > maxValue {
		value = value[:maxValue] + "…"
	}
	if name, ok := r.take(name, len(value)); ok {
		r.attr.String(name, value)
	}
}

func (r *rest) node(name string, v jsonrecords.Node) {
	if r == nil {
		return
	}
	switch v.Type() {
	case jsonrecords.Missing, jsonrecords.Null:
	case jsonrecords.String:
		r.text(name, v.Text())
	case jsonrecords.Object, jsonrecords.Array:
		if v.Len() == 0 {
			return
		}
		b := v.Append(nil, maxValue)
		if name, ok := r.take(name, len(b)); ok {
			r.attr.Raw(name, b)
		}
	default:
		if b := v.Raw(); len(b) <= 64 {
			if name, ok := r.take(name, len(b)); ok {
				r.attr.Raw(name, b)
			}
		}
	}
}
