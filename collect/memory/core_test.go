package memory_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/memory"
	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

const (
	role   = "SHERD_TEST_VICTIM"
	secret = "a string that only the heap of the victim holds"
)

func TestMain(m *testing.M) {
	if memory.IsWatchdog(os.Args[1:]) {
		os.Exit(memory.WatchdogMain(os.Args[1:]))
	}
	if os.Getenv(role) != "" {
		victim(os.Getenv(role))
	}
	os.Exit(m.Run())
}

// victim is a process to be read: it says where its string lies, and waits.
func victim(kind string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
	}
	mem, err := unix.Mmap(-1, 0, 8<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	fail(err)
	copy(mem[4096+17:], secret)
	// A terabyte that is reserved and never touched must cost nothing.
	reserved, err := unix.Mmap(-1, 0, 1<<40, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	fail(err)
	reserved[1<<39] = 7
	_, err = unix.Mmap(-1, 0, 1<<20, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	fail(err)
	fd, err := unix.MemfdCreate("stage", 0)
	fail(err)
	_, err = unix.Write(fd, bytes.Repeat([]byte("memfd "), 10000))
	fail(err)
	shared, err := unix.Mmap(fd, 0, 60000, unix.PROT_READ, unix.MAP_SHARED)
	fail(err)
	_ = shared[5] // touched, so that the page is there
	if kind == "patched" {
		// The text of a function that nobody calls, overwritten as malware does it.
		f, err := os.OpenFile("/proc/self/mem", os.O_WRONLY, 0)
		fail(err)
		at := **(**uintptr)(unsafe.Pointer(&uncalled))
		_, err = f.WriteAt([]byte("\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc"), int64(at))
		fail(err)
		fmt.Printf("%x\n", at)
	} else {
		fmt.Printf("%x\n", uintptr(unsafe.Pointer(&mem[4096+17])))
	}
	if kind == "restless" {
		for {
			b, err := unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			fail(err)
			b[0], b[1<<20] = 1, 1
			fail(unix.Munmap(b))
		}
	}
	time.Sleep(time.Minute)
	runtime.KeepAlive(mem)
}

//go:noinline
func neverCalled(a, b int) int { return a*31 + b*17 ^ a<<3 }

var uncalled = neverCalled

// run starts a victim and returns its pid and the address it printed.
func run(t *testing.T, kind string) (pid int, addr uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"="+kind)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed on purpose
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr, err = strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		t.Fatalf("the victim said %q", line)
	}
	return cmd.Process.Pid, addr
}

// capture takes the memory of one process into a package.
func capture(t *testing.T, pid int, o memory.Options) *evidence.Package {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.sherd")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := evidence.NewWriter(f, evidence.WriterOptions{Tool: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ppid, ticks, err := subject.Stat("/proc", pid)
	if err != nil || ppid != os.Getpid() {
		t.Fatal(ppid, err)
	}
	s := subject.Subject{Container: &target.Container{PID: pid}, Proc: "/proc",
		Processes: []subject.Process{{PID: pid, ContainerPID: pid, StartTicks: ticks, Relation: record.InCgroup}}}
	if err := memory.Collect(context.Background(), s, w, o); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// extract writes the core to a file of its own.
func extract(t *testing.T, p *evidence.Package, pid int) string {
	t.Helper()
	a, err := p.Open(fmt.Sprintf("process/%d/core", pid))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "core")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, a); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func mappings(t *testing.T, p *evidence.Package, pid int) []record.Mapping {
	t.Helper()
	var out []record.Mapping
	for line, err := range p.Lines(fmt.Sprintf("process/%d/memory.jsonl", pid)) {
		if err != nil {
			t.Fatal(err)
		}
		var m record.Mapping
		if err := json.Unmarshal(line.Data, &m); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n * int64(os.Getpagesize())
}

// TestCore has gdb read the victim's string at its true address, and sees that the victim did not grow.
func TestCore(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "gdb", "readelf")
	for _, mode := range []string{"private", "full"} {
		t.Run(mode, func(t *testing.T) {
			pid, addr := run(t, "plain")
			m, err := memory.ParseMode(mode)
			if err != nil {
				t.Fatal(err)
			}
			before := rss(t, pid)
			p := capture(t, pid, memory.Options{Mode: m})
			if after := rss(t, pid); after > before+1<<20 {
				t.Errorf("the victim grew from %d to %d bytes by being read", before, after)
			}
			core := extract(t, p, pid)
			if st, err := os.Stat(core); err != nil || st.Size() > 256<<20 {
				t.Errorf("a core of %d bytes: the reservation was written out", st.Size())
			}
			out, err := exec.Command("gdb", "-nx", "-batch", "-ex", fmt.Sprintf("x/s %#x", addr), "-ex", "info auxv", "-ex", "info proc mappings", os.Args[0], core).CombinedOutput()
			if err != nil || !strings.Contains(string(out), secret) {
				t.Errorf("gdb does not see the string at %#x: %v\n%s", addr, err, out)
			}
			for _, want := range []string{"AT_ENTRY", filepath.Base(os.Args[0])} {
				if !strings.Contains(string(out), want) {
					t.Errorf("gdb's output lacks %q", want)
				}
			}
			if out, err := exec.Command("readelf", "-lnW", core).CombinedOutput(); err != nil || bytes.Contains(out, []byte("Warning")) || bytes.Contains(out, []byte("Error")) {
				t.Errorf("readelf: %v\n%s", err, out)
			}
			checkMappings(t, mappings(t, p, pid))
		})
	}
}

