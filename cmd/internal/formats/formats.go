// Package formats lists every format that the programs read. A new one is a new folder under parse/ and a line here.
package formats

import (
	"encoding/json"
	"slices"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/elfcore"
	"github.com/sherd-forensics/sherd/target"
)

// All is every format of a file, in the order in which equals win.
func All() []parse.Format {
	return slices.Concat(cloud, cluster, node, logs, memory, generic)
}

// memory is what dumps say besides their bytes.
var memory = []parse.Format{elfcore.Format}

// Artifacts is every parser of what Sherd's own collectors write.
func Artifacts() []parse.Artifacts {
	return slices.Clone(pack)
}

// Base fills the columns that all events of a package share, from what was captured.
func Base(p *evidence.Package) event.Event {
	e := event.Event{EvidenceID: p.ID()}
	var c target.Container
	if json.Unmarshal(p.Manifest().Target, &c) != nil {
		return e // of a package that was cut short before it said so
	}
	e.ContainerID, e.Container, e.ImageDigest = c.ID, c.Name, c.Image.Digest
	if p := c.Pod; p != nil {
		e.Pod, e.Namespace = p.Name, p.Namespace
		if p.Container != "" {
			e.Container = p.Container
		}
	}
	return e
}
