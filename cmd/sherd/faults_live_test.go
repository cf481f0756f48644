package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
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
	"github.com/sherd-forensics/sherd/lab"
)

// collectWithin captures url and fails when that takes longer than limit or does not end well.
func collectWithin(t *testing.T, l *lab.Lab, limit time.Duration, url string, more ...string) *evidence.Package {
	t.Helper()
	pkg := filepath.Join(t.TempDir(), "x.sherd")
	begin := time.Now()
	status, out, errOut := sherd(t, l, append([]string{"collect", url, "-o", pkg}, more...)...)
	took := time.Since(begin)
	t.Logf("%s: %v\n%s%s", url, took.Round(time.Millisecond), out, errOut)
	if status != 0 {
		t.Fatalf("collect %s ended with %d", url, status)
	}
	if took > limit {
		t.Errorf("collect %s took %v, more than %v", url, took, limit)
	}
	if status, out, errOut := sherd(t, l, "verify", pkg); status != 0 {
		t.Errorf("verify ended with %d: %s%s", status, out, errOut)
	}
	return openPackage(t, pkg)
}

// byHand runs a program of the test's own on the lab, as root would by hand.
func byHand(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, b)
	}
	return strings.TrimSpace(string(b))
}

// TestFaultNeverStarted captures a container that was created and never ran: files are taken, and it says that nothing ran.
func TestFaultNeverStarted(t *testing.T) {
	l := lab.Need(t, "docker", "containerd")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	docker := []string{"docker", "--host", l.DockerHost()}
	ctr := []string{"ctr", "--address", l.ContainerdAddress(), "--namespace", l.ContainerdNamespace()}
	name := fmt.Sprintf("neverstarted-%d", os.Getpid())
	for _, runtime := range []struct {
		name, url      string
		create, remove func(ref string) []string
	}{
		{"docker", "docker://" + name,
			func(ref string) []string { return append(docker, "create", "--name", name, ref) },
			func(string) []string { return append(docker, "rm", "--force", name) }},
		{"containerd", "containerd://" + l.ContainerdNamespace() + "/" + name,
			func(ref string) []string { return append(ctr, "container", "create", ref, name) },
			func(string) []string { return append(ctr, "container", "rm", name) }},
	} {
		t.Run(runtime.name, func(t *testing.T) {
			// One that runs brings the image.
			c := l.Run(t, lab.RunSpec{Runtime: runtime.name, Image: "goweb", Name: "sibling"})
			byHand(t, runtime.create(c.Ref)...)
			t.Cleanup(func() { byHand(t, runtime.remove(c.Ref)...) })
			p := collectWithin(t, l, 30*time.Second, runtime.url)
			if missed(p, "no process") == nil && missed(p, "not running") == nil {
				t.Errorf("coverage does not say that nothing ran: %+v", p.Coverage().Missed)
			}
			if _, ok := p.Artifact("filesystem/inventory.jsonl"); !ok {
				t.Error("its files were not listed")
			}
			got := investigateTarget(t, l, runtime.url, 0)
			if len(got.verdict.Gaps) == 0 {
				t.Error("a verdict without processes has no gap")
			}
		})
	}
}

