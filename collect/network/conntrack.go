package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// conntrack takes the connections that are tracked in the container's own namespace.
func (a *surroundings) conntrack(n *namespace, h *handles) error {
	return a.track(h, func(r *record.Connection) bool {
		r.Namespace, r.Host = n.inode, n.host
		return true
	})
}

// track dumps conntrack and writes what keep accepts. A kernel that tracks nothing is not asked: asking would load
// the module.
func (a *surroundings) track(h *handles, keep func(*record.Connection) bool) error {
	const subsystem, get = 1, 1 // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
	if _, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_max"); err != nil {
		return nil //nolint:nilerr // its absence is the answer: nothing is tracked
	}
	err := dump(h.filter, subsystem<<8|get, make([]byte, 4), func(typ uint16, b []byte) error {
		if typ>>8 != subsystem {
			return nil
		}
		r, ok := decodeConnection(b)
		if !ok || !keep(&r) {
			return nil
		}
		r.Observed = time.Now().UnixNano()
		return a.put(a.tracked, "tracked connections", r)
	})
	switch {
	case errors.Is(err, errStop):
		return a.c.stop
	case err == nil || absent(err) || errors.Is(err, unix.EOPNOTSUPP):
	default:
		a.c.miss("tracked connections", err.Error(), true)
	}
	return a.c.ctx.Err()
}

var tcpTracked = []string{"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"}

// decodeConnection reads struct nfgenmsg and the attributes of enum ctattr_type. Their numbers are in network order.
func decodeConnection(b []byte) (record.Connection, bool) {
	if len(b) < 4 {
		return record.Connection{}, false
	}
	var r record.Connection
	switch b[0] {
	case unix.AF_INET:
		r.Family = "inet"
	case unix.AF_INET6:
		r.Family = "inet6"
	default:
		return r, false
	}
	be32 := func(v []byte) uint32 {
		if len(v) < 4 {
			return 0
		}
		return binary.BigEndian.Uint32(v)
	}
	be64 := func(v []byte) uint64 {
		if len(v) < 8 {
			return 0
		}
		return binary.BigEndian.Uint64(v)
	}
	counters := func(f *record.Flow, v []byte) {
		attributes(v, func(typ uint16, v []byte) {
			switch typ {
			case 1:
				f.Packets = be64(v)
			case 2:
				f.Bytes = be64(v)
			}
		})
	}
	attributes(b[4:], func(typ uint16, v []byte) {
		switch typ {
		case 1:
			r.Protocol = tuple(&r.Original, v)
		case 2:
			tuple(&r.Reply, v)
		case 3:
			r.Status = be32(v)
		case 4:
			attributes(v, func(typ uint16, v []byte) {
				if typ != 1 { // CTA_PROTOINFO_TCP
					return
				}
				attributes(v, func(typ uint16, v []byte) {
					if typ == 1 && len(v) > 0 && int(v[0]) < len(tcpTracked) {
						r.State = tcpTracked[v[0]]
					}
				})
			})
		case 7:
			r.Timeout = be32(v)
		case 8:
			r.Mark = be32(v)
		case 9:
			counters(&r.Original, v)
		case 10:
			counters(&r.Reply, v)
		case 20:
			attributes(v, func(typ uint16, v []byte) {
				if typ == 1 {
					r.Started = int64(be64(v))
				}
			})
		}
	})
	return r, r.Original.Source != ""
}

// tuple reads one direction and gives the protocol's name.
func tuple(f *record.Flow, b []byte) string {
	proto := ""
	addr := func(v []byte) string {
		if ip, ok := netip.AddrFromSlice(v); ok {
			return ip.String()
		}
		return ""
	}
	port := func(v []byte) int {
		if len(v) < 2 {
			return 0
		}
		return int(binary.BigEndian.Uint16(v))
	}
	attributes(b, func(typ uint16, v []byte) {
		switch typ {
		case 1: // CTA_TUPLE_IP
			attributes(v, func(typ uint16, v []byte) {
				switch typ {
				case 1, 3:
					f.Source = addr(v)
				case 2, 4:
					f.Destination = addr(v)
				}
			})
		case 2: // CTA_TUPLE_PROTO
			attributes(v, func(typ uint16, v []byte) {
				switch {
				case typ == 1 && len(v) > 0:
					proto = protocolName(v[0])
				case typ == 2:
					f.SourcePort = port(v)
				case typ == 3:
					f.DestinationPort = port(v)
				}
			})
		}
	})
	return proto
}

func protocolName(n uint8) string {
	switch n {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		return "icmp6"
	case unix.IPPROTO_SCTP:
		return "sctp"
	}
	return fmt.Sprintf("protocol %d", n)
}
