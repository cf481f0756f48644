// Package elfcore reads the notes of memory dumps: ELF cores as the kernel and gcore write them, and those that a package holds of the
// container's processes.
//
// Specification: core(5), https://man7.org/linux/man-pages/man5/core.5.html, and the notes of include/uapi/linux/elf.h and
// https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.pheader.html.
//
// What it proves: which process it was, how many threads it had, what ended it, and which files it had mapped, libraries that were
// deleted or never had a name among them. It does not prove when: a core has no time. Those of a package bear the time of the
// capture, others none.
package elfcore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/parse"
)

const (
	parser      = "elfcore"
	maxNotes    = 16 << 20 // bytes of all notes
	maxHeaders  = 1 << 16
	maxMapped   = 4096 // files
	headerSize  = 64
	programSize = 56
)

// Types of notes.
const (
	ntPRStatus = 1
	ntPRPSInfo = 3
	ntFile     = 0x46494c45
	ntSigInfo  = 0x53494749
)

// Format reads cores that lie among other files.
var Format = parse.Format{
	Name:  parser,
	Title: "memory dump (ELF core)",
	Spec:  "https://man7.org/linux/man-pages/man5/core.5.html",
	Sniff: func(head []byte) parse.Confidence {
		if len(head) >= headerSize && string(head[:4]) == "\x7fELF" && (head[5] == 1 && head[16] == 4 && head[17] == 0 || head[5] == 2 && head[17] == 4) {
			return parse.Certain
		}
		return parse.No
	},
	Read: func(_ context.Context, in *parse.Input, emit parse.Emit) error {
		r, size, done, err := in.At()
		if err != nil {
			return err
		}
		defer done()
		return read(r, size, &in.Base, in.Skip, emit)
	},
}

