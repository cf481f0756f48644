package memory

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

// Bounds of one process.
const (
	mapsTimeout = 20 * time.Second // for reading its list of mappings
	scanTimeout = 60 * time.Second // for asking its page tables
)

// target is one process while it is being read.
type target struct {
	c        *capture
	p        subject.Process
	dir      string // /proc/PID as we see it
	base     string // its folder in the package
	mem      *os.File
	pagemap  *os.File
	maps     *maps
	plan     *plan
	layout   layout
	head     *head
	missed   bool
	kept     bool
	pageSize uint64
}

// process reads one process. missed: something is not in the package that should be; kept: something is.
func (c *capture) process(ctx context.Context, p subject.Process) (missed, kept bool, err error) {
	t := &target{c: c, p: p, dir: c.s.Proc + "/" + strconv.Itoa(p.PID), base: "process/" + strconv.Itoa(p.PID), pageSize: uint64(os.Getpagesize())}
	defer t.close()
	if err := t.open(); err != nil {
		t.miss(err.Error(), false)
		return true, false, nil
	}
	if t.maps == nil || len(t.maps.list) == 0 {
		return t.missed, true, nil // a kernel thread, or ended and not yet waited for: it has no memory
	}
	t.makePlan(ctx)
	if c.o.Mode != None {
		if err := t.core(ctx); err != nil {
			return true, t.kept, err
		}
		if err := t.texts(ctx); err != nil {
			return true, t.kept, err
		}
	}
	if err := t.rows(ctx); err != nil {
		return true, t.kept, err
	}
	return t.missed, true, nil
}

// miss records that something of this process is not in the package.
func (t *target) miss(reason string, partial bool) {
	t.missed = true
	t.c.miss(record.Miss{What: fmt.Sprintf("memory of process %d", t.p.PID), Reason: reason, Partial: partial})
}

func (t *target) close() {
	if t.mem != nil {
		t.mem.Close()
	}
	if t.pagemap != nil {
		t.pagemap.Close()
	}
	if t.plan != nil {
		for _, r := range t.plan.changed {
			r.close()
		}
	}
}

// same says whether the pid still stands for the process that was listed.
func (t *target) same() error {
	st, err := readStat(t.dir)
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH):
		return errors.New("the process ended before its memory was read")
	case err != nil:
		return err
	case t.p.StartTicks != 0 && st.start != t.p.StartTicks:
		return errors.New("the process ended, and its number belongs to another one now")
	}
	return nil
}

// open takes hold of the process: what is opened here stays with its present address space.
func (t *target) open() error {
	var err error
	open := func(name string) *os.File {
		if err != nil {
			return nil
		}
		var f *os.File
		f, err = within(t.c.o.ReadTimeout, func() (*os.File, error) { return os.Open(t.dir + "/" + name) })
		return f
	}
	t.mem, t.pagemap = open("mem"), open("pagemap")
	if err != nil {
		if gone := t.same(); gone != nil {
			return gone
		}
		if errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("%w: needs CAP_SYS_PTRACE", err)
		}
		return err
	}
	// Checked after opening: if it is still the same one now, it was then.
	if err := t.same(); err != nil {
		return err
	}
	t.maps, err = within(mapsTimeout, func() (*maps, error) {
		f, err := os.Open(t.dir + "/maps")
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return parseMaps(f)
	})
	if err != nil {
		if t.maps == nil {
			return fmt.Errorf("its list of mappings: %w", err)
		}
		t.miss("its list of mappings: "+err.Error(), true)
	}
	switch {
	case t.maps.cut:
		t.miss(fmt.Sprintf("it has more than %d mappings; those at higher addresses are left out", maxMappings), true)
	case t.maps.cutPaths:
		t.miss("the names of its mapped files are too long to be listed in full", true)
	case len(t.maps.list) > 0 && !alive(t.mem):
		return errGone
	}
	return nil
}

