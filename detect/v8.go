package detect

import (
	"encoding/binary"
	"slices"
	"strings"
	"unicode/utf16"
)

// v8Script is one script that V8, the engine of Node, has compiled and still refers to. V8 keeps of each its source text, its name and how it
// came to be compiled: https://chromium.googlesource.com/v8/v8/+/main/src/objects/script.tq
//
// A text that merely passes through, a request's body for one, has no such object.
type v8Script struct {
	addr      uint64
	id        uint64
	name      string // "" where it has none, as code that was made from a string
	evaluated bool   // compiled by eval or by the constructor Function
	sourceURL string // what the text says of itself
	source    string // as far as it could be read
	text      uint64 // address of the source's characters, or of their first part
	textLen   int
}

const (
	v8Words      = 15 // of a script that are looked at
	maxCandidate = 100_000
	maxSource    = 1 << 20  // of one script, in characters
	maxSources   = 64 << 20 // of all
	maxName      = 512
	// minAlike is how many scripts Node itself has at the least, by far: their common map tells scripts from what only looks like one.
	minAlike = 10
)

// smi gives the small integer that a word holds, as V8 keeps them without pointer compression: in the upper half.
func smi(w uint64) (int32, bool) { return int32(w >> 32), w&0xffffffff == 0 }

func heapObject(w uint64) bool { return w&3 == 1 && w > 1<<16 }

// looksLikeScript holds the words of an object against the fields of a script: map, source, name, line_offset, column_offset,
// context_data, type, line_ends, id.
func looksLikeScript(b []byte) bool {
	w := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	if !heapObject(w(0)) || !heapObject(w(1)) || !heapObject(w(2)) {
		return false
	}
	line, ok1 := smi(w(3))
	column, ok2 := smi(w(4))
	kind, ok3 := smi(w(6))
	id, ok4 := smi(w(8))
	return ok1 && ok2 && ok3 && ok4 && line > -1000 && line < 1<<20 && column > -1000 && column < 1<<20 && kind >= 0 && kind <= 4 && id > 0
}

// v8Scripts finds the scripts of a process; whole is false when not all of its memory was looked at.
func (s *space) v8Scripts() (out []v8Script, whole bool) {
	type candidate struct {
		addr uint64
		w    [v8Words]uint64
	}
	var all []candidate
	alike := map[uint64]int{}
	whole = s.scan(8*v8Words, func(addr uint64, b []byte) {
		skip := int(-addr & 7)
		for i := skip; i+8*v8Words <= len(b); i += 8 {
			// The cheapest first: nearly all words fail here.
			if b[i]&3 != 1 || b[i+24]|b[i+25]|b[i+26]|b[i+27] != 0 || b[i+64]|b[i+65]|b[i+66]|b[i+67] != 0 || !looksLikeScript(b[i:]) {
				continue
			}
			if len(all) >= maxCandidate || len(all) > 0 && all[len(all)-1].addr == addr+uint64(i) {
				continue
			}
			c := candidate{addr: addr + uint64(i)}
			for k := range c.w {
				c.w[k] = binary.LittleEndian.Uint64(b[i+8*k:])
			}
			all = append(all, c)
			alike[c.w[0]]++
		}
	})
	kind, most := uint64(0), 0
	for m, n := range alike {
		if n > most || n == most && m < kind {
			kind, most = m, n
		}
	}
	if most < minAlike {
		return nil, whole
	}
	seen, sources := map[uint64]bool{}, 0
	for i := range all {
		c := &all[i]
		if c.w[0] != kind || seen[c.addr] {
			continue
		}
		seen[c.addr] = true
		id, _ := smi(c.w[8])
		x := v8Script{addr: c.addr, id: uint64(id)}
		r := v8Text{s: s, left: maxName}
		x.name = r.read(c.w[2], 0)
		// The flags follow the list of functions; newer versions have one more list between them.
		for _, k := range []int{12, 13} {
			if flags, ok := smi(c.w[k]); ok {
				x.evaluated = flags&1 == 1
				r = v8Text{s: s, left: maxName}
				x.sourceURL = r.read(c.w[min(k+1, v8Words-1)], 0)
				break
			}
		}
		if x.evaluated || !placed(x.name) {
			if sources > maxSources {
				whole = false
				break
			}
			r = v8Text{s: s, left: maxSource}
			x.source = r.read(c.w[1], 0)
			x.text, x.textLen = r.first, r.firstLen
			sources += r.spent
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b v8Script) int { return int(int64(a.id) - int64(b.id)) })
	return out, whole
}

