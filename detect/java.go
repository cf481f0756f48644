package detect

import (
	"archive/zip"
	"bytes"
	"cmp"
	"debug/elf"
	"hash/crc32"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

func javaRules() []Rule {
	return []Rule{{
		ID: "process-agent-foreign", Title: "A Java program has an agent open that the image does not hold", Severity: verdict.Medium, Technique: "T1055",
		Rationale: "An agent may rewrite every class of the program that loads it. Agents come with the image; one that lies in the writable layer, in memory, or is deleted was loaded into the running program.",
		FalseAlarms: "An archive whose like (size and checksum) another archive of the program holds was unpacked from it: no finding. Profilers that an administrator attaches are told all the same. " +
			"Archives that are no agents, which applications unpack and download, are no finding.",
		Needs: []Fact{Processes, Inventory, Baseline}, check: foreignAgents,
	}}
}

func isArchive(magic []byte) bool { return len(magic) >= 4 && string(magic[:4]) == "PK\x03\x04" }

// maxArchive bounds what of an archive is read.
const maxArchive = 64 << 20

func foreignAgents(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		if !isJVM(p) || f.otherRoot(p) {
			continue
		}
		done := map[record.Name]bool{}
		for j := range p.FDs {
			d := &p.FDs[j]
			if d.Kind != "file" && d.Kind != "memfd" || done[d.Target] {
				continue
			}
			done[d.Target] = true
			f.agent(a, p, d)
		}
	}
}

func (f *Facts) agent(a *Answer, p *Process, d *record.FD) {
	name := strings.TrimSuffix(string(d.Target), " (deleted)")
	artifact, when := d.Artifact, int64(0)
	cites := []verdict.Citation{p.Cite}
	switch {
	case d.Deleted || isMemfd(name):
		if !isArchive(d.Magic) {
			return
		}
	default:
		r, ok := f.Files.ByPath[name]
		if !ok || !isArchive(r.Magic) || r.Tree != record.TreeRoot || r.Layer != record.WritableLayer || r.Mount != "" && !f.afterStart(cmp.Or(r.Btime, r.Ctime)) {
			return
		}
		raw, err := record.Unescape(r.Artifact)
		if err != nil {
			raw = ""
		}
		artifact, when = raw, cmp.Or(r.Btime, r.Ctime)
		cites = append(f.rowCites(&r), cites...)
	}
	if artifact == "" {
		if !d.Deleted {
			a.blind("whether "+say(name)+" is an agent", "its content was not kept")
		}
		return
	}
	b := f.Read(artifact, 0, maxArchive)
	class := agentClass(b)
	if class == "" || f.unpacked(p, b) {
		return
	}
	if d.Deleted || isMemfd(name) {
		if c, ok := f.Cite(artifact, 0, 0); ok {
			cites = append(cites, c)
		}
	}
	what := ", which the image does not hold"
	if d.Deleted {
		what = ", which was deleted"
	}
	if isMemfd(name) {
		name, what = memfdName(name), ", which exists in memory alone"
	}
	a.hit(Finding{
		Finding: verdict.Finding{Citations: cites, Statement: Describe(p) + " has the agent " + say(name) + " open" + what + "; its class is " + say(class)},
		PID:     p.PID, Path: name, SHA256: d.SHA256, When: when, Foreign: true,
	})
}

// agentLine matches the line of an archive's manifest that makes it an agent. See java.lang.instrument.
var agentLine = regexp.MustCompile(`(?mi)^(Agent-Class|Premain-Class|Launcher-Agent-Class): *([^\r\n]+)`)

// agentClass is the class that makes an archive an agent, "" if it is none.
func agentClass(b []byte) string {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return ""
	}
	for _, e := range z.File {
		if !strings.EqualFold(e.Name, "META-INF/MANIFEST.MF") {
			continue
		}
		r, err := e.Open()
		if err != nil {
			return ""
		}
		text, _ := io.ReadAll(io.LimitReader(r, 1<<20)) // what could be read of it is looked at
		r.Close()
		if m := agentLine.FindSubmatch(text); m != nil {
			return string(m[2])
		}
		return ""
	}
	return ""
}

// unpacked reports whether a file's content is that of a member of an archive that a Java program has open.
func (f *Facts) unpacked(p *Process, content []byte) bool {
	s := f.spaceOf(p)
	if s == nil || len(content) == 0 {
		return false
	}
	return f.archivesOf(p, s).members[member{crc32.ChecksumIEEE(content), uint32(len(content))}]
}

// nativeOfJava reports whether a library that a Java program mapped from a scratch folder is taken for one that it unpacked for itself:
// it came from an archive, or it is made for Java, or it is loaded by a library that loads others. Where the library was not kept it is.
func (f *Facts) nativeOfJava(p *Process, r *File) bool {
	raw, err := record.Unescape(r.Artifact)
	if err != nil || raw == "" {
		return true
	}
	b := f.Read(raw, 0, maxArchive)
	if len(b) == 0 || f.unpacked(p, b) {
		return true
	}
	if slices.ContainsFunc(p.Maps, func(m Mapping) bool { return dispatcher.MatchString(string(m.Path)) }) {
		return true
	}
	return madeForJava(b)
}

// madeForJava reports whether a library has functions that a Java virtual machine calls. One that can't be read is given the benefit of
// the doubt.
func madeForJava(b []byte) bool {
	e, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return true
	}
	symbols, err := e.DynamicSymbols()
	return err == nil && slices.ContainsFunc(symbols, func(s elf.Symbol) bool {
		return s.Section != elf.SHN_UNDEF && (strings.HasPrefix(s.Name, "JNI_On") || strings.HasPrefix(s.Name, "Java_") || strings.HasPrefix(s.Name, "JavaCritical_"))
	})
}

// hasJava reports whether the image holds a Java virtual machine.
func (f *Facts) hasJava() bool {
	for _, path := range f.Files.Image {
		if strings.HasSuffix(path, "/libjvm.so") {
			return true
		}
	}
	return false
}

// dispatcher matches libraries by which Java programs load others that are not made for Java.
var dispatcher = regexp.MustCompile(`/(jna-?[0-9]+[^/]*|libjnidispatch[^/]*|libjffi[^/]*|jffi[0-9]+[^/]*|libgluegen[^/]*|libjavacpp[^/]*|libjni[a-z]+[^/]*)([.]so|[.]tmp)[^/]*$`)
