package containerlog

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

const sniffed = 64 << 10

// source is a log's bytes, decompressed, with bounded memory.
type source struct {
	*bufio.Reader
	compressed bool
	offset     int64 // of what is read next
	broken     error // why decompression ended early
	failed     *failing
	closer     func()
	line       []byte
}

// failing remembers the package's own error, which is no fault of the compressed data.
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

func open(a io.Reader) (*source, error) {
	s := &source{failed: &failing{r: a}, closer: func() {}}
	in := bufio.NewReaderSize(s.failed, sniffed)
	magic, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var r io.Reader = in
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b, 8}):
		z, err := gzip.NewReader(in)
		if s.failed.err != nil {
			return nil, s.failed.err
		}
		if s.compressed, r = true, z; err != nil {
			s.broken, r = err, bytes.NewReader(nil)
		}
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		s.compressed, r, s.closer = true, z, z.Close
	}
	if s.compressed {
		r = &bounded{r, maxExpanded}
	}
	s.Reader = bufio.NewReaderSize(r, maxSource)
	return s, nil
}

func (s *source) close() { s.closer() }

// peek gives up to n bytes without taking them.
func (s *source) peek(n int) []byte {
	b, _ := s.Peek(n) // an error comes again with the next read
	return b
}

// fault tells an error of the package, which is returned, from one of the compressed data, which ends the file.
func (s *source) fault(err error) error {
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return nil
	case s.failed.err != nil:
		return s.failed.err
	case s.compressed:
		s.broken = err
		return nil
	}
	return err
}

// next gives the next line with its line feed, at most maxSource bytes of it, and its whole length; length 0 is the end.
// The bytes are valid until the next call.
func (s *source) next() (line []byte, offset, length int64, err error) {
	offset = s.offset
	s.line = s.line[:0]
	for {
		b, err := s.ReadSlice('\n')
		length += int64(len(b))
		if room := maxSource - len(s.line); room > 0 {
			s.line = append(s.line, b[:min(len(b), room)]...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		s.offset += length
		return s.line, offset, length, s.fault(err)
	}
}

// drop leaves n bytes out.
func (s *source) drop(n int) error {
	m, err := s.Discard(n)
	s.offset += int64(m)
	return s.fault(err)
}
