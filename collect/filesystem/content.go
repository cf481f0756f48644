package filesystem

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

const (
	// smallFile is up to which size a file is read ahead as a whole.
	smallFile = 1 << 20
	// readAhead bounds the memory for files read ahead.
	readAhead = 6 << 20
	// maxExtents bounds the data runs kept of one sparse file.
	maxExtents = 1 << 16
	// maxZeros bounds how many zeros of holes are hashed: a sparse file may claim eight exbibytes of them.
	maxZeros = 1 << 30
	magicLen = 8
)

// content is one regular file on its way into the package or through a hash.
type content struct {
	f *safefs.File
	// extents is nil for a dense file.
	extents []safefs.Extent
	size    int64
	data    []byte // the whole content, when it was read ahead
	ahead   int    // bytes taken from the read-ahead's budget
	sum     string // hex
	magic   []byte
	errs    []string
	done    chan struct{}
}

func (c *content) close() {
	if c.f != nil {
		c.f.Close()
		c.f = nil
	}
}

func (c *content) fault(format string, args ...any) {
	c.errs = append(c.errs, fmt.Sprintf(format, args...))
}

// newContent looks for holes in an open file.
func newContent(f *safefs.File) *content {
	st := f.Stat()
	c := &content{f: f, size: st.Size, done: make(chan struct{})}
	// Compressing file systems also store less than the size, and inline small files: SEEK_DATA decides.
	if st.Size > 0 && st.Blocks*512 < st.Size {
		x, err := f.Extents(st.Size, maxExtents)
		if err != nil {
			c.fault("looking for holes: %v", err)
		} else if len(x) != 1 || x[0].Offset != 0 || x[0].Length != st.Size {
			c.extents = x
			if c.extents == nil {
				c.extents = []safefs.Extent{}
			}
		}
	}
	return c
}

func (c *content) sparse() []evidence.Extent {
	if c.extents == nil {
		return nil
	}
	out := make([]evidence.Extent, len(c.extents))
	for i, x := range c.extents {
		out[i] = evidence.Extent{Offset: x.Offset, Length: x.Length}
	}
	return out
}

// fill writes the data, holes left out, as evidence.Writer.Stream wants it. buf is for its use.
func (c *content) fill(w io.Writer, buf []byte) error {
	if c.data != nil {
		_, err := w.Write(c.data)
		return err
	}
	runs := c.extents
	if runs == nil {
		runs = []safefs.Extent{{Offset: 0, Length: c.size}}
	}
	direct, ok := w.(io.ReaderFrom)
	for _, x := range runs {
		if x.Offset == 0 && c.magic == nil {
			var m [magicLen]byte
			n, _ := c.f.ReadAt(m[:min(x.Length, magicLen)], 0) // the same error comes again below
			c.magic = m[:n]
		}
		var n int64
		var err error
		if r := io.NewSectionReader(c.f, x.Offset, x.Length); ok {
			n, err = direct.ReadFrom(r)
		} else {
			n, err = io.CopyBuffer(onlyWriter{w}, r, buf)
		}
		if err == nil && n < x.Length {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("reading at %d of %d: %w", x.Offset+n, c.size, err)
		}
	}
	return nil
}

// onlyWriter hides what else a writer can, so that the buffer given is the one used.
type onlyWriter struct{ io.Writer }

// readInto takes the whole of a small file into buf, which is large enough.
func (c *content) readInto(buf []byte) {
	n, err := c.f.ReadAt(buf[:c.size], 0)
	c.data = buf[:n]
	if err != nil {
		c.fault("reading at %d of %d: %v", n, c.size, err)
	}
	c.magic = append([]byte(nil), c.data[:min(len(c.data), magicLen)]...)
}

// zeros feeds n zero bytes to a hash.
func zeros(h hash.Hash, n int64) {
	var z [32 << 10]byte
	for n > 0 {
		k := min(n, int64(len(z)))
		h.Write(z[:k])
		n -= k
	}
}

// holey hashes the content of a sparse file as a reader would see it while its data passes by.
type holey struct {
	h       hash.Hash
	extents []safefs.Extent
	i       int
	in      int64 // bytes of the current extent seen
	pos     int64 // of the file
}

