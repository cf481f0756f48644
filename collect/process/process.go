// Package process takes what /proc tells about each process of a container: the raw files, a row that sums them up, the
// executable where the image does not hold it, and the contents of deleted files and memfds that are open or mapped.
//
// No process is stopped, traced or signalled. A process is read through one descriptor of its /proc directory, which
// goes dead with the process: a pid that is used again can't be taken for the old one.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

// Kind names this collector in coverage.
const Kind = "process"

// Options bound what is taken. Zeros mean the defaults.
type Options struct {
	// MaxFile bounds the content of one executable, deleted file or memfd, in bytes.
	MaxFile int64
	// MaxFDs bounds the descriptors that are listed for one process; the first MaxFDInfo of them get their fdinfo kept.
	MaxFDs, MaxFDInfo int
	// MaxThreads bounds the threads whose files are kept for one process.
	MaxThreads int
}

// Defaults of Options, and bounds that are not for choosing.
const (
	defaultMaxFile    = 1 << 30
	defaultMaxFDs     = 16384
	defaultMaxFDInfo  = 1024
	defaultMaxThreads = 1024
	// maxProcFile bounds one file of /proc/<pid>: maps of a process with 65,530 mappings of long paths stays below.
	maxProcFile = 32 << 20
	workers     = 2
)

func (o Options) withDefaults() Options {
	if o.MaxFile == 0 {
		o.MaxFile = defaultMaxFile
	}
	if o.MaxFDs == 0 {
		o.MaxFDs = defaultMaxFDs
	}
	if o.MaxFDInfo == 0 {
		o.MaxFDInfo = defaultMaxFDInfo
	}
	if o.MaxThreads == 0 {
		o.MaxThreads = defaultMaxThreads
	}
	return o
}

// raw are the files of /proc/<pid> that are kept byte for byte, most volatile first.
var raw = []string{
	"stat", "status", "cmdline", "environ", "maps", "wchan", "syscall", "stack", "smaps_rollup", "io", "sched",
	"mountinfo", "cgroup", "limits", "oom_score_adj", "loginuid", "sessionid", "uid_map", "gid_map", "timens_offsets",
	"personality", "attr/current", "attr/exec",
}

// optional are files that some kernels do not have: their absence is no gap.
var optional = map[string]bool{"stack": true, "io": true, "sched": true, "timens_offsets": true, "loginuid": true, "sessionid": true, "attr/current": true, "attr/exec": true, "personality": true, "syscall": true, "smaps_rollup": true}

// collector is one capture's state.
type collector struct {
	s     subject.Subject
	w     *evidence.Writer
	o     Options
	clock clock
	roots roots
	rows  *evidence.Lines
	lost  atomic.Int64 // processes of which something that matters is missing
}

// Collect takes every process of the subject. Its error means that the package can't be written or ctx ended.
func Collect(ctx context.Context, s subject.Subject, w *evidence.Writer, o Options) error {
	if len(s.Processes) == 0 {
		w.Status(Kind, "none")
		if s.Container.PID == 0 {
			w.Miss(record.Miss{What: "processes", Kind: Kind, Reason: "the container is not running", Count: 1})
		} else {
			w.Miss(record.Miss{What: "processes", Kind: Kind, Reason: "none could be found", Count: 1})
		}
		return nil
	}
	c := &collector{s: s, w: w, o: o.withDefaults()}
	var err error
	if c.clock, err = readClock(s.Proc); err != nil {
		w.Miss(record.Miss{What: "absolute start times of processes", Kind: Kind, Reason: err.Error(), Count: 1})
	}
	c.roots = openRoots(s)
	defer c.roots.close()
	c.rows = w.Lines("process/processes.jsonl", s.Proc)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, p := range s.Processes {
		g.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			return c.one(p)
		})
	}
	err = g.Wait()
	if cerr := c.rows.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	switch lost := c.lost.Load(); {
	case lost == 0:
		w.Status(Kind, "complete")
	case lost == int64(len(s.Processes)):
		w.Status(Kind, "none")
	default:
		w.Status(Kind, "partial")
	}
	return nil
}

