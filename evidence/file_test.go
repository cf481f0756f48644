package evidence

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/internal/testenv"
)

func TestCreateFile(t *testing.T) {
	isolate(t)
	path := filepath.Join(t.TempDir(), "x.sherd")
	f := must[*File](t)(CreateFile(path))
	if _, err := CreateFile(path); err == nil || !strings.Contains(err.Error(), ".partial") {
		t.Errorf("a second capture to the same place: %v", err)
	}
	if _, err := f.Write([]byte("bytes")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("half a package lies under its name")
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "bytes" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := CreateFile(path); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("overwriting: %v", err)
	}
	if err := f.Abort(); err != nil {
		t.Errorf("abort after commit: %v", err)
	}

	// A package that appears under the name meanwhile is not replaced.
	late := filepath.Join(t.TempDir(), "y.sherd")
	f = must[*File](t)(CreateFile(late))
	_, _ = f.Write([]byte("mine"))
	if err := os.WriteFile(late, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err == nil || !strings.Contains(err.Error(), "y.sherd.partial") {
		t.Errorf("commit over another's package: %v", err)
	}
	if b, _ := os.ReadFile(late); string(b) != "theirs" {
		t.Errorf("replaced by %q", b)
	}

	empty := filepath.Join(t.TempDir(), "z.sherd")
	f = must[*File](t)(CreateFile(empty))
	if err := f.Abort(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(PartialPath(empty)); !os.IsNotExist(err) {
		t.Error("an empty partial file stays")
	}
}

// TestDiskFull fills a real file system of 4 MiB.
func TestDiskFull(t *testing.T) {
	testenv.NeedRoot(t)
	isolate(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, "x.sherd")
	f := must[*File](t)(CreateFile(path))
	w := must[*Writer](t)(NewWriter(f, WriterOptions{Key: testKey()}))
	var err error
	for i := range 64 {
		if _, err = w.Stream(Meta{Path: "core" + string(rune('A'+i))}, 1<<20, filler(noise(byte(i), 1<<20))); err != nil {
			break
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("writing 64 MiB into 4: %v", err)
	}
	if _, err := w.Close(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("close: %v", err)
	}
	aerr := f.Abort()
	if aerr == nil || !strings.Contains(aerr.Error(), "x.sherd.partial") {
		t.Fatalf("the error does not say what is kept: %v", aerr)
	}
	t.Logf("%v; %v", err, aerr)
	p := must[*Package](t)(Open(PartialPath(path), OpenOptions{}))
	defer p.Close()
	if !p.Truncated() || len(p.Artifacts("core")) < 2 {
		t.Errorf("of the partial package %d artifacts can be read", len(p.Artifacts("core")))
	}
}

func TestDiskFullAtCommit(t *testing.T) {
	isolate(t)
	var w failing
	pw := must[*Writer](t)(NewWriter(&w, WriterOptions{Key: testKey()}))
	_, _ = pw.Add(Meta{Path: "a"}, noise(1, 100))
	if _, err := pw.Close(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("close on a full disk: %v", err)
	}
	if _, err := pw.Add(Meta{Path: "b"}, nil); err == nil {
		t.Error("added to a closed package")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, unix.ENOSPC }
