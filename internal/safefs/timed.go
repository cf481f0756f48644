package safefs

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// handle is a descriptor that is closed when nobody uses it any more: an operation that was given up may still hold it.
type handle struct {
	fd     int
	mu     sync.Mutex
	users  int
	closed bool
}

func newHandle(fd int) *handle { return &handle{fd: fd} }

func (h *handle) acquire() (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return -1, os.ErrClosed
	}
	h.users++
	return h.fd, nil
}

func (h *handle) release() {
	h.mu.Lock()
	h.users--
	last := h.closed && h.users == 0
	h.mu.Unlock()
	if last {
		unix.Close(h.fd) //nolint:errcheck // opened for reading: nothing is lost
	}
}

func (h *handle) close() {
	h.mu.Lock()
	last := !h.closed && h.users == 0
	h.closed = true
	h.mu.Unlock()
	if last {
		unix.Close(h.fd) //nolint:errcheck // opened for reading: nothing is lost
	}
}

// Each operation left hanging holds one of our threads, so there are bounds: for one root, after which it is taken
// for dead, and for the whole program.
const (
	maxHungRoot = 4
	maxHung     = 64
)

var hung atomic.Int32

// guard gives operations a deadline. A nil guard gives none.
type guard struct {
	timeout time.Duration
	hung    atomic.Int32
}

func newGuard(timeout time.Duration) *guard {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	return &guard{timeout: timeout}
}

type result[T any] struct {
	v   T
	err error
}

// run does f with the descriptor of h (nil: none) and waits no longer than the guard allows. What an abandoned f brings
// in the end goes to discard.
func run[T any](g *guard, h *handle, f func(fd int) (T, error), discard func(T)) (T, error) {
	var zero T
	fd := -1
	if h != nil {
		var err error
		if fd, err = h.acquire(); err != nil {
			return zero, err
		}
	}
	done := func() {
		if h != nil {
			h.release()
		}
	}
	if g == nil {
		defer done()
		return f(fd)
	}
	if g.hung.Load() >= maxHungRoot || hung.Load() >= maxHung {
		done()
		return zero, ErrTimeout
	}
	const (
		finished  = 1
		abandoned = 2
	)
	var state atomic.Int32
	ch := make(chan result[T], 1)
	go func() {
		v, err := f(fd)
		done()
		if state.CompareAndSwap(0, finished) {
			ch <- result[T]{v, err}
			return
		}
		hung.Add(-1)
		g.hung.Add(-1)
		if discard != nil {
			discard(v)
		}
	}()
	timer := time.NewTimer(g.timeout)
	defer timer.Stop()
	select {
	case r := <-ch:
		return r.v, r.err
	case <-timer.C:
	}
	// Counted before the other side may count down.
	hung.Add(1)
	g.hung.Add(1)
	if state.CompareAndSwap(0, abandoned) {
		return zero, ErrTimeout
	}
	hung.Add(-1)
	g.hung.Add(-1)
	r := <-ch
	return r.v, r.err
}

// ReadProc reads a small file of /proc or /sys at a path that we chose ourselves, within DefaultTimeout: a hostile
// process can keep readers of its memory map waiting for ever. Of a larger file the first limit bytes come with
// ErrTooLarge.
func ReadProc(path string, limit int64) ([]byte, error) {
	return ReadProcTimeout(path, limit, DefaultTimeout)
}

// ReadProcTimeout is ReadProc with another deadline.
func ReadProcTimeout(path string, limit int64, timeout time.Duration) ([]byte, error) {
	b, err := run(newGuard(timeout), nil, func(int) ([]byte, error) { return readProc(path, limit) }, nil)
	if err != nil {
		return b, &PathError{"read", path, err}
	}
	return b, nil
}

func readProc(path string, limit int64) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // opened for reading: nothing is lost
	buf := make([]byte, 0, min(limit+1, 4096))
	for {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(int64(cap(buf))*2, limit+1))
			copy(grown, buf)
			buf = grown
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return buf, err
		case n == 0:
			return buf, nil
		}
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > limit {
			return buf[:limit], ErrTooLarge
		}
	}
}
