package podman

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/target"
)

func open(t *testing.T, root, runRoot string) *Runtime {
	t.Helper()
	r, err := New(target.Places{PodmanRoot: root, PodmanRunRoot: runRoot})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func find(t *testing.T, r *Runtime, ref string) *target.Container {
	t.Helper()
	c, err := r.Find(context.Background(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRunning(t *testing.T) {
	l := lab.Need(t, lab.Podman)
	dir := t.TempDir()
	t.Cleanup(func() { // after the container's own removal
		cmd := exec.Command("podman", "--root", l.PodmanRoot(), "--runroot", l.PodmanRunRoot(), "--cgroup-manager=cgroupfs", "--events-backend=file", "volume", "rm", "-f", "sherd-vol-test")
		cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+filepath.Join(filepath.Dir(l.PodmanRunRoot()), "containers.conf"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Podman, Image: "goweb", Volumes: []string{dir + ":/data:ro", "sherd-vol-test:/state"}, CapAdd: []string{"SYS_PTRACE"}, ReadOnly: true,
		Labels: map[string]string{"io.kubernetes.pod.name": "shop", "io.kubernetes.container.name": "app", "team": "blue"}})
	// With its storage named, and found by the conmon that runs.
	for name, r := range map[string]*Runtime{"named": open(t, l.PodmanRoot(), l.PodmanRunRoot()), "root only": open(t, l.PodmanRoot(), ""), "discovered": open(t, "", "")} {
		t.Run(name, func(t *testing.T) {
			c := find(t, r, lc.Name)
			if c.URL != lc.Target || c.Runtime != "podman" || c.ID != lc.ID || c.State != target.Running || c.PID != lc.PID {
				t.Errorf("%+v", c)
			}
			if c.Image.Name != lc.Ref || c.Image.Digest != lc.Digest || len(c.Image.DiffIDs) < 2 {
				t.Errorf("image %+v", c.Image)
			}
			if c.Pod == nil || c.Pod.Name != "shop" || c.Labels["team"] != "blue" {
				t.Errorf("pod %+v labels %v", c.Pod, c.Labels)
			}
			if !slices.Contains(c.Privileges, "CAP_SYS_PTRACE") || !c.Rootfs.ReadOnly || len(c.Warnings) > 0 {
				t.Errorf("privileges %q warnings %q", c.Privileges, c.Warnings)
			}
			if len(c.Logs) != 1 || c.Logs[0] != (target.LogFile{Path: lc.LogPath, Format: "k8s-file"}) {
				t.Errorf("logs %v", c.Logs)
			}
			if !slices.ContainsFunc(c.Mounts, func(m target.Mount) bool {
				return m.Destination == "/data" && m.Source == dir && m.ReadOnly && m.Type == "bind"
			}) ||
				!slices.ContainsFunc(c.Mounts, func(m target.Mount) bool {
					return m.Destination == "/state" && m.Type == "volume" && m.Name == "sherd-vol-test"
				}) {
				t.Errorf("mounts %+v", c.Mounts)
			}
			if age := time.Since(c.Started); age < 0 || age > 2*time.Minute || c.Created.After(c.Started) {
				t.Errorf("started %v ago", age)
			}
			checkLayers(t, c, false)
			want := []string{"containers-entry.json", "config.json", "libpod-config.json", "libpod-state.json", "image-manifest.json", "image-config.json"}
			for _, rec := range c.Records {
				if i := slices.Index(want, rec.Name); i >= 0 {
					want = slices.Delete(want, i, i+1)
				}
				if strings.HasSuffix(rec.Name, ".json") && !json.Valid(rec.Data) {
					t.Errorf("%s is no JSON", rec.Name)
				}
			}
			if len(want) > 0 {
				t.Errorf("records lack %v", want)
			}
		})
	}
}

func checkLayers(t *testing.T, c *target.Container, whole bool) {
	t.Helper()
	if len(c.Rootfs.Layers) != len(c.Image.DiffIDs) || len(c.Rootfs.Layers) == 0 {
		t.Fatalf("%d layers of %d: %+v", len(c.Rootfs.Layers), len(c.Image.DiffIDs), c.Rootfs)
	}
	for i, l := range c.Rootfs.Layers {
		if _, err := os.Stat(l.Dir); err != nil {
			t.Error(err)
		}
		if l.Whole != whole || l.DiffID != c.Image.DiffIDs[i] || !strings.HasPrefix(l.Digest, "sha256:") {
			t.Errorf("layer %d: %+v", i, l)
		}
	}
	if _, err := os.Stat(c.Rootfs.Layers[len(c.Rootfs.Layers)-1].Dir + "/app/server"); err != nil {
		t.Error(err)
	}
	root := c.Rootfs.Upper
	if whole {
		root = c.Rootfs.Merged + "/app/server"
	}
	if _, err := os.Stat(root); err != nil {
		t.Error(err)
	}
}

func TestVFS(t *testing.T) {
	l := lab.Need(t, lab.Podman)
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Podman, Image: "goweb", Storage: "vfs"})
	c := find(t, open(t, l.PodmanRoot()+"-vfs", l.PodmanRunRoot()+"-vfs"), lc.Name)
	if c.Rootfs.Driver != "vfs" || c.Rootfs.Upper != "" || c.PID != lc.PID || len(c.Warnings) > 0 {
		t.Fatalf("%+v, warnings %q", c.Rootfs, c.Warnings)
	}
	checkLayers(t, c, true)
}

func TestStates(t *testing.T) {
	l := lab.Need(t, lab.Podman)
	r := open(t, l.PodmanRoot(), l.PodmanRunRoot())
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Podman, Image: "goweb"})
	if err := lc.Pause(); err != nil {
		t.Fatal(err)
	}
	if c := find(t, r, lc.ID[:16]); c.State != target.Paused || c.PID != lc.PID {
		t.Errorf("paused: %s %d", c.State, c.PID)
	}
	if err := lc.Unpause(); err != nil {
		t.Fatal(err)
	}
	if err := lc.Kill(); err != nil {
		t.Fatal(err)
	}
	c := find(t, r, lc.Name)
	for range 50 { // conmon runs podman's cleanup a moment later
		if c.State == target.Exited && c.ExitCode == 137 {
			break
		}
		time.Sleep(100 * time.Millisecond)
		c = find(t, r, lc.Name)
	}
	if c.State != target.Exited || c.PID != 0 || c.ExitCode != 137 || c.Finished.IsZero() {
		t.Errorf("exited: %s %d %d %v %q", c.State, c.PID, c.ExitCode, c.Finished, c.Warnings)
	}
	checkLayers(t, c, false)
}

func TestNotFound(t *testing.T) {
	l := lab.Need(t, lab.Podman)
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Podman, Image: "goweb"})
	_, err := open(t, l.PodmanRoot(), l.PodmanRunRoot()).Find(context.Background(), lc.Name+"x")
	var nf *target.NotFoundError
	if !errors.As(err, &nf) || !slices.Contains(nf.Near, lc.Name) {
		t.Errorf("%v", err)
	}
}

