package target_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/containerd"
	"github.com/sherd-forensics/sherd/target/docker"
	"github.com/sherd-forensics/sherd/target/podman"
	"github.com/sherd-forensics/sherd/target/procfs"
)

// survey asks the lab's runtimes; none of the named ones.
func survey(t *testing.T, l *lab.Lab, without ...string) *target.Survey {
	t.Helper()
	p := target.Places{DockerHost: l.DockerHost(), ContainerdAddress: l.ContainerdAddress(), PodmanRoot: l.PodmanRoot(), PodmanRunRoot: l.PodmanRunRoot()}
	var rts []target.Runtime
	for _, k := range []struct {
		name string
		open func() (target.Runtime, error)
	}{{lab.Docker, func() (target.Runtime, error) { return docker.New(p) }}, {lab.Containerd, func() (target.Runtime, error) { return containerd.New(p) }},
		{lab.Podman, func() (target.Runtime, error) { return podman.New(p) }}} {
		if slices.Contains(without, k.name) {
			continue
		}
		rt, err := k.open()
		if err != nil {
			t.Fatal(err)
		}
		defer rt.Close()
		rts = append(rts, rt)
	}
	scan, err := procfs.New(p)
	if err != nil {
		t.Fatal(err)
	}
	sv, err := target.NewSurvey(context.Background(), rts, scan)
	if err != nil {
		t.Fatal(err)
	}
	return sv
}

func about(sv *target.Survey, pid int) []target.Anomaly {
	var out []target.Anomaly
	for _, a := range sv.Anomalies {
		if a.PID == pid {
			out = append(out, a)
		}
	}
	return out
}

// TestSurvey sees each container once, from the runtime that stands highest, and suspects none of them. Others may use the lab
// at the same time, so only this test's own containers count.
func TestSurvey(t *testing.T) {
	l := lab.Need(t)
	specs := []lab.RunSpec{
		{Runtime: lab.Docker, Image: "goweb"}, {Runtime: lab.Docker, Image: "goweb", HostNetwork: true}, {Runtime: lab.Containerd, Image: "goweb"},
		{Runtime: lab.Podman, Image: "goweb"}, {Runtime: lab.Runc, Image: "goweb"},
	}
	var cs []*lab.Container
	for _, s := range specs {
		cs = append(cs, l.Run(t, s))
	}
	if err := cs[2].Pause(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cs[2].Unpause() }) //nolint:errcheck // it is removed anyway
	// What runs beside a container by docker exec is the container's own.
	busy := exec.Command("docker", "-H", l.DockerHost(), "exec", "-e", "LISTEN=127.0.0.1:0", cs[0].Name, "/app/server")
	start(t, busy)
	time.Sleep(300 * time.Millisecond)
	sv := survey(t, l)
	for _, c := range cs {
		var found []*target.Container
		for _, o := range sv.Containers {
			if o.PID == c.PID {
				found = append(found, o)
			}
		}
		if len(found) != 1 {
			t.Fatalf("%s: found %d times", c.Name, len(found))
		}
		if want := map[string]string{lab.Docker: "docker", lab.Containerd: "containerd", lab.Podman: "podman", lab.Runc: "procfs"}[c.Runtime]; found[0].Runtime != want {
			t.Errorf("%s: told of by %s", c.Name, found[0].Runtime)
		}
		as := about(sv, c.PID)
		if c.Runtime == lab.Runc {
			if len(as) != 1 || as[0].Kind != target.HiddenContainer || as[0].Container != c.Target {
				t.Errorf("the container that no runtime knows: %+v", as)
			}
		} else if len(as) > 0 {
			t.Errorf("%s: %+v", c.Name, as)
		}
		for _, a := range sv.Anomalies {
			if a.Container == found[0].URL && a.PID != c.PID {
				t.Errorf("%s: %+v", c.Name, a)
			}
		}
	}
}

