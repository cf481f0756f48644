package docker

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/storage"

	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/target"
)

func open(t *testing.T, host string) *Runtime {
	t.Helper()
	r, err := New(target.Places{DockerHost: host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
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

func records(c *target.Container) []string {
	var out []string
	for _, r := range c.Records {
		out = append(out, r.Name)
	}
	return out
}

func TestRunning(t *testing.T) {
	l := lab.Need(t, lab.Docker)
	dir := t.TempDir()
	t.Cleanup(func() { // after the container's own removal
		if out, err := exec.Command("docker", "-H", l.DockerHost(), "volume", "rm", "-f", "sherd-vol-test").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Docker, Image: "goweb", Volumes: []string{dir + ":/data:ro", "sherd-vol-test:/state"}, Tmpfs: []string{"/scratch"},
		CapAdd: []string{"SYS_PTRACE"}, User: "0:0",
		Labels: map[string]string{"io.kubernetes.pod.name": "shop", "io.kubernetes.pod.namespace": "web", "io.kubernetes.pod.uid": "u1", "io.kubernetes.container.name": "app"}})
	r := open(t, l.DockerHost())
	c := find(t, r, lc.Name)
	if c.URL != lc.Target || c.Runtime != "docker" || c.ID != lc.ID || c.State != target.Running || c.PID != lc.PID || c.User != "0:0" {
		t.Errorf("%+v", c)
	}
	if c.Image.Name != lc.Ref || c.Image.Digest != lc.Digest || !strings.HasPrefix(c.Image.ConfigID, "sha256:") || len(c.Image.DiffIDs) < 2 {
		t.Errorf("image %+v", c.Image)
	}
	if !slices.Equal(c.Entrypoint, []string{"/app/server"}) || c.CgroupPath != "/docker/"+c.ID {
		t.Errorf("entrypoint %q, cgroup %q", c.Entrypoint, c.CgroupPath)
	}
	if c.Pod == nil || *c.Pod != (target.Pod{Name: "shop", Namespace: "web", UID: "u1", Container: "app"}) {
		t.Errorf("pod %+v", c.Pod)
	}
	if !slices.Equal(c.Privileges, []string{"CAP_SYS_PTRACE"}) {
		t.Errorf("privileges %q", c.Privileges)
	}
	if time.Since(c.Started) > time.Minute || c.Created.After(c.Started) || !c.Finished.IsZero() {
		t.Errorf("times %v %v %v", c.Created, c.Started, c.Finished)
	}
	checkLayers(t, c)
	want := map[string]target.Mount{"/data": {Type: "bind", Source: dir, ReadOnly: true}, "/state": {Type: "volume", Name: "sherd-vol-test"}, "/scratch": {Type: "tmpfs"}, "/etc/hosts": {Type: "bind"}}
	for _, m := range c.Mounts {
		w, ok := want[m.Destination]
		if !ok {
			continue
		}
		delete(want, m.Destination)
		if m.Type != w.Type || w.Source != "" && m.Source != w.Source || m.ReadOnly != w.ReadOnly || m.Name != w.Name {
			t.Errorf("mount %+v", m)
		}
	}
	if len(want) > 0 {
		t.Errorf("missing mounts %v", want)
	}
	if len(c.Logs) != 1 || c.Logs[0] != (target.LogFile{Path: lc.LogPath, Format: "json-file"}) {
		t.Errorf("logs %v", c.Logs)
	}
	if got := records(c); !slices.Equal(got, []string{"inspect.json", "image-inspect.json", "image-history.json", "image-config.json", "config.json", "docker-config.v2.json", "docker-hostconfig.json"}) {
		t.Errorf("records %v", got)
	}
	for _, rec := range c.Records {
		if !json.Valid(rec.Data) {
			t.Errorf("%s is no JSON", rec.Name)
		}
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings %q", c.Warnings)
	}
	// By the beginning of its id too, and in the list.
	if find(t, r, c.ID[:12]).ID != c.ID {
		t.Error("not found by id")
	}
	all, err := r.List(context.Background())
	if err != nil || !slices.ContainsFunc(all, func(o *target.Container) bool {
		return o.ID == c.ID && o.PID == c.PID && o.Rootfs.Upper == c.Rootfs.Upper
	}) {
		t.Errorf("not in the list: %v", err)
	}
}

func checkLayers(t *testing.T, c *target.Container) {
	t.Helper()
	fs := c.Rootfs
	if fs.Driver != "overlay" || fs.Upper == "" || fs.Work == "" || len(fs.Layers) != len(c.Image.DiffIDs)+1 {
		t.Fatalf("root %+v", fs)
	}
	for i, l := range fs.Layers {
		if _, err := os.Stat(l.Dir); err != nil {
			t.Error(err)
		}
		if last := i == len(fs.Layers)-1; l.Init != last || !last && (l.DiffID != c.Image.DiffIDs[i] || !strings.HasPrefix(l.Digest, "sha256:")) {
			t.Errorf("layer %d: %+v", i, l)
		}
	}
	// The base files are the lowest, the application the highest.
	if _, err := os.Stat(filepath.Join(fs.Layers[len(fs.Layers)-2].Dir, "app/server")); err != nil {
		t.Error(err)
	}
}

func TestStates(t *testing.T) {
	l := lab.Need(t, lab.Docker)
	r := open(t, l.DockerHost())
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Docker, Image: "goweb"})
	if err := lc.Pause(); err != nil {
		t.Fatal(err)
	}
	if c := find(t, r, lc.Name); c.State != target.Paused || c.PID != lc.PID {
		t.Errorf("paused: %s %d", c.State, c.PID)
	}
	if err := lc.Unpause(); err != nil {
		t.Fatal(err)
	}
	if err := lc.Kill(); err != nil {
		t.Fatal(err)
	}
	c := find(t, r, lc.Name)
	for range 50 { // Docker notices a moment later
		if c.State == target.Exited {
			break
		}
		time.Sleep(100 * time.Millisecond)
		c = find(t, r, lc.Name)
	}
	if c.State != target.Exited || c.PID != 0 || c.ExitCode != 137 || c.Finished.IsZero() {
		t.Errorf("exited: %s %d %d %v", c.State, c.PID, c.ExitCode, c.Finished)
	}
	checkLayers(t, c)

	name := lc.Name + "-created"
	if out, err := exec.Command("docker", "-H", l.DockerHost(), "create", "--read-only", "--log-driver", "local", "--name", name, lc.Ref).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("docker", "-H", l.DockerHost(), "rm", "-f", name).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	c = find(t, r, name)
	if c.State != target.Created || c.PID != 0 || !c.Started.IsZero() || !c.Rootfs.ReadOnly {
		t.Errorf("created: %s %d %v %v", c.State, c.PID, c.Started, c.Rootfs.ReadOnly)
	}
	if len(c.Logs) != 1 || c.Logs[0].Format != "local" || !strings.HasSuffix(c.Logs[0].Path, c.ID+"/local-logs/container.log") {
		t.Errorf("logs %v", c.Logs)
	}
}

// TestVFS follows the layer store of the driver that the API tells nothing about.
func TestVFS(t *testing.T) {
	l := lab.Need(t, lab.Docker)
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Docker, Image: "goweb", Storage: "vfs"})
	c := find(t, open(t, l.DockerHostVFS()), lc.Name)
	if c.Rootfs.Driver != "vfs" || c.Rootfs.Upper != "" || len(c.Rootfs.Layers) != len(c.Image.DiffIDs)+1 || len(c.Warnings) > 0 {
		t.Fatalf("root %+v, %d layers in the image, warnings %q", c.Rootfs, len(c.Image.DiffIDs), c.Warnings)
	}
	if _, err := os.Stat(c.Rootfs.Merged + "/app/server"); err != nil {
		t.Error(err)
	}
	for i, l := range c.Rootfs.Layers {
		if !l.Whole || l.Init != (i == len(c.Image.DiffIDs)) || !l.Init && l.DiffID != c.Image.DiffIDs[i] {
			t.Errorf("layer %d: %+v", i, l)
		}
		if _, err := os.Stat(l.Dir); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(c.Rootfs.Layers[len(c.Image.DiffIDs)-1].Dir + "/app/server"); err != nil {
		t.Error(err)
	}
}

