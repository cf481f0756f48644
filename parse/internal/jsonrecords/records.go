// Package jsonrecords finds the records of a JSON document and what stands in them: objects on lines of their own, elements of an
// array, or elements of an array that is a member of an object ({"Records":[…]}), also several of these one after another. The
// document is streamed; each record comes with the exact bytes that it takes.
//
// Specification: RFC 8259 for the grammar, https://jsonlines.org for lines.
package jsonrecords

import (
	"errors"
	"io"
	"iter"
	"slices"

	"github.com/sherd-forensics/sherd/parse"
)

const (
	maxRecord = 4 << 20 // bytes that are kept of one record
	maxDepth  = 512
	window    = 256 << 10
	spare     = 64 << 20 // bytes that may be read again after damage, beside twice the content: lines that nest in one another are no trap
	lookback  = 256      // bytes before what is needed, to see how a line begins
)

// Options say where records stand.
type Options struct {
	// Members are the names of a top-level object's members whose array elements are the records. An object without such a member
	// is a record itself.
	Members []string
	// Max is the longest record that is kept, in bytes; 4 MiB when 0. Longer ones are told as skipped.
	Max int
}

// Record is one object.
type Record struct {
	Offset, Length int64
	// Data is the object's bytes, valid until the next record.
	Data []byte
	// Cut is true when the record breaks off or is damaged in its middle: Data is what stands before that.
	Cut bool
}

