package detect

import (
	"regexp"
	"strings"

	"github.com/sherd-forensics/sherd/verdict"
)

func evaluatedRules() []Rule {
	return []Rule{
		{
			ID: "memory-script-evaluated", Deeper: true, Title: "A program in JavaScript evaluated a text that reaches for commands", Severity: verdict.High, Technique: "T1059.007",
			Rationale: "V8 keeps the source of each script that it compiled. One that came from no file but from a string, and that hooks into requests or starts programs, is how code stays in an application without a file.",
			FalseAlarms: "Templates, validators and loggers are compiled from strings too: only texts that start programs, load machine code or evaluate further text count. " +
				"Bundles whose modules are evaluated one by one name their origin: graded low. A text that a client merely sent was never compiled and is no script of V8's.",
			Needs: []Fact{Processes, Memory}, check: evaluatedScripts,
		},
		{
			ID: "memory-code-evaluated", Deeper: true, Title: "A program in Python evaluated a text that reaches for commands", Severity: verdict.High, Technique: "T1059.006",
			Rationale: "CPython keeps the names in each piece of code and that it came from no file. Code from a string that starts programs, or that hooks into requests and evaluates what they hold, is how an intruder lives in an application.",
			FalseAlarms: "Libraries make classes and functions of strings (named tuples, data classes, templates): theirs start no programs. Code that the interpreter's own arguments hold is the operator's. " +
				"A text that a client merely sent was never compiled.",
			Needs: []Fact{Processes, Memory}, check: evaluatedCode,
		},
		{
			ID: "memory-class-without-file", Deeper: true, Title: "A Java program runs a class that no archive holds and that starts programs", Severity: verdict.High, Technique: "T1620",
			Rationale: "Classes come from archives, whose directories a Java virtual machine keeps in memory. One that was defined from bytes alone, and that starts programs or defines further classes, came in afterwards.",
			FalseAlarms: "Proxies, lambdas, expressions and pages are made into classes at run time, but start no programs. Engines for scripts that users write may: look at the class. " +
				"A class that a client merely sent was never loaded: its name is no symbol of the virtual machine's.",
			Needs: []Fact{Processes, Memory, Inventory}, check: classesWithoutFile,
		},
	}
}

var (
	// startsPrograms matches what a script in Node needs to start a program or to load machine code, or to get there from where it has no
	// access to modules.
	startsPrograms = regexp.MustCompile(`child_process|\bprocess\s*[.]\s*(binding|_linkedBinding|dlopen)\b|\bmainModule\b|\b(execSync|spawnSync|execFileSync)\s*\(`)
	// runsText matches evaluation of further text.
	runsText = regexp.MustCompile(`\beval\s*\(|\bnew\s+Function\s*\(|\bvm\s*[.]\s*runIn\w*\(|\bcompileFunction\s*\(`)
	// takesRequests matches hooks into a server and what a request holds.
	takesRequests = regexp.MustCompile(`\b(removeAllListeners|prependListener|_getActiveHandles|_getActiveRequests|createServer)\b|[.]\s*on(ce)?\s*\(\s*['"\x60](request|upgrade|connection)['"\x60]|` +
		`\bprototype\s*[.]\s*emit\b|\b(req|request|ctx|msg)\s*[.]\s*(headers|query|body|cookies|params|url)\b|[.]\s*_events\s*[.]\s*request\b`)
	// bundled matches how tools name the modules that they evaluate.
	bundled = regexp.MustCompile(`^(webpack|webpack-internal|ng|vite|turbopack)(:|-)`)
	// asked matches names of scripts that Node's command line or its prompt was given, which its arguments show.
	asked = regexp.MustCompile(`^(\[eval\]|\[stdin\]|\[worker eval\]|REPL\d*)`)
)

// isNode: the engine is in the program itself or in a library of its name.
func isNode(p *Process) bool {
	if base := exeBase(p); base == "node" || base == "nodejs" {
		return true
	}
	for i := range p.Maps {
		if name := string(p.Maps[i].Path); strings.Contains(name, "/libnode.so") {
			return true
		}
	}
	return false
}

// memoryOf is a process's memory, or nil, with the reason noted.
func (f *Facts) memoryOf(a *Answer, p *Process, what string) *space {
	if f.noMaps(a, p) {
		return nil
	}
	s := f.spaceOf(p)
	if s == nil && p.State != "Z" && p.State != "X" {
		a.blind(what+" "+Describe(p)+" compiled", "its memory was not kept")
	}
	return s
}

func evaluatedScripts(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		if !isNode(p) || f.otherRoot(p) {
			continue
		}
		s := f.memoryOf(a, p, "which scripts")
		if s == nil {
			continue
		}
		scripts, whole := s.v8Scripts()
		switch {
		case !whole:
			a.blind("which scripts "+Describe(p)+" compiled", "its memory is larger than what is looked at")
		case len(scripts) == 0:
			a.blind("which scripts "+Describe(p)+" compiled", "its engine keeps them in a form that is not known")
		}
		for k := range scripts {
			f.evaluated(a, p, s, &scripts[k])
		}
	}
}

func (f *Facts) evaluated(a *Answer, p *Process, s *space, x *v8Script) {
	if !x.evaluated && placed(x.name) || asked.MatchString(x.name) && !x.evaluated {
		return
	}
	starts, runs, takes := startsPrograms.FindStringIndex(x.source), runsText.FindStringIndex(x.source), takesRequests.FindStringIndex(x.source)
	fd := Finding{PID: p.PID, Path: string(p.Exe.Path), Foreign: false}
	what := ""
	at := starts
	switch {
	case starts != nil && takes != nil:
		what = "takes what a request holds and reaches for other programs"
	case runs != nil && takes != nil:
		what, at = "takes what a request holds and evaluates further text", runs
	case starts != nil:
		fd.Severity, what = verdict.Medium, "reaches for other programs or machine code"
	default:
		return
	}
	if bundled.MatchString(x.sourceURL) {
		fd.Severity, what = verdict.Low, what+"; it calls itself "+say(x.sourceURL)
	}
	words := strings.Join(strings.Fields(x.source[max(0, at[0]-40):min(len(x.source), at[1]+80)]), " ")
	fd.Statement = Describe(p) + " compiled a script from a text that came from no file, which " + what + ": " + say(words)
	fd.Citations = append(s.cite(x.text, x.textLen), s.cite(x.addr, 8*v8Words)...)
	if len(fd.Citations) == 0 {
		return
	}
	a.hit(fd)
}
