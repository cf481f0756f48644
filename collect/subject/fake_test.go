package subject

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target"
)

// fake is a made-up /proc: layouts of runtimes that are not here.
type fake struct {
	t   testing.TB
	dir string
}

func newFake(t testing.TB) fake {
	f := fake{t, t.TempDir()}
	f.add(1, 0, "/init.scope", "host", "host")
	return f
}

func (f fake) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f fake) add(pid, ppid int, cgroup, pidNS, mntNS string) {
	f.t.Helper()
	d := filepath.Join(f.dir, strconv.Itoa(pid))
	f.check(os.MkdirAll(d+"/ns", 0o755))
	stat := fmt.Sprintf("%d (app) S %d 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", pid, ppid, 1000+pid)
	f.check(os.WriteFile(d+"/stat", []byte(stat), 0o644))
	f.check(os.WriteFile(d+"/cgroup", []byte("3:pids:"+cgroup+"\n0::"+cgroup+"\n"), 0o644))
	f.check(os.WriteFile(d+"/status", []byte("Name:\tapp\nNSpid:\t"+strconv.Itoa(pid)+"\t"+strconv.Itoa(pid%100)+"\n"), 0o644))
	f.check(os.Symlink("pid:["+pidNS+"]", d+"/ns/pid"))
	f.check(os.Symlink("mnt:["+mntNS+"]", d+"/ns/mnt"))
}

func (f fake) list(c *target.Container) map[int]string {
	f.t.Helper()
	ps, err := List(c, f.dir)
	f.check(err)
	got := map[int]string{}
	for _, p := range ps {
		got[p.PID] = p.Relation
	}
	return got
}

// Rootless Podman without cgroups: the container stays in the session's, beside conmon and the user's shell.
func TestSessionCgroupIsNotTheContainers(t *testing.T) {
	f := newFake(t)
	const session = "/user.slice/user-1000.slice/session-3.scope"
	f.add(50, 1, session, "host", "host")   // a shell
	f.add(60, 1, session, "host", "host")   // conmon
	f.add(70, 60, session, "c", "c")        // the container's first
	f.add(71, 70, session, "c", "c")        // its child
	f.add(80, 50, session, "host", "other") // something else of the user's
	same(t, f.list(&target.Container{PID: 70, CgroupPath: session}), map[int]string{70: record.InCgroup, 71: record.InNamespaces})
}

// A sidecar that shares the pid namespace is another container, and its orphans are its own although the kernel makes them
// children of our first process. Our own descendants stay ours wherever they went.
func TestSharedPIDNamespace(t *testing.T) {
	f := newFake(t)
	f.add(10, 1, "/system.slice/containerd.service", "host", "host") // shim
	f.add(20, 10, "/docker/aaa", "pod", "a")
	f.add(21, 20, "/docker/aaa/x", "pod", "a")
	f.add(22, 21, "/docker/evil", "pod", "e")       // left cgroup and mount namespace
	f.add(23, 20, "/", "deeper", "e2")              // left everything
	f.add(24, 1, "/", "pod", "e3")                  // entered the pid namespace, in no cgroup
	f.add(30, 10, "/docker/bbb", "pod", "b")        // sidecar
	f.add(31, 20, "/docker/bbb", "pod", "b")        // its orphan
	f.add(32, 31, "/docker/bbb", "pod", "b")        // and that one's child
	f.add(40, 1, "/docker/ccc", "unrelated", "ccc") // another
	same(t, f.list(&target.Container{PID: 20, CgroupPath: "/docker/aaa"}), map[int]string{
		20: record.InCgroup, 21: record.InCgroup, 22: record.Descendant, 23: record.Descendant, 24: record.InNamespaces,
	})
}

// A container that shares the host's pid namespace is told by cgroup and mount namespace alone.
func TestHostPID(t *testing.T) {
	f := newFake(t)
	f.add(10, 1, "/system.slice/containerd.service", "host", "host")
	f.add(20, 10, "/docker/aaa", "host", "a")
	f.add(21, 1, "/", "host", "a")
	f.add(22, 1, "/", "host", "host")
	same(t, f.list(&target.Container{PID: 20, CgroupPath: "/docker/aaa"}), map[int]string{20: record.InCgroup, 21: record.InNamespaces})
}

// A cgroup whose name only begins like the container's is another one.
func TestPrefixOfName(t *testing.T) {
	f := newFake(t)
	f.add(20, 1, "/docker/aaa", "a", "a")
	f.add(21, 1, "/docker/aaab", "b", "b")
	same(t, f.list(&target.Container{PID: 20, CgroupPath: "/docker/aaa"}), map[int]string{20: record.InCgroup})
}

// More than the bound is cut, and said.
func TestTooMany(t *testing.T) {
	m := &matcher{proc: newFake(t).dir, known: map[int]seen{}, cgroups: []string{"/docker/aaa"}}
	fake{t, m.proc}.add(20, 1, "/docker/aaa", "a", "a")
	found := map[int]Process{}
	for i := range maxProcesses {
		found[-i-1] = Process{PID: -i - 1}
	}
	if _, err := m.scan(found); !errors.Is(err, ErrTooMany) {
		t.Errorf("gave %v", err)
	}
}

// The cgroup file system tells of processes that a look through /proc does not bring.
func TestCgroupFileSystem(t *testing.T) {
	f := newFake(t)
	f.add(20, 1, "/docker/aaa", "a", "a")
	f.add(21, 1, "/", "host", "host") // only a thread of it is in the container's cgroup
	f.check(os.Symlink(strconv.Itoa(os.Getpid()), f.dir+"/self"))
	f.check(os.MkdirAll(f.dir+"/1/root/cg/pids/docker/aaa/below", 0o755))
	f.check(os.WriteFile(f.dir+"/1/root/cg/pids/cgroup.procs", []byte("1\n"), 0o644))
	f.check(os.WriteFile(f.dir+"/1/mountinfo", []byte("31 23 0:28 / /cg/pids rw,relatime - cgroup cgroup rw,pids\n"), 0o644))
	f.check(os.WriteFile(f.dir+"/1/root/cg/pids/docker/aaa/cgroup.procs", []byte("0\n20\n99999999\n"), 0o644))
	f.check(os.WriteFile(f.dir+"/1/root/cg/pids/docker/aaa/below/cgroup.procs", []byte("21\n"), 0o644))
	c := &target.Container{PID: 20, CgroupPath: "/docker/aaa"}
	same(t, f.list(c), map[int]string{20: record.InCgroup, 21: record.InCgroup})

	// The parent of this test is alive, and the made-up /proc lacks it.
	f.check(os.WriteFile(f.dir+"/1/root/cg/pids/docker/aaa/cgroup.procs", []byte("20\n"+strconv.Itoa(os.Getppid())+"\n"), 0o644))
	ps, err := List(c, f.dir)
	if !errors.Is(err, ErrHidden) || len(ps) != 2 {
		t.Errorf("a hidden process: listed %v, %v", ps, err)
	}
}

func BenchmarkList10000(b *testing.B) {
	f := newFake(b)
	f.add(10, 1, "/docker/aaa", "a", "a")
	for i := range 10_000 {
		f.add(100+i, 1, fmt.Sprintf("/docker/%d", i/10), strconv.Itoa(i/10), strconv.Itoa(i/10))
	}
	for b.Loop() {
		if ps, err := List(&target.Container{PID: 10, CgroupPath: "/docker/aaa"}, f.dir); err != nil || len(ps) != 1 {
			b.Fatal(ps, err)
		}
	}
}