// TestFaultEndsMeanwhile ends the container at different moments of its capture.
func TestFaultEndsMeanwhile(t *testing.T) {
	l := lab.Need(t, "docker", "containerd", "podman")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, runtime := range []string{"docker", "containerd", "podman"} {
		for i, after := range []time.Duration{30 * time.Millisecond, 100 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s/%v", runtime, after), func(t *testing.T) {
				c := l.Run(t, lab.RunSpec{Runtime: runtime, Image: "pyweb", Name: "ending"})
				pkg := filepath.Join(t.TempDir(), "x.sherd")
				end := c.Kill
				if i == 1 {
					end = c.Pause
				}
				cmd, out := start(t, l, nil, "collect", c.Target, "-o", pkg, "--memory", "full")
				time.Sleep(after)
				if err := end(); err != nil {
					t.Error(err)
				}
				if got := status(t, cmd.Wait()); got != 0 {
					t.Fatalf("status %d: %s", got, out)
				}
				p := openPackage(t, pkg)
				if p.Truncated() {
					t.Error("the package is cut short")
				}
				if _, ok := p.Artifact("filesystem/inventory.jsonl"); !ok {
					t.Error("its files were not listed")
				}
				if i == 1 {
					if found := find(t, l, c.Target); found.State != "paused" {
						t.Errorf("it was paused, now it is %s", found.State)
					}
					if err := c.Unpause(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// storm forks for half a minute, up to thirty children at a time, each gone within milliseconds.
const storm = `
import os, time
end = time.time() + 30
while time.time() < end:
    for _ in range(30):
        if os.fork() == 0:
            os._exit(0)
    for _ in range(30):
        os.wait()
`

// TestFaultForkStorm captures a container whose processes live shorter than it takes to list them.
func TestFaultForkStorm(t *testing.T) {
	l := lab.Need(t, "docker")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "pyweb", Name: "sibling"})
	name := fmt.Sprintf("storm-%d", os.Getpid())
	docker := []string{"docker", "--host", l.DockerHost()}
	byHand(t, append(docker, "run", "--detach", "--network", "none", "--pids-limit", "64", "--name", name,
		"--entrypoint", "/usr/bin/python3.11", c.Ref, "-c", storm)...)
	t.Cleanup(func() { byHand(t, append(docker, "rm", "--force", name)...) })
	p := collectWithin(t, l, 25*time.Second, "docker://"+name)
	found := find(t, l, "docker://"+name)
	if _, ok := p.Artifact(fmt.Sprintf("process/%d/status", found.PID)); !ok {
		t.Error("its first process, which stays, was not taken")
	}
	for line, err := range p.Lines("process/processes.jsonl") {
		if err != nil {
			t.Fatal(err)
		}
		var row record.Process
		if err := json.Unmarshal(line.Data, &row); err != nil {
			t.Errorf("%s: %v", line.Data, err)
		}
	}
}

// deep makes a chain of n directories below dir and returns what takes it away again, one link at a time: no
// path and no number of descriptors reaches its end.
func deep(t *testing.T, dir string, n int) func() {
	t.Helper()
	at, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := unix.Mkdirat(at, "d", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, "d", unix.O_DIRECTORY|unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(at)
		at = next
	}
	unix.Close(at)
	return func() {
		top, spare := filepath.Join(dir, "d"), filepath.Join(dir, "e")
		for {
			err := os.Rename(filepath.Join(top, "d"), spare)
			if rmErr := os.Remove(top); rmErr != nil {
				t.Error(rmErr)
				return
			}
			if err != nil {
				return // that was the last one
			}
			if err := os.Rename(spare, top); err != nil {
				t.Error(err)
				return
			}
		}
	}
}

// TestFaultOddFiles has a volume hold a chain of 20,000 directories, devices, FIFOs, sockets and links out of it.
func TestFaultOddFiles(t *testing.T) {
	l := lab.Need(t, "docker")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	volume, outside := t.TempDir(), t.TempDir()
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "goweb", Name: "odd", Volumes: []string{volume + ":/odd"}})
	const secret = "a secret of the host that no container holds"
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(path string) error{
		"fifo":    func(p string) error { return unix.Mkfifo(p, 0o644) },
		"console": func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o644, int(unix.Mkdev(5, 1))) },
		"disk":    func(p string) error { return unix.Mknod(p, unix.S_IFBLK|0o644, int(unix.Mkdev(7, 0))) },
		"link":    func(p string) error { return os.Symlink(filepath.Join(outside, "secret"), p) },
		"dir":     func(p string) error { return os.Symlink(outside, p) },
		"loop":    func(p string) error { return os.Symlink("loop", p) },
		"proc":    func(p string) error { return os.Symlink("/proc/self/root", p) },
		"plain":   func(p string) error { return os.WriteFile(p, []byte("plain"), 0o644) },
	} {
		if err := make(filepath.Join(volume, name)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	clean := deep(t, volume, 20_000)
	defer clean()
	p := collectWithin(t, l, 60*time.Second, c.Target, "--memory", "none")
	plain := false
	for _, e := range p.Artifacts("volumes/") {
		plain = plain || strings.HasSuffix(e.Path, "/plain")
		if e.Size < int64(len(secret)) || e.Size > 1<<20 {
			continue
		}
		if b, err := p.ReadFile(e.Path, 1<<20); err == nil && strings.Contains(string(b), secret) {
			t.Errorf("%q holds what a link led to", e.Path)
		}
	}
	if !plain {
		t.Error("the plain file beside them was not taken")
	}
	if missed(p, "deep") == nil && missed(p, "long") == nil {
		t.Errorf("coverage does not say where it stopped: %+v", p.Coverage().Missed)
	}
}

// stuck is a file that opens and whose read never returns while hold is open.
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

//nolint:unparam // the interface has it
func (s *stuck) Read(ctx context.Context, _ fs.FileHandle, _ []byte, _ int64) (fuse.ReadResult, syscall.Errno) {
	select {
	case <-s.hold:
	case <-ctx.Done():
	}
	return nil, syscall.EIO
}

// stuckMount mounts a file system whose one file never answers a read, until the test ends.
func stuckMount(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		testenv.Skip(t, "needs /dev/fuse")
	}
	dir, hold := t.TempDir(), make(chan struct{})
	root := &fs.Inode{}
	server, err := fs.Mount(dir, root, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMount: true, FsName: "stuck", AllowOther: true},
		OnAdd: func(ctx context.Context) {
			root.AddChild("file", root.NewPersistentInode(ctx, &stuck{hold: hold}, fs.StableAttr{Mode: unix.S_IFREG}), true)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(hold)
		_ = unix.Unmount(dir, unix.MNT_DETACH) // the server's own Unmount tells
		_ = server.Unmount()                   // gone by the line before
	})
	return dir
}

