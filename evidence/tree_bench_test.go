package evidence

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/internal/testenv"
)

// BenchmarkTree seals a tree of 1 GiB in 20,000 files into a file, beside `tar | zstd -1 -T2 | sha256sum` of the same tree. Set
// SHERD_BENCH_TREE=1 to run it.
func BenchmarkTree(b *testing.B) {
	if os.Getenv("SHERD_BENCH_TREE") == "" {
		b.Skip("set SHERD_BENCH_TREE=1")
	}
	testenv.NeedTool(b, "tar", "zstd", "sha256sum")
	dir := b.TempDir()
	size := makeTree(b, filepath.Join(dir, "tree"), 20_000, 1<<30)
	b.Run("sherd", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			f := must[*os.File](b)(os.Create(filepath.Join(dir, "out.sherd")))
			w := must[*Writer](b)(NewWriter(f, WriterOptions{Key: testKey()}))
			sealTree(b, w, filepath.Join(dir, "tree"))
			s := must[*Sealed](b)(w.Close())
			f.Close()
			b.ReportMetric(float64(s.Size)/float64(size), "ratio")
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.Sys)/1e6, "MB-sys")
	})
	b.Run("tar-zstd-sha256sum", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			c := exec.Command("sh", "-c", "tar -C tree --format=pax -cf - . | zstd -q -1 -T2 | tee out.tar.zst | sha256sum")
			c.Dir = dir
			if out, err := c.CombinedOutput(); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
		}
		st := must[fs.FileInfo](b)(os.Stat(filepath.Join(dir, "out.tar.zst")))
		b.ReportMetric(float64(st.Size())/float64(size), "ratio")
	})
}

// makeTree makes files of programs, text, and what won't shrink.
func makeTree(t testing.TB, root string, files int, total int64) int64 {
	t.Helper()
	exe := must[[]byte](t)(os.ReadFile("/proc/self/exe"))
	rnd := noise(8, 8<<20)
	size, written := total/int64(files), int64(0)
	begin := time.Now()
	for i := range files {
		n := int(size/4) + i*7919%int(size*3/2)
		src, at := exe, i*104_729%(len(exe)-n)
		if i%5 == 0 {
			src, at = rnd, i*104_729%(len(rnd)-n)
		}
		dir := filepath.Join(root, fmt.Sprintf("d%03d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%05d", i)), src[at:at+n], 0o644); err != nil {
			t.Fatal(err)
		}
		written += int64(n)
	}
	t.Logf("made %d files of %d bytes in %s", files, written, time.Since(begin))
	return written
}

func sealTree(t testing.TB, w *Writer, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		m := Meta{Path: "filesystem/upper/" + rel, Mode: 0o644, Mtime: 1_600_000_000_123_456_789}
		if d.IsDir() {
			m.Type = '5'
			_, err = w.Add(m, nil)
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		_, err = w.Stream(m, st.Size(), func(w io.Writer) error { _, err := io.Copy(w, f); return err })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
