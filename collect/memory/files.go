package memory

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/internal/safefs"
)

// fileKey names a file as /proc/PID/maps does.
type fileKey struct {
	major, minor uint32
	inode        uint64
}

func (p *mapping) key() fileKey { return fileKey{p.major, p.minor, p.inode} }

// files knows the files that are mapped, over all processes of one capture.
type files struct {
	kinds map[fileKey]kind
	sums  map[fileKey]sum
	// spent and budget bound the time for hashing.
	spent, budget time.Duration
	buf           []byte
}

type sum struct {
	sha256 string
	err    error
}

// maxFiles bounds what is remembered of distinct files; beyond it they are looked at again.
const maxFiles = 1 << 16

func newFiles(budget time.Duration) *files {
	return &files{kinds: map[fileKey]kind{}, sums: map[fileKey]sum{}, budget: budget}
}

// link is the magic link to the file behind a mapping. It leads to the very file whatever its name has become.
func link(dir string, p *mapping) string {
	return dir + "/map_files/" + strconv.FormatUint(p.start, 16) + "-" + strconv.FormatUint(p.end, 16)
}

// classify takes a second look at a file that maps names, without opening it: mappings of devices must not be read.
func (f *files) classify(dir string, p *mapping, path string) kind {
	if k, ok := f.kinds[p.key()]; ok {
		if k == kindFile && strings.HasSuffix(path, deletedSuffix) {
			return kindOrphan
		}
		return k
	}
	k := look(link(dir, p), path)
	if len(f.kinds) < maxFiles && k != kindOrphan {
		f.kinds[p.key()] = k
	}
	return k
}

func look(link, path string) kind {
	gone := strings.HasSuffix(path, deletedSuffix)
	k, err := within(2*time.Second, func() (kind, error) {
		fd, err := unix.Open(link, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return kindUnknown, err
		}
		defer unix.Close(fd) //nolint:errcheck // O_PATH: nothing is lost
		var st unix.Statx_t
		if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
			return kindUnknown, err
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFCHR:
			if st.Rdev_major == 1 && st.Rdev_minor == 5 { // a private mapping of /dev/zero is anonymous memory
				return kindAnon, nil
			}
			return kindDevice, nil
		case unix.S_IFREG:
		default:
			return kindDevice, nil
		}
		var fs unix.Statfs_t
		if err := unix.Fstatfs(fd, &fs); err == nil && pseudo(int64(fs.Type)) { //nolint:unconvert // 32 bits on some architectures
			return kindDevice, nil
		}
		if gone {
			return kindOrphan, nil
		}
		return kindFile, nil
	})
	switch {
	case err == nil:
		return k
	case path == "/dev/zero" || path == "/dev/zero"+deletedSuffix || strings.HasPrefix(path, "/dev/shm/"):
	case strings.HasPrefix(path, "/dev/") || strings.HasPrefix(path, "/sys/") || strings.HasPrefix(path, "/dmabuf"):
		return kindDevice
	}
	if gone {
		return kindOrphan
	}
	return kindUnknown
}

// pseudo tells file systems whose "regular" files may be a device's memory: sysfs has the PCI resources.
func pseudo(magic int64) bool {
	switch magic {
	case unix.SYSFS_MAGIC, unix.PROC_SUPER_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.ANON_INODE_FS_MAGIC,
		unix.DMA_BUF_MAGIC, unix.SECRETMEM_MAGIC, unix.BINDERFS_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC:
		return true
	}
	return false
}

// open opens the file behind a mapping without changing its access time: through map_files, which needs CAP_SYS_ADMIN or
// CAP_CHECKPOINT_RESTORE, or else by its name inside the process's root, if that still leads to the same file.
func openMapped(proc string, pid int, p *mapping, path string) (*safefs.File, error) {
	f, err := safefs.OpenLink(link(proc+"/"+strconv.Itoa(pid), p))
	if err == nil || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return f, err
	}
	if strings.HasSuffix(path, deletedSuffix) || !strings.HasPrefix(path, "/") {
		return nil, err
	}
	r, rerr := safefs.OpenIn(proc, pid, "", safefs.Options{})
	if rerr != nil {
		return nil, errors.Join(err, rerr)
	}
	defer r.Close() //nolint:errcheck // opened for reading
	f, rerr = r.Open(path)
	if rerr != nil {
		return nil, errors.Join(err, rerr)
	}
	if f.Stat().Ino != p.inode {
		f.Close() //nolint:errcheck // opened for reading
		return nil, fmt.Errorf("%w; its name leads to another file now", err)
	}
	return f, nil
}

// errBudget says that hashing mapped files took all the time it may.
var errBudget = errors.New("the time for hashing mapped files is used up")

// hash gives the SHA-256 of the file behind a mapping. Each file is read once per capture.
func (f *files) hash(proc string, pid int, p *mapping, path string) (string, error) {
	if s, ok := f.sums[p.key()]; ok {
		return s.sha256, s.err
	}
	var s sum
	begin := time.Now()
	if f.spent >= f.budget {
		s.err = errBudget
	} else {
		s.sha256, s.err = f.read(proc, pid, p, path, begin)
	}
	f.spent += time.Since(begin)
	if len(f.sums) < maxFiles {
		f.sums[p.key()] = s
	}
	return s.sha256, s.err
}

func (f *files) read(proc string, pid int, p *mapping, path string, begin time.Time) (string, error) {
	file, err := openMapped(proc, pid, p, path)
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // opened for reading
	if f.buf == nil {
		f.buf = make([]byte, 256<<10)
	}
	h := sha256.New()
	for {
		n, err := file.Read(f.buf)
		h.Write(f.buf[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
		if f.spent+time.Since(begin) > f.budget {
			return "", errBudget
		}
	}
}

// Bounds on changed text: runs listed, and bytes of files kept beside them, for one process.
const (
	maxChanged      = 4096
	maxChangedBytes = 256 << 20
)

// changedRun is a run of pages of a private executable mapping that no longer are the file's. It is filled while the
// core is written.
type changedRun struct {
	m            *mapping
	addr, size   uint64
	offset       uint64
	mem, file    hash.Hash
	diff         int64
	seen         uint64
	core         int64
	handle       *safefs.File
	err          error
	fileArtifact string
	fileSHA256   string
	buf          []byte
}

// take compares the next bytes of the run with the file's. Beyond the file's end there are zeroes.
func (c *changedRun) take(b []byte, open func() (*safefs.File, error)) {
	if c.mem == nil {
		c.mem, c.file = sha256.New(), sha256.New()
		c.handle, c.err = open()
		c.buf = make([]byte, 64<<10)
	}
	c.mem.Write(b)
	for len(b) > 0 {
		part := c.buf[:min(len(b), len(c.buf))]
		clear(part)
		if c.err == nil {
			if _, err := c.handle.ReadAt(part, int64(c.offset+c.seen)); err != nil && !errors.Is(err, io.EOF) {
				c.err = err
			}
			c.file.Write(part)
			for i := range part {
				if part[i] != b[i] {
					c.diff++
				}
			}
		}
		c.seen += uint64(len(part))
		b = b[len(part):]
	}
	if c.seen == c.size {
		c.close()
	}
}

func (c *changedRun) close() {
	if c.handle != nil {
		c.handle.Close() //nolint:errcheck // opened for reading
		c.handle = nil
	}
	c.buf = nil
}
