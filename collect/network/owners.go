package network

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence/record"
)

const (
	maxOwners   = 1 << 20 // descriptors remembered in all
	maxPerInode = 64      // of one socket
	maxThreads  = 4096    // asked, per process
)

// owners maps a socket's inode to the descriptors that hold it.
type owners struct {
	proc  string
	held  map[uint64][]record.Owner
	count int
	full  bool
	errs  map[string]int
}

func newOwners(proc string) *owners {
	return &owners{proc: proc, held: map[uint64][]record.Owner{}, errs: map[string]int{}}
}

// scan adds what a process holds. Threads may have descriptor tables of their own: those that don't share the
// process's are read too.
func (o *owners) scan(pid int) {
	base := filepath.Join(o.proc, strconv.Itoa(pid))
	if err := o.table(pid, filepath.Join(base, "fd")); err != nil {
		o.errs[err.Error()]++
		return
	}
	tasks, err := os.Open(filepath.Join(base, "task"))
	if err != nil {
		return // gone
	}
	defer tasks.Close()
	names, err := tasks.Readdirnames(maxThreads)
	if err != nil && !errors.Is(err, io.EOF) {
		return
	}
	for _, n := range names {
		tid, err := strconv.Atoi(n)
		if err != nil || tid == pid {
			continue
		}
		const kcmpFiles = 2
		if r, _, e := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(tid), kcmpFiles, 0, 0, 0); e == 0 && r == 0 {
			continue
		} else if e != 0 {
			continue // gone, or comparing is not permitted: the process's own table is what there is
		}
		if err := o.table(pid, filepath.Join(base, "task", n, "fd")); err != nil {
			o.errs[err.Error()]++
		}
	}
}

func (o *owners) table(pid int, dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			return nil // ended: it holds nothing any more
		}
		return errors.New("listing descriptors: " + reason(err))
	}
	defer d.Close()
	buf := make([]byte, 64)
	for {
		names, err := d.Readdirnames(1024)
		for _, name := range names {
			n, err := unix.Readlinkat(int(d.Fd()), name, buf)
			if err != nil {
				continue
			}
			inode, ok := socketInode(string(buf[:n]))
			if !ok {
				continue
			}
			fd, err := strconv.Atoi(name)
			if err != nil {
				continue
			}
			o.add(inode, record.Owner{PID: pid, FD: fd})
		}
		if err != nil || len(names) == 0 {
			return nil
		}
	}
}

func (o *owners) add(inode uint64, w record.Owner) {
	if o.count >= maxOwners {
		o.full = true
		return
	}
	have := o.held[inode]
	if len(have) >= maxPerInode {
		return
	}
	for _, h := range have {
		if h == w {
			return
		}
	}
	o.held[inode] = append(have, w)
	o.count++
}

// socketInode reads "socket:[123]".
func socketInode(link string) (uint64, bool) {
	s, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, false
	}
	s, ok = strings.CutSuffix(s, "]")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// reason is an error's cause without the path, so that alike failures fold.
func reason(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// namespaceOf is the inode number of a process's network namespace.
func namespaceOf(proc string, pid int) (uint64, error) {
	var st unix.Stat_t
	path := filepath.Join(proc, strconv.Itoa(pid), "ns/net")
	if err := unix.Stat(path, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}

// hostNamespace is the machine's own network namespace and a path to it. The first process's can't be looked at by one who lacks any of
// its capabilities; on the machine itself ours is the same then, as far as anybody can tell.
func hostNamespace(s subject.Subject) (uint64, string, error) {
	ino, err := namespaceOf(s.Proc, 1)
	if err == nil {
		return ino, filepath.Join(s.Proc, "1/ns/net"), nil
	}
	if s.HostRoot != "" {
		return 0, "", err
	}
	ino, err = namespaceOf("/proc", os.Getpid())
	return ino, "/proc/self/ns/net", err
}

// mates lists, per namespace in which, processes that live in it and are none of ours.
func mates(proc string, in map[uint64]bool, ours map[int]bool) map[uint64][]int {
	out := map[uint64][]int{}
	d, err := os.Open(proc)
	if err != nil {
		return out
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(1024)
		for _, name := range names {
			pid, err := strconv.Atoi(name)
			if err != nil || ours[pid] {
				continue
			}
			if ns, err := namespaceOf(proc, pid); err == nil && in[ns] {
				out[ns] = append(out[ns], pid)
			}
		}
		if err != nil || len(names) == 0 {
			return out
		}
	}
}
