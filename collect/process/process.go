// Package process takes what /proc tells about each process of a container: the raw files, a row that sums them up, the
// executable where the image does not hold it, and the contents of deleted files and memfds that are open or mapped.
//
// No process is stopped, traced or signalled. A process is read through one descriptor of its /proc directory, which
// goes dead with the process: a pid that is used again can't be taken for the old one. Only regular files are
// opened, through descriptions of our own and without a trace in their access times, and none on which somebody holds a
// lease, since that would signal the holder. A process that watches a file with inotify can notice that somebody opened it.
package process

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	// MaxFile bounds the content of one executable, deleted file or memfd, MaxTotal that of all of them, in bytes. Holes
	// don't count.
	MaxFile, MaxTotal int64
	// MaxFDs bounds the descriptors that are listed for one process; the first MaxFDInfo of them get their fdinfo kept.
	MaxFDs, MaxFDInfo int
	// MaxThreads bounds the threads that are listed for one process.
	MaxThreads int
	// WithoutEnviron leaves out environments, which often hold secrets. Coverage says so.
	WithoutEnviron bool
}

// Defaults of Options, and bounds that are not for choosing.
const (
	defaultMaxFile    = 1 << 30
	defaultMaxTotal   = 16 << 30
	defaultMaxFDs     = 16384
	defaultMaxFDInfo  = 1024
	defaultMaxThreads = 4096
	workers           = 2
	// maxHeld is how many processes are held from the start, with their executables, so that they can't get away.
	maxHeld = 1024
	// patience is how long one read of /proc may take.
	patience = safefs.DefaultTimeout
	// maxStuck is how many reads may hang before none is tried any more that might: each costs a thread until it ends.
	maxStuck = 16
	// laterRounds is how often processes that started meanwhile are looked for.
	laterRounds = 2
)

func (o Options) withDefaults() Options {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.MaxFDs, defaultMaxFDs)
	def(&o.MaxFDInfo, defaultMaxFDInfo)
	def(&o.MaxThreads, defaultMaxThreads)
	if o.MaxFile == 0 {
		o.MaxFile = defaultMaxFile
	}
	if o.MaxTotal == 0 {
		o.MaxTotal = defaultMaxTotal
	}
	return o
}

// collector is one capture's state.
type collector struct {
	ctx    context.Context //nolint:containedctx // one capture's, as is all else in here
	s      subject.Subject
	w      *evidence.Writer
	o      Options
	clock  clock
	layers *layers
	place  places
	rows   *evidence.Lines
	left   atomic.Int64 // of MaxTotal
	stuck  atomic.Int32
	taken  atomic.Int64 // processes
	missed atomic.Bool  // something that matters is missing
	sums   sums
	leases safefs.Leases
	ours   bool // /proc numbers processes as our own pid namespace does
}

// Collect takes every process of the subject, and those that start meanwhile as far as they can be caught. Its error means that the
// package can't be written or ctx ended.
func Collect(ctx context.Context, s subject.Subject, w *evidence.Writer, o Options) error {
	if len(s.Processes) == 0 {
		w.Status(Kind, "none")
		why := "none could be found"
		if s.Container.PID == 0 {
			why = "the container is not running"
		}
		w.Miss(record.Miss{What: "processes", Kind: Kind, Reason: why, Count: 1})
		return nil
	}
	c := newCollector(ctx, s, w, o)
	err := c.all()
	if c.layers != nil {
		c.layers.close()
	}
	if cerr := c.rows.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = c.sharing()
	}
	if err != nil {
		return err
	}
	switch {
	case c.taken.Load() == 0:
		w.Status(Kind, "none")
	case c.missed.Load():
		w.Status(Kind, "partial")
	default:
		w.Status(Kind, "complete")
	}
	return nil
}

func newCollector(ctx context.Context, s subject.Subject, w *evidence.Writer, o Options) *collector {
	c := &collector{ctx: ctx, s: s, w: w, o: o.withDefaults(), rows: w.Lines("process/processes.jsonl", s.Proc)}
	c.left.Store(c.o.MaxTotal)
	c.sums.known = map[string]string{}
	var err error
	if c.clock, err = readClock(); err != nil {
		c.miss("absolute start times of processes", err, false)
	}
	if self, err := os.Readlink(filepath.Join(s.Proc, "self")); err == nil {
		c.ours = self == strconv.Itoa(os.Getpid())
	}
	return c
}

