package evidence

import (
	"bytes"
	"context"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// seeds are small packages of each kind, whole and not.
func seeds(f *testing.F) [][]byte {
	f.Helper()
	good := small(f, WriterOptions{ID: "0123456789abcdef"})
	at := frameBounds(f, good)
	flipped := bytes.Clone(good)
	flipped[at[1]+20] ^= 1
	fo := &forge{}
	fo.add("a", "one")
	fo.add(CoveragePath, "{}")
	return [][]byte{good, good[:at[1]], good[:len(good)-3], flipped, fo.seal(f, nil, nil), encodeSeekTable(nil), {}}
}

// FuzzVerify: whatever the bytes, no crash, no endless work, and "as sealed" only for what a key that we trust has signed.
func FuzzVerify(f *testing.F) {
	f.Setenv("XDG_CONFIG_HOME", f.TempDir())
	good := map[string]bool{}
	for _, s := range seeds(f) {
		good[string(s)] = true
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "f.sherd")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Verify(context.Background(), path, trustTest())
		if err == nil && !good[string(b)] {
			t.Fatalf("verified: %+v", r)
		}
		exercise(path)
	})
}

// FuzzSeekTable: a table is refused, or it is one that encodes to the very bytes it was read from and lies inside the file.
func FuzzSeekTable(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, err := readSeekTable(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		sum := 0
		for _, x := range frames {
			sum += int(x.Compressed)
		}
		if table := encodeSeekTable(frames); sum+len(table) != len(b) || !bytes.Equal(b[sum:], table) {
			t.Fatalf("%d frames of %d bytes in a file of %d", len(frames), sum, len(b))
		}
	})
}

// FuzzFrame: the extent that parseFrame finds is the one that a decoder needs.
func FuzzFrame(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	d, err := newDecoder()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseFrame(bytes.NewReader(b), 0, int64(len(b)))
		if err != nil || p.Skippable != 0 {
			return
		}
		if int(p.Compressed) > len(b) || p.Content > maxFrameSize {
			t.Fatalf("%+v of %d bytes", p, len(b))
		}
		if out, err := decodeFrame(d, nil, b[:p.Compressed], p.frameInfo); err == nil && len(out) != int(p.Content) {
			t.Fatalf("%d bytes, the header says %d", len(out), p.Content)
		}
	})
}

// FuzzManifest: a manifest is refused, or makes sense.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"tool":"t","id":"i","target":{},"started":1,"artifacts":[],"sealed":2,"count":0,"content":0}`))
	f.Add([]byte(`{"format":1,"artifacts":[{"path":"a\\\\b","type":"file","size":9,"sha256":"0000000000000000000000000000000000000000000000000000000000000000","offset":5,"sparse":[[0,4],[8,1]],"errors":["x"]}],"count":1}`))
	f.Add([]byte(`{"format":1,"artifacts":[{"path":"l","type":"symlink","linkname":"/x"}],"count":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(bytes.NewReader(b))
		if err != nil {
			return
		}
		p := &Package{m: m}
		if p.link(math.MaxInt64) != nil {
			return
		}
		for _, e := range m.Artifacts {
			j, err := e.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			var again Entry
			if err := again.UnmarshalJSON(j); err != nil || again.Path != e.Path || again.Size != e.Size {
				t.Fatalf("%+v became %+v, %v", e, again, err)
			}
		}
	})
}

// FuzzTar: the walker of the tar stream ends, and gives no path that leads out of the package.
func FuzzTar(f *testing.F) {
	fo := &forge{}
	fo.add("a", "one")
	m := Meta{Path: "s", Sparse: []Extent{{512, 512}}, Xattrs: map[string]string{"user.x": "y"}}
	mp := sparseMap(m.Sparse, 4096)
	fo.head(m, '0', 4096, int64(len(mp))+512, "")
	fo.tar.Write(mp)
	fo.tar.Write(make([]byte, 512+1024))
	f.Add(fo.tar.Bytes())
	f.Add(appendGlobalHeader(nil, `{"id":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := &tarWalker{src: &sliceChunks{b}}
		for n := 0; ; n++ {
			m, err := w.next()
			if err != nil {
				return
			}
			if n > len(b)/blockSize {
				t.Fatal("more members than blocks")
			}
			if m.Type == 'g' {
				continue
			}
			if err := checkPath(m.Path); err != nil {
				t.Fatalf("%q %v", m.Path, err)
			}
		}
	})
}

type sliceChunks struct{ b []byte }

func (s *sliceChunks) chunk(limit int64) ([]byte, error) {
	if len(s.b) == 0 {
		return nil, io.EOF
	}
	b := s.b[:min(int64(len(s.b)), limit, 1000)]
	s.b = s.b[len(b):]
	return b, nil
}

// FuzzCustody: half-written, edited or foreign logs are told, and never keep an entry from being added.
func FuzzCustody(f *testing.F) {
	f.Setenv("XDG_CONFIG_HOME", f.TempDir())
	e, err := CustodyEntry{Seq: 1, Action: "collected", Prev: custodyStart}.sign(testKey())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(e, '\n'))
	f.Add(e[:40])
	f.Add([]byte("\n\n{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "x.sherd")
		if err := os.WriteFile(CustodyPath(path), b, 0o600); err != nil {
			t.Fatal(err)
		}
		before, err := VerifyCustody(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := AppendCustodySigned(path, CustodyEntry{Action: "verified"}, testKey()); err != nil {
			t.Fatal(err)
		}
		after, err := VerifyCustody(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(before.Problems) == 0 && (len(after.Problems) > 0 || len(after.Entries) != len(before.Entries)+1) {
			t.Fatalf("a good log went bad: %+v", after)
		}
	})
}
