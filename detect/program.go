package detect

import (
	"bytes"
	"debug/buildinfo"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/verdict"
)

func itoa(n int) string { return strconv.Itoa(n) }

// origin is the judgement of what a process runs.
type origin struct {
	foreign  bool
	severity verdict.Severity // Info: nothing to say
	words    string           // "runs from memory (memfd:x), which the image can't hold"
	blind    string           // why nothing can be said
}

// originOf judges a process's executable.
func (f *Facts) originOf(p *Process) origin {
	name := say(ExeName(p))
	if p.State == "Z" || p.State == "X" {
		return origin{severity: verdict.Info} // a dead process has no executable any more
	}
	if f.otherRoot(p) {
		return origin{severity: verdict.Info}
	}
	switch p.Exe.Origin {
	case record.ExeImage:
		return origin{severity: verdict.Info}
	case record.ExeMemfd:
		switch f.runcInit(p) {
		case yes:
			return origin{severity: verdict.Info}
		case unknown:
			return origin{severity: verdict.Low, blind: "its program, which calls itself runc's, was not kept"}
		}
		return origin{foreign: true, severity: verdict.Critical, words: "runs a program that exists in memory alone (" + name + ")"}
	case record.ExeDeleted:
		if at, ok := f.Files.Image[p.Exe.SHA256]; ok && p.Exe.SHA256 != "" {
			return origin{severity: verdict.Low, words: "runs the image's own " + say(at) + ", whose file was replaced or deleted since"}
		}
		if p.Exe.SHA256 == "" {
			return origin{severity: verdict.Medium, foreign: true, words: "runs " + name + ", which was deleted and could not be kept"}
		}
		if f.lacks(Inventory) || f.lacks(Baseline) {
			return origin{severity: verdict.High, foreign: true, words: "runs " + name + ", which was deleted after it was started"}
		}
		return origin{foreign: true, severity: verdict.Critical, words: "runs " + name + ", which was deleted after it was started and is not the image's"}
	case record.ExeDrift:
		return origin{foreign: true, severity: verdict.Critical, words: "runs " + name + ", which the image does not hold in this form"}
	case record.ExeVolume:
		return f.volumeExe(p, name)
	case record.ExeOutside:
		if f.bornOutside(p) {
			return origin{severity: verdict.Low, words: "was started from outside and runs " + name + " from outside the container's root"}
		}
		return origin{foreign: true, severity: verdict.High, words: "runs " + name + " from outside the container's root"}
	}
	why := p.Exe.Error
	if why == "" {
		why = "its origin could not be told"
	}
	return origin{severity: verdict.Info, blind: why}
}

func (f *Facts) lacks(x Fact) bool {
	_, missing := f.Missing[x]
	return missing
}

// volumeExe judges a program on a mount. Programs reach mounts in honest ways: an init that the runtime mounts, an init
// container that copies a tool before this container starts, a developer's source tree. An intruder's arrives later, or
// lies where nothing is kept, in memory.
func (f *Facts) volumeExe(p *Process, name string) origin {
	if f.lacks(Mounts) {
		return origin{severity: verdict.Low, blind: "the mounts were not collected, so it can't be told what kind of mount it lies on"}
	}
	m := f.mountOf(string(p.Exe.Path))
	born := p.Exe.Btime
	if born == 0 {
		born = p.Exe.Ctime
	}
	switch {
	case m == nil:
		return origin{severity: verdict.Medium, foreign: true, words: "runs " + name + " from a mount that is no longer there"}
	case !m.Writable:
		return origin{severity: verdict.Info}
	case m.FSType == "tmpfs" && m.Kind != "runtime":
		return origin{foreign: true, severity: verdict.Critical, words: "runs " + name + " from memory mounted at " + say(m.Point)}
	case m.Kind == "runtime":
		return origin{severity: verdict.Info}
	case f.afterStart(born):
		return origin{foreign: true, severity: verdict.Critical, words: "runs " + name + ", which came onto the volume at " + say(m.Point) + " after the container had started"}
	}
	return origin{severity: verdict.Low, words: "runs " + name + " from the volume at " + say(m.Point)}
}

// Foreign reports whether a process runs what image and configuration don't explain.
func (f *Facts) Foreign(p *Process) bool { return f.originOf(p).foreign }

type tristate int

const (
	no tristate = iota
	yes
	unknown
)

