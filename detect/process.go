package detect

import (
	"path"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

func processRules() []Rule {
	return []Rule{
		{
			ID: "process-foreign-program", Title: "A process runs a program that the image does not hold", Severity: verdict.Critical, Technique: "T1059",
			Rationale:   "An image is fixed and addressed by its content. A program that runs and is not in it came in afterwards.",
			FalseAlarms: "The runtime's own first stage in a memfd (told apart by its parent, age, sockets and build), an init mounted read-only, tools copied to a volume before the start, image files replaced while they run.",
			Needs:       []Fact{Processes}, check: foreignProgram,
		},
		{
			ID: "process-name-lies", Title: "A process goes by a name that is not its program's", Severity: verdict.High, Technique: "T1036.005",
			Rationale:   "Kernel threads have no executable and don't live in containers; a program named like one hides. A foreign program under another name hides too.",
			FalseAlarms: "Interpreters and scripts, symbolic links, programs that set their title: a different name alone is only noted, and only for foreign programs.",
			Needs:       []Fact{Processes}, check: nameLies,
		},
		{
			ID: "process-outside-cgroup", Title: "A process lives in the container's namespaces, but not in its cgroup", Severity: verdict.High, Technique: "T1611",
			Rationale:   "Processes of a container are born in its cgroup and can't leave it without privileges.",
			FalseAlarms: "Sidecars, the pod's pause process and debug containers share some namespaces and have a root of their own: noted as information.",
			Needs:       []Fact{Processes}, check: outsideCgroup,
		},
		{
			ID: "process-traced", Title: "A process is being traced", Severity: verdict.High, Technique: "T1055.008",
			Rationale:   "ptrace lets the tracer read and change all of a process. From inside a distroless container there is no honest debugger.",
			FalseAlarms: "A debugger or profiler outside the container, or in a container beside it: low, unless code in the traced memory is not its file's.",
			Needs:       []Fact{Processes}, check: traced,
		},
		{
			ID: "process-held-program", Title: "A program is held open in memory", Severity: verdict.High, Technique: "T1620",
			Rationale:   "A memfd with an executable in it is made to be run without a file. Held open it waits to be.",
			FalseAlarms: "The runtime's own first stage; memory files without an executable in them (shared buffers) don't count.",
			Needs:       []Fact{Processes}, check: heldProgram,
		},
		{
			ID: "process-deleted-program-open", Title: "A deleted executable file is held open", Severity: verdict.High, Technique: "T1070.004",
			Rationale:   "Deleting a program and keeping it open hides it from a look at the files.",
			FalseAlarms: "Rotated logs, temporary files and databases that are deleted while open are no executables and don't count.",
			Needs:       []Fact{Processes}, check: deletedProgramOpen,
		},
		turnedToolRule,
	}
}

func foreignProgram(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		o := f.originOf(p)
		if o.blind != "" && !f.Ended(p) {
			a.blind("the program of "+Describe(p), o.blind)
		}
		if o.words == "" {
			continue
		}
		cites := []verdict.Citation{p.Cite}
		if p.Exe.Artifact != "" {
			if c, ok := f.Cite(p.Exe.Artifact, 0, 0); ok {
				cites = append(cites, c)
			}
		}
		tech := "T1059"
		switch p.Exe.Origin {
		case record.ExeMemfd:
			tech = "T1620"
		case record.ExeDeleted:
			tech = "T1070.004"
		case record.ExeOutside:
			tech = "T1611"
		}
		if r, ok := f.Files.ByPath[string(p.Exe.Path)]; ok && r.Tree == record.TreeRoot {
			cites = append(cites, r.Cite)
		}
		a.hit(Finding{
			Finding: verdict.Finding{Severity: o.severity, Technique: tech, Statement: Describe(p) + " " + o.words, Citations: cites},
			PID:     p.PID, Path: ExeName(p), SHA256: p.Exe.SHA256, When: p.StartTime, Foreign: o.foreign,
		})
	}
}

func nameLies(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		if p.Exe.Path == "" || f.otherRoot(p) {
			continue // kernel threads of the host and dead processes have no executable to compare with
		}
		base := exeBase(p)
		arg0 := ""
		if len(p.Cmdline) > 0 {
			arg0 = string(p.Cmdline[0])
		}
		comm := string(p.Comm)
		finding := func(sev verdict.Severity, words string) {
			a.hit(Finding{Finding: verdict.Finding{Severity: sev, Statement: words, Citations: []verdict.Citation{p.Cite}},
				PID: p.PID, Path: string(p.Exe.Path), SHA256: p.Exe.SHA256, When: p.StartTime, Foreign: f.Foreign(p)})
		}
		switch {
		case kernelThread.MatchString(comm) && !strings.HasPrefix(base, clip15(comm)):
			finding(verdict.High, "process "+number(p)+` calls itself "`+say(p.Comm)+`" as a thread of the kernel would, but runs `+say(ExeName(p)))
		case kernelThread.MatchString(arg0) && !strings.HasPrefix(base, arg0) || bracketed(arg0):
			finding(verdict.High, "process "+number(p)+` shows the command line "`+say(arg0)+`" as a thread of the kernel would, but runs `+say(ExeName(p)))
		case f.Foreign(p) && p.Exe.Origin != record.ExeMemfd && !namedAfter(p, comm, base, arg0):
			finding(verdict.Medium, "process "+number(p)+` calls itself "`+say(p.Comm)+`", but runs `+say(ExeName(p)))
		}
	}
}

func bracketed(s string) bool {
	return len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']'
}

