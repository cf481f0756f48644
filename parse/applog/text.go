package applog

import (
	"strconv"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/internal/timestamp"
)

// text reads a line that is no JSON. s has neither blanks at its end nor colours.
func (r *Reader) text(s string, rec *Record) {
	if s == "" || r.klog(s, rec) || r.ncsa(s, rec) {
		return
	}
	if mayLogfmt(s) && r.logfmt(s, rec) {
		return
	}
	if julHeader(s, rec) {
		return
	}
	body := r.header(s, rec)
	r.level(body, rec)
	if rec.Form != "" && rec.Message == "" {
		rec.Message = body
	}
	if r.serverError(rec) {
		return
	}
	if r.access(s, rec) {
		rec.Message = s
	}
}

// klog reads "I1124 03:02:11.123456       7 server.go:12] text", in which the text may be "message in quotes" key="value".
func (r *Reader) klog(s string, rec *Record) bool {
	if len(s) < 30 || s[5] != ' ' || s[8] != ':' || s[14] != '.' {
		return false
	}
	for _, i := range [4]int{1, 2, 3, 4} {
		if s[i]-'0' >= 10 {
			return false
		}
	}
	close := strings.IndexByte(s[:min(len(s), 256)], ']')
	if close < 24 {
		return false
	}
	switch s[0] {
	case 'I':
		rec.Level = "info"
	case 'W':
		rec.Level = "warn"
	case 'E':
		rec.Level = "error"
	case 'F':
		rec.Level = "fatal"
	default:
		return false
	}
	// It has neither a year nor a zone: the same rules as for syslog, by way of its form.
	month := int(s[1]-'0')*10 + int(s[2]-'0')
	if month < 1 || month > 12 {
		return false
	}
	const months = "JanFebMarAprMayJunJulAugSepOctNovDec"
	at, assumed, ok := r.clock.Parse(months[month*3-3:month*3] + " " + s[3:21])
	if !ok {
		return false
	}
	rec.Time, rec.Assumed = at, assumed
	pid, caller := word(strings.TrimLeft(s[21:close], " "))
	rec.PID, _ = strconv.Atoi(pid)
	rec.Caller = caller
	body := strings.TrimPrefix(s[close+1:], " ")
	rec.Form, rec.Message = Klog, body
	if strings.HasPrefix(body, `"`) { // structured: InfoS
		if q, err := strconv.QuotedPrefix(body); err == nil {
			if m, err := strconv.Unquote(q); err == nil {
				rec.Message = m
				r.pairs(body[len(q):], func(key, value string) {
					switch key {
					case "err":
						rec.Error = value
						return
					case "pod", "pods":
						rec.pod(value)
					case "containerName":
						rec.Container = value
					}
					r.rest.text(key, value)
				})
			}
		}
	}
	r.access(body, rec) // of an API server; Form stays
	return true
}

// pod takes the pod that a structured line of Kubernetes is about: "namespace/name", or a list of one such.
func (rec *Record) pod(value string) {
	value = strings.TrimSuffix(strings.TrimPrefix(value, `["`), `"]`)
	namespace, name, ok := strings.Cut(value, "/")
	if ok && isName(namespace) && isName(name) {
		rec.Namespace, rec.Pod = namespace, name
	}
}

// isName tells a name of Kubernetes: a DNS subdomain of RFC 1123.
func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c-'a' >= 26 && c-'0' >= 10 && c != '-' && c != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 253
}

