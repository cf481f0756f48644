// Package record has the shapes of the JSON documents that a collector writes into a package beside the raw
// bytes: one line per file, process, socket and memory mapping, and one per thing that could not be had.
// They are part of the evidence format (docs/evidence-format.md): fields are added, never renamed. All times
// are int64 nanoseconds since the Unix epoch in UTC, 0 when unknown; hashes are lower-case hex.
package record

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Name is a string of bytes that somebody else chose: a path, a process name, an argument. JSON strings can't hold every
// byte, so in JSON a backslash is written twice, and each control byte and each byte that is not part of valid
// UTF-8 as \xHH; everything else stands for itself. The conversion is lossless both ways.
type Name string

// MarshalJSON writes the escaped form.
func (n Name) MarshalJSON() ([]byte, error) { return json.Marshal(Escape(string(n))) }

// UnmarshalJSON reads the escaped form back into the bytes.
func (n *Name) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	raw, err := Unescape(s)
	if err != nil {
		return err
	}
	*n = Name(raw)
	return nil
}

// Escape gives the JSON-safe form of a Name.
func Escape(s string) string {
	ok := true
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '\\' {
			ok = false
			break
		}
	}
	if ok {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case s[i] == '\\':
			b.WriteString(`\\`)
		case s[i] < 0x20 || s[i] == 0x7f || r == utf8.RuneError && n <= 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
			n = 1
		default:
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// Unescape is Escape's inverse.
func Unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		switch {
		case i+1 < len(s) && s[i+1] == '\\':
			b.WriteByte('\\')
			i++
		case i+3 < len(s) && s[i+1] == 'x' && hex(s[i+2]) >= 0 && hex(s[i+3]) >= 0:
			b.WriteByte(byte(hex(s[i+2])<<4 | hex(s[i+3])))
			i += 3
		default:
			return "", fmt.Errorf("name %q has a stray backslash at byte %d", s, i)
		}
	}
	return b.String(), nil
}

func hex(c byte) int { return strings.IndexByte("0123456789abcdef", c) }

// Values of File.Tree.
const (
	TreeBoth  = "both"  // in the container's root as the image supplies it, unchanged
	TreeRoot  = "root"  // in the container's root only, or there in another form than the image's
	TreeImage = "image" // in the image only: deleted, hidden, or replaced in the container
	TreeLayer = "layer" // in one image layer, but replaced or removed by a higher image layer
)

// Values of File.Type.
const (
	TypeFile    = "file"
	TypeDir     = "dir"
	TypeSymlink = "symlink"
	TypeChar    = "char"
	TypeBlock   = "block"
	TypeFIFO    = "fifo"
	TypeSocket  = "socket"
	// TypeWhiteout is a deletion marker in the writable layer (tree "root"): the path does not exist in the root.
	TypeWhiteout = "whiteout"
)

// WritableLayer is File.Layer of what the container's own writable layer supplies.
const WritableLayer = -1

// InitLayer is File.Layer of what the runtime itself put under the writable layer: Docker's "-init" layer with its empty
// /etc/hosts, /dev/console and the like. Neither the image nor the container made it.
const InitLayer = -2

// File is one line of filesystem/inventory.jsonl: a file of the merged root, of the image, or both. A change shows
// as two lines with the same path, one with tree "root" and one with tree "image".
type File struct {
	Tree string `json:"tree"`
	Path Name   `json:"path"` // absolute inside the root, "/usr/bin/app"
	Type string `json:"type"`
	// Mode holds the permission bits with setuid (04000), setgid (02000) and sticky (01000).
	Mode   uint32 `json:"mode"`
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	Size   int64  `json:"size"`
	Mtime  int64  `json:"mtime,omitempty"`
	Ctime  int64  `json:"ctime,omitempty"`
	Atime  int64  `json:"atime,omitempty"`
	Btime  int64  `json:"btime,omitempty"`
	Dev    uint64 `json:"dev,omitempty"`
	Ino    uint64 `json:"ino,omitempty"`
	Nlink  uint64 `json:"nlink,omitempty"`
	Rdev   uint64 `json:"rdev,omitempty"`
	Target Name   `json:"target,omitempty"` // of a symbolic link
	SHA256 string `json:"sha256,omitempty"` // of a regular file's content
	// Layer is the index of the image layer that supplies it, 0 the lowest; WritableLayer (-1) for the container's own.
	Layer       int    `json:"layer"`
	LayerDigest string `json:"layer_digest,omitempty"` // the layer's diff id
	// Xattrs are extended attributes, values in base64.
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
	// Opaque, Redirect and Metacopy are what overlayfs recorded on the writable layer's entry.
	Opaque   bool `json:"opaque,omitempty"`
	Redirect Name `json:"redirect,omitempty"`
	Metacopy bool `json:"metacopy,omitempty"`
	// Magic is the start of a regular file's content, at most 8 bytes, base64: enough to know an ELF file or a script.
	Magic []byte `json:"magic,omitempty"`
	// Mount is set for a file that does not belong to the root but to a volume: the mount point inside the container.
	Mount    Name   `json:"mount,omitempty"`
	Artifact string `json:"artifact,omitempty"` // escaped path in the package of the content, if it was kept
	Error    string `json:"error,omitempty"`    // why content, hash or metadata are missing or uncertain
}

