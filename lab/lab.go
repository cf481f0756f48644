package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The runtimes that the lab knows. Docker uses the lab's containerd, as on an ordinary Docker host; Podman and
// runc have no daemon.
const (
	Docker     = "docker"
	Containerd = "containerd"
	Podman     = "podman"
	Runc       = "runc"
)

// DefaultBase is where the lab keeps its state unless SHERD_LAB names another directory.
const DefaultBase = "/var/lib/sherd-lab"

// containerdNamespace holds the containers that the lab starts with containerd itself; Docker's are in "moby".
const containerdNamespace = "sherd-lab"

// Lab is one set of runtimes. Several processes may use the same one: whatever changes it holds a file lock.
type Lab struct {
	base   string // state that survives a reboot: images, packages, the runtimes' data
	run    string // sockets, pid files
	tag    string // distinguishes labs that exist side by side in names of bridges and network namespaces
	bridge bridge
	say    io.Writer

	mu    sync.Mutex
	ready map[string]bool // runtimes that this process has seen answer
}

// Open returns the lab of this machine without starting anything. Progress goes to say, which may be nil.
func Open(say io.Writer) *Lab {
	if say == nil {
		say = io.Discard
	}
	l := &Lab{base: DefaultBase, run: "/run/sherd-lab", say: say, ready: map[string]bool{}}
	if dir := os.Getenv("SHERD_LAB"); dir != "" && filepath.Clean(dir) != DefaultBase {
		// A socket's path may be 108 bytes long: the run directory is not put below an arbitrary base.
		sum := sha256.Sum256([]byte(filepath.Clean(dir)))
		l.tag = hex.EncodeToString(sum[:2])
		l.base, l.run = filepath.Clean(dir), "/run/sherd-lab-"+l.tag
	}
	l.bridge = newBridge(l.tag)
	return l
}

// Base is the directory of the lab's lasting state.
func (l *Lab) Base() string { return l.base }

// DockerHost is the lab's Docker socket as DOCKER_HOST wants it.
func (l *Lab) DockerHost() string { return "unix://" + filepath.Join(l.run, "docker.sock") }

// DockerHostVFS is the socket of a second dockerd, whose storage driver is vfs. It is started by the first
// container that asks for it.
func (l *Lab) DockerHostVFS() string { return "unix://" + filepath.Join(l.run, "docker-vfs.sock") }

// DockerRoot is Docker's data root.
func (l *Lab) DockerRoot() string { return filepath.Join(l.base, "docker") }

// ContainerdAddress is the path of containerd's socket, as CONTAINERD_ADDRESS wants it.
func (l *Lab) ContainerdAddress() string { return filepath.Join(l.run, "containerd.sock") }

// ContainerdNamespace is the namespace of containers that the lab runs with containerd.
func (l *Lab) ContainerdNamespace() string { return containerdNamespace }

// ContainerdRoot is containerd's root directory (snapshots, content, metadata).
func (l *Lab) ContainerdRoot() string { return filepath.Join(l.base, "containerd") }

// ContainerdState is containerd's state directory (bundles).
func (l *Lab) ContainerdState() string { return filepath.Join(l.run, "containerd") }

// PodmanRoot is Podman's storage root for overlay.
func (l *Lab) PodmanRoot() string { return filepath.Join(l.base, "podman") }

// PodmanRunRoot is Podman's run root, where conmon's pid files are, below overlay-containers/ID/userdata.
func (l *Lab) PodmanRunRoot() string { return filepath.Join(l.run, "podman") }

// RuncRoot is the state directory of containers that the lab runs with runc alone.
func (l *Lab) RuncRoot() string { return filepath.Join(l.run, "runc") }

// Env is what a program needs in its environment to find the lab's runtimes.
func (l *Lab) Env() []string {
	env := []string{
		"SHERD_LAB=" + l.base,
		"DOCKER_HOST=" + l.DockerHost(),
		"CONTAINERD_ADDRESS=" + l.ContainerdAddress(),
		"CONTAINERD_NAMESPACE=" + l.ContainerdNamespace(),
		"SHERD_PODMAN_ROOT=" + l.PodmanRoot(),
		"SHERD_PODMAN_RUNROOT=" + l.PodmanRunRoot(),
		"SHERD_RUNC_ROOT=" + l.RuncRoot(),
	}
	if exists(l.Kubeconfig()) {
		env = append(env, "KUBECONFIG="+l.Kubeconfig())
	}
	return env
}

// Up starts the named runtimes (all but Kubernetes if none is named) and puts the images into them that are asked for later
// by Run. A runtime that answers already is left alone.
func (l *Lab) Up(ctx context.Context, runtimes ...string) error {
	if os.Getuid() != 0 {
		return errors.New("the lab starts container runtimes and needs root")
	}
	if len(runtimes) == 0 {
		runtimes = []string{Docker, Containerd, Podman, Runc}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.ContainsFunc(runtimes, func(r string) bool { return !l.ready[r] }) {
		return nil
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	for _, r := range runtimes {
		if l.ready[r] {
			continue
		}
		if err := l.start(ctx, r); err != nil {
			return fmt.Errorf("bringing up %s: %w", r, err)
		}
		l.ready[r] = true
	}
	return nil
}

func (l *Lab) start(ctx context.Context, runtime string) error {
	if err := l.installed(runtime); err != nil {
		return err
	}
	if err := l.noteFootprints(); err != nil {
		return err
	}
	if err := l.bridge.up(); err != nil {
		fmt.Fprintf(l.say, "lab: no bridge (%v): containers share the host's network\n", err)
	}
	switch runtime {
	case Containerd:
		return l.startContainerd(ctx)
	case Docker:
		if err := l.startContainerd(ctx); err != nil {
			return err
		}
		return l.startDocker(ctx, "")
	case Podman:
		return l.preparePodman(ctx)
	case Runc:
		return os.MkdirAll(l.RuncRoot(), 0o711)
	case Kubernetes:
		return l.startKubernetes(ctx)
	}
	return fmt.Errorf("unknown runtime %q: known are docker, containerd, podman, runc and kubernetes", runtime)
}

// lock takes the lab's file lock, which keeps processes from starting or ending the same daemons at once.
func (l *Lab) lock(ctx context.Context) (func(), error) { return l.lockFile(ctx, "lock") }

func (l *Lab) lockFile(ctx context.Context, name string) (func(), error) {
	told := false
	for {
		for _, dir := range []string{l.base, l.run, filepath.Join(l.base, "log")} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, err
			}
		}
		path := filepath.Join(l.run, name)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			continue // the lab went down in between
		}
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			// Down deletes the lock's file: a lock on the deleted one excludes nobody.
			if same(f, path) {
				return func() { f.Close() }, nil
			}
			f.Close()
			continue
		}
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if !told {
			fmt.Fprintln(l.say, "lab: waiting for another process that uses the lab")
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the lock %s: %w", path, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func same(f *os.File, path string) bool {
	a, aerr := f.Stat()
	b, berr := os.Stat(path)
	return aerr == nil && berr == nil && os.SameFile(a, b)
}

// tail is the end of a log, for an error message.
func tail(path string, lines int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return lastLines(string(b), lines)
}

func lastLines(s string, n int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}
