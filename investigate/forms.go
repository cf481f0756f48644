package investigate

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Who forges a line makes it look like the others, and mostly misses what only the program that writes them knows: how it writes a
// time, how it sets a line of JSON apart, in which order its fields come. A logger keeps to one form, so a request in a
// form that hardly any other line has was likely written by something else. It is no proof: an application may have two loggers. So it
// weighs where candidates are compared, and is noted, and accuses nobody by itself.

const (
	// enoughLines is how many requests it takes to know the form of a log, and mainForm the share that the most frequent form must have.
	enoughLines = 20
	mainForm    = 0.9
	maxForms    = 4096
	maxClients  = 100_000
	// skewed is how far the time that a line states may be off the runtime's stamp, and close what most lines keep to.
	skewed   = int64(10 * time.Second)
	promptly = int64(2 * time.Second)
)

// census counts what is usual in a log.
type census struct {
	forms   map[string]int
	clients map[string]int
	total   int // requests
	timed   int // of them with a stamp and a time of their own
	prompt  int // of those, the two at most promptly apart
	most    int // of the most frequent form
}

func newCensus() census { return census{forms: map[string]int{}, clients: map[string]int{}} }

func (c *census) add(r *request) {
	c.total++
	if n, ok := c.forms[r.form]; ok || len(c.forms) < maxForms {
		c.forms[r.form] = n + 1
		c.most = max(c.most, n+1)
	}
	if n, ok := c.clients[r.Client]; ok || len(c.clients) < maxClients {
		c.clients[r.Client] = n + 1
	}
	if !r.Claimed && r.stated != 0 {
		c.timed++
		if abs(r.stated-r.Time) <= promptly {
			c.prompt++
		}
	}
}

// known reports whether a log is long and uniform enough to tell what is strange in it.
func known(part, of int) bool { return of >= enoughLines && float64(part) >= mainForm*float64(of) }

// strange reports whether a request is in a form that hardly any other has.
func (c *census) strange(r *request) bool {
	return known(c.most, c.total) && c.forms[r.form] <= rare && c.forms[r.form] > 0
}

// offTime reports whether a line states another time than the runtime stamped on it, in a log whose lines don't.
func (c *census) offTime(r *request) bool {
	return !r.Claimed && r.stated != 0 && known(c.prompt, c.timed) && abs(r.stated-r.Time) > skewed
}

// doubtful reports whether something in the log contradicts a line.
func (c *census) doubtful(r *request) bool { return c.strange(r) || c.offTime(r) }

// coreFields are the names under which loggers write what every request has. Fields beside them come and go with the request.
var coreFields = []string{"time", "ts", "timestamp", "@timestamp", "t", "date", "datetime", "method", "verb", "path", "uri", "url", "status", "code", "remote", "client", "remote_addr", "remote_ip", "client_ip", "ip"}

// formOf describes how a line is written, whatever it says: of JSON the order of the core fields and the spaces around them, of any line
// the way it writes its first time of day.
func formOf(line []byte) string {
	line = line[:min(len(line), 4<<10)]
	b := bytes.TrimLeft(line, " \t")
	out := make([]byte, 0, 64)
	if len(b) > 1 && b[0] == '{' {
		out = append(out, 'j')
		out = jsonForm(b, out)
	}
	return string(timeForm(line, append(out, '|')))
}

// jsonForm walks over the strings of an object's first level. It need not be exact: the same writer's lines come out the same.
func jsonForm(b, out []byte) []byte {
	depth := 0
	for i := 0; i < len(b) && len(out) < 200; i++ {
		switch b[i] {
		case '"':
			start := i + 1
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth != 1 || i >= len(b) {
				continue
			}
			end := i
			k := i + 1
			for k < len(b) && b[k] == ' ' {
				k++
			}
			if k >= len(b) || b[k] != ':' {
				continue // a value
			}
			name := bytes.ToLower(b[start:end])
			if n := slices.IndexFunc(coreFields, func(s string) bool { return string(name) == s }); n >= 0 {
				out = strconv.AppendInt(append(out, ' '), int64(n), 10)
				if start > 1 && b[start-2] == ' ' {
					out = append(out, '_')
				}
				if k+1 < len(b) && b[k+1] == ' ' {
					out = append(out, ':')
				}
			}
			i = k
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
	}
	return out
}

// timeForm tells how the first time of day is written: what precedes its fraction of a second, that there is one, and how a zone follows.
func timeForm(b, out []byte) []byte {
	digit := func(i int) bool { return i >= 0 && i < len(b) && b[i] >= '0' && b[i] <= '9' }
	for i := 2; i+6 < len(b); i++ {
		if b[i] != ':' || b[i+3] != ':' || !digit(i-2) || !digit(i-1) || !digit(i+1) || !digit(i+2) || !digit(i+4) || !digit(i+5) {
			continue
		}
		if i > 2 {
			out = append(out, b[i-3]) // T, a space, a colon
		}
		k := i + 6
		if k < len(b) && (b[k] == '.' || b[k] == ',') && digit(k+1) {
			out = append(out, b[k], 'f')
			for k++; digit(k); k++ {
			}
		}
		for end := min(len(b), k+7); k < end; k++ {
			switch c := b[k]; {
			case c == 'Z' || c == '+' || c == '-' || c == ':' || c == ' ':
				out = append(out, c)
			case digit(k):
				out = append(out, '0')
			default:
				return out
			}
		}
		return out
	}
	return append(out, '?')
}

// byChance estimates how many requests of those that would be taken for a cause fall into a stretch of 4 s without any cause: from
// how many there are in all of the log. ok is false where the log is too short to tell.
func (s *logSummary) byChance() (n float64, ok bool) {
	length := s.last - s.began
	if length < 100*2*near {
		return 0, false
	}
	rareOnes := 0
	for _, k := range s.routes {
		if k <= rare {
			rareOnes += k
		}
	}
	return float64(max(rareOnes-1, 0)) * float64(2*near) / float64(cmp.Or(length, 1)), true
}
