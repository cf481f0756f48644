package program

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds on what one file can make Read do.
const (
	maxHeaders = 4096    // program headers, and sections
	maxStrings = 4 << 20 // bytes of one table of names
	maxSymbols = 200_000
	maxDynamic = 64 << 10 // bytes
	maxNote    = 64 << 10
)

// Numbers of the ELF format: elf(5).
const (
	etRel, etExec, etDyn, etCore = 1, 2, 3, 4

	ptLoad, ptDynamic, ptInterp, ptNote = 1, 2, 3, 4

	shtSymtab, shtNoBits, shtDynsym = 2, 8, 11

	dtNeeded, dtStrtab, dtSymtab, dtStrsz, dtSoname, dtFlags1 = 1, 5, 6, 10, 14, 0x6ffffffb

	flagPIE   = 0x08000000 // of DT_FLAGS_1
	noteBuild = 3          // NT_GNU_BUILD_ID
	noteGo    = 4          // of owner "Go"
)

// Segment is one program header.
type Segment struct {
	Type          uint32
	Flags         uint32 // 1 executable, 2 writable, 4 readable
	Offset, Vaddr uint64
	FileSize, Mem uint64
}

// section is one section header.
type section struct {
	name               string
	nameAt, kind, link uint32
	offset, size, ent  uint64
	addr               uint64
}

// Header is what an ELF file's first bytes and its program headers say.
type Header struct {
	Wide     bool // 64-bit
	Big      bool // most significant byte first
	Type     uint16
	Machine  uint16
	OS       byte
	Entry    uint64
	Segments []Segment

	phoff, shoff         uint64
	phent, phnum         uint16
	shent, shnum, shstrx uint16
}

// errNot says that bytes are no ELF header.
var errNot = errors.New("it is no ELF file")

// HeaderSize is how many bytes ParseHeader needs to see.
const HeaderSize = 64

