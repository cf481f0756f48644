package distroless

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/internal/safefs"
)

// tree is a root file system as its layers make it, highest first: overlayfs' rules without a mount
// (https://docs.kernel.org/filesystems/overlayfs.html). A single directory is a tree of one layer.
type tree struct {
	layers []*safefs.Root
}

func openTree(dirs []string) (*tree, error) {
	t := &tree{}
	for _, d := range dirs {
		r, err := safefs.Open(d, safefs.Options{NoXDev: true})
		if err != nil {
			t.close()
			return nil, err
		}
		t.layers = append(t.layers, r)
	}
	return t, nil
}

func (t *tree) close() {
	for _, l := range t.layers {
		l.Close() //nolint:errcheck // nothing was written
	}
}

// Limits on what a tree may cost: symbolic links on one path, and names in one directory.
const (
	maxLinks   = 40
	maxEntries = 1 << 16
)

var (
	errLinks = errors.New("too many levels of symbolic links")
	errName  = fs.ErrNotExist
)

// node is an object of the merged tree.
type node struct {
	path   string // without symbolic links
	stat   safefs.Stat
	layers []int // of a directory: those that show through, highest first
}

// top is the root directory.
func (t *tree) top() node {
	n := node{path: "/"}
	for i, l := range t.layers {
		n.layers = append(n.layers, i)
		n.stat = l.Stat()
		if opaque(l, "/") {
			break
		}
	}
	return n
}

func opaque(l *safefs.Root, rel string) bool {
	d, err := l.Dir(rel)
	if err != nil {
		return false
	}
	defer d.Close()
	xs, err := d.SelfXattrs()
	if err != nil {
		return false
	}
	return xs["trusted.overlay.opaque"] == "y" || xs["user.overlay.opaque"] == "y"
}

// child is one entry of a directory, not followed.
func (t *tree) child(dir node, name string) (node, error) {
	n := node{path: path.Join(dir.path, name)}
	for _, i := range dir.layers {
		l := t.layers[i]
		st, err := l.Lstat(n.path)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
				continue
			}
			return node{}, err
		}
		if len(t.layers) > 1 && t.whiteout(i, dir.path, name, st) {
			break
		}
		if !st.IsDir() {
			if n.layers == nil {
				n.stat, n.layers = st, []int{i}
			}
			break
		}
		if n.layers == nil {
			n.stat = st
		}
		n.layers = append(n.layers, i)
		if len(t.layers) > 1 && opaque(l, n.path) {
			break
		}
	}
	if n.layers == nil {
		return node{}, fmt.Errorf("%s: %w", n.path, errName)
	}
	return n, nil
}

// whiteout knows both forms: a character device 0:0, and an empty file with an attribute.
func (t *tree) whiteout(layer int, dir, name string, st safefs.Stat) bool {
	if st.Mode&unix.S_IFMT == unix.S_IFCHR {
		return st.Rdev == 0
	}
	if !st.IsRegular() || st.Size != 0 {
		return false
	}
	d, err := t.layers[layer].Dir(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	xs, err := d.Xattrs(name)
	if err != nil {
		return false
	}
	_, trusted := xs["trusted.overlay.whiteout"]
	_, user := xs["user.overlay.whiteout"]
	return trusted || user
}

// lookup follows a path, symbolic links included, without leaving the tree.
func (t *tree) lookup(p string) (node, error) {
	at := t.top()
	above := []node{}
	rest := elements(p)
	links := 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			if len(above) > 0 {
				at, above = above[len(above)-1], above[:len(above)-1]
			}
			continue
		}
		if !at.stat.IsDir() {
			return node{}, fmt.Errorf("%s: %w", at.path, unix.ENOTDIR)
		}
		n, err := t.child(at, name)
		if err != nil {
			return node{}, err
		}
		if !n.stat.IsSymlink() {
			above = append(above, at)
			at = n
			continue
		}
		if links++; links > maxLinks {
			return node{}, errLinks
		}
		to, err := t.layers[n.layers[0]].Readlink(n.path)
		if err != nil {
			return node{}, err
		}
		if strings.HasPrefix(to, "/") {
			at, above = t.top(), above[:0]
		}
		rest = append(elements(to), rest...)
		if len(rest) > unix.PathMax {
			return node{}, errLinks
		}
	}
	return at, nil
}

func elements(p string) []string {
	return slices.DeleteFunc(strings.Split(p, "/"), func(e string) bool { return e == "" || e == "." })
}

// list gives the names in a directory, sorted; names that a higher layer deleted are among them, and lookup tells.
func (t *tree) list(dir node) ([]string, error) {
	seen := map[string]bool{}
	for _, i := range dir.layers {
		err := t.layers[i].ReadDir(dir.path, func(e safefs.Entry) error {
			if len(seen) >= maxEntries {
				return errors.New("too many names")
			}
			seen[e.Name] = true
			return nil
		})
		if err != nil && len(seen) < maxEntries {
			return nil, err
		}
	}
	out := make([]string, 0, len(seen))
	for n := range seen {
		out = append(out, n)
	}
	slices.Sort(out)
	return out, nil
}

// read reads a regular file up to limit bytes.
func (t *tree) read(n node, limit int64) ([]byte, error) {
	b, err := t.layers[n.layers[0]].ReadFile(n.path, limit)
	if errors.Is(err, safefs.ErrTooLarge) {
		err = nil
	}
	return b, err
}
