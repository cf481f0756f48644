package memory

import (
	"errors"
	"sync/atomic"
	"time"
)

// A process can make whoever reads its memory wait (userfaultfd, files on a file system that does not answer), so such
// calls run where they can be left behind. Each one left behind holds a thread; their number is bounded.
const maxHung = 32

var hung atomic.Int32

var errTimeout = errors.New("no answer in time")

// within does f and waits at most d for it. f must use nothing that the caller goes on using after errTimeout.
func within[T any](d time.Duration, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var zero T
	if hung.Load() >= maxHung {
		return zero, errTimeout
	}
	ch := make(chan result, 1)
	var late atomic.Bool
	go func() {
		v, err := f()
		ch <- result{v, err}
		if late.Load() {
			hung.Add(-1)
		}
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case r := <-ch:
		return r.v, r.err
	case <-t.C:
		// The count may stay one too high if f ends just now: that errs on the safe side.
		hung.Add(1)
		late.Store(true)
		return zero, errTimeout
	}
}
