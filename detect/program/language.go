package program

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/sherd-forensics/sherd/internal/printable"
)

// marks are bytes that a language's compiler or run time leaves in what it builds, the surest first.
var marks = []struct{ language, mark string }{
	{"Rust", "/rustc/"}, {"Rust", "rust_begin_unwind"}, {"Rust", "library/core/src/panicking.rs"},
	{"Nim", "NimMain"}, {"Nim", "fatal.nim"}, {"Nim", "nim_program_result"},
	{"Zig", "std/debug.zig"}, {"Zig", "attempt to unwrap error: "}, {"Zig", "attempt to use null value"},
	{"Haskell", "GHC.Internal."}, {"Haskell", "stg_ap_v_info"}, {"Swift", "_swift_stdlib"}, {"D", "_Dmain"}, {"Crystal", "__crystal_main"},
}

var cxx = regexp.MustCompile(`^(_ZN?S|_ZNK?St|_ZdlPv|_Znwm|__cxa_throw|__gxx_personality)`)

// language tells the language by marks, and the compiler by its own comment.
func (x *Facts) language(f *file, whole []byte, names []string) {
	comment := ""
	if s := f.section(".comment"); s != nil {
		var parts []string
		for _, p := range bytes.Split(f.content(s, 4096), []byte{0}) {
			if t := printable.Clip(strings.TrimSpace(string(p)), 80); t != "" && len(parts) < 4 {
				parts = append(parts, t)
			}
		}
		comment = strings.Join(parts, "; ")
	}
	if x.Compiler == "" {
		x.Compiler = comment
	}
	if x.Language != "" {
		return
	}
	if strings.Contains(comment, "rustc") {
		x.Language = "Rust"
		return
	}
	for _, m := range marks {
		if has(whole, m.mark) {
			x.Language = m.language
			return
		}
	}
	for _, n := range names {
		if cxx.MatchString(n) {
			x.Language = "C++"
			return
		}
	}
	for _, n := range x.Needed {
		if strings.HasPrefix(n, "libstdc++") || strings.HasPrefix(n, "libc++") {
			x.Language = "C++"
			return
		}
	}
	if strings.Contains(comment, "GCC") || strings.Contains(comment, "clang") {
		x.Language = "C"
	}
}

// packers are marks of what hides code, or carries another program as data.
var packers = []struct{ name, mark string }{
	{"UPX, by its own notice", "This file is packed with the UPX executable packer"},
	{"burneye", "TEEE burneye - TESO ELF Encryption Engine"},
	{"PyInstaller, which carries a Python program", "MEI\x0c\x0b\x0a\x0b\x0e"},
	{"a JavaScript program in Node", "NODE_SEA_BLOB"},
}

// packed says why a file is taken for packed: marks of known packers, or code that is too dense to be code.
func (x *Facts) packed(f *file, whole []byte) {
	why := func(format string, args ...any) { x.Packed = append(x.Packed, fmt.Sprintf(format, args...)) }
	// UPX puts l_info behind the program headers: a checksum, its magic, the size of its loader, version and format.
	if at := f.phoff + uint64(f.phnum)*uint64(f.phent); string(f.bytes(at+4, 4, 4)) == "UPX!" {
		why("UPX, by the header behind the program headers")
	} else if tail := whole[max(0, len(whole)-64):]; has(tail, "UPX!") {
		why("UPX, by the header at the end of the file")
	}
	for _, p := range packers {
		if p.mark == "NODE_SEA_BLOB" && !has(whole, "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:1") {
			continue // every Node holds the name; the fuse says whether there is a program
		}
		if has(whole, p.mark) && (len(x.Packed) == 0 || !strings.HasPrefix(p.name, "UPX")) {
			why("%s", p.name)
		}
	}
	for i := range f.sections {
		if n := f.sections[i].name; strings.HasPrefix(n, ".vmp") || strings.HasPrefix(n, "UPX") || n == ".upx" {
			why("a section is named %s", show(n))
			break
		}
	}
	// Machine code has 5 to 6.6 bits per byte; what is compressed or enciphered nearly 8. Few imports, or no sections, go with it:
	// a program that merely carries a picture has neither.
	const dense = 7.2
	if x.CodeEntropy >= dense && (x.ImportCount < 8 || x.NoSections) && f.size > 2048 {
		why("code of %.1f bits per byte with %d imports", x.CodeEntropy, x.ImportCount)
	}
}
