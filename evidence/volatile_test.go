package evidence

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/sherd-forensics/sherd/internal/testenv"
)

// TestVolatile seals content whose frames are stored, compressed, and trivial in turn, and reads it back with three readers.
func TestVolatile(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	content := make([]byte, hurryFrom+5<<20+12345)
	for i := range content {
		switch i >> 20 % 3 {
		case 0:
			content[i] = byte(rng.Uint32())
		case 1:
			content[i] = "volatile memory "[rng.IntN(16)]
		}
	}
	path := filepath.Join(t.TempDir(), "x.sherd")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWriter(f, WriterOptions{Tool: "test"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Stream(Meta{Path: "process/1/core", Volatile: true}, int64(len(content)), func(d io.Writer) error {
		_, err := d.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() >= int64(len(content)) {
		t.Errorf("the package has %d bytes for %d of content: zeros were stored", st.Size(), len(content))
	}
	if r, err := Verify(t.Context(), path, VerifyOptions{Trusted: []PublicKey{w.o.Key.Public()}, NoCustody: true}); err != nil {
		t.Fatalf("%v %+v", err, r)
	}
	p, err := Open(path, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	got, err := p.ReadFile("process/1/core", 1<<30)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("read back %d bytes: %v", len(got), err)
	}
	testenv.NeedTool(t, "zstd", "tar")
	out, err := exec.Command("sh", "-c", `zstd -dcq "$0" | tar -xOf - process/1/core`, path).Output()
	if err != nil || !bytes.Equal(out, content) {
		t.Errorf("zstd and tar gave %d bytes: %v", len(out), err)
	}
}

// TestStoredFrame holds the raw form against an independent decoder and our own parser at sizes around the block's.
func TestStoredFrame(t *testing.T) {
	for _, n := range []int{1, 255, 256, rawBlock - 1, rawBlock, rawBlock + 1, FrameSize} {
		in := bytes.Repeat([]byte("stored!"), n/7+1)[:n]
		var b bytes.Buffer
		p, err := newPipeline(&b, 1)
		if err != nil {
			t.Fatal(err)
		}
		fr := &frame{in: in, n: n, store: true}
		d, err := zstd.NewReader(nil)
		if err != nil {
			t.Fatal(err)
		}
		fr.sum = checksum(in)
		p.writeStored(fr)
		got, err := d.DecodeAll(b.Bytes(), nil)
		d.Close()
		if err != nil || !bytes.Equal(got, in) {
			t.Errorf("%d bytes: %v", n, err)
		}
		info, err := parseFrame(bytes.NewReader(b.Bytes()), 0, int64(b.Len()))
		if err != nil || int(info.Compressed) != storedSize(n) || info.Checksum != fr.sum {
			t.Errorf("%d bytes: parsed as %+v, %v; written are %d", n, info, err, b.Len())
		}
		if err := p.drain(); err != nil {
			t.Error(err)
		}
	}
}
