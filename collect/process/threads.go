package process

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// kcmpFiles asks kcmp(2) whether two threads share their table of descriptors.
const kcmpFiles = 2

// threads lists the threads of a process that has more than one, in threads.jsonl: thousands of small files would be slow to write and
// to read. A thread may have left its process's namespaces, and may have descriptors of its own. An error is fatal.
func (c *collector) threads(row *record.Process, h *handle) error {
	tids, more, err := h.numbers("task", c.o.MaxThreads)
	if err != nil {
		return nil //nolint:nilerr // the process ended, which is noted for it
	}
	if more {
		c.miss(row.Dir+"/task", fmt.Errorf("%d of %d threads are listed", len(tids), row.Threads), true)
	}
	if len(tids) < 2 {
		return nil
	}
	lines := c.w.Lines(row.Dir+"/threads.jsonl", h.describe("task"))
	for _, tid := range tids {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		t, err := c.thread(row, h, tid)
		if err != nil {
			return err
		}
		if t == nil {
			continue
		}
		if err := lines.Write(t); err != nil {
			return err
		}
	}
	return lines.Close()
}

// thread describes one thread; nil if it ended meanwhile, which is ordinary. What is refused is noted for the process.
func (c *collector) thread(row *record.Process, h *handle, tid int) (*record.Thread, error) {
	via := "task/" + strconv.Itoa(tid) + "/"
	b, err := h.read(via+"stat", maxSmall)
	s, ok := parseStat(b)
	if err != nil || !ok {
		return nil, nil //nolint:nilerr // as said above
	}
	t := &record.Thread{TID: tid, Comm: record.Name(s.comm), State: s.fields[0], Stat: record.Name(b)}
	t.StartTicks = uint64(max(s.num(22), 0))
	t.StartTime = c.clock.at(t.StartTicks)
	if b, err := h.read(via+"status", maxSmall); err == nil {
		t.Status = record.Name(b)
		t.TracerPID, t.ContainerTID = threadStatus(b)
	}
	if b, err := h.read(via+"wchan", maxSmall); err == nil {
		t.Wchan = record.Name(b)
	}
	if !h.stuck && c.stuck.Load() < maxStuck {
		if b, err := h.read(via+"syscall", maxSmall); err == nil {
			t.Syscall = record.Name(b)
		}
	}
	if t.State == "Z" || t.State == "X" {
		return t, nil
	}
	if ns, err := h.namespaces(via); err == nil {
		for k, v := range ns {
			if row.Namespaces[k] != 0 && row.Namespaces[k] != v {
				if t.Namespaces == nil {
					t.Namespaces = map[string]uint64{}
				}
				t.Namespaces[k] = v
			}
		}
	}
	if b, err := h.read(via+"cgroup", maxSmall); err == nil {
		if g := strings.ToValidUTF8(string(bytes.TrimSpace(b)), "\ufffd"); g != row.Cgroup {
			t.Cgroup = g
		}
	}
	if c.ownTable(h.thread(), tid) {
		t.FDs, err = c.table(h, via, row.Dir+"/task/"+strconv.Itoa(tid), false)
	}
	return t, err
}

// ownTable reports whether a thread has a table of descriptors that is not the process's. If the kernel does not say, it is taken
// for shared, as it nearly always is.
func (c *collector) ownTable(reference, tid int) bool {
	if reference == tid || !c.ours {
		return false
	}
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(reference), uintptr(tid), kcmpFiles, 0, 0, 0)
	return errno == 0 && r != 0
}

func threadStatus(b []byte) (tracer, inner int) {
	for line := range strings.Lines(string(b)) {
		key, v, _ := strings.Cut(line, ":")
		f := strings.Fields(v)
		if len(f) == 0 {
			continue
		}
		n, err := strconv.Atoi(f[len(f)-1])
		if err != nil {
			continue
		}
		switch key {
		case "TracerPid":
			tracer = n
		case "NSpid":
			inner = n
		}
	}
	return tracer, inner
}
