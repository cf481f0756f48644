package detect

import (
	"encoding/binary"
	"path"
	"regexp"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// coreName matches the names under which kernels and handlers write cores. See core(5).
var coreName = regexp.MustCompile(`^(core([.\-][A-Za-z0-9._\-]*[0-9])?|.+[.]core|vgcore[.][0-9]+)$`)

// crashed says of a file that it is the memory of a program that crashed, and returns false of any other. One that is named so and whose
// content was not kept may be either: it is graded low, and the rule is blind for it.
func (f *Facts) crashed(a *Answer, r *File, fd *Finding) bool {
	core, known := f.isCore(r)
	switch {
	case core:
		fd.Severity, fd.Foreign = verdict.Info, false
		fd.Statement = say(r.Path) + " is the memory of a program that crashed, as the kernel or a handler writes it"
	case !known && r.Mode&0o111 == 0 && coreName.MatchString(path.Base(string(r.Path))):
		fd.Severity, fd.Foreign = verdict.Low, false
		fd.Statement = say(r.Path) + " is an ELF file, named as the memory of a program that crashed"
		a.blind("what "+say(r.Path)+" is", "its content was not kept")
	default:
		return false
	}
	return true
}

// isCore reports whether an ELF file is the memory of a program that crashed: its type is ET_CORE, which can't be run (see elf(5)). It is known
// where the file was kept.
func (f *Facts) isCore(r *File) (core, known bool) {
	raw, err := record.Unescape(r.Artifact)
	if err != nil || raw == "" || f.Read == nil || !isELF(r.Magic) {
		return false, false
	}
	const etCore = 4
	b := f.Read(raw, 0, 18)
	if len(b) < 18 {
		return false, b != nil
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if b[5] == 2 {
		order = binary.BigEndian
	}
	return order.Uint16(b[16:]) == etCore, true
}
