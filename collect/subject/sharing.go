package subject

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target"
)

// maxSharing bounds the list of processes that share a namespace with a container.
const maxSharing = 1024

// Sharer is a process that is none of a container's, but lives in its pid or network namespace: another container's of the pod, or of
// one that was told to join.
type Sharer struct {
	Process
	Shares []string // "pid", "net"
}

// ErrManySharing says that the list of those who share a namespace was cut.
var ErrManySharing = errors.New("more than 1024 processes share a namespace with the container: the rest is left out")

// Sharing finds the processes that share the pid or network namespace of a container and are not its own. Namespaces that the machine's
// first process or this one lives in are nobody's own, and sharing them makes nobody a neighbor. In order of pid.
func Sharing(c *target.Container, proc string) ([]Sharer, error) {
	if c.PID == 0 {
		return nil, nil
	}
	first, err := look(proc, c.PID)
	if err != nil {
		return nil, err
	}
	m := newMatcher(c, proc, first)
	dir := func(pid int) string { return filepath.Join(proc, strconv.Itoa(pid)) }
	net := namespace(dir(c.PID), "net")
	if net == namespace(dir(1), "net") || net == namespace(dir(m.self), "net") {
		net = ""
	}
	if m.pidNS == "" && net == "" {
		return nil, nil
	}
	own, err := List(c, proc)
	if err != nil && len(own) == 0 {
		return nil, err
	}
	all, err := m.everyone()
	if err != nil {
		return nil, err
	}
	var out []Sharer
	for pid, p := range all {
		if slices.ContainsFunc(own, func(o Process) bool { return o.PID == pid }) {
			continue
		}
		var shares []string
		if m.pidNS != "" && p.pidNS == m.pidNS {
			shares = append(shares, "pid")
		}
		if net != "" && namespace(dir(pid), "net") == net {
			shares = append(shares, "net")
		}
		if shares != nil {
			out = append(out, Sharer{Process{PID: pid, ContainerPID: containerPID(proc, pid), StartTicks: p.ticks, Relation: record.Sharing}, shares})
		}
	}
	slices.SortFunc(out, func(a, b Sharer) int { return a.PID - b.PID })
	if len(out) > maxSharing {
		return out[:maxSharing], ErrManySharing
	}
	return out, nil
}
