package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

// All that a process holds, under names that want to do harm.
func TestHold(t *testing.T) {
	o := newOverlay(t)
	before := time.Now()
	s := o.run(t, "/app/server", "hold", "/data", "\x1b]0;title\x07\n\xff")
	pid := s.Container.PID
	got := capture(t, s, Options{})
	got.clean()
	r := got.row(pid)
	dir := fmt.Sprintf("process/%d/", pid)
	if r.Comm != "a) R 1\n\x1b[2J\xff" {
		t.Errorf("comm %q", r.Comm)
	}
	if want := []record.Name{"/app/server", "hold", "/data", "\x1b]0;title\x07\n\xff"}; !slices.Equal(r.Cmdline, want) {
		t.Errorf("cmdline %q", r.Cmdline)
	}
	if r.ContainerPID != 1 || r.PPID != os.Getpid() || r.State != "S" || r.UID != 0 || r.Relation != record.InCgroup || r.Root != "/" || r.Cwd != "/" || r.CapEff == 0 {
		t.Errorf("row %+v", r)
	}
	if start := time.Unix(0, r.StartTime); start.Before(before.Add(-20*time.Millisecond)) || start.After(time.Now()) {
		t.Errorf("started at %v, was between %v and now", start, before)
	}
	for _, f := range []string{"stat", "status", "cmdline", "environ", "maps", "mountinfo", "cgroup", "limits", "auxv", "uid_map", "fdinfo/0"} {
		if got.file(dir+f) == "" {
			t.Errorf("%s is empty", f)
		}
	}
	if len(r.Namespaces) < 7 {
		t.Errorf("namespaces %v", r.Namespaces)
	}
	kinds := map[string]int{}
	byTarget := map[string]record.FD{}
	for _, fd := range r.FDs {
		kinds[fd.Kind]++
		byTarget[string(fd.Target)] = fd
	}
	if want := map[string]int{"file": 2, "memfd": 3, "socket": 2, "device": 1, "dir": 1}; !subset(want, kinds) {
		t.Errorf("kinds %v, want %v among them", kinds, want)
	}
	content := strings.Repeat("deleted ", 1000)
	if fd := byTarget["/data/gone\xff\n\x1b (deleted)"]; !fd.Deleted || fd.Size != 8000 || fd.Pos != 7 || fd.Flags&3 != syscall.O_RDWR || got.file(fd.Artifact) != content || string(fd.Magic) != "deleted " {
		t.Errorf("deleted file %+v of %+v", fd, byTarget)
	}
	if fd := byTarget["/data/there (deleted)"]; fd.Deleted || fd.Artifact != "" || fd.Kind != "file" {
		t.Errorf("file with a misleading name %+v", fd)
	}
	if fd := byTarget["/memfd:hidden (deleted)"]; fd.Kind != "memfd" || got.file(fd.Artifact) != "\x7fELF in memory" || len(fd.SHA256) != 64 {
		t.Errorf("memfd %+v", fd)
	}
	if fd := byTarget["/memfd:sparse (deleted)"]; fd.Size != 1<<40 || string(fd.Magic) != strings.Repeat("\x00", 8) || fd.Artifact == "" {
		t.Errorf("sparse memfd %+v", fd)
	} else {
		a, err := got.p.Open(fd.Artifact)
		check(t, err)
		b := make([]byte, 13)
		if _, err := a.ReadAt(b, 1<<30); err != nil || string(b) != "in the middle" || a.Size() != 1<<40 {
			t.Errorf("kept %q of %d bytes, %v", b, a.Size(), err)
		}
	}
	if fd := byTarget["/data/fifo"]; fd.Kind != "pipe" {
		t.Errorf("fifo %+v", fd)
	}
}

func subset(want, got map[string]int) bool {
	for k, v := range want {
		if got[k] < v {
			return false
		}
	}
	return true
}

