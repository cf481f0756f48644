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
// containerd. ResumeKubernetes starts it again.
func (l *Lab) KillKubernetes(part string) error {
	pid := l.daemonPID("kubernetes-" + part)
	if pid == 0 {
		return fmt.Errorf("the cluster's %s does not run", part)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ending process %d: %w", pid, err)
	}
	if !waitFor(context.Background(), 10*time.Second, func() bool { return !alive(pid) }) {
		return fmt.Errorf("process %d survived SIGKILL", pid)
	}
	return nil
}

// ResumeKubernetes starts the parts of the cluster that do not run, and waits until its node is ready.
func (l *Lab) ResumeKubernetes(ctx context.Context) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
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
}

// StaticPods is the folder whose manifests the kubelet runs without being asked by the API server.
func (l *Lab) StaticPods() string { return l.cluster().Manifests }

// Ctr runs the node's ctr in Kubernetes's namespace of containerd and returns what it printed.
func (l *Lab) Ctr(ctx context.Context, args ...string) (string, error) {
	return l.cluster().ctr(ctx, args...)
}
