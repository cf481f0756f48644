package containerlog

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// Entry is what an application's own format says of a line.
type Entry struct {
	Time    int64 // nanoseconds UTC by the application's clock; 0 unless it says its zone
	Level   string
	Message string
	Fields  map[string]any // of a JSON line
}

// App reads a line that is a JSON object, or logfmt with a level and a message.
func App(l Line) (Entry, bool) {
	s := strings.TrimSpace(l.Text)
	if strings.HasPrefix(s, "{") {
		f, ok := object(s)
		if !ok {
			return Entry{}, false
		}
		return Entry{Fields: f, Time: fieldTime(f), Level: str(f, "level", "severity", "lvl", "loglevel", "log.level"),
			Message: str(f, "msg", "message", "event", "log")}, true
	}
	if !strings.Contains(s, "level=") && !strings.Contains(s, "lvl=") {
		return Entry{}, false
	}
	kv := logfmt(s)
	e := Entry{Level: first(kv, "level", "lvl"), Message: first(kv, "msg", "message")}
	if t, err := time.Parse(time.RFC3339Nano, first(kv, "time", "ts", "t")); err == nil {
		e.Time = nanos(t)
	}
	return e, e.Level != "" && e.Message != ""
}

const (
	// maxDepth bounds the nesting of a JSON line; deeper ones are no application's log.
	maxDepth = 64
	// maxPairs bounds the pairs of a logfmt line.
	maxPairs = 64
)

func object(s string) (map[string]any, bool) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{', '[':
			if depth++; depth > maxDepth {
				return nil, false
			}
		case '}', ']':
			depth--
		}
	}
	var f map[string]any
	return f, json.Unmarshal([]byte(s), &f) == nil
}

// str is the first of the fields that is a string or a number, or a list that begins with one.
func str(f map[string]any, keys ...string) string {
	for _, k := range keys {
		v := f[k]
		if l, ok := v.([]any); ok && len(l) > 0 {
			v = l[0]
		}
		switch v := v.(type) {
		case string:
			if v != "" {
				return v
			}
		case float64:
			return strconv.FormatFloat(v, 'f', -1, 64)
		}
	}
	return ""
}

func first(kv map[string]string, keys ...string) string {
	for _, k := range keys {
		if kv[k] != "" {
			return kv[k]
		}
	}
	return ""
}

// fieldTime reads the usual fields: RFC 3339, or a number since the epoch, whose unit its size tells.
func fieldTime(f map[string]any) int64 {
	for _, k := range []string{"time", "timestamp", "ts", "@timestamp", "date", "datetime", "t"} {
		switch v := f[k].(type) {
		case string:
			if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
				return nanos(t)
			}
		case float64:
			if n := epoch(v); n != 0 {
				return n
			}
		}
	}
	return 0
}

// epoch takes seconds, milliseconds, microseconds or nanoseconds since the epoch, whichever falls between 1985 and 2116.
func epoch(v float64) int64 {
	for _, unit := range []float64{1e9, 1e6, 1e3, 1} {
		n := v * unit
		if n < 5e17 || n >= math.MaxInt64/2 {
			continue
		}
		whole, part := math.Modf(v)
		// A float64 holds seconds to about a microsecond: what is beyond is noise.
		return int64(whole)*int64(unit) + int64(math.Round(part*unit/1e3))*1e3
	}
	return 0
}

// logfmt reads key=value and key="value with \"quotes\""; words without a value are left out.
func logfmt(s string) map[string]string {
	out := map[string]string{}
	for range maxPairs {
		eq := strings.IndexByte(s, '=')
		if eq < 0 {
			return out
		}
		key := s[strings.LastIndexByte(s[:eq], ' ')+1 : eq]
		s = s[eq+1:]
		value, rest := s, ""
		if q, err := strconv.QuotedPrefix(s); err == nil && s[0] == '"' {
			value, rest = q, s[len(q):]
			if u, err := strconv.Unquote(q); err == nil {
				value = u
			}
		} else if end := strings.IndexByte(s, ' '); end >= 0 {
			value, rest = s[:end], s[end:]
		}
		if key != "" {
			out[key] = value
		}
		s = rest
	}
	return out
}
