package detect

import (
	"cmp"
	"net"
	"path"
	"regexp"
	"strings"

	"github.com/sherd-forensics/sherd/verdict"
)

var turnedToolRule = Rule{
	ID: "process-tool-turned", Title: "A tool of the image is run against it", Severity: verdict.High, Technique: "T1218",
	Rationale:   "Where there is no shell, the programs at hand carry sessions, read files and load code: openssl does all three.",
	FalseAlarms: "Applications run the same tools for their certificates. Only sessions with a place that neither image nor runtime name, input from where secrets lie, and code that the image does not hold count; what an operator starts from outside is graded low.",
	Needs:       []Fact{Processes, Config}, check: turnedTools,
}

var (
	// sessionTools are programs that carry a session with whoever they are told to.
	sessionTools = regexp.MustCompile(`^(openssl|socat|ncat|netcat|nc([.](openbsd|traditional))?|telnet|ssh|dbclient|curl|wget|busybox)$`)
	// secretPlaces match paths of what is nobody's input.
	secretPlaces = regexp.MustCompile(`^/etc/(shadow|gshadow)$|^/proc/([0-9]+|self)/(environ|mem|maps|cmdline|root/)|^(/var)?/run/secrets/|/[.]ssh/id_|/[.](aws|kube|docker|azure)/|/service-?account[^/]*/token$`)
	// codeOptions name, with openssl, code or settings that name code.
	codeOptions = map[string]bool{"-engine": true, "-provider": true, "-provider-path": true, "-provider_path": true, "-keyform_engine": true, "-engine_impl": true, "-config": true}
	place       = regexp.MustCompile(`^(?:(?:https?|ftp|tcp|tls|openssl|ssl):(?://)?)?\[?([0-9a-fA-F:.]*[0-9a-fA-F.]|[A-Za-z0-9.\-]+)\]?:([0-9]{1,5})(?:[/,].*)?$`)
)

func turnedTools(f *Facts, a *Answer) {
	for i := range f.Processes {
		p := &f.Processes[i]
		base := exeBase(p)
		if f.otherRoot(p) || f.Foreign(p) || !sessionTools.MatchString(base) || len(p.Cmdline) < 2 {
			continue
		}
		sev, tech, words := f.turned(p, base)
		if words == "" {
			continue
		}
		if f.bornOutside(p) {
			sev, words = verdict.Low, words+"; it was started from outside"
		}
		a.hit(Finding{
			Finding: verdict.Finding{Severity: sev, Technique: tech, Statement: Describe(p) + " runs the image's " + say(base) + " " + words, Citations: []verdict.Citation{p.Cite}},
			PID:     p.PID, Path: string(p.Exe.Path), When: p.StartTime,
		})
	}
}

// turned judges the arguments of a tool: words are "" where they are as an application's may be.
func (f *Facts) turned(p *Process, base string) (sev verdict.Severity, tech, words string) {
	for i, n := range p.Cmdline[1:] {
		arg, before := string(n), ""
		if i > 0 {
			before = string(p.Cmdline[i])
		}
		if base == "openssl" && (codeOptions[before] || strings.HasPrefix(arg, "SO_PATH:")) {
			lib := strings.TrimPrefix(arg, "SO_PATH:")
			if from := f.notImage(lib); from != "" {
				return verdict.High, "T1218", "to load " + say(lib) + ", " + from
			}
		}
		if file := path.Clean(strings.TrimPrefix(arg, "@")); secretPlaces.MatchString(file) && !strings.HasPrefix(before, "-out") && !f.tells(file) {
			return verdict.Medium, "T1005", "on " + say(file)
		}
	}
	if base == "openssl" && string(p.Cmdline[1]) != "s_client" {
		return "", "", ""
	}
	for _, n := range p.Cmdline[1:] {
		m := place.FindStringSubmatch(string(n))
		if m == nil || m[1] == "localhost" || loopback(m[1]) || f.tells(m[1]) || f.toldPort(m[2]) {
			continue
		}
		port := atoi(m[2])
		if port == 0 || services[port] {
			continue
		}
		return verdict.Medium, "T1219", "for a session with " + say(net.JoinHostPort(m[1], m[2])) + ", which neither the configuration nor a known service's port explains"
	}
	return "", "", ""
}

func (f *Facts) tells(word string) bool {
	return f.told(func(text string) bool { return strings.Contains(text, word) })
}

func (f *Facts) toldPort(port string) bool {
	return f.told(func(text string) bool { return hasNumber(text, port) })
}

func atoi(s string) int {
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' || n > 65535 {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// notImage says why a file is not the image's, "" if it is, or if that can't be told.
func (f *Facts) notImage(file string) string {
	if !path.IsAbs(file) {
		return ""
	}
	if under(file, "/tmp", "/var/tmp", "/dev/shm", "/proc") {
		return "which lies where anybody may write"
	}
	for i := range f.Files.Changes {
		c := &f.Files.Changes[i]
		if !c.Runtime && c.After != nil && (c.Path == file || under(c.Path, file) && isELF(c.After.Magic)) {
			return "which the image does not hold so"
		}
	}
	for i := range f.Files.Mounted {
		r := &f.Files.Mounted[i]
		if (string(r.Path) == file || under(string(r.Path), file)) && f.afterStart(cmp.Or(r.Btime, r.Ctime)) {
			return "which came after the container had started"
		}
	}
	return ""
}
