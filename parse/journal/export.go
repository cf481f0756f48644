package journal

import (
	"bytes"
	"context"

	"github.com/sherd-forensics/sherd/parse"
)

func sniffExport(head []byte) parse.Confidence {
	if !bytes.Contains(head, []byte("__REALTIME_TIMESTAMP=")) {
		return parse.No
	}
	first, _, _ := bytes.Cut(bytes.TrimLeft(head, "\n"), []byte("\n"))
	name, _, ok := bytes.Cut(first, []byte("="))
	if ok && isName(name) && bytes.HasPrefix(name, []byte("__")) && bytes.Contains(head, []byte("\n_")) {
		return parse.Certain
	}
	// The first entry may be cut.
	for _, begin := range []string{"\n\n__CURSOR=s=", "\n\n__REALTIME_TIMESTAMP="} {
		if bytes.Contains(head, []byte(begin)) {
			return parse.Likely
		}
	}
	return parse.No
}

// stream reads the export format.
type stream struct {
	in   *parse.Input
	p    pages
	at   int64
	e    entry
	end  int64 // of the entry's last field
	kept int   // bytes of its fields
	buf  []byte
}

func readExport(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	r, size, done, err := in.At()
	if err != nil {
		return err
	}
	defer done()
	s := &stream{in: in, p: pages{r: r, size: size}, buf: make([]byte, room)}
	w := newWriter(in, emit)
	for n := 1; s.at < size; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if s.line() {
			continue
		}
		if err := s.flush(w); err != nil {
			return err
		}
	}
	if s.p.err != nil {
		return s.p.err
	}
	s.e.cut = true // an empty line ends each
	if err := s.flush(w); err != nil {
		return err
	}
	return w.end()
}

// flush writes the entry that was read.
func (s *stream) flush(w *writer) error {
	e := s.e
	s.e = entry{fields: s.e.fields[:0]}
	s.kept = 0
	if len(e.fields)+e.unread == 0 {
		return nil
	}
	e.length = s.end - e.offset
	if t := micros(e.get("__REALTIME_TIMESTAMP")); t > 0 {
		e.realtime = uint64(t / 1000)
	}
	return w.write(&e)
}

// find is where the next c stands, or the end of the content.
func (s *stream) find(c byte, from int64) int64 {
	for from < s.p.size {
		b := s.p.at(from)
		if len(b) == 0 {
			break
		}
		if i := bytes.IndexByte(b, c); i >= 0 {
			return from + int64(i)
		}
		from += int64(len(b))
	}
	return s.p.size
}

// line takes a line, or a field of any bytes. It is false at the end of an entry.
func (s *stream) line() bool {
	start := s.at
	end := s.find('\n', start)
	b := s.buf[:min(end-start, room)]
	b = b[:s.p.read(b, start)]
	s.at = min(end+1, s.p.size)
	if len(b) == 0 {
		return false
	}
	if f, ok := split(b, int64(len(b)) == end-start); ok {
		s.add(f, start, end)
		return true
	}
	if !isName(b) || int64(len(b)) != end-start {
		s.in.Skip(start, s.at-start, "it is no field of the export format")
		return true
	}
	// Its length in 8 bytes, the value, a line feed.
	name := string(b)
	var length [8]byte
	n := s.p.read(length[:], s.at)
	value := s.at + 8
	size := le.Uint64(length[:])
	if n < 8 || size > uint64(s.p.size) || value+int64(size) > s.p.size {
		s.damaged(start, "a field is longer than the file")
		return true
	}
	end = value + int64(size)
	if last := s.p.at(end); len(last) > 0 && last[0] != '\n' {
		s.damaged(start, "a field does not end where its length says")
		return true
	}
	f := field{name: name}
	b = s.buf[:min(int64(size), int64(limit(name)))]
	b = b[:s.p.read(b, value)]
	f.value, f.cut = string(b), uint64(len(b)) < size
	s.at = min(end+1, s.p.size)
	s.add(f, start, end)
	return true
}

// damaged notes a field that can't be read; reading goes on with the next line.
func (s *stream) damaged(start int64, why string) {
	s.in.Skip(start, s.at-start, why)
	s.begin(start, s.at)
	s.e.unread++
}

func (s *stream) begin(start, end int64) {
	if len(s.e.fields)+s.e.unread == 0 {
		s.e.offset = start
	}
	s.end = end
}

// add keeps a field of the entry.
func (s *stream) add(f field, start, end int64) {
	s.begin(start, end)
	if s.kept += len(f.value); len(s.e.fields) >= maxFields || s.kept > maxEntry {
		s.e.left++
		return
	}
	s.e.fields = append(s.e.fields, f)
}
