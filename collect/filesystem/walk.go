package filesystem

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

const (
	// maxDepth and maxPath bound what is entered: a tree can be a million directories deep, and every row would repeat
	// its whole path.
	maxDepth = 2048
	maxPath  = 16 << 10
	// maxKnown bounds how many hard-linked files are remembered.
	maxKnown = 1 << 16
)

// source is one directory tree that takes part in the root: a layer of the image, the one that the runtime made, or the
// writable one.
type source struct {
	layer  int // index in the image, record.WritableLayer or record.InitLayer
	whole  bool
	root   *safefs.Root
	host   string // where it lies, for the record
	digest string
}

func (s *source) image() bool { return s.layer >= 0 }

// part is one source's directory at the path that the walk is at. img and root say whether its entries take part in
// the image's view and in the container's.
type part struct {
	src       *source
	dir       *safefs.Dir
	img, root bool
}

// ent is one entry of a part.
type ent struct {
	p      *part
	name   string
	st     safefs.Stat
	xattrs map[string]string
	marks
	target string
	err    string // what could not be had of its metadata
}

// walk goes through all parts of the root in lockstep, so that every version of a path is in hand at the same time and
// memory does not grow with the number of files.
type walk struct {
	ctx  context.Context
	p    *pipeline
	o    Options
	kind string // for coverage
	// hostRoot is where the machine's root is seen, "" on the machine itself.
	hostRoot string
	notes    string    // prefix of overlayfs's attributes
	sources  []*source // highest first
	merged   *safefs.Root
	entries  int64
	limit    int64 // of entries
	open     int
	maxOpen  int
	upper    *budget
	known    map[inode]*content
	seen     map[inode]bool
	plain    *plainTree // set while a single tree without layers is walked
}

type inode struct {
	dev, ino uint64
	size     int64
	ctime    int64
}

func inodeOf(st safefs.Stat) inode { return inode{st.Dev, st.Ino, st.Size, st.Ctime} }

// budget bounds contents, in bytes, and remembers what it refused.
type budget struct {
	left    int64
	maxFile int64
	files   int
	bytes   int64
}

// take says why a file of n bytes may not be kept, or "".
func (b *budget) take(n int64) string {
	switch {
	case n > b.maxFile:
		return fmt.Sprintf("larger than the limit of %d bytes for one file", b.maxFile)
	case n > b.left:
		return "the limit for all contents is reached"
	}
	b.left -= n
	b.files++
	b.bytes += n
	return ""
}

var errEntries = errors.New("the limit of files is reached")

func (w *walk) miss(m record.Miss) { w.p.miss(w.kind, m) }

func (w *walk) missed(path, why string, partial bool) {
	w.miss(record.Miss{What: "files at " + record.Escape(path), Reason: why, Partial: partial})
}

// dir walks one directory, whose parts stay the caller's to close.
func (w *walk) dir(path string, depth int, parts []*part) error {
	budget := nameBudget / 2
	if depth >= 8 {
		budget = 64 << 10
	}
	if depth >= 64 {
		budget = 8 << 10
	}
	all := make([]*names, len(parts))
	for i, p := range parts {
		all[i] = &names{dir: p.dir, budget: max(budget/len(parts), 4<<10)}
	}
	err := merged(all, func(name string, present []int) error {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if w.entries++; w.entries > w.limit {
			return errEntries
		}
		ents := make([]*ent, 0, len(present))
		for _, i := range present {
			if e := w.entry(path, name, parts[i]); e != nil {
				ents = append(ents, e)
			}
		}
		if len(ents) == 0 {
			return nil
		}
		if w.plain != nil {
			return w.plainEntry(path, depth, ents[0])
		}
		return w.layered(path, depth, ents, parts)
	})
	for i, n := range all {
		if n.err != nil {
			w.missed(w.where(parts[i], path), "listing: "+n.err.Error(), true)
		}
	}
	return err
}

// where names a directory of a part for a person.
func (w *walk) where(p *part, path string) string {
	if w.plain != nil {
		return w.plain.point + path
	}
	return p.src.host + path
}

