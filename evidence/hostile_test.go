package evidence

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// forge seals any tar stream with any manifest, as an attacker with a key of their own can; the key is trusted here, so that nothing
// but the content's own sense stands in the way.
type forge struct {
	tar     bytes.Buffer
	entries []Entry
}

func (f *forge) head(m Meta, typ byte, size, stored int64, link string) {
	h, err := appendHeader(nil, &m, typ, size, stored, link)
	if err != nil {
		panic(err)
	}
	f.tar.Write(h)
}

func (f *forge) add(path, content string) *Entry {
	f.head(Meta{Path: path, Mode: 0o600}, tar.TypeReg, int64(len(content)), int64(len(content)), "")
	sum := sha256.Sum256([]byte(content))
	f.entries = append(f.entries, Entry{Path: path, Type: tar.TypeReg, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:]), Offset: int64(f.tar.Len())})
	f.tar.WriteString(content)
	f.tar.Write(zeroBlock[:padding(int64(len(content)))])
	return &f.entries[len(f.entries)-1]
}

// seal gives the package. manifest is taken as it is, if not nil.
func (f *forge) seal(t testing.TB, manifest []byte, change func(*Statement)) []byte {
	t.Helper()
	if manifest == nil {
		list, err := json.Marshal(f.entries)
		if err != nil {
			t.Fatal(err)
		}
		manifest = fmt.Appendf(nil, `{"format":1,"tool":"forge","id":"x","target":null,"started":1,"artifacts":%s,"sealed":2,"count":%d,"content":0}`, list, len(f.entries))
	}
	var out bytes.Buffer
	p := must[*pipeline](t)(newPipeline(&out, 1))
	fatal := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	fatal(p.append(f.tar.Bytes()))
	p.boundary()
	at := p.offset
	m := Meta{Path: ManifestPath, Mode: 0o600}
	h, err := appendHeader(nil, &m, tar.TypeReg, int64(len(manifest)), int64(len(manifest)), "")
	fatal(err)
	fatal(p.append(h))
	fatal(p.append(manifest))
	fatal(p.append(zeroBlock[:padding(int64(len(manifest)))]))
	fatal(p.append(zeroBlock[:]))
	fatal(p.drain())
	k := testKey()
	sum := sha256.Sum256(manifest)
	st := Statement{Type: statementType, PredicateType: predicateType,
		Subject: []Subject{{packageSubject, Digest{hex.EncodeToString(p.outHash.Sum(nil))}}, {ManifestPath, Digest{hex.EncodeToString(sum[:])}}},
		Predicate: Seal{ID: "x", Tool: "forge", Sealed: 2, Frames: len(p.frames), Bytes: p.written.Load(), TarBytes: p.offset, Artifacts: len(f.entries),
			Manifest: Span{at, int64(len(manifest))}, Signer: Signer{Name: k.Name, PublicKey: k.Public().Key}}}
	if change != nil {
		change(&st)
	}
	env := must[[]byte](t)(signatureFrame(st, k))
	return append(append(out.Bytes(), env...), encodeSeekTable(append(p.frames, frameInfo{Compressed: uint32(len(env))}))...)
}

