package main

import (
	"context"
	"errors"
	"iter"

	"github.com/sherd-forensics/sherd/cmd/internal/formats"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/parse"
)

var errSeen = errors.New("the reader of events has seen enough")

// events reads all events of a package, each time from the start. Times that name no zone are taken for UTC whatever --tz says: the same
// package has the same verdict everywhere.
func events(ctx context.Context, p *evidence.Package) iter.Seq2[*event.Event, error] {
	return func(yield func(*event.Event, error) bool) {
		set := &parse.Set{Formats: formats.All(), Artifacts: formats.Artifacts(), Base: formats.Base}
		_, err := set.Package(ctx, p, parse.Options{}, func(e *event.Event) error {
			if !yield(e, nil) {
				return errSeen
			}
			return nil
		})
		if err != nil && !errors.Is(err, errSeen) {
			yield(nil, err)
		}
	}
}
