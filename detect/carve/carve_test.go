package carve_test

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/detect/carve"
	"github.com/sherd-forensics/sherd/detect/core"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
)

// program is a real file: with a library, so that it has an interpreter, relocations and several segments.
func program(t testing.TB) []byte {
	t.Helper()
	testenv.NeedTool(t, "gcc")
	dir := t.TempDir()
	src, out := filepath.Join(dir, "a.c"), filepath.Join(dir, "a")
	if err := os.WriteFile(src, []byte("#include <stdio.h>\n#include <stdlib.h>\nint main(void){return system(\"x\")+puts(\"y\");}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("gcc", "-O1", "-o", out, src).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// image seals a process whose memory is made of mappings, and opens its core.
func image(t testing.TB, maps []record.Mapping, content [][]byte) *core.Image {
	t.Helper()
	s := detecttest.Busy()
	var all []byte
	for i := range maps {
		m := &maps[i]
		m.End = m.Start + uint64(len(content[i])+4095)&^4095
		m.Segments = []record.Segment{{Addr: m.Start, Length: int64(len(content[i])), CoreOffset: int64(len(all))}}
		all = append(all, content[i]...)
	}
	s.Cores[4001], s.Maps[4001] = all, maps
	p := s.Write(t)
	m, err := core.Open(p, "process/4001", maps)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func find(t testing.TB, m *core.Image) []*carve.ELF {
	t.Helper()
	out, err := carve.Find(context.Background(), m, carve.Anonymous, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFileInHeap(t *testing.T) {
	file := program(t)
	// Across the edge of a window, at an odd place, and cut into two mappings.
	before := noise(core.WindowSize-1001, 1)
	whole := append(append(bytes.Clone(before), file...), noise(5000, 2)...)
	cut := 4096 * (len(whole) / 4096 / 2 * 2)
	cut = min(cut, core.WindowSize+4096)
	m := image(t, []record.Mapping{{Start: 0x10000000, Perms: "rw-p"}, {Start: 0x10000000 + uint64(cut), Perms: "rw-p", Path: "[heap]"}}, [][]byte{whole[:cut], whole[cut:]})
	got := find(t, m)
	if len(got) != 1 {
		t.Fatalf("%d programs", len(got))
	}
	x := got[0]
	var b bytes.Buffer
	if _, err := x.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if x.Form != carve.AsFile || !x.Complete() || x.SHA256 != detecttest.Hash(string(file)) || !bytes.Equal(b.Bytes(), file) || x.Executable {
		t.Errorf("%s, %d of %d bytes, the file has %d", x.Form, x.Have, x.Size, len(file))
	}
	if x.Addr != 0x10000000+uint64(len(before)) || x.Offset != int64(len(before)) || x.Facts.Interpreter == "" || x.Facts.Language != "C" {
		t.Errorf("at %#x, +%d: %+v", x.Addr, x.Offset, x.Facts)
	}
}

func TestFileCutShort(t *testing.T) {
	file := program(t)
	got := find(t, image(t, []record.Mapping{{Start: 0x10000000, Perms: "rw-p"}}, [][]byte{append(noise(64, 3), file[:6000]...)}))
	if len(got) != 1 || got[0].Complete() || got[0].Have != 6000 {
		t.Fatalf("%+v", got)
	}
}

// TestLoaded lays a program out as a loader does, each segment a mapping of its own.
func TestLoaded(t *testing.T) {
	file := program(t)
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	const base = 0x7f0000000000
	var maps []record.Mapping
	var content [][]byte
	var loads []elf.ProgHeader
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		loads = append(loads, p.ProgHeader)
		at := p.Vaddr &^ 4095
		b := make([]byte, (p.Vaddr-at+p.Memsz+4095)&^4095)
		copy(b[p.Vaddr-at:], file[p.Off:p.Off+p.Filesz])
		perms := "r--p"
		if p.Flags&elf.PF_X != 0 {
			perms = "r-xp"
		}
		maps, content = append(maps, record.Mapping{Start: base + at, Perms: perms}), append(content, b)
	}
	got := find(t, image(t, maps, content))
	if len(got) != 1 || got[0].Form != carve.Loaded || !got[0].Complete() || !got[0].Executable {
		t.Fatalf("%+v", got)
	}
	var b bytes.Buffer
	if _, err := got[0].WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	for _, p := range loads {
		if !bytes.Equal(b.Bytes()[p.Off:p.Off+p.Filesz], file[p.Off:p.Off+p.Filesz]) {
			t.Errorf("the segment at %#x differs", p.Vaddr)
		}
	}
	if got[0].Facts.BuildID == "" || len(got[0].Facts.Needed) == 0 {
		t.Errorf("%+v", got[0].Facts)
	}
}

func TestNothing(t *testing.T) {
	file := program(t)
	junk := noise(3<<20, 4)
	for i := 0; i+100 < len(junk); i += 4096 {
		copy(junk[i:], "\x7fELF\x02\x01\x01\x00")
	}
	sentence := []byte(strings.Repeat("a file begins with \x7fELF and then \x7fELF\x02\x01\x01 ", 500))
	m := image(t, []record.Mapping{
		{Start: 0x10000000, Perms: "rw-p"}, {Start: 0x20000000, Perms: "rw-p"}, {Start: 0x30000000, Perms: "r-xp", Path: "/app/server", Inode: 5}, {Start: 0x40000000, Perms: "r-xp", Path: "[vdso]"},
	}, [][]byte{junk, sentence, file, file})
	if got := find(t, m); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestCanceled(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if _, err := carve.Find(ctx, image(t, []record.Mapping{{Start: 0x1000, Perms: "rw-p"}}, [][]byte{noise(1<<20, 5)}), carve.Anonymous, nil); err == nil {
		t.Error("no error")
	}
}

func FuzzFind(f *testing.F) {
	head := make([]byte, 64+56*2)
	copy(head, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(head[16:], 2)
	le.PutUint16(head[18:], 62)
	le.PutUint64(head[32:], 64)
	le.PutUint16(head[54:], 56)
	le.PutUint16(head[56:], 2)
	le.PutUint32(head[64:], 1)
	le.PutUint32(head[68:], 5)
	le.PutUint64(head[64+32:], 200)
	le.PutUint64(head[64+40:], 200)
	f.Add(head)
	huge := bytes.Clone(head)
	le.PutUint64(huge[64+8:], 1<<39)
	le.PutUint64(huge[64+16:], ^uint64(0)-100)
	f.Add(huge)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := carve.Find(context.Background(), core.File("x", bytes.NewReader(b), int64(len(b))), carve.Anonymous, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range got {
			if x.Have > x.Size || x.Have < 0 || x.Addr >= uint64(len(b)) {
				t.Fatalf("%+v of %d bytes", x, len(b))
			}
		}
	})
}
