package lab

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Scenario is what happens to one container, an attack or something honest that looks like one, as scenario.yaml below
// lab/scenarios/NAME says it, and what is then true of it, as truth.yaml says.
type Scenario struct {
	Name string `yaml:"-"`
	Dir  string `yaml:"-"`
	What string `yaml:"what"` // in one line
	// Victim is the container.
	Victim Victim `yaml:"victim"`
	// Steps happen one after the other.
	Steps []Step `yaml:"steps"`
	// Variants are when the evidence is taken: "running", just afterwards; "noise", after a while of honest work; "exited", after
	// the container has ended; "restarted", after it has ended and begun again; "buried", after some thousand requests more, when
	// the runtime has rotated its log away from what the intruder did. None is running alone.
	Variants []string      `yaml:"variants"`
	Truth    ScenarioTruth `yaml:"-"`
}

// Victim says which container a scenario happens to.
type Victim struct {
	Image    string   `yaml:"image"`
	Runtime  string   `yaml:"runtime"` // docker unless said
	User     string   `yaml:"user"`
	Env      []string `yaml:"env"`
	ReadOnly bool     `yaml:"readonly"`
	Tmpfs    []string `yaml:"tmpfs"`
	Volumes  []string `yaml:"volumes"` // VOLUME is a directory of the scenario's own, with what its folder volume holds; RUNTIME_SOCKET is Docker's
	CapAdd   []string `yaml:"cap_add"`
	Args     []string `yaml:"args"`
	// Listen has the intruder's listener on this port before the container starts, for images that know it beforehand. Only one
	// container at a time can have it.
	Listen int `yaml:"listen"`
	// RotateAt is the size of the log at which Docker begins another: "128k".
	RotateAt string `yaml:"rotate_at"`
}

// Step is one thing that happens; one of its fields is set. A step of the intruder's is one whose field says so.
type Step struct {
	Load time.Duration `yaml:"load"` // honest requests, side by side
	Wait time.Duration `yaml:"wait"`
	// Attack is one of the lab's own (Attacks), the intruder's.
	Attack string `yaml:"attack"`
	// Python and Node are files of the scenario that the victim of that language is made to run by its flaw, the intruder's.
	Python string `yaml:"python"`
	Node   string `yaml:"node"`
	// Upload is what goweb is made to write anywhere, the intruder's.
	Upload *Upload `yaml:"upload"`
	// Module is a source in C of the scenario, which cweb is made to load by its flaw, the intruder's.
	Module string `yaml:"module"`
	// Exec runs a program in the container by its runtime, as an operator does.
	Exec []string `yaml:"exec"`
	// Background leaves what Exec runs running.
	Background bool `yaml:"background"`
	// Request is an honest request: METHOD PATH, with a Body.
	Request string `yaml:"request"`
	Body    string `yaml:"body"`
	// Called waits for the image's own program to call the intruder's listener: nobody has to break in. It is the intruder's.
	Called bool `yaml:"called"`
	// Volume is what somebody on the host writes into the scenario's volume: From is a file of the scenario.
	Volume *Upload `yaml:"volume"`
	// Calls waits for the program that the step has started to call the intruder's listener.
	Calls bool `yaml:"calls"`
	// Signal is sent to the container's first process: "HUP".
	Signal string `yaml:"signal"`
}

// Upload is a file that is written into a container: From is a file of the scenario, or "implant".
type Upload struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
	Mode string `yaml:"mode"`
}

