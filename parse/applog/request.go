package applog

import (
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Request is an HTTP request as a line of a log tells it. All but Status and Bytes comes from whoever sent the request.
type Request struct {
	Method, Path string // path with query, as logged
	Status       int    // 0 if the line does not say
	RemoteIP     string // empty if the line does not say, or names a host
	RemotePort   int
	UserAgent    string
	Referer      string
	Host         string // the site that was asked for
	ForwardedFor string // addresses that proxies, or the sender, put before RemoteIP
	Upstream     string // where a proxy sent it
	Bytes        int64  // of the answer, -1 if the line does not say
}

// isMethod knows the methods of HTTP and WebDAV.
func isMethod(s string) bool {
	switch s {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK",
		"SEARCH", "PURGE", "DEBUG":
		return true
	}
	return false
}

// methodAt finds the first word that is a method and is followed by a space and what may be a target; -1 when there is none.
func methodAt(s string) (at, end int) {
	begin := 0
	for i := range len(s) {
		c := s[i]
		if c-'A' < 26 {
			continue
		}
		if c == ' ' && i-begin >= 3 && i-begin <= 8 && isMethod(s[begin:i]) && (begin == 0 || strings.IndexByte(" \t]|:\"'(", s[begin-1]) >= 0) {
			if j := i + strings.IndexFunc(s[i:], func(r rune) bool { return r != ' ' }); j > i && target(s[j:], s[max(0, begin-1)]) {
				return begin, i
			}
		}
		begin = i + 1
	}
	return -1, -1
}

// target reports whether s begins with what can follow a method: in quotes, anything.
func target(s string, before byte) bool {
	return before == '"' && s[0] != '"' || s[0] == '/' || s[0] == '"' && len(s) > 1 && s[1] == '/' || s[0] == '*' ||
		strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// quoted reads up to the closing quote, before which a backslash takes its meaning from the next byte. s is after the opening one.
func quoted(s string) (value, after string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return s[:i], s[i+1:], true
		}
	}
	return "", "", false
}

// requestLine splits `GET /x HTTP/1.1`.
func requestLine(s string) (method, path string, ok bool) {
	method, path, ok = strings.Cut(s, " ")
	if !ok || !isMethod(method) {
		return "", "", false
	}
	if i := strings.LastIndex(path, " HTTP/"); i >= 0 {
		path = path[:i]
	}
	path = strings.Trim(path, " ")
	return method, path, path != ""
}

// number3 reads a status that s begins with and that ends there.
func number3(s string) (int, bool) {
	if len(s) < 3 || len(s) > 3 && s[3]-'0' < 10 {
		return 0, false
	}
	n := status(s[:3])
	return n, n != 0
}

func status(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 100 || n > 999 {
		return 0
	}
	return n
}

func dash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

// word cuts the first word of s.
func word(s string) (w, after string) {
	w, after, _ = strings.Cut(s, " ")
	return w, after
}

// ncsa reads the common and the combined log format, also with a port at the address, a virtual host before it, or further fields
// after it. It takes a request that is none (a scanner's bytes) with its address and status only.
func (r *Reader) ncsa(s string, rec *Record) bool {
	open := strings.IndexByte(s[:min(len(s), 512)], '[')
	if open < 6 || s[open-1] != ' ' {
		return false
	}
	end := strings.IndexByte(s[open:min(len(s), open+48)], ']')
	if end < 10 {
		return false
	}
	end += open
	q := &rec.Request
	after, ok := strings.CutPrefix(s[end+1:], ` "`)
	if !ok {
		return false
	}
	head := s[:open-1]
	user := strings.LastIndexByte(head, ' ')
	if user < 0 {
		return false
	}
	ident := strings.LastIndexByte(head[:user], ' ')
	if ident < 0 {
		return false
	}
	peer := head[strings.LastIndexByte(head[:ident], ' ')+1 : ident]
	line, after, ok := quoted(after)
	if !ok {
		return false
	}
	code, after := word(strings.TrimPrefix(after, " "))
	n, ok := number3(code)
	if !ok {
		return false
	}
	at, assumed, ok := r.clock.Parse(s[open+1 : end])
	if !ok { // Python: 24/Nov/2026 03:02:11
		at, assumed, ok = r.clock.Parse(strings.Replace(s[open+1:end], " ", ":", 1))
	}
	if ok {
		rec.Time, rec.Assumed = at, assumed
	}
	q.remote(peer)
	q.Status = n
	rec.User = dash(head[user+1:])
	var size string
	size, after = word(after)
	if n, err := strconv.ParseInt(size, 10, 64); err == nil && n >= 0 {
		q.Bytes = n
	}
	if strings.HasPrefix(after, `"`) {
		if ref, more, ok := quoted(after[1:]); ok && strings.HasPrefix(more, ` "`) {
			if agent, _, ok := quoted(more[2:]); ok {
				q.Referer, q.UserAgent = dash(ref), dash(agent)
			}
		}
	}
	rec.Form, rec.Message, rec.complete = Access, s, true
	if method, path, ok := requestLine(line); ok {
		q.Method, q.Path, rec.IsRequest = method, path, true
	}
	return true
}

