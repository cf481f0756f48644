package main

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/cmd/internal/formats"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/parse"
)

var errSeen = errors.New("the reader of events has seen enough")

// events reads the events of the folders of a package (all, if there are none named), each time from the start. Times that name no zone are taken for UTC whatever --tz says: the same
// package has the same verdict everywhere.
func events(ctx context.Context, p *evidence.Package, folders []string) iter.Seq2[*event.Event, error] {
	return func(yield func(*event.Event, error) bool) {
		set := &parse.Set{Formats: formats.All(), Artifacts: formats.Artifacts(), Base: formats.Base}
		var o parse.Options
		if folders != nil {
			set.Artifacts = slices.DeleteFunc(set.Artifacts, func(a parse.Artifacts) bool {
				return !slices.ContainsFunc(folders, func(f string) bool {
					return slices.ContainsFunc(p.Artifacts(f), func(e evidence.Entry) bool { return a.Claims(e.Path) })
				})
			})
			o.Only = func(path string) bool {
				return slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(path, f) })
			}
		}
		_, err := set.Package(ctx, p, o, func(e *event.Event) error {
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
