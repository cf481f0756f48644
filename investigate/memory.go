package investigate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/carve"
	"github.com/sherd-forensics/sherd/detect/core"
	"github.com/sherd-forensics/sherd/detect/mention"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// Rules over what memory holds. They are asked when something else weighs: what a server's memory holds its clients may have sent, so that
// by itself it says nothing, and none of these rules is ever graded above low.
var (
	carvedRule = detect.Rule{
		ID: "memory-program-carved", Title: "Memory that belongs to no file holds a program", Severity: verdict.Low, Technique: "T1620",
		Rationale:   "A program in a heap was sent, fetched or unpacked there. One that is the same as a foreign program shows through which process that came.",
		FalseAlarms: "Services that take uploads, updaters and package managers hold programs too: information only, low if it is the same as a foreign program. `sherd carve` writes it out.",
	}
	peerRule = detect.Rule{
		ID: "memory-names-peer", Title: "A foreign process's memory names the other end of its connection", Severity: verdict.Low, Technique: "T1071",
		Rationale:   "What stands in the memory of a foreign process beside its peer's address shows how it talks with it, and by which name.",
		FalseAlarms: "Only foreign processes are asked, and only for peers that they are connected with.",
	}
	mentionRule = detect.Rule{
		ID: "memory-mentions", Title: "Places that a foreign process's memory and program name", Severity: verdict.Info, Technique: "",
		Rationale:   "URLs and addresses in a foreign program and its memory are leads to what it fetched and where it would report.",
		FalseAlarms: "Libraries hold addresses of documentation and standards, and memory holds what a process inherited: leads, not accusations.",
	}
	heldRule = detect.Rule{
		ID: "memory-holds-credential", Title: "A foreign process holds a credential in its memory", Severity: verdict.Low, Technique: "T1552",
		Rationale:   "A token or a private key in the memory of a foreign process is in the intruder's hands, wherever it came from.",
		FalseAlarms: "Only forms that issuers made recognisable count, and only foreign processes. What the process inherited in its environment counts too: it was there to be read.",
	}
	miningRule = detect.Rule{
		ID: "memory-names-pool", Title: "A foreign process names a mining pool", Severity: verdict.Low, Technique: "T1496",
		Rationale:   "Stratum is what miners speak with their pools and nothing else is.",
		FalseAlarms: "Only foreign processes are asked. A wallet alone is no miner: ransom notes name wallets too; it is information.",
	}
)

// Bounds of what is told of one process.
const (
	maxMentions   = 20_000 // different things of one process
	toldMentions  = 8
	maxCarvedTold = 16
	maxScanned    = 16 << 30 // bytes of memory in one verdict
)

// held is a credential in a foreign process's memory.
type held struct {
	value, words string
	process      *detect.Process
	cites        []verdict.Citation
}

// noted is one thing that a process's memory or program mentions.
type noted struct {
	mention.Mention
	count    int
	artifact string
	offset   int64
	mapping  string
	program  bool // its program's file mentions it
}

// readMemory looks through memory, if anything else weighs.
func (w *work) readMemory(ctx context.Context) error {
	if !slices.ContainsFunc(w.findings, func(f detect.Finding) bool { return weighs(&f) }) {
		return nil
	}
	rules := []*detect.Rule{&carvedRule, &peerRule, &mentionRule, &heldRule, &miningRule}
	answers := make([]detect.Answer, len(rules))
	for i, r := range rules {
		answers[i].Rule = r
	}
	left := int64(maxScanned)
	for i := range w.f.Processes {
		p := &w.f.Processes[i]
		if !p.HasMaps {
			continue // told where mappings are asked for
		}
		m, err := core.Open(w.p, p.Dir, mappings(p))
		if err == nil && m.Bytes > left {
			err = errors.New("more memory was kept than is looked through")
		}
		if err != nil {
			if w.f.Foreign(p) || !errors.Is(err, core.ErrNone) {
				for k := range answers {
					answers[k].BlindTo("what the memory of "+detect.Describe(p)+" holds", err.Error())
				}
			}
			continue
		}
		left -= m.Bytes
		if err := w.carved(ctx, p, m, &answers[0]); err != nil {
			return err
		}
		if !w.f.Foreign(p) {
			continue
		}
		if err := w.mentions(ctx, p, m, answers[1:]); err != nil {
			return err
		}
	}
	w.answers = append(w.answers, answers...)
	return nil
}

