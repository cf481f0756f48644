package subject

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

const childEnv = "SHERD_SUBJECT_CHILD"

// TestMain is also the program of the processes that tests start.
func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "":
		os.Exit(m.Run())
	case "wait":
		ready()
	case "nest":
		cmd := command("wait")
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
		out, err := cmd.StdoutPipe()
		if err == nil {
			_, err = cmd.StdinPipe()
		}
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			_, err = bufio.NewReader(out).ReadString('\n')
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		ready()
	case "headless": // the first thread ends, the others run on
		fmt.Println("ready")
		go func() { time.Sleep(time.Minute); os.Exit(0) }()
		_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
	case "fork":
		fmt.Println("ready")
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			if exec.Command("/bin/true").Run() != nil {
				return
			}
		}
	}
}

func ready() {
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func command(mode string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+mode)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// start runs a process in namespaces of its own and ends it with the test.
func start(t *testing.T, mode string, flags uintptr) int {
	t.Helper()
	cmd := command(mode)
	cmd.SysProcAttr.Cloneflags = flags
	return run(t, cmd)
}

func run(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if l, err := bufio.NewReader(out).ReadString('\n'); l != "ready\n" {
		t.Fatalf("the process said %q, %v", l, err)
	}
	return cmd.Process.Pid
}

// cgroup makes a cgroup in one hierarchy of this machine, and gives its directory and path.
func cgroup(t *testing.T) (dir, path string) {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(root + "/cgroup.procs"); err != nil {
			continue
		}
		path = fmt.Sprintf("/sherd-list-%d/%s", os.Getpid(), strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")))
		if err := os.MkdirAll(root+path, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for d := root + path; d != root; d = filepath.Dir(d) {
				for i := 0; i < 100 && unix.Rmdir(d) != nil; i++ {
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
		return root + path, path
	}
	testenv.Skip(t, "needs a cgroup file system")
	return "", ""
}

func move(t *testing.T, pid int, dir string) {
	t.Helper()
	if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// list gives "pid relation" of what List finds.
func list(t *testing.T, c *target.Container) map[int]string {
	t.Helper()
	ps, err := List(c, "/proc")
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]string{}
	for _, p := range ps {
		got[p.PID] = p.Relation
		if _, ticks, err := Stat("/proc", p.PID); err != nil || ticks != p.StartTicks {
			t.Errorf("process %d started at %d, %v, listed with %d", p.PID, ticks, err, p.StartTicks)
		}
	}
	return got
}

func same(t *testing.T, got, want map[int]string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("listed %v, want %v", got, want)
	}
}

func TestNotRunning(t *testing.T) {
	ps, err := List(&target.Container{}, "/proc")
	if ps != nil || err != nil {
		t.Errorf("a container without a process has %v, %v", ps, err)
	}
}

func TestGone(t *testing.T) {
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if ps, err := List(&target.Container{PID: cmd.Process.Pid}, "/proc"); err == nil || len(ps) != 0 {
		t.Errorf("a container that ended has %v, %v", ps, err)
	}
}

func TestRelations(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "nsenter", "sleep")
	dir, path := cgroup(t)
	first := start(t, "nest", syscall.CLONE_NEWPID|syscall.CLONE_NEWNS)
	nested := child(t, first)
	move(t, first, dir) // the child stays outside

	below := start(t, "wait", 0)
	if err := os.Mkdir(dir+"/below", 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for i := 0; i < 100 && unix.Rmdir(dir+"/below") != nil; i++ {
			time.Sleep(10 * time.Millisecond)
		}
	})
	move(t, below, dir+"/below")

	enter := exec.Command("nsenter", "-t", strconv.Itoa(first), "-p", "-m", "sh", "-c", "echo ready; exec sleep 60")
	enter.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	nsenter := run(t, enter)
	inside := child(t, nsenter)
	t.Cleanup(func() { _ = syscall.Kill(inside, syscall.SIGKILL) })
	start(t, "wait", 0) // a stranger

	want := map[int]string{first: record.InCgroup, nested: record.Descendant, below: record.InCgroup, inside: record.InNamespaces}
	got := list(t, &target.Container{PID: first, CgroupPath: path})
	delete(got, nsenter) // it shares the mount namespace
	same(t, got, want)
	ps, err := List(&target.Container{PID: first}, "/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if p.PID == first && p.ContainerPID != 1 {
			t.Errorf("the first process is number %d inside, want 1", p.ContainerPID)
		}
	}
}

