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
	"time"
)

// Other is a container beside the victim.
type Other struct {
	Name   string `yaml:"name"`
	Victim `yaml:",inline"`
	// PID and Network share the victim's pid and network namespace.
	PID     bool `yaml:"pid"`
	Network bool `yaml:"network"`
	// Code is a file of the scenario that the image's interpreter is given to run; such a container serves nothing.
	Code string `yaml:"code"`
	// Port is where its server listens, 8080 unless said: what shares a network can't share a port.
	Port int `yaml:"port"`
	// Later leaves it to a step to start it, Intruder says that doing so is the intruder's deed.
	Later    bool `yaml:"later"`
	Intruder bool `yaml:"intruder"`
}

func (o *Other) bad() bool { return o != nil && o.Intruder }

// readOthers reads what is true of the other containers and puts in what need not be said of them.
func (s *Scenario) readOthers() error {
	s.OtherTruths = map[string]ScenarioTruth{}
	for i := range s.Others {
		o := &s.Others[i]
		if o.Name == "" || o.Image == "" || o.Name == "victim" {
			return fmt.Errorf("%s: another container lacks its name or image", s.Dir)
		}
		if o.Runtime == "" {
			o.Runtime = s.Victim.Runtime
		}
		path := filepath.Join(s.Dir, "truth-"+o.Name+".yaml")
		if !exists(path) {
			continue
		}
		var t ScenarioTruth
		if err := strictly(path, &t); err != nil {
			return err
		}
		s.OtherTruths[o.Name] = t
	}
	return nil
}

// Taken is a container whose evidence is taken, with what is true of it.
type Taken struct {
	Name      string // "" is the victim
	Container *Container
	Truth     ScenarioTruth // with the values in place
}

// Played is a scenario that has happened. Its containers stand as the variant leaves them; Close removes all.
type Played struct {
	Container *Container
	Truth     ScenarioTruth // of the victim, with the values in place
	// Others are the other containers that something is known to be true of.
	Others []Taken
	// Began and Ended enclose what the intruder did, UTC; both zero for a control.
	Began, Ended time.Time

	c2     *C2
	volume string
	stage  *stage
	// release gives back the port that only one may have.
	release func()
}

