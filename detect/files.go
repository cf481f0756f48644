package detect

import (
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/verdict"
)

func fileRules() []Rule {
	need := []Fact{Inventory, Baseline}
	return []Rule{
		{
			ID: "file-foreign-program", Title: "A file that can run is not the image's", Severity: verdict.High, Technique: "T1105",
			Rationale:   "Programs come with the image. One in the writable layer came in afterwards.",
			FalseAlarms: "Libraries that Java programs unpack from their archives, compiled caches of interpreters, cores of crashed programs: graded low, or information.",
			Needs:       need, check: foreignFiles,
		},
		{
			ID: "file-program-replaced", Title: "A program, library or code file of the image was replaced or deleted", Severity: verdict.High, Technique: "T1554",
			Rationale:   "What runs next time is no longer what was shipped.",
			FalseAlarms: "Programs that update themselves in place: what lies where a variable or label of image or runtime says that updates go is graded low, unless a request names it. Caches of compiled code don't count.",
			Needs:       need, check: replacedFiles,
		},
		{
			ID: "file-gained-privilege", Title: "A file gained setuid, setgid or capabilities", Severity: verdict.High, Technique: "T1548.001",
			Rationale:   "It lets whoever runs it have rights that the image did not give.",
			FalseAlarms: "None known in containers.",
			Needs:       need, check: gainedPrivilege,
		},
		{
			ID: "file-configuration-changed", Title: "A file that steers users, trust or what is loaded was changed", Severity: verdict.High, Technique: "T1098",
			Rationale:   "Accounts, trusted certificates, preloaded libraries, scheduled tasks and keys are how intruders stay.",
			FalseAlarms: "Runtimes and entry points adjust some within the first seconds (users, host names, certificates): graded low.",
			Needs:       need, check: configuration,
		},
		{
			ID: "file-takes-commands", Title: "A page that the image does not hold runs what a request holds", Severity: verdict.High, Technique: "T1505.003",
			Rationale:   "A page in a served folder that hands a part of the request to an interpreter or a program is a web shell.",
			FalseAlarms: "Consoles of developers, when they are deployed into a running container; the request's part and what runs it must stand in one statement.",
			Needs:       need, check: commandPages,
		},
		{
			ID: "file-locked-many", Title: "Many files were replaced by ones with one more ending", Severity: verdict.High, Technique: "T1486",
			Rationale:   "Encryption for ransom writes each file anew under its name and an ending of its own, removes the old one, and leaves a note.",
			FalseAlarms: "Compression, rotation, backups and editors add endings too: theirs are left out. Without a note it is graded medium.",
			Needs:       []Fact{Inventory}, check: lockedFiles,
		},
		{
			ID: "file-steers-node", Title: "A file by which the machine itself is steered was written through a mount", Severity: verdict.High, Technique: "T1611",
			Rationale:   "Scheduled tasks, services, keys and manifests of a machine that a container writes make the machine run what the container wants.",
			FalseAlarms: "Agents and installers whose purpose it is (network plug-ins, node set-up) do so at their start; later writes are told.",
			Needs:       []Fact{Inventory, Mounts}, check: nodeFiles,
		},
		{
			ID: "node-kernel-helper", Title: "The machine's kernel starts a program that lies in the container", Severity: verdict.Critical, Technique: "T1611",
			Rationale:   "The kernel starts the program for crashed processes and the one for missing modules as root of the machine. No set-up has them in a container's files.",
			FalseAlarms: "Crash handlers live in the machine's own files, also those that containers install there.",
			Needs:       []Fact{Node}, check: kernelHelper,
		},
		{
			ID: "file-program-in-memory-mount", Title: "A program lies in shared memory or on a writable mount", Severity: verdict.High, Technique: "T1564",
			Rationale:   "Under a read-only root these are the places where an intruder can put a program.",
			FalseAlarms: "Init containers copy tools to volumes before the container starts: noted as information.",
			Needs:       []Fact{Inventory, Mounts}, check: mountedPrograms,
		},
		{
			ID: "file-holds-environment", Title: "A file holds a process's environment, byte for byte or encoded", Severity: verdict.High, Technique: "T1074.001",
			Rationale:   "Environments hold secrets. A copy of /proc/PID/environ in a file was made to be taken away.",
			FalseAlarms: "Programs that save their environment write it as lines of text, not with the kernel's NUL bytes.",
			Needs:       []Fact{Inventory, Processes, Environments}, check: holdsEnvironment,
		},
		cutLogsRule,
		namesPeerRule,
		{
			ID: "file-rights-changed", Title: "A file of the image changed its owner or mode", Severity: verdict.Low, Technique: "T1222.002",
			Rationale:   "Rights that the image did not give.",
			FalseAlarms: "Entry points that adjust the owner of their data: told once, for all such files.",
			Needs:       need, check: rightsChanged,
		},
		{
			ID: "file-data-changed", Title: "Data files differ from the image", Severity: verdict.Info, Technique: "",
			Rationale:   "Applications write caches, logs, pid files and data: normal, and worth knowing.",
			FalseAlarms: "It is information and never weighs.",
			Needs:       need, check: dataChanged,
		},
	}
}

