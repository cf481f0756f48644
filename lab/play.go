package lab

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// hostFor is the host's address as a container that is yet to be started will see it.
func (l *Lab) hostFor(s *RunSpec) string {
	if s.Runtime != Kubernetes && (s.HostNetwork || !l.bridge.works()) {
		return "127.0.0.1"
	}
	return l.bridge.host()
}

// ports that only one container at a time may have.
var ports struct {
	sync.Mutex
	taken map[int]*sync.Mutex
}

// only waits for a port to be nobody's and returns what gives it back.
func only(port int) (release func()) {
	ports.Lock()
	if ports.taken == nil {
		ports.taken = map[int]*sync.Mutex{}
	}
	m := ports.taken[port]
	if m == nil {
		m = &sync.Mutex{}
		ports.taken[port] = m
	}
	ports.Unlock()
	m.Lock()
	return m.Unlock
}

// later lets happen what a variant says comes between the last step and the capture.
func (c *Container) later(ctx context.Context, variant string) error {
	switch variant {
	case "running":
		return nil
	case "noise":
		return c.load(ctx, 2*time.Second)
	case "buried":
		// As fast as it goes; a machine that is busy otherwise gets no further than time allows.
		hurry, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		_, err := c.busy(hurry, 8, 0, 4000)
		return err
	case "exited":
		return c.Stop()
	case "crashed":
		return c.crashed(ctx)
	case "restarted":
		if err := c.Restart(ctx); err != nil {
			return err
		}
		return c.load(ctx, time.Second)
	}
	return fmt.Errorf("unknown variant %q", variant)
}

// ended reports whether a variant's evidence is of a container whose processes are not those any more to which it happened.
func ended(variant string) bool {
	return variant == "exited" || variant == "restarted" || variant == "crashed"
}

// load is Busy for a while, and on a machine that is slow until there were enough requests for one to stand out among them.
func (c *Container) load(ctx context.Context, d time.Duration) error {
	const enough = 40
	busy, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	n, err := c.Busy(busy)
	for ; err == nil && n < enough && ctx.Err() == nil; n++ {
		_, _, err = c.Get(fmt.Sprintf("/?item=%d", n))
	}
	return err
}