// entry looks at one name in one part; nil if nothing can be said about it.
func (w *walk) entry(path, name string, p *part) *ent {
	full := path + "/" + name
	st, err := p.dir.Lstat(name)
	if err != nil {
		why := err.Error()
		if gone(err) {
			why = "vanished while the directory was read"
		}
		w.missed(w.where(p, full), why, false)
		return nil
	}
	if cloned, _ := p.src.root.Cloned(); !cloned && st.MntID != p.src.root.Stat().MntID {
		w.missed(w.where(p, full), "another mount covers it and the mount could not be cloned", false)
		return nil
	}
	e := &ent{p: p, name: name, st: st}
	if e.xattrs, err = p.dir.Xattrs(name); err != nil {
		e.err = err.Error()
		if gone(err) {
			e.err = "replaced or removed while it was read"
		}
	}
	if st.IsSymlink() {
		if e.target, err = p.dir.Readlink(name); err != nil {
			e.err = "reading the link: " + err.Error()
		}
	}
	if w.plain == nil && !p.src.whole {
		e.marks = marksOf(st, e.xattrs, w.notes)
	}
	if e.err != "" {
		w.missed(w.where(p, full), e.err, true)
	}
	return e
}

// row makes the inventory's line for an entry, without hash.
func (e *ent) row(tree, path string) record.File {
	r := row(tree, path, e.p.src.layer, e.st, e.xattrs)
	r.LayerDigest, r.Target, r.Error = e.p.src.digest, record.Name(e.target), e.err
	r.Opaque, r.Metacopy, r.Redirect = e.opaque, e.metacopy, record.Name(e.redirect)
	if e.whiteout {
		r.Type = record.TypeWhiteout
	}
	return r
}

// content opens an entry that is a regular file. A file that was replaced since it was looked at is described as it
// is now. If it can't be opened, that is noted.
func (w *walk) content(e *ent, path string) *content {
	var f *safefs.File
	err := safefs.ErrLeased
	if !w.p.leases.Write(w.p.proc, e.st.Dev, e.st.Ino) {
		f, err = e.p.dir.Open(e.name)
	}
	if err != nil {
		why := err.Error()
		switch {
		case gone(err):
			why = "vanished before it could be read"
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE):
			why = "too many open files"
		}
		e.err = strings.TrimPrefix(e.err+"; content: "+why, "; ")
		w.miss(record.Miss{What: "content of " + record.Escape(w.where(e.p, path)), Reason: why})
		return nil
	}
	if now := f.Stat(); now.Ino != e.st.Ino || now.Size != e.st.Size || now.Mtime != e.st.Mtime {
		e.st = now
	}
	return newContent(f)
}

// hashed opens an entry and asks for its hash. A file with several names is hashed once.
func (w *walk) hashed(e *ent, path string, hold bool) (*content, error) {
	id := inodeOf(e.st)
	if e.st.Nlink > 1 && !hold {
		if c := w.known[id]; c != nil {
			return c, nil
		}
	}
	c := w.content(e, path)
	if c == nil {
		return nil, nil
	}
	if err := w.p.hash(w.ctx, c, hold); err != nil {
		c.close()
		return nil, err
	}
	if e.st.Nlink > 1 && !hold && len(w.known) < maxKnown {
		w.known[id] = c
	}
	return c, nil
}

// child opens the directories below e that go on to the next level; the caller closes them.
func (w *walk) child(path string, e *ent, img, root bool) *part {
	if w.open >= w.maxOpen {
		w.missed(w.where(e.p, path), "too many open directories", true)
		return nil
	}
	d, err := e.p.dir.Dir(e.name)
	if err != nil {
		why := err.Error()
		if gone(err) {
			why = "vanished before it could be listed"
		}
		w.missed(w.where(e.p, path), why, true)
		return nil
	}
	w.open++
	return &part{src: e.p.src, dir: d, img: img, root: root}
}

// into walks a directory that was found at path, if it is not too deep.
func (w *walk) into(path string, depth int, parts []*part) error {
	defer func() {
		for _, p := range parts {
			p.dir.Close()
		}
		w.open -= len(parts)
	}()
	if len(parts) == 0 {
		return nil
	}
	if depth >= maxDepth || len(path) > maxPath {
		w.miss(record.Miss{
			What:   "files below " + clip(record.Escape(w.where(parts[0], path))),
			Reason: fmt.Sprintf("not entered: deeper than %d directories or its path longer than %d bytes", maxDepth, maxPath), Partial: true,
		})
		return nil
	}
	return w.dir(path, depth+1, parts)
}

// clip keeps a long path's ends.
func clip(s string) string {
	if len(s) <= 512 {
		return s
	}
	return s[:240] + " … " + s[len(s)-240:]
}