// TestSnapshotter gives a container the answers of a Docker that keeps its images in containerd: no driver's data.
func TestSnapshotter(t *testing.T) {
	l := lab.Need(t, lab.Docker)
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Docker, Image: "goweb"})
	r := open(t, l.DockerHost())
	in, err := r.inspect(context.Background(), lc.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := r.fill(context.Background(), in).Rootfs
	in.GraphDriver, in.Driver = nil, ""
	in.Storage = &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: "overlayfs"}}}
	c := r.fill(context.Background(), in)
	if c.Rootfs.Driver != "overlay" || c.Rootfs.Upper != want.Upper || len(c.Rootfs.Layers) != len(want.Layers) || len(c.Warnings) > 0 {
		t.Fatalf("running: %+v, warnings %q", c.Rootfs, c.Warnings)
	}
	for i := range want.Layers {
		if w, g := want.Layers[i], c.Rootfs.Layers[i]; g.Dir != w.Dir || g.DiffID != w.DiffID || g.Init != w.Init {
			t.Errorf("layer %d: %+v, want %+v", i, g, w)
		}
	}
	// One that does not run is asked for in containerd, which here has no snapshot of it: said, not guessed.
	in.State.Pid, in.State.Status = 0, "exited"
	r.places.ContainerdAddress = l.ContainerdAddress()
	c = r.fill(context.Background(), in)
	if c.Rootfs.Driver != "" || !strings.Contains(strings.Join(c.Warnings, "\n"), "where the container's files lie is not known") {
		t.Errorf("exited: %+v, warnings %q", c.Rootfs, c.Warnings)
	}
}

