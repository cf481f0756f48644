// Package memory keeps what a container's processes hold in memory: for each one an ELF core that gdb opens, with every
// byte at its true address, and a list of the mappings that says what became of each.
//
// Nothing is stopped and nothing is attached to. Bytes are read with process_vm_readv(2), and through /proc/PID/mem
// where that refuses (pages without read permission). Only pages that are in memory or in swap are read, as the
// page tables say (PAGEMAP_SCAN or /proc/PID/pagemap): touching others would make the kernel supply them, which the
// target could see. Pages of files that nobody changed are left out and the file's SHA-256 is kept instead, unless
// everything is asked for; pages of files that have no name any more are always kept. Device memory is never read.
//
// Without a freeze the image is not of one instant: a page may be newer than its neighbour, and a mapping that goes while
// it is read is zero in the core and counted as unreadable. Freeze stops the container's cgroup meanwhile.
package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
)

// Mode says how much of memory is kept.
type Mode string

// The modes. The zero value means Private.
const (
	None    Mode = "none"    // only the list of mappings; no byte of memory is read
	Private Mode = "private" // all but pages that equal the file they are mapped from
	Full    Mode = "full"    // every page that is in memory or in swap
)

// ParseMode reads a mode as the command line has it; "" is Private.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case "":
		return Private, nil
	case None, Private, Full:
		return m, nil
	}
	return "", fmt.Errorf("unknown memory mode %q: it is none, private or full", s)
}

// Options choose what is kept. The zero value keeps all private memory without limit.
type Options struct {
	Mode Mode
	// MaxProcess and MaxTotal bound the bytes of memory kept of one process and of all; 0 means no limit.
	MaxProcess, MaxTotal int64
	// ReadTimeout bounds one read of at most a few MiB; 0 means 10 s. A process that hangs its readers (userfaultfd,
	// a file system that does not answer) loses the rest of its core.
	ReadTimeout time.Duration
	// HashTimeout bounds the hashing of mapped files in all; 0 means 30 s.
	HashTimeout time.Duration
}

func (o *Options) defaults() {
	if o.Mode == "" {
		o.Mode = Private
	}
	if o.ReadTimeout <= 0 {
		o.ReadTimeout = 10 * time.Second
	}
	if o.HashTimeout <= 0 {
		o.HashTimeout = 30 * time.Second
	}
}

// Collect writes process/<pid>/core, memory.jsonl and file-pages/ for each process of s. The error is nil unless the package
// could not be written or ctx ended; what a process would not give goes to w's coverage.
func Collect(ctx context.Context, s subject.Subject, w *evidence.Writer, o Options) error {
	o.defaults()
	c := &capture{s: s, w: w, o: o, files: newFiles(o.HashTimeout), left: o.MaxTotal, vm: ownPIDs(s.Proc)}
	whole, some := true, false
	for _, p := range s.Processes {
		if err := ctx.Err(); err != nil {
			return err
		}
		missed, kept, err := c.process(ctx, p)
		if err != nil {
			return fmt.Errorf("memory of process %d: %w", p.PID, err)
		}
		whole = whole && !missed
		some = some || kept
	}
	switch {
	case o.Mode == None:
		c.miss(record.Miss{What: "memory", Reason: "left out as asked (--memory none)", Deliberate: true})
		w.Status("memory", "skipped")
	case whole:
		w.Status("memory", "complete")
	case some:
		w.Status("memory", "partial")
	default:
		w.Status("memory", "none")
	}
	return nil
}

// capture is one run of Collect.
type capture struct {
	s      subject.Subject
	w      *evidence.Writer
	o      Options
	files  *files
	mu     sync.Mutex         // a scan that was left behind may still look at shared
	shared map[fileKey][]span // what cores of this capture already hold of shared memory objects, by file offset
	left   int64              // bytes left of MaxTotal
	vm     bool               // process_vm_readv may be used: pids are ours
}

func (c *capture) miss(m record.Miss) {
	m.Kind = "memory"
	m.Count = max(m.Count, 1)
	c.w.Miss(m)
}

// errGone says that the process ended or became another program.
var errGone = errors.New("the process ended, or became another program, while its memory was read")
