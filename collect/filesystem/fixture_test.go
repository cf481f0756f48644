package filesystem

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

// childEnv makes the test binary act as a container's first process: it mounts what it is told to, goes into its
// root and waits until its standard input ends.
const childEnv = "SHERD_TEST_CONTAINER"

type childMount struct {
	Type, Source, Target, Data string
	Flags                      uintptr
}

type childSpec struct {
	Root   string
	Mounts []childMount
	// Files are written inside the root after the mounts, "path" to content.
	Files map[string]string
}

func TestMain(m *testing.M) {
	if s := os.Getenv(childEnv); s != "" {
		if err := child(s); err != nil {
			fmt.Fprintln(os.Stderr, "container:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(s string) error {
	var spec childSpec
	if err := json.Unmarshal([]byte(s), &spec); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, m := range spec.Mounts {
		if err := unix.Mount(m.Source, spec.Root+m.Target, m.Type, m.Flags, m.Data); err != nil {
			return fmt.Errorf("mounting %+v: %w", m, err)
		}
		if m.Flags&unix.MS_BIND != 0 && m.Flags&unix.MS_RDONLY != 0 {
			if err := unix.Mount("", spec.Root+m.Target, "", unix.MS_REMOUNT|m.Flags, ""); err != nil {
				return fmt.Errorf("remounting %+v: %w", m, err)
			}
		}
	}
	if err := unix.Chroot(spec.Root); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	for p, content := range spec.Files {
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			return err
		}
	}
	// A secret is mounted read-only once it is filled.
	for _, m := range spec.Mounts {
		if m.Type == "tmpfs" && strings.Contains(m.Target, "secret") {
			if err := unix.Mount("", m.Target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
				return err
			}
		}
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// startChild runs a container's first process and gives its pid.
func startChild(t testing.TB, spec childSpec) int {
	t.Helper()
	b, err := json.Marshal(spec)
	check(t, err)
	exe, err := os.Executable()
	check(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+string(b))
	// No Pdeathsig: it strikes when the thread that forked ends, and threads that enter another namespace do end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	cmd.Stderr = os.Stderr
	check(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() //nolint:errcheck // it ends with its input
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the container did not start: %q, %v", line, err)
	}
	return cmd.Process.Pid
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write makes a file with its directories and gives it old times.
func write(t testing.TB, path, content string, mode uint32) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(content), 0o600))
	check(t, unix.Chmod(path, mode))
	check(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: 1_600_000_000, Nsec: 1}, {Sec: 1_600_000_001, Nsec: 123_456_789}}, unix.AT_SYMLINK_NOFOLLOW))
}

// image makes the layers of a small image and gives their directories, lowest first.
func image(t testing.TB, base string) []string {
	t.Helper()
	l := []string{base + "/l0", base + "/l1"}
	write(t, l[0]+"/usr/bin/app", "\x7fELF app", 0o755)
	write(t, l[0]+"/usr/bin/tool", "\x7fELF tool", 0o755)
	write(t, l[0]+"/etc/passwd", "root:x:0:0::/:/none\n", 0o644)
	write(t, l[0]+"/etc/config", "old", 0o644)
	write(t, l[0]+"/lib/libc.so", strings.Repeat("libc", 10_000), 0o755)
	write(t, l[0]+"/opt/gone/a", "a", 0o644)
	write(t, l[0]+"/opt/gone/b/c", "c", 0o644)
	write(t, l[0]+"/opt/opaque/x", "x", 0o644)
	write(t, l[0]+"/opt/swap", "a file", 0o644)
	write(t, l[0]+"/layered", "low", 0o644)
	check(t, os.Symlink("tool", l[0]+"/usr/bin/link"))
	for _, d := range []string{"dev/shm", "run/secrets", "data", "tmp", "proc", "vol"} {
		check(t, os.MkdirAll(l[0]+"/"+d, 0o755))
	}
	write(t, l[1]+"/etc/config", "new", 0o644)
	write(t, l[1]+"/layered", "high", 0o644)
	write(t, l[1]+"/app/main", "\x7fELF main", 0o755)
	return l
}

type rootfs struct {
	base, upper, merged string
	layers              []string
}

// overlay mounts an overlay of image's layers.
func overlay(t testing.TB, options string) *rootfs {
	t.Helper()
	testenv.NeedRoot(t)
	base := t.TempDir()
	r := &rootfs{base: base, upper: base + "/upper", merged: base + "/merged", layers: image(t, base)}
	for _, d := range []string{r.upper, r.merged, base + "/work"} {
		check(t, os.Mkdir(d, 0o755))
	}
	low := slices.Clone(r.layers)
	slices.Reverse(low)
	data := "lowerdir=" + strings.Join(low, ":") + ",upperdir=" + r.upper + ",workdir=" + base + "/work" + options
	if err := unix.Mount("overlay", r.merged, "overlay", 0, data); err != nil {
		t.Fatalf("mounting an overlay: %v", err)
	}
	t.Cleanup(func() { check(t, unix.Unmount(r.merged, unix.MNT_DETACH)) })
	return r
}