// runcInit tells the runtime's own memory-resident self from an intruder who borrows its name. To be safe from
// CVE-2019-5736, runc (and crun) copies itself into a memfd and runs that inside the container's namespaces until it execs
// the container's program. All of the following must hold, and the second can't be had from inside a container:
//
//  1. the memfd is named as they name it, and the process calls itself as they do at that stage;
//  2. its parent is no process of the container, although it has a pid namespace of its own: it was born outside. A process
//     whose parent dies inside is given to the namespace's first process, never to one outside;
//  3. it is young, or the container was created and not yet started: the stage lasts milliseconds otherwise;
//  4. it holds no Internet socket, which that stage never needs;
//  5. for runc, the program is a Go executable built from runc's module. Whether it is one is unknown if it was not kept.
func (f *Facts) runcInit(p *Process) tristate {
	name := strings.TrimPrefix(memfdName(string(p.Exe.Path)), "memfd:")
	crun := strings.HasPrefix(name, "crun_cloned")
	if !crun && !strings.HasPrefix(name, "runc_cloned") {
		return no
	}
	comm := string(p.Comm)
	if !strings.HasPrefix(comm, "runc:[") && comm != "runc" && comm != "crun" && comm != "exe" {
		return no
	}
	if !f.bornOutside(p) {
		return no
	}
	if f.Container.State != target.Created {
		age := f.Host.Realtime - p.StartTime
		if f.Host.Realtime == 0 || p.StartTime == 0 {
			return unknown
		}
		if age > int64(time.Minute) {
			return no
		}
	}
	for _, s := range f.Sockets {
		if (s.Family == "inet" || s.Family == "inet6") && slices.ContainsFunc(s.Owners, func(o record.Owner) bool { return o.PID == p.PID }) {
			return no
		}
	}
	if crun {
		return yes
	}
	return f.goModule(p, "github.com/opencontainers/runc")
}

// bornOutside reports whether a process in the container's own pid namespace has a parent outside of it.
func (f *Facts) bornOutside(p *Process) bool {
	return p.ContainerPID != 0 && p.ContainerPID != p.PID && f.byPID[p.PPID] == nil
}

// goModule reports whether a process's kept program is a Go executable whose main package lies in module.
func (f *Facts) goModule(p *Process, module string) tristate {
	if p.Exe.Artifact == "" || f.Read == nil {
		return unknown
	}
	const limit = 64 << 20 // runc has 10 to 16 MB
	b := f.Read(p.Exe.Artifact, 0, limit)
	if b == nil {
		return unknown
	}
	info, err := buildinfo.Read(readerAt(b))
	if err != nil || info.Main.Path != module && info.Path != module {
		return no
	}
	return yes
}

func readerAt(b []byte) io.ReaderAt { return bytes.NewReader(b) }

// Programs that translate code while they run have executable anonymous memory by design.
var jit = regexp.MustCompile(`^(node(js)?|java|jre|pypy3?([.][0-9]+)?|dotnet|ruby([0-9.]+)?|php(-fpm|-cgi)?[0-9.]*|luajit(-[0-9.]+)?|deno|bun|beam[.]smp|wasmtime|wasmer|wasmedge|chrom(e|ium)|headless_shell|qemu-[a-z0-9_-]+|julia|mono(-sgen)?|pwsh|d8|firefox|electron|envoy|postgres|openresty|guile|sbcl|racket)$`)

// Libraries that make executable memory inside programs that otherwise have none: closures, compiled patterns, code.
var jitLibrary = regexp.MustCompile(`/(libffi|libpcre2?(-[0-9]+)?|libjvm|libcoreclr|libclrjit|libnode|libv8|libluajit(-[0-9.]+)?|libLLVM|libgccjit|liborc|libmono[a-z0-9-]*|libpython[0-9.]+|libruby[a-z0-9.-]*|libwasm[a-z]*|_ctypes[.a-z0-9_-]*|_cffi_backend[.a-z0-9_-]*)[.-][^/]*$`)

func (f *Facts) hasJIT(p *Process) bool {
	if p.Exe.Origin == record.ExeImage && jit.MatchString(exeBase(p)) {
		return true
	}
	return slices.ContainsFunc(p.Maps, func(m Mapping) bool { return jitLibrary.MatchString(string(m.Path)) && f.imageFile(string(m.Path)) })
}

// imageFile reports whether the file that the container sees at a path is the image's.
func (f *Facts) imageFile(path string) bool {
	r, ok := f.Files.ByPath[path]
	return ok && r.Tree == record.TreeBoth
}

// isJVM: Java programs unpack native libraries from their archives into temporary files and map them.
func isJVM(p *Process) bool {
	return p.Exe.Origin == record.ExeImage && (exeBase(p) == "java" || slices.ContainsFunc(p.Maps, func(m Mapping) bool { return strings.HasSuffix(string(m.Path), "/libjvm.so") }))
}

// Interpreters run scripts: their process is named after the script.
var interpreter = regexp.MustCompile(`^(python[0-9.]*|pypy[0-9.]*|perl[0-9.]*|ruby[0-9.]*|node(js)?|php[0-9.]*|(ba|da|a|z|k)?sh|busybox|lua[0-9.]*|java|dotnet|deno|bun|Rscript|tclsh[0-9.]*|env)$`)

// kernelThread matches names that Linux gives to its own threads.
var kernelThread = regexp.MustCompile(`^\[?(kworker|kthreadd|ksoftirqd|migration|rcu_(sched|bh|preempt|par_gp|gp)|rcu[bcos]|cpuhp|kdevtmpfs|khungtaskd|khugepaged|kswapd[0-9]|kcompactd[0-9]|kblockd|kintegrityd|kauditd|ksmd|kthrotld|kdmflush|jbd2|ext4-rsv-conver|scsi_(eh|tmf)_[0-9]|watchdog[d/]|irq/|idle_inject|oom_reaper|writeback|netns|xfsaild|nfsd|md[0-9]+_raid|events_unbound|mm_percpu_wq|inet_frag_wq|kstrp|zswap-shrink|card[0-9]-crtc|bioset)([^a-zA-Z]|$)`)
