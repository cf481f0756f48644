// Package filesystem takes a container's files from outside: the writable layer exactly as it lies on disk, an inventory
// of every file of the root and of the image with hashes, and the contents of volumes and tmpfs.
//
// Nothing of the target changes, not even an access time: all reading goes through safefs. One walk goes through all
// layers in lockstep, so that memory does not grow with the number of files and each file is read once: a file of the writable
// layer is hashed by the package's writer as it is sealed, the image's files are hashed beside it.
//
// Into the package go
//
//   - filesystem/upper/…: the writable layer with whiteouts, opaque and redirect marks, attributes, times, hard links and holes.
//     Devices, FIFOs and sockets are entries without content, and are never opened. With the native and vfs drivers, which copy whole
//     trees, it holds what differs from the image (PAX record SHERD.synthesised), and deletions are rows of the
//     inventory alone. Where nothing is known but the root itself, it holds what changed since the container started.
//   - filesystem/inventory.jsonl: record.File rows. The mounts' rows come first, mount by mount, then the root's. Within a
//     tree they come in the order of a walk that takes each directory's names by their bytes and enters a directory
//     right after its own row: paths compare element by element. All rows of one path are adjacent, "root" before
//     "image" before "layer" from high to low.
//   - volumes/<mount point>/… and volumes/mounts.jsonl: record.Mounted rows in the order of mountinfo.
package filesystem

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

// Options bound and choose what is taken. Zero values mean the defaults that they name.
type Options struct {
	// WithSecrets takes the contents of mounted secrets and tokens too.
	WithSecrets bool
	// Remote enters FUSE and network file systems as well, with Timeout for each operation.
	Remote bool
	// MaxFile bounds the bytes of one file (default 8 GiB), MaxUpper those of the writable layer (256 GiB), MaxVolumes those
	// of all mounts (4 GiB). What is beyond is described in the inventory, and in the coverage.
	MaxFile, MaxUpper, MaxVolumes int64
	// MaxEntries bounds how many files are looked at (default 5 million).
	MaxEntries int64
	// Timeout bounds one operation on a file system that may hang; 0 means safefs.DefaultTimeout.
	Timeout time.Duration
}

const (
	kindFiles   = "filesystem"
	kindVolumes = "volumes"
)

func or(n, def int64) int64 {
	if n > 0 {
		return n
	}
	return def
}

func (o Options) maxFile() int64    { return or(o.MaxFile, 8<<30) }
func (o Options) maxUpper() int64   { return or(o.MaxUpper, 256<<30) }
func (o Options) maxVolumes() int64 { return or(o.MaxVolumes, 4<<30) }
func (o Options) maxEntries() int64 { return or(o.MaxEntries, 5_000_000) }

// Collect takes the files of s. Its error means that the package could not be written or that ctx ended; everything else
// that went wrong is in the package's coverage. Volumes come before the root: a tmpfs is gone when the container is.
func Collect(ctx context.Context, s subject.Subject, ew *evidence.Writer, o Options) error {
	p := newPipeline(ew)
	p.proc = s.Proc
	status := [2]string{"complete", "complete"}
	err := p.run(ctx, func(ctx context.Context) error {
		w := &walk{ctx: ctx, p: p, o: o, kind: kindVolumes, hostRoot: s.HostRoot, maxOpen: maxOpen(), known: map[inode]*content{}, seen: map[inode]bool{}}
		if err := w.volumes(s, ew); err != nil {
			return err
		}
		w.kind, w.entries, w.limit = kindFiles, 0, o.maxEntries()
		w.upper = &budget{left: o.maxUpper(), maxFile: o.maxFile()}
		some, err := w.rootfs(s)
		if errors.Is(err, errEntries) {
			w.miss(record.Miss{What: "the rest of the root", Reason: fmt.Sprintf("%v: %d", err, o.maxEntries()), Partial: true})
			err = nil
		}
		if !some {
			status[0] = "none"
		}
		return err
	})
	for i, kind := range []string{kindFiles, kindVolumes} {
		if (p.missed[i].Load() || err != nil) && status[i] == "complete" {
			status[i] = "partial"
		}
		ew.Status(kind, status[i])
	}
	return err
}

// maxOpen is how many directories may be open: a quarter of the process's descriptors, files and other collectors need the rest.
func maxOpen() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur < 512 {
		return 128
	}
	return int(min(l.Cur/4, 1<<16))
}

// rootfs takes the root by what is known of its making. It reports whether anything could be read.
func (w *walk) rootfs(s subject.Subject) (bool, error) {
	r := s.Container.Rootfs
	w.plain, w.notes = nil, notesPrefix(s)
	defer func() {
		for _, src := range w.sources {
			src.root.Close()
		}
	}()
	for i := len(r.Layers) - 1; i >= 0; i-- {
		l := r.Layers[i]
		n := imageIndex(s, i)
		if l.Init {
			n = record.InitLayer
		}
		w.source(l.Dir, n, l.Whole, l.DiffID)
	}
	lowers := w.sources
	w.sources = nil
	top := r.Upper
	whole := false
	if top == "" && len(lowers) > 0 && lowers[0].whole {
		top, whole = r.Merged, true
	}
	readOnly := top == "" && len(lowers) > 0 && r.ReadOnly // a view of the image and nothing above it
	if !readOnly && (top == "" || !w.source(top, record.WritableLayer, whole, "")) {
		for _, l := range lowers {
			l.root.Close()
		}
		return w.fallback(s)
	}
	w.sources = append(w.sources, lowers...)
	if len(r.Layers) == 0 {
		w.miss(record.Miss{What: "the image's layers", Reason: "the runtime does not say where they lie: without them nothing tells what changed", Partial: true})
	}
	if whole {
		w.miss(record.Miss{What: "deletions as marks in filesystem/upper", Deliberate: true, Partial: true,
			Reason: "the " + r.Driver + " driver copies whole trees and keeps no record of changes: upper holds what differs from the image's copy, deletions are in the inventory"})
	}
	w.openMerged(s, whole)
	return true, w.layeredRoot()
}

