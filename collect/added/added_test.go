package added_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/added"
	"github.com/sherd-forensics/sherd/evidence"
)

func collectInto(t *testing.T, o added.Options, paths ...string) *evidence.Package {
	t.Helper()
	key, err := evidence.NewKey("test")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "p.sherd")
	f, err := evidence.CreateFile(out)
	if err != nil {
		t.Fatal(err)
	}
	w, err := evidence.NewWriter(f, evidence.WriterOptions{Tool: "test", Key: key, Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := added.Collect(context.Background(), w, paths, o); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	p, err := evidence.Open(out, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestCollect takes a file, a folder and a link, and says of what it did not take why.
func TestCollect(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/syslog", "a line\n")
	put(t, dir+"/audit/audit.log", "type=X\n")
	put(t, dir+"/audit/deep/er/audit.log.1", "type=Y\n")
	put(t, dir+"/elsewhere", "secret")
	if err := os.Symlink("../elsewhere", dir+"/audit/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("syslog", dir+"/named"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(dir+"/audit/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(dir+"/syslog", old, old); err != nil {
		t.Fatal(err)
	}
	p := collectInto(t, added.Options{}, dir+"/syslog", dir+"/audit", dir+"/named", dir+"/audit/audit.log", dir+"/gone")
	var got []string
	for _, e := range p.Artifacts(added.Prefix) {
		if e.Type != 0 && e.Type != '0' {
			continue
		}
		got = append(got, strings.TrimPrefix(e.Path, "added"+dir+"/"))
	}
	if want := []string{"audit/audit.log", "audit/deep/er/audit.log.1", "syslog"}; !slices.Equal(got, want) {
		t.Errorf("the package has %v, not %v", got, want)
	}
	a, err := p.Open("added" + dir + "/syslog")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(a); err != nil || string(b) != "a line\n" {
		t.Errorf("syslog has %q, %v", b, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir+"/syslog", &st); err != nil {
		t.Fatal(err)
	}
	if st.Atim.Nano() != old.UnixNano() {
		t.Error("reading changed the access time")
	}
	missed := map[string]string{}
	for _, m := range p.Coverage().Missed {
		missed[filepath.Base(m.What)] = m.Reason
	}
	for name, why := range map[string]string{"link": "symbolic link", "pipe": "regular", "gone": "no such file"} {
		if !strings.Contains(missed[name], why) {
			t.Errorf("the coverage says of %s: %q", name, missed[name])
		}
	}
}

// TestLarge keeps the end of a file that is too large.
func TestLarge(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/big.log", strings.Repeat("x", 90)+"the end of it")
	p := collectInto(t, added.Options{MaxFile: 13}, dir+"/big.log")
	b, err := p.ReadFile("added"+dir+"/big.log", 100)
	if err != nil || string(b) != "the end of it" {
		t.Errorf("%q, %v", b, err)
	}
	if c := p.Coverage(); len(c.Missed) != 1 || !strings.Contains(c.Missed[0].Reason, "first 90 are left out") {
		t.Errorf("coverage: %+v", c.Missed)
	}
}
