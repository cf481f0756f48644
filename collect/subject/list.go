package subject

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target"
)

// Limits of the search for processes.
const (
	// maxRounds is how often the list is read again while it still grows: a process that forks faster than this can't be listed
	// whole by anybody who does not stop it.
	maxRounds = 6
	// maxProcesses bounds the list; pid namespaces allow four million.
	maxProcesses = 1 << 16
)

// Errors that come beside a list. They are wrapped: use errors.Is.
var (
	// ErrUnstable says that processes kept appearing while they were listed, so that some may be missing.
	ErrUnstable = errors.New("processes kept starting while they were listed: some may be missing")
	// ErrTooMany says that the list was cut.
	ErrTooMany = fmt.Errorf("more than %d processes: the rest is left out", maxProcesses)
	// ErrHidden says that the kernel holds processes of the container that /proc does not show.
	ErrHidden = errors.New("/proc does not show every process")
)

// List finds the processes of a container: those in its cgroup, those in its pid or mount namespace that its cgroup does not
// hold, and descendants of either that left both. A shared network namespace alone makes nobody a member. It is empty for
// a container without a first process. An error comes beside a list that may lack some.
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
	grew := true
	for round := 0; grew && round < maxRounds; round++ {
		if grew, err = m.scan(found); err != nil {
			break
		}
	}
	errs := []error{err}
	if err == nil && grew {
		errs = append(errs, ErrUnstable)
	}
	errs = append(errs, m.ask(found), hidepid(proc))
	out := make([]Process, 0, len(found))
	for _, p := range found {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Process) int { return a.PID - b.PID })
	return out, oneLine(errs)
}

// oneLine joins errors so that they fit into one entry of the coverage.
func oneLine(errs []error) error {
	var out error
	for _, err := range errs {
		switch {
		case err == nil:
		case out == nil:
			out = err
		default:
			out = fmt.Errorf("%w; %w", out, err)
		}
	}
	return out
}

// matcher decides what belongs to the container.
type matcher struct {
	proc    string
	self    int
	first   seen
	cgroups []string // the container's own
	pidNS   string   // empty when shared with the host
	mntNS   string
	ours    string       // the mount namespace of our own container, whose processes are left out; "" on the machine
	known   map[int]seen // from the scans before
}

func newMatcher(c *target.Container, proc string, first seen) *matcher {
	m := &matcher{proc: proc, self: self(proc), first: first, known: map[int]seen{}}
	if c.Inside {
		// A process of ours beside this one answers who asked for the capture.
		m.ours = namespace(filepath.Join(proc, "self"), "mnt")
	}
	for _, g := range append([]string{c.CgroupPath}, first.cgroups...) {
		if g = path.Clean("/" + g); g != "/" && !slices.Contains(m.cgroups, g) {
			m.cgroups = append(m.cgroups, g)
		}
	}
	// What the host's first process or this one lives in is nobody's own.
	host, err := look(proc, 1)
	if err != nil || c.Inside {
		host = seen{} // from within a pod, process 1 may be the container's own
	}
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
	// Nor is a cgroup the container's own that holds who started it, the shim or conmon: rootless Podman may have no cgroup to
	// give, and in a hierarchy that a runtime does not manage a container stays in the cgroup of the session or service.
	others := [][]string{host.cgroups, me.cgroups}
	for pid, n := first.ppid, 0; pid > 1 && n < 64; n++ {
		p, err := look(proc, pid)
		if err != nil {
			break
		}
		others = append(others, p.cgroups)
		pid = p.ppid
	}
	m.cgroups = slices.DeleteFunc(m.cgroups, func(g string) bool {
		return slices.ContainsFunc(others, func(paths []string) bool { return inside(paths, g) })
	})
	return m
}

