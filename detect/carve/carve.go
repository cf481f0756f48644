// Package carve finds programs in the memory of a process, where no file backs it, and puts them together again as far as memory has
// them: files that lie there as files, and programs that a loader laid out to run. It proves that these bytes were there. It does not
// prove that they ran; and what was laid out to run has data that changed since, so that its hash need not be the file's.
package carve

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/detect/core"
	"github.com/sherd-forensics/sherd/detect/program"
	"github.com/sherd-forensics/sherd/evidence/record"
)

// Bounds.
const (
	maxCandidates = 100_000   // places that begin like a program
	maxImages     = 256       // of one process
	maxSize       = 256 << 20 // bytes of one
	maxTotal      = 512 << 20 // bytes of all of one process
)

// Form says how a program lies in memory.
type Form string

// The forms.
const (
	AsFile Form = "file"   // byte for byte as in a file
	Loaded Form = "loaded" // laid out to run
)

// ELF is one program found in memory.
type ELF struct {
	Addr    uint64 // of its header
	Offset  int64  // of its header, in the core
	Mapping int    // index into the image's Maps
	Form    Form
	// Size is how large the file is by its headers, Have how many of its bytes memory has.
	Size, Have int64
	// SHA256 is of what WriteTo writes: missing bytes are zeros.
	SHA256 string
	Facts  *program.Facts
	// Executable is true where the mapping that holds its code can be executed.
	Executable bool

	m     *core.Image
	parts []part
}

// Complete reports whether memory has all of the file's bytes.
func (x *ELF) Complete() bool { return x.Have == x.Size }

// part is a stretch of the file and where memory holds it.
type part struct {
	at     int64 // in the file
	n      int64
	memory uint64
}

// Anonymous reports whether a mapping has no file in a file system behind it.
func Anonymous(m *record.Mapping) bool {
	p := string(m.Path)
	return p == "" || strings.HasPrefix(p, "[heap") || strings.HasPrefix(p, "[stack") || strings.HasPrefix(p, "[anon") || strings.HasPrefix(p, "/dev/zero") ||
		strings.HasPrefix(p, "/memfd:") || strings.HasPrefix(p, "/SYSV")
}

// Find gives the programs in those mappings of m that want accepts, in the order of their addresses. An error is ctx's, or that of
// reading: what was found before it is given too.
func Find(ctx context.Context, m *core.Image, want func(*record.Mapping) bool, progress func(int64)) ([]*ELF, error) {
	var found []place
	look := func(w core.Window) []place {
		if w.Run.Mapping >= 0 && !want(&m.Maps[w.Run.Mapping]) {
			return nil
		}
		var out []place
		for at := w.From; at < w.To; {
			i := bytes.Index(w.Bytes[at:min(len(w.Bytes), w.To+3)], []byte("\x7fELF"))
			if i < 0 {
				break
			}
			at += i
			out = append(out, place{w.Addr + uint64(at), w.Offset + int64(at), w.Run.Mapping})
			at += 4
		}
		return out
	}
	err := core.Scan(ctx, m, look, func(p []place) bool {
		found = append(found, p...)
		return len(found) < maxCandidates
	}, progress)
	var out []*ELF
	total := int64(0)
	for _, p := range found {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		x := build(m, p)
		if x == nil {
			continue
		}
		if total += x.Size; total > maxTotal || len(out) >= maxImages {
			break
		}
		if rerr := x.finish(ctx); rerr != nil {
			err = cmp.Or(err, rerr)
			continue
		}
		out = append(out, x)
	}
	return out, err
}

// place is where a program's magic stands.
type place struct {
	addr    uint64
	offset  int64
	mapping int
}

// build reads the headers at a place and finds the parts; nil if it is no program.
func build(m *core.Image, p place) *ELF {
	read := func(off uint64, n int) []byte {
		b, err := m.Read(p.addr+off, n)
		if err != nil {
			return nil
		}
		return b
	}
	h, err := program.ParseHeader(read)
	if err != nil {
		return nil
	}
	x := &ELF{Addr: p.addr, Offset: p.offset, Mapping: p.mapping, m: m, Form: AsFile}
	base, low := p.addr, lowest(h)
	if loaded(m, h, base, low) {
		x.Form, x.Executable = Loaded, true
	}
	end := h.End()
	if x.Form == AsFile {
		end = h.FileEnd(read)
	}
	if end > maxSize || end < program.HeaderSize/2 {
		return nil
	}
	x.Size = int64(end)
	if x.Form == AsFile {
		x.parts = present(m, x.parts, 0, int64(end), base)
	} else {
		for i := range h.Segments {
			if s := &h.Segments[i]; s.Loaded() {
				x.parts = present(m, x.parts, int64(s.Offset), int64(min(s.FileSize, end-s.Offset)), base+s.Vaddr-low)
			}
		}
		slices.SortStableFunc(x.parts, func(a, b part) int { return cmp.Compare(a.at, b.at) })
	}
	reached := int64(0)
	for _, q := range x.parts {
		if e := q.at + q.n; e > reached {
			x.Have += e - max(reached, q.at)
			reached = e
		}
	}
	// Segments leave gaps in a file that linkers fill with zeros: nobody misses them.
	if x.Form == Loaded {
		x.Have += gaps(h, x.Size)
	}
	return x
}

