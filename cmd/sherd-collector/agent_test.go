package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/internal/testenv"
)

const asProgram = "SHERD_TEST_AS_COLLECTOR"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// TestHostCgroups: a collector that is started in a cgroup namespace of its own leaves it, since there the other containers' cgroups
// are not to be found.
func TestHostCgroups(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedTool(t, "unshare")
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--cgroup", self, "wait", "--dir", dir, "--idle", "1m")
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for range 200 {
		if _, err := os.Stat(filepath.Join(dir, "sock")); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	ours, err := os.Readlink("/proc/self/ns/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/task/*/ns/cgroup")
	if err != nil || len(tasks) == 0 {
		t.Fatalf("%v: %s", err, said.String())
	}
	for _, task := range tasks {
		if ns, err := os.Readlink(task); err != nil || ns != ours {
			t.Errorf("%s is %s (%v), not the host's %s\n%s", task, ns, err, ours, said.String())
		}
	}
}
