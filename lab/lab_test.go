package lab_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/lab"
)

func TestMain(m *testing.M) {
	os.Exit(m.Run())
}

func TestGoWebEverywhere(t *testing.T) {
	for _, s := range []lab.RunSpec{
		{Runtime: lab.Docker}, {Runtime: lab.Containerd}, {Runtime: lab.Containerd, Snapshotter: "native"},
		{Runtime: lab.Podman}, {Runtime: lab.Podman, Storage: "vfs"}, {Runtime: lab.Runc},
		{Runtime: lab.Docker, HostNetwork: true}, {Runtime: lab.Containerd, HostNetwork: true}, {Runtime: lab.Podman, HostNetwork: true}, {Runtime: lab.Runc, HostNetwork: true},
	} {
		t.Run(strings.TrimSuffix(fmt.Sprintf("%s-%s%s%v", s.Runtime, s.Snapshotter, s.Storage, s.HostNetwork), "-"), func(t *testing.T) {
			l := lab.Need(t, s.Runtime)
			s.Image = "goweb"
			c := l.Run(t, s)
			status, body, err := c.Get("/?item=7")
			if err != nil || status != 200 || !strings.Contains(body, "Item 7") {
				t.Fatalf("GET / gave %d %q, %v", status, body, err)
			}
			exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.PID))
			if err != nil || exe != "/app/server" {
				t.Errorf("process %d runs %q, %v", c.PID, exe, err)
			}
			t.Log(c.Target, c.URL, c.PID, c.LogPath)
		})
	}
}
