package process

import (
	"fmt"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
)

// Somebody in the same network namespace, in a folder of the container's root and with one of its files in hand, is told of, and no more of
// it is taken than that.
func TestSharing(t *testing.T) {
	testenv.NeedTool(t, "nsenter")
	o := newOverlay(t)
	pid := startAs(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}, "pivot", o.rootfs.Merged, "/app/server", "hold", "/data", "x")
	s := of(t, pid)
	s.Container.Rootfs = o.rootfs
	if got := capture(t, s, Options{}); got.has("process/sharing.jsonl") {
		t.Error("rows although nobody shares anything")
	}
	const script = "cd /proc/%d/root/data && exec 5<>/proc/%d/root/data/shared 6</etc/passwd && exec sleep 60"
	cmd := exec.Command("nsenter", "-t", fmt.Sprint(pid), "-n", "sh", "-c", fmt.Sprintf(script, pid, pid))
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var rows []record.Sharer
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		rows = nil
		if got := capture(t, s, Options{}); got.has("process/sharing.jsonl") {
			for r := range lines[record.Sharer](got, "process/sharing.jsonl") {
				rows = append(rows, r)
			}
		}
		if len(rows) == 1 && rows[0].Comm == "sleep" {
			break
		}
	}
	if len(rows) != 1 {
		t.Fatalf("rows %+v", rows)
	}
	r := rows[0]
	if r.PID != cmd.Process.Pid || !slices.Equal(r.Shares, []string{"net"}) || r.Comm != "sleep" || r.UID != 0 || r.StartTime == 0 || r.Cgroup == "" || r.Namespaces["net"] == 0 || r.Exe == "" {
		t.Errorf("row %+v", r)
	}
	want := []record.Hold{{What: "cwd", FD: -1, Part: "folder", Target: "/data"}, {What: "fd", FD: 5, Part: "file", Target: "/data/shared", Writable: true}}
	if !slices.Equal(r.Holds, want) {
		t.Errorf("holds %+v, want %+v", r.Holds, want)
	}
}

func TestWhatOfAProcess(t *testing.T) {
	for link, want := range map[string][]string{
		"/proc/1/mem": {"1", "mem"}, "/proc/31/task/33/environ": {"31", "environ"}, "/proc/1/root": nil, "/proc/self/mem": nil, "/proc/99999999999/mem": nil, "/x/proc/1/mem": nil, "/proc/1/mem2": nil,
	} {
		m := ofProcess.FindStringSubmatch(link)
		if (m == nil) != (want == nil) || m != nil && !slices.Equal(m[1:], want) {
			t.Errorf("%s: %q, want %q", link, m, want)
		}
	}
}
