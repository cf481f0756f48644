package evidence

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sort"

	"github.com/sherd-forensics/sherd/internal/printable"
)

// Artifact reads one artifact's content, holes as zeros. ReadAt is safe for concurrent use; Read and Seek are not. Content that
// is read from begin to end through Read is checked against the manifest: the error comes in place of io.EOF.
type Artifact struct {
	p     *Package
	entry Entry
	data  Entry // the first copy, for a link
	// starts says where each extent's bytes lie in the tar stream.
	starts []int64
	pos    int64
	sum    hash.Hash
	seen   int64 // hashed so far, from the beginning
}

// Open opens a regular file's content; hard links lead to the first copy.
func (p *Package) Open(path string) (*Artifact, error) {
	e, ok := p.Artifact(path)
	if !ok {
		return nil, p.missing(path)
	}
	if e.Type != tar.TypeReg {
		return nil, fmt.Errorf("artifact %q is a %s and has no content", printable.Clip(path, 200), typeNames[e.Type])
	}
	d := e
	if e.LinkTo != "" {
		if d, ok = p.Artifact(e.LinkTo); !ok {
			return nil, p.missing(e.LinkTo)
		}
	}
	a := &Artifact{p: p, entry: e, data: d, sum: sha256.New()}
	at := d.Offset
	for _, x := range d.Sparse {
		a.starts = append(a.starts, at)
		at += x.Length
	}
	return a, nil
}

// Entry is what the manifest says.
func (a *Artifact) Entry() Entry { return a.entry }

// Size is the content's size, holes included.
func (a *Artifact) Size() int64 { return a.entry.Size }

// run tells about the bytes at pos: whether they are a hole, where they lie in the tar stream if not, and how many
// follow that are alike.
func (a *Artifact) run(pos int64) (hole bool, at, n int64) {
	x := a.data.Sparse
	if x == nil {
		return false, a.data.Offset + pos, a.data.Size - pos
	}
	i := sort.Search(len(x), func(i int) bool { return pos < x[i].Offset+x[i].Length })
	if i == len(x) {
		return true, 0, a.data.Size - pos
	}
	if pos < x[i].Offset {
		return true, 0, x[i].Offset - pos
	}
	return false, a.starts[i] + pos - x[i].Offset, x[i].Offset + x[i].Length - pos
}

// ReadAt implements io.ReaderAt.
func (a *Artifact) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	n := 0
	for n < len(b) {
		if off >= a.Size() {
			return n, io.EOF
		}
		k, _, err := a.piece(b[n:], off)
		n += k
		off += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// piece reads one run.
func (a *Artifact) piece(b []byte, off int64) (n int, hole bool, err error) {
	hole, at, l := a.run(off)
	b = b[:min(int64(len(b)), l)]
	if hole {
		clear(b)
		return len(b), true, nil
	}
	n, err = a.p.frames.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		err = fmt.Errorf("artifact %q: %w", printable.Clip(a.entry.Path, 200), err)
	}
	return n, false, err
}

// Read implements io.Reader.
func (a *Artifact) Read(b []byte) (int, error) {
	if a.pos >= a.Size() {
		return 0, a.verdict()
	}
	if len(b) == 0 {
		return 0, nil
	}
	n, hole, err := a.piece(b, a.pos)
	if a.pos == a.seen && n > 0 {
		if !hole || a.data.HashOf == "" {
			a.sum.Write(b[:n])
		}
		a.seen += int64(n)
	}
	a.pos += int64(n)
	if !hole && a.Size() > FrameSize {
		if h, at, _ := a.run(a.pos); !h {
			a.p.frames.ahead(at)
		}
	}
	return n, err
}

// verdict is io.EOF, or why the content is not the sealed one.
func (a *Artifact) verdict() error {
	if a.seen != a.Size() {
		return io.EOF
	}
	if got := hex.EncodeToString(a.sum.Sum(nil)); got != a.data.SHA256 {
		return &AlteredError{Path: a.p.path, Problems: []string{wrongSum(a.entry.Path, got, a.data.SHA256)}}
	}
	return io.EOF
}

func wrongSum(path, got, want string) string {
	return fmt.Sprintf("artifact %q: its content's SHA-256 is %s, the manifest has %s", printable.Clip(path, 200), got, want)
}

// Seek implements io.Seeker. Content that is sought in is not checked, unless reading goes on where hashing ended.
func (a *Artifact) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += a.pos
	case io.SeekEnd:
		off += a.Size()
	case io.SeekStart:
	default:
		return a.pos, fmt.Errorf("unknown whence %d", whence)
	}
	if off < 0 {
		return a.pos, errors.New("seeking before the beginning")
	}
	a.pos = off
	return off, nil
}

// Extents are the runs of data of a sparse artifact; nil for a dense one.
func (a *Artifact) Extents() []Extent { return slices.Clone(a.data.Sparse) }
