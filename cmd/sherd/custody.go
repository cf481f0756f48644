package main

import (
	"os"
	"os/user"

	"github.com/sherd-forensics/sherd/evidence"
)

// custody adds one line to the package's chain of custody.
func custody(path, action, id, sha256, note string) error {
	actor := "unknown"
	if u, err := user.Current(); err == nil {
		actor = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return evidence.AppendCustody(path, evidence.CustodyEntry{
		Action: action, Actor: actor, Host: host, Tool: "sherd " + version,
		EvidenceID: id, SHA256: sha256, Note: note,
	})
}