// codeFile matches files that interpreters load as code.
var codeFile = regexp.MustCompile(`(?i)[.](py|pth|js|mjs|cjs|node|rb|php|phtml|pl|pm|lua|jar|war|jsp|class|so([.][0-9.]+)?|dll|wasm|sh)$`)

// cached matches compiled forms that interpreters write beside their sources.
var cached = regexp.MustCompile(`/__pycache__/[^/]+[.]pyc$|/[.]cache/|[.](pyo|jsa)$`)

type setting struct {
	pattern  *regexp.Regexp
	severity verdict.Severity
	tech     string
	what     string
	early    bool // entry points and runtimes do this at start
}

// settings are files that steer more than themselves: what a change means.
var settings = []setting{
	{regexp.MustCompile(`^/etc/ld[.]so[.]preload$`), verdict.High, "T1574.006", "names libraries that every program loads", false},
	{regexp.MustCompile(`^/etc/ld[.]so[.](conf|cache)$|^/etc/ld[.]so[.]conf[.]d/`), verdict.Medium, "T1574.006", "steers where libraries come from", true},
	{regexp.MustCompile(`/[.]ssh/authorized_keys2?$`), verdict.High, "T1098.004", "lets keys log in", true},
	{regexp.MustCompile(`^/etc/(passwd|shadow|group|gshadow|sudoers|doas[.]conf)$|^/etc/sudoers[.]d/`), verdict.Medium, "T1098", "says who is who and who may become root", true},
	{regexp.MustCompile(`^/etc/(ssl|pki|ca-certificates)/|^/usr(/local)?/share/ca-certificates/|/cacerts$|/certifi/cacert[.]pem$`), verdict.Medium, "T1553.004", "says whose certificates are trusted", true},
	{regexp.MustCompile(`^/etc/(cron|anacron|at[.])|^/var/spool/(cron|at)|^/etc/periodic/`), verdict.High, "T1053.003", "starts programs at set times", true},
	{regexp.MustCompile(`^/etc/(init[.]d|rc[^/]*[.]d|systemd|s6|service|runit)/|^/(usr/)?lib/systemd/|^/etc/(inittab|rc[.]local)$`), verdict.Medium, "T1543", "starts programs", true},
	{regexp.MustCompile(`^/etc/(pam[.]d|security)/|^/etc/(pam[.]conf|nsswitch[.]conf)$`), verdict.Medium, "T1556.003", "says how users are known", true},
	{regexp.MustCompile(`^/etc/(profile|environment|bash[.]bashrc)$|^/etc/profile[.]d/|/[.](bashrc|bash_profile|profile|zshrc)$`), verdict.Medium, "T1546.004", "is run by each shell", true},
	{regexp.MustCompile(`/(sitecustomize|usercustomize)[.]py$|/(site|dist)-packages/[^/]+[.]pth$`), verdict.High, "T1546", "is run by each Python program", false},
	{regexp.MustCompile(`^/etc/gconv|/gconv-modules([.]cache|[.]d/.*)?$`), verdict.High, "T1574", "names modules that programs load", false},
	{regexp.MustCompile(`^/(usr/lib|etc)/ssl/openssl[.]cnf$`), verdict.Medium, "T1574", "names engines that programs load", true},
}

