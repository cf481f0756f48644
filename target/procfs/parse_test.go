package procfs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sherd-forensics/sherd/target"
)

func TestMountinfoOfRealContainers(t *testing.T) {
	for _, c := range []struct {
		file, driver, upper, first, last string
		layers                           int
	}{
		{"docker.mountinfo", "overlay", "/var/lib/sherd-lab/docker/overlay2/e92f552b13a9aaf258431498c8c69d43280147501efdc39308c61764bb0d370e/diff",
			"/var/lib/sherd-lab/docker/overlay2/l/CZICMRDBZ5VIZZGAQR5JPOWMMU", "/var/lib/sherd-lab/docker/overlay2/l/G663K7M5DJPR2H2AZTAIIE6V4Y", 8},
		{"containerd.mountinfo", "overlay", "/var/lib/sherd-lab/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/8/fs",
			"/var/lib/sherd-lab/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs",
			"/var/lib/sherd-lab/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs", 7},
		{"podman.mountinfo", "overlay", "/var/lib/sherd-lab/podman/overlay/9a3e5a0d230fd82fefcffca5f1f40fed32971665b87cdcb6dfb732c5607e8f4f/diff",
			"/var/lib/sherd-lab/podman/overlay/l/MBAE4R4TKNPQGC77PR3LROTAVI", "/var/lib/sherd-lab/podman/overlay/l/X2WEVJ4IEGLL3I5VNV4RQICHIZ", 7},
	} {
		ms := ParseMountinfo(read(t, c.file))
		if len(ms) < 5 {
			t.Fatalf("%s: %d mounts", c.file, len(ms))
		}
		// The directories are gone on this machine: they stay as the kernel wrote them, with a note for each.
		fs, notes := Rootfs(target.Places{HostRoot: t.TempDir()}, ms, nil)
		if fs.Driver != c.driver || fs.Upper != c.upper || len(fs.Layers) != c.layers || len(notes) != c.layers+1 {
			t.Fatalf("%s: %+v, %d notes", c.file, fs, len(notes))
		}
		if fs.Layers[0].Dir != c.first || fs.Layers[c.layers-1].Dir != c.last {
			t.Errorf("%s: layers from %s to %s", c.file, fs.Layers[0].Dir, fs.Layers[c.layers-1].Dir)
		}
	}
	m, ok := RootMount(ParseMountinfo(read(t, "runc.mountinfo")))
	host := []Mount{{Dev: "254:0", Root: "/", Point: "/"}, {Dev: "254:0", Root: "/var", Point: "/somewhere"}}
	if !ok || bindSource(host, m) != "/somewhere/lib/sherd-lab/bundles/hb-runc/rootfs" {
		t.Errorf("a bind-mounted root: %v, found at %q", m, bindSource(host, m))
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOverlayOptions(t *testing.T) {
	for _, c := range []struct {
		line string
		want Overlay
	}{
		{`1 2 0:1 / / rw - overlay overlay rw,lowerdir=/b:/a,upperdir=/u,workdir=/w`, Overlay{[]string{"/a", "/b"}, "/u", "/w"}},
		// A space and a backslash escaped by mountinfo, a colon and a comma by overlayfs.
		{`1 2 0:1 / / rw - overlay overlay rw,lowerdir=/b\134:x:/a\134,y,upperdir=/u\040v,workdir=/w`, Overlay{[]string{"/a,y", "/b:x"}, "/u v", "/w"}},
		{`1 2 0:1 / / rw - overlay overlay rw,lowerdir+=/b,lowerdir+=/a,datadir+=/d,upperdir=/u,workdir=/w`, Overlay{[]string{"/a", "/b"}, "/u", "/w"}},
		{`1 2 0:1 / / ro - overlay overlay ro,lowerdir=/b:/a::/data`, Overlay{[]string{"/a", "/b"}, "", ""}},
	} {
		ms := ParseMountinfo([]byte(c.line + "\n"))
		if len(ms) != 1 {
			t.Fatalf("%s: %d mounts", c.line, len(ms))
		}
		if d := cmp.Diff(c.want, ParseOverlay(ms[0].Super)); d != "" {
			t.Errorf("%s: %s", c.line, d)
		}
	}
}

func TestRelativeLayers(t *testing.T) {
	root := t.TempDir()
	mk := func(p string) {
		if err := os.MkdirAll(filepath.Join(root, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// containerd shortens lower directories only.
	mk("/c/snapshots/1/fs")
	mk("/c/snapshots/2/fs")
	mk("/c/snapshots/3/fs")
	// Docker shortens all of them, and they are symbolic links.
	for _, d := range []string{"aa/diff", "bb-init/diff", "bb/diff", "l"} {
		mk("/d/overlay2/" + d)
	}
	for l, to := range map[string]string{"A": "../aa/diff", "B": "../bb-init/diff"} {
		if err := os.Symlink(to, filepath.Join(root, "d/overlay2/l", l)); err != nil {
			t.Fatal(err)
		}
	}
	p := target.Places{HostRoot: root}
	fs, notes := Rootfs(p, ParseMountinfo([]byte("1 2 0:9 / / rw - overlay overlay rw,lowerdir=2/fs:1/fs,upperdir=/c/snapshots/3/fs,workdir=/c/snapshots/3/work\n")), nil)
	want := target.Rootfs{Driver: "overlay", Upper: "/c/snapshots/3/fs", Work: "/c/snapshots/3/work",
		Layers: []target.Layer{{Dir: "/c/snapshots/1/fs"}, {Dir: "/c/snapshots/2/fs"}}}
	if d := cmp.Diff(want, fs); d != "" || len(notes) > 0 {
		t.Error(d, notes)
	}
	host := []Mount{{Dev: "0:9", Root: "/", Point: "/d/overlay2/bb/merged", Type: "overlay"}}
	fs, notes = Rootfs(p, ParseMountinfo([]byte("1 2 0:9 / / rw - overlay overlay rw,lowerdir=l/B:l/A,upperdir=bb/diff,workdir=bb/work\n")), host)
	want = target.Rootfs{Driver: "overlay", Upper: "/d/overlay2/bb/diff", Work: "/d/overlay2/bb/work", Merged: "/d/overlay2/bb/merged",
		Layers: []target.Layer{{Dir: "/d/overlay2/aa/diff"}, {Dir: "/d/overlay2/bb-init/diff", Init: true}}}
	if d := cmp.Diff(want, fs); d != "" || len(notes) > 0 {
		t.Error(d, notes)
	}
}

func TestContainerOf(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for _, c := range []struct{ path, id, engine, own string }{
		{"/docker/" + id, id, "docker", "/docker/" + id},
		{"/docker/" + id + "/init.scope", id, "docker", "/docker/" + id},
		{"/system.slice/docker-" + id + ".scope", id, "docker", "/system.slice/docker-" + id + ".scope"},
		{"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podaa.slice/cri-containerd-" + id + ".scope", id, "containerd",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podaa.slice/cri-containerd-" + id + ".scope"},
		{"/kubepods/burstable/pod11111111-2222-3333-4444-555555555555/" + id, id, "", "/kubepods/burstable/pod11111111-2222-3333-4444-555555555555/" + id},
		{"/kubepods-burstable-podaa.slice:cri-containerd:" + id, id, "containerd", "/kubepods-burstable-podaa.slice:cri-containerd:" + id},
		{"/libpod_parent/libpod-" + id, id, "podman", "/libpod_parent/libpod-" + id},
		{"/machine.slice/libpod-" + id + ".scope/container", id, "podman", "/machine.slice/libpod-" + id + ".scope"},
		{"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope", id, "podman", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope"},
		{"/kubepods/pod1/crio-" + id, id, "crio", "/kubepods/pod1/crio-" + id},
		{"/docker/" + strings.Repeat("a", 64) + "/docker/" + id, id, "docker", "/docker/" + strings.Repeat("a", 64) + "/docker/" + id},
		{"/machine.slice/libpod-conmon-" + id + ".scope", "", "", ""},
		{"/crio-conmon-" + id + ".scope", "", "", ""},
		{"/sherd-lab/web", "", "", ""},
		{"/", "", "", ""},
		{"/user.slice/session-1.scope", "", "", ""},
		{"", "", "", ""},
	} {
		n, ok := ContainerOf(c.path)
		if n.ID != c.id || n.Engine != c.engine || n.Path != c.own || ok != (c.id != "") {
			t.Errorf("%s: %+v %v", c.path, n, ok)
		}
	}
	for file, want := range map[string]string{"docker-hybrid.cgroup": "docker", "podman-hybrid.cgroup": "podman"} {
		cs := ParseCgroup(read(t, file))
		n, ok := ContainerOf(CgroupOf(cs))
		if !ok || n.Engine != want || len(cs) != 10 {
			t.Errorf("%s: %+v of %d lines", file, n, len(cs))
		}
	}
}

func TestStatWithHostileName(t *testing.T) {
	st, ok := parseStat([]byte("7 (a) S 1 (b\n) S 5 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 4 0 343089 129 14\n"))
	if !ok || st.comm != "a) S 1 (b\n" || st.ppid != 5 || st.start != 343089 || st.state != 'S' {
		t.Errorf("%+v %v", st, ok)
	}
	inner, uid := parseStatus([]byte("Name:\tNSpid: 4\nUid:\t65532\t0\t0\t0\nNSpid:\t31113\t1\n"))
	if inner != 1 || uid != 65532 {
		t.Errorf("%d %d", inner, uid)
	}
}

func FuzzMountinfo(f *testing.F) {
	for _, n := range []string{"docker.mountinfo", "containerd.mountinfo", "podman.mountinfo", "runc.mountinfo"} {
		f.Add(read(f, n))
	}
	f.Add([]byte(`1 2 0:1 / / rw - overlay overlay rw,lowerdir=\134:::,lowerdir+=,upperdir=..,workdir=`))
	p := target.Places{HostRoot: f.TempDir()}
	f.Fuzz(func(t *testing.T, b []byte) {
		ms := ParseMountinfo(b)
		fs, _ := Rootfs(p, ms, ms)
		if len(fs.Layers) > maxLayers {
			t.Fatal("too many layers")
		}
	})
}

func FuzzCgroup(f *testing.F) {
	f.Add(read(f, "docker-hybrid.cgroup"))
	f.Add(read(f, "podman-hybrid.cgroup"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, c := range ParseCgroup(b) {
			if n, ok := ContainerOf(c.Path); ok && (!hexID.MatchString(n.ID) || !strings.HasPrefix(c.Path, n.Path)) {
				t.Fatalf("%q: %+v", c.Path, n)
			}
		}
	})
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("30784 (server) S 30764 30784 30784 0 -1 4194560 1274 0 0 0 2 0 0 0 20 0 4 0 342942 1294618624 1386"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		parseStat(b)
		parseStatus(b)
	})
}

func TestFlag(t *testing.T) {
	args := []string{"conmon", "-c", "abc", "--name=web", "-b"}
	got := []string{flag(args, "-c"), flag(args, "--name"), flag(args, "-b"), flag(args, "-x")}
	if !slices.Equal(got, []string{"abc", "web", "", ""}) {
		t.Error(got)
	}
}