// makePlan decides what goes into the core.
func (t *target) makePlan(ctx context.Context) {
	m := t.maps
	for i := range m.list {
		p := &m.list[i]
		path := m.path(p)
		p.kind = kindByName(p, path)
		if p.inode != 0 && p.kind != kindDevice && !strings.HasPrefix(path, "[") {
			p.kind = t.c.files.classify(t.dir, p, path)
		}
		if p.kind == kindDevice {
			p.why = leftDevice
		}
	}
	t.plan = &plan{maps: m, mode: t.c.o.Mode, pageSize: t.pageSize}
	err := t.scan(ctx)
	if err != nil {
		t.miss("which of its pages are in memory: "+err.Error(), true)
	}
	limit := int64(-1)
	if t.c.o.MaxProcess > 0 {
		limit = t.c.o.MaxProcess
	}
	if t.c.o.MaxTotal > 0 && (limit < 0 || t.c.left < limit) {
		limit = max(t.c.left, 0)
	}
	t.plan.finish(limit)
	t.c.left -= int64(t.plan.bytes)
	if t.plan.full {
		t.miss(fmt.Sprintf("its memory is scattered over more than %d runs of pages; the rest is left out", maxPieces), true)
	}
	if t.plan.limited {
		t.miss(fmt.Sprintf("cut at the limit of %d bytes", limit), true)
	}
	if t.plan.moreText {
		t.miss(fmt.Sprintf("changed text beyond %d places is not compared with its file", maxChanged), true)
	}
}

// scan fills the plan mapping by mapping. It works on a plan of its own until it is done, so that it can be left behind.
func (t *target) scan(ctx context.Context) error {
	sc := newScanner(t.pagemap, t.pageSize)
	pl := t.plan
	mode := t.c.o.Mode
	_, err := within(scanTimeout, func() (struct{}, error) {
		var cur *mapping
		finish := func() {
			if cur != nil && cur.kind == kindOrphan && mode != None {
				t.orphan(pl, cur)
			}
		}
		// Each orphan has its turn, also one that has no page in memory.
		next := 0
		upTo := func(p *mapping) {
			finish()
			for ; next < len(pl.maps.list) && &pl.maps.list[next] != p; next++ {
				if q := &pl.maps.list[next]; q.kind == kindOrphan && q != cur && mode != None {
					t.orphan(pl, q)
				}
			}
			cur = p
			next++
		}
		err := sc.scan(pl.maps, func(p *mapping, r region) error {
			if p != cur {
				if err := ctx.Err(); err != nil {
					return err
				}
				upTo(p)
			}
			pl.add(p, r)
			return nil
		})
		upTo(nil)
		return struct{}{}, err
	})
	if errors.Is(err, errTimeout) {
		// The other side may still write into the plan: go on with an empty one.
		fresh := &maps{paths: t.maps.paths}
		for _, p := range t.maps.list {
			fresh.list = append(fresh.list, mapping{start: p.start, end: p.end, offset: p.offset, inode: p.inode, major: p.major,
				minor: p.minor, path: p.path, perms: p.perms, kind: p.kind, why: leftUnreadable})
		}
		t.maps, t.plan = fresh, &plan{maps: fresh, mode: mode, pageSize: t.pageSize}
	}
	return err
}

// orphan adds what a mapped object without a name holds beyond the pages of this process, and drops it when an earlier core
// of this capture has it.
func (t *target) orphan(pl *plan, p *mapping) {
	if p.perms&permShared != 0 && t.c.has(p) {
		pl.drop(p, leftShared)
		return
	}
	if extents, err := t.extents(p); err == nil {
		pl.addFile(p, extents)
	}
	if p.perms&permShared != 0 && p.end-p.start > maxSharedTwice && !pl.full {
		t.c.remember(p)
	}
}

