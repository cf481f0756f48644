package detect

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// space is the memory of one process as its core keeps it, read by address. What the core does not hold reads as nothing.
type space struct {
	f        *Facts
	artifact string
	segments []record.Segment // by address, one never over another
	blocks   map[int64][]byte // of the core, by their number
}

const (
	blockSize = 64 << 10
	// maxBlocks bounds the blocks that are kept: 16 MiB.
	maxBlocks = 256
	// maxScanned bounds what is scanned of one process.
	maxScanned = 4 << 30
	chunkSize  = 4 << 20
)

// spaceOf is nil where nothing of a process's memory was kept.
func (f *Facts) spaceOf(p *Process) *space {
	s := &space{f: f, artifact: p.Dir + "/core", blocks: map[int64][]byte{}}
	if _, ok := f.Cite(s.artifact, 0, 0); !ok {
		return nil
	}
	for i := range p.Maps {
		for _, g := range p.Maps[i].Segments {
			if g.Length > 0 && g.CoreOffset >= 0 && g.Addr+uint64(g.Length) > g.Addr {
				s.segments = append(s.segments, g)
			}
		}
	}
	slices.SortStableFunc(s.segments, func(a, b record.Segment) int { return cmp.Compare(a.Addr, b.Addr) })
	// Only forged lists overlap.
	end := uint64(0)
	s.segments = slices.DeleteFunc(s.segments, func(g record.Segment) bool {
		if g.Addr < end {
			return true
		}
		end = g.Addr + uint64(g.Length)
		return false
	})
	if len(s.segments) == 0 {
		return nil
	}
	return s
}

// place is where the core holds an address, and how many bytes follow there without a gap.
func (s *space) place(addr uint64) (off, n int64) {
	i, found := slices.BinarySearchFunc(s.segments, addr, func(g record.Segment, a uint64) int { return cmp.Compare(g.Addr, a) })
	if !found {
		if i--; i < 0 {
			return 0, 0
		}
	}
	g := &s.segments[i]
	d := addr - g.Addr
	if d >= uint64(g.Length) {
		return 0, 0
	}
	return g.CoreOffset + int64(d), g.Length - int64(d)
}

// read gives up to n bytes from an address on: fewer where the core ends them.
func (s *space) read(addr uint64, n int) []byte {
	off, have := s.place(addr)
	n = int(min(int64(n), have))
	if n <= 0 {
		return nil
	}
	if at := off % blockSize; at+int64(n) <= blockSize {
		b := s.block(off / blockSize)
		if at >= int64(len(b)) {
			return nil
		}
		return b[at:min(int64(len(b)), at+int64(n))]
	}
	return s.f.Read(s.artifact, off, n)
}

func (s *space) block(i int64) []byte {
	b, ok := s.blocks[i]
	if !ok {
		if len(s.blocks) >= maxBlocks {
			clear(s.blocks)
		}
		b = s.f.Read(s.artifact, i*blockSize, blockSize)
		s.blocks[i] = b
	}
	return b
}

// word is the 64-bit number at an address.
func (s *space) word(addr uint64) (uint64, bool) {
	b := s.read(addr, 8)
	if len(b) < 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(b), true
}

// piece is a part of the memory on its way from the package.
type piece struct {
	addr uint64
	b    []byte
}

// scan shows all of the memory in pieces, by address. Each piece but a segment's last is followed by the one that begins overlap bytes
// before its end. The next is unpacked while one is looked at. It reports whether it came to the end of what was kept.
func (s *space) scan(overlap int, see func(addr uint64, b []byte)) bool {
	whole := true
	pieces := make(chan piece, 1)
	go func() {
		defer close(pieces)
		total := int64(0)
		for _, g := range s.segments {
			for done := int64(0); ; {
				n := min(chunkSize, g.Length-done)
				if total += n; total > maxScanned {
					whole = false
					return
				}
				b := s.f.Read(s.artifact, g.CoreOffset+done, int(n))
				if len(b) > 0 {
					pieces <- piece{g.Addr + uint64(done), b}
				}
				if done += n; int64(len(b)) < n || done >= g.Length {
					break
				}
				done -= int64(overlap)
			}
		}
	}()
	for p := range pieces {
		see(p.addr, p.b)
	}
	return whole
}

// cite cites bytes at an address.
func (s *space) cite(addr uint64, n int) []verdict.Citation {
	off, have := s.place(addr)
	if have <= 0 {
		return nil
	}
	c, ok := s.f.Cite(s.artifact, off, min(int64(n), have))
	if !ok {
		return nil
	}
	return []verdict.Citation{c}
}
