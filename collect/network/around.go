package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
)

// maxRows bounds each of the lists around the sockets; a router's full table has about a million routes.
const maxRows = 1_000_000

// surroundings writes interfaces, routes, neighbours and tracked connections of all namespaces.
type surroundings struct {
	c                                       *collector
	interfaces, routes, neighbours, tracked *evidence.Lines
	addresses                               map[netip.Addr]bool // of the container's own interfaces
	rows                                    map[*evidence.Lines]int
}

func newSurroundings(c *collector) *surroundings {
	return &surroundings{c: c, addresses: map[netip.Addr]bool{}, rows: map[*evidence.Lines]int{},
		interfaces: c.w.Lines("network/interfaces.jsonl", "rtnetlink"),
		routes:     c.w.Lines("network/routes.jsonl", "rtnetlink"),
		neighbours: c.w.Lines("network/neighbours.jsonl", "rtnetlink"),
		tracked:    c.w.Lines("network/conntrack.jsonl", "ctnetlink")}
}

func (a *surroundings) put(l *evidence.Lines, what string, v any) error {
	if a.rows[l] >= maxRows {
		if a.rows[l] == maxRows {
			a.c.miss("further "+what, fmt.Sprintf("there are more than %d", maxRows), true)
		}
		a.rows[l] = maxRows + 1
		return nil
	}
	a.rows[l]++
	if err := l.Write(v); err != nil {
		a.c.stop = err
		return errStop
	}
	return nil
}

// ask dumps one rtnetlink table. Its error ends the capture.
func (a *surroundings) ask(h *handles, what string, typ uint16, req []byte, each func(typ uint16, b []byte) error) error {
	err := dump(h.route, typ, req, each)
	switch {
	case errors.Is(err, errStop):
		return a.c.stop
	case err == nil || absent(err) || errors.Is(err, unix.EOPNOTSUPP):
		return a.c.ctx.Err()
	}
	a.c.miss(what, err.Error(), true)
	return a.c.ctx.Err()
}

func (a *surroundings) take(n *namespace, h *handles) error {
	if h == nil {
		a.c.miss("interfaces, routes, neighbours and tracked connections as rows", "the network namespace could not be entered; the tables of /proc are kept", true)
		return nil
	}
	if err := a.takeInterfaces(n, h); err != nil {
		return err
	}
	route := make([]byte, unix.SizeofRtMsg)
	for _, q := range []struct {
		what string
		typ  uint16
		rule bool
	}{{"routes", unix.RTM_GETROUTE, false}, {"policy rules", unix.RTM_GETRULE, true}} {
		err := a.ask(h, q.what, q.typ, route, func(_ uint16, b []byte) error {
			r, ok := decodeRoute(b, q.rule)
			if !ok {
				return nil
			}
			r.Namespace, r.Observed = n.inode, time.Now().UnixNano()
			return a.put(a.routes, q.what, r)
		})
		if err != nil {
			return err
		}
	}
	err := a.ask(h, "neighbours", unix.RTM_GETNEIGH, make([]byte, 12), func(_ uint16, b []byte) error {
		r, ok := decodeNeighbour(b)
		if !ok {
			return nil
		}
		r.Namespace, r.Observed = n.inode, time.Now().UnixNano()
		return a.put(a.neighbours, "neighbours", r)
	})
	if err != nil {
		return err
	}
	return a.conntrack(n, h)
}

