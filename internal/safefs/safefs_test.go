package safefs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/internal/testenv"
)

// hostile makes a tree that tries to lead out of itself, and a secret beside it.
func hostile(t testing.TB) (root, secret string) {
	t.Helper()
	base := t.TempDir()
	root, secret = filepath.Join(base, "root"), filepath.Join(base, "secret")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(filepath.Join(root, "d/e"), 0o755))
	check(os.WriteFile(secret, []byte("outside"), 0o644))
	check(os.WriteFile(filepath.Join(root, "file"), []byte("inside"), 0o644))
	check(os.WriteFile(filepath.Join(root, "d/file"), []byte("deeper"), 0o644))
	for name, target := range map[string]string{
		"abs": secret, "up": "../secret", "upup": "../../../../../../../../../.." + secret, "d/up": "../../secret",
		"ok": "/d/file", "rel": "d/file", "dirup": "..", "dirabs": base, "loop": "loop",
		"magic": "/proc/self/fd/0", "self": "/proc/self/root" + secret, "dd": "d",
	} {
		check(os.Symlink(target, filepath.Join(root, name)))
	}
	check(unix.Mkfifo(filepath.Join(root, "fifo"), 0o644))
	l, err := net.Listen("unix", filepath.Join(root, "sock"))
	check(err)
	t.Cleanup(func() { l.Close() })
	if os.Getuid() == 0 {
		check(unix.Mknod(filepath.Join(root, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	}
	return root, secret
}

func open(t testing.TB, path string, o Options) *Root {
	t.Helper()
	r, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestConfined(t *testing.T) {
	path, _ := hostile(t)
	for _, o := range []Options{{}, {NoXDev: true}} {
		r := open(t, path, o)
		if cloned, err := r.Cloned(); os.Getuid() == 0 && !cloned {
			t.Errorf("root gets no clone: %v", err)
		}
		for _, rel := range []string{"abs", "up", "upup", "d/up", "dirup/secret", "dirabs/secret", "../secret", "d/../../secret",
			"self", "magic", "loop", "dd/up", "nothing"} {
			if b, err := r.ReadFile(rel, 100); err == nil {
				t.Errorf("%v: ReadFile(%q) = %q, want an error", o, rel, b)
			}
		}
		for rel, want := range map[string]string{"file": "inside", "/file": "inside", "ok": "deeper", "rel": "deeper", "dd/file": "deeper", "dirup/file": "inside", "../../file": "inside"} {
			b, err := r.ReadFile(rel, 100)
			if err != nil || string(b) != want {
				t.Errorf("ReadFile(%q) = %q, %v, want %q", rel, b, err, want)
			}
		}
		if b, err := r.ReadFile("file", 3); !errors.Is(err, ErrTooLarge) || string(b) != "ins" {
			t.Errorf("limited ReadFile = %q, %v", b, err)
		}
		if l, err := r.Readlink("abs"); err != nil || !strings.HasSuffix(l, "/secret") {
			t.Errorf("Readlink = %q, %v", l, err)
		}
		if s, err := r.Lstat("abs"); err != nil || !s.IsSymlink() {
			t.Errorf("Lstat = %+v, %v", s, err)
		}
		if s, err := r.StatAt("ok"); err != nil || !s.IsRegular() || s.Size != 6 {
			t.Errorf("StatAt = %+v, %v", s, err)
		}
	}
}

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	path, _ := hostile(t)
	r := open(t, path, Options{})
	d, err := r.Dir("")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{"fifo", "sock", "null", "d", "abs"} {
		if name == "null" && os.Getuid() != 0 {
			continue
		}
		if _, err := d.Open(name); !errors.Is(err, ErrNotRegular) {
			t.Errorf("Dir.Open(%q): %v, want ErrNotRegular", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "d/file", "a\x00b"} {
		if _, err := d.Open(name); !errors.Is(err, ErrName) {
			t.Errorf("Dir.Open(%q): %v, want ErrName", name, err)
		}
		if _, err := d.Lstat(name); !errors.Is(err, ErrName) {
			t.Errorf("Dir.Lstat(%q): %v, want ErrName", name, err)
		}
	}
	if _, err := d.Dir("dd"); err == nil {
		t.Error("Dir.Dir follows a symbolic link")
	}
	seen := map[string]bool{}
	if err := d.Entries(func(e Entry) error { seen[e.Name] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if !seen["file"] || !seen["fifo"] || seen["."] || seen[".."] {
		t.Errorf("Entries = %v", seen)
	}
	stop := errors.New("stop")
	if err := d.Entries(func(Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Entries = %v, want the callback's error", err)
	}
}

// times gives atime, mtime and ctime of everything below dir, without touching any.
func times(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	var walk func(string)
	walk = func(p string) {
		s, err := statx(unix.AT_FDCWD, p)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, p, s.Atime, s.Mtime, s.Ctime, s.Mode)
		if s.IsDir() {
			h, err := unix.Open(p, unix.O_RDONLY|unix.O_NOATIME|unix.O_DIRECTORY, 0)
			if err != nil {
				t.Fatal(err)
			}
			d := Dir{r: &Root{quiet: true}, h: newHandle(h)}
			defer d.Close()
			if err := d.Entries(func(e Entry) error { walk(p + "/" + e.Name); return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	walk(dir)
	return b.String()
}

// age makes every access older than the last change, so that relatime would record the next one.
func age(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Sec: 1000}, {Sec: 2000}}, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		t.Fatal(err)
	}
	// Walking read the directories after their own turn.
	for _, p := range []string{dir, dir + "/d", dir + "/d/e"} {
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Sec: 1000}, {Sec: 2000}}, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAccessTimesStay(t *testing.T) {
	testenv.NeedRoot(t)
	path, _ := hostile(t)
	age(t, path)
	before := times(t, path)
	for _, o := range []Options{{}, {NoXDev: true}, {NoClone: true, NoXDev: true}} {
		r := open(t, path, o)
		for _, rel := range []string{"file", "ok", "d/file", "dd/file"} {
			_, err := r.ReadFile(rel, 100)
			if o.NoClone && (rel == "ok" || rel == "dd/file") {
				if !errors.Is(err, ErrAccessTime) {
					t.Errorf("without a clone, ReadFile(%q): %v, want ErrAccessTime", rel, err)
				}
			} else if err != nil {
				t.Error(err)
			}
		}
		if _, err := r.Readlink("abs"); o.NoClone != errors.Is(err, ErrAccessTime) {
			t.Errorf("%+v: Readlink: %v", o, err)
		}
		for _, rel := range []string{"", "d", "d/e"} {
			if err := r.ReadDir(rel, func(Entry) error { return nil }); err != nil {
				t.Error(err)
			}
		}
		if after := times(t, path); after != before {
			t.Errorf("%+v: times changed\nbefore:\n%s\nafter:\n%s", o, before, after)
		}
	}
	// The same reads by ordinary means do change them: the test can fail.
	if _, err := os.ReadFile(path + "/file"); err != nil {
		t.Fatal(err)
	}
	if times(t, path) == before {
		t.Log("this file system keeps no access times: the test proves nothing here")
	}
}

// TestRace swaps a directory and a symbolic link that leads outside while reading through the name.
func TestRace(t *testing.T) {
	path, secret := hostile(t)
	if err := os.WriteFile(filepath.Join(filepath.Dir(secret), "file"), []byte("outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+"/swap", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"/swap/file", []byte("inside"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..", path+"/link"); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	done := make(chan error, 1)
	go func() {
		for !stop.Load() {
			if err := unix.Renameat2(unix.AT_FDCWD, path+"/swap", unix.AT_FDCWD, path+"/link", unix.RENAME_EXCHANGE); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	r := open(t, path, Options{})
	d, err := r.Dir("")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for range 5000 {
		if b, err := r.ReadFile("swap/file", 100); err == nil && string(b) == "outside" {
			t.Fatal("read outside the root")
		}
		if sub, err := d.Dir("swap"); err == nil {
			if f, err := sub.Open("file"); err == nil {
				b, _ := io.ReadAll(f)
				if string(b) != "inside" {
					t.Fatalf("read %q", b)
				}
				f.Close()
			}
			sub.Close()
		}
	}
	stop.Store(true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestExtents(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(dir + "/sparse")
	if err != nil {
		t.Fatal(err)
	}
	const far = 1 << 40
	for _, off := range []int64{0, 1 << 20, far} {
		if _, err := f.WriteAt([]byte("data"), off); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	r := open(t, dir, Options{NoXDev: true})
	g, err := r.Open("sparse")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	x, err := g.Extents(g.Stat().Size, 100)
	if err != nil || len(x) != 3 || x[2].Offset != far || x[2].Length != 4 {
		t.Errorf("Extents = %v, %v", x, err)
	}
	x, err = g.Extents(g.Stat().Size, 2)
	if err != nil || len(x) != 2 || x[1].Offset+x[1].Length != g.Stat().Size {
		t.Errorf("limited Extents = %v, %v", x, err)
	}
}

func TestXattrs(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	for _, n := range []string{"file", "dir/x"} {
		if err := os.MkdirAll(filepath.Dir(dir+"/"+n), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/"+n, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("file", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", 2000)
	for p, kv := range map[string][2]string{"file": {"trusted.a", big}, "link": {"trusted.l", "on the link"}, "dir": {"trusted.overlay.opaque", "y"}} {
		if err := unix.Lsetxattr(dir+"/"+p, kv[0], []byte(kv[1]), 0); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, dir, Options{NoXDev: true})
	d, err := r.Dir("")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if x, err := d.Xattrs("file"); err != nil || x["trusted.a"] != big {
		t.Errorf("file: %v, %v", x, err)
	}
	if x, err := d.Xattrs("link"); err != nil || x["trusted.l"] != "on the link" || x["trusted.a"] != "" {
		t.Errorf("link: %v, %v", x, err)
	}
	sub, err := d.Dir("dir")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	if x, err := sub.SelfXattrs(); err != nil || x["trusted.overlay.opaque"] != "y" {
		t.Errorf("dir: %v, %v", x, err)
	}
	f, err := d.Open("file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if x, err := f.Xattrs(); err != nil || x["trusted.a"] != big {
		t.Errorf("open file: %v, %v", x, err)
	}
}

func TestReadProc(t *testing.T) {
	b, err := ReadProc("/proc/self/status", 1<<20)
	if err != nil || !bytes.HasPrefix(b, []byte("Name:")) {
		t.Errorf("ReadProc = %q, %v", b, err)
	}
	if b, err := ReadProc("/proc/self/maps", 10); !errors.Is(err, ErrTooLarge) || len(b) != 10 {
		t.Errorf("limited ReadProc = %q, %v", b, err)
	}
	f, err := OpenLink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := make([]byte, 4)
	if _, err := f.ReadAt(head, 0); err != nil || string(head) != "\x7fELF" {
		t.Errorf("exe starts %q, %v", head, err)
	}
}

func TestOneFileMount(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/hosts", []byte("127.0.0.1"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir+"/hosts", Options{NoXDev: true})
	f, err := r.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "127.0.0.1" {
		t.Errorf("read %q, %v", b, err)
	}
}

// TestOpenBelow: an absolute link on a machine's root that is seen elsewhere leads into that root.
func TestOpenBelow(t *testing.T) {
	base := t.TempDir()
	if err := os.MkdirAll(base+"/mnt/big/docker", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(base+"/mnt/big/docker/x", []byte("here"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/mnt/big", base+"/lib"); err != nil {
		t.Fatal(err)
	}
	r, err := OpenBelow(base, "/lib/docker", Options{NoXDev: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := r.ReadFile("x", 10); err != nil || string(b) != "here" {
		t.Errorf("read %q, %v", b, err)
	}
}

// TestHung waits for an operation that does not end until it is let go.
func TestHung(t *testing.T) {
	g := newGuard(20 * time.Millisecond)
	release := make(chan struct{})
	discarded := make(chan int, maxHungRoot)
	h := newHandle(-1)
	start := time.Now()
	for range maxHungRoot {
		_, err := run(g, h, func(int) (int, error) { <-release; return 7, nil }, func(v int) { discarded <- v })
		if !errors.Is(err, ErrTimeout) {
			t.Fatalf("run = %v, want ErrTimeout", err)
		}
	}
	// Now it counts as dead: no further thread is risked, no time lost.
	if _, err := run(g, h, func(int) (int, error) { t.Error("ran"); return 0, nil }, nil); !errors.Is(err, ErrTimeout) {
		t.Fatalf("run = %v, want ErrTimeout", err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	h.close()
	close(release)
	for range maxHungRoot {
		if v := <-discarded; v != 7 {
			t.Errorf("discarded %d", v)
		}
	}
	for hung.Load() != 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := run(g, nil, func(int) (int, error) { return 1, nil }, nil); err != nil {
		t.Errorf("after all came back: %v", err)
	}
}

func FuzzConfined(f *testing.F) {
	path, _ := hostile(f)
	r := open(f, path, Options{})
	for _, s := range []string{"abs", "../secret", "d/../..//secret", "dirup/../secret", "./.", "proc/self/root", "dd/up", "\x00", strings.Repeat("../", 600) + "secret"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rel string) {
		if b, err := r.ReadFile(rel, 100); err == nil && string(b) != "inside" && string(b) != "deeper" {
			t.Fatalf("ReadFile(%q) = %q", rel, b)
		}
	})
}

func FuzzDirents(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x18\x00\x08ab\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = dirents(b, func(e Entry) error { //nolint:errcheck // any answer will do, but no crash and no bad name
			if checkName(e.Name) != nil {
				t.Fatalf("name %q", e.Name)
			}
			return nil
		})
	})
}
