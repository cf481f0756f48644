package cluster

import (
	"context"

	"github.com/sherd-forensics/sherd/collect/relay"
)

// Hold has the collector freeze a container, or thaw it again; what it says is one of relay's words. The container stays as it was left when
// the collector is gone. Options.Freeze must have been set when the session was started.
func (s *Session) Hold(ctx context.Context, target string, thaw bool) (string, error) {
	req := relay.Request{Ask: relay.AskFreeze, Target: target}
	if thaw {
		req.Ask = relay.AskThaw
	}
	var held relay.Held
	err := s.Ask(ctx, req, &held)
	return held.State, err
}
