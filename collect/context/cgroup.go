package hostcontext

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/internal/safefs"
)

// counters are the files taken of each hierarchy. All of them only report; files that change something when written
// are read all the same, for they hold the limits.
var counters = map[string][]string{
	"memory": {"memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes", "memory.failcnt", "memory.stat", "memory.oom_control",
		"memory.kmem.usage_in_bytes", "memory.memsw.usage_in_bytes", "memory.memsw.limit_in_bytes", "memory.swappiness"},
	"cpu":     {"cpu.stat", "cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"},
	"cpuacct": {"cpuacct.usage", "cpuacct.usage_percpu", "cpuacct.stat"},
	"cpuset":  {"cpuset.cpus", "cpuset.mems"},
	"pids":    {"pids.current", "pids.max", "pids.events", "pids.peak"},
	"blkio": {"blkio.throttle.io_service_bytes", "blkio.throttle.io_serviced", "blkio.throttle.io_service_bytes_recursive",
		"blkio.throttle.io_serviced_recursive", "blkio.time", "blkio.sectors"},
	"devices": {"devices.list"},
	"freezer": {"freezer.state", "freezer.self_freezing", "freezer.parent_freezing"},
	"net_cls": {"net_cls.classid"}, "net_prio": {"net_prio.ifpriomap"}, "hugetlb": {},
	"unified": {"cgroup.events", "cgroup.controllers", "cgroup.type", "cgroup.stat", "cgroup.freeze", "memory.current", "memory.peak", "memory.max", "memory.high",
		"memory.stat", "memory.events", "memory.events.local", "memory.swap.current", "memory.swap.max", "memory.swap.events", "memory.pressure", "cpu.stat",
		"cpu.max", "cpu.weight", "cpu.pressure", "cpuset.cpus.effective", "io.stat", "io.max", "io.pressure", "pids.current", "pids.max", "pids.peak", "pids.events"},
}

// common to every hierarchy: which processes and threads are in it, and what the kernel would run when it is empty.
var common = []string{"cgroup.procs", "tasks", "notify_on_release", "cgroup.clone_children"}

// hierarchy is one mounted cgroup tree.
type hierarchy struct {
	mount       string
	controllers []string // of v1; nil for the unified one
}

// hierarchies reads the cgroup mounts from the mountinfo of the machine's first process, or from within a pod from the container's own,
// which shows it its own cgroup alone.
func (c *collector) hierarchies() ([]hierarchy, error) {
	of, below := "1", ""
	if c.s.Container.Inside {
		of = strconv.Itoa(c.s.Container.PID)
		below = path.Join(c.s.Proc, of, "root")
	}
	b, err := safefs.ReadProc(path.Join(c.s.Proc, of, "mountinfo"), 8<<20)
	if err != nil {
		return nil, err
	}
	var out []hierarchy
	seen := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		head, tail, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(head), strings.Fields(tail)
		if !ok || len(f) < 5 || len(g) < 3 || f[3] != "/" && below == "" {
			continue
		}
		h := hierarchy{mount: path.Join(below, unescapeMount(f[4]))}
		switch g[0] {
		case "cgroup2":
		case "cgroup":
			for o := range strings.SplitSeq(g[2], ",") {
				if _, known := counters[o]; known && o != "unified" {
					h.controllers = append(h.controllers, o)
				}
			}
			if len(h.controllers) == 0 {
				continue // a named hierarchy such as systemd's: no counters
			}
		default:
			continue
		}
		key := g[0] + strings.Join(h.controllers, ",")
		if seen[key] {
			continue // mounted again elsewhere
		}
		seen[key] = true
		out = append(out, h)
	}
	return out, nil
}

// unescapeMount undoes mountinfo's octal escapes.
func unescapeMount(s string) string {
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

// mode tells v1, v2 and hybrid apart.
func (c *collector) mode() string {
	hs, err := c.hierarchies()
	if err != nil {
		return "unknown"
	}
	v1, v2 := false, false
	for _, h := range hs {
		if h.controllers == nil {
			v2 = true
		} else {
			v1 = true
		}
	}
	switch {
	case v1 && v2:
		return "hybrid"
	case v1:
		return "v1"
	case v2:
		return "v2"
	}
	return "none"
}

// places maps each controller ("unified" for v2) to the container's cgroup: from /proc/<pid>/cgroup where a process
// runs, otherwise from what the runtime says.
func (c *collector) places() map[string]string {
	out := map[string]string{}
	pids := []int{}
	if c.s.Container.PID != 0 {
		pids = append(pids, c.s.Container.PID)
	}
	for _, p := range c.s.Processes {
		pids = append(pids, p.PID)
	}
	for _, pid := range pids {
		b, err := safefs.ReadProc(path.Join(c.s.Proc, strconv.Itoa(pid), "cgroup"), 1<<16)
		if err != nil {
			continue
		}
		for line := range strings.Lines(strings.TrimRight(string(b), "\n")) {
			f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
			if len(f) != 3 {
				continue
			}
			if f[0] == "0" && f[1] == "" {
				out["unified"] = f[2]
			}
			for ctl := range strings.SplitSeq(f[1], ",") {
				if ctl != "" {
					out[ctl] = f[2]
				}
			}
		}
		break
	}
	return out
}

// cgroups writes the counters of the container's cgroup in every hierarchy.
func (c *collector) cgroups() error {
	hs, err := c.hierarchies()
	if err != nil {
		c.miss("cgroup counters", err, false)
		return nil
	}
	places := c.places()
	taken := 0
	for _, h := range hs {
		names := h.controllers
		if names == nil {
			names = []string{"unified"}
		}
		for _, ctl := range names {
			place := places[ctl]
			if c.s.Container.Inside {
				place = "." // what the container sees is its own cgroup and those below
			} else if own := c.s.Container.CgroupPath; own != "" && (place == "" || place == "/" || strings.HasPrefix(place, own+"/")) {
				place = own // the process may have been moved below, or out of, what the runtime made
			}
			if place == "" || place == "/" {
				continue // the root's counters are the machine's
			}
			n, err := c.cgroup(h.mount, ctl, place)
			if err != nil {
				return err
			}
			taken += n
		}
	}
	if taken == 0 {
		c.miss("cgroup counters", errors.New("the container's cgroup is unknown or gone: no process of it runs"), false)
	}
	return nil
}

// cgroup takes the counters of one controller and returns how many files there were. place may hold ".." when it
// was read in another cgroup namespace; the lookup does not leave the mount.
func (c *collector) cgroup(mount, ctl, place string) (int, error) {
	root, err := safefs.Open(c.s.Host(mount), safefs.Options{NoClone: true})
	if err != nil {
		c.miss("cgroup counters of "+ctl, err, false)
		return 0, nil
	}
	defer root.Close()
	n := 0
	for _, f := range append(append([]string(nil), common...), counters[ctl]...) {
		p := path.Join(place, f)
		if _, err := root.Lstat(p); err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				c.miss(fmt.Sprintf("host/cgroup/%s/%s", ctl, f), err, false)
			}
			continue
		}
		b, err := root.ReadFile(p, 1<<20)
		if err == nil {
			n++
		}
		if err := c.raw(fmt.Sprintf("host/cgroup/%s/%s", ctl, f), path.Join(mount, p), b, err); err != nil {
			return n, err
		}
	}
	return n, nil
}
