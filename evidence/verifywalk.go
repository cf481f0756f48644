package evidence

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// rawFrame is a frame on its way from the file to the tar stream.
type rawFrame struct {
	n    int
	at   int64
	info frameInfo
	raw  []byte
	data []byte
	err  error
	done chan struct{}
}

// walk reads the file once, front to back: one goroutine finds and hashes the frames as they lie, workers decompress them, and this
// one follows the tar stream and hashes contents.
func (v *verification) walk() error {
	work := make(chan *rawFrame, 4)
	order := make(chan *rawFrame, 6)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		d, err := newDecoder()
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer d.Close()
			for f := range work {
				f.data, f.err = decodeFrame(d, f.data, f.raw, f.info)
				close(f.done)
			}
		})
	}
	var rerr error
	free := sync.Pool{New: func() any { return &rawFrame{} }}
	wg.Go(func() {
		defer close(work)
		defer close(order)
		rerr = v.readFrames(func(f frameInfo, at int64, b []byte) bool {
			r, _ := free.Get().(*rawFrame)
			*r = rawFrame{n: len(v.frames), at: at, info: f, raw: append(r.raw[:0], b...), data: r.data[:0], done: make(chan struct{})}
			select {
			case <-stop:
				return false
			case order <- r:
			}
			work <- r
			return true
		})
	})
	c := &verifyChunks{v: v, order: order, free: &free}
	v.members(c)
	// What the tar stream did not want must still be read, since its bytes are signed too.
	for {
		if _, err := c.chunk(maxFrameSize); err != nil {
			break
		}
	}
	close(stop)
	wg.Wait()
	for _, p := range c.problems {
		v.r.problem("%s", p)
	}
	return rerr
}

// readFrames walks the frames, hands out those with content, and notes what it finds.
func (v *verification) readFrames(give func(frameInfo, int64, []byte) bool) error {
	size, off := v.src.size, int64(0)
	var buf []byte
	for i := 0; off < size; i++ {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		if v.o.Progress != nil {
			v.o.Progress(off, size)
		}
		f, err := parseFrame(v.src, off, size)
		var bad *frameError
		switch {
		case errors.Is(err, errShort):
			v.readable = off
			if v.table != nil {
				v.r.problem("frame %d, at offset %d: it runs on behind the file's end", i, off)
				return v.rest(off)
			}
			v.cut = true
			return v.rest(off)
		case errors.As(err, &bad):
			v.r.problem("frame %d, %v", i, err)
			// The table may still tell where the next one begins, so that one damage does not hide another.
			if i >= len(v.table) || v.table[i].Content == 0 || v.signed {
				return v.rest(off)
			}
			f = parsedFrame{frameInfo: v.table[i]}
		case err != nil:
			return err
		}
		n := int(f.Compressed)
		if cap(buf) < n {
			buf = make([]byte, n, n+n/8)
		}
		b := buf[:n]
		if err := readAt(v.src, b, off); err != nil {
			return v.unreadable(err, i, off)
		}
		switch f.Skippable {
		case 0:
			if v.signed {
				v.r.problem("frame %d, at offset %d, follows the signature", i, off)
				return v.rest(off)
			}
			v.whole.Write(b)
			if !give(f.frameInfo, off, b) {
				return nil
			}
			v.frames = append(v.frames, f.frameInfo)
		case signatureMagic:
			v.signature(b, off)
			v.whole.Write(b)
		case seekMagic:
			v.whole.Write(b)
			v.seekTable(b, off)
			if off+int64(n) < size {
				v.r.problem("%d bytes follow the end of the package, at offset %d", size-off-int64(n), off+int64(n))
			}
			return v.rest(off + int64(n))
		}
		off += int64(n)
		v.readable = off
	}
	if !v.sawTable {
		v.cut = true
	}
	return nil
}

// rest hashes what no frame was found in, so that the report's hash is the file's.
func (v *verification) rest(off int64) error {
	_, err := io.CopyBuffer(v.whole, io.NewSectionReader(v.src, off, v.src.size-off), make([]byte, 1<<20))
	if err != nil {
		return v.unreadable(err, -1, off)
	}
	return nil
}

// unreadable tells damage to an encrypted package's chunk, which shows as a failing read, from a disk that fails.
func (v *verification) unreadable(err error, i int, off int64) error {
	if !v.src.encrypted {
		return err
	}
	v.r.problem("frame %d, at offset %d: the encryption does not open: %v", i, off, err)
	return nil
}

