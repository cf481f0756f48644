package logs

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

const id = "3f4e8b1c9a7d4e2fb6c5a1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0"

func exampleMatcher() *matcher {
	c := &collector{s: subject.Subject{Proc: "/nowhere", Processes: []subject.Process{{PID: 4711}, {PID: 12}},
		Container: &target.Container{ID: id, PID: 4711, CgroupPath: "/docker/" + id, Entrypoint: []string{"/app/server-with-a-long-name"},
			Pod: &target.Pod{UID: "0a1b2c3d-0000-1111-2222-333344445555"}}}}
	return c.matcher()
}

// TestMatch knows the kernel's ways of naming a process or a container, as Linux 5.10 to 6.18 write them.
func TestMatch(t *testing.T) {
	m := exampleMatcher()
	for _, s := range []string{
		"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=" + id + ",mems_allowed=0,oom_memcg=/docker/" + id + ",task_memcg=/docker/" + id + ",task=conv,pid=9999,uid=65532",
		"Memory cgroup out of memory: Killed process 9999 (conv) total-vm:1kB, anon-rss:1kB, UID:65532 pgtables:1kB oom_score_adj:0", // learnt from the line before
		"Memory cgroup out of memory: Killed process 4711 (x)",
		"conv[4711]: segfault at 0 ip 000000000045 sp 00007ffc error 4 in conv[400000+1000]",
		"server-with-a-l[88]: segfault at 0",
		"server-with-a-l invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
		"CPU: 1 PID: 12 Comm: other Not tainted",
		`audit: type=1326 audit(1795489331.000:5): auid=4294967295 uid=65532 gid=65532 ses=4294967295 pid=12 comm="x" exe="/x" sig=31 arch=c000003e syscall=165`,
		`audit: type=1400 audit(1.0:6): apparmor="DENIED" operation="open" profile="docker-default" pid=4711 comm="a"`,
		"traps: conv[12] general protection fault ip:45 sp:7f error:0",
		"[   4711] 65532  4711   1000      100    50000        0             0 server",
		"INFO: task conv:12 blocked" + " for more than 120 seconds, pid=12",
		"cgroup: fork rejected by pids controller in /kubepods/pod0a1b2c3d_0000_1111_2222_333344445555/x",
		"veth: container " + id[:12],
	} {
		if !m.match(s) {
			t.Errorf("not matched: %s", s)
		}
	}
	for _, s := range []string{
		"", "eth0: link becomes ready", "conv[47110]: segfault at 0", "other[13]: segfault at 4711 ip 12", "usb 1-1: new device 12",
		"Out of memory: Killed process 47 (other)", "audit: type=1326 pid=120 comm=\"y\"", "docker0: port 1(veth12) entered forwarding state",
	} {
		if m.match(s) {
			t.Errorf("matched: %s", s)
		}
	}
}

// TestNames leaves out names that would match anything: a process chooses its own.
func TestNames(t *testing.T) {
	m := &matcher{pids: map[string]bool{}, comms: map[string]bool{}}
	for _, s := range []string{"", "a", "12", "4711"} {
		m.name(s)
	}
	if len(m.comms) != 0 {
		t.Errorf("%v", m.comms)
	}
	if m.name("a-name-longer-than-15-bytes"); !m.comms["a-name-longer-t"] {
		t.Errorf("%v", m.comms)
	}
}

