package detect

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

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
			ID: "network-outbound", Title: "The image's program calls a place that nothing explains", Severity: verdict.Medium, Technique: "T1571",
			Rationale:   "Code that an intruder runs inside the application itself calls out from the application's own process. Its port is then neither named in the configuration nor that of a known service.",
			FalseAlarms: "Calls to known services' ports, to ports and addresses that the image's or the runtime's settings name, and into the container's own pod are information. A service on an unusual port that only a configuration file names is told all the same.",
			Needs:       []Fact{Processes, Sockets, Config}, check: outbound,
		},
		{
			ID: "network-own-resolver", Title: "A program asks a name server that the container was not given", Severity: verdict.Medium, Technique: "T1071.004",
			Rationale:   "Names are asked of the servers in resolv.conf. Questions to another, one after the other, carry data out where nothing else gets through.",
			FalseAlarms: "Name servers themselves, which listen on the port; servers that image or runtime were told of. A program with a public resolver built in is told all the same.",
			Needs:       []Fact{Processes, Sockets, Config}, check: ownResolver,
		},
		{
			ID: "network-runtime-socket", Title: "A program speaks with the container runtime", Severity: verdict.Medium, Technique: "T1611",
			Rationale:   "Whoever may speak with the runtime's socket can start a container that owns the machine.",
			FalseAlarms: "Agents, proxies and builders do so by design: where image or runtime were told of it, by a variable or an argument, it is information.",
			Needs:       []Fact{Processes, Sockets, Config}, check: runtimeSockets,
		},
		miningRule,
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

func traffic(s *Socket) string {
	if s.BytesSent == nil || s.BytesReceived == nil {
		return ""
	}
	return fmt.Sprintf(" (%d bytes out, %d in)", *s.BytesSent, *s.BytesReceived)
}

// services are ports of services that applications call: names, mail, web, directories, databases, queues, stores, telemetry.
var services = map[int]bool{
	22: true, 25: true, 53: true, 80: true, 88: true, 110: true, 123: true, 143: true, 389: true, 443: true, 445: true, 465: true, 514: true, 587: true, 636: true, 853: true, 993: true, 995: true,
	1433: true, 1521: true, 1883: true, 2049: true, 2181: true, 2375: true, 2376: true, 2379: true, 2380: true, 3128: true, 3268: true, 3269: true, 3306: true, 3478: true,
	4222: true, 4317: true, 4318: true, 5044: true, 5432: true, 5433: true, 5671: true, 5672: true, 5984: true, 6379: true, 6380: true, 6443: true, 6831: true, 6832: true,
	7000: true, 7233: true, 7474: true, 7687: true, 8080: true, 8086: true, 8123: true, 8125: true, 8126: true, 8200: true, 8300: true, 8301: true, 8443: true, 8500: true, 8529: true, 8600: true, 8883: true,
	9000: true, 9042: true, 9090: true, 9092: true, 9093: true, 9094: true, 9160: true, 9200: true, 9300: true, 9411: true, 10250: true, 11211: true, 15672: true, 15010: true, 15012: true,
	24224: true, 26257: true, 26379: true, 27017: true, 27018: true, 28015: true, 33060: true, 50000: true, 50051: true,
}

// outbound judges the connections that the image's own programs made.
func outbound(f *Facts, a *Answer) {
	listening := f.listenPorts()
	local := map[string]bool{}
	for i := range f.Sockets {
		local[f.Sockets[i].LocalIP] = true
	}
	seen := map[string]bool{}
	noted := 0
	for i := range f.Sockets {
		s := &f.Sockets[i]
		// Which side called can't be told when a port of ours that something once listened on is involved; UDP has no sides.
		if !Remote(s) || listening[s.LocalPort] || local[s.RemoteIP] || strings.HasPrefix(s.Protocol, "udp") {
			continue
		}
		for _, p := range f.owners(s) {
			key := itoa(p.PID) + " " + Peer(s.RemoteIP, s.RemotePort)
			if f.Foreign(p) || f.otherRoot(p) || seen[key] {
				continue
			}
			seen[key] = true
			sev, words := verdict.Medium, ", which neither the configuration nor a known service's port explains"
			if services[s.RemotePort] || f.named(s) {
				if noted++; noted > perRule {
					continue
				}
				sev, words = verdict.Info, " that it made"
			}
			a.hit(Finding{
				Finding: verdict.Finding{Severity: sev, Citations: []verdict.Citation{s.Cite, p.Cite},
					Statement: fmt.Sprintf("%s has a connection with %s%s%s", Describe(p), Peer(s.RemoteIP, s.RemotePort), words, traffic(s))},
				PID: p.PID, Path: string(p.Exe.Path), Peer: Peer(s.RemoteIP, s.RemotePort), When: f.heardOf(s, p),
			})
		}
	}
	f.closedOutbound(a, listening, local)
}

// heardOf is the earliest moment at which a connection is known to have been there, in nanoseconds UTC: the kernel keeps when data
// last went each way, and of a way on which none ever went, when the connection began. 0 is unknown.
func (f *Facts) heardOf(s *Socket, p *Process) int64 {
	// What the kernel counted back from is the moment at which the socket was looked at; the host's clock was read at another.
	seen := cmp.Or(s.Observed, f.Host.Realtime)
	if seen == 0 || s.LastSentMS == nil || s.LastReceivedMS == nil {
		return 0
	}
	at := seen - int64(max(*s.LastSentMS, *s.LastReceivedMS))*int64(time.Millisecond)
	if at < p.StartTime {
		return 0 // a counter that never ran
	}
	return at
}

