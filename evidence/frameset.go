package evidence

import (
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// cachedFrames bounds the decompressed frames that a Package keeps.
const cachedFrames = 8

// frameSet gives random access to the tar stream that frames hold.
type frameSet struct {
	src    io.ReaderAt
	frames []frameInfo
	at     []int64 // offset of each frame in the file, and of the end
	start  []int64 // offset of each frame's content in the tar stream, and of the end

	mu     sync.Mutex
	cache  map[int]*cachedFrame
	recent []int // least recent first
	decs   sync.Pool
}

type cachedFrame struct {
	once sync.Once
	data []byte
	err  error
}

func newFrameSet(src io.ReaderAt, frames []frameInfo) (*frameSet, error) {
	s := &frameSet{src: src, frames: frames, at: make([]int64, len(frames)+1), start: make([]int64, len(frames)+1), cache: map[int]*cachedFrame{}}
	for i, f := range frames {
		if f.Content == 0 {
			return nil, fmt.Errorf("the seek table has frame %d without content before the signature", i)
		}
		s.at[i+1] = s.at[i] + int64(f.Compressed)
		s.start[i+1] = s.start[i] + int64(f.Content)
	}
	return s, nil
}

// end is the offset in the file behind the last frame, size that of the tar stream.
func (s *frameSet) end() int64  { return s.at[len(s.frames)] }
func (s *frameSet) size() int64 { return s.start[len(s.frames)] }

// frame gives a frame's content, which must not be changed.
func (s *frameSet) frame(i int) ([]byte, error) {
	s.mu.Lock()
	c := s.cache[i]
	if c == nil {
		c = &cachedFrame{}
		if len(s.cache) >= cachedFrames {
			delete(s.cache, s.recent[0])
			s.recent = s.recent[1:]
		}
		s.cache[i] = c
	} else if k := slices.Index(s.recent, i); k >= 0 {
		s.recent = slices.Delete(s.recent, k, k+1)
	}
	s.recent = append(s.recent, i)
	s.mu.Unlock()
	c.once.Do(func() { c.data, c.err = s.decode(i) })
	return c.data, c.err
}

func (s *frameSet) decode(i int) ([]byte, error) {
	f := s.frames[i]
	if f.Content > maxFrameSize || f.Compressed > 2*maxFrameSize {
		return nil, fmt.Errorf("frame %d: too large", i)
	}
	b := make([]byte, f.Compressed)
	if err := readAt(s.src, b, s.at[i]); err != nil {
		return nil, err
	}
	d, ok := s.decs.Get().(*zstd.Decoder)
	if !ok {
		var err error
		if d, err = newDecoder(); err != nil {
			return nil, err
		}
	}
	defer s.decs.Put(d)
	out, err := decodeFrame(d, nil, b, f)
	if err != nil {
		return nil, fmt.Errorf("frame %d, at offset %d: %w", i, s.at[i], err)
	}
	return out, nil
}

// find gives the frame that holds an offset of the tar stream.
func (s *frameSet) find(off int64) int {
	i, exact := slices.BinarySearch(s.start, off)
	if !exact {
		i--
	}
	return i
}

// ReadAt reads the tar stream.
func (s *frameSet) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) {
		if off < 0 || off >= s.size() {
			return n, io.EOF
		}
		i := s.find(off)
		data, err := s.frame(i)
		if err != nil {
			return n, err
		}
		k := copy(b[n:], data[off-s.start[i]:])
		n += k
		off += int64(k)
	}
	return n, nil
}

// ahead has the frame after the one at off decompressed beside the caller.
func (s *frameSet) ahead(off int64) {
	i := s.find(off) + 1
	if i < 1 || i >= len(s.frames) {
		return
	}
	s.mu.Lock()
	_, ok := s.cache[i]
	s.mu.Unlock()
	if !ok {
		go func() { _, _ = s.frame(i) }() // its error comes again when it is read
	}
}

// frameChunks gives the tar stream from an offset on, for a tarWalker.
type frameChunks struct {
	set *frameSet
	off int64
}

func (c *frameChunks) chunk(limit int64) ([]byte, error) {
	if c.off >= c.set.size() {
		return nil, io.EOF
	}
	i := c.set.find(c.off)
	b, err := c.set.frame(i)
	if err != nil {
		return nil, err
	}
	b = b[c.off-c.set.start[i]:]
	b = b[:min(int64(len(b)), limit)]
	c.off += int64(len(b))
	c.set.ahead(c.off)
	return b, nil
}
