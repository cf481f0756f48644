package network

import (
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// maxCompared bounds the sockets remembered for the comparison; beyond it rows carry no note.
const maxCompared = 1 << 20

// comparison holds the sockets that the tables showed, each until sock_diag shows it too.
type comparison struct {
	seed   maphash.Seed
	tables map[string]bool // that were read whole
	asked  map[string]bool // that sock_diag answered for: kernels can be built without it for raw sockets and others
	shown  map[uint64]bool // key of a socket in a table: whether sock_diag showed it
	full   bool
}

func newComparison() *comparison {
	return &comparison{seed: maphash.MakeSeed(), tables: map[string]bool{}, asked: map[string]bool{}, shown: map[uint64]bool{}}
}

// key identifies a socket in both lists. One with a peer is known by its addresses alone, for its inode vanishes when it
// goes into TIME_WAIT between the two readings.
func (c *comparison) key(table string, s *record.Socket) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	switch {
	case s.Family == "unix" || s.Family == "packet" || s.Family == "netlink":
		fmt.Fprintf(&h, "%s %d %d", table, s.Inode, s.Number)
	case s.RemotePort != 0:
		fmt.Fprintf(&h, "%s %s %d %s %d", table, s.LocalIP, s.LocalPort, s.RemoteIP, s.RemotePort)
	default:
		fmt.Fprintf(&h, "%s %s %d %s %d %d", table, s.LocalIP, s.LocalPort, s.RemoteIP, s.Number, s.Inode)
	}
	return h.Sum64()
}

func (c *comparison) remember(t *table) {
	if t.name == "protocols" || t.dropped {
		return
	}
	c.tables[t.name] = true
	for _, b := range t.parts {
		_ = parseTable(t.name, t.source, b, func(s record.Socket) error {
			if len(c.shown) >= maxCompared {
				c.full = true
				return nil
			}
			c.shown[c.key(t.name, &s)] = false
			return nil
		})
	}
}

// onlyDiag notes that sock_diag shows s and reports whether the table of that name lacks it.
func (c *comparison) onlyDiag(table string, s *record.Socket) bool {
	if table == "" {
		return false
	}
	k := c.key(table, s)
	if _, ok := c.shown[k]; ok {
		c.shown[k] = true
		return false
	}
	return c.tables[table] && !c.full && s.State != "bound" // the tables never show what is only bound
}

// onlyTable reports whether s of a table was not shown by sock_diag.
func (c *comparison) onlyTable(table string, s *record.Socket) bool {
	diag, ok := c.shown[c.key(table, s)]
	return ok && !diag
}

// errStop ends a dump early; the cause is in collector.stop.
var errStop = errors.New("stop")

// dumpAll asks sock_diag for everything.
func (c *collector) dumpAll(n *namespace, h *handles, cmp *comparison, known map[string]bool) error {
	const byFamily = 20 // SOCK_DIAG_BY_FAMILY
	var unowned []record.Socket
	for _, q := range queries() {
		if len(known) > 0 && !known[q.need] {
			continue
		}
		err := dump(h.diag, byFamily, q.req, func(_ uint16, b []byte) error {
			s, ok := q.decode(b)
			if !ok {
				return nil
			}
			s.Namespace = n.inode
			if cmp.onlyDiag(q.name, &s) {
				s.Note = "sock_diag shows it, " + n.dir[len("network/"):] + "/" + q.name + " does not: opened between the two readings, or hidden"
			}
			if h.inodes[s.Inode] && s.Family == "netlink" {
				s.Note = "opened by this capture itself"
			}
			c.own(n, &s)
			if kernels(&s) {
				return nil
			}
			if s.Inode != 0 && len(s.Owners) == 0 && len(s.Others) == 0 && !h.inodes[s.Inode] && len(unowned) < maxUnowned {
				unowned = append(unowned, s)
				return nil
			}
			return c.put(&s)
		})
		switch {
		case errors.Is(err, errStop):
			return c.stop
		case err == nil:
			cmp.asked[q.name] = true
		case absent(err):
		default:
			c.miss("sock_diag of "+q.need, err.Error(), true)
		}
	}
	return c.secondLook(n, unowned)
}

// secondLook asks again who holds the sockets that were opened after the descriptors had been read.
func (c *collector) secondLook(n *namespace, unowned []record.Socket) error {
	if len(unowned) > 0 {
		for _, p := range c.s.Processes {
			c.owners.scan(p.PID)
		}
	}
	for i := range unowned {
		c.own(n, &unowned[i])
		if err := c.put(&unowned[i]); err != nil {
			return c.stop
		}
	}
	return nil
}

// remaining writes the rows of the tables that sock_diag did not give.
func (c *collector) remaining(n *namespace, tables []*table, cmp *comparison) error {
	for _, t := range tables {
		if t.name == "protocols" {
			continue
		}
		for _, b := range t.parts {
			err := parseTable(t.name, t.source, b, func(s record.Socket) error {
				if cmp.asked[t.name] {
					if !cmp.onlyTable(t.name, &s) {
						return nil
					}
					s.Note = "sock_diag does not show it: closed between the two readings, or hidden"
					if s.Family == "unix" {
						s.Note += ", or forged by a line feed in another socket's name"
					}
				}
				s.Namespace = n.inode
				c.own(n, &s)
				if kernels(&s) {
					return nil
				}
				return c.put(&s)
			})
			if err != nil {
				return c.stop
			}
		}
	}
	return nil
}

// kernels reports whether s is the kernel's own end of netlink, which every namespace has: it has no port id and nobody holds it.
func kernels(s *record.Socket) bool {
	return s.Family == "netlink" && s.LocalPort == 0 && len(s.Owners) == 0 && len(s.Others) == 0
}

// own says who holds s.
func (c *collector) own(n *namespace, s *record.Socket) {
	if s.Inode != 0 {
		s.Owners, s.Others = c.owners.held[s.Inode], c.others.held[s.Inode]
	}
	s.Shared = n.shared && len(s.Owners) == 0
}

// put writes one row. Its error is errStop, the cause is in c.stop.
func (c *collector) put(s *record.Socket) error {
	if c.rows >= c.o.MaxSockets {
		if c.rows == c.o.MaxSockets {
			c.miss("further sockets", fmt.Sprintf("there are more than %d", c.o.MaxSockets), true)
			c.rows++
		}
		return nil
	}
	c.rows++
	if c.rows%1024 == 0 && c.ctx.Err() != nil {
		c.stop = c.ctx.Err()
		return errStop
	}
	if err := c.sockets.Write(s); err != nil {
		c.stop = err
		return errStop
	}
	return nil
}