func TestHostilePackages(t *testing.T) {
	isolate(t)
	const cov = `{"collected":{},"missed":[]}`
	plain := func(f *forge) { f.add("a", "one"); f.add(CoveragePath, cov) }
	cases := []struct {
		name   string
		make   func(f *forge)
		change func(*Statement)
		want   string // in the report; empty: the package is good
	}{
		{"good", plain, nil, ""},
		{"path out of the package", func(f *forge) { f.add("../../etc/cron.d/x", "boo"); f.add(CoveragePath, cov) }, nil, `".." element`},
		{"absolute path", func(f *forge) { f.add("/etc/passwd", "boo"); f.add(CoveragePath, cov) }, nil, "absolute"},
		{"path with an empty element", func(f *forge) { f.add("a//b", "boo"); f.add(CoveragePath, cov) }, nil, "element"},
		{"the same path twice", func(f *forge) { f.add("a", "one"); f.add("a", "two"); f.add(CoveragePath, cov) }, nil, "twice"},
		{"below a symbolic link", func(f *forge) {
			f.head(Meta{Path: "a", Linkname: "/etc"}, tar.TypeSymlink, 0, 0, "")
			f.entries = append(f.entries, Entry{Path: "a", Type: tar.TypeSymlink, Linkname: "/etc"})
			f.add("a/passwd", "boo")
			f.add(CoveragePath, cov)
		}, nil, "symbolic link"},
		{"hard link out of the package", func(f *forge) {
			f.head(Meta{Path: "a"}, tar.TypeReg, 0, 0, "../../etc/shadow")
			f.add(CoveragePath, cov)
		}, nil, "hard link"},
		{"hard link to what is not there", func(f *forge) {
			e := *f.add("a", "one")
			f.head(Meta{Path: "b"}, tar.TypeReg, 3, 0, "c")
			e.Path, e.LinkTo = "b", "c"
			f.entries = append(f.entries, e)
			f.add(CoveragePath, cov)
		}, nil, "not an earlier artifact"},
		{"manifest lies about a hash", func(f *forge) { plain(f); f.entries[0].SHA256 = strings.Repeat("0", 64) }, nil, "SHA-256"},
		{"manifest lies about a size", func(f *forge) { plain(f); f.entries[0].Size = 2 }, nil, "size"},
		{"manifest lies about an offset", func(f *forge) { plain(f); f.entries[0].Offset += 512 }, nil, "offset"},
		{"offset behind the end", func(f *forge) { plain(f); f.entries[0].Offset = 1 << 50 }, nil, "behind the end"},
		{"size beyond the end", func(f *forge) { plain(f); f.entries[0].Size = 1 << 60 }, nil, "behind the end"},
		{"negative size", func(f *forge) { plain(f); f.entries[0].Size = -1 }, nil, "negative"},
		{"manifest leaves one out", func(f *forge) { plain(f); f.entries = f.entries[1:] }, nil, "not in the manifest"},
		{"manifest lists one more", func(f *forge) {
			plain(f)
			f.entries = append(f.entries, Entry{Path: "ghost", Type: tar.TypeReg, SHA256: strings.Repeat("0", 64)})
		}, nil, "not in the package"},
		{"another order", func(f *forge) { plain(f); f.entries[0], f.entries[1] = f.entries[1], f.entries[0] }, nil, "re-ordered"},
		{"another type", func(f *forge) { plain(f); f.entries[0] = Entry{Path: "a", Type: tar.TypeFifo} }, nil, "type"},
		{"no coverage", func(f *forge) { f.add("a", "one") }, nil, CoveragePath},
		{"coverage that is none", func(f *forge) { f.add(CoveragePath, "{") }, nil, CoveragePath},
		{"holes without end", func(f *forge) {
			m := Meta{Path: "s", Sparse: []Extent{}}
			mp := sparseMap(nil, 1<<60)
			f.head(m, tar.TypeReg, 1<<60, int64(len(mp)), "")
			f.tar.Write(mp)
			f.entries = append(f.entries, Entry{Path: "s", Type: tar.TypeReg, Size: 1 << 60, Sparse: []Extent{}, SHA256: strings.Repeat("0", 64), Offset: int64(f.tar.Len())})
			f.add(CoveragePath, cov)
		}, nil, "holes"},
		{"a sparse map that overlaps", func(f *forge) {
			m := Meta{Path: "s", Sparse: []Extent{{0, 512}, {100, 512}}}
			mp := sparseMap(m.Sparse, 4096)
			f.head(m, tar.TypeReg, 4096, int64(len(mp))+1024, "")
			f.tar.Write(mp)
			f.tar.Write(make([]byte, 1024))
			f.add(CoveragePath, cov)
		}, nil, "sparse map"},
		{"an unknown type", func(f *forge) {
			f.tar.Write(appendBlock(nil, ustar{name: "x", typ: 'V'}))
			f.add(CoveragePath, cov)
		}, nil, "type"},
		{"a directory with content", func(f *forge) {
			f.tar.Write(appendBlock(nil, ustar{name: "x/", typ: tar.TypeDir, size: 512}))
			f.add(CoveragePath, cov)
		}, nil, "with content"},
		{"an extended header without end", func(f *forge) {
			f.tar.Write(appendBlock(nil, ustar{name: "x", typ: tar.TypeXHeader, size: 8<<30 - 1}))
			f.add(CoveragePath, cov)
		}, nil, "extended header"},
		{"doubled records", func(f *forge) {
			r := "9 path=b\n9 path=c\n"
			f.tar.Write(appendBlock(nil, ustar{name: "x", typ: tar.TypeXHeader, size: int64(len(r))}))
			f.tar.WriteString(r)
			f.tar.Write(zeroBlock[:padding(int64(len(r)))])
			f.add("a", "one")
			f.add(CoveragePath, cov)
		}, nil, "doubled"},
		{"something in the padding", func(f *forge) {
			plain(f)
			f.tar.Bytes()[f.entries[0].Offset+100] = 1
		}, nil, "padding"},
		{"something behind the manifest", func(f *forge) {
			f.add(ManifestPath, "{}")
			f.entries = nil
			plain(f)
		}, nil, "follows the manifest"},
		{"numbers that contradict", plain, func(s *Statement) { s.Predicate.Frames++ }, "frames"},
		{"manifest elsewhere", plain, func(s *Statement) { s.Predicate.Manifest.Offset = 0 }, "not where"},
		{"manifest far away", plain, func(s *Statement) { s.Predicate.Manifest.Offset = 1 << 60; s.Predicate.TarBytes = 1 << 61 }, ManifestPath},
		{"another manifest's hash", plain, func(s *Statement) { s.Subject[1].Digest.SHA256 = strings.Repeat("0", 64) }, "not the signed one"},
		{"another predicate", plain, func(s *Statement) { s.PredicateType = "https://example.com" }, "another kind"},
		{"another tool", plain, func(s *Statement) { s.Predicate.Tool = "other" }, "contradict"},
		{"ten thousand levels", func(f *forge) { f.add(strings.Repeat("d/", 10_000)+"f", "deep"); f.add(CoveragePath, cov) }, nil, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := &forge{}
			c.make(f)
			b := f.seal(t, nil, c.change)
			path := filepath.Join(t.TempDir(), "h.sherd")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := Verify(context.Background(), path, trustTest())
			exercise(path)
			if c.want == "" {
				if err != nil {
					t.Errorf("%v %q", err, r.Problems)
				}
				return
			}
			var altered *AlteredError
			if !errors.As(err, &altered) || !strings.Contains(strings.Join(r.Problems, "\n"), c.want) {
				t.Errorf("want a problem with %q, got %v %q", c.want, err, r.Problems)
			}
			t.Logf("%v", err)
		})
	}
}

