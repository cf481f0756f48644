package detect

import (
	"cmp"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/verdict"
)

// startHook matches files that each Python program runs if it looks for modules in their folder.
var startHook = regexp.MustCompile(`/(sitecustomize|usercustomize)[.]py$`)

// startHooks tells of files on writable mounts that each Python program runs, since it looks for modules in their folder.
func (f *Facts) startHooks(a *Answer) {
	for i := range f.Files.Hooks {
		r := &f.Files.Hooks[i]
		m := f.mountOf(string(r.Path))
		born := cmp.Or(r.Btime, r.Ctime)
		from := f.lookedIn(path.Dir(string(r.Path)))
		if m == nil || !m.Writable || m.Kind == "runtime" || r.Size == 0 || !f.afterStart(born) || from == "" || i >= perRule {
			continue
		}
		a.hit(Finding{Path: string(r.Path), SHA256: r.SHA256, When: born, Foreign: true, Finding: verdict.Finding{Technique: "T1546", Citations: f.rowCites(r),
			Statement: say(r.Path) + " was added on the mount at " + say(m.Point) + " after the container had started; it is run by each Python program, which looks for modules there by " + from}})
	}
}

// lookedIn says by what Python programs look for modules in a folder, "" if nothing says that they do.
func (f *Facts) lookedIn(dir string) string {
	if base := path.Base(dir); base == "site-packages" || base == "dist-packages" {
		return "its name"
	}
	has := func(value string) bool { return slices.Contains(strings.Split(value, ":"), dir) }
	if has(f.Config.Env["PYTHONPATH"]) {
		return "PYTHONPATH"
	}
	for i := range f.Processes {
		if slices.ContainsFunc(f.Processes[i].Env, func(v Variable) bool { return v.Name == "PYTHONPATH" && has(v.Value) }) {
			return "PYTHONPATH of " + Describe(&f.Processes[i])
		}
	}
	return ""
}
