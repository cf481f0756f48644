package process

import (
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

const (
	deletedSuffix = " (deleted)"
	memfdPrefix   = "/memfd:"
	atEmptyPath   = unix.AT_EMPTY_PATH
)

// layers are the container's, opened once for all processes.
type layers struct {
	overlay bool
	upper   *safefs.Root   // nil if there is none, or it can't be read
	image   []*safefs.Root // of the image, topmost first
	// lacking is set when the layers are not all known, so that a file's absence from them proves nothing.
	lacking bool
	mu      sync.Mutex
	sums    map[string]string // hashes of the image's files, by path
}

// maxImageSums bounds the hashes remembered of the image's files.
const maxImageSums = 1 << 14

func (c *collector) openLayers() *layers {
	fs := c.s.Container.Rootfs
	l := &layers{overlay: fs.Driver == "overlay", sums: map[string]string{}, lacking: fs.Driver == "" || len(fs.Layers) == 0}
	base := c.s.HostRoot
	if base == "" {
		base = "/"
	}
	openDir := func(what, dir string) *safefs.Root {
		r, err := safefs.OpenBelow(base, dir, safefs.Options{})
		if err != nil {
			c.miss(what+", to tell which programs are the image's", err, true)
			return nil
		}
		return r
	}
	if fs.Upper != "" {
		l.upper = openDir("the writable layer", fs.Upper)
	}
	for i := len(fs.Layers) - 1; i >= 0; i-- {
		r := openDir("the image's layers", fs.Layers[i].Dir)
		if r == nil {
			l.lacking = true
			continue
		}
		l.image = append(l.image, r)
		if fs.Layers[i].Whole {
			break
		}
	}
	return l
}

func (l *layers) close() {
	if l.upper != nil {
		l.upper.Close()
	}
	for _, r := range l.image {
		r.Close()
	}
}

// written reports whether the writable layer has something of its own at path.
func (l *layers) written(path string) bool {
	if l.upper == nil {
		return false
	}
	_, err := l.upper.Lstat(path)
	return err == nil
}

// find gives the layer that supplies the image's regular file at path; nil if the image has none. The topmost layer that has the
// path decides: a deletion in it is a character device.
func (l *layers) find(path string) (*safefs.Root, safefs.Stat) {
	for _, r := range l.image {
		st, err := r.Lstat(path)
		if err != nil {
			continue
		}
		if !st.IsRegular() {
			return nil, st
		}
		return r, st
	}
	return nil, safefs.Stat{}
}

// imageSum is the hash of the image's file at path.
func (c *collector) imageSum(r *safefs.Root, path string) string {
	l := c.layers
	l.mu.Lock()
	sum, ok := l.sums[path]
	l.mu.Unlock()
	if ok {
		return sum
	}
	f, err := r.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if sum, err = c.hash(f); err != nil {
		return ""
	}
	l.mu.Lock()
	if len(l.sums) < maxImageSums {
		l.sums[path] = sum
	}
	l.mu.Unlock()
	return sum
}

// inRoot says whether the file at path in the container's root is the image's. f is that file, nil if it can't be read. sum is its
// hash, if it had to be computed.
func (c *collector) inRoot(path string, f *safefs.File) (origin, sum string) {
	l := c.layers
	r, st := l.find(path)
	written := l.written(path)
	// overlayfs takes from the image what the writable layer does not have: content need not be compared.
	untouched := l.overlay && l.upper != nil && !written
	switch {
	case r != nil && untouched:
		return record.ExeImage, ""
	case r == nil && !written && l.lacking:
		return record.ExeUnknown, ""
	case r == nil:
		return record.ExeDrift, ""
	case f == nil:
		return record.ExeUnknown, ""
	case f.Stat().Size != st.Size:
		return record.ExeDrift, ""
	}
	sum, err := c.hash(f)
	if err != nil {
		return record.ExeUnknown, ""
	}
	if sum == c.imageSum(r, path) {
		return record.ExeImage, sum
	}
	return record.ExeDrift, sum
}

// mount is one line of mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	id               uint64
	dev, root, point string
	fstype           string
}

// parseMounts reads a mountinfo. Names in it are escaped where they hold a space or a newline, and nothing else is.
func parseMounts(b []byte) map[uint64]mount {
	out := map[uint64]mount{}
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		f := strings.Split(before, " ")
		if !ok || len(f) < 5 {
			continue
		}
		id, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			continue
		}
		fstype, _, _ := strings.Cut(after, " ")
		out[id] = mount{id: id, dev: f[2], root: unescape(f[3]), point: unescape(f[4]), fstype: fstype}
	}
	return out
}

