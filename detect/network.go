package detect

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

func networkRules() []Rule {
	return []Rule{
		{
			ID: "network-standard-stream", Title: "A program's standard streams are a network connection", Severity: verdict.Critical, Technique: "T1059",
			Rationale:   "A reverse shell, in whatever language, puts its connection on descriptors 0 to 2, so that whoever is at the other end types into the program.",
			FalseAlarms: "Local (unix) sockets don't count: runtimes and parents use them. A connection that came in on one of the container's own listening ports is how inetd hands over, and graded lower.",
			Needs:       []Fact{Processes, Sockets}, check: standardStreams,
		},
		{
			ID: "network-foreign-peer", Title: "A program that is not the image's has a connection", Severity: verdict.High, Technique: "T1071",
			Rationale:   "The image's programs don't explain it.",
			FalseAlarms: "Depends on the judgement of the program.",
			Needs:       []Fact{Processes, Sockets}, check: foreignPeers,
		},
		{
			ID: "network-foreign-listener", Title: "A program that is not the image's listens", Severity: verdict.High, Technique: "T1571",
			Rationale:   "A port that the image's programs don't explain waits for an intruder.",
			FalseAlarms: "Depends on the judgement of the program.",
			Needs:       []Fact{Processes, Sockets}, check: foreignListeners,
		},
		{
			ID: "network-unexposed-listener", Title: "The image's program listens on a port that is not declared", Severity: verdict.Info, Technique: "",
			Rationale:   "Declared ports are a hint at what a program is for; others may be its debugger or a back door in its own process.",
			FalseAlarms: "Many images declare nothing; then the rule says nothing. Loopback alone doesn't count.",
			Needs:       []Fact{Processes, Sockets, Config}, check: unexposed,
		},
		{
			ID: "network-outbound", Title: "The image's program has connections that it made", Severity: verdict.Info, Technique: "",
			Rationale:   "Databases and services, mostly. Code that runs inside the application itself calls out the same way, so they are worth a look.",
			FalseAlarms: "It is information and never weighs.",
			Needs:       []Fact{Processes, Sockets}, check: outbound,
		},
		{
			ID: "network-raw-socket", Title: "A process has a raw or packet socket", Severity: verdict.Medium, Technique: "T1040",
			Rationale:   "Packet sockets see all traffic of the container, raw ones make packets of any kind.",
			FalseAlarms: "ping and DHCP clients, observability agents: an image's own program is graded low.",
			Needs:       []Fact{Processes, Sockets}, check: rawSockets,
		},
	}
}

// Peer writes an address as ip:port.
func Peer(ip string, port int) string { return net.JoinHostPort(ip, itoa(port)) }

func inet(s *Socket) bool { return s.Family == "inet" || s.Family == "inet6" }

// Remote reports whether a socket has a peer that is not the container itself.
func Remote(s *Socket) bool {
	if !inet(s) || s.RemotePort == 0 || s.State == "listen" {
		return false
	}
	a, err := netip.ParseAddr(s.RemoteIP)
	return err == nil && !a.IsUnspecified() && !a.Unmap().IsLoopback()
}

// Listening reports whether a socket waits for connections from elsewhere.
func Listening(s *Socket) bool {
	return inet(s) && strings.EqualFold(s.State, "listen")
}

func loopback(ip string) bool {
	a, err := netip.ParseAddr(ip)
	return err == nil && a.Unmap().IsLoopback()
}

func (f *Facts) listenPorts() map[int]bool {
	out := map[int]bool{}
	for i := range f.Sockets {
		if Listening(&f.Sockets[i]) {
			out[f.Sockets[i].LocalPort] = true
		}
	}
	return out
}

// Inbound reports whether a connection came in on one of the container's listening ports.
func (f *Facts) Inbound(s *Socket) bool {
	return f.listenPorts()[s.LocalPort]
}

func standardStreams(f *Facts, a *Answer) {
	byInode := map[uint64]*Socket{}
	for i := range f.Sockets {
		if s := &f.Sockets[i]; s.Inode != 0 {
			byInode[s.Inode] = s
		}
	}
	for i := range f.Processes {
		p := &f.Processes[i]
		if f.otherRoot(p) {
			continue
		}
		f.noFDs(a, p)
		fds := map[uint64][]string{}
		var order []uint64
		for _, d := range p.FDs {
			ino := socketInode(&d)
			if d.N > 2 || ino == 0 {
				continue
			}
			if fds[ino] == nil {
				order = append(order, ino)
			}
			fds[ino] = append(fds[ino], itoa(d.N))
		}
		for _, ino := range order {
			s := byInode[ino]
			if s == nil {
				a.blind("the socket on descriptor "+fds[ino][0]+" of "+Describe(p), "the tables of sockets don't have it")
				continue
			}
			if !inet(s) || Listening(s) || !Remote(s) {
				continue
			}
			sev := verdict.Critical
			if f.Inbound(s) && !f.Foreign(p) {
				sev = verdict.Medium
			}
			a.hit(Finding{
				Finding: verdict.Finding{Severity: sev, Citations: []verdict.Citation{p.Cite, s.Cite},
					Statement: fmt.Sprintf("%s has a connection with %s as descriptor %s: its standard streams lead there",
						Describe(p), Peer(s.RemoteIP, s.RemotePort), strings.Join(fds[ino], ", "))},
				PID: p.PID, Path: string(p.Exe.Path), When: p.StartTime, Foreign: sev == verdict.Critical,
			})
		}
	}
}

