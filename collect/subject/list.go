package subject

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
	"github.com/sherd-forensics/sherd/target"
)

// Limits of the search for processes.
const (
	// maxRounds is how often the list is read again while it still grows: a process that forks faster than this can't be listed
	// whole by anybody who does not stop it.
	maxRounds = 6
	// maxProcesses bounds the list; pid namespaces allow four million.
	maxProcesses = 1 << 16
	smallFile    = 1 << 20
)

// ErrUnstable says that processes kept appearing while they were listed, so that some may be missing.
var ErrUnstable = errors.New("processes kept starting while they were listed: some may be missing")

// seen is what one look at a process tells.
type seen struct {
	pid, ppid int
	ticks     uint64
	cgroups   []string // paths, one for each hierarchy
	pidNS     string
	mntNS     string
}

// Identify gives the identity of one process, the host's pid namespace being that of proc.
func Identify(proc string, pid int) (Process, error) {
	_, ticks, err := Stat(proc, pid)
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, ContainerPID: containerPID(proc, pid), StartTicks: ticks, Relation: record.InCgroup}, nil
}

// Stat reads the parent and the start time (in clock ticks since boot, field 22) of a process.
func Stat(proc string, pid int) (ppid int, ticks uint64, err error) {
	b, err := safefs.ReadProc(filepath.Join(proc, strconv.Itoa(pid), "stat"), 4096)
	if err != nil {
		return 0, 0, err
	}
	return ParseStat(b)
}

// ParseStat takes parent and start time out of the text of /proc/<pid>/stat (proc_pid_stat(5)). The name in it is the
// process's own choice and may hold anything, a closing parenthesis too, so fields are counted from the last one.
func ParseStat(b []byte) (ppid int, ticks uint64, err error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, 0, fmt.Errorf("stat has no name: %q", b[:min(len(b), 40)])
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 20 {
		return 0, 0, fmt.Errorf("stat has only %d fields after the name", len(f))
	}
	if ppid, err = strconv.Atoi(f[1]); err != nil {
		return 0, 0, fmt.Errorf("stat, parent: %w", err)
	}
	if ticks, err = strconv.ParseUint(f[19], 10, 64); err != nil {
		return 0, 0, fmt.Errorf("stat, start time: %w", err)
	}
	return ppid, ticks, nil
}

// List finds the processes of a container: those in its cgroup, those in its namespaces that its cgroup does not hold, and
// descendants of either that left both. It is empty for a container without a first process. ErrUnstable comes beside a
// list that may lack some.
func List(c *target.Container, proc string) ([]Process, error) {
	if c.PID == 0 {
		return nil, nil
	}
	first, err := look(proc, c.PID)
	if err != nil {
		return nil, fmt.Errorf("process %d, the container's first: %w", c.PID, err)
	}
	m := newMatcher(c, proc, first)
	found := map[int]Process{}
	var scanErr error
	grew := true
	for round := 0; grew && round < maxRounds; round++ {
		grew, scanErr = m.scan(found)
		if scanErr != nil {
			break
		}
	}
	if scanErr == nil && grew {
		scanErr = ErrUnstable
	}
	out := make([]Process, 0, len(found))
	for _, p := range found {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Process) int { return a.PID - b.PID })
	return out, scanErr
}

// matcher decides what belongs to the container.
type matcher struct {
	proc    string
	self    int
	first   seen
	cgroups []string // the container's, without those that say nothing ("/")
	pidNS   string   // empty when shared with the host
	mntNS   string
}

func newMatcher(c *target.Container, proc string, first seen) *matcher {
	m := &matcher{proc: proc, self: os.Getpid(), first: first}
	for _, g := range append([]string{c.CgroupPath}, first.cgroups...) {
		if g = path.Clean("/" + g); g != "/" && !slices.Contains(m.cgroups, g) {
			m.cgroups = append(m.cgroups, g)
		}
	}
	host, err := look(proc, 1)
	if err != nil {
		host = seen{}
	}
	// What the host's first process or this one lives in is nobody's own.
	me, err := look(proc, m.self)
	if err != nil {
		me = seen{}
	}
	if first.pidNS != host.pidNS && first.pidNS != me.pidNS {
		m.pidNS = first.pidNS
	}
	if first.mntNS != host.mntNS && first.mntNS != me.mntNS {
		m.mntNS = first.mntNS
	}
	// A cgroup that holds the host's first process or this one is no container's.
	m.cgroups = slices.DeleteFunc(m.cgroups, func(g string) bool { return inside(host.cgroups, g) || inside(me.cgroups, g) })
	return m
}

