// Package hostcontext takes what an examiner must know about the container's surroundings: the runtime's own records of it, its
// cgroup counters, and the identity, state and clocks of the machine.
//
// Into the package go
//
//   - target/target.json: target.Container as it was found, with the survey's anomalies in target/anomalies.json if there are any;
//     target/<name>: the runtime's records as it gave them.
//   - host/host.json: record.Host. Its clocks are read together, so that times since boot, which processes and the
//     kernel's log use, become times of day.
//   - host/<name>: files of /proc and /etc of the machine, see hostFiles.
//   - host/cgroup/<controller>/<file>: the container's counters and limits; "unified" is the controller's name for cgroup v2.
package hostcontext

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
	"github.com/sherd-forensics/sherd/target"
)

const (
	kind    = "context"
	maxFile = 4 << 20
)

// Options carry what was found out before the capture.
type Options struct {
	// Anomalies are contradictions between runtimes and kernel about this container.
	Anomalies []target.Anomaly
}

type collector struct {
	ctx     context.Context
	s       subject.Subject
	w       *evidence.Writer
	partial bool
}

// Collect takes the context of s. Its error means that the package could not be written or that ctx ended; everything else that
// went wrong is in the package's coverage.
func Collect(ctx context.Context, s subject.Subject, w *evidence.Writer, o Options) error {
	c := &collector{ctx: ctx, s: s, w: w}
	for _, step := range []func() error{
		func() error { return Target(w, s.Container, o.Anomalies) },
		c.host,
		c.files,
		c.cgroups,
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(); err != nil {
			return err
		}
	}
	status := "complete"
	if c.partial {
		status = "partial"
	}
	w.Status(kind, status)
	return nil
}

func (c *collector) miss(what string, err error, partial bool) {
	c.partial = true
	c.w.Miss(record.Miss{What: what, Kind: kind, Reason: err.Error(), Partial: partial, Count: 1})
}

func document(w *evidence.Writer, name, origin string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = w.Add(evidence.Meta{Path: name, Origin: origin}, append(b, '\n'))
	return err
}

// Target writes what the runtime says of a container: target/.
func Target(w *evidence.Writer, ct *target.Container, anomalies []target.Anomaly) error {
	if err := document(w, "target/target.json", ct.URL, ct); err != nil {
		return err
	}
	if len(anomalies) > 0 {
		if err := document(w, "target/anomalies.json", "comparison of runtimes and /proc", anomalies); err != nil {
			return err
		}
	}
	used := map[string]bool{"target/target.json": true, "target/anomalies.json": true}
	for i, r := range ct.Records {
		name := recordPath(r.Name, i)
		for n := 1; used[name]; n++ {
			name = fmt.Sprintf("%s-%d", recordPath(r.Name, i), n)
		}
		used[name] = true
		if _, err := w.Add(evidence.Meta{Path: name, Origin: r.Origin}, r.Data); err != nil {
			return err
		}
	}
	return nil
}

// recordPath keeps a record's name inside target/ whatever the runtime called it.
func recordPath(name string, i int) string {
	clean := strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(name, "\x00", "")), "/")
	if clean == "" {
		clean = fmt.Sprintf("record-%d", i)
	}
	return "target/" + clean
}

// host writes host/host.json.
func (c *collector) host() error {
	// The ticks of /proc/<pid>/stat are USER_HZ: 100 on every architecture that Go runs on.
	h := record.Host{PageSize: os.Getpagesize(), TicksPerSec: 100, Cgroup: c.mode()}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		c.miss("kernel version", err, false)
	}
	h.Hostname, h.Kernel, h.Arch = unix.ByteSliceToString(u.Nodename[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
	if b, err := safefs.ReadProc(path.Join(c.s.Proc, "sys/kernel/hostname"), 256); err == nil && c.s.HostRoot == "" {
		h.Hostname = strings.TrimSpace(string(b))
	} else if b, err := c.hostFile("/etc/hostname", 256); err == nil && c.s.HostRoot != "" {
		h.Hostname = strings.TrimSpace(string(b)) // our own UTS namespace is the collector's container's
	}
	if b, err := safefs.ReadProc(path.Join(c.s.Proc, "sys/kernel/random/boot_id"), 64); err == nil {
		h.BootID = strings.TrimSpace(string(b))
	} else {
		c.miss("boot id", err, false)
	}
	if b, err := c.hostFile("/etc/machine-id", 64); err == nil {
		h.MachineID = strings.TrimSpace(string(b))
	}
	for _, p := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if b, err := c.hostFile(p, 1<<16); err == nil {
			h.OS = prettyName(string(b))
			break
		}
	}
	if err := clocks(&h); err != nil {
		c.miss("clocks", err, true)
	}
	return document(c.w, "host/host.json", "uname, clock_gettime, adjtimex, /proc and /etc of the machine", h)
}

