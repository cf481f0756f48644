package subject

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// smallFile bounds a file of /proc that tells who a process is.
const smallFile = 1 << 20

// seen is what one look at a process tells.
type seen struct {
	pid, ppid int
	ticks     uint64
	cgroups   []string // paths, one for each hierarchy, none twice
	pidNS     string
	mntNS     string
}

// Identify gives the identity of one process, the host's pid namespace being that of proc.
func Identify(proc string, pid int) (Process, error) {
	_, ticks, err := Stat(proc, pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, ContainerPID: containerPID(proc, pid), StartTicks: ticks, Relation: record.InCgroup}, nil
}

// Stat reads the parent and the start time (in clock ticks since boot, field 22) of a process.
func Stat(proc string, pid int) (ppid int, ticks uint64, err error) {
	b, err := small(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, err
	}
	return ParseStat(b)
}

// ParseStat takes parent and start time out of the text of /proc/<pid>/stat (proc_pid_stat(5)). The name in it is the
// process's own choice and may hold anything, a closing parenthesis too, so fields are counted from the last one.
func ParseStat(b []byte) (ppid int, ticks uint64, err error) {
	f, err := statFields(b)
	if err != nil {
		return 0, 0, err
	}
	if ppid, err = strconv.Atoi(f[1]); err != nil {
		return 0, 0, fmt.Errorf("stat, parent: %w", err)
	}
	if ticks, err = strconv.ParseUint(f[19], 10, 64); err != nil {
		return 0, 0, fmt.Errorf("stat, start time: %w", err)
	}
	return ppid, ticks, nil
}

// statFields are the fields after the name; the first is the state.
func statFields(b []byte) ([]string, error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return nil, fmt.Errorf("stat has no name: %q", b[:min(len(b), 40)])
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 20 {
		return nil, fmt.Errorf("stat has only %d fields after the name", len(f))
	}
	return f, nil
}

// small reads one of the files of /proc that never wait for the process: they don't touch its memory, so there is no need
// for the deadline of safefs.ReadProc, which would be most of the time that a scan of ten thousand processes takes.
func small(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd) //nolint:errcheck // opened for reading: nothing is lost
	b := make([]byte, 0, 1024)
	for len(b) < smallFile {
		if len(b) == cap(b) {
			b = slices.Grow(b, cap(b))
		}
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: name, Err: err}
		case n == 0:
			return b, nil
		}
		b = b[:len(b)+n]
	}
	return b, nil
}

// look reads what tells where a process belongs. A process that is gone is an error; what may not be seen is empty.
func look(proc string, pid int) (seen, error) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	b, err := small(dir + "/stat")
	if err != nil {
		return seen{}, err
	}
	s := seen{pid: pid}
	if s.ppid, s.ticks, err = ParseStat(b); err != nil {
		return seen{}, err
	}
	b, err = small(dir + "/cgroup")
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
		return seen{}, err
	case err == nil:
		s.cgroups = cgroupPaths(b)
	}
	s.pidNS, s.mntNS = namespace(dir, "pid"), namespace(dir, "mnt")
	if s.mntNS == "" {
		// The first thread may have ended before the others: then it has no namespaces any more, but they do.
		if tid := OtherThread(dir, pid); tid != 0 {
			t := dir + "/task/" + strconv.Itoa(tid)
			s.pidNS, s.mntNS = namespace(t, "pid"), namespace(t, "mnt")
		}
	}
	return s, nil
}

// OtherThread gives a thread of a process whose first thread ended while others run on; 0 if there is none or the first
// thread is there. The process then looks like a zombie without memory, program or files, which only its other threads
// show. dir is its directory in /proc.
func OtherThread(dir string, pid int) int {
	b, err := small(dir + "/stat")
	if err != nil {
		return 0
	}
	f, err := statFields(b)
	if err != nil || f[0] != "Z" && f[0] != "X" || f[17] == "1" || f[17] == "0" {
		return 0
	}
	d, err := os.Open(dir + "/task")
	if err != nil {
		return 0
	}
	defer d.Close()
	names, err := d.Readdirnames(64)
	if err != nil {
		return 0
	}
	for _, n := range names {
		tid, err := strconv.Atoi(n)
		if err != nil || tid == pid {
			continue
		}
		if b, err = small(dir + "/task/" + n + "/stat"); err != nil {
			continue
		}
		if f, err = statFields(b); err == nil && f[0] != "Z" && f[0] != "X" {
			return tid
		}
	}
	return 0
}

// namespace is the link's text, "pid:[4026531836]"; "" if it may not be seen.
func namespace(dir, kind string) string {
	var buf [64]byte
	n, err := unix.Readlink(dir+"/ns/"+kind, buf[:])
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// cgroupPaths takes the paths out of /proc/<pid>/cgroup (cgroups(7)).
func cgroupPaths(b []byte) []string {
	var out []string
	for _, h := range hierarchies(b) {
		if !slices.Contains(out, h.path) {
			out = append(out, h.path)
		}
	}
	return out
}

// hierarchy is one line of /proc/<pid>/cgroup, hierarchy:controllers:path. The unified hierarchy has no controllers there.
type hierarchy struct {
	controllers string
	path        string
}

func hierarchies(b []byte) []hierarchy {
	var out []hierarchy
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) == 3 {
			out = append(out, hierarchy{parts[1], path.Clean("/" + strings.TrimSuffix(parts[2], " (deleted)"))})
		}
	}
	return out
}

// containerPID reads the innermost number of NSpid, 0 if that can't be read.
func containerPID(proc string, pid int) int {
	b, err := small(filepath.Join(proc, strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(v)
			if len(f) < 1 {
				return 0
			}
			n, err := strconv.Atoi(f[len(f)-1])
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}
