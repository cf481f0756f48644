package procfs

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/target"
)

// group is the processes of one container.
type group struct {
	init    target.Process
	named   Named // by cgroup; ID is empty if the cgroup names none
	shim    *shim // the runtime's process that looks after it
	members []int
	// nested is the init of the container that this one runs in, 0 if none.
	nested int
}

// scan is one look at /proc.
type scan struct {
	r          *Runtime
	host       target.Namespaces
	hostMounts []Mount
	procs      map[int]target.Process
	order      []int // by start time, then pid
	named      map[int]Named
	roots      map[uint64]string // of mount namespaces
	hostRoot   string
	shims      map[int]*shim
	groups     []*group
	of         map[int]*group
	unreadable int
}

func (r *Runtime) scan(ctx context.Context) (*scan, error) {
	s := &scan{r: r, host: r.hostNamespaces(), hostMounts: r.hostMounts(), procs: map[int]target.Process{}, named: map[int]Named{},
		roots: map[uint64]string{}, shims: map[int]*shim{}, of: map[int]*group{}}
	pids, err := r.pids()
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p, ok := r.process(pid)
		if !ok {
			continue
		}
		s.procs[pid] = p
		s.order = append(s.order, pid)
		if p.NS.Mnt == 0 {
			s.unreadable++
		}
		for _, c := range p.Cgroups {
			if n, ok := ContainerOf(c); ok {
				s.named[pid] = n
				break
			}
		}
	}
	slices.SortFunc(s.order, func(a, b int) int {
		return cmp.Or(cmp.Compare(s.procs[a].StartTicks, s.procs[b].StartTicks), a-b)
	})
	if m, ok := RootMount(s.hostMounts); ok {
		s.hostRoot = m.Dev + m.Root
	}
	for _, pid := range s.order {
		if sh := s.shim(s.procs[pid]); sh != nil {
			s.shims[pid] = sh
		}
	}
	s.group()
	return s, nil
}

// foreign reports whether a process has mounts and a root that are not the machine's. A service with a private /tmp has a mount
// namespace of its own, but the machine's root.
func (s *scan) foreign(p target.Process) bool {
	if p.NS.Mnt == 0 || p.NS.Mnt == s.host.Mnt {
		return false
	}
	return s.root(p) != s.hostRoot
}

// root identifies the root of a process's mount namespace by device and path.
func (s *scan) root(p target.Process) string {
	if r, ok := s.roots[p.NS.Mnt]; ok {
		return r
	}
	r := "unknown" // a root that is no mount point: changed by chroot(2)
	if b, err := s.r.file(p.PID, "mountinfo"); err == nil {
		if m, ok := RootMount(ParseMountinfo(b)); ok {
			r = m.Dev + m.Root
		}
	}
	s.roots[p.NS.Mnt] = r
	return r
}

// group puts processes into containers. What a cgroup names comes first; then inits of pid namespaces that have a root of their
// own; then what has only a root of its own, as containers with the machine's pid namespace do.
func (s *scan) group() {
	byID := map[string]*group{}
	for _, pid := range s.order {
		p, n := s.procs[pid], s.named[pid]
		if n.ID == "" || !s.foreign(p) {
			continue
		}
		g := byID[n.ID]
		if g == nil {
			g = &group{init: p, named: n}
			byID[n.ID] = g
			s.add(g)
		}
		// The oldest process is the first one, unless a younger one is its pid namespace's init.
		if g.init.InnerPID != 1 && p.InnerPID == 1 && p.NS.PID != s.host.PID {
			g.init = p
		}
	}
	for _, pid := range s.order {
		p := s.procs[pid]
		if s.named[pid].ID == "" && p.InnerPID == 1 && p.NS.PID != 0 && p.NS.PID != s.host.PID && s.foreign(p) && !s.continues(p) {
			s.add(&group{init: p})
		}
	}
	for _, pid := range s.order {
		p := s.procs[pid]
		if s.named[pid].ID == "" && p.NS.PID == s.host.PID && s.foreign(p) && s.shimOf(p) != nil && !s.shared(p) {
			s.add(&group{init: p})
		}
	}
	for _, g := range s.groups {
		g.shim = s.shimOf(g.init)
		for up := s.procs[g.init.PPID]; up.PID > 1; up = s.procs[up.PPID] {
			if outer := s.initAt(up); outer != nil && outer != g {
				g.nested = outer.init.PID
				break
			}
		}
		s.of[g.init.PID] = g
	}
	for _, pid := range s.order {
		if g, _ := s.groupOf(s.procs[pid]); g != nil && s.belongs(s.procs[pid], g) {
			g.members = append(g.members, pid)
			s.of[pid] = g
		}
	}
}

func (s *scan) add(g *group) { s.groups = append(s.groups, g) }

// continues reports whether a process only went into a deeper pid namespace with the root of a container that is known
// already, as a browser's sandbox does.
func (s *scan) continues(p target.Process) bool {
	for up := s.procs[p.PPID]; up.PID > 1; up = s.procs[up.PPID] {
		if s.foreign(up) && s.root(up) == s.root(p) {
			return true
		}
	}
	return s.shared(p)
}

