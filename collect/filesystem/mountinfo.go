package filesystem

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target"
)

// maxMounts bounds the mounts of one namespace that are looked at.
const maxMounts = 20_000

// mountPoint is one line of /proc/PID/mountinfo, see proc_pid_mountinfo(5).
type mountPoint struct {
	id                  uint64
	dev                 string
	root, point         string
	options, super      string
	fstype, source      string
	runtimeType, volume string // what the runtime says about it
	hostSource          string
}

// parseMountinfo reads the file. Lines that make no sense are counted, not guessed at.
func parseMountinfo(b []byte) (list []mountPoint, bad int) {
	for line := range strings.SplitSeq(strings.TrimSuffix(string(b), "\n"), "\n") {
		if len(list) == maxMounts {
			return list, bad + 1
		}
		m, err := parseMount(line)
		if err != nil {
			bad++
			continue
		}
		list = append(list, m)
	}
	return list, bad
}

func parseMount(line string) (mountPoint, error) {
	f := strings.Split(line, " ")
	sep := slices.Index(f, "-")
	if len(f) < 10 || sep < 6 || len(f) < sep+4 {
		return mountPoint{}, fmt.Errorf("mountinfo line of %d fields", len(f))
	}
	id, err := strconv.ParseUint(f[0], 10, 64)
	if err != nil {
		return mountPoint{}, fmt.Errorf("mount id: %w", err)
	}
	return mountPoint{
		id: id, dev: f[2], root: octal(f[3]), point: octal(f[4]), options: f[5],
		fstype: octal(f[sep+1]), source: octal(f[sep+2]), super: strings.Join(f[sep+3:], " "),
	}, nil
}

// octal undoes the kernel's \ooo for space, tab, newline and backslash.
func octal(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Kinds of mounts, as record.Mounted documents them.
const (
	mountRoot    = "root"
	mountTmpfs   = "tmpfs"
	mountVolume  = "volume"
	mountSecret  = "secret"
	mountRuntime = "runtime"
	mountKernel  = "kernel"
	mountHost    = "host"
	mountFUSE    = "fuse"
	mountNetwork = "network"
)

var kernelTypes = []string{
	"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "devtmpfs", "securityfs", "debugfs", "tracefs", "bpf", "configfs", "fusectl",
	"pstore", "efivarfs", "hugetlbfs", "binfmt_misc", "nsfs", "rpc_pipefs", "selinuxfs", "autofs", "pipefs", "sockfs",
}

var networkTypes = []string{
	"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "afs", "lustre", "gpfs", "beegfs", "9p", "virtiofs", "ocfs2", "gfs2", "orangefs", "coda",
}

// runtimeFiles are what every runtime mounts over a root.
var runtimeFiles = []string{
	"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log", "/run/.containerenv", "/run/.dockerenv", "/.dockerenv", "/dev/init", "/sbin/docker-init",
}

// kind tells what a mount is for. It goes by what the kernel says first and by what the runtime says only where the kernel
// can't know.
func (m mountPoint) kind() string {
	under := func(list ...string) bool {
		for _, p := range list {
			if m.point == p || strings.HasPrefix(m.point, p+"/") {
				return true
			}
		}
		return false
	}
	paths := []string{m.root, m.hostSource, m.source}
	from := func(parts ...string) bool {
		for _, p := range paths {
			for _, part := range parts {
				if strings.Contains(p, part) {
					return true
				}
			}
		}
		return false
	}
	switch {
	case m.point == "/":
		return mountRoot
	case slices.Contains(kernelTypes, m.fstype):
		return mountKernel
	case under("/proc", "/sys"):
		return mountKernel // what masks parts of them
	case m.fstype == "fuse" || strings.HasPrefix(m.fstype, "fuse.") || m.fstype == "fuseblk":
		return mountFUSE
	case slices.Contains(networkTypes, m.fstype):
		return mountNetwork
	case m.runtimeType == "secret" || under("/run/secrets", "/var/run/secrets") ||
		from("/kubernetes.io~secret/", "/kubernetes.io~projected/", "/userdata/secrets", "/containers/secrets/"):
		return mountSecret
	case slices.Contains(runtimeFiles, m.point):
		return mountRuntime
	case m.fstype == "tmpfs" && m.readOnly() && !hasOption(m.super, "ro") && m.point != "/dev":
		return mountSecret // Kubernetes keeps secrets and tokens in tmpfs and mounts them read-only
	case m.fstype == "tmpfs" && (m.root == "/" || m.point == "/dev/shm" || m.point == "/dev"):
		return mountTmpfs
	case m.runtimeType == "volume" || m.volume != "" || from("/kubernetes.io~", "/volumes/", "/volume-subpaths/"):
		return mountVolume
	}
	return mountHost
}

func hasOption(list, o string) bool { return slices.Contains(strings.Split(list, ","), o) }

func (m mountPoint) readOnly() bool { return hasOption(m.options, "ro") }

func (m mountPoint) record() record.Mounted {
	return record.Mounted{
		Point: record.Name(m.point), FSType: m.fstype, Source: record.Name(m.source), Root: record.Name(m.root),
		Options: record.Escape(m.options + " - " + m.super), Kind: m.kind(), Writable: !m.readOnly() && !hasOption(m.super, "ro"),
	}
}

// annotate adds what the runtime says about the mounts.
func annotate(list []mountPoint, mounts []target.Mount) {
	for i := range list {
		for _, m := range mounts {
			if strings.TrimRight(m.Destination, "/") == list[i].point {
				list[i].runtimeType, list[i].volume, list[i].hostSource = m.Type, m.Name, m.Source
			}
		}
	}
}

// fromRuntime makes do with the runtime's word where no process shows the mounts any more.
func fromRuntime(mounts []target.Mount) []mountPoint {
	var list []mountPoint
	for _, m := range mounts {
		p := mountPoint{point: strings.TrimRight(m.Destination, "/"), source: m.Source, hostSource: m.Source, options: strings.Join(m.Options, ","), fstype: m.Type, runtimeType: m.Type, volume: m.Name}
		if m.ReadOnly && !slices.Contains(m.Options, "ro") {
			p.options = strings.Trim("ro,"+p.options, ",")
		}
		list = append(list, p)
	}
	return list
}
