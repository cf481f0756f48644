package filesystem

import (
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

// plainTree is a tree without layers: a mount, or a root about which nothing more is known.
type plainTree struct {
	// point is put before each path: the mount point inside the container, "" for the root.
	point string
	mount string // File.Mount
	// prefix is where its files lie in the package; "" keeps none.
	prefix string
	// keep says whether a regular file's content is taken, and if not, why not, and whether that is by choice.
	keep func(path string, e *ent) (yes bool, why string)
	// hash says whether a file that is not taken is hashed.
	hash func(e *ent) bool
	// objects says whether what has no content (links, directories, devices) goes into the package too.
	objects func(e *ent) bool
	origin  string
	left    budgetCount
}

// budgetCount counts what was left out, for one coverage entry.
type budgetCount struct {
	files int
	why   string
}

// plainEntry takes one entry of a tree without layers.
func (w *walk) plainEntry(dir string, depth int, e *ent) error {
	t := w.plain
	path := dir + "/" + e.name
	it := &item{of: w.kind, sums: []*content{nil}}
	it.rows = []record.File{{}}
	if e.st.IsRegular() {
		if err := w.plainFile(it, path, e); err != nil {
			return err
		}
	} else if t.prefix != "" && t.objects(e) {
		w.plainObject(it, path, e)
	}
	r := e.row(record.TreeRoot, t.point+path)
	r.Layer, r.Mount = record.WritableLayer, record.Name(t.mount)
	it.rows[0] = r
	if err := w.p.put(w.ctx, it); err != nil {
		return err
	}
	if !e.st.IsDir() {
		return nil
	}
	var next []*part
	if p := w.child(path, e, false, true); p != nil {
		next = append(next, p)
	}
	return w.into(path, depth, next)
}

func (w *walk) plainObject(it *item, path string, e *ent) {
	t := w.plain
	m := meta(t.prefix+path, t.origin+path, e.st, e.xattrs)
	m.Linkname = e.target
	if e.err != "" {
		m.Errors = []string{e.err}
	}
	it.object = &m
}

func (w *walk) plainFile(it *item, path string, e *ent) error {
	t := w.plain
	keep, why := false, "contents of this tree are not kept"
	if t.prefix != "" {
		keep, why = t.keep(path, e)
	}
	if keep {
		if why = w.upper.take(stored(e.st)); why != "" {
			keep = false
		}
	}
	if !keep {
		if why != "" {
			t.left.files++
			t.left.why = why
		}
		if !t.hash(e) {
			return nil
		}
		c, err := w.hashed(e, path, false)
		it.sums[0] = c
		return err
	}
	c := w.content(e, path)
	if c == nil {
		return nil
	}
	it.body = c
	w.plainObject(it, path, e)
	if e.st.Nlink > 1 && w.seen[inodeOf(e.st)] {
		close(c.done)
		return nil
	}
	if e.st.Nlink > 1 && len(w.seen) < maxKnown {
		w.seen[inodeOf(e.st)] = true
	}
	return w.p.prefetch(w.ctx, c)
}

// walkPlain walks one tree from its top. A mount of one file is taken as that file.
func (w *walk) walkPlain(root *safefs.Root, t *plainTree) error {
	w.plain = t
	defer func() { w.plain = nil }()
	s := &source{layer: record.WritableLayer, root: root, host: t.origin}
	if !root.Stat().IsDir() {
		return w.single(root, t)
	}
	d, err := root.Dir("")
	if err != nil {
		w.missed(t.point+"/", err.Error(), false)
		return nil
	}
	if t.mount != "" || t.prefix != "" {
		if err := w.top(root, t, s); err != nil {
			d.Close()
			return err
		}
	}
	w.open++
	p := &part{src: s, dir: d, root: true}
	return w.into("", 0, []*part{p})
}

// top writes the entry of the tree's own directory.
func (w *walk) top(root *safefs.Root, t *plainTree, s *source) error {
	x, err := root.Xattrs()
	e := &ent{p: &part{src: s}, st: root.Stat(), xattrs: x}
	if err != nil {
		e.err = err.Error()
	}
	it := &item{of: w.kind, sums: []*content{nil}}
	name := t.point
	if name == "" {
		name = "/"
	}
	r := e.row(record.TreeRoot, name)
	r.Mount = record.Name(t.mount)
	it.rows = []record.File{r}
	if t.prefix != "" {
		w.plainObject(it, "", e)
	}
	return w.p.put(w.ctx, it)
}

// single takes a mount of one file.
func (w *walk) single(root *safefs.Root, t *plainTree) error {
	s := &source{layer: record.WritableLayer, root: root, host: t.origin}
	x, err := root.Xattrs()
	e := &ent{p: &part{src: s}, st: root.Stat(), xattrs: x}
	if err != nil {
		e.err = err.Error()
	}
	it := &item{of: w.kind, sums: []*content{nil}}
	it.rows = []record.File{{}}
	if e.st.IsRegular() {
		keep, why := false, ""
		if t.prefix != "" {
			keep, why = t.keep("", e)
		}
		if keep {
			why = w.upper.take(stored(e.st))
			keep = why == ""
		}
		if why != "" {
			t.left.files++
			t.left.why = why
		}
		if keep || t.hash(e) {
			f, err := root.File()
			if err != nil {
				e.err = "content: " + err.Error()
				w.miss(record.Miss{What: "content of " + record.Escape(t.point), Reason: err.Error()})
			} else if c := newContent(f); keep {
				it.body = c
				w.plainObject(it, "", e)
				if err := w.p.prefetch(w.ctx, c); err != nil {
					return err
				}
			} else {
				it.sums[0] = c
				if err := w.p.hash(w.ctx, c, false); err != nil {
					return err
				}
			}
		}
	}
	r := e.row(record.TreeRoot, t.point)
	r.Mount = record.Name(t.mount)
	it.rows[0] = r
	return w.p.put(w.ctx, it)
}
