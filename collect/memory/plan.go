package memory

import (
	"cmp"
	"slices"
)

// left is why bytes of a mapping are not in the core, record.Mapping.LeftOut.
type left uint8

const (
	leftNothing left = iota
	leftFile
	leftDevice
	leftMode
	leftUnreadable
	leftLimit  // Options.MaxProcess or MaxTotal was reached
	leftShared // a shared memory object that the core of another process, or an earlier mapping, holds already
)

func (l left) String() string {
	return [...]string{"", "file", "device", "mode", "unreadable", "limit", "shared"}[l]
}

// source is where a piece's bytes come from.
type source uint8

const (
	fromMemory source = iota
	fromText          // memory, private pages of an executable mapping: compared with the file on the way
	fromFile          // the file behind the mapping, for pages that this process never touched
	fromZero          // pages that nobody ever touched; they read as zero
)

// piece is a run of pages that goes into the core.
type piece struct {
	addr  uint64
	pages uint32
	src   source
}

const (
	// maxPieces bounds the plan of one process; what memory is too scattered for it is recorded as missed.
	maxPieces = 1 << 20
	// gapPages is the largest run of untouched pages that is written as zeroes rather than split off: a program header
	// and a break in reading cost more than a few pages that compress to nothing.
	gapPages = 4
	// maxExtents bounds the runs of data taken from one mapping's file.
	maxExtents = 1 << 16
	// maxSharedTwice is the size up to which a shared memory object is kept for each process that maps it, so that each
	// core is whole. A larger one is kept once.
	maxSharedTwice = 64 << 20
)

// span is a half-open range.
type span struct{ start, end uint64 }

// plan is what goes into one core.
type plan struct {
	maps     *maps
	mode     Mode
	pageSize uint64
	pieces   []piece
	full     bool   // maxPieces was reached
	limited  bool   // the byte limit was reached
	bytes    uint64 // of all pieces
	changed  []*changedRun
	moreText bool // there were more changed runs than maxChanged
}

// add takes one run of pages in order of address, and decides about it.
func (pl *plan) add(p *mapping, r region) {
	n := uint32(min((r.end-r.start)/pl.pageSize, 1<<31))
	if r.state&stateZero != 0 {
		return
	}
	if r.state&stateSwapped != 0 {
		p.swapped += n
	} else {
		p.present += n
	}
	private := r.state&stateFile == 0
	if private {
		p.anon += n
	}
	if pl.mode == None {
		p.why = leftMode
		return
	}
	fileBacked := p.kind == kindFile || p.kind == kindUnknown
	if pl.mode == Private && fileBacked && !private {
		p.why = leftFile
		return
	}
	src := fromMemory
	if (fileBacked || p.kind == kindOrphan) && private && p.perms&(permExec|permShared) == permExec {
		src = fromText
	}
	pl.push(p, piece{r.start, n, src})
}

// push appends a piece of p. Pieces of one mapping follow one another.
func (pl *plan) push(p *mapping, pc piece) {
	if p.count == 0 {
		p.first = int32(len(pl.pieces))
	}
	if len(pl.pieces)+2 > maxPieces {
		pl.full = true
		p.why = leftUnreadable
		return
	}
	if p.count > 0 {
		last := &pl.pieces[len(pl.pieces)-1]
		end := last.addr + uint64(last.pages)*pl.pageSize
		gap := (pc.addr - end) / pl.pageSize
		switch {
		case gap == 0 && last.src == pc.src:
			last.pages += pc.pages
			return
		case gap > 0 && gap <= gapPages && p.kind == kindAnon:
			pl.pieces = append(pl.pieces, piece{end, uint32(gap), fromZero})
			p.count++
		}
	}
	pl.pieces = append(pl.pieces, pc)
	p.count++
}

