// Package docker finds the containers of a Docker daemon through its API, from version 1.24 on
// (https://docs.docker.com/reference/api/engine/). What the API leaves out is read from Docker's files, where these can
// be reached: layers of the vfs driver, the image's configuration as it lies in the store, the OCI configuration.
package docker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/procfs"
)

// Runtime is one Docker daemon.
type Runtime struct {
	places target.Places
	api    *client.Client
	socket string
	kernel *procfs.Runtime // nil when /proc can't be read
	// remote is true for a daemon reached by TCP: its paths and pids are another machine's.
	remote bool

	mu     sync.Mutex
	root   string            // Docker's data root, "" until asked
	images map[string]*image // by id
}

var _ target.Runtime = (*Runtime)(nil)

// New finds Docker's socket and checks that something listens there. The error is a *target.SilentError if nothing does.
func New(p target.Places) (*Runtime, error) {
	r := &Runtime{places: p, images: map[string]*image{}}
	opts := []client.Opt{client.WithTimeout(target.Asking), client.WithUserAgent("sherd")}
	host, from := p.DockerHost, "--docker-host"
	if host == "" {
		host, from = os.Getenv("DOCKER_HOST"), "DOCKER_HOST"
	}
	scheme, rest, ok := strings.Cut(host, "://")
	switch {
	case host == "" || strings.HasPrefix(host, "/"):
		scheme, rest = "unix", host
	case !ok:
		return nil, fmt.Errorf("%s: %q is no address; it looks like unix:///run/docker.sock", from, host)
	}
	switch scheme {
	case "unix":
		ctx, cancel := context.WithTimeout(context.Background(), target.Asking)
		defer cancel()
		at, err := p.FindSocket(ctx, "Docker", candidates(rest, from))
		if err != nil {
			return nil, err
		}
		r.socket = at
		opts = append(opts, client.WithHost("unix://"+at))
	case "tcp", "http", "https":
		r.socket, r.remote = host, true
		opts = append(opts, client.WithTLSClientConfigFromEnv(), client.WithHost(host))
	default:
		return nil, fmt.Errorf("%s: Docker can't be reached by %s://; run sherd-collector on that machine, or name a unix:// socket", from, scheme)
	}
	api, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("Docker at %s: %w", r.socket, err) //nolint:revive,staticcheck // Docker is a name
	}
	r.api = api
	if k, err := procfs.New(p); err == nil && !r.remote {
		r.kernel = k
	}
	return r, nil
}

func candidates(chosen, from string) []target.Candidate {
	if chosen != "" {
		return []target.Candidate{{Path: chosen, From: from}}
	}
	cs := []target.Candidate{{Path: "/var/run/docker.sock"}, {Path: "/run/docker.sock"}}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		cs = append(cs, target.Candidate{Path: dir + "/docker.sock"})
	}
	return append(cs, target.Candidate{Path: fmt.Sprintf("/run/user/%d/docker.sock", os.Getuid())})
}

// Scheme is "docker".
func (r *Runtime) Scheme() string { return "docker" }

// Close ends the connection.
func (r *Runtime) Close() error { return r.api.Close() }

// atOnce bounds the requests under way.
const atOnce = 8

// List inspects every container.
func (r *Runtime) List(ctx context.Context) ([]*target.Container, error) {
	found, err := r.summaries(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]*target.Container, len(found))
	gate := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, s := range found {
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			out[i] = r.listed(ctx, s)
		})
	}
	wg.Wait()
	return slices.DeleteFunc(out, func(c *target.Container) bool { return c == nil }), ctx.Err()
}

// listed is one container of the list; nil when it is gone meanwhile.
func (r *Runtime) listed(ctx context.Context, s container.Summary) *target.Container {
	in, err := r.inspect(ctx, s.ID)
	if err == nil {
		return r.fill(ctx, in)
	}
	if isNotFound(err) {
		return nil
	}
	c := &target.Container{URL: "docker://" + name(s), Runtime: "docker", ID: s.ID, Name: name(s), State: state(s.State),
		Image: target.Image{Name: s.Image, ConfigID: s.ImageID}, Labels: s.Labels, Pod: target.PodOf(s.Labels)}
	c.Warn("Docker did not answer inspect: " + err.Error())
	return c
}

