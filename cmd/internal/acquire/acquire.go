// Package acquire leads from a target's URL to a finished capture. It holds the explicit list of runtimes; both programs
// share it.
package acquire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/pflag"

	"github.com/sherd-forensics/sherd/collect"
	"github.com/sherd-forensics/sherd/collect/memory"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/containerd"
	"github.com/sherd-forensics/sherd/target/distroless"
	"github.com/sherd-forensics/sherd/target/docker"
	"github.com/sherd-forensics/sherd/target/neighbour"
	"github.com/sherd-forensics/sherd/target/podman"
	"github.com/sherd-forensics/sherd/target/procfs"
)

// Places says where runtimes are looked for.
type Places struct {
	target.Places
}

// Flags adds the places' flags to f.
func (p *Places) Flags(f *pflag.FlagSet) {
	f.StringVar(&p.DockerHost, "docker-host", "", "Docker's `SOCKET` (default $DOCKER_HOST, then the usual places)")
	f.StringVar(&p.ContainerdAddress, "containerd-address", "", "containerd's `SOCKET` (default $CONTAINERD_ADDRESS, then the usual places)")
	f.StringVar(&p.ContainerdNamespace, "containerd-namespace", "", "look only into this `NAMESPACE` (default $CONTAINERD_NAMESPACE, then all)")
	f.StringVar(&p.PodmanHost, "podman-host", "", "Podman's `SOCKET` (default $CONTAINER_HOST; without one its files are read)")
	f.StringVar(&p.PodmanRoot, "podman-root", "", "Podman's storage `DIR` (default the usual ones)")
	f.StringVar(&p.PodmanRunRoot, "podman-runroot", "", "Podman's state `DIR` (default the usual ones)")
	f.StringVar(&p.HostRoot, "host-root", "", "`DIR` where the machine's root is mounted (default /)")
}

// Capture are the choices of one capture.
type Capture struct {
	Memory      string
	Freeze      bool
	WithSecrets bool
	Remote      bool
	Partial     bool
	Key         string
	EncryptTo   []string
	Add         []string
	// Checkpoint is an archive of the container that the kubelet made for this capture, for a collector on its node.
	Checkpoint string
}

// Flags adds the capture's flags to f.
func (c *Capture) Flags(f *pflag.FlagSet) {
	f.StringVar(&c.Memory, "memory", "private", "memory to take: none, private (all but untouched pages of files) or full")
	f.BoolVar(&c.Freeze, "freeze", false, "freeze the container while processes and memory are read, for a consistent image; it is always thawed")
	f.BoolVar(&c.WithSecrets, "with-secrets", false, "take the contents of mounted secrets and tokens too")
	f.BoolVar(&c.Remote, "remote-volumes", false, "enter FUSE and network volumes too; their file systems may notice, and may be slow")
	f.BoolVar(&c.Partial, "partial", false, "go on without root: take what can be had")
	f.StringArrayVar(&c.Add, "add", nil, "take this file or folder of this machine too, such as logs of the node (repeatable)")
	f.StringVar(&c.Key, "key", "", "sign with the private key in `FILE` (default your own, made at first use)")
	f.StringArrayVar(&c.EncryptTo, "encrypt-to", nil, "encrypt to this age `RECIPIENT` or file of recipients (repeatable)")
}

// SigningKey is the key that packages are signed with.
func (c *Capture) SigningKey() (key *evidence.Key, err error) {
	if c.Key != "" {
		key, err = evidence.LoadKey(c.Key)
	} else {
		key, err = evidence.LoadOrCreateKey(evidence.DefaultKeyPath())
	}
	if err != nil {
		return nil, fmt.Errorf("the key that signs the package: %w", err)
	}
	return key, nil
}

// Check says what is wrong with the choices themselves, before a target is touched.
func (c *Capture) Check() error {
	if _, err := memory.ParseMode(c.Memory); err != nil {
		return fmt.Errorf("--memory: %w", err)
	}
	if _, err := evidence.ParseRecipients(c.EncryptTo); err != nil {
		return fmt.Errorf("--encrypt-to: %w", err)
	}
	for _, p := range c.Add {
		if _, err := os.Stat(p); err != nil {
			return fmt.Errorf("--add: %w", err)
		}
	}
	return nil
}

// memoryLimit leaves room below 96 MiB for what the garbage collector does not count.
const memoryLimit = 72 << 20

// Source is one container ready to be captured.
type Source struct {
	Container *target.Container
	Anomalies []target.Anomaly
	runtime   target.Runtime
	places    *Places
}