// imageIndex counts the image's layers below and with i, the runtime's own left out.
func imageIndex(s subject.Subject, i int) int {
	n := -1
	for _, l := range s.Container.Rootfs.Layers[:i+1] {
		if !l.Init {
			n++
		}
	}
	return n
}

// source opens one layer and adds it.
func (w *walk) source(dir string, layer int, whole bool, digest string) bool {
	root, err := w.openHost(dir)
	if err != nil {
		what := fmt.Sprintf("image layer %d", layer)
		switch layer {
		case record.WritableLayer:
			what = "the writable layer"
		case record.InitLayer:
			what = "the runtime's own layer"
		}
		w.miss(record.Miss{What: what, Reason: err.Error()})
		return false
	}
	if cloned, why := root.Cloned(); !cloned {
		w.miss(record.Miss{What: "a private view of " + dir, Partial: true,
			Reason: "symbolic links whose access times would change are not read: " + why.Error()})
	}
	w.sources = append(w.sources, &source{layer: layer, whole: whole, root: root, host: dir, digest: digest})
	return true
}

// openHost opens a directory of the machine, wherever its root is seen.
func (w *walk) openHost(dir string) (*safefs.Root, error) {
	o := safefs.Options{NoXDev: true, Timeout: w.o.Timeout}
	if w.hostRoot == "" {
		return safefs.Open(dir, o)
	}
	return safefs.OpenBelow(w.hostRoot, dir, o)
}

// openMerged opens the container's own view for comparison.
func (w *walk) openMerged(s subject.Subject, whole bool) {
	if whole || s.Container.PID == 0 || !same(s, s.Container.PID) {
		return
	}
	root, err := safefs.OpenIn(s.Proc, s.Container.PID, "", safefs.Options{NoXDev: true, Timeout: w.o.Timeout})
	if err != nil {
		w.miss(record.Miss{What: "comparison with the running container's view", Reason: err.Error(), Partial: true})
		return
	}
	w.merged = root
}

// layeredRoot walks all sources from their tops.
func (w *walk) layeredRoot() error {
	defer func() {
		if w.merged != nil {
			w.merged.Close()
		}
	}()
	var parts []*part
	ents := make([]*ent, 0, len(w.sources))
	for _, src := range w.sources {
		d, err := src.root.Dir("")
		if err != nil {
			w.missed(src.host, err.Error(), false)
			continue
		}
		w.open++
		p := &part{src: src, dir: d, img: src.image(), root: !src.whole || src.layer == record.WritableLayer}
		parts = append(parts, p)
		e := &ent{p: p, st: src.root.Stat()}
		if e.xattrs, err = src.root.Xattrs(); err != nil {
			e.err = err.Error()
		}
		if !src.whole {
			e.marks = marksOf(e.st, e.xattrs, w.notes)
		}
		ents = append(ents, e)
	}
	if err := w.rootRows(ents); err != nil {
		return err
	}
	return w.into("", 0, parts)
}

// rootRows writes the root directory's own rows and entry.
func (w *walk) rootRows(ents []*ent) error {
	it := &item{of: w.kind}
	for _, e := range ents {
		tree := record.TreeImage
		switch {
		case e.p.src.layer == record.WritableLayer:
			tree = record.TreeRoot
			w.object(it, "", e)
		case !e.p.src.image():
			continue
		}
		it.rows = append(it.rows, e.row(tree, "/"))
		it.sums = append(it.sums, nil)
		if tree == record.TreeImage {
			break
		}
	}
	return w.p.put(w.ctx, it)
}

// fallback walks the root as the container's first process, or a mount, shows it. There is no image to compare it with, so what is
// worth keeping must be guessed: what changed since the container started and, where that is unknown, what can be run.
func (w *walk) fallback(s subject.Subject) (bool, error) {
	w.sources = nil
	c := s.Container
	var root *safefs.Root
	var origin string
	var err error
	o := safefs.Options{NoXDev: true, Timeout: w.o.Timeout}
	switch {
	case c.PID > 0 && same(s, c.PID):
		origin = fmt.Sprintf("%s/%d/root", s.Proc, c.PID)
		root, err = safefs.OpenIn(s.Proc, c.PID, "", o)
	case c.Rootfs.Merged != "":
		origin = c.Rootfs.Merged
		root, err = w.openHost(origin)
	default:
		err = errors.New("the runtime names no directory for it, and no process shows it")
	}
	if err != nil {
		w.miss(record.Miss{What: "the root file system", Reason: err.Error()})
		return false, nil
	}
	defer root.Close()
	w.miss(record.Miss{What: "the image's layers", Partial: true,
		Reason: "nothing tells where they lie: the root is listed as the container sees it, and what changed since its start is kept"})
	since := started(s)
	recent := func(e *ent) bool {
		if since == 0 {
			return e.st.Mode&0o111 != 0
		}
		return e.st.Ctime >= since || e.st.Btime >= since
	}
	t := &plainTree{
		prefix: upperPrefix, origin: origin,
		keep: func(_ string, e *ent) (bool, string) { return recent(e), "" },
		hash: func(*ent) bool { return true },
		objects: func(e *ent) bool {
			return e.st.IsDir() || recent(e) && since != 0
		},
	}
	return true, w.walkPlain(root, t)
}