func clip15(s string) string { return s[:min(len(s), 15)] }

// namedAfter reports whether a comm is what execve would have made of the program, the script or the link that was run.
func namedAfter(p *Process, comm, base, arg0 string) bool {
	if strings.HasPrefix(base, comm) && (len(comm) >= 15 || comm == base) || clip15(path.Base(arg0)) == comm {
		return true
	}
	return interpreter.MatchString(base) && slices.ContainsFunc(p.Cmdline, func(s record.Name) bool { return clip15(path.Base(string(s))) == comm })
}

func outsideCgroup(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		var sev verdict.Severity
		var words string
		switch {
		case p.Relation == record.Descendant:
			sev, words = verdict.High, " is a child of the container's processes that has left its namespaces and its cgroup"
		case p.Relation != record.InNamespaces:
			continue
		case f.otherRoot(p):
			sev, words = verdict.Info, " shares namespaces with the container and has a root of its own, as sidecars and debug containers do"
		case f.init == nil || p.Namespaces["mnt"] == 0:
			a.blind("whose "+Describe(p)+" is", "its or the first process's mount namespace is unknown")
			continue
		default:
			sev, words = verdict.Medium, " lives in the container's namespaces, but its cgroup does not hold it: somebody on the host entered, or something got around the cgroup"
		}
		a.hit(Finding{Finding: verdict.Finding{Severity: sev, Statement: Describe(p) + words, Citations: []verdict.Citation{p.Cite}},
			PID: p.PID, Path: string(p.Exe.Path), When: p.StartTime})
	}
}

func traced(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		if p.TracerPID == 0 {
			continue
		}
		cites := []verdict.Citation{p.Cite}
		sev, who := verdict.Low, "process "+itoa(p.TracerPID)+" of the host, outside of the container"
		if t := f.byPID[p.TracerPID]; t != nil {
			cites = append(cites, t.Cite)
			who = Describe(t)
			if !f.otherRoot(t) {
				sev = verdict.High
			}
		} else if s := f.Sharer(p.TracerPID); s != nil {
			cites = append(cites, s.Cite)
			who = DescribeSharer(s)
		}
		if f.overwritten(p) {
			sev = verdict.High
		}
		a.hit(Finding{Finding: verdict.Finding{Severity: sev, Statement: Describe(p) + " is traced by " + who, Citations: cites},
			PID: p.PID, Path: string(p.Exe.Path), When: 0, Foreign: f.Foreign(p)})
	}
}

func heldProgram(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		if f.otherRoot(p) || f.bornOutside(p) && p.Exe.Origin == record.ExeMemfd && f.runcInit(p) != no {
			continue
		}
		f.noFDs(a, p)
		seen := map[[2]uint64]bool{}
		for j := range p.FDs {
			d := &p.FDs[j]
			if d.Kind != "memfd" && !isMemfd(string(d.Target)) || seen[[2]uint64{d.Dev, d.Ino}] {
				continue
			}
			if len(d.Magic) == 0 {
				if d.Error != "" {
					a.blind("memory file "+itoa(d.N)+" of "+Describe(p), d.Error)
				}
				continue
			}
			if !isELF(d.Magic) && !isScript(d.Magic) || d.Ino != 0 && d.Ino == p.Exe.Ino && d.Dev == p.Exe.Dev {
				continue
			}
			if d.Ino != 0 {
				seen[[2]uint64{d.Dev, d.Ino}] = true
			}
			what := "an executable (ELF)"
			if isScript(d.Magic) {
				what = "a script"
			}
			a.hit(Finding{
				Finding: verdict.Finding{Statement: Describe(p) + " holds " + what + " in memory, " + say(memfdName(string(d.Target))) +
					", as descriptor " + itoa(d.N), Citations: f.withArtifact(p.Cite, d.Artifact)},
				PID: p.PID, Path: memfdName(string(d.Target)), SHA256: d.SHA256, Foreign: true,
			})
		}
	}
}

// noFDs notes processes whose descriptors could not be listed.
func (f *Facts) noFDs(a *Answer, p *Process) {
	for _, e := range p.Errors {
		if why, ok := strings.CutPrefix(e, "fd: "); ok {
			a.blind("open files of "+Describe(p), why)
		}
	}
}

// withArtifact cites a row and, where it was kept, the thing itself.
func (f *Facts) withArtifact(c verdict.Citation, artifact string) []verdict.Citation {
	out := []verdict.Citation{c}
	if artifact != "" && f.Cite != nil {
		if x, ok := f.Cite(artifact, 0, 0); ok {
			out = append(out, x)
		}
	}
	return out
}

func deletedProgramOpen(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		if f.otherRoot(p) {
			continue
		}
		f.noFDs(a, p)
		for j := range p.FDs {
			d := &p.FDs[j]
			if !d.Deleted || d.Kind != "file" || isMemfd(string(d.Target)) || !isELF(d.Magic) || d.Ino != 0 && d.Ino == p.Exe.Ino {
				continue
			}
			if _, ok := f.Files.Image[d.SHA256]; ok && d.SHA256 != "" {
				continue
			}
			a.hit(Finding{
				Finding: verdict.Finding{Statement: Describe(p) + " holds the deleted executable " + say(strings.TrimSuffix(string(d.Target), " (deleted)")) + " open",
					Citations: f.withArtifact(p.Cite, d.Artifact)},
				PID: p.PID, Path: strings.TrimSuffix(string(d.Target), " (deleted)"), SHA256: d.SHA256, Foreign: true,
			})
		}
	}
}
