package program_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/detect/program"
	"github.com/sherd-forensics/sherd/internal/testenv"
)

const cSource = `#include <sys/socket.h>
#include <sys/ptrace.h>
#include <unistd.h>
int main(int n, char **a) {
  int s = socket(AF_INET, SOCK_STREAM, 0);
  if (n > 5) { connect(s, 0, 0); ptrace(PTRACE_ATTACH, n, 0, 0); execve(a[1], a, 0); }
  return s;
}`

const bareSource = `
static long call(long n, long a) { long r; __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a) : "rcx", "r11", "memory"); return r; }
void _start(void) { call(272, 0x10000000); call(319, 0); call(231, 0); for (;;) ; }`

const goSource = `package main

import ("net"; "os"; "os/exec")

func main() {
	c, err := net.Dial("tcp", os.Args[1])
	if err != nil { os.Exit(1) }
	x := exec.Command(os.Args[2])
	x.Stdin = c
	_ = x.Run()
}`

func compile(t *testing.T, source, name string, args ...string) []byte {
	t.Helper()
	if args[0] == "gcc" {
		if _, err := exec.LookPath("gcc"); err != nil {
			testenv.Skip(t, "gcc is not installed")
		}
	}
	dir := t.TempDir()
	src, out := filepath.Join(dir, name), filepath.Join(dir, "out")
	if err := os.WriteFile(src, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(args[0], append(args[1:], "-o", out, src)...)
	c.Dir, c.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GO111MODULE=off", "GOFLAGS=")
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t *testing.T, b []byte) *program.Facts {
	t.Helper()
	x, err := program.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Problems) > 0 {
		t.Errorf("problems with an honest file: %q", x.Problems)
	}
	return x
}

func can(x *program.Facts, what string) bool {
	return slices.ContainsFunc(x.Can, func(a program.Ability) bool { return a.What == what })
}

func TestC(t *testing.T) {
	x := read(t, compile(t, cSource, "a.c", "gcc", "-O1"))
	if x.Static || x.Stripped || x.Language != "C" || x.Interpreter == "" || x.BuildID == "" || len(x.Packed) != 0 || !slices.Contains(x.Needed, "libc.so.6") {
		t.Errorf("%+v", x)
	}
	if !can(x, "talk over the network") || !can(x, "trace processes") || !can(x, "run programs") || can(x, "load kernel modules") || !slices.Contains(x.Imports, "ptrace") {
		t.Errorf("able: %+v, imports %v", x.Can, x.Imports)
	}
	if want := "dynamically linked C ELF for "; !strings.HasPrefix(x.Summary(), want) || !strings.HasSuffix(x.Summary(), ", not stripped") {
		t.Errorf("summary %q", x.Summary())
	}
	s := read(t, compile(t, cSource, "a.c", "gcc", "-O1", "-s", "-static"))
	if !s.Static || !s.Stripped || s.Interpreter != "" || len(s.Needed) != 0 || !can(s, "trace processes") || !can(s, "talk over the network") || s.TLSH == "" {
		t.Errorf("%+v", s)
	}
	l := read(t, compile(t, "int f(int x) { return x + 1; }", "a.c", "gcc", "-shared", "-fPIC", "-Wl,-soname,libf.so.1"))
	if l.Kind != "shared library" || l.SoName != "libf.so.1" || !strings.Contains(l.Summary(), "ELF shared library") {
		t.Errorf("%+v", l)
	}
}

func TestSystemCallsWithoutLibrary(t *testing.T) {
	b := compile(t, bareSource, "a.c", "gcc", "-O1", "-s", "-nostdlib", "-static")
	if b[18] != 62 {
		t.Skip("the source is for x86-64")
	}
	if x := read(t, b); !x.Static || !can(x, "change namespaces or root") || !can(x, "make files in memory (memfd)") || can(x, "run programs") || len(x.Packed) > 0 {
		t.Errorf("%+v", x)
	}
}

func TestGo(t *testing.T) {
	x := read(t, compile(t, goSource, "main.go", "go", "build"))
	if !x.Static || x.Stripped || x.Language != "Go" || x.Go == nil || !strings.HasPrefix(x.Go.Version, "go1.") || x.Go.Path != "command-line-arguments" || x.GoBuildID == "" ||
		x.Go.Settings["CGO_ENABLED"] != "0" || !can(x, "talk over the network") || !can(x, "run programs") || can(x, "trace processes") || can(x, "load kernel modules") || len(x.Packed) != 0 {
		t.Errorf("%+v, Go %+v", x, x.Go)
	}
	if !strings.HasPrefix(x.Summary(), "static Go 1.") {
		t.Errorf("summary %q", x.Summary())
	}
	s := read(t, compile(t, goSource, "main.go", "go", "build", "-ldflags=-s -w -buildid="))
	if !s.Stripped || s.GoBuildID != "" || s.Language != "Go" || !can(s, "run programs") {
		t.Errorf("%+v", s)
	}
}

