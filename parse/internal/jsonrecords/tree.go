package jsonrecords

import (
	"bytes"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Type is what a value is.
type Type uint8

// The types of JSON; Missing is a value that is not there.
const (
	Missing Type = iota
	Null
	False
	True
	Number
	String
	Object
	Array
)

// maxNodes bounds what is kept of one record.
const maxNodes = 1 << 18

// Tree is one parsed record. It can be used again and again; its nodes are valid until the next Parse. It holds the bytes that were
// parsed.
type Tree struct {
	b     []byte
	nodes []node
	open  []int32
}

type node struct {
	typ        Type
	escaped    bool // the value has escapes
	keyEscaped bool
	key, keyTo int32 // within the quotes
	at, to     int32 // the value; of a string within its quotes
	next       int32 // the node after this one and all that stands in it
}

// Node is a value of a Tree. The zero Node is a missing value, and so is every value of it.
type Node struct {
	t *Tree
	i int32
}

// Parse reads the object in b and gives it. It is not ok when b is damaged, cut or too large (256 Ki values); then the tree has what stands before that.
func (t *Tree) Parse(b []byte) (root Node, ok bool) {
	t.b, t.nodes, t.open = b, t.nodes[:0], t.open[:0]
	ok = t.parse()
	for _, i := range t.open { // of a record that breaks off
		t.nodes[i].next = int32(len(t.nodes))
		t.nodes[i].to = int32(len(b))
	}
	if len(t.nodes) == 0 {
		return Node{}, false
	}
	return Node{t, 0}, ok
}

func (t *Tree) blank(i int) int {
	for i < len(t.b) && (t.b[i] == ' ' || t.b[i] == '\n' || t.b[i] == '\t' || t.b[i] == '\r') {
		i++
	}
	return i
}

// parse fills nodes; open are those that are not closed yet.
func (t *Tree) parse() bool {
	if len(t.b) > math.MaxInt32 {
		return false
	}
	i := 0
	for {
		i = t.blank(i)
		if i >= len(t.b) || len(t.nodes) >= maxNodes {
			return false
		}
		n := node{}
		if top := len(t.open); top > 0 && t.nodes[t.open[top-1]].typ == Object {
			if t.b[i] == '}' { // of an empty object
				goto closing
			}
			end, esc, ok := t.text(i)
			if !ok {
				return false
			}
			n.key, n.keyTo, n.keyEscaped = int32(i+1), int32(end-1), esc
			i = t.blank(end)
			if i >= len(t.b) || t.b[i] != ':' {
				return false
			}
			i = t.blank(i + 1)
			if i >= len(t.b) {
				return false
			}
		} else if top > 0 && t.b[i] == ']' {
			goto closing
		}
		if opened, next, ok := t.value(&n, i); !ok {
			return false
		} else if i = next; opened {
			continue
		}
	closing:
		for {
			if len(t.open) == 0 {
				return t.blank(i) == len(t.b)
			}
			i = t.blank(i)
			if i >= len(t.b) {
				return false
			}
			top := t.open[len(t.open)-1]
			c := t.b[i]
			if c == ',' {
				i = t.blank(i + 1)
				if i < len(t.b) && (t.b[i] == '}' || t.b[i] == ']') {
					return false
				}
				break
			}
			if o := &t.nodes[top]; o.typ == Object && c == '}' || o.typ == Array && c == ']' {
				i++
				o.to, o.next = int32(i), int32(len(t.nodes))
				t.open = t.open[:len(t.open)-1]
				continue
			}
			return false
		}
	}
}

// value adds the value at i to the nodes. Of an object or array it reads the bracket alone.
func (t *Tree) value(n *node, i int) (opened bool, next int, ok bool) {
	n.at = int32(i)
	switch c := t.b[i]; c {
	case '{', '[':
		if len(t.open) >= maxDepth {
			return false, 0, false
		}
		n.typ = Object
		if c == '[' {
			n.typ = Array
		}
		t.open = append(t.open, int32(len(t.nodes)))
		t.nodes = append(t.nodes, *n)
		return true, i + 1, true
	case '"':
		end, esc, ok := t.text(i)
		if !ok {
			return false, 0, false
		}
		n.typ, n.at, n.to, n.escaped = String, int32(i+1), int32(end-1), esc
		next = end
	default:
		end := i
		for end < len(t.b) && isWord(t.b[end]) {
			end++
		}
		n.to, next = int32(end), end
		switch w := t.b[i:end]; {
		case string(w) == "null":
			n.typ = Null
		case string(w) == "true":
			n.typ = True
		case string(w) == "false":
			n.typ = False
		case number(w):
			n.typ = Number
		default:
			return false, 0, false
		}
	}
	n.next = int32(len(t.nodes)) + 1
	t.nodes = append(t.nodes, *n)
	return false, next, true
}

// text finds the end of the string at i, after its quote.
func (t *Tree) text(i int) (end int, escaped, ok bool) {
	if i >= len(t.b) || t.b[i] != '"' {
		return 0, false, false
	}
	for j := i + 1; j < len(t.b); j++ {
		switch t.b[j] {
		case '"':
			return j + 1, escaped, true
		case '\\':
			escaped = true
			j++
		}
	}
	return 0, false, false
}

// number holds to the grammar of RFC 8259.
func number(w []byte) bool {
	i := 0
	digits := func() bool {
		from := i
		for i < len(w) && w[i]-'0' < 10 {
			i++
		}
		return i > from
	}
	if i < len(w) && w[i] == '-' {
		i++
	}
	if i+1 < len(w) && w[i] == '0' && w[i+1]-'0' < 10 || !digits() {
		return false
	}
	if i < len(w) && w[i] == '.' {
		i++
		if !digits() {
			return false
		}
	}
	if i < len(w) && (w[i] == 'e' || w[i] == 'E') {
		i++
		if i < len(w) && (w[i] == '+' || w[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	return i == len(w)
}

// Type says what the value is.
func (n Node) Type() Type {
	if n.t == nil {
		return Missing
	}
	return n.t.nodes[n.i].typ
}

// Exists reports whether the value is there and not null.
func (n Node) Exists() bool { return n.Type() > Null }

// Get gives the member of an object, by the path of names.
func (n Node) Get(path ...string) Node {
	for _, name := range path {
		n = n.member(name)
		if n.t == nil {
			return n
		}
	}
	return n
}

func (n Node) member(name string) Node {
	if n.Type() != Object {
		return Node{}
	}
	o := &n.t.nodes[n.i]
	for i := n.i + 1; i < o.next; i = n.t.nodes[i].next {
		c := &n.t.nodes[i]
		if k := n.t.b[c.key:c.keyTo]; string(k) == name || c.keyEscaped && unescape(k) == name {
			return Node{n.t, i}
		}
	}
	return Node{}
}

// Fold is Get for names whose first letter may be large or small: one program writes accountId where another writes AccountId.
func (n Node) Fold(path ...string) Node {
	for _, name := range path {
		if n.Type() != Object || name == "" {
			return Node{}
		}
		found := Node{}
		o := &n.t.nodes[n.i]
		for i := n.i + 1; i < o.next; i = n.t.nodes[i].next {
			c := &n.t.nodes[i]
			if k := n.t.b[c.key:c.keyTo]; len(k) == len(name) && k[0]|0x20 == name[0]|0x20 && string(k[1:]) == name[1:] {
				found = Node{n.t, i}
				break
			}
		}
		if n = found; n.t == nil {
			return n
		}
	}
	return n
}

// Span is where the value stands in the bytes that were parsed; a string with its quotes.
func (n Node) Span() (from, to int) {
	if n.t == nil {
		return 0, 0
	}
	c := &n.t.nodes[n.i]
	if c.typ == String {
		return int(c.at) - 1, int(c.to) + 1
	}
	return int(c.at), int(c.to)
}

// First is the first of the members that is there and not null.
func (n Node) First(names ...string) Node {
	for _, name := range names {
		if m := n.member(name); m.Exists() {
			return m
		}
	}
	return Node{}
}

// Each gives the members of an object with their names, or the elements of an array with none.
func (n Node) Each(yield func(name string, v Node) bool) {
	n.Members(func(name []byte, v Node) bool { return yield(string(name), v) })
}

// Members is Each without making a string of each name: a name is valid within the call alone.
func (n Node) Members(yield func(name []byte, v Node) bool) {
	object := n.Type() == Object
	if !object && n.Type() != Array {
		return
	}
	o := &n.t.nodes[n.i]
	for i := n.i + 1; i < o.next; i = n.t.nodes[i].next {
		var name []byte
		if c := &n.t.nodes[i]; object {
			if name = n.t.b[c.key:c.keyTo]; c.keyEscaped {
				name = []byte(unescape(name))
			}
		}
		if !yield(name, Node{n.t, i}) {
			return
		}
	}
}

// Len is how many members or elements the value has.
func (n Node) Len() int {
	l := 0
	n.Each(func(string, Node) bool { l++; return true })
	return l
}

// At is an element of an array.
func (n Node) At(i int) Node {
	var out Node
	n.Each(func(_ string, v Node) bool {
		if i == 0 {
			out = v
		}
		i--
		return i >= 0
	})
	return out
}

// Text is a string's text; of a number or truth value what it is written as, and nothing of all else.
func (n Node) Text() string {
	switch n.Type() {
	case String:
		c := &n.t.nodes[n.i]
		if c.escaped {
			return unescape(n.t.b[c.at:c.to])
		}
		return string(n.t.b[c.at:c.to])
	case Number, True, False:
		return string(n.Raw())
	}
	return ""
}

// AppendText appends what Text gives to b.
func (n Node) AppendText(b []byte) []byte {
	if n.Type() != String {
		return append(b, n.Text()...)
	}
	c := &n.t.nodes[n.i]
	if c.escaped {
		return appendUnescaped(b, n.t.b[c.at:c.to])
	}
	return append(b, n.t.b[c.at:c.to]...)
}

// Is reports whether the value is the string s.
func (n Node) Is(s string) bool {
	if n.Type() != String {
		return false
	}
	c := &n.t.nodes[n.i]
	if c.escaped {
		return n.Text() == s
	}
	return string(n.t.b[c.at:c.to]) == s
}

// Int is a number, or the number that a string is. A fraction is cut off.
func (n Node) Int() (int64, bool) {
	var b []byte
	switch n.Type() {
	case Number, String:
		c := &n.t.nodes[n.i]
		b = n.t.b[c.at:c.to]
	default:
		return 0, false
	}
	if len(b) > 64 {
		return 0, false
	}
	if v, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		return v, true
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || !(math.Abs(f) < 1<<62) { // neither NaN
		return 0, false
	}
	return int64(f), true
}

// Whole is Int, 0 when it is none or does not fit into an int32: a process or port number.
func (n Node) Whole() int {
	v, _ := n.Int()
	if v < math.MinInt32 || v > math.MaxInt32 {
		return 0
	}
	return int(v)
}

// Bool reports whether the value is true.
func (n Node) Bool() bool { return n.Type() == True }

// Raw is the value's JSON as it stands in the record.
func (n Node) Raw() []byte {
	if n.t == nil {
		return nil
	}
	c := &n.t.nodes[n.i]
	if c.typ == String {
		return n.t.b[c.at-1 : c.to+1]
	}
	return n.t.b[c.at:c.to]
}

// Append writes the value as valid JSON without blanks, at most about limit bytes: elements beyond that are left out.
func (n Node) Append(b []byte, limit int) []byte {
	limit += len(b)
	return n.append(b, limit)
}

func (n Node) append(b []byte, limit int) []byte {
	switch n.Type() {
	case Missing:
		return append(b, "null"...)
	case String:
		return Quote(b, n.Text())
	case Object, Array:
	default:
		return append(b, n.Raw()...)
	}
	opening, closing := byte('{'), byte('}')
	if n.Type() == Array {
		opening, closing = '[', ']'
	}
	b = append(b, opening)
	first := true
	n.Each(func(name string, v Node) bool {
		if len(b) > limit {
			return false
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		if opening == '{' {
			b = append(Quote(b, name), ':')
		}
		b = v.append(b, limit)
		return true
	})
	return append(b, closing)
}

// Quote appends s as a JSON string.
func Quote(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', "0123456789abcdef"[r>>4], "0123456789abcdef"[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}

// unescape gives the text of a string with escapes. An escape that is none stays as it is.
func unescape(b []byte) string { return string(appendUnescaped(make([]byte, 0, len(b)), b)) }

func appendUnescaped(out, b []byte) []byte {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\\')
		if i < 0 || i+1 >= len(b) {
			out = append(out, b...)
			break
		}
		out = append(out, b[:i]...)
		c := b[i+1]
		b = b[i+2:]
		switch c {
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case 'r':
			out = append(out, '\r')
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case '"', '\\', '/':
			out = append(out, c)
		case 'u':
			r, n := rune16(b)
			if n == 0 {
				out = append(out, '\\', 'u')
				break
			}
			b = b[n:]
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, '\\', c)
		}
	}
	return out
}

// rune16 reads the digits after \u, and those of the second half of a surrogate pair.
func rune16(b []byte) (rune, int) {
	hex := func(b []byte) (rune, bool) {
		if len(b) < 4 {
			return 0, false
		}
		v, err := strconv.ParseUint(string(b[:4]), 16, 16)
		return rune(v), err == nil
	}
	r, ok := hex(b)
	if !ok {
		return 0, 0
	}
	if utf16.IsSurrogate(r) && len(b) >= 10 && b[4] == '\\' && b[5] == 'u' {
		if low, ok := hex(b[6:]); ok {
			if full := utf16.DecodeRune(r, low); full != utf8.RuneError {
				return full, 10
			}
		}
	}
	return r, 4
}