func mappings(p *detect.Process) []record.Mapping {
	out := make([]record.Mapping, len(p.Maps))
	for i := range p.Maps {
		out[i] = p.Maps[i].Mapping
	}
	return out
}

// carved tells of programs in memory that no file backs.
func (w *work) carved(ctx context.Context, p *detect.Process, m *core.Image, a *detect.Answer) error {
	want := func(x *record.Mapping) bool { return carve.Anonymous(x) && (x.Inode == 0 || x.Inode != p.Exe.Ino) }
	images, err := carve.Find(ctx, m, want, nil)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		a.BlindTo("programs in the memory of "+detect.Describe(p), err.Error())
	}
	for i, x := range images {
		if i == maxCarvedTold {
			a.BlindTo("more programs in the memory of "+detect.Describe(p), fmt.Sprintf("%d of %d are told; `sherd carve` lists all", i, len(images)))
			break
		}
		where := "memory that belongs to no file"
		if name := string(m.Maps[x.Mapping].Path); name != "" {
			where = clip(name, 80)
		}
		how := "as a file"
		if x.Form == carve.Loaded {
			how = "laid out to run"
		}
		part := "whole"
		if !x.Complete() {
			part = fmt.Sprintf("%d of %d bytes", x.Have, x.Size)
		}
		f := detect.Finding{PID: p.PID, SHA256: x.SHA256, Finding: verdict.Finding{Severity: verdict.Info}}
		f.Statement = fmt.Sprintf("%s holds a program at %#x in %s, %s (%s): %s", detect.Describe(p), x.Addr, where, how, part, x.Facts.Summary())
		if other := w.sameProgram(x); other != "" {
			f.Severity = verdict.Low
			f.Statement += "; it is the same as " + other
		}
		f.Citations = []verdict.Citation{p.Cite}
		if c, ok := w.f.Cite(m.Artifact, x.Offset, 64); ok {
			f.Citations = []verdict.Citation{c, p.Cite}
		}
		a.Add(f)
	}
	return nil
}

// sameProgram names the foreign program that a carved one is the same as, by hash or by build id.
func (w *work) sameProgram(x *carve.ELF) string {
	for i := range w.findings {
		f := &w.findings[i]
		facts := w.programs[f.SHA256]
		if facts == nil || !weighs(f) {
			continue
		}
		same := f.SHA256 == x.SHA256 || facts.BuildID != "" && facts.BuildID == x.Facts.BuildID || facts.GoBuildID != "" && facts.GoBuildID == x.Facts.GoBuildID
		if same && f.Path != "" {
			return clip(f.Path, 160)
		}
	}
	return ""
}

// mentions tells what a foreign process's memory and program name. answers are those of peerRule, mentionRule, heldRule and miningRule.
func (w *work) mentions(ctx context.Context, p *detect.Process, m *core.Image, answers []detect.Answer) error {
	all := map[string]*noted{}
	var order []*noted
	scan := func(m *core.Image, isProgram bool) error {
		err := mention.Scan(ctx, m, func(x mention.Placed) bool {
			id := x.ID()
			if n := all[id]; n != nil {
				n.count++
				return true
			}
			n := &noted{Mention: x.Mention, count: 1, artifact: m.Artifact, offset: x.At, program: isProgram}
			if x.Mapping >= 0 {
				n.mapping = string(m.Maps[x.Mapping].Path)
			}
			all[id] = n
			order = append(order, n)
			return len(order) < maxMentions
		}, nil)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			for i := range answers {
				answers[i].BlindTo("what the memory of "+detect.Describe(p)+" holds", err.Error())
			}
		}
		return nil
	}
	if err := scan(m, false); err != nil {
		return err
	}
	if raw := p.Exe.Artifact; raw != "" {
		if art, err := w.p.Open(raw); err == nil {
			if err := scan(core.File(raw, art, art.Size()), true); err != nil {
				return err
			}
		}
	}
	w.namedPeers(p, order, &answers[0])
	w.places(p, order, &answers[1])
	w.holds(p, order, &answers[2])
	w.pools(p, order, &answers[3])
	return nil
}

func (w *work) citesOf(p *detect.Process, of ...*noted) []verdict.Citation {
	var out []verdict.Citation
	for _, n := range of {
		if c, ok := w.f.Cite(n.artifact, n.offset, int64(n.Length)); ok {
			out = append(out, c)
		}
	}
	return append(out, p.Cite)
}