// Close removes the containers, the listener, the volume and what else there was.
func (p *Played) Close() error {
	var errs error
	if p.stage != nil {
		errs = p.stage.close()
	}
	if p.Container != nil && p.Container.Runtime != Kubernetes { // a pod goes with its namespace
		errs = errors.Join(errs, p.Container.Remove())
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

// stage is where a scenario plays: its containers and what surrounds them.
type stage struct {
	lab      *Lab
	scenario *Scenario
	p        *Played
	of       map[string]*intrusion // by the container's name; "victim" is the victim
	services []*metadata
	// namespace is the scenario's own in the cluster, "" if it plays elsewhere; variant is when the evidence is taken.
	namespace, variant string
}

// created names the container that an intruder may start through a runtime's socket.
func (st *stage) created() string { return st.p.Container.Name + "-created" }

// createdID is that container's, "none" if there is none.
func (st *stage) createdID() string {
	c := st.p.Container
	if c.Runtime == Docker {
		if id, err := st.lab.docker(context.Background(), c.Spec.Storage, "inspect", "--format", "{{.Id}}", st.created()); err == nil {
			return id
		}
	}
	return "none"
}

func (st *stage) named(name string) (*intrusion, error) {
	if name == "" {
		name = "victim"
	}
	if b := st.of[name]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("no container %q runs", name)
}

func (st *stage) close() error {
	var errs error
	for name, b := range st.of {
		if name != "victim" && st.namespace == "" {
			errs = errors.Join(errs, b.c.Remove())
		}
	}
	if c := st.p.Container; c != nil && c.Runtime == Docker && slices.ContainsFunc(st.scenario.Victim.Volumes, func(v string) bool { return strings.HasPrefix(v, "RUNTIME_SOCKET") }) {
		errs = errors.Join(errs, (&Container{Name: st.created(), Runtime: Docker, Spec: c.Spec, lab: st.lab}).Remove())
	}
	for _, m := range st.services {
		errs = errors.Join(errs, m.close())
	}
	return errors.Join(errs, st.closeNamespace())
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
	st := &stage{lab: l, scenario: s, p: p, of: map[string]*intrusion{}, variant: variant}
	p.stage = st
	if err := st.openNamespace(ctx); err != nil {
		return err
	}
	spec, err := st.spec(&s.Victim)
	if err != nil {
		return err
	}
	spec.Name, spec.RotateAt = "web", s.Victim.RotateAt
	if variant == "buried" && spec.RotateAt == "" {
		spec.RotateAt = "64k"
	}
	if port := s.Victim.Listen; port != 0 {
		p.release = only(port)
		if p.c2, err = ListenC2(net.JoinHostPort(l.hostFor(&spec), strconv.Itoa(port))); err != nil {
			return err
		}
		p.Began = time.Now().UTC() // what waits in the image begins with the container
	}
	if p.Container, err = l.Start(ctx, spec); err != nil {
		return err
	}
	if p.c2 == nil {
		if p.c2, err = ListenC2(p.Container.Host()); err != nil {
			return err
		}
	}
	st.of["victim"] = &intrusion{lab: l, c: p.Container, c2: p.c2, truth: &Truth{}, stage: st}
	if err := st.furnish(ctx, p.Container, &s.Victim); err != nil {
		return err
	}
	for i := range s.Others {
		if !s.Others[i].Later {
			if _, err := st.enter(ctx, s.Others[i].Name); err != nil {
				return err
			}
		}
	}
	for i := range s.Steps {
		began := time.Now().UTC()
		b, err := st.named(s.Steps[i].In)
		bad := false
		if err == nil {
			bad, err = b.step(ctx, s, &s.Steps[i])
		}
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
	p.Truth = st.of["victim"].fill(s.Truth, variant)
	if ended(variant) {
		variant = "running" // as the others do
	}
	for i := range s.Others {
		name := s.Others[i].Name
		if t, ok := s.OtherTruths[name]; ok && st.of[name] != nil {
			p.Others = append(p.Others, Taken{Name: name, Container: st.of[name].c, Truth: st.of[name].fill(t, variant)})
		}
	}
	return nil
}

// spec is how a container of the scenario is started.
func (st *stage) spec(v *Victim) (RunSpec, error) {
	spec := RunSpec{Runtime: v.Runtime, Image: v.Image, User: v.User, Env: slices.Concat([]string{"BUSY=1"}, v.Env), ReadOnly: v.ReadOnly,
		Tmpfs: v.Tmpfs, CapAdd: v.CapAdd, Args: v.Args, Pod: st.pod(v, st.variant)}
	for _, vol := range v.Volumes {
		if strings.Contains(vol, "VOLUME") && st.p.volume == "" {
			dir, err := os.MkdirTemp("", "volume")
			if err != nil {
				return spec, err
			}
			st.p.volume = dir
			if err := os.Chmod(dir, 0o777); err != nil {
				return spec, err
			}
			if seed := filepath.Join(st.scenario.Dir, "volume"); exists(seed) {
				if err := os.CopyFS(dir, os.DirFS(seed)); err != nil {
					return spec, err
				}
			}
		}
		spec.Volumes = append(spec.Volumes, strings.NewReplacer("VOLUME", st.p.volume, "RUNTIME_SOCKET", strings.TrimPrefix(st.lab.DockerHost(), "unix://")).Replace(vol))
	}
	return spec, nil
}

// furnish gives a container what surrounds it.
func (st *stage) furnish(ctx context.Context, c *Container, v *Victim) error {
	if !v.Metadata {
		return nil
	}
	m, err := st.lab.serveMetadata(ctx, c)
	if err != nil {
		return err
	}
	st.services = append(st.services, m)
	return nil
}

// enter starts another container.
func (st *stage) enter(ctx context.Context, name string) (*Other, error) {
	i := slices.IndexFunc(st.scenario.Others, func(o Other) bool { return o.Name == name })
	if i < 0 || st.of[name] != nil {
		return nil, fmt.Errorf("no container %q is to be started", name)
	}
	o := &st.scenario.Others[i]
	spec, err := st.spec(&o.Victim)
	if err != nil {
		return o, err
	}
	victim := st.of["victim"]
	spec.Name, spec.Port = o.Name, o.Port
	for i := range spec.Env {
		spec.Env[i] = victim.c2.place(spec.Env[i])
	}
	if o.PID {
		spec.PIDOf = victim.c
	}
	if o.Network {
		spec.NetworkOf = victim.c
	}
	if o.Code != "" {
		code, err := os.ReadFile(filepath.Join(st.scenario.Dir, o.Code))
		if err != nil {
			return o, err
		}
		text, err := victim.place(ctx, st.scenario.Dir, string(code))
		if err != nil {
			return o, err
		}
		spec.Mute, spec.Args = true, []string{"-c", victim.c2.place(text)}
	}
	c, err := st.lab.Start(ctx, spec)
	if err != nil {
		return o, err
	}
	st.of[name] = &intrusion{lab: st.lab, c: c, c2: victim.c2, truth: &Truth{SHA256: victim.truth.SHA256}, stage: st}
	return o, st.furnish(ctx, c, &o.Victim)
}

// place puts the listener's address into code.
func (c *C2) place(code string) string {
	host, port, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return code
	}
	return strings.NewReplacer("$HOST", host, "$PORT", port).Replace(code)
}
