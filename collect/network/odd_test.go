package network_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/network"
	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

// forged is a socket's name that forges an entry of /proc/net/unix: a line feed, and what looks like the next line.
const forged = "@a\n0000000000000000: 00000002 00000000 00010000 0001 01 4000000000 /forged"

// oddSockets opens what is easily missed, and waits.
func oddSockets() error {
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	// A rule that asks for the state of connections makes the namespace track them.
	if out, err := exec.Command("iptables", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if _, err := net.Listen("unix", forged); err != nil {
		return err
	}
	if _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0); err != nil {
		return err
	}
	if err := timeWait(); err != nil {
		return err
	}
	if err := filtered(); err != nil {
		return err
	}
	// A thread with a descriptor table of its own: /proc/<pid>/fd does not show what it holds.
	ready := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FILES); err != nil {
			ready <- err
			return
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err == nil {
			err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: 8888, Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 1))
		}
		ready <- err
		select {}
	}()
	if err := <-ready; err != nil {
		return err
	}
	for range 20000 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if errors.Is(err, unix.EMFILE) {
			break
		}
		if err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
	return nil
}

func timeWait() error {
	l, err := net.Listen("tcp4", "127.0.0.1:7001")
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp4", "127.0.0.1:7001")
	if err != nil {
		return err
	}
	s, err := l.Accept()
	if err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		return errors.New("the client did not close")
	}
	return s.Close()
}

// filtered opens a packet socket that takes nothing but what its filter lets through, as backdoors do that wait for a magic packet.
func filtered() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM, 0x0008) // ETH_P_IP in network order
	if err != nil {
		return err
	}
	program := []unix.SockFilter{{Code: 6, K: 0x1234}}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &program[0]})
}

// collector captures pid into a package, from a process whose rights its parent chose.
func collector() error {
	pid, err := strconv.Atoi(os.Getenv("SHERD_TEST_PID"))
	if err != nil {
		return err
	}
	_, err = capture(context.Background(), os.Getenv("SHERD_TEST_OUT"), network.Options{TablesOnly: os.Getenv("SHERD_TEST_TABLES") != ""}, pid)
	return err
}

func capture(ctx context.Context, path string, o network.Options, pids ...int) (time.Duration, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w, err := evidence.NewWriter(f, evidence.WriterOptions{Tool: "test"})
	if err != nil {
		return 0, err
	}
	s := subject.Subject{Container: &target.Container{PID: pids[0], ID: "x"}, Proc: "/proc"}
	for _, pid := range pids {
		s.Processes = append(s.Processes, subject.Process{PID: pid, Relation: record.InCgroup})
	}
	began := time.Now()
	if err := network.Collect(ctx, s, w, o); err != nil {
		return 0, err
	}
	took := time.Since(began)
	_, err = w.Close()
	return took, err
}

// start runs this test binary in a role and a network namespace of its own, and waits until it says something.
func start(t *testing.T, name string) int {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "ip")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
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
	if err != nil || strings.HasPrefix(line, "failed") {
		t.Fatalf("the process with sockets: %q %v", line, err)
	}
	return cmd.Process.Pid
}

