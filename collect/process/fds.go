package process

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

// fds lists the open descriptors, and keeps the contents of regular files that have no name left. Only those are ever
// opened, and through a description of our own: the process's offset does not move. An error is fatal.
func (c *collector) fds(row *record.Process, h *handle) error {
	names, more, err := h.names("fd", c.o.MaxFDs)
	if err != nil {
		if row.State != "Z" && !gone(err) {
			c.miss(row.Dir+"/fd", err, false)
			row.Errors = append(row.Errors, "fd: "+reason(err))
		}
		return nil
	}
	if more {
		c.miss(row.Dir+"/fd", fmt.Errorf("only the first %d descriptors are listed", len(names)), true)
	}
	numbers := make([]int, 0, len(names))
	for _, n := range names {
		if i, err := strconv.Atoi(n); err == nil {
			numbers = append(numbers, i)
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		fd, err := c.fd(row, h, n, i < c.o.MaxFDInfo)
		if err != nil {
			return err
		}
		if fd != nil {
			row.FDs = append(row.FDs, *fd)
		}
	}
	if len(numbers) > c.o.MaxFDInfo {
		c.miss(row.Dir+"/fdinfo", fmt.Errorf("kept for the first %d of %d descriptors", c.o.MaxFDInfo, len(numbers)), true)
	}
	return nil
}

// fd describes one descriptor; nil if it was closed meanwhile.
func (c *collector) fd(row *record.Process, h *handle, n int, info bool) (*record.FD, error) {
	name := "fd/" + strconv.Itoa(n)
	link, err := h.readlink(name)
	if err != nil {
		if gone(err) {
			return nil, nil // closed between listing and looking: an ordinary event
		}
		c.miss(row.Dir+"/"+name, err, false)
		return nil, nil
	}
	fd := &record.FD{N: n, Target: record.Name(link)}
	if info {
		if b, err := h.read("fdinfo/"+strconv.Itoa(n), 1<<20); err == nil {
			fd.Pos, fd.Flags = fdinfo(b)
			if _, err := c.w.Add(evidence.Meta{Path: row.Dir + "/fdinfo/" + strconv.Itoa(n), Origin: h.describe("fdinfo/" + strconv.Itoa(n))}, b); err != nil {
				return nil, err
			}
		}
	}
	st, err := h.stat(name)
	if err != nil {
		fd.Kind, fd.Error = kindOf(link, 0), reason(err)
		return fd, nil
	}
	fd.Kind = kindOf(link, st.Mode)
	fd.Dev, fd.Ino, fd.Size = unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino, int64(st.Size)
	if fd.Kind != "file" && fd.Kind != "memfd" {
		fd.Size = 0
		return fd, nil
	}
	fd.Deleted = st.Nlink == 0
	if !fd.Deleted && fd.Kind == "file" {
		return fd, nil
	}
	f, err := safefs.OpenLink(h.path(name))
	if err != nil {
		if gone(err) {
			return fd, nil
		}
		fd.Error = reason(err)
		c.miss(row.Dir+"/"+name, err, false)
		return fd, nil
	}
	defer f.Close()
	magic := make([]byte, 8)
	if k, err := f.ReadAt(magic, 0); k > 0 {
		fd.Magic = magic[:k]
	} else if err != nil && fd.Size > 0 {
		fd.Error = reason(err)
	}
	kept, err := c.keep(row.Dir+"/"+name, h.describe(name)+" → "+link, f, c.o)
	if err != nil {
		return nil, err
	}
	fd.SHA256, fd.Artifact = kept.SHA256, row.Dir+"/"+name
	return fd, nil
}

// kindOf names what a descriptor leads to, by the object's type and, for what has none, the text that the kernel made.
func kindOf(link string, mode uint16) string {
	switch uint32(mode) & unix.S_IFMT {
	case unix.S_IFREG:
		if strings.HasPrefix(link, "/memfd:") && strings.HasSuffix(link, deletedSuffix) {
			return "memfd"
		}
		return "file"
	case unix.S_IFDIR:
		return "dir"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFIFO:
		return "pipe"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "device"
	}
	switch {
	case strings.HasPrefix(link, "socket:"):
		return "socket"
	case strings.HasPrefix(link, "pipe:"):
		return "pipe"
	case strings.HasPrefix(link, "anon_inode:"):
		return "anon"
	}
	return "other"
}

// fdinfo takes offset and flags out of /proc/<pid>/fdinfo/<n> (proc_pid_fdinfo(5)); flags are octal there.
func fdinfo(b []byte) (pos int64, flags uint64) {
	for line := range strings.Lines(string(b)) {
		key, v, _ := strings.Cut(line, ":")
		v = strings.TrimSpace(v)
		switch key {
		case "pos":
			if n, err := strconv.ParseInt(v, 10, 64); err == nil {
				pos = n
			}
		case "flags":
			if n, err := strconv.ParseUint(v, 8, 64); err == nil {
				flags = n
			}
		}
	}
	return pos, flags
}

// mapped keeps files that are mapped as code and have no name left: libraries loaded from a memfd, or deleted after loading. The
// executable itself is kept already. An error is fatal.
func (c *collector) mapped(row *record.Process, h *handle, maps []byte) error {
	done := map[string]bool{fmt.Sprint(row.Exe.Ino): true}
	kept := 0
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		if len(f) < 6 || !strings.Contains(f[1], "x") || !strings.HasSuffix(strings.TrimSuffix(line, "\n"), deletedSuffix) || done[f[4]] {
			continue
		}
		done[f[4]] = true
		if kept++; kept > 256 {
			c.miss(row.Dir+"/mapped", errors.New("more than 256 deleted files are mapped as code"), true)
			return nil
		}
		// maps pads addresses to eight digits, map_files does not.
		lo, hi, _ := strings.Cut(f[0], "-")
		name := strings.TrimLeft(lo, "0") + "-" + strings.TrimLeft(hi, "0")
		file, err := safefs.OpenLink(h.path("map_files/" + name))
		if err != nil {
			if !gone(err) {
				c.miss(row.Dir+"/mapped/"+f[0], err, false)
			}
			continue
		}
		_, err = c.keep(row.Dir+"/mapped/"+f[0], h.describe("map_files/"+name), file, c.o)
		file.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// threads keeps a few small files of each thread. An error is fatal.
func (c *collector) threads(row *record.Process, h *handle) error {
	names, more, err := h.names("task", c.o.MaxThreads)
	if err != nil {
		return nil // said already for the process itself
	}
	if more {
		c.miss(row.Dir+"/task", fmt.Errorf("kept for the first %d threads", len(names)), true)
	}
	if len(names) < 2 {
		return nil
	}
	slices.Sort(names)
	for _, tid := range names {
		for _, name := range []string{"comm", "stat", "wchan", "syscall"} {
			b, err := h.read("task/"+tid+"/"+name, 1<<16)
			if err != nil {
				continue // a thread that ended is ordinary; what is refused is said for the process itself
			}
			if _, err := c.w.Add(evidence.Meta{Path: row.Dir + "/task/" + tid + "/" + name, Origin: h.describe("task/" + tid + "/" + name)}, b); err != nil {
				return err
			}
		}
	}
	return nil
}
