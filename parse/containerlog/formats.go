package containerlog

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// sniff recognises a format by the first lines, among which there may be junk.
func sniff(b []byte) string {
	if isLocal(b) {
		return Local
	}
	for range 64 {
		line, rest, more := bytes.Cut(b, []byte("\n"))
		line = bytes.TrimLeft(line, "\x00")
		switch {
		case bytes.HasPrefix(line, []byte(`{"log":`)):
			return JSONFile
		case isCRI(line):
			return CRI
		case isKmsg(line):
			return Kmsg
		case !more:
			return Plain
		}
		b = rest
	}
	return Plain
}

// lines reads a file of lines.
func (r *reader) lines(src *source) error {
	for {
		line, offset, length, err := src.next()
		if length == 0 || err != nil {
			return err
		}
		if err := r.line(line, offset, length); err != nil {
			return err
		}
	}
}

// line takes one line of the file, of whose length bytes b are the first.
func (r *reader) line(b []byte, offset, length int64) error {
	end := offset + length
	cut := length > int64(len(b))
	if n := int64(len(b) - len(bytes.TrimLeft(b, "\x00"))); n > 0 && r.format != Plain {
		// A file system that lost power leaves zeros where data was to be written.
		if err := r.skip(offset, n, "zero bytes"); err != nil {
			return err
		}
		b, offset = b[n:], offset+n
	}
	if !cut {
		b = bytes.TrimSuffix(b, []byte("\n"))
	}
	l := Line{Position: offset}
	switch {
	case r.format == Plain:
		b = bytes.TrimSuffix(b, []byte("\r"))
		l.Time = ownTime(string(b[:min(len(b), 256)]))
		setText(&l, b, cut)
		return r.emit(l, end)
	case len(b) == 0:
		return nil
	case r.format == JSONFile:
		return r.jsonFile(l, b, end, cut)
	case r.format == CRI:
		return r.cri(l, b, end, cut)
	}
	return r.kmsg(l, b, end, cut)
}

func setText(l *Line, b []byte, cut bool) {
	l.Cut = cut || len(b) > maxText
	l.Text = string(b[:min(len(b), maxText)])
}

// dockerPiece is how many bytes of a line Docker writes into one entry.
const dockerPiece = 16 << 10

func (r *reader) jsonFile(l Line, b []byte, end int64, cut bool) error {
	if cut {
		return r.skip(l.Position, end-l.Position, "an entry over the limit")
	}
	var e struct {
		Log    *string `json:"log"`
		Stream string  `json:"stream"`
		Time   string  `json:"time"`
	}
	if err := json.Unmarshal(b, &e); err != nil || e.Log == nil {
		return r.skip(l.Position, end-l.Position, "not an entry of Docker's json-file")
	}
	if t, err := time.Parse(time.RFC3339Nano, e.Time); err == nil {
		l.Time = nanos(t)
	}
	l.Stream = e.Stream
	text, ended := strings.CutSuffix(*e.Log, "\n")
	setText(&l, []byte(text), false)
	// A short entry without a line feed is the last thing that a process wrote before it ended.
	return r.piece(l, end, !ended && len(*e.Log) >= dockerPiece)
}

// nanos is UnixNano for the years that it can express, else 0.
func nanos(t time.Time) int64 {
	if y := t.Year(); y < 1970 || y > 2261 {
		return 0
	}
	return t.UnixNano()
}

// criHead splits "TIME STREAM TAG TEXT".
func criHead(b []byte) (stamp, stream, tag string, text []byte, ok bool) {
	s, rest, ok1 := bytes.Cut(b[:min(len(b), 128)], []byte(" "))
	st, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tg, _, _ := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || len(s) < 20 || s[4] != '-' || s[10] != 'T' || string(st) != "stdout" && string(st) != "stderr" {
		return "", "", "", nil, false
	}
	first, _, _ := bytes.Cut(bytes.TrimSuffix(tg, []byte("\n")), []byte(":")) // further tags follow after a colon
	if string(first) != "P" && string(first) != "F" {
		return "", "", "", nil, false
	}
	at := min(len(s)+1+len(st)+1+len(tg)+1, len(b))
	return string(s), string(st), string(first), b[at:], true
}

func isCRI(b []byte) bool {
	_, _, _, _, ok := criHead(b)
	return ok
}

func (r *reader) cri(l Line, b []byte, end int64, cut bool) error {
	stamp, stream, tag, text, ok := criHead(b)
	if !ok {
		return r.skip(l.Position, end-l.Position, "not a CRI log line")
	}
	if t, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
		l.Time = nanos(t)
	}
	l.Stream = stream
	setText(&l, text, cut)
	return r.piece(l, end, tag == "P")
}

// kmsgHead splits "6,339,5140900,-;text".
func kmsgHead(b []byte) (micros int64, text []byte, ok bool) {
	head, text, ok := bytes.Cut(b, []byte(";"))
	f := strings.Split(string(head[:min(len(head), 256)]), ",")
	if !ok || len(f) < 4 {
		return 0, nil, false
	}
	for _, s := range f[:2] {
		if _, err := strconv.ParseUint(s, 10, 64); err != nil {
			return 0, nil, false
		}
	}
	micros, err := strconv.ParseInt(f[2], 10, 64)
	return micros, text, err == nil && micros >= 0
}

func isKmsg(b []byte) bool {
	_, _, ok := kmsgHead(b)
	return ok
}

func (r *reader) kmsg(l Line, b []byte, end int64, cut bool) error {
	if b[0] == ' ' {
		return nil // a key and value of the record before
	}
	micros, text, ok := kmsgHead(b)
	if !ok {
		return r.skip(l.Position, end-l.Position, "not a kernel record")
	}
	if r.boot != 0 && micros < 1<<52 {
		l.Time = r.boot + micros*1000
	}
	l.Stream = "kernel"
	setText(&l, text, cut)
	return r.emit(l, end)
}

// ownTime is the time that a line of text begins with, or names as time="…", if it says its zone.
func ownTime(s string) int64 {
	if _, after, ok := strings.Cut(s, `time="`); ok {
		s = after
	}
	s = strings.TrimLeft(s, "[\"")
	if end := strings.IndexAny(s, " \"]\t,"); end >= 0 {
		s = s[:end]
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return nanos(t)
	}
	return 0
}
