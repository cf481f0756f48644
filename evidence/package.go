package evidence

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
)

// OpenOptions choose how a package is opened. The zero value is good.
type OpenOptions struct {
	// Identities open an encrypted package.
	Identities []age.Identity
	// Salvage reads what can be read of a package whose end was altered, as if it had been cut off there.
	Salvage bool
}

// Package reads a sealed package at random. It is safe for concurrent use.
//
// Opening checks that the manifest is the signed one; reading an artifact from begin to end checks its hash against
// the manifest. Whether the signer is trusted, and whether each byte is in place, is for Verify to say.
type Package struct {
	path string
	file *os.File
	size int64
	src  *source

	frames *frameSet
	m      *Manifest
	cov    record.Coverage
	st     *Statement
	index  map[string]int
	order  []int // of m.Artifacts by path
	cut    *TruncatedError

	sumOnce sync.Once
	sum     string
}

// Open opens a package. One that was cut short opens too, see Truncated.
func Open(path string, o OpenOptions) (*Package, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	p, err := open(f, path, o)
	if err == nil {
		return p, nil
	}
	f.Close()
	var altered *AlteredError
	var unsigned *UnsignedError
	if errors.As(err, &altered) || errors.As(err, &unsigned) {
		err = fmt.Errorf("%s: %w; `sherd verify` lists all that is wrong with it", printable.Text(path), err)
	}
	return nil, err
}

// openFile opens without waiting for the other end of what may be a pipe.
func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

func open(f *os.File, path string, o OpenOptions) (*Package, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &NotPackageError{path, "it is not a regular file"}
	}
	if st.Size() == 0 {
		return nil, &NotPackageError{path, "it is empty"}
	}
	src, err := openSource(f, path, st.Size(), o.Identities)
	if err != nil {
		return nil, err
	}
	p := &Package{path: path, file: f, size: st.Size(), src: src}
	if err := p.load(o.Salvage); err != nil {
		return nil, err
	}
	return p, nil
}

// load reads the seek table, the signature, the manifest and the coverage; without a seek table, what whole frames tell.
func (p *Package) load(salvage bool) error {
	frames, err := readSeekTable(p.src, p.src.size)
	if err == nil && !p.src.cut {
		err = p.loadSealed(frames)
	} else if err == nil {
		err = errNoSeekTable
	}
	if err == nil {
		return nil
	}
	var unsigned *UnsignedError
	switch {
	case errors.Is(err, errNoSeekTable), salvage:
		return p.recover(salvage)
	case errors.As(err, &unsigned):
		return err
	}
	return &AlteredError{Path: p.path, Problems: []string{err.Error()}}
}

func (p *Package) loadSealed(frames []frameInfo) error {
	n := len(frames)
	if n == 0 || frames[n-1].Content != 0 {
		return &UnsignedError{p.path}
	}
	set, err := newFrameSet(p.src, frames[:n-1])
	if err != nil {
		return err
	}
	b, err := readSignature(p.src, set.end(), int64(frames[n-1].Compressed))
	if err != nil {
		return err
	}
	st, err := parseSignature(b)
	if err != nil {
		return err
	}
	p.frames, p.st = set, st
	if p.m, err = p.readManifest(); err != nil {
		return err
	}
	if err := p.link(st.Predicate.Manifest.Offset); err != nil {
		return err
	}
	b, err = p.ReadFile(CoveragePath, maxCoverage)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &p.cov); err != nil {
		return fmt.Errorf("%s: %w", CoveragePath, err)
	}
	return nil
}

// readManifest reads the manifest where the statement says, and holds it against the statement's hash before it believes a
// word of it.
func (p *Package) readManifest() (*Manifest, error) {
	at := p.st.Predicate.Manifest
	w := &tarWalker{src: &frameChunks{set: p.frames, off: at.Offset}, off: at.Offset}
	m, err := w.next()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestPath, err)
	}
	if m.Path != ManifestPath || m.Size != at.Size || m.Type != tar.TypeReg {
		return nil, fmt.Errorf("%s is not where the signed statement says", ManifestPath)
	}
	h := sha256.New()
	sec := func() io.Reader { return io.NewSectionReader(p.frames, m.Offset, m.Size) }
	if _, err := io.Copy(h, sec()); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestPath, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != p.st.Subject[1].Digest.SHA256 {
		return nil, fmt.Errorf("%s is not the signed one: its SHA-256 is %s instead of %s", ManifestPath, got, clip(p.st.Subject[1].Digest.SHA256))
	}
	return parseManifest(sec())
}

