// Package network takes what the kernel knows of a container's network namespaces: sockets with their owners and byte
// counters, and around them interfaces, addresses, routes, rules, neighbours and tracked connections.
//
// Sockets are listed in both ways that the kernel has, sock_diag(7) and the tables of /proc/<pid>/net, and compared: a
// socket that only one of them shows is kept with a note. sock_diag needs CAP_SYS_ADMIN, for a thread of ours
// enters the namespace to open netlink sockets there; the tables do not, and are what is left without it. Nothing is run
// or changed in the target. The kernel may load its own modules for diagnosis (tcp_diag and the like) on the
// first question, as ss(8) makes it do; protocols that are not in use are not asked for.
//
// Into the package go
//
//   - network/proc/<table>: the files of /proc/<pid>/net as read, in parts of 4 MiB (<table>-0001 …); for further network
//     namespaces of the container's processes below network/proc-<inode of the namespace>/.
//   - network/sockets.jsonl: record.Socket rows, per namespace in the order tcp, mptcp, udp, raw, unix, packet, netlink.
//     BytesSent and BytesReceived are the kernel's counters: BytesReceived counts one more once the peer has closed (its FIN). An MPTCP
//     connection shows as a row mptcp, and its subflows with the same inode as rows tcp.
//   - network/interfaces.jsonl, routes.jsonl, neighbours.jsonl, conntrack.jsonl: record.Interface, Route, Neighbour, Connection.
package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
)

const (
	kind          = "network"
	socketsPath   = "network/sockets.jsonl"
	maxNamespaces = 16
	maxUnowned    = 4096 // sockets without an owner that wait for a second look at the descriptors
)

// Options bound what is taken. Zero values mean the defaults that they name.
type Options struct {
	// MaxSockets bounds the rows of network/sockets.jsonl (default 2 million).
	MaxSockets int
	// TablesOnly reads the tables of /proc alone, as is done where namespaces may not be entered.
	TablesOnly bool
}

// namespace is one network namespace of the container.
type namespace struct {
	inode  uint64 // 0 if it could not be told
	pids   []int  // processes of the container in it
	dir    string // of its tables in the package
	host   bool   // it is the host's
	here   bool   // it is ours
	shared bool   // others use it too
}

type collector struct {
	ctx     context.Context
	s       subject.Subject
	w       *evidence.Writer
	o       Options
	owners  *owners // of the container's processes
	others  *owners // of other processes in the same namespaces
	sockets *evidence.Lines
	rows    int
	partial bool
	stop    error
}

// Collect takes the network state of s. Its error means that the package could not be written or that ctx ended; everything
// else that went wrong is in the package's coverage.
func Collect(ctx context.Context, s subject.Subject, w *evidence.Writer, o Options) error {
	c := &collector{ctx: ctx, s: s, w: w, o: o, owners: newOwners(s.Proc), others: newOwners(s.Proc)}
	if c.o.MaxSockets == 0 {
		c.o.MaxSockets = 2_000_000
	}
	if len(s.Processes) == 0 && s.Container.PID == 0 {
		c.miss("network", "no process of the container was running: its network namespace is gone", false)
		w.Status(kind, "none")
		return ctx.Err()
	}
	spaces := c.namespaces()
	if len(spaces) == 0 {
		c.miss("network", "the container's processes ended before their network namespace could be read", false)
		w.Status(kind, "none")
		return ctx.Err()
	}
	if err := c.run(spaces); err != nil {
		return err
	}
	status := "complete"
	if c.partial {
		status = "partial"
	}
	w.Status(kind, status)
	return nil
}

func (c *collector) miss(what, why string, partial bool) {
	c.partial = true
	c.w.Miss(record.Miss{What: what, Kind: kind, Reason: why, Partial: partial, Count: 1})
}

// namespaces groups the container's processes by their network namespace, the container's own first.
func (c *collector) namespaces() []*namespace {
	pids := make([]int, 0, len(c.s.Processes)+1)
	if c.s.Container.PID != 0 {
		pids = append(pids, c.s.Container.PID)
	}
	for _, p := range c.s.Processes {
		if p.PID != c.s.Container.PID {
			pids = append(pids, p.PID)
		}
	}
	host, _, _ := hostNamespace(c.s) // 0 when it can't be told: then nothing is taken for the host's
	self, _ := namespaceOf("/proc", os.Getpid())
	byInode := map[uint64]*namespace{}
	var out []*namespace
	dropped := 0
	for _, pid := range pids {
		ino, err := namespaceOf(c.s.Proc, pid)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH):
			continue
		case err != nil:
			c.miss("the network namespaces of the container's processes", reason(err), true)
			ino = 0 // not to be told apart: taken as one
		}
		n := byInode[ino]
		if n == nil {
			if len(out) == maxNamespaces {
				dropped++
				continue
			}
			n = &namespace{inode: ino, host: ino != 0 && ino == host, here: ino != 0 && ino == self}
			byInode[ino] = n
			out = append(out, n)
		}
		n.pids = append(n.pids, pid)
	}
	for i, n := range out {
		n.dir = "network/proc"
		if i > 0 {
			n.dir = fmt.Sprintf("network/proc-%d", n.inode)
		}
	}
	if dropped > 0 {
		c.miss("further network namespaces", fmt.Sprintf("the container's processes use more than %d", maxNamespaces), true)
	}
	return out
}

func (c *collector) run(spaces []*namespace) error {
	c.findOwners(spaces)
	c.sockets = c.w.Lines(socketsPath, "sock_diag and /proc/<pid>/net")
	around := newSurroundings(c)
	for _, n := range spaces {
		if err := c.space(n, around); err != nil {
			return err
		}
	}
	if err := c.sockets.Close(); err != nil {
		return err
	}
	return around.close(spaces)
}