// Nothing about the target changes: offsets, access times, tracer.
func TestUnchanged(t *testing.T) {
	o := newOverlay(t)
	s := o.run(t, "/app/server", "hold", "/data")
	proc := fmt.Sprintf("/proc/%d/", s.Container.PID)
	// Access times in the past: without care, relatime would renew them.
	old := unix.NsecToTimespec(time.Now().Add(-48 * time.Hour).UnixNano())
	links := []string{"exe"}
	for _, l := range must(os.ReadDir(proc + "fd"))(t) {
		if to, err := os.Readlink(proc + "fd/" + l.Name()); err == nil && strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "/dev") {
			links = append(links, "fd/"+l.Name())
		}
	}
	for _, l := range links {
		check(t, unix.UtimesNanoAt(unix.AT_FDCWD, proc+l, []unix.Timespec{old, old}, 0))
	}
	snap := func() string {
		var b strings.Builder
		for _, l := range links {
			var st unix.Stat_t
			check(t, unix.Stat(proc+l, &st))
			fmt.Fprintln(&b, l, st.Atim, st.Mtim, st.Ctim, st.Nlink, st.Size)
		}
		for _, e := range must(os.ReadDir(proc + "fd"))(t) {
			fmt.Fprintln(&b, e.Name(), must(os.Readlink(proc+"fd/"+e.Name()))(t), string(must(os.ReadFile(proc+"fdinfo/"+e.Name()))(t)))
		}
		for l := range strings.Lines(string(must(os.ReadFile(proc + "status"))(t))) {
			// What a reader could do to it; its own runtime may map memory and start threads meanwhile.
			if strings.HasPrefix(l, "TracerPid") || strings.HasPrefix(l, "SigPnd") || strings.HasPrefix(l, "ShdPnd") || strings.HasPrefix(l, "NoNewPrivs") || strings.HasPrefix(l, "Cap") {
				b.WriteString(l)
			}
		}
		return b.String()
	}
	before := snap()
	got := capture(t, s, Options{})
	got.clean()
	if after := snap(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func TestThreads(t *testing.T) {
	testenv.NeedRoot(t)
	s := of(t, start(t, "threads", "300"))
	pid := s.Container.PID
	got := capture(t, s, Options{})
	got.clean()
	var tids []int
	for th := range lines[record.Thread](got, fmt.Sprintf("process/%d/threads.jsonl", pid)) {
		tids = append(tids, th.TID)
		if th.Comm != "child" || th.StartTime == 0 || !strings.Contains(string(th.Status), "Threads:") || th.FDs != nil || th.Namespaces != nil || th.Cgroup != "" || th.ContainerTID == 0 {
			t.Fatalf("thread %+v", th)
		}
	}
	if len(tids) < 301 || !slices.IsSorted(tids) || !slices.Contains(tids, pid) {
		t.Errorf("threads %v", tids)
	}
	got = capture(t, s, Options{MaxThreads: 10})
	got.clean("threads are listed")
}

// A thread with descriptors and a network of its own hides nothing.
func TestThreadOfItsOwn(t *testing.T) {
	testenv.NeedRoot(t)
	s := of(t, start(t, "owntable", filepath.Join(t.TempDir(), "secret")))
	got := capture(t, s, Options{})
	got.clean()
	found := false
	for th := range lines[record.Thread](got, fmt.Sprintf("process/%d/threads.jsonl", s.Container.PID)) {
		for _, fd := range th.FDs {
			if strings.HasSuffix(string(fd.Target), "/secret (deleted)") {
				found = true
				if got.file(fd.Artifact) != "known to one thread" || th.Namespaces["net"] == 0 || len(th.Namespaces) != 1 {
					t.Errorf("thread %+v", th)
				}
			}
		}
	}
	if !found {
		t.Error("the thread's descriptors are not listed")
	}
}

// A process whose first thread ended looks like a zombie and is none.
func TestFirstThreadEnded(t *testing.T) {
	o := newOverlay(t)
	s := o.run(t, "/app/server", "headless", "/data/held")
	pid := s.Container.PID
	for i := 0; subject.OtherThread(fmt.Sprintf("/proc/%d", pid), pid) == 0; i++ {
		if i == 200 {
			t.Fatal("the first thread does not end")
		}
		time.Sleep(10 * time.Millisecond)
	}
	got := capture(t, s, Options{})
	got.clean()
	r := got.row(pid)
	if r.State == "Z" || r.Exe.Origin != record.ExeImage || r.Exe.Path != "/app/server" || len(r.Namespaces) == 0 || len(r.Cmdline) != 3 || len(r.Errors) != 1 {
		t.Errorf("row %+v", r)
	}
	if !slices.ContainsFunc(r.FDs, func(fd record.FD) bool {
		return fd.Deleted && got.file(fd.Artifact) == "held by a headless process"
	}) {
		t.Errorf("descriptors %+v", r.FDs)
	}
	if got.file(r.Dir+"/maps") == "" || got.file(r.Dir+"/environ") == "" {
		t.Error("maps or environ is empty")
	}
}

func TestZombie(t *testing.T) {
	testenv.NeedRoot(t)
	pid := start(t, "zombie")
	var s subject.Subject
	for i := 0; ; i++ {
		s = of(t, pid)
		if len(s.Processes) == 2 {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Processes[1].PID)); err == nil && strings.Contains(string(b), ") Z ") {
				// Its first thread may end before the others.
				if threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", s.Processes[1].PID)); err == nil && len(threads) == 1 {
					break
				}
			}
		}
		if i == 200 {
			t.Fatal("there is no zombie")
		}
		time.Sleep(10 * time.Millisecond)
	}
	got := capture(t, s, Options{})
	got.clean()
	if r := got.row(s.Processes[1].PID); r.State != "Z" || r.Comm != "exe" || r.Exe.Artifact != "" || r.PPID != pid {
		t.Errorf("row %+v", r)
	}
}

