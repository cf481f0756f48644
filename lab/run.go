package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// RunSpec says which container to start. The zero value of a field is the image's or runtime's default.
type RunSpec struct {
	Runtime  string // docker, containerd, podman, runc or kubernetes
	Image    string // one of Images
	Name     string // made unique by a suffix unless Exact
	Exact    bool
	Args     []string // in place of the image's entrypoint's arguments
	Env      []string
	ReadOnly bool
	Tmpfs    []string // destinations
	Volumes  []string // SOURCE:DESTINATION[:ro]; a source without a slash is a named volume (Docker, Podman)
	User     string   // "0:0"
	Labels   map[string]string
	CapAdd   []string // "SYS_PTRACE"
	RotateAt string   // Docker: the size at which the runtime begins another file for the log, "128k"
	// HostNetwork shares the host's network namespace instead of having an address on the lab's bridge.
	HostNetwork bool
	// PIDOf and NetworkOf are containers whose namespaces it shares.
	PIDOf, NetworkOf *Container
	// Port is where its server listens in the network that it shares, 0 the image's own. Mute is of one that serves nothing.
	Port        int
	Mute        bool
	Pod         PodSpec
	Snapshotter string // containerd: "overlayfs" (default) or "native"
	Storage     string // docker, podman: "" (overlay) or "vfs"
}

// Container is one that runs.
type Container struct {
	Name    string // containerd and runc: also the ID
	ID      string
	Runtime string
	Image   string
	Ref     string // image reference in the runtime
	Digest  string // manifest digest
	PID     int    // of its first process, on the host
	Addr    string // IP:PORT of its server
	URL     string // http://Addr
	Target  string // docker://NAME and so on
	LogPath string // where the runtime keeps its output
	Spec    RunSpec

	lab *Lab
	net netns
}

// Start runs a container and waits until its server answers. The caller removes it.
func (l *Lab) Start(ctx context.Context, s RunSpec) (*Container, error) {
	if err := l.Up(ctx, s.Runtime); err != nil {
		return nil, err
	}
	img, err := l.provide(ctx, s)
	if err != nil {
		return nil, err
	}
	if s.Name == "" {
		s.Name = s.Image
	}
	if !s.Exact {
		suffix := make([]byte, 3)
		if _, err := rand.Read(suffix); err != nil {
			return nil, err
		}
		s.Name += "-" + hex.EncodeToString(suffix)
	}
	c := &Container{Name: s.Name, ID: s.Name, Runtime: s.Runtime, Image: s.Image, Ref: img.Ref, Digest: img.Digest, Spec: s, lab: l}
	if !l.bridge.works() && s.Runtime != Kubernetes {
		c.Spec.HostNetwork = true
	}
	if err := c.address(ctx); err != nil {
		return nil, err
	}
	driver, err := c.driver()
	if err == nil {
		err = driver.run(ctx, c, img)
	}
	if err == nil {
		err = c.answer(ctx)
	}
	if err != nil {
		err = fmt.Errorf("running %s in %s: %w", s.Image, s.Runtime, err)
		if logs, lerr := c.Logs(context.WithoutCancel(ctx)); lerr == nil && logs != "" {
			err = fmt.Errorf("%w; its output:\n%s", err, logs)
		}
		return nil, errors.Join(err, c.Remove())
	}
	return c, nil
}

// address chooses where the container's server listens.
func (c *Container) address(ctx context.Context) error {
	if other := c.Spec.NetworkOf; other != nil {
		host, _, err := net.SplitHostPort(other.Addr)
		if err != nil {
			return err
		}
		c.Spec.HostNetwork = other.Spec.HostNetwork
		c.Addr = net.JoinHostPort(host, strconv.Itoa(c.Spec.Port))
		c.Spec.Env = append([]string{"LISTEN=" + c.Addr}, c.Spec.Env...)
		return nil
	}
	if c.Spec.HostNetwork {
		// The port is free now; that another process takes it first is possible and fails loudly.
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		c.Addr = l.Addr().String()
		c.Spec.Env = append([]string{"LISTEN=" + c.Addr}, c.Spec.Env...)
		return nil
	}
	if c.Runtime == Docker || c.Runtime == Kubernetes {
		return nil // they have addresses of their own to give
	}
	unlock, err := c.lab.lockFile(ctx, "net.lock")
	if err != nil {
		return err
	}
	defer unlock()
	if c.net, err = c.lab.bridge.attach(ctx, c.Name); err != nil {
		return err
	}
	c.Addr = c.net.addr + ":8080"
	return nil
}

