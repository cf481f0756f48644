package memory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sherd-forensics/sherd/collect/subject"
)

// Hold freezes every process of the container by its cgroup's freezer, and leaves it so: nobody thaws it but Unhold, or whoever ends the
// container. The same cgroups are refused as by Freeze. changed is false if it was frozen already, by whomever. On an error
// it runs as before.
func Hold(ctx context.Context, s subject.Subject) (changed bool, err error) {
	cg, err := findFreezer(s)
	if err != nil {
		return false, err
	}
	state, err := cg.state()
	if err != nil || state == frozen {
		return false, err
	}
	if err := cg.set(true); err != nil {
		return false, err
	}
	if err := cg.reach(ctx, frozen, freezeTimeout); err != nil {
		return false, errors.Join(err, cg.set(false))
	}
	return true, nil
}

// Unhold thaws what Hold froze. changed is false if it was not frozen.
func Unhold(ctx context.Context, s subject.Subject) (changed bool, err error) {
	cg, err := findFreezer(s)
	if err != nil {
		return false, err
	}
	state, err := cg.state()
	if err != nil || state == thawed {
		return false, err
	}
	if err := cg.set(false); err != nil {
		return false, err
	}
	return true, cg.reach(ctx, thawed, freezeTimeout)
}

// reach waits until the cgroup is in a state.
func (c *freezer) reach(ctx context.Context, want freezerState, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for wait := time.Millisecond; ; wait = min(wait*2, 50*time.Millisecond) {
		state, err := c.state()
		switch {
		case err != nil:
			return err
		case state == want:
			return nil
		case time.Now().After(deadline):
			if want == frozen {
				return fmt.Errorf("%s: not all of its processes stopped within %v", c.dir, limit)
			}
			return fmt.Errorf("%s is still frozen after %v: a cgroup above it may be, too", c.dir, limit)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
