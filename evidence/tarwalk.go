package evidence

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// member is one header of the tar stream and what it announces.
type member struct {
	Entry         // of the header alone: without hash, origin and errors
	header  int64 // where its first header block begins
	stored  int64 // bytes of content in the stream, the sparse map not counted
	comment string
}

// chunks gives the tar stream piece by piece.
type chunks interface {
	// chunk gives the next bytes, at least one and at most limit, valid until the next call; io.EOF at the end.
	chunk(limit int64) ([]byte, error)
}

// tarWalker reads the tar stream that a Writer writes, and refuses all else. It is stricter than a general reader, because what two
// readers understand differently is where an attacker hides things.
type tarWalker struct {
	src  chunks
	off  int64
	left int64 // of the current content
	pad  int64
	blk  [blockSize]byte
}

// tarError says what is wrong with the tar stream, and where in it.
type tarError struct {
	Offset int64
	Why    string
}

func (e *tarError) Error() string {
	return fmt.Sprintf("at offset %d of the tar stream: %s", e.Offset, e.Why)
}

func (t *tarWalker) bad(format string, a ...any) error {
	return &tarError{t.off, fmt.Sprintf(format, a...)}
}

// content gives the next piece of the current member's stored content, io.EOF at its end.
func (t *tarWalker) content() ([]byte, error) {
	if t.left == 0 {
		return nil, io.EOF
	}
	b, err := t.src.chunk(t.left)
	if err != nil {
		return nil, eofInside(err)
	}
	t.left -= int64(len(b))
	t.off += int64(len(b))
	return b, nil
}

func eofInside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// full fills b. It gives io.EOF only when there is not one byte.
func (t *tarWalker) full(b []byte) error {
	for n := 0; n < len(b); {
		c, err := t.src.chunk(int64(len(b) - n))
		if err != nil {
			if n > 0 {
				err = eofInside(err)
			}
			return err
		}
		copy(b[n:], c)
		n += len(c)
		t.off += int64(len(c))
	}
	return nil
}

// next goes to the next member; io.EOF means that the stream ended as it should.
func (t *tarWalker) next() (*member, error) {
	for t.left > 0 {
		if _, err := t.content(); err != nil {
			return nil, err
		}
	}
	if t.pad > 0 {
		if err := t.full(t.blk[:t.pad]); err != nil {
			return nil, eofInside(err)
		}
		if !zero(t.blk[:t.pad]) {
			return nil, t.bad("padding that is not zero")
		}
		t.pad = 0
	}
	at := t.off
	if err := t.full(t.blk[:]); err != nil {
		return nil, eofInside(err)
	}
	if zero(t.blk[:]) {
		return nil, t.ending()
	}
	recs := map[string]string{}
	typ := t.blk[156]
	if typ == tar.TypeXHeader || typ == tar.TypeXGlobalHeader {
		var err error
		if recs, err = t.extended(); err != nil {
			return nil, err
		}
		if typ == tar.TypeXGlobalHeader {
			return &member{header: at, Entry: Entry{Type: typ}, comment: recs["comment"]}, nil
		}
		if err := t.full(t.blk[:]); err != nil {
			return nil, eofInside(err)
		}
	}
	m, err := t.plain(recs)
	if m != nil {
		m.header = at
	}
	return m, err
}

// ending reads the second of the two blocks of zeros, after which nothing may follow.
func (t *tarWalker) ending() error {
	if err := t.full(t.blk[:]); err != nil {
		return eofInside(err)
	}
	if !zero(t.blk[:]) {
		return t.bad("a single block of zeros")
	}
	switch _, err := t.src.chunk(1); {
	case errors.Is(err, io.EOF):
		return io.EOF
	case err != nil:
		return err
	}
	return t.bad("something follows the end")
}

func zero(b []byte) bool { return bytes.Equal(b, zeroBlock[:len(b)]) }

// checked verifies the header block's checksum and kind.
func (t *tarWalker) checked() error {
	sum := int64(0)
	for i, c := range t.blk {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
	}
	if got, err := parseOctal(t.blk[148:155]); err != nil || got != sum {
		return t.bad("a header with a wrong checksum")
	}
	if string(t.blk[257:265]) != "ustar\x0000" {
		return t.bad("a header that is not ustar")
	}
	return nil
}

// extended reads an extended header's records.
func (t *tarWalker) extended() (map[string]string, error) {
	if err := t.checked(); err != nil {
		return nil, err
	}
	n, err := parseOctal(t.blk[124:136])
	if err != nil || n > maxPAX {
		return nil, t.bad("an extended header of more than %d bytes", maxPAX)
	}
	b := make([]byte, n+padding(n))
	if err := t.full(b); err != nil {
		return nil, eofInside(err)
	}
	recs := map[string]string{}
	for s := string(b[:n]); s != ""; {
		l, _, ok := strings.Cut(s[:min(len(s), 12)], " ")
		size, err := strconv.Atoi(l)
		if !ok || err != nil || size <= len(l)+2 || size > len(s) || s[size-1] != '\n' {
			return nil, t.bad("a damaged extended header")
		}
		k, v, ok := strings.Cut(s[len(l)+1:size-1], "=")
		if _, twice := recs[k]; !ok || twice || k == "" {
			return nil, t.bad("an extended header with a damaged or doubled record")
		}
		recs[k] = v
		s = s[size:]
	}
	return recs, nil
}

