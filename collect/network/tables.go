package network

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
)

// socketTables are the files of /proc/<pid>/net that list sockets, most volatile first.
var socketTables = []string{"tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6", "unix", "packet", "netlink"}

// otherTables are kept as they are. Absent ones belong to features that this kernel or namespace lacks.
var otherTables = []string{"arp", "route", "ipv6_route", "rt_cache", "fib_trie", "fib_triestat", "if_inet6", "dev", "dev_mcast", "igmp", "igmp6",
	"mcfilter", "mcfilter6", "anycast6", "ip6_flowlabel", "ip_mr_vif", "snmp", "snmp6", "netstat", "sockstat", "sockstat6", "protocols", "ptype",
	"softnet_stat", "nf_conntrack", "stat/nf_conntrack", "stat/arp_cache", "ip_tables_names", "ip6_tables_names", "ip_tables_matches",
	"ip_tables_targets", "netfilter/nf_log", "xfrm_stat", "sctp/eps", "sctp/assocs", "wireless", "vlan/config", "pnp", "psched"}

const (
	maxPart     = 4 << 20   // of one artifact of a table
	maxTable    = 512 << 20 // of one table
	maxRetained = 24 << 20  // of socket tables kept in memory for the comparison with sock_diag
)

// table is a socket table as read, in whole lines.
type table struct {
	name, source string
	parts        [][]byte
	dropped      bool // too large to keep
}

// readTable reads one file of /proc/<pid>/net in large pieces of whole lines, which go into the package as
// dir/name, dir/name-0001 and so on.
func readTable(ctx context.Context, path string, part func(n int, b []byte) error) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		f, err = os.Open(path) // not our file: /proc keeps no access times of use
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var total int64
	var rest []byte
	buf := make([]byte, maxPart)
	for n := 0; ; n++ {
		used := copy(buf, rest)
		rest = nil
		var err error
		for used < len(buf) && err == nil {
			if err = ctx.Err(); err != nil {
				return err
			}
			var m int
			m, err = f.Read(buf[used:])
			used += m
		}
		b := buf[:used]
		if err == nil {
			if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
				rest = append(rest, b[i+1:]...)
				b = b[:i+1]
			}
		}
		total += int64(len(b))
		if perr := part(n, b); perr != nil {
			return perr
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case total >= maxTable:
			return fmt.Errorf("larger than %d bytes", maxTable)
		}
	}
}

// fatalError marks an error of the output: the capture can't go on.
type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }

func fatal(err error) error {
	if err == nil {
		return nil
	}
	return &fatalError{err}
}

// keepTable reads a table into the package; keep, when not nil, receives each part.
func keepTable(ctx context.Context, w *evidence.Writer, path, artifact string, keep func([]byte)) error {
	return readTable(ctx, path, func(n int, b []byte) error {
		name := artifact
		if n > 0 {
			name = fmt.Sprintf("%s-%04d", artifact, n)
		}
		if _, err := w.Add(evidence.Meta{Path: name, Origin: path, Mtime: time.Now().UnixNano()}, b); err != nil {
			return fatal(err)
		}
		if keep != nil {
			keep(b)
		}
		return nil
	})
}

// parseTable calls each for every socket of a part of the table. Lines that are no socket are passed over: the
// table is in the package.
func parseTable(name, source string, b []byte, each func(record.Socket) error) error {
	now := time.Now().UnixNano()
	for len(b) > 0 {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		if name == "unix" {
			line, rest = unixLine(b)
		}
		b = rest
		var s record.Socket
		var ok bool
		switch name {
		case "unix":
			s, ok = parseUnix(line)
		case "packet":
			s, ok = parsePacket(string(line))
		case "netlink":
			s, ok = parseNetlink(string(line))
		default:
			s, ok = parseInet(name, string(line))
		}
		if !ok {
			continue
		}
		s.Source, s.Observed = source, now
		if err := each(s); err != nil {
			return err
		}
	}
	return nil
}

// parseInet reads a line of tcp, udp, raw, icmp and their kin: proc_net_tcp.rst in the kernel's documentation.
func parseInet(name, line string) (record.Socket, bool) {
	f := strings.Fields(line)
	if len(f) < 10 || !strings.HasSuffix(f[0], ":") {
		return record.Socket{}, false
	}
	proto := strings.TrimSuffix(name, "6")
	s := record.Socket{Protocol: proto}
	var ok1, ok2 bool
	s.Family, s.LocalIP, s.LocalPort, ok1 = hexAddress(f[1])
	_, s.RemoteIP, s.RemotePort, ok2 = hexAddress(f[2])
	st, err1 := strconv.ParseUint(f[3], 16, 8)
	uid, err2 := strconv.ParseUint(f[7], 10, 32)
	inode, err3 := strconv.ParseUint(f[9], 10, 64)
	tx, rx, ok3 := strings.Cut(f[4], ":")
	txn, err4 := strconv.ParseUint(tx, 16, 32)
	rxn, err5 := strconv.ParseUint(rx, 16, 32)
	if !ok1 || !ok2 || !ok3 || errors.Join(err1, err2, err3, err4, err5) != nil {
		return s, false
	}
	s.State, s.UID, s.Inode = stateName(uint8(st), proto), uint32(uid), inode
	s.SendQueue, s.ReceiveQueue = uint32(txn), uint32(rxn)
	if proto == "raw" {
		s.Number, s.LocalPort = s.LocalPort, 0
	}
	return s, true
}