func (v *verification) signature(b []byte, off int64) {
	if v.signed {
		v.r.problem("a second signature, at offset %d", off)
		return
	}
	v.signed, v.sealAt = true, off
	v.sealSum = hex.EncodeToString(v.whole.Sum(nil))
	st, err := parseSignature(b[skipHeader:])
	if err != nil {
		v.r.problem("the signature at offset %d: %v", off, err)
		return
	}
	v.st = st
	v.tableAfter = append(slices.Clone(v.frames), frameInfo{Compressed: uint32(len(b))})
}

// seekTable holds the table against the frames that it is about. Only one table can follow from them.
func (v *verification) seekTable(b []byte, off int64) {
	v.sawTable = true
	want := v.tableAfter
	if !v.signed {
		want = v.frames
	}
	if bytes.Equal(b, encodeSeekTable(want)) {
		return
	}
	got, err := readSeekTable(bytes.NewReader(b), int64(len(b)))
	if err == nil || len(got) != len(want) {
		got, err = tableEntries(b)
	}
	if err != nil || len(got) != len(want) {
		v.r.problem("the seek table at offset %d is not the one that follows from the %d frames before it", off, len(want))
		return
	}
	if sameFrames(got, want) {
		v.r.problem("the frames were re-ordered: they are those of the seek table, in another order")
	}
	for i := range want {
		if got[i] != want[i] {
			v.r.problem("frame %d is not the one in the seek table: %d bytes for %d with checksum %08x, instead of %d for %d with %08x", i,
				want[i].Compressed, want[i].Content, want[i].Checksum, got[i].Compressed, got[i].Content, got[i].Checksum)
		}
	}
}

func tableEntries(b []byte) ([]frameInfo, error) {
	n := len(b) - skipHeader - seekFooter
	if n < 0 || n%seekEntrySize != 0 {
		return nil, errNoSeekTable
	}
	var out []frameInfo
	for e := b[skipHeader : skipHeader+n]; len(e) > 0; e = e[seekEntrySize:] {
		out = append(out, frameInfo{binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:]), binary.LittleEndian.Uint32(e[8:])})
	}
	return out, nil
}

func sameFrames(a, b []frameInfo) bool {
	cmp := func(x, y frameInfo) int {
		return strings.Compare(fmt.Sprintf("%08x%08x%08x", x.Compressed, x.Content, x.Checksum), fmt.Sprintf("%08x%08x%08x", y.Compressed, y.Content, y.Checksum))
	}
	return slices.Equal(slices.SortedFunc(slices.Values(a), cmp), slices.SortedFunc(slices.Values(b), cmp))
}

// verifyChunks gives the tar stream out of the decompressed frames. A frame that does not decompress stands as zeros of
// its size, so that the stream keeps its places.
type verifyChunks struct {
	v        *verification
	order    chan *rawFrame
	free     *sync.Pool
	cur      *rawFrame
	rest     []byte
	total    int64
	problems []string
}

func (c *verifyChunks) chunk(limit int64) ([]byte, error) {
	for len(c.rest) == 0 {
		if c.cur != nil {
			c.free.Put(c.cur)
			c.cur = nil
		}
		f, ok := <-c.order
		if !ok {
			return nil, io.EOF
		}
		<-f.done
		if f.err != nil {
			if len(c.problems) < maxProblems {
				c.problems = append(c.problems, fmt.Sprintf("frame %d, at offset %d, does not decompress: %v", f.n, f.at, f.err))
			}
			f.data = make([]byte, f.info.Content)
		}
		c.cur, c.rest = f, f.data
	}
	b := c.rest[:min(int64(len(c.rest)), limit)]
	c.rest = c.rest[len(b):]
	c.total += int64(len(b))
	return b, nil
}

// members follows the tar stream and holds each member against the manifest.
func (v *verification) members(c *verifyChunks) {
	t := &tarWalker{src: c}
	check := &memberCheck{v: v, c: c}
	for {
		m, err := t.next()
		if err != nil {
			check.end(t, err)
			return
		}
		check.member(t, m)
		if check.stop {
			return
		}
	}
}

// memberCheck is the state of members. It adds to the walk's problems and not to the report, which the reading goroutine writes to.
type memberCheck struct {
	v        *verification
	c        *verifyChunks
	n        int    // artifacts so far
	seen     []bool // by place in the manifest
	manifest bool
	first    bool
	stop     bool
}

func (k *memberCheck) problem(format string, a ...any) {
	if len(k.c.problems) < maxProblems {
		k.c.problems = append(k.c.problems, fmt.Sprintf(format, a...))
	}
}

