package detect

import (
	"cmp"
	"fmt"
	"strings"

	elf "github.com/sherd-forensics/sherd/detect/program"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

func memoryRules() []Rule {
	return []Rule{
		{
			ID: "memory-text-changed", Title: "A program's code in memory is not its file's", Severity: verdict.Critical, Technique: "T1055",
			Rationale:   "Code is mapped from its file and never written. Pages that differ were overwritten, through /proc/PID/mem or ptrace or by the program itself.",
			FalseAlarms: "Probes of tracing tools and breakpoints replace single bytes by the trap instruction: graded low when all differences are such.",
			Needs:       []Fact{Processes, Memory}, check: changedText,
		},
		{
			ID: "memory-program-in-anonymous", Title: "A program was loaded into anonymous memory", Severity: verdict.High, Technique: "T1620",
			Rationale:   "An ELF header at the start of anonymous memory next to executable memory, or on a later page of it, is a program or library that was loaded without a file.",
			FalseAlarms: "Runtimes for WebAssembly keep translated code in ELF form: graded lower in programs that translate code, and where the header bears Wasmtime's mark.",
			Needs:       []Fact{Processes, Memory}, check: anonymousELF,
		},
		{
			ID: "memory-executable-anonymous", Title: "Memory that belongs to no file is executable", Severity: verdict.Low, Technique: "T1055",
			Rationale:   "Code that no file backs was made at run time.",
			FalseAlarms: "Translators (Node, Java, .NET, Ruby, PHP, PCRE, libffi) do so by design and are known by their program or library; in others it is only noted.",
			Needs:       []Fact{Processes, Memory}, check: anonymousCode,
		},
		{
			ID: "memory-library-foreign", Title: "A process has a library loaded that the image does not hold", Severity: verdict.Critical, Technique: "T1574.006",
			Rationale:   "Libraries come with the image. One from a memfd, from the writable layer, or with its file deleted came in afterwards.",
			FalseAlarms: "Java programs unpack libraries from their archives into temporary files, map them and often delete them: graded low, but medium where the library is in no open archive and not made for Java.",
			Needs:       []Fact{Processes, Memory, Inventory, Baseline}, check: foreignLibrary,
		},
	}
}

// noMaps notes processes whose memory was not looked at.
func (f *Facts) noMaps(a *Answer, p *Process) bool {
	if p.HasMaps {
		return false
	}
	if !f.Ended(p) && !f.otherRoot(p) {
		a.blind("memory of "+Describe(p), "its mappings were not collected")
	}
	return true
}

// maxProbes is how many bytes of a page observers' probes change at most, where the bytes themselves were not kept.
const maxProbes = 4

func changedText(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		if f.noMaps(a, p) {
			continue
		}
		for j := range p.Maps {
			m := &p.Maps[j]
			var bytes, runs, pages int64
			traps, unkept := true, false
			cites := []verdict.Citation{m.Cite}
			for _, c := range m.Changed {
				if c.DiffBytes <= 0 {
					continue
				}
				bytes, runs, pages = bytes+c.DiffBytes, runs+1, pages+max(c.Length>>12, 1)
				only, known := f.onlyTraps(p, c)
				traps = traps && known && only
				unkept = unkept || !known
				if runs <= 4 {
					cites = append(cites, f.textCites(p, c)...)
				}
			}
			if runs == 0 {
				continue
			}
			sev := verdict.Critical
			what := "was overwritten"
			switch {
			case traps:
				sev, what = verdict.Low, "holds breakpoints of a tracing tool or debugger"
			case unkept && bytes <= maxProbes*pages:
				// Few bytes, and not to be seen which: an observer's probes look like this too.
				sev, what = verdict.Low, "differs a little"
				a.blind("what changed in the code of "+say(m.Path)+" in the memory of "+Describe(p), "the bytes of memory or of the file were not kept")
			case unkept:
				sev = verdict.High
			}
			a.hit(Finding{
				Finding: verdict.Finding{Severity: sev, Citations: cites,
					Statement: fmt.Sprintf("code of %s in the memory of %s %s: %s in %s differ from the file, from %#x on",
						say(m.Path), Describe(p), what, plural(bytes, "byte"), plural(runs, "place"), m.Changed[0].Addr)},
				PID: p.PID, Path: string(m.Path), SHA256: m.FileSHA256,
			})
		}
	}
}

func (f *Facts) textCites(p *Process, c record.ChangedText) []verdict.Citation {
	var out []verdict.Citation
	if c.CoreOffset >= 0 {
		if x, ok := f.Cite(p.Dir+"/core", c.CoreOffset, c.Length); ok {
			out = append(out, x)
		}
	}
	if c.FileArtifact != "" {
		if x, ok := f.Cite(c.FileArtifact, 0, c.Length); ok {
			out = append(out, x)
		}
	}
	return out
}

