package process

import (
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence/record"
)

// maxHolds bounds what one process beside the container is said to hold of it.
const maxHolds = 64

// ofProcess matches what of a process's own /proc directory a descriptor can lead to.
var ofProcess = regexp.MustCompile(`^/proc/([0-9]{1,10})(?:/task/[0-9]+)?/(mem|environ|maps|smaps|pagemap|cmdline|auxv|stack|syscall)$`)

// sharing writes a row for each process that is not the container's and shares its pid or network namespace, with what it holds of the
// container. Nothing else of it is taken. An error is fatal.
func (c *collector) sharing() error {
	list, err := subject.Sharing(c.s.Container, c.s.Proc)
	if err != nil && !gone(err) {
		c.miss("processes of others that share its namespaces", err, true)
	}
	if len(list) == 0 {
		return nil
	}
	root, hasRoot := c.rootOf()
	rows := c.w.Lines("process/sharing.jsonl", c.s.Proc)
	for _, s := range list {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		h, err := open(c.s.Proc, s.Process)
		if err != nil {
			if !gone(err) {
				c.miss("process "+strconv.Itoa(s.PID)+", which shares its namespaces", err, true)
			}
			continue
		}
		row := c.sharer(s, h)
		row.Holds = c.holds(s, h, root, hasRoot)
		h.close()
		if err := rows.Write(row); err != nil {
			return err
		}
	}
	return rows.Close()
}

// rootOf is what the root of the container's first process leads to.
func (c *collector) rootOf() (object, bool) {
	p, err := subject.Identify(c.s.Proc, c.s.Container.PID)
	if err != nil {
		return object{}, false
	}
	h, err := open(c.s.Proc, p)
	if err != nil {
		return object{}, false
	}
	defer h.close()
	o, err := h.stat(h.via + "root")
	return o, err == nil
}

func (c *collector) sharer(s subject.Sharer, h *handle) *record.Sharer {
	var p record.Process
	for _, name := range []string{"stat", "status", "cmdline", "cgroup"} {
		// A sharer that can't be read in part is told in part.
		if b, err := h.read(name, maxSmall); err == nil {
			c.fill(&p, name, b)
		}
	}
	row := &record.Sharer{
		PID: s.PID, ContainerPID: s.ContainerPID, PPID: p.PPID, Shares: s.Shares, Comm: p.Comm, Cmdline: p.Cmdline, State: p.State, StartTicks: s.StartTicks,
		StartTime: c.clock.at(s.StartTicks), UID: p.UID, EUID: p.EUID, TracerPID: p.TracerPID, CapEff: p.CapEff, Cgroup: p.Cgroup, Exe: record.Name(h.exeLink),
	}
	row.Namespaces, _ = h.namespaces(h.via) // those that can be seen
	return row
}

// holds lists the descriptors and folders of a process beside the container that lead into the container: to the memory or environment of
// its processes, or to files of its root. What is seen is the links alone; nothing is opened.
func (c *collector) holds(s subject.Sharer, h *handle, root object, hasRoot bool) []record.Hold {
	var out []record.Hold
	add := func(what string, fd int, link string, o object, flags uint64) {
		hold := record.Hold{What: what, FD: fd, Target: record.Name(strings.TrimSuffix(link, deletedSuffix)), Writable: flags&unix.O_ACCMODE != unix.O_RDONLY}
		m := ofProcess.FindStringSubmatch(link)
		switch {
		case m != nil && s.ContainerPID != 0 && len(s.Shares) > 0 && s.Shares[0] == "pid":
			of, err := strconv.Atoi(m[1])
			if err != nil || of == s.ContainerPID {
				return
			}
			hold.Of, hold.Part = of, m[2]
		case hasRoot && o.mount == root.mount && o.dev == root.dev && o.mode&unix.S_IFMT != unix.S_IFSOCK:
			hold.Part = "file"
			if o.mode&unix.S_IFMT == unix.S_IFDIR {
				hold.Part = "folder"
			}
		default:
			return
		}
		if len(out) < maxHolds {
			out = append(out, hold)
		}
	}
	for _, name := range []string{"cwd", "root"} {
		if link, err := h.readlink(h.via + name); err == nil {
			if o, err := h.stat(h.via + name); err == nil {
				add(name, -1, link, o, unix.O_RDONLY)
			}
		}
	}
	numbers, _, err := h.numbers(h.via+"fd", c.o.MaxFDInfo)
	if err != nil {
		return out
	}
	for _, n := range numbers {
		name := h.via + "fd/" + strconv.Itoa(n)
		link, err := h.readlink(name)
		if err != nil {
			continue
		}
		o, err := h.stat(name)
		if err != nil {
			continue
		}
		var flags uint64
		if b, err := h.read(h.via+"fdinfo/"+strconv.Itoa(n), maxSmall); err == nil {
			_, flags = fdinfo(b)
		}
		add("fd", n, link, o, flags)
	}
	return out
}
