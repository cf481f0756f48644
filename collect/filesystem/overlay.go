package filesystem

import (
	"golang.org/x/sys/unix"

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

// marksOf reads the notes. parentWhiteouts: the directory says (opaque "x") that it may hold whiteouts written as attributes.
func marksOf(st safefs.Stat, xattrs map[string]string) marks {
	var m marks
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
		m.whiteout = true
		return m
	}
	for _, p := range []string{trustedOverlay, userOverlay} {
		if _, ok := xattrs[p+"whiteout"]; ok && st.IsRegular() && st.Size == 0 {
			m.whiteout = true
		}
		if xattrs[p+"opaque"] == "y" && st.IsDir() {
			m.opaque = true
		}
		if _, ok := xattrs[p+"metacopy"]; ok && st.IsRegular() {
			m.metacopy = true
		}
		if r, ok := xattrs[p+"redirect"]; ok {
			m.redirect = r
		}
	}
	return m
}

// plain drops overlayfs's own notes from the attributes: what is left belongs to the file.
func plain(xattrs map[string]string) map[string]string {
	var out map[string]string
	for k, v := range xattrs {
		if len(k) > len(trustedOverlay) && k[:len(trustedOverlay)] == trustedOverlay || len(k) > len(userOverlay) && k[:len(userOverlay)] == userOverlay {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[k] = v
	}
	return out
}
