package applog

import (
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/internal/timestamp"
)

// maxPairs bounds the pairs of a line.
const maxPairs = 64

// pair is one key=value, and where it goes.
type pair struct {
	key, value string
	slot       slot
}

// mayLogfmt says cheaply whether a line can be logfmt.
func mayLogfmt(s string) bool {
	i := strings.IndexByte(s, '=')
	return i > 0 && (strings.Contains(s, "level=") || strings.Contains(s, "lvl=") || strings.Contains(s, "method=") || strings.Contains(s, "msg="))
}

// logfmt reads key=value pairs that have a level and a message, or a request.
func (r *Reader) logfmt(s string, rec *Record) bool {
	var method, path, lvl, text, at string
	all := r.kv[:0]
	n := r.pairs(s, func(key, value string) {
		p := pair{key, value, slotOf(key)}
		all = append(all, p)
		switch p.slot {
		case slotLevel:
			lvl = value
		case slotMessage:
			text = value
		case slotMethod:
			method = value
		case slotPath:
			path = value
		case slotTime:
			at = value
		}
	})
	r.kv = all
	request := isMethod(strings.ToUpper(method)) && path != ""
	if n < 2 || !request && (lvl == "" || text == "" && at == "") {
		return false
	}
	rec.Form, rec.complete = Logfmt, true
	q := &rec.Request
	for _, p := range all {
		key, value := p.key, p.value
		switch p.slot {
		case slotTime:
			r.pairTime(key, value, rec)
		case slotLevel:
			var ok bool
			if rec.Level, ok = level(value); !ok {
				rec.Level = strings.ToLower(clip(value, 32))
			}
		case slotMessage:
			rec.Message = value
		case slotLogger:
			rec.Logger = value
		case slotCaller:
			rec.Caller = value
		case slotThread:
			rec.Thread = value
		case slotPID:
			rec.PID, _ = strconv.Atoi(value)
		case slotHost:
			rec.Host = value
		case slotUser:
			rec.User = value
		case slotError:
			rec.Error = value
		case slotStack:
			rec.Stack = value
		case slotTrace:
			rec.Trace = value
		case slotRemote:
			if q.RemoteIP == "" && (request || key != "addr") {
				q.remote(value)
			}
			if q.RemoteIP == "" {
				r.rest.text(key, value)
			}
		default:
			if !request || !q.pair(&p) {
				r.rest.text(key, value)
			}
		}
	}
	rec.IsRequest = request
	return true
}

// pair takes a part of a request.
func (q *Request) pair(p *pair) bool {
	value := p.value
	switch p.slot {
	case slotMethod:
		q.Method = strings.ToUpper(value)
	case slotPath:
		q.Path = value
	case slotStatus:
		q.Status = status(value)
		return q.Status != 0
	case slotAgent:
		q.UserAgent = value
	case slotReferer:
		q.Referer = value
	case slotAuthority:
		q.Host = value
	case slotForwarded:
		q.ForwardedFor = value
	case slotUpstream:
		q.Upstream = value
	case slotBytes:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			return false
		}
		q.Bytes = n
	case slotPort:
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || q.RemotePort != 0 {
			return false
		}
		q.RemotePort = int(n)
	default:
		return false
	}
	return true
}

func (r *Reader) pairTime(key, value string, rec *Record) {
	if rec.Time != 0 {
		r.rest.text(key, value)
		return
	}
	at, ok := timestamp.RFC3339(value)
	assumed := timestamp.Mark(0)
	if !ok {
		at, assumed, ok = r.clock.Parse(value)
	}
	if !ok {
		at, ok = timestamp.Epoch(value)
	}
	if !ok {
		r.rest.text(key, value)
		return
	}
	rec.Time, rec.Assumed = at, assumed
}

// slotOf is the slot of a key of logfmt.
func slotOf(key string) slot {
	var buf [maxKey]byte
	s, _ := classify(root, fold(&buf, []byte(key)))
	return s
}

// pairs calls each with the pairs of s and gives how many there are; words without a value are left out.
func (r *Reader) pairs(s string, each func(key, value string)) int {
	n := 0
	for n < maxPairs {
		eq := strings.IndexByte(s, '=')
		if eq < 0 {
			break
		}
		key := s[strings.LastIndexByte(s[:eq], ' ')+1 : eq]
		s = s[eq+1:]
		value, after := s, ""
		if s != "" && s[0] == '"' {
			if q, rest, ok := quoted(s[1:]); ok {
				value, after = q, rest
				if strings.IndexByte(q, '\\') >= 0 {
					if u, err := strconv.Unquote(`"` + q + `"`); err == nil {
						value = u
					}
				}
			} else if end := strings.IndexByte(s, ' '); end >= 0 {
				value, after = s[:end], s[end:]
			}
		} else if end := strings.IndexByte(s, ' '); end >= 0 {
			value, after = s[:end], s[end:]
		}
		if key != "" && len(key) <= 64 && strings.IndexByte(key, '"') < 0 {
			each(key, value)
			n++
		}
		s = after
	}
	return n
}
