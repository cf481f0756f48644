package detect

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/verdict"
)

var miningRule = Rule{
	ID: "network-mining-protocol", Title: "A program speaks with a mining pool", Severity: verdict.High, Technique: "T1496",
	Rationale:   "Miners subscribe, authorize and submit in lines of JSON, each kind with words of its own. A program that has called somebody and has such calls of two kinds in its memory mines.",
	FalseAlarms: "Programs that look for miners have the words, too: only calls as they are written on the wire count, of two kinds, in a program that called somebody. A pool that image or runtime name is the operator's: information.",
	Needs:       []Fact{Processes, Memory, Sockets, Config}, check: mining,
}

// miningCall matches the calls of stratum and its kin as they go over the wire: Stratum of Bitcoin's kind, of Monero's, of Ethereum's.
// See https://en.bitcoin.it/wiki/Stratum_mining_protocol and https://github.com/xmrig/xmrig-proxy/blob/master/doc/STRATUM.md
var miningCall = regexp.MustCompile(`"method"\s{0,4}:\s{0,4}"(mining[.](?:subscribe|authorize|configure|notify|submit|set_difficulty|set_target|set_extranonce|extranonce[.]subscribe)|eth_submitLogin|eth_getWork|eth_submitWork|eth_submitHashrate|keepalived)"|"(seed_hash|job_id)"\s{0,4}:\s{0,4}"[0-9a-fA-F]`)

// miningWords are in each match of miningCall: a search for plain bytes is many times faster than one for a pattern.
var miningWords = [][]byte{[]byte(`"mining.`), []byte(`"eth_`), []byte(`"keepalived"`), []byte(`"seed_hash"`), []byte(`"job_id"`)}

const (
	coreStep    = 4 << 20
	maxCoreScan = int64(4 << 30)
	callKinds   = 2
)

func mining(f *Facts, a *Answer) {
	all := f.outgoing()
	for i := range f.Processes {
		p := &f.Processes[i]
		calls := all[p]
		if f.otherRoot(p) || len(calls) == 0 || f.noMaps(a, p) {
			continue
		}
		kinds, cites := f.miningCalls(p)
		if len(kinds) < callKinds {
			continue
		}
		fd := Finding{PID: p.PID, Path: string(p.Exe.Path), SHA256: p.Exe.SHA256, Foreign: f.Foreign(p)}
		fd.Statement = Describe(p) + " has in its memory calls of miners to their pool (" + strings.Join(kinds, ", ") + ")"
		fd.Citations = append([]verdict.Citation{p.Cite}, cites...)
		named := slices.IndexFunc(calls, f.named)
		// Who of several is the pool is told by nothing but that the others are explained.
		others := slices.DeleteFunc(slices.Clone(calls), func(s *Socket) bool { return len(calls) > 1 && (services[s.RemotePort] || f.named(s)) })
		switch {
		case named >= 0 && !fd.Foreign:
			fd.Severity = verdict.Info
			fd.Statement += ", and a connection with " + Peer(calls[named].RemoteIP, calls[named].RemotePort) + ", which image or runtime name"
			fd.Citations = append(fd.Citations, calls[named].Cite)
		case len(others) == 1:
			fd.Peer, fd.When = Peer(others[0].RemoteIP, others[0].RemotePort), f.heardOf(others[0], p)
			fd.Statement += ", and a connection with " + fd.Peer + traffic(others[0])
			fd.Citations = append(fd.Citations, others[0].Cite)
		default:
			fd.Statement += ", and " + plural(int64(len(calls)), "connection")
			for _, s := range calls[:min(len(calls), 8)] {
				fd.Citations = append(fd.Citations, s.Cite)
			}
		}
		a.hit(fd)
	}
}

// outgoing are each process's connections that did not come in on a port that somebody listens on.
func (f *Facts) outgoing() map[*Process][]*Socket {
	listening := f.listenPorts()
	out := map[*Process][]*Socket{}
	for i := range f.Sockets {
		s := &f.Sockets[i]
		if !Remote(s) || listening[s.LocalPort] || strings.HasPrefix(s.Protocol, "udp") {
			continue
		}
		for _, p := range f.owners(s) {
			out[p] = append(out[p], s)
		}
	}
	return out
}

// miningCalls are the kinds of calls that a process's kept memory holds, with where the first of each lies.
func (f *Facts) miningCalls(p *Process) (kinds []string, cites []verdict.Citation) {
	core := p.Dir + "/core"
	const overlap = 256
	for off := int64(0); off < maxCoreScan; off += coreStep - overlap {
		b := f.Read(core, off, coreStep)
		if slices.ContainsFunc(miningWords, func(w []byte) bool { return bytes.Contains(b, w) }) {
			for _, m := range miningCall.FindAllSubmatchIndex(b, 1000) {
				name := ""
				for g := 2; g < len(m); g += 2 {
					if m[g] >= 0 {
						name = string(b[m[g]:m[g+1]])
					}
				}
				if slices.Contains(kinds, name) {
					continue
				}
				kinds = append(kinds, name)
				if c, ok := f.Cite(core, off+int64(m[0]), int64(m[1]-m[0])); ok {
					cites = append(cites, c)
				}
			}
		}
		if len(b) < coreStep {
			break
		}
	}
	slices.Sort(kinds)
	return kinds, cites
}
