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
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Scenario is what happens to one container and those around it, an attack or something honest that looks like one, as scenario.yaml
// below lab/scenarios/NAME says it, and what is then true, as truth.yaml says of the victim and truth-OTHER.yaml of another container.
type Scenario struct {
	Name string `yaml:"-"`
	Dir  string `yaml:"-"`
	What string `yaml:"what"` // in one line
	// Victim is the container.
	Victim Victim `yaml:"victim"`
	// Others are containers beside it.
	Others []Other `yaml:"others"`
	// Steps happen one after the other.
	Steps []Step `yaml:"steps"`
	// Variants are when the evidence is taken: "running", just afterwards; "noise", after a while of honest work; "exited", after
	// the container has ended; "restarted", after it has ended and begun again; "crashed", while the kubelet waits before it starts the container
	// of a pod again; "buried", after some thousand requests more, when the runtime has rotated its log away from what the intruder did. None is
	// running alone.
	Variants []string `yaml:"variants"`
	// Order are the containers in the order in which a verdict over all of them must have them touched, each reached from the one before.
	Order []string      `yaml:"order"`
	Truth ScenarioTruth `yaml:"-"`
	// OtherTruths are by the other container's name; evidence is taken of those that have one.
	OtherTruths map[string]ScenarioTruth `yaml:"-"`
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
	// Account is the service account of a pod, which cluster.yaml makes.
	Account string `yaml:"account"`
	// Metadata gives it a cloud's metadata service at its usual address, made up and in a network namespace of its own.
	Metadata bool `yaml:"metadata"`
}

// Step is one thing that happens; one of its fields is set, beside In, Caller and Calls. A step of the intruder's is one whose field says so.
type Step struct {
	// In names the other container to which it happens, "" for the victim; Caller the one whose process calls, where that is another.
	In     string `yaml:"in"`
	Caller string `yaml:"caller"`
	// Start starts another container that is marked to come later.
	Start string        `yaml:"start"`
	Load  time.Duration `yaml:"load"` // honest requests, side by side
	Wait  time.Duration `yaml:"wait"`
	// Attack is one of the lab's own (Attacks), the intruder's.
	Attack string `yaml:"attack"`
	// Python, Node and Java are files of the scenario that the victim of that language is made to run by its flaw, the intruder's. One in
	// Java is the source of a public class without a package, whose constructor does the work.
	Python string `yaml:"python"`
	Node   string `yaml:"node"`
	Java   string `yaml:"java"`
	// Upload is what goweb is made to write anywhere, the intruder's.
	Upload *Upload `yaml:"upload"`
	// Module is a source in C of the scenario, which cweb is made to load by its flaw, the intruder's.
	Module string `yaml:"module"`
	// Exec runs a program in the container by its runtime, as an operator does.
	Exec []string `yaml:"exec"`
	// Background leaves what Exec runs running.
	Background bool `yaml:"background"`
	// Request is an honest request, or one that fails: METHOD PATH. Body is a file of the scenario that it carries; a source in Java is
	// sent as the archive of its classes.
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
	// Thief calls the API server with the token of the container's pod from elsewhere: METHOD PATH, and a file of the scenario that it carries.
	// It is the intruder's.
	Thief string `yaml:"thief"`
	// StartedAgain waits until the kubelet has started the container again so many times.
	StartedAgain int `yaml:"started_again"`
}

// Upload is a file that is written into a container: From is a file of the scenario, or "implant".
type Upload struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
	Mode string `yaml:"mode"`
}

// ScenarioTruth is what a verdict on the scenario must say and must not. ${C2}, ${C2_HOST}, ${C2_PORT}, ${HOST}, ${SHA256} (of what
// the intruder brought), ${EXE} (of the process that called), ${ID}, ${NAME}, ${NAME.host} and ${NAME.id} (of a container) ${CREATED} (the
// id of one that the intruder started) and ${NODE} (the machine) stand for what is known only when it has run.
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
	// Lost are variants in which what tells of the entry may be gone: naming none is right there too.
	Lost []string `yaml:"lost"`
	// MayBeUnknown is true of an entry in such a variant.
	MayBeUnknown bool `yaml:"-"`
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
		if err := s.readOthers(); err != nil {
			return nil, err
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
	caller := b
	if step.Caller != "" {
		if caller, err = b.stage.named(step.Caller); err != nil {
			return false, err
		}
	}
	read := func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(s.Dir, name)) }
	switch {
	case step.Start != "":
		o, err := b.stage.enter(ctx, step.Start)
		if err != nil || !step.Calls {
			return o.bad(), err
		}
		return o.bad(), b.stage.of[step.Start].called(ctx)
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
		return true, caller.called(ctx)
	case step.Java != "":
		body, err := b.plugin(ctx, filepath.Join(s.Dir, step.Java))
		if err == nil {
			err = b.request(ctx, http.MethodPost, "/plugin", body, http.StatusOK)
		}
		if err != nil || !step.Calls {
			return true, err
		}
		return true, caller.called(ctx)
	case step.Module != "":
		if err := b.module(ctx, filepath.Join(s.Dir, step.Module)); err != nil || !step.Calls {
			return true, err
		}
		return true, caller.called(ctx)
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
		return false, os.WriteFile(filepath.Join(b.stage.p.volume, filepath.Clean("/"+step.Volume.To)), content, 0o644)
	case len(step.Exec) > 0:
		return false, b.c.exec(ctx, step.Exec, step.Background)
	case step.Request != "":
		return false, b.ask(ctx, s, step)
	case step.Thief != "":
		return true, b.thief(ctx, s, step.Thief)
	case step.StartedAgain > 0:
		return false, b.c.startedAgain(ctx, step.StartedAgain)
	case step.Signal != "":
		return false, exec.CommandContext(ctx, "kill", "-"+step.Signal, fmt.Sprint(b.c.PID)).Run()
	}
	return false, errors.New("it says nothing to do")
}

