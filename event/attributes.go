package event

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// Attributes builds the JSON object of Event.Attributes without reflection. The zero value is an empty object. Keys are written in the
// order in which they are added, each should be added once; empty strings are left out.
type Attributes struct{ b []byte }

// Reset empties the object and keeps its memory.
func (a *Attributes) Reset() { a.b = a.b[:0] }

// Len is the length of the object in bytes, 0 when nothing was added.
func (a *Attributes) Len() int { return len(a.b) }

func (a *Attributes) key(k string) {
	if len(a.b) == 0 {
		a.b = append(a.b, '{')
	} else {
		a.b = append(a.b, ',')
	}
	a.b = appendString(a.b, k)
	a.b = append(a.b, ':')
}

// String adds a text, unless it is empty. Bytes that are no UTF-8 become U+FFFD, as encoding/json does it.
func (a *Attributes) String(k, v string) {
	if v == "" {
		return
	}
	a.key(k)
	a.b = appendString(a.b, v)
}

// Int adds a number.
func (a *Attributes) Int(k string, v int64) {
	a.key(k)
	a.b = strconv.AppendInt(a.b, v, 10)
}

// Bool adds a truth value.
func (a *Attributes) Bool(k string, v bool) {
	a.key(k)
	a.b = strconv.AppendBool(a.b, v)
}

// Raw adds a value that is valid JSON already.
func (a *Attributes) Raw(k string, v []byte) {
	if len(v) == 0 {
		return
	}
	a.key(k)
	a.b = append(a.b, v...)
}

// JSON gives the object, nil when nothing was added. It is valid until the next Reset.
func (a *Attributes) JSON() json.RawMessage {
	if len(a.b) == 0 {
		return nil
	}
	return append(a.b, '}')
}

const hexDigits = "0123456789abcdef"

// appendString writes s as a JSON string.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\t':
				b = append(b, '\\', 't')
			case '\r':
				b = append(b, '\\', 'r')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(b, s[start:i]...)
			b = append(b, "\ufffd"...)
			i++
			start = i
			continue
		}
		i += n
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
