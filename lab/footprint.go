package lab

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// footprints are paths outside the lab's own directories that the runtimes make, whatever they are told, from the
// innermost out. Files among them hold nothing of worth: dockerd's unused key, locks and caches.
var footprints = []string{
	"/etc/docker/key.json", "/etc/docker",
	"/etc/cni/net.d/cni.lock", "/etc/cni/net.d", "/etc/cni",
	"/run/containerd/runc/" + containerdNamespace, "/run/containerd/runc/moby", "/run/containerd/runc", "/run/containerd/s",
	"/run/containerd/io.containerd.sandbox.controller.v1.shim", "/run/containerd/fifo", "/run/containerd",
	"/var/log/containers", "/var/log/pods", "/var/lib/cni/results", "/var/lib/cni/networks", "/var/lib/cni", "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint", "/var/lib/kubelet/device-plugins/kubelet.sock",
	"/var/lib/kubelet/device-plugins/DEPRECATION", "/var/lib/kubelet/device-plugins", "/var/lib/kubelet",
	"/opt/cni/bin", "/opt/cni", "/opt/nri", "/run/netns",
	"/run/docker/plugins", "/run/docker", "/run/runc", "/run/netns",
	"/var/lib/containers/cache/blob-info-cache-v1.boltdb", "/var/lib/containers/cache", "/var/lib/containers",
}

func (l *Lab) footprintFile() string { return filepath.Join(l.run, "footprints.json") }

// noteFootprints remembers, before the first start, which of the footprints are not there.
func (l *Lab) noteFootprints() error {
	if exists(l.footprintFile()) {
		return nil
	}
	var absent []string
	for _, p := range footprints {
		if !exists(p) {
			absent = append(absent, p)
		}
	}
	b, err := json.Marshal(absent)
	if err != nil {
		return err
	}
	return os.WriteFile(l.footprintFile(), b, 0o600)
}

// removeFootprints deletes those that the lab caused: files, and directories that are empty.
func (l *Lab) removeFootprints() error {
	b, err := os.ReadFile(l.footprintFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var absent []string
	if err := json.Unmarshal(b, &absent); err != nil {
		return err
	}
	for _, p := range absent {
		if !slices.Contains(footprints, p) {
			continue
		}
		if entries, err := os.ReadDir(p); p == "/run/netns" && err == nil && len(entries) == 0 {
			// `ip netns` mounts the directory onto itself.
			_ = unix.Unmount(p, unix.MNT_DETACH)
		}
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return nil
}
