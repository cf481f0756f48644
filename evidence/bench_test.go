package evidence

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// benchTree is what a writable layer looks like to the package: programs, libraries, text, and things that won't shrink.
func benchTree() [][]byte {
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		exe = noise(7, 8<<20)
	}
	rnd := noise(8, 8<<20)
	var out [][]byte
	for i := range 2000 {
		n := 10_000 + i*7919%90_000
		src := exe
		if i%4 == 0 {
			src = rnd
		}
		at := i * 104_729 % (len(src) - n)
		out = append(out, src[at:at+n])
	}
	return out
}

func BenchmarkWriterTree(b *testing.B) {
	files := benchTree()
	total := int64(0)
	for _, f := range files {
		total += int64(len(f))
	}
	b.SetBytes(total)
	b.ReportAllocs()
	var out int64
	for b.Loop() {
		w := must[*Writer](b)(NewWriter(io.Discard, WriterOptions{Key: testKey()}))
		for i, f := range files {
			m := Meta{Path: fmt.Sprintf("filesystem/upper/usr/lib/file-%d", i), Mtime: 1_600_000_000_123_456_789, Mode: 0o644, UID: 65532}
			must[Entry](b)(w.Stream(m, int64(len(f)), func(w io.Writer) error { _, err := w.Write(f); return err }))
		}
		out = must[*Sealed](b)(w.Close()).Size
	}
	b.ReportMetric(float64(out)/float64(total), "ratio")
}

func BenchmarkWriterCore(b *testing.B) {
	exe := must[[]byte](b)(os.ReadFile("/proc/self/exe"))
	for name, src := range map[string][]byte{"random": noise(1, 8<<20), "zero": make([]byte, 8<<20), "program": exe[:min(len(exe), 8<<20)]} {
		for _, way := range []string{"write", "copy"} {
			b.Run(name+"/"+way, func(b *testing.B) {
				const size = 256 << 20
				b.SetBytes(size)
				for b.Loop() {
					w := must[*Writer](b)(NewWriter(io.Discard, WriterOptions{Key: testKey()}))
					must[Entry](b)(w.Stream(Meta{Path: "core"}, size, func(w io.Writer) error {
						if way == "copy" {
							_, err := io.Copy(w, io.LimitReader(&loop{src: src}, size))
							return err
						}
						for n := 0; n < size; n += len(src) {
							if _, err := w.Write(src); err != nil {
								return err
							}
						}
						return nil
					}))
					must[*Sealed](b)(w.Close())
				}
			})
		}
	}
}

// loop reads the same bytes over and over.
type loop struct {
	src []byte
	at  int
}

func (l *loop) Read(b []byte) (int, error) {
	n := copy(b, l.src[l.at:])
	l.at = (l.at + n) % len(l.src)
	return n, nil
}

func BenchmarkVerify(b *testing.B) {
	path := filepath.Join(b.TempDir(), "b.sherd")
	f := must[*os.File](b)(os.Create(path))
	w := must[*Writer](b)(NewWriter(f, WriterOptions{Key: testKey()}))
	total := int64(0)
	for i, c := range benchTree() {
		must[Entry](b)(w.Add(Meta{Path: fmt.Sprintf("f/%d", i)}, c))
		total += int64(len(c))
	}
	must[*Sealed](b)(w.Close())
	f.Close()
	b.SetBytes(total)
	for b.Loop() {
		must[*Report](b)(Verify(context.Background(), path, trustTest()))
	}
}
