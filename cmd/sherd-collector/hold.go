package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sherd-forensics/sherd/cmd/internal/acquire"
	"github.com/sherd-forensics/sherd/collect/memory"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/target"
)

// hold freezes a container for good, or thaws it. It stays so when this process has ended.
func hold(ctx context.Context, places *acquire.Places, r *relay.Request) (*relay.Held, error) {
	ref, err := target.ParseRef(r.Target)
	if err != nil {
		return nil, err
	}
	src, err := places.Find(ctx, ref, true)
	var none *target.NotFoundError
	if errors.As(err, &none) {
		return &relay.Held{State: relay.Gone}, nil
	}
	if err != nil {
		return nil, err
	}
	defer src.Close()
	s := subject.Subject{Container: src.Container, HostRoot: places.HostRoot, Proc: places.Proc()}
	if s.Processes, err = subject.List(src.Container, s.Proc); len(s.Processes) == 0 {
		if err != nil {
			return nil, fmt.Errorf("its processes: %w", err)
		}
		return &relay.Held{State: relay.Gone}, nil
	}
	do, word, already := memory.Hold, relay.Frozen, relay.FrozenAlready
	if r.Ask == relay.AskThaw {
		do, word, already = memory.Unhold, relay.Thawed, relay.ThawedAlready
	}
	changed, err := do(ctx, s)
	if err != nil {
		return nil, err
	}
	if !changed {
		word = already
	}
	return &relay.Held{State: word}, nil
}
