package record

// Hold is something of the container that a process beside it has in its hands.
type Hold struct {
	What string `json:"what"`         // fd, cwd or root
	FD   int    `json:"fd,omitempty"` // -1 unless What is fd
	// Part is mem, environ, maps, smaps, pagemap, cmdline, auxv, stack or syscall of a process, or file or folder of the container's root.
	Part     string `json:"part"`
	Of       int    `json:"of,omitempty"` // the process, as the shared pid namespace numbers it
	Target   Name   `json:"target"`       // as the link reads
	Writable bool   `json:"writable,omitempty"`
}

// Sharer is one line of process/sharing.jsonl: a process that is not the container's and lives in its pid or network namespace, as
// those of a pod's other containers, sidecars and debug containers do. Namespaces of the machine itself don't count. Cgroup tells whose it is.
type Sharer struct {
	PID int `json:"pid"` // as the collector's /proc numbers it
	// ContainerPID is its number in its own pid namespace, which is the container's if Shares says so.
	ContainerPID int      `json:"container_pid"`
	PPID         int      `json:"ppid"`
	Shares       []string `json:"shares"` // pid, net
	Comm         Name     `json:"comm"`
	Cmdline      []Name   `json:"cmdline"`
	State        string   `json:"state"`
	StartTicks   uint64   `json:"start_ticks"`
	StartTime    int64    `json:"start_time"`
	UID          uint32   `json:"uid"`
	EUID         uint32   `json:"euid"`
	TracerPID    int      `json:"tracer_pid,omitempty"`
	CapEff       uint64   `json:"cap_eff"`
	Cgroup       string   `json:"cgroup,omitempty"`
	// Namespaces maps "pid", "net", "mnt"… to the inode number of the namespace.
	Namespaces map[string]uint64 `json:"namespaces,omitempty"`
	Exe        Name              `json:"exe"` // as the link reads
	Holds      []Hold            `json:"holds,omitempty"`
}
