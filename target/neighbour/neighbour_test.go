package neighbour

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// one is a process of a /proc that a test makes.
type one struct {
	pid    int
	comm   string
	ticks  int
	cgroup string
	uid    int
}

// fake is a /proc with these processes, of which the last is this one.
func fake(t *testing.T, of ...one) *Runtime {
	t.Helper()
	dir := t.TempDir()
	for n, p := range of {
		at := filepath.Join(dir, strconv.Itoa(p.pid))
		if err := os.MkdirAll(filepath.Join(at, "root"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"status": fmt.Sprintf("Name:\t%s\nPid:\t%d\nUid:\t0\t%d\t0\t0\nGid:\t0\t7\t0\t0\n", p.comm, p.pid, p.uid),
			"stat":   fmt.Sprintf("%d (%s) S 0%s %d 0\n", p.pid, p.comm, strings.Repeat(" 0", 17), p.ticks),
			"cgroup": "0::" + p.cgroup + "\n",
		} {
			if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if n == len(of)-1 {
			if err := os.Symlink(strconv.Itoa(p.pid), filepath.Join(dir, "self")); err != nil {
				t.Fatal(err)
			}
		}
	}
	return &Runtime{proc: dir}
}

func TestFind(t *testing.T) {
	us, asks := one{90, "sherd-collector", 900, "/", 65532}, one{95, "sherd-collector", 950, "/", 65532}
	theirs := "/../cri-containerd-" + id + ".scope"
	for name, x := range map[string]struct {
		procs []one
		want  int
		words string // of the warning, or the error if want is 0
	}{
		"alone":                       {[]one{{1, "app", 5, theirs, 65532}, asks, us}, 1, ""},
		"a child with a lower number": {[]one{{4, "child", 70, theirs, 65532}, {30, "app", 60, theirs, 65532}, us}, 30, ""},
		"a pod's shared namespace":    {[]one{{1, "pause", 1, "/../pause", 65535}, {7, "other", 2, "/../other", 1}, {9, "app", 3, theirs, 65532}, us}, 9, ""},
		"a name that pretends":        {[]one{{1, "a) S 0 " + id, 5, "/../other", 65532}, {9, "app", 6, theirs, 65532}, us}, 9, ""},
		"cgroups that name nobody":    {[]one{{1, "app", 5, "/../a", 65532}, us}, 1, "no process's cgroup names the container"},
		"nobody but the pause":        {[]one{{1, "pause", 1, "/../pause", 65535}, us}, 0, "it has ended"},
		"nobody but us":               {[]one{{1, "sherd-collector", 1, "/", 65532}, us}, 0, "it has ended"},
	} {
		c, err := fake(t, x.procs...).Find(t.Context(), id)
		switch {
		case x.want == 0:
			if err == nil || !strings.Contains(err.Error(), x.words) {
				t.Errorf("%s: %v, %v", name, c, err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case c.PID != x.want || !c.Inside || c.ID != id || (x.words == "") != (len(c.Warnings) == 0) || !strings.Contains(strings.Join(c.Warnings, ""), x.words):
			t.Errorf("%s: process %d, %q", name, c.PID, c.Warnings)
		}
	}
	for _, bad := range []string{"", "short", "../../etc/passwd-and-more"} {
		if _, err := fake(t, us).Find(t.Context(), bad); err == nil {
			t.Errorf("%q passes for an id", bad)
		}
	}
}

// TestUnreadable says in words why there is no memory and no file.
func TestUnreadable(t *testing.T) {
	r := fake(t, one{1, "app", 5, "/../" + id, 1000}, one{90, "sherd-collector", 900, "/", 65532})
	if err := os.Remove(filepath.Join(r.proc, "1", "root")); err != nil {
		t.Fatal(err)
	}
	c, err := r.Find(t.Context(), id)
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "process 1 runs as 1000:7 and the collector beside it as 65532:7") {
		t.Errorf("%+v, %v", c, err)
	}
}