// socketInode reads "socket:[123]".
func socketInode(d *record.FD) uint64 {
	if d.Kind != "socket" {
		return 0
	}
	var n uint64
	if _, err := fmt.Sscanf(string(d.Target), "socket:[%d]", &n); err != nil {
		return d.Ino
	}
	return n
}

// owners are the container's processes that hold a socket, each once.
func (f *Facts) owners(s *Socket) []*Process {
	var out []*Process
	for _, o := range s.Owners {
		if p := f.byPID[o.PID]; p != nil && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// Owners are the container's processes that hold a socket, each once.
func (f *Facts) Owners(s *Socket) []*Process { return f.owners(s) }

func foreignPeers(f *Facts, a *Answer) {
	for i := range f.Sockets {
		s := &f.Sockets[i]
		if !Remote(s) {
			continue
		}
		for _, p := range f.owners(s) {
			if !f.Foreign(p) {
				continue
			}
			a.hit(Finding{
				Finding: verdict.Finding{Citations: []verdict.Citation{s.Cite, p.Cite},
					Statement: fmt.Sprintf("%s, which is not the image's, has a connection with %s%s", Describe(p), Peer(s.RemoteIP, s.RemotePort), traffic(s))},
				PID: p.PID, Path: string(p.Exe.Path), SHA256: p.Exe.SHA256, Foreign: true,
			})
		}
	}
}

func traffic(s *Socket) string {
	if s.BytesSent == nil || s.BytesReceived == nil {
		return ""
	}
	return fmt.Sprintf(" (%d bytes out, %d in)", *s.BytesSent, *s.BytesReceived)
}

func foreignListeners(f *Facts, a *Answer) {
	for i := range f.Sockets {
		s := &f.Sockets[i]
		if !Listening(s) {
			continue
		}
		for _, p := range f.owners(s) {
			if !f.Foreign(p) {
				continue
			}
			a.hit(Finding{
				Finding: verdict.Finding{Citations: []verdict.Citation{s.Cite, p.Cite},
					Statement: fmt.Sprintf("%s, which is not the image's, listens on %s", Describe(p), Peer(s.LocalIP, s.LocalPort))},
				PID: p.PID, Path: string(p.Exe.Path), SHA256: p.Exe.SHA256, Foreign: true,
			})
		}
	}
}

func unexposed(f *Facts, a *Answer) {
	if len(f.Config.Exposed) == 0 {
		return
	}
	seen := map[int]bool{}
	for i := range f.Sockets {
		s := &f.Sockets[i]
		if !Listening(s) || loopback(s.LocalIP) || f.Config.Exposed[s.LocalPort] || seen[s.LocalPort] {
			continue
		}
		for _, p := range f.owners(s) {
			if f.Foreign(p) || f.otherRoot(p) {
				continue
			}
			seen[s.LocalPort] = true
			a.hit(Finding{
				Finding: verdict.Finding{Citations: []verdict.Citation{s.Cite, p.Cite},
					Statement: fmt.Sprintf("%s listens on port %d, which the image does not declare", Describe(p), s.LocalPort)},
				PID: p.PID, Path: string(p.Exe.Path),
			})
			break
		}
	}
}

// outbound lists the peers that the image's own programs called, most bytes out first, bounded.
func outbound(f *Facts, a *Answer) {
	type out struct {
		s    *Socket
		p    *Process
		sent uint64
	}
	listening := f.listenPorts()
	var all []out
	seen := map[string]bool{}
	for i := range f.Sockets {
		s := &f.Sockets[i]
		if !Remote(s) || listening[s.LocalPort] || seen[Peer(s.RemoteIP, s.RemotePort)] {
			continue
		}
		for _, p := range f.owners(s) {
			if f.Foreign(p) || f.otherRoot(p) {
				continue
			}
			o := out{s: s, p: p}
			if s.BytesSent != nil {
				o.sent = *s.BytesSent
			}
			seen[Peer(s.RemoteIP, s.RemotePort)] = true
			all = append(all, o)
			break
		}
	}
	slices.SortStableFunc(all, func(x, y out) int { return cmp.Compare(y.sent, x.sent) })
	for _, o := range all[:min(len(all), perRule)] {
		a.hit(Finding{
			Finding: verdict.Finding{Citations: []verdict.Citation{o.s.Cite, o.p.Cite},
				Statement: fmt.Sprintf("%s has a connection with %s that it made%s", Describe(o.p), Peer(o.s.RemoteIP, o.s.RemotePort), traffic(o.s))},
			PID: o.p.PID, Path: string(o.p.Exe.Path),
		})
	}
}

func rawSockets(f *Facts, a *Answer) {
	for i := range f.Sockets {
		s := &f.Sockets[i]
		if s.Family != "packet" && s.Protocol != "raw" {
			continue
		}
		for _, p := range f.owners(s) {
			if f.otherRoot(p) {
				continue
			}
			sev := verdict.Low
			if f.Foreign(p) {
				sev = verdict.Medium
			}
			a.hit(Finding{
				Finding: verdict.Finding{Severity: sev, Citations: []verdict.Citation{s.Cite, p.Cite}, Statement: Describe(p) + " has a " + say(s.Family) + " " + say(s.Protocol) + " socket"},
				PID:     p.PID, Path: string(p.Exe.Path), Foreign: f.Foreign(p),
			})
		}
	}
}
