package filesystem

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

// tmpfs mounts one and gives its path.
func tmpfs(t testing.TB) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	check(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1g"))
	t.Cleanup(func() { check(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

func bare(upper string) *target.Container {
	return &target.Container{URL: "test://x", Rootfs: target.Rootfs{Driver: "overlay", Upper: upper}}
}

func TestHugeSparseFile(t *testing.T) {
	up := tmpfs(t) + "/upper"
	check(t, os.Mkdir(up, 0o755))
	f, err := os.Create(up + "/huge")
	check(t, err)
	_, err = f.WriteAt([]byte("needle"), 1<<50)
	check(t, err)
	check(t, f.Truncate(math.MaxInt64))
	f.Close()
	within(t, 10*time.Second, "eight exbibytes", func() {
		p, _ := capture(t, bare(up), Options{})
		r := rows(t, p, false)["root /huge"]
		if r.Size != math.MaxInt64 || r.Artifact == "" || r.SHA256 != "" || !strings.Contains(r.Error, "holes") {
			t.Errorf("row %+v", r)
		}
		e, ok := p.Artifact("filesystem/upper/huge")
		if !ok || e.Size < 6 {
			t.Errorf("entry %+v", e)
		}
	})
}

// nest makes a chain of n directories called d and leaves a file at its end. Paths that long exist for nobody, so it goes
// by descriptors.
func nest(t testing.TB, dir string, n int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	check(t, err)
	for range n {
		check(t, unix.Mkdirat(fd, "d", 0o755))
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		check(t, err)
		unix.Close(fd)
		fd = next
	}
	f, err := unix.Openat(fd, "end", unix.O_CREAT|unix.O_WRONLY, 0o600)
	check(t, err)
	unix.Close(f)
	unix.Close(fd)
}

func TestDeep(t *testing.T) {
	for _, n := range []int{300, 100_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			up := tmpfs(t) + "/upper"
			check(t, os.Mkdir(up, 0o755))
			nest(t, up, n)
			write(t, up+"/z", "after the abyss", 0o644)
			var found, cut bool
			within(t, 30*time.Second, "the abyss", func() {
				p, _ := capture(t, bare(up), Options{})
				all := rows(t, p, false)
				_, found = all["root "+strings.Repeat("/d", n)+"/end"]
				if all["root /z"].SHA256 != hashOf("after the abyss") {
					t.Error("what comes after it is missing")
				}
				cut = strings.Contains(strings.Join(complaints(p), "\n"), "deeper than")
			})
			if n == 300 != found || n == 300 == cut {
				t.Errorf("found %v, cut %v", found, cut)
			}
		})
	}
}

// TestMoving reads files that grow, shrink, vanish and turn into something else.
func TestMoving(t *testing.T) {
	up := t.TempDir()
	testenv.NeedRoot(t)
	for i := range 200 {
		write(t, fmt.Sprintf("%s/f%03d", up, i), strings.Repeat("x", 50_000), 0o644)
	}
	secret := t.TempDir() + "/secret"
	write(t, secret, "outside", 0o644)
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; !stop.Load(); i++ {
			p := fmt.Sprintf("%s/f%03d", up, i%200)
			// Whatever fails here fails because it is in the state that another turn left it in.
			switch i % 7 {
			case 0:
				_ = os.Truncate(p, 10) //nolint:errcheck // see above
			case 1:
				_ = os.Remove(p)                                                //nolint:errcheck // see above; and opening a FIFO would wait
				_ = os.WriteFile(p, []byte(strings.Repeat("y", 70_000)), 0o644) //nolint:errcheck // see above
			case 2:
				_ = os.Remove(p) //nolint:errcheck // see above
			case 3:
				_ = os.Remove(p)          //nolint:errcheck // see above
				_ = os.Symlink(secret, p) //nolint:errcheck // see above
			case 4:
				_ = os.Remove(p)          //nolint:errcheck // see above
				_ = unix.Mkfifo(p, 0o644) //nolint:errcheck // see above
			case 5:
				_ = os.Remove(p)       //nolint:errcheck // see above
				_ = os.Mkdir(p, 0o755) //nolint:errcheck // see above
			case 6:
				_ = os.Remove(p) //nolint:errcheck // see above
			}
		}
	}()
	for range 5 {
		within(t, 20*time.Second, "a capture of moving files", func() {
			p, _ := capture(t, bare(up), Options{})
			for k, f := range rows(t, p, false) {
				if f.SHA256 == hashOf("outside") {
					t.Errorf("%s shows what lies outside", k)
				}
			}
		})
	}
	stop.Store(true)
	<-done
}

func TestLimits(t *testing.T) {
	testenv.NeedRoot(t)
	up := t.TempDir()
	write(t, up+"/a", strings.Repeat("a", 1000), 0o644)
	write(t, up+"/b", strings.Repeat("b", 5000), 0o644)
	for i := range 50 {
		write(t, fmt.Sprintf("%s/c%02d", up, i), "c", 0o644)
	}
	p, _ := capture(t, bare(up), Options{MaxFile: 2000, MaxEntries: 30})
	all := rows(t, p, false)
	if f := all["root /a"]; f.Artifact == "" {
		t.Errorf("/a: %+v", f)
	}
	if f := all["root /b"]; f.Artifact != "" || f.SHA256 != hashOf(strings.Repeat("b", 5000)) {
		t.Errorf("/b: %+v", f)
	}
	if len(all) > 32 {
		t.Errorf("%d rows", len(all))
	}
	text := ""
	for _, m := range p.Coverage().Missed {
		text += m.What + m.Reason + "\n"
	}
	if !strings.Contains(text, "larger than the limit of 2000") || !strings.Contains(text, "the limit of files") {
		t.Errorf("coverage: %s", text)
	}
}

// TestNames: a directory whose names don't fit comes out whole and in order all the same.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for i := range 3000 {
		n := fmt.Sprintf("%x-%d", sum([]byte{byte(i), byte(i >> 8)}), i)
		want = append(want, n)
		check(t, os.WriteFile(dir+"/"+n, nil, 0o600))
	}
	slices.Sort(want)
	r, err := safefs.Open(dir, safefs.Options{NoXDev: true})
	check(t, err)
	defer r.Close()
	for _, budget := range []int{1, 2000, 4 << 10, 64 << 10, 1 << 20} {
		d, err := r.Dir("")
		check(t, err)
		var got []string
		n := &names{dir: d, budget: budget}
		stop := errors.New("enough")
		err = merged([]*names{n, nil}, func(name string, _ []int) error {
			got = append(got, name)
			if budget == 1 && len(got) == 50 {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) || n.err != nil {
			t.Fatal(err, n.err)
		}
		if budget == 1 && !slices.Equal(got, want[:50]) || budget > 1 && !slices.Equal(got, want) {
			t.Errorf("budget %d: %d names", budget, len(got))
		}
		d.Close()
	}
}

// TestRedirect: a directory that was renamed with redirect_dir, and a file of which only metadata was copied up.
func TestRedirect(t *testing.T) {
	r := overlay(t, ",redirect_dir=on,metacopy=on")
	check(t, os.Rename(r.merged+"/opt/gone", r.merged+"/opt/moved"))
	check(t, unix.Chmod(r.merged+"/usr/bin/tool", 0o4755))
	p, _ := capture(t, r.container(), Options{})
	all := rows(t, p, false)
	if f := all["root /opt/moved"]; f.Redirect != "gone" && f.Redirect != "/opt/gone" {
		t.Errorf("/opt/moved: %+v", f)
	}
	if f := all["root /opt/moved/b/c"]; f.SHA256 != hashOf("c") || f.Layer != 0 {
		t.Errorf("/opt/moved/b/c: %+v", f)
	}
	if f := all["image /opt/gone/b/c"]; f.SHA256 != hashOf("c") {
		t.Errorf("/opt/gone/b/c: %+v", f)
	}
	if f := all["root /usr/bin/tool"]; !f.Metacopy || f.SHA256 != hashOf("\x7fELF tool") || f.Mode != 0o4755 {
		t.Errorf("/usr/bin/tool: %+v", f)
	}
	if c := complaints(p); len(c) > 0 {
		t.Errorf("complaints: %q", c)
	}
}

// TestRootless: whiteouts and opaque marks as a rootless runtime writes them.
func TestRootless(t *testing.T) {
	r := overlay(t, ",userxattr")
	tamper(t, r.merged)
	c := r.container()
	c.PID, c.State = startChild(t, childSpec{Root: r.merged}), target.Running
	p, _ := capture(t, c, Options{})
	all := rows(t, p, false)
	if f := all["root /lib/libc.so"]; f.Type != record.TypeWhiteout {
		t.Errorf("/lib/libc.so: %+v", f)
	}
	if f := all["root /opt/opaque"]; !f.Opaque {
		t.Errorf("/opt/opaque: %+v", f)
	}
	if f, ok := all["image /opt/opaque/x"]; !ok {
		t.Errorf("/opt/opaque/x: %+v", f)
	}
	if c := complaints(p); len(c) > 0 {
		t.Errorf("complaints: %q", c)
	}
}

// TestXattrWhiteout: the form that mkfs.erofs and containerd write where a device can't be made.
func TestXattrWhiteout(t *testing.T) {
	testenv.NeedRoot(t)
	base := t.TempDir()
	layers := image(t, base)
	up := base + "/upper"
	write(t, up+"/lib/libc.so", "", 0o644)
	check(t, unix.Setxattr(up+"/lib/libc.so", "trusted.overlay.whiteout", nil, 0))
	check(t, unix.Setxattr(up+"/lib", "trusted.overlay.opaque", []byte("x"), 0))
	c := (&rootfs{upper: up, layers: layers}).container()
	p, _ := capture(t, c, Options{})
	all := rows(t, p, false)
	if f := all["root /lib/libc.so"]; f.Type != record.TypeWhiteout {
		t.Errorf("row %+v", f)
	}
	if f := all["root /lib"]; f.Opaque {
		t.Errorf("row %+v", f)
	}
	if _, ok := all["image /lib/libc.so"]; !ok {
		t.Error("the deleted file has no row")
	}
}

// TestDocker: the runtime's own layer is neither the image's nor the container's.
func TestDocker(t *testing.T) {
	testenv.NeedRoot(t)
	base := t.TempDir()
	r := &rootfs{base: base, upper: base + "/upper", layers: image(t, base)}
	init := base + "/init"
	write(t, init+"/.dockerenv", "", 0o755)
	write(t, init+"/etc/hosts", "", 0o644)
	write(t, init+"/etc/resolv.conf", "", 0o644)
	write(t, r.upper+"/etc/hosts", "10.0.0.1 evil", 0o644)
	c := r.container()
	c.Rootfs.Layers = append(c.Rootfs.Layers, target.Layer{Dir: init, Init: true})
	p, _ := capture(t, c, Options{})
	all := rows(t, p, false)
	for key, layer := range map[string]int{"root /.dockerenv": -2, "root /etc/hosts": -1, "layer /etc/hosts -2": -2, "root /etc/resolv.conf": -2, "both /etc/config": 1} {
		if f, ok := all[key]; !ok || f.Layer != layer {
			t.Errorf("%s: %+v", key, f)
		}
	}
	if _, ok := p.Artifact("filesystem/upper/.dockerenv"); ok {
		t.Error("the runtime's file was kept as the container's")
	}
}

// TestFalseNotes: what the container itself writes as user.overlay.* means nothing to an overlay of root's.
func TestFalseNotes(t *testing.T) {
	r := overlay(t, "")
	write(t, r.merged+"/opt/opaque/z", "", 0o644)
	check(t, unix.Setxattr(r.merged+"/opt/opaque", "user.overlay.opaque", []byte("y"), 0))
	check(t, unix.Setxattr(r.merged+"/opt/opaque/z", "user.overlay.whiteout", nil, 0))
	p, _ := capture(t, r.container(), Options{})
	all := rows(t, p, false)
	if f, ok := all["both /opt/opaque/x"]; !ok {
		t.Errorf("/opt/opaque/x: %+v", f)
	}
	if f := all["root /opt/opaque/z"]; f.Type != record.TypeFile {
		t.Errorf("/opt/opaque/z: %+v", f)
	}
}