// Each gives the records of in. What is no JSON object is told by in.Skip and passed over; a damaged record is given with Cut, and
// reading goes on at the next line or element that looks like a record. The error is one of reading the evidence, and the last.
func Each(in *parse.Input, o Options) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s := &scanner{r: in, skip: in.Skip, o: o, base: in.Offset(), indent: -1}
		for {
			rec, err := s.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// Head gives up to n records of the beginning of a document; the last may be cut.
func Head(head []byte, o Options, n int) []Record {
	s := &scanner{buf: head, eof: true, skip: func(int64, int64, string) {}, o: o, indent: -1}
	var out []Record
	for len(out) < n {
		rec, err := s.next()
		if err != nil {
			break
		}
		out = append(out, rec)
	}
	return out
}

type scanner struct {
	r    io.Reader
	skip func(offset, length int64, reason string)
	o    Options

	buf  []byte // what is held of the content
	base int64  // where buf[0] stands
	pos  int    // the next byte to look at
	keep int    // buf from here on is needed; -1 when nothing before pos is
	eof  bool
	err  error

	stack   []byte // open brackets of the object that is scanned
	wrapper bool   // inside an array that Options.Members names
	array   bool   // inside an array at the top
	again   int64  // bytes that were gone back and read once more
	indent  int    // blanks before the last record on its line, -1 when something else stands before it
}

// more makes at least one byte available at pos. It is false at the end of the content and on an error.
func (s *scanner) more() bool {
	if s.pos < len(s.buf) {
		return true
	}
	if s.eof {
		return false
	}
	from := s.pos
	if s.keep >= 0 {
		from = s.keep
	}
	from = max(0, from-lookback)
	if from > 0 && cap(s.buf)-len(s.buf) < window/4 {
		n := copy(s.buf, s.buf[from:])
		s.buf = s.buf[:n]
		s.base += int64(from)
		s.pos -= from
		if s.keep >= 0 {
			s.keep -= from
		}
	}
	if cap(s.buf)-len(s.buf) < window/4 {
		s.buf = slices.Grow(s.buf, max(window, cap(s.buf)))
	}
	for range 100 {
		n, err := s.r.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		if err != nil {
			s.eof = true
			if !errors.Is(err, io.EOF) {
				s.err = err
			}
		}
		if n > 0 || s.eof {
			return n > 0
		}
	}
	s.eof, s.err = true, io.ErrNoProgress
	return false
}

func (s *scanner) end() error {
	if s.err != nil {
		return s.err
	}
	return io.EOF
}

// next finds the next record.
func (s *scanner) next() (Record, error) {
	s.keep = -1
	blanks := 0 // before pos on its line, -1 after anything else
	if s.base+int64(s.pos) > 0 {
		blanks = -1
	}
	for s.more() {
		c := s.buf[s.pos]
		switch c {
		case '\n':
			blanks = 0
			s.pos++
			continue
		case ' ', '\t':
			if blanks >= 0 {
				blanks++
			}
			s.pos++
			continue
		case '{':
			s.indent = blanks
			if rec, ok := s.object(); ok {
				return rec, nil
			}
		case ']':
			s.pos++
			if !s.wrapper {
				s.array = false
			} else {
				s.members()
			}
		case '[':
			s.array = true
			s.pos++
		case '\r', ',', '}', 0, 0x1e, 0xef, 0xbb, 0xbf: // also a byte order mark, and the separator of RFC 7464
			s.pos++
		default:
			s.wrapper = false
			s.keep = s.pos
			s.junk(s.offset(), "it is no JSON record")
		}
		blanks = -1
		s.keep = -1
	}
	return Record{}, s.end()
}

func (s *scanner) limit() int {
	if s.o.Max > 0 {
		return s.o.Max
	}
	return maxRecord
}

func (s *scanner) offset() int64 { return s.base + int64(s.pos) }

// object reads the object that begins at pos. It is not ok when the object turned out to hold records itself or was passed over.
func (s *scanner) object() (Record, bool) {
	start := s.offset()
	s.keep = s.pos
	s.stack = append(s.stack[:0], '{')
	s.pos++
	result := s.scan(key0, !s.wrapper)
	n := s.offset() - start
	if n > int64(s.limit()) {
		s.keep = -1
	}
	switch result {
	case complete:
		if s.keep < 0 {
			s.skip(start, n, "the record is too long")
			return Record{}, false
		}
		return Record{Offset: start, Length: n, Data: s.buf[s.keep:s.pos]}, true
	case entered:
		return Record{}, false
	}
	// Damaged, or the content ends.
	if s.keep < 0 {
		s.junk(start, "the record is too long")
		return Record{}, false
	}
	end := s.pos
	// What follows on the next line is another record's, where each has a line of its own.
	if s.indent >= 0 && s.again < spare+2*start {
		if i := s.restart(s.keep+1, s.pos); i >= 0 {
			s.again += int64(s.pos - i)
			end = i
		}
	}
	s.pos = end
	data := s.buf[s.keep:end]
	for len(data) > 0 && (data[len(data)-1] == '\n' || data[len(data)-1] == '\r' || data[len(data)-1] == 0) {
		data = data[:len(data)-1]
	}
	rec := Record{Offset: start, Length: int64(len(data)), Data: data, Cut: true}
	rec.Data = slices.Clone(data) // finding the next one moves the buffer
	s.keep = s.pos
	s.junk(s.offset(), "it is left of a damaged record")
	return rec, true
}

// members goes on in an object after one of its arrays of records.
func (s *scanner) members() {
	s.wrapper = false
	s.keep = -1
	s.stack = append(s.stack[:0], '{')
	start := s.offset()
	switch s.scan(after, true) {
	case entered, complete:
	default:
		if s.eof && s.pos >= len(s.buf) {
			s.skip(start, s.offset()-start, "the content ends within the object that holds the records")
		} else {
			s.junk(start, "it is damaged after the records")
		}
	}
}

// restart is where a record may begin in buf[from:to] or at to: on a new line, as far from its beginning as the last record was.
// -1 when nowhere.
func (s *scanner) restart(from, to int) int {
	for i := from; i < to; i++ {
		if s.buf[i] != '\n' {
			continue
		}
		j := i + 1
		for j < len(s.buf) && (s.buf[j] == ' ' || s.buf[j] == '\t') {
			j++
		}
		if j < len(s.buf) && s.buf[j] == '{' && j-i-1 == s.indent {
			return j
		}
	}
	return -1
}

// junk passes over content up to where a record may begin, and notes all from start.
func (s *scanner) junk(start int64, reason string) {
	s.keep = -1
	inline := (s.array || s.wrapper) && s.indent < 0
	var last, before byte
	if s.pos > 0 {
		last = s.buf[s.pos-1]
	}
	if s.pos > 1 {
		before = s.buf[s.pos-2]
	}
	blanks := s.blanks()
	solid := start < s.offset()
	for s.more() {
		c := s.buf[s.pos]
		if c == '{' && (blanks >= 0 && (blanks == s.indent || s.indent < 0) || inline && last == ',' && before == '}') {
			break
		}
		switch {
		case c == '\n' || c == 0 && blanks >= 0:
			blanks = 0
		case (c == ' ' || c == '\t') && blanks >= 0:
			blanks++
		default:
			blanks = -1
		}
		solid = solid || c != '\n' && c != '\r' && c != ' '
		before, last = last, c
		s.pos++
	}
	if solid {
		s.skip(start, s.offset()-start, reason)
	}
}

// blanks is how many stand before pos on its line, -1 when anything else does.
func (s *scanner) blanks() int {
	for i := s.pos - 1; i >= 0; i-- {
		switch s.buf[i] {
		case '\n', 0:
			return s.pos - 1 - i
		case ' ', '\t':
		default:
			return -1
		}
	}
	if s.base == 0 {
		return s.pos
	}
	return -1
}
