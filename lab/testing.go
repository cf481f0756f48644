package lab

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/internal/testenv"
)

// Need gives a test the lab with the named runtimes up (all but Kubernetes if none is named). It skips loudly without root, and
// fails when a runtime that is installed does not start. The daemons stay for other packages' tests; `make test`
// ends them.
func Need(t testing.TB, runtimes ...string) *Lab {
	t.Helper()
	testenv.NeedRoot(t)
	if len(runtimes) == 0 {
		runtimes = []string{Docker, Containerd, Podman, Runc}
	}
	for _, r := range runtimes {
		testenv.NeedTool(t, programs[r]...)
	}
	l := Open(logWriter{t})
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // the cluster may have to be compiled
	defer cancel()
	if err := l.Up(ctx, runtimes...); err != nil {
		t.Fatal(err)
	}
	l.say = io.Discard // a test's log must not be written to after its end
	return l
}

// Run starts a container for the length of the test.
func (l *Lab) Run(t testing.TB, s RunSpec) *Container {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c, err := l.Start(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Remove(); err != nil {
			t.Error(fmt.Errorf("removing %s: %w", c.Name, err))
		}
	})
	return c
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}
