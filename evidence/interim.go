// Package evidence is the sealed package. (Interim minimal form: replaced whole by the real writer and reader.)
package evidence

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/sherd-forensics/sherd/evidence/record"
)

type Extent struct{ Offset, Length int64 }

type Meta struct {
	Path                       string
	Origin                     string
	Type                       byte
	Mode                       int64
	UID, GID                   int
	Mtime, Atime, Ctime, Btime int64
	Linkname                   string
	DevMajor, DevMinor         int64
	Xattrs                     map[string]string
	PAX                        map[string]string
	Sparse                     []Extent
	Key                        string
	Errors                     []string
}

type Entry struct {
	Path   string   `json:"path"`
	Type   byte     `json:"type"`
	Size   int64    `json:"size"`
	SHA256 string   `json:"sha256"`
	Offset int64    `json:"offset"`
	Origin string   `json:"origin"`
	LinkTo string   `json:"link_to,omitempty"`
	Sparse []Extent `json:"sparse,omitempty"`
	Errors []string `json:"errors,omitempty"`
}

type Key struct{}
type WriterOptions struct {
	Tool       string
	Target     any
	ID         string
	Key        *Key
	Started    time.Time
	Workers    int
	Recipients []age.Recipient
}
type Sealed struct {
	ID, SHA256 string
	Size       int64
	Artifacts  int
	Signer     string
}
type Manifest struct {
	ID        string  `json:"id"`
	Target    any     `json:"target"`
	Artifacts []Entry `json:"artifacts"`
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) { n, err := c.w.Write(b); c.n += int64(n); return n, err }

type Writer struct {
	mu   sync.Mutex
	out  *counter
	raw  *counter
	z    *zstd.Encoder
	tw   *tar.Writer
	m    Manifest
	cov  record.Coverage
	keys map[string]int
	sums map[string]int
}

func NewWriter(out io.Writer, o WriterOptions) (*Writer, error) {
	c := &counter{w: out}
	z, err := zstd.NewWriter(c, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, err
	}
	raw := &counter{w: z}
	id := o.ID
	if id == "" {
		b := make([]byte, 16)
		if _, err := rand.Read(b); err != nil {
			return nil, err
		}
		id = hex.EncodeToString(b)
	}
	return &Writer{out: c, raw: raw, z: z, tw: tar.NewWriter(raw), m: Manifest{ID: id, Target: o.Target}, keys: map[string]int{}, sums: map[string]int{},
		cov: record.Coverage{Collected: map[string]string{}}}, nil
}

func (w *Writer) Add(m Meta, content []byte) (Entry, error) {
	return w.Stream(m, int64(len(content)), func(d io.Writer) error { _, err := d.Write(content); return err })
}

func (w *Writer) Stream(m Meta, size int64, fill func(io.Writer) error) (Entry, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.Type == 0 {
		m.Type = tar.TypeReg
	}
	if m.Mode == 0 {
		m.Mode = 0o600
	}
	h := &tar.Header{Typeflag: m.Type, Name: m.Path, Mode: m.Mode, Uid: m.UID, Gid: m.GID, Linkname: m.Linkname, Devmajor: m.DevMajor, Devminor: m.DevMinor, ModTime: time.Unix(0, m.Mtime), Format: tar.FormatPAX}
	e := Entry{Path: m.Path, Type: m.Type, Size: size, Origin: m.Origin, Sparse: m.Sparse, Errors: m.Errors}
	if m.Type != tar.TypeReg {
		if m.Type == tar.TypeDir && !strings.HasSuffix(h.Name, "/") {
			h.Name += "/"
		}
		e.Size = 0
		if err := w.tw.WriteHeader(h); err != nil {
			return e, err
		}
		w.m.Artifacts = append(w.m.Artifacts, e)
		return e, nil
	}
	if m.Key != "" {
		if i, ok := w.keys[m.Key]; ok {
			p := w.m.Artifacts[i]
			h.Typeflag, h.Linkname = tar.TypeLink, p.Path
			e.LinkTo, e.SHA256, e.Offset, e.Size = p.Path, p.SHA256, p.Offset, p.Size
			w.m.Artifacts = append(w.m.Artifacts, e)
			return e, w.tw.WriteHeader(h)
		}
	}
	if m.Sparse != nil {
		size = 0
		for _, x := range m.Sparse {
			size += x.Length
		}
		e.Size, e.Sparse = size, nil
	}
	h.Size = size
	if err := w.tw.WriteHeader(h); err != nil {
		return e, err
	}
	if err := w.tw.Flush(); err != nil {
		return e, err
	}
	e.Offset = w.raw.n
	sum := sha256.New()
	lw := &limited{w: io.MultiWriter(w.tw, sum), left: size}
	if err := fill(lw); err != nil && lw.fatal == nil {
		e.Errors = append(e.Errors, err.Error())
	}
	if lw.fatal != nil {
		return e, lw.fatal
	}
	if lw.left > 0 {
		e.Errors = append(e.Errors, fmt.Sprintf("short by %d bytes: zero-filled", lw.left))
		z := make([]byte, 1<<16)
		for lw.left > 0 {
			if _, err := lw.Write(z[:min(lw.left, int64(len(z)))]); err != nil {
				return e, err
			}
		}
	}
	e.SHA256 = hex.EncodeToString(sum.Sum(nil))
	if m.Key != "" {
		w.keys[m.Key] = len(w.m.Artifacts)
	}
	w.m.Artifacts = append(w.m.Artifacts, e)
	return e, nil
}

