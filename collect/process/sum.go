package process

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// Bounds of the arguments in a row, in number and in bytes together; the raw file has them all.
const (
	maxArgs     = 4096
	maxArgBytes = 1 << 20
)

// fill puts into a row what one of the raw files tells.
func (c *collector) fill(row *record.Process, name string, b []byte) {
	switch name {
	case "stat":
		statFields(row, b)
	case "status":
		statusFields(row, b)
	case "cmdline":
		if len(b) == 0 {
			return
		}
		if len(b) > maxArgBytes {
			b = b[:maxArgBytes]
			row.Errors = append(row.Errors, "cmdline: only its first "+strconv.Itoa(maxArgBytes)+" bytes are in this row")
		}
		for arg := range bytes.SplitSeq(bytes.TrimSuffix(b, []byte{0}), []byte{0}) {
			if len(row.Cmdline) == maxArgs {
				row.Errors = append(row.Errors, "cmdline: more arguments than "+strconv.Itoa(maxArgs))
				break
			}
			row.Cmdline = append(row.Cmdline, record.Name(arg))
		}
	case "cgroup":
		row.Cgroup = strings.ToValidUTF8(strings.TrimSpace(string(b)), "\ufffd")
	case "attr/current":
		row.LSM = strings.ToValidUTF8(strings.TrimRight(string(b), "\n\x00"), "\ufffd")
	}
}

// links puts into a row where the links of /proc/<pid> lead.
func (c *collector) links(row *record.Process, h *handle) {
	for name, to := range map[string]*record.Name{"cwd": &row.Cwd, "root": &row.Root} {
		if l, err := h.readlink(h.via + name); err == nil {
			*to = record.Name(l)
		} else if row.State != "Z" && !gone(err) {
			c.miss(row.Dir+"/"+name, err, false)
		}
	}
	var err error
	if row.Namespaces, err = h.namespaces(h.via); err != nil && row.State != "Z" && !gone(err) {
		c.miss(row.Dir+"/ns", err, len(row.Namespaces) > 0)
	}
}

// namespaces reads the numbers of the namespaces; the error is that of the last one that could not be read for a reason other
// than that the kernel does not have it.
func (h *handle) namespaces(via string) (map[string]uint64, error) {
	out := map[string]uint64{}
	var failed error
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "user", "uts"} {
		l, err := h.readlink(via + "ns/" + ns)
		if err != nil {
			if !gone(err) {
				failed = err
			}
			continue
		}
		// "net:[4026531840]"
		if i, j := strings.IndexByte(l, '['), strings.IndexByte(l, ']'); i > 0 && j > i {
			if n, err := strconv.ParseUint(l[i+1:j], 10, 64); err == nil {
				out[ns] = n
			}
		}
	}
	return out, failed
}

// stat is what /proc/<pid>/stat (proc_pid_stat(5)) tells.
type stat struct {
	comm   string
	fields []string // after the name, so that the first is the state
}

// parseStat takes a stat file apart. The name is the process's own choice: it ends at the last parenthesis.
func parseStat(b []byte) (stat, bool) {
	i, j := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if i < 0 || j < i {
		return stat{}, false
	}
	f := strings.Fields(string(b[j+1:]))
	return stat{string(b[i+1 : j]), f}, len(f) > 0
}

// num is a field as the manual counts them, the state being the third; 0 if it is not there.
func (s stat) num(n int) int64 {
	if n-3 >= len(s.fields) {
		return 0
	}
	v, err := strconv.ParseInt(s.fields[n-3], 10, 64)
	if err != nil {
		return 0
	}
	return v
}

func statFields(row *record.Process, b []byte) {
	s, ok := parseStat(b)
	if !ok {
		return
	}
	row.Comm = record.Name(s.comm)
	row.State = s.fields[0]
	row.PPID = int(s.num(4))
	row.Threads = int(s.num(20))
	row.CPUTime = (s.num(14) + s.num(15)) * (1_000_000_000 / userHZ)
	row.RSS = s.num(24) * int64(os.Getpagesize())
}

// state is that of the thread which stands for a process whose first thread ended: the process is no zombie.
func (h *handle) state(first string) string {
	b, err := h.read(h.via+"stat", maxSmall)
	if err != nil {
		return first
	}
	if s, ok := parseStat(b); ok {
		return s.fields[0]
	}
	return first
}

// statusFields takes what /proc/<pid>/status (proc_pid_status(5)) tells.
func statusFields(row *record.Process, b []byte) {
	for line := range strings.Lines(string(b)) {
		key, v, ok := strings.Cut(line, ":")
		f := strings.Fields(v)
		if !ok || len(f) == 0 {
			continue
		}
		num := func(i, base int) uint64 {
			if i >= len(f) {
				return 0
			}
			n, err := strconv.ParseUint(f[i], base, 64)
			if err != nil {
				return 0
			}
			return n
		}
		switch key {
		case "Uid":
			row.UID, row.EUID = uint32(num(0, 10)), uint32(num(1, 10))
		case "Gid":
			row.GID, row.EGID = uint32(num(0, 10)), uint32(num(1, 10))
		case "TracerPid":
			row.TracerPID = int(num(0, 10))
		case "Seccomp":
			row.Seccomp = int(num(0, 10))
		case "NoNewPrivs":
			row.NoNewPrivs = num(0, 10) == 1
		case "CapEff":
			row.CapEff = num(0, 16)
		}
	}
}
