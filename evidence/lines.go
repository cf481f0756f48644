package evidence

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"strings"
	"sync"
)

const (
	// rollSize is the size at which a JSON lines artifact is ended and the next begun.
	rollSize = 1 << 20
	// maxLine bounds a line that is read.
	maxLine = 64 << 20
)

// Lines is an artifact of JSON lines whose size is not known beforehand. It is sealed in parts of about 1 MiB: "x.jsonl",
// "x-0001.jsonl", and so on; without any line it is an empty artifact, which says that there was nothing. It is safe for
// concurrent use.
type Lines struct {
	w            *Writer
	path, origin string

	mu     sync.Mutex
	n      int
	buf    bytes.Buffer
	enc    *json.Encoder
	closed bool
}

// Lines begins an artifact of JSON lines.
func (w *Writer) Lines(path, origin string) *Lines {
	l := &Lines{w: w, path: path, origin: origin}
	l.enc = json.NewEncoder(&l.buf)
	l.enc.SetEscapeHTML(false)
	return l
}

// Write adds one line. Its error is fatal: v has no JSON form, or the output failed.
func (l *Lines) Write(v any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("%s: written to after Close", l.path)
	}
	n := l.buf.Len()
	if err := l.enc.Encode(v); err != nil {
		l.buf.Truncate(n)
		return fmt.Errorf("%s: %w", l.path, err)
	}
	if l.buf.Len() >= rollSize {
		return l.flush()
	}
	return nil
}

func (l *Lines) flush() error {
	_, err := l.w.Add(Meta{Path: partPath(l.path, l.n), Origin: l.origin}, l.buf.Bytes())
	l.n++
	l.buf.Reset()
	return err
}

// Close seals what is left. Closing twice is harmless.
func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.buf.Len() == 0 && l.n > 0 {
		return nil
	}
	return l.flush()
}

// partPath names the n-th part of a JSON lines artifact, counted from 0.
func partPath(p string, n int) string {
	if n == 0 {
		return p
	}
	ext := path.Ext(p)
	return fmt.Sprintf("%s-%04d%s", strings.TrimSuffix(p, ext), n, ext)
}

// Line is one line of an artifact.
type Line struct {
	Artifact string // the part that holds it
	// Offset and Length say where it stands in that part, its newline not counted.
	Offset, Length int64
	SHA256         string // of the part
	Data           []byte // without the newline; valid until the next line
}

// Lines reads an artifact of lines, and the parts that continue it. An error ends it, and so does a part whose content
// is not what the manifest says: then the error comes after that part's last line.
func (p *Package) Lines(path string) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		for n := 0; ; n++ {
			part := partPath(path, n)
			e, ok := p.Artifact(part)
			if !ok {
				if n == 0 {
					yield(Line{Artifact: part}, p.missing(part))
				}
				return
			}
			if !p.linesOf(e, yield) {
				return
			}
		}
	}
}

// linesOf yields the lines of one part, and reports whether to go on.
func (p *Package) linesOf(e Entry, yield func(Line, error) bool) bool {
	a, err := p.Open(e.Path)
	if err != nil {
		yield(Line{Artifact: e.Path}, err)
		return false
	}
	r := bufio.NewReaderSize(a, 64<<10)
	l := Line{Artifact: e.Path, SHA256: e.SHA256}
	var long []byte
	for {
		b, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if len(long)+len(b) > maxLine {
				yield(l, fmt.Errorf("%s: the line at offset %d is longer than %d bytes", clip(e.Path), l.Offset, maxLine))
				return false
			}
			long = append(long, b...)
			continue
		}
		if len(long) > 0 {
			b = append(long, b...)
			long = b[:0]
		}
		whole := int64(len(b))
		if err != nil && !errors.Is(err, io.EOF) {
			yield(l, err)
			return false
		}
		if whole > 0 {
			l.Data = bytes.TrimSuffix(b, []byte{'\n'})
			l.Length = int64(len(l.Data))
			if !yield(l, nil) {
				return false
			}
			l.Offset += whole
		}
		if err != nil {
			return true
		}
	}
}
