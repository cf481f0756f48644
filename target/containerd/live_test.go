package containerd

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

	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/target"
)

func connect(t *testing.T, l *lab.Lab, namespace string) *Runtime {
	t.Helper()
	r, err := New(target.Places{ContainerdAddress: l.ContainerdAddress(), ContainerdNamespace: namespace})
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

func TestRunning(t *testing.T) {
	l := lab.Need(t, lab.Containerd)
	dir := t.TempDir()
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Containerd, Image: "goweb", Volumes: []string{dir + ":/data:ro"}, CapAdd: []string{"SYS_ADMIN"},
		Labels: map[string]string{"io.kubernetes.pod.name": "shop", "io.kubernetes.pod.namespace": "web", "io.kubernetes.pod.uid": "u1", "io.kubernetes.container.name": "app",
			"io.cri-containerd.kind": "container"}})
	r := connect(t, l, "")
	c := find(t, r, l.ContainerdNamespace()+"/"+lc.ID)
	if c.URL != lc.Target || c.ID != lc.ID || c.Name != "app" || c.State != target.Running || c.PID != lc.PID || c.Namespace != l.ContainerdNamespace() {
		t.Errorf("%+v", c)
	}
	if c.Image.Name != lc.Ref || c.Image.Digest != lc.Digest || len(c.Image.DiffIDs) < 2 {
		t.Errorf("image %+v", c.Image)
	}
	if c.Pod == nil || c.Pod.Name != "shop" || len(c.Logs) != 1 || c.Logs[0] != (target.LogFile{Path: "/var/log/pods/web_shop_u1/app/0.log", Format: "cri"}) {
		t.Errorf("pod %+v logs %v", c.Pod, c.Logs)
	}
	if !slices.Contains(c.Privileges, "CAP_SYS_ADMIN") || len(c.Warnings) > 0 {
		t.Errorf("privileges %q warnings %q", c.Privileges, c.Warnings)
	}
	if !slices.ContainsFunc(c.Mounts, func(m target.Mount) bool {
		return m.Destination == "/data" && m.Source == dir && m.ReadOnly && m.Type == "bind"
	}) {
		t.Errorf("mounts %+v", c.Mounts)
	}
	if age := time.Since(c.Started); age < 0 || age > time.Minute || c.Created.IsZero() {
		t.Errorf("started %v ago, created %v", age, c.Created)
	}
	checkLayers(t, c, false)
	want := []string{"config.json", "container.json", "image-manifest.json", "image-config.json"}
	for _, rec := range c.Records {
		if i := slices.Index(want, rec.Name); i >= 0 {
			want = slices.Delete(want, i, i+1)
		}
		if !json.Valid(rec.Data) {
			t.Errorf("%s is no JSON", rec.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("records lack %v", want)
	}
	// By its name, and by the beginning of its id.
	if find(t, r, lc.ID[:len(lc.ID)-2]).ID != lc.ID {
		t.Error("not found by the beginning of its id")
	}
	all, err := r.List(context.Background())
	if err != nil || !slices.ContainsFunc(all, func(o *target.Container) bool { return o.ID == lc.ID && o.PID == lc.PID }) {
		t.Errorf("not in the list: %v", err)
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

// TestNative finds the parents' directories, which the API does not give, with containerd's lock on its database.
func TestNative(t *testing.T) {
	l := lab.Need(t, lab.Containerd)
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Containerd, Image: "goweb", Snapshotter: "native"})
	c := find(t, connect(t, l, ""), lc.ID)
	if c.Rootfs.Driver != "native" || c.Rootfs.Upper != "" || len(c.Warnings) > 0 {
		t.Fatalf("%+v, warnings %q", c.Rootfs, c.Warnings)
	}
	checkLayers(t, c, true)
	if len(c.Logs) != 1 || c.Logs[0].Path != lc.LogPath {
		t.Errorf("logs %v", c.Logs)
	}
}

func TestStates(t *testing.T) {
	l := lab.Need(t, lab.Containerd)
	r := connect(t, l, l.ContainerdNamespace())
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Containerd, Image: "goweb"})
	if err := lc.Pause(); err != nil {
		t.Fatal(err)
	}
	if c := find(t, r, lc.ID); c.State != target.Paused || c.PID != lc.PID {
		t.Errorf("paused: %s %d", c.State, c.PID)
	}
	if err := lc.Unpause(); err != nil {
		t.Fatal(err)
	}
	if err := lc.Kill(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	c := find(t, r, lc.ID)
	if c.State != target.Exited || c.PID != 0 || c.ExitCode != 137 || c.Finished.IsZero() {
		t.Errorf("exited: %s %d %d %v", c.State, c.PID, c.ExitCode, c.Finished)
	}
	checkLayers(t, c, false)

	id := lc.ID + "-created"
	ctr := func(args ...string) {
		t.Helper()
		out, err := exec.Command("ctr", append([]string{"-a", l.ContainerdAddress(), "-n", l.ContainerdNamespace()}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ctr %v: %v: %s", args, err, out)
		}
	}
	ctr("container", "create", lc.Ref, id)
	t.Cleanup(func() { ctr("container", "rm", id) })
	c = find(t, r, id)
	if c.State != target.Created || c.PID != 0 || !c.Started.IsZero() {
		t.Errorf("created: %s %d %v", c.State, c.PID, c.Started)
	}
	checkLayers(t, c, false)
	if !strings.Contains(strings.Join(c.Warnings, "\n"), "keeps no log") {
		t.Errorf("warnings %q", c.Warnings)
	}
}

func TestNotFound(t *testing.T) {
	l := lab.Need(t, lab.Containerd)
	lc := l.Run(t, lab.RunSpec{Runtime: lab.Containerd, Image: "goweb"})
	_, err := connect(t, l, "").Find(context.Background(), lc.ID+"x")
	var nf *target.NotFoundError
	if !errors.As(err, &nf) || !slices.Contains(nf.Near, lc.ID) {
		t.Errorf("%v", err)
	}
	for _, ref := range []string{"moby/" + lc.ID, "nowhere/" + lc.ID} {
		_, err = connect(t, l, "").Find(context.Background(), ref)
		if !errors.As(err, &nf) || !strings.Contains(err.Error(), "but sherd-lab has: "+lc.Target) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	_, err = connect(t, l, "moby").Find(context.Background(), lc.ID)
	if err == nil || !strings.Contains(err.Error(), "(from --containerd-namespace)") {
		t.Errorf("%v", err)
	}
}

func TestPick(t *testing.T) {
	mk := func(ns, id, name string) found {
		return found{containerRecord: containerRecord{id: id, labels: map[string]string{"io.kubernetes.container.name": name}}, namespace: ns}
	}
	all := []found{mk("a", "web1", "app"), mk("b", "web1", "db"), mk("k8s.io", "cafe", "app")}
	if _, err := pick(all, "web1", "web1"); err == nil || !strings.Contains(err.Error(), "containerd://a/web1, containerd://b/web1") {
		t.Errorf("%v", err)
	}
	if f, err := pick(all, "db", "db"); err != nil || f.namespace != "b" {
		t.Errorf("%v %v", f, err)
	}
	if f, err := pick(all, "ca", "ca"); err != nil || f.id != "cafe" {
		t.Errorf("%v %v", f, err)
	}
	if _, err := pick(all, "app", "app"); err == nil || !strings.Contains(err.Error(), "2 containers") {
		t.Errorf("%v", err)
	}
}

// TestNotContainerd meets a socket on which something else listens, and one that says nothing.
func TestNotContainerd(t *testing.T) {
	at := filepath.Join(t.TempDir(), "other.sock")
	ln, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) //nolint:errcheck // the other side tells
			c.Close()
		}
	}()
	r, err := New(target.Places{ContainerdAddress: at})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.List(context.Background()); err == nil || !strings.Contains(err.Error(), "containerd at "+at) {
		t.Errorf("%v", err)
	}
	mute := filepath.Join(t.TempDir(), "mute.sock")
	ln2, err := net.Listen("unix", mute)
	if err != nil {
		t.Fatal(err)
	}
	defer ln2.Close()
	if r, err = New(target.Places{ContainerdAddress: mute}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var silent *target.SilentError
	if _, err := r.List(ctx); !errors.As(err, &silent) {
		t.Errorf("%v", err)
	}
}