func TestNoStorage(t *testing.T) {
	_, err := New(target.Places{PodmanRoot: t.TempDir()})
	var silent *target.SilentError
	if !errors.As(err, &silent) || !silent.Absent || !strings.Contains(err.Error(), "overlay-containers") {
		t.Errorf("%v", err)
	}
}

// TestDamaged reads a storage that somebody wrote to mislead: indexes that point elsewhere, go in circles, or are no JSON.
func TestDamaged(t *testing.T) {
	testenv.NeedRoot(t) // O_NOATIME needs the owner
	id, layer := strings.Repeat("a", 64), strings.Repeat("b", 64)
	write := func(t *testing.T, root, name, text string) {
		t.Helper()
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root := t.TempDir()
	write(t, root, "overlay-containers/containers.json", `[{"id":"../../etc","names":["x"]},{"id":"`+id+`","names":["web"],"image":"../../x","layer":"`+layer+`","metadata":"{"},7]`)
	write(t, root, "overlay-layers/layers.json", `[{"id":"`+layer+`","parent":"`+layer+`"},{"id":"../up"}]`)
	write(t, root, "overlay-images/images.json", `nonsense`)
	write(t, root, "libpod/bolt_state.db", strings.Repeat("\xed\xda\x0c\xed", 4096))
	r := open(t, root, "")
	all, err := r.List(context.Background())
	if err != nil || len(all) != 1 || all[0].ID != id {
		t.Fatalf("%v %v", all, err)
	}
	c := find(t, r, "web")
	if len(c.Rootfs.Layers) > maxLayers {
		t.Errorf("%d layers", len(c.Rootfs.Layers))
	}
	all2 := strings.Join(c.Warnings, "\n")
	for _, want := range []string{"images.json is damaged", "database can't be read", "metadata of the container is damaged", "OCI configuration can't be read"} {
		if !strings.Contains(all2, want) {
			t.Errorf("no warning %q in\n%s", want, all2)
		}
	}
	write(t, root, "overlay-containers/containers.json", `{`)
	if _, err := r.List(context.Background()); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("%v", err)
	}
}
