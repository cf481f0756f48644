// Package logs takes what was written about a container: the files that its runtime keeps of its output, with rotated,
// compressed and previous ones, and the kernel's and the runtime's own lines about it.
//
// Where the log files lie is the runtime's choice, what they hold is the container's: they are read as raw bytes through
// safefs. A log that grows meanwhile is taken up to the size it had when it was opened.
//
// Into the package go
//
//   - logs/<name>: each file as it lies on disk, compressed ones compressed. Of files with equal names the later one goes to
//     logs/<folder>/<name>.
//   - logs/files.jsonl: one File row for each of them.
//   - logs/kernel.txt: records of /dev/kmsg that name the container, its cgroup, or one of its processes, each as the kernel gives
//     it: "priority,sequence,microseconds since boot,flags;text" and further lines that begin with a space. Reading
//     it takes nothing away from other readers. The kernel's buffer is small: old records are gone.
//   - logs/runtime.txt: lines of the runtime's own log files that name the container.
package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
	"github.com/sherd-forensics/sherd/target"
)

const (
	kind       = "logs"
	filesPath  = "logs/files.jsonl"
	maxFiles   = 4096 // log files in all
	maxEntries = 1 << 16
)

// Options bound what is taken. Zero values mean the defaults that they name.
type Options struct {
	// MaxFile bounds one log file (default 4 GiB): of a larger one the end is kept.
	MaxFile int64
	// Kmsg is the kernel's log device, by default /dev/kmsg of the host's root, or of ours.
	Kmsg string
}

// File is one line of logs/files.jsonl.
type File struct {
	Artifact string      `json:"artifact"`
	Path     record.Name `json:"path"`   // on the host
	Format   string      `json:"format"` // as the runtime names it: json-file, local, cri, k8s-file
	// Rotated is true for all but the file that the runtime names.
	Rotated bool   `json:"rotated,omitempty"`
	Size    int64  `json:"size"` // when it was opened
	Skipped int64  `json:"skipped,omitempty"`
	After   int64  `json:"after"` // its size after it was read: larger if it grew
	Dev     uint64 `json:"dev"`
	Ino     uint64 `json:"ino"`
	Mtime   int64  `json:"mtime"`
	Ctime   int64  `json:"ctime"`
	Btime   int64  `json:"btime,omitempty"`
}

type inode struct{ dev, ino uint64 }

type collector struct {
	ctx     context.Context
	s       subject.Subject
	w       *evidence.Writer
	o       Options
	list    *evidence.Lines
	seen    map[inode]bool
	names   map[string]bool
	partial bool
	taken   int
}

// Collect takes the logs of s. Its error means that the package could not be written or that ctx ended; everything else that
// went wrong is in the package's coverage.
func Collect(ctx context.Context, s subject.Subject, w *evidence.Writer, o Options) error {
	if o.MaxFile == 0 {
		o.MaxFile = 4 << 30
	}
	c := &collector{ctx: ctx, s: s, w: w, o: o, list: w.Lines(filesPath, "log files of the runtime"), seen: map[inode]bool{},
		names: map[string]bool{"files.jsonl": true, "kernel.txt": true, "runtime.txt": true}}
	told := slices.ContainsFunc(s.Container.Streams, func(t target.Stream) bool { return strings.HasPrefix(t.Path, "logs/") })
	if len(s.Container.Logs) == 0 && !told {
		c.miss("the container's output", "the runtime keeps no log file of it that is known here (a log driver that sends it elsewhere, or no runtime answered)", false)
	}
	for _, l := range s.Container.Logs {
		if err := c.family(l); err != nil {
			return err
		}
	}
	if err := c.list.Close(); err != nil {
		return err
	}
	if err := c.kernel(); err != nil {
		return err
	}
	if err := c.runtime(); err != nil {
		return err
	}
	switch {
	case c.taken == 0 && len(s.Container.Logs) == 0 && !told:
		w.Status(kind, "none")
	case c.partial:
		w.Status(kind, "partial")
	default:
		w.Status(kind, "complete")
	}
	return ctx.Err()
}

func (c *collector) miss(what, why string, partial bool) {
	c.partial = true
	c.w.Miss(record.Miss{What: what, Kind: kind, Reason: why, Partial: partial, Count: 1})
}

// instance is a log of a Kubernetes container: "<restarts>.log", rotated "<restarts>.log.<time>[.gz]".
var instance = regexp.MustCompile(`^[0-9]+\.log$`)

// belongs reports whether a file in the directory of the log base is that log, a rotated part of it, or the log of a
// previous run of the same container.
func belongs(format, base, name string) bool {
	if name == base || strings.HasPrefix(name, base+".") {
		return !strings.HasSuffix(name, ".tmp")
	}
	if format != "cri" {
		return false
	}
	head, _, _ := strings.Cut(name, ".log")
	return instance.MatchString(base) && instance.MatchString(head+".log") && (name == head+".log" || strings.HasPrefix(name, head+".log.")) && !strings.HasSuffix(name, ".tmp")
}

