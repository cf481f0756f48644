package evidence

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/internal/testenv"
)

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestTarAndZstd unpacks a package with tar and zstd alone, and holds what comes out against the manifest.
func TestTarAndZstd(t *testing.T) {
	testenv.NeedTool(t, "tar", "zstd")
	testenv.NeedRoot(t) // owners, trusted attributes and devices
	isolate(t)
	path, _ := build(t, WriterOptions{Tool: "test"}, func(w *Writer) {
		variety(t)(w)
		must[Entry](t)(w.Add(Meta{Path: "filesystem/upper/gone", Type: tar.TypeChar, Mode: 0o000, Xattrs: map[string]string{"trusted.overlay.opaque": "y"}}, nil))
	})
	run(t, "zstd", "-t", path)
	dir := t.TempDir()
	run(t, "tar", "--zstd", "--xattrs", "--xattrs-include=*", "-xpf", path, "-C", dir)

	var m struct {
		Count     int
		Artifacts []Entry
	}
	if err := json.Unmarshal(must[[]byte](t)(os.ReadFile(filepath.Join(dir, ManifestPath))), &m); err != nil {
		t.Fatal(err)
	}
	if m.Count != len(m.Artifacts) || m.Count < 15 {
		t.Fatalf("manifest of %d artifacts, claims %d", len(m.Artifacts), m.Count)
	}
	for _, e := range m.Artifacts {
		st, err := os.Lstat(filepath.Join(dir, e.Path))
		if err != nil {
			t.Error(err)
			continue
		}
		if e.Type != tar.TypeReg {
			continue
		}
		b := must[[]byte](t)(os.ReadFile(filepath.Join(dir, e.Path)))
		sum := sha256.Sum256(b)
		if hex.EncodeToString(sum[:]) != e.SHA256 || st.Size() != e.Size {
			t.Errorf("%q: unpacked %d bytes with %x, the manifest has %d with %s", e.Path, len(b), sum, e.Size, e.SHA256)
		}
	}
	upper := filepath.Join(dir, "filesystem/upper")
	st := must[fs.FileInfo](t)(os.Stat(upper + "/a"))
	sys, _ := st.Sys().(*syscall.Stat_t)
	if st.ModTime().UnixNano() != 1_600_000_000_123_456_789 || sys.Uid != 65532 || sys.Gid != 7 || sys.Mode&0o7777 != 0o4755 || sys.Nlink != 2 {
		t.Errorf("unpacked a: %s %+v", st.ModTime(), sys)
	}
	buf := make([]byte, 100)
	for name, want := range map[string]string{"user.note": "a\x00b\nc=d", "user.we=ird%": "x"} {
		n, err := unix.Lgetxattr(upper+"/a", name, buf)
		if errors.Is(err, unix.ENOTSUP) {
			t.Logf("this file system has no user attributes")
		} else if err != nil || string(buf[:n]) != want {
			t.Errorf("attribute %s: %q %v", name, buf[:max(n, 0)], err)
		}
	}
	if st := must[fs.FileInfo](t)(os.Lstat(upper + "/gone")); st.Mode()&fs.ModeCharDevice == 0 {
		t.Errorf("the whiteout is a %s", st.Mode())
	}
	if st := must[fs.FileInfo](t)(os.Stat(upper + "/sparse")); st.Size() == 4<<20 {
		if sys, _ := st.Sys().(*syscall.Stat_t); sys.Blocks*512 > 1<<20 {
			t.Errorf("the holes were filled: %d blocks", sys.Blocks)
		}
	}
	if l := must[string](t)(os.Readlink(upper + "/link")); l != "/etc/\xffpasswd" {
		t.Errorf("link to %q", l)
	}
}

// TestPythonReader has a reader that shares no line with this package read one.
func TestPythonReader(t *testing.T) {
	testenv.NeedTool(t, "python3", "zstd")
	isolate(t)
	path, s := build(t, WriterOptions{Tool: "test"}, variety(t))
	out := run(t, "python3", "testdata/reader.py", path)
	if n := strings.Count(out, "\n"); n != s.Artifacts {
		t.Errorf("%d artifacts instead of %d", n, s.Artifacts)
	}
	if !strings.Contains(out, hex.EncodeToString([]byte("filesystem/upper/bad\xff\xfe\nname"))) {
		t.Error("the name that is not UTF-8 is lost")
	}
}

// TestGoTar has the standard library read the tar stream.
func TestGoTar(t *testing.T) {
	isolate(t)
	path, s := build(t, WriterOptions{Tool: "test", Target: "x"}, variety(t))
	f := must[*os.File](t)(os.Open(path))
	defer f.Close()
	z := must[*zstd.Decoder](t)(zstd.NewReader(f))
	defer z.Close()
	r := tar.NewReader(z)
	n, last := 0, ""
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			if !strings.Contains(h.PAXRecords["comment"], s.ID) {
				t.Errorf("global header %v", h.PAXRecords)
			}
			continue
		}
		if h.Name == "filesystem/upper/a" {
			if h.ModTime.UnixNano() != 1_600_000_000_123_456_789 || h.AccessTime.UnixNano() != 5 || h.ChangeTime.UnixNano() != 6 ||
				h.PAXRecords["SHERD.btime"] != "0.000000007" || h.PAXRecords["SHERD.layer"] != "upper" || h.PAXRecords["SCHILY.xattr.user.note"] != "a\x00b\nc=d" {
				t.Errorf("header %+v", h)
			}
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Fatal(err)
		}
		n++
		last = h.Name
	}
	if n != s.Artifacts+1 || last != ManifestPath {
		t.Errorf("%d members, the last is %q", n, last)
	}
}

// TestLargeNumbers holds the headers' numbers that don't fit octal fields against archive/tar.
func TestLargeNumbers(t *testing.T) {
	var b bytes.Buffer
	m := Meta{Path: "huge", Type: tar.TypeReg, Mode: 0o600, UID: 1 << 30, GID: 3_000_000_000, Mtime: -1_500_000_000}
	h, err := appendHeader(nil, &m, tar.TypeReg, 1<<40, 1<<40, "")
	if err != nil {
		t.Fatal(err)
	}
	b.Write(h)
	got := must[*tar.Header](t)(tar.NewReader(&b).Next())
	if got.Size != 1<<40 || got.Uid != 1<<30 || got.Gid != 3_000_000_000 || got.ModTime.UnixNano() != -1_500_000_000 {
		t.Errorf("%+v", got)
	}
	for ns, want := range map[int64]string{1: "0.000000001", -1: "-0.000000001", 999_999_999: "0.999999999", -1_000_000_001: "-1.000000001",
		1_700_000_000_000_000_000: "1700000000", math.MinInt64: "-9223372036.854775807"} {
		if got := paxTime(ns); got != want {
			t.Errorf("%d is %q instead of %q", ns, got, want)
		}
	}
}