func TestRust(t *testing.T) {
	if _, err := exec.LookPath("rustc"); err != nil {
		testenv.Skip(t, "rustc is not installed")
	}
	x := read(t, compile(t, `fn main() { println!("{}", std::env::args().count()); }`, "a.rs", "rustc", "-C", "opt-level=1"))
	if x.Language != "Rust" || !strings.Contains(x.Compiler, "rustc") {
		t.Errorf("%+v", x)
	}
}

// packed is what UPX leaves, as its format describes it (UPX itself is not needed for a test of its reader): an ELF header, two
// segments, l_info with its magic, code that is dense, no sections.
func packed(magic string) []byte {
	b := make([]byte, 64+2*56+12+32<<10)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], 2)
	le.PutUint16(b[18:], 62)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], 0x401000)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 2)
	for i, flags := range []uint32{5, 6} {
		p := b[64+56*i:]
		le.PutUint32(p, 1)
		le.PutUint32(p[4:], flags)
		le.PutUint64(p[16:], 0x400000+uint64(i)<<24)
		if i == 0 {
			le.PutUint64(p[32:], uint64(len(b)))
		}
		le.PutUint64(p[40:], uint64(len(b)))
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := 64 + 2*56 + 12; i < len(b); i++ {
		b[i] = byte(r.Uint32())
	}
	copy(b[64+2*56+4:], magic)
	return b
}

func TestPacked(t *testing.T) {
	x := read(t, packed("UPX!"))
	if len(x.Packed) != 2 || !strings.HasPrefix(x.Packed[0], "UPX, by the header") || !strings.Contains(x.Packed[1], "bits per byte") || !strings.Contains(x.Summary(), "packed (UPX") || !x.NoSections {
		t.Errorf("%+v", x)
	}
	// A packer that wipes its mark is known by what it can't wipe.
	if x := read(t, packed("\x00\x00\x00\x00")); len(x.Packed) != 1 || x.Packed[0] != "code of 8.0 bits per byte with 0 imports" {
		t.Errorf("%+v", x.Packed)
	}
}

// TestTLSH holds the similarity hash against values of Trend Micro's own implementation, version 4 (py-tlsh 5.0.0).
func TestTLSH(t *testing.T) {
	b := packed("UPX!")
	for i := range b[64+2*56+12:] {
		b[64+2*56+12+i] = byte((i*7 + i/13) & 255)
	}
	b = b[:5000]
	const want = "T1CAA1107F00E72DF3D085A2BCA3E256B5FB705D46EFAC67D11297847D8C84D9A042E126"
	x, err := program.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil || x.TLSH != want {
		t.Errorf("%q, want %q (%v)", x.TLSH, want, err)
	}
}

func TestHostile(t *testing.T) {
	good := packed("UPX!")
	try := func(name string, change func(b []byte) []byte) {
		t.Run(name, func(t *testing.T) {
			b := change(bytes.Clone(good))
			x, err := program.Read(bytes.NewReader(b), int64(len(b)))
			if err == nil {
				_ = x.Words()
			}
		})
	}
	le := binary.LittleEndian
	try("cut", func(b []byte) []byte { return b[:70] })
	try("header alone", func(b []byte) []byte { return b[:64] })
	try("huge tables", func(b []byte) []byte {
		le.PutUint16(b[56:], 0xffff)
		le.PutUint64(b[40:], 64)
		le.PutUint16(b[58:], 64)
		le.PutUint16(b[60:], 0xffff)
		le.PutUint16(b[62:], 3)
		return b
	})
	try("offsets beyond", func(b []byte) []byte {
		le.PutUint64(b[32:], 1<<63)
		le.PutUint64(b[40:], ^uint64(0)-3)
		le.PutUint16(b[58:], 64)
		le.PutUint16(b[60:], 4)
		return b
	})
	try("dynamic upon itself", func(b []byte) []byte {
		le.PutUint32(b[64:], 2)
		le.PutUint64(b[64+8:], 64)
		le.PutUint64(b[64+32:], ^uint64(0))
		return b
	})
	if _, err := program.Read(strings.NewReader("MZ"), 2); err == nil {
		t.Error("two letters passed for an ELF file")
	}
	b := bytes.Clone(good[:4096])
	x, err := program.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil || len(x.Problems) == 0 {
		t.Errorf("a file cut short is no problem: %+v, %v", x, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(packed("UPX!")[:2048])
	if b, err := os.ReadFile("/bin/true"); err == nil {
		f.Add(b)
	}
	f.Add([]byte("\x7fELF\x01\x02\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := program.Read(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if s := x.Words(); strings.ContainsAny(s, "\x1b\n\x00") {
			t.Errorf("not fit to be shown: %q", s)
		}
		if len(x.Needed) > 256 || len(x.Problems) > 16 {
			t.Error("no bound")
		}
	})
}
