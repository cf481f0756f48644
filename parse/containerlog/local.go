package containerlog

import (
	"bytes"
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"
)

// localHead begins every entry of Docker's local driver: field 1, a string of 6 bytes, stdout or stderr.
var localHead = []byte("\x0a\x06std")

// isLocal reports whether b begins with an entry's length and head.
func isLocal(b []byte) bool {
	return len(b) >= 9 && bytes.HasPrefix(b[4:], localHead) && binary.BigEndian.Uint32(b) < maxSource-8
}

// local reads entries of Docker's local driver. After junk it goes on at the next thing that looks like one.
func (r *reader) local(src *source) error {
	ids := map[string]string{} // by stream: of the line that its last entry was a piece of
	for {
		b, err := src.Peek(4 + len(localHead))
		if len(b) == 0 {
			return src.fault(err)
		}
		n := 0
		if isLocal(b) {
			n = int(binary.BigEndian.Uint32(b))
			b, err = src.Peek(n + 8)
		}
		if err := src.fault(err); err != nil {
			return err
		}
		if n == 0 || len(b) < n+8 || binary.BigEndian.Uint32(b[n+4:]) != uint32(n) || !wellFormed(b[4:n+4]) {
			if err := r.resync(src); err != nil {
				return err
			}
			continue
		}
		l, id, more := localEntry(b[4 : n+4])
		l.Position = src.offset
		if _, waits := r.pending[l.Stream]; waits && (id == "" || id != ids[l.Stream]) {
			// What waits is the last thing that a process wrote before it ended, without a line feed.
			if err := r.flush(l.Stream); err != nil {
				return err
			}
		}
		if len(ids) > maxStreams {
			clear(ids)
		}
		ids[l.Stream] = id
		if err := r.piece(l, src.offset+int64(n)+8, more); err != nil {
			return err
		}
		if err := src.drop(n + 8); err != nil {
			return err
		}
	}
}

// resync drops bytes up to the next plausible entry, at least one.
func (r *reader) resync(src *source) error {
	b, err := src.Peek(sniffed)
	if err := src.fault(err); err != nil {
		return err
	}
	n := len(b)
	if i := bytes.Index(b[min(5, n):], localHead); i >= 0 {
		n = 5 + i - 4
	} else if n == sniffed {
		n -= 4 + len(localHead) // one may begin at the edge
	}
	if err := r.skip(src.offset, int64(n), "not an entry of Docker's local driver"); err != nil {
		return err
	}
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
func localEntry(b []byte) (l Line, id string, more bool) {
	last := false
	fields(b, func(num protowire.Number, n uint64, v []byte) {
		switch num {
		case 1:
			l.Stream = string(v)
		case 2:
			l.Time = max(0, int64(n))
		case 3:
			setText(&l, bytes.TrimSuffix(v, []byte("\n")), false)
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
	return l, id, more && !last
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