// A number that was given to another process is not mistaken for the one that was listed.
func TestNumberUsedAgain(t *testing.T) {
	testenv.NeedRoot(t)
	s := of(t, start(t, "wait"))
	s.Processes = slices.Insert(s.Processes, 0, subject.Process{PID: s.Container.PID, StartTicks: s.Processes[0].StartTicks - 1})[:1]
	got := capture(t, s, Options{})
	got.clean("given to another one")
	// The process that has the number now is the container's, so it was found as one that came later.
	n := 0
	for r := range lines[record.Process](got, "process/processes.jsonl") {
		n++
		if n == 1 && (len(r.Errors) != 1 || r.Comm != "") || n == 2 && r.Comm != "child" {
			t.Errorf("row %+v", r)
		}
	}
	if n != 2 {
		t.Errorf("%d rows", n)
	}
}

// A process that ends before it is read leaves a row and a gap.
func TestEnded(t *testing.T) {
	testenv.NeedRoot(t)
	pid, in := startHeld(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}, "wait")
	s := of(t, pid)
	h, err := open("/proc", s.Processes[0])
	check(t, err)
	defer h.close()
	in.Close()
	for i := 0; h.alive(); i++ {
		var ws unix.WaitStatus
		_, _ = unix.Wait4(pid, &ws, unix.WNOHANG, nil)
		if i == 500 {
			t.Fatal("the child does not end")
		}
		time.Sleep(10 * time.Millisecond)
	}
	// Its executable is held all the same.
	if _, err := statx(h.exe, "", atEmptyPath); err != nil {
		t.Error(err)
	}
	got := capture(t, s, Options{})
	if r := got.row(pid); len(r.Errors) != 1 || !strings.Contains(r.Errors[0], "ended before") {
		t.Errorf("row %+v", r)
	}
	if got.p.Coverage().Collected[Kind] != "none" {
		t.Errorf("status %q", got.p.Coverage().Collected[Kind])
	}
}

func TestForkStorm(t *testing.T) {
	testenv.NeedRoot(t)
	s := of(t, start(t, "fork"))
	begin := time.Now()
	got := capture(t, s, Options{})
	if r := got.row(s.Container.PID); r.Comm != "child" {
		t.Errorf("row %+v", r)
	}
	if got.p.Coverage().Collected[Kind] == "none" {
		t.Error("nothing was taken")
	}
	if d := time.Since(begin); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
	t.Logf("%d processes in %v: %v", len(got.rows), time.Since(begin), got.p.Coverage())
}

// Many descriptors are bounded, and the rest is said.
func TestManyDescriptors(t *testing.T) {
	testenv.NeedRoot(t)
	s := of(t, start(t, "descriptors", "900"))
	got := capture(t, s, Options{MaxFDs: 500, MaxFDInfo: 100})
	got.clean("descriptors")
	r := got.row(s.Container.PID)
	if len(r.FDs) != 500 || len(got.p.Artifacts(r.Dir+"/fdinfo/")) != 100 {
		t.Errorf("%d descriptors, %d fdinfo", len(r.FDs), len(got.p.Artifacts(r.Dir+"/fdinfo/")))
	}
}

// Descriptors on paths as long and odd as they get make no row that is too long to be read: that would hide those after it too.
func TestLongTargets(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	long := dir + strings.Repeat("/"+strings.Repeat("\x01", 255), (4095-len(dir))/256)
	check(t, os.MkdirAll(long, 0o700))
	s := of(t, start(t, "descriptors", "3900", long))
	s.Processes = append(s.Processes, of(t, start(t, "wait")).Processes...)
	got := capture(t, s, Options{MaxFDInfo: 1})
	got.clean("targets are cut", "fdinfo")
	r := got.row(s.Container.PID)
	if len(got.rows) != len(s.Processes) || len(r.FDs) < 3900 {
		t.Errorf("%d rows for %d processes, %d descriptors", len(got.rows), len(s.Processes), len(r.FDs))
	}
	whole, cut := 0, 0
	for _, fd := range r.FDs {
		switch {
		case string(fd.Target) == long && fd.Error == "":
			whole++
		case strings.HasPrefix(long, string(fd.Target)) && fd.Error != "":
			cut++
		}
	}
	if whole < 10 || whole+cut != 3900 {
		t.Errorf("%d targets are whole, %d cut", whole, cut)
	}
}