func (c *collector) miss(what string, err error, partial bool) {
	c.w.Miss(record.Miss{What: what, Kind: Kind, Reason: reason(err), Partial: partial, Count: 1})
}

// reason is an error without the path that What names already.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	var se *safefs.PathError
	if errors.As(err, &se) {
		return se.Err.Error()
	}
	return err.Error()
}

// one takes a single process.
func (c *collector) one(p subject.Process) error {
	dir := "process/" + strconv.Itoa(p.PID)
	row := record.Process{PID: p.PID, ContainerPID: p.ContainerPID, Dir: dir, Relation: p.Relation, StartTicks: p.StartTicks}
	h, err := open(c.s.Proc, p)
	if err != nil {
		c.lost.Add(1)
		c.miss(dir, err, false)
		row.Errors = append(row.Errors, err.Error())
		return c.rows.Write(row)
	}
	defer h.close()

	texts := map[string][]byte{}
	for _, name := range raw {
		b, err := h.read(name, maxProcFile)
		if err != nil && len(b) == 0 {
			if gone(err) && !h.alive() {
				break
			}
			if !optional[name] || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EIO) {
				c.miss(dir+"/"+name, err, false)
				row.Errors = append(row.Errors, name+": "+reason(err))
			}
			continue
		}
		m := evidence.Meta{Path: dir + "/" + file(name), Origin: filepath.Join(c.s.Proc, strconv.Itoa(p.PID), name)}
		if err != nil {
			m.Errors = append(m.Errors, reason(err))
			c.miss(dir+"/"+name, err, true)
		}
		texts[name] = b
		if _, err := c.w.Add(m, b); err != nil {
			return err
		}
	}
	c.sum(&row, h, texts)
	if err := c.exe(&row, h); err != nil {
		return err
	}
	if err := c.fds(&row, h); err != nil {
		return err
	}
	if err := c.mapped(&row, h, texts["maps"]); err != nil {
		return err
	}
	if err := c.threads(&row, h); err != nil {
		return err
	}
	if !h.alive() {
		c.lost.Add(1)
		row.Errors = append(row.Errors, "the process ended while it was read")
		c.miss(dir, errors.New("the process ended while it was read"), true)
	} else if _, ok := texts["maps"]; !ok {
		c.lost.Add(1)
	}
	return c.rows.Write(row)
}

// file is the name in the package: attr/current is kept flat.
func file(name string) string {
	switch name {
	case "attr/current":
		return "attr_current"
	case "attr/exec":
		return "attr_exec"
	}
	return name
}

// gone reports whether an error says that the process is no more.
func gone(err error) bool {
	return errors.Is(err, syscall.ESRCH) || errors.Is(err, fs.ErrNotExist)
}

// keep seals a regular file's content, bounded, and returns where and its hash. An error is fatal.
func (c *collector) keep(path, origin string, f *safefs.File, o Options) (evidence.Entry, error) {
	st := f.Stat()
	size := min(st.Size, o.MaxFile)
	m := evidence.Meta{
		Path: path, Origin: origin, Mode: int64(st.Perm()), UID: int(st.UID), GID: int(st.GID),
		Mtime: st.Mtime, Atime: st.Atime, Ctime: st.Ctime, Btime: st.Btime,
		Key: fmt.Sprintf("%d:%d:%d:%d", st.Dev, st.Ino, st.Ctime, size),
	}
	if size < st.Size {
		why := fmt.Errorf("kept the first %d of %d bytes", size, st.Size)
		m.Errors = append(m.Errors, why.Error())
		m.Key = ""
		c.miss(path, why, true)
	}
	e, err := c.w.Stream(m, size, func(dst io.Writer) error {
		_, err := io.CopyBuffer(struct{ io.Writer }{dst}, io.NewSectionReader(f, 0, size), make([]byte, 1<<20))
		return err
	})
	if err == nil {
		for _, problem := range e.Errors {
			if len(m.Errors) == 0 {
				c.miss(path, errors.New(problem), true)
			}
		}
	}
	return e, err
}
