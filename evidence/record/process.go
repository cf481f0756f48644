package record

// Thread is one line of process/<pid>/threads.jsonl, which exists for processes of more than one thread. Stat, Status, Wchan and
// Syscall are the files of /proc/<pid>/task/<tid> byte for byte.
type Thread struct {
	TID          int    `json:"tid"`
	ContainerTID int    `json:"container_tid,omitempty"` // in the container's own pid namespace
	Comm         Name   `json:"comm"`
	State        string `json:"state"`
	StartTicks   uint64 `json:"start_ticks"`
	StartTime    int64  `json:"start_time"`
	TracerPID    int    `json:"tracer_pid,omitempty"`
	// Namespaces and Cgroup are given only where the thread left those of its process.
	Namespaces map[string]uint64 `json:"namespaces,omitempty"`
	Cgroup     string            `json:"cgroup,omitempty"`
	// FDs are given only for a thread with a table of descriptors of its own, which /proc/<pid>/fd does not show.
	FDs     []FD `json:"fds,omitempty"`
	Stat    Name `json:"stat,omitempty"`
	Status  Name `json:"status,omitempty"`
	Wchan   Name `json:"wchan,omitempty"`
	Syscall Name `json:"syscall,omitempty"`
}

// Mapped is one line of process/<pid>/mapped.jsonl: a file that the process has mapped as code and that is not the image's: a
// library from the writable layer, from a volume, deleted, or from a memfd. The executable itself is left out.
type Mapped struct {
	Start    uint64 `json:"start"` // of the first executable mapping
	End      uint64 `json:"end"`
	Path     Name   `json:"path"`   // as maps reads, without " (deleted)"
	Origin   string `json:"origin"` // one of the values of Exe.Origin
	Deleted  bool   `json:"deleted,omitempty"`
	Dev      uint64 `json:"dev,omitempty"`
	Ino      uint64 `json:"ino,omitempty"`
	Size     int64  `json:"size,omitempty"`
	Mtime    int64  `json:"mtime,omitempty"`
	Ctime    int64  `json:"ctime,omitempty"`
	Btime    int64  `json:"btime,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
	Artifact string `json:"artifact,omitempty"` // "process/<pid>/mapped/<start>-<end>" when kept
	Error    string `json:"error,omitempty"`
}