// exercise opens a package in each way and reads all of it, so that a crash or a bomb would show.
func exercise(path string) {
	for _, salvage := range []bool{false, true} {
		p, err := Open(path, OpenOptions{Salvage: salvage})
		if err != nil {
			continue
		}
		for _, e := range p.Artifacts("") {
			_, _ = p.ReadFile(e.Path, 1<<20)
			for _, err := range p.Lines(e.Path) {
				if err != nil {
					break
				}
			}
		}
		p.Close()
	}
}

func TestHostileManifests(t *testing.T) {
	isolate(t)
	sum := strings.Repeat("ab", 32)
	for name, m := range map[string]string{
		"empty": "", "not JSON": "hello", "array": "[]", "no format": `{"artifacts":[],"count":0}`,
		"later format":   `{"format":2,"artifacts":[],"count":0}`,
		"wrong count":    `{"format":1,"artifacts":[],"count":5}`,
		"twice":          `{"format":1,"format":1,"artifacts":[],"count":0}`,
		"something more": `{"format":1,"artifacts":[],"count":0} {}`,
		"nested":         `{"format":1,"target":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `,"artifacts":[],"count":0}`,
		"bad escape":     `{"format":1,"artifacts":[{"path":"a\\x","type":"file","size":0,"sha256":"` + sum + `"}],"count":1}`,
		"upper case":     `{"format":1,"artifacts":[{"path":"a","type":"file","size":0,"sha256":"` + strings.ToUpper(sum) + `"}],"count":1}`,
		"no type":        `{"format":1,"artifacts":[{"path":"a","size":0}],"count":1}`,
		"fifo content":   `{"format":1,"artifacts":[{"path":"a","type":"fifo","size":7}],"count":1}`,
	} {
		f := &forge{}
		f.add(CoveragePath, "{}")
		b := f.seal(t, []byte(m), nil)
		r, err := verifyBytes(t, t.TempDir(), b, trustTest())
		var altered *AlteredError
		if !errors.As(err, &altered) {
			t.Errorf("%s: %v %+v", name, err, r)
			continue
		}
		t.Logf("%s: %v", name, err)
	}
}

// TestBombs: frames that promise little and would give much, or the other way round, cost no more than a frame.
func TestBombs(t *testing.T) {
	isolate(t)
	// A frame of 8 MiB of zeros is a few bytes: many of them in a small file.
	e := must[*zstd.Encoder](t)(newEncoder())
	frame := e.EncodeAll(make([]byte, maxFrameSize), nil)
	over := e.EncodeAll(make([]byte, maxFrameSize+1), nil)
	many := bytes.Repeat(frame, 2000) // 16 GiB
	for name, b := range map[string][]byte{"too large a frame": over, "many": many[:len(frame)*64]} {
		if _, err := verifyBytes(t, t.TempDir(), b, trustTest()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// The header says less than the blocks hold.
	lie := bytes.Clone(frame)
	lie[5], lie[6], lie[7], lie[8] = 0, 1, 0, 0
	if _, err := verifyBytes(t, t.TempDir(), lie, trustTest()); err == nil {
		t.Error("a frame that holds more than it says is accepted")
	}
}
