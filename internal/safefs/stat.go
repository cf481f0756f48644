package safefs

import (
	"errors"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Stat is what statx(2) tells. Times are nanoseconds since the Unix epoch, UTC; Btime is 0 where the file system
// does not know it.
type Stat struct {
	Mode                       uint32 // with the type's bits, as st_mode
	UID, GID                   uint32
	Size                       int64
	Blocks                     int64 // of 512 bytes
	Nlink                      uint64
	Dev, Rdev                  uint64 // as unix.Mkdev makes them
	Ino                        uint64
	Mtime, Ctime, Atime, Btime int64
	MntID                      uint64 // the number in /proc/PID/mountinfo, 0 if unknown
	Attributes                 uint64 // STATX_ATTR_…
}

// IsDir reports whether it is a directory.
func (s Stat) IsDir() bool { return s.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsRegular reports whether it is a regular file.
func (s Stat) IsRegular() bool { return s.Mode&unix.S_IFMT == unix.S_IFREG }

// IsSymlink reports whether it is a symbolic link.
func (s Stat) IsSymlink() bool { return s.Mode&unix.S_IFMT == unix.S_IFLNK }

// Perm is the permission bits with setuid, setgid and sticky.
func (s Stat) Perm() uint32 { return s.Mode & 0o7777 }

// TypeName says in one word what the object is, in the words of record.File.Type.
func (s Stat) TypeName() string {
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "dir"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFCHR:
		return "char"
	case unix.S_IFBLK:
		return "block"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "unknown"
}

const statxMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID

func statx(dir int, name string) (Stat, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var x unix.Statx_t
	for {
		err := unix.Statx(dir, name, flags, statxMask, &x)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return Stat{}, err
		}
		break
	}
	s := Stat{
		Mode: uint32(x.Mode), UID: x.Uid, GID: x.Gid, Size: int64(x.Size), Blocks: int64(x.Blocks), Nlink: uint64(x.Nlink),
		Dev: unix.Mkdev(x.Dev_major, x.Dev_minor), Rdev: unix.Mkdev(x.Rdev_major, x.Rdev_minor), Ino: x.Ino,
		Mtime: nanos(x.Mtime), Ctime: nanos(x.Ctime), Atime: nanos(x.Atime), Attributes: x.Attributes,
	}
	if x.Mask&unix.STATX_BTIME != 0 {
		s.Btime = nanos(x.Btime)
	}
	if x.Mask&unix.STATX_MNT_ID != 0 {
		s.MntID = x.Mnt_id
	}
	return s, nil
}

// nanos keeps a time that an attacker may have set from wrapping around: beyond the years that fit, 1678 to 2262, it
// stays at the last that does.
func nanos(t unix.StatxTimestamp) int64 {
	const last = math.MaxInt64/int64(time.Second) - 1
	return min(max(t.Sec, -last), last)*int64(time.Second) + int64(t.Nsec)
}

// local file systems answer from this machine's disk or memory; an operation on any other gets a deadline.
var local = map[uint32]bool{
	unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true, unix.TMPFS_MAGIC: true,
	unix.OVERLAYFS_SUPER_MAGIC: true, unix.RAMFS_MAGIC: true, unix.SQUASHFS_MAGIC: true, unix.EROFS_SUPER_MAGIC_V1: true,
	unix.F2FS_SUPER_MAGIC: true, unix.ISOFS_SUPER_MAGIC: true, unix.MSDOS_SUPER_MAGIC: true, unix.HUGETLBFS_MAGIC: true,
	0x2fc12fc1: true, // ZFS
}

// timeless file systems have no access times worth protecting.
var timeless = map[uint32]bool{
	unix.PROC_SUPER_MAGIC: true, unix.SYSFS_MAGIC: true, unix.CGROUP_SUPER_MAGIC: true, unix.CGROUP2_SUPER_MAGIC: true,
}
