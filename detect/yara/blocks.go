package yara

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"

	libyara "github.com/hillu/go-yara/v4"

	"github.com/sherd-forensics/sherd/detect"
)

const (
	// window is how much libyara is shown at a time, overlap how much of it again with the next window, so that a match across their
	// border is seen; libyara counts a match that it sees twice once.
	window  = 4 << 20
	overlap = 64 << 10
	// gap is the largest hole within one mapping that is shown as zeroes, as which the process would read it, rather than as the end of a
	// block: libyara walks the list of blocks whenever a condition reads a number.
	gap = 32 << 10
)

// segment is a run of bytes at an address that an artifact holds.
type segment struct {
	addr   uint64
	length int64
	offset int64 // in the artifact
}

func (s *segment) end() uint64 { return s.addr + uint64(s.length) }

// segmentsOf gives what a core holds of a process's mappings, by address. What can't be true is left out and counted.
func segmentsOf(maps []detect.Mapping, size int64) (out []segment, regions [][2]uint64, wrong int) {
	for i := range maps {
		m := &maps[i]
		first := len(out)
		for _, s := range m.Segments {
			if s.Length <= 0 || s.CoreOffset < 0 || s.CoreOffset > size || s.Length > size-s.CoreOffset || s.Addr < m.Start || s.Addr > m.End || uint64(s.Length) > m.End-s.Addr {
				wrong++
				continue
			}
			out = append(out, segment{s.Addr, s.Length, s.CoreOffset})
		}
		slices.SortStableFunc(out[first:], func(a, b segment) int { return cmp.Compare(a.addr, b.addr) })
	}
	slices.SortStableFunc(out, func(a, b segment) int { return cmp.Compare(a.addr, b.addr) })
	kept := out[:0]
	for _, s := range out {
		if n := len(kept); n > 0 && s.addr < kept[n-1].end() {
			wrong++ // mappings do not overlap
			continue
		}
		kept = append(kept, s)
	}
	return kept, regionsOf(kept, maps), wrong
}

// regionsOf joins segments of one mapping that lie close together.
func regionsOf(segs []segment, maps []detect.Mapping) [][2]uint64 {
	var out [][2]uint64
	m := -1
	for i := range segs {
		s := &segs[i]
		at := mappingAt(maps, s.addr)
		if n := len(out); n > 0 && at == m && s.addr-out[n-1][1] <= gap {
			out[n-1][1] = s.end()
			continue
		}
		m = at
		out = append(out, [2]uint64{s.addr, s.end()})
	}
	return out
}

// mappingAt gives the index of the mapping that holds an address, -1 if none does. Mappings are in order of address, as the kernel
// lists them; where they are not, it may miss one.
func mappingAt(maps []detect.Mapping, addr uint64) int {
	i, ok := slices.BinarySearchFunc(maps, addr, func(m detect.Mapping, a uint64) int {
		switch {
		case m.End <= a:
			return -1
		case m.Start > a:
			return 1
		}
		return 0
	})
	if !ok {
		return -1
	}
	return i
}

// blocks shows an artifact to libyara, a window at a time, the next read while the last is searched.
type blocks struct {
	ctx  context.Context
	from io.ReaderAt
	segs []segment
	list []libyara.MemoryBlock // with base and size

	at, filled int // the current block, and the one that libyara's buffer holds
	high       int // the last block that was fetched in order
	next       chan int
	spare      []byte
	failed     error // the first error of reading; what could not be read is shown as zeroes
	failedNext error
}

func newBlocks(ctx context.Context, from io.ReaderAt, segs []segment, regions [][2]uint64) *blocks {
	b := &blocks{ctx: ctx, from: from, segs: segs, filled: -1, high: -1}
	for _, r := range regions {
		for a := r[0]; ; a += window {
			n := min(r[1]-a, window+overlap)
			b.list = append(b.list, libyara.MemoryBlock{Base: a, Size: n})
			if r[1]-a <= window+overlap {
				break
			}
		}
	}
	for i := range b.list {
		b.list[i].FetchData = b.fetch
	}
	return b
}