// Values of Exe.Origin.
const (
	ExeImage   = "image"   // the image's own file, unchanged
	ExeDrift   = "drift"   // from the writable layer: added, or changed since the image
	ExeDeleted = "deleted" // its name is gone
	ExeMemfd   = "memfd"   // never had a name in a file system
	ExeVolume  = "volume"  // from a mount that is not the root
	ExeOutside = "outside" // from outside the container's root: the host's, or another container's
	ExeUnknown = "unknown" // could not be told
)

// Exe is what /proc/<pid>/exe leads to.
type Exe struct {
	Path     Name   `json:"path"` // as the link reads, without " (deleted)"
	Origin   string `json:"origin"`
	Deleted  bool   `json:"deleted,omitempty"`
	Dev      uint64 `json:"dev,omitempty"`
	Ino      uint64 `json:"ino,omitempty"`
	Size     int64  `json:"size,omitempty"`
	Mtime    int64  `json:"mtime,omitempty"`
	Ctime    int64  `json:"ctime,omitempty"`
	Btime    int64  `json:"btime,omitempty"`
	Mode     uint32 `json:"mode,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
	Artifact string `json:"artifact,omitempty"` // "process/<pid>/exe" when kept
	Error    string `json:"error,omitempty"`
}

// FD is one open file descriptor.
type FD struct {
	N      int  `json:"n"`
	Target Name `json:"target"` // as the link reads: "/path", "socket:[123]", "/memfd:x (deleted)"
	// Kind is file, dir, socket, pipe, memfd, device, anon or other.
	Kind     string `json:"kind"`
	Deleted  bool   `json:"deleted,omitempty"`
	Dev      uint64 `json:"dev,omitempty"`
	Ino      uint64 `json:"ino,omitempty"`
	Size     int64  `json:"size,omitempty"`
	Pos      int64  `json:"pos,omitempty"`
	Flags    uint64 `json:"flags,omitempty"` // O_… as in fdinfo
	SHA256   string `json:"sha256,omitempty"`
	Magic    []byte `json:"magic,omitempty"`
	Artifact string `json:"artifact,omitempty"` // where the content was kept, for deleted files and memfds
	Error    string `json:"error,omitempty"`
}

// Values of Process.Relation: why a process is taken to belong to the container.
const (
	InCgroup     = "cgroup"     // the container's cgroup holds it
	InNamespaces = "namespaces" // it lives in the container's namespaces, but its cgroup does not hold it
	Descendant   = "descendant" // a child of one of the above that left both
	Sharing      = "sharing"    // somebody else's that shares a namespace; it stands in process/sharing.jsonl alone
)

// Process is one line of process/processes.jsonl. The raw files of /proc/<pid> lie beside it in Dir.
type Process struct {
	PID int `json:"pid"` // as the collector's /proc numbers it
	// ContainerPID is the number inside the container's own pid namespace, 0 if it is not in it.
	ContainerPID int    `json:"container_pid"`
	PPID         int    `json:"ppid"`
	Dir          string `json:"dir"` // "process/<pid>"
	Relation     string `json:"relation"`
	Comm         Name   `json:"comm"`
	Cmdline      []Name `json:"cmdline"`
	State        string `json:"state"` // R, S, D, T, Z …
	StartTicks   uint64 `json:"start_ticks"`
	StartTime    int64  `json:"start_time"` // from boot time and StartTicks; good to 10 ms
	UID          uint32 `json:"uid"`
	EUID         uint32 `json:"euid"`
	GID          uint32 `json:"gid"`
	EGID         uint32 `json:"egid"`
	Threads      int    `json:"threads"`
	TracerPID    int    `json:"tracer_pid,omitempty"`
	Seccomp      int    `json:"seccomp"`
	NoNewPrivs   bool   `json:"no_new_privs"`
	CapEff       uint64 `json:"cap_eff"`
	LSM          string `json:"lsm,omitempty"`
	Cgroup       string `json:"cgroup,omitempty"`
	// Namespaces maps "pid", "net", "mnt"… to the inode number of the namespace.
	Namespaces map[string]uint64 `json:"namespaces,omitempty"`
	Exe        Exe               `json:"exe"`
	Cwd        Name              `json:"cwd,omitempty"`
	Root       Name              `json:"root,omitempty"`
	FDs        []FD              `json:"fds,omitempty"`
	// CPUTime is user and system time spent, in nanoseconds.
	CPUTime int64    `json:"cpu_time,omitempty"`
	RSS     int64    `json:"rss,omitempty"` // bytes
	Errors  []string `json:"errors,omitempty"`
}

// Owner is one descriptor that holds a socket.
type Owner struct {
	PID int `json:"pid"`
	FD  int `json:"fd"`
}

// Socket is one line of network/sockets.jsonl.
type Socket struct {
	Family   string `json:"family"`   // inet, inet6, unix, packet, netlink, vsock
	Protocol string `json:"protocol"` // tcp, mptcp, udp, udplite, sctp, icmp, raw, stream, dgram, seqpacket
	// State is listen, established, time_wait … as the kernel names them; unconnected for what has no peer.
	State string `json:"state,omitempty"`
	// Number is the IP protocol of a raw socket, the ethertype of a packet socket, the protocol of a netlink socket (whose
	// port id is LocalPort).
	Number     int    `json:"number,omitempty"`
	LocalIP    string `json:"local_ip,omitempty"`
	LocalPort  int    `json:"local_port,omitempty"`
	RemoteIP   string `json:"remote_ip,omitempty"`
	RemotePort int    `json:"remote_port,omitempty"`
	Path       Name   `json:"path,omitempty"` // of a unix socket; an abstract one starts with a NUL byte
	Inode      uint64 `json:"inode,omitempty"`
	PeerInode  uint64 `json:"peer_inode,omitempty"` // of a connected unix socket
	UID        uint32 `json:"uid"`
	Interface  int    `json:"interface,omitempty"`
	// BytesSent and BytesReceived count payload over the connection's life (TCP_INFO); nil if the kernel did not say.
	BytesSent     *uint64 `json:"bytes_sent,omitempty"`
	BytesReceived *uint64 `json:"bytes_received,omitempty"`
	// LastSentMS and LastReceivedMS are milliseconds before the capture.
	LastSentMS     *uint32 `json:"last_sent_ms,omitempty"`
	LastReceivedMS *uint32 `json:"last_received_ms,omitempty"`
	RTTMicros      uint32  `json:"rtt_us,omitempty"`
	SendQueue      uint32  `json:"send_queue,omitempty"`
	ReceiveQueue   uint32  `json:"receive_queue,omitempty"`
	// SegmentsSent and SegmentsReceived count TCP segments of any kind, BytesRetransmitted what was sent more than once.
	SegmentsSent       uint32 `json:"segments_sent,omitempty"`
	SegmentsReceived   uint32 `json:"segments_received,omitempty"`
	BytesRetransmitted uint64 `json:"bytes_retransmitted,omitempty"`
	// Memory is the kernel memory that the socket's buffers occupy now, in bytes.
	Memory uint32 `json:"memory,omitempty"`
	// Filter is the classic BPF program attached to a packet socket: struct sock_filter after struct sock_filter.
	Filter []byte `json:"filter,omitempty"`
	// Owners are the descriptors of the container's processes that hold it. A socket in TIME_WAIT and the like has none.
	Owners []Owner `json:"owners,omitempty"`
	// Others are descriptors of processes that are not the container's and hold it too, or alone.
	Others []Owner `json:"others,omitempty"`
	// Shared is true when no process of the container holds it and others use the same network namespace (the host's
	// network, a pod's): it need not be the container's.
	Shared bool `json:"shared,omitempty"`
	// Namespace is the inode number of the network namespace it lives in.
	Namespace uint64 `json:"namespace,omitempty"`
	Source    string `json:"source"` // sock_diag, or the table it was read from: "/proc/4711/net/tcp"
	// Note says what is odd about the row: that only one of the kernel's two ways of listing sockets shows it.
	Note     string `json:"note,omitempty"`
	Observed int64  `json:"observed"`
}

// ChangedText is a run of pages in a private executable mapping that no longer is the file's.
type ChangedText struct {
	Addr       uint64 `json:"addr"`
	Length     int64  `json:"length"`
	FileOffset int64  `json:"file_offset"`
	MemSHA256  string `json:"mem_sha256"`
	FileSHA256 string `json:"file_sha256"`
	// FileArtifact holds the file's bytes of this run, CoreOffset is where memory's lie in the core (-1: not kept).
	FileArtifact string `json:"file_artifact,omitempty"`
	CoreOffset   int64  `json:"core_offset"`
	// DiffBytes is how many bytes differ; 0 means that pages were copied but are equal.
	DiffBytes int64 `json:"diff_bytes"`
}

// Segment is a run of bytes of a mapping that the core holds.
type Segment struct {
	Addr       uint64 `json:"addr"`
	Length     int64  `json:"length"`
	CoreOffset int64  `json:"core_offset"`
}

// Mapping is one line of process/<pid>/memory.jsonl: one line of /proc/<pid>/maps and what became of it.
type Mapping struct {
	Start  uint64 `json:"start"`
	End    uint64 `json:"end"`
	Perms  string `json:"perms"` // "r-xp"
	Offset int64  `json:"offset"`
	Dev    string `json:"dev"` // "fe:00"
	Inode  uint64 `json:"inode"`
	Path   Name   `json:"path"` // "/usr/bin/app", "[heap]", "/memfd:x (deleted)", ""
	// Present, Anonymous and Swapped count bytes of pages that are in memory, private to the process, in swap.
	Present   int64 `json:"present"`
	Anonymous int64 `json:"anonymous"`
	Swapped   int64 `json:"swapped,omitempty"`
	// Dumped counts the bytes the core holds; LeftOut says why it is not all of Present: "file" (equal to the
	// file whose hash is FileSHA256), "device", "mode" (--memory), "unreadable".
	Dumped     int64         `json:"dumped"`
	LeftOut    string        `json:"left_out,omitempty"`
	Unreadable int64         `json:"unreadable,omitempty"` // bytes that could not be read; zero in the core
	FileSHA256 string        `json:"file_sha256,omitempty"`
	Deleted    bool          `json:"deleted,omitempty"`
	Segments   []Segment     `json:"segments,omitempty"`
	Changed    []ChangedText `json:"changed,omitempty"`
}

// Miss is one entry of coverage.json: something that was asked for and not obtained, wholly or in part.
type Miss struct {
	// What names it: an artifact's path or a kind of evidence, "process/12/environ", "memory of process 12".
	What string `json:"what"`
	// Kind is the collector it belongs to: network, process, memory, filesystem, volumes, logs, context, target.
	Kind string `json:"kind"`
	// Reason says why, with the error's own words: "permission denied".
	Reason string `json:"reason"`
	// Partial is true when some of it was kept.
	Partial bool `json:"partial,omitempty"`
	// Deliberate is true when it was left out by choice: an option, or a default such as secrets' contents.
	Deliberate bool `json:"deliberate,omitempty"`
	// Count is how many things this entry stands for, when alike ones were folded into one; at least 1.
	Count int `json:"count"`
}

// Coverage is coverage.json.
type Coverage struct {
	// Collected tells for each kind of evidence what became of it: "complete", "partial", "none", or "skipped".
	Collected map[string]string `json:"collected"`
	Missed    []Miss            `json:"missed"`
	// Dropped counts entries beyond the limit of Missed; they are counted, not listed.
	Dropped int `json:"dropped,omitempty"`
}

// Host is host/host.json: where and when the capture happened.
type Host struct {
	Hostname string `json:"hostname"`
	Kernel   string `json:"kernel"`
	Arch     string `json:"arch"`
	OS       string `json:"os,omitempty"` // PRETTY_NAME of os-release
	BootID   string `json:"boot_id"`
	BootTime int64  `json:"boot_time"`
	// Clocks read together: wall clock, and time since boot with and without suspend, in nanoseconds.
	Realtime  int64 `json:"realtime"`
	Monotonic int64 `json:"monotonic"`
	Boottime  int64 `json:"boottime"`
	// NTPSynced and NTPOffset come from adjtimex: whether the kernel believes its clock, and by how much it may be off (nanoseconds).
	NTPSynced   bool   `json:"ntp_synced"`
	NTPMaxError int64  `json:"ntp_max_error,omitempty"`
	MachineID   string `json:"machine_id,omitempty"`
	Cgroup      string `json:"cgroup"` // v1, v2 or hybrid
	PageSize    int    `json:"page_size"`
	TicksPerSec int    `json:"ticks_per_sec"`
}

// Freeze is process/freeze.json: written only when --freeze was asked for.
type Freeze struct {
	Asked   int64  `json:"asked"`
	Frozen  int64  `json:"frozen"`
	Thawed  int64  `json:"thawed"`
	Method  string `json:"method"` // cgroup path of the freezer
	Seconds string `json:"seconds"`
	Error   string `json:"error,omitempty"`
}

// Mounted is one line of volumes/mounts.jsonl: a mount in the container's namespace and what was done with it.
type Mounted struct {
	Point   Name   `json:"point"` // inside the container
	FSType  string `json:"fstype"`
	Source  Name   `json:"source"`
	Root    Name   `json:"root"`
	Options string `json:"options"`
	// Kind is root, tmpfs, volume, secret, runtime (/etc/hosts and the like), kernel (proc, sysfs…), host (a path of the host), fuse, network.
	Kind     string `json:"kind"`
	Writable bool   `json:"writable"`
	// Dir is the folder of its files in the package, "volumes/dev/shm"; empty when contents were not taken.
	Dir    string `json:"dir,omitempty"`
	Files  int    `json:"files,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	Reason string `json:"reason,omitempty"` // why contents were not taken
}
