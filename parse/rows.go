package parse

import (
	"encoding/json"
	"fmt"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
)

// LineError is a line of one of the package's lists that is not what it should be. Reading goes on after it.
type LineError struct {
	Artifact string
	Offset   int64
	Err      error
}

func (e *LineError) Error() string {
	return fmt.Sprintf("%s at byte %d: %v", e.Artifact, e.Offset, e.Err)
}

// Unwrap gives the cause.
func (e *LineError) Unwrap() error { return e.Err }

// Skip is the line as coverage tells it.
func (e *LineError) Skip() Skip {
	return Skip{Artifact: e.Artifact, Offset: e.Offset, Count: 1, Reason: "a row is damaged: " + e.Err.Error()}
}

// maxHost bounds host/host.json.
const maxHost = 1 << 20

// Host reads what p says of the machine and its clocks; it is false when p does not say, or not in a form that can be read.
func Host(p *evidence.Package) (h record.Host, ok bool) {
	b, err := p.ReadFile("host/host.json", maxHost)
	return h, err == nil && json.Unmarshal(b, &h) == nil
}

// Captured is when the counters and memory of p were read, by the machine's clock: nanoseconds UTC.
func Captured(p *evidence.Package) int64 {
	if h, ok := Host(p); ok && h.Realtime > 0 {
		return h.Realtime
	}
	return p.Manifest().Started
}
