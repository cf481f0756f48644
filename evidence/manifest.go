package evidence

import (
	"archive/tar"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// Manifest is manifest.json.
type Manifest struct {
	Format int
	Tool   string
	ID     string
	// Target is what was captured, as the collector describes it (target.Container).
	Target json.RawMessage
	// Started and Sealed are nanoseconds since the Unix epoch, UTC, by the collector's clock.
	Started, Sealed int64
	Artifacts       []Entry // in the order of the tar stream
	// Content is the sum of all artifacts' sizes.
	Content int64
}

// jsonEntry is an Entry in manifest.json. Strings that the target may have chosen are escaped as record.Name is.
type jsonEntry struct {
	Path     record.Name   `json:"path"`
	Type     string        `json:"type"`
	Size     int64         `json:"size"`
	SHA256   string        `json:"sha256,omitempty"`
	HashOf   string        `json:"hash_of,omitempty"`
	Offset   int64         `json:"offset"`
	Origin   record.Name   `json:"origin,omitempty"`
	LinkTo   record.Name   `json:"link_to,omitempty"`
	Linkname record.Name   `json:"linkname,omitempty"`
	Sparse   *[][2]int64   `json:"sparse,omitempty"` // [offset, length] of each extent
	Errors   []record.Name `json:"errors,omitempty"`
}

// MarshalJSON writes the form of manifest.json.
func (e Entry) MarshalJSON() ([]byte, error) {
	j := jsonEntry{Path: record.Name(e.Path), Type: typeNames[e.Type], Size: e.Size, SHA256: e.SHA256, HashOf: e.HashOf, Offset: e.Offset,
		Origin: record.Name(e.Origin), LinkTo: record.Name(e.LinkTo), Linkname: record.Name(e.Linkname)}
	if e.Sparse != nil {
		x := make([][2]int64, len(e.Sparse))
		for i, s := range e.Sparse {
			x[i] = [2]int64{s.Offset, s.Length}
		}
		j.Sparse = &x
	}
	for _, s := range e.Errors {
		j.Errors = append(j.Errors, record.Name(s))
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads it back, and refuses what no Writer writes.
func (e *Entry) UnmarshalJSON(b []byte) error {
	var j jsonEntry
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*e = Entry{Path: string(j.Path), Size: j.Size, SHA256: j.SHA256, HashOf: j.HashOf, Offset: j.Offset,
		Origin: string(j.Origin), LinkTo: string(j.LinkTo), Linkname: string(j.Linkname)}
	for t, n := range typeNames {
		if n == j.Type {
			e.Type = t
		}
	}
	for _, s := range j.Errors {
		e.Errors = append(e.Errors, string(s))
	}
	if j.Sparse != nil {
		e.Sparse = make([]Extent, len(*j.Sparse))
		for i, x := range *j.Sparse {
			e.Sparse[i] = Extent{x[0], x[1]}
		}
	}
	return e.check(j.Type)
}

// check says why the entry can't be one of a package.
func (e *Entry) check(typ string) error {
	if err := checkPath(e.Path); err != nil {
		return fmt.Errorf("path %q %w", clip(e.Path), err)
	}
	bad := func(format string, a ...any) error {
		return fmt.Errorf("artifact %q: %s", clip(e.Path), fmt.Sprintf(format, a...))
	}
	if e.Type == 0 {
		return bad("unknown type %q", clip(typ))
	}
	if e.Size < 0 || e.Offset < 0 {
		return bad("negative size or offset")
	}
	if e.Type != tar.TypeReg {
		if e.Size != 0 || e.SHA256 != "" || e.Sparse != nil || e.LinkTo != "" {
			return bad("a %s with content", typ)
		}
		return nil
	}
	if sum, err := hex.DecodeString(e.SHA256); err != nil || len(sum) != 32 || hex.EncodeToString(sum) != e.SHA256 {
		return bad("%q is not a SHA-256 in lower-case hex", clip(e.SHA256))
	}
	if e.HashOf != "" && (e.HashOf != "data" || e.Sparse == nil) {
		return bad("hash_of %q", clip(e.HashOf))
	}
	if e.LinkTo != "" {
		if err := checkPath(e.LinkTo); err != nil {
			return bad("link_to %q %v", clip(e.LinkTo), err)
		}
		if e.Sparse != nil {
			return bad("a link with a sparse map of its own")
		}
	}
	if err := checkExtents(e.Sparse, e.Size); err != nil {
		return bad("%v", err)
	}
	return nil
}

// manifestWriter gathers the manifest while the package grows. It is kept compressed: a target may have more files than
// there is memory for their names.
type manifestWriter struct {
	buf  blocks
	z    *zstd.Encoder
	size int64
	n    int
	// sealed is the time that manifest and statement give, in nanoseconds.
	sealed int64
	head   []byte // what is known from the beginning
}

func (m *manifestWriter) init(o WriterOptions) error {
	z, err := zstd.NewWriter(&m.buf, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return err
	}
	m.z = z
	head, err := json.Marshal(struct {
		Format  int    `json:"format"`
		Tool    string `json:"tool"`
		ID      string `json:"id"`
		Target  any    `json:"target"`
		Started int64  `json:"started"`
	}{FormatVersion, o.Tool, o.ID, o.Target, o.Started.UnixNano()})
	if err != nil {
		return err
	}
	m.head = head
	return m.put(append(slices.Clip(head[:len(head)-1]), `,"artifacts":[`...))
}

func (m *manifestWriter) put(b []byte) error {
	n, err := m.z.Write(b)
	m.size += int64(n)
	return err
}

func (m *manifestWriter) add(e Entry) error {
	b, err := e.MarshalJSON()
	if err != nil {
		return err
	}
	sep := ",\n"
	if m.n == 0 {
		sep = "\n"
	}
	m.n++
	if err := m.put([]byte(sep)); err != nil {
		return err
	}
	return m.put(b)
}

// close ends the manifest and tells its size.
func (m *manifestWriter) close(content int64) (int64, error) {
	m.sealed = time.Now().UnixNano()
	err := m.put(fmt.Appendf(nil, "\n],\"sealed\":%d,\"count\":%d,\"content\":%d}\n", m.sealed, m.n, content))
	return m.size, errors.Join(err, m.z.Close())
}

func (m *manifestWriter) writeTo(w io.Writer) (int64, error) {
	z, err := zstd.NewReader(&m.buf, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return 0, err
	}
	defer z.Close()
	return io.Copy(w, z)
}

// blocks is a buffer that grows without copying and is read once.
type blocks struct {
	full [][]byte
}

func (b *blocks) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		last := len(b.full) - 1
		if last < 0 || len(b.full[last]) == cap(b.full[last]) {
			b.full = append(b.full, make([]byte, 0, 256<<10))
			last++
		}
		k := min(len(p), cap(b.full[last])-len(b.full[last]))
		b.full[last] = append(b.full[last], p[:k]...)
		p = p[k:]
	}
	return n, nil
}

func (b *blocks) Read(p []byte) (int, error) {
	for len(b.full) > 0 && len(b.full[0]) == 0 {
		b.full = b.full[1:]
	}
	if len(b.full) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.full[0])
	b.full[0] = b.full[0][n:]
	return n, nil
}