// perRule bounds how many hits of one kind are told one by one.
const perRule = 40

// changedAt is when a path came to be what it is, as far as the kernel's own times say: birth in the writable layer, else the
// last change of the inode. A modification time is whatever its owner last set.
func changedAt(c *inventory.Change) int64 {
	switch {
	case c.Whiteout != nil:
		return cmp.Or(c.Whiteout.Ctime, c.Whiteout.Btime)
	case c.After == nil:
		return 0
	case c.Kind == inventory.Added:
		return cmp.Or(c.After.Btime, c.After.Ctime, c.After.Mtime)
	}
	return cmp.Or(c.After.Mtime, c.After.Ctime)
}

func cites(c *inventory.Change) []verdict.Citation {
	var out []verdict.Citation
	for _, r := range []*inventory.Row{c.After, c.Whiteout, c.Before} {
		if r != nil {
			out = append(out, r.Cite)
		}
	}
	return out
}

func (f *Facts) fileCites(c *inventory.Change) []verdict.Citation {
	out := cites(c)
	if c.After != nil && c.After.Artifact != "" && c.After.Type == record.TypeFile {
		if raw, err := record.Unescape(c.After.Artifact); err == nil {
			if x, ok := f.Cite(raw, 0, 0); ok {
				out = append(out, x)
			}
		}
	}
	return out
}

// rowCites are a row's place, and the file's content if it was kept.
func (f *Facts) rowCites(r *File) []verdict.Citation {
	raw, err := record.Unescape(r.Artifact)
	if err != nil {
		raw = ""
	}
	return f.withArtifact(r.Cite, raw)
}

// capped counts hits and tells the rest in one line.
type capped struct {
	a     *Answer
	f     *Facts
	n     int
	first *inventory.Change
}

func (k *capped) hit(c *inventory.Change, f Finding) {
	k.n++
	if k.n > perRule {
		if k.first == nil {
			k.first = c
		}
		return
	}
	f.Path, f.When, f.Citations = c.Path, changedAt(c), append(k.f.fileCites(c), f.Citations...)
	if c.After != nil {
		f.SHA256 = c.After.SHA256
	}
	k.a.hit(f)
}

func (k *capped) rest(sev verdict.Severity, what string) {
	if k.first == nil {
		return
	}
	k.a.hit(Finding{Finding: verdict.Finding{Severity: sev, Statement: fmt.Sprintf("%d more %s, the first %s", k.n-perRule, what, say(k.first.Path)),
		Citations: cites(k.first)}, Path: k.first.Path, When: changedAt(k.first)})
}

// program says what kind of executable a row is: "ELF", "script", or "" for data.
func program(r *inventory.Row) string {
	switch {
	case r == nil || r.Type != record.TypeFile:
		return ""
	case isELF(r.Magic):
		return "ELF"
	case isScript(r.Magic) && r.Mode&0o111 != 0:
		return "script"
	}
	return ""
}

func has(c *inventory.Change, kinds ...inventory.Kind) bool {
	for _, k := range kinds {
		if c.Is(k) {
			return true
		}
	}
	return false
}

