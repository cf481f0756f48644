package containerlog

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sherd-forensics/sherd/parse/applog"
)

// localHead begins every entry of Docker's local driver: field 1, a string of 6 bytes, stdout or stderr.
var localHead = []byte("\x0a\x06std")

// isLocal reports whether b begins with an entry's length and head.
func isLocal(b []byte) bool {
	return len(b) >= 9 && bytes.HasPrefix(b[4:], localHead) && binary.BigEndian.Uint32(b) < maxSource-8
}

// source is the content, of which a whole entry can be seen before it is taken.
type source struct {
	*bufio.Reader
	offset int64
}

// peek gives up to n bytes; fewer at the end.
func (s *source) peek(n int) ([]byte, error) {
	b, err := s.Peek(n)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b, err
}

func (s *source) drop(n int) error {
	m, err := s.Discard(n)
	s.offset += int64(m)
	return err
}

// local reads entries of Docker's local driver. After junk it goes on at the next thing that looks like one.
func (r *reader) local() error {
	src := &source{bufio.NewReaderSize(r.in, maxSource), 0}
	for {
		b, err := src.peek(4 + len(localHead))
		if len(b) == 0 || err != nil {
			return err
		}
		n := 0
		if isLocal(b) {
			n = int(binary.BigEndian.Uint32(b))
			if b, err = src.peek(n + 8); err != nil {
				return err
			}
		}
		if n == 0 || len(b) < n+8 || binary.BigEndian.Uint32(b[n+4:]) != uint32(n) || !wellFormed(b[4:n+4]) {
			if err := r.resync(src); err != nil {
				return err
			}
			continue
		}
		l := &r.line
		*l = applog.Line{Offset: src.offset}
		id, more := localEntry(l, b[4:n+4])
		if i := r.waiting(l.Stream); i >= 0 && (id == "" || id != r.wait[i].id) {
			// What waits is the last thing that a process wrote before it ended, without a line feed.
			if err := r.flush(i); err != nil {
				return err
			}
		}
		if err := r.piece(l, id, src.offset+int64(n)+8, more); err != nil {
			return err
		}
		if err := src.drop(n + 8); err != nil {
			return err
		}
	}
}

// resyncing is how far ahead an entry is looked for at a time.
const resyncing = 64 << 10

// resync drops bytes up to the next plausible entry, at least one.
func (r *reader) resync(src *source) error {
	b, err := src.peek(resyncing)
	if err != nil {
		return err
	}
	n := len(b)
	if i := bytes.Index(b[min(5, n):], localHead); i >= 0 {
		n = 5 + i - 4
	} else if n == resyncing {
		n -= 4 + len(localHead) // one may begin at the edge
	}
	r.in.Skip(src.offset, int64(n), "not an entry of Docker's local driver")
	return src.drop(n)
}

// wellFormed reports whether b is a protobuf message.
func wellFormed(b []byte) bool {
	for len(b) > 0 {
		_, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

// localEntry reads LogEntry: source 1, time_nano 2, line 3, partial 4, partial_log_metadata 5 with last 1 and id 2. more is
// true when the line goes on in an entry with the same id.
func localEntry(l *applog.Line, b []byte) (id string, more bool) {
	last := false
	fields(b, func(num protowire.Number, n uint64, v []byte) {
		switch num {
		case 1:
			switch string(v) {
			case "stdout":
				l.Stream = "stdout"
			case "stderr":
				l.Stream = "stderr"
			default:
				l.Stream = string(v[:min(len(v), 32)])
			}
		case 2:
			l.Time = max(0, int64(n))
		case 3:
			text := bytes.TrimSuffix(v, []byte("\n"))
			l.Size = int64(len(text))
			l.Text = trimLine(text[:min(len(text), maxText)])
			l.Cut = len(text) > maxText
		case 4:
			more = n != 0
		case 5:
			fields(v, func(num protowire.Number, n uint64, v []byte) {
				switch num {
				case 1:
					last = n != 0
				case 2:
					id = string(v)
				}
			})
		}
	})
	return id, more && !last
}

// fields calls each for every field of a message.
func fields(b []byte, each func(num protowire.Number, n uint64, v []byte)) {
	for len(b) > 0 {
		num, typ, m := protowire.ConsumeTag(b)
		if m < 0 {
			return
		}
		b = b[m:]
		var n uint64
		var v []byte
		switch typ {
		case protowire.VarintType:
			n, m = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			v, m = protowire.ConsumeBytes(b)
		default:
			m = protowire.ConsumeFieldValue(num, typ, b)
		}
		if m < 0 {
			return
		}
		each(num, n, v)
		b = b[m:]
	}
}