// self is the number that we have in this /proc, which may be that of a pid namespace above ours; 0 if it does not show us.
func self(proc string) int {
	l, err := os.Readlink(filepath.Join(proc, "self"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(l)
	if err != nil {
		return 0
	}
	return pid
}

// inside reports whether any of the paths is g or lies below it.
func inside(paths []string, g string) bool {
	return slices.ContainsFunc(paths, func(p string) bool { return p == g || strings.HasPrefix(p, g) && p[len(g)] == '/' })
}

// sibling gives a cgroup of a process that lies beside one of the container's: it may be another container's, of the same pod or
// with a pid namespace that was shared on purpose. It is "" if there is none.
func (m *matcher) sibling(paths []string) string {
	for _, p := range paths {
		for _, g := range m.cgroups {
			if p != "/" && path.Dir(p) == path.Dir(g) && path.Dir(g) != "/" {
				return p
			}
		}
	}
	return ""
}

// relation says why a process belongs to the container by itself, or "".
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
	case m.pidNS != "" && p.pidNS == m.pidNS && m.sibling(p.cgroups) == "":
		return record.InNamespaces
	}
	return ""
}

// scan looks at every process once and adds those that belong; grew says that there were new ones.
func (m *matcher) scan(found map[int]Process) (grew bool, err error) {
	all, err := m.everyone()
	if err != nil {
		return false, err
	}
	relations := map[int]string{}
	for pid, p := range all {
		if r := m.relation(p); r != "" {
			relations[pid] = r
		}
	}
	m.descend(all, relations)
	for pid, r := range relations {
		p := all[pid]
		if old, ok := found[pid]; ok && old.StartTicks == p.ticks {
			continue
		}
		if len(found) >= maxProcesses {
			return false, ErrTooMany
		}
		found[pid] = Process{PID: pid, ContainerPID: containerPID(m.proc, pid), StartTicks: p.ticks, Relation: r}
		grew = true
	}
	return grew, nil
}

// everyone reads what /proc shows, oneself left out. Processes that were looked at before are only checked to be the same.
func (m *matcher) everyone() (map[int]seen, error) {
	d, err := os.Open(m.proc)
	if err != nil {
		return nil, err
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
			if old, ok := m.known[pid]; ok {
				if ppid, ticks, err := Stat(m.proc, pid); err == nil && ticks == old.ticks {
					old.ppid = ppid
					all[pid] = old
					continue
				}
			}
			if p, lerr := look(m.proc, pid); lerr == nil && (m.ours == "" || p.mntNS != m.ours) {
				all[pid] = p
			}
		}
		if err != nil {
			break
		}
	}
	m.known = all
	return all, nil
}

// descend adds the descendants that left cgroup and namespaces. In a pid namespace that several containers share an orphan
// of another one becomes a child of the namespace's first process, which may be this container's: an orphan that lives
// where a process lives that is no descendant is that one's.
func (m *matcher) descend(all map[int]seen, relations map[int]string) {
	children := map[int][]int{}
	for pid, p := range all {
		children[p.ppid] = append(children[p.ppid], pid)
	}
	closure := func(skip func(seen) bool) map[int]bool {
		got := map[int]bool{}
		var todo []int
		for pid := range relations {
			todo = append(todo, pid)
		}
		for len(todo) > 0 {
			pid := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			for _, child := range children[pid] {
				if relations[child] == "" && !got[child] && !skip(all[child]) {
					got[child] = true
					todo = append(todo, child)
				}
			}
		}
		return got
	}
	type home struct{ cgroup, mntNS string }
	descendants := closure(func(seen) bool { return false })
	foreign := map[home]bool{}
	for pid, p := range all {
		if g := m.sibling(p.cgroups); g != "" && relations[pid] == "" && !descendants[pid] {
			foreign[home{g, p.mntNS}] = true
		}
	}
	if len(foreign) > 0 {
		descendants = closure(func(p seen) bool {
			g := m.sibling(p.cgroups)
			return g != "" && foreign[home{g, p.mntNS}]
		})
	}
	for pid := range descendants {
		relations[pid] = record.Descendant
	}
}
