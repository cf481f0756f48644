package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The machine of these tests: namespaces 1 are its own; container A is process 10 in namespaces 2, with its shim 9; B is
// process 20 in the network namespace of A, as in a pod.
func kernel(ps ...Process) *Kernel {
	k := &Kernel{Host: Namespaces{1, 1, 1, 1, 1}, Processes: map[int]Process{}}
	ps = append(ps,
		Process{PID: 1, Comm: "init", Cgroups: []string{"/"}, NS: k.Host},
		Process{PID: 9, PPID: 1, Comm: "containerd-shim", Cgroups: []string{"/system.slice"}, NS: k.Host},
		Process{PID: 10, PPID: 9, Comm: "a", Cgroups: []string{"/docker/a"}, NS: Namespaces{2, 2, 2, 2, 1}},
		Process{PID: 20, PPID: 9, Comm: "b", Cgroups: []string{"/docker/b"}, NS: Namespaces{3, 3, 2, 2, 1}})
	for _, p := range ps {
		p.StartTicks = uint64(p.PID)
		k.Processes[p.PID] = p
	}
	return k
}

var pair = []*Container{{URL: "docker://a", ID: "a", PID: 10, CgroupPath: "/docker/a"}, {URL: "docker://b", ID: "b", PID: 20, CgroupPath: "/docker/b"}}