// TestHiddenFromDocker shows a container of Docker's that Docker, but not containerd, is asked for; and the other way round.
func TestHiddenFromDocker(t *testing.T) {
	l := lab.Need(t)
	c := l.Run(t, lab.RunSpec{Runtime: lab.Podman, Image: "goweb"})
	sv := survey(t, l, lab.Podman)
	if as := about(sv, c.PID); len(as) != 1 || as[0].Kind != target.HiddenContainer {
		t.Errorf("%+v", as)
	}
	c = l.Run(t, lab.RunSpec{Runtime: lab.Docker, Image: "goweb"})
	sv = survey(t, l, lab.Docker) // containerd, below Docker, admits to it
	if as := about(sv, c.PID); len(as) != 0 {
		t.Errorf("%+v", as)
	}
}

func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		cmd.Wait()         //nolint:errcheck // it was killed
	})
}

// TestStrays enters a container's namespaces from outside, in each way.
func TestStrays(t *testing.T) {
	l := lab.Need(t)
	testenv.NeedTool(t, "nsenter")
	for _, runtime := range []string{lab.Docker, lab.Containerd, lab.Podman} {
		c := l.Run(t, lab.RunSpec{Runtime: runtime, Image: "goweb"})
		for flag, word := range map[string]string{"-n": "network namespace", "-p": "pid namespace", "-m": "mount namespace"} {
			t.Run(runtime+flag, func(t *testing.T) {
				argv := []string{"-t", strconv.Itoa(c.PID), flag, "sleep", "60"}
				if flag == "-m" {
					argv = []string{"-t", strconv.Itoa(c.PID), flag, "/app/server"}
				}
				cmd := exec.Command("nsenter", argv...)
				cmd.Env = append(os.Environ(), "LISTEN=127.0.0.1:0")
				start(t, cmd)
				outer := cmd.Process.Pid
				pid := outer
				t.Cleanup(func() {
					// Only nsenter may collect its child, or the pid namespace stays until the machine's init does it.
					if killChildren(outer) {
						cmd.Wait() //nolint:errcheck // it passes on that its child was killed
					}
				})
				time.Sleep(300 * time.Millisecond)
				if flag == "-p" { // nsenter forks, and only its child is inside
					b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
					if err != nil {
						t.Fatal(err)
					}
					if pid, err = strconv.Atoi(strings.TrimSpace(string(b))); err != nil {
						t.Fatal(err)
					}
				}
				k, err := procfs.New(target.Places{})
				if err != nil {
					t.Fatal(err)
				}
				one := &target.Container{URL: c.Target, ID: c.ID, PID: c.PID}
				one.CgroupPath, _ = k.Confirm(c.PID, c.ID)
				if as, err := target.Check(context.Background(), one, k); err != nil || !slices.ContainsFunc(as, func(a target.Anomaly) bool { return a.PID == pid }) {
					t.Errorf("alone: %+v %v", as, err)
				}
				as := about(survey(t, l), pid)
				if len(as) != 1 || as[0].Kind != target.StrayProcess || as[0].Container != c.Target || !strings.Contains(as[0].Statement, word) {
					t.Errorf("%+v", as)
				}
			})
		}
	}
}

func killChildren(pid int) (killed bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return false
	}
	for f := range strings.FieldsSeq(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			killed = syscall.Kill(n, syscall.SIGKILL) == nil || killed
		}
	}
	return killed
}

// TestEscaped puts a process of the machine's into a container's cgroup, as an escape leaves it.
func TestEscaped(t *testing.T) {
	l := lab.Need(t, lab.Docker)
	c := l.Run(t, lab.RunSpec{Runtime: lab.Docker, Image: "goweb"})
	cmd := exec.Command("sleep", "60")
	start(t, cmd)
	groups, err := filepath.Glob("/sys/fs/cgroup/*/docker/" + c.ID + "/cgroup.procs")
	if err != nil || len(groups) == 0 {
		if groups, err = filepath.Glob("/sys/fs/cgroup/docker/" + c.ID + "/cgroup.procs"); err != nil || len(groups) == 0 {
			t.Fatalf("the container's cgroup was not found: %v", err)
		}
	}
	for _, g := range groups {
		if err := os.WriteFile(g, []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	as := about(survey(t, l), cmd.Process.Pid)
	if len(as) != 1 || as[0].Kind != target.EscapedProcess || as[0].Container != c.Target {
		t.Errorf("%+v", as)
	}
}
