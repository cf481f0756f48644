package parse

import (
	"fmt"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
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

// Document opens one artifact of a package as an Input, nil when there is none. Close it.
func Document(p *evidence.Package, path, parser string) (*Input, error) {
	if _, ok := p.Artifact(path); !ok {
		return nil, nil
	}
	a, err := p.Open(path)
	if err != nil {
		return nil, err
	}
	return NewInput(a, event.Event{Artifact: path, Parser: parser})
}