// clocks reads the wall clock between two readings of the others and keeps the closest of a few tries.
func clocks(h *record.Host) error {
	best := int64(1 << 62)
	for range 5 {
		var m1, r, b, m2 unix.Timespec
		for _, x := range []struct {
			id int32
			ts *unix.Timespec
		}{{unix.CLOCK_MONOTONIC, &m1}, {unix.CLOCK_REALTIME, &r}, {unix.CLOCK_BOOTTIME, &b}, {unix.CLOCK_MONOTONIC, &m2}} {
			if err := unix.ClockGettime(x.id, x.ts); err != nil {
				return fmt.Errorf("clock_gettime: %w", err)
			}
		}
		if d := m2.Nano() - m1.Nano(); d < best {
			best = d
			h.Monotonic, h.Realtime, h.Boottime = m1.Nano()+d/2, r.Nano(), b.Nano()
		}
	}
	h.BootTime = h.Realtime - h.Boottime
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return fmt.Errorf("adjtimex: %w", err)
	}
	const unsynchronised = 0x40 // STA_UNSYNC
	h.NTPSynced = state != unix.TIME_ERROR && t.Status&unsynchronised == 0
	h.NTPMaxError = int64(t.Maxerror) * int64(time.Microsecond) //nolint:unconvert // 32 bits on some architectures
	return nil
}

// prettyName is PRETTY_NAME of os-release(5).
func prettyName(s string) string {
	for line := range strings.Lines(s) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			if q, err := strconv.Unquote(v); err == nil {
				return q
			}
			return strings.Trim(v, `'"`)
		}
	}
	return ""
}

// hostFile reads a file of the machine's root without leaving that root.
func (c *collector) hostFile(p string, limit int64) ([]byte, error) {
	root, err := safefs.Open(c.s.Host("/"), safefs.Options{})
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.ReadFile(p, limit)
}

// hostFiles are the files that say under which kernel and load the container ran. What concerns the host's other
// tenants is left alone.
var hostFiles = []struct {
	name, path string
	proc       bool
}{
	{"version", "version", true}, {"uptime", "uptime", true}, {"stat", "stat", true}, {"loadavg", "loadavg", true},
	{"meminfo", "meminfo", true}, {"cmdline", "cmdline", true}, {"modules", "modules", true}, {"cgroups", "cgroups", true},
	{"filesystems", "filesystems", true}, {"init-mountinfo", "1/mountinfo", true}, {"init-cgroup", "1/cgroup", true},
	{"pressure-cpu", "pressure/cpu", true}, {"pressure-memory", "pressure/memory", true}, {"pressure-io", "pressure/io", true},
	{"core_pattern", "sys/kernel/core_pattern", true}, {"modprobe", "sys/kernel/modprobe", true}, {"tainted", "sys/kernel/tainted", true},
	{"randomize_va_space", "sys/kernel/randomize_va_space", true}, {"ptrace_scope", "sys/kernel/yama/ptrace_scope", true},
	{"pid_max", "sys/kernel/pid_max", true}, {"unprivileged_userns_clone", "sys/kernel/unprivileged_userns_clone", true},
	{"binfmt_misc", "sys/fs/binfmt_misc/status", true},
	{"os-release", "/etc/os-release", false}, {"hostname", "/etc/hostname", false}, {"machine-id", "/etc/machine-id", false},
	{"timezone", "/etc/timezone", false}, {"ld.so.preload", "/etc/ld.so.preload", false},
}

// files writes hostFiles. What the kernel does not have is no loss.
func (c *collector) files() error {
	for _, f := range hostFiles {
		if c.s.Container.Inside && (!f.proc || strings.HasPrefix(f.path, "1/")) {
			continue // those in sight are the collector's or the container's
		}
		var b []byte
		var err error
		origin := f.path
		if f.proc {
			origin = path.Join(c.s.Proc, f.path)
			b, err = safefs.ReadProc(origin, maxFile)
		} else {
			b, err = c.hostFile(f.path, maxFile)
		}
		if err := c.raw("host/"+f.name, origin, b, err); err != nil {
			return err
		}
	}
	return nil
}

// raw writes what was read of one file, or why not.
func (c *collector) raw(name, origin string, b []byte, err error) error {
	switch {
	case err == nil:
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTDIR):
		return nil
	case errors.Is(err, safefs.ErrTooLarge):
		c.miss(name, err, true)
	default:
		c.miss(name, err, false)
		return nil
	}
	_, err = c.w.Add(evidence.Meta{Path: name, Origin: origin, Mtime: time.Now().UnixNano()}, b)
	return err
}