// all takes the processes that were listed, then those that came since.
func (c *collector) all() error {
	held := c.hold(c.s.Processes)
	c.layers = c.openLayers()
	c.place = c.openPlaces()
	if err := c.each(c.s.Processes, held); err != nil {
		return err
	}
	known := map[subject.Process]bool{}
	identity := func(p subject.Process) subject.Process {
		return subject.Process{PID: p.PID, StartTicks: p.StartTicks}
	}
	for _, p := range c.s.Processes {
		known[identity(p)] = true
	}
	for round := 0; ; round++ {
		now, err := subject.List(c.s.Container, c.s.Proc)
		if err != nil && !gone(err) {
			c.miss("the list of processes that started meanwhile", err, true)
		}
		now = slices.DeleteFunc(now, func(p subject.Process) bool { return known[identity(p)] })
		if len(now) == 0 {
			return nil
		}
		if round == laterRounds {
			c.missed.Store(true)
			c.w.Miss(record.Miss{What: "processes that started during the capture", Kind: Kind, Reason: "they kept starting faster than they could be read", Partial: true, Count: len(now)})
			return nil
		}
		for _, p := range now {
			known[identity(p)] = true
		}
		if err := c.each(now, c.hold(now)); err != nil {
			return err
		}
	}
}

// hold opens the first processes before any is read: reading one may take long, and the next should not be gone by then.
func (c *collector) hold(ps []subject.Process) []func() (*handle, error) {
	out := make([]func() (*handle, error), len(ps))
	for i, p := range ps {
		if i < maxHeld {
			h, err := open(c.s.Proc, p)
			if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
				out[i] = func() (*handle, error) { return h, err }
				continue
			}
		}
		out[i] = func() (*handle, error) { return open(c.s.Proc, p) }
	}
	return out
}

func (c *collector) each(ps []subject.Process, held []func() (*handle, error)) error {
	g, ctx := errgroup.WithContext(c.ctx)
	g.SetLimit(workers)
	for i, p := range ps {
		g.Go(func() error {
			h, err := held[i]()
			if h != nil {
				defer h.close()
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return c.one(p, h, err)
		})
	}
	return g.Wait()
}

func (c *collector) miss(what string, err error, partial bool) {
	c.missed.Store(true)
	if errors.Is(err, safefs.ErrTimeout) {
		c.stuck.Add(1)
	}
	c.w.Miss(record.Miss{What: what, Kind: Kind, Reason: reason(err), Partial: partial, Count: 1})
}

// reason is an error's innermost words, without the path that What names already.
func reason(err error) string {
	var p *fs.PathError
	var s *safefs.PathError
	var no syscall.Errno
	switch {
	case errors.Is(err, safefs.ErrTimeout):
		return safefs.ErrTimeout.Error()
	case errors.Is(err, safefs.ErrAccessTime):
		return safefs.ErrAccessTime.Error()
	case errors.As(err, &no):
		return no.Error()
	case errors.As(err, &s):
		return s.Err.Error()
	case errors.As(err, &p):
		return p.Err.Error()
	}
	return err.Error()
}

// gone reports whether an error says that the process is no more.
func gone(err error) bool {
	return errors.Is(err, syscall.ESRCH) || errors.Is(err, fs.ErrNotExist)
}

// one takes a single process; err says why h is nil.
func (c *collector) one(p subject.Process, h *handle, err error) error {
	dir := "process/" + strconv.Itoa(p.PID)
	row := record.Process{PID: p.PID, ContainerPID: p.ContainerPID, Dir: dir, Relation: p.Relation, StartTicks: p.StartTicks, StartTime: c.clock.at(p.StartTicks)}
	row.Exe.Origin = record.ExeUnknown
	if err != nil {
		if gone(err) {
			err = errors.New("the process ended before it was read")
		}
		c.miss(dir, err, false)
		row.Errors = append(row.Errors, reason(err))
		return c.rows.Write(row)
	}
	c.taken.Add(1)
	if h.via != "" {
		row.Errors = append(row.Errors, "its first thread ended: memory, files and namespaces are those of thread "+strconv.Itoa(h.other))
	}
	maps, err := c.raw(&row, h)
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return c.fds(&row, h) },
		func() error { return c.mapped(&row, h, maps) },
		func() error { return c.exe(&row, h) },
		func() error { return c.threads(&row, h) },
	}
	for _, step := range steps {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := step(); err != nil {
			return err
		}
	}
	c.afterwards(&row, h)
	return c.rows.Write(row)
}

// afterwards notes what changed about the process while it was read: then its parts may not belong together.
func (c *collector) afterwards(row *record.Process, h *handle) {
	var what string
	switch {
	case !h.alive():
		what = "the process ended while it was read"
	case row.State == "Z" || h.exe < 0 || h.via != "":
		return
	default:
		link, err := h.readlink("exe")
		if err != nil {
			return
		}
		before, err := statx(h.exe, "", atEmptyPath)
		if err != nil {
			return
		}
		now, err := h.stat("exe")
		if err != nil || now.same(before) {
			return
		}
		what = "the process started another program while it was read: " + record.Escape(link)
	}
	row.Errors = append(row.Errors, what)
	c.miss(row.Dir, errors.New(what), true)
}
