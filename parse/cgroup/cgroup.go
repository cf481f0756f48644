// Package cgroup reads the counters of the container's control groups, host/cgroup/CONTROLLER/*, as they stood at the capture.
//
// Specification: https://docs.kernel.org/admin-guide/cgroup-v2.html, and https://docs.kernel.org/admin-guide/cgroup-v1/ for the older ones.
//
// What they prove: totals since the group was made, by the kernel's own counting: the most memory and processes at one time, processor
// time, bytes of disks, how often the container was killed for lack of memory. A miner shows here though its process is gone.
//
// They do not prove when any of it happened, nor which process did it; a container that was started anew has new groups.
package cgroup

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/parse"
)

const (
	parser  = "cgroup"
	folder  = "host/cgroup/"
	maxFile = 1 << 20
)

// Artifacts makes the counters part of the timeline, at the time of the capture.
var Artifacts = parse.Artifacts{
	Name:   parser,
	Title:  "counters of control groups",
	Claims: func(p string) bool { return strings.HasPrefix(p, folder) },
	Read:   read,
}

// A counter is one number of one file. In files that have several, key names it.
type counter struct{ file, key, name string }

// group is what is told in one event: cited is the file that the event points at, of which the first that is there is taken.
type group struct {
	name     string
	cited    []string
	counters []counter
	message  func(map[string]int64) string
}

var groups = []group{
	{"memory", []string{"memory.max_usage_in_bytes", "memory.peak", "memory.usage_in_bytes", "memory.current", "memory.events"}, []counter{
		{"memory.max_usage_in_bytes", "", "memory_peak"}, {"memory.peak", "", "memory_peak"},
		{"memory.usage_in_bytes", "", "memory_used"}, {"memory.current", "", "memory_used"},
		{"memory.limit_in_bytes", "", "memory_limit"}, {"memory.max", "", "memory_limit"},
		{"memory.failcnt", "", "memory_limit_hits"}, {"memory.events", "max", "memory_limit_hits"},
		{"memory.oom_control", "oom_kill", "oom_kills"}, {"memory.events", "oom_kill", "oom_kills"},
	}, func(v map[string]int64) string {
		s := fmt.Sprintf("memory: %s in use", size(v["memory_used"]))
		if p := v["memory_peak"]; p > 0 {
			s += ", at most " + size(p)
		}
		if n := v["oom_kills"]; n > 0 {
			s += fmt.Sprintf(", killed for lack of it %d times", n)
		}
		return s
	}},
	{"processor", []string{"cpuacct.usage", "cpu.stat"}, []counter{
		{"cpuacct.usage", "", "cpu_ns"}, {"cpu.stat", "usage_usec", "cpu_us"},
		{"cpu.stat", "nr_throttled", "throttled_periods"}, {"cpu.stat", "throttled_time", "throttled_ns"}, {"cpu.stat", "throttled_usec", "throttled_us"},
	}, func(v map[string]int64) string {
		ns := v["cpu_ns"] + v["cpu_us"]*1000
		return fmt.Sprintf("processor time: %.2f seconds", float64(ns)/1e9)
	}},
	{"processes", []string{"pids.peak", "pids.current", "pids.events"}, []counter{
		{"pids.current", "", "pids"}, {"pids.peak", "", "pids_peak"}, {"pids.max", "", "pids_limit"}, {"pids.events", "max", "pids_limit_hits"},
	}, func(v map[string]int64) string {
		s := fmt.Sprintf("processes and threads: %d", v["pids"])
		if n := v["pids_peak"]; n > 0 {
			s += fmt.Sprintf(", at most %d", n)
		}
		if n := v["pids_limit_hits"]; n > 0 {
			s += fmt.Sprintf(", %d times more were wanted than are allowed", n)
		}
		return s
	}},
	{"disks", []string{"blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes", "io.stat"}, []counter{
		{"blkio.throttle.io_service_bytes_recursive", "Read", "bytes_read"}, {"blkio.throttle.io_service_bytes_recursive", "Write", "bytes_written"},
		{"blkio.throttle.io_service_bytes", "Read", "bytes_read"}, {"blkio.throttle.io_service_bytes", "Write", "bytes_written"},
		{"io.stat", "rbytes", "bytes_read"}, {"io.stat", "wbytes", "bytes_written"},
	}, func(v map[string]int64) string {
		return fmt.Sprintf("disks: %s read, %s written", size(v["bytes_read"]), size(v["bytes_written"]))
	}},
}

func read(ctx context.Context, p *evidence.Package, skip func(parse.Skip), emit parse.Emit) error {
	files := map[string]string{} // name to artifact
	for _, e := range p.Artifacts(folder) {
		if _, ok := files[path.Base(e.Path)]; !ok {
			files[path.Base(e.Path)] = e.Path
		}
	}
	at := parse.Captured(p)
	for i := range groups {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := groups[i].read(p, files, at, skip, emit); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) read(p *evidence.Package, files map[string]string, at int64, skip func(parse.Skip), emit parse.Emit) error {
	values := map[string]int64{}
	var a event.Attributes
	a.String("group", g.name)
	for _, c := range g.counters {
		artifact, ok := files[c.file]
		if _, have := values[c.name]; !ok || have {
			continue
		}
		b, err := p.ReadFile(artifact, maxFile)
		if err != nil {
			return err
		}
		v, ok, bad := number(string(b), c.key)
		if bad {
			skip(parse.Skip{Artifact: artifact, Bytes: int64(len(b)), Count: 1, Reason: "it is not what a control group's file should be"})
		}
		if !ok {
			continue
		}
		values[c.name] = v
		a.Int(c.name, v)
	}
	if len(values) == 0 {
		return nil
	}
	for _, name := range g.cited {
		artifact, ok := files[name]
		if !ok {
			continue
		}
		e, _ := p.Artifact(artifact)
		ev := event.Event{Time: at, TimeKind: event.Observed, Kind: event.ContainerObserved, Parser: parser, Artifact: artifact, Length: e.Size,
			Message: g.message(values), Attributes: a.JSON()}
		return emit(&ev)
	}
	return nil
}

// unlimited is from where on version 1 means that there is no limit.
const unlimited = 1 << 60

// number reads a file of one number, or the sum of what key has in lines of "key value", "device key value" and "device key=value". ok is
// false where it has none; "max" means without a limit and is none.
func number(s, key string) (v int64, ok, bad bool) {
	if key == "" {
		s = strings.TrimSpace(s)
		if s == "max" {
			return 0, false, false
		}
		v, err := strconv.ParseUint(s, 10, 63)
		return int64(v), err == nil && v < unlimited, err != nil
	}
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		for i, w := range f {
			text := ""
			if k, value, found := strings.Cut(w, "="); found && k == key {
				text = value
			} else if w == key && i+1 < len(f) && i <= 1 {
				text = f[i+1]
			} else {
				continue
			}
			n, err := strconv.ParseUint(text, 10, 62)
			if err != nil || v > 1<<62-int64(n) {
				return 0, false, true
			}
			v, ok = v+int64(n), true
		}
	}
	return v, ok, false
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