// named reports whether image or runtime were told of a peer's address or port. What a process says of itself, its own
// command line and environment, counts for nothing: whoever started it chose that.
func (f *Facts) named(s *Socket) bool {
	port := itoa(s.RemotePort)
	says := func(text string) bool { return hasAddress(text, s.RemoteIP) || hasNumber(text, port) }
	return f.told(says)
}

// told reports whether a setting of the image or the runtime, the value of a variable or an argument, says something.
func (f *Facts) told(says func(string) bool) bool {
	for _, v := range f.Config.Env {
		if says(v) {
			return true
		}
	}
	return slices.ContainsFunc(f.Config.Args, says) || slices.ContainsFunc(f.Container.Entrypoint, says)
}

// hasAddress reports whether text has an address as a whole: 10.0.0.12 has not 10.0.0.1.
func hasAddress(text, ip string) bool {
	digit := func(i int) bool { return i >= 0 && i < len(text) && text[i] >= '0' && text[i] <= '9' }
	for off := 0; ip != ""; off++ {
		i := strings.Index(text[off:], ip)
		if i < 0 {
			break
		}
		off += i
		end := off + len(ip)
		if !digit(off-1) && !digit(end) && (off == 0 || text[off-1] != '.' || !digit(off-2)) && (end == len(text) || text[end] != '.' || !digit(end+1)) {
			return true
		}
	}
	return false
}

// hasNumber reports whether text has a number as a whole, not as a part of a longer one or of a dotted address.
func hasNumber(text, number string) bool {
	part := func(c byte) bool { return c >= '0' && c <= '9' || c == '.' }
	for off := 0; ; {
		i := strings.Index(text[off:], number)
		if i < 0 {
			return false
		}
		i += off
		end := i + len(number)
		if (i == 0 || !part(text[i-1])) && (end == len(text) || !part(text[end])) {
			return true
		}
		off = i + 1
	}
}

func ownResolver(f *Facts, a *Answer) {
	if f.listenPorts()[53] || slices.ContainsFunc(f.Sockets, func(s Socket) bool { return inet(&s) && s.LocalPort == 53 && s.RemotePort == 0 }) {
		return // a name server asks others
	}
	seen := map[string]bool{}
	for i := range f.Sockets {
		s := &f.Sockets[i]
		if s.RemotePort != 53 && s.RemotePort != 853 || !Remote(s) {
			continue
		}
		for _, p := range f.owners(s) {
			peer := Peer(s.RemoteIP, s.RemotePort)
			if f.otherRoot(p) || seen[peer+itoa(p.PID)] || f.told(func(text string) bool { return hasAddress(text, s.RemoteIP) }) {
				continue
			}
			if len(f.Resolvers) == 0 {
				a.blind("whether "+peer+" is the container's name server", "its resolv.conf was not collected")
				continue
			}
			if slices.Contains(f.Resolvers, s.RemoteIP) {
				continue
			}
			seen[peer+itoa(p.PID)] = true
			a.hit(Finding{
				Finding: verdict.Finding{Citations: []verdict.Citation{s.Cite, p.Cite},
					Statement: Describe(p) + " asks the name server " + peer + "; the container was given " + strings.Join(f.Resolvers, ", ")},
				PID: p.PID, Path: string(p.Exe.Path), Peer: peer, When: f.heardOf(s, p),
			})
		}
	}
}

// runtimeSocket matches the names of sockets by which runtimes are steered.
var runtimeSocket = regexp.MustCompile(`/(docker|containerd|crio|podman|dockershim|cri-dockerd|buildkitd)[.]sock$`)

// toldOfRuntime matches settings that say that a program is to speak with a runtime.
var toldOfRuntime = regexp.MustCompile(`(?i)docker|containerd|cri-?o\b|podman|buildkit`)

// toldOfRuntime reports whether image or runtime were told that a program is to speak with a runtime.
func (f *Facts) toldOfRuntime() bool {
	told := f.told(toldOfRuntime.MatchString)
	for k := range f.Config.Env {
		told = told || toldOfRuntime.MatchString(k)
	}
	return told
}

// runtimeConnection is one process's connection with a runtime.
type runtimeConnection struct {
	process      *Process
	socket, peer *Socket
}

// runtimeConnections are those of the container's processes, each process and runtime once.
func (f *Facts) runtimeConnections() []runtimeConnection {
	byInode := map[uint64]*Socket{}
	for i := range f.Sockets {
		if s := &f.Sockets[i]; s.Family == "unix" && s.Inode != 0 {
			byInode[s.Inode] = s
		}
	}
	var out []runtimeConnection
	seen := map[string]bool{}
	for i := range f.Sockets {
		s := &f.Sockets[i]
		if s.Family != "unix" || s.PeerInode == 0 {
			continue
		}
		peer := byInode[s.PeerInode]
		if peer == nil || !runtimeSocket.MatchString(string(peer.Path)) {
			continue
		}
		for _, p := range f.owners(s) {
			key := itoa(p.PID) + string(peer.Path)
			if f.otherRoot(p) || seen[key] {
				continue
			}
			seen[key] = true
			out = append(out, runtimeConnection{p, s, peer})
		}
	}
	return out
}

func runtimeSockets(f *Facts, a *Answer) {
	told := f.toldOfRuntime()
	for _, c := range f.runtimeConnections() {
		fd := Finding{PID: c.process.PID, Path: string(c.process.Exe.Path), Foreign: f.Foreign(c.process)}
		fd.Statement = Describe(c.process) + " has a connection with the container runtime at " + say(c.peer.Path)
		if told && !fd.Foreign {
			fd.Severity = verdict.Info
		} else {
			fd.Statement += ", of which neither image nor runtime was told"
		}
		fd.Citations = []verdict.Citation{c.socket.Cite, c.peer.Cite, c.process.Cite}
		a.hit(fd)
	}
}
