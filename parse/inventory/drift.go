package inventory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"strings"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
)

// Kind is what happened to a path since the image was made. A change can be several at once; Change.Kind is the first that
// applies in the order below, and Change.Also has the others.
type Kind string

// Kinds of change.
const (
	Added    Kind = "added"    // the image has nothing there
	Deleted  Kind = "deleted"  // the image's file is gone
	Replaced Kind = "replaced" // of another type: a directory where there was a file
	Changed  Kind = "changed"  // other content, or another link target or device
	Setuid   Kind = "setuid"   // newly setuid or setgid
	Caps     Kind = "caps"     // new or other file capabilities
	Reowned  Kind = "reowned"  // other uid or gid
	Remoded  Kind = "remoded"  // other permission bits
	Xattrs   Kind = "xattrs"   // other extended attributes
	Hidden   Kind = "hidden"   // an opaque directory hides the image's files below it
	// Touched: copied into the writable layer, but nothing that matters differs. A directory is, when something in it
	// changed; a file is, when it was opened for writing, or when only its times were set.
	Touched Kind = "touched"
	// Unknown: content could not be compared, because a hash is missing on one side.
	Unknown Kind = "unknown"
)

// Change is one path that differs between image and container. Before is nil for what is new, After for what is gone. For a
// deletion that the writable layer marks, Whiteout is that mark.
type Change struct {
	Kind     Kind
	Also     []Kind
	Path     string
	Before   *Row
	After    *Row
	Whiteout *Row
	// Runtime is set for what the runtime itself puts into every container: its own layer (Docker's /.dockerenv, /etc/hosts), and the
	// empty files and directories that it makes to mount something on.
	Runtime bool
}

// Is reports whether k is among what happened.
func (c Change) Is(k Kind) bool {
	if c.Kind == k {
		return true
	}
	for _, a := range c.Also {
		if a == k {
			return true
		}
	}
	return false
}

// Drift gives every path at which the container's root differs from its image, in the inventory's order, in memory
// that does not grow with it. Volumes are not part of the image and not of the drift. Malformed lines are yielded as
// *LineError and skipped; any other error is the last. Without an image's baseline (the capture's coverage says so) everything is Added.
func Drift(p *evidence.Package) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		points := mountPoints{}
		for m, err := range Mounts(p) {
			var bad *LineError
			if err != nil && !errors.As(err, &bad) {
				break // a package without volumes has no mounts either; the rows below still count
			}
			if err == nil {
				points.add(string(m.Point))
			}
		}
		owners := ownersOf(p)
		drift(Read(p), points, func(c Change, err error) bool {
			owners.mapped(&c)
			return yield(c, err)
		})
	}
}

func drift(rows iter.Seq2[Row, error], points mountPoints, yield func(Change, error) bool) {
	var same []Row
	flush := func() bool {
		c, ok := compare(same, points)
		same = same[:0]
		return !ok || yield(c, nil)
	}
	for r, err := range rows {
		if err != nil {
			if !yield(Change{}, err) {
				return
			}
			continue
		}
		if r.Mount != "" {
			continue
		}
		if len(same) > 0 && same[0].Path != r.Path && !flush() {
			return
		}
		// A path has at most one row for each layer and view; more than that is hostile and adds nothing.
		if len(same) < 1024 {
			same = append(same, r)
		}
	}
	if len(same) > 0 {
		flush()
	}
}

// compare judges the rows of one path.
func compare(rows []Row, points mountPoints) (Change, bool) {
	var root, image, init *Row
	for i := range rows {
		r := rows[i]
		switch {
		case r.Tree == record.TreeBoth:
			return Change{}, false
		case r.Tree == record.TreeRoot && root == nil:
			root = &r
		case r.Tree == record.TreeImage && image == nil:
			image = &r
		case r.Tree == record.TreeLayer && r.Layer == record.InitLayer && init == nil:
			init = &r
		}
	}
	if image == nil {
		image = init
	}
	var c Change
	switch {
	case root != nil:
		c.Path = string(root.Path)
	case image != nil:
		c.Path = string(image.Path)
	default:
		return Change{}, false
	}
	switch {
	case root != nil && root.Type == record.TypeWhiteout:
		if image == nil {
			return Change{}, false // a mark over nothing: the image never had it
		}
		c.Kind, c.Whiteout, c.Before = Deleted, root, image
		return c, true
	case root == nil:
		c.Kind, c.Before = Deleted, image
		return c, true
	}
	c.After, c.Before = root, image
	c.Runtime = root.Layer == record.InitLayer
	if image == nil {
		c.Kind = Added
		c.Runtime = c.Runtime || points.madeFor(root)
		if risen(nil, root) {
			c.Also = append(c.Also, Setuid)
		}
		if len(root.Xattrs[capability]) > 0 {
			c.Also = append(c.Also, Caps)
		}
		return c, true
	}
	kinds := differences(image, root)
	c.Kind, c.Also = kinds[0], kinds[1:]
	if c.Before == init && c.Kind == Touched {
		c.Runtime = true
	}
	return c, true
}