// header takes the time that s begins with, and what in brackets or between tabs goes with it, and gives what follows.
func (r *Reader) header(s string, rec *Record) string {
	at := 0
	// Redis: 1:M 24 Nov 2026 03:02:11.123 * text
	if c := strings.IndexByte(s[:min(len(s), 9)], ':'); c > 0 && len(s) > c+3 && s[c+2] == ' ' && s[c+1]-'A' < 26 && s[0]-'0' < 10 {
		at = c + 3
	}
	if len(s) <= at || s[at] != '[' && s[at]-'0' >= 10 && !capital(s[at]) {
		return s
	}
	t, assumed, n, ok := r.clock.Prefix(s[at:])
	if !ok && s[at] == '[' { // Rust's env_logger: [2026-11-24T03:02:11Z INFO  crate] text
		if t, assumed, n, ok = r.clock.Prefix(s[at+1:]); ok {
			if end := strings.IndexByte(s[:min(len(s), 256)], ']'); end > at+1+n {
				rec.Time, rec.Assumed, rec.Form = t, assumed, Text
				w, module := word(strings.TrimLeft(s[at+1+n:end], " "))
				if l, ok := level(w); ok {
					rec.Level, rec.Logger = l, strings.Trim(module, " ")
					rec.Message = strings.TrimLeft(s[end+1:], " ")
				}
				return strings.TrimLeft(s[end+1:], " ")
			}
			ok = false
		} else if end := strings.Index(s[:min(len(s), 40)], "] "); end > 1 { // [GIN] 2026/11/24 - 03:02:11 | …
			if t, assumed, n, ok = r.clock.Prefix(s[end+2:]); ok && assumed&timestamp.Date == 0 {
				rec.Logger, at = s[1:end], end+2
			}
		}
	}
	if !ok || assumed&timestamp.Date != 0 && n < 8 {
		return s
	}
	rec.Time, rec.Assumed, rec.Form = t, assumed, Text
	if at > 0 && rec.Logger == "" {
		rec.PID, _ = strconv.Atoi(s[:at-3])
	}
	body := s[at+n:]
	if strings.HasPrefix(body, "\t") && r.console(body[1:], rec) {
		return rec.Message
	}
	return strings.TrimLeft(body, " \t,|")
}

// julHeader reads the first of the two lines of java.util.logging: "Nov 24, 2026 3:02:11 AM shop.Cart add".
func julHeader(s string, rec *Record) bool {
	if len(s) < 24 || s[3] != ' ' || s[5] != ',' && s[6] != ',' || !capital(s[0]) {
		return false
	}
	const layout = "Jan 2, 2006 3:04:05 PM"
	n := strings.Index(s[:min(len(s), 28)], "M ") // of AM or PM
	if n < 0 {
		return false
	}
	t, err := time.Parse(layout, s[:n+1])
	if err != nil || t.Year() < 1678 || t.Year() > 2261 {
		return false
	}
	rec.Form, rec.heading, rec.Message, rec.Logger = Text, true, s, strings.TrimSpace(s[n+2:])
	rec.Time, rec.Assumed = t.UnixNano(), timestamp.Zone
	return true
}

func capital(c byte) bool { return c-'A' < 26 }

// console reads what zap's console encoder writes: level, logger, caller, text and fields between tabs.
func (r *Reader) console(s string, rec *Record) bool {
	w, after, ok := strings.Cut(s, "\t")
	l, isLevel := level(w)
	if !ok || !isLevel {
		return false
	}
	rec.Level = l
	parts := strings.SplitN(after, "\t", 4)
	for len(parts) > 1 {
		p := parts[0]
		if strings.Contains(p, ".go:") {
			rec.Caller, parts = p, parts[1:]
			break
		}
		if strings.ContainsAny(p, " {") || len(parts) == 2 && strings.HasPrefix(parts[1], "{") {
			break
		}
		rec.Logger, parts = p, parts[1:]
	}
	rec.Message = strings.Join(parts, "\t")
	if n := len(parts); n > 1 && strings.HasPrefix(parts[n-1], "{") {
		if o, ok := r.tree.Parse([]byte(parts[n-1])); ok {
			rec.Message = strings.Join(parts[:n-1], "\t")
			for name, v := range o.Each {
				if name == "error" {
					rec.Error = v.Text()
					continue
				}
				r.rest.node(name, v)
			}
		}
	}
	return true
}

// maxHead bounds the words in which a level is looked for.
const maxHead = 6

