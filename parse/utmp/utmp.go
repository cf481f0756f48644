// Package utmp reads the login records of a node: wtmp, utmp and btmp, arrays of glibc's struct utmp. Both layouts of little-endian machines are read: 384 bytes as on
// x86-64 (which shares it with 32-bit programs) and 400 bytes as on arm64, whose times are 64 bits wide.
//
// Specification: https://man7.org/linux/man-pages/man5/utmp.5.html
//
// A record proves that a program with the right to write the file (login, sshd, init, anything of root's) said that this login, logout, boot or failed login happened at this
// time by the machine's clock. It does not prove that it did: the file is not protected, root can remove, alter or add records, and the host name is the other end's own
// where it was looked up. What is missing proves nothing either: containers, cron, sudo and ssh without a terminal write none. A record of zeros is told as skipped: utmp has
// them for terminals that were never used, wtmp and btmp have none unless somebody wiped one.
//
// The three files have the same form. A record of a waiting login program (LOGIN_PROCESS) is a failed login when it has a user's name instead of LOGIN, as login and sshd write
// it to btmp. Programs that write failed logins as USER_PROCESS can't be told from logins by content: such a record is a failed login only in a file whose name begins with
// btmp, and says so with the attribute judged_by.
package utmp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"

	"github.com/sherd-forensics/sherd/parse"
)

// Format is wtmp, utmp or btmp.
var Format = parse.Format{
	Name:  "utmp",
	Title: "login records (wtmp, utmp, btmp)",
	Spec:  "https://man7.org/linux/man-pages/man5/utmp.5.html",
	Sniff: sniff,
	Read:  read,
}

// layout says where the fields stand that are not the same on all machines. The others come before them: type 0, pid 4, line 8, id 40, user 44, host 76, exit 332.
type layout struct {
	size, session, seconds, micros, address, unused int
	wide                                            bool // session and time take 8 bytes each
}

var (
	compat = layout{size: 384, session: 336, seconds: 340, micros: 344, address: 348, unused: 364}
	wide   = layout{size: 400, session: 336, seconds: 344, micros: 352, address: 360, unused: 376, wide: true}
)

// Types of records, as utmp(5) numbers them.
const (
	typeEmpty = iota
	typeRunLevel
	typeBoot
	typeNewTime
	typeOldTime
	typeInit
	typeLogin
	typeUser
	typeDead
	typeAccounting
)

const (
	unusedLength = 20
	// What a record's time may be for its bytes to be taken as one: 1990 to 2100.
	earliest, latest = 631152000, 4102444800
)

// record is one entry.
type record struct {
	kind                 int
	pid                  int32
	line, id, user, host string
	termination, exit    int16
	session              int64
	seconds              int64
	micros               int64
	address              [16]byte
	residue              bool // bytes stand behind the end of a text
	offset, length       int64
}

// decode reads b, which has the layout's size.
func (l layout) decode(b []byte) record {
	le := binary.LittleEndian
	r := record{kind: int(le.Uint16(b)), pid: int32(le.Uint32(b[4:]))}
	for _, f := range []struct {
		to        *string
		from, to2 int
	}{{&r.line, 8, 40}, {&r.id, 40, 44}, {&r.user, 44, 76}, {&r.host, 76, 332}} {
		s, padded := text(b[f.from:f.to2])
		*f.to = string(s)
		r.residue = r.residue || !padded
	}
	r.termination, r.exit = int16(le.Uint16(b[332:])), int16(le.Uint16(b[334:]))
	if l.wide {
		r.session, r.seconds, r.micros = int64(le.Uint64(b[l.session:])), int64(le.Uint64(b[l.seconds:])), int64(le.Uint64(b[l.micros:]))
	} else {
		// The kernel's seconds no longer fit a signed number in 2038; an unsigned one lasts until 2106.
		r.session, r.seconds, r.micros = int64(int32(le.Uint32(b[l.session:]))), int64(le.Uint32(b[l.seconds:])), int64(int32(le.Uint32(b[l.micros:])))
	}
	copy(r.address[:], b[l.address:])
	return r
}

