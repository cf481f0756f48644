// Package program tells what an ELF file is: how it was linked and by what, whether it is stripped or packed, what it imports, what its
// code can do at least, and hashes by which it and its kin are known elsewhere. It is a pure function of the bytes, which an intruder
// chose: every count and size is bounded, what can't be read is a problem that Facts names, and nothing is run.
//
// Specification: elf(5), https://man7.org/linux/man-pages/man5/elf.5.html; TLSH, https://tlsh.org.
package program

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/glaslos/tlsh"

	"github.com/sherd-forensics/sherd/internal/printable"
)

const (
	maxLooked = 64 << 20 // bytes of a file in which marks, names and system calls are looked for
	maxTLSH   = 16 << 20 // bytes of a file whose similarity hash is made
	maxListed = 64       // names of a list
)

// Facts are what a file says about itself. Texts in it are the file's own, escaped and cut to size.
type Facts struct {
	Size int64 `json:"size"`
	// Kind is "executable", "position-independent executable", "shared library", "object file", "core dump".
	Kind    string `json:"kind"`
	Bits    int    `json:"bits"`
	Machine string `json:"machine"`
	// Static is true where no dynamic linker is asked for and no library needed.
	Static      bool     `json:"static"`
	Interpreter string   `json:"interpreter,omitempty"` // the dynamic linker's path
	Stripped    bool     `json:"stripped"`
	NoSections  bool     `json:"no_sections,omitempty"`
	SoName      string   `json:"soname,omitempty"`
	Needed      []string `json:"needed,omitempty"`
	// Imports are the imported symbols from which Can was told; ImportCount counts all.
	Imports     []string `json:"imports,omitempty"`
	ImportCount int      `json:"import_count"`
	BuildID     string   `json:"build_id,omitempty"`    // GNU, hex
	GoBuildID   string   `json:"go_build_id,omitempty"` // as `go tool buildid` prints it
	Language    string   `json:"language,omitempty"`    // "Go", "Rust", "C", "C++", "Nim", "Zig", …; "" is not told
	Compiler    string   `json:"compiler,omitempty"`    // in its own words
	Go          *GoBuild `json:"go,omitempty"`
	// Packed says why the file is taken for packed, nil if nothing says so.
	Packed []string `json:"packed,omitempty"`
	// Entropy is of the whole file, CodeEntropy the highest of an executable segment, in bits per byte (0 to 8).
	Entropy     float64 `json:"entropy"`
	CodeEntropy float64 `json:"code_entropy"`
	// Appended counts bytes behind all that the headers speak of.
	Appended int64 `json:"appended,omitempty"`
	// Can is what its code is able to do, at least; it need not have done so.
	Can []Ability `json:"can,omitempty"`
	// TLSH is the similarity hash in the form of version 4 ("T1…"); "" where the file is too small, too uniform or too large for one.
	TLSH string `json:"tlsh,omitempty"`
	// Problems name what could not be read.
	Problems []string `json:"problems,omitempty"`
}

// ErrNotELF says that a file is no ELF file at all.
var ErrNotELF = errors.New("it is no ELF file")

// Read tells the facts of size bytes behind r. Its error is ErrNotELF; whatever else is wrong is in Facts.Problems.
func Read(r io.ReaderAt, size int64) (*Facts, error) {
	f, err := open(r, size)
	if err != nil {
		return nil, ErrNotELF
	}
	x := &Facts{Size: size, Bits: 32, Machine: machines[f.Machine]}
	if f.Wide {
		x.Bits = 64
	}
	if x.Machine == "" {
		x.Machine = fmt.Sprintf("machine %d", f.Machine)
	}
	whole := f.bytes(0, uint64(size), maxLooked)
	f.whole = whole
	if size > maxLooked {
		f.problem("only the first %d MiB were searched", maxLooked>>20)
	}
	d := f.dynamic()
	x.kind(f, &d)
	exported, imported := f.imports(&d)
	names, full := f.static()
	x.Stripped, x.NoSections = !full, len(f.sections) == 0
	x.ImportCount = len(imported)
	for _, n := range d.needed {
		x.Needed = append(x.Needed, show(n))
	}
	x.SoName = show(d.soname)
	f.notes(func(owner string, kind uint32, desc []byte) {
		switch {
		case owner == "GNU" && kind == noteBuild && x.BuildID == "" && len(desc) <= 64:
			x.BuildID = hex.EncodeToString(desc)
		case owner == "Go" && kind == noteGo && x.GoBuildID == "" && len(desc) <= 256:
			x.GoBuildID = show(string(desc))
		}
	})
	x.Entropy = entropy(whole)
	for i := range f.Segments {
		if s := &f.Segments[i]; s.Executable() {
			x.CodeEntropy = max(x.CodeEntropy, entropy(f.segment(s)))
		}
	}
	x.appended(f)
	x.golang(f, whole)
	x.language(f, whole, slices.Concat(names, exported, imported))
	x.packed(f, whole)
	x.abilities(f, whole, names, imported)
	x.TLSH = similarity(r, size, whole)
	x.Problems = f.problems
	return x, nil
}

