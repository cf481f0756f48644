package podman

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/target"
)

// TestService asks a service that the user names where its storage is.
func TestService(t *testing.T) {
	l := lab.Need(t, lab.Podman)
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Podman, Image: "goweb"})
	at := filepath.Join(t.TempDir(), "podman.sock")
	cmd := exec.Command("podman", "--root", l.PodmanRoot(), "--runroot", l.PodmanRunRoot(), "--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime", "runc",
		"system", "service", "--time", "0", "unix://"+at)
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+filepath.Join(filepath.Dir(l.PodmanRunRoot()), "containers.conf"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		cmd.Wait()         //nolint:errcheck // it was killed
	})
	var r *Runtime
	var err error
	for range 100 {
		if r, err = New(target.Places{PodmanHost: "unix://" + at}); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := find(t, r, lc.Name)
	if c.PID != lc.PID || len(c.Warnings) > 0 || !slices.ContainsFunc(c.Records, func(rec target.Record) bool {
		return rec.Name == "inspect.json" && strings.Contains(string(rec.Data), lc.ID)
	}) {
		t.Errorf("%+v", c)
	}
	for host, want := range map[string]string{"ssh://x": "can't be reached by ssh://", at + "x": "no socket at"} {
		if _, err := New(target.Places{PodmanHost: host}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", host, err)
		}
	}
}