func (s *holey) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && s.i < len(s.extents) {
		x := s.extents[s.i]
		if s.in == 0 {
			zeros(s.h, x.Offset-s.pos)
			s.pos = x.Offset
		}
		n := min(int64(len(p)), x.Length-s.in)
		s.h.Write(p[:n])
		p = p[n:]
		s.in += n
		s.pos += n
		if s.in == x.Length {
			s.i, s.in = s.i+1, 0
		}
	}
	return total, nil
}

func (s *holey) sum(size int64) string {
	zeros(s.h, size-s.pos)
	return hex.EncodeToString(s.h.Sum(nil))
}

// holes is how many bytes of the file are holes.
func (c *content) holes() int64 {
	n := c.size
	for _, x := range c.extents {
		n -= x.Length
	}
	return n
}

// hash reads the file for its hash and its first bytes alone.
func (c *content) hash(buf []byte) {
	if c.size == 0 {
		// A file of /proc or a FUSE file may have more to say than its size: that is not content at rest.
		sum := sha256.Sum256(nil)
		c.sum = hex.EncodeToString(sum[:])
		return
	}
	if c.extents != nil {
		if c.holes() > maxZeros {
			c.fault("not hashed: %d bytes of holes", c.holes())
			return
		}
		s := newHoley(c.extents)
		if err := c.fill(s, buf); err != nil {
			c.fault("%v", err)
			return
		}
		c.sum = s.sum(c.size)
		return
	}
	h := sha256.New()
	if err := c.fill(h, buf); err != nil {
		c.fault("%v", err)
		return
	}
	c.sum = hex.EncodeToString(h.Sum(nil))
}

// settled compares the file with what it was when it was opened, and notes if it moved under our hands.
func (c *content) settled() {
	if c.f == nil {
		return
	}
	was := c.f.Stat()
	now, err := c.f.Refresh()
	switch {
	case err != nil:
		c.fault("looking at it after reading: %v", err)
	case now.Size != was.Size:
		c.fault("changed while it was read: %d bytes before, %d after", was.Size, now.Size)
	case now.Mtime != was.Mtime || now.Ctime != was.Ctime && now.Nlink == was.Nlink:
		c.fault("changed while it was read")
	}
}

// meta describes an object for the package.
func meta(path, origin string, st safefs.Stat, xattrs map[string]string) evidence.Meta {
	m := evidence.Meta{
		Path: path, Origin: origin, Mode: int64(st.Perm()), UID: int(st.UID), GID: int(st.GID),
		Mtime: st.Mtime, Atime: st.Atime, Ctime: st.Ctime, Btime: st.Btime, Xattrs: xattrs,
		PAX: map[string]string{},
	}
	if m.Mode == 0 {
		m.Mode = 1 << 15 // no permission at all: a bit outside them, since a Meta takes 0 for unknown
	}
	switch st.TypeName() {
	case record.TypeDir:
		m.Type = '5'
	case record.TypeSymlink:
		m.Type = '2'
	case record.TypeChar, record.TypeBlock:
		m.Type = '3'
		if st.TypeName() == record.TypeBlock {
			m.Type = '4'
		}
		m.DevMajor, m.DevMinor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case record.TypeFIFO:
		m.Type = '6'
	case record.TypeFile:
		m.Type = '0'
		if st.Nlink > 1 {
			m.Key = fmt.Sprintf("%d:%d:%d", st.Dev, st.Ino, st.Ctime)
		}
	default:
		m.Type = '0' // tar has no sockets
		m.PAX["SHERD.type"] = st.TypeName()
	}
	return m
}

// row is an object as a line of the inventory.
func row(tree, path string, layer int, st safefs.Stat, xattrs map[string]string) record.File {
	r := record.File{
		Tree: tree, Path: record.Name(path), Type: st.TypeName(), Mode: st.Perm(), UID: st.UID, GID: st.GID, Size: st.Size,
		Mtime: st.Mtime, Ctime: st.Ctime, Atime: st.Atime, Btime: st.Btime, Dev: st.Dev, Ino: st.Ino, Nlink: st.Nlink, Rdev: st.Rdev,
		Layer: layer,
	}
	for k, v := range xattrs {
		if r.Xattrs == nil {
			r.Xattrs = map[string][]byte{}
		}
		r.Xattrs[record.Escape(k)] = []byte(v)
	}
	return r
}

func newHoley(x []safefs.Extent) *holey { return &holey{h: sha256.New(), extents: x} }
