package procfs_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/procfs"
)

func find(t *testing.T, pid int) (*target.Container, error) {
	t.Helper()
	r, err := procfs.New(target.Places{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Find(context.Background(), strconv.Itoa(pid))
}

// TestEveryRuntime finds a container of each runtime with none of them asked, and agrees with the runtime.
func TestEveryRuntime(t *testing.T) {
	l := lab.Need(t)
	for _, s := range []lab.RunSpec{
		{Runtime: lab.Docker, Image: "goweb"}, {Runtime: lab.Containerd, Image: "goweb"}, {Runtime: lab.Containerd, Image: "goweb", Snapshotter: "native"},
		{Runtime: lab.Podman, Image: "goweb"}, {Runtime: lab.Runc, Image: "goweb"},
	} {
		t.Run(s.Runtime+s.Snapshotter, func(t *testing.T) {
			c := l.Run(t, s)
			got, err := find(t, c.PID)
			if err != nil {
				t.Fatal(err)
			}
			if got.PID != c.PID || got.ID != c.ID || got.State != target.Running || len(got.Warnings) > 0 {
				t.Errorf("pid %d id %s state %s, want %d %s; warnings %q", got.PID, got.ID, got.State, c.PID, c.ID, got.Warnings)
			}
			if s.Runtime != lab.Runc && got.Name != c.Name {
				t.Errorf("name %q, want %q", got.Name, c.Name)
			}
			if age := time.Since(got.Started); age < 0 || age > time.Minute {
				t.Errorf("started %v ago", age)
			}
			var names []string
			for _, r := range got.Records {
				names = append(names, r.Name)
			}
			if !strings.Contains(strings.Join(names, " "), "config.json") {
				t.Errorf("records %v", names)
			}
			plain := s.Runtime == lab.Runc || s.Snapshotter == "native"
			switch {
			case plain && (got.Rootfs.Merged == "" || !exists(got.Rootfs.Merged+"/app/server")):
				t.Errorf("root %+v", got.Rootfs)
			case !plain && (got.Rootfs.Driver != "overlay" || !exists(got.Rootfs.Upper) || len(got.Rootfs.Layers) < 2):
				t.Errorf("root %+v", got.Rootfs)
			}
			if s.Runtime == lab.Docker && (got.Image.Name != c.Ref || len(got.Logs) != 1 || got.Logs[0].Path != c.LogPath || !got.Rootfs.Layers[len(got.Rootfs.Layers)-1].Init) {
				t.Errorf("of Docker's files: image %q logs %v layers %v", got.Image.Name, got.Logs, got.Rootfs.Layers)
			}
			if s.Runtime == lab.Podman && (len(got.Logs) != 1 || got.Logs[0].Path != c.LogPath) {
				t.Errorf("logs %v, want %s", got.Logs, c.LogPath)
			}
		})
	}
}

func exists(p string) bool {
	_, err := os.Lstat(p)
	return err == nil
}

// TestOtherProcesses leads from a process that is not the first one to its container, and says so.
func TestOtherProcesses(t *testing.T) {
	l := lab.Need(t, lab.Docker)
	testenv.NeedTool(t, "nsenter")
	c := l.Run(t, lab.RunSpec{Runtime: lab.Docker, Image: "goweb"})

	cmd := exec.Command("nsenter", "-t", strconv.Itoa(c.PID), "-p", "-n", "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Only nsenter may collect its child, or the pid namespace stays until the machine's init does it.
		for _, pid := range children(cmd.Process.Pid) {
			syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // it may have ended
		}
		cmd.Wait() //nolint:errcheck // it passes on that its child was killed
	})
	var inside int
	for range 100 {
		if k := children(cmd.Process.Pid); len(k) == 1 {
			inside = k[0]
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	got, err := find(t, inside)
	if err != nil {
		t.Fatal(err)
	}
	if got.PID != c.PID || !strings.Contains(strings.Join(got.Warnings, "\n"), fmt.Sprintf("pid://%d was asked for; that process shares the container's pid namespace but is not in its cgroup", inside)) {
		t.Errorf("pid %d, want %d; %q", got.PID, c.PID, got.Warnings)
	}
}

func children(pid int) []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var out []int
	for f := range strings.FieldsSeq(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			out = append(out, n)
		}
	}
	return out
}

func TestPaused(t *testing.T) {
	l := lab.Need(t, lab.Containerd)
	c := l.Run(t, lab.RunSpec{Runtime: lab.Containerd, Image: "goweb"})
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	defer c.Unpause() //nolint:errcheck // the container is removed anyway
	got, err := find(t, c.PID)
	if err != nil || got.State != target.Paused {
		t.Fatalf("%v, state %v", err, got)
	}
}

// TestNotAContainer says clearly why a process of the machine's is no target, also one with mounts or a pid namespace of its own.
func TestNotAContainer(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "unshare")
	for _, c := range []struct {
		name string
		argv []string
		want string
	}{
		{"plain", []string{"sleep", "60"}, "runs in no container"},
		{"private mounts", []string{"unshare", "-m", "sleep", "60"}, "runs in no container"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(c.argv[0], c.argv[1:]...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()         //nolint:errcheck // it was killed
			defer cmd.Process.Kill() //nolint:errcheck // it may have ended
			time.Sleep(100 * time.Millisecond)
			if _, err := find(t, cmd.Process.Pid); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v", err)
			}
		})
	}
	for ref, want := range map[string]string{"0": "named by its number", "x": "named by its number", "99999999": "there is no process 99999999", "2": "thread of the kernel"} {
		r, err := procfs.New(target.Places{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Find(context.Background(), ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("pid://%s: error %v", ref, err)
		}
	}
}
