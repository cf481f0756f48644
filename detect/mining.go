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
	listening := f.listenPorts()
	done := map[int]bool{}
	for i := range f.Sockets {
		s := &f.Sockets[i]
		if !Remote(s) || listening[s.LocalPort] || strings.HasPrefix(s.Protocol, "udp") {
			continue
		}
		for _, p := range f.owners(s) {
			if f.otherRoot(p) || done[p.PID] {
				continue
			}
			done[p.PID] = true
			if f.noMaps(a, p) {
				continue
			}
			calls, cites := f.miningCalls(p)
			if len(calls) < callKinds {
				continue
			}
			fd := Finding{PID: p.PID, Path: string(p.Exe.Path), SHA256: p.Exe.SHA256, Peer: Peer(s.RemoteIP, s.RemotePort), When: f.heardOf(s, p), Foreign: f.Foreign(p)}
			fd.Statement = Describe(p) + " has in its memory calls of miners to their pool (" + strings.Join(calls, ", ") + "), and a connection with " + fd.Peer + traffic(s)
			if f.named(s) && !fd.Foreign {
				fd.Severity = verdict.Info
				fd.Statement += ", which image or runtime name"
			}
			fd.Citations = append([]verdict.Citation{p.Cite, s.Cite}, cites...)
			a.hit(fd)
		}
	}
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
