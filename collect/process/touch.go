package process

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/internal/safefs"
)

// errLeased stands for a file that was left alone.
var errLeased = errors.New("not opened: somebody holds a write lease on it, and would be signalled")

// open opens a regular file of a process by a magic link below its directory, or by another descriptor of ours, unless that could be
// noticed by a signal or is known to hang.
func (c *collector) open(h *handle, link string, o object) (*safefs.File, error) {
	if c.leases.write(c.s.Proc, o) {
		return nil, errLeased
	}
	if err := c.mayHang(h, o); err != nil {
		return nil, err
	}
	return safefs.OpenLink(link)
}

// mayHang reports whether a file lies where reads may never return, and too many did not.
func (c *collector) mayHang(h *handle, o object) error {
	if c.stuck.Load() < maxStuck {
		return nil
	}
	own, err := h.mounts()
	if err != nil {
		return nil //nolint:nilerr // nothing speaks for it
	}
	m, ok := own[o.mount]
	if !ok || local[m.fstype] {
		return nil
	}
	return fmt.Errorf("on %s: %w", m.fstype, errAllStuck)
}

// leases remembers the write leases that /proc/locks (proc_locks(5)) tells of. A lease's holder gets a signal, which ends a process that does
// not expect it, as soon as somebody opens the file.
type leases struct {
	mu   sync.Mutex
	read time.Time
	held map[string]bool
}

// leasesFor is how long what was read is believed.
const leasesFor = 200 * time.Millisecond

// write reports whether somebody holds a write lease on a file.
func (l *leases) write(proc string, o object) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.read) > leasesFor {
		l.held = map[string]bool{}
		// Of an endless list the beginning is good enough.
		b, _ := safefs.ReadProc(filepath.Join(proc, "locks"), maxText) //nolint:errcheck // a kernel without locks has no leases
		for line := range strings.Lines(string(b)) {
			// "1: LEASE  ACTIVE    WRITE 4711 00:01:1026 0 EOF"
			if f := strings.Fields(line); len(f) >= 6 && f[1] == "LEASE" && f[3] == "WRITE" {
				l.held[f[5]] = true
			}
		}
		l.read = time.Now()
	}
	return l.held[fmt.Sprintf("%02x:%02x:%s", unix.Major(o.dev), unix.Minor(o.dev), strconv.FormatUint(o.ino, 10))]
}

// local are file systems that answer from this machine.
var local = map[string]bool{
	"ext2": true, "ext3": true, "ext4": true, "xfs": true, "btrfs": true, "tmpfs": true, "overlay": true, "ramfs": true, "devtmpfs": true,
	"squashfs": true, "erofs": true, "f2fs": true, "iso9660": true, "vfat": true, "hugetlbfs": true, "zfs": true, "bcachefs": true,
}

// pseudo are file systems whose files have no content at rest; opening or reading one may have effects.
var pseudo = map[string]bool{
	"proc": true, "sysfs": true, "cgroup": true, "cgroup2": true, "debugfs": true, "tracefs": true, "securityfs": true, "bpf": true,
	"configfs": true, "devpts": true, "mqueue": true, "nsfs": true, "efivarfs": true, "fusectl": true, "binfmt_misc": true, "pstore": true,
	"autofs": true, "selinuxfs": true, "rpc_pipefs": true, "nfsd": true,
}

var errPseudo = errors.New("a file of the kernel's, which has no content at rest")

// onPseudo reports whether a file is the kernel's own.
func (h *handle) onPseudo(o object) bool {
	own, err := h.mounts()
	return err == nil && pseudo[own[o.mount].fstype]
}
