package process

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

const (
	// maxRuns bounds the runs of data of a sparse file.
	maxRuns = 1 << 16
	// minHoles is how many bytes of holes make a file worth being kept as a sparse one.
	minHoles = 1 << 20
	// maxHash is the size up to which files of the image are hashed.
	maxHash = 4 << 30
	// maxSums bounds the hashes remembered.
	maxSums = 1 << 14
)

// kept is what became of a content.
type kept struct {
	artifact string // "" if it was not kept
	sum      string // of the whole content; "" if only a part was kept
	err      error  // why it is not all there
}

// keep seals a regular file's content, bounded. The error is fatal; what is wrong with the content is noted in the coverage and
// in kept.
func (c *collector) keep(path, origin string, f *safefs.File) (kept, error) {
	st := f.Stat()
	m := evidence.Meta{
		Path: path, Origin: origin, Mode: int64(st.Perm()), UID: int(st.UID), GID: int(st.GID),
		Mtime: st.Mtime, Atime: st.Atime, Ctime: st.Ctime, Btime: st.Btime,
	}
	runs, data := extents(f, st.Size)
	size, cut := st.Size, error(nil)
	switch limit := min(c.o.MaxFile, max(c.left.Load(), 0)); {
	case data > limit && limit == 0:
		k := kept{err: fmt.Errorf("left out: contents of %d bytes are kept already", c.o.MaxTotal)}
		c.miss(path, k.err, false)
		return k, nil
	case data > limit:
		runs, size = cutRuns(runs, limit)
		data = limit
		cut = fmt.Errorf("kept up to byte %d of %d", size, st.Size)
	default:
		m.Key = fmt.Sprintf("%d:%d:%d:%d", st.Dev, st.Ino, st.Ctime, st.Size)
	}
	if size-data >= minHoles {
		m.Sparse = runs
	} else {
		runs = []evidence.Extent{{Offset: 0, Length: size}}
	}
	if cut != nil {
		m.Errors = append(m.Errors, cut.Error())
		c.miss(path, cut, true)
	}
	var failed error
	e, err := c.w.Stream(m, size, func(dst io.Writer) error {
		c.left.Add(-data)
		failed = c.copy(dst, f, runs)
		return failed
	})
	if err != nil {
		return kept{}, err
	}
	k := kept{artifact: e.Path, sum: e.SHA256, err: cut}
	if e.HashOf != "" || cut != nil || failed != nil {
		k.sum = ""
	}
	if failed != nil {
		k.err = failed
		c.miss(path, failed, true)
	}
	return k, nil
}

// extents are the runs of data of a file, and their sum.
func extents(f *safefs.File, size int64) ([]evidence.Extent, int64) {
	x, err := f.Extents(size, maxRuns)
	if err != nil {
		x = []safefs.Extent{{Offset: 0, Length: size}}
	}
	out := make([]evidence.Extent, len(x))
	var data int64
	for i, e := range x {
		out[i] = evidence.Extent{Offset: e.Offset, Length: e.Length}
		data += e.Length
	}
	return out, data
}

// cutRuns keeps the first limit bytes of data, and says where in the file they end.
func cutRuns(runs []evidence.Extent, limit int64) ([]evidence.Extent, int64) {
	for i, r := range runs {
		if r.Length >= limit {
			runs = slices.Clone(runs[:i+1])
			runs[i].Length = limit
			return runs, r.Offset + limit
		}
		limit -= r.Length
	}
	return runs, 0
}

// copy writes runs of a file to dst, and stops when the capture is stopped.
func (c *collector) copy(dst io.Writer, f io.ReaderAt, runs []evidence.Extent) error {
	buf := buffers.Get().(*[]byte) //nolint:errcheck,forcetypeassert // New makes no other
	defer buffers.Put(buf)
	for _, r := range runs {
		n, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{&stopper{c, io.NewSectionReader(f, r.Offset, r.Length)}}, *buf)
		if err != nil {
			return fmt.Errorf("reading at byte %d: %w", r.Offset+n, err)
		}
		if n < r.Length {
			return errShrank
		}
	}
	return nil
}

var errShrank = errors.New("the file shrank while it was read")

var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

type stopper struct {
	c *collector
	r io.Reader
}

func (s *stopper) Read(p []byte) (int, error) {
	if err := s.c.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// sums remembers hashes of files that many processes run or map.
type sums struct {
	mu    sync.Mutex
	known map[string]string
}

// hash is the SHA-256 of a whole file; files that did not change since are not read again.
func (c *collector) hash(f *safefs.File) (string, error) {
	st := f.Stat()
	if st.Size > maxHash {
		return "", fmt.Errorf("not hashed: %d bytes are more than %d", st.Size, int64(maxHash))
	}
	key := fmt.Sprintf("%d:%d:%d:%d:%d", st.Dev, st.Ino, st.Ctime, st.Mtime, st.Size)
	c.sums.mu.Lock()
	sum, ok := c.sums.known[key]
	c.sums.mu.Unlock()
	if ok {
		return sum, nil
	}
	s := sha256.New()
	if err := c.copy(s, f, []evidence.Extent{{Offset: 0, Length: st.Size}}); err != nil {
		return "", err
	}
	sum = hex.EncodeToString(s.Sum(nil))
	c.sums.mu.Lock()
	if len(c.sums.known) < maxSums {
		c.sums.known[key] = sum
	}
	c.sums.mu.Unlock()
	return sum, nil
}
