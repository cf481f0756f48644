package detect

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/verdict"
)

// Facts are what the rules see of one package. Strings in them are raw bytes that the container chose.
type Facts struct {
	Container target.Container
	Host      record.Host
	Coverage  record.Coverage
	Processes []Process // by PID
	Sharers   []Sharer  // processes of others in the container's namespaces, by PID
	Sockets   []Socket  // in the package's order
	Mounts    []record.Mounted
	Files     Files
	Config    Settings
	// Resolvers are the name servers of the container's resolv.conf, at most three as its library reads them; none if it was not collected.
	Resolvers []string
	Strays    []target.Anomaly
	// Missing has for each fact that was not collected the reason.
	Missing map[Fact]string
	// Started is when the container began, in nanoseconds UTC, 0 if unknown.
	Started int64
	// Begun is when the pod of the container began to start such containers, where this is not the first: its volumes may hold what came in
	// an earlier one's time. Otherwise it is Started.
	Begun int64
	// Cluster is what a cluster's API server said, nil where the container is of no pod.
	Cluster *Cluster
	// Read gives up to n bytes of an artifact from off on, nil if it is not there.
	Read func(artifact string, off int64, n int) []byte
	// Cite makes a citation of an artifact's bytes; ok is false if there is no such artifact.
	Cite func(artifact string, off, n int64) (c verdict.Citation, ok bool)

	byPID  map[int]*Process
	init   *Process
	opened map[int]*archives // of Java programs, by pid
}

// Process is one process with its environment and mappings.
type Process struct {
	record.Process
	Cite    verdict.Citation
	Env     []Variable
	HasEnv  bool
	EnvHash string // SHA-256 of the environment as the kernel shows it, "" if not collected
	// EnvForms maps the SHA-256 of the environment in forms in which it may be written to how that form is called.
	EnvForms map[string]string
	Maps     []Mapping
	HasMaps  bool
}

// Variable is one environment variable and where it stands in the process's environ.
type Variable struct {
	Name, Value string
	Cite        verdict.Citation // the whole assignment
	NameCite    verdict.Citation // the name alone, for values that may be secret
}

// Mapping is one memory mapping.
type Mapping struct {
	record.Mapping
	Cite verdict.Citation
}

// Socket is one socket.
type Socket struct {
	record.Socket
	Cite verdict.Citation
}

// File is one row of the inventory.
type File = inventory.Row

// Mount is one mount of the container.
type Mount = record.Mounted

// Files is what the rules see of the inventory: what differs, what lies on mounts and can run, and the image's programs.
type Files struct {
	Changes []inventory.Change // by path
	Mounted []File             // ELF files and scripts on mounts
	Hooks   []File             // files on mounts that interpreters run at each start, if they look there
	// Staged are files whose content is a process's environment, byte for byte or encoded.
	Staged  map[string]Staged
	Secrets []File // files on mounts of secrets
	Node    []File // files on writable mounts by which a machine is steered
	Locked  []Locked
	Logs    []File // files that are named as logs are
	// Image maps the hash of each ELF file of the image to its path.
	Image map[string]string
	// ByPath has the rows of files that processes run or map, as the container sees them.
	ByPath map[string]File
	// Classes has the paths of the image's class files that lie in no archive, by their last part.
	Classes map[string][]string
	// LayerBytes and LayerFiles sum the writable layer up.
	LayerBytes int64
	LayerFiles int
	// Dropped counts changes beyond the limit; only data files are ever dropped.
	Dropped int
}

// classFile reports whether the image has a class as a file of its own.
func (x *Files) classFile(name string) bool {
	return slices.ContainsFunc(x.Classes[path.Base(name)], func(p string) bool { return strings.HasSuffix(p, "/"+name+".class") })
}

// Staged is a file that holds a process's environment. Form is how it is written, "" as it is.
type Staged struct {
	File File
	PID  int
	Form string
}

// Settings are what image and runtime were told.
type Settings struct {
	Env     map[string]string // as configured
	Exposed map[int]bool      // ports
	Args    []string          // commands, with their arguments
	Labels  map[string]string
}