// family takes one log with all that belongs to it.
func (c *collector) family(l target.LogFile) error {
	if l.Format == "journald" || l.Path == "" {
		c.miss("the container's output", "it is in the host's journal, whose files hold every service's lines: export it with journalctl CONTAINER_ID_FULL="+c.s.Container.ID, false)
		return nil
	}
	root, err := safefs.Open(c.s.Host("/"), safefs.Options{})
	if err != nil {
		c.miss("log "+l.Path, err.Error(), false)
		return nil
	}
	defer root.Close()
	dir, base := c.resolve(root, l.Path)
	// Twice: a log rotated between the listing and the opening shows under its new name the second time.
	for pass := range 2 {
		names, err := c.siblings(root, l.Format, dir, base)
		if err != nil {
			c.miss("log "+l.Path, err.Error(), pass > 0)
			return nil
		}
		if pass == 0 && !slices.Contains(names, base) {
			c.miss("log "+l.Path, "no such file", len(names) > 0)
		}
		for _, name := range names {
			if err := c.file(root, path.Join(dir, name), l.Format, name != base); err != nil {
				return err
			}
		}
	}
	return nil
}

// resolve follows symbolic links of the log's own name, as /var/log/pods has them to Docker's files: rotated parts lie
// beside the file, not beside the link.
func (c *collector) resolve(root *safefs.Root, p string) (dir, base string) {
	for range 8 {
		link, err := root.Readlink(p)
		if err != nil {
			break
		}
		if !path.IsAbs(link) {
			link = path.Join(path.Dir(p), link)
		}
		p = path.Clean(link)
	}
	return path.Dir(p), path.Base(p)
}

// siblings lists the log and what belongs to it, the log itself first: it is the one that is written to.
func (c *collector) siblings(root *safefs.Root, format, dir, base string) ([]string, error) {
	var names []string
	n := 0
	errEnough := errors.New("enough")
	err := root.ReadDir(dir, func(e safefs.Entry) error {
		if n++; n > maxEntries || len(names) >= maxFiles {
			return errEnough
		}
		if belongs(format, base, e.Name) {
			names = append(names, e.Name)
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		c.miss("further log files in "+dir, fmt.Sprintf("more than %d entries", n-1), true)
		err = nil
	}
	slices.SortFunc(names, func(a, b string) int {
		if (a == base) != (b == base) {
			if a == base {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	return names, err
}

// file takes one log file. Its error ends the capture.
func (c *collector) file(root *safefs.Root, p, format string, rotated bool) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	// Only the name that the runtime gave may be a link. One beside it is nobody's rotation, and could lead anywhere on the host.
	if st, err := root.Lstat(p); rotated && err == nil && st.IsSymlink() {
		c.miss("log "+p, "a symbolic link, not followed", false)
		return nil
	}
	f, err := root.Open(p)
	if err != nil {
		c.miss("log "+p, err.Error(), false)
		return nil
	}
	defer f.Close()
	st := f.Stat()
	id := inode{st.Dev, st.Ino}
	if c.seen[id] {
		return nil
	}
	c.seen[id] = true
	row := File{Path: record.Name(p), Format: format, Rotated: rotated, Size: st.Size, Dev: st.Dev, Ino: st.Ino, Mtime: st.Mtime, Ctime: st.Ctime, Btime: st.Btime}
	row.Artifact = c.name(p)
	m := evidence.Meta{Path: row.Artifact, Origin: p, Mode: int64(st.Perm()), UID: int(st.UID), GID: int(st.GID), Mtime: st.Mtime, Atime: st.Atime, Ctime: st.Ctime, Btime: st.Btime}
	size := st.Size
	if size > c.o.MaxFile {
		row.Skipped = size - c.o.MaxFile
		size = c.o.MaxFile
		m.Origin = fmt.Sprintf("%s from byte %d", p, row.Skipped)
		c.miss("log "+p, fmt.Sprintf("it has %d bytes: the first %d are left out", st.Size, row.Skipped), true)
	}
	e, err := c.w.Stream(m, size, func(w io.Writer) error { return c.copy(w, f, row.Skipped, size) })
	if err != nil {
		return err
	}
	row.After = st.Size
	if after, err := f.Refresh(); err == nil {
		row.After = after.Size
	}
	if len(e.Errors) > 0 {
		why := strings.Join(e.Errors, "; ")
		if row.After < st.Size {
			why = fmt.Sprintf("it was cut from %d to %d bytes while it was read; %s", st.Size, row.After, why)
		}
		c.miss("log "+p, why, true)
	}
	c.taken++
	return c.list.Write(row)
}

// copy reads size bytes from off.
func (c *collector) copy(w io.Writer, f *safefs.File, off, size int64) error {
	buf := make([]byte, 256<<10)
	for end := off + size; off < end; {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(buf[:min(int64(len(buf)), end-off)], off)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
			off += int64(n)
		}
		if err != nil && off < end {
			return err
		}
	}
	return nil
}

// name chooses the artifact's path.
func (c *collector) name(p string) string {
	name := path.Base(p)
	for i := 0; c.names[name]; i++ {
		name = path.Join(path.Base(path.Dir(p)), path.Base(p))
		if i > 0 {
			name = fmt.Sprintf("%s-%d/%s", path.Base(path.Dir(p)), i, path.Base(p))
		}
	}
	c.names[name] = true
	return "logs/" + name
}