// text is what stands before the first NUL, and whether nothing but NULs follow.
func text(b []byte) (s []byte, padded bool) {
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return b, true
	}
	return b[:end], zeros(b[end:])
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func printable(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// possible reports whether b may be a record, where one is expected.
func (l layout) possible(b []byte) bool {
	if le := binary.LittleEndian; le.Uint16(b) > typeAccounting || b[2]|b[3] != 0 || le.Uint32(b[l.micros:]) >= 1e6 {
		return false
	}
	if l.wide && (!zeros(b[l.seconds+5:l.seconds+8]) || !zeros(b[l.micros+4:l.micros+8])) {
		return false
	}
	line, _ := text(b[8:40])
	return printable(line)
}

// surely reports whether b is a record wherever it stands. The user's name may be anything: who fails to log in chooses it.
func (l layout) surely(b []byte) bool {
	if binary.LittleEndian.Uint16(b) == typeEmpty || !l.possible(b) || !zeros(b[l.unused:l.unused+unusedLength]) {
		return false
	}
	line, a := text(b[8:40])
	id, _ := text(b[40:44])
	_, c := text(b[44:76])
	host, d := text(b[76:332])
	if !a || !c || !d || !printable(id) || !printable(host) || len(line)+len(id) == 0 {
		return false
	}
	r := l.decode(b)
	return r.seconds >= earliest && r.seconds < latest && r.pid >= 0
}

// judge counts the records in head, those of them that surely are ones, and those of zeros: however many of the first were wiped, the others tell.
func (l layout) judge(head []byte) (all, sure, empty int) {
	for len(head) >= l.size {
		b := head[:l.size]
		head = head[l.size:]
		all++
		if l.surely(b) {
			sure++
		} else if zeros(b) {
			empty++
		}
	}
	return all, sure, empty
}

func sniff(head []byte) parse.Confidence {
	for _, l := range []layout{compat, wide} {
		all, sure, empty := l.judge(head)
		switch {
		case sure == 0:
		case sure+empty == all:
			return parse.Certain
		case sure >= 3 && (sure+empty)*4 >= all*3:
			return parse.Likely
		}
	}
	return parse.No
}

// choose takes the layout of which head has more records.
func choose(head []byte) layout {
	_, a, _ := compat.judge(head)
	_, b, _ := wide.judge(head)
	if b > a {
		return wide
	}
	return compat
}

// window is how much is held of the content.
const window = 64 << 10

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	w := writer{in: in, emit: emit, layout: choose(in.Head()), open: map[string]opened{}, failures: failures(in.Base.Artifact)}
	size := w.layout.size
	buf := make([]byte, 0, window)
	at, pos, n := int64(0), 0, 0 // where buf begins; the next byte of it
	for end := false; ; {
		if len(buf)-pos < size && !end {
			at += int64(pos)
			buf = buf[:copy(buf, buf[pos:])]
			pos = 0
			m, err := io.ReadFull(in, buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+m]
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				end = true
			} else if err != nil {
				return err
			}
		}
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		left := buf[pos:]
		if len(left) < size {
			if len(left) > 0 {
				in.Skip(at+int64(pos), int64(len(left)), "the file ends within a record")
			}
			return nil
		}
		if b := left[:size]; w.layout.possible(b) {
			if err := w.record(b, at+int64(pos)); err != nil {
				return err
			}
			pos += size
			continue
		}
		skip := 1
		for len(left)-skip >= size && !w.layout.surely(left[skip:skip+size]) {
			skip++
		}
		if len(left)-skip < size && end {
			skip = len(left)
		}
		in.Skip(at+int64(pos), int64(skip), "it is no login record")
		pos += skip
	}
}

// peer is the other end's address: the record's own, or its host's name when that is one.
func (r *record) peer() string {
	a := netip.AddrFrom16(r.address)
	if zeros(r.address[4:]) {
		a = netip.AddrFrom4([4]byte(r.address[:4]))
	}
	if !a.IsUnspecified() {
		return a.Unmap().String()
	}
	if a, err := netip.ParseAddr(r.host); err == nil {
		return a.Unmap().WithZone("").String()
	}
	return ""
}
