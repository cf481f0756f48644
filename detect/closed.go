package detect

import (
	"fmt"

	"github.com/sherd-forensics/sherd/verdict"
)

// minClosed is how many closed connections with one peer are a habit.
const minClosed = 3

// closedOutbound tells of connections that were closed a moment ago, which the kernel remembers for a minute and of which it no
// longer knows whose they were: who asks for orders again and again leaves a row of them. In a network namespace that several containers
// share they are taken for those of whoever still has a connection with the same peer; if nobody has, nobody can tell.
func (f *Facts) closedOutbound(a *Answer, listening map[int]bool, local map[string]bool) {
	by := map[string][]*Socket{}
	var order []string
	for i := range f.Sockets {
		s := &f.Sockets[i]
		if s.State != "time_wait" || !Remote(s) || len(s.Owners) > 0 || len(s.Others) > 0 || listening[s.LocalPort] || local[s.RemoteIP] || services[s.RemotePort] || f.named(s) {
			continue
		}
		// Which side called is told by the ports: the caller's is one of those that the kernel hands out.
		if s.LocalPort < 32768 || s.LocalPort > 60999 {
			continue
		}
		peer := Peer(s.RemoteIP, s.RemotePort)
		if by[peer] == nil {
			order = append(order, peer)
		}
		by[peer] = append(by[peer], s)
	}
	for _, peer := range order {
		list := by[peer]
		if len(list) < minClosed {
			continue
		}
		fd := Finding{Peer: peer, Finding: verdict.Finding{Severity: verdict.Medium, Technique: "T1071",
			Statement: fmt.Sprintf("%d connections with %s had been closed within the last minute, which neither the configuration nor a known service's port explains", len(list), peer)}}
		for _, s := range list[:min(len(list), 8)] {
			fd.Citations = append(fd.Citations, s.Cite)
		}
		mine, others := f.liveWith(peer)
		switch {
		case !list[0].Shared:
			fd.Statement += "; whose they were is not known any more"
		case mine != nil && !others:
			p := f.owners(mine)[0]
			fd.Statement += "; " + Describe(p) + " still has one with it, and nobody else who shares the network has"
			fd.Citations = append(fd.Citations, mine.Cite, p.Cite)
		case others && mine == nil:
			continue // somebody else's who shares the network
		default:
			a.blind(fmt.Sprintf("whose %d connections with %s were, closed within the last minute", len(list), peer),
				"the network namespace is shared with other containers, and a closed connection is nobody's")
			continue
		}
		a.hit(fd)
	}
}

// liveWith finds an open connection of the container's with a peer, and whether others who share the network have one.
func (f *Facts) liveWith(peer string) (mine *Socket, others bool) {
	for i := range f.Sockets {
		s := &f.Sockets[i]
		if !Remote(s) || Peer(s.RemoteIP, s.RemotePort) != peer {
			continue
		}
		if len(f.owners(s)) > 0 {
			mine = s
		} else if len(s.Others) > 0 {
			others = true
		}
	}
	return mine, others
}
