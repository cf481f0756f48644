package evidence

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// TestTogether has many collectors write at once, some of them through sources that block.
func TestTogether(t *testing.T) {
	isolate(t)
	gate := make(chan struct{})
	path, s := build(t, WriterOptions{}, func(w *Writer) {
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				l := w.Lines(fmt.Sprintf("rows-%d.jsonl", g), "")
				for i := range 40 {
					n := 1000 + i*50_000
					m := Meta{Path: fmt.Sprintf("g%d/f%d", g, i)}
					if _, err := w.Stream(m, int64(n), filler(noise(byte(g*40+i), n))); err != nil {
						t.Error(err)
					}
					if err := l.Write(map[string]int{"n": i}); err != nil {
						t.Error(err)
					}
					w.Miss(record.Miss{What: m.Path, Kind: "process", Reason: "gone"})
				}
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		// A small source that blocks holds nobody up.
		wg.Go(func() {
			_, err := w.Stream(Meta{Path: "slow"}, 100, func(w io.Writer) error { <-gate; return filler(noise(9, 100))(w) })
			if err != nil {
				t.Error(err)
			}
		})
		time.AfterFunc(50*time.Millisecond, func() { close(gate) })
		wg.Wait()
	})
	if s.Artifacts != 8*41+2 {
		t.Errorf("%d artifacts", s.Artifacts)
	}
	if _, err := Verify(context.Background(), path, trustTest()); err != nil {
		t.Error(err)
	}
	p := must[*Package](t)(Open(path, OpenOptions{}))
	defer p.Close()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 40 {
				b, err := p.ReadFile(fmt.Sprintf("g%d/f%d", g, i), 1<<30)
				if err != nil || !bytes.Equal(b, noise(byte(g*40+i), 1000+i*50_000)) {
					t.Errorf("g%d/f%d: %v", g, i, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestNames(t *testing.T) {
	isolate(t)
	path, _ := build(t, WriterOptions{}, func(w *Writer) {
		for _, bad := range []string{"", "/etc/passwd", "a/../b", "./a", "a//b", "a/", "a\x00b", ManifestPath} {
			if _, err := w.Add(Meta{Path: bad}, nil); err == nil {
				t.Errorf("%q is taken", bad)
			}
		}
		if _, err := w.Add(Meta{Path: "x", Type: 'V'}, nil); err == nil {
			t.Error("an unknown type is taken")
		}
		if e, err := w.Add(Meta{Path: strings.Repeat("d/", maxPath)}, nil); err != nil || e.Path != "" {
			t.Errorf("a path that is too long: %v %v", e, err)
		}
		must[Entry](t)(w.Add(Meta{Path: "twice"}, []byte("one")))
		if e := must[Entry](t)(w.Add(Meta{Path: "twice"}, []byte("two"))); e.Path != "twice~2" || len(e.Errors) != 1 {
			t.Errorf("a second artifact of one name: %+v", e)
		}
	})
	p := must[*Package](t)(Open(path, OpenOptions{}))
	defer p.Close()
	if b := must[[]byte](t)(p.ReadFile("twice~2", 10)); string(b) != "two" {
		t.Errorf("%q", b)
	}
	if m := p.Coverage().Missed; len(m) != 1 || !strings.Contains(m[0].Reason, "longer") {
		t.Errorf("%+v", m)
	}
	var missing *MissingError
	if _, err := p.Open("nothing"); !errors.As(err, &missing) {
		t.Error(err)
	}
	for _, err := range p.Lines("nothing.jsonl") {
		if !errors.As(err, &missing) {
			t.Error(err)
		}
	}
}

func TestCoverageFolds(t *testing.T) {
	var c coverage
	for i := range 10_000 {
		c.add(record.Miss{What: fmt.Sprintf("process/%d/environ", i), Kind: "process", Reason: "permission denied"})
	}
	for range 3 {
		c.add(record.Miss{What: "memory", Kind: "memory", Reason: "gone", Count: 2})
	}
	if len(c.missed) != maxAlike+2 || c.missed[maxAlike].Count != 10_000-maxAlike || c.missed[maxAlike+1].Count != 6 {
		t.Errorf("%d entries, the last are %+v", len(c.missed), c.missed[maxAlike:])
	}
	for i := range 20_000 {
		c.add(record.Miss{What: "x", Kind: "filesystem", Reason: fmt.Sprintf("open /x%d: no such file", i)})
	}
	total := c.dropped
	for _, m := range c.missed {
		total += m.Count
	}
	if len(c.missed) != maxMissed || total != 30_006 {
		t.Errorf("%d entries that stand for %d", len(c.missed), total)
	}
	c = coverage{}
	c.add(record.Miss{What: "\xff" + strings.Repeat("x", 1<<20)})
	if n := len(c.missed[0].What); n > maxText+10 {
		t.Errorf("an entry of %d bytes", n)
	}
}

func TestLinesThatFail(t *testing.T) {
	isolate(t)
	path, _ := build(t, WriterOptions{}, func(w *Writer) {
		l := w.Lines("x.jsonl", "")
		if err := l.Write(func() {}); err == nil {
			t.Error("a function has a JSON form")
		}
		if err := l.Write("<a&b>"); err != nil {
			t.Error(err)
		}
		if err := l.Write(strings.Repeat("long ", 1<<20)); err != nil {
			t.Error(err)
		}
		if err := l.Write(1); err != nil {
			t.Error(err)
		}
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Error(err)
		}
		if err := l.Write(1); err == nil {
			t.Error("written to after Close")
		}
		if err := w.Lines("none.jsonl", "").Close(); err != nil {
			t.Error(err)
		}
	})
	p := must[*Package](t)(Open(path, OpenOptions{}))
	defer p.Close()
	var lens []int
	for l, err := range p.Lines("x.jsonl") {
		if err != nil {
			t.Fatal(err)
		}
		lens = append(lens, len(l.Data))
	}
	if fmt.Sprint(lens) != fmt.Sprint([]int{7, 5<<20 + 2, 1}) {
		t.Errorf("lines of %v bytes", lens)
	}
	for _, err := range p.Lines("none.jsonl") {
		t.Errorf("a line in an empty artifact, %v", err)
	}
	if e, ok := p.Artifact("none.jsonl"); !ok || e.Size != 0 {
		t.Errorf("that nothing was found is not kept: %+v", e)
	}
}

// TestHugeSparse: a file of no content costs no time, and says what its hash is of.
func TestHugeSparse(t *testing.T) {
	isolate(t)
	begin := time.Now()
	path, _ := build(t, WriterOptions{}, func(w *Writer) {
		e := must[Entry](t)(w.Stream(Meta{Path: "lastlog", Sparse: []Extent{{1 << 45, 4096}}}, 1<<46, filler(noise(1, 4096))))
		if e.HashOf != "data" {
			t.Errorf("%+v", e)
		}
	})
	if _, err := Verify(context.Background(), path, trustTest()); err != nil {
		t.Error(err)
	}
	p := must[*Package](t)(Open(path, OpenOptions{}))
	defer p.Close()
	a := must[*Artifact](t)(p.Open("lastlog"))
	b := make([]byte, 8192)
	if _, err := a.ReadAt(b, 1<<45-4096); err != nil || !bytes.Equal(b[4096:], noise(1, 4096)) {
		t.Errorf("not what was sealed: %v", err)
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("took %s", d)
	}
}

// TestMemory seals a gigabyte in a process of its own and looks at the most memory that it had.
func TestMemory(t *testing.T) {
	if os.Getenv("SHERD_RACE") != "" {
		t.Skip("the race detector needs several times the memory")
	}
	const env = "SHERD_TEST_MEMORY"
	if os.Getenv(env) == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestMemory$", "-test.v")
		c.Env = append(os.Environ(), env+"=1")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		} else if !bytes.Contains(out, []byte("VmHWM")) {
			t.Fatalf("not measured: %s", out)
		}
		return
	}
	debug.SetGCPercent(50)
	isolate(t)
	w := must[*Writer](t)(NewWriter(io.Discard, WriterOptions{Key: testKey()}))
	b := noise(1, 1<<20)
	must[Entry](t)(w.Stream(Meta{Path: "core"}, 1<<30, func(w io.Writer) error {
		for range 1 << 10 {
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	}))
	for i := range 20_000 {
		b[i%1000]++
		must[Entry](t)(w.Add(Meta{Path: fmt.Sprintf("filesystem/upper/usr/lib/some/package/file-%d", i), Origin: fmt.Sprintf("/var/lib/containers/file-%d", i)}, b[:2000]))
	}
	must[*Sealed](t)(w.Close())
	status := must[[]byte](t)(os.ReadFile("/proc/self/status"))
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("VmHWM %d kB", kb)
	if kb > 64<<10 {
		t.Errorf("%d kB at most, more than 64 MiB", kb)
	}
}

func TestDirectoryAndDevice(t *testing.T) {
	isolate(t)
	path, _ := build(t, WriterOptions{}, func(w *Writer) {
		must[Entry](t)(w.Stream(Meta{Path: "dev", Type: tar.TypeChar, DevMajor: 1, DevMinor: 3}, 99, nil))
		must[Entry](t)(w.Stream(Meta{Path: "neg"}, -5, filler(nil)))
	})
	p := must[*Package](t)(Open(path, OpenOptions{}))
	defer p.Close()
	if _, err := p.Open("dev"); err == nil {
		t.Error("a device has content")
	}
	if _, err := Verify(context.Background(), path, trustTest()); err != nil {
		t.Error(err)
	}
}