func foreignFiles(f *Facts, a *Answer) {
	k := capped{a: a, f: f}
	for i := range f.Files.Changes {
		c := &f.Files.Changes[i]
		if c.Runtime || !has(c, inventory.Added, inventory.Replaced) || c.After == nil {
			continue
		}
		kind := program(c.After)
		if kind == "" {
			if c.After.Error != "" && c.After.Magic == nil && c.After.Mode&0o111 != 0 && c.After.Type == record.TypeFile {
				a.blind("what "+say(c.Path)+" is", c.After.Error)
			}
			continue
		}
		if at := f.Files.Image[c.After.SHA256]; at != "" {
			k.hit(c, Finding{Finding: verdict.Finding{Severity: verdict.Low, Statement: say(c.Path) + " is a copy of the image's own " + say(at)}})
			continue
		}
		fd := Finding{Foreign: true}
		switch {
		case kind == "script":
			fd.Severity = verdict.Medium
			fd.Statement = say(c.Path) + " is a script made executable, and the image does not hold it"
		case f.unpackedLibrary(c.After):
			fd.Severity, fd.Foreign = verdict.Low, false
			fd.Statement = say(c.Path) + " is a library that the Java program unpacked for itself"
		case f.crashed(a, c.After, &fd):
		case c.After.Mode&0o111 == 0:
			fd.Severity = verdict.Medium
			fd.Statement = say(c.Path) + " is an ELF file, not made executable, and the image does not hold it"
		default:
			fd.Statement = say(c.Path) + " is an ELF executable (mode " + fmt.Sprintf("%04o", c.After.Mode) + "), and the image does not hold it"
		}
		fd.Statement += timestomped(c.After)
		k.hit(c, fd)
	}
	k.rest(verdict.High, "programs that the image does not hold")
}

// timestomped notes a modification time long before the file was born here. Copying with times kept does this too, so it
// never weighs by itself.
func timestomped(r *inventory.Row) string {
	if r.Btime != 0 && r.Mtime != 0 && r.Btime-r.Mtime > int64(24*time.Hour) {
		return "; its modification time, " + Time(r.Mtime) + ", lies before its birth and was set by hand or carried over"
	}
	return ""
}

// unpackedLibrary: a shared library in a temporary folder that a running Java program of the image maps and that is taken for its own; once
// nothing runs any more, one that is made for Java, where the image has it.
func (f *Facts) unpackedLibrary(r *inventory.Row) bool {
	if !under(string(r.Path), "/tmp", "/var/tmp") || !f.sharedLibrary(r) {
		return false
	}
	if f.lacks(Processes) {
		raw, err := record.Unescape(r.Artifact)
		return err == nil && f.hasJava() && madeForJava(f.Read(raw, 0, maxArchive))
	}
	for i := range f.Processes {
		p := &f.Processes[i]
		if !isJVM(p) {
			continue
		}
		for j := range p.Maps {
			if p.Maps[j].Path == r.Path {
				return f.nativeOfJava(p, r)
			}
		}
	}
	return false
}

// sharedLibrary reports whether a kept ELF file is a library: of type DYN, with no interpreter, and not a static executable
// that can be placed anywhere (DF_1_PIE).
func (f *Facts) sharedLibrary(r *inventory.Row) bool {
	raw, err := record.Unescape(r.Artifact)
	if err != nil || raw == "" || f.Read == nil {
		return false
	}
	e, err := elf.NewFile(bytes.NewReader(f.Read(raw, 0, 32<<20)))
	if err != nil || e.Type != elf.ET_DYN {
		return false
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return false
		}
	}
	flags, err := e.DynValue(elf.DT_FLAGS_1)
	return err == nil && (len(flags) == 0 || flags[0]&uint64(elf.DF_1_PIE) == 0)
}