// hexAddress reads "0100007F:1F90": words of 32 bits in the machine's order, the port as a number.
func hexAddress(s string) (family, ip string, port int, ok bool) {
	a, p, ok := strings.Cut(s, ":")
	if !ok || len(a) != 8 && len(a) != 32 {
		return "", "", 0, false
	}
	b, err := hex.DecodeString(a)
	n, err2 := strconv.ParseUint(p, 16, 16)
	if err != nil || err2 != nil {
		return "", "", 0, false
	}
	for i := 0; i < len(b); i += 4 {
		native.PutUint32(b[i:], uint32(b[i])<<24|uint32(b[i+1])<<16|uint32(b[i+2])<<8|uint32(b[i+3]))
	}
	if len(b) == 4 {
		return "inet", netip.AddrFrom4([4]byte(b)).String(), int(n), true
	}
	return "inet6", netip.AddrFrom16([16]byte(b)).Unmap().String(), int(n), true
}

// unixLine cuts the first entry off. A socket's name may hold line feeds, so an entry ends where the next one begins
// with a kernel address and a colon: a name made to look like that forges an entry here, but not in sock_diag.
func unixLine(b []byte) (line, rest []byte) {
	for i := 0; ; {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			return b, nil
		}
		i += j + 1
		if i == len(b) || unixStart(b[i:]) {
			return b[:i-1], b[i:]
		}
	}
}

func unixStart(b []byte) bool {
	i := bytes.IndexByte(b[:min(len(b), 20)], ':')
	return i >= 8 && isHex(b[:i])
}

func isHex(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// parseUnix reads "0000000000000000: 00000002 00000000 00010000 0001 01 16163 /run/x".
func parseUnix(line []byte) (record.Socket, bool) {
	if !unixStart(line) {
		return record.Socket{}, false
	}
	var f [7]string
	rest := line
	for i := range f {
		rest = bytes.TrimLeft(rest, " ")
		j := bytes.IndexByte(rest, ' ')
		if j < 0 {
			j = len(rest)
		}
		f[i], rest = string(rest[:j]), rest[j:]
	}
	flags, err1 := strconv.ParseUint(f[3], 16, 32)
	typ, err2 := strconv.ParseUint(f[4], 16, 8)
	st, err3 := strconv.ParseUint(f[5], 16, 8)
	inode, err4 := strconv.ParseUint(f[6], 10, 64)
	if errors.Join(err1, err2, err3, err4) != nil {
		return record.Socket{}, false
	}
	s := record.Socket{Family: "unix", Protocol: typeName(uint8(typ)), Inode: inode, State: "unconnected"}
	switch {
	case flags&0x10000 != 0: // __SO_ACCEPTCON
		s.State = "listen"
	case st == 3:
		s.State = "established"
	}
	if len(rest) > 1 {
		name := string(rest[1:])
		if strings.HasPrefix(name, "@") {
			name = "\x00" + name[1:]
		}
		s.Path = record.Name(name)
	}
	return s, true
}

// parsePacket reads "0000000000000000 3      3    0003   2     1 0      0      19417".
func parsePacket(line string) (record.Socket, bool) {
	f := strings.Fields(line)
	if len(f) < 9 {
		return record.Socket{}, false
	}
	typ, err1 := strconv.ParseUint(f[2], 10, 8)
	proto, err2 := strconv.ParseUint(f[3], 16, 16)
	iface, err3 := strconv.ParseInt(f[4], 10, 32)
	uid, err4 := strconv.ParseUint(f[7], 10, 32)
	inode, err5 := strconv.ParseUint(f[8], 10, 64)
	if errors.Join(err1, err2, err3, err4, err5) != nil {
		return record.Socket{}, false
	}
	return record.Socket{Family: "packet", Protocol: typeName(uint8(typ)), Number: int(proto), Interface: int(iface), UID: uint32(uid), Inode: inode}, true
}

// parseNetlink reads "0000000000000000 0   1234   00000000 0        0        0        2        0        19417".
func parseNetlink(line string) (record.Socket, bool) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return record.Socket{}, false
	}
	proto, err1 := strconv.ParseUint(f[1], 10, 8)
	port, err2 := strconv.ParseUint(f[2], 10, 32)
	inode, err3 := strconv.ParseUint(f[9], 10, 64)
	if errors.Join(err1, err2, err3) != nil || port == 0 && inode == 0 {
		return record.Socket{}, false
	}
	return record.Socket{Family: "netlink", Protocol: netlinkName(int(proto)), Number: int(proto), LocalPort: int(port), Inode: inode}, true
}
