package lab

import (
	"context"
	"fmt"
	"net"
	"path"
	"strings"
)

// NodeAddress is where the cluster's node listens, which pods reach.
func (l *Lab) NodeAddress() string { return l.cluster().Node }

// Pod gives the named container of a pod that runs one of the lab's images, so that it can be attacked like any other.
func (l *Lab) Pod(ctx context.Context, namespace, pod, container, image string) (*Container, error) {
	const query = `{.status.podIP} {.status.containerStatuses[?(@.name=="%s")].containerID}`
	out, err := l.Kubectl(ctx, "get", "pod", "-n", namespace, pod, "-o", "jsonpath="+fmt.Sprintf(query, container))
	if err != nil {
		return nil, err
	}
	ip, id, ok := strings.Cut(strings.TrimSpace(out), " ")
	if !ok || net.ParseIP(ip) == nil {
		return nil, fmt.Errorf("the container %s of pod %s/%s does not run: %q", container, namespace, pod, out)
	}
	c := &Container{Name: pod, ID: path.Base(id), Runtime: Kubernetes, Image: image, Addr: net.JoinHostPort(ip, "8080"), lab: l,
		Target: "k8s://" + namespace + "/" + pod + "/" + container}
	c.URL = "http://" + c.Addr
	tasks, err := l.cluster().ctr(ctx, "task", "ls")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(tasks) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == c.ID {
			c.PID = atoi(f[1])
		}
	}
	if c.PID == 0 {
		return nil, fmt.Errorf("the container %s of pod %s/%s has no process: %s", container, namespace, pod, tasks)
	}
	return c, nil
}
