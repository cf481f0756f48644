package safefs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Dir is an open directory below a root. Its methods take names of its entries, never paths, and follow nothing, so
// that a tree of any depth can be walked and a renamed parent changes nothing. Entries must not run twice at once.
type Dir struct {
	r *Root
	h *handle
}

// Entry is a name in a directory, with its type where the file system tells (a DT_ value of getdents(2), 0 otherwise).
type Entry struct {
	Name string
	Type byte
}

// Close closes the directory.
func (d *Dir) Close() error {
	d.h.close()
	return nil
}

// Stat is the directory's own metadata.
func (d *Dir) Stat() (Stat, error) {
	return run(d.r.g, d.h, func(fd int) (Stat, error) { return statx(fd, "") }, nil)
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%w: %q", ErrName, name)
	}
	return nil
}

// Lstat is the metadata of one entry.
func (d *Dir) Lstat(name string) (Stat, error) {
	if err := checkName(name); err != nil {
		return Stat{}, err
	}
	return run(d.r.g, d.h, func(fd int) (Stat, error) { return statx(fd, name) }, nil)
}

// single resolves one name that is not followed.
func (d *Dir) single(name string, flags int) (*handle, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	resolve := unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | d.r.flags&unix.RESOLVE_NO_XDEV
	return run(d.r.g, d.h, func(fd int) (*handle, error) {
		return openLoud(fd, name, flags|unix.O_NOFOLLOW, resolve)
	}, func(h *handle) {
		if h != nil {
			h.close()
		}
	})
}

// Dir opens a directory in this one.
func (d *Dir) Dir(name string) (*Dir, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY
	if !d.r.quiet {
		flags |= unix.O_NOATIME
	}
	h, err := d.single(name, flags)
	if err != nil {
		if flags&unix.O_NOATIME != 0 && errors.Is(err, unix.EPERM) {
			err = ErrAccessTime
		}
		return nil, err
	}
	return &Dir{r: d.r, h: h}, nil
}

// Open opens a regular file in this directory.
func (d *Dir) Open(name string) (*File, error) {
	h, err := d.single(name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer h.close()
	return d.r.reopen(h)
}

// Readlink gives the target of a symbolic link in this directory.
func (d *Dir) Readlink(name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	return d.r.readlink(d.h, name)
}

func (r *Root) readlink(h *handle, name string) (string, error) {
	if !r.quiet && !mayTouch.Load() {
		return "", ErrAccessTime
	}
	return run(r.g, h, func(fd int) (string, error) {
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, name, buf)
		if err != nil {
			return "", err
		}
		return string(buf[:n]), nil
	}, nil)
}

// direntSize is how much of a directory one system call may bring.
const direntSize = 32 << 10

// listings lends buffers of direntSize.
var listings sync.Pool

// Entries calls fn for each entry from the beginning, in the order of the file system, and holds no more than 32 KiB
// of the directory at a time. An error of fn ends it and is returned.
func (d *Dir) Entries(fn func(Entry) error) error {
	if _, err := run(d.r.g, d.h, func(fd int) (int64, error) { return unix.Seek(fd, 0, unix.SEEK_SET) }, nil); err != nil {
		return err
	}
	lent, ok := listings.Get().(*[]byte)
	if !ok {
		b := make([]byte, direntSize)
		lent = &b
	}
	defer listings.Put(lent)
	own := *lent
	for {
		chunk, err := run(d.r.g, d.h, func(fd int) ([]byte, error) {
			buf := own
			if d.r.g != nil {
				buf = make([]byte, direntSize) // an abandoned call may write into it later
			}
			for {
				n, err := unix.Getdents(fd, buf)
				if errors.Is(err, unix.EINTR) {
					continue
				}
				return buf[:max(n, 0)], err
			}
		}, nil)
		if err != nil {
			return err
		}
		if len(chunk) == 0 {
			return nil
		}
		if err := dirents(chunk, fn); err != nil {
			return err
		}
	}
}

// dirents takes struct linux_dirent64 records apart: ino u64, off i64, reclen u16, type u8, name NUL.
func dirents(b []byte, fn func(Entry) error) error {
	for len(b) >= 19 {
		n := int(binary.NativeEndian.Uint16(b[16:]))
		if n < 19 || n > len(b) {
			return fmt.Errorf("malformed directory entry of %d bytes", n)
		}
		name := b[19:n]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			name = name[:i]
		}
		e := Entry{Name: string(name), Type: b[18]}
		b = b[n:]
		if checkName(e.Name) != nil {
			continue // "." and "..", or what no file system may give
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}
