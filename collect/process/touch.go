package process

import (
	"errors"
	"fmt"

	"github.com/sherd-forensics/sherd/internal/safefs"
)

// open opens a regular file of a process by a magic link below its directory, or by another descriptor of ours, unless that could be
// noticed by a signal or is known to hang.
func (c *collector) open(h *handle, link string, o object) (*safefs.File, error) {
	if c.leases.Write(c.s.Proc, o.dev, o.ino) {
		return nil, safefs.ErrLeased
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