// maxPeer bounds how far from the request its peer's address is looked for.
const maxPeer = 512

// access reads the other forms in which a line logs a request.
func (r *Reader) access(s string, rec *Record) bool {
	at, end := methodAt(s[:min(len(s), 16<<10)])
	if at < 0 {
		return false
	}
	q := &rec.Request
	method := s[at:end]
	before, after := s[:at], strings.TrimLeft(s[end:], " ")
	switch {
	case strings.HasSuffix(before, `"`):
		line, more, ok := quoted(s[at:])
		if !ok {
			return false
		}
		var path string
		if method, path, ok = requestLine(line); !ok {
			return false
		}
		before = before[:len(before)-1]
		q.Path, after = path, strings.TrimLeft(more, " ")
		if n, ok := number3(after); ok {
			q.Status = n
			proxy(q, after)
		} else if from, ok := strings.CutPrefix(after, "from "); ok { // chi: from 10.0.0.9:1 - 200 12B in 1ms
			peer, more := word(from)
			q.remote(peer)
			q.Status, _ = number3(strings.TrimPrefix(more, "- "))
		} else if q.Status = ginStatus(before); q.Status == 0 && !strings.HasSuffix(before, "request: ") {
			return false
		}
	case strings.HasPrefix(after, `"`): // gin
		path, more, ok := quoted(after[1:])
		if !ok {
			return false
		}
		q.Path, after = path, more
		q.Status = ginStatus(before)
	default:
		q.Path, after = word(after)
		q.Path = strings.TrimRight(q.Path, `"'`)
		after = strings.TrimLeft(after, " ")
		if strings.HasPrefix(after, "HTTP/") {
			_, after = word(after)
		}
		if q.Status, _ = number3(strings.TrimLeft(after, " :|->")); q.Status == 0 {
			q.Status = ginStatus(before)
		}
	}
	if q.Path == "" {
		return false
	}
	q.Method = method
	// The address stands before or after the request; what is between, the sender chose.
	for _, part := range [2]string{before[max(0, len(before)-maxPeer):], after[:min(len(after), maxPeer)]} {
		q.findRemote(part)
	}
	if rec.Form == "" {
		rec.Form = Access
	}
	rec.IsRequest, rec.complete = true, true
	return true
}

// ginStatus reads "| 200 |" before a request.
func ginStatus(before string) int {
	for {
		_, after, ok := strings.Cut(before, "|")
		if !ok {
			return 0
		}
		if n, ok := number3(strings.TrimLeft(after, " ")); ok {
			return n
		}
		before = after
	}
}

// proxy reads what Envoy and Istio write after the status: among others five texts in quotes, one after another: X-Forwarded-For, user
// agent, request's id, authority, upstream.
func proxy(q *Request, s string) {
	var texts [8]string
	n, numbers := 0, 0
	for s != "" {
		var w string
		if s[0] == '"' {
			var ok bool
			if w, s, ok = quoted(s[1:]); !ok {
				return
			}
			s = strings.TrimPrefix(s, " ")
			if n < len(texts) {
				texts[n] = w
				n++
			}
			if n == 5 {
				break
			}
			continue
		}
		w, s = word(s)
		if numbers++; numbers > 12 {
			return
		}
		if n > 0 { // Istio's failure of the transport stands alone
			n = 0
		}
		_ = w
	}
	switch n {
	case 5:
		q.ForwardedFor, q.UserAgent, q.Host, q.Upstream = dash(texts[0]), dash(texts[1]), dash(texts[3]), dash(texts[4])
	case 2:
		q.Referer, q.UserAgent = dash(texts[0]), dash(texts[1])
	}
}

// findRemote takes the first address in s as the peer's, unless there is one.
func (q *Request) findRemote(s string) {
	for s != "" && q.RemoteIP == "" {
		i := strings.IndexAny(s, " \t,=\"()|")
		w := s
		if i >= 0 {
			w, s = s[:i], s[i+1:]
		} else {
			s = ""
		}
		if len(w) >= 3 && strings.ContainsAny(w, ".:") && (w[0]-'0' < 10 || w[0] == '[' || w[0] == ':' || (w[0]|0x20)-'a' < 6) {
			q.remote(strings.TrimSuffix(w, ":"))
		}
	}
}

// remote reads an address with or without a port, the first of a chain of proxies; names are left out.
func (q *Request) remote(s string) {
	if i := strings.IndexByte(s, ','); i >= 0 {
		s = s[:i]
	}
	if ip, port := jsonrecords.AddressPort(strings.TrimSpace(s)); ip != "" {
		q.RemoteIP = ip
		if port != 0 {
			q.RemotePort = port
		}
	}
}
