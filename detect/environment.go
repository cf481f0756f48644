package detect

import (
	"cmp"
	"regexp"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

func environmentRules() []Rule {
	return []Rule{{
		ID: "environment-injects-code", Title: "A process's environment makes it load code that its image does not ask for", Severity: verdict.High, Technique: "T1574.006",
		Rationale:   "The dynamic loader and interpreters load what these variables name into every program started with them.",
		FalseAlarms: "Variables that image or runtime set to the same value, and paths into the unchanged image, are the operator's: the first are no finding, the second are graded low.",
		Needs:       []Fact{Processes, Environments, Config}, check: injecting,
	}}
}

// injectors are variables through which code gets into a program, with how a hit is graded when the value leads out of the image.
var injectors = map[string]verdict.Severity{
	"LD_PRELOAD": verdict.High, "LD_AUDIT": verdict.High, "LD_LIBRARY_PATH": verdict.Medium,
	"PYTHONSTARTUP": verdict.Medium, "PYTHONPATH": verdict.Medium, "PYTHONHOME": verdict.Medium, "PYTHONINSPECT": verdict.Low,
	"NODE_OPTIONS": verdict.Medium, "NODE_PATH": verdict.Medium,
	"JAVA_TOOL_OPTIONS": verdict.Medium, "_JAVA_OPTIONS": verdict.Medium, "JDK_JAVA_OPTIONS": verdict.Medium, "CLASSPATH": verdict.Medium,
	"PERL5OPT": verdict.Medium, "PERL5LIB": verdict.Medium, "RUBYOPT": verdict.Medium, "RUBYLIB": verdict.Medium,
	"BASH_ENV": verdict.Medium, "ENV": verdict.Low, "PROMPT_COMMAND": verdict.Medium,
	"GCONV_PATH": verdict.High, "OPENSSL_CONF": verdict.Medium, "OPENSSL_ENGINES": verdict.Medium, "OPENSSL_MODULES": verdict.Medium,
	"DOTNET_STARTUP_HOOKS": verdict.Medium, "CORECLR_PROFILER_PATH": verdict.Medium, "PHP_INI_SCAN_DIR": verdict.Medium,
}

var absolutePath = regexp.MustCompile(`/[^\s:;,="']+`)

func injecting(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		if f.otherRoot(p) || f.runcInit(p) == yes {
			continue
		}
		if !p.HasEnv {
			if !f.Ended(p) {
				a.blind("environment of "+Describe(p), "it was not collected")
			}
			continue
		}
		for _, v := range p.Env {
			worst, ok := injectors[v.Name]
			if !ok || strings.TrimSpace(v.Value) == "" {
				continue
			}
			if set, ok := f.Config.Env[v.Name]; ok && set == v.Value {
				continue
			}
			sev, what := f.injected(v.Value, worst)
			a.hit(Finding{
				Finding: verdict.Finding{Severity: sev, Citations: []verdict.Citation{v.Cite, p.Cite},
					Statement: Describe(p) + " runs with " + v.Name + "=" + say(v.Value) + ", which neither image nor runtime set" + what},
				PID: p.PID, Path: string(p.Exe.Path), When: p.StartTime, Foreign: f.Foreign(p),
			})
		}
	}
}

// injected grades a value by where it leads: into the image (low), or to files that the image does not hold.
func (f *Facts) injected(value string, worst verdict.Severity) (verdict.Severity, string) {
	if f.lacks(Inventory) || f.lacks(Baseline) {
		return verdict.Low, ""
	}
	for _, path := range absolutePath.FindAllString(value, 64) {
		path = strings.TrimSuffix(path, "/")
		if under(path, "/tmp", "/var/tmp", "/dev/shm", "/run", "/proc") {
			return worst, "; it leads to " + say(path) + ", where anybody may write"
		}
		for i := range f.Files.Changes {
			c := &f.Files.Changes[i]
			if c.After == nil || c.Runtime || c.After.Type != record.TypeFile && c.After.Type != record.TypeSymlink || !under(c.Path, path) {
				continue
			}
			if c.Path == path || isELF(c.After.Magic) || codeFile.MatchString(c.Path) {
				return worst, "; " + say(c.Path) + ", to which it leads, is not the image's"
			}
		}
		for i := range f.Files.Mounted {
			if r := &f.Files.Mounted[i]; (string(r.Path) == path || under(string(r.Path), path)) && f.afterStart(cmp.Or(r.Btime, r.Ctime)) {
				return worst, "; " + say(r.Path) + ", to which it leads, came after the container had started"
			}
		}
		if m := f.mountOf(path); m != nil && m.Writable {
			return min2(worst, verdict.Medium), "; it leads to the mount at " + say(m.Point)
		}
	}
	return verdict.Low, ""
}

func min2(a, b verdict.Severity) verdict.Severity {
	if a.Rank() < b.Rank() {
		return a
	}
	return b
}
