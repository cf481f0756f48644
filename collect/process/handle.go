package process

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

// handle is one process, held by its /proc directory. The paths below it go through our own descriptor of that directory, so
// they fail for good once the process is gone, whoever has its number then.
type handle struct {
	pid   int
	fd    int
	ticks uint64
	// via is "task/<tid>/" (and other that thread) for a process whose first thread ended: memory, files and namespaces show only in its others.
	via   string
	other int
	// exe is an O_PATH descriptor of the executable, -1 if it could not be had: a program that deleted itself and ends
	// meanwhile can still be read. exeLink is what the link read then.
	exe     int
	exeLink string
	exeErr  error
	// stuck is set when the process made a reader of its memory map wait in vain.
	stuck bool
	// mounted are the mounts that the process sees, read at most once.
	mounted    map[uint64]mount
	mountedErr error
}

// errOther says that the number belongs to another process by now.
var errOther = errors.New("the process ended, and its number was given to another one")

// open holds a process and checks that it is still the one that was listed.
func open(proc string, p subject.Process) (*handle, error) {
	path := filepath.Join(proc, strconv.Itoa(p.PID))
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	h := &handle{pid: p.PID, fd: fd, ticks: p.StartTicks, exe: -1}
	b, err := h.read("stat", 4096)
	if err != nil {
		h.close()
		return nil, err
	}
	_, ticks, err := subject.ParseStat(b)
	if err != nil {
		h.close()
		return nil, err
	}
	if ticks != p.StartTicks {
		h.close()
		return nil, errOther
	}
	if tid := subject.OtherThread(h.path(""), p.PID); tid != 0 {
		h.via, h.other = "task/"+strconv.Itoa(tid)+"/", tid
	}
	h.holdExe()
	return h, nil
}

func (h *handle) holdExe() {
	if h.exeLink, h.exeErr = h.readlink(h.via + "exe"); h.exeErr != nil {
		return
	}
	fd, err := unix.Openat(h.fd, h.via+"exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		h.exeErr = &fs.PathError{Op: "open", Path: "exe", Err: err}
		return
	}
	h.exe = fd
}

func (h *handle) close() {
	_ = unix.Close(h.fd)
	if h.exe >= 0 {
		_ = unix.Close(h.exe)
	}
}

// thread is the one whose memory, files and namespaces stand for the process's.
func (h *handle) thread() int {
	if h.other != 0 {
		return h.other
	}
	return h.pid
}

// path names something below the process's directory by way of our descriptor.
func (h *handle) path(name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", h.fd, name) }

// describe names a source as a person would look it up.
func (h *handle) describe(name string) string { return fmt.Sprintf("/proc/%d/%s", h.pid, name) }

// read reads a file of the process; see safefs.ReadProc.
func (h *handle) read(name string, limit int64) ([]byte, error) {
	return safefs.ReadProcTimeout(h.path(name), limit, patience)
}

func (h *handle) readlink(name string) (string, error) {
	var buf [8192]byte
	n, err := unix.Readlinkat(h.fd, name, buf[:])
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(buf[:n]), nil
}

// alive reports whether the process is still there.
func (h *handle) alive() bool {
	b, err := h.read("stat", 4096)
	return err == nil && len(b) > 0
}

// object is what a magic link leads to.
type object struct {
	mode              uint32
	dev, ino, nlink   uint64
	mount             uint64
	size              int64
	mtime, ctime, btm int64
}

func (o object) same(p object) bool { return o.dev == p.dev && o.ino == p.ino }

// stat asks what a magic link leads to, from what the kernel has at hand: it does not ask a file system that may hang.
func (h *handle) stat(name string) (object, error) { return statx(h.fd, name, 0) }

func statx(fd int, name string, flags int) (object, error) {
	var x unix.Statx_t
	flags |= unix.AT_STATX_DONT_SYNC | unix.AT_NO_AUTOMOUNT
	if err := unix.Statx(fd, name, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME|unix.STATX_MNT_ID, &x); err != nil {
		return object{}, &fs.PathError{Op: "statx", Path: name, Err: err}
	}
	return object{
		mode: uint32(x.Mode), dev: unix.Mkdev(x.Dev_major, x.Dev_minor), ino: x.Ino, nlink: uint64(x.Nlink), mount: x.Mnt_id,
		size: int64(min(x.Size, math.MaxInt64)), mtime: nanos(x.Mtime), ctime: nanos(x.Ctime), btm: nanos(x.Btime),
	}, nil
}

// nanos keeps a time that somebody hostile may have set from wrapping around: beyond the years that fit, 1678 to 2262, it
// stays at the last that does.
func nanos(t unix.StatxTimestamp) int64 {
	const last = math.MaxInt64/int64(time.Second) - 1
	return min(max(t.Sec, -last), last)*int64(time.Second) + int64(t.Nsec)
}

// names lists a directory of the process, at most limit names; more is true if there were more.
func (h *handle) names(name string, limit int) (out []string, more bool, err error) {
	fd, err := unix.Openat(h.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	d := os.NewFile(uintptr(fd), name)
	defer d.Close()
	for len(out) <= limit {
		got, err := d.Readdirnames(1024)
		out = append(out, got...)
		if err != nil {
			break
		}
	}
	if len(out) > limit {
		return out[:limit], true, nil
	}
	return out, false, nil
}

// numbers lists a directory whose entries are numbers, in their order.
func (h *handle) numbers(name string, limit int) (out []int, more bool, err error) {
	names, more, err := h.names(name, limit)
	for _, n := range names {
		if i, err := strconv.Atoi(n); err == nil {
			out = append(out, i)
		}
	}
	slices.Sort(out)
	return out, more, err
}

// clock turns start ticks into absolute time.
type clock struct {
	boot  int64 // when the machine was started, nanoseconds since the epoch
	ticks int64 // a second; 0 if the clocks could not be read
}

// userHZ is what the kernel counts in towards user space: 100 on every architecture that Linux runs containers on.
const userHZ = 100

// readClock works the boot time out of two clocks read together, finer than the whole seconds of btime in /proc/stat. Both the
// boot clock and the start times in /proc are shown as in the reader's own time namespace, so that a target's does not matter.
func readClock() (clock, error) {
	var best int64
	var boot int64
	for range 5 { // the closest pair of several: one may be torn apart by the scheduler
		var a, b, w unix.Timespec
		for _, c := range []struct {
			id int32
			t  *unix.Timespec
		}{{unix.CLOCK_BOOTTIME, &a}, {unix.CLOCK_REALTIME, &w}, {unix.CLOCK_BOOTTIME, &b}} {
			if err := unix.ClockGettime(c.id, c.t); err != nil {
				return clock{}, fmt.Errorf("clock_gettime: %w", err)
			}
		}
		if gap := b.Nano() - a.Nano(); boot == 0 || gap < best {
			best, boot = gap, w.Nano()-(a.Nano()+b.Nano())/2
		}
	}
	return clock{boot: boot, ticks: userHZ}, nil
}

// at is the absolute time of a start tick, 0 if the clocks could not be read.
func (c clock) at(ticks uint64) int64 {
	if c.ticks == 0 || ticks > math.MaxInt64/uint64(time.Second) {
		return 0
	}
	return c.boot + int64(ticks)*(int64(time.Second)/c.ticks)
}