const capability = "security.capability"

// risen reports whether after may run with rights that before did not give.
func risen(before, after *Row) bool {
	var had uint32
	if before != nil {
		had = before.Mode
	}
	return after.Type == record.TypeFile && after.Mode&^had&0o6000 != 0
}

func differences(a, b *Row) []Kind {
	if a.Type != b.Type {
		return []Kind{Replaced}
	}
	var k []Kind
	switch a.Type {
	case record.TypeFile:
		switch {
		case a.Size != b.Size:
			k = append(k, Changed)
		case a.SHA256 == "" || b.SHA256 == "":
			k = append(k, Unknown)
		case a.SHA256 != b.SHA256:
			k = append(k, Changed)
		}
	case record.TypeSymlink:
		if a.Target != b.Target {
			k = append(k, Changed)
		}
	case record.TypeChar, record.TypeBlock:
		if a.Rdev != b.Rdev {
			k = append(k, Changed)
		}
	}
	if risen(a, b) {
		k = append(k, Setuid)
	}
	if !bytes.Equal(a.Xattrs[capability], b.Xattrs[capability]) {
		k = append(k, Caps)
	}
	if a.UID != b.UID || a.GID != b.GID {
		k = append(k, Reowned)
	}
	if a.Mode != b.Mode {
		k = append(k, Remoded)
	}
	if !sameXattrs(a.Xattrs, b.Xattrs) {
		k = append(k, Xattrs)
	}
	if b.Opaque && !a.Opaque {
		k = append(k, Hidden)
	}
	if len(k) == 0 {
		k = append(k, Touched)
	}
	return k
}

// sameXattrs leaves out overlayfs's own notes, and the capabilities, which have a kind of their own.
func sameXattrs(a, b map[string][]byte) bool {
	covers := func(x, y map[string][]byte) bool {
		for k, v := range x {
			if k == capability || strings.HasPrefix(k, "trusted.overlay.") || strings.HasPrefix(k, "user.overlay.") {
				continue
			}
			if w, ok := y[k]; !ok || !bytes.Equal(v, w) {
				return false
			}
		}
		return true
	}
	return covers(a, b) && covers(b, a)
}

// Capabilities decodes a security.capability attribute (struct vfs_cap_data of linux/capability.h): the permitted set, and whether it is also
// effective at once. ok is false if it is no such attribute.
func Capabilities(attr []byte) (permitted uint64, effective, ok bool) {
	if len(attr) < 4 {
		return 0, false, false
	}
	magic := binary.LittleEndian.Uint32(attr)
	effective = magic&1 != 0
	switch magic & 0xff000000 {
	case 0x01000000: // revision 1: one pair of 32 bits
		if len(attr) != 12 {
			return 0, false, false
		}
		return uint64(binary.LittleEndian.Uint32(attr[4:])), effective, true
	case 0x02000000, 0x03000000: // two pairs; revision 3 adds the root uid of a user namespace
		if len(attr) != 20 && len(attr) != 24 {
			return 0, false, false
		}
		return uint64(binary.LittleEndian.Uint32(attr[4:])) | uint64(binary.LittleEndian.Uint32(attr[12:]))<<32, effective, true
	}
	return 0, false, false
}

// mountPoints are where the runtime mounted something, and the directories above.
type mountPoints map[string]bool // true: the point itself; false: above one

// maxPoints bounds what is remembered of a hostile list.
const maxPoints = 1 << 16

func (m mountPoints) add(p string) {
	if len(m) > maxPoints || p == "/" {
		return
	}
	m[p] = true
	for i := strings.LastIndexByte(p, '/'); i > 0; i = strings.LastIndexByte(p[:i], '/') {
		if _, ok := m[p[:i]]; !ok && len(m) <= maxPoints {
			m[p[:i]] = false
		}
	}
}

// madeFor reports whether r is what a runtime makes to mount on: an empty file or a directory at a mount point, or a directory
// on the way there.
func (m mountPoints) madeFor(r *Row) bool {
	point, known := m[string(r.Path)]
	switch {
	case !known:
		return false
	case r.Type == record.TypeDir:
		return true
	}
	return point && r.Type == record.TypeFile && r.Size == 0
}