// ScenarioTruth is what a verdict on the scenario must say and must not. ${C2}, ${C2_HOST}, ${C2_PORT}, ${HOST}, ${SHA256} (of what
// the intruder brought) and ${EXE} (of the process that called) stand for what is known only when it has run.
type ScenarioTruth struct {
	Verdict []string `yaml:"verdict"` // any of these is right
	// Entry is nil for a control.
	Entry *Entry `yaml:"entry"`
	Scope []Fact `yaml:"scope"`
	// May are facts that are true but need not be named.
	May []Fact `yaml:"may"`
	// Never are facts that must not be named, beside all that is neither in Scope nor in May.
	Never  []Fact   `yaml:"never"`
	Impact []string `yaml:"impact"` // types that must be named
	// ImpactLive are types that must be named as long as the container runs.
	ImpactLive []string `yaml:"impact_live"`
	// MayImpact are types that are true too.
	MayImpact []string `yaml:"may_impact"`
}

// Entry is how they got in. Technique may be one of several, separated by blanks. Request is in the bytes of one of the cited
// lines. An entry that can't be known from what the container leaves has Unknown.
type Entry struct {
	Technique string `yaml:"technique"`
	Request   string `yaml:"request"`
	Unknown   bool   `yaml:"unknown"`
}

// Fact is one entity as a verdict names it. Value may hold * for any text.
type Fact struct {
	Type  string `yaml:"type"`
	Value string `yaml:"value"`
	Role  string `yaml:"role"`
	// Live is true of what goes with the processes: it need not be named once the container has ended.
	Live bool `yaml:"live"`
}

// Scenarios reads those of lab/scenarios, by name. A mistake in one is an error.
func Scenarios() ([]Scenario, error) {
	src, err := source()
	if err != nil {
		return nil, err
	}
	dirs, err := filepath.Glob(filepath.Join(src, "scenarios", "*", "scenario.yaml"))
	if err != nil {
		return nil, err
	}
	var out []Scenario
	for _, d := range dirs {
		s := Scenario{Dir: filepath.Dir(d), Name: filepath.Base(filepath.Dir(d))}
		if err := strictly(d, &s); err != nil {
			return nil, err
		}
		if err := strictly(filepath.Join(s.Dir, "truth.yaml"), &s.Truth); err != nil {
			return nil, err
		}
		if len(s.Variants) == 0 {
			s.Variants = []string{"running"}
		}
		if s.Victim.Runtime == "" {
			s.Victim.Runtime = Docker
		}
		if len(s.Truth.Verdict) == 0 || s.What == "" || s.Victim.Image == "" {
			return nil, fmt.Errorf("%s lacks what, victim or verdict", s.Dir)
		}
		out = append(out, s)
	}
	return out, nil
}

func strictly(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Control reports whether nothing bad happens.
func (s *Scenario) Control() bool { return s.Truth.Entry == nil }

// step does one step and says whether it was the intruder's.
func (b *intrusion) step(ctx context.Context, s *Scenario, step *Step) (bad bool, err error) {
	read := func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(s.Dir, name)) }
	switch {
	case step.Load > 0:
		return false, b.c.load(ctx, step.Load)
	case step.Wait > 0:
		time.Sleep(step.Wait)
		return false, nil
	case step.Attack != "":
		for _, a := range Attacks() {
			if a.Name == step.Attack {
				return true, a.run(ctx, b)
			}
		}
		return true, fmt.Errorf("unknown attack %q", step.Attack)
	case step.Python != "" || step.Node != "":
		code, err := read(step.Python + step.Node)
		if err != nil {
			return true, err
		}
		text, err := b.place(ctx, s.Dir, string(code))
		if err != nil {
			return true, err
		}
		if step.Python != "" {
			err = b.python(ctx, "exec("+quotePython(text)+", {})")
		} else {
			err = b.node(ctx, text)
		}
		if err != nil || !step.Calls {
			return true, err
		}
		return true, b.called(ctx)
	case step.Module != "":
		if err := b.module(ctx, filepath.Join(s.Dir, step.Module)); err != nil || !step.Calls {
			return true, err
		}
		return true, b.called(ctx)
	case step.Upload != nil:
		content, err := b.implantOr(ctx, step.Upload.From, read)
		if err != nil {
			return true, err
		}
		b.truth.SHA256 = digest(content)
		return true, b.upload(ctx, step.Upload.To, content, step.Upload.Mode)
	case step.Called:
		return true, b.called(ctx)
	case step.Volume != nil:
		content, err := read(step.Volume.From)
		if err != nil {
			return false, err
		}
		return false, os.WriteFile(filepath.Join(b.volume, filepath.Clean("/"+step.Volume.To)), content, 0o644)
	case len(step.Exec) > 0:
		return false, b.c.exec(ctx, step.Exec, step.Background)
	case step.Request != "":
		method, path, _ := strings.Cut(step.Request, " ")
		r, err := http.NewRequestWithContext(ctx, method, b.c.URL+path, strings.NewReader(step.Body))
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return false, err
		}
		return false, resp.Body.Close()
	case step.Signal != "":
		return false, exec.CommandContext(ctx, "kill", "-"+step.Signal, fmt.Sprint(b.c.PID)).Run()
	}
	return false, errors.New("it says nothing to do")
}

