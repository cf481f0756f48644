package filesystem

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

const (
	errNoEntry = unix.ENOENT
	errNotDir  = unix.ENOTDIR
)

// What overlayfs notes in a layer, https://docs.kernel.org/filesystems/overlayfs.html. Rootless runtimes mount with
// userxattr, and then the notes are in user.overlay.* and not in trusted.overlay.*.
const (
	trustedOverlay = "trusted.overlay."
	userOverlay    = "user.overlay."
)

// marks are overlayfs's notes on one entry of a layer.
type marks struct {
	whiteout bool
	opaque   bool
	metacopy bool
	redirect string
}

// marksOf reads the notes that begin with prefix. The other prefix's are no notes: whoever may write into the container can
// set user.overlay.* there, and would hide files from us that the kernel shows.
func marksOf(st safefs.Stat, xattrs map[string]string, prefix string) marks {
	var m marks
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
		m.whiteout = true
		return m
	}
	if _, ok := xattrs[prefix+"whiteout"]; ok && st.IsRegular() && st.Size == 0 {
		m.whiteout = true
	}
	// "x" instead of "y" only says that whiteouts in the attribute's form are to be expected inside.
	m.opaque = xattrs[prefix+"opaque"] == "y" && st.IsDir()
	if _, ok := xattrs[prefix+"metacopy"]; ok && st.IsRegular() {
		m.metacopy = true
	}
	m.redirect = xattrs[prefix+"redirect"]
	return m
}

// notesPrefix tells how the container's overlay keeps its notes: as its mount says or, if it is not mounted, by who made it.
func notesPrefix(s subject.Subject) string {
	c := s.Container
	if c.PID > 0 {
		raw, err := safefs.ReadProc(fmt.Sprintf("%s/%d/mountinfo", s.Proc, c.PID), maxMountinfo)
		if err == nil {
			list, _ := parseMountinfo(raw)
			for _, m := range list {
				if m.point == "/" && m.fstype == "overlay" {
					if hasOption(m.super, "userxattr") {
						return userOverlay
					}
					return trustedOverlay
				}
			}
		}
	}
	// Rootless Podman's storage belongs to the user; the runtimes that run as root can use trusted attributes.
	if c.Runtime == "podman" {
		if r, err := safefs.Open(s.Host(filepath.Dir(c.Rootfs.Upper)), safefs.Options{NoXDev: true, NoClone: true}); err == nil {
			defer r.Close()
			if r.Stat().UID != 0 {
				return userOverlay
			}
		}
	}
	return trustedOverlay
}