func opened(t *testing.T, path string) (*evidence.Package, []record.Socket) {
	t.Helper()
	p, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	var rows []record.Socket
	if _, ok := p.Artifact("network/sockets.jsonl"); !ok {
		return p, nil
	}
	for line, err := range p.Lines("network/sockets.jsonl") {
		if err != nil {
			t.Fatal(err)
		}
		var r record.Socket
		if err := json.Unmarshal(line.Data, &r); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	return p, rows
}

func TestOdd(t *testing.T) {
	testenv.NeedTool(t, "iptables")
	pid, second := start(t, "odd"), start(t, "1")
	path := filepath.Join(t.TempDir(), "x.sherd")
	took, err := capture(t.Context(), path, network.Options{}, pid, second)
	if err != nil {
		t.Fatal(err)
	}
	p, rows := opened(t, path)
	t.Logf("%d rows in %v", len(rows), took)
	if missed := p.Coverage().Missed; len(missed) > 0 || p.Coverage().Collected["network"] != "complete" {
		t.Errorf("missed: %+v", missed)
	}
	find := func(name string, ok func(record.Socket) bool) *record.Socket {
		s := pick(rows, ok)
		if s == nil {
			t.Fatalf("%s: not found", name)
		}
		return s
	}
	if s := find("time-wait", func(s record.Socket) bool { return s.State == "time_wait" }); s.RemotePort != 7001 && s.LocalPort != 7001 || len(s.Owners) != 0 {
		t.Errorf("time-wait: %+v", s)
	}
	if s := find("thread's listener", func(s record.Socket) bool { return s.LocalPort == 8888 }); len(s.Owners) != 1 || s.Owners[0].PID != pid || s.State != "listen" {
		t.Errorf("the listener of a thread with its own descriptors: %+v", s)
	}
	s := find("filtered packet socket", func(s record.Socket) bool { return s.Family == "packet" && len(s.Filter) > 0 })
	if f := (*unix.SockFilter)(unsafe.Pointer(&s.Filter[0])); len(s.Filter) != 8 || f.Code != 6 || f.K != 0x1234 || s.Protocol != "dgram" {
		t.Errorf("packet socket: %+v", s)
	}
	if s := find("pair", func(s record.Socket) bool { return s.Protocol == "seqpacket" && s.PeerInode != 0 }); pick(rows, func(o record.Socket) bool { return o.Inode == s.PeerInode && o.PeerInode == s.Inode }) == nil {
		t.Errorf("the other end of %+v is missing", s)
	}
	if s := find("name with a line feed", func(s record.Socket) bool { return string(s.Path) == "\x00"+forged[1:] }); s.Note != "" || s.Source != "sock_diag" {
		t.Errorf("socket with a line feed in its name: %+v", s)
	}
	spaces := map[uint64]int{}
	udp := 0
	for _, s := range rows {
		spaces[s.Namespace]++
		if s.Protocol == "udp" && len(s.Owners) == 1 {
			udp++
		}
		switch {
		case s.Inode == 4000000000:
			if !strings.Contains(s.Note, "forged") {
				t.Errorf("a forged entry passes for a socket: %+v", s)
			}
		case s.Family == "netlink": // ours come and go
		case s.Note != "" && s.State != "time_wait":
			t.Errorf("noted without reason: %+v", s)
		}
		if s.Shared || len(s.Others) > 0 {
			t.Errorf("shared with others: %+v", s)
		}
	}
	if len(spaces) != 2 {
		t.Errorf("rows of %d namespaces: %v", len(spaces), spaces)
	}
	if udp < 20000 && udp < rlimit(t)-100 {
		t.Errorf("%d UDP sockets", udp)
	}
	if s := find("second namespace", func(s record.Socket) bool { return s.LocalPort == 7777 && s.State == "listen" }); s.Owners[0].PID != second {
		t.Errorf("listener of the second namespace: %+v", s)
	}
	if len(p.Artifacts(fmt.Sprintf("network/proc-%d/tcp", find("listener", func(s record.Socket) bool { return s.LocalPort == 7777 }).Namespace))) == 0 {
		t.Error("the tables of the second namespace are missing")
	}
	var tracked record.Connection
	b, err := p.ReadFile("network/conntrack.jsonl", 1<<20)
	if err == nil {
		line, _, _ := strings.Cut(string(b), "\n")
		err = json.Unmarshal([]byte(line), &tracked)
	}
	if f := tracked.Original; err != nil || tracked.Protocol != "tcp" || tracked.State != "TIME_WAIT" || f.Source != "127.0.0.1" || f.DestinationPort != 7001 || tracked.Reply.SourcePort != 7001 || tracked.Host || tracked.Namespace == 0 {
		t.Errorf("tracked connection: %+v %v in %s", tracked, err, b)
	}
}

func rlimit(t *testing.T) int {
	t.Helper()
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	return int(min(l.Cur, 1<<20))
}

// TestUnprivileged captures without the right to enter namespaces, and without any.
func TestUnprivileged(t *testing.T) {
	testenv.NeedTool(t, "setpriv")
	pid := start(t, "1")
	for _, c := range []struct {
		name    string
		args    []string
		tables  bool
		owners  bool
		missing string
	}{
		{name: "without CAP_SYS_ADMIN", args: []string{"--bounding-set", "-sys_admin"}, owners: true, missing: "sock_diag"},
		{name: "tables only", tables: true, owners: true, missing: "sock_diag"},
		{name: "nobody", args: []string{"--reuid", "65534", "--regid", "65534", "--clear-groups"}, missing: "owners of sockets"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "sherd")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			self := filepath.Join(dir, "self") // where everybody may run it
			b, err := os.ReadFile("/proc/self/exe")
			if err == nil {
				err = errors.Join(os.WriteFile(self, b, 0o755), os.Chmod(dir, 0o777))
			}
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(dir, "x.sherd")
			cmd := exec.Command("setpriv", append(c.args, self)...)
			cmd.Env = append(os.Environ(), role+"=collector", fmt.Sprintf("SHERD_TEST_PID=%d", pid), "SHERD_TEST_OUT="+out)
			if c.tables {
				cmd.Env = append(cmd.Env, "SHERD_TEST_TABLES=1")
			}
			cmd.Dir = dir
			if b, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, b)
			}
			p, rows := opened(t, out)
			var missed []string
			for _, m := range p.Coverage().Missed {
				missed = append(missed, m.What+": "+m.Reason)
			}
			if all := strings.Join(missed, "\n"); !strings.Contains(all, c.missing) || p.Coverage().Collected["network"] != "partial" {
				t.Errorf("coverage %v:\n%s", p.Coverage().Collected, all)
			}
			s := pick(rows, func(s record.Socket) bool { return s.Protocol == "tcp" && s.LocalPort == 7777 && s.State == "listen" })
			if s == nil || s.Source != fmt.Sprintf("/proc/%d/net/tcp", pid) || s.Note != "" || s.BytesSent != nil {
				t.Fatalf("listener of %d rows: %+v", len(rows), s)
			}
			if c.owners != (len(s.Owners) == 1 && s.Owners[0].PID == pid) {
				t.Errorf("owners %+v", s.Owners)
			}
			if s := pick(rows, func(s record.Socket) bool { return string(s.Path) == "\x00abstract\x1b[2J\xff" }); s == nil || s.State != "listen" {
				t.Errorf("abstract unix socket: %+v", s)
			}
		})
	}
}

