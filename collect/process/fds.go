package process

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
)

// A table's row must stay short enough to be read back, and names can be 4 KiB each of which every byte needs five in JSON. So
// once the names in one table have maxTargets bytes together, longer ones than cutTarget are cut.
const (
	maxTargets = 1 << 20
	cutTarget  = 100
)

// fds lists the open descriptors of a process. An error is fatal.
func (c *collector) fds(row *record.Process, h *handle) error {
	c.links(row, h)
	list, err := c.table(h, h.via, row.Dir, row.State == "Z")
	row.FDs = list
	return err
}

// table lists the descriptors in /proc/<pid>/[via]fd, and keeps the contents of regular files that have no name left below dir. Only
// those are ever opened, and through a description of our own: the process's offset does not move. The contents of
// files that have a name are the file system's matter. An error is fatal.
func (c *collector) table(h *handle, via, dir string, zombie bool) ([]record.FD, error) {
	numbers, more, err := h.numbers(via+"fd", c.o.MaxFDs)
	if err != nil {
		if !zombie && !gone(err) {
			c.miss(dir+"/fd", err, false)
		}
		return nil, nil
	}
	if more {
		c.miss(dir+"/fd", fmt.Errorf("only %d descriptors are listed", len(numbers)), true)
	}
	if len(numbers) > c.o.MaxFDInfo {
		c.miss(dir+"/fdinfo", fmt.Errorf("kept for %d of the descriptors", c.o.MaxFDInfo), true)
	}
	var out []record.FD
	targets, cut := 0, 0
	for i, n := range numbers {
		if err := c.ctx.Err(); err != nil {
			return out, err
		}
		fd, err := c.fd(h, via, dir, n, i < c.o.MaxFDInfo)
		if err != nil {
			return out, err
		}
		if fd == nil {
			continue
		}
		if targets += len(fd.Target); targets > maxTargets && len(fd.Target) > cutTarget {
			fd.Target = fd.Target[:cutTarget]
			fd.Error = strings.TrimPrefix(fd.Error+"; target cut", "; ")
			cut++
		}
		out = append(out, *fd)
	}
	if cut > 0 {
		c.miss(dir+"/fd", fmt.Errorf("%d targets are cut to %d bytes", cut, cutTarget), true)
	}
	return out, nil
}

// fd describes one descriptor; nil if it was closed meanwhile.
func (c *collector) fd(h *handle, via, dir string, n int, info bool) (*record.FD, error) {
	number := strconv.Itoa(n)
	name := via + "fd/" + number
	link, err := h.readlink(name)
	if err != nil {
		if !gone(err) { // closed between listing and looking is ordinary
			c.miss(dir+"/fd/"+number, err, false)
		}
		return nil, nil
	}
	fd := &record.FD{N: n, Target: record.Name(link)}
	if b, err := h.read(via+"fdinfo/"+number, maxSmall); err == nil {
		fd.Pos, fd.Flags = fdinfo(b)
		if info {
			if _, err := c.w.Add(evidence.Meta{Path: dir + "/fdinfo/" + number, Origin: h.describe(via + "fdinfo/" + number)}, b); err != nil {
				return nil, err
			}
		}
	}
	o, err := h.stat(name)
	if err != nil {
		fd.Kind, fd.Error = kindOf(link, 0), reason(err)
		return fd, nil
	}
	fd.Kind, fd.Dev, fd.Ino = kindOf(link, o.mode), o.dev, o.ino
	if fd.Kind != "file" {
		return fd, nil
	}
	fd.Size = o.size
	target, deleted := c.deleted(h, link, o)
	fd.Deleted = deleted
	if !deleted {
		return fd, nil
	}
	if where, _ := c.where(h, target, o); where == record.ExeMemfd {
		fd.Kind = "memfd"
	}
	if o.size == 0 || h.onPseudo(o) {
		return fd, nil
	}
	return fd, c.content(fd, h, name, dir+"/fd/"+number, link, o)
}

// content keeps what an open file without a name holds. An error is fatal.
func (c *collector) content(fd *record.FD, h *handle, name, artifact, link string, o object) error {
	fail := func(err error) {
		fd.Error = reason(err)
		c.miss(artifact, err, false)
	}
	f, err := c.open(h, h.path(name), o)
	if err != nil {
		if !gone(err) { // closed, or the process ended: that is noted once, for the process
			fail(err)
		}
		return nil
	}
	defer f.Close()
	magic := make([]byte, 8)
	if k, err := f.ReadAt(magic, 0); k > 0 {
		fd.Magic = magic[:k]
	} else if err != nil {
		fail(err)
		return nil
	}
	k, err := c.keep(artifact, h.describe(name)+" → "+link, f)
	if err != nil {
		return err
	}
	fd.SHA256, fd.Artifact = k.sum, k.artifact
	if k.err != nil {
		fd.Error = reason(k.err)
	}
	return nil
}

// kindOf names what a descriptor leads to, by the object's type and, for what has none, the text that the kernel made. A memfd
// is a file here.
func kindOf(link string, mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
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
			return pos, flags
		}
	}
	return pos, flags
}
