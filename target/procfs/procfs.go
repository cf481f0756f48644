// Package procfs finds containers with no runtime answering: by the cgroup paths of processes, namespaces that differ
// from the machine's, overlay mounts, shim processes and OCI state directories. It cross-checks the runtimes, and
// serves targets of the form pid://PID.
//
// Formats: proc_pid_mountinfo(5), cgroups(7), proc_pid_stat(5), namespaces(7). Only running containers have
// processes: what has ended is not found here. Process names and arguments are chosen by the processes; a shim counts as
// one only outside of every container.
package procfs

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/target"
)

// Runtime finds containers in /proc. It is a target.Runtime and a target.Scanner.
type Runtime struct {
	places target.Places
	proc   string
}

var (
	_ target.Runtime = (*Runtime)(nil)
	_ target.Scanner = (*Runtime)(nil)
)

// New checks that /proc can be read.
func New(p target.Places) (*Runtime, error) {
	r := &Runtime{places: p, proc: p.Proc()}
	if _, err := os.Stat(filepath.Join(r.proc, "self", "stat")); err != nil {
		return nil, fmt.Errorf("the kernel's view of processes can't be read at %s: %w", r.proc, err)
	}
	return r, nil
}

// Scheme is "pid".
func (r *Runtime) Scheme() string { return "pid" }

// Close does nothing.
func (r *Runtime) Close() error { return nil }

// List gives the containers that the kernel shows.
func (r *Runtime) List(ctx context.Context) ([]*target.Container, error) {
	k, err := r.Kernel(ctx)
	if err != nil {
		return nil, err
	}
	return k.Containers, nil
}

// Find gives the container that process ref belongs to. A process that is not the container's first one, or that only
// shares the container's namespaces, leads to it as well, with a warning.
func (r *Runtime) Find(ctx context.Context, ref string) (*target.Container, error) {
	pid, err := strconv.Atoi(strings.TrimSuffix(ref, "/"))
	if err != nil || pid <= 0 {
		return nil, fmt.Errorf("pid://%s: a process is named by its number on this machine, as in pid://4711", ref)
	}
	s, err := r.scan(ctx)
	if err != nil {
		return nil, err
	}
	p, ok := s.procs[pid]
	if !ok {
		if st, err := r.file(pid, "stat"); err == nil {
			if x, ok := parseStat(st); ok && x.flags&kernelThread != 0 {
				return nil, fmt.Errorf("process %d (%s) is a thread of the kernel and in no container", pid, x.comm)
			}
			return nil, fmt.Errorf("process %d has ended and only its exit status is left; its container, if it had one, is in `sherd targets`", pid)
		}
		return nil, fmt.Errorf("there is no process %d here; `sherd targets` lists the containers and their processes", pid)
	}
	g, why := s.groupOf(p)
	if g == nil {
		if p.NS.Mnt == 0 {
			return nil, fmt.Errorf("the namespaces of process %d (%s) can't be read: that needs root or CAP_SYS_PTRACE, and some kernels protect the machine's first process even then", pid, p.Comm)
		}
		return nil, fmt.Errorf("process %d (%s) runs in no container: its mounts and pid namespace are the machine's own; `sherd targets` lists the containers", pid, p.Comm)
	}
	c := s.container(g)
	s.records(c, g)
	if why != "" {
		c.Warn(fmt.Sprintf("pid://%d was asked for; %s", pid, why))
	}
	return c, nil
}

// Kernel scans /proc.
func (r *Runtime) Kernel(ctx context.Context) (*target.Kernel, error) {
	s, err := r.scan(ctx)
	if err != nil {
		return nil, err
	}
	k := &target.Kernel{Host: s.host, Processes: s.procs, Unreadable: s.unreadable}
	for _, g := range s.groups {
		k.Containers = append(k.Containers, s.container(g))
	}
	slices.SortFunc(k.Containers, func(a, b *target.Container) int { return a.PID - b.PID })
	return k, nil
}