// First implements libyara.MemoryBlockIterator.
func (b *blocks) First() *libyara.MemoryBlock {
	b.at = -1
	return b.Next()
}

// Next implements libyara.MemoryBlockIterator.
func (b *blocks) Next() *libyara.MemoryBlock {
	if b.at++; b.at >= len(b.list) || b.ctx.Err() != nil {
		return nil
	}
	return &b.list[b.at]
}

// fetch fills libyara's buffer, which holds what it held last time, with the current block. It must not panic: libyara is above it.
func (b *blocks) fetch(buf []byte) {
	i := b.at
	if i == b.filled {
		return
	}
	b.filled = i
	buf = buf[:b.list[i].Size]
	if b.next != nil && <-b.next == i {
		copy(buf, b.spare)
		b.failed = cmp.Or(b.failed, b.failedNext)
	} else {
		b.failed = cmp.Or(b.failed, b.fill(buf, i))
	}
	b.next = nil
	if i == b.high+1 {
		b.high = i
		if i+1 < len(b.list) {
			b.ahead(i + 1)
		}
	}
}

// ahead reads a block in the background. Only one is read at a time, and the next fetch waits for it.
func (b *blocks) ahead(i int) {
	if b.spare == nil {
		b.spare = make([]byte, window+overlap)
	}
	done := make(chan int, 1)
	b.next = done
	go func() {
		b.failedNext = b.fill(b.spare[:b.list[i].Size], i)
		done <- i
	}()
}

// wait waits for what is still read in the background.
func (b *blocks) wait() {
	if b.next != nil {
		<-b.next
		b.next = nil
	}
}

// fill reads a block: zeroes where the artifact holds nothing.
func (b *blocks) fill(buf []byte, i int) error {
	base := b.list[i].Base
	k, _ := slices.BinarySearchFunc(b.segs, base, func(s segment, a uint64) int {
		if s.end() <= a {
			return -1
		}
		return 1
	})
	var failed error
	at := base
	end := base + uint64(len(buf))
	for ; at < end; k++ {
		if k == len(b.segs) || b.segs[k].addr >= end {
			clear(buf[at-base:])
			break
		}
		s := &b.segs[k]
		if s.addr > at {
			clear(buf[at-base : s.addr-base])
			at = s.addr
		}
		part := buf[at-base : min(s.end(), end)-base]
		n, err := b.from.ReadAt(part, s.offset+int64(at-s.addr))
		if n < len(part) {
			clear(part[n:])
			if err != nil && !errors.Is(err, io.EOF) {
				failed = cmp.Or(failed, err)
			}
		}
		at += uint64(len(part))
	}
	return failed
}

// offsetOf gives where the artifact holds an address, and how many of n bytes from there on lie together; ok is false if it holds none.
func offsetOf(segs []segment, addr uint64, n int64) (offset, length int64, ok bool) {
	k, _ := slices.BinarySearchFunc(segs, addr, func(s segment, a uint64) int {
		if s.end() <= a {
			return -1
		}
		return 1
	})
	if k == len(segs) || segs[k].addr > addr {
		return 0, 0, false
	}
	s := &segs[k]
	return s.offset + int64(addr-s.addr), min(n, int64(s.end()-addr)), true
}

// fileBlocks are the blocks of a file, which has a size as memory has not.
type fileBlocks struct{ *blocks }

// Filesize implements libyara.MemoryBlockIteratorWithFilesize.
func (f fileBlocks) Filesize() uint64 { return f.segs[0].end() }

func newFileBlocks(ctx context.Context, from io.ReaderAt, size int64) fileBlocks {
	return fileBlocks{newBlocks(ctx, from, []segment{{0, size, 0}}, [][2]uint64{{0, uint64(size)}})}
}