// namedPeers finds URLs and addresses of what the process is connected with.
func (w *work) namedPeers(p *detect.Process, order []*noted, a *detect.Answer) {
	for i := range w.f.Sockets {
		s := &w.f.Sockets[i]
		if !detect.Remote(s) || !slices.Contains(w.f.Owners(s), p) {
			continue
		}
		peer := detect.Peer(s.RemoteIP, s.RemotePort)
		var names []string
		var of []*noted
		for _, n := range order {
			if n.Host == "" || len(names) >= toldMentions {
				continue
			}
			if n.Host == s.RemoteIP && (n.Port == s.RemotePort || n.Kind == mention.URL && n.Port == 0) && n.Value != peer {
				names, of = append(names, clip(n.Value, 160)), append(of, n)
			}
		}
		if len(names) == 0 {
			continue
		}
		f := detect.Finding{PID: p.PID, Peer: peer}
		f.Statement = "the memory or program of " + detect.Describe(p) + " names its peer " + peer + ": " + strings.Join(names, ", ")
		f.Citations = append(w.citesOf(p, of...), s.Cite)
		a.Add(f)
	}
}

// places lists URLs, and addresses with a port, that are not configured for the container.
func (w *work) places(p *detect.Process, order []*noted, a *detect.Answer) {
	var names []string
	var of []*noted
	more := 0
	for _, n := range order {
		if n.Kind != mention.URL && (n.Kind != mention.Address || !n.Sure) || w.configured(n.Host) || w.ownAddress(n.Host) {
			continue
		}
		if len(names) >= toldMentions {
			more++
			continue
		}
		names, of = append(names, clip(n.Value, 160)), append(of, n)
	}
	if len(names) == 0 {
		return
	}
	f := detect.Finding{PID: p.PID}
	f.Statement = "the memory or program of " + detect.Describe(p) + " names " + strings.Join(names, ", ")
	if more > 0 {
		f.Statement += fmt.Sprintf(" and %d more places", more)
	}
	f.Citations = w.citesOf(p, of...)
	a.Add(f)
}

// ownAddress reports whether an address is the container's.
func (w *work) ownAddress(host string) bool {
	return slices.ContainsFunc(w.f.Sockets, func(s detect.Socket) bool { return s.LocalIP == host && !s.Shared })
}

// configured reports whether a host stands in what image and runtime were told.
func (w *work) configured(host string) bool {
	for _, v := range w.f.Config.Env {
		if strings.Contains(v, host) {
			return true
		}
	}
	return slices.ContainsFunc(w.f.Config.Args, func(s string) bool { return strings.Contains(s, host) })
}

// holds finds keys and tokens in memory.
func (w *work) holds(p *detect.Process, order []*noted, a *detect.Answer) {
	for _, n := range order {
		if !n.Secret() || n.program || n.Sum == "" {
			continue
		}
		f := detect.Finding{PID: p.PID}
		f.Statement = detect.Describe(p) + " held in its memory a " + clip(n.Value, 300)
		f.Citations = w.citesOf(p, n)
		a.Add(f)
		value := n.Form + " sha256:" + n.Sum
		if strings.HasPrefix(n.Subject, "system:serviceaccount:") {
			value = n.Subject
		}
		w.held = append(w.held, held{clip(value, 200), clip(n.Value, 300), p, f.Citations})
	}
}

// pools finds pools of miners, and wallets.
func (w *work) pools(p *detect.Process, order []*noted, a *detect.Answer) {
	var pools, wallets []*noted
	for _, n := range order {
		switch {
		case n.Kind == mention.URL && mention.IsPool(n.Scheme):
			pools = append(pools, n)
		case n.Kind == mention.Wallet && n.Sure:
			wallets = append(wallets, n)
		}
	}
	pools, wallets = pools[:min(len(pools), 4)], wallets[:min(len(wallets), 4)]
	if len(pools)+len(wallets) == 0 {
		return
	}
	var words []string
	for _, n := range pools {
		words = append(words, "the mining pool "+clip(n.Value, 160))
	}
	for _, n := range wallets {
		words = append(words, "the "+n.Form+" wallet "+n.Value)
	}
	f := detect.Finding{PID: p.PID, Finding: verdict.Finding{Severity: verdict.Info}}
	if len(pools) > 0 {
		f.Severity = verdict.Low
	}
	f.Statement = "the memory or program of " + detect.Describe(p) + " names " + strings.Join(words, ", ")
	f.Citations = w.citesOf(p, append(pools, wallets...)...)
	a.Add(f)
}
