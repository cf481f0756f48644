package detect

import (
	"regexp"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/verdict"
)

var namesPeerRule = Rule{
	ID: "file-configuration-names-peer", Title: "A configuration file of the image was changed, and names a place that is called", Severity: verdict.Medium, Technique: "T1565.001",
	Rationale:   "Who rewrites where an application sends its data needs no program of his own. The image's own settings name no such place.",
	FalseAlarms: "Administrators who change settings through the application, and entry points that fill them in at the start: only a place that neither image nor runtime name and that is no known service's port counts.",
	Needs:       []Fact{Inventory, Baseline, Processes, Sockets, Config}, check: namesPeer,
}

// configFile matches files that are named as configuration is.
var configFile = regexp.MustCompile(`(?i)[.](json5?|ya?ml|toml|ini|conf|cfg|cnf|config|properties|env|xml|hcl)$|/[.]env$`)

const maxConfig = 1 << 20

func namesPeer(f *Facts, a *Answer) {
	listening := f.listenPorts()
	for i := range f.Files.Changes {
		c := &f.Files.Changes[i]
		if c.Runtime || c.Before == nil || c.After == nil || c.After.Type != record.TypeFile || !has(c, inventory.Changed, inventory.Replaced) || !configFile.MatchString(c.Path) {
			continue
		}
		raw, err := record.Unescape(c.After.Artifact)
		if err != nil || raw == "" {
			a.blind("what "+say(c.Path)+" says", "its content was not kept")
			continue
		}
		content := string(f.Read(raw, 0, maxConfig))
		for k := range f.Sockets {
			s := &f.Sockets[k]
			if !Remote(s) || listening[s.LocalPort] || services[s.RemotePort] || f.named(s) {
				continue
			}
			at := namesPlace(content, s)
			owners := f.owners(s)
			if at < 0 || len(owners) == 0 {
				continue
			}
			fd := Finding{Path: c.Path, SHA256: c.After.SHA256, When: changedAt(c), Foreign: true, Finding: verdict.Finding{
				Statement: say(c.Path) + " has other content than in the image and names " + Peer(s.RemoteIP, s.RemotePort) + ", with which " + Describe(owners[0]) + " has a connection"}}
			if x, ok := f.Cite(raw, int64(at), int64(len(s.RemoteIP))); ok {
				fd.Citations = append(fd.Citations, x)
			}
			fd.Citations = append(append(fd.Citations, f.fileCites(c)...), s.Cite, owners[0].Cite)
			a.hit(fd)
			break
		}
	}
}

// namesPlace is where a text names the address of a socket's peer, if it names the port too; -1 if not.
func namesPlace(text string, s *Socket) int {
	if s.RemoteIP == "" || !hasNumber(text, itoa(s.RemotePort)) {
		return -1
	}
	return strings.Index(text, s.RemoteIP)
}
