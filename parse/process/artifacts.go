package process

import (
	"context"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	formats "github.com/sherd-forensics/sherd/parse"
)

// Artifacts makes the package's rows part of the timeline.
var Artifacts = formats.Artifacts{
	Name:   "process",
	Title:  "processes",
	Claims: func(path string) bool { return path == Path },
	Read: func(_ context.Context, p *evidence.Package, skip func(formats.Skip), emit formats.Emit) error {
		return Events(p, skip, func(e event.Event) error { return emit(&e) })
	},
}