func TestStraysByNamespace(t *testing.T) {
	inA := Namespaces{2, 2, 2, 2, 1}
	for _, c := range []struct {
		name string
		p    Process
		cs   []*Container
		want string
	}{
		{"a child in its cgroup", Process{PPID: 10, Cgroups: []string{"/docker/a"}, NS: inA}, pair, ""},
		{"a child in a cgroup below", Process{PPID: 10, Cgroups: []string{"/docker/a/sub"}, NS: inA}, pair, ""},
		{"docker exec", Process{PPID: 9, Cgroups: []string{"/docker/a"}, NS: inA}, pair, ""},
		{"nsenter into everything", Process{PPID: 1, Cgroups: []string{"/user.slice"}, NS: inA}, pair, "stray-process docker://a"},
		{"nsenter into the network of both", Process{PPID: 1, Cgroups: []string{"/"}, NS: Namespaces{1, 1, 2, 1, 1}}, pair, "stray-process docker://a"},
		{"a child that left its cgroup", Process{PPID: 10, Cgroups: []string{"/user.slice"}, NS: inA}, pair, "stray-process docker://a"},
		{"a cgroup with the same beginning", Process{PPID: 1, Cgroups: []string{"/docker/ab"}, NS: inA}, pair, "stray-process docker://a"},
		{"the machine's own", Process{PPID: 1, Cgroups: []string{"/user.slice"}, NS: Namespaces{1, 1, 1, 1, 1}}, pair, ""},
		{"a service with private mounts", Process{PPID: 1, Cgroups: []string{"/system.slice/x.service"}, NS: Namespaces{7, 1, 1, 1, 1}}, pair, ""},
		{"a rootless container's network", Process{PPID: 1, Comm: "slirp4netns", Cgroups: []string{"/user.slice"}, NS: Namespaces{1, 1, 2, 1, 1}}, pair, ""},
		{"one that borrows that name", Process{PPID: 1, Comm: "slirp4netns", Cgroups: []string{"/user.slice"}, NS: inA}, pair, "stray-process docker://a"},
		{"an escape", Process{PPID: 10, Cgroups: []string{"/docker/a"}, NS: Namespaces{1, 1, 1, 1, 1}}, pair, "escaped-process docker://a"},
		{"namespaces that can't be read", Process{PPID: 1, Cgroups: []string{"/user.slice"}}, pair, ""},
		{"no cgroup of its own: a child", Process{PPID: 10, Cgroups: []string{"/"}, NS: inA}, []*Container{{URL: "docker://a", PID: 10, CgroupPath: "/"}}, ""},
		{"no cgroup of its own: an exec", Process{PPID: 9, Cgroups: []string{"/"}, NS: inA}, []*Container{{URL: "docker://a", PID: 10, CgroupPath: "/"}}, ""},
		{"no cgroup of its own: a stranger", Process{PPID: 1, Cgroups: []string{"/"}, NS: inA}, []*Container{{URL: "docker://a", PID: 10, CgroupPath: "/"}}, "stray-process docker://a"},
	} {
		c.p.PID = 30
		got := ""
		for _, a := range Strays(c.cs, kernel(c.p), kernel(c.p)) {
			got += strings.TrimSpace(a.Kind + " " + a.Container)
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		// What only one look shows is on its way.
		if as := Strays(c.cs, kernel(c.p), kernel()); len(as) > 0 {
			t.Errorf("%s: %v of a process that has ended", c.name, as)
		}
	}
}

type fake struct {
	scheme string
	cs     []*Container
	err    error
}

func (f fake) Scheme() string                                   { return f.scheme }
func (f fake) List(context.Context) ([]*Container, error)       { return f.cs, f.err }
func (f fake) Find(context.Context, string) (*Container, error) { return nil, f.err }
func (f fake) Close() error                                     { return nil }

type fakeScan struct{ k *Kernel }

func (f fakeScan) Kernel(context.Context) (*Kernel, error) { return f.k, nil }

func shown() []*Container {
	return []*Container{{URL: "pid://10", Runtime: "procfs", ID: "a", PID: 10, CgroupPath: "/docker/a"}, {URL: "pid://20", Runtime: "procfs", ID: "b", PID: 20, CgroupPath: "/docker/b"}}
}

func TestSurveyMerges(t *testing.T) {
	k := kernel()
	k.Containers = shown()
	d := fake{scheme: "docker", cs: []*Container{{URL: "docker://a", Runtime: "docker", ID: "a", State: Exited}, {URL: "docker://old", Runtime: "docker", ID: "old", State: Exited}}}
	c := fake{scheme: "containerd", cs: []*Container{{URL: "containerd://moby/a", Runtime: "containerd", ID: "a", Namespace: "moby", PID: 10}}}
	silent := fake{scheme: "podman", err: errors.New("no")}
	sv, err := NewSurvey(context.Background(), []Runtime{d, c, silent}, fakeScan{k})
	if err != nil {
		t.Fatal(err)
	}
	var urls []string
	for _, c := range sv.Containers {
		urls = append(urls, c.URL)
	}
	if !slices.Equal(urls, []string{"docker://a", "docker://old", "pid://20"}) {
		t.Errorf("%v", urls)
	}
	a := sv.Containers[0]
	if a.PID != 10 || len(a.Warnings) != 2 || !strings.Contains(a.Warnings[1], "says that it does not run, but process 10 does") {
		t.Errorf("%+v", a)
	}
	if len(sv.Anomalies) != 1 || sv.Anomalies[0].Kind != HiddenContainer || sv.Anomalies[0].PID != 20 || len(sv.Silent) != 1 {
		t.Errorf("%+v %v", sv.Anomalies, sv.Silent)
	}
}

// TestSilentOwner does not call a container hidden while the runtime that its cgroup names can't be asked.
func TestSilentOwner(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{{&SilentError{Runtime: "Docker", Tried: []string{"x: dead"}}, 0}, {&SilentError{Runtime: "Docker", Absent: true}, 2}, {&SilentError{Runtime: "Podman"}, 2}} {
		k := kernel()
		k.Containers = shown()
		sv, err := NewSurvey(context.Background(), []Runtime{fake{scheme: "docker", err: c.err}}, fakeScan{k})
		if err != nil || len(sv.Containers) != 2 || len(sv.Anomalies) != c.want {
			t.Errorf("%v: %d containers, %v, %v", c.err, len(sv.Containers), sv.Anomalies, err)
		}
	}
}

func TestUserNamespaceIsNoHiddenContainer(t *testing.T) {
	k := kernel(Process{PID: 40, PPID: 1, Comm: "bwrap", Cgroups: []string{"/user.slice"}, NS: Namespaces{9, 9, 9, 9, 9}})
	k.Containers = []*Container{{URL: "pid://40", ID: "pid-40", PID: 40, CgroupPath: "/user.slice"}}
	sv, err := NewSurvey(context.Background(), nil, fakeScan{k})
	if err != nil || len(sv.Containers) != 1 || len(sv.Anomalies) != 0 {
		t.Errorf("%v %v", sv.Anomalies, err)
	}
}

func TestPlaces(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"data/docker", "var/lib", "run"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "data/docker/x"), []byte("inside"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Absolute links mean the machine's root, not ours.
	for link, to := range map[string]string{"var/lib/docker": "/data/docker", "evil": "/../../../../etc", "loop": "/loop", "var/run": "/run"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	p := Places{HostRoot: root}
	if b, err := p.ReadFile("/var/lib/docker/x"); err != nil || string(b) != "inside" {
		t.Errorf("%q %v", b, err)
	}
	if real, err := p.Real("/var/lib/docker/x"); err != nil || real != "/data/docker/x" {
		t.Errorf("%q %v", real, err)
	}
	for _, path := range []string{"/evil/passwd", "/loop", "/data", "/missing"} {
		if b, err := p.ReadFile(path); err == nil {
			t.Errorf("%s was read: %q", path, b)
		}
	}
	if names, err := p.ReadDir("/"); err != nil || fmt.Sprint(names) != "[data evil loop run var]" {
		t.Errorf("%v %v", names, err)
	}
}

func FuzzPodOf(f *testing.F) {
	f.Add("io.kubernetes.pod.name", "a/../b", "u")
	f.Fuzz(func(t *testing.T, name, ns, uid string) {
		p := PodOf(map[string]string{"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": ns, "io.kubernetes.pod.uid": uid, "io.kubernetes.container.name": name})
		if dir := p.PodLogDir(); dir != "" && (filepath.Clean(dir) != dir || strings.Count(dir, "/") != 5) {
			t.Fatalf("%q", dir)
		}
	})
}
