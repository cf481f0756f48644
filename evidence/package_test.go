package evidence

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// testKey is one key for all tests, so that packages can be told apart by who signed them.
var testKey = sync.OnceValue(func() *Key {
	k, err := NewKey("kira@acme")
	if err != nil {
		panic(err)
	}
	return k
})

func trustTest() VerifyOptions { return VerifyOptions{Trusted: []PublicKey{testKey().Public()}} }

// isolate keeps a test from the user's own keys.
func isolate(t testing.TB) {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
}

func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// filler writes b in odd pieces.
func filler(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		for len(b) > 0 {
			n := min(len(b), 100_003)
			if _, err := w.Write(b[:n]); err != nil {
				return err
			}
			b = b[n:]
		}
		return nil
	}
}

// build writes a package with fill and returns its path.
func build(t testing.TB, o WriterOptions, fill func(w *Writer)) (string, *Sealed) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "case.sherd")
	f, err := CreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if o.Key == nil {
		o.Key = testKey()
	}
	w, err := NewWriter(f, o)
	if err != nil {
		t.Fatal(err)
	}
	fill(w)
	s, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	return path, s
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// variety fills a package with one of each.
func variety(t testing.TB) func(w *Writer) {
	add := must[Entry](t)
	return func(w *Writer) {
		add(w.Add(Meta{Path: "process/1/status", Origin: "/proc/4711/status"}, []byte("Name:\tapp\n")))
		add(w.Add(Meta{Path: "process/1/empty"}, nil))
		add(w.Stream(Meta{Path: "process/1/core", Origin: "memory"}, 3<<20+17, filler(noise(1, 3<<20+17))))
		add(w.Add(Meta{Path: "filesystem/upper/a", Mtime: 1_600_000_000_123_456_789, Atime: 5, Ctime: 6, Btime: 7, Mode: 0o4755, UID: 65532, GID: 7,
			Xattrs: map[string]string{"user.note": "a\x00b\nc=d", "user.we=ird%": "x"}, PAX: map[string]string{"SHERD.layer": "upper"}}, noise(2, 4000)))
		add(w.Add(Meta{Path: "filesystem/upper/same"}, noise(2, 4000)))
		add(w.Add(Meta{Path: "filesystem/upper/dir", Type: tar.TypeDir, Mode: 0o755}, nil))
		add(w.Add(Meta{Path: "filesystem/upper/dir/" + strings.Repeat("long/", 60) + "name"}, []byte("deep")))
		add(w.Add(Meta{Path: "filesystem/upper/link", Type: tar.TypeSymlink, Linkname: "/etc/\xffpasswd"}, nil))
		add(w.Add(Meta{Path: "filesystem/upper/bad\xff\xfe\nname"}, []byte("raw name")))
		add(w.Add(Meta{Path: "filesystem/upper/fifo", Type: tar.TypeFifo}, nil))
		add(w.Stream(Meta{Path: "filesystem/upper/sparse", Sparse: []Extent{{1 << 20, 5000}, {3 << 20, 4096}}}, 4<<20, filler(noise(3, 9096))))
		add(w.Stream(Meta{Path: "filesystem/upper/hole", Sparse: []Extent{}}, 1<<20, filler(nil)))
		add(w.Stream(Meta{Path: "filesystem/upper/k1", Key: "1:2:3"}, 2<<20, filler(noise(4, 2<<20))))
		add(w.Stream(Meta{Path: "filesystem/upper/k2", Key: "1:2:3"}, 2<<20, func(io.Writer) error { t.Error("fill of a second link"); return nil }))
		l := w.Lines("filesystem/inventory.jsonl", "the tree")
		for i := range 20_000 {
			if err := l.Write(record.File{Path: record.Name(fmt.Sprintf("/usr/lib/file-%d", i)), Type: record.TypeFile, Size: int64(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		w.Miss(record.Miss{What: "process/12/environ", Kind: "process", Reason: "permission denied"})
		w.Status("process", "partial")
	}
}

func TestRoundTrip(t *testing.T) {
	isolate(t)
	path, s := build(t, WriterOptions{Tool: "test 1", Target: map[string]string{"name": "checkout"}}, variety(t))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	if s.SHA256 != hex.EncodeToString(sum[:]) || s.Size != int64(len(b)) || s.Signer != "kira@acme" {
		t.Errorf("sealed %+v, the file has %x in %d", s, sum, len(b))
	}
	p, err := Open(path, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.SHA256() != s.SHA256 || p.ID() != s.ID || p.Truncated() || len(p.Manifest().Artifacts) != s.Artifacts {
		t.Errorf("opened %s %s", p.ID(), p.SHA256())
	}
	want := map[string][]byte{
		"process/1/status": []byte("Name:\tapp\n"), "process/1/empty": {}, "process/1/core": noise(1, 3<<20+17),
		"filesystem/upper/a": noise(2, 4000), "filesystem/upper/same": noise(2, 4000), "filesystem/upper/bad\xff\xfe\nname": []byte("raw name"),
		"filesystem/upper/k2": noise(4, 2<<20), "filesystem/upper/hole": make([]byte, 1<<20),
	}
	sparse := make([]byte, 4<<20)
	copy(sparse[1<<20:], noise(3, 9096)[:5000])
	copy(sparse[3<<20:], noise(3, 9096)[5000:])
	want["filesystem/upper/sparse"] = sparse
	for name, content := range want {
		got, err := p.ReadFile(name, 1<<30)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%q: %d bytes instead of %d, %v", name, len(got), len(content), err)
		}
		e, _ := p.Artifact(name)
		sum := sha256.Sum256(content)
		if e.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%q: the manifest has %s, its content %x", name, e.SHA256, sum)
		}
	}
	for name, to := range map[string]string{"filesystem/upper/same": "filesystem/upper/a", "filesystem/upper/k2": "filesystem/upper/k1"} {
		if e, _ := p.Artifact(name); e.LinkTo != to {
			t.Errorf("%s is stored again: %+v", name, e)
		}
	}
	if c := p.Coverage(); c.Collected["process"] != "partial" || len(c.Missed) != 1 || c.Missed[0].Count != 1 {
		t.Errorf("coverage %+v", c)
	}
	n, parts := 0, map[string]bool{}
	for l, err := range p.Lines("filesystem/inventory.jsonl") {
		if err != nil {
			t.Fatal(err)
		}
		if a, err := p.Open(l.Artifact); err != nil {
			t.Fatal(err)
		} else if n%5000 == 0 {
			cited := make([]byte, l.Length)
			if _, err := a.ReadAt(cited, l.Offset); err != nil || !bytes.Equal(cited, l.Data) {
				t.Fatalf("line %d is not where it says: %q, %v", n, cited, err)
			}
		}
		n++
		parts[l.Artifact] = true
	}
	if n != 20_000 || len(parts) < 2 {
		t.Errorf("%d lines in %d parts", n, len(parts))
	}
	if got := p.Artifacts("process/"); len(got) != 3 || !slices.IsSortedFunc(got, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) }) {
		t.Errorf("artifacts %v", got)
	}
	if _, err := p.ReadFile("process/1/core", 100); err == nil {
		t.Error("read a file over the limit")
	}
	r, err := Verify(context.Background(), path, trustTest())
	if err != nil || r.SHA256 != s.SHA256 || r.Artifacts != s.Artifacts || r.Signer != "kira@acme" {
		t.Errorf("verify: %+v %v", r, err)
	}
}

func TestFillThatFails(t *testing.T) {
	isolate(t)
	for _, size := range []int64{1000, 3 << 20} {
		data := noise(9, int(size))
		boom := errors.New("input/output error")
		path, _ := build(t, WriterOptions{}, func(w *Writer) {
			add := must[Entry](t)
			short := add(w.Stream(Meta{Path: "short"}, size, filler(data[:size/2])))
			if len(short.Errors) != 1 || !strings.Contains(short.Errors[0], "zeros") {
				t.Errorf("short: %q", short.Errors)
			}
			fail := add(w.Stream(Meta{Path: "fail"}, size, func(w io.Writer) error { _ = filler(data[:size/4])(w); return boom }))
			if len(fail.Errors) != 2 || fail.Errors[0] != boom.Error() {
				t.Errorf("fail: %q", fail.Errors)
			}
			long := add(w.Stream(Meta{Path: "long"}, size, filler(append(bytes.Clone(data), 1, 2, 3))))
			if len(long.Errors) != 1 || !strings.Contains(long.Errors[0], "longer") {
				t.Errorf("long: %q", long.Errors)
			}
			copied := add(w.Stream(Meta{Path: "copied"}, size, func(w io.Writer) error {
				_, err := io.Copy(w, struct{ io.Reader }{bytes.NewReader(append(bytes.Clone(data), 1))})
				return err
			}))
			if len(copied.Errors) != 1 || copied.SHA256 != long.SHA256 {
				t.Errorf("copied: %+v", copied)
			}
		})
		p := must[*Package](t)(Open(path, OpenOptions{}))
		defer p.Close()
		got := must[[]byte](t)(p.ReadFile("short", 1<<30))
		if !bytes.Equal(got[:size/2], data[:size/2]) || !bytes.Equal(got[size/2:], make([]byte, size-size/2)) {
			t.Error("short is not the data and zeros")
		}
		if _, err := Verify(context.Background(), path, trustTest()); err != nil {
			t.Error(err)
		}
	}
}

// TestOddExtents has extents that no block boundary limits, against a plain model.
func TestOddExtents(t *testing.T) {
	isolate(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		size := int64(1 + r.IntN(6000))
		var x []Extent
		want := make([]byte, size)
		var data []byte
		for at := int64(0); at < size; {
			at += int64(r.IntN(900))
			n := min(int64(r.IntN(700)), size-at)
			if n < 0 {
				break
			}
			x = append(x, Extent{at, n})
			b := noise(byte(r.IntN(250)), int(n))
			copy(want[at:], b)
			data = append(data, b...)
			at += n
		}
		if x == nil {
			x = []Extent{}
		}
		path, _ := build(t, WriterOptions{}, func(w *Writer) {
			e := must[Entry](t)(w.Stream(Meta{Path: "s", Sparse: x}, size, filler(data)))
			if len(e.Errors) > 0 {
				t.Errorf("%v of %d: %q", x, size, e.Errors)
			}
		})
		p := must[*Package](t)(Open(path, OpenOptions{}))
		got := must[[]byte](t)(p.ReadFile("s", 1<<20))
		p.Close()
		if !bytes.Equal(got, want) {
			t.Fatalf("%v of %d: not what was given", x, size)
		}
		if _, err := Verify(context.Background(), path, trustTest()); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		run(t, "tar", "--zstd", "-xf", path, "-C", dir)
		if unpacked := must[[]byte](t)(os.ReadFile(dir + "/s")); !bytes.Equal(unpacked, want) {
			t.Fatalf("%v of %d: tar unpacks something else", x, size)
		}
	}
}
