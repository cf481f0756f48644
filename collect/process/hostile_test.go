package process

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
)

// A process that runs another program while it is read is noted: its parts may not belong together.
func TestAnotherProgramMeanwhile(t *testing.T) {
	testenv.NeedRoot(t)
	pid, in := startHeld(t, &syscall.SysProcAttr{}, "later")
	s := of(t, pid)
	h, err := open("/proc", s.Processes[0])
	check(t, err)
	in.Close()
	for i := 0; ; i++ {
		if l, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && strings.HasPrefix(l, "/memfd:") {
			break
		}
		if i == 500 {
			t.Fatal("the child runs nothing else")
		}
		time.Sleep(10 * time.Millisecond)
	}
	got := captureWith(t, func(w *evidence.Writer) {
		c := newCollector(context.Background(), s, w, Options{})
		c.layers, c.place = c.openLayers(), c.openPlaces()
		defer c.layers.close()
		defer h.close()
		check(t, c.one(s.Processes[0], h, nil))
		check(t, c.rows.Close())
	})
	r := got.row(pid)
	if len(r.Errors) != 1 || !strings.Contains(r.Errors[0], "started another program while it was read: /memfd:kworker") || string(r.Exe.Path) != program {
		t.Errorf("row %+v", r)
	}
}

// Opening a file on which its process holds a lease would end that process.
func TestLease(t *testing.T) {
	testenv.NeedRoot(t)
	s := of(t, start(t, "lease", filepath.Join(t.TempDir(), "leased")))
	got := capture(t, s, Options{})
	got.clean("holds a write lease")
	for _, fd := range got.row(s.Container.PID).FDs {
		if strings.Contains(string(fd.Target), "leased") && (fd.Error == "" || fd.Artifact != "") {
			t.Errorf("descriptor %+v", fd)
		}
	}
	time.Sleep(50 * time.Millisecond)
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Container.PID)); err != nil || strings.Contains(string(b), ") Z ") {
		t.Errorf("the process ended: %s, %v", b, err)
	}
}

type stuck struct {
	fs.Inode
	hold chan struct{}
}

func (s *stuck) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o644, 4096
	return 0
}

func (s *stuck) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (s *stuck) Read(ctx context.Context, _ fs.FileHandle, _ []byte, _ int64) (fuse.ReadResult, syscall.Errno) {
	select {
	case <-s.hold:
	case <-ctx.Done():
	}
	return nil, syscall.EIO
}

// A read from a FUSE mount that never returns costs some seconds, and is noted; the rest is taken.
func TestStuckFile(t *testing.T) {
	testenv.NeedRoot(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		testenv.Skip(t, "needs /dev/fuse")
	}
	dir, hold := t.TempDir(), make(chan struct{})
	root := &fs.Inode{}
	server, err := fs.Mount(dir, root, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMount: true, FsName: "stuck"},
		OnAdd: func(ctx context.Context) {
			root.AddChild("stuck", root.NewPersistentInode(ctx, &stuck{hold: hold}, fs.StableAttr{Mode: unix.S_IFREG}), true)
		},
	})
	check(t, err)
	t.Cleanup(func() {
		close(hold)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = server.Unmount()
	})
	s := of(t, start(t, "openunlink", filepath.Join(dir, "stuck")))
	begin := time.Now()
	got := capture(t, s, Options{})
	got.clean("did not answer in time")
	if d := time.Since(begin); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
	r := got.row(s.Container.PID)
	found := false
	for _, fd := range r.FDs {
		if strings.Contains(string(fd.Target), "stuck") {
			found = true
			if !fd.Deleted || !strings.Contains(fd.Error, "did not answer in time") {
				t.Errorf("descriptor %+v", fd)
			}
		}
	}
	if !found || r.Exe.SHA256 == "" || r.Exe.Origin != record.ExeUnknown {
		t.Errorf("row %+v", r)
	}
}