// Close ends the connection to the runtime.
func (s *Source) Close() error { return s.runtime.Close() }

// open makes the runtime that serves a scheme.
func (p *Places) open(scheme string) (target.Runtime, error) {
	switch scheme {
	case "docker":
		return docker.New(p.Places)
	case "containerd":
		return containerd.New(p.Places)
	case "podman":
		return podman.New(p.Places)
	case "pid":
		return procfs.New(p.Places)
	case neighbour.Scheme:
		return neighbour.New(), nil
	}
	return nil, fmt.Errorf("%s:// targets are not supported yet; known here are docker, containerd, podman and pid", scheme)
}

// Find looks a target up. Without privileges it refuses, unless partial says that less will do.
func (p *Places) Find(ctx context.Context, ref target.Ref, partial bool) (*Source, error) {
	rt, err := p.open(ref.Scheme)
	if err != nil {
		return nil, err
	}
	c, err := rt.Find(ctx, ref.Rest)
	if err != nil {
		return nil, errors.Join(err, rt.Close())
	}
	missing := missingCapabilities()
	if len(missing) > 0 && !partial {
		return nil, errors.Join(&PrivilegeError{Missing: missing, URL: ref.String(), Partial: true}, rt.Close())
	}
	for _, m := range missing {
		c.Warnings = append(c.Warnings, "the capture ran without "+m)
	}
	if api, ok := rt.(interface {
		Streams(*target.Container) []target.Stream
	}); ok && len(missing) > 0 {
		c.Streams = api.Streams(c)
	}
	if c.Distroless == nil {
		c.Distroless = distroless.Judge(c, p.HostRoot)
	}
	src := &Source{Container: c, runtime: rt, places: p}
	if c.PID != 0 && !c.Inside {
		scan, err := procfs.New(p.Places)
		if err == nil {
			src.Anomalies, err = target.Check(ctx, c, scan)
		}
		if err != nil {
			c.Warnings = append(c.Warnings, "the comparison with what the kernel shows: "+err.Error())
		}
	}
	return src, nil
}

// Writer begins the package for the source on out.
func (s *Source) Writer(out io.Writer, o Capture, tool string) (*evidence.Writer, error) {
	key, err := o.SigningKey()
	if err != nil {
		return nil, err
	}
	recipients, err := evidence.ParseRecipients(o.EncryptTo)
	if err != nil {
		return nil, fmt.Errorf("--encrypt-to: %w", err)
	}
	return collect.NewWriter(out, s.Container, evidence.WriterOptions{Tool: tool, Key: key, Recipients: recipients})
}

// Collect captures the source into w and seals it.
func (s *Source) Collect(ctx context.Context, w *evidence.Writer, o Capture, stage func(string)) (*collect.Result, error) {
	mode, err := memory.ParseMode(o.Memory)
	if err != nil {
		return nil, err
	}
	// A soft bound keeps the capture small beside a large target: buffers are bounded by design, and garbage by this.
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(memoryLimit))
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	return collect.Run(ctx, s.Container, w, collect.Options{
		HostRoot: s.places.HostRoot, Memory: mode, Freeze: o.Freeze, WithSecrets: o.WithSecrets, Remote: o.Remote, Added: o.Add, Checkpoint: o.Checkpoint,
		Anomalies: s.Anomalies, Stage: stage,
	})
}

// Survey lists every container that any runtime here knows or the kernel shows, what contradicts, and which
// runtimes did not answer.
func (p *Places) Survey(ctx context.Context) (*target.Survey, error) {
	scan, err := procfs.New(p.Places)
	if err != nil {
		return nil, err
	}
	var rts []target.Runtime
	var silent []error
	for _, scheme := range []string{"docker", "containerd", "podman"} {
		rt, err := p.open(scheme)
		if err != nil {
			var named *target.SilentError // says itself which runtime it is
			if !errors.As(err, &named) {
				err = fmt.Errorf("%s: %w", scheme, err)
			}
			silent = append(silent, err)
			continue
		}
		defer rt.Close()
		rts = append(rts, rt)
	}
	sv, err := target.NewSurvey(ctx, rts, scan)
	if err != nil {
		return nil, err
	}
	sv.Silent = append(silent, sv.Silent...)
	for _, c := range sv.Containers {
		if c.Distroless == nil {
			c.Distroless = distroless.Judge(c, p.HostRoot)
		}
	}
	return sv, nil
}
