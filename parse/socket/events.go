package socket

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
	formats "github.com/sherd-forensics/sherd/parse"
)

const parser = "socket"

// maxListening bounds what is remembered to leave doubles out and tell directions; more sockets than that are all emitted.
const maxListening = 1 << 18

// attributes is what has no column of its own.
type attributes struct {
	State         string         `json:"state,omitempty"`
	Family        string         `json:"family"`
	Activity      string         `json:"activity,omitempty"`  // "sent" or "received" of an event for the last of it
	Direction     string         `json:"direction,omitempty"` // "in" where the local port is listened on, else "out"
	Inode         uint64         `json:"inode,omitempty"`
	PeerInode     uint64         `json:"peer_inode,omitempty"`
	BytesSent     *uint64        `json:"bytes_sent,omitempty"`
	BytesReceived *uint64        `json:"bytes_received,omitempty"`
	Owners        []record.Owner `json:"owners,omitempty"`
	Others        []record.Owner `json:"others,omitempty"`
	Shared        bool           `json:"shared,omitempty"`
	Note          string         `json:"note,omitempty"`
	Source        string         `json:"source"`
}

// Events emits net.connected for each socket with a peer and net.listening for each that waits for one, at the time they were
// observed; and net.connected once more, with time_kind "accessed", when a connection last sent and last received data. The
// latter are good to about 10 ms. For a connection that was not accepted on a listening port of the same namespace the
// container is the source. Malformed lines are passed over: Read reports them. An MPTCP row whose subflow is a row of its own
// emits nothing.
func Events(p *evidence.Package, skip func(formats.Skip), emit func(event.Event) error) error {
	listening, tcp := map[string]bool{}, map[uint64]bool{}
	for r, err := range Read(p) {
		if err != nil {
			if le := (*LineError)(nil); errors.As(err, &le) {
				continue
			}
			return err
		}
		if r.Protocol == "tcp" && r.Inode != 0 && len(tcp) < maxListening {
			tcp[r.Inode] = true
		}
		if waits(&r.Socket) && len(listening) < maxListening {
			listening[local(&r.Socket)] = true
		}
	}
	for r, err := range Read(p) {
		if err != nil {
			if le := (*LineError)(nil); errors.As(err, &le) {
				skip(le.Skip())
				continue
			}
			return err
		}
		if r.Protocol == "mptcp" && tcp[r.Inode] {
			continue
		}
		if err := one(p, r, listening, emit); err != nil {
			return err
		}
	}
	return nil
}

// local names what a listener and what it accepted have in common.
func local(s *record.Socket) string {
	proto := s.Protocol
	if proto == "mptcp" {
		proto = "tcp"
	}
	return strconv.FormatUint(s.Namespace, 10) + " " + proto + " " + strconv.Itoa(s.LocalPort)
}

func ip(s *record.Socket) bool { return s.Family == "inet" || s.Family == "inet6" }

// waits reports whether a socket waits for peers. UDP has no state for it: one that is bound and has no peer does.
func waits(s *record.Socket) bool {
	return s.State == "listen" || ip(s) && s.State == "unconnected" && s.LocalPort != 0 && (s.Protocol == "udp" || s.Protocol == "udplite")
}

func one(p *evidence.Package, r Row, listening map[string]bool, emit func(event.Event) error) error {
	s := &r.Socket
	e := event.Event{Time: s.Observed, TimeKind: event.Observed, EvidenceID: p.ID(), Protocol: s.Protocol, Parser: parser,
		Artifact: r.Cite.Artifact, Offset: r.Cite.Offset, Length: r.Cite.Length}
	if len(s.Owners) > 0 {
		e.PID = s.Owners[0].PID
	}
	a := attributes{State: s.State, Family: s.Family, Inode: s.Inode, PeerInode: s.PeerInode, BytesSent: s.BytesSent, BytesReceived: s.BytesReceived,
		Owners: s.Owners, Others: s.Others, Shared: s.Shared, Note: s.Note, Source: s.Source}
	switch {
	case waits(s):
		e.Kind = event.NetListening
		e.DstIP, e.DstPort = s.LocalIP, s.LocalPort
		e.Path = string(s.Path)
		where := net.JoinHostPort(s.LocalIP, strconv.Itoa(s.LocalPort))
		if s.Family == "unix" {
			where = printable.Text(string(s.Path))
		}
		e.Message = fmt.Sprintf("%s listens on %s", s.Protocol, where)
		return finish(e, a, emit)
	case ip(s) && s.RemotePort != 0:
	case s.Family == "packet" || s.Protocol == "raw":
		e.Kind = event.NetListening
		e.Message = fmt.Sprintf("%s %s socket, protocol %d, interface %d", s.Family, s.Protocol, s.Number, s.Interface)
		return finish(e, a, emit)
	default:
		return nil // local sockets without a listener are the processes' own affair
	}
	e.Kind = event.NetConnected
	e.SrcIP, e.SrcPort, e.DstIP, e.DstPort = s.LocalIP, s.LocalPort, s.RemoteIP, s.RemotePort
	a.Direction = "out"
	if listening[local(s)] {
		a.Direction = "in"
		e.SrcIP, e.SrcPort, e.DstIP, e.DstPort = s.RemoteIP, s.RemotePort, s.LocalIP, s.LocalPort
	}
	what := fmt.Sprintf("%s %s to %s", s.Protocol, net.JoinHostPort(e.SrcIP, strconv.Itoa(e.SrcPort)), net.JoinHostPort(e.DstIP, strconv.Itoa(e.DstPort)))
	e.Message = what + " " + s.State
	if s.BytesSent != nil && s.BytesReceived != nil {
		e.Message += fmt.Sprintf(", %d bytes sent, %d received", *s.BytesSent, *s.BytesReceived)
		if total := *s.BytesSent + *s.BytesReceived; total < 1<<62 {
			e.Size = int64(total)
		}
	}
	if err := finish(e, a, emit); err != nil {
		return err
	}
	return activity(e, a, s, what, emit)
}

// activity emits when data last went each way. A connection that never carried any has no such time: the kernel then
// counts from the start of its clock.
func activity(e event.Event, a attributes, s *record.Socket, what string, emit func(event.Event) error) error {
	e.TimeKind = event.Accessed
	for _, x := range []struct {
		name  string
		ms    *uint32
		bytes *uint64
	}{{"sent", s.LastSentMS, s.BytesSent}, {"received", s.LastReceivedMS, s.BytesReceived}} {
		if x.ms == nil || x.bytes == nil || *x.bytes == 0 {
			continue
		}
		e.Time = s.Observed - int64(*x.ms)*1_000_000
		e.Message = what + " last " + x.name + " data"
		a.Activity = x.name
		if err := finish(e, a, emit); err != nil {
			return err
		}
	}
	return nil
}

func finish(e event.Event, a attributes, emit func(event.Event) error) error {
	b, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("attributes of a socket: %w", err)
	}
	e.Attributes = b
	return emit(e)
}

// Loopback reports whether a socket reaches no further than the loopback interface.
func Loopback(s *record.Socket) bool {
	a, err1 := netip.ParseAddr(s.LocalIP)
	b, err2 := netip.ParseAddr(s.RemoteIP)
	return err1 == nil && err2 == nil && a.IsLoopback() && (b.IsLoopback() || b.IsUnspecified())
}