// addFile adds what the file of mapping p has where the process has no page: extents of the file, by offset.
// It must be called while p's pieces are the last ones.
func (pl *plan) addFile(p *mapping, extents []span) {
	if p.count == 0 {
		p.first = int32(len(pl.pieces))
	}
	have := slices.Clone(pl.pieces[p.first : p.first+p.count])
	pl.pieces = pl.pieces[:p.first]
	all := have
	for _, x := range extents {
		// In addresses, whole pages, within the mapping.
		start := max(x.start&^(pl.pageSize-1), p.offset)
		end := min((x.end+pl.pageSize-1)&^(pl.pageSize-1), p.offset+(p.end-p.start))
		if start >= end {
			continue
		}
		start, end = start-p.offset+p.start, end-p.offset+p.start
		i, _ := slices.BinarySearchFunc(have, start, func(pc piece, a uint64) int {
			return cmp.Compare(pc.addr+uint64(pc.pages)*pl.pageSize-1, a)
		})
		for ; start < end && i < len(have) && have[i].addr < end; i++ {
			if have[i].addr > start {
				all = append(all, piece{start, uint32((have[i].addr - start) / pl.pageSize), fromFile})
			}
			start = have[i].addr + uint64(have[i].pages)*pl.pageSize
		}
		if start < end {
			all = append(all, piece{start, uint32((end - start) / pl.pageSize), fromFile})
		}
	}
	slices.SortFunc(all, func(a, b piece) int { return cmp.Compare(a.addr, b.addr) })
	p.count = 0
	for _, pc := range all {
		pl.push(p, pc)
	}
}

// drop takes p's pieces out again. They must be the last ones.
func (pl *plan) drop(p *mapping, why left) {
	if p.count > 0 {
		pl.pieces = pl.pieces[:p.first]
	}
	p.count, p.why = 0, why
}

// finish cuts the plan at limit bytes (negative: no limit), counts, and lists the runs of changed text.
func (pl *plan) finish(limit int64) {
	room := ^uint64(0)
	if limit >= 0 {
		room = uint64(limit) / pl.pageSize * pl.pageSize
	}
	for i := range pl.maps.list {
		p := &pl.maps.list[i]
		for j := p.first; j < p.first+p.count; j++ {
			pc := &pl.pieces[j]
			if size := uint64(pc.pages) * pl.pageSize; size > room {
				pl.limited = true
				p.why = leftLimit
				pc.pages = uint32(room / pl.pageSize)
				if pc.pages == 0 {
					// Pieces of no page would make empty segments: this mapping ends here.
					p.count = j - p.first
					break
				}
			}
			room -= uint64(pc.pages) * pl.pageSize
			pl.bytes += uint64(pc.pages) * pl.pageSize
			p.dumped += pc.pages
			if pc.src == fromText {
				pl.text(p, *pc)
			}
		}
	}
	// Only what mappings point at is left.
	out := pl.pieces[:0]
	for i := range pl.maps.list {
		p := &pl.maps.list[i]
		first := int32(len(out))
		out = append(out, pl.pieces[p.first:p.first+p.count]...)
		p.first = first
	}
	pl.pieces = out
}

func (pl *plan) text(p *mapping, pc piece) {
	if len(pl.changed) >= maxChanged {
		pl.moreText = true
		return
	}
	pl.changed = append(pl.changed, &changedRun{
		m: p, addr: pc.addr, size: uint64(pc.pages) * pl.pageSize, offset: p.offset + (pc.addr - p.start),
	})
}

// segment is one PT_LOAD: size bytes of the process, of which the core holds the first dumped.
type segment struct {
	m            *mapping
	addr         uint64
	dumped, size uint64
}

// segments calls fn with the program headers' contents: for each mapping one that shows it, and more where pages in
// its middle are not held.
func (pl *plan) segments(fn func(segment)) {
	for i := range pl.maps.list {
		p := &pl.maps.list[i]
		if p.start>>63 != 0 {
			continue // vsyscall: not the process's own, and not an address that debuggers expect
		}
		cur := segment{m: p, addr: p.start}
		for _, pc := range pl.pieces[p.first : p.first+p.count] {
			if end := cur.addr + cur.dumped; pc.addr != end {
				if pc.addr > cur.addr {
					cur.size = pc.addr - cur.addr
					fn(cur)
				}
				cur = segment{m: p, addr: pc.addr}
			}
			cur.dumped += uint64(pc.pages) * pl.pageSize
		}
		cur.size = p.end - cur.addr
		fn(cur)
	}
}