type limited struct {
	w     io.Writer
	left  int64
	fatal error
}

func (l *limited) Write(b []byte) (int, error) {
	n := len(b)
	if int64(len(b)) > l.left {
		b = b[:l.left]
	}
	if _, err := l.w.Write(b); err != nil {
		l.fatal = err
		return 0, err
	}
	l.left -= int64(len(b))
	return n, nil
}

type Lines struct {
	mu           sync.Mutex
	w            *Writer
	path, origin string
	n            int
	buf          bytes.Buffer
}

func (w *Writer) Lines(path, origin string) *Lines { return &Lines{w: w, path: path, origin: origin} }
func (l *Lines) Write(v any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	l.buf.Write(b)
	l.buf.WriteByte('\n')
	if l.buf.Len() > 1<<20 {
		return l.flush()
	}
	return nil
}
func (l *Lines) flush() error {
	p := l.path
	if l.n > 0 {
		p = fmt.Sprintf("%s-%04d.jsonl", strings.TrimSuffix(l.path, ".jsonl"), l.n)
	}
	l.n++
	_, err := l.w.Add(Meta{Path: p, Origin: l.origin}, l.buf.Bytes())
	l.buf.Reset()
	return err
}
func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() > 0 || l.n == 0 {
		return l.flush()
	}
	return nil
}

func (w *Writer) Miss(m record.Miss) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m.Count = max(m.Count, 1)
	w.cov.Missed = append(w.cov.Missed, m)
}
func (w *Writer) Status(kind, status string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cov.Collected[kind] = status
}
func (w *Writer) Coverage() record.Coverage { return w.cov }
func (w *Writer) Progress() (int, int64, int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.m.Artifacts), w.raw.n, w.out.n
}
func (w *Writer) Close() (*Sealed, error) {
	b, err := json.Marshal(w.cov)
	if err != nil {
		return nil, err
	}
	if _, err := w.Add(Meta{Path: "coverage.json"}, b); err != nil {
		return nil, err
	}
	if b, err = json.Marshal(w.m); err != nil {
		return nil, err
	}
	n := len(w.m.Artifacts)
	if _, err := w.Add(Meta{Path: "manifest.json"}, b); err != nil {
		return nil, err
	}
	if err := w.tw.Close(); err != nil {
		return nil, err
	}
	if err := w.z.Close(); err != nil {
		return nil, err
	}
	return &Sealed{ID: w.m.ID, Size: w.out.n, Artifacts: n}, nil
}

type OpenOptions struct{ Identities []age.Identity }
type Package struct {
	path string
	m    Manifest
	cov  record.Coverage
	data map[string][]byte
	ents map[string]Entry
}
type Artifact struct {
	*bytes.Reader
}

func Open(path string, _ OpenOptions) (*Package, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	p := &Package{path: path, data: map[string][]byte{}, ents: map[string]Entry{}}
	tr := tar.NewReader(z)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		p.data[h.Name] = b
	}
	if err := json.Unmarshal(p.data["manifest.json"], &p.m); err != nil {
		return nil, err
	}
	for _, e := range p.m.Artifacts {
		p.ents[e.Path] = e
	}
	return p, json.Unmarshal(p.data["coverage.json"], &p.cov)
}
func (p *Package) Close() error              { return nil }
func (p *Package) ID() string                { return p.m.ID }
func (p *Package) SHA256() string            { return "" }
func (p *Package) Size() int64               { return 0 }
func (p *Package) Manifest() *Manifest       { return &p.m }
func (p *Package) Coverage() record.Coverage { return p.cov }
func (p *Package) Truncated() bool           { return false }
func (p *Package) Path() string              { return p.path }
func (p *Package) Artifact(path string) (Entry, bool) {
	e, ok := p.ents[path]
	return e, ok
}
func (p *Package) Artifacts(prefix string) []Entry {
	var out []Entry
	for _, e := range p.m.Artifacts {
		if strings.HasPrefix(e.Path, prefix) {
			out = append(out, e)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out
}
func (p *Package) Open(path string) (*Artifact, error) {
	e, ok := p.ents[path]
	if !ok {
		return nil, fmt.Errorf("no artifact %q", path)
	}
	if e.LinkTo != "" {
		path = e.LinkTo
	}
	return &Artifact{bytes.NewReader(p.data[path])}, nil
}
func (a *Artifact) Size() int64 { return a.Reader.Size() }
func (p *Package) ReadFile(path string, limit int64) ([]byte, error) {
	a, err := p.Open(path)
	if err != nil {
		return nil, err
	}
	if a.Size() > limit {
		return nil, fmt.Errorf("%s: %d bytes, over the limit of %d", path, a.Size(), limit)
	}
	return io.ReadAll(a)
}

type Line struct {
	Artifact       string
	Offset, Length int64
	SHA256         string
	Data           []byte
}

func (p *Package) Lines(path string) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		base := strings.TrimSuffix(path, ".jsonl")
		for i, part := 0, path; ; i++ {
			if i > 0 {
				part = fmt.Sprintf("%s-%04d.jsonl", base, i)
			}
			e, ok := p.ents[part]
			if !ok {
				return
			}
			r := bufio.NewReader(bytes.NewReader(p.data[part]))
			var off int64
			for {
				b, err := r.ReadBytes('\n')
				if len(b) > 0 {
					if !yield(Line{part, off, int64(len(b)), e.SHA256, b}, nil) {
						return
					}
					off += int64(len(b))
				}
				if err != nil {
					break
				}
			}
		}
	}
}
