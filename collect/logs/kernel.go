package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

const (
	maxKernel  = 4 << 20  // bytes of kernel records kept
	maxRecords = 1 << 20  // read from the kernel
	maxLookups = 4096     // numbers of processes learnt from the kernel's own lines
	maxRuntime = 4 << 20  // bytes of the runtime's lines kept
	maxScanned = 64 << 20 // of each of the runtime's log files, from its end
)

// matcher knows what names the container in a line of a log.
type matcher struct {
	ids   []string        // container id, its short form, cgroup, pod uid
	pids  map[string]bool // as the host numbers them
	comms map[string]bool // names of its processes
}

// shortID is what Docker and others print of an id.
const shortID = 12

func (c *collector) matcher() *matcher {
	ct := c.s.Container
	m := &matcher{pids: map[string]bool{}, comms: map[string]bool{}}
	add := func(s string) {
		if len(s) >= shortID {
			m.ids = append(m.ids, s)
		}
	}
	if len(ct.ID) > shortID {
		add(ct.ID[:shortID]) // names the full one too
	} else {
		add(ct.ID)
	}
	add(ct.CgroupPath)
	if ct.Pod != nil && ct.Pod.UID != "" {
		add(ct.Pod.UID)
		add(strings.ReplaceAll(ct.Pod.UID, "-", "_")) // as systemd's cgroups write it
	}
	if ct.PID > 0 {
		m.pids[strconv.Itoa(ct.PID)] = true
	}
	for _, p := range c.s.Processes {
		pid := strconv.Itoa(p.PID)
		m.pids[pid] = true
		if b, err := safefs.ReadProc(filepath.Join(c.s.Proc, pid, "comm"), 64); err == nil {
			m.name(strings.TrimSuffix(string(b), "\n"))
		}
	}
	if len(ct.Entrypoint) > 0 {
		m.name(path.Base(ct.Entrypoint[0]))
	}
	return m
}

// name adds a process name, which the kernel cuts to 15 bytes. A process chooses its own: one that is a mere number or a
// single letter would match anything.
func (m *matcher) name(s string) {
	if s = s[:min(len(s), 15)]; len(s) >= 2 && strings.Trim(s, "0123456789") != "" {
		m.comms[s] = true
	}
}

var (
	// pidWords are the ways in which the kernel writes a process's number.
	pidWords = regexp.MustCompile(`(?:\bpid[=: ]\s*|\bPID:? |\b[Pp]rocess |\[\s*|\btgid=|/)([0-9]+)`)
	// named is how it writes a name with a number: "server[4711]: segfault", "Killed process 4711 (server)", and without: "server invoked oom-killer".
	named    = regexp.MustCompile(`([^\s\[\]]{2,15})\[[0-9]+\]|\b[Pp]rocess [0-9]+ \(([^)]{2,15})\)|^([^\s]{2,15}) invoked oom-killer|\bcomm[=:]\s?"?([^"\s]{2,15})|\btask=([^,\s]{2,15})`)
	oomTable = regexp.MustCompile(`\btask=[^,]*,pid=([0-9]+)`)
)

// match reports whether a line names the container. Numbers of processes that the kernel itself ties to the
// container's cgroup are learnt, for the lines that follow name the number alone.
func (m *matcher) match(line string) bool {
	for _, id := range m.ids {
		if strings.Contains(line, id) {
			if s := oomTable.FindStringSubmatch(line); s != nil && len(m.pids) < maxLookups {
				m.pids[s[1]] = true
			}
			return true
		}
	}
	for _, s := range pidWords.FindAllStringSubmatch(line, 16) {
		if m.pids[s[1]] {
			return true
		}
	}
	for _, s := range named.FindAllStringSubmatch(line, 16) {
		for _, name := range s[1:] {
			if name != "" && m.comms[name] {
				return true
			}
		}
	}
	return false
}

// kernel keeps the records of the kernel's log that name the container.
func (c *collector) kernel() error {
	dev := c.o.Kmsg
	if dev == "" {
		dev = c.s.Host("/dev/kmsg")
		if _, err := os.Stat(dev); err != nil {
			dev = "/dev/kmsg"
		}
	}
	fd, err := unix.Open(dev, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		c.miss("kernel lines", fmt.Sprintf("%s: %v (needs root or CAP_SYSLOG)", dev, err), false)
		return nil
	}
	defer unix.Close(fd)
	kept, lost, err := kmsg(fd, c.matcher())
	if err != nil {
		c.miss("kernel lines", err.Error(), true)
	}
	if lost > 0 {
		c.miss("kernel lines", fmt.Sprintf("the kernel overwrote records while they were read, %d times", lost), true)
	}
	if len(kept) == 0 {
		return nil
	}
	_, err = c.w.Add(evidence.Meta{Path: "logs/kernel.txt", Origin: dev}, kept)
	return err
}

