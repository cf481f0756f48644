package subject

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// Bounds on the walk through the cgroups below the container's, which it may make itself if it is privileged.
const (
	maxCgroups     = 1024
	maxCgroupDepth = 32
)

// ask reads the members of the container's cgroups from the cgroup file systems, where the host's first process sees them
// mounted, and adds those that the scan of /proc did not bring: a process of which only a thread was moved there, or
// one that something keeps out of /proc's listing. What can't be read is no error: /proc has told the same already.
func (m *matcher) ask(found map[int]Process) error {
	b, err := small(filepath.Join(m.proc, strconv.Itoa(m.first.pid), "cgroup"))
	if err != nil {
		return nil //nolint:nilerr // the container ended: the scan's list stands
	}
	mounts := cgroupMounts(filepath.Join(m.proc, "1"))
	if m.self == os.Getpid() && !reachable(mounts) {
		mounts = cgroupMounts("/proc/self") // where we may not look at the host's first process
	}
	var hidden []int
	budget := maxCgroups
	for _, h := range hierarchies(b) {
		if !slices.Contains(m.cgroups, h.path) {
			continue
		}
		for _, mount := range mounts {
			if !mount.serves(h) {
				continue
			}
			rel, ok := strings.CutPrefix(h.path, strings.TrimSuffix(mount.root, "/"))
			if !ok {
				continue
			}
			for _, pid := range members(filepath.Join(mount.point, rel), maxCgroupDepth, &budget) {
				if _, ok := found[pid]; ok || pid == m.self || slices.Contains(hidden, pid) || len(found) >= maxProcesses {
					continue
				}
				p, err := look(m.proc, pid)
				switch {
				case err == nil:
					found[pid] = Process{PID: pid, ContainerPID: containerPID(m.proc, pid), StartTicks: p.ticks, Relation: record.InCgroup}
				case gone(err) && m.exists(pid):
					hidden = append(hidden, pid)
				}
			}
			break
		}
	}
	if len(hidden) > 0 {
		return fmt.Errorf("%w: %d in the container's cgroup, the first of them process %d", ErrHidden, len(hidden), hidden[0])
	}
	return nil
}

// exists asks the kernel for a process without /proc. It can tell only where /proc numbers processes as we do.
func (m *matcher) exists(pid int) bool {
	if m.self != os.Getpid() {
		return false
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// cgroupMount is one mount of a cgroup hierarchy.
type cgroupMount struct {
	point   string // by way of a process's root
	root    string
	options []string // its controllers among them; nil for the unified hierarchy
}

func (c cgroupMount) serves(h hierarchy) bool {
	if h.controllers == "" || c.options == nil {
		return h.controllers == "" && c.options == nil
	}
	for want := range strings.SplitSeq(h.controllers, ",") {
		if !slices.Contains(c.options, want) {
			return false
		}
	}
	return true
}

func reachable(mounts []cgroupMount) bool {
	return slices.ContainsFunc(mounts, func(c cgroupMount) bool {
		_, err := os.Stat(filepath.Join(c.point, "cgroup.procs"))
		return err == nil
	})
}

// cgroupMounts finds where a process, given by its directory in /proc, sees cgroups (proc_pid_mountinfo(5)).
func cgroupMounts(dir string) []cgroupMount {
	b, err := small(dir + "/mountinfo")
	if err != nil {
		return nil
	}
	var out []cgroupMount
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		f, tail := strings.Split(before, " "), strings.Split(after, " ")
		if !ok || len(f) < 5 || len(tail) < 3 {
			continue
		}
		switch tail[0] {
		case "cgroup":
			out = append(out, cgroupMount{point: dir + "/root" + f[4], root: f[3], options: strings.Split(tail[2], ",")})
		case "cgroup2":
			out = append(out, cgroupMount{point: dir + "/root" + f[4], root: f[3]})
		}
	}
	return out
}

// members reads cgroup.procs of a cgroup and of those below it. A process in a pid namespace that is not below ours has the number 0.
func members(dir string, depth int, budget *int) []int {
	if *budget <= 0 || depth == 0 {
		return nil
	}
	*budget--
	var out []int
	b, err := small(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		// A threaded cgroup of the unified hierarchy has threads only (EOPNOTSUPP); its processes are listed above it.
		b = nil
	}
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return out
	}
	defer d.Close()
	entries, err := d.ReadDir(4 * maxCgroups)
	if err != nil {
		return out
	}
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, members(filepath.Join(dir, e.Name()), depth-1, budget)...)
		}
	}
	return out
}

// hidepid reports a /proc that keeps other users' processes from us (proc(5)).
func hidepid(proc string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	b, err := small("/proc/self/mountinfo")
	if err != nil {
		return nil //nolint:nilerr // nothing speaks for it
	}
	return hiding(string(b), proc)
}

func hiding(mountinfo, proc string) error {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		f, tail := strings.Split(before, " "), strings.Split(after, " ")
		if !ok || len(f) < 5 || len(tail) < 3 || f[4] != filepath.Clean(proc) {
			continue
		}
		for o := range strings.SplitSeq(tail[2], ",") {
			switch o {
			case "hidepid=1", "hidepid=2", "hidepid=4", "hidepid=noaccess", "hidepid=invisible", "hidepid=ptraceable":
				return fmt.Errorf("%w: it is mounted with %s, which hides other users' processes: run as root", ErrHidden, o)
			}
		}
	}
	return nil
}