// answer waits until the container's server says that it is well, then learns its pid.
func (c *Container) answer(ctx context.Context) error {
	c.URL = "http://" + c.Addr
	if c.Spec.Mute {
		return nil
	}
	client := http.Client{Timeout: 2 * time.Second}
	var last error
	ok := waitFor(ctx, 45*time.Second, func() bool {
		var resp *http.Response
		if resp, last = client.Get(c.URL + "/healthz"); last != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if !ok {
		return fmt.Errorf("%s/healthz does not answer: %w", c.URL, orTimeout(ctx, last))
	}
	return nil
}

func orTimeout(ctx context.Context, err error) error {
	return errors.Join(err, ctx.Err())
}

// Host is the host's address as the container sees it: where a listener of the test may be reached.
func (c *Container) Host() string {
	if c.Runtime == Kubernetes {
		return c.lab.bridge.host() // the node's address is the API server's, which each pod is told of
	}
	if c.Spec.HostNetwork {
		return "127.0.0.1"
	}
	return c.lab.bridge.host()
}

// clients are the addresses from which the host's requests come.
func (c *Container) clients() []string {
	if c.Runtime != Kubernetes {
		return []string{c.Host()}
	}
	// The pods' bridge has the first address of their network.
	return []string{c.Host(), strings.TrimSuffix(c.lab.cluster().Pods, "0/24") + "1"}
}

// Stop ends the container with SIGTERM and leaves it in its runtime as exited, where the runtime keeps such.
func (c *Container) Stop() error { return c.do(driver.stop) }

// Kill ends its processes at once.
func (c *Container) Kill() error { return c.do(driver.kill) }

// Restart ends the container and has its runtime start the same one again: its files stay, its memory does not.
func (c *Container) Restart(ctx context.Context) error {
	if c.Runtime != Docker {
		return fmt.Errorf("containers of %s are not started again here", c.Runtime)
	}
	if err := c.Stop(); err != nil {
		return err
	}
	d := dockerDriver{c.lab}
	if err := d.simple(ctx, c, "start", c.Name); err != nil {
		return err
	}
	if err := d.learn(ctx, c); err != nil {
		return err
	}
	return c.answer(ctx)
}

// Pause freezes it.
func (c *Container) Pause() error { return c.do(driver.pause) }

// Unpause thaws it.
func (c *Container) Unpause() error { return c.do(driver.unpause) }

// Remove ends it and deletes what the runtime holds of it. One that is gone already is no error.
func (c *Container) Remove() error {
	return errors.Join(c.do(driver.remove), c.net.remove())
}

// Logs is what the container wrote to its standard output and error, as the runtime tells it.
func (c *Container) Logs(ctx context.Context) (string, error) {
	d, err := c.driver()
	if err != nil {
		return "", err
	}
	return d.logs(ctx, c)
}

func (c *Container) do(f func(driver, context.Context, *Container) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	d, err := c.driver()
	if err != nil {
		return err
	}
	return f(d, ctx, c)
}

// patient waits for answers as long as a busy machine may take, and not for ever.
var patient = http.Client{Timeout: 30 * time.Second}

// Get asks the container's server for a path and returns status and body.
func (c *Container) Get(path string) (int, string, error) {
	resp, err := patient.Get(c.URL + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(b), err
}

// Post sends body to a path of the container's server and returns status and body.
func (c *Container) Post(path string, body io.Reader) (int, string, error) {
	resp, err := patient.Post(c.URL+path, "application/octet-stream", body)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(b), err
}

func atoi(s string) int {
	n, _ := strconv.Atoi(strings.TrimSpace(s))
	return n
}