// plain reads the member that the header block and the records before it announce.
func (t *tarWalker) plain(recs map[string]string) (*member, error) {
	if err := t.checked(); err != nil {
		return nil, err
	}
	m := &member{Entry: Entry{Type: t.blk[156], Path: cString(t.blk[0:100])}}
	link := cString(t.blk[157:257])
	size, err := parseOctal(t.blk[124:136])
	if err != nil {
		return nil, t.bad("a size that is no number")
	}
	if v, ok := recs["size"]; ok {
		if size, err = strconv.ParseInt(v, 10, 64); err != nil || size < 0 {
			return nil, t.bad("a size that is no number")
		}
	}
	if v, ok := recs["path"]; ok {
		m.Path = v
	}
	if v, ok := recs["linkpath"]; ok {
		link = v
	}
	if size > math.MaxInt64-blockSize {
		return nil, t.bad("a size of %d", size)
	}
	switch m.Type {
	case tar.TypeReg:
		if _, ok := recs["GNU.sparse.major"]; ok {
			return m, t.sparse(m, recs, size)
		}
		m.Size, m.stored = size, size
	case tar.TypeLink:
		m.Type, m.LinkTo = tar.TypeReg, link
		if err := checkPath(link); err != nil {
			return nil, t.bad("a hard link whose target %v", err)
		}
	case tar.TypeDir:
		m.Path = strings.TrimSuffix(m.Path, "/")
	case tar.TypeSymlink:
		m.Linkname = link
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		return nil, t.bad("an entry of type %q", m.Type)
	}
	if err := checkPath(m.Path); err != nil {
		return nil, t.bad("an entry whose path %q %v", clip(m.Path), err)
	}
	if size != 0 && m.stored == 0 {
		return nil, t.bad("an entry of type %q with content", m.Type)
	}
	m.Offset = t.off
	t.left, t.pad = m.stored, padding(m.stored)
	return m, nil
}

// sparse reads the map at the head of a sparse file's content.
func (t *tarWalker) sparse(m *member, recs map[string]string, size int64) error {
	real, err := strconv.ParseInt(recs["GNU.sparse.realsize"], 10, 64)
	if err != nil || real < 0 || recs["GNU.sparse.major"] != "1" || recs["GNU.sparse.minor"] != "0" {
		return t.bad("a sparse file of unknown kind or size")
	}
	m.Path = recs["GNU.sparse.name"]
	if err := checkPath(m.Path); err != nil {
		return t.bad("an entry whose path %q %v", clip(m.Path), err)
	}
	var line []byte
	rest := size
	number := func() (int64, error) {
		for {
			if i := bytes.IndexByte(line, '\n'); i >= 0 {
				n, err := strconv.ParseInt(string(line[:i]), 10, 64)
				line = line[i+1:]
				if err != nil || n < 0 {
					return 0, t.bad("a damaged sparse map")
				}
				return n, nil
			}
			if len(line) > 20 || rest < blockSize {
				return 0, t.bad("a damaged sparse map")
			}
			if err := t.full(t.blk[:]); err != nil {
				return 0, eofInside(err)
			}
			rest -= blockSize
			line = append(line, t.blk[:]...)
		}
	}
	n, err := number()
	if err != nil {
		return err
	}
	if n > maxExtents+1 {
		return t.bad("a sparse map of %d extents", n)
	}
	m.Sparse = []Extent{}
	for range n {
		var x Extent
		if x.Offset, err = number(); err == nil {
			x.Length, err = number()
		}
		if err != nil {
			return err
		}
		m.Sparse = append(m.Sparse, x)
	}
	if err := checkExtents(m.Sparse, real); err != nil {
		return t.bad("a sparse map with %v", err)
	}
	if !bytes.Equal(line, make([]byte, len(line))) {
		return t.bad("a sparse map with something behind it")
	}
	m.Size, m.stored, m.Offset = real, dataLength(m.Sparse), t.off
	if m.stored != rest {
		return t.bad("a sparse map that does not fit its content")
	}
	t.left, t.pad = rest, padding(rest)
	return nil
}

func parseOctal(b []byte) (int64, error) {
	s := strings.Trim(string(b), " \x00")
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 8, 64)
	if err == nil && n < 0 {
		err = strconv.ErrRange
	}
	return n, err
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// sameExtents compares sparse maps, the empty one that may end a map in the stream not counted.
func sameExtents(a, b []Extent) bool {
	a, b = withoutEmpty(a), withoutEmpty(b)
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func withoutEmpty(x []Extent) []Extent {
	out := make([]Extent, 0, len(x))
	for _, e := range x {
		if e.Length > 0 {
			out = append(out, e)
		}
	}
	return out
}