func child(t *testing.T, pid int) int {
	t.Helper()
	for range 200 {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range tasks {
			b, err := os.ReadFile(f)
			if err != nil {
				continue
			}
			if f := strings.Fields(string(b)); len(f) > 0 {
				n, err := strconv.Atoi(f[0])
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("process %d has no child", pid)
	return 0
}

// A shared network namespace, as in pods and on the host's network, makes nobody a member.
func TestNetworkNamespaceIsNotEnough(t *testing.T) {
	testenv.NeedRoot(t)
	first := start(t, "wait", syscall.CLONE_NEWPID|syscall.CLONE_NEWNS)
	start(t, "wait", syscall.CLONE_NEWPID|syscall.CLONE_NEWNS)
	same(t, list(t, &target.Container{PID: first}), map[int]string{first: record.InCgroup})
}

// A process whose first thread ended keeps its namespaces in the others.
func TestFirstThreadEnded(t *testing.T) {
	testenv.NeedRoot(t)
	first := start(t, "headless", syscall.CLONE_NEWPID|syscall.CLONE_NEWNS)
	dir := fmt.Sprintf("/proc/%d", first)
	for i := 0; OtherThread(dir, first) == 0; i++ {
		if i == 200 {
			t.Fatal("the first thread does not end")
		}
		time.Sleep(10 * time.Millisecond)
	}
	p, err := look("/proc", first)
	if err != nil || p.mntNS == "" || p.pidNS == "" {
		t.Errorf("looked %+v, %v", p, err)
	}
	same(t, list(t, &target.Container{PID: first}), map[int]string{first: record.InCgroup})
}

// Something that forks all the time is listed, and the list says so if it may lack some.
func TestForkStorm(t *testing.T) {
	testenv.NeedRoot(t)
	first := start(t, "fork", syscall.CLONE_NEWPID|syscall.CLONE_NEWNS)
	begin := time.Now()
	ps, err := List(&target.Container{PID: first}, "/proc")
	if err != nil && !errors.Is(err, ErrUnstable) {
		t.Error(err)
	}
	if !slices.ContainsFunc(ps, func(p Process) bool { return p.PID == first }) {
		t.Errorf("listed %v without the first process", ps)
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestHidepid(t *testing.T) {
	line := func(point, options string) string {
		return "22 1 0:21 / " + point + " rw,relatime shared:1 - proc proc rw," + options + "\n"
	}
	if err := hiding(line("/proc", "hidepid=invisible"), "/proc"); !errors.Is(err, ErrHidden) {
		t.Errorf("gave %v", err)
	}
	if err := hiding(line("/proc", "gid=4")+line("/other", "hidepid=2"), "/proc"); err != nil {
		t.Errorf("gave %v", err)
	}
}

func TestParseStat(t *testing.T) {
	rest := " 7 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0"
	for name, s := range map[string]string{
		"plain": "10 (app) S" + rest, "parenthesis": "10 (a) R 1 1 (x) S" + rest, "newline": "10 (a\n) Z 1\n) S" + rest, "bytes": "10 (\xff\x1b[2J) S" + rest,
	} {
		if ppid, ticks, err := ParseStat([]byte(s)); ppid != 7 || ticks != 12345 || err != nil {
			t.Errorf("%s: %d, %d, %v", name, ppid, ticks, err)
		}
	}
	for _, s := range []string{"", "10 (app", "10 (app) S 1", "10 (app) S x" + strings.Repeat(" 1", 20), "10 (app) S" + strings.Replace(rest, "12345", "-1", 1)} {
		if _, _, err := ParseStat([]byte(s)); err == nil {
			t.Errorf("%q is no error", s)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("10 (a) R 1) S 7 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = ParseStat(b)
		_ = cgroupPaths(b)
		_ = hiding(string(b), "/proc")
	})
}

// The cgroup file systems of this machine are found and read.
func TestMembers(t *testing.T) {
	testenv.NeedRoot(t)
	dir, path := cgroup(t)
	pid := start(t, "wait", 0)
	move(t, pid, dir)
	m := newMatcher(&target.Container{PID: pid, CgroupPath: path}, "/proc", seenNow(look("/proc", pid)))
	found := map[int]Process{}
	if err := m.ask(found); err != nil || len(found) != 1 || found[pid].Relation != record.InCgroup {
		t.Errorf("the cgroup has %v, %v, want process %d", found, err, pid)
	}
}

func seenNow(s seen, err error) seen {
	if err != nil {
		panic(err)
	}
	return s
}