// level looks for a level among the first words of s, which follows a time if there is one, and takes what stands around it in the
// common layouts.
func (r *Reader) level(s string, rec *Record) {
	if rec.Level != "" {
		return
	}
	timed := rec.Form != ""
	// "LEVEL:name:text" of Python, "INFO:     text" of Uvicorn, "info: Category[0]" of .NET.
	if c := strings.IndexByte(s[:min(len(s), 12)], ':'); c > 2 {
		l, ok := levelWord(s[:c])
		if small, isSmall := level(s[:c]); !ok && isSmall && strings.HasSuffix(s, "]") {
			l, ok = small, true
		}
		if ok {
			rec.Level, rec.Form = l, Text
			after := s[c+1:]
			if name, text, ok := strings.Cut(after, ":"); ok && !timed && name != "" && !strings.ContainsAny(name, " /") {
				rec.Logger, after = name, text
			}
			rec.Message = strings.TrimLeft(after, " ")
			return
		}
	}
	rest := s
	var words [maxHead]string
	for i := range maxHead {
		var w string
		rest = strings.TrimLeft(rest, " ")
		w, rest = word(rest)
		if w == "" || len(w) > 64 {
			return
		}
		if w[0] == '[' && !strings.HasSuffix(w, "]") { // structlog: [warning  ] text
			if inside, ok := strings.CutPrefix(strings.TrimLeft(rest, " "), "] "); ok {
				w, rest = w+"]", inside
			}
		}
		words[i] = w
		bare := strings.Trim(w, "[]<>|:-()")
		// Apache: [core:error]
		if _, of, ok := strings.Cut(bare, ":"); ok && w[0] == '[' {
			bare = of
		}
		l, ok := levelWord(bare)
		if small, isSmall := level(bare); !ok && isSmall && len(bare) > 2 && (w[0] == '[' || w[0] == '<' || i > 0 && words[i-1] == "|") {
			l, ok = small, true
		}
		if !ok {
			if i == 0 && !timed && w[0] != '[' { // a line of text that has a level further in is a sentence
				return
			}
			continue
		}
		if !timed && w == bare && i > 0 && words[0][0] != '[' {
			return
		}
		rec.Level, rec.Form = l, Text
		r.layout(words[:i], strings.TrimLeft(rest, " "), rec)
		return
	}
}

// layout takes logger, thread and process from the words before a level and the text after it.
func (r *Reader) layout(before []string, after string, rec *Record) {
	after = strings.TrimPrefix(after, "| ")
	rec.Message = after
	// Spring Boot: LEVEL pid --- [app] [thread] logger : text
	if pid, more, ok := strings.Cut(after, " --- "); ok && len(pid) < 10 {
		if n, err := strconv.Atoi(pid); err == nil {
			rec.PID = n
			if head, text, ok := strings.Cut(more, " : "); ok && len(head) < 256 {
				open, end := strings.LastIndexByte(head, '['), strings.LastIndexByte(head, ']')
				if open >= 0 && end > open {
					rec.Thread = strings.Trim(head[open+1:end], " ")
				}
				rec.Logger, rec.Message = strings.Trim(head[end+1:], " "), text
			}
			return
		}
	}
	for _, w := range before {
		if len(w) < 3 || w[0] != '[' || w[len(w)-1] != ']' {
			continue
		}
		in := w[1 : len(w)-1]
		if n, err := strconv.Atoi(in); err == nil { // Gunicorn, PostgreSQL
			rec.PID = n
		} else {
			rec.Thread = in
		}
	}
	// Python: - name - LEVEL - text
	if n := len(before); n >= 3 && before[n-1] == "-" && before[n-3] == "-" {
		rec.Logger = before[n-2]
		rec.Message = strings.TrimPrefix(after, "- ")
		return
	}
	// Logback and Log4j: [thread] LEVEL logger - text
	if name, text, ok := strings.Cut(after, " - "); ok && len(name) < 128 && !strings.Contains(name, " ") {
		rec.Logger, rec.Message = name, text
	}
	rec.Message = strings.TrimPrefix(rec.Message, "- ")
}

// serverError reads what error logs of nginx and Apache say of the request: its peer, its line. It is no request of its own, which
// the access log has.
func (r *Reader) serverError(rec *Record) bool {
	if rec.Level == "" {
		return false
	}
	m := rec.Message
	if peer, ok := between(m, ", client: ", ","); ok {
		rec.Request.remote(peer)
		if i := strings.Index(m, `, request: "`); i >= 0 {
			if line, _, ok := quoted(m[i+len(`, request: "`):]); ok {
				rec.Request.Method, rec.Request.Path, _ = requestLine(line)
			}
		}
		return true
	}
	if peer, ok := between(m, "[client ", "]"); ok {
		rec.Request.remote(peer)
		return true
	}
	return false
}

// between is what stands in s after a text and before another one.
func between(s, from, to string) (string, bool) {
	i := strings.Index(s, from)
	if i < 0 {
		return "", false
	}
	s = s[i+len(from):]
	j := strings.Index(s, to)
	if j < 0 || j > 256 {
		return "", false
	}
	return s[:j], true
}
