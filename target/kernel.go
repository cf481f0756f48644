package target

import (
	"context"
	"strings"
)

// Namespaces are the numbers of a process's namespaces, 0 where they could not be read.
type Namespaces struct{ Mnt, PID, Net, IPC, User uint64 }

// Process is one process of the machine, as /proc shows it.
type Process struct {
	PID, PPID  int
	InnerPID   int // in its own pid namespace, 0 if unknown
	UID        int // -1 if unknown
	StartTicks uint64
	Comm       string // chosen by the process itself
	Cgroup     string // the deepest of its cgroups' paths
	Cgroups    []string
	NS         Namespaces
}

// In reports whether the process sits in the cgroup at path or below it, in any hierarchy.
func (p Process) In(path string) bool {
	for _, c := range p.Cgroups {
		if c == path || strings.HasPrefix(c, path) && c[len(path)] == '/' {
			return true
		}
	}
	return false
}

// Kernel is what the kernel shows, whatever the runtimes say.
type Kernel struct {
	Host       Namespaces
	Processes  map[int]Process
	Containers []*Container // by URL pid://PID, none twice
	// Unreadable counts processes whose namespaces could not be read.
	Unreadable int
}

// Scanner finds containers without asking a runtime. target/procfs is the one that exists.
type Scanner interface {
	Kernel(ctx context.Context) (*Kernel, error)
}
