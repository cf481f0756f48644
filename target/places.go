package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Places says where runtimes are looked for. The zero value means the usual places and the usual variables.
type Places struct {
	// DockerHost is Docker's socket, as DOCKER_HOST has it: "unix:///run/docker.sock", or a path.
	DockerHost string
	// ContainerdAddress is the path of containerd's socket, as CONTAINERD_ADDRESS has it.
	ContainerdAddress string
	// ContainerdNamespace limits the search to one namespace of containerd.
	ContainerdNamespace string
	// PodmanHost is the socket of Podman's service, as CONTAINER_HOST has it.
	PodmanHost string
	// PodmanRoot and PodmanRunRoot are Podman's storage and state directories, as --root and --runroot have them.
	PodmanRoot, PodmanRunRoot string
	// HostRoot is where the machine's root is mounted, "" on the machine itself, "/host" in a collector's pod. Paths
	// in a Container never contain it.
	HostRoot string
}

// Host maps a path on the machine's root to where it is seen from here.
func (p Places) Host(path string) string {
	if p.HostRoot == "" {
		return path
	}
	return filepath.Join(p.HostRoot, path)
}

// Proc is where the machine's /proc is seen from here. A pod that shares the host's pid namespace sees it in its own
// /proc even where the host's root was mounted without the file systems below it.
func (p Places) Proc() string {
	if p.HostRoot != "" {
		if _, err := os.Stat(p.Host("/proc/self/stat")); err == nil {
			return p.Host("/proc")
		}
	}
	return "/proc"
}

// maxDocument bounds each of a runtime's documents: the largest known, inspect of a container with thousands of
// mounts, stays far below.
const maxDocument = 16 << 20

// ErrNotRegular says that a runtime's file is something else: it was not opened.
var ErrNotRegular = errors.New("not a regular file")

// open resolves path below the host's root, where symbolic links of the host stay inside it.
func (p Places) open(path string, flags int) (int, error) {
	root := p.HostRoot
	if root == "" {
		root = "/"
	}
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir) //nolint:errcheck // nothing was written
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	rel := strings.TrimLeft(path, "/")
	if rel == "" {
		rel = "."
	}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(dir, rel, &how)
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) || try == 16 {
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// ReadFile reads a runtime's file of at most 16 MiB on the machine's root, without changing its access time. Only
// regular files are opened.
func (p Places) ReadFile(path string) ([]byte, error) {
	held, err := p.open(path, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer unix.Close(held) //nolint:errcheck // nothing was written
	var st unix.Stat_t
	if err := unix.Fstat(held, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", held), os.O_RDONLY|unix.O_NOATIME|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.Unwrap(err)}
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.Unwrap(err)}
	}
	if len(b) > maxDocument {
		return nil, fmt.Errorf("%s is larger than %d MiB", path, maxDocument>>20)
	}
	return b, nil
}

// ReadDir lists the names in a runtime's directory, at most 65,536, sorted.
func (p Places) ReadDir(path string) ([]string, error) {
	fd, err := p.open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) { // somebody else's: O_NOATIME is for owners
		fd, err = p.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	names, err := f.Readdirnames(1 << 16)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	slices.Sort(names)
	return names, nil
}

// Real resolves the symbolic links in path as the machine itself would, and gives a path on its root. Path must exist.
func (p Places) Real(path string) (string, error) {
	fd, err := p.open(path, unix.O_PATH)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", err
	}
	if p.HostRoot == "" {
		return real, nil
	}
	root, err := filepath.EvalSymlinks(p.HostRoot)
	if err != nil {
		return "", err
	}
	if rel, ok := strings.CutPrefix(real, strings.TrimRight(root, "/")+"/"); ok {
		return "/" + rel, nil
	}
	return "", fmt.Errorf("%s lies outside of %s", path, p.HostRoot)
}

// Exists reports whether path exists on the machine's root.
func (p Places) Exists(path string) bool {
	fd, err := p.open(path, unix.O_PATH)
	if err != nil {
		return false
	}
	unix.Close(fd) //nolint:errcheck // nothing was written
	return true
}