// placed reports whether a script's name is a place: a file, or a module of Node's own.
func placed(name string) bool {
	return strings.HasPrefix(name, "/") || strings.HasPrefix(name, "node:") || strings.HasPrefix(name, "file:") || strings.HasPrefix(name, "internal/") || strings.HasSuffix(name, ".js")
}

// v8Text reads strings of V8's heap.
type v8Text struct {
	s        *space
	left     int // how many characters may still be read
	steps    int
	spent    int    // bytes read, what was left out again included
	first    uint64 // address of the first characters, and how many bytes they are
	firstLen int
}

// Representations of strings, the lowest three bits of their type: https://chromium.googlesource.com/v8/v8/+/main/src/objects/instance-type.h
const (
	v8Sequential = 0
	v8Cons       = 1
	v8External   = 2
	v8Sliced     = 3
	v8Thin       = 5
	v8OneByte    = 8
	v8NotString  = 0x80
)

// header gives type and length of a string; ok is false where it is none or was not kept.
func (t *v8Text) header(w uint64) (addr uint64, kind uint16, length int, ok bool) {
	if !heapObject(w) {
		return 0, 0, 0, false
	}
	addr = w - 1
	h := t.s.read(addr, 16)
	if len(h) < 16 {
		return 0, 0, 0, false
	}
	class := binary.LittleEndian.Uint64(h)
	length = int(int32(binary.LittleEndian.Uint32(h[12:])))
	if !heapObject(class) || length < 0 {
		return 0, 0, 0, false
	}
	m := t.s.read(class-1, 14)
	if len(m) < 14 {
		return 0, 0, 0, false
	}
	kind = binary.LittleEndian.Uint16(m[12:])
	return addr, kind, length, kind < v8NotString
}

func (t *v8Text) read(w uint64, depth int) string {
	const maxDepth, maxSteps = 64, 10_000
	if t.steps++; depth > maxDepth || t.steps > maxSteps || t.left <= 0 {
		return ""
	}
	addr, kind, length, ok := t.header(w)
	if !ok {
		return ""
	}
	at := func(off uint64) uint64 {
		v, _ := t.s.word(addr + off)
		return v
	}
	switch kind & 7 {
	case v8Sequential:
		return t.characters(addr+16, kind, length)
	case v8Cons:
		return t.read(at(16), depth+1) + t.read(at(24), depth+1)
	case v8Thin:
		return t.read(at(16), depth+1)
	case v8External:
		return t.characters(at(24), kind, length)
	case v8Sliced:
		whole := v8Text{s: t.s, left: maxSource, steps: t.steps, spent: t.spent}
		text := whole.read(at(16), depth+1)
		t.steps, t.spent = whole.steps, whole.spent
		start, ok := smi(at(24))
		if !ok || start < 0 || int(start)+length > len(text) {
			return ""
		}
		return text[start : int(start)+length]
	}
	return ""
}

func (t *v8Text) characters(addr uint64, kind uint16, length int) string {
	length = min(length, t.left)
	t.left -= length
	n := length
	if kind&v8OneByte == 0 {
		n = 2 * length
	}
	if t.spent += n; t.spent > 4*maxSource {
		return ""
	}
	b := t.s.read(addr, n)
	if t.first == 0 && len(b) > 0 {
		t.first, t.firstLen = addr, len(b)
	}
	if kind&v8OneByte != 0 {
		return string(b)
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}
