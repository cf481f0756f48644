package filesystem

import (
	"maps"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

// upperPrefix is where the writable layer lies in the package.
const upperPrefix = "filesystem/upper"

// view resolves one name as overlayfs does: the highest entry wins, and if it is a directory, the directories below it
// show through until something opaque, a deletion or another kind of file ends that. ents are highest first.
func view(ents []*ent, of func(*part) bool) (winner *ent, dirs []*ent) {
	for _, e := range ents {
		if !of(e.p) {
			continue
		}
		if e.whiteout || winner != nil && !e.st.IsDir() {
			return winner, dirs
		}
		if winner == nil {
			winner = e
		}
		if !e.st.IsDir() {
			return winner, nil
		}
		dirs = append(dirs, e)
		if e.opaque || e.redirect != "" {
			return winner, dirs
		}
	}
	return winner, dirs
}

// wholeView resolves a name where every layer shows the complete tree: only the highest of the view counts.
func wholeView(ents []*ent, parts []*part, of func(*part) bool) (winner *ent, dirs []*ent) {
	var top *source
	for _, p := range parts {
		if of(p) {
			top = p.src
			break
		}
	}
	for _, e := range ents {
		if of(e.p) && e.p.src == top {
			if e.st.IsDir() {
				return e, []*ent{e}
			}
			return e, nil
		}
	}
	return nil, nil
}

// layered handles one path of a root that consists of layers.
func (w *walk) layered(dir string, depth int, ents []*ent, parts []*part) error {
	path := dir + "/" + ents[0].name
	inImage := func(p *part) bool { return p.img && p.src.image() }
	inRoot := func(p *part) bool { return p.root }
	var img, root *ent
	var imgDirs, rootDirs []*ent
	if w.sources[0].whole {
		root, rootDirs = wholeView(ents, parts, inRoot)
		img, imgDirs = wholeView(ents, parts, inImage)
	} else {
		root, rootDirs = view(ents, inRoot)
		img, imgDirs = view(ents, inImage)
	}
	if err := w.emit(path, ents, img, root, imgDirs, rootDirs); err != nil {
		return err
	}
	var next []*part
	for _, e := range ents {
		if !e.st.IsDir() {
			continue
		}
		if p := w.child(path, e, has(imgDirs, e), has(rootDirs, e)); p != nil {
			next = append(next, p)
		}
	}
	if root != nil && len(rootDirs) > 0 {
		if last := rootDirs[len(rootDirs)-1]; last.redirect != "" && !last.opaque {
			next = append(next, w.redirected(dir, path, last)...)
		}
	}
	return w.into(path, depth, next)
}

func has(list []*ent, e *ent) bool {
	for _, x := range list {
		if x == e {
			return true
		}
	}
	return false
}

// redirected opens the directories of the layers below that a renamed directory still shows under its new name. They count
// for the container's view alone: in the image they are where they always were.
func (w *walk) redirected(dir, path string, e *ent) []*part {
	old := e.redirect
	if !strings.HasPrefix(old, "/") {
		old = dir + "/" + old
	}
	var out []*part
	below := false
	for _, s := range w.sources {
		if s == e.p.src {
			below = true
			continue
		}
		if !below || w.open >= w.maxOpen {
			continue
		}
		d, err := s.root.Dir(old)
		if err != nil {
			if !gone(err) {
				w.missed(path, "following overlayfs's redirect to "+record.Escape(old)+": "+err.Error(), true)
			}
			continue
		}
		w.open++
		out = append(out, &part{src: s, dir: d, root: true})
	}
	return out
}

// emit writes all rows of one path, and its object if the writable layer has one.
func (w *walk) emit(path string, ents []*ent, img, root *ent, imgDirs, rootDirs []*ent) error {
	it := &item{of: w.kind}
	var err error
	add := func(tree string, e *ent, c *content) {
		it.rows = append(it.rows, e.row(tree, path))
		it.sums = append(it.sums, c)
	}
	hash := func(e *ent, hold bool) *content {
		if err != nil || !e.st.IsRegular() || e.whiteout || e.metacopy {
			return nil
		}
		var c *content
		c, err = w.hashed(e, path, hold)
		return c
	}
	switch {
	case root == nil:
		// Deleted, or never there: the writable layer's own mark comes first.
		if top := ents[0]; top.whiteout && top.p.src.layer == record.WritableLayer {
			w.object(it, path, top)
			add(record.TreeRoot, top, nil)
		}
	case root == img:
		add(record.TreeBoth, root, hash(root, false))
	case root.p.src.whole:
		err = w.emitWhole(it, path, root, img)
		img = nil // done
	case root.p.src.layer == record.WritableLayer:
		if err = w.upperEntry(it, path, root, ents); err == nil {
			w.crossCheck(path, root)
		}
	default:
		add(record.TreeRoot, root, hash(root, false))
	}
	if img != nil && img != root {
		add(record.TreeImage, img, hash(img, false))
	}
	if err == nil {
		w.lower(it, path, ents, img, root, imgDirs, rootDirs, hash)
	}
	if err != nil {
		w.p.drop(it)
		return err
	}
	if len(it.rows) == 0 {
		return nil
	}
	return w.p.put(w.ctx, it)
}

// lower adds the versions that neither view shows.
func (w *walk) lower(it *item, path string, ents []*ent, img, root *ent, imgDirs, rootDirs []*ent, hash func(*ent, bool) *content) {
	var above *ent
	for _, e := range ents {
		was := above
		if e.p.src.image() {
			above = e
		}
		if e == img || e == root || e.whiteout || has(imgDirs, e) || has(rootDirs, e) || e.p.src.layer == record.WritableLayer {
			continue
		}
		// A complete copy of a lower layer repeats what the layer above it shows.
		if e.p.src.whole && (!e.p.src.image() || was != nil && alike(was, e)) {
			continue
		}
		c := hash(e, false)
		r := e.row(record.TreeLayer, path)
		if e.p.src.whole {
			r.Layer, r.LayerDigest = origin(ents, e)
		}
		it.rows = append(it.rows, r)
		it.sums = append(it.sums, c)
	}
}

// origin is the lowest layer from which on the complete copies show the same file as e.
func origin(ents []*ent, e *ent) (int, string) {
	src, below := e.p.src, false
	for _, x := range ents {
		if x == e {
			below = true
			continue
		}
		if !below || !x.p.src.image() {
			continue
		}
		if !alike(e, x) || x.p.src.layer != src.layer-1 {
			break
		}
		src = x.p.src
	}
	return src.layer, src.digest
}

// alike compares what copies keep.
func alike(a, b *ent) bool {
	return a.st.Mode == b.st.Mode && a.st.UID == b.st.UID && a.st.GID == b.st.GID && a.st.Mtime == b.st.Mtime &&
		(a.st.IsDir() || a.st.Size == b.st.Size) && a.st.Rdev == b.st.Rdev && a.target == b.target && maps.Equal(a.xattrs, b.xattrs)
}

// emitWhole compares a complete copy with the image's. What differs is kept as if it lay in a writable layer.
func (w *walk) emitWhole(it *item, path string, root, img *ent) error {
	base := img
	if base != nil {
		r := img.row(record.TreeImage, path)
		it.rows = []record.File{root.row(record.TreeRoot, path), r}
		it.sums = []*content{nil, nil}
		if alike(root, img) {
			it.same = true
			if img.st.IsRegular() {
				for i, e := range []*ent{root, img} {
					c, err := w.hashed(e, path, i == 0)
					if err != nil {
						return err
					}
					it.sums[i] = c
					it.rows[i] = e.row(it.rows[i].Tree, path)
				}
				it.same = it.sums[0] != nil && it.sums[1] != nil
			}
		} else if img.st.IsRegular() {
			c, err := w.hashed(img, path, false)
			if err != nil {
				return err
			}
			it.sums[1] = c
		}
		it.rows[1].Layer, it.rows[1].LayerDigest = img.p.src.layer, img.p.src.digest
	} else {
		it.rows = []record.File{root.row(record.TreeRoot, path)}
		it.sums = []*content{nil}
	}
	if init := w.initEnt(path, root); init {
		it.rows[0].Layer = record.InitLayer
		return w.hashInto(it, root, path)
	}
	if it.same && (it.sums[0] == nil || it.sums[0] == it.sums[1]) {
		return nil // no content, or one and the same inode
	}
	return w.keepUpper(it, path, root, it.sums[0])
}

func (w *walk) hashInto(it *item, e *ent, path string) error {
	if !e.st.IsRegular() || it.sums[0] != nil {
		return nil
	}
	c, err := w.hashed(e, path, false)
	it.sums[0] = c
	return err
}

// initEnt reports whether the runtime's own layer already had this very entry.
func (w *walk) initEnt(path string, root *ent) bool {
	for _, s := range w.sources {
		if s.layer != record.InitLayer || !s.whole {
			continue
		}
		st, err := s.root.Lstat(path)
		if err == nil && st.Mode == root.st.Mode && st.Size == root.st.Size && st.Mtime == root.st.Mtime && st.UID == root.st.UID && st.GID == root.st.GID {
			return true
		}
	}
	return false
}

// upperEntry takes what the writable layer has at path.
func (w *walk) upperEntry(it *item, path string, e *ent, ents []*ent) error {
	if e.metacopy {
		return w.metacopied(it, path, e, ents)
	}
	it.rows = append(it.rows, e.row(record.TreeRoot, path))
	it.sums = append(it.sums, nil)
	return w.keepUpper(it, path, e, nil)
}

// metacopied handles a file of which the writable layer holds the metadata alone: its content is the image's.
func (w *walk) metacopied(it *item, path string, e *ent, ents []*ent) error {
	var data *content
	var err error
	for _, x := range ents {
		if e.redirect == "" && x != e && x.p.root && x.st.IsRegular() && !x.whiteout && !x.metacopy {
			data, err = w.hashed(x, path, false)
			break
		}
	}
	if e.redirect != "" {
		data, err = w.hashAt(e, path)
	}
	if err != nil {
		return err
	}
	it.rows = append(it.rows, e.row(record.TreeRoot, path))
	it.sums = append(it.sums, data)
	return w.keepUpper(it, path, e, nil)
}

// hashAt hashes the content that a metacopy's redirect names.
func (w *walk) hashAt(e *ent, path string) (*content, error) {
	old := e.redirect
	if !strings.HasPrefix(old, "/") {
		old = path[:strings.LastIndexByte(path, '/')+1] + old
	}
	for _, s := range w.sources {
		if s == e.p.src {
			continue
		}
		f, err := s.root.Open(old)
		if err != nil {
			continue
		}
		c := newContent(f)
		if err := w.p.hash(w.ctx, c, false); err != nil {
			c.close()
			return nil, err
		}
		return c, nil
	}
	w.missed(path, "the image's file that holds its content was not found at "+record.Escape(old), true)
	return nil, nil
}

// object says that the entry of rows[0] goes into the package.
func (w *walk) object(it *item, path string, e *ent) {
	m := meta(upperPrefix+path, e.p.src.host+path, e.st, e.xattrs)
	m.Linkname = e.target
	if e.err != "" {
		m.Errors = []string{e.err}
	}
	if e.p.src.whole {
		m.PAX["SHERD.synthesised"] = "1"
	}
	it.object = &m
}

// keepUpper takes an entry of the writable layer into the package; open is its content if it is open already.
func (w *walk) keepUpper(it *item, path string, e *ent, open *content) error {
	if !e.st.IsRegular() {
		w.object(it, path, e)
		return nil
	}
	known := e.st.Nlink > 1 && w.seen[inodeOf(e.st)]
	if !known {
		if why := w.upper.take(stored(e.st)); why != "" {
			w.miss(record.Miss{What: "content of " + record.Escape(path), Reason: why, Partial: true, Deliberate: true})
			if open == nil && it.sums[0] == nil {
				c, err := w.hashed(e, path, false)
				it.sums[0] = c
				return err
			}
			return nil
		}
	}
	c := open
	if c == nil {
		if c = w.content(e, path); c == nil {
			it.rows[0] = e.row(it.rows[0].Tree, path)
			// Its name, times and owner are evidence without its content.
			w.object(it, path, e)
			it.object.Errors = []string{e.err}
			return nil
		}
		it.body = c
		if known {
			close(c.done)
		} else if err := w.p.prefetch(w.ctx, c); err != nil {
			return err
		}
	} else {
		it.body = c
	}
	r := e.row(it.rows[0].Tree, path)
	r.Layer, r.LayerDigest = it.rows[0].Layer, it.rows[0].LayerDigest
	it.rows[0] = r
	w.object(it, path, e)
	if e.st.Nlink > 1 && len(w.seen) < maxKnown {
		w.seen[inodeOf(e.st)] = true
	}
	return nil
}

// stored is how much of a file's content is kept: holes cost nothing.
func stored(st safefs.Stat) int64 { return min(st.Size, st.Blocks*512+smallFile) }

// crossCheck compares an entry of the writable layer with what the container sees at its path. A difference means that
// somebody changes files at this moment, or that the runtime named another directory than the one in use.
func (w *walk) crossCheck(path string, e *ent) {
	if w.merged == nil || e.err != "" {
		return
	}
	seen, err := w.merged.Lstat(path)
	if err == nil && sameObject(seen, e.st) {
		return
	}
	now, nerr := e.p.dir.Lstat(e.name)
	if nerr != nil {
		return // gone meanwhile, which is no contradiction
	}
	seen, err = w.merged.Lstat(path)
	switch {
	case err == nil && sameObject(seen, now):
	case err != nil && !gone(err):
	default:
		w.miss(record.Miss{What: "agreement of the writable layer with the running container's view", Partial: true,
			Reason: "differs, for one at " + clip(record.Escape(path)) + ": the layer's directory is not the one in use, or files are being changed"})
	}
}

func sameObject(a, b safefs.Stat) bool {
	if a.Mode != b.Mode {
		return false
	}
	return a.IsDir() || a.Size == b.Size && a.Mtime == b.Mtime
}
