// Package parse turns artifacts into events. Each format has a folder of its own below this one, and is a value in the list that
// the programs hand to Run; nothing registers itself.
//
// A format is told by its content, never by its name. All input is hostile: a parser bounds what it keeps, goes on after what it
// can't read, and says with Input.Skip what it left out.
package parse

import (
	"context"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
)

// Emit takes an event. The event is the parser's again when it returns: its strings may be kept, the struct and the bytes of
// Attributes must be copied. An error ends the parse and is returned as it is.
type Emit func(*event.Event) error

// Confidence says how sure a format is that content is its own. The highest wins; between equals, the first in the list.
type Confidence int

// Degrees of confidence. Values between them are allowed.
const (
	No       Confidence = 0
	Fallback Confidence = 10 // any lines of text
	Maybe    Confidence = 40 // a shape that many programs share, as JSON lines with a time
	Likely   Confidence = 70 // the lines of a known form
	Certain  Confidence = 95 // a magic number, or fields that nothing else has together
)

// SniffLength is how many bytes of the (decompressed) content Format.Sniff is given at most.
const SniffLength = 64 << 10

// Format is how one kind of artifact is recognised and read.
type Format struct {
	Name  string // lower-case, as Event.Parser has it: "auditd"
	Title string // for people: "Linux audit log"
	Spec  string // address of the specification
	// Sniff judges content by its first bytes, which may end within a record.
	Sniff func(head []byte) Confidence
	// Read emits the events of in, in the order of the content. It returns errors of reading the evidence and of emit only:
	// content that is not what it should be is told by Input.Skip.
	Read func(ctx context.Context, in *Input, emit Emit) error
}

// Artifacts is a parser of rows that Sherd's own collectors wrote, or of artifacts that must be read together.
type Artifacts struct {
	Name  string // as Event.Parser
	Title string
	// Claims reports whether this parser reads the artifact, so that it is not tried as a log as well.
	Claims func(path string) bool
	// Read emits the events of p. Bad rows are told with skip.
	Read func(ctx context.Context, p *evidence.Package, skip func(Skip), emit Emit) error
}

// Skip is content that no event was made of, or a run of such content with the same reason.
type Skip struct {
	Artifact string `json:"artifact"`
	// Offset is where the first one begins, in the content as decompressed.
	Offset int64  `json:"offset"`
	Bytes  int64  `json:"bytes"` // of all of them
	Count  int64  `json:"count"` // lines or records
	Reason string `json:"reason"`
}