// evil is larger than a block of tar: smaller files are stored again rather than linked.
var evil = "\x7fELF evil" + strings.Repeat(".", 600)

// tamper does what an intruder might, through the mounted root.
func tamper(t testing.TB, m string) {
	t.Helper()
	write(t, m+"/usr/bin/dropped", evil, 0o4755)
	write(t, m+"/tmp/\xff\x1b[31m\n\"odd", "odd name", 0o644)
	check(t, os.WriteFile(m+"/usr/bin/app", []byte("\x7fELF APP"), 0o755)) // same size
	check(t, unix.Chmod(m+"/usr/bin/tool", 0o4755))
	check(t, os.Chown(m+"/etc/passwd", 1000, 1000))
	check(t, os.Remove(m+"/lib/libc.so"))
	check(t, os.RemoveAll(m+"/opt/gone"))
	check(t, os.RemoveAll(m+"/opt/opaque"))
	check(t, os.Mkdir(m+"/opt/opaque", 0o755))
	write(t, m+"/opt/opaque/y", "y", 0o644)
	check(t, os.Remove(m+"/opt/swap"))
	check(t, os.Mkdir(m+"/opt/swap", 0o755))
	check(t, os.Remove(m+"/usr/bin/link"))
	check(t, os.Symlink("app", m+"/usr/bin/link"))
	check(t, os.Link(m+"/usr/bin/dropped", m+"/usr/bin/dropped2"))
	check(t, unix.Mkfifo(m+"/tmp/fifo", 0o600))
	check(t, unix.Mknod(m+"/tmp/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	check(t, unix.Chmod(m+"/tmp/null", 0o666))
	check(t, unix.Mknod(m+"/tmp/sock", unix.S_IFSOCK|0o600, 0))
	// cap_net_raw+ep, revision 2.
	caps := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	check(t, unix.Setxattr(m+"/app/main", "security.capability", caps, 0))
	check(t, unix.Setxattr(m+"/tmp/fifo", "trusted.note", []byte("x"), 0))
	f, err := os.Create(m + "/tmp/sparse")
	check(t, err)
	_, err = f.WriteAt([]byte("middle"), 5<<20)
	check(t, err)
	check(t, f.Truncate(20<<20))
	check(t, f.Close())
	write(t, m+"/tmp/big", strings.Repeat("0123456789abcdef", 200_000), 0o644)
	write(t, m+"/tmp/empty", "", 0o000)
}

func (r *rootfs) container() *target.Container {
	c := &target.Container{URL: "test://x", Runtime: "test", ID: "x", State: target.Exited,
		Rootfs: target.Rootfs{Driver: "overlay", Upper: r.upper, Merged: r.merged}}
	for i, l := range r.layers {
		c.Rootfs.Layers = append(c.Rootfs.Layers, target.Layer{Dir: l, DiffID: fmt.Sprintf("sha256:%064d", i)})
	}
	return c
}

// capture collects c into a package and opens it.
func capture(t testing.TB, c *target.Container, o Options) (*evidence.Package, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.sherd")
	out, err := os.Create(path)
	check(t, err)
	defer out.Close()
	w, err := evidence.NewWriter(out, evidence.WriterOptions{Tool: "test", Target: c})
	check(t, err)
	s := subject.Subject{Container: c, Proc: "/proc"}
	check(t, Collect(context.Background(), s, w, o))
	_, err = w.Close()
	check(t, err)
	p, err := evidence.Open(path, evidence.OpenOptions{})
	check(t, err)
	t.Cleanup(func() { p.Close() })
	return p, path
}

// rows reads the inventory of the root, or of the mounts.
func rows(t testing.TB, p *evidence.Package, mounts bool) map[string]record.File {
	t.Helper()
	out := map[string]record.File{}
	for l, err := range p.Lines("filesystem/inventory.jsonl") {
		check(t, err)
		var f record.File
		check(t, json.Unmarshal(l.Data, &f))
		if (f.Mount != "") != mounts {
			continue
		}
		key := f.Tree + " " + string(f.Path)
		if f.Tree == record.TreeLayer {
			key += fmt.Sprint(" ", f.Layer)
		}
		if _, ok := out[key]; ok {
			t.Errorf("two rows %q", key)
		}
		out[key] = f
	}
	return out
}

// complain lists the coverage entries that were not by choice.
func complaints(p *evidence.Package) []string {
	var out []string
	for _, m := range p.Coverage().Missed {
		if !m.Deliberate {
			out = append(out, m.Kind+": "+m.What+": "+m.Reason)
		}
	}
	return out
}

// state describes everything below dirs with all times and contents' sizes, without touching any of it.
func state(t testing.TB, dirs ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range dirs {
		r, err := safefs.Open(dir, safefs.Options{NoXDev: true})
		check(t, err)
		var walk func(string)
		walk = func(rel string) {
			st, err := r.Lstat(rel)
			check(t, err)
			d := fmt.Sprintf("%o %d:%d %d m%d c%d a%d n%d", st.Mode, st.UID, st.GID, st.Size, st.Mtime, st.Ctime, st.Atime, st.Nlink)
			if st.IsRegular() && st.Size < 1<<20 {
				b, err := r.ReadFile(rel, 1<<20)
				check(t, err)
				d += " " + string(b)
			}
			out[dir+rel] = d
			if st.IsDir() {
				check(t, r.ReadDir(rel, func(e safefs.Entry) error { walk(rel + "/" + e.Name); return nil }))
			}
		}
		walk("")
		r.Close()
	}
	return out
}

func unchanged(t testing.TB, before, after map[string]string) {
	t.Helper()
	for p, s := range before {
		if after[p] != s {
			t.Errorf("%q changed:\n before %s\n after  %s", p, clip(s), clip(after[p]))
		}
	}
	for p := range maps.Keys(after) {
		if _, ok := before[p]; !ok {
			t.Errorf("%q appeared", p)
		}
	}
}

// forget makes every access older than the last change, so that the next one would be recorded.
func forget(t testing.TB, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		var all []string
		check(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error { all = append(all, p); return err }))
		for _, p := range all {
			check(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Sec: 1000}, {Nsec: unix.UTIME_OMIT}}, unix.AT_SYMLINK_NOFOLLOW))
		}
	}
}