// onlyTraps reports whether all that differs in a run are single trap instructions (int3 on x86-64), as probes and
// breakpoints put them; known is false when the bytes of either side were not kept.
func (f *Facts) onlyTraps(p *Process, c record.ChangedText) (only, known bool) {
	const limit = 4 << 20
	if c.CoreOffset < 0 || c.FileArtifact == "" || c.Length > limit {
		return false, false
	}
	mem, file := f.Read(p.Dir+"/core", c.CoreOffset, int(c.Length)), f.Read(c.FileArtifact, 0, int(c.Length))
	if mem == nil || len(mem) != len(file) {
		return false, false
	}
	for i := range mem {
		if mem[i] == file[i] {
			continue
		}
		if mem[i] != 0xcc || i > 0 && mem[i-1] != file[i-1] {
			return false, true
		}
	}
	return true, true
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func anonymous(m *Mapping) bool {
	p := string(m.Path)
	return p == "" || strings.HasPrefix(p, "[heap") || strings.HasPrefix(p, "[stack") || strings.HasPrefix(p, "[anon") || strings.HasPrefix(p, "/dev/zero")
}

func executable(m *Mapping) bool { return len(m.Perms) > 2 && m.Perms[2] == 'x' }

// head is the start of a mapping as the core holds it, nil if it doesn't.
func (f *Facts) head(p *Process, m *Mapping, n int) ([]byte, verdict.Citation) {
	for _, s := range m.Segments {
		if s.Addr != m.Start || s.Length < int64(n) {
			continue
		}
		if c, ok := f.Cite(p.Dir+"/core", s.CoreOffset, int64(n)); ok {
			return f.Read(p.Dir+"/core", s.CoreOffset, n), c
		}
	}
	return nil, verdict.Citation{}
}

func anonymousELF(f *Facts, a *Answer) {
	left := int64(1 << 30) // bytes of executable memory that are looked through
	for i := range f.Processes {
		p := &f.Processes[i]
		if f.noMaps(a, p) || f.runcInit(p) == yes {
			continue
		}
		for j := range p.Maps {
			m := &p.Maps[j]
			if !anonymous(m) || !nearCode(p.Maps, j) {
				continue
			}
			b, c := f.head(p, m, 64)
			at := m.Start
			if !isELF(b) {
				if at, c = f.innerELF(p, m, &left); at == 0 {
					continue
				}
				b = nil
			}
			sev := verdict.High
			if f.hasJIT(p) || len(b) > 7 && b[7] == osWasmtime {
				sev = verdict.Low
			}
			a.hit(Finding{
				Finding: verdict.Finding{Severity: sev, Citations: []verdict.Citation{m.Cite, c},
					Statement: fmt.Sprintf("%s has an ELF program loaded at %#x in memory that belongs to no file", Describe(p), at)},
				PID: p.PID, Path: string(p.Exe.Path), Foreign: f.Foreign(p),
			})
		}
	}
	if left <= 0 {
		a.blind("programs in the rest of executable memory", "there is more of it than is looked through")
	}
}

// osWasmtime is the mark that Wasmtime, embedded in whatever program, puts on code it translated.
const osWasmtime = 200

// innerELF finds a program that begins on a later page of executable memory, where a loader put something before it. Only headers
// that could be loaded count. Programs that translate code keep all kinds of objects there and are not asked. at is 0 if there is none.
func (f *Facts) innerELF(p *Process, m *Mapping, left *int64) (at uint64, c verdict.Citation) {
	const page, piece = 4096, 1 << 20
	if !executable(m) || f.hasJIT(p) || f.Read == nil {
		return 0, c
	}
	core := p.Dir + "/core"
	for _, s := range m.Segments {
		skip := int64(-s.Addr & (page - 1))
		for off := skip; off < s.Length && *left > 0; off, *left = off+piece, *left-piece {
			b := f.Read(core, s.CoreOffset+off, int(min(piece, s.Length-off)))
			for i := 0; i+elf.HeaderSize <= len(b); i += page {
				if !isELF(b[i:]) {
					continue
				}
				_, err := elf.ParseHeader(func(o uint64, n int) []byte {
					if o >= uint64(len(b)-i) {
						return nil
					}
					return b[i+int(o):][:min(n, len(b)-i-int(o))]
				})
				if x, ok := f.Cite(core, s.CoreOffset+off+int64(i), elf.HeaderSize); ok && err == nil {
					return s.Addr + uint64(off) + uint64(i), x
				}
			}
			if b == nil {
				break
			}
		}
	}
	return 0, c
}

// nearCode reports whether mapping i or one of the next few that touch it is executable and anonymous: a loader maps a
// program's segments side by side.
func nearCode(maps []Mapping, i int) bool {
	for j := i; j < len(maps) && j < i+4; j++ {
		if j > i && (maps[j].Start != maps[j-1].End || !anonymous(&maps[j])) {
			return false
		}
		if executable(&maps[j]) {
			return true
		}
	}
	return false
}

func anonymousCode(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		if f.noMaps(a, p) || f.otherRoot(p) || f.hasJIT(p) || f.runcInit(p) == yes {
			continue
		}
		var first *Mapping
		n, bytes := 0, uint64(0)
		for j := range p.Maps {
			m := &p.Maps[j]
			if executable(m) && (anonymous(m) || isMemfd(string(m.Path))) && string(m.Path) != string(p.Exe.Path) {
				if first == nil {
					first = m
				}
				n++
				bytes += m.End - m.Start
			}
		}
		if first == nil {
			continue
		}
		a.hit(Finding{
			Finding: verdict.Finding{Citations: []verdict.Citation{first.Cite},
				Statement: fmt.Sprintf("%s has executable memory that belongs to no file: %d mappings, %d KiB, the first at %#x", Describe(p), n, bytes>>10, first.Start)},
			PID: p.PID, Path: string(p.Exe.Path),
		})
	}
}