// shared reports whether a known container has the process's mount namespace.
func (s *scan) shared(p target.Process) bool {
	return slices.ContainsFunc(s.groups, func(g *group) bool { return g.init.NS.Mnt == p.NS.Mnt })
}

func (s *scan) initAt(p target.Process) *group {
	for _, g := range s.groups {
		if g.init.PID == p.PID || g.named.ID != "" && s.named[p.PID].ID == g.named.ID {
			return g
		}
	}
	return nil
}

// belongs reports whether a process is the container's by cgroup or by descent, and not merely in its namespaces.
func (s *scan) belongs(p target.Process, g *group) bool {
	if g.named.ID != "" {
		return s.named[p.PID].ID == g.named.ID
	}
	if path := g.init.Cgroup; own(path) && p.In(path) {
		return true
	}
	for up := p; up.PID > 1; up = s.procs[up.PPID] {
		if up.PID == g.init.PID {
			return true
		}
	}
	return false
}

// own reports whether a cgroup can be a container's alone.
func own(path string) bool { return strings.Trim(path, "/") != "" }

// groupOf finds the container of a process, and says in words when the process is not its first one.
func (s *scan) groupOf(p target.Process) (*group, string) {
	if g := s.of[p.PID]; g != nil && g.init.PID == p.PID {
		return g, ""
	}
	for _, g := range s.groups {
		if g.named.ID != "" && s.named[p.PID].ID == g.named.ID {
			return g, fmt.Sprintf("that is not the container's first process, which is %d", g.init.PID)
		}
	}
	for up := p; up.PID > 1; up = s.procs[up.PPID] {
		if g := s.initAt(up); g != nil && up.PID == g.init.PID {
			return g, fmt.Sprintf("that is a descendant of the container's first process, which is %d", g.init.PID)
		}
	}
	for _, kind := range []struct {
		name string
		of   func(target.Namespaces) uint64
	}{{"pid", func(n target.Namespaces) uint64 { return n.PID }}, {"mount", func(n target.Namespaces) uint64 { return n.Mnt }}} {
		for _, g := range s.groups {
			if n := kind.of(p.NS); n != 0 && n != kind.of(s.host) && n == kind.of(g.init.NS) {
				where := "shares the container's " + kind.name + " namespace"
				if own(g.init.Cgroup) && !p.In(g.init.Cgroup) {
					where += " but is not in its cgroup"
				}
				return g, fmt.Sprintf("that process %s; the container's first process is %d", where, g.init.PID)
			}
		}
	}
	return nil, ""
}

// container describes a group in the words of target.Container, without Records.
func (s *scan) container(g *group) *target.Container {
	p := g.init
	c := &target.Container{URL: "pid://" + strconv.Itoa(p.PID), Runtime: "procfs", ID: g.named.ID, State: target.Running, PID: p.PID,
		Started: started(p.StartTicks), CgroupPath: p.Cgroup, Entrypoint: s.r.cmdline(p.PID)}
	if g.named.Path != "" {
		c.CgroupPath = g.named.Path
	}
	if s.frozen(c.CgroupPath) {
		c.State = target.Paused
	}
	if g.shim != nil {
		c.Namespace = g.shim.namespace
		c.Name = cmp.Or(g.shim.name, c.Name)
		c.ID = cmp.Or(c.ID, g.shim.id)
		if g.shim.log.Path != "" {
			c.Logs = []target.LogFile{g.shim.log}
		}
	}
	if b, err := s.r.file(p.PID, "mountinfo"); err != nil {
		c.Warn("the mounts of process " + strconv.Itoa(p.PID) + " can't be read: " + err.Error())
	} else {
		var notes []string
		c.Rootfs, notes = Rootfs(s.r.places, ParseMountinfo(b), s.hostMounts)
		c.Warnings = append(c.Warnings, notes...)
	}
	if g.nested != 0 {
		c.Warn(fmt.Sprintf("it runs inside another container, whose first process is %d", g.nested))
	}
	s.documents(c, g)
	if c.ID == "" {
		c.ID = "pid-" + strconv.Itoa(p.PID)
		c.Warn("no id is known: its cgroup names none, and no shim or state directory that is known looks after it")
	}
	c.Name = cmp.Or(c.Name, c.ID)
	return c
}

// frozen asks the cgroup freezer, version 2 and version 1.
func (s *scan) frozen(path string) bool {
	if !own(path) {
		return false
	}
	for _, f := range []struct{ at, want string }{
		{"/sys/fs/cgroup" + path + "/cgroup.freeze", "1"}, {"/sys/fs/cgroup/unified" + path + "/cgroup.freeze", "1"},
		{"/sys/fs/cgroup/freezer" + path + "/freezer.state", "FROZEN"},
	} {
		if b, err := readSome(s.r.places.Host(filepath.Clean(f.at)), 64); err == nil && strings.TrimSpace(string(b)) == f.want {
			return true
		}
	}
	return false
}