// findOwners reads who holds which socket, and who else lives in the namespaces.
func (c *collector) findOwners(spaces []*namespace) {
	in, ours := map[uint64]bool{}, map[int]bool{}
	for _, n := range spaces {
		if n.inode != 0 {
			in[n.inode] = true
		}
		for _, pid := range n.pids {
			ours[pid] = true
		}
	}
	for _, p := range c.s.Processes {
		ours[p.PID] = true
	}
	for pid := range ours {
		c.owners.scan(pid)
	}
	ours[os.Getpid()] = true
	around := mates(c.s.Proc, in, ours)
	for _, n := range spaces {
		pids := around[n.inode]
		n.shared = n.host || len(pids) > 0
		for _, pid := range pids {
			c.others.scan(pid)
		}
	}
	for why, count := range c.owners.errs {
		c.partial = true
		c.w.Miss(record.Miss{What: "owners of sockets", Kind: kind, Reason: why, Partial: true, Count: count})
	}
	if c.owners.full {
		c.miss("owners of sockets", fmt.Sprintf("more than %d descriptors are open", maxOwners), true)
	}
}

// path is a file of /proc/<pid>/net of the first process that still lives in n.
func (c *collector) path(n *namespace, name string) (string, error) {
	for len(n.pids) > 0 {
		ino, err := namespaceOf(c.s.Proc, n.pids[0])
		if err == nil && ino == n.inode || n.inode == 0 && !errors.Is(err, unix.ENOENT) {
			return filepath.Join(c.s.Proc, strconv.Itoa(n.pids[0]), name), nil
		}
		n.pids = n.pids[1:]
	}
	return "", errors.New("the last of the container's processes in this network namespace ended during the capture")
}

// space takes one namespace: tables first, then sock_diag beside them, then what lies around the sockets.
func (c *collector) space(n *namespace, around *surroundings) error {
	var h *handles
	if c.o.TablesOnly {
		c.miss("sock_diag", "not asked: byte counters and peers of unix sockets are missing", true)
	} else if path, err := c.path(n, "ns/net"); err != nil {
		c.miss("sock_diag", err.Error(), false)
	} else if h, err = enter(path, n.here); err != nil {
		c.miss("sock_diag", "byte counters and peers of unix sockets are missing: "+reason(err)+" (entering a network namespace needs CAP_SYS_ADMIN)", true)
	} else {
		defer h.close()
	}
	tables, err := c.tables(n)
	if err != nil {
		return err
	}
	cmp := newComparison()
	for _, t := range tables {
		cmp.remember(t)
	}
	if cmp.full && h != nil {
		c.miss("comparison of sock_diag with the tables", fmt.Sprintf("there are more than %d sockets", maxCompared), true)
	}
	if h != nil {
		if err := c.dumpAll(n, h, cmp, protocols(tables)); err != nil {
			return err
		}
	}
	if err := c.remaining(n, tables, cmp); err != nil {
		return err
	}
	if err := c.restOfTables(n); err != nil {
		return err
	}
	return around.take(n, h)
}

// tables reads the socket tables, and "protocols", which says what kinds of sockets there are.
func (c *collector) tables(n *namespace) ([]*table, error) {
	var out []*table
	retained := 0
	for _, name := range append([]string{"protocols"}, socketTables...) {
		path, err := c.path(n, "net/"+name)
		if err != nil {
			c.miss(n.dir, err.Error(), len(out) > 0)
			return out, nil
		}
		t := &table{name: name, source: path}
		err = keepTable(c.ctx, c.w, path, n.dir+"/"+name, func(b []byte) {
			if retained+len(b) > maxRetained {
				t.dropped = true
				return
			}
			retained += len(b)
			t.parts = append(t.parts, append([]byte(nil), b...))
		})
		if err := c.tableError(n, name, err); err != nil {
			return nil, err
		}
		if err == nil || len(t.parts) > 0 {
			out = append(out, t)
		}
		if t.dropped {
			c.miss("comparison of sock_diag with "+path, "the table is too large to be kept in memory; it is in the package", true)
		}
	}
	return out, nil
}

// tableError tells what ends the capture from what goes into the coverage.
func (c *collector) tableError(n *namespace, name string, err error) error {
	var fe *fatalError
	switch {
	case err == nil:
	case errors.As(err, &fe):
		return fe.err
	case c.ctx.Err() != nil:
		return c.ctx.Err()
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTDIR):
		// The kernel or this namespace lacks the feature.
	default:
		c.miss(n.dir+"/"+name, reason(err), true)
	}
	return nil
}

func (c *collector) restOfTables(n *namespace) error {
	for _, name := range otherTables {
		if name == "protocols" {
			continue
		}
		path, err := c.path(n, "net/"+name)
		if err != nil {
			c.miss(n.dir, err.Error(), true)
			return nil
		}
		err = keepTable(c.ctx, c.w, path, n.dir+"/"+name, nil)
		if err := c.tableError(n, name, err); err != nil {
			return err
		}
	}
	return nil
}

// protocols reads which kinds of sockets the kernel knows.
func protocols(tables []*table) map[string]bool {
	out := map[string]bool{}
	for _, t := range tables {
		if t.name != "protocols" {
			continue
		}
		for _, b := range t.parts {
			for line := range strings.Lines(string(b)) {
				if f := strings.Fields(line); len(f) > 1 {
					out[f[0]] = true
				}
			}
		}
	}
	return out
}