// Contents are bounded one by one and together.
func TestBounds(t *testing.T) {
	o := newOverlay(t)
	s := o.run(t, "/app/server", "hold", "/data")
	got := capture(t, s, Options{MaxFile: 100})
	got.clean("kept up to byte 100 of 8000", "of 1099511627776")
	for _, fd := range got.row(s.Container.PID).FDs {
		if strings.Contains(string(fd.Target), "gone") && (fd.SHA256 != "" || fd.Error == "" || len(got.file(fd.Artifact)) != 100) {
			t.Errorf("descriptor %+v", fd)
		}
	}
	got = capture(t, s, Options{MaxTotal: 10})
	got.clean("left out: contents of 10 bytes are kept already", "kept up to byte")
	got = capture(t, s, Options{WithoutEnviron: true})
	if got.has(fmt.Sprintf("process/%d/environ", s.Container.PID)) || !got.p.Coverage().Missed[0].Deliberate {
		t.Error("the environment was taken")
	}
}

// Without rights over a process each thing that can't be read is said, and the rest is taken.
func TestNotAllowed(t *testing.T) {
	testenv.NeedRoot(t)
	s := of(t, start(t, "wait"))
	check(t, os.Chmod(filepath.Dir(program), 0o755))
	out := filepath.Join(t.TempDir(), "x.sherd")
	check(t, os.WriteFile(out, nil, 0o666))
	check(t, os.Chmod(out, 0o666))
	for d := filepath.Dir(out); d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		check(t, os.Chmod(d, 0o755))
	}
	w, err := os.OpenFile(out, os.O_WRONLY, 0)
	check(t, err)
	defer w.Close()
	asNobody(t, func() {
		pw, err := evidence.NewWriter(w, evidence.WriterOptions{Tool: "test"})
		check(t, err)
		check(t, Collect(context.Background(), s, pw, Options{}))
		_, err = pw.Close()
		check(t, err)
	})
	p, err := evidence.Open(out, evidence.OpenOptions{})
	check(t, err)
	defer p.Close()
	got := captured{t, p, nil}
	want := []string{"environ", "maps", "exe", "cwd", "root", "ns", "fd"}
	for _, m := range p.Coverage().Missed {
		base := filepath.Base(m.What)
		if m.Reason != "permission denied" && m.Reason != "operation not permitted" {
			t.Errorf("missed %+v", m)
		}
		want = slices.DeleteFunc(want, func(s string) bool { return s == base })
	}
	if len(want) > 0 {
		t.Errorf("nothing says that %v are missing: %+v", want, p.Coverage().Missed)
	}
	for r := range lines[record.Process](got, "process/processes.jsonl") {
		if r.Comm != "child" || len(r.Cmdline) != 2 || r.Exe.Origin != record.ExeUnknown {
			t.Errorf("row %+v", r)
		}
	}
}

// asNobody does f with another user's rights. The whole program changes its user, and back.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	check(t, syscall.Setresuid(-1, 65534, -1))
	defer func() { check(t, syscall.Setresuid(-1, 0, -1)) }()
	f()
}

func TestNotRunning(t *testing.T) {
	for _, c := range []*target.Container{{}, {PID: 1}} {
		got := capture(t, subject.Subject{Container: c, Proc: "/proc"}, Options{})
		if cov := got.p.Coverage(); cov.Collected[Kind] != "none" || len(cov.Missed) != 1 {
			t.Errorf("coverage %+v", cov)
		}
	}
}

// Stopping the capture, and an output that fails, end it with an error.
func TestStopped(t *testing.T) {
	testenv.NeedRoot(t)
	s := of(t, start(t, "wait"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w, err := evidence.NewWriter(io.Discard, evidence.WriterOptions{})
	check(t, err)
	if err := Collect(ctx, s, w, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("gave %v", err)
	}
	_, err = w.Close()
	check(t, err)
}

// The start time agrees with the kernel's own idea of the boot time, which is in whole seconds.
func TestClock(t *testing.T) {
	c, err := readClock()
	check(t, err)
	for l := range strings.Lines(string(must(os.ReadFile("/proc/stat"))(t))) {
		if v, ok := strings.CutPrefix(l, "btime "); ok {
			btime, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			check(t, err)
			if d := time.Duration(c.at(0) - btime*1e9); d < -2*time.Second || d > 2*time.Second {
				t.Errorf("boot time differs by %v", d)
			}
		}
	}
	if c.at(1<<63) != 0 {
		t.Error("a nonsense tick has a time")
	}
}