// compareTrees compares what tar restores with the original.
func compareTrees(t testing.TB, want, got string) {
	t.Helper()
	describe := func(root string) map[string]string {
		out := map[string]string{}
		links := map[uint64][]string{}
		r, err := safefs.Open(root, safefs.Options{NoXDev: true})
		check(t, err)
		defer r.Close()
		check(t, filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
			check(t, err)
			rel := strings.TrimPrefix(p, root)
			st, err := r.Lstat(rel)
			check(t, err)
			if st.TypeName() == "socket" || strings.HasSuffix(rel, "/sock") {
				return nil // tar has none: the package says so with an empty file
			}
			mtime := st.Mtime
			if st.IsSymlink() {
				l, err := os.Readlink(p)
				check(t, err)
				out[rel] = "link " + l
				return nil
			}
			d := fmt.Sprintf("%o %d:%d %d rdev %d", st.Mode, st.UID, st.GID, mtime, st.Rdev)
			if !st.IsDir() {
				d += fmt.Sprint(" size ", st.Size)
			}
			if st.IsRegular() {
				b, err := os.ReadFile(p)
				check(t, err)
				d += fmt.Sprintf(" %x", sum(b))
				if st.Size > 1<<20 {
					d += fmt.Sprint(" sparse ", st.Blocks*512 < st.Size/2)
				}
				links[st.Ino] = append(links[st.Ino], rel)
			}
			x, err := xattrsOf(p)
			check(t, err)
			for _, k := range slices.Sorted(maps.Keys(x)) {
				d += fmt.Sprintf(" %s=%q", k, x[k])
			}
			out[rel] = d
			return nil
		}))
		for _, names := range links {
			slices.Sort(names)
			for _, n := range names {
				out[n] += " same as " + strings.Join(names, ",")
			}
		}
		return out
	}
	a, b := describe(want), describe(got)
	for p := range a {
		if a[p] != b[p] {
			t.Errorf("%q\n is       %s\n restored %s", p, clip(a[p]), clip(b[p]))
		}
	}
	for p := range b {
		if a[p] == "" {
			t.Errorf("%q was restored from nothing", p)
		}
	}
}

func xattrsOf(p string) (map[string]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, buf)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for k := range strings.SplitSeq(strings.Trim(string(buf[:n]), "\x00"), "\x00") {
		if k == "" {
			continue
		}
		v := make([]byte, 64<<10)
		m, err := unix.Lgetxattr(p, k, v)
		if err != nil {
			return nil, err
		}
		out[k] = string(v[:m])
	}
	return out, nil
}

// extract unpacks a package with nothing but zstd and GNU tar.
func extract(t testing.TB, path string) string {
	t.Helper()
	testenv.NeedTool(t, "tar", "zstd")
	dir := t.TempDir()
	cmd := exec.Command("tar", "--warning=no-unknown-keyword", "--zstd", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", path, "-C", dir)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, b)
	} else if len(b) > 0 {
		t.Logf("tar: %s", b)
	}
	return dir
}

func within(t testing.TB, d time.Duration, what string, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > d {
		t.Errorf("%s took %v, want at most %v", what, took, d)
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if b, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, b)
	}
}
