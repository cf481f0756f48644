package process

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

const deletedSuffix = " (deleted)"

// roots are the container's layers, opened once for all processes, topmost first.
type roots struct {
	upper  *safefs.Root
	layers []*safefs.Root // of the image, topmost first
	whole  bool           // layers[0] shows the image's whole tree
	mu     sync.Mutex
	sums   map[string]string // hashes of image files by path
}

func openRoots(s subject.Subject) roots {
	r := roots{sums: map[string]string{}}
	fs := s.Container.Rootfs
	if fs.Upper != "" {
		if u, err := safefs.OpenBelow(hostRoot(s), fs.Upper, safefs.Options{}); err == nil {
			r.upper = u
		}
	}
	for i := len(fs.Layers) - 1; i >= 0; i-- {
		l, err := safefs.OpenBelow(hostRoot(s), fs.Layers[i].Dir, safefs.Options{})
		if err != nil {
			continue
		}
		r.layers = append(r.layers, l)
		if fs.Layers[i].Whole {
			r.whole = true
			break
		}
	}
	return r
}

func hostRoot(s subject.Subject) string {
	if s.HostRoot == "" {
		return "/"
	}
	return s.HostRoot
}

func (r *roots) close() {
	if r.upper != nil {
		r.upper.Close()
	}
	for _, l := range r.layers {
		l.Close()
	}
}

// written reports whether the writable layer has something of its own at path.
func (r *roots) written(path string) bool {
	if r.upper == nil {
		return false
	}
	_, err := r.upper.Lstat(path)
	return err == nil
}

// imageSum is the hash of the image's file at path, "" if the image has none. The topmost layer that has the path decides.
func (r *roots) imageSum(path string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.sums[path]; ok {
		return s
	}
	sum := ""
	for _, l := range r.layers {
		st, err := l.Lstat(path)
		if err != nil {
			continue
		}
		if st.IsRegular() {
			if f, err := l.Open(path); err == nil {
				h := sha256.New()
				if _, err := io.Copy(h, io.NewSectionReader(f, 0, st.Size)); err == nil {
					sum = hex.EncodeToString(h.Sum(nil))
				}
				f.Close()
			}
		}
		break
	}
	r.sums[path] = sum
	return sum
}

// exe fills in the row's executable and keeps its content unless the image holds it unchanged. An error is fatal.
func (c *collector) exe(row *record.Process, h *handle) error {
	e := &row.Exe
	e.Origin = record.ExeUnknown
	link, err := h.readlink("exe")
	if err != nil {
		// A zombie and a kernel thread have none.
		e.Error = reason(err)
		if row.State != "Z" && !gone(err) {
			c.miss(row.Dir+"/exe", err, false)
		}
		return nil
	}
	st, err := h.stat("exe")
	if err != nil {
		e.Path, e.Error = record.Name(link), reason(err)
		c.miss(row.Dir+"/exe", err, false)
		return nil
	}
	e.Dev, e.Ino, e.Size, e.Mode = unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino, int64(st.Size), uint32(st.Mode&0o7777)
	e.Mtime, e.Ctime, e.Btime = nanos(st.Mtime), nanos(st.Ctime), nanos(st.Btime)
	e.Deleted = st.Nlink == 0 && strings.HasSuffix(link, deletedSuffix)
	if e.Deleted {
		link = strings.TrimSuffix(link, deletedSuffix)
	}
	e.Path = record.Name(link)

	f, err := safefs.OpenLink(h.path("exe"))
	if err != nil {
		e.Error = reason(err)
		c.miss(row.Dir+"/exe", err, false)
	} else {
		defer f.Close()
	}
	var sum string
	if f != nil {
		if sum, err = hash(f, min(f.Stat().Size, c.o.MaxFile)); err != nil {
			e.Error = reason(err)
			c.miss(row.Dir+"/exe", err, false)
			return nil
		}
		e.SHA256 = sum
	}
	e.Origin = c.origin(h, link, e.Deleted, st, sum)
	if f == nil || e.Origin == record.ExeImage {
		return nil
	}
	kept, err := c.keep(row.Dir+"/exe", h.describe("exe"), f, c.o)
	if err != nil {
		return err
	}
	e.SHA256, e.Artifact = kept.SHA256, row.Dir+"/exe"
	return nil
}

// origin says where an executable comes from. The link's text alone does not tell, since the process may have chosen it: what
// counts is whether the file has a name left, on which mount it lies, and what the layers hold at its path.
func (c *collector) origin(h *handle, path string, deleted bool, st unix.Statx_t, sum string) string {
	if st.Nlink == 0 {
		if strings.HasPrefix(path, "/memfd:") {
			return record.ExeMemfd
		}
		if deleted {
			return record.ExeDeleted
		}
	}
	mounts, err := h.mounts()
	if err != nil {
		return record.ExeUnknown
	}
	point, ok := mounts[st.Mnt_id]
	switch {
	case !ok:
		return record.ExeOutside
	case point != "/":
		return record.ExeVolume
	case c.s.Container.Rootfs.Driver == "" || len(c.roots.layers) == 0:
		return record.ExeUnknown
	}
	image := c.roots.imageSum(path)
	switch {
	case sum != "" && sum == image:
		return record.ExeImage
	case sum == "" && image != "" && !c.roots.written(path):
		return record.ExeImage
	}
	return record.ExeDrift
}

// mounts maps the numbers of the mounts that the process sees to their points (proc_pid_mountinfo(5)).
func (h *handle) mounts() (map[uint64]string, error) {
	b, err := h.read("mountinfo", maxProcFile)
	if err != nil {
		return nil, err
	}
	out := map[uint64]string{}
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 5 {
			continue
		}
		id, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			continue
		}
		out[id] = f[4]
	}
	return out, sc.Err()
}

// describe names a source as a person would look it up.
func (h *handle) describe(name string) string { return fmt.Sprintf("/proc/%d/%s", h.pid, name) }

func nanos(t unix.StatxTimestamp) int64 {
	if t.Sec == 0 && t.Nsec == 0 {
		return 0
	}
	return t.Sec*1_000_000_000 + int64(t.Nsec)
}

// hash is SHA-256 of the first size bytes; a file that ends before is an error.
func hash(f io.ReaderAt, size int64) (string, error) {
	s := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{s}, io.NewSectionReader(f, 0, size), make([]byte, 1<<20))
	if err != nil {
		return "", err
	}
	if n < size {
		return "", errors.New("the file shrank while it was read")
	}
	return hex.EncodeToString(s.Sum(nil)), nil
}