// kmsg reads all records that are there: dev-kmsg in the kernel's ABI documentation. One read gives one record.
func kmsg(fd int, m *matcher) (kept []byte, lost int, err error) {
	buf := make([]byte, 16<<10)
	for range maxRecords {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return kept, lost, nil // read all
		case errors.Is(err, unix.EPIPE):
			lost++
			continue
		case err != nil:
			return kept, lost, fmt.Errorf("reading kernel records: %w", err)
		case n == 0:
			return kept, lost, nil
		}
		_, text, ok := bytes.Cut(buf[:n], []byte(";"))
		if !ok || !m.match(strings.TrimSuffix(string(text), "\n")) {
			continue
		}
		if len(kept)+n > maxKernel {
			return kept, lost, fmt.Errorf("more than %d bytes name the container: later ones are left out", maxKernel)
		}
		kept = append(kept, buf[:n]...)
	}
	return kept, lost, nil
}

// daemonLogs are where runtimes log when they do so to files.
var daemonLogs = []string{"/var/log/docker.log", "/var/log/dockerd.log", "/var/log/containerd.log", "/var/log/upstart/docker.log",
	"/var/log/crio.log", "/var/log/kubelet.log", "/var/log/daemon.log", "/var/log/syslog", "/var/log/messages"}

// runtime keeps the lines of the runtime's own logs that name the container.
func (c *collector) runtime() error {
	id := c.s.Container.ID
	if len(id) < shortID {
		return nil
	}
	root, err := safefs.Open(c.s.Host("/"), safefs.Options{})
	if err != nil {
		c.miss("the runtime's own lines", err.Error(), false)
		return nil
	}
	defer root.Close()
	var kept []byte
	var from []string
	for _, p := range daemonLogs {
		f, err := root.Open(p)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) {
				c.miss("the runtime's own lines in "+p, err.Error(), false)
			}
			continue
		}
		before := len(kept)
		from = append(from, p)
		kept, err = c.grep(f, []byte(id[:shortID]), kept)
		f.Close()
		if err != nil {
			if c.ctx.Err() != nil {
				return c.ctx.Err()
			}
			c.miss("the runtime's own lines in "+p, err.Error(), true)
		}
		if len(kept) == before {
			from = from[:len(from)-1]
		}
	}
	if len(kept) == 0 {
		// Most runtimes log to the journal: that says nothing against the rest.
		c.w.Miss(record.Miss{What: "the runtime's own lines", Kind: kind, Count: 1,
			Reason: "none of its usual log files names the container; where it logs to the journal, journalctl has them"})
		return nil
	}
	_, err = c.w.Add(evidence.Meta{Path: "logs/runtime.txt", Origin: "lines that name the container in " + strings.Join(from, ", ")}, kept)
	return err
}

// grep appends the lines of the end of f that hold needle.
func (c *collector) grep(f *safefs.File, needle, kept []byte) ([]byte, error) {
	size := f.Stat().Size
	off := max(0, size-maxScanned)
	buf := make([]byte, 1<<20)
	used := 0
	for off < size {
		if err := c.ctx.Err(); err != nil {
			return kept, err
		}
		n, err := f.ReadAt(buf[used:min(int64(len(buf)), int64(used)+size-off)], off)
		off += int64(n)
		used += n
		b := buf[:used]
		for {
			i := bytes.IndexByte(b, '\n')
			if i < 0 {
				if len(b) < len(buf) && off < size && err == nil {
					break
				}
				i = len(b) - 1 // a line longer than the buffer, or the last one: taken as it is
			}
			if i < 0 {
				break
			}
			if line := b[:i+1]; bytes.Contains(line, needle) {
				if len(kept)+len(line) > maxRuntime {
					return kept, fmt.Errorf("more than %d bytes name the container: later ones are left out", maxRuntime)
				}
				kept = append(kept, line...)
				if line[len(line)-1] != '\n' {
					kept = append(kept, '\n')
				}
			}
			b = b[i+1:]
		}
		used = copy(buf, b)
		if err != nil || n == 0 {
			if off < size {
				return kept, err
			}
			break
		}
	}
	return kept, nil
}
