package detect

import (
	"path"
	"regexp"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/verdict"
)

// commandTakers match pages that run what a request holds, by the language that the name's ending says. What a request holds and
// what runs it must stand near each other: applications have both somewhere.
var commandTakers = []struct {
	names   *regexp.Regexp
	content *regexp.Regexp
}{
	{regexp.MustCompile(`(?i)[.]jspx?$`), regexp.MustCompile(`(?is)(Runtime\s*[.]\s*getRuntime\s*\(\s*\)\s*[.]\s*exec|new\s+ProcessBuilder|defineClass|ScriptEngineManager).{0,400}request\s*[.]\s*(getParameter|getHeader|getInputStream|getReader)|request\s*[.]\s*(getParameter|getHeader|getInputStream|getReader).{0,400}(getRuntime\s*\(\s*\)\s*[.]\s*exec|new\s+ProcessBuilder|defineClass|[.]\s*eval\s*\()`)},
	{regexp.MustCompile(`(?i)[.](php\d?|phtml|phar|inc)$`), regexp.MustCompile(`(?is)\b(eval|assert|system|exec|shell_exec|passthru|popen|proc_open|create_function)\s*\([^;]{0,200}\$_(GET|POST|REQUEST|COOKIE|SERVER|FILES)|\$_(GET|POST|REQUEST|COOKIE)\s*\[[^\]]{0,60}\]\s*\(`)},
	{regexp.MustCompile(`(?i)[.](aspx?|ashx|asmx|cshtml)$`), regexp.MustCompile(`(?is)\b(eval|execute|Process[.]Start|ProcessStartInfo|Assembly[.]Load)\b.{0,300}Request\b|Request\b.{0,300}\b(eval|Process[.]Start|ProcessStartInfo|Assembly[.]Load)\b`)},
	{regexp.MustCompile(`(?i)[.]py$`), regexp.MustCompile(`(?is)\b(exec|eval|os[.]system|os[.]popen|subprocess[.]\w+)\s*\([^\n]{0,200}\brequest[.](args|form|values|headers|cookies|data|json|get_data|GET|POST|body|query_params)`)},
	{regexp.MustCompile(`(?i)[.][mc]?js$`), regexp.MustCompile(`(?is)\b(eval|exec|execSync|spawn|spawnSync|Function)\s*\([^;\n]{0,200}\breq(uest)?[.](query|body|headers|params|cookies)`)},
	{regexp.MustCompile(`(?i)[.](rb|erb)$`), regexp.MustCompile("(?is)(\\b(eval|system|exec|instance_eval)\\s*\\(?|`#\\{|%x\\{)[^\\n]{0,120}\\b(params|request)\\b")},
}

// maxPage bounds what of a page is read: one that takes commands is short, or is a change at the end or the beginning of a longer one.
const maxPage = 1 << 20

func commandPages(f *Facts, a *Answer) {
	k := capped{a: a, f: f}
	for i := range f.Files.Changes {
		c := &f.Files.Changes[i]
		if c.Runtime || c.After == nil || c.After.Type != record.TypeFile || !has(c, inventory.Added, inventory.Changed, inventory.Replaced) {
			continue
		}
		for _, t := range commandTakers {
			if !t.names.MatchString(path.Base(c.Path)) {
				continue
			}
			raw, err := record.Unescape(c.After.Artifact)
			if err != nil || raw == "" {
				a.blind("what "+say(c.Path)+" does", "its content was not kept")
				break
			}
			b := f.Read(raw, 0, maxPage)
			at := t.content.FindIndex(b)
			if at == nil {
				break
			}
			words := strings.Join(strings.Fields(string(b[at[0]:min(at[1], at[0]+200)])), " ")
			fd := Finding{Foreign: true, Finding: verdict.Finding{Statement: say(c.Path) + ", which the image does not hold so, runs what a request holds: " + say(words)}}
			if x, ok := f.Cite(raw, int64(at[0]), int64(at[1]-at[0])); ok {
				fd.Citations = []verdict.Citation{x}
			}
			k.hit(c, fd)
			break
		}
	}
	k.rest(verdict.High, "pages that run what a request holds")
}
