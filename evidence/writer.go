package evidence

import (
	"archive/tar"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// WriterOptions choose how a package is written. The zero value is good.
type WriterOptions struct {
	// Tool names the program and its version: "sherd 1.2".
	Tool string
	// Target says what was captured; it is put into the manifest as JSON.
	Target any
	// ID is the evidence's id; a random one if empty.
	ID string
	// Key signs the package. With nil a key is made for this package alone: it shows that the package is whole, but not
	// who made it.
	Key *Key
	// Started is when the capture began; now if zero.
	Started time.Time
	// Workers compress; 0 means 2. Each costs about 6 MiB.
	Workers int
	// Recipients have the whole package encrypted to them.
	Recipients []age.Recipient
}

// Sealed says what Close made.
type Sealed struct {
	ID        string
	SHA256    string // of the bytes written, encrypted as they may be
	Size      int64  // of the bytes written
	Artifacts int    // without manifest.json
	Content   int64  // bytes of all artifacts' contents, holes included
	Signer    string
	KeyID     string
	// Ephemeral is true when the key was made for this package alone, so that nobody can tell who signed it.
	Ephemeral bool
}

// inlineLimit is the size up to which content is read into a buffer of its own before it is sealed: outside the lock, so that a
// source that blocks holds nobody up, and with its hash known in time to store identical contents once.
const inlineLimit = 512 << 10

// hurryFrom is the size from which volatile content may be stored: below it compression takes a fraction of a second.
const hurryFrom = 64 << 20

// maxKnown bounds how many contents are remembered to be stored once. Beyond it a copy is stored again.
const maxKnown = 32 << 10

// Writer writes a package front to back. It is safe for concurrent use; artifacts are written one after another. fill
// functions of more than half a MiB run inside the Writer's lock: they must not call Add, Stream or Lines.Write, but may
// call Miss and Status.
type Writer struct {
	o       WriterOptions
	out     *output
	enc     io.WriteCloser // age, or nil
	buffers sync.Pool

	artifacts         atomic.Int64
	bytesIn, bytesTar atomic.Int64

	covMu sync.Mutex
	cov   coverage

	mu     sync.Mutex
	p      *pipeline
	closed bool
	m      manifestWriter
	names  map[uint64]struct{}
	seed   maphash.Seed
	once   storedOnce
	holes  int64          // zeros hashed so far
	head   []byte         // scratch
	zero   [64 << 10]byte // for filling up
}

// storedOnce remembers contents that were sealed, by source and by hash. It is kept small: a tree may have more files than there
// is memory for.
type storedOnce struct {
	known []known
	keys  map[[2]uint64]int32
	sums  map[[32]byte]int32
	seeds [2]maphash.Seed
}

// known is a content that was sealed.
type known struct {
	path   string
	size   int64
	offset int64
	sum    [32]byte
}

// output counts and hashes what reaches the real output, behind encryption.
type output struct {
	w   io.Writer
	sum *sha256sum
	n   atomic.Int64
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if o.sum != nil {
		o.sum.Write(b[:n])
	}
	o.n.Add(int64(n))
	return n, err
}

// NewWriter begins a package on out.
func NewWriter(out io.Writer, o WriterOptions) (*Writer, error) {
	if o.ID == "" {
		var b [16]byte
		_, _ = rand.Read(b[:]) // never fails
		o.ID = hex.EncodeToString(b[:])
	}
	if o.Started.IsZero() {
		o.Started = time.Now()
	}
	if o.Workers <= 0 {
		o.Workers = 2
	}
	if o.Key == nil {
		k, err := NewKey(signerName())
		if err != nil {
			return nil, err
		}
		k.Ephemeral = true
		o.Key = k
	}
	w := &Writer{o: o, out: &output{w: out}, names: map[uint64]struct{}{}, seed: maphash.MakeSeed(),
		once: storedOnce{keys: map[[2]uint64]int32{}, sums: map[[32]byte]int32{}, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}}
	w.buffers.New = func() any { return new([]byte) }
	if err := w.m.init(o); err != nil {
		return nil, fmt.Errorf("the target's description: %w", err)
	}
	dst := io.Writer(w.out)
	if len(o.Recipients) > 0 {
		w.out.sum = newSHA256()
		enc, err := age.Encrypt(w.out, o.Recipients...)
		if err != nil {
			return nil, fmt.Errorf("encrypting the package: %w", err)
		}
		w.enc, dst = enc, enc
	}
	p, err := newPipeline(dst, o.Workers)
	if err != nil {
		return nil, err
	}
	w.p = p
	comment := w.m.head
	if len(comment) > maxPAX/2 {
		comment, err = json.Marshal(map[string]any{"format": FormatVersion, "tool": o.Tool, "id": o.ID, "started": o.Started.UnixNano()})
		if err != nil {
			return nil, err
		}
	}
	return w, p.append(appendGlobalHeader(nil, string(comment)))
}

// Add seals content that is at hand. Content that was sealed before becomes a hard link.
func (w *Writer) Add(m Meta, content []byte) (Entry, error) {
	if m.Sparse != nil || int64(len(content)) > maxFrameSize {
		return w.Stream(m, int64(len(content)), func(d io.Writer) error { _, err := d.Write(content); return err })
	}
	return w.add(m, content)
}

// Stream seals exactly size bytes of what fill writes: what a short or failing fill leaves out is zeros, what is too much is cut,
// and both are noted in Entry.Errors, since fill's own error is a fact about the evidence. The returned error is fatal: the
// output failed. The writer that fill gets is an io.ReaderFrom, so that io.Copy and large reads go straight into a frame.
func (w *Writer) Stream(m Meta, size int64, fill func(io.Writer) error) (Entry, error) {
	if size < 0 {
		m.Errors = append(slices.Clip(m.Errors), fmt.Sprintf("negative size %d taken as 0", size))
		size = 0
	}
	if m.Type != 0 && m.Type != tar.TypeReg {
		return w.add(m, nil)
	}
	if err := checkExtents(m.Sparse, size); err != nil {
		return Entry{}, fmt.Errorf("artifact %q: %w", clip(m.Path), err)
	}
	if m.Key != "" {
		if e, ok, err := w.linkByKey(m, size); ok {
			return e, err
		}
	}
	if m.Sparse == nil && size <= inlineLimit {
		return w.inline(m, size, fill)
	}
	return w.stream(m, size, fill)
}

// inline reads small content whole, outside the lock, and seals it as Add does.
func (w *Writer) inline(m Meta, size int64, fill func(io.Writer) error) (Entry, error) {
	buf, ok := w.buffers.Get().(*[]byte)
	if !ok || cap(*buf) < int(size) {
		b := make([]byte, max(int(size), 64<<10))
		buf = &b
	}
	defer w.buffers.Put(buf)
	c := &content{left: size, mem: (*buf)[:0:cap(*buf)]}
	err := fill(c)
	clear(c.mem[len(c.mem):size])
	m.Errors = append(slices.Clip(m.Errors), c.notes(err)...)
	return w.add(m, c.mem[:size])
}

func (w *Writer) add(m Meta, b []byte) (Entry, error) {
	var sum [32]byte
	regular := m.Type == 0 || m.Type == tar.TypeReg
	if regular {
		sum = sha256.Sum256(b)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e, err := w.entry(&m, int64(len(b)))
	if err != nil || e.Path == "" {
		return e, err
	}
	if !regular {
		e.Size = 0
		return w.finish(&m, e, nil, "")
	}
	e.SHA256 = hex.EncodeToString(sum[:])
	// A link costs a header of its own: below a block nothing is gained.
	if i, ok := w.once.sums[sum]; ok && len(b) >= blockSize {
		k := w.once.known[i]
		e.LinkTo, e.Offset = k.path, k.offset
		return w.finish(&m, e, nil, k.path)
	}
	e, err = w.finish(&m, e, b, "")
	if err == nil && len(b) >= blockSize {
		w.once.remember(m.Key, known{e.Path, e.Size, e.Offset, sum}, true)
	}
	return e, err
}

// linkByKey seals a second name of a source that was sealed before.
func (w *Writer) linkByKey(m Meta, size int64) (Entry, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, ok := w.once.keys[w.once.hash(m.Key)]
	if !ok || w.once.known[i].size != size {
		return Entry{}, false, nil
	}
	k := w.once.known[i]
	m.Sparse = nil
	e, err := w.entry(&m, size)
	if err != nil || e.Path == "" {
		return e, true, err
	}
	e.SHA256, e.LinkTo, e.Offset = hex.EncodeToString(k.sum[:]), k.path, k.offset
	e, err = w.finish(&m, e, nil, k.path)
	return e, true, err
}

// hash stands for a key. 128 bits under secret seeds: two sources never share one, by chance or on purpose.
func (s *storedOnce) hash(key string) [2]uint64 {
	return [2]uint64{maphash.String(s.seeds[0], key), maphash.String(s.seeds[1], key)}
}

func (s *storedOnce) remember(key string, k known, content bool) {
	if len(s.known) >= maxKnown || key == "" && !content {
		return
	}
	n := int32(len(s.known))
	s.known = append(s.known, k)
	if key != "" {
		s.keys[s.hash(key)] = n
	}
	if content {
		s.sums[k.sum] = n
	}
}

// entry begins an artifact: it checks the name, makes it unique, and fills in what is known. An entry without a path was
// noted in the coverage and is not sealed.
func (w *Writer) entry(m *Meta, size int64) (Entry, error) {
	if w.closed {
		return Entry{}, errors.New("the package is closed")
	}
	if err := w.p.Err(); err != nil {
		return Entry{}, err
	}
	if m.Type == 0 {
		m.Type = tar.TypeReg
	}
	if m.Mode == 0 && m.Type != tar.TypeSymlink {
		m.Mode = 0o600
	}
	if _, ok := typeNames[m.Type]; !ok {
		return Entry{}, fmt.Errorf("artifact %q: type %q can't be sealed", clip(m.Path), m.Type)
	}
	switch err := checkPath(m.Path); {
	case errors.Is(err, errPathLong):
		w.Miss(tooLong(m.Path))
		return Entry{}, nil
	case err != nil:
		return Entry{}, fmt.Errorf("artifact path %q %w", clip(m.Path), err)
	}
	if (w.m.n >= maxArtifacts-1 || w.m.size > maxManifest-64<<20) && m.Path != CoveragePath {
		w.Miss(record.Miss{What: text(m.Path), Kind: "filesystem", Reason: "the package is full: it holds as many artifacts as a reader takes", Count: 1})
		return Entry{}, nil
	}
	if m.Path == ManifestPath {
		return Entry{}, fmt.Errorf("%s is the Writer's own", ManifestPath)
	}
	first := m.Path
	for i := 2; !w.unique(m.Path); i++ {
		m.Path = fmt.Sprintf("%s~%d", first, i)
	}
	e := Entry{Path: m.Path, Type: m.Type, Size: size, Origin: m.Origin, Linkname: m.Linkname, Sparse: m.Sparse, Errors: m.Errors}
	if m.Path != first {
		e.Errors = append(slices.Clip(e.Errors), "an artifact named "+first+" was already there")
	}
	return e, nil
}

// unique reports whether path is new. Only a keyed 64-bit hash is kept of each: nobody can make two names collide on purpose,
// and if chance does it, a name gets a suffix that it would not have needed.
func (w *Writer) unique(path string) bool {
	h := maphash.String(w.seed, path)
	if _, ok := w.names[h]; ok {
		return false
	}
	w.names[h] = struct{}{}
	return true
}

// finish writes header and content and lists the artifact.
func (w *Writer) finish(m *Meta, e Entry, b []byte, link string) (Entry, error) {
	if err := w.header(m, e.Size, int64(len(b)), link); err != nil {
		return e, err
	}
	if link == "" && e.Type == tar.TypeReg {
		e.Offset = w.p.offset
	}
	if err := w.p.append(b); err != nil {
		return e, err
	}
	return e, w.list(e, int64(len(b)))
}

// list pads the content and puts the artifact into the manifest.
func (w *Writer) list(e Entry, stored int64) error {
	if err := w.p.append(zeroBlock[:padding(stored)]); err != nil {
		return err
	}
	w.bytesTar.Store(w.p.offset)
	w.artifacts.Add(1)
	w.bytesIn.Add(e.Size)
	return w.m.add(e)
}

func (w *Writer) header(m *Meta, size, stored int64, link string) error {
	h, err := appendHeader(w.head[:0], m, m.Type, size, stored, link)
	if err != nil {
		return fmt.Errorf("artifact %q: %w", clip(m.Path), err)
	}
	w.head = h
	return w.p.append(h)
}

// stream seals large or sparse content frame by frame.
func (w *Writer) stream(m Meta, size int64, fill func(io.Writer) error) (Entry, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, err := w.entry(&m, size)
	if err != nil || e.Path == "" {
		return e, err
	}
	stored, before := size, []byte(nil)
	given := m.Sparse
	if m.Sparse != nil {
		m.Sparse = alignExtents(given, size)
		e.Sparse = m.Sparse
		before = sparseMap(m.Sparse, size)
		stored = dataLength(m.Sparse)
		if holes := size - stored; holes > maxHoles || w.holes+holes > maxAllHoles {
			e.HashOf = "data"
		} else {
			w.holes += holes
		}
	}
	if err := w.header(&m, size, stored+int64(len(before)), ""); err != nil {
		return e, err
	}
	if err := w.p.append(before); err != nil {
		return e, err
	}
	e.Offset = w.p.offset
	sum := sha256.New()
	c := &content{left: stored, p: w.p}
	if m.Sparse != nil && e.HashOf == "" {
		c.extents, c.size = m.Sparse, size
	}
	w.p.begin(sum)
	w.p.hurry = m.Volatile && stored >= hurryFrom
	var ferr error
	if slices.Equal(given, m.Sparse) {
		ferr = fill(c)
	} else {
		s := &spread{c: c, given: given, aligned: m.Sparse}
		ferr = fill(s)
		s.finish()
	}
	e.Errors = append(slices.Clip(e.Errors), c.notes(ferr)...)
	for c.left > 0 && c.fatal == nil {
		_, _ = c.Write(w.zero[:min(c.left, int64(len(w.zero)))])
	}
	c.tail()
	w.p.end()
	w.p.hurry = false
	if err := w.p.Err(); err != nil {
		return e, err
	}
	var s [32]byte
	sum.Sum(s[:0])
	e.SHA256 = hex.EncodeToString(s[:])
	if e.HashOf == "" {
		w.once.remember(m.Key, known{e.Path, e.Size, e.Offset, s}, false)
	}
	return e, w.list(e, stored+int64(len(before)))
}

// Progress tells how many artifacts and bytes went in, and how many bytes came out.
func (w *Writer) Progress() (artifacts int, bytesIn, bytesOut int64) {
	return int(w.artifacts.Load()), w.bytesIn.Load(), w.out.n.Load()
}

// Close seals the package: coverage, manifest, signature and seek table. It does not close the output.
func (w *Writer) Close() (*Sealed, error) {
	cov, err := json.Marshal(w.Coverage())
	if err != nil {
		return nil, err
	}
	if _, err := w.Add(Meta{Path: CoveragePath, Origin: "the collector"}, cov); err != nil {
		return nil, errors.Join(err, w.abandon())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, errors.New("the package is closed")
	}
	w.closed = true
	// The manifest begins a frame of its own, so that a reader finds it without reading what lies before.
	w.p.boundary()
	at := w.p.offset
	size, sum, err := w.manifest()
	if err == nil {
		err = w.p.append(zeroBlock[:])
	}
	if derr := w.p.drain(); err == nil {
		err = derr
	}
	if err != nil {
		return nil, err
	}
	k := w.o.Key
	env, err := w.seal(at, size, sum)
	if err != nil {
		return nil, err
	}
	w.p.write(env)
	w.p.frames = append(w.p.frames, frameInfo{Compressed: uint32(len(env))})
	w.p.write(encodeSeekTable(w.p.frames))
	if err := w.p.Err(); err != nil {
		return nil, err
	}
	whole := w.p.outHash
	if w.enc != nil {
		if err := w.enc.Close(); err != nil {
			return nil, fmt.Errorf("writing the package, after %d bytes: %w", w.out.n.Load(), err)
		}
		whole = w.out.sum
	}
	return &Sealed{ID: w.o.ID, SHA256: hex.EncodeToString(whole.Sum(nil)), Size: w.out.n.Load(), Artifacts: int(w.artifacts.Load()),
		Content: w.bytesIn.Load(), Signer: k.Name, KeyID: k.ID(), Ephemeral: k.Ephemeral}, nil
}

// abandon ends the goroutines of a package that could not be sealed.
func (w *Writer) abandon() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	w.p.fail(errors.New("abandoned"))
	_ = w.p.drain() // its error is what brought us here
	return nil
}

// manifest writes manifest.json and returns its size and hash.
func (w *Writer) manifest() (int64, [32]byte, error) {
	var sum [32]byte
	size, err := w.m.close(w.bytesIn.Load())
	if err != nil {
		return 0, sum, err
	}
	m := Meta{Path: ManifestPath, Type: tar.TypeReg, Mode: 0o600}
	if err := w.header(&m, size, size, ""); err != nil {
		return 0, sum, err
	}
	h := sha256.New()
	n, err := w.m.writeTo(io.MultiWriter(h, writerFunc(func(b []byte) (int, error) { return len(b), w.p.append(b) })))
	if err == nil && n != size {
		err = fmt.Errorf("the manifest has %d bytes instead of %d", n, size)
	}
	if err != nil {
		return 0, sum, err
	}
	h.Sum(sum[:0])
	return size, sum, w.p.append(zeroBlock[:padding(size)])
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
