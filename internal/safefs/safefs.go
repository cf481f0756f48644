// Package safefs reads files that somebody hostile controls, without leaving the directory that was opened and
// without leaving a trace in it.
//
//   - Every lookup goes through openat2(2) with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS, or names a single element
//     below an open directory and follows nothing: no symbolic link, "..", or race leads outside.
//   - Nothing but regular files and directories is ever opened: a file is first held with O_PATH, which has no effect
//     on it, and opened for reading only after the held object is known to be regular. FIFOs, devices and sockets
//     stay untouched, and so do processes that wait at them.
//   - Access times stay as they are: the directory is read through a detached, private, read-only clone of its mount
//     with noatime, which nobody else sees. Where that is not permitted O_NOATIME is used, and where that is not
//     permitted either, the read is refused with ErrAccessTime, unless the process as a whole was told that it may touch.
//   - On file systems that answer from elsewhere (FUSE, NFS …) each operation has a deadline (ErrTimeout), and the
//     number of operations left hanging is bounded.
//
// It needs Linux 5.6 (openat2); clones need 5.12 (mount_setattr) and CAP_SYS_ADMIN.
package safefs

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Errors that callers tell apart. They are wrapped: use errors.Is.
var (
	// ErrAccessTime says that reading would have changed an access time, so it was not done.
	ErrAccessTime = errors.New("reading would change its access time")
	// ErrTimeout says that the file system did not answer in time.
	ErrTimeout = errors.New("the file system did not answer in time")
	// ErrNotRegular says that the object is no regular file, so it was not opened.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTooLarge comes beside the first bytes of what is larger than the limit.
	ErrTooLarge = errors.New("larger than the limit")
	// ErrName says that a name can't be an element of a path.
	ErrName = errors.New("not a file name")
)

// Options say how a root is read. The zero value crosses mounts and clones where it can.
type Options struct {
	// NoXDev confines reads to the one mount that the root lies on. The clone then shows what lies under other mounts.
	NoXDev bool
	// NoClone reads without a clone of the mount.
	NoClone bool
	// Timeout bounds each operation where the file system may hang; 0 means DefaultTimeout.
	Timeout time.Duration
}

// DefaultTimeout bounds one operation on a file system that may hang.
const DefaultTimeout = 5 * time.Second

// Root is a directory (or, for a mount of one file, a file) that lookups can't leave. It is safe for concurrent use.
type Root struct {
	h     *handle
	g     *guard
	flags resolveFlags
	stat  Stat
	fs    uint32 // magic number of statfs(2)
	// quiet: nothing read through this root changes an access time, by the mount's flags or the file system's nature.
	quiet   bool
	cloned  bool
	noClone error
	mount   uint64
}

type resolveFlags uint64

// ownRoot finds the namespace that a path below /proc/PID/root belongs to.
var ownRoot = regexp.MustCompile(`^(.*/[0-9]+)/root(?:/|$)`)

