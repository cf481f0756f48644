package safefs

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLeased stands for a file that was left alone: whoever opens it has a signal sent to the holder of its write lease, which
// ends a process that does not expect it.
var ErrLeased = errors.New("not opened: somebody holds a write lease on it, and would be signalled")

// Leases remembers the write leases that /proc/locks (proc_locks(5)) tells of. The zero value is ready; it is safe for
// concurrent use.
type Leases struct {
	mu   sync.Mutex
	read time.Time
	held map[string]bool
}

const (
	// leasesFor is how long what was read is believed.
	leasesFor = 200 * time.Millisecond
	maxLocks  = 16 << 20
)

// Write reports whether somebody holds a write lease on a file; proc is where the machine's /proc is seen, dev is as unix.Mkdev makes it.
func (l *Leases) Write(proc string, dev, ino uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.read) > leasesFor {
		l.held = map[string]bool{}
		// Of an endless list the beginning is good enough, and a kernel without locks has no leases.
		b, _ := ReadProc(filepath.Join(proc, "locks"), maxLocks) //nolint:errcheck // see above
		for line := range strings.Lines(string(b)) {
			// "1: LEASE  ACTIVE    WRITE 4711 00:01:1026 0 EOF"
			if f := strings.Fields(line); len(f) >= 6 && f[1] == "LEASE" && f[3] == "WRITE" {
				l.held[f[5]] = true
			}
		}
		l.read = time.Now()
	}
	return l.held[fmt.Sprintf("%02x:%02x:%d", unix.Major(dev), unix.Minor(dev), ino)]
}
