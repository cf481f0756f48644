package safefs

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"golang.org/x/sys/unix"
)

// File is a regular file open for reading.
type File struct {
	r    *Root
	h    *handle
	stat Stat
	off  int64
}

// reopen opens for reading what an O_PATH handle holds, once it is known to be a regular file.
func (r *Root) reopen(h *handle) (*File, error) {
	f, err := run(r.g, h, func(fd int) (*File, error) {
		st, err := statx(fd, "")
		if err != nil {
			return nil, err
		}
		if !st.IsRegular() {
			return nil, fmt.Errorf("%w but a %s", ErrNotRegular, st.TypeName())
		}
		n, err := openHeld(fd, !r.quiet)
		if err != nil {
			return nil, err
		}
		return &File{r: r, h: newHandle(n), stat: st}, nil
	}, func(f *File) {
		if f != nil {
			f.h.close()
		}
	})
	return f, err
}

func openHeld(fd int, noatime bool) (int, error) {
	flags := unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	if noatime {
		flags |= unix.O_NOATIME
	}
	for {
		n, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), flags, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case noatime && errors.Is(err, unix.EPERM) && mayTouch.Load():
			touches(fd)
			flags, noatime = flags&^unix.O_NOATIME, false
			continue
		case noatime && errors.Is(err, unix.EPERM):
			return -1, ErrAccessTime
		}
		return n, err
	}
}

// OpenLink opens the regular file behind path, a path that we chose ourselves and whose last element may be a magic
// link such as /proc/PID/exe or /proc/PID/fd/3. Its access time stays as it is, or the error is ErrAccessTime.
func OpenLink(path string) (*File, error) {
	r := &Root{g: newGuard(DefaultTimeout)}
	h, err := openAny(r.g, func() (int, error) { return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", path, err)
	}
	defer h.close()
	f, err := r.reopen(h)
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", path, err)
	}
	return f, nil
}

// Close closes the file.
func (f *File) Close() error {
	f.h.close()
	return nil
}

// Stat is the file's metadata when it was opened; Refresh asks again.
func (f *File) Stat() Stat { return f.stat }

// Refresh asks for the file's metadata as it is now.
func (f *File) Refresh() (Stat, error) {
	return run(f.r.g, f.h, func(fd int) (Stat, error) { return statx(fd, "") }, nil)
}

// Read reads on from where the last Read ended.
func (f *File) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.off)
	f.off += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// ReadAt is io.ReaderAt's: n < len(p) comes with an error, io.EOF at the end.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	total := 0
	for total < len(p) {
		n, err := f.pread(p[total:], off+int64(total))
		total += n
		if err != nil {
			return total, err
		}
		if n == 0 {
			return total, io.EOF
		}
	}
	return total, nil
}

func (f *File) pread(p []byte, off int64) (int, error) {
	if f.r.g == nil {
		fd, err := f.h.acquire()
		if err != nil {
			return 0, err
		}
		defer f.h.release()
		return pread(fd, p, off)
	}
	// An abandoned read may still write into its buffer, so it gets one of its own.
	b, err := run(f.r.g, f.h, func(fd int) ([]byte, error) {
		buf := make([]byte, min(len(p), 256<<10))
		n, err := pread(fd, buf, off)
		return buf[:n], err
	}, nil)
	return copy(p, b), err
}

func pread(fd int, p []byte, off int64) (int, error) {
	for {
		n, err := unix.Pread(fd, p, off)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return max(n, 0), err
	}
}

// Extent is a run of bytes that the file system stores; between extents are holes, which read as zeros.
type Extent struct{ Offset, Length int64 }

// Extents lists where the first size bytes of the file have data, at most limit runs: if there are more, the last
// one reaches to the end. A file system that can't tell gives one run over everything.
func (f *File) Extents(size int64, limit int) ([]Extent, error) {
	return run(f.r.g, f.h, func(fd int) ([]Extent, error) {
		var out []Extent
		for off := int64(0); off < size; {
			data, err := unix.Seek(fd, off, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) { // nothing but a hole up to the end
				break
			}
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
				return []Extent{{0, size}}, nil
			}
			if err != nil {
				return out, err
			}
			if data >= size {
				break
			}
			hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
			if err != nil || hole <= data || hole > size || len(out)+1 == limit {
				hole = size
			}
			out = append(out, Extent{data, hole - data})
			off = hole
		}
		return out, nil
	}, nil)
}

// Xattrs are the file's extended attributes, see Dir.Xattrs.
func (f *File) Xattrs() (map[string]string, error) {
	return run(f.r.g, f.h, func(fd int) (map[string]string, error) {
		return followXattrs("/proc/self/fd/" + strconv.Itoa(fd))
	}, nil)
}

// FD gives the descriptor for calls that this package lacks; it stays the File's.
func (f *File) FD() int { return f.h.fd }
