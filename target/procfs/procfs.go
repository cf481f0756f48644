// Package procfs finds containers with no runtime answering: by the cgroup paths of processes, namespaces that differ
// from the machine's, overlay mounts, shim processes and OCI state directories. It cross-checks the runtimes, and
// serves targets of the form pid://PID.
//
// Formats: proc_pid_mountinfo(5), cgroups(7), proc_pid_stat(5), namespaces(7). Only running containers have
// processes: what has ended is not found here. Process names and arguments are chosen by the processes; a shim counts as
// one only outside of every container.
package procfs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

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
			return nil, fmt.Errorf("the namespaces of process %d (%s) can't be read, which needs root or CAP_SYS_PTRACE; run with sudo", pid, p.Comm)
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