// TestGone captures a container that has ended.
func TestGone(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.sherd")
	if _, err := capture(t.Context(), path, network.Options{}, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	p, _ := opened(t, path)
	if c := p.Coverage(); c.Collected["network"] != "none" || len(c.Missed) != 1 {
		t.Errorf("%+v", c)
	}
}

// TestShared captures one of two processes in a namespace: what the other holds is not the container's.
func TestShared(t *testing.T) {
	pid := start(t, "1")
	mate := exec.Command("nsenter", "-t", strconv.Itoa(pid), "-n", "sleep", "60")
	if err := mate.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = mate.Process.Kill()
		_ = mate.Wait() // killed on purpose
	})
	for range 100 { // until it is there
		a, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if b, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", mate.Process.Pid)); a == b {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	path := filepath.Join(t.TempDir(), "x.sherd")
	if _, err := capture(t.Context(), path, network.Options{}, mate.Process.Pid); err != nil {
		t.Fatal(err)
	}
	_, rows := opened(t, path)
	s := pick(rows, func(s record.Socket) bool { return s.LocalPort == 7777 && s.State == "listen" })
	if s == nil || !s.Shared || len(s.Owners) != 0 || len(s.Others) != 1 || s.Others[0].PID != pid {
		t.Errorf("a neighbour's listener: %+v", s)
	}
}