func (h *Header) order() binary.ByteOrder {
	if h.Big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// parseHeader reads the ELF header alone.
func parseHeader(b []byte) (*Header, error) {
	if len(b) < 52 || string(b[:4]) != "\x7fELF" || b[4] != 1 && b[4] != 2 || b[5] != 1 && b[5] != 2 || b[6] != 1 {
		return nil, errNot
	}
	h := &Header{Wide: b[4] == 2, Big: b[5] == 2, OS: b[7]}
	if h.Wide && len(b) < HeaderSize {
		return nil, errNot
	}
	o := h.order()
	h.Type, h.Machine = o.Uint16(b[16:]), o.Uint16(b[18:])
	rest := b[40:]
	if h.Wide {
		h.Entry, h.phoff, h.shoff = o.Uint64(b[24:]), o.Uint64(b[32:]), o.Uint64(b[40:])
		rest = b[52:]
	} else {
		h.Entry, h.phoff, h.shoff = uint64(o.Uint32(b[24:])), uint64(o.Uint32(b[28:])), uint64(o.Uint32(b[32:]))
	}
	h.phent, h.phnum = o.Uint16(rest[2:]), o.Uint16(rest[4:])
	h.shent, h.shnum, h.shstrx = o.Uint16(rest[6:]), o.Uint16(rest[8:]), o.Uint16(rest[10:])
	return h, nil
}

// ParseHeader reads an ELF header and its program headers with read, which gives up to n bytes from an offset of the image on. It is
// strict, so that chance bytes in memory are no header: a type and a machine that exist, sizes of the format, at least one
// segment to be loaded, and segments that could be.
func ParseHeader(read func(off uint64, n int) []byte) (*Header, error) {
	h, err := parseHeader(read(0, HeaderSize))
	if err != nil {
		return nil, err
	}
	switch {
	case h.Type < etRel || h.Type > etCore, machines[h.Machine] == "", h.phnum == 0 || h.phnum > 512, h.Wide && h.phent != 56, !h.Wide && h.phent != 32,
		h.phoff < 52 || h.phoff > 1<<20:
		return nil, errNot
	}
	b := read(h.phoff, int(h.phnum)*int(h.phent))
	h.segments(b)
	loads := 0
	for i, s := range h.Segments {
		if s.Type != ptLoad {
			continue
		}
		const huge = 1 << 40
		if s.FileSize > s.Mem || s.Mem > huge || s.Offset > huge || s.Mem == 0 && i == 0 {
			return nil, errNot
		}
		loads++
	}
	if loads == 0 {
		return nil, errNot
	}
	return h, nil
}

// segments reads program headers as far as b has them.
func (h *Header) segments(b []byte) {
	o := h.order()
	for i := 0; i < int(h.phnum) && i < maxHeaders && h.phent >= 32; i++ {
		at := i * int(h.phent)
		if at+int(h.phent) > len(b) || h.Wide && h.phent < 56 {
			return
		}
		p := b[at:]
		var s Segment
		if h.Wide {
			s = Segment{o.Uint32(p), o.Uint32(p[4:]), o.Uint64(p[8:]), o.Uint64(p[16:]), o.Uint64(p[32:]), o.Uint64(p[40:])}
		} else {
			s = Segment{o.Uint32(p), o.Uint32(p[24:]), uint64(o.Uint32(p[4:])), uint64(o.Uint32(p[8:])), uint64(o.Uint32(p[16:])), uint64(o.Uint32(p[20:]))}
		}
		h.Segments = append(h.Segments, s)
	}
}

// Loaded reports whether the segment is one that a loader maps.
func (s *Segment) Loaded() bool { return s.Type == ptLoad }

// Executable reports whether a loader maps the segment as code.
func (s *Segment) Executable() bool { return s.Type == ptLoad && s.Flags&1 != 0 }

// End is how many bytes of a file the headers speak of: segments, and the table of sections with what it names.
func (h *Header) End() uint64 {
	end := h.phoff + uint64(h.phnum)*uint64(h.phent)
	for _, s := range h.Segments {
		if s.Offset+s.FileSize > end && s.FileSize < 1<<40 && s.Offset < 1<<40 {
			end = s.Offset + s.FileSize
		}
	}
	return end
}

// SectionsEnd is where the table of sections ends, 0 if there is none. In a file as linkers write it nothing comes after it.
func (h *Header) SectionsEnd() uint64 {
	if h.shoff == 0 || h.shnum == 0 || h.shoff > 1<<40 {
		return 0
	}
	return h.shoff + uint64(h.shnum)*uint64(h.shent)
}

// FileEnd is how many bytes a file has at least whose header this is: what segments and sections hold, and the table of sections. read
// is that of ParseHeader; where the table can't be read, or has been changed, segments alone count.
func (h *Header) FileEnd(read func(off uint64, n int) []byte) uint64 {
	end := max(h.End(), h.SectionsEnd())
	if h.SectionsEnd() == 0 || int(h.shent) < 40 || h.shnum > maxHeaders || h.Wide && h.shent < 64 {
		return h.End()
	}
	n := int(h.shnum) * int(h.shent)
	b := read(h.shoff, n)
	if len(b) < n || len(bytes.Trim(b[:h.shent], "\x00")) > 0 { // the first entry is empty by the specification
		return h.End()
	}
	o := h.order()
	for i := range int(h.shnum) {
		p := b[i*int(h.shent):]
		kind, off, size := o.Uint32(p[4:]), uint64(o.Uint32(p[16:])), uint64(o.Uint32(p[20:]))
		if h.Wide {
			off, size = o.Uint64(p[24:]), o.Uint64(p[32:])
		}
		if kind != shtNoBits && off < 1<<40 && size < 1<<40 {
			end = max(end, off+size)
		}
	}
	return end
}

// file is one ELF file being read.
type file struct {
	*Header
	r        io.ReaderAt
	size     int64
	sections []section
	problems []string
	whole    []byte // the first maxLooked bytes
}

func (f *file) problem(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); len(f.problems) < 16 {
		f.problems = append(f.problems, s)
	}
}

// segment is what the file holds of a segment, as far as it was looked at.
func (f *file) segment(s *Segment) []byte {
	n := uint64(len(f.whole))
	if s.Offset >= n {
		return nil
	}
	return f.whole[s.Offset:][:min(s.FileSize, n-s.Offset)]
}

// bytes reads a part of the file, at most limit bytes, nil if it lies outside.
func (f *file) bytes(off, n uint64, limit int) []byte {
	if off >= uint64(f.size) || n == 0 {
		return nil
	}
	n = min(n, uint64(limit), uint64(f.size)-off)
	b := make([]byte, n)
	k, err := f.r.ReadAt(b, int64(off))
	if err != nil && !errors.Is(err, io.EOF) {
		f.problem("%d bytes at offset %d: %v", n, off, err)
	}
	return b[:k]
}

