package parse

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/timestamp"
)

const (
	// maxLine is how much of one line is kept; the rest is passed over and the line is marked as cut.
	maxLine = 1 << 20
	// maxExpanded bounds what one compressed artifact may expand to.
	maxExpanded = 256 << 30
	// maxSpool bounds what is written to a temporary file for a format that must read at random from compressed content.
	maxSpool = 4 << 30
	// maxSkips bounds the reasons that are kept for one artifact.
	maxSkips = 64
)

// Content is an artifact's bytes as they lie in the evidence.
type Content interface {
	io.Reader
	io.ReaderAt
	Size() int64
}

// Input is one artifact as a format reads it. It is for one reader, once.
type Input struct {
	// Base has the columns that all events of the artifact share: EvidenceID, Container, Artifact, Parser and so on. A parser
	// begins each event with a copy of it.
	Base event.Event
	// Compression is "gzip" or "zstd" when the content was compressed: then all offsets are in what it expands to.
	Compression string
	// Latest is a time after everything in the artifact (of the capture, or the file's own), to resolve times without a year.
	Latest time.Time
	// Boot is the time of day at which the clock of the host's kernel log stood at zero, in nanoseconds UTC; 0 when it is not known.
	Boot int64
	// Zone is of times that don't name one; nil is UTC.
	Zone *time.Location

	content Content
	failed  *failing
	r       *bufio.Reader
	close   func()
	offset  int64
	skips   []Skip
	lost    int64 // skips beyond maxSkips
}

// NewInput reads content. Close it.
func NewInput(content Content, base event.Event) (*Input, error) {
	in := &Input{Base: base, content: content, close: func() {}}
	in.failed = &failing{r: content}
	raw := bufio.NewReaderSize(in.failed, 64<<10)
	magic, err := raw.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var r io.Reader = raw
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b, 8}):
		in.Compression = "gzip"
		z, err := gzip.NewReader(raw)
		if in.failed.err != nil {
			return nil, in.failed.err
		}
		if r = z; err != nil {
			in.Skip(0, content.Size(), "the gzip header is damaged: "+err.Error())
			r = bytes.NewReader(nil)
		}
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		in.Compression = "zstd"
		z, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		r, in.close = z, z.Close
	}
	if in.Compression != "" {
		r = &bounded{r, maxExpanded}
	}
	in.r = bufio.NewReaderSize(r, 256<<10)
	return in, nil
}

// Close frees what the input holds; the content stays the caller's.
func (in *Input) Close() { in.close() }

// Head gives up to SniffLength bytes from where the input stands, without taking them.
func (in *Input) Head() []byte {
	b, _ := in.r.Peek(SniffLength) // an error comes again with the next read
	return b
}

// Size is the length of the content in bytes, -1 when it is compressed.
func (in *Input) Size() int64 {
	if in.Compression != "" {
		return -1
	}
	return in.content.Size()
}

// Offset is where the next byte of Read or Lines stands.
func (in *Input) Offset() int64 { return in.offset }

// Read reads the content from its beginning. Damage of a compressed artifact is told as a skip and ends it like its end.
func (in *Input) Read(b []byte) (int, error) {
	n, err := in.r.Read(b)
	in.offset += int64(n)
	return n, in.fault(err)
}

// At gives the content for reading at random, and its length. Compressed content is expanded into a temporary file that has no
// name; done gives it back. What could not be expanded is told as a skip.
func (in *Input) At() (r io.ReaderAt, size int64, done func(), err error) {
	if in.Compression == "" {
		return in.content, in.content.Size(), func() {}, nil
	}
	f, err := os.CreateTemp("", "sherd-parse-*")
	if err != nil {
		return nil, 0, nil, fmt.Errorf("expanding %s: %w", in.Base.Artifact, err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, 0, nil, err
	}
	n, err := io.Copy(f, io.LimitReader(in, maxSpool))
	if err != nil {
		f.Close()
		return nil, 0, nil, fmt.Errorf("expanding %s: %w", in.Base.Artifact, err)
	}
	if n == maxSpool {
		in.Skip(n, 0, fmt.Sprintf("only the first %d bytes of the expanded content are read", int64(maxSpool)))
	}
	return f, n, func() { f.Close() }, nil
}

// Line is one line of the content.
type Line struct {
	// Offset is where it begins; Length is without its line feed (a carriage return is counted).
	Offset, Length int64
	// Data is without the line feed and a carriage return before it, valid until the next line. Cut is true when the line is longer
	// than what Data has of it (1 MiB).
	Data []byte
	Cut  bool
}

// Lines gives the lines from where the input stands. Empty lines are given too. The error is one of reading the evidence, and the
// last.
func (in *Input) Lines() iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		var long []byte
		for {
			l := Line{Offset: in.offset}
			b, err := in.r.ReadSlice('\n')
			n := int64(len(b))
			if errors.Is(err, bufio.ErrBufferFull) {
				long = append(long[:0], b...)
				for errors.Is(err, bufio.ErrBufferFull) {
					b, err = in.r.ReadSlice('\n')
					n += int64(len(b))
					room := maxLine - len(long)
					long = append(long, b[:min(room, len(b))]...)
				}
				b = long
			}
			in.offset += n
			if n > 0 {
				end := err == nil // it ended with a line feed
				if end {
					n--
				}
				l.Length = n
				l.Cut = n > maxLine
				if end && !l.Cut && int64(len(b)) > n {
					b = b[:n]
				}
				if l.Cut {
					b = b[:min(len(b), maxLine)]
				} else {
					b = bytes.TrimSuffix(b, []byte{'\r'})
				}
				l.Data = b
				if !yield(l, nil) {
					return
				}
				if cap(long) > 2*maxLine {
					long = nil
				}
			}
			if err != nil {
				if err := in.fault(err); err != nil && !errors.Is(err, io.EOF) {
					yield(Line{Offset: in.offset}, err)
				}
				return
			}
		}
	}
}

// Skip notes content that no event is made of. Runs with the same reason are counted together.
func (in *Input) Skip(offset, length int64, reason string) {
	for i := range in.skips {
		if s := &in.skips[i]; s.Reason == reason {
			s.Bytes += length
			s.Count++
			return
		}
	}
	if len(in.skips) >= maxSkips {
		in.lost++
		return
	}
	in.skips = append(in.skips, Skip{Artifact: in.Base.Artifact, Offset: offset, Bytes: length, Count: 1, Reason: reason})
}

// Skips is what was noted so far, by first offset.
func (in *Input) Skips() []Skip {
	out := append([]Skip(nil), in.skips...)
	if in.lost > 0 {
		out = append(out, Skip{Artifact: in.Base.Artifact, Count: in.lost, Reason: "further content was left out for still other reasons"})
	}
	return out
}

// fault tells an error of the evidence, which is returned, from one of the compressed data, which ends the content.
func (in *Input) fault(err error) error {
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return err
	case in.failed.err != nil:
		return fmt.Errorf("reading %s: %w", in.Base.Artifact, in.failed.err)
	case in.Compression != "":
		in.Skip(in.offset, 0, "the compressed content can't be read further: "+err.Error())
		return io.EOF
	}
	return err
}

// failing remembers the evidence's own error, which is no fault of the compressed data.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

var errExpanded = fmt.Errorf("it expands to more than %d bytes", int64(maxExpanded))

// bounded ends a bomb with an error instead of an end that looks like the file's.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errExpanded
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// Resolver reads times in the text of in.
func (in *Input) Resolver() *timestamp.Resolver {
	return &timestamp.Resolver{Latest: in.Latest, Zone: in.Zone}
}