func replacedFiles(f *Facts, a *Answer) {
	k := capped{a: a, f: f}
	for i := range f.Files.Changes {
		c := &f.Files.Changes[i]
		if c.Runtime || c.Before == nil || c.Before.Type != record.TypeFile || cached.MatchString(c.Path) {
			continue
		}
		was, code := program(c.Before), codeFile.MatchString(c.Path)
		if was == "" && !code {
			continue
		}
		what := "the image's program "
		switch {
		case code && was == "":
			what = "the image's code file "
		case isELF(c.Before.Magic) && code:
			what = "the image's library "
		}
		switch {
		case c.Kind == inventory.Deleted:
			k.hit(c, Finding{Finding: verdict.Finding{Severity: verdict.Medium, Technique: "T1070.004", Statement: what + say(c.Path) + " was deleted"}})
		case has(c, inventory.Changed, inventory.Replaced):
			fd := Finding{Foreign: true, Finding: verdict.Finding{Severity: verdict.High, Statement: what + say(c.Path) + " has other content than in the image"}}
			if by := f.announced(c.Path); by != "" {
				fd.Severity, fd.Foreign = verdict.Low, false
				fd.Statement += ", at a place that the container's " + say(by) + " names for updates"
			} else if was == "" && !f.settled(changedAt(c)) {
				// Entry points that fill in configuration do it at start.
				fd.Severity, fd.Foreign = verdict.Medium, false
			}
			k.hit(c, fd)
		case c.Is(inventory.Unknown):
			a.blind("whether "+say(c.Path)+" is the image's", "its content could not be read")
		}
	}
	k.rest(verdict.High, "programs and libraries of the image were replaced or deleted")
}

func gainedPrivilege(f *Facts, a *Answer) {
	k := capped{a: a, f: f}
	for i := range f.Files.Changes {
		c := &f.Files.Changes[i]
		if c.After == nil || c.After.Type != record.TypeFile || !has(c, inventory.Setuid, inventory.Caps) {
			continue
		}
		if !c.Is(inventory.Setuid) && len(c.After.Xattrs["security.capability"]) == 0 {
			continue // lost, not gained
		}
		what := fmt.Sprintf(" is setuid or setgid (mode %04o, owner %d)", c.After.Mode, c.After.UID)
		if !c.Is(inventory.Setuid) {
			what = " has file capabilities"
		}
		k.hit(c, Finding{Foreign: program(c.After) != "", Finding: verdict.Finding{Statement: say(c.Path) + what + ", which the image did not give"}})
	}
	k.rest(verdict.High, "files gained setuid, setgid or capabilities")
}

func configuration(f *Facts, a *Answer) {
	k := capped{a: a, f: f}
	for i := range f.Files.Changes {
		c := &f.Files.Changes[i]
		if c.Runtime || c.After != nil && c.After.Type == record.TypeDir || !has(c, inventory.Added, inventory.Changed, inventory.Replaced) {
			continue
		}
		for _, s := range settings {
			if !s.pattern.MatchString(c.Path) {
				continue
			}
			if c.After != nil && c.After.Type == record.TypeFile && c.After.Size == 0 {
				break // says nothing
			}
			fd := Finding{Foreign: true, Finding: verdict.Finding{Severity: s.severity, Technique: s.tech, Statement: say(c.Path) + " was " + string(c.Kind) + "; it " + s.what}}
			if s.early && !f.settled(changedAt(c)) {
				fd.Severity, fd.Foreign = verdict.Low, false
				fd.Statement += "; it happened by the time the container started, as entry points and runtimes do"
			}
			k.hit(c, fd)
			break
		}
	}
	f.startHooks(a)
	k.rest(verdict.Medium, "such files were changed")
}

