package process

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// sum fills a row from the raw files.
func (c *collector) sum(row *record.Process, h *handle, texts map[string][]byte) {
	row.StartTime = c.clock.at(row.StartTicks)
	statFields(row, texts["stat"])
	statusFields(row, texts["status"])
	for arg := range bytes.SplitSeq(bytes.TrimSuffix(texts["cmdline"], []byte{0}), []byte{0}) {
		if len(texts["cmdline"]) == 0 || len(row.Cmdline) == 4096 {
			break
		}
		row.Cmdline = append(row.Cmdline, record.Name(arg))
	}
	row.Cgroup = strings.TrimSpace(string(texts["cgroup"]))
	row.LSM = strings.TrimRight(string(texts["attr/current"]), "\n\x00")
	if l, err := h.readlink("cwd"); err == nil {
		row.Cwd = record.Name(l)
	}
	if l, err := h.readlink("root"); err == nil {
		row.Root = record.Name(l)
	}
	row.Namespaces = map[string]uint64{}
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "user", "uts"} {
		l, err := h.readlink("ns/" + ns)
		if err != nil {
			continue
		}
		// "net:[4026531840]"
		if i, j := strings.IndexByte(l, '['), strings.IndexByte(l, ']'); i > 0 && j > i {
			if n, err := strconv.ParseUint(l[i+1:j], 10, 64); err == nil {
				row.Namespaces[ns] = n
			}
		}
	}
}

// statFields takes what /proc/<pid>/stat (proc_pid_stat(5)) tells. Its times are in clock ticks.
func statFields(row *record.Process, b []byte) {
	i, j := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if i < 0 || j < i {
		return
	}
	row.Comm = record.Name(b[i+1 : j])
	f := strings.Fields(string(b[j+1:]))
	num := func(n int) int64 { // n as the manual counts, the state being 3
		if n-3 >= len(f) {
			return 0
		}
		v, err := strconv.ParseInt(f[n-3], 10, 64)
		if err != nil {
			return 0
		}
		return v
	}
	if len(f) > 0 {
		row.State = f[0]
	}
	row.PPID = int(num(4))
	row.Threads = int(num(20))
	row.CPUTime = (num(14) + num(15)) * (1_000_000_000 / userHZ)
	row.RSS = num(24) * int64(os.Getpagesize())
}

// statusFields takes what /proc/<pid>/status tells.
func statusFields(row *record.Process, b []byte) {
	for line := range strings.Lines(string(b)) {
		key, v, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		f := strings.Fields(v)
		if len(f) == 0 {
			continue
		}
		n, err := strconv.ParseUint(f[0], 10, 64)
		switch key {
		case "Uid":
			if len(f) > 1 && err == nil {
				row.UID = uint32(n)
				if e, err := strconv.ParseUint(f[1], 10, 32); err == nil {
					row.EUID = uint32(e)
				}
			}
		case "Gid":
			if len(f) > 1 && err == nil {
				row.GID = uint32(n)
				if e, err := strconv.ParseUint(f[1], 10, 32); err == nil {
					row.EGID = uint32(e)
				}
			}
		case "TracerPid":
			row.TracerPID = int(n)
		case "Seccomp":
			row.Seccomp = int(n)
		case "NoNewPrivs":
			row.NoNewPrivs = n == 1
		case "CapEff":
			if caps, err := strconv.ParseUint(f[0], 16, 64); err == nil {
				row.CapEff = caps
			}
		}
	}
}
