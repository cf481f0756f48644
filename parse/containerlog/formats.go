package containerlog

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/internal/timestamp"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/applog"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// sniff recognises a format by the first lines, among which there may be junk; it is empty when there is none.
func sniff(b []byte) string {
	if isLocal(b) {
		return Local
	}
	if isStamped(b) {
		return API
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
			return ""
		}
		b = rest
	}
	return ""
}

// lines reads a file of lines.
func (r *reader) lines() error {
	var doc jsonrecords.Tree
	for l, err := range r.in.Lines() {
		if err != nil {
			return err
		}
		b, offset, end := l.Data, l.Offset, l.Offset+l.Length
		if n := int64(len(b) - len(bytes.TrimLeft(b, "\x00"))); n > 0 {
			// A file system that lost power leaves zeros where data was to be written.
			r.in.Skip(offset, n, "zero bytes")
			b, offset = b[n:], offset+n
		}
		if len(b) == 0 {
			continue
		}
		r.line = applog.Line{Offset: offset, Cut: l.Cut}
		switch r.format {
		case JSONFile:
			err = r.jsonFile(&doc, b, end)
		case CRI:
			err = r.cri(b, end)
		case API:
			err = r.stamped(b, end)
		default:
			err = r.kmsg(b, end)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dockerPiece is how many bytes of a line Docker writes into one entry.
const dockerPiece = 16 << 10

// jsonFile reads an entry: {"log":"text\n","stream":"stdout","time":"…"}, with "attrs" before the time when it was asked for.
func (r *reader) jsonFile(doc *jsonrecords.Tree, b []byte, end int64) error {
	l := &r.line
	if l.Cut {
		r.in.Skip(l.Offset, end-l.Offset, "an entry over the limit")
		return nil
	}
	root, ok := doc.Parse(b)
	log := root.Get("log")
	if !ok || log.Type() != jsonrecords.String {
		r.in.Skip(l.Offset, end-l.Offset, "not an entry of Docker's json-file")
		return nil
	}
	l.Time, _ = timestamp.RFC3339(root.Get("time").Text())
	l.Stream = streamName(root.Get("stream"))
	r.text = log.AppendText(r.text[:0])
	text, ended := bytes.CutSuffix(r.text, []byte{'\n'})
	l.Text, l.Size = trimLine(text), int64(len(text))
	// A short entry without a line feed is the last thing that a process wrote before it ended.
	return r.piece(l, "", end, !ended && len(r.text) >= dockerPiece)
}

// streamName avoids making the same two strings again and again.
func streamName(v jsonrecords.Node) string {
	switch {
	case v.Is("stdout"):
		return "stdout"
	case v.Is("stderr"):
		return "stderr"
	}
	s := v.Text()
	return s[:min(len(s), 32)]
}

// criHead splits "TIME STREAM TAG TEXT".
func criHead(b []byte) (stamp, stream []byte, more bool, text []byte, ok bool) {
	sp := bytes.IndexByte(b[:min(len(b), 64)], ' ')
	if sp < 20 || b[4] != '-' || b[10] != 'T' {
		return nil, nil, false, nil, false
	}
	rest := b[sp+1:]
	if len(rest) < 8 || rest[6] != ' ' || string(rest[:6]) != "stdout" && string(rest[:6]) != "stderr" {
		return nil, nil, false, nil, false
	}
	tag := rest[7:]
	if tag[0] != 'P' && tag[0] != 'F' {
		return nil, nil, false, nil, false
	}
	switch { // further tags follow after a colon
	case len(tag) == 1:
	case tag[1] == ' ':
		text = tag[2:]
	case tag[1] == ':':
		i := bytes.IndexByte(tag[:min(len(tag), 128)], ' ')
		if i > 0 {
			text = tag[i+1:]
		}
	default:
		return nil, nil, false, nil, false
	}
	return b[:sp], rest[:6], tag[0] == 'P', text, true
}

func isCRI(b []byte) bool {
	_, _, _, _, ok := criHead(b)
	return ok
}

func (r *reader) cri(b []byte, end int64) error {
	l := &r.line
	stamp, stream, more, text, ok := criHead(b)
	if !ok {
		r.in.Skip(l.Offset, end-l.Offset, "not a CRI log line")
		return nil
	}
	l.Time, _ = timestamp.RFC3339(string(stamp))
	l.Stream = "stdout"
	if stream[3] == 'e' {
		l.Stream = "stderr"
	}
	l.Text, l.Size = text, int64(len(text))
	return r.piece(l, "", end, more)
}

// stampLength is that of "2006-01-02T15:04:05.000000000", which a Z or an offset follows.
const stampLength = 29

// stampHead splits "TIME TEXT".
func stampHead(b []byte) (stamp, text []byte, ok bool) {
	if len(b) <= stampLength || b[4] != '-' || b[10] != 'T' || b[19] != '.' {
		return nil, nil, false
	}
	end := stampLength
	switch b[end] {
	case 'Z':
		end++
	case '+', '-':
		end += len("+00:00")
	default:
		return nil, nil, false
	}
	if len(b) <= end || b[end] != ' ' {
		return nil, nil, false
	}
	if _, ok := timestamp.RFC3339(string(b[:end])); !ok {
		return nil, nil, false
	}
	return b[:end], b[end+1:], true
}

// isStamped reports whether each whole line of a head has a time before it, as the API server writes them, and nothing of CRI's behind that.
func isStamped(b []byte) bool {
	seen := false
	for range 64 {
		line, rest, more := bytes.Cut(b, []byte("\n"))
		if !more && (seen || len(line) == 0) {
			break
		}
		if _, _, ok := stampHead(line); !ok || isCRI(line) {
			return false
		}
		seen, b = true, rest
	}
	return seen
}

func (r *reader) stamped(b []byte, end int64) error {
	l := &r.line
	stamp, text, ok := stampHead(b)
	if !ok {
		r.in.Skip(l.Offset, end-l.Offset, "not a line of the Kubernetes API server's")
		return nil
	}
	l.Time, _ = timestamp.RFC3339(string(stamp))
	l.Text, l.Size = trimLine(text), int64(len(text))
	return r.emit(l, end)
}

// kmsgHead splits "6,339,5140900,-;text".
func kmsgHead(b []byte) (micros int64, text []byte, ok bool) {
	head, text, ok := bytes.Cut(b[:min(len(b), 16<<10)], []byte(";"))
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

func (r *reader) kmsg(b []byte, end int64) error {
	l := &r.line
	if b[0] == ' ' {
		return nil // a key and value of the record before
	}
	micros, text, ok := kmsgHead(b)
	if !ok {
		r.in.Skip(l.Offset, end-l.Offset, "not a kernel record")
		return nil
	}
	if r.in.Boot != 0 && micros < 1<<52 {
		l.Time = r.in.Boot + micros*1000
	}
	l.Stream, l.Text, l.Size = kernel, text, int64(len(text))
	return r.emit(l, end)
}

// Recognises reports whether in is a log of a runtime.
func Recognises(in *parse.Input) bool { return sniff(in.Head()) != "" }