// Open opens the directory at path, a path that we chose ourselves, and follows symbolic links to get there. A path
// /proc/PID/root[/…] is read in the mount namespace of that process.
func Open(path string, o Options) (*Root, error) {
	g := newGuard(o.Timeout)
	h, err := openAny(g, func() (int, error) {
		return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", path, err)
	}
	ns := ""
	if m := ownRoot.FindStringSubmatch(path); m != nil {
		ns = m[1] + "/ns/mnt"
	}
	return newRoot(h, g, ns, o)
}

// OpenBelow opens the directory at rel below base, where another machine's root is seen: symbolic links are followed as
// on that machine, so that an absolute one leads into base again.
func OpenBelow(base, rel string, o Options) (*Root, error) {
	g := newGuard(o.Timeout)
	top, err := openAny(g, func() (int, error) { return unix.Open(base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", base, err)
	}
	defer top.close()
	rel = strings.TrimLeft(rel, "/")
	if rel == "" {
		rel = "."
	}
	h, err := openAny(g, func() (int, error) {
		return openat2(top.fd, rel, unix.O_PATH, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	})
	if err != nil {
		return nil, fmt.Errorf("opening %q below %q: %w", rel, base, err)
	}
	return newRoot(h, g, "", o)
}

// OpenIn opens the object at rel inside the root of a process: proc is where its /proc is seen. No symbolic link on
// the way is followed; rel "" or "/" is the root itself.
func OpenIn(proc string, pid int, rel string, o Options) (*Root, error) {
	g := newGuard(o.Timeout)
	base := fmt.Sprintf("%s/%d", proc, pid)
	top, err := openAny(g, func() (int, error) {
		return unix.Open(base+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, fmt.Errorf("opening %s/root: %w", base, err)
	}
	defer top.close()
	rel = strings.Trim(rel, "/")
	if rel == "" {
		rel = "."
	}
	h, err := openAny(g, func() (int, error) {
		return openat2(top.fd, rel, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS|unix.RESOLVE_NO_SYMLINKS)
	})
	if err != nil {
		return nil, fmt.Errorf("opening %q in %s/root: %w", rel, base, err)
	}
	return newRoot(h, g, base+"/ns/mnt", o)
}

func openAny(g *guard, open func() (int, error)) (*handle, error) {
	return run(g, nil, func(int) (*handle, error) {
		fd, err := open()
		if err != nil {
			return nil, err
		}
		return newHandle(fd), nil
	}, func(h *handle) {
		if h != nil {
			h.close()
		}
	})
}

// newRoot takes over h, whatever it returns.
func newRoot(h *handle, g *guard, ns string, o Options) (*Root, error) {
	r := &Root{h: h, g: g, flags: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	before, err := run(g, h, func(fd int) (Stat, error) { return statx(fd, "") }, nil)
	if err != nil {
		h.close()
		return nil, fmt.Errorf("looking at the root: %w", err)
	}
	r.mount = before.MntID
	if !o.NoClone {
		var clone *handle
		if clone, err = cloneMount(g, h, ns, !o.NoXDev); err == nil {
			h.close()
			r.h, r.cloned, r.quiet = clone, true, true
		}
		r.noClone = err
	}
	if o.NoXDev {
		r.flags |= unix.RESOLVE_NO_XDEV
	}
	type facts struct {
		fs   unix.Statfs_t
		stat Stat
	}
	f, err := run(g, r.h, func(fd int) (facts, error) {
		var f facts
		if err := unix.Fstatfs(fd, &f.fs); err != nil {
			return f, err
		}
		var err error
		f.stat, err = statx(fd, "")
		return f, err
	}, nil)
	if err != nil {
		r.h.close()
		return nil, fmt.Errorf("looking at the root: %w", err)
	}
	r.fs, r.stat = uint32(f.fs.Type), f.stat //nolint:unconvert // the type differs between architectures
	if timeless[r.fs] || f.fs.Flags&(unix.ST_NOATIME|unix.ST_RDONLY) != 0 && o.NoXDev {
		r.quiet = true
	}
	if o.NoXDev && local[r.fs] {
		r.g = nil
	}
	return r, nil
}

// Close lets go of the root; a clone of the mount vanishes with it.
func (r *Root) Close() error {
	r.h.close()
	return nil
}

// Cloned reports whether reads go through a private clone of the mount; if not, the error says why. Without it
// symbolic links can be neither read nor followed where that would change their access times.
func (r *Root) Cloned() (bool, error) { return r.cloned, r.noClone }

// Stat is the root's own metadata, as it was when it was opened.
func (r *Root) Stat() Stat { return r.stat }

// MountID is the number, in mountinfo, of the mount that the root was found on; 0 if unknown.
func (r *Root) MountID() uint64 { return r.mount }

// FSType is the magic number of the root's file system, as statfs(2) gives it.
func (r *Root) FSType() uint32 { return r.fs }

// Remote reports whether the root's file system answers from elsewhere, so that it may hang.
func (r *Root) Remote() bool { return !local[r.fs] && !timeless[r.fs] }

// Dir opens the directory at rel; symbolic links are followed inside the root.
func (r *Root) Dir(rel string) (*Dir, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY
	if !r.quiet {
		flags |= unix.O_NOATIME
	}
	h, err := r.lookup(rel, flags, true)
	if err != nil {
		return nil, err
	}
	return &Dir{r: r, h: h}, nil
}

// lookup resolves rel inside the root.
func (r *Root) lookup(rel string, flags int, follow bool) (*handle, error) {
	rel = strings.TrimLeft(rel, "/")
	if rel == "" {
		rel = "."
	}
	resolve := r.flags
	if !r.quiet && !mayTouch.Load() {
		// Walking through a symbolic link reads it, which counts as an access.
		resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	h, err := run(r.g, r.h, func(fd int) (*handle, error) { return openLoud(fd, rel, flags, resolve) }, func(h *handle) {
		if h != nil {
			h.close()
		}
	})
	switch {
	case err == nil:
		return h, nil
	case !r.quiet && (errors.Is(err, unix.ELOOP) || flags&unix.O_NOATIME != 0 && errors.Is(err, unix.EPERM)):
		err = fmt.Errorf("%w (%w)", ErrAccessTime, err)
	}
	return nil, &PathError{Op: "open", Path: rel, Err: err}
}

// PathError is a failure at one path below a root.
type PathError struct {
	Op, Path string
	Err      error
}

func (e *PathError) Error() string { return fmt.Sprintf("%s %q: %v", e.Op, e.Path, e.Err) }

// Unwrap gives the cause.
func (e *PathError) Unwrap() error { return e.Err }

// openat2 retries where the kernel could not decide because somebody renamed at that moment.
func openat2(dir int, rel string, flags int, resolve resolveFlags) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: uint64(resolve)}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dir, rel, &how)
		if err == nil || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) || try == 16 {
			return fd, err
		}
	}
}

// Lstat is the metadata of rel itself; links before the last element are followed inside the root.
func (r *Root) Lstat(rel string) (Stat, error) { return r.statPath(rel, false) }

// StatAt is the metadata of what rel leads to inside the root.
func (r *Root) StatAt(rel string) (Stat, error) { return r.statPath(rel, true) }

func (r *Root) statPath(rel string, follow bool) (Stat, error) {
	h, err := r.lookup(rel, unix.O_PATH, follow)
	if err != nil {
		return Stat{}, err
	}
	defer h.close()
	return run(r.g, h, func(fd int) (Stat, error) { return statx(fd, "") }, nil)
}

// Open opens the regular file that rel leads to inside the root.
func (r *Root) Open(rel string) (*File, error) {
	h, err := r.lookup(rel, unix.O_PATH, true)
	if err != nil {
		return nil, err
	}
	defer h.close()
	f, err := r.reopen(h)
	if err != nil {
		return nil, &PathError{"open", rel, err}
	}
	return f, nil
}

// ReadFile reads the regular file that rel leads to. Of a larger one the first limit bytes come with ErrTooLarge.
func (r *Root) ReadFile(rel string, limit int64) ([]byte, error) {
	f, err := r.Open(rel)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.readAll(limit)
}

func (f *File) readAll(limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		return b[:limit], ErrTooLarge
	}
	return b, err
}

// Readlink gives the target of the symbolic link rel, as it is written.
func (r *Root) Readlink(rel string) (string, error) {
	h, err := r.lookup(rel, unix.O_PATH, false)
	if err != nil {
		return "", err
	}
	defer h.close()
	return r.readlink(h, "")
}

// ReadDir calls fn for each entry of the directory rel, in the order of the file system, until it returns an error, which
// ReadDir returns.
func (r *Root) ReadDir(rel string, fn func(Entry) error) error {
	d, err := r.Dir(rel)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Entries(fn)
}

// File opens the root itself where it is a regular file: a mount of one file.
func (r *Root) File() (*File, error) { return r.reopen(r.h) }