// TestMovedName lets the image's name stand for another image after the container was made.
func TestMovedName(t *testing.T) {
	l := lab.Need(t, lab.Containerd)
	ctr := func(args ...string) {
		t.Helper()
		out, err := exec.Command("ctr", append([]string{"-a", l.ContainerdAddress(), "-n", l.ContainerdNamespace()}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ctr %v: %v: %s", args, err, out)
		}
	}
	web, py := l.Run(t, lab.RunSpec{Runtime: lab.Containerd, Image: "goweb"}), l.Run(t, lab.RunSpec{Runtime: lab.Containerd, Image: "pyweb"})
	id, name := web.ID+"-moved", "registry.test/sherd/moved:"+web.ID
	ctr("image", "tag", web.Ref, name)
	t.Cleanup(func() { ctr("image", "rm", name) })
	ctr("container", "create", name, id)
	t.Cleanup(func() { ctr("container", "rm", id) })
	ctr("image", "tag", "--force", py.Ref, name)
	c := find(t, connect(t, l, ""), id)
	if c.Image.Digest != web.Digest || !strings.Contains(strings.Join(c.Warnings, "\n"), "does not lead to what the container was made from") {
		t.Errorf("%+v, warnings %q", c.Image, c.Warnings)
	}
	checkLayers(t, c, false)
}