func open(r io.ReaderAt, size int64) (*file, error) {
	f := &file{r: r, size: size, Header: &Header{}}
	h, err := parseHeader(f.bytes(0, HeaderSize, HeaderSize))
	if err != nil {
		return nil, err
	}
	f.Header = h
	if want := int(h.phnum); want > 0 {
		h.segments(f.bytes(h.phoff, uint64(min(want, maxHeaders))*uint64(h.phent), maxHeaders*64))
		if len(h.Segments) < want {
			f.problem("%d of %d program headers could be read", len(h.Segments), want)
		}
	}
	f.readSections()
	return f, nil
}

func (f *file) readSections() {
	minimum := uint16(40)
	if f.Wide {
		minimum = 64
	}
	if f.shoff == 0 || f.shnum == 0 {
		return
	}
	if f.shent < minimum || f.shent > 1024 {
		f.problem("the table of sections has entries of %d bytes", f.shent)
		return
	}
	n := min(int(f.shnum), maxHeaders)
	b := f.bytes(f.shoff, uint64(n)*uint64(f.shent), maxHeaders*1024)
	o := f.order()
	for i := range n {
		at := i * int(f.shent)
		if at+int(minimum) > len(b) {
			f.problem("the table of sections lies behind the end of the file")
			break
		}
		p := b[at:]
		s := section{nameAt: o.Uint32(p), kind: o.Uint32(p[4:])}
		if f.Wide {
			s.addr, s.offset, s.size, s.link, s.ent = o.Uint64(p[16:]), o.Uint64(p[24:]), o.Uint64(p[32:]), o.Uint32(p[40:]), o.Uint64(p[56:])
		} else {
			s.addr, s.offset, s.size, s.link, s.ent = uint64(o.Uint32(p[12:])), uint64(o.Uint32(p[16:])), uint64(o.Uint32(p[20:])), o.Uint32(p[24:]), uint64(o.Uint32(p[36:]))
		}
		f.sections = append(f.sections, s)
	}
	if int(f.shstrx) < len(f.sections) {
		names := f.content(&f.sections[f.shstrx], maxStrings)
		for i := range f.sections {
			f.sections[i].name = cstring(names, uint64(f.sections[i].nameAt), 128)
		}
	}
}

func (f *file) content(s *section, limit int) []byte {
	if s.kind == shtNoBits {
		return nil
	}
	return f.bytes(s.offset, s.size, limit)
}

func (f *file) section(name string) *section {
	for i := range f.sections {
		if f.sections[i].name == name {
			return &f.sections[i]
		}
	}
	return nil
}