// Index prepares lookups; Load calls it, and so does whoever builds Facts by hand.
func (f *Facts) Index() {
	f.byPID = map[int]*Process{}
	for i := range f.Processes {
		p := &f.Processes[i]
		f.byPID[p.PID] = p
		switch {
		case f.init == nil && p.ContainerPID == 1 && p.Relation == record.InCgroup, p.PID == f.Container.PID:
			f.init = p
		}
	}
	if f.Started == 0 && !f.Container.Started.IsZero() {
		f.Started = f.Container.Started.UnixNano()
	}
	if f.Started == 0 && f.init != nil {
		f.Started = f.init.StartTime
	}
	if f.Begun == 0 || f.Started != 0 && f.Started < f.Begun {
		f.Begun = f.Started
	}
}

// Process returns the process of a pid, nil if there is none.
func (f *Facts) Process(pid int) *Process { return f.byPID[pid] }

// Init is the container's first process, nil if unknown.
func (f *Facts) Init() *Process { return f.init }

// otherRoot reports whether a process lives in another mount namespace than the container's first: a sidecar or a debug
// container that shares another namespace. Only the kernel's numbers count; and who is in the container's own cgroup
// never passes for somebody else's.
func (f *Facts) otherRoot(p *Process) bool {
	if f.init == nil || p.Relation == record.InCgroup {
		return false
	}
	a, b := p.Namespaces["mnt"], f.init.Namespaces["mnt"]
	return a != 0 && b != 0 && a != b
}

// settled reports whether t lies so long after the container's start that image, runtime and entry point had done what they
// do to files. Unknown times don't count.
func (f *Facts) settled(t int64) bool {
	const settle = int64(20 * time.Second)
	return t != 0 && f.Started != 0 && t > f.Started+settle
}

// afterStart reports whether t lies after the container's start, or the first one's of its pod. What init containers and people put onto volumes for a
// container to run is there before. Unknown times don't count.
func (f *Facts) afterStart(t int64) bool {
	const clocks = int64(time.Second)
	return t != 0 && f.Begun != 0 && t > f.Begun+clocks
}

// Time formats nanoseconds as RFC 3339 in UTC; 0 is "".
func Time(ns int64) string {
	if ns == 0 {
		return ""
	}
	return time.Unix(0, ns).UTC().Format(time.RFC3339Nano)
}

// say makes a name fit for a statement.
func say[T ~string](s T) string { return printable.Clip(string(s), 160) }

// Describe names a process for a statement: process 17 "kworker/0:1".
func Describe(p *Process) string {
	return "process " + number(p) + ` "` + printable.Clip(string(p.Comm), 40) + `"`
}

func number(p *Process) string {
	if p.ContainerPID != 0 {
		return itoa(p.ContainerPID)
	}
	return itoa(p.PID) + " (host's number)"
}

// ExeName names what a process runs: a path, or memfd:NAME.
func ExeName(p *Process) string {
	if p.Exe.Origin == record.ExeMemfd {
		return memfdName(string(p.Exe.Path))
	}
	return string(p.Exe.Path)
}

// memfdName turns "/memfd:x (deleted)" into "memfd:x".
func memfdName(link string) string {
	return strings.TrimSuffix(strings.TrimPrefix(link, "/"), " (deleted)")
}

func isMemfd(link string) bool {
	return strings.HasPrefix(link, "/memfd:") || strings.HasPrefix(link, "memfd:")
}

func exeBase(p *Process) string {
	return path.Base(strings.TrimSuffix(string(p.Exe.Path), " (deleted)"))
}

func isELF(magic []byte) bool    { return len(magic) >= 4 && string(magic[:4]) == "\x7fELF" }
func isScript(magic []byte) bool { return len(magic) >= 2 && string(magic[:2]) == "#!" }

func under(p string, dirs ...string) bool {
	for _, d := range dirs {
		if p == d || strings.HasPrefix(p, strings.TrimSuffix(d, "/")+"/") {
			return true
		}
	}
	return false
}

// mountOf is the mount that holds a path, nil for the root.
func (f *Facts) mountOf(p string) *record.Mounted {
	var best *record.Mounted
	for i := range f.Mounts {
		m := &f.Mounts[i]
		if m.Kind == "root" || m.Point == "/" || !under(p, string(m.Point)) {
			continue
		}
		// A later line covers an earlier one of the same point.
		if best == nil || len(m.Point) >= len(best.Point) {
			best = m
		}
	}
	return best
}