// module compiles a module that knows the listener, and has the victim load it.
func (b *intrusion) module(ctx context.Context, file string) error {
	lib, err := b.compileModule(ctx, file)
	if err != nil {
		return err
	}
	return b.request(ctx, http.MethodPut, "/module", lib, http.StatusOK)
}

func (b *intrusion) compileModule(ctx context.Context, file string) ([]byte, error) {
	host, port, err := net.SplitHostPort(b.c2.Addr)
	if err != nil {
		return nil, err
	}
	name := "module-" + b.c.Name + ".so"
	lib, err := b.lab.compileC(ctx, name, file, "-shared", "-fPIC", `-DC2_HOST="`+host+`"`, "-DC2_PORT="+port)
	if err != nil {
		return nil, err
	}
	b.truth.SHA256 = digest(lib)
	return lib, os.Remove(filepath.Join(b.lab.base, "bin", name))
}

func (b *intrusion) implantOr(ctx context.Context, from string, read func(string) ([]byte, error)) ([]byte, error) {
	if from == "implant" {
		return b.implant(ctx)
	}
	return read(from)
}

// place puts what is known only now into the intruder's code: $HOST, $PORT (which python and node do), $IMPLANT, a program, and
// $HOOK, a library, both in base64; $MODULE is module.c of the scenario, compiled.
func (b *intrusion) place(ctx context.Context, dir, code string) (string, error) {
	if strings.Contains(code, "$MODULE") {
		lib, err := b.compileModule(ctx, filepath.Join(dir, "module.c"))
		if err != nil {
			return "", err
		}
		code = strings.ReplaceAll(code, "$MODULE", base64.StdEncoding.EncodeToString(lib))
	}
	if strings.Contains(code, "$IMPLANT") {
		bin, err := b.implant(ctx)
		if err != nil {
			return "", err
		}
		code = strings.ReplaceAll(code, "$IMPLANT", base64.StdEncoding.EncodeToString(bin))
	}
	if strings.Contains(code, "$HOOK") {
		lib, err := b.lab.hook(ctx)
		if err != nil {
			return "", err
		}
		b.truth.SHA256 = digest(lib)
		code = strings.ReplaceAll(code, "$HOOK", base64.StdEncoding.EncodeToString(lib))
	}
	return code, nil
}

// exec runs a program in the container, as an operator would by its runtime.
func (c *Container) exec(ctx context.Context, argv []string, background bool) error {
	args := []string{"exec", c.Name}
	if background {
		args = []string{"exec", "--detach", c.Name}
	}
	args = append(args, argv...)
	switch c.Runtime {
	case Docker:
		_, err := c.lab.docker(ctx, c.Spec.Storage, args...)
		return err
	case Podman:
		_, err := c.lab.podman(ctx, c.Spec.Storage, args...)
		return err
	}
	return fmt.Errorf("nothing is run in containers of %s here", c.Runtime)
}
