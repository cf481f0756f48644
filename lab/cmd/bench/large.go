package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/lab/generate"
)

// large measures a verdict on a package with much memory and long logs: what the first process holds, and lines in all common forms.
func (b *bench) large() error {
	lines := min(b.logs, 2_000_000)
	dir, err := os.MkdirTemp(b.scratch, "sherd-bench-large-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	pkg := filepath.Join(dir, "large.sherd")
	if err := largePackage(dir, pkg, b.size, lines); err != nil {
		return err
	}
	return b.run(fmt.Sprintf("a verdict on a package with %d MiB of memory and %d lines of logs", b.size>>20, lines), []*contestant{
		{name: "sherd investigate", turns: 2, make: func() *exec.Cmd {
			return exec.Command("sh", "-c", `"$0" investigate "$1" --quiet >/dev/null; [ $? = 3 ]`, filepath.Join(b.bin, "sherd"), pkg)
		}},
	})
}

// largePackage is a scene that was broken into, with a core of so many bytes and so many lines of logs.
func largePackage(dir, path string, memory int64, lines int) error {
	logs, err := generate.Logs(filepath.Join(dir, "logs"), lines, 1)
	if err != nil {
		return err
	}
	s := detecttest.Busy()
	at := detecttest.Attack
	s.Request(at.Add(4*time.Millisecond), "10.0.7.31:40022", "POST", "/avatar?name=..%2F..%2Fusr%2Flib%2Fconv", 201)
	p := s.Foreign(4017, 17, 4001, "/usr/lib/conv", record.ExeDeleted, detecttest.ELF+"implant", at.Add(410*time.Millisecond))
	p.Exe.Btime, p.Exe.Ctime = at.UnixNano(), at.Add(500*time.Millisecond).UnixNano()
	s.Connect(p, 3, "203.0.113.9", 4444, 11469, 3174)
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	err = s.Seal(out, func(w *evidence.Writer) error {
		core := evidence.Meta{Path: "process/4001/core", Origin: "made for a benchmark"}
		if _, err := w.Stream(core, memory+coreHeader, func(to io.Writer) error { return writeCore(to, memory) }); err != nil {
			return err
		}
		for _, l := range logs {
			f, err := os.Open(l.Path)
			if err != nil {
				return err
			}
			st, err := f.Stat()
			if err == nil {
				_, err = w.Stream(evidence.Meta{Path: "logs/" + filepath.Base(l.Path), Origin: "made for a benchmark"}, st.Size(), func(to io.Writer) error {
					_, err := io.Copy(to, f)
					return err
				})
			}
			f.Close()
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return out.Close()
}

const coreHeader = 4096

// writeCore writes an ELF core of one segment at 0x600000.
func writeCore(w io.Writer, size int64) error {
	h := make([]byte, coreHeader)
	copy(h, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(h[16:], 4)  // a core
	le.PutUint16(h[18:], 62) // x86-64
	le.PutUint32(h[20:], 1)
	le.PutUint64(h[32:], 64) // the segments' table
	le.PutUint16(h[52:], 64)
	le.PutUint16(h[54:], 56)
	le.PutUint16(h[56:], 1)
	s := h[64:]
	le.PutUint32(s, 1)     // loadable
	le.PutUint32(s[4:], 6) // read and write
	le.PutUint64(s[8:], coreHeader)
	le.PutUint64(s[16:], 0x600000)
	le.PutUint64(s[32:], uint64(size))
	le.PutUint64(s[40:], uint64(size))
	le.PutUint64(s[48:], 4096)
	if _, err := w.Write(h); err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for left := size; left > 0; left -= int64(len(block)) {
		if left < int64(len(block)) {
			block = block[:left]
		}
		fillHeap(block)
		if _, err := w.Write(block); err != nil {
			return err
		}
	}
	return nil
}