// Owner is the user id that path belongs to.
func (p Places) Owner(path string) (int, error) {
	fd, err := p.open(path, unix.O_PATH)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, err
	}
	return int(st.Uid), nil
}

// Asking bounds one request to a runtime.
const Asking = 10 * time.Second

// connecting bounds the attempt to connect to one socket.
const connecting = 3 * time.Second

// SilentError says that a runtime could not be asked: what was tried, why it failed, and what to do.
type SilentError struct {
	Runtime string // as a person writes it: "Docker"
	// Absent is true when none of the places has a socket, which most likely means that the runtime is not here.
	Absent bool
	Tried  []string // "/run/docker.sock: permission denied"
	Advice string
}

func (e *SilentError) Error() string {
	s := e.Runtime + " does not answer: " + strings.Join(e.Tried, "; ")
	if e.Advice != "" {
		s += ". " + e.Advice
	}
	return s
}

// Candidate is a place where a runtime's socket may be.
type Candidate struct {
	Path string
	From string // "--docker-host", "DOCKER_HOST", or "" for a usual place
}

// FindSocket returns the first candidate that accepts a connection. Flags and variables come first in cs; when there is one, the
// usual places are not tried, since the user said which runtime is meant.
func (p Places) FindSocket(ctx context.Context, runtime string, cs []Candidate) (string, error) {
	e := &SilentError{Runtime: runtime, Absent: true}
	chosen := slices.ContainsFunc(cs, func(c Candidate) bool { return c.From != "" })
	denied := false
	var missing []string
	for _, c := range cs {
		if chosen && c.From == "" {
			continue
		}
		at, err := p.connect(ctx, c)
		if err == nil {
			return at, nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		name := c.Path
		if c.From != "" {
			name += " (from " + c.From + ")"
		}
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, name)
			continue
		}
		e.Absent = false
		denied = denied || errors.Is(err, fs.ErrPermission)
		e.Tried = append(e.Tried, name+": "+reason(err))
	}
	if len(missing) > 0 {
		s := "no socket at " + strings.Join(missing, ", ")
		if e.Absent && !chosen {
			s = "no socket in the usual places (" + strings.Join(missing, ", ") + ")"
		}
		if e.Absent || chosen {
			e.Tried = append(e.Tried, s)
		}
	}
	if denied {
		e.Advice = "Run with sudo"
	} else if chosen {
		e.Advice = "Start it or correct the address; pid://PID reaches a running container without its runtime"
	} else if !e.Absent {
		e.Advice = "Start it again; pid://PID reaches a running container without its runtime"
	}
	return "", e
}

func (p Places) connect(ctx context.Context, c Candidate) (string, error) {
	paths := []string{c.Path}
	if at := p.Host(c.Path); at != c.Path {
		if paths = append(paths, at); c.From == "" {
			paths = []string{at}
		}
	}
	var first error
	for _, at := range paths {
		d := net.Dialer{Timeout: connecting}
		conn, err := d.DialContext(ctx, "unix", at)
		if err == nil {
			conn.Close()
			return at, nil
		}
		if first == nil || errors.Is(first, fs.ErrNotExist) {
			first = err
		}
	}
	return "", first
}

// reason puts a failure to connect in words that tell what is wrong with the socket.
func reason(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the socket is dead, no program listens on it (connection refused)"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied"
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
		return "no connection within " + connecting.String()
	case errors.Is(err, syscall.ENOTSOCK) || errors.Is(err, syscall.EPROTOTYPE):
		return "not a stream socket"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}

// Answer puts a runtime's failure to answer a request in words. What is no time-out is returned as it is.
func Answer(runtime, socket string, err error) error {
	if err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &SilentError{Runtime: runtime,
		Tried:  []string{fmt.Sprintf("%s accepted the connection but did not answer within %v", socket, Asking)},
		Advice: "It may be stopped or overloaded; pid://PID reaches a running container without its runtime"}
}