// records is a descriptor that gives one record per read, as /dev/kmsg does.
func records(t *testing.T, rs ...string) int {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	for _, r := range rs {
		if _, err := unix.Write(fds[1], []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	return fds[0]
}

func TestRecords(t *testing.T) {
	ours := "6,100,5000000,-;conv[4711]: segfault at 0\n SUBSYSTEM=x\n"
	kept, lost, err := kmsg(records(t, "6,99,1,-;something else\n", ours, "no record", "6,101,1,c;pid=12 ends\n"), exampleMatcher())
	if want := ours + "6,101,1,c;pid=12 ends\n"; err != nil || lost != 0 || string(kept) != want {
		t.Errorf("%q %d %v", kept, lost, err)
	}
}

// TestKernel finds a line in the log of the running kernel.
func TestKernel(t *testing.T) {
	testenv.NeedRoot(t)
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	name := hex.EncodeToString(b)
	if err := os.WriteFile("/dev/kmsg", []byte("<7>a line of a test about container "+name+"\n"), 0); err != nil {
		t.Fatal(err)
	}
	p := captured(t, &target.Container{ID: name}, Options{})
	got, err := p.ReadFile("logs/kernel.txt", 1<<20)
	if err != nil || !strings.Contains(string(got), ";a line of a test about container "+name+"\n") {
		t.Errorf("%q %v: %+v", got, err, p.Coverage())
	}
}

// TestKernelDenied tells a log that may not be read from one that says nothing.
func TestKernelDenied(t *testing.T) {
	p := captured(t, &target.Container{ID: id}, Options{Kmsg: filepath.Join(t.TempDir(), "none")})
	for _, m := range p.Coverage().Missed {
		if m.What == "kernel lines" {
			return
		}
	}
	t.Errorf("%+v", p.Coverage())
}

func captured(t *testing.T, c *target.Container, o Options) *evidence.Package {
	t.Helper()
	return capturedTo(t, &cutter{path: filepath.Join(t.TempDir(), "none")}, c, o)
}

func capturedTo(t *testing.T, out *cutter, c *target.Container, o Options) *evidence.Package {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.sherd")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out.File = f
	w, err := evidence.NewWriter(out, evidence.WriterOptions{Tool: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := Collect(t.Context(), subject.Subject{Container: c, Proc: "/proc"}, w, o); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// TestGrowing takes a log up to the size that it had, while lines are written to it without pause.
func TestGrowing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x-json.log")
	log, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	line := func(n int) string { return fmt.Sprintf("{\"log\":\"%08d\\n\",\"stream\":\"stdout\"}\n", n) }
	n := 0
	for ; n < 500000; n++ {
		if n%1000 == 0 {
			var b bytes.Buffer
			for i := range 1000 {
				b.WriteString(line(n + i))
			}
			if _, err := log.Write(b.Bytes()); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop, done := make(chan bool), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := log.WriteString(line(n)); err != nil {
				done <- err
				return
			}
			n++
		}
	}()
	time.Sleep(10 * time.Millisecond)
	p := captured(t, &target.Container{ID: id, Logs: []target.LogFile{{Path: path, Format: "json-file"}}}, Options{})
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var row File
	list, err := p.ReadFile(filesPath, 1<<20)
	if err == nil {
		err = json.Unmarshal(bytes.TrimSpace(list), &row)
	}
	got, rerr := p.ReadFile("logs/x-json.log", 1<<30)
	whole, werr := os.ReadFile(path)
	if err != nil || rerr != nil || werr != nil {
		t.Fatal(err, rerr, werr)
	}
	if int64(len(got)) != row.Size || row.After <= row.Size || !bytes.HasPrefix(whole, got) {
		t.Errorf("%d bytes of %d: %+v", len(got), len(whole), row)
	}
	for _, m := range p.Coverage().Missed {
		if strings.Contains(m.What, path) {
			t.Errorf("growing is no fault: %+v", m)
		}
	}
}

// cutter cuts a log off as soon as the package's first bytes are written.
type cutter struct {
	*os.File
	path string
	err  error
	once sync.Once
}

func (c *cutter) Write(b []byte) (int, error) {
	c.once.Do(func() { c.err = os.Truncate(c.path, 1000) })
	return c.File.Write(b)
}

// TestCut keeps what was read of a log that is cut off meanwhile, and says so.
func TestCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	content := make([]byte, 96<<20) // more than the writer holds at one time, and nothing that shrinks
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	out := &cutter{path: path}
	p := capturedTo(t, out, &target.Container{ID: id, Logs: []target.LogFile{{Path: path, Format: "cri"}}}, Options{})
	if out.err != nil {
		t.Fatal(out.err)
	}
	e, ok := p.Artifact("logs/0.log")
	if !ok || len(e.Errors) == 0 || e.Size != int64(len(content)) {
		t.Fatalf("%v %+v", ok, e)
	}
	a, err := p.Open("logs/0.log")
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 1<<20)
	if _, err := a.ReadAt(head, 0); err != nil || !bytes.Equal(head, content[:len(head)]) {
		t.Errorf("what was read before the cut is not there: %v", err)
	}
	for _, m := range p.Coverage().Missed {
		if strings.Contains(m.What, path) && strings.Contains(m.Reason, "cut from") && m.Partial {
			return
		}
	}
	t.Errorf("%v, %+v", e.Errors, p.Coverage())
}
