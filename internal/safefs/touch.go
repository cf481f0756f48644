package safefs

import (
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

var (
	mayTouch atomic.Bool
	touched  atomic.Int64
)

// MayTouch lets this process read files of other users although that may change when they were last read: one that has no rights over them
// but to read, as a collector beside its target has none, would see nothing else. Access times are known before, since metadata is taken first.
func MayTouch() { mayTouch.Store(true) }

// Touched is how many times something was opened whose access time may have changed by that. On an overlay, files of the image do not
// change: which are of the image can't be told from within.
func Touched() int64 { return touched.Load() }

// relatime is how old an access time must be for the kernel to renew it although nothing changed since.
const relatime = 24 * time.Hour

// touches counts what fd holds, if reading it changes its access time by the kernel's rule (relatime, the default of all mounts).
func touches(fd int) {
	st, err := statx(fd, "")
	if err != nil || st.Atime <= st.Mtime || st.Atime <= st.Ctime || time.Since(time.Unix(0, st.Atime)) >= relatime {
		touched.Add(1)
	}
}

// openLoud is openat2, which goes on without O_NOATIME where only an owner may have that and this process may touch.
func openLoud(dir int, rel string, flags int, resolve resolveFlags) (*handle, error) {
	n, err := openat2(dir, rel, flags, resolve)
	if errors.Is(err, unix.EPERM) && flags&unix.O_NOATIME != 0 && mayTouch.Load() {
		if n, err = openat2(dir, rel, flags&^unix.O_NOATIME, resolve); err == nil {
			touches(n)
		}
	}
	if err != nil {
		return nil, err
	}
	return newHandle(n), nil
}