// inside reports whether any of the paths is g or lies below it.
func inside(paths []string, g string) bool {
	return slices.ContainsFunc(paths, func(p string) bool { return p == g || strings.HasPrefix(p, g+"/") })
}

// sibling reports whether a process has a cgroup beside one of the container's: it is another container's, of the same pod or
// with a pid namespace that was shared on purpose.
func (m *matcher) sibling(paths []string) bool {
	for _, p := range paths {
		for _, g := range m.cgroups {
			if p != "/" && path.Dir(p) == path.Dir(g) && path.Dir(g) != "/" {
				return true
			}
		}
	}
	return false
}

// relation says why a process belongs to the container, or "".
func (m *matcher) relation(p seen) string {
	for _, g := range m.cgroups {
		if inside(p.cgroups, g) {
			return record.InCgroup
		}
	}
	switch {
	case p.pid == m.first.pid:
		return record.InCgroup
	case m.mntNS != "" && p.mntNS == m.mntNS:
		return record.InNamespaces
	case m.pidNS != "" && p.pidNS == m.pidNS && !m.sibling(p.cgroups):
		return record.InNamespaces
	}
	return ""
}

// scan looks at every process once and adds those that belong; grew says that there were new ones.
func (m *matcher) scan(found map[int]Process) (grew bool, err error) {
	d, err := os.Open(m.proc)
	if err != nil {
		return false, err
	}
	defer d.Close()
	all := map[int]seen{}
	for {
		names, err := d.Readdirnames(1024)
		for _, n := range names {
			pid, aerr := strconv.Atoi(n)
			if aerr != nil || pid <= 0 || pid == m.self {
				continue
			}
			if p, lerr := look(m.proc, pid); lerr == nil {
				all[pid] = p
			}
		}
		if err != nil {
			break
		}
	}
	add := func(p seen, relation string) {
		if old, ok := found[p.pid]; ok && old.StartTicks == p.ticks || len(found) >= maxProcesses {
			return
		}
		found[p.pid] = Process{PID: p.pid, ContainerPID: containerPID(m.proc, p.pid), StartTicks: p.ticks, Relation: relation}
		grew = true
	}
	for _, p := range all {
		if r := m.relation(p); r != "" {
			add(p, r)
		}
	}
	// Descendants that left both: repeated until no child is new, since parents come in any order.
	for more := true; more; {
		more = false
		for _, p := range all {
			if _, ok := found[p.pid]; ok {
				continue
			}
			if _, ok := found[p.ppid]; ok {
				before := len(found)
				add(p, record.Descendant)
				more = more || len(found) > before
			}
		}
	}
	if len(found) >= maxProcesses {
		return false, fmt.Errorf("more than %d processes: the rest is left out", maxProcesses)
	}
	return grew, nil
}

// look reads what tells where a process belongs. A process that is gone is an error; a namespace that may not be seen is "".
func look(proc string, pid int) (seen, error) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	ppid, ticks, err := Stat(proc, pid)
	if err != nil {
		return seen{}, err
	}
	s := seen{pid: pid, ppid: ppid, ticks: ticks}
	b, err := safefs.ReadProc(filepath.Join(dir, "cgroup"), smallFile)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
		return seen{}, err
	case err == nil:
		s.cgroups = cgroupPaths(b)
	}
	if s.pidNS, err = os.Readlink(filepath.Join(dir, "ns/pid")); err != nil {
		s.pidNS = ""
	}
	if s.mntNS, err = os.Readlink(filepath.Join(dir, "ns/mnt")); err != nil {
		s.mntNS = ""
	}
	return s, nil
}

// cgroupPaths takes the paths out of /proc/<pid>/cgroup (cgroups(7)): hierarchy:controllers:path.
func cgroupPaths(b []byte) []string {
	var out []string
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		p := path.Clean("/" + strings.TrimSuffix(parts[2], " (deleted)"))
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// containerPID reads the innermost number of NSpid, 0 if the process has only the host's.
func containerPID(proc string, pid int) int {
	b, err := safefs.ReadProc(filepath.Join(proc, strconv.Itoa(pid), "status"), smallFile)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(v)
			if len(f) < 1 {
				return 0
			}
			n, err := strconv.Atoi(f[len(f)-1])
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}