// ask sends a request and takes whatever answer.
func (b *intrusion) ask(ctx context.Context, s *Scenario, step *Step) error {
	method, path, _ := strings.Cut(step.Request, " ")
	var body []byte
	var err error
	switch file := filepath.Join(s.Dir, step.Body); {
	case step.Body == "":
	case filepath.Ext(file) == ".java":
		body, err = b.plugin(ctx, file)
	default:
		body, err = os.ReadFile(file)
	}
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, b.c.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
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

// place puts what is known only now into the intruder's code: $HOST, $PORT (which python and node do), $ADDR{NAME}, where another
// container's server is, $IMAGE, the image's name, $CREATED, the name of a container that it may start, $IMPLANT, a program, and $HOOK, a
// library, both in base64; $MODULE is module.c of the scenario, compiled.
func (b *intrusion) place(ctx context.Context, dir, code string) (string, error) {
	if strings.Contains(code, "$MODULE") {
		lib, err := b.compileModule(ctx, filepath.Join(dir, "module.c"))
		if err != nil {
			return "", err
		}
		code = strings.ReplaceAll(code, "$MODULE", base64.StdEncoding.EncodeToString(lib))
	}
	for name, o := range b.stage.of {
		code = strings.ReplaceAll(code, "$ADDR{"+name+"}", o.c.Addr)
	}
	code = strings.NewReplacer("$IMAGE", b.c.Ref, "$CREATED", b.stage.created(), "$NAMESPACE", b.stage.namespace).Replace(code)
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

// fill puts what happened into the truth.
func (b *intrusion) fill(t ScenarioTruth, variant string) ScenarioTruth {
	host, port, _ := net.SplitHostPort(b.c2.Addr)
	exe := strings.TrimSuffix(b.truth.Exe, " (deleted)")
	if name, ok := strings.CutPrefix(exe, "/memfd:"); ok {
		exe = "memfd:" + name
	}
	node, err := os.Hostname()
	if err != nil {
		node = "?" // a fact that nothing equals
	}
	pairs := []string{"${C2}", b.c2.Addr, "${C2_HOST}", host, "${C2_PORT}", port, "${SHA256}", b.truth.SHA256, "${EXE}", exe, "${HOST}", b.c.Host(), "${ID}", b.c.ID, "${CREATED}", b.stage.createdID(), "${NODE}", node}
	for name, o := range b.stage.of {
		host, _, _ := net.SplitHostPort(o.c.Addr)
		pairs = append(pairs, "${"+name+"}", o.c.Addr, "${"+name+".host}", host, "${"+name+".id}", o.c.ID)
	}
	r := strings.NewReplacer(append(pairs, b.stage.clusterFacts()...)...)
	facts := func(in []Fact) []Fact {
		out := slices.Clone(in)
		for i := range out {
			out[i].Value = r.Replace(out[i].Value)
		}
		return out
	}
	t.Scope, t.May, t.Never = facts(t.Scope), facts(t.May), facts(t.Never)
	if e := t.Entry; e != nil && slices.Contains(e.Lost, variant) {
		lost := *e
		lost.MayBeUnknown = true
		t.Entry = &lost
	}
	if ended(variant) {
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
	if b.c.Runtime == Kubernetes {
		// Other scenarios' pods run the same images.
		t.May = append(t.May, Fact{Type: "container", Value: "*", Role: "sibling"})
	}
	for _, from := range b.c.clients() {
		t.May = append(t.May, Fact{Type: "address", Value: from}, Fact{Type: "address", Value: from + ":*"})
	}
	t.May = append(t.May, Fact{Type: "container", Value: b.c.ID + "*"})
	return t
}
