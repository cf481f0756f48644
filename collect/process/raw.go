package process

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

// rawFile is one file of /proc/<pid> that is kept byte for byte (proc(5)).
type rawFile struct {
	name  string
	limit int64
	// thread is true for what a process whose first thread ended shows in its other threads only.
	thread bool
	// waits is true for what needs the process's memory map, for which a hostile process can keep readers waiting.
	waits bool
	// optional files are not in every kernel, or are refused for reasons of their own: their absence is no gap.
	optional bool
}

// Bounds of one file of /proc. 65,530 mappings, the kernel's default limit, make a maps of some 6 MiB; a process
// may have its command line and environment shown as anything in its memory (PR_SET_MM).
const (
	maxText  = 4 << 20
	maxMaps  = 16 << 20
	maxSmall = 1 << 20
)

// raw are the files kept, most volatile first.
var raw = []rawFile{
	{name: "stat", limit: maxSmall},
	{name: "status", limit: maxSmall},
	{name: "cmdline", limit: maxText, thread: true, waits: true},
	{name: "environ", limit: maxText, thread: true, waits: true},
	{name: "maps", limit: maxMaps, thread: true, waits: true},
	{name: "wchan", limit: maxSmall, thread: true, optional: true},
	{name: "syscall", limit: maxSmall, thread: true, waits: true, optional: true},
	{name: "stack", limit: maxSmall, thread: true, waits: true, optional: true},
	{name: "auxv", limit: maxSmall, thread: true, waits: true},
	{name: "io", limit: maxSmall, waits: true, optional: true},
	{name: "sched", limit: maxSmall, optional: true},
	{name: "timers", limit: maxSmall, optional: true},
	{name: "mountinfo", limit: maxMaps, thread: true},
	{name: "cgroup", limit: maxSmall},
	{name: "limits", limit: maxSmall, thread: true},
	{name: "oom_score_adj", limit: maxSmall},
	{name: "coredump_filter", limit: maxSmall, thread: true, waits: true, optional: true},
	{name: "autogroup", limit: maxSmall, optional: true},
	{name: "personality", limit: maxSmall, waits: true, optional: true},
	{name: "loginuid", limit: maxSmall, optional: true},
	{name: "sessionid", limit: maxSmall, optional: true},
	{name: "uid_map", limit: maxSmall},
	{name: "gid_map", limit: maxSmall},
	{name: "setgroups", limit: maxSmall, optional: true},
	{name: "timens_offsets", limit: maxSmall, optional: true},
	{name: "attr/current", limit: maxSmall, optional: true},
	{name: "attr/exec", limit: maxSmall, optional: true},
	{name: "smaps_rollup", limit: maxSmall, thread: true, waits: true, optional: true},
}

// flat are the names in the package of files that /proc has in a folder.
var flat = map[string]string{"attr/current": "attr_current", "attr/exec": "attr_exec"}

// errStuck stands for a read that was not tried.
var errStuck = errors.New("not tried, since reading another file of this process hung")

// errAllStuck does so when too many processes hang.
var errAllStuck = errors.New("not tried, since reading too many other processes hung")

// raw keeps the files of /proc/<pid>, fills the row from them and gives the text of maps. An error is fatal.
func (c *collector) raw(row *record.Process, h *handle) (maps []byte, err error) {
	for _, f := range raw {
		if f.name == "environ" && c.o.WithoutEnviron {
			c.w.Miss(record.Miss{What: row.Dir + "/environ", Kind: Kind, Reason: "left out by choice", Deliberate: true, Count: 1})
			continue
		}
		name := f.name
		if f.thread {
			name = h.via + name
		}
		b, err := c.readRaw(h, f, name)
		if err != nil && len(b) == 0 {
			if gone(err) && !h.alive() {
				break
			}
			if !f.excused(err, row.State) {
				c.miss(row.Dir+"/"+f.name, err, false)
				row.Errors = append(row.Errors, f.name+": "+reason(err))
			}
			continue
		}
		m := evidence.Meta{Path: row.Dir + "/" + f.name, Origin: h.describe(name)}
		if to := flat[f.name]; to != "" {
			m.Path = row.Dir + "/" + to
		}
		if err != nil {
			m.Errors = append(m.Errors, reason(err))
			c.miss(row.Dir+"/"+f.name, err, true)
		}
		if _, err := c.w.Add(m, b); err != nil {
			return nil, err
		}
		c.fill(row, f.name, b)
		if f.name == "stat" && h.other != 0 {
			row.State = h.state(row.State)
		}
		if f.name == "maps" {
			maps = b
		}
	}
	return maps, nil
}

func (c *collector) readRaw(h *handle, f rawFile, name string) ([]byte, error) {
	if f.waits {
		switch {
		case h.stuck:
			return nil, errStuck
		case c.stuck.Load() >= maxStuck:
			return nil, errAllStuck
		}
	}
	b, err := h.read(name, f.limit)
	if errors.Is(err, safefs.ErrTimeout) {
		h.stuck = true
	}
	return b, err
}

// excused reports whether the lack of a file is in the nature of the kernel or of the process.
func (f rawFile) excused(err error, state string) bool {
	if state == "Z" && (gone(err) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EINVAL)) {
		return true // a zombie has neither memory nor namespaces
	}
	return f.optional && slices.ContainsFunc([]error{fs.ErrNotExist, syscall.EINVAL, syscall.EIO, syscall.EOPNOTSUPP}, func(e error) bool { return errors.Is(err, e) })
}
