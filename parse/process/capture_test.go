package process

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	collect "github.com/sherd-forensics/sherd/collect/process"
	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	formats "github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/target"
)

// TestCapture reads what the collector really writes of a real process.
func TestCapture(t *testing.T) {
	before := time.Now().Add(-20 * time.Millisecond)
	cmd := exec.Command("sh", "-c", "echo ready; read x", "\x1b[31m\xff\\x00")
	cmd.Env = []string{"SECRET=a=b", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(err)
	out, err := cmd.StdoutPipe()
	check(err)
	check(cmd.Start())
	defer func() { in.Close(); _ = cmd.Wait() }()
	if l, err := bufio.NewReader(out).ReadString('\n'); l != "ready\n" {
		t.Fatalf("the shell said %q, %v", l, err)
	}
	pid := cmd.Process.Pid
	id, err := subject.Identify("/proc", pid)
	check(err)
	path := filepath.Join(t.TempDir(), "x.sherd")
	f, err := os.Create(path)
	check(err)
	defer f.Close()
	w, err := evidence.NewWriter(f, evidence.WriterOptions{Tool: "test"})
	check(err)
	s := subject.Subject{Container: &target.Container{PID: pid}, Proc: "/proc", Processes: []subject.Process{id}}
	check(collect.Collect(context.Background(), s, w, collect.Options{}))
	_, err = w.Close()
	check(err)
	p, err := evidence.Open(path, evidence.OpenOptions{})
	check(err)
	defer p.Close()

	var rows []Row
	for r, err := range Read(p) {
		check(err)
		rows = append(rows, r)
	}
	want := []record.Name{"sh", "-c", "echo ready; read x", "\x1b[31m\xff\\x00"}
	if len(rows) != 1 || rows[0].PID != pid || len(rows[0].Cmdline) != 4 || rows[0].Cmdline[3] != want[3] || rows[0].PPID != os.Getpid() {
		t.Errorf("rows %+v", rows)
	}
	env, err := Environ(p, pid)
	check(err)
	if len(env) != 2 || env[0].Name != "SECRET" || env[0].Value != "a=b" {
		t.Errorf("environment %+v", env)
	}
	var events []event.Event
	check(Events(p, func(formats.Skip) {}, func(e event.Event) error { events = append(events, e); return nil }))
	if len(events) != 1 || events[0].Time < before.UnixNano() || events[0].Time > time.Now().UnixNano() || events[0].PID != pid {
		t.Errorf("events %+v", events)
	}
}
