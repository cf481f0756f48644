package filesystem

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/testenv"
)

// layer1GiB makes a writable layer of 20,000 files and 1 GiB: half of it text-like, half of it incompressible, most files
// small and a few large, as applications leave them.
func layer1GiB(b *testing.B) string {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "upper")
	rng := mrand.New(mrand.NewPCG(1, 2))
	text := make([]byte, 8<<20)
	words := []string{"GET /index.html ", "error: connection reset ", "0x7f3a ", "user=nonroot ", "2026-11-23T03:02:11Z ", "true,", "{\"id\":", "\n"}
	for i := 0; i < len(text); {
		i += copy(text[i:], fmt.Sprint(words[rng.IntN(len(words))], rng.IntN(1000), " "))
	}
	noise := make([]byte, 8<<20)
	_, err := rand.Read(noise)
	check(b, err)
	const files, total = 20_000, 1 << 30
	left := total
	for i := range files {
		n := 4<<10 + rng.IntN(48<<10)
		if i%400 == 0 {
			n = 8 << 20
		}
		if i == files-1 || n > left {
			n = left
		}
		left -= n
		src := text
		if i%2 == 0 {
			src = noise
		}
		p := fmt.Sprintf("%s/%02d/%02d/file%05d", dir, i%37, i%23, i)
		check(b, os.MkdirAll(filepath.Dir(p), 0o755))
		f, err := os.Create(p)
		check(b, err)
		for n > 0 {
			at := rng.IntN(len(src) - 1)
			k := min(n, len(src)-at)
			_, err := f.Write(src[at : at+k])
			check(b, err)
			n -= k
		}
		check(b, f.Close())
	}
	return dir
}

// BenchmarkUpper takes a layer of 1 GiB, and beside it does what a person would do with the usual tools. Both
// write to nowhere and read from memory, so that the disk does not decide.
func BenchmarkUpper(b *testing.B) {
	testenv.NeedRoot(b)
	testenv.NeedTool(b, "tar", "zstd", "sha256sum")
	up := layer1GiB(b)
	c := bare(up)
	b.Run("sherd", func(b *testing.B) {
		b.SetBytes(1 << 30)
		for b.Loop() {
			w, err := evidence.NewWriter(io.Discard, evidence.WriterOptions{Tool: "bench", Target: c})
			check(b, err)
			check(b, Collect(context.Background(), subject.Subject{Container: c, Proc: "/proc"}, w, Options{}))
			_, err = w.Close()
			check(b, err)
		}
	})
	b.Run("tar-zstd-sha256sum", func(b *testing.B) {
		b.SetBytes(1 << 30)
		for b.Loop() {
			cmd := exec.Command("sh", "-c", "tar -C \"$1\" -cf - . | zstd -1 -T2 -q | sha256sum >/dev/null", "sh", up)
			out, err := cmd.CombinedOutput()
			if err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}
	})
}
