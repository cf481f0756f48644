package lab

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"
)

// KillKubernetes ends one part of the cluster at once, as a crash does: etcd, apiserver, controller-manager, scheduler, kubelet or
// containerd. The function that it returns starts it again and waits until the node is ready; it must be called, since the lab is held until
// then: whoever else brings it up would start the part himself.
func (l *Lab) KillKubernetes(ctx context.Context, part string) (resume func(context.Context) error, err error) {
	unlock, err := l.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	pid := l.daemonPID("kubernetes-" + part)
	if pid == 0 {
		return nil, fmt.Errorf("the cluster's %s does not run", part)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return nil, fmt.Errorf("ending process %d: %w", pid, err)
	}
	if !waitFor(ctx, 10*time.Second, func() bool { return !alive(pid) }) {
		return nil, fmt.Errorf("process %d survived SIGKILL", pid)
	}
	return func(ctx context.Context) error {
		defer unlock()
		c := l.cluster()
		bin := filepath.Join(l.base, "bin", Kubernetes)
		if err := c.startNode(ctx, bin); err != nil {
			return err
		}
		if err := c.startControl(ctx, bin); err != nil {
			return err
		}
		return c.startKubelet(ctx, bin)
	}, nil
}

// StaticPods is the folder whose manifests the kubelet runs without being asked by the API server.
func (l *Lab) StaticPods() string { return l.cluster().Manifests }

// Ctr runs the node's ctr in Kubernetes's namespace of containerd and returns what it printed.
func (l *Lab) Ctr(ctx context.Context, args ...string) (string, error) {
	return l.cluster().ctr(ctx, args...)
}
