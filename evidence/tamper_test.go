package evidence

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// small is a package of a few KiB with every part that a package has.
func small(t testing.TB, o WriterOptions) []byte {
	t.Helper()
	path, _ := build(t, o, func(w *Writer) {
		add := must[Entry](t)
		add(w.Add(Meta{Path: "a", Mtime: 1_600_000_000_123_456_789}, []byte(strings.Repeat("evidence ", 40))))
		add(w.Add(Meta{Path: "b"}, noise(5, 600)))
		add(w.Add(Meta{Path: "c"}, noise(5, 600)))
		add(w.Stream(Meta{Path: "s", Sparse: []Extent{{4096, 10}}}, 8192, filler(noise(6, 10))))
		w.Miss(record.Miss{What: "x", Kind: "process", Reason: "gone"})
	})
	return must[[]byte](t)(os.ReadFile(path))
}

func verifyBytes(t testing.TB, dir string, b []byte, o VerifyOptions) (*Report, error) {
	t.Helper()
	path := filepath.Join(dir, "t.sherd")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return Verify(context.Background(), path, o)
}

// TestEveryByte changes each byte of a package, in two ways, and each bit of the parts where a decoder may look away.
func TestEveryByte(t *testing.T) {
	isolate(t)
	id := must[*age.X25519Identity](t)(age.GenerateX25519Identity())
	for name, o := range map[string]WriterOptions{"plain": {}, "encrypted": {Recipients: []age.Recipient{id.Recipient()}}} {
		t.Run(name, func(t *testing.T) {
			o.ID = "0123456789abcdef"
			good := small(t, o)
			dir := t.TempDir()
			vo := trustTest()
			vo.Identities = []age.Identity{id}
			if r, err := verifyBytes(t, dir, good, vo); err != nil {
				t.Fatalf("untouched: %v %+v", err, r)
			}
			t.Logf("%d bytes", len(good))
			masks := []byte{0x01, 0x80}
			if name == "plain" {
				masks = []byte{1, 2, 4, 8, 16, 32, 64, 128}
			}
			for i := range good {
				for _, m := range masks {
					if m&0x81 == 0 && i%16 != 0 && i > 16 && i < len(good)-64 {
						continue // each byte in two ways, and all bits of a sample and of both ends
					}
					good[i] ^= m
					if _, err := verifyBytes(t, dir, good, vo); err == nil {
						t.Errorf("byte %d of %d with bits %#02x changed is not noticed", i, len(good), m)
					}
					good[i] ^= m
				}
			}
			for _, tail := range [][]byte{{0}, {'\n'}, good[:40], {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, good} {
				if _, err := verifyBytes(t, dir, append(bytes.Clone(good), tail...), vo); err == nil {
					t.Errorf("%d bytes appended are not noticed", len(tail))
				}
				if _, err := verifyBytes(t, dir, append(bytes.Clone(tail), good...), vo); err == nil {
					t.Errorf("%d bytes put before are not noticed", len(tail))
				}
			}
		})
	}
}

// frameBounds are the offsets of a package's frames, and its end.
func frameBounds(t testing.TB, b []byte) []int {
	t.Helper()
	var out []int
	for off := int64(0); off < int64(len(b)); {
		out = append(out, int(off))
		f, err := parseFrame(bytes.NewReader(b), off, int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		off += int64(f.Compressed)
	}
	return append(out, len(b))
}

func several(t testing.TB) []byte {
	t.Helper()
	path, _ := build(t, WriterOptions{}, func(w *Writer) {
		for i := range 6 {
			must[Entry](t)(w.Stream(Meta{Path: "process/" + string(rune('1'+i)) + "/core"}, 1<<20, filler(noise(byte(i), 1<<20))))
		}
	})
	return must[[]byte](t)(os.ReadFile(path))
}

// TestRecompressed writes one frame anew, so that it decompresses to the same content, and puts the seek table right.
func TestRecompressed(t *testing.T) {
	isolate(t)
	good := small(t, WriterOptions{})
	at := frameBounds(t, good)
	d := must[*zstd.Decoder](t)(zstd.NewReader(nil))
	defer d.Close()
	content := must[[]byte](t)(d.DecodeAll(good[:at[1]], nil))
	e := must[*zstd.Encoder](t)(zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithSingleSegment(true)))
	again := e.EncodeAll(content, nil)
	if bytes.Equal(again, good[:at[1]]) {
		t.Fatal("compressed to the same bytes")
	}
	frames := must[[]frameInfo](t)(readSeekTable(bytes.NewReader(good), int64(len(good))))
	frames[0].Compressed = uint32(len(again))
	forged := append(append(again, good[at[1]:at[len(at)-2]]...), encodeSeekTable(frames)...)
	r, err := verifyBytes(t, t.TempDir(), forged, trustTest())
	var altered *AlteredError
	if !errors.As(err, &altered) || !strings.Contains(strings.Join(r.Problems, "\n"), "the signed") {
		t.Errorf("not noticed as what it is: %v %q", err, r.Problems)
	}
}

func TestReordered(t *testing.T) {
	isolate(t)
	good := several(t)
	at := frameBounds(t, good)
	frame := func(i int) []byte { return good[at[i]:at[i+1]] }
	swapped := slices.Concat(frame(0), frame(2), frame(1), good[at[3]:])
	r, err := verifyBytes(t, t.TempDir(), swapped, trustTest())
	if err == nil || !strings.Contains(strings.Join(r.Problems, "\n"), "re-ordered") {
		t.Errorf("swapped frames: %v %q", err, r.Problems)
	}
	// The same with the seek table put right.
	frames := must[[]frameInfo](t)(readSeekTable(bytes.NewReader(good), int64(len(good))))
	frames[1], frames[2] = frames[2], frames[1]
	forged := append(bytes.Clone(swapped[:at[len(at)-2]]), encodeSeekTable(frames)...)
	if _, err := verifyBytes(t, t.TempDir(), forged, trustTest()); err == nil {
		t.Error("swapped frames with a table to match are not noticed")
	}
}

// TestResigned changes a package and signs it again, as anybody can.
func TestResigned(t *testing.T) {
	isolate(t)
	mallory := must[*Key](t)(NewKey("kira@acme"))
	path, _ := build(t, WriterOptions{Key: mallory}, func(w *Writer) { must[Entry](t)(w.Add(Meta{Path: "a"}, []byte("planted"))) })
	r, err := Verify(context.Background(), path, trustTest())
	var unknown *UnknownSignerError
	if !errors.As(err, &unknown) || unknown.KeyID != mallory.ID() || r == nil || r.Trusted || len(r.Problems) > 0 {
		t.Fatalf("%v %+v", err, r)
	}
	if !strings.Contains(err.Error(), "--key") || !strings.Contains(err.Error(), "kira@acme") {
		t.Errorf("the message does not help: %v", err)
	}
	// A package signed with a key that was made for it alone says so, and how it can be told all the same.
	var out bytes.Buffer
	w := must[*Writer](t)(NewWriter(&out, WriterOptions{}))
	if s := must[*Sealed](t)(w.Close()); !s.Ephemeral {
		t.Errorf("sealed %+v", s)
	}
	if _, err := verifyBytes(t, t.TempDir(), out.Bytes(), trustTest()); !errors.As(err, &unknown) || !unknown.Ephemeral || !strings.Contains(err.Error(), "sha256") {
		t.Errorf("an ephemeral key: %v", err)
	}
}

func TestUnsigned(t *testing.T) {
	isolate(t)
	good := small(t, WriterOptions{})
	at := frameBounds(t, good)
	sig := len(at) - 3
	frames := must[[]frameInfo](t)(readSeekTable(bytes.NewReader(good), int64(len(good))))
	forged := append(bytes.Clone(good[:at[sig]]), encodeSeekTable(frames[:len(frames)-1])...)
	_, err := verifyBytes(t, t.TempDir(), forged, trustTest())
	var unsigned *UnsignedError
	if !errors.As(err, &unsigned) {
		t.Errorf("without signature: %v", err)
	}
	// Two signatures.
	twice := slices.Concat(good[:at[sig+1]], good[at[sig]:at[sig+1]], good[at[sig+1]:])
	if _, err := verifyBytes(t, t.TempDir(), twice, trustTest()); err == nil {
		t.Error("a second signature is not noticed")
	}
	// Another package's signature.
	other := small(t, WriterOptions{ID: "other"})
	oat := frameBounds(t, other)
	foreign := slices.Concat(good[:at[sig]], other[oat[sig]:oat[sig+1]], good[at[sig+1]:])
	if r, err := verifyBytes(t, t.TempDir(), foreign, trustTest()); err == nil {
		t.Errorf("another package's signature is accepted: %+v", r)
	}
}

// TestTruncated cuts a package at many places: it opens with what its whole frames hold, and says that it was cut.
func TestTruncated(t *testing.T) {
	isolate(t)
	good := several(t)
	at := frameBounds(t, good)
	cuts := []int{1, 3, 4, 5, 9, len(good) - 1, len(good) - 5, len(good) - 9, len(good) - 10}
	for _, a := range at[:len(at)-1] {
		for d := -3; d <= 12; d++ {
			if c := a + d; c > 0 && c < len(good) {
				cuts = append(cuts, c)
			}
		}
	}
	for c := 1000; c < len(good); c += 77_777 {
		cuts = append(cuts, c)
	}
	dir := t.TempDir()
	for _, c := range cuts {
		path := filepath.Join(dir, "cut.sherd")
		if err := os.WriteFile(path, good[:c], 0o600); err != nil {
			t.Fatal(err)
		}
		if c < 4 {
			continue
		}
		p, err := Open(path, OpenOptions{})
		if err != nil {
			t.Errorf("cut at %d: %v", c, err)
			continue
		}
		if !p.Truncated() {
			t.Errorf("cut at %d: not noticed", c)
		}
		frames := 0
		for _, a := range at[1 : len(at)-2] {
			if a <= c {
				frames++
			}
		}
		for _, e := range p.Artifacts("process/") {
			b, err := p.ReadFile(e.Path, 1<<30)
			if err != nil {
				t.Errorf("cut at %d: %s: %v", c, e.Path, err)
			}
			if want := noise(e.Path[8]-'1', 1<<20); !bytes.HasPrefix(want, b) || len(b) < 1<<20 && len(e.Errors) == 0 {
				t.Errorf("cut at %d: %s is not what was sealed: %d bytes", c, e.Path, len(b))
			}
		}
		if got := len(p.Artifacts("process/")); frames > 0 && got < min(frames, 6) {
			t.Errorf("cut at %d: %d artifacts in %d whole frames", c, got, frames)
		}
		if frames > 0 && p.ID() == "" {
			t.Errorf("cut at %d: the evidence has no id", c)
		}
		p.Close()
		_, err = Verify(context.Background(), path, trustTest())
		var cut *TruncatedError
		if !errors.As(err, &cut) {
			t.Errorf("cut at %d: verify says %v", c, err)
		}
	}
}

func TestTruncatedEncrypted(t *testing.T) {
	isolate(t)
	id := must[*age.X25519Identity](t)(age.GenerateX25519Identity())
	path, _ := build(t, WriterOptions{Recipients: []age.Recipient{id.Recipient()}}, func(w *Writer) {
		for i := range 4 {
			must[Entry](t)(w.Stream(Meta{Path: "core" + string(rune('0'+i))}, 1<<20, filler(noise(byte(i), 1<<20))))
		}
	})
	good := must[[]byte](t)(os.ReadFile(path))
	for _, c := range []int{150, 300, 70_000, 1_200_000, 2_500_001, len(good) - 1} {
		cut := filepath.Join(t.TempDir(), "cut.sherd")
		if err := os.WriteFile(cut, good[:c], 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := Open(cut, OpenOptions{Identities: []age.Identity{id}})
		if c < 250 {
			if err == nil {
				t.Errorf("cut at %d opens", c)
			}
			continue
		}
		if err != nil {
			t.Errorf("cut at %d: %v", c, err)
			continue
		}
		if !p.Truncated() {
			t.Errorf("cut at %d: not noticed", c)
		}
		if c > 2_400_000 {
			if b, err := p.ReadFile("core0", 1<<30); err != nil || !bytes.Equal(b, noise(0, 1<<20)) {
				t.Errorf("cut at %d: the first artifact is lost: %v", c, err)
			}
		}
		p.Close()
		_, err = Verify(context.Background(), cut, VerifyOptions{Identities: []age.Identity{id}})
		var ce *TruncatedError
		if !errors.As(err, &ce) {
			t.Errorf("cut at %d: verify says %v", c, err)
		}
	}
	_, err := Open(path, OpenOptions{})
	var enc *EncryptedError
	if !errors.As(err, &enc) || !strings.Contains(err.Error(), "--identity") {
		t.Errorf("without identity: %v", err)
	}
	stranger := must[*age.X25519Identity](t)(age.GenerateX25519Identity())
	if _, err = Verify(context.Background(), path, VerifyOptions{Identities: []age.Identity{stranger}}); !errors.As(err, &enc) || enc.Given != 1 {
		t.Errorf("with another's identity: %v", err)
	}
}

func TestSalvage(t *testing.T) {
	isolate(t)
	good := several(t)
	at := frameBounds(t, good)
	good[at[3]+20_000] ^= 1
	good[len(good)-1] ^= 1
	path := filepath.Join(t.TempDir(), "t.sherd")
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	var altered *AlteredError
	if _, err := Open(path, OpenOptions{}); !errors.As(err, &altered) {
		t.Fatalf("altered package: %v", err)
	}
	p := must[*Package](t)(Open(path, OpenOptions{Salvage: true}))
	defer p.Close()
	if b, err := p.ReadFile("process/1/core", 1<<30); err != nil || !bytes.Equal(b, noise(0, 1<<20)) {
		t.Errorf("what lies before the damage is lost: %v", err)
	}
}

func TestNotAPackage(t *testing.T) {
	isolate(t)
	e := must[*zstd.Encoder](t)(zstd.NewWriter(nil))
	for name, b := range map[string][]byte{
		"empty": {}, "text": []byte("hello, this is no package at all\n"), "elf": append([]byte("\x7fELF"), noise(1, 5000)...),
		"zstd": e.EncodeAll(noise(1, 5000), nil), "age": []byte("age-encryption.org/v1\nnonsense"),
		"seek table alone": encodeSeekTable(nil),
	} {
		r, err := verifyBytes(t, t.TempDir(), b, trustTest())
		if err == nil {
			t.Errorf("%s: verified, %+v", name, r)
			continue
		}
		t.Logf("%s: %v", name, err)
		path := filepath.Join(t.TempDir(), "x.sherd")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := Open(path, OpenOptions{}); err == nil {
			p.Close()
			t.Errorf("%s: opened", name)
		}
	}
	if _, err := Open(t.TempDir(), OpenOptions{}); err == nil {
		t.Error("opened a directory")
	}
}

func TestSeekTableLies(t *testing.T) {
	isolate(t)
	good := several(t)
	table := must[[]frameInfo](t)(readSeekTable(bytes.NewReader(good), int64(len(good))))
	at := frameBounds(t, good)
	body := good[:at[len(at)-2]]
	for name, lie := range map[string]func([]frameInfo) []frameInfo{
		"huge content":     func(f []frameInfo) []frameInfo { f[1].Content = 1 << 31; return f },
		"less content":     func(f []frameInfo) []frameInfo { f[1].Content--; return f },
		"more content":     func(f []frameInfo) []frameInfo { f[1].Content++; return f },
		"shifted":          func(f []frameInfo) []frameInfo { f[1].Compressed++; f[2].Compressed--; return f },
		"overlong":         func(f []frameInfo) []frameInfo { f[1].Compressed = 1 << 31; return f },
		"one less":         func(f []frameInfo) []frameInfo { return f[1:] },
		"one more":         func(f []frameInfo) []frameInfo { return append(f, frameInfo{Compressed: 8}) },
		"none":             func([]frameInfo) []frameInfo { return nil },
		"another checksum": func(f []frameInfo) []frameInfo { f[0].Checksum++; return f },
		"empty frame":      func(f []frameInfo) []frameInfo { f[2].Content = 0; return f },
	} {
		forged := append(bytes.Clone(body), encodeSeekTable(lie(slices.Clone(table)))...)
		r, err := verifyBytes(t, t.TempDir(), forged, trustTest())
		if err == nil {
			t.Errorf("%s is not noticed", name)
			continue
		}
		t.Logf("%s: %v", name, r.Problems)
		path := filepath.Join(t.TempDir(), "x.sherd")
		if err := os.WriteFile(path, forged, 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := Open(path, OpenOptions{}); err == nil {
			for _, e := range p.Artifacts("") {
				_, _ = p.ReadFile(e.Path, 1<<20)
			}
			p.Close()
		}
	}
	foot := bytes.Clone(good)
	binary.LittleEndian.PutUint32(foot[len(foot)-9:], 0xffffffff)
	if _, err := verifyBytes(t, t.TempDir(), foot, trustTest()); err == nil {
		t.Error("a table of four thousand million frames is not noticed")
	}
}