// extents lists the data of the file behind a mapping within what is mapped, as offsets.
func (t *target) extents(p *mapping) ([]span, error) {
	f, err := openMapped(t.c.s.Proc, t.p.PID, p, t.maps.path(p))
	if err != nil {
		return nil, err
	}
	return within(5*time.Second, func() ([]span, error) {
		defer f.Close() //nolint:errcheck // opened for reading
		end := int64(min(p.offset+(p.end-p.start), uint64(f.Stat().Size)))
		var out []span
		for off := int64(p.offset); off < end && len(out) < maxExtents; {
			data, err := unix.Seek(f.FD(), off, unix.SEEK_DATA)
			if errors.Is(err, unix.ENXIO) {
				break
			}
			if err != nil {
				// No way to tell: take it whole, as far as a file can be filled.
				return append(out, span{uint64(off), uint64(end)}), nil
			}
			hole, err := unix.Seek(f.FD(), data, unix.SEEK_HOLE)
			if err != nil {
				hole = end
			}
			if data >= end {
				break
			}
			out = append(out, span{uint64(data), uint64(min(hole, end))})
			off = hole
		}
		return out, nil
	})
}

// has says whether a core of this capture holds all that p maps of its object.
func (c *capture) has(p *mapping) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.shared[p.key()] {
		if s.start <= p.offset && s.end >= p.offset+(p.end-p.start) {
			return true
		}
	}
	return false
}

func (c *capture) remember(p *mapping) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shared == nil {
		c.shared = map[fileKey][]span{}
	}
	const maxObjects, maxSpans = 4096, 64
	if spans := c.shared[p.key()]; len(c.shared) < maxObjects && len(spans) < maxSpans {
		c.shared[p.key()] = append(spans, span{p.offset, p.offset + (p.end - p.start)})
	}
}

// core writes process/<pid>/core.
func (t *target) core(ctx context.Context) error {
	auxv, err := safefs.ReadProc(t.dir+"/auxv", maxAuxv)
	if err != nil && len(auxv) == 0 {
		t.miss("its auxiliary vector: "+err.Error(), true)
	}
	list := t.maps.list
	wide := !narrow(auxv)
	for i := len(list) - 1; i >= 0 && !wide; i-- {
		wide = list[i].end > 1<<32 && list[i].start>>63 == 0
	}
	t.layout = layoutOf(wide, t.pageSize)
	st, err := readStat(t.dir)
	if err != nil {
		t.miss("its state: "+err.Error(), true)
	}
	src := noteSource{dir: t.dir, pid: t.p.PID, stat: st, maps: t.maps, auxv: auxv, l: t.layout}
	notes, missed := src.build()
	for _, why := range missed {
		t.miss(why, true)
	}
	t.head = newHead(t.layout, t.plan, notes)
	size := t.head.data + t.plan.bytes
	if !wide && size > 1<<32-1 {
		t.miss("its core would be larger than a 32-bit core can be", false)
		return nil
	}
	var failed error
	meta := evidence.Meta{Path: t.base + "/core", Origin: t.dir + "/mem", Volatile: true}
	if _, err := t.c.w.Stream(meta, int64(size), func(w io.Writer) error {
		failed = t.fill(ctx, w)
		return failed
	}); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if failed == nil && !alive(t.mem) {
		failed = errGone
	}
	if failed != nil {
		t.miss(failed.Error()+"; what follows in its core is zero", true)
	}
	t.kept = true
	return nil
}

// fill writes the core.
func (t *target) fill(ctx context.Context, w io.Writer) error {
	if err := t.head.write(w, t.plan); err != nil {
		return err
	}
	r := &reader{proc: t.c.s.Proc, pid: t.p.PID, vm: t.c.vm, mem: t.mem, pl: t.plan}
	next, at := 0, t.head.data
	err := r.stream(ctx, w, t.c.o.ReadTimeout, func(p part, b []byte) {
		if p.src == fromText {
			next = t.compare(next, p, b, int64(at))
		}
		at += uint64(p.n)
	}, t.unread)
	if err != nil {
		t.unreadFrom(at)
	}
	return err
}

