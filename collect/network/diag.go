package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence/record"
)

const sourceDiag = "sock_diag"

// query is one dump of sock_diag(7).
type query struct {
	name   string // of the /proc/net table that shows the same sockets, "" if none does
	need   string // the protocol as /proc/net/protocols names it: asking for an absent one would load kernel modules
	req    []byte
	decode func(payload []byte) (record.Socket, bool)
}

const ipprotoMPTCP = 262

// queries are all dumps, mptcp after tcp: a connection's subflows, which count bytes, come first.
func queries() []query {
	var out []query
	for _, p := range []struct {
		name, need string
		proto      uint32
	}{{"tcp", "TCP", unix.IPPROTO_TCP}, {"mptcp", "MPTCP", ipprotoMPTCP}, {"udp", "UDP", unix.IPPROTO_UDP},
		{"udplite", "UDP-Lite", unix.IPPROTO_UDPLITE}, {"raw", "RAW", unix.IPPROTO_RAW}, {"sctp", "SCTP", unix.IPPROTO_SCTP}} {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			q := query{name: p.name, need: p.need, req: inetRequest(family, p.proto)}
			if family == unix.AF_INET6 {
				q.name += "6"
				q.need += "v6"
			}
			if p.proto == ipprotoMPTCP || p.proto == unix.IPPROTO_SCTP {
				q.name = ""
			}
			q.decode = func(b []byte) (record.Socket, bool) { return decodeInet(b, p.name) }
			out = append(out, q)
		}
	}
	unixReq := make([]byte, 24)
	unixReq[0] = unix.AF_UNIX
	native.PutUint32(unixReq[4:], ^uint32(0))
	native.PutUint32(unixReq[12:], 0x57) // name, vfs, peer, queue lengths, uid
	packetReq := make([]byte, 20)
	packetReq[0] = unix.AF_PACKET
	native.PutUint32(packetReq[8:], 0x31) // info, memory, filter
	netlinkReq := make([]byte, 20)
	netlinkReq[0], netlinkReq[1] = unix.AF_NETLINK, 255 // all protocols
	vsockReq := make([]byte, 24)
	vsockReq[0] = unix.AF_VSOCK
	native.PutUint32(vsockReq[4:], ^uint32(0))
	return append(out,
		query{"unix", "UNIX", unixReq, decodeUnix},
		query{"packet", "PACKET", packetReq, decodePacket},
		query{"netlink", "NETLINK", netlinkReq, decodeNetlink},
		query{"", "AF_VSOCK", vsockReq, decodeVsock})
}

// inetRequest is struct inet_diag_req_v2 that asks for every state, with TCP_INFO and memory.
func inetRequest(family uint8, proto uint32) []byte {
	const info, skmeminfo, reqProtocol = 2, 7, 3
	b := make([]byte, 56)
	b[0], b[1] = family, uint8(proto&0xff)
	b[2] = 1<<(info-1) | 1<<(skmeminfo-1)
	native.PutUint32(b[4:], ^uint32(0))
	if proto > 255 {
		b[1] = unix.IPPROTO_TCP
		a := make([]byte, 8)
		native.PutUint16(a, 8)
		native.PutUint16(a[2:], reqProtocol)
		native.PutUint32(a[4:], proto)
		b = append(b, a...)
	}
	return b
}

var states = [...]string{1: "established", 2: "syn_sent", 3: "syn_recv", 4: "fin_wait1", 5: "fin_wait2", 6: "time_wait", 7: "close",
	8: "close_wait", 9: "last_ack", 10: "listen", 11: "closing", 12: "new_syn_recv", 13: "bound"}

// stateName is the state's name; for protocols without connections CLOSE means that there is no peer.
func stateName(n uint8, proto string) string {
	if int(n) >= len(states) || n == 0 {
		return fmt.Sprintf("state %d", n)
	}
	if n == 7 && proto != "tcp" && proto != "mptcp" && proto != "sctp" {
		return "unconnected"
	}
	return states[n]
}

// decodeInet reads struct inet_diag_msg and its attributes.
func decodeInet(b []byte, proto string) (record.Socket, bool) {
	const size = 72
	if len(b) < size {
		return record.Socket{}, false
	}
	s := record.Socket{Protocol: proto, State: stateName(b[1], proto), Source: sourceDiag, Observed: time.Now().UnixNano()}
	port := func(at int) int { return int(binary.BigEndian.Uint16(b[at:])) }
	var ok bool
	if s.Family, s.LocalIP, ok = address(b[0], b[8:24]); !ok {
		return s, false
	}
	_, s.RemoteIP, _ = address(b[0], b[24:40])
	s.LocalPort, s.RemotePort = port(4), port(6)
	s.Interface = int(u32(b[40:]))
	s.ReceiveQueue, s.SendQueue = u32(b[56:]), u32(b[60:])
	s.UID, s.Inode = u32(b[64:]), uint64(u32(b[68:]))
	if proto == "raw" {
		s.Number, s.LocalPort = s.LocalPort, 0
	}
	attributes(b[size:], func(typ uint16, v []byte) {
		const info, skmeminfo = 2, 7
		switch {
		case typ == info && proto == "tcp":
			tcpInfo(&s, b[1], v)
		case typ == info && proto == "mptcp":
			mptcpInfo(&s, v)
		case typ == skmeminfo && len(v) >= 24:
			s.Memory = u32(v) + u32(v[20:]) // received and not read, queued for sending
		}
	})
	return s, true
}

func address(family uint8, b []byte) (name, ip string, ok bool) {
	switch family {
	case unix.AF_INET:
		return "inet", netip.AddrFrom4([4]byte(b)).String(), true
	case unix.AF_INET6:
		// A mapped address is an IPv4 connection of an IPv6 socket: written as what others see.
		return "inet6", netip.AddrFrom16([16]byte(b)).Unmap().String(), true
	}
	return "", "", false
}