func show(s string) string { return printable.Clip(s, 200) }

func (x *Facts) kind(f *file, d *dynamic) {
	for _, s := range f.Segments {
		if s.Type == ptInterp {
			x.Interpreter = show(cstring(f.bytes(s.Offset, s.FileSize, 4096), 0, 4096))
		}
	}
	switch f.Type {
	case etRel:
		x.Kind = "object file"
	case etExec:
		x.Kind = "executable"
		x.Static = x.Interpreter == "" && len(d.needed) == 0
	case etDyn:
		// A static-pie has an entry, no interpreter and needs nothing.
		x.Kind = "shared library"
		if x.Interpreter != "" || d.flags1&flagPIE != 0 {
			x.Kind = "position-independent executable"
			x.Static = x.Interpreter == "" && len(d.needed) == 0
		}
	case etCore:
		x.Kind = "core dump"
	default:
		x.Kind = fmt.Sprintf("ELF of type %d", f.Type)
	}
}

// appended counts what lies behind the end of all that the headers name.
func (x *Facts) appended(f *file) {
	end := max(f.End(), f.SectionsEnd())
	for i := range f.sections {
		if s := &f.sections[i]; s.kind != shtNoBits && s.size < 1<<40 && s.offset < 1<<40 {
			end = max(end, s.offset+s.size)
		}
	}
	switch {
	case end < uint64(f.size):
		x.Appended = f.size - int64(end)
	case end > uint64(f.size):
		f.problem("the headers speak of %d bytes, the file has %d", end, f.size)
	}
}

// entropy is Shannon's, in bits per byte.
func entropy(b []byte) float64 {
	if len(b) == 0 {
		return 0
	}
	var count [256]int
	for _, c := range b {
		count[c]++
	}
	sum := 0.0
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(b))
			sum -= p * math.Log2(p)
		}
	}
	return math.Round(sum*100) / 100
}

// similarity makes the TLSH, where the file is large and varied enough for one.
func similarity(r io.ReaderAt, size int64, head []byte) (sum string) {
	if size < 512 || size > maxTLSH || entropy(head) < 1 {
		return ""
	}
	defer func() {
		if recover() != nil { // of the library, on bytes that nobody thought of
			sum = ""
		}
	}()
	t, err := tlsh.HashReader(bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 64<<10))
	if err != nil {
		return ""
	}
	return "T1" + strings.ToUpper(t.String())
}

// Summary is the file in a few words: "static Go 1.22.3 ELF for x86-64, stripped".
func (x *Facts) Summary() string {
	var w []string
	switch {
	case x.Kind == "shared library":
	case x.Static:
		w = append(w, "static")
	case x.Interpreter != "" || len(x.Needed) > 0:
		w = append(w, "dynamically linked")
	}
	switch {
	case x.Go != nil && x.Go.Version != "":
		w = append(w, "Go "+strings.TrimPrefix(x.Go.Version, "go"))
	case x.Language != "":
		w = append(w, x.Language)
	}
	w = append(w, "ELF")
	switch x.Kind {
	case "shared library", "object file", "core dump":
		w = append(w, x.Kind)
	}
	s := strings.Join(w, " ") + " for " + x.Machine
	if len(x.Packed) > 0 {
		s += ", packed (" + x.Packed[0] + ")"
	}
	if x.Stripped {
		return s + ", stripped"
	}
	return s + ", not stripped"
}

// Words says all that helps to know the file, for a statement.
func (x *Facts) Words() string {
	parts := []string{x.Summary()}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if x.Go != nil && x.Go.Path != "" {
		add("built from %s", x.Go.Path)
		if x.Go.Revision != "" {
			add("revision %s", x.Go.Revision)
		}
	}
	if x.BuildID != "" {
		add("build id %s", x.BuildID)
	} else if x.GoBuildID != "" {
		add("Go build id %s", printable.Clip(x.GoBuildID, 24))
	}
	if len(x.Needed) > 0 {
		add("needs %s", list(x.Needed, 6))
	}
	if x.Appended >= 4096 {
		add("%d bytes are appended to it", x.Appended)
	}
	s := strings.Join(parts, ", ")
	if len(x.Can) > 0 {
		var can []string
		for _, a := range x.Can {
			can = append(can, a.What)
		}
		s += "; its code can at least " + list(can, 12)
	}
	if x.TLSH != "" {
		s += "; TLSH " + x.TLSH
	}
	return s
}

func list(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
}

func has(b []byte, mark string) bool { return bytes.Contains(b, []byte(mark)) }