// compare hands bytes of memory to the changed run that they belong to; runs and parts come in the same order.
func (t *target) compare(next int, p part, b []byte, at int64) int {
	for len(b) > 0 && next < len(t.plan.changed) {
		run := t.plan.changed[next]
		if run.m != p.m || run.addr+run.seen != p.addr {
			return next // beyond maxChanged
		}
		if run.seen == 0 {
			run.core = at
		}
		n := min(uint64(len(b)), run.size-run.seen)
		run.take(b[:n], func() (*safefs.File, error) {
			return openMapped(t.c.s.Proc, t.p.PID, run.m, t.maps.path(run.m))
		})
		b, at = b[n:], at+int64(n)
		p.addr += n
		if run.seen == run.size {
			next++
		}
	}
	return next
}

// unread counts a range that could not be read; it may span mappings.
func (t *target) unread(s span) {
	for s.start < s.end {
		m := t.maps.find(s.start)
		if m == nil {
			return
		}
		end := min(s.end, m.end)
		m.unreadable += uint32((end - s.start + t.pageSize - 1) / t.pageSize)
		s.start = end
	}
}

// unreadFrom counts all that comes at and after an offset of the core as unreadable.
func (t *target) unreadFrom(offset uint64) {
	at := t.head.data
	for i := range t.maps.list {
		p := &t.maps.list[i]
		for _, pc := range t.plan.pieces[p.first : p.first+p.count] {
			size := uint64(pc.pages) * t.pageSize
			switch {
			case at >= offset:
				p.unreadable += pc.pages
			case at+size > offset:
				p.unreadable += uint32((at + size - offset) / t.pageSize)
			}
			at += size
		}
	}
}

// texts keeps the file's bytes of each changed run beside the core.
func (t *target) texts(ctx context.Context) error {
	room := uint64(maxChangedBytes)
	for _, run := range t.plan.changed {
		if err := ctx.Err(); err != nil {
			return err
		}
		if run.mem == nil || run.seen != run.size {
			continue
		}
		if run.err == nil {
			run.fileSHA256 = hex.EncodeToString(run.file.Sum(nil))
		} else {
			t.miss(fmt.Sprintf("the file's bytes under changed text at %#x: %v", run.addr, run.err), true)
			continue
		}
		if run.diff == 0 || run.size > room {
			continue // equal bytes need no second copy
		}
		room -= run.size
		if err := t.text(run); err != nil {
			return err
		}
	}
	return nil
}

func (t *target) text(run *changedRun) error {
	path := fmt.Sprintf("%s/file-pages/%x", t.base, run.addr)
	f, err := openMapped(t.c.s.Proc, t.p.PID, run.m, t.maps.path(run.m))
	if err != nil {
		t.miss(fmt.Sprintf("the file's bytes under changed text at %#x: %v", run.addr, err), true)
		return nil
	}
	defer f.Close() //nolint:errcheck // opened for reading
	meta := evidence.Meta{Path: path, Origin: fmt.Sprintf("%s+%#x", record.Escape(t.maps.path(run.m)), run.offset)}
	entry, err := t.c.w.Stream(meta, int64(run.size), func(w io.Writer) error {
		buf := make([]byte, 64<<10)
		for at := uint64(0); at < run.size; {
			part := buf[:min(uint64(len(buf)), run.size-at)]
			clear(part)
			if _, err := f.ReadAt(part, int64(run.offset+at)); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if _, err := w.Write(part); err != nil {
				return err
			}
			at += uint64(len(part))
		}
		return nil
	})
	if err != nil {
		return err
	}
	run.fileArtifact = path
	if entry.SHA256 != run.fileSHA256 {
		t.miss(fmt.Sprintf("the file under changed text at %#x changed while it was read", run.addr), true)
		run.fileSHA256 = entry.SHA256
	}
	return nil
}