// TestFaultStuckVolume gives a container a FUSE volume whose reads never return: it is left alone, and named.
func TestFaultStuckVolume(t *testing.T) {
	l := lab.Need(t, "docker")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "goweb", Name: "stuck", Volumes: []string{stuckMount(t) + ":/stuck"}})
	p := collectWithin(t, l, 45*time.Second, c.Target)
	if _, ok := p.Artifact("filesystem/inventory.jsonl"); !ok {
		t.Error("the rest of its files were not listed")
	}
	if missed(p, "/stuck") == nil {
		t.Errorf("coverage does not name the volume: %+v", p.Coverage().Missed)
	}
}

// mapper maps the stuck file without touching it, and waits.
const mapper = `
import mmap, os, time
f = os.open("/stuck/file", os.O_RDONLY)
m = mmap.mmap(f, 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
print("mapped", flush=True)
time.sleep(600)
`

// TestFaultStuckMapping has a process map a file whose reads never return: reading its memory, or the file, would wait
// forever. The capture ends all the same, within a bounded time, and names the mapping.
func TestFaultStuckMapping(t *testing.T) {
	l := lab.Need(t, "docker")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	sibling := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "pyweb", Name: "sibling"})
	dir := stuckMount(t)
	docker := []string{"docker", "--host", l.DockerHost()}
	name := fmt.Sprintf("mapper-%d", os.Getpid())
	byHand(t, append(docker, "run", "--detach", "--network", "none", "--name", name, "--user", "0:0", "--volume", dir+":/stuck",
		"--entrypoint", "/usr/bin/python3.11", sibling.Ref, "-c", mapper)...)
	t.Cleanup(func() { byHand(t, append(docker, "rm", "--force", name)...) })
	waitFor(t, "the mapping", func() bool { return byHand(t, append(docker, "logs", name)...) == "mapped" })
	for _, mode := range []string{"private", "full"} {
		t.Run(mode, func(t *testing.T) {
			pkg := filepath.Join(t.TempDir(), "x.sherd")
			// A process of its own, so that one that hangs can be ended.
			cmd, out := start(t, l, nil, "collect", "docker://"+name, "-o", pkg, "--memory", mode)
			begin := time.Now()
			limit := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Kill() }) // gone already is fine
			got := status(t, cmd.Wait())
			limit.Stop()
			t.Logf("%v\n%s", time.Since(begin).Round(time.Millisecond), out)
			if got != 0 {
				t.Fatalf("status %d after %v: %s", got, time.Since(begin), out)
			}
			p := openPackage(t, pkg)
			if missed(p, "did not answer in time") == nil {
				t.Errorf("coverage does not say that the file did not answer: %+v", p.Coverage().Missed)
			}
			if missed(p, "/stuck") == nil {
				t.Error("coverage does not name the volume")
			}
			if _, ok := p.Artifact("filesystem/inventory.jsonl"); !ok {
				t.Error("the rest was not taken")
			}
		})
	}
}