// gaps counts bytes of the file that no segment loads.
func gaps(h *program.Header, size int64) int64 {
	type span struct{ from, to int64 }
	var all []span
	for i := range h.Segments {
		if s := &h.Segments[i]; s.Loaded() && s.FileSize > 0 {
			all = append(all, span{int64(s.Offset), int64(s.Offset + s.FileSize)})
		}
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	n, reached := int64(0), int64(0)
	for _, s := range all {
		n += max(0, s.from-reached)
		reached = max(reached, s.to)
	}
	return n + max(0, size-reached)
}

// lowest is the address for which the page of the ELF header was linked.
func lowest(h *program.Header) uint64 {
	low := ^uint64(0)
	for i := range h.Segments {
		if s := &h.Segments[i]; s.Loaded() && s.Vaddr-s.Offset < low {
			low = s.Vaddr - s.Offset
		}
	}
	for i := range h.Segments {
		if s := &h.Segments[i]; s.Loaded() && s.Offset == 0 {
			return s.Vaddr
		}
	}
	return low
}

// loaded tells a program that was laid out to run from one that lies there as a file: its code is where its addresses say, and may be
// executed there. Where both layouts are the same, it makes no difference.
func loaded(m *core.Image, h *program.Header, base, low uint64) bool {
	code := false
	for i := range h.Segments {
		s := &h.Segments[i]
		if !s.Loaded() || s.FileSize == 0 {
			continue
		}
		r := m.Find(base + s.Vaddr - low)
		if r == nil {
			continue
		}
		if s.Executable() && r.Mapping >= 0 {
			p := m.Maps[r.Mapping].Perms
			code = code || len(p) > 2 && p[2] == 'x'
		}
	}
	return code
}

// present appends what memory has of n bytes at an address, which are the file's from at on.
func present(m *core.Image, parts []part, at, n int64, addr uint64) []part {
	for n > 0 && len(parts) < 1<<16 {
		r := m.Find(addr)
		if r == nil {
			// The next run, if it begins inside.
			i, _ := slices.BinarySearchFunc(m.Runs, addr, func(r core.Run, a uint64) int { return cmp.Compare(r.Addr, a) })
			if i >= len(m.Runs) || m.Runs[i].Addr-addr >= uint64(n) {
				return parts
			}
			skip := int64(m.Runs[i].Addr - addr)
			at, n, addr = at+skip, n-skip, m.Runs[i].Addr
			continue
		}
		k := min(n, r.Length-int64(addr-r.Addr))
		parts = append(parts, part{at, k, addr})
		at, n, addr = at+k, n-k, addr+uint64(k)
	}
	return parts
}

// finish hashes the program and tells its facts.
func (x *ELF) finish(ctx context.Context) error {
	h := sha256.New()
	if err := x.write(ctx, h); err != nil {
		return err
	}
	x.SHA256 = hex.EncodeToString(h.Sum(nil))
	facts, err := program.Read(x, x.Size)
	if err != nil {
		return err
	}
	x.Facts = facts
	return nil
}

// ReadAt implements io.ReaderAt over the file as memory has it; what is missing reads as zeros.
func (x *ELF) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= x.Size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), x.Size-off))
	clear(b[:n])
	end := off + int64(n)
	for _, p := range x.parts {
		from, to := max(off, p.at), min(end, p.at+p.n)
		if from >= to {
			continue
		}
		got, err := x.m.Read(p.memory+uint64(from-p.at), int(to-from))
		copy(b[from-off:to-off], got)
		if err != nil {
			return int(from - off), err
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteTo writes the file as memory has it.
func (x *ELF) WriteTo(w io.Writer) (int64, error) {
	return x.Size, x.write(context.Background(), w)
}

func (x *ELF) write(ctx context.Context, w io.Writer) error {
	buf := make([]byte, min(1<<20, x.Size))
	for off := int64(0); off < x.Size; off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := x.ReadAt(buf[:min(int64(len(buf)), x.Size-off)], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
	}
	return nil
}