func foreignLibrary(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		if f.noMaps(a, p) || f.otherRoot(p) || f.runcInit(p) == yes {
			continue
		}
		done := map[record.Name]bool{}
		for j := range p.Maps {
			m := &p.Maps[j]
			if !executable(m) || m.Path == "" || m.Path[0] != '/' || done[m.Path] || m.Inode != 0 && m.Inode == p.Exe.Ino {
				continue
			}
			done[m.Path] = true
			f.library(a, p, m)
		}
	}
}

func (f *Facts) library(a *Answer, p *Process, m *Mapping) {
	name := strings.TrimSuffix(string(m.Path), " (deleted)")
	found := Finding{PID: p.PID, Path: name, SHA256: m.FileSHA256, Foreign: true}
	found.Citations = []verdict.Citation{m.Cite}
	switch {
	case isMemfd(name):
		head, c, known := f.fileHead(p, m)
		switch {
		case !known:
			a.blind("what "+say(memfdName(name))+" in the memory of "+Describe(p)+" is", "its first bytes were not kept")
			return
		case !isELF(head):
			return // translated code or a closure: the rule on executable memory notes it
		}
		if c.Artifact != "" {
			found.Citations = append(found.Citations, c)
			if c.Length == 0 {
				found.SHA256 = c.SHA256
			}
		}
		found.Technique, found.Path = "T1620", memfdName(name)
		found.Statement = Describe(p) + " has a library loaded from memory, " + say(memfdName(name))
	case m.Deleted || strings.HasSuffix(string(m.Path), " (deleted)"):
		if under(name, "/dev/zero", "/dev/shm", "/SYSV00000000") && !strings.HasSuffix(name, ".so") {
			return // shared memory
		}
		if _, ok := f.Files.Image[m.FileSHA256]; ok && m.FileSHA256 != "" {
			return
		}
		if _, c, known := f.fileHead(p, m); known && c.Length == 0 && c.Artifact != "" {
			if f.Files.Image[c.SHA256] != "" {
				return
			}
			found.SHA256 = c.SHA256
			found.Citations = append(found.Citations, c)
		}
		found.Severity = verdict.High
		if isJVM(p) && under(name, "/tmp", "/var/tmp") {
			found.Severity, found.Foreign = verdict.Low, false
		}
		found.Statement = Describe(p) + " has the deleted file " + say(name) + " loaded as code"
	default:
		r, ok := f.Files.ByPath[name]
		if !ok || r.Tree != record.TreeRoot || r.Layer != record.WritableLayer || r.Type != record.TypeFile {
			return
		}
		if r.SHA256 != "" && f.Files.Image[r.SHA256] != "" {
			return
		}
		switch {
		case isJVM(p) && under(name, "/tmp", "/var/tmp"):
			if found.Severity, found.Foreign = verdict.Low, false; !f.nativeOfJava(p, &r) {
				found.Severity, found.Foreign = verdict.Medium, true
			}
		case r.Mount != "" && !f.afterStart(r.Btime):
			found.Severity, found.Foreign = verdict.Low, false
		}
		found.SHA256, found.When = r.SHA256, cmp.Or(r.Btime, r.Ctime)
		found.Citations = append(found.Citations, r.Cite)
		found.Statement = Describe(p) + " has " + say(name) + " loaded as code, which the image does not hold in this form"
	}
	a.hit(found)
}

// fileHead is the start of the file behind a mapping: from a descriptor that is still open, or from the mapping of the
// file's first page in the core.
func (f *Facts) fileHead(p *Process, m *Mapping) (head []byte, c verdict.Citation, known bool) {
	for _, d := range p.FDs {
		if d.Ino == m.Inode && d.Ino != 0 && len(d.Magic) > 0 && isMemfd(string(d.Target)) {
			if d.Artifact != "" {
				c, _ = f.Cite(d.Artifact, 0, 0)
			}
			return d.Magic, c, true
		}
	}
	// The collector keeps files that are mapped as code and have no name left.
	if kept := fmt.Sprintf("%s/mapped/%08x-%08x", p.Dir, m.Start, m.End); f.Read != nil {
		if b := f.Read(kept, 0, 64); len(b) > 0 {
			c, _ = f.Cite(kept, 0, 0)
			return b, c, true
		}
	}
	for j := range p.Maps {
		x := &p.Maps[j]
		if x.Path == m.Path && x.Inode == m.Inode && x.Offset == 0 {
			if b, c := f.head(p, x, 64); b != nil {
				return b, c, true
			}
		}
	}
	return nil, verdict.Citation{}, false
}