// parseManifest reads manifest.json. r is bounded by the caller; entries are decoded one by one, so that a lie about their
// number costs nothing.
func parseManifest(r io.Reader) (*Manifest, error) {
	d := json.NewDecoder(r)
	m := &Manifest{}
	if err := delim(d, '{'); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestPath, err)
	}
	count := -1
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ManifestPath, err)
		}
		k, _ := t.(string)
		if seen[k] {
			return nil, fmt.Errorf("%s: %q stands twice", ManifestPath, clip(k))
		}
		seen[k] = true
		switch k {
		case "format":
			err = d.Decode(&m.Format)
			if err == nil && m.Format != FormatVersion {
				return nil, fmt.Errorf("%s has format version %d; this program reads version %d: use a newer one", ManifestPath, m.Format, FormatVersion)
			}
		case "tool":
			err = d.Decode(&m.Tool)
		case "id":
			err = d.Decode(&m.ID)
		case "target":
			err = d.Decode(&m.Target)
		case "started":
			err = d.Decode(&m.Started)
		case "sealed":
			err = d.Decode(&m.Sealed)
		case "content":
			err = d.Decode(&m.Content)
		case "count":
			err = d.Decode(&count)
		case "artifacts":
			m.Artifacts, err = parseEntries(d)
		default:
			var skip json.RawMessage // a later minor version's
			err = d.Decode(&skip)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", ManifestPath, clip(k), err)
		}
	}
	if err := delim(d, '}'); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestPath, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: something follows its end", ManifestPath)
	}
	if m.Format == 0 || count != len(m.Artifacts) {
		return nil, fmt.Errorf("%s: lacks its format, or lists %d artifacts and claims %d", ManifestPath, len(m.Artifacts), count)
	}
	return m, nil
}

func parseEntries(d *json.Decoder) ([]Entry, error) {
	if err := delim(d, '['); err != nil {
		return nil, err
	}
	var out []Entry
	for d.More() {
		if len(out) >= maxArtifacts {
			return nil, fmt.Errorf("more than %d artifacts", maxArtifacts)
		}
		var e Entry
		if err := d.Decode(&e); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, delim(d, ']')
}

func delim(d *json.Decoder, want json.Delim) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("found %v instead of %v", t, want)
	}
	return nil
}
