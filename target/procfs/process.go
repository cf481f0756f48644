package procfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/target"
)

// maxProcFile bounds one file of /proc/PID; mountinfo of a process with 100,000 mounts is the largest.
const maxProcFile = 32 << 20

func (r *Runtime) file(pid int, name string) ([]byte, error) {
	return readSome(filepath.Join(r.proc, strconv.Itoa(pid), name), maxProcFile)
}

func readSome(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// namespaces reads the numbers of a process's namespaces; 0 for one that can't be read.
func (r *Runtime) namespaces(pid int) target.Namespaces {
	get := func(kind string) uint64 {
		s, err := os.Readlink(filepath.Join(r.proc, strconv.Itoa(pid), "ns", kind))
		if err != nil {
			return 0
		}
		// "mnt:[4026531841]"
		_, s, _ = strings.Cut(s, "[")
		n, err := strconv.ParseUint(strings.TrimSuffix(s, "]"), 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return target.Namespaces{Mnt: get("mnt"), PID: get("pid"), Net: get("net"), IPC: get("ipc"), User: get("user")}
}

// stat is what of /proc/PID/stat matters here.
type stat struct {
	comm  string
	state byte
	ppid  int
	start uint64
	flags uint64
}

// kernelThread is PF_KTHREAD of linux/sched.h.
const kernelThread = 0x00200000

// parseStat takes /proc/PID/stat apart, proc_pid_stat(5). The name may hold anything, parentheses and newlines
// included, so the last ") " ends it.
func parseStat(b []byte) (stat, bool) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndex(b, []byte(") "))
	if open < 0 || end < open {
		return stat{}, false
	}
	f := strings.Fields(string(b[end+2:]))
	if len(f) < 20 || len(f[0]) != 1 {
		return stat{}, false
	}
	ppid, err1 := strconv.Atoi(f[1])
	flags, err2 := strconv.ParseUint(f[6], 10, 64)
	start, err3 := strconv.ParseUint(f[19], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return stat{}, false
	}
	return stat{string(b[open+1 : end]), f[0][0], ppid, start, flags}, true
}

// innerPID is a process's number in its own pid namespace, by the NSpid line of /proc/PID/status; 0 if unknown. UID is
// its real user.
func parseStatus(b []byte) (innerPID, uid int) {
	uid = -1
	for line := range bytes.Lines(b) {
		k, v, _ := strings.Cut(string(line), ":")
		f := strings.Fields(v)
		if len(f) == 0 {
			continue
		}
		switch k {
		case "NSpid":
			innerPID, _ = strconv.Atoi(f[len(f)-1]) //nolint:errcheck // 0 means unknown
		case "Uid":
			if n, err := strconv.Atoi(f[0]); err == nil {
				uid = n
			}
		}
	}
	return innerPID, uid
}

// process reads one process; false when it is gone, a zombie, or a thread of the kernel's.
func (r *Runtime) process(pid int) (target.Process, bool) {
	b, err := r.file(pid, "stat")
	if err != nil {
		return target.Process{}, false
	}
	st, ok := parseStat(b)
	if !ok || st.state == 'Z' || st.state == 'X' || st.flags&kernelThread != 0 {
		return target.Process{}, false
	}
	p := target.Process{PID: pid, PPID: st.ppid, Comm: st.comm, StartTicks: st.start, UID: -1, NS: r.namespaces(pid)}
	if b, err := r.file(pid, "status"); err == nil {
		p.InnerPID, p.UID = parseStatus(b)
	}
	if b, err := r.file(pid, "cgroup"); err == nil {
		for _, c := range ParseCgroup(b) {
			if !slices.Contains(p.Cgroups, c.Path) {
				p.Cgroups = append(p.Cgroups, c.Path)
			}
		}
		p.Cgroup = CgroupOf(ParseCgroup(b))
	}
	return p, true
}

// pids lists the processes of /proc in order.
func (r *Runtime) pids() ([]int, error) {
	f, err := os.Open(r.proc)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []int
	for {
		names, err := f.Readdirnames(1024)
		for _, n := range names {
			if pid, err := strconv.Atoi(n); err == nil && pid > 0 {
				out = append(out, pid)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return out, nil
}

// hostNamespaces are those of the machine itself: process 1's or, where a hardened kernel hides these, kthreadd's, which
// never leaves them. Ours are the last resort on the machine itself.
func (r *Runtime) hostNamespaces() target.Namespaces {
	for _, pid := range []int{1, 2, os.Getpid()} {
		if pid == os.Getpid() && r.proc != "/proc" {
			break
		}
		if ns := r.namespaces(pid); ns.Mnt != 0 && ns.PID != 0 {
			return ns
		}
	}
	return target.Namespaces{}
}

// hostMounts is the machine's mount table.
func (r *Runtime) hostMounts() []Mount {
	for _, pid := range []int{1, os.Getpid()} {
		if pid == os.Getpid() && r.proc != "/proc" {
			break
		}
		if b, err := r.file(pid, "mountinfo"); err == nil && len(b) > 0 {
			return ParseMountinfo(b)
		}
	}
	return nil
}

// ticksPerSecond is USER_HZ, which is 100 on every architecture that Linux's ABI knows but alpha and ia64.
const ticksPerSecond = 100

// started makes start ticks since boot absolute.
func started(ticks uint64) time.Time {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}
	}
	boot := time.Now().Add(-time.Duration(up.Nano()))
	return boot.Add(time.Duration(ticks) * time.Second / ticksPerSecond).UTC().Truncate(10 * time.Millisecond)
}

// cmdline splits a process's arguments.
func (r *Runtime) cmdline(pid int) []string {
	b, err := readSome(filepath.Join(r.proc, strconv.Itoa(pid), "cmdline"), 1<<20)
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
}