// Artifacts reads the cores that the capture itself made.
var Artifacts = parse.Artifacts{
	Name:   "memory",
	Title:  "memory of processes",
	Claims: isCore,
	Read: func(ctx context.Context, p *evidence.Package, skip func(parse.Skip), emit parse.Emit) error {
		at := parse.Captured(p)
		for _, e := range p.Artifacts("process/") {
			if !isCore(e.Path) {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			a, err := p.Open(e.Path)
			if err != nil {
				return err
			}
			base := event.Event{Artifact: e.Path, Parser: "memory", Time: at}
			err = read(a, e.Size, &base, func(offset, length int64, reason string) {
				skip(parse.Skip{Artifact: e.Path, Offset: offset, Bytes: length, Count: 1, Reason: reason})
			}, emit)
			if err != nil {
				return err
			}
		}
		return nil
	},
}

func isCore(p string) bool {
	return strings.HasPrefix(p, "process/") && path.Base(p) == "core"
}

// core is what the notes of one dump say.
type core struct {
	order           binary.ByteOrder
	comm, args      string
	pid, ppid, uid  int
	threads, signal int
	at, length      int64 // of the note that names the process
	files           []mapped
	seen            map[string]int
	filesAt, filesN int64
	total, lost     int
}

// mapped is one file that was mapped, with the first of its addresses.
type mapped struct {
	name       string
	start, end uint64
}

// read emits one event for the process, and one for each file that it had mapped. Errors are those of reading the evidence and of emit.
func read(r io.ReaderAt, size int64, base *event.Event, skip func(offset, length int64, reason string), emit parse.Emit) error {
	head := make([]byte, headerSize)
	if _, err := r.ReadAt(head, 0); err != nil {
		if errors.Is(err, io.EOF) {
			skip(0, size, "it is too short for an ELF file")
			return nil
		}
		return err
	}
	c := &core{order: binary.LittleEndian, seen: map[string]int{}}
	if head[5] == 2 {
		c.order = binary.BigEndian
	}
	if head[4] != 2 {
		skip(0, size, "cores of 32-bit processes are not read")
		return nil
	}
	phoff, n := int64(c.order.Uint64(head[32:])), int(c.order.Uint16(head[56:]))
	if entry := c.order.Uint16(head[54:]); entry != programSize || phoff < headerSize || phoff > size {
		skip(0, headerSize, "the header is damaged")
		return nil
	}
	left := int64(maxNotes)
	program := make([]byte, programSize)
	for i := range min(n, maxHeaders) {
		at := phoff + int64(i)*programSize
		if _, err := r.ReadAt(program, at); err != nil {
			if errors.Is(err, io.EOF) {
				skip(at, 0, "the table of segments breaks off")
				break
			}
			return err
		}
		if c.order.Uint32(program) != 4 { // PT_NOTE
			continue
		}
		offset, length := int64(c.order.Uint64(program[8:])), int64(c.order.Uint64(program[32:]))
		if offset < 0 || length < 0 || offset > size || length > size-offset {
			skip(at, programSize, "notes lie beyond the end of the file")
			if offset < 0 || length < 0 || offset > size {
				continue
			}
			length = size - offset
		}
		if length > left {
			skip(offset+left, length-left, "there are more notes than are read")
			length = left
		}
		left -= length
		b := make([]byte, length)
		if k, err := r.ReadAt(b, offset); err != nil && !errors.Is(err, io.EOF) {
			return err
		} else {
			b = b[:k]
		}
		c.notes(b, offset, skip)
	}
	return c.emit(base, skip, emit)
}

// notes reads one segment of them.
func (c *core) notes(b []byte, offset int64, skip func(offset, length int64, reason string)) {
	for pos := 0; pos+12 <= len(b); {
		name, desc, kind := int64(c.order.Uint32(b[pos:])), int64(c.order.Uint32(b[pos+4:])), c.order.Uint32(b[pos+8:])
		from := int64(pos) + 12 + (name+3)&^3
		end := from + (desc+3)&^3
		if from+desc > int64(len(b)) {
			skip(offset+int64(pos), int64(len(b)-pos), "a note breaks off")
			return
		}
		owner := strings.TrimRight(string(b[pos+12:pos+12+int(min(name, 16))]), "\x00")
		if owner == "CORE" {
			c.note(kind, b[from:from+desc], offset+from)
		}
		pos = int(min(end, int64(len(b))))
	}
}

func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func (c *core) note(kind uint32, b []byte, offset int64) {
	switch kind {
	case ntPRStatus:
		c.threads++
		if len(b) >= 36 {
			if s := int(int16(c.order.Uint16(b[12:]))); s != 0 && c.signal == 0 {
				c.signal = s
			}
			if c.pid == 0 {
				c.pid = int(int32(c.order.Uint32(b[32:])))
			}
		}
	case ntSigInfo:
		if len(b) >= 4 {
			c.signal = int(int32(c.order.Uint32(b)))
		}
	case ntPRPSInfo:
		if len(b) < 136 {
			return
		}
		c.uid = int(c.order.Uint32(b[16:]))
		c.pid, c.ppid = int(int32(c.order.Uint32(b[24:]))), int(int32(c.order.Uint32(b[28:])))
		c.comm, c.args = text(b[40:56]), strings.TrimRight(text(b[56:136]), " ")
		c.at, c.length = offset, int64(len(b))
	case ntFile:
		c.mappings(b, offset)
	}
}

// mappings reads NT_FILE: how many, the size of a page, three numbers for each, and their names one after another.
func (c *core) mappings(b []byte, offset int64) {
	c.filesAt, c.filesN = offset, int64(len(b))
	if len(b) < 16 {
		return
	}
	n := c.order.Uint64(b)
	if n > uint64(len(b)-16)/24 {
		n = uint64(len(b)-16) / 24
	}
	names := b[16+24*n:]
	for i := range int(n) {
		end := bytes.IndexByte(names, 0)
		if end < 0 {
			c.lost += int(n) - i
			return
		}
		name := string(names[:min(end, 4096)])
		names = names[end+1:]
		c.total++
		at := 16 + 24*i
		start, stop := c.order.Uint64(b[at:]), c.order.Uint64(b[at+8:])
		if k, ok := c.seen[name]; ok {
			c.files[k].end = max(c.files[k].end, stop)
			continue
		}
		if len(c.files) >= maxMapped {
			c.lost++
			continue
		}
		c.seen[name] = len(c.files)
		c.files = append(c.files, mapped{name, start, stop})
	}
}

func (c *core) emit(base *event.Event, skip func(offset, length int64, reason string), emit parse.Emit) error {
	if c.length == 0 && c.threads == 0 && len(c.files) == 0 {
		skip(0, 0, "it has no notes that say which process it was of")
		return nil
	}
	if c.lost > 0 {
		skip(c.filesAt, 0, fmt.Sprintf("%d mapped files more than are listed", c.lost))
	}
	e := *base
	e.TimeKind, e.Kind = event.Observed, event.ProcessDumped
	if c.pid > 0 {
		e.PID = c.pid
	}
	e.PPID = max(c.ppid, 0)
	e.Process, e.Cmdline = c.comm, c.args
	e.Offset, e.Length = c.at, c.length
	var a event.Attributes
	a.Int("threads", int64(c.threads))
	a.Int("mapped_files", int64(len(c.files)))
	e.Message = fmt.Sprintf("memory of process %d (%s), %d threads, %d mapped files", e.PID, printable.Clip(c.comm, 16), c.threads, len(c.files))
	if c.signal > 0 && c.signal < 65 {
		a.Int("signal", int64(c.signal))
		e.Message += fmt.Sprintf(", signal %d", c.signal)
	}
	if c.length > 0 {
		a.Int("uid", int64(c.uid))
	}
	e.Attributes = a.JSON()
	if err := emit(&e); err != nil {
		return err
	}
	for _, m := range c.files {
		f := *base
		f.TimeKind, f.Kind, f.PID, f.Process = event.Observed, event.FileOpened, e.PID, c.comm
		f.Path = strings.TrimSuffix(m.name, " (deleted)")
		f.Offset, f.Length = c.filesAt, c.filesN
		a.Reset()
		a.String("mapped_at", fmt.Sprintf("%#x-%#x", m.start, m.end))
		f.Message = printable.Clip(m.name, 1024) + " mapped by process " + fmt.Sprint(e.PID)
		switch {
		case strings.HasPrefix(m.name, "/memfd:"):
			a.String("origin", "memfd")
			f.Message += ": it never had a name in a file system"
		case strings.HasSuffix(m.name, " (deleted)"):
			a.String("origin", "deleted")
			f.Message += ": its name is gone"
		}
		f.Attributes = a.JSON()
		if err := emit(&f); err != nil {
			return err
		}
	}
	return nil
}
