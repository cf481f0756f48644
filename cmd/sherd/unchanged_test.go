package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/cmd/internal/acquire"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/target"
)

// TestLiveUnchanged proves that a capture leaves no trace: access, modification and change times of every file, directory
// and symbolic link, the processes, their tracers and the offsets of their open files are as before.
func TestLiveUnchanged(t *testing.T) {
	l := lab.Need(t, "docker", "containerd", "podman")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, runtime := range []string{"docker", "containerd", "podman"} {
		t.Run(runtime, func(t *testing.T) {
			c := l.Run(t, lab.RunSpec{Runtime: runtime, Image: "goweb", Name: "unchanged"})
			found := find(t, l, c.Target)
			names := trees(t, found)
			age(t, names)
			before := state(names, found)
			if len(before) < 50 {
				t.Fatalf("only %d things to compare: the test looks in the wrong place", len(before))
			}
			pkg := filepath.Join(t.TempDir(), "x.sherd")
			status, out, errOut := sherd(t, l, "collect", c.Target, "-o", pkg, "--memory", "full", "--with-secrets")
			if status != 0 {
				t.Fatalf("collect ended with %d\n%s%s", status, out, errOut)
			}
			after := state(names, found)
			for _, p := range trees(t, found) {
				if _, ok := before[p]; !ok {
					t.Errorf("%s appeared", p)
				}
			}
			for k, v := range before {
				if after[k] != v {
					t.Errorf("%s\n  before %s\n  after  %s", k, v, after[k])
				}
			}
		})
	}
}

// find resolves a target as the program does.
func find(t *testing.T, l *lab.Lab, url string) *target.Container {
	t.Helper()
	places := acquire.Places{}
	places.DockerHost, places.ContainerdAddress = l.DockerHost(), l.ContainerdAddress()
	places.PodmanRoot, places.PodmanRunRoot = l.PodmanRoot(), l.PodmanRunRoot()
	ref, err := target.ParseRef(url)
	if err != nil {
		t.Fatal(err)
	}
	src, err := places.Find(t.Context(), ref, false)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	return src.Container
}

// trees lists every file, directory and link that belongs to the container.
func trees(t *testing.T, c *target.Container) []string {
	t.Helper()
	dirs := []string{c.Rootfs.Upper}
	for _, l := range c.Rootfs.Layers {
		dirs = append(dirs, l.Dir)
	}
	for _, m := range c.Mounts {
		if strings.HasPrefix(m.Source, "/") && m.Type == "bind" {
			dirs = append(dirs, m.Source)
		}
	}
	var names []string
	for _, d := range dirs {
		if d == "" {
			continue
		}
		err := filepath.WalkDir(d, func(p string, _ fs.DirEntry, err error) error {
			if err == nil {
				names = append(names, p)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, log := range c.Logs {
		names = append(names, log.Path)
	}
	return names
}

// age sets every access time far back, so that a read would move it even where the file system updates lazily (relatime).
func age(t *testing.T, names []string) {
	t.Helper()
	old := []unix.Timespec{{Sec: 1_000_000_000}, {Nsec: unix.UTIME_OMIT}}
	for _, p := range names {
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, old, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
	}
}

// state maps each thing that a capture could disturb to how it is. It reads metadata only, so as not to disturb it itself.
func state(names []string, c *target.Container) map[string]string {
	out := map[string]string{}
	for _, p := range names {
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err == nil {
			out[p] = fmt.Sprintf("mode %o size %d atime %v mtime %v ctime %v", st.Mode, st.Size, st.Atim, st.Mtim, st.Ctim)
		}
	}
	processes(out, c)
	return out
}

func processes(out map[string]string, c *target.Container) {
	if c.PID == 0 {
		return
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", c.PID, c.PID))
	pids := []string{fmt.Sprint(c.PID)}
	if err == nil {
		pids = append(pids, strings.Fields(string(b))...)
	}
	for _, pid := range pids {
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "TracerPid:") || strings.HasPrefix(line, "Name:") {
				out["process "+pid+" "+strings.Fields(line)[0]] = strings.TrimSpace(line)
			}
		}
		fds, err := os.ReadDir("/proc/" + pid + "/fd")
		if err != nil {
			continue
		}
		sort.Slice(fds, func(i, j int) bool { return fds[i].Name() < fds[j].Name() })
		for _, fd := range fds {
			link, err := os.Readlink("/proc/" + pid + "/fd/" + fd.Name())
			if err != nil || strings.HasPrefix(link, "socket:") || strings.HasPrefix(link, "anon_inode:") {
				continue // these change by the application's own work
			}
			info, err := os.ReadFile("/proc/" + pid + "/fdinfo/" + fd.Name())
			if err == nil {
				out["process "+pid+" fd "+fd.Name()] = link + " " + strings.ReplaceAll(string(info), "\n", " ")
			}
		}
	}
}
