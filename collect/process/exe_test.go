package process

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

func sumOf(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// Where each kind of executable comes from, and which are kept.
func TestOrigin(t *testing.T) {
	sum := func() string { return sumOf(t, program) }
	for name, c := range map[string]struct {
		prepare func(t *testing.T, o overlay)
		args    []string
		want    record.Exe
	}{
		"image": {args: []string{"/app/server", "wait"}, want: record.Exe{Path: "/app/server", Origin: record.ExeImage}},
		"touched": {
			prepare: func(t *testing.T, o overlay) { check(t, os.Chmod(o.rootfs.Merged+"/app/server", 0o777)) },
			args:    []string{"/app/server", "wait"}, want: record.Exe{Path: "/app/server", Origin: record.ExeImage},
		},
		"added": {
			prepare: func(t *testing.T, o overlay) { o.put(t, "/data/conv (deleted)", program) },
			args:    []string{"/data/conv (deleted)", "wait"}, want: record.Exe{Path: "/data/conv (deleted)", Origin: record.ExeDrift},
		},
		"changed": {
			prepare: func(t *testing.T, o overlay) {
				f, err := os.OpenFile(o.rootfs.Merged+"/app/server", os.O_WRONLY|os.O_APPEND, 0)
				check(t, err)
				_, err = f.WriteString("infected")
				check(t, err)
				f.Close()
			},
			args: []string{"/app/server", "wait"}, want: record.Exe{Path: "/app/server", Origin: record.ExeDrift, SHA256: "other"},
		},
		"deleted of the image": {args: []string{"/app/server", "unlink", "/app/server"}, want: record.Exe{Path: "/app/server", Origin: record.ExeDeleted, Deleted: true}},
		"added and deleted": {
			prepare: func(t *testing.T, o overlay) { o.put(t, "/data/x", program) },
			args:    []string{"/data/x", "unlink", "/data/x"}, want: record.Exe{Path: "/data/x", Origin: record.ExeDeleted, Deleted: true},
		},
		"memfd": {args: []string{"/app/server", "memexec", "wait"}, want: record.Exe{Path: "/memfd:kworker", Origin: record.ExeMemfd, Deleted: true}},
		"named like a memfd": {
			prepare: func(t *testing.T, o overlay) { o.put(t, "/memfd:x", program) },
			args:    []string{"/memfd:x", "unlink", "/memfd:x"}, want: record.Exe{Path: "/memfd:x", Origin: record.ExeDeleted, Deleted: true},
		},
		"volume": {args: []string{"--tmpfs", "/data", "/app/server", "wait"}, want: record.Exe{Path: "/data/tool", Origin: record.ExeVolume}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOverlay(t)
			if c.prepare != nil {
				c.prepare(t, o)
			}
			if strings.HasPrefix(name, "memfd") {
				mountProc(t, o)
			}
			s := o.run(t, c.args...)
			got := capture(t, s, Options{})
			got.clean()
			e := got.row(s.Container.PID).Exe
			if e.Path != c.want.Path || e.Origin != c.want.Origin || e.Deleted != c.want.Deleted || e.Error != "" {
				t.Errorf("executable %+v, want %+v", e, c.want)
			}
			if same := e.SHA256 == sum(); same != (c.want.SHA256 == "") || len(e.SHA256) != 64 {
				t.Errorf("SHA-256 %q", e.SHA256)
			}
			path := fmt.Sprintf("process/%d/exe", s.Container.PID)
			if e.Origin == record.ExeImage {
				if e.Artifact != "" || got.has(path) {
					t.Error("kept although the image holds it")
				}
				return
			}
			if e.Artifact != path {
				t.Fatalf("artifact %q", e.Artifact)
			}
			b := sha256.Sum256([]byte(got.file(path)))
			if hex.EncodeToString(b[:]) != e.SHA256 {
				t.Error("what was kept is not what was hashed")
			}
		})
	}
}

// mountProc gives a container's root a /proc, which running a memfd by its descriptor needs.
func mountProc(t *testing.T, o overlay) {
	t.Helper()
	check(t, os.Mkdir(o.rootfs.Merged+"/proc", 0o755))
	check(t, syscall.Mount("/proc", o.rootfs.Merged+"/proc", "", syscall.MS_BIND|syscall.MS_REC, ""))
	t.Cleanup(func() { _ = syscall.Unmount(o.rootfs.Merged+"/proc", syscall.MNT_DETACH) })
}