func mountedPrograms(f *Facts, a *Answer) {
	n := 0
	for i := range f.Files.Mounted {
		r := &f.Files.Mounted[i]
		m := f.mountOf(string(r.Path))
		if m == nil || !m.Writable || m.Kind == "runtime" || m.Kind == "kernel" || n >= perRule {
			continue
		}
		kind := program(r)
		if kind == "" && !isELF(r.Magic) {
			continue
		}
		born := cmp.Or(r.Btime, r.Ctime)
		fd := Finding{Path: string(r.Path), SHA256: r.SHA256, When: born, Foreign: true}
		fd.Citations = f.rowCites(r)
		switch {
		case f.Files.Image[r.SHA256] != "" && r.SHA256 != "":
			fd.Severity, fd.Foreign = verdict.Low, false
			fd.Statement = say(r.Path) + " is a copy of the image's own " + say(f.Files.Image[r.SHA256])
		case f.crashed(a, r, &fd):
		case m.FSType == "tmpfs" && kind == "ELF":
			fd.Statement = say(r.Path) + " is an ELF file that lies in memory, on " + say(m.Point)
			if f.unpackedLibrary(r) {
				fd.Severity, fd.Foreign = verdict.Low, false
			}
		case m.FSType == "tmpfs":
			fd.Severity = verdict.Medium
			fd.Statement = say(r.Path) + " is a script that lies in memory, on " + say(m.Point)
		case f.afterStart(born):
			fd.Severity = verdict.Medium
			fd.Statement = say(r.Path) + " is a program that came onto the mount at " + say(m.Point) + " after the container had started"
		default:
			fd.Severity, fd.Foreign = verdict.Info, false
			fd.Statement = say(r.Path) + " is a program on the mount at " + say(m.Point) + ", older than the container's start"
		}
		n++
		a.hit(fd)
	}
}

func holdsEnvironment(f *Facts, a *Answer) {
	for _, path := range slices.Sorted(maps.Keys(f.Files.Staged)) {
		s := f.Files.Staged[path]
		p := f.Process(s.PID)
		if p == nil {
			continue
		}
		cites := append(f.rowCites(&s.File), f.withArtifact(p.Cite, p.Dir+"/environ")...)
		form := ""
		if s.Form != "" {
			form = " in " + s.Form
		}
		a.hit(Finding{
			Finding: verdict.Finding{Statement: say(path) + " is a copy of the environment of " + Describe(p) + form, Citations: cites},
			Path:    path, SHA256: s.File.SHA256, When: cmp.Or(s.File.Btime, s.File.Ctime), Foreign: true,
		})
	}
}

func rightsChanged(f *Facts, a *Answer) {
	var first *inventory.Change
	n := 0
	for i := range f.Files.Changes {
		c := &f.Files.Changes[i]
		if c.Runtime || c.Before == nil || c.After == nil || c.Is(inventory.Changed) || !has(c, inventory.Reowned, inventory.Remoded) {
			continue
		}
		if c.After.Type == record.TypeDir && f.mountOf(c.Path) != nil {
			continue
		}
		if first == nil {
			first = c
		}
		n++
	}
	if first == nil {
		return
	}
	words := fmt.Sprintf("%s has mode %04o and owner %d:%d; in the image it has %04o and %d:%d", say(first.Path), first.After.Mode, first.After.UID,
		first.After.GID, first.Before.Mode, first.Before.UID, first.Before.GID)
	if n > 1 {
		words += fmt.Sprintf(" (and %d more files changed rights)", n-1)
	}
	a.hit(Finding{Finding: verdict.Finding{Statement: words, Citations: cites(first)}, Path: first.Path, When: cmp.Or(first.After.Ctime)})
}

func dataChanged(f *Facts, a *Answer) {
	type group struct {
		n     int
		first *inventory.Change
	}
	groups := map[inventory.Kind]*group{}
	order := []inventory.Kind{inventory.Added, inventory.Changed, inventory.Deleted, inventory.Replaced}
	for i := range f.Files.Changes {
		c := &f.Files.Changes[i]
		if c.Runtime || program(c.After) != "" || program(c.Before) != "" || c.After != nil && c.After.Type == record.TypeDir && c.Kind == inventory.Added {
			continue
		}
		g := groups[c.Kind]
		if g == nil {
			g = &group{first: c}
			groups[c.Kind] = g
		}
		g.n++
	}
	for _, kind := range order {
		g := groups[kind]
		if g == nil {
			continue
		}
		words := "data file " + say(g.first.Path) + " was " + string(kind)
		if g.n > 1 {
			words = fmt.Sprintf("%d data files were %s, the first %s", g.n, kind, say(g.first.Path))
		}
		a.hit(Finding{Finding: verdict.Finding{Statement: words, Citations: cites(g.first)}, Path: g.first.Path, When: changedAt(g.first)})
	}
}