func TestNotFound(t *testing.T) {
	l := lab.Need(t, lab.Docker)
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Docker, Image: "goweb"})
	r := open(t, l.DockerHost())
	_, err := r.Find(context.Background(), lc.Name+"x")
	var nf *target.NotFoundError
	if !errors.As(err, &nf) || !slices.Contains(nf.Near, lc.Name) || !strings.Contains(err.Error(), "`sherd targets`") {
		t.Errorf("%v", err)
	}
}

func TestPick(t *testing.T) {
	all := []container.Summary{{ID: "abc1", Names: []string{"/other/alias", "/web"}, State: "running"}, {ID: "abc2", Names: []string{"/abc1x"}, State: "exited"}}
	for ref, want := range map[string]string{"web": "abc1", "abc1": "abc1", "abc2": "abc2", "abc1x": "abc2"} {
		if got, err := pick(all, ref); err != nil || got != want {
			t.Errorf("%s: %q %v", ref, got, err)
		}
	}
	if _, err := pick(all, "abc"); err == nil || !strings.Contains(err.Error(), "2 Docker containers") {
		t.Errorf("%v", err)
	}
}

func TestDeadSockets(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	plain := filepath.Join(dir, "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"unix://" + dead:             "the socket is dead",
		plain:                        "the socket is dead", // connect(2) on a file that is no socket is refused too
		"unix://" + dir + "/missing": "no socket at",
		"ssh://somewhere":            "can't be reached by ssh://",
		"somewhere":                  "is no address",
	} {
		if _, err := New(target.Places{DockerHost: host}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", host, err, want)
		}
	}
}

// TestSilentSocket meets a daemon that accepts and says nothing.
func TestSilentSocket(t *testing.T) {
	at := filepath.Join(t.TempDir(), "mute.sock")
	ln, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := open(t, at)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err = r.Find(ctx, "x")
	var silent *target.SilentError
	if !errors.As(err, &silent) || !strings.Contains(err.Error(), "accepted the connection but did not answer") {
		t.Errorf("%v", err)
	}
}
