package memory

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
)

// The few numbers of the ELF format that a core needs: elf(5), and for notes the kernel's fs/binfmt_elf.c.
const (
	etCore  = 4
	ptLoad  = 1
	ptNote  = 4
	pnXNum  = 0xffff
	em386   = 3
	emARM   = 40
	emX8664 = 62
	emARM64 = 183

	ntPRStatus = 1
	ntPRPSInfo = 3
	ntAuxv     = 6
	ntFile     = 0x46494c45
)

// layout is a core's form: that of the process, which may be a 32-bit one.
type layout struct {
	wide     bool // ELF64
	machine  uint16
	pageSize uint64
}

func layoutOf(wide bool, pageSize uint64) layout {
	l := layout{wide: wide, pageSize: pageSize, machine: emX8664}
	switch {
	case runtime.GOARCH == "arm64" && wide:
		l.machine = emARM64
	case runtime.GOARCH == "arm64":
		l.machine = emARM
	case !wide:
		l.machine = em386
	}
	return l
}

// enc writes numbers in the machine's byte order, which is little-endian for all machines that we run on.
type enc struct {
	b    []byte
	wide bool
}

func (e *enc) u8(v ...uint8) { e.b = append(e.b, v...) }
func (e *enc) u16(v ...uint16) {
	e.each(len(v), func(i int) { e.b = binary.LittleEndian.AppendUint16(e.b, v[i]) })
}
func (e *enc) u32(v ...uint32) {
	e.each(len(v), func(i int) { e.b = binary.LittleEndian.AppendUint32(e.b, v[i]) })
}
func (e *enc) u64(v ...uint64) {
	e.each(len(v), func(i int) { e.b = binary.LittleEndian.AppendUint64(e.b, v[i]) })
}
func (e *enc) pad(n int) { e.b = append(e.b, make([]byte, n)...) }
func (e *enc) str(s string, n int) {
	b := make([]byte, n)
	copy(b[:n-1], s)
	e.b = append(e.b, b...)
}

func (e *enc) each(n int, f func(int)) {
	for i := range n {
		f(i)
	}
}

// word writes numbers of the process's own word size.
func (e *enc) word(v ...uint64) {
	for _, x := range v {
		if e.wide {
			e.u64(x)
		} else {
			e.u32(uint32(x))
		}
	}
}

// note appends an ELF note. Both classes have 4-byte fields and alignment in cores.
func note(out *bytes.Buffer, name string, typ uint32, desc []byte) {
	var e enc
	e.u32(uint32(len(name)+1), uint32(len(desc)), typ)
	e.b = append(e.b, name...)
	e.pad(1 + (4-(len(name)+1)%4)%4)
	out.Write(e.b)
	out.Write(desc)
	out.Write(make([]byte, (4-len(desc)%4)%4))
}

// head is everything of the core that comes before the bytes of memory.
type head struct {
	l        layout
	segments int
	notes    []byte
	data     uint64 // offset of the first byte of memory
}

func (l layout) sizes() (ehdr, phdr, shdr uint64) {
	if l.wide {
		return 64, 56, 64
	}
	return 52, 32, 40
}

func newHead(l layout, pl *plan, notes []byte) *head {
	h := &head{l: l, notes: notes}
	pl.segments(func(segment) { h.segments++ })
	h.data = (h.notesAt() + uint64(len(notes)) + l.pageSize - 1) &^ (l.pageSize - 1)
	return h
}

func (h *head) phnum() int { return h.segments + 1 }

func (h *head) notesAt() uint64 {
	eh, ph, sh := h.l.sizes()
	at := eh + uint64(h.phnum())*ph
	if h.phnum() >= pnXNum {
		at += sh
	}
	return at
}

// write writes the ELF header, the program headers, for more than 65,534 of them the section header that holds their
// number (elf(5), PN_XNUM), and the notes, padded to where memory begins.
func (h *head) write(w io.Writer, pl *plan) error {
	eh, ph, sh := h.l.sizes()
	e := &enc{wide: h.l.wide}
	class := uint8(1)
	if h.l.wide {
		class = 2
	}
	e.u8(0x7f, 'E', 'L', 'F', class, 1, 1)
	e.pad(9)
	e.u16(etCore, h.l.machine)
	e.u32(1)
	phnum, shoff, shnum := h.phnum(), uint64(0), uint16(0)
	if h.phnum() >= pnXNum {
		phnum, shoff, shnum = pnXNum, eh+uint64(h.phnum())*ph, 1
	}
	e.word(0, eh, shoff)
	e.u32(0)
	e.u16(uint16(eh), uint16(ph), uint16(phnum), uint16(sh), shnum, 0)

	h.phdr(e, ptNote, 4, h.notesAt(), 0, uint64(len(h.notes)), 0, 4)
	at := h.data
	var err error
	pl.segments(func(s segment) {
		flags := uint32(0)
		for i, bit := range []uint32{4, 2, 1} { // PF_R, PF_W, PF_X
			if s.m.perms&(1<<i) != 0 {
				flags |= bit
			}
		}
		h.phdr(e, ptLoad, flags, at, s.addr, s.dumped, s.size, h.l.pageSize)
		at += s.dumped
		if len(e.b) > 1<<16 && err == nil {
			_, err = w.Write(e.b)
			e.b = e.b[:0]
		}
	})
	if err != nil {
		return err
	}
	if h.phnum() >= pnXNum {
		// Section 0 is empty but for sh_info, the true number of program headers.
		e.u32(0, 0)
		e.word(0, 0, 0, 0)
		e.u32(0, uint32(h.phnum()))
		e.word(0, 0)
	}
	e.b = append(e.b, h.notes...)
	e.pad(int(h.data - h.notesAt() - uint64(len(h.notes))))
	_, err = w.Write(e.b)
	return err
}

func (h *head) phdr(e *enc, typ, flags uint32, off, addr, filesz, memsz, align uint64) {
	e.u32(typ)
	if h.l.wide {
		e.u32(flags)
		e.u64(off, addr, 0, filesz, memsz, align)
		return
	}
	e.u32(uint32(off), uint32(addr), 0, uint32(filesz), uint32(memsz), flags, uint32(align))
}