// unescape undoes mountinfo's octal escapes.
func unescape(s string) string {
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

func (h *handle) mounts() (map[uint64]mount, error) {
	if h.mounted == nil && h.mountedErr == nil {
		b, err := h.read(h.via+"mountinfo", maxMaps)
		if err != nil && len(b) == 0 {
			h.mountedErr = err
			return nil, err
		}
		h.mounted = parseMounts(b)
	}
	return h.mounted, h.mountedErr
}

// places is what is known about where the container's files lie: the mounts of its first process.
type places struct {
	mounts map[uint64]mount
	root   mount
	// inner is the first process's root as seen from the root of its mount namespace: "/" unless it is a mere chroot.
	inner string
	// host are the mount namespaces of the host's first process and of this one.
	host  [2]string
	known bool
}

func (c *collector) openPlaces() places {
	first := c.s.Processes[0]
	for _, p := range c.s.Processes {
		if p.PID == c.s.Container.PID {
			first = p
		}
	}
	var p places
	if host, err := subject.Identify(c.s.Proc, 1); err == nil {
		if h, err := open(c.s.Proc, host); err == nil {
			p.host[0] = h.mountNS()
			h.close()
		}
	}
	if l, err := os.Readlink("/proc/self/ns/mnt"); err == nil {
		p.host[1] = l
	}
	h, err := open(c.s.Proc, first)
	if err != nil {
		return p // its own row says so
	}
	defer h.close()
	if p.mounts, err = h.mounts(); err != nil {
		return p
	}
	st, err := h.stat(h.via + "root")
	if err != nil {
		return p
	}
	if p.inner, err = h.readlink(h.via + "root"); err != nil {
		return p
	}
	p.root, p.known = p.mounts[st.mount]
	return p
}

// where says on what a file lies: ExeMemfd, ExeVolume, ExeOutside, ExeUnknown, or "" for the container's root; then path is its
// path there. link is the text of the magic link without " (deleted)", which is no proof: the process may have chosen it.
func (c *collector) where(h *handle, link string, o object) (origin, inside string) {
	own, err := h.mounts()
	m, ok := own[o.mount]
	if !ok {
		m, ok = c.place.mounts[o.mount]
	}
	switch {
	case ok:
	case o.nlink == 0 && strings.HasPrefix(link, memfdPrefix):
		return record.ExeMemfd, ""
	case err != nil || !c.place.known:
		return record.ExeUnknown, ""
	default:
		return record.ExeOutside, ""
	}
	if !c.place.known {
		return record.ExeUnknown, ""
	}
	root := c.place.root
	if m.dev == root.dev && under(m.root, root.root) {
		rel := link
		if m.id != root.id && m.point != "/" {
			// The same file system, mounted elsewhere too.
			rel = path.Join("/", strings.TrimPrefix(m.root, root.root), strings.TrimPrefix(link, m.point))
		}
		if c.place.inner == "/" {
			return "", rel
		}
		if rel, ok = strings.CutPrefix(rel, c.place.inner+"/"); ok {
			return "", "/" + rel
		}
		return record.ExeOutside, ""
	}
	if _, ok := c.place.mounts[o.mount]; ok {
		return record.ExeVolume, ""
	}
	// A mount that the container's first process does not see: made in a namespace of the process's own, which still has the
	// container's root; or the host's, or another container's.
	ns := h.mountNS()
	if ns == "" || ns == c.place.host[0] || ns == c.place.host[1] {
		return record.ExeOutside, ""
	}
	for _, m := range own {
		if m.dev == root.dev && under(m.root, root.root) {
			return record.ExeVolume, ""
		}
	}
	return record.ExeOutside, ""
}

// mountNS names the process's mount namespace; "" if that can't be seen.
func (h *handle) mountNS() string {
	l, err := h.readlink(h.via + "ns/mnt")
	if err != nil {
		return ""
	}
	return l
}

// under reports whether path is base or lies below it.
func under(p, base string) bool {
	return p == base || base == "/" || strings.HasPrefix(p, base+"/")
}

// deleted reports whether the name behind a magic link is gone, and gives the link without the kernel's mark. A file may be
// called "x (deleted)"; and on overlayfs a file of the image that was removed keeps its count of links.
func (c *collector) deleted(h *handle, link string, o object) (string, bool) {
	name, marked := strings.CutSuffix(link, deletedSuffix)
	if !marked {
		return link, false
	}
	if o.nlink == 0 {
		return name, true
	}
	r, err := h.lookup(link)
	if err != nil {
		return name, true
	}
	defer r.Close()
	if st := r.Stat(); st.Ino == o.ino && st.Dev == o.dev {
		return link, false
	}
	return name, true
}

// lookup finds path, as seen from the root of the process's mount namespace, in its root.
func (h *handle) lookup(path string) (*safefs.Root, error) {
	if root, err := h.readlink(h.via + "root"); err == nil && root != "/" {
		path = strings.TrimPrefix(path, root)
	}
	return safefs.OpenIn(h.path("task"), h.thread(), path, safefs.Options{NoClone: true})
}