// link indexes the manifest and checks that its entries can be true together. end is where contents must end.
func (p *Package) link(end int64) error {
	p.index = make(map[string]int, len(p.m.Artifacts))
	p.order = make([]int, len(p.m.Artifacts))
	for i, e := range p.m.Artifacts {
		if _, ok := p.index[e.Path]; ok || e.Path == ManifestPath {
			return fmt.Errorf("%s lists %q twice", ManifestPath, clip(e.Path))
		}
		p.order[i] = i
		if e.LinkTo != "" {
			j, ok := p.index[e.LinkTo]
			if !ok || p.m.Artifacts[j].LinkTo != "" || p.m.Artifacts[j].SHA256 != e.SHA256 || p.m.Artifacts[j].Size != e.Size || p.m.Artifacts[j].Offset != e.Offset {
				return fmt.Errorf("%s: %q is a link to %q, which is not an earlier artifact of the same content", ManifestPath, clip(e.Path), clip(e.LinkTo))
			}
		} else if e.Offset > end || e.stored() > end-e.Offset {
			return fmt.Errorf("%s: %q lies at offset %d with %d bytes, behind the end of the contents at %d", ManifestPath, clip(e.Path), e.Offset, e.stored(), end)
		}
		p.index[e.Path] = i
	}
	slices.SortFunc(p.order, func(a, b int) int { return strings.Compare(p.m.Artifacts[a].Path, p.m.Artifacts[b].Path) })
	return nil
}

// Close ends reading.
func (p *Package) Close() error { return p.file.Close() }

// Path is the file that was opened.
func (p *Package) Path() string { return p.path }

// ID is the evidence's id; empty when the package was cut short before its first frame's end.
func (p *Package) ID() string { return p.m.ID }

// Size is the file's size.
func (p *Package) Size() int64 { return p.size }

// SHA256 is that of the file's bytes. It is computed at the first call; empty if the file can't be read.
func (p *Package) SHA256() string {
	p.sumOnce.Do(func() {
		h := sha256.New()
		if _, err := io.CopyBuffer(h, io.NewSectionReader(p.file, 0, p.size), make([]byte, 1<<20)); err == nil {
			p.sum = hex.EncodeToString(h.Sum(nil))
		}
	})
	return p.sum
}

// Manifest is manifest.json; of a package that was cut short, what its frames tell. It must not be changed.
func (p *Package) Manifest() *Manifest { return p.m }

// Coverage is coverage.json.
func (p *Package) Coverage() record.Coverage { return p.cov }

// Truncated reports whether the package was cut short: then it holds what its last whole frame holds.
func (p *Package) Truncated() bool { return p.cut != nil }

// Encrypted reports whether the file is encrypted.
func (p *Package) Encrypted() bool { return p.src.encrypted }

// Statement is what the signer states, nil when the package was cut short. That its key is trusted is not checked.
func (p *Package) Statement() *Statement { return p.st }

// Artifact finds an artifact by its raw path.
func (p *Package) Artifact(path string) (Entry, bool) {
	i, ok := p.index[path]
	if !ok {
		return Entry{}, false
	}
	return p.m.Artifacts[i], true
}

// Artifacts gives those whose path begins with prefix, sorted by path.
func (p *Package) Artifacts(prefix string) []Entry {
	at := p.search(prefix)
	var out []Entry
	for _, i := range p.order[at:] {
		if !strings.HasPrefix(p.m.Artifacts[i].Path, prefix) {
			break
		}
		out = append(out, p.m.Artifacts[i])
	}
	return out
}

// search gives the place in order where paths begin that are not less than prefix.
func (p *Package) search(prefix string) int {
	at, _ := slices.BinarySearchFunc(p.order, prefix, func(i int, s string) int { return strings.Compare(p.m.Artifacts[i].Path, s) })
	return at
}

// first gives the first path that begins with prefix, "" if none does.
func (p *Package) first(prefix string) string {
	at := p.search(prefix)
	if at == len(p.order) || !strings.HasPrefix(p.m.Artifacts[p.order[at]].Path, prefix) {
		return ""
	}
	return p.m.Artifacts[p.order[at]].Path
}

func (p *Package) missing(path string) error {
	s := fmt.Sprintf("the package holds no artifact %q", printable.Clip(path, 200))
	if p.Truncated() {
		s += " (it was cut short)"
	}
	return &MissingError{path, s}
}

// MissingError says that a package has no artifact of that path.
type MissingError struct {
	Artifact string
	text     string
}

func (e *MissingError) Error() string { return e.text }

// ReadFile reads a whole artifact and checks it against the manifest. It is an error if it is larger than limit.
func (p *Package) ReadFile(path string, limit int64) ([]byte, error) {
	a, err := p.Open(path)
	if err != nil {
		return nil, err
	}
	if a.Size() > limit {
		return nil, fmt.Errorf("%s: %d bytes, more than the limit of %d", printable.Clip(path, 200), a.Size(), limit)
	}
	b := bytes.NewBuffer(make([]byte, 0, min(a.Size(), 64<<20)+bytes.MinRead))
	if _, err := b.ReadFrom(a); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