func (r *Runtime) summaries(ctx context.Context) ([]container.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, target.Asking)
	defer cancel()
	l, err := r.api.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return nil, r.failed("listing containers", err)
	}
	return l.Items, nil
}

func (r *Runtime) failed(what string, err error) error {
	if a := target.Answer("Docker", r.socket, err); a != err { //nolint:errorlint // Answer gives the same error back where it has nothing to add
		return a
	}
	return fmt.Errorf("Docker at %s: %s: %w", r.socket, what, err) //nolint:revive,staticcheck // Docker is a name
}

func name(s container.Summary) string {
	for _, n := range s.Names { // links show up as /other/alias
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") {
			return n
		}
	}
	return s.ID
}

// notFound is what the client's errors for 404 implement.
type notFound interface{ NotFound() }

func isNotFound(err error) bool {
	var nf notFound
	return errors.As(err, &nf)
}

// inspected is a container's inspect answer and its bytes.
type inspected struct {
	container.InspectResponse
	raw []byte
}

func (r *Runtime) inspect(ctx context.Context, id string) (*inspected, error) {
	ctx, cancel := context.WithTimeout(ctx, target.Asking)
	defer cancel()
	in, err := r.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return nil, err
	}
	if in.Container.State == nil || in.Container.Config == nil {
		return nil, fmt.Errorf("the answer about %s has no state or no configuration", id)
	}
	return &inspected{in.Container, bytes.Clone(in.Raw)}, nil
}

// Find takes a name, an id, or the beginning of one.
func (r *Runtime) Find(ctx context.Context, ref string) (*target.Container, error) {
	ref = strings.Trim(ref, "/")
	found, err := r.summaries(ctx)
	if err != nil {
		return nil, err
	}
	id, err := pick(found, ref)
	if err != nil {
		return nil, err
	}
	in, err := r.inspect(ctx, id)
	if err != nil {
		if isNotFound(err) {
			return nil, fmt.Errorf("%s was removed just now: %w", ref, err)
		}
		return nil, r.failed("inspecting "+ref, err)
	}
	c := r.fill(ctx, in)
	r.records(ctx, c, in)
	return c, nil
}

// pick chooses as Docker does: a full id, a name, then an unambiguous beginning of an id.
func pick(found []container.Summary, ref string) (string, error) {
	var prefix []string
	var names []string
	for _, s := range found {
		if s.ID == ref || slices.Contains(s.Names, "/"+ref) {
			return s.ID, nil
		}
		if strings.HasPrefix(s.ID, ref) && ref != "" {
			prefix = append(prefix, s.ID)
		}
		if s.State == "running" || s.State == "paused" { // what the error calls running
			names = append(names, name(s))
		}
	}
	switch len(prefix) {
	case 0:
		return "", &target.NotFoundError{Runtime: "Docker", Ref: ref, Near: target.Near(ref, names), Others: len(found)}
	case 1:
		return prefix[0], nil
	}
	for i := range prefix {
		prefix[i] = prefix[i][:min(len(prefix[i]), len(ref)+8)]
	}
	return "", fmt.Errorf("%d Docker containers have an id that begins with %q: %s; give more of it", len(prefix), ref, strings.Join(prefix[:min(len(prefix), 5)], ", "))
}

func state(s container.ContainerState) target.State {
	switch s {
	case "created":
		return target.Created
	case "running", "restarting":
		return target.Running
	case "paused":
		return target.Paused
	case "exited", "dead", "removing":
		return target.Exited
	}
	return target.Unknown
}

// dataRoot asks for Docker's data root, once.
func (r *Runtime) dataRoot(ctx context.Context) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.root == "" {
		ctx, cancel := context.WithTimeout(ctx, target.Asking)
		defer cancel()
		if info, err := r.api.Info(ctx, client.InfoOptions{}); err == nil {
			r.root = cmp.Or(info.Info.DockerRootDir, "/var/lib/docker")
		}
	}
	return r.root
}
