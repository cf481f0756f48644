package acquire

import (
	"os"
	"os/user"

	"github.com/sherd-forensics/sherd/evidence"
)

// Handled adds one line to the chain of custody beside the package at path: who did what with it, where, with which tool.
func Handled(path, action, tool, id, sha256, note string) error {
	actor := "unknown"
	if u, err := user.Current(); err == nil {
		actor = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return evidence.AppendCustody(path, evidence.CustodyEntry{
		Action: action, Actor: actor, Host: host, Tool: tool, EvidenceID: id, SHA256: sha256, Note: note,
	})
}