func (k *memberCheck) member(t *tarWalker, m *member) {
	if m.Type == tar.TypeXGlobalHeader {
		if k.first || m.header != 0 {
			k.problem("a second global header, at offset %d of the tar stream", m.header)
		}
		k.first = true
		return
	}
	if k.manifest {
		k.problem("artifact %q follows the manifest", clip(m.Path))
	}
	if m.Path == ManifestPath {
		k.manifest = true
		k.content(t, m, nil)
		return
	}
	e := k.listed(m)
	if e != nil {
		k.fields(m, e)
	}
	if k.content(t, m, e) {
		k.v.artifacts++
		k.v.r.Content += m.Size
	}
	k.n++
}

// listed finds the manifest's entry for a member.
func (k *memberCheck) listed(m *member) *Entry {
	p := k.v.pkg
	if p == nil {
		return nil
	}
	if k.seen == nil {
		k.seen = make([]bool, len(p.m.Artifacts))
	}
	i, ok := p.index[m.Path]
	switch {
	case !ok:
		k.problem("artifact %q is not in the manifest", clip(m.Path))
		return nil
	case k.seen[i]:
		k.problem("artifact %q stands twice", clip(m.Path))
		return nil
	case i != k.n:
		k.problem("artifact %q is the %d. in the stream and the %d. in the manifest: re-ordered", clip(m.Path), k.n+1, i+1)
	}
	k.seen[i] = true
	return &p.m.Artifacts[i]
}

// fields holds what the header says against the manifest.
func (k *memberCheck) fields(m *member, e *Entry) {
	bad := func(what string, got, want any) {
		k.problem("artifact %q: its %s is %v, the manifest has %v", clip(m.Path), what, got, want)
	}
	if m.Type != e.Type {
		bad("type", typeNames[m.Type], typeNames[e.Type])
	}
	if m.LinkTo != e.LinkTo {
		bad("link", clip(m.LinkTo), clip(e.LinkTo))
	}
	if m.Linkname != e.Linkname {
		bad("target", clip(m.Linkname), clip(e.Linkname))
	}
	if e.LinkTo == "" && m.Type == tar.TypeReg {
		if m.Size != e.Size {
			bad("size", m.Size, e.Size)
		}
		if m.Offset != e.Offset {
			bad("offset", m.Offset, e.Offset)
		}
		if (m.Sparse == nil) != (e.Sparse == nil) || !sameExtents(m.Sparse, e.Sparse) {
			k.problem("artifact %q: its sparse map is not the manifest's", clip(m.Path))
		}
	}
}

// content hashes a member's content and reports whether it is whole.
func (k *memberCheck) content(t *tarWalker, m *member, e *Entry) bool {
	if m.Type != tar.TypeReg || m.LinkTo != "" {
		return true
	}
	x := m.Entry
	if e != nil {
		x.HashOf = e.HashOf
	}
	holes := x.Size - m.stored
	if x.HashOf == "" && holes > 0 {
		if k.v.holes += holes; holes > maxHoles || k.v.holes > maxAllHoles {
			k.problem("artifact %q claims %d bytes of holes to be hashed, more than %d", clip(m.Path), holes, maxHoles)
			x.HashOf = "data"
			e = nil
		}
	}
	s := &sparseSum{Hash: sha256.New(), entry: &x}
	for {
		b, err := t.content()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return false // the next call of next says so too
		}
		s.add(b)
	}
	s.finish()
	got := hex.EncodeToString(s.Sum(nil))
	switch {
	case e != nil && got != e.SHA256:
		k.problem("%s", wrongSum(m.Path, got, e.SHA256))
	case m.Path == ManifestPath && k.v.pkg != nil && got != k.v.pkg.st.Subject[1].Digest.SHA256:
		k.problem("%s", wrongSum(m.Path, got, k.v.pkg.st.Subject[1].Digest.SHA256))
	}
	return true
}

// end sums up when the tar stream has no more members.
func (k *memberCheck) end(t *tarWalker, err error) {
	k.stop = true
	switch {
	case errors.Is(err, io.EOF):
		if !k.manifest {
			k.problem("the tar stream ends without %s", ManifestPath)
		}
	case errors.Is(err, io.ErrUnexpectedEOF):
		k.v.tarShort = fmt.Sprintf("the tar stream ends at offset %d, in the middle", t.off)
	default:
		k.problem("%v", err)
	}
	p := k.v.pkg
	if p == nil {
		return
	}
	missing := 0
	for i := range p.m.Artifacts {
		if i >= len(k.seen) || !k.seen[i] {
			if missing++; missing <= 5 {
				k.problem("artifact %q is in the manifest and not in the package", clip(p.m.Artifacts[i].Path))
			}
		}
	}
	if missing > 5 {
		k.problem("and %d more artifacts that the manifest lists are missing", missing-5)
	}
	if want := p.st.Predicate.TarBytes; errors.Is(err, io.EOF) && t.off != want {
		k.problem("the tar stream has %d bytes, the signed statement says %d", t.off, want)
	}
}
