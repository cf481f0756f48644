package detect

import (
	"bytes"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/verdict"
)

func orderRules() []Rule {
	return []Rule{
		{
			ID: "network-metadata-service", Title: "The machine's metadata service was asked", Severity: verdict.Info, Technique: "T1552.005",
			Rationale:   "Clouds hand out the machine's own keys at a link-local address to whoever asks from there.",
			FalseAlarms: "Cloud libraries ask it all day: it is information, and says what an intruder had within reach where other findings show one.",
			Needs:       []Fact{Processes, Sockets}, check: metadataService,
		},
		{
			ID: "memory-machine-keys", Title: "Keys of the machine's cloud identity are in a process's memory", Severity: verdict.Info, Technique: "T1552.005",
			Rationale:   "Temporary keys from the metadata service are named by an id by which the cloud's audit log shows their use. Ids are told, never keys.",
			FalseAlarms: "Cloud libraries hold them by design: it is information. Only processes of containers that asked the metadata service are looked at.",
			Needs:       []Fact{Processes, Sockets, Memory}, check: machineKeys,
		},
		{
			ID: "memory-runtime-order", Title: "A program that speaks with the container runtime ordered it to start something", Severity: verdict.High, Technique: "T1610",
			Rationale:   "The order, or the runtime's answer to it, is in the memory of the process that has the connection, and names the container.",
			FalseAlarms: "Agents, builders and test tools start containers by design: where image or runtime were told of it, it is information. Lists of containers in memory are no orders.",
			Needs:       []Fact{Processes, Sockets, Memory}, check: runtimeOrders,
		},
	}
}

// metadataAddresses are where clouds serve metadata: the one that most share, and those of a few that don't.
var metadataAddresses = map[string]bool{"169.254.169.254": true, "169.254.170.2": true, "169.254.170.23": true, "fd00:ec2::254": true, "fd00:ec2::23": true, "100.100.100.200": true, "fd20:ce::254": true}

// Metadata reports whether a socket's peer is a cloud's metadata service.
func Metadata(s *Socket) bool {
	a, err := netip.ParseAddr(s.RemoteIP)
	return err == nil && inet(s) && s.State != "listen" && metadataAddresses[a.Unmap().String()]
}

func metadataService(f *Facts, a *Answer) {
	seen := map[string]bool{}
	for i := range f.Sockets {
		s := &f.Sockets[i]
		if !Metadata(s) || s.Shared && len(s.Others) > 0 {
			continue
		}
		peer := Peer(s.RemoteIP, s.RemotePort)
		fd := Finding{Peer: peer, Finding: verdict.Finding{Citations: []verdict.Citation{s.Cite}, Statement: "the machine's metadata service at " + peer + " was asked within the last minutes; who did is not known any more"}}
		who := f.owners(s)
		if len(who) > 0 {
			fd.PID, fd.Path, fd.Statement = who[0].PID, string(who[0].Exe.Path), Describe(who[0])+" has a connection with the machine's metadata service at "+peer
			fd.Citations = append(fd.Citations, who[0].Cite)
		} else if s.Shared {
			a.blind("who asked the machine's metadata service at "+peer, "the network namespace is shared with other containers, and a closed connection is nobody's")
			continue
		}
		key := itoa(fd.PID) + " " + peer
		if !seen[key] {
			seen[key] = true
			a.hit(fd)
		}
	}
}

// keyID matches the id of a temporary key in the metadata service's answer.
var keyID = regexp.MustCompile(`"AccessKeyId" ?: ?"(ASIA[A-Z0-9]{12,20})"`)

// Bounds of looking for words in memory.
const (
	maxSearched = 512 << 20 // bytes of one process's core
	searchStep  = 1 << 20
	searchLap   = 512 // no match is longer
	maxMatches  = 32
	maxSearches = 16 // processes
)

// match is a place in a process's core.
type match struct {
	text  string // of the group in parentheses
	where verdict.Citation
}