func checkMappings(t *testing.T, ms []record.Mapping) {
	t.Helper()
	var memfd, reserved, left bool
	for _, m := range ms {
		switch {
		case strings.HasPrefix(string(m.Path), "/memfd:stage"):
			memfd = m.Dumped > 0
		case m.End-m.Start >= 1<<40:
			reserved = m.Dumped > 0 && m.Dumped < 1<<22
		}
		left = left || m.LeftOut == "file" && len(m.FileSHA256) == 64
	}
	if !memfd || !reserved {
		t.Errorf("memfd taken: %v; the touched page of the reservation, and little more, taken: %v", memfd, reserved)
	}
	_ = left // in mode full nothing is left out
}

// TestChangedText finds the bytes that differ from the program's file, and keeps the file's.
func TestChangedText(t *testing.T) {
	testenv.NeedRoot(t)
	pid, addr := run(t, "patched")
	p := capture(t, pid, memory.Options{})
	for _, m := range mappings(t, p, pid) {
		for _, c := range m.Changed {
			if c.DiffBytes == 0 || addr < c.Addr || addr >= c.Addr+uint64(c.Length) {
				continue
			}
			b, err := p.ReadFile(c.FileArtifact, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if at := addr - c.Addr; bytes.HasPrefix(b[at:], []byte("\xcc\xcc\xcc\xcc")) {
				t.Error("what is kept as the file's is the changed text")
			}
			return
		}
	}
	t.Errorf("no change found at %#x", addr)
}

// TestRestless reads a process that maps and unmaps without pause, and one that ends meanwhile.
func TestRestless(t *testing.T) {
	testenv.NeedRoot(t)
	pid, _ := run(t, "restless")
	p := capture(t, pid, memory.Options{})
	if _, ok := p.Artifact(fmt.Sprintf("process/%d/core", pid)); !ok {
		t.Error("no core")
	}
	pid, _ = run(t, "plain")
	go func() {
		time.Sleep(2 * time.Millisecond)
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Error(err)
		}
	}()
	p = capture(t, pid, memory.Options{})
	cov := p.Coverage()
	if cov.Collected["memory"] != "complete" && len(cov.Missed) == 0 {
		t.Errorf("the end of the process is not in the coverage: %+v", cov)
	}
}

// TestNone takes nothing, and says that it was by choice.
func TestNone(t *testing.T) {
	testenv.NeedRoot(t)
	pid, _ := run(t, "plain")
	m, err := memory.ParseMode("none")
	if err != nil {
		t.Fatal(err)
	}
	p := capture(t, pid, memory.Options{Mode: m})
	if _, ok := p.Artifact(fmt.Sprintf("process/%d/core", pid)); ok {
		t.Error("a core was taken")
	}
	if _, err := memory.ParseMode("some"); err == nil {
		t.Error("an unknown mode was accepted")
	}
}
