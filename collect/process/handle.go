package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	h := &handle{pid: p.PID, fd: fd, ticks: p.StartTicks}
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
	return h, nil
}

func (h *handle) close() { _ = unix.Close(h.fd) }

// path names something below the process's directory by way of our descriptor.
func (h *handle) path(name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", h.fd, name) }

// read reads a file of the process; see safefs.ReadProc.
func (h *handle) read(name string, limit int64) ([]byte, error) {
	return safefs.ReadProc(h.path(name), limit)
}

func (h *handle) readlink(name string) (string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Readlinkat(h.fd, name, buf)
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

// stat is statx of what a magic link leads to, from what the kernel has at hand: it does not ask a file system that may hang.
func (h *handle) stat(name string) (unix.Statx_t, error) {
	var st unix.Statx_t
	err := unix.Statx(h.fd, name, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS|unix.STATX_BTIME|unix.STATX_MNT_ID, &st)
	if err != nil {
		return st, &fs.PathError{Op: "statx", Path: name, Err: err}
	}
	return st, nil
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

// clock turns start ticks into absolute time.
type clock struct {
	boot  int64 // when the machine was started, nanoseconds since the epoch
	ticks int64 // a second
}

// userHZ is what the kernel counts in towards user space: 100 on every architecture that Linux runs containers on.
const userHZ = 100

// readClock works the boot time out of two clocks read together, finer than the whole seconds of btime in /proc/stat.
func readClock(string) (clock, error) {
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return clock{}, fmt.Errorf("clock_gettime: %w", err)
	}
	return clock{boot: time.Now().UnixNano() - boot.Nano(), ticks: userHZ}, nil
}

// at is the absolute time of a start tick, 0 if the clocks could not be read.
func (c clock) at(ticks uint64) int64 {
	if c.ticks == 0 {
		return 0
	}
	return c.boot + int64(ticks)*(int64(time.Second)/c.ticks)
}