// search looks in the kept memory of a process for a pattern that holds a literal text, each match once.
func (f *Facts) search(p *Process, literal string, pattern *regexp.Regexp) []match {
	core := p.Dir + "/core"
	whole, ok := f.Cite(core, 0, 0)
	if !ok || f.Read == nil {
		return nil
	}
	var out []match
	for off := int64(0); off < maxSearched; off += searchStep {
		b := f.Read(core, off, searchStep+searchLap)
		if len(b) == 0 {
			break
		}
		if !bytes.Contains(b, []byte(literal)) {
			continue
		}
		for _, at := range pattern.FindAllSubmatchIndex(b, maxMatches) {
			text := string(b[at[2]:at[3]])
			if len(out) >= maxMatches || slices.ContainsFunc(out, func(m match) bool { return m.text == text }) {
				continue
			}
			c := whole
			c.Offset, c.Length = off+int64(at[2]), int64(at[3]-at[2])
			out = append(out, match{text, c})
		}
	}
	return out
}

// forgotten notes what can't be told of a process whose memory was not kept.
func (f *Facts) forgotten(a *Answer, p *Process, what string) bool {
	if _, kept := f.Cite(p.Dir+"/core", 0, 0); kept {
		return false
	}
	if p.State != "Z" && p.State != "X" {
		a.blind(what+Describe(p), "its memory was not kept")
	}
	return true
}

func machineKeys(f *Facts, a *Answer) {
	if !slices.ContainsFunc(f.Sockets, func(s Socket) bool { return Metadata(&s) && (!s.Shared || len(s.Others) == 0) }) {
		return
	}
	for i := range f.Processes[:min(len(f.Processes), maxSearches)] {
		p := &f.Processes[i]
		if f.otherRoot(p) || f.noMaps(a, p) || f.forgotten(a, p, "whether keys of the machine are in the memory of ") {
			continue
		}
		for _, m := range f.search(p, "AccessKeyId", keyID) {
			a.hit(Finding{
				Finding: verdict.Finding{Citations: []verdict.Citation{m.where, p.Cite}, Statement: Describe(p) + " has the machine's temporary key " + say(m.text) + " in its memory"},
				PID:     p.PID, Path: string(p.Exe.Path), Key: m.text,
			})
		}
	}
}

// The order to start or enter a container, and the answer to the order to create one.
// See https://docs.docker.com/reference/api/engine/ and https://docs.podman.io/en/latest/_static/api.html
var (
	startOrder   = regexp.MustCompile(`POST /(?:v[0-9.]{1,8}/)?(?:libpod/)?containers/([0-9a-f]{64})/(?:start|exec|attach|restart)\b`)
	createAnswer = regexp.MustCompile(`\{"Id":"([0-9a-f]{64})","Warnings":`)
)

func runtimeOrders(f *Facts, a *Answer) {
	told := f.toldOfRuntime()
	for _, c := range f.runtimeConnections() {
		p := c.process
		if f.noMaps(a, p) || f.forgotten(a, p, "what the container runtime was ordered by ") {
			continue
		}
		seen := map[string]bool{f.Container.ID: true}
		found := append(f.search(p, "/containers/", startOrder), f.search(p, `"Warnings"`, createAnswer)...)
		for _, m := range found {
			if seen[m.text] {
				continue
			}
			seen[m.text] = true
			fd := Finding{PID: p.PID, Path: string(p.Exe.Path), Container: m.text, Foreign: f.Foreign(p)}
			fd.Statement = Describe(p) + " ordered the container runtime at " + say(strings.TrimPrefix(string(c.peer.Path), "\x00")) + " to start the container " + m.text[:12]
			if told && !fd.Foreign {
				fd.Severity = verdict.Info
			}
			fd.Citations = []verdict.Citation{m.where, c.socket.Cite, p.Cite}
			a.hit(fd)
		}
	}
}
