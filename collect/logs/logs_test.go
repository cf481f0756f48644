package logs_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/logs"
	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/target"
)

func collect(t *testing.T, c *target.Container, o logs.Options) *evidence.Package {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.sherd")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := evidence.NewWriter(f, evidence.WriterOptions{Tool: "test"})
	if err != nil {
		t.Fatal(err)
	}
	s := subject.Subject{Container: c, Proc: "/proc", Processes: []subject.Process{{PID: 4017, Relation: record.InCgroup}}}
	if err := logs.Collect(t.Context(), s, w, o); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	old := []unix.Timespec{{Sec: 1_000_000_000}, {Nsec: unix.UTIME_OMIT}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, old, 0); err != nil {
		t.Fatal(err)
	}
}

// TestRotated takes rotated, compressed and previous logs as they lie, leaves alone what is not a log of this container, follows no
// link, and moves no access time.
func TestRotated(t *testing.T) {
	testenv.NeedRoot(t)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	fmt.Fprint(z, "old lines")
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, format, file string
		siblings           map[string][]byte
		not                []string
	}{
		{"docker", "json-file", "abc-json.log", map[string][]byte{"abc-json.log.1": []byte("one"), "abc-json.log.2.gz": zipped.Bytes()}, []string{"config.v2.json"}},
		{"cri", "cri", "1.log", map[string][]byte{"1.log.20261122-031502": []byte("rotated"), "1.log.20261121-031502.gz": zipped.Bytes(), "0.log": []byte("the instance before")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, c.file), []byte("current lines\n"))
			for name, b := range c.siblings {
				write(t, filepath.Join(dir, name), b)
			}
			for _, name := range c.not {
				write(t, filepath.Join(dir, name), []byte("not a log"))
			}
			if err := os.Symlink("/etc/shadow", filepath.Join(dir, c.file+".9")); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mkfifo(filepath.Join(dir, c.file+".8"), 0o600); err != nil {
				t.Fatal(err)
			}
			p := collect(t, &target.Container{ID: "abc", Name: "x", Logs: []target.LogFile{{Path: filepath.Join(dir, c.file), Format: c.format}}}, logs.Options{})
			c.siblings[c.file] = []byte("current lines\n")
			for name, want := range c.siblings {
				got, err := p.ReadFile("logs/"+name, 1<<20)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %q, %v", name, got, err)
				}
				var st unix.Stat_t
				if err := unix.Stat(filepath.Join(dir, name), &st); err != nil || st.Atim.Sec != 1_000_000_000 {
					t.Errorf("%s: its access time moved to %v (%v)", name, st.Atim, err)
				}
			}
			for _, name := range append(c.not, c.file+".9", c.file+".8") {
				if _, ok := p.Artifact("logs/" + name); ok {
					t.Errorf("%s was taken", name)
				}
			}
		})
	}
}

// TestEnd keeps the end of a log that is larger than the limit, and says so.
func TestEnd(t *testing.T) {
	testenv.NeedRoot(t)
	path := filepath.Join(t.TempDir(), "abc-json.log")
	write(t, path, []byte(strings.Repeat("0123456789", 1000)+"END"))
	p := collect(t, &target.Container{ID: "abc", Logs: []target.LogFile{{Path: path, Format: "json-file"}}}, logs.Options{MaxFile: 100})
	b, err := p.ReadFile("logs/abc-json.log", 1000)
	if err != nil || len(b) != 100 || !strings.HasSuffix(string(b), "END") {
		t.Errorf("%q %v", b, err)
	}
	if len(p.Coverage().Missed) == 0 {
		t.Error("coverage does not say that the beginning is missing")
	}
}

// TestMissing says when there is no log where the runtime says.
func TestMissing(t *testing.T) {
	testenv.NeedRoot(t)
	p := collect(t, &target.Container{ID: "abc", Logs: []target.LogFile{{Path: "/nonexistent/abc-json.log", Format: "json-file"}}}, logs.Options{})
	for _, m := range p.Coverage().Missed {
		if strings.Contains(m.What+m.Reason, "no such file") || strings.Contains(m.What, "abc-json.log") {
			return
		}
	}
	t.Errorf("coverage: %+v", p.Coverage())
}
