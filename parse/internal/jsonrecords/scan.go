package jsonrecords

import "slices"

// What scan found.
type result int

const (
	complete result = iota // the object is closed
	entered                // pos is after the bracket of an array of records
	damaged                // or the content ended
)

// What may come next.
type state int

const (
	key0   state = iota // a name or }
	key                 // a name
	colon               // :
	value               // a value
	value0              // a value or ]
	after               // , or a closing bracket
)

// scan reads on in the innermost of s.stack until the object is closed. With look it stops in an array of records.
func (s *scanner) scan(st state, look bool) result {
	limit := s.limit()
	look = look && len(s.o.Members) > 0
	records := false // the name that was read is of an array of records
	for s.more() {
		if s.keep >= 0 && s.pos-s.keep > limit {
			s.keep = -1
		}
		c := s.buf[s.pos]
		if c == ' ' || c == '\n' || c == '\r' || c == '\t' {
			s.pos++
			continue
		}
		switch st {
		case key0, key:
			if c == '}' && st == key0 {
				s.pos++
				if s.pop() {
					return complete
				}
				st = after
				continue
			}
			if c != '"' {
				return damaged
			}
			named, ok := s.text(look && len(s.stack) == 1, limit)
			if !ok {
				return damaged
			}
			records = named
			st = colon
		case colon:
			if c != ':' {
				return damaged
			}
			s.pos++
			st = value
		case value, value0:
			next, ok := s.value(c, st, limit)
			if !ok {
				return damaged
			}
			if c == '[' && records && len(s.stack) == 2 {
				s.wrapper = true
				return entered
			}
			records, st = false, next
		case after:
			top := s.stack[len(s.stack)-1]
			switch {
			case c == ',' && top == '{':
				st = key
			case c == ',':
				st = value
			case c == top+2: // } is { + 2, ] is [ + 2
				s.pos++
				if s.pop() {
					return complete
				}
				continue
			default:
				return damaged
			}
			s.pos++
		}
	}
	return damaged
}

// pop closes the innermost bracket; true when it was the last.
func (s *scanner) pop() bool {
	s.stack = s.stack[:len(s.stack)-1]
	return len(s.stack) == 0
}

// value reads a value that begins with c, or only its bracket.
func (s *scanner) value(c byte, st state, limit int) (state, bool) {
	switch {
	case c == '"':
		_, ok := s.text(false, limit)
		return after, ok
	case c == '{' || c == '[':
		if len(s.stack) >= maxDepth {
			return 0, false
		}
		s.stack = append(s.stack, c)
		s.pos++
		if c == '{' {
			return key0, true
		}
		return value0, true
	case c == ']' && st == value0:
		s.pos++
		s.pop()
		return after, true
	case isWord(c):
		for s.more() && isWord(s.buf[s.pos]) {
			s.pos++
			if s.keep >= 0 && s.pos-s.keep > limit {
				s.keep = -1
			}
		}
		return after, true
	}
	return 0, false
}

// isWord reports whether c can stand in a number, true, false or null.
func isWord(c byte) bool {
	return c-'0' < 10 || c-'a' < 26 || c == '-' || c == '+' || c == '.' || c == 'E'
}

// text reads a string, and with look says whether it is one of the members that hold records.
func (s *scanner) text(look bool, limit int) (named, ok bool) {
	s.pos++
	var name []byte
	for s.more() {
		b := s.buf[s.pos:]
		for i, c := range b {
			if c != '"' && c != '\\' && c != '\n' {
				continue
			}
			if look && len(name)+i <= 64 {
				name = append(name, b[:i]...)
			}
			s.pos += i
			switch c {
			case '"':
				s.pos++
				return look && slices.Contains(s.o.Members, string(name)), true
			case '\n': // it was cut, and another line follows
				return false, false
			}
			goto escape
		}
		if look && len(name)+len(b) <= 64 {
			name = append(name, b...)
		}
		s.pos += len(b)
		if s.keep >= 0 && s.pos-s.keep > limit {
			s.keep = -1
		}
		continue
	escape:
		look = false
		s.pos++
		if !s.more() {
			return false, false
		}
		if s.buf[s.pos] == '\n' {
			return false, false
		}
		s.pos++
	}
	return false, false
}
