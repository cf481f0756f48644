package network_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/network"
	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

const role = "SHERD_TEST_SOCKETS"

func TestMain(m *testing.M) {
	if do := map[string]func() error{"1": sockets, "odd": oddSockets, "collector": collector}[os.Getenv(role)]; do != nil {
		if err := do(); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// sockets opens one of each kind in a network namespace of its own, moves a known number of bytes, and waits.
func sockets() error {
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:7777")
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp4", "127.0.0.1:7777")
	if err != nil {
		return err
	}
	s, err := l.Accept()
	if err != nil {
		return err
	}
	if _, err := c.Write(make([]byte, 12345)); err != nil {
		return err
	}
	if _, err := io.ReadFull(s, make([]byte, 12345)); err != nil {
		return err
	}
	if _, err := s.Write(make([]byte, 678)); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, make([]byte, 678)); err != nil {
		return err
	}
	if _, err := net.ListenPacket("udp6", "[::1]:5353"); err != nil {
		return err
	}
	if _, err := net.Listen("unix", "@abstract\x1b[2J\xff"); err != nil {
		return err
	}
	if _, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0); err != nil {
		return err
	}
	if _, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return err
	}
	fmt.Println(port)
	time.Sleep(time.Minute)
	return nil
}

// TestTraffic finds every kind of socket with its owner, and the bytes that went through a connection.
func TestTraffic(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "ip")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"=1")
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
	var port int
	if _, err := fmt.Fscanln(out, &port); err != nil {
		t.Fatal(err)
	}
	rows, p := collected(t, cmd.Process.Pid)

	client := pick(rows, func(s record.Socket) bool { return s.Protocol == "tcp" && s.LocalPort == port && s.RemotePort == 7777 })
	if client == nil {
		t.Fatalf("the connection is missing in %d rows", len(rows))
	}
	if client.BytesSent == nil || *client.BytesSent != 12345 || client.BytesReceived == nil || *client.BytesReceived != 678 {
		t.Errorf("bytes of the connection: %+v", client)
	}
	for name, ok := range map[string]func(record.Socket) bool{
		"listener":       func(s record.Socket) bool { return s.Protocol == "tcp" && s.LocalPort == 7777 && s.RemotePort == 0 },
		"udp6":           func(s record.Socket) bool { return s.Family == "inet6" && s.Protocol == "udp" && s.LocalPort == 5353 },
		"abstract unix":  func(s record.Socket) bool { return s.Family == "unix" && string(s.Path) == "\x00abstract\x1b[2J\xff" },
		"packet":         func(s record.Socket) bool { return s.Family == "packet" },
		"raw":            func(s record.Socket) bool { return s.Protocol == "raw" || s.Protocol == "icmp" },
		"the other side": func(s record.Socket) bool { return s.LocalPort == 7777 && s.RemotePort == port },
	} {
		s := pick(rows, ok)
		if s == nil {
			t.Errorf("%s: not found", name)
			continue
		}
		if len(s.Owners) != 1 || s.Owners[0].PID != cmd.Process.Pid {
			t.Errorf("%s: owners %+v", name, s.Owners)
		}
	}
	for _, raw := range []string{"tcp", "udp6", "unix", "packet", "route", "dev"} {
		if _, ok := p.Artifact("network/proc/" + raw); !ok {
			t.Errorf("the kernel's own table %s was not kept", raw)
		}
	}
	b, err := p.ReadFile("network/interfaces.jsonl", 1<<20)
	if err != nil || !strings.Contains(string(b), `"lo"`) {
		t.Errorf("interfaces: %s %v", b, err)
	}
}

func pick(rows []record.Socket, ok func(record.Socket) bool) *record.Socket {
	for i := range rows {
		if ok(rows[i]) {
			return &rows[i]
		}
	}
	return nil
}

func collected(t *testing.T, pid int) ([]record.Socket, *evidence.Package) {
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
	_, ticks, err := subject.Stat("/proc", pid)
	if err != nil {
		t.Fatal(err)
	}
	s := subject.Subject{Container: &target.Container{PID: pid, ID: strconv.Itoa(pid)}, Proc: "/proc",
		Processes: []subject.Process{{PID: pid, StartTicks: ticks, Relation: record.InCgroup}}}
	if err := network.Collect(t.Context(), s, w, network.Options{}); err != nil {
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
	var rows []record.Socket
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
	return rows, p
}
