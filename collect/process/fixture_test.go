package process

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

var program string // testdata/child, built

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sherd-process-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "child")
	build := exec.Command("go", "build", "-o", program, "./testdata/child")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	code := 1
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// start runs the child in namespaces of its own and ends it with the test.
func start(t testing.TB, args ...string) int {
	t.Helper()
	return startAs(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}, args...)
}

func startAs(t testing.TB, attr *syscall.SysProcAttr, args ...string) int {
	t.Helper()
	pid, _ := startHeld(t, attr, args...)
	return pid
}

// startHeld gives the child's standard input too; closing it ends the child.
func startHeld(t testing.TB, attr *syscall.SysProcAttr, args ...string) (int, io.Closer) {
	t.Helper()
	cmd := exec.Command(program, args...)
	attr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	cmd.Stderr = os.Stderr
	check(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if l, err := bufio.NewReader(out).ReadString('\n'); l != "ready\n" {
		t.Fatalf("the child said %q, %v", l, err)
	}
	return cmd.Process.Pid, in
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// captured is a package with what Collect wrote.
type captured struct {
	t    testing.TB
	p    *evidence.Package
	rows map[int]record.Process
}

func of(t testing.TB, pid int) subject.Subject {
	t.Helper()
	s := subject.Subject{Container: &target.Container{PID: pid}, Proc: "/proc"}
	var err error
	s.Processes, err = subject.List(s.Container, s.Proc)
	if err != nil && !errors.Is(err, subject.ErrUnstable) {
		t.Fatal(err)
	}
	return s
}

func capture(t testing.TB, s subject.Subject, o Options) captured {
	t.Helper()
	return captureWith(t, func(w *evidence.Writer) { check(t, Collect(context.Background(), s, w, o)) })
}

func captureWith(t testing.TB, collect func(*evidence.Writer)) captured {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.sherd")
	out, err := os.Create(path)
	check(t, err)
	defer out.Close()
	w, err := evidence.NewWriter(out, evidence.WriterOptions{Tool: "test"})
	check(t, err)
	collect(w)
	_, err = w.Close()
	check(t, err)
	p, err := evidence.Open(path, evidence.OpenOptions{})
	check(t, err)
	t.Cleanup(func() { p.Close() })
	c := captured{t, p, map[int]record.Process{}}
	if !c.has("process/processes.jsonl") {
		return c
	}
	for r := range lines[record.Process](c, "process/processes.jsonl") {
		c.rows[r.PID] = r
	}
	return c
}

func lines[T any](c captured, path string) func(func(T) bool) {
	return func(yield func(T) bool) {
		for l, err := range c.p.Lines(path) {
			check(c.t, err)
			var v T
			check(c.t, json.Unmarshal(l.Data, &v))
			if !yield(v) {
				return
			}
		}
	}
}

func (c captured) row(pid int) record.Process {
	c.t.Helper()
	r, ok := c.rows[pid]
	if !ok {
		c.t.Fatalf("process %d has no row", pid)
	}
	return r
}

func (c captured) file(path string) string {
	c.t.Helper()
	b, err := c.p.ReadFile(path, 64<<20)
	check(c.t, err)
	return string(b)
}

func (c captured) has(path string) bool {
	_, ok := c.p.Artifact(path)
	return ok
}

// clean fails on any gap that was not expected.
func (c captured) clean(but ...string) {
	c.t.Helper()
	n := 0
next:
	for _, m := range c.p.Coverage().Missed {
		for _, b := range but {
			if strings.Contains(m.What+": "+m.Reason, b) {
				n++
				continue next
			}
		}
		c.t.Errorf("missed %+v", m)
	}
	if len(but) > 0 && n == 0 {
		c.t.Errorf("no gap like %q in %+v", but, c.p.Coverage().Missed)
	}
	if want := map[bool]string{true: "complete", false: "partial"}[len(but) == 0]; c.p.Coverage().Collected[Kind] != want {
		c.t.Errorf("status %q, want %q", c.p.Coverage().Collected[Kind], want)
	}
}

// overlay is a container's root: image layers, a writable layer, and a first process that lives there.
type overlay struct {
	rootfs target.Rootfs
	lower  string
}

// newOverlay has /app/server, the child, in its image, and /data, an empty directory.
func newOverlay(t testing.TB) overlay {
	t.Helper()
	testenv.NeedRoot(t)
	base := t.TempDir()
	var fs unix.Statfs_t
	check(t, unix.Statfs(base, &fs))
	if fs.Type == unix.OVERLAYFS_SUPER_MAGIC { // overlay on overlay: use memory
		check(t, unix.Mount("tmpfs", base, "tmpfs", 0, ""))
		t.Cleanup(func() { _ = unix.Unmount(base, unix.MNT_DETACH) })
	}
	o := overlay{lower: base + "/l0", rootfs: target.Rootfs{Driver: "overlay", Upper: base + "/upper", Work: base + "/work", Merged: base + "/merged",
		Layers: []target.Layer{{Dir: base + "/l0"}, {Dir: base + "/l1"}}}}
	for _, d := range []string{"l0/app", "l0/data", "l0/dev", "l1/etc", "upper", "work", "merged"} {
		check(t, os.MkdirAll(base+"/"+d, 0o755))
	}
	b, err := os.ReadFile(program)
	check(t, err)
	check(t, os.WriteFile(base+"/l0/app/server", b, 0o755))
	check(t, unix.Mknod(base+"/l0/dev/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	check(t, unix.Mount("overlay", base+"/merged", "overlay", 0, fmt.Sprintf("lowerdir=%s/l1:%s/l0,upperdir=%s/upper,workdir=%s/work", base, base, base, base)))
	t.Cleanup(func() { _ = unix.Unmount(base+"/merged", unix.MNT_DETACH) })
	return o
}

// run starts a program in the container and gives the subject.
func (o overlay) run(t testing.TB, args ...string) subject.Subject {
	t.Helper()
	pid := start(t, append([]string{"pivot", o.rootfs.Merged}, args...)...)
	s := of(t, pid)
	s.Container.Rootfs = o.rootfs
	return s
}

// put writes a file into the running container's root.
func (o overlay) put(t testing.TB, path, from string) {
	t.Helper()
	b, err := os.ReadFile(from)
	check(t, err)
	check(t, os.WriteFile(o.rootfs.Merged+path, b, 0o755))
}
