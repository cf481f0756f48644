package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// startContainerd brings up containerd with its overlayfs and native snapshotters and without its CRI plugin,
// which needs a pod network that the lab does not have.
func (l *Lab) startContainerd(ctx context.Context) error {
	config := filepath.Join(l.run, "containerd.toml")
	text := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = %q
`, l.ContainerdRoot(), l.ContainerdState(), l.ContainerdAddress())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	return l.daemon(ctx, Containerd, l.ContainerdAddress(), nil, "containerd", "--config", config)
}

// startDocker brings up dockerd on the lab's containerd and bridge. It is told to leave the machine's firewall
// and forwarding alone: the bridge needs neither, and nothing is left behind.
func (l *Lab) startDocker(ctx context.Context, storage string) error {
	name, driver := dockerName(storage), "overlay2"
	if storage != "" {
		driver = storage
	}
	// An empty configuration of its own: the machine's /etc/docker/daemon.json is not the lab's.
	config := filepath.Join(l.run, "docker.json")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		return err
	}
	// Two daemons on one bridge must not give out the same addresses.
	half := "128/26"
	if storage != "" {
		half = "192/26"
	}
	argv := []string{"dockerd",
		"--config-file", config,
		"--data-root", filepath.Join(l.base, name),
		"--exec-root", filepath.Join(l.run, name),
		"--host", "unix://" + filepath.Join(l.run, name+".sock"),
		"--pidfile", filepath.Join(l.run, name+"-own.pid"),
		"--containerd", l.ContainerdAddress(),
		"--exec-opt", "native.cgroupdriver=cgroupfs",
		"--storage-driver", driver,
		"--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false",
	}
	if l.bridge.works() {
		argv = append(argv, "--bridge", l.bridge.name, "--fixed-cidr", l.bridge.prefix+half)
	} else {
		argv = append(argv, "--bridge", "none")
	}
	return l.daemon(ctx, name, filepath.Join(l.run, name+".sock"), nil, argv...)
}

// dockerName is what the daemon for a storage driver ("" is overlay2) and its directories are called.
func dockerName(storage string) string {
	if storage == "" {
		return Docker
	}
	return Docker + "-" + storage
}

// preparePodman writes the configuration that Podman's calls use; there is no daemon to start.
func (l *Lab) preparePodman(ctx context.Context) error {
	// crun insists on raising limits, which needs CAP_SYS_RESOURCE, and refuses hybrid cgroups.
	text := fmt.Sprintf(`[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = %q
`, filepath.Join(l.run, "libpod"))
	if err := os.WriteFile(l.podmanConfig(), []byte(text), 0o600); err != nil {
		return err
	}
	policy := filepath.Join(l.run, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o600); err != nil {
		return err
	}
	_, err := l.podman(ctx, "", "ps", "--all", "--quiet")
	return err
}

func (l *Lab) podmanConfig() string { return filepath.Join(l.run, "containers.conf") }

// podmanArgs is how Podman is called for the storage driver ("" is overlay).
func (l *Lab) podmanArgs(storage string, args ...string) []string {
	root, runRoot := l.podmanDirs(storage)
	driver := storage
	if driver == "" {
		driver = "overlay"
	}
	return append([]string{"env", "CONTAINERS_CONF=" + l.podmanConfig(), "podman", "--root", root, "--runroot", runRoot,
		"--storage-driver", driver, "--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime", "runc"}, args...)
}

// podmanDirs: each storage driver has roots of its own, since Podman's database ties a root to one driver.
func (l *Lab) podmanDirs(storage string) (root, runRoot string) {
	if storage == "" || storage == "overlay" {
		return l.PodmanRoot(), l.PodmanRunRoot()
	}
	return l.PodmanRoot() + "-" + storage, l.PodmanRunRoot() + "-" + storage
}

func (l *Lab) podman(ctx context.Context, storage string, args ...string) (string, error) {
	return command(ctx, l.podmanArgs(storage, args...)...)
}

func (l *Lab) docker(ctx context.Context, storage string, args ...string) (string, error) {
	socket := "unix://" + filepath.Join(l.run, dockerName(storage)+".sock")
	return command(ctx, append([]string{"docker", "--host", socket}, args...)...)
}

func (l *Lab) ctr(ctx context.Context, args ...string) (string, error) {
	return command(ctx, append([]string{"ctr", "--address", l.ContainerdAddress(), "--namespace", containerdNamespace}, args...)...)
}

func (l *Lab) runc(ctx context.Context, args ...string) (string, error) {
	return command(ctx, append([]string{"runc", "--root", l.RuncRoot()}, args...)...)
}