// Confirm checks that process pid is the container id as seen from here, and gives the container's cgroup. A process that
// can't be seen, or that is another container's, gives no path and a warning.
func (r *Runtime) Confirm(pid int, id string) (cgroup, warning string) {
	b, err := r.file(pid, "cgroup")
	if err != nil {
		return "", fmt.Sprintf("the container's process %d is not to be seen in %s: %v; a collector in a pod needs the machine's pid namespace (hostPID)", pid, r.proc, err)
	}
	cs := ParseCgroup(b)
	for _, c := range cs {
		n, ok := ContainerOf(c.Path)
		if ok && n.ID == id {
			return n.Path, ""
		}
		if ok && !strings.Contains(c.Path, id) {
			return "", fmt.Sprintf("process %d, which the runtime names, belongs to another container (%s): it was left out", pid, c.Path)
		}
	}
	path := CgroupOf(cs)
	if strings.Contains(path, id) {
		i := strings.Index(path, id) + len(id)
		if j := strings.IndexByte(path[i:], '/'); j >= 0 {
			path = path[:i+j]
		}
		return path, ""
	}
	if strings.Trim(path, "/") == "" {
		return path, fmt.Sprintf("process %d is in no cgroup of its own, so the container's processes are known by namespace and descent only", pid)
	}
	return path, ""
}

// Rootfs tells how the root of process pid is put together.
func (r *Runtime) Rootfs(pid int) (target.Rootfs, []string, error) {
	b, err := r.file(pid, "mountinfo")
	if err != nil {
		return target.Rootfs{}, nil, err
	}
	fs, notes := Rootfs(r.places, ParseMountinfo(b), r.hostMounts())
	return fs, notes, nil
}

// Config finds the OCI configuration of container id, whose first process is pid, and where it lies.
func (r *Runtime) Config(pid int, id string) ([]byte, string) {
	p, ok := r.process(pid)
	if !ok {
		return nil, ""
	}
	s := &scan{r: r, host: r.hostNamespaces(), procs: map[int]target.Process{pid: p}, roots: map[uint64]string{},
		named: map[int]Named{pid: {ID: id}}, shims: map[int]*shim{}}
	if m, ok := RootMount(r.hostMounts()); ok {
		s.hostRoot = m.Dev + m.Root
	}
	if up, ok := r.process(p.PPID); ok {
		if sh := s.shim(up); sh != nil {
			s.shims[up.PID] = sh
		}
	}
	g := &group{init: p, shim: s.shimOf(p)}
	return s.config(&target.Container{ID: id}, g)
}

// Started is when process pid started; the zero time if it is gone.
func (r *Runtime) Started(pid int) time.Time {
	if b, err := r.file(pid, "stat"); err == nil {
		if st, ok := parseStat(b); ok {
			return started(st.start)
		}
	}
	return time.Time{}
}

// Runs reports whether process pid is the container id: its cgroup or the runtime's process above it names the id.
func (r *Runtime) Runs(pid int, id string) bool {
	p, ok := r.process(pid)
	if !ok || id == "" {
		return false
	}
	for _, c := range p.Cgroups {
		if strings.Contains(c, id) {
			return true
		}
	}
	return slices.Contains(r.cmdline(p.PPID), id)
}

// Frozen reports whether the cgroup freezer holds the cgroup at path.
func (r *Runtime) Frozen(path string) bool {
	s := &scan{r: r}
	return s.frozen(path)
}

// Monitor is a conmon that looks after a container of Podman's or CRI-O's.
type Monitor struct {
	ID, Bundle, PIDFile string
	UID                 int
}

// Monitors finds the conmon processes outside of every container.
func (r *Runtime) Monitors() []Monitor {
	s := &scan{r: r, host: r.hostNamespaces(), roots: map[uint64]string{}}
	if m, ok := RootMount(r.hostMounts()); ok {
		s.hostRoot = m.Dev + m.Root
	}
	pids, err := r.pids()
	if err != nil {
		return nil
	}
	var out []Monitor
	for _, pid := range pids {
		b, err := r.file(pid, "stat")
		if err != nil {
			continue
		}
		if st, ok := parseStat(b); !ok || st.comm != "conmon" {
			continue
		}
		p, ok := r.process(pid)
		if !ok {
			continue
		}
		if sh := s.shim(p); sh != nil && sh.bundle != "" {
			args := r.cmdline(pid)
			out = append(out, Monitor{ID: sh.id, Bundle: sh.bundle, PIDFile: cmp.Or(flag(args, "-p"), flag(args, "--container-pidfile")), UID: p.UID})
		}
	}
	return out
}