// A process that entered the container from outside runs the host's program.
func TestOutside(t *testing.T) {
	o := newOverlay(t)
	s := o.run(t, "/app/server", "wait")
	stranger := startAs(t, &syscall.SysProcAttr{}, "wait")
	p := of(t, stranger).Processes[0]
	p.Relation = record.Descendant
	s.Processes = append(s.Processes, p)
	if e := capture(t, s, Options{}).row(stranger).Exe; e.Origin != record.ExeOutside || e.Artifact == "" {
		t.Errorf("executable %+v", e)
	}
}

// A copy of the whole root for each container, as vfs and native make it: content decides.
func TestCopiedRoot(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, root string){
		record.ExeImage: func(*testing.T, string) {},
		record.ExeDrift: func(t *testing.T, root string) {
			f, err := os.OpenFile(root+"/app/server", os.O_WRONLY|os.O_APPEND, 0)
			check(t, err)
			_, err = f.WriteString("infected")
			check(t, err)
			f.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			testenv.NeedRoot(t)
			base := t.TempDir()
			b, err := os.ReadFile(program)
			check(t, err)
			for _, d := range []string{"/image/app", "/root/app"} {
				check(t, os.MkdirAll(base+d, 0o755))
				check(t, os.WriteFile(base+d+"/server", b, 0o755))
			}
			change(t, base+"/root")
			check(t, syscall.Mount(base+"/root", base+"/root", "", syscall.MS_BIND, ""))
			t.Cleanup(func() { _ = syscall.Unmount(base+"/root", syscall.MNT_DETACH) })
			s := of(t, start(t, "pivot", base+"/root", "/app/server", "wait"))
			s.Container.Rootfs = target.Rootfs{Driver: "vfs", Merged: base + "/root", Layers: []target.Layer{{Dir: base + "/image", Whole: true}}}
			got := capture(t, s, Options{})
			got.clean()
			if e := got.row(s.Container.PID).Exe; e.Origin != name || e.Path != "/app/server" {
				t.Errorf("executable %+v", e)
			}
		})
	}
}

// A mere chroot shows paths from the host's root.
func TestChroot(t *testing.T) {
	o := newOverlay(t)
	old := program
	program = "/app/server"
	defer func() { program = old }()
	s := of(t, startAs(t, &syscall.SysProcAttr{Chroot: o.rootfs.Merged, Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}, "wait"))
	s.Container.Rootfs = o.rootfs
	e := capture(t, s, Options{}).row(s.Container.PID).Exe
	if e.Origin != record.ExeImage {
		t.Errorf("executable %+v", e)
	}
}

// Without layers nothing is claimed.
func TestUnknownRoot(t *testing.T) {
	testenv.NeedRoot(t)
	s := of(t, start(t, "wait"))
	if e := capture(t, s, Options{}).row(s.Container.PID).Exe; e.Origin != record.ExeUnknown || e.SHA256 != sumOf(t, program) || e.Artifact == "" {
		t.Errorf("executable %+v", e)
	}
}

// What is mapped as code and is not the image's.
func TestMapped(t *testing.T) {
	o := newOverlay(t)
	check(t, os.WriteFile(o.lower+"/app/lib.so", []byte(strings.Repeat("code", 2000)), 0o644))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"image":   {[]string{"maplib", "/app/lib.so"}, ""},
		"deleted": {[]string{"maplib", "/data/lib.so", "remove"}, record.ExeDeleted},
		"added":   {[]string{"maplib", "/data/lib.so"}, record.ExeDrift},
	} {
		t.Run(name, func(t *testing.T) {
			o.put(t, "/data/lib.so", o.lower+"/app/lib.so")
			s := o.run(t, append([]string{"/app/server"}, c.args...)...)
			got := capture(t, s, Options{})
			got.clean()
			path := fmt.Sprintf("process/%d/mapped.jsonl", s.Container.PID)
			if c.want == "" {
				if got.has(path) {
					t.Errorf("lists %s", got.file(path))
				}
				return
			}
			var m []record.Mapped
			for r := range lines[record.Mapped](got, path) {
				m = append(m, r)
			}
			if len(m) != 1 || m[0].Path != "/data/lib.so" || m[0].Origin != c.want || m[0].SHA256 != sumOf(t, o.lower+"/app/lib.so") || m[0].Deleted != (c.want == record.ExeDeleted) {
				t.Fatalf("mapped %+v", m)
			}
			if m[0].Deleted && got.file(m[0].Artifact) != strings.Repeat("code", 2000) {
				t.Errorf("artifact %q", m[0].Artifact)
			}
		})
	}
}