// tcpInfo reads struct tcp_info, whose length grew with the kernel. Payload sent is bytes_sent less what was sent again; before
// Linux 4.19 it is what the peer acknowledged.
func tcpInfo(s *record.Socket, state uint8, v []byte) {
	if state == 10 || len(v) < 104 { // a listener counts nothing
		return
	}
	sent, received := u32(v[44:]), u32(v[52:])
	s.LastSentMS, s.LastReceivedMS = &sent, &received
	s.RTTMicros = u32(v[68:])
	if len(v) < 144 {
		return
	}
	acked, in := u64(v[120:]), u64(v[128:])
	s.BytesSent, s.BytesReceived = &acked, &in
	s.SegmentsSent, s.SegmentsReceived = u32(v[136:]), u32(v[140:])
	if len(v) >= 216 {
		s.BytesRetransmitted = u64(v[208:])
		out := u64(v[200:]) - min(s.BytesRetransmitted, u64(v[200:]))
		s.BytesSent = &out
	}
}

// mptcpInfo reads struct mptcp_info, which counts bytes since Linux 6.5.
func mptcpInfo(s *record.Socket, v []byte) {
	if len(v) < 80 || s.State == "listen" {
		return
	}
	out, in := u64(v[56:]), u64(v[64:])
	s.BytesRetransmitted = u64(v[48:])
	s.BytesSent, s.BytesReceived = &out, &in
}

var unixTypes = map[uint8]string{unix.SOCK_STREAM: "stream", unix.SOCK_DGRAM: "dgram", unix.SOCK_SEQPACKET: "seqpacket", unix.SOCK_RAW: "raw"}

func typeName(t uint8) string {
	if n, ok := unixTypes[t]; ok {
		return n
	}
	return fmt.Sprintf("type %d", t)
}

// decodeUnix reads struct unix_diag_msg.
func decodeUnix(b []byte) (record.Socket, bool) {
	if len(b) < 16 {
		return record.Socket{}, false
	}
	s := record.Socket{Family: "unix", Protocol: typeName(b[1]), State: stateName(b[2], "unix"), Inode: uint64(u32(b[4:])),
		Source: sourceDiag, Observed: time.Now().UnixNano()}
	attributes(b[16:], func(typ uint16, v []byte) {
		switch typ {
		case 0:
			s.Path = record.Name(v)
			if n := len(v); n > 0 && v[0] != 0 && v[n-1] == 0 {
				s.Path = record.Name(v[:n-1]) // a path in a file system, with C's end
			}
		case 2:
			s.PeerInode = uint64(u32(v))
		case 4:
			if len(v) >= 8 {
				s.ReceiveQueue, s.SendQueue = u32(v), u32(v[4:])
			}
		case 7:
			s.UID = u32(v)
		}
	})
	return s, true
}

// decodePacket reads struct packet_diag_msg.
func decodePacket(b []byte) (record.Socket, bool) {
	if len(b) < 16 {
		return record.Socket{}, false
	}
	s := record.Socket{Family: "packet", Protocol: typeName(b[1]), Number: int(native.Uint16(b[2:])), Inode: uint64(u32(b[4:])),
		Source: sourceDiag, Observed: time.Now().UnixNano()}
	attributes(b[16:], func(typ uint16, v []byte) {
		switch typ {
		case 0:
			s.Interface = int(u32(v))
		case 5:
			s.UID = u32(v)
		case 6:
			if len(v) >= 12 {
				s.Memory = u32(v)
			}
		case 7:
			s.Filter = append([]byte(nil), v...)
		}
	})
	return s, true
}

var netlinkNames = map[int]string{0: "route", 2: "usersock", 3: "firewall", 4: "sock_diag", 5: "nflog", 6: "xfrm", 7: "selinux", 8: "iscsi",
	9: "audit", 10: "fib_lookup", 11: "connector", 12: "netfilter", 15: "kobject_uevent", 16: "generic", 21: "crypto"}

func netlinkName(n int) string {
	if s, ok := netlinkNames[n]; ok {
		return s
	}
	return fmt.Sprintf("netlink %d", n)
}

// decodeNetlink reads struct netlink_diag_msg. The kernel's own ends have port id 0 and are left out.
func decodeNetlink(b []byte) (record.Socket, bool) {
	if len(b) < 28 {
		return record.Socket{}, false
	}
	s := record.Socket{Family: "netlink", Number: int(b[2]), LocalPort: int(u32(b[4:])), Inode: uint64(u32(b[16:])),
		Source: sourceDiag, Observed: time.Now().UnixNano()}
	s.Protocol = netlinkName(s.Number)
	return s, s.LocalPort != 0 || s.Inode != 0
}

// decodeVsock reads struct vsock_diag_msg; addresses are context ids.
func decodeVsock(b []byte) (record.Socket, bool) {
	if len(b) < 32 {
		return record.Socket{}, false
	}
	cid := func(at int) string {
		if n := u32(b[at:]); n != ^uint32(0) {
			return fmt.Sprintf("%d", n)
		}
		return ""
	}
	port := func(at int) int {
		if n := u32(b[at:]); n != ^uint32(0) {
			return int(n)
		}
		return 0
	}
	return record.Socket{Family: "vsock", Protocol: typeName(b[1]), State: stateName(b[2], "vsock"),
		LocalIP: cid(4), LocalPort: port(8), RemoteIP: cid(12), RemotePort: port(16), Inode: uint64(u32(b[20:])),
		Source: sourceDiag, Observed: time.Now().UnixNano()}, true
}

// absent reports an answer that means that the kernel has no such sockets to show.
func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT)
}
