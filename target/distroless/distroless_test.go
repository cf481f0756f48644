package distroless_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/distroless"
	"github.com/sherd-forensics/sherd/target/docker"
)

// tree makes a directory from lines: "path" is an executable, "path -" one that is not, "path -> target" a link, "path/" a
// directory, "path = text" a file, "!path" a whiteout, "path/*" an opaque directory.
func tree(t *testing.T, lines ...string) string {
	t.Helper()
	dir := t.TempDir()
	at := func(p string) string {
		full := filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		return full
	}
	for _, l := range lines {
		var err error
		switch {
		case strings.Contains(l, " -> "):
			link, to, _ := strings.Cut(l, " -> ")
			err = os.Symlink(to, at(link))
		case strings.Contains(l, " = "):
			name, text, _ := strings.Cut(l, " = ")
			err = os.WriteFile(at(name), []byte(text), 0o644)
		case strings.HasPrefix(l, "!"):
			err = unix.Mknod(at(l[1:]), unix.S_IFCHR, 0)
		case strings.HasSuffix(l, "/*"):
			d := at(strings.TrimSuffix(l, "*") + "x")
			err = unix.Setxattr(filepath.Dir(d), "trusted.overlay.opaque", []byte("y"), 0)
		case strings.HasSuffix(l, " -"):
			err = os.WriteFile(at(strings.TrimSuffix(l, " -")), []byte("x"), 0o644)
		default:
			err = os.WriteFile(at(l), []byte("\x7fELF"), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRoot(t *testing.T) {
	testenv.NeedRoot(t)
	for _, c := range []struct {
		name   string
		layers [][]string // highest first
		want   bool
		reason string
	}{
		{"static", [][]string{{"app/server", "etc/passwd = x", "var/lib/dpkg/status.d/base = Package: base-files", "var/lib/dpkg/status.d/tzdata = x", "var/lib/dpkg/status.d/tzdata.md5sums = x"}}, true, "no shell, 2 packages"},
		{"scratch", [][]string{{"server"}}, true, "no shell, no package database"},
		{"debian", [][]string{{"usr/bin/dash", "usr/bin/bash", "usr/bin/sh -> dash", "bin -> usr/bin", "usr/bin/apt", "var/lib/dpkg/status = Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: deinstall ok config-files\n"}}, false, "has /usr/bin/sh → dash"},
		{"alpine", [][]string{{"bin/busybox", "bin/sh -> /bin/busybox", "lib/apk/db/installed = C:x\nP:musl\nV:1\n\nP:busybox\n"}}, false, "has /bin/sh → busybox"},
		{"debug", [][]string{{"busybox/busybox", "busybox/sh -> busybox"}}, false, "has /busybox/sh → busybox"},
		{"python", [][]string{{"usr/bin/python3.11", "usr/bin/python3 -> python3.11", "var/lib/dpkg/status.d/a = x"}}, true, "no shell, python3, 1 package"},
		{"node", [][]string{{"nodejs/bin/node"}}, true, "no shell, node, no package database"},
		{"java", [][]string{{"usr/lib/jvm/temurin21/bin/java"}}, true, "no shell, java, no package database"},
		{"managers only", [][]string{{"sbin/apk"}}, false, "no shell, but /sbin/apk"},
		{"not executable, empty, dangling, looping", [][]string{{"bin/sh -", "bin/bash -> nowhere", "bin/zsh -> zsh", "bin/dash -> /dev/null"}}, true, "no shell, no package database"},
		{"a link out of the root", [][]string{{"bin/sh -> ../../../../../../../../bin/sh"}}, true, "no shell, no package database"},
		{"deleted by a higher layer", [][]string{{"!bin/sh", "!bin/busybox", "!lib/apk/db/installed"}, {"bin/busybox", "bin/sh -> busybox", "lib/apk/db/installed = P:x\n"}}, true, "no shell, no package database"},
		{"directory deleted by a higher layer", [][]string{{"!bin"}, {"bin/sh"}}, true, "no shell, no package database"},
		{"opaque directory", [][]string{{"bin/*"}, {"bin/sh"}}, true, "no shell, no package database"},
		{"a directory replaced by a link", [][]string{{"bin -> usr/bin"}, {"bin/sh", "usr/bin/x -"}}, true, "no shell, no package database"},
		{"link to a lower layer", [][]string{{"bin/sh -> /tools/multi"}, {"tools/multi"}}, false, "has /bin/sh → multi"},
		{"packages of two layers", [][]string{{"var/lib/dpkg/status.d/b = x", "!var/lib/dpkg/status.d/c"}, {"var/lib/dpkg/status.d/a = x", "var/lib/dpkg/status.d/c = x"}}, true, "no shell, 2 packages"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var dirs []string
			for _, l := range c.layers {
				dirs = append(dirs, tree(t, l...))
			}
			d, err := distroless.Root(dirs...)
			if err != nil {
				t.Fatal(err)
			}
			if d.Distroless != c.want || d.Reason != c.reason {
				t.Errorf("%v %q, want %v %q", d.Distroless, d.Reason, c.want, c.reason)
			}
		})
	}
}

// TestGained judges by the image, and tells what an intruder has put into the container since.
func TestGained(t *testing.T) {
	testenv.NeedRoot(t)
	image, upper := tree(t, "app/server"), tree(t, "usr/bin/busybox", "bin/sh -> /usr/bin/busybox")
	initLayer := tree(t, "etc/hosts = x")
	c := &target.Container{Rootfs: target.Rootfs{Driver: "overlay", Upper: upper, Layers: []target.Layer{{Dir: image}, {Dir: initLayer, Init: true}}}}
	d := distroless.Judge(c, "")
	if d == nil || !d.Distroless || !strings.HasPrefix(d.Reason, "no shell, no package database; the container has gained /bin/sh, /usr/bin/busybox") {
		t.Errorf("%+v", d)
	}
	whole := &target.Container{Rootfs: target.Rootfs{Driver: "vfs", Merged: tree(t, "app/server", "bin/bash"), Layers: []target.Layer{{Dir: tree(t), Whole: true}, {Dir: image, Whole: true}}}}
	if d := distroless.Judge(whole, ""); d == nil || !d.Distroless || !strings.HasSuffix(d.Reason, "gained /bin/bash") {
		t.Errorf("%+v", d)
	}
	if d := distroless.Judge(&target.Container{}, ""); d != nil {
		t.Errorf("%+v of nothing", d)
	}
}

// TestAccessTimes proves that judging leaves no trace.
func TestAccessTimes(t *testing.T) {
	testenv.NeedRoot(t)
	dir := tree(t, "bin/busybox", "bin/sh -> busybox", "var/lib/dpkg/status = Package: a\n")
	stamp := []unix.Timespec{{Sec: 1000}, {Sec: 2000}}
	paths := []string{"bin/busybox", "bin/sh", "bin", "var/lib/dpkg/status", "var/lib/dpkg", "."}
	for _, p := range paths {
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, p), stamp, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := distroless.Root(dir); err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, p), &st); err != nil || st.Atim.Sec != 1000 {
			t.Errorf("%s: accessed at %d, %v", p, st.Atim.Sec, err)
		}
	}
}

// TestRealImages judges what the lab's images are.
func TestRealImages(t *testing.T) {
	l := lab.Need(t, lab.Docker)
	for image, want := range map[string]string{"goweb": "no shell, 5 packages", "pyweb": "no shell, python3"} {
		lc := l.Run(t, lab.RunSpec{Runtime: lab.Docker, Image: image})
		r, err := docker.New(target.Places{DockerHost: l.DockerHost()})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		c, err := r.Find(t.Context(), lc.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, how := range []func(){
			func() {},                             // by its layers
			func() { c.Rootfs = target.Rootfs{} }, // through /proc/PID/root
		} {
			how()
			d := distroless.Judge(c, "")
			if d == nil || !d.Distroless || !strings.HasPrefix(d.Reason, want) {
				t.Errorf("%s: %+v", image, d)
			}
			if image == "pyweb" && d != nil && !slices.ContainsFunc(d.Interpreters, func(p string) bool { return strings.Contains(p, "python3") }) {
				t.Errorf("%v", d.Interpreters)
			}
		}
	}
}
