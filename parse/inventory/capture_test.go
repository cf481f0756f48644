package inventory

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/filesystem"
	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

// TestCapture reads what the collector really writes.
func TestCapture(t *testing.T) {
	testenv.NeedRoot(t)
	base := t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(p, content string, mode uint32) {
		t.Helper()
		check(os.MkdirAll(filepath.Dir(base+p), 0o755))
		check(os.WriteFile(base+p, []byte(content), 0o600))
		check(unix.Chmod(base+p, mode))
	}
	put("/l0/bin/app", "app", 0o755)
	put("/l0/bin/gone", "gone", 0o755)
	put("/l0/etc/same", "same", 0o644)
	put("/l1/bin/app", "app 2", 0o755)
	put("/init/.dockerenv", "", 0o755)
	put("/upper/bin/app", "APP 2", 0o755)
	put("/upper/bin/new", "new", 0o4755)
	put("/upper/etc/same", "same", 0o644)
	check(unix.Mknod(base+"/upper/bin/gone", unix.S_IFCHR, 0))
	c := &target.Container{Rootfs: target.Rootfs{Driver: "overlay", Upper: base + "/upper", Layers: []target.Layer{
		{Dir: base + "/l0"}, {Dir: base + "/l1"}, {Dir: base + "/init", Init: true},
	}}}
	path := base + "/x.sherd"
	out, err := os.Create(path)
	check(err)
	defer out.Close()
	w, err := evidence.NewWriter(out, evidence.WriterOptions{Tool: "test", Target: c})
	check(err)
	check(filesystem.Collect(context.Background(), subject.Subject{Container: c, Proc: "/proc"}, w, filesystem.Options{}))
	_, err = w.Close()
	check(err)
	p, err := evidence.Open(path, evidence.OpenOptions{})
	check(err)
	defer p.Close()
	var got []string
	for c, err := range Drift(p) {
		check(err)
		if c.Kind == Touched {
			continue
		}
		s := string(c.Kind) + " " + c.Path
		if c.Runtime {
			s += " runtime"
		}
		got = append(got, s)
	}
	want := []string{"added /.dockerenv runtime", "changed /bin/app", "deleted /bin/gone", "added /bin/new"}
	if !slices.Equal(got, want) {
		t.Errorf("drift %q, want %q", got, want)
	}
}
