package lake

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sherd-forensics/sherd/event"
)

// buffer holds the rows that are sorted together, by column and without pointers, so that a full one costs the garbage collector
// nothing.
type buffer struct {
	n       int
	texts   []arena   // as texts
	numbers [][]int64 // as numbers
	first   int64     // row number of the first
	order   []int32   // of rows, by time
}

type arena struct {
	data []byte
	ends []uint32
}

func (a *arena) at(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = a.ends[i-1]
	}
	return a.data[from:a.ends[i]:a.ends[i]]
}

func newBuffer() *buffer {
	return &buffer{texts: make([]arena, len(texts)), numbers: make([][]int64, len(numbers))}
}

func (b *buffer) reset() {
	b.n = 0
	for i := range b.texts {
		b.texts[i].data, b.texts[i].ends = b.texts[i].data[:0], b.texts[i].ends[:0]
	}
	for i := range b.numbers {
		b.numbers[i] = b.numbers[i][:0]
	}
}

const (
	// maxText bounds one text of an event: evidence holds the rest.
	maxText = 64 << 10
	// maxBuffered bounds the text of a buffer, well below what a 32-bit offset reaches.
	maxBuffered = 64 << 20
)

// add copies e. It reports whether the buffer should be written before the next one.
func (b *buffer) add(e *event.Event) (full bool) {
	total := 0
	for i := range texts {
		a := &b.texts[i]
		if texts[i].name == "attributes" {
			a.data = appendText(a.data, e.Attributes, false)
		} else if s := texts[i].of(e); s != "" {
			a.data = appendText(a.data, s, true)
		}
		a.ends = append(a.ends, uint32(len(a.data)))
		total += len(a.data)
	}
	for i := range numbers {
		b.numbers[i] = append(b.numbers[i], numbers[i].of(e))
	}
	b.n++
	return b.n >= bufferRows || total > maxBuffered
}

// appendText makes s valid UTF-8 without NUL, which columns of text need: other bytes become \x and two digits.
func appendText[T ~string | ~[]byte](data []byte, s T, cut bool) []byte {
	if len(s) > maxText {
		if !cut { // half a JSON object is none
			return append(data, `{"truncated":true}`...)
		}
		s = s[:maxText]
		for i := 0; i < 3 && len(s) > 0 && s[len(s)-1] >= 0x80; i++ { // not within a rune
			s = s[:len(s)-1]
		}
	}
	from := len(data)
	data = append(data, s...)
	if clean(data[from:]) {
		return data
	}
	dirty := strings.Clone(string(data[from:]))
	data = data[:from]
	const digits = "0123456789abcdef"
	for i := 0; i < len(dirty); {
		r, n := utf8.DecodeRuneInString(dirty[i:])
		if r == utf8.RuneError && n == 1 || r == 0 {
			data = append(data, '\\', 'x', digits[dirty[i]>>4], digits[dirty[i]&15])
		} else {
			data = append(data, dirty[i:i+n]...)
		}
		i += n
	}
	return data
}

func clean(b []byte) bool {
	for _, c := range b {
		if c == 0 || c >= 0x80 {
			return utf8.Valid(b) && slices.Index(b, 0) < 0
		}
	}
	return true
}

// sort orders the rows by time; rows of the same time stay as they came.
func (b *buffer) sort() {
	b.order = slices.Grow(b.order[:0], b.n)[:b.n]
	times := b.numbers[0]
	sorted := true
	for i := range b.order {
		b.order[i] = int32(i)
		sorted = sorted && (i == 0 || times[i-1] <= times[i])
	}
	if sorted {
		return
	}
	slices.SortStableFunc(b.order, func(x, y int32) int {
		switch {
		case times[x] < times[y]:
			return -1
		case times[x] > times[y]:
			return 1
		}
		return 0
	})
}