// cstring is the text at an offset of a table, up to its NUL, at most limit bytes.
func cstring(table []byte, at uint64, limit int) string {
	if at >= uint64(len(table)) {
		return ""
	}
	b := table[at:]
	b = b[:min(len(b), limit)]
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// offsetOf is where the file holds what is loaded at an address.
func (f *file) offsetOf(addr uint64) (uint64, bool) {
	for _, s := range f.Segments {
		if s.Type == ptLoad && addr >= s.Vaddr && addr-s.Vaddr < s.FileSize {
			return s.Offset + (addr - s.Vaddr), true
		}
	}
	return 0, false
}

// dynamic is what the dynamic section says.
type dynamic struct {
	present        bool
	needed         []string
	soname         string
	flags1         uint64
	symtab, strtab uint64 // offsets in the file
	strings        []byte
}

func (f *file) dynamic() dynamic {
	var d dynamic
	var raw []byte
	for _, s := range f.Segments {
		if s.Type == ptDynamic {
			d.present = true
			raw = f.bytes(s.Offset, s.FileSize, maxDynamic)
			break
		}
	}
	step := 8
	if f.Wide {
		step = 16
	}
	o := f.order()
	var needed []uint64
	var soname, strtab, strsz, symtab uint64
	for i := 0; i+step <= len(raw); i += step {
		var tag, v uint64
		if f.Wide {
			tag, v = o.Uint64(raw[i:]), o.Uint64(raw[i+8:])
		} else {
			tag, v = uint64(o.Uint32(raw[i:])), uint64(o.Uint32(raw[i+4:]))
		}
		switch tag {
		case 0:
			i = len(raw)
		case dtNeeded:
			if len(needed) < 256 {
				needed = append(needed, v)
			}
		case dtSoname:
			soname = v
		case dtStrtab:
			strtab = v
		case dtStrsz:
			strsz = v
		case dtSymtab:
			symtab = v
		case dtFlags1:
			d.flags1 = v
		}
	}
	if at, ok := f.offsetOf(strtab); ok && strtab != 0 {
		d.strtab = at
		d.strings = f.bytes(at, min(strsz, maxStrings), maxStrings)
	}
	if at, ok := f.offsetOf(symtab); ok && symtab != 0 {
		d.symtab = at
	}
	for _, n := range needed {
		if s := cstring(d.strings, n, 256); s != "" {
			d.needed = append(d.needed, s)
		}
	}
	if soname != 0 {
		d.soname = cstring(d.strings, soname, 256)
	}
	return d
}

// symbols are names that a table defines and names that it takes from elsewhere.
func (f *file) symbols(table, names []byte) (defined, undefined []string) {
	step := 16
	if f.Wide {
		step = 24
	}
	o := f.order()
	for i := 0; i+step <= len(table) && i/step < maxSymbols; i += step {
		p := table[i:]
		at := uint64(o.Uint32(p))
		var shndx uint16
		if f.Wide {
			shndx = o.Uint16(p[6:])
		} else {
			shndx = o.Uint16(p[14:])
		}
		if at == 0 {
			continue
		}
		n := cstring(names, at, 256)
		if n == "" {
			continue
		}
		if shndx == 0 {
			undefined = append(undefined, n)
		} else {
			defined = append(defined, n)
		}
	}
	return defined, undefined
}

// imports are the names that the dynamic linker has to find, and those the file offers.
func (f *file) imports(d *dynamic) (exported, imported []string) {
	step := uint64(16)
	if f.Wide {
		step = 24
	}
	for i := range f.sections {
		s := &f.sections[i]
		if s.kind == shtDynsym && int(s.link) < len(f.sections) {
			return f.symbols(f.content(s, maxSymbols*24), f.content(&f.sections[s.link], maxStrings))
		}
	}
	// Without sections: the table of symbols has no size of its own; the strings follow it as linkers write them.
	if d.symtab == 0 || d.strtab <= d.symtab {
		return nil, nil
	}
	return f.symbols(f.bytes(d.symtab, min(d.strtab-d.symtab, maxSymbols*step), maxSymbols*24), d.strings)
}

// static are names of the full table of symbols, which stripping takes away.
func (f *file) static() (names []string, present bool) {
	for i := range f.sections {
		s := &f.sections[i]
		if s.kind == shtSymtab && s.size > 0 && int(s.link) < len(f.sections) {
			names, _ = f.symbols(f.content(s, maxSymbols*24), f.content(&f.sections[s.link], maxStrings))
			return names, true
		}
	}
	return nil, false
}

// notes calls found for each note of the file.
func (f *file) notes(found func(owner string, kind uint32, desc []byte)) {
	o := f.order()
	seen := map[uint64]bool{}
	read := func(off, n uint64) {
		if seen[off] || len(seen) > 64 {
			return
		}
		seen[off] = true
		b := f.bytes(off, n, maxNote)
		for len(b) >= 12 {
			name, desc, kind := uint64(o.Uint32(b)), uint64(o.Uint32(b[4:])), o.Uint32(b[8:])
			from := 12 + (name+3)&^3
			if from > uint64(len(b)) || from+desc > uint64(len(b)) || name > 64 {
				return
			}
			found(string(bytes.TrimRight(b[12:12+name], "\x00")), kind, b[from:from+desc])
			b = b[min(from+(desc+3)&^3, uint64(len(b))):]
		}
	}
	for _, s := range f.Segments {
		if s.Type == ptNote {
			read(s.Offset, s.FileSize)
		}
	}
	for i := range f.sections {
		if s := &f.sections[i]; s.kind == 7 { // SHT_NOTE
			read(s.offset, s.size)
		}
	}
}

// machines are the processors that Linux runs on, by their numbers in elf.h.
var machines = map[uint16]string{
	2: "SPARC", 3: "x86", 4: "m68k", 8: "MIPS", 20: "PowerPC", 21: "PowerPC 64", 22: "S/390", 40: "ARM", 42: "SuperH", 43: "SPARC 64", 50: "Itanium",
	62: "x86-64", 93: "ARC", 94: "Xtensa", 183: "AArch64", 243: "RISC-V", 247: "BPF", 252: "C-SKY", 258: "LoongArch",
}
