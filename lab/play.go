package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Played is a scenario that has happened. Its container stands as the variant leaves it; Close removes all.
type Played struct {
	Container *Container
	Truth     ScenarioTruth // with the values in place
	// Began and Ended enclose what the intruder did, UTC; both zero for a control.
	Began, Ended time.Time

	c2      *C2
	volume  string
	release func() // of the port that only one may have
}

// Close removes the container, the listener and the volume.
func (p *Played) Close() error {
	var errs error
	if p.Container != nil {
		errs = p.Container.Remove()
	}
	if p.c2 != nil {
		errs = errors.Join(errs, p.c2.Close())
	}
	if p.volume != "" {
		errs = errors.Join(errs, os.RemoveAll(p.volume))
	}
	if p.release != nil {
		p.release()
		p.release = nil
	}
	return errs
}

// Play lets a scenario happen. On an error nothing of it is left.
func (l *Lab) Play(ctx context.Context, s *Scenario, variant string) (*Played, error) {
	p := &Played{}
	if err := l.play(ctx, s, variant, p); err != nil {
		return nil, errors.Join(fmt.Errorf("scenario %s (%s): %w", s.Name, variant, err), p.Close())
	}
	return p, nil
}

func (l *Lab) play(ctx context.Context, s *Scenario, variant string, p *Played) error {
	spec, err := l.victim(s, variant, p)
	if err != nil {
		return err
	}
	if port := s.Victim.Listen; port != 0 {
		p.release = only(port)
		if p.c2, err = ListenC2(net.JoinHostPort(l.hostFor(&spec), strconv.Itoa(port))); err != nil {
			return err
		}
	}
	began := time.Now().UTC()
	if p.Container, err = l.Start(ctx, spec); err != nil {
		return err
	}
	if p.c2 == nil {
		if p.c2, err = ListenC2(p.Container.Host()); err != nil {
			return err
		}
	} else {
		p.Began = began // what waits in the image begins with the container
	}
	b := &intrusion{lab: l, c: p.Container, c2: p.c2, volume: p.volume, truth: &Truth{}}
	for i := range s.Steps {
		began := time.Now().UTC()
		bad, err := b.step(ctx, s, &s.Steps[i])
		if err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
		if bad {
			if p.Began.IsZero() {
				p.Began = began
			}
			p.Ended = time.Now().UTC()
		}
	}
	if err := p.Container.later(ctx, variant); err != nil {
		return err
	}
	p.Truth = b.fill(s.Truth, variant)
	return nil
}

// victim says which container to start, and makes the scenario's volume.
func (l *Lab) victim(s *Scenario, variant string, p *Played) (RunSpec, error) {
	v := &s.Victim
	spec := RunSpec{Runtime: v.Runtime, Image: v.Image, Name: "web", User: v.User, Env: slices.Concat([]string{"BUSY=1"}, v.Env), ReadOnly: v.ReadOnly,
		Tmpfs: v.Tmpfs, CapAdd: v.CapAdd, Args: v.Args, RotateAt: v.RotateAt}
	if variant == "buried" && spec.RotateAt == "" {
		spec.RotateAt = "64k"
	}
	for _, vol := range v.Volumes {
		if strings.Contains(vol, "VOLUME") && p.volume == "" {
			dir, err := os.MkdirTemp("", "volume")
			if err != nil {
				return spec, err
			}
			p.volume = dir
			if err := os.Chmod(dir, 0o777); err != nil {
				return spec, err
			}
			if seed := filepath.Join(s.Dir, "volume"); exists(seed) {
				if err := os.CopyFS(dir, os.DirFS(seed)); err != nil {
					return spec, err
				}
			}
		}
		spec.Volumes = append(spec.Volumes, strings.NewReplacer("VOLUME", p.volume, "RUNTIME_SOCKET", strings.TrimPrefix(l.DockerHost(), "unix://")).Replace(vol))
	}
	return spec, nil
}

// hostFor is the host's address as a container that is yet to be started will see it.
func (l *Lab) hostFor(s *RunSpec) string {
	if s.HostNetwork || !l.bridge.works() {
		return "127.0.0.1"
	}
	return l.bridge.host()
}

// ports that only one container at a time may have.
var ports struct {
	sync.Mutex
	taken map[int]*sync.Mutex
}

// only waits for a port to be nobody's and returns what gives it back.
func only(port int) (release func()) {
	ports.Lock()
	if ports.taken == nil {
		ports.taken = map[int]*sync.Mutex{}
	}
	m := ports.taken[port]
	if m == nil {
		m = &sync.Mutex{}
		ports.taken[port] = m
	}
	ports.Unlock()
	m.Lock()
	return m.Unlock
}

// later lets happen what a variant says comes between the last step and the capture.
func (c *Container) later(ctx context.Context, variant string) error {
	switch variant {
	case "running":
		return nil
	case "noise":
		return c.load(ctx, 2*time.Second)
	case "buried":
		// As fast as it goes; a machine that is busy otherwise gets no further than time allows.
		hurry, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		_, err := c.busy(hurry, 8, 0, 4000)
		return err
	case "exited":
		return c.Stop()
	case "restarted":
		if err := c.Restart(ctx); err != nil {
			return err
		}
		return c.load(ctx, time.Second)
	}
	return fmt.Errorf("unknown variant %q", variant)
}

// load is Busy for a while.
func (c *Container) load(ctx context.Context, d time.Duration) error {
	busy, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	_, err := c.Busy(busy)
	return err
}

// fill puts what happened into the truth.
func (b *intrusion) fill(t ScenarioTruth, variant string) ScenarioTruth {
	host, port, _ := net.SplitHostPort(b.c2.Addr)
	exe := strings.TrimSuffix(b.truth.Exe, " (deleted)")
	if name, ok := strings.CutPrefix(exe, "/memfd:"); ok {
		exe = "memfd:" + name
	}
	r := strings.NewReplacer("${C2}", b.c2.Addr, "${C2_HOST}", host, "${C2_PORT}", port, "${SHA256}", b.truth.SHA256, "${EXE}", exe, "${HOST}", b.c.Host())
	facts := func(in []Fact) []Fact {
		out := slices.Clone(in)
		for i := range out {
			out[i].Value = r.Replace(out[i].Value)
		}
		return out
	}
	t.Scope, t.May, t.Never = facts(t.Scope), facts(t.May), facts(t.Never)
	if variant == "exited" || variant == "restarted" {
		// What its memory held can't be known any more: that nothing is found is not that nothing was.
		if t.Entry == nil || slices.Contains(t.Verdict, "clean") {
			t.Verdict = append(slices.Clone(t.Verdict), "inconclusive")
		} else if !slices.Contains(t.Verdict, "suspicious") {
			t.Verdict = append(slices.Clone(t.Verdict), "suspicious")
		}
		t.May, t.MayImpact = append(t.May, t.Scope...), slices.Concat(t.MayImpact, t.ImpactLive)
		t.Scope = slices.DeleteFunc(slices.Clone(t.Scope), func(f Fact) bool { return f.Live })
	} else {
		t.Impact = slices.Concat(t.Impact, t.ImpactLive)
	}
	// What is true of every one: the container itself, and who sent the requests.
	t.May = append(t.May, Fact{Type: "container", Value: b.c.ID + "*"}, Fact{Type: "address", Value: b.c.Host()}, Fact{Type: "address", Value: b.c.Host() + ":*"})
	return t
}
