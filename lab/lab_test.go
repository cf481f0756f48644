package lab_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/lab"
)

// everywhere is each way in which the lab can run a container.
func everywhere(image string) map[string]lab.RunSpec {
	return map[string]lab.RunSpec{
		"docker":            {Image: image, Runtime: lab.Docker},
		"docker vfs":        {Image: image, Runtime: lab.Docker, Storage: "vfs"},
		"containerd":        {Image: image, Runtime: lab.Containerd},
		"containerd native": {Image: image, Runtime: lab.Containerd, Snapshotter: "native"},
		"podman":            {Image: image, Runtime: lab.Podman},
		"podman vfs":        {Image: image, Runtime: lab.Podman, Storage: "vfs"},
		"runc":              {Image: image, Runtime: lab.Runc},
	}
}

// A container runs in every runtime, on either network, does what it is asked for, and is gone when removed.
func TestGoWebEverywhere(t *testing.T) {
	for name, s := range everywhere("goweb") {
		for _, host := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s host network %v", name, host), func(t *testing.T) {
				l := lab.Need(t, s.Runtime)
				dir := t.TempDir()
				if err := os.WriteFile(filepath.Join(dir, "file"), []byte("from the host"), 0o644); err != nil {
					t.Fatal(err)
				}
				s.HostNetwork, s.ReadOnly, s.Tmpfs = host, true, []string{"/data"}
				s.Volumes, s.Env, s.Labels = []string{dir + ":/mnt:ro"}, []string{"COLOUR=blue"}, map[string]string{"team": "shop"}
				c := l.Run(t, s)
				status, body, err := c.Get("/?item=7")
				if err != nil || status != 200 || !strings.Contains(body, "Item 7") {
					t.Errorf("GET / gave %d %q, %v", status, body, err)
				}
				proc := fmt.Sprintf("/proc/%d/", c.PID)
				if exe, err := os.Readlink(proc + "exe"); err != nil || exe != "/app/server" {
					t.Errorf("process %d runs %q, %v", c.PID, exe, err)
				}
				if env, err := os.ReadFile(proc + "environ"); err != nil || !strings.Contains(string(env), "COLOUR=blue\x00") {
					t.Errorf("environment %q, %v", env, err)
				}
				if status, err := os.ReadFile(proc + "status"); err != nil || !strings.Contains(string(status), "Uid:\t65532\t") {
					t.Errorf("does not run as nonroot: %s, %v", status, err)
				}
				if b, err := os.ReadFile(proc + "root/mnt/file"); err != nil || string(b) != "from the host" {
					t.Errorf("the volume shows %q, %v", b, err)
				}
				if _, err := os.Stat(proc + "root/data/cache/item-7.html"); err != nil {
					t.Error(err)
				}
				logged(t, c, "item=7")
				if c.Target == "" || !strings.HasPrefix(c.Digest, "sha256:") {
					t.Errorf("target %q, digest %q", c.Target, c.Digest)
				}
				pid := c.PID
				if err := c.Remove(); err != nil {
					t.Error(err)
				}
				if _, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
					t.Errorf("process %d outlived its container", pid)
				}
			})
		}
	}
}

// logged waits until the container's log file holds the text: runtimes write it a moment later.
func logged(t *testing.T, c *lab.Container, text string) {
	t.Helper()
	var log []byte
	var err error
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if log, err = os.ReadFile(c.LogPath); err == nil && strings.Contains(string(log), text) {
			return
		}
	}
	t.Errorf("log %s has no %q: %q, %v", c.LogPath, text, log, err)
}

// The interpreters run without a shell, everywhere, and serve an honest load with a log rotated under them.
func TestInterpretersEverywhere(t *testing.T) {
	for _, image := range []string{"pyweb", "nodeweb"} {
		for name, s := range everywhere(image) {
			if s.Snapshotter == "native" || s.Storage == "vfs" {
				continue // whole copies of a large image, which shows nothing that goweb does not
			}
			t.Run(image+" "+name, func(t *testing.T) {
				l := lab.Need(t, s.Runtime)
				s.Env = []string{"BUSY=1"}
				c := l.Run(t, s)
				busy(t, c)
			})
		}
	}
}

func TestBusyGoWeb(t *testing.T) {
	l := lab.Need(t, lab.Docker)
	busy(t, l.Run(t, lab.RunSpec{Runtime: lab.Docker, Image: "goweb", Env: []string{"BUSY=1"}}))
}

func busy(t *testing.T, c *lab.Container) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	n, err := c.Busy(ctx)
	if err != nil || n < 10 {
		t.Errorf("%d requests answered, %v", n, err)
	}
	var open []string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.PID))
		if err != nil {
			t.Fatal(err)
		}
		open = nil
		for _, l := range links {
			to, _ := os.Readlink(l)
			open = append(open, to)
			if to == "/data/app.log (deleted)" {
				return
			}
		}
	}
	t.Errorf("no deleted log is open: %q", open)
}

// The stages of a container's life, in each runtime.
func TestLife(t *testing.T) {
	for name, s := range everywhere("goweb") {
		t.Run(name, func(t *testing.T) {
			l := lab.Need(t, s.Runtime)
			c := l.Run(t, s)
			if err := c.Pause(); err != nil {
				t.Fatal(err)
			}
			if err := quickly(c); err == nil {
				t.Error("a paused container answers")
			}
			if err := c.Unpause(); err != nil {
				t.Fatal(err)
			}
			if err := quickly(c); err != nil {
				t.Error(err)
			}
			if err := c.Stop(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.PID)); err == nil {
				t.Error("a stopped container's process lives")
			}
			d := l.Run(t, s)
			if err := d.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := d.Remove(); err != nil {
				t.Error(err)
			}
			if err := d.Remove(); err != nil {
				t.Errorf("removing it again: %v", err)
			}
		})
	}
}

// quickly asks for the container's health and does not wait long.
func quickly(c *lab.Container) error {
	client := http.Client{Timeout: 300 * time.Millisecond}
	resp, err := client.Get(c.URL + "/healthz")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