func (a *surroundings) takeInterfaces(n *namespace, h *handles) error {
	addrs := map[int][]record.Address{}
	err := a.ask(h, "addresses", unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), func(_ uint16, b []byte) error {
		index, addr, ok := decodeAddress(b)
		if !ok || len(addrs[index]) >= 1024 {
			return nil
		}
		addrs[index] = append(addrs[index], addr)
		if p, err := netip.ParsePrefix(addr.Prefix); err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() && !n.host && len(a.addresses) < 4096 {
			a.addresses[p.Addr()] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.ask(h, "interfaces", unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg), func(_ uint16, b []byte) error {
		i, ok := decodeInterface(b)
		if !ok {
			return nil
		}
		i.Namespace, i.Observed, i.Addresses = n.inode, time.Now().UnixNano(), addrs[i.Index]
		return a.put(a.interfaces, "interfaces", i)
	})
}

// close adds what the host tracked of the container's traffic, which passes through its namespace when it is bridged.
func (a *surroundings) close(spaces []*namespace) error {
	host := false
	for _, n := range spaces {
		host = host || n.host
	}
	if !host && len(a.addresses) > 0 && !a.c.o.TablesOnly {
		if err := a.hostConntrack(); err != nil {
			return err
		}
	}
	for _, l := range []*evidence.Lines{a.interfaces, a.routes, a.neighbours, a.tracked} {
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

func (a *surroundings) hostConntrack() error {
	ino, path, err := hostNamespace(a.c.s)
	if err != nil {
		a.c.miss("connections tracked by the host", reason(err), true)
		return nil
	}
	self, _ := namespaceOf("/proc", unix.Getpid())
	h, err := enter(path, ino == self)
	if err != nil {
		a.c.miss("connections tracked by the host", reason(err), true)
		return nil
	}
	defer h.close()
	return a.track(h, func(r *record.Connection) bool {
		r.Namespace, r.Host = ino, true
		for _, ip := range []string{r.Original.Source, r.Original.Destination, r.Reply.Source, r.Reply.Destination} {
			if addr, err := netip.ParseAddr(ip); err == nil && a.addresses[addr] {
				return true
			}
		}
		return false
	})
}

// decodeAddress reads struct ifaddrmsg.
func decodeAddress(b []byte) (int, record.Address, bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return 0, record.Address{}, false
	}
	r := record.Address{Scope: b[3], Flags: uint32(b[2])}
	var ip, local netip.Addr
	attributes(b[unix.SizeofIfAddrmsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.IFA_ADDRESS:
			ip, _ = netip.AddrFromSlice(v)
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(v)
		case unix.IFA_FLAGS:
			r.Flags = u32(v)
		}
	})
	if local.IsValid() {
		ip = local // on a point-to-point link IFA_ADDRESS is the peer's
	}
	if !ip.IsValid() {
		return 0, r, false
	}
	r.Prefix = netip.PrefixFrom(ip, int(b[1])).String()
	return int(u32(b[4:])), r, true
}

// decodeInterface reads struct ifinfomsg.
func decodeInterface(b []byte) (record.Interface, bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return record.Interface{}, false
	}
	r := record.Interface{Index: int(int32(u32(b[4:]))), Flags: u32(b[8:])}
	attributes(b[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.IFLA_IFNAME:
			r.Name = record.Name(cString(v))
		case unix.IFLA_ADDRESS:
			if len(v) <= 32 {
				r.MAC = net.HardwareAddr(v).String()
			}
		case unix.IFLA_MTU:
			r.MTU = u32(v)
		case unix.IFLA_LINK:
			r.Link = int(u32(v))
		case unix.IFLA_MASTER:
			r.Master = int(u32(v))
		case unix.IFLA_PROMISCUITY:
			r.Promiscuity = u32(v)
		case unix.IFLA_OPERSTATE:
			if len(v) > 0 {
				r.State = v[0]
			}
		case unix.IFLA_LINKINFO:
			attributes(v, func(typ uint16, v []byte) {
				if typ == unix.IFLA_INFO_KIND {
					r.Kind = cString(v)
				}
			})
		case unix.IFLA_STATS64:
			if len(v) >= 32 {
				r.PacketsReceived, r.PacketsSent, r.BytesReceived, r.BytesSent = u64(v), u64(v[8:]), u64(v[16:]), u64(v[24:])
			}
		}
	})
	return r, true
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// decodeRoute reads struct rtmsg, or struct fib_rule_hdr, which has the same layout.
func decodeRoute(b []byte, rule bool) (record.Route, bool) {
	if len(b) < unix.SizeofRtMsg {
		return record.Route{}, false
	}
	r := record.Route{Rule: rule, Table: uint32(b[4]), Protocol: b[5], Scope: b[6], Type: b[7]}
	switch b[0] {
	case unix.AF_INET:
		r.Family = "inet"
	case unix.AF_INET6:
		r.Family = "inet6"
	default:
		return r, false // bridges and multicast routing: not routes of the host
	}
	if rule {
		r.Protocol, r.Scope = 0, 0
	}
	prefix := func(v []byte, bits byte) string {
		if ip, ok := netip.AddrFromSlice(v); ok {
			return netip.PrefixFrom(ip, int(bits)).String()
		}
		return ""
	}
	addr := func(v []byte) string {
		if ip, ok := netip.AddrFromSlice(v); ok {
			return ip.String()
		}
		return ""
	}
	attributes(b[unix.SizeofRtMsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.RTA_DST:
			r.Destination = prefix(v, b[1])
		case unix.RTA_SRC:
			r.Source = prefix(v, b[2])
		case unix.RTA_TABLE:
			r.Table = u32(v)
		case unix.RTA_PRIORITY:
			r.Priority = u32(v)
		}
		if rule {
			if typ == 10 { // FRA_FWMARK
				r.Mark = u32(v)
			}
			return
		}
		switch typ {
		case unix.RTA_GATEWAY:
			r.Gateway = addr(v)
		case unix.RTA_PREFSRC:
			r.Preferred = addr(v)
		case unix.RTA_OIF:
			r.Interface = int(u32(v))
		case unix.RTA_MARK:
			r.Mark = u32(v)
		}
	})
	return r, true
}

// decodeNeighbour reads struct ndmsg.
func decodeNeighbour(b []byte) (record.Neighbour, bool) {
	const size = 12
	if len(b) < size || b[0] != unix.AF_INET && b[0] != unix.AF_INET6 {
		return record.Neighbour{}, false
	}
	r := record.Neighbour{Interface: int(u32(b[4:])), State: native.Uint16(b[8:])}
	attributes(b[size:], func(typ uint16, v []byte) {
		switch typ {
		case unix.NDA_DST:
			if ip, ok := netip.AddrFromSlice(v); ok {
				r.IP = ip.String()
			}
		case unix.NDA_LLADDR:
			if len(v) <= 32 {
				r.MAC = net.HardwareAddr(v).String()
			}
		}
	})
	return r, r.IP != ""
}
