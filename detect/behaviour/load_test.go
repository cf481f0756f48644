package behaviour_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/behaviour"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// ruleText writes a rule down.
func ruleText(id, over, when, say string, more ...string) string {
	return fmt.Sprintf("id: %s\ntitle: a test\nseverity: medium\nattack: T1059\nfor: %s\nwhen: |\n  %s\nsay: |\n  %s\n%s\n---\n", id, over, when, say, strings.Join(more, "\n"))
}

const named = "describe(process)"

// One wrong rule never stops the others, and what is said of it names rule, line and reason.
func TestRefusals(t *testing.T) {
	good := ruleText("good", "process", "process.uid == 0", named)
	for name, c := range map[string]struct {
		src  string
		line int
		why  string
	}{
		"unknown field":       {ruleText("x", "process", "process.uidd == 0", named), 7, "uidd"},
		"field's type":        {ruleText("x", "process", `process.uid == "0"`, named), 7, "no matching overload"},
		"no condition":        {ruleText("x", "process", "process.uid", named), 6, "when is a int; it must be a bool"},
		"no statement":        {ruleText("x", "process", "true", "process.uid"), 8, "say is a int; it must be a string"},
		"syntax":              {ruleText("x", "process", "process.uid ==", named), 7, "Syntax error"},
		"unknown variable":    {ruleText("x", "process", "socket.remote", named), 7, "undeclared reference"},
		"unknown function":    {ruleText("x", "process", "run(process.exe)", named), 7, "undeclared reference"},
		"unknown range":       {ruleText("x", "thread", "true", named), 5, `can't range over "thread"; it can over process,`},
		"unknown key":         {ruleText("x", "process", "true", named, "whem: true"), 10, `there is no "whem"`},
		"key twice":           {ruleText("x", "process", "true", named, "for: socket"), 10, "twice"},
		"no severity":         {"id: x\ntitle: t\nfor: process\nwhen: 'true'\nsay: '\"x\"'\n---\n", 1, "it has no severity"},
		"severity":            {strings.Replace(ruleText("x", "process", "true", named), "medium", "awful", 1), 3, `"awful" is no severity`},
		"technique":           {strings.Replace(ruleText("x", "process", "true", named), "T1059", "T10", 1), 4, "no technique"},
		"fact":                {ruleText("x", "process", "true", named, "needs: [tea]"), 10, `no fact "tea"`},
		"graver grade":        {ruleText("x", "process", "true", named, "grades: [{when: 'true', severity: high}]"), 10, "graver than the rule's"},
		"grade's key":         {ruleText("x", "process", "true", named, "grades: [{then: 'true', severity: low}]"), 10, `no "then" in a grade`},
		"id":                  {ruleText("X Y", "process", "true", named), 1, "an id is"},
		"same id":             {ruleText("good", "process", "true", named), 0, "there is a rule of this id already"},
		"Sherd's id":          {ruleText("network-raw-socket", "process", "true", named), 0, "from Sherd itself"},
		"secret said":         {ruleText("x", "process+variable", "true", "variable.value"), 9, "may hold a secret"},
		"environment said":    {ruleText("x", "process", "true", `process.environment["A"]`), 9, "may hold a secret"},
		"regular expression":  {ruleText("x", "process", `process.exe.matches("(")`, named), 7, "invalid matches argument"},
		"pattern of evidence": {ruleText("x", "process", "process.exe.matches(process.comm)", named), 6, "must be written as a text"},
		"glob of evidence":    {ruleText("x", "process", "glob(process.exe, process.comm)", named), 6, "must be written as a text"},
		"told of evidence":    {ruleText("x", "process", "container.told(process.comm)", named), 6, "must be written as a text"},
		"told's expression":   {ruleText("x", "process", `container.told("(")`, named), 6, "missing closing"},
		"huge expression":     {ruleText("x", "process", strings.Repeat("true || ", 4000)+"true", named), 6, "bytes, more than"},
		"deep expression":     {ruleText("x", "process", strings.Repeat("(", 300)+"true"+strings.Repeat(")", 300), named), 6, "recursion"},
		"nested loops": {ruleText("x", "process",
			"container.processes.exists(a, container.processes.exists(b, container.processes.exists(c, a.pid + b.pid == c.pid)))", named), 7, "nesting"},
		"no mapping":     {"[a, b]\n---\n", 1, "it is no rule"},
		"aliases":        {"id: &a x\ntitle: *a\nseverity: low\nfor: process\nwhen: 'true'\nsay: '\"x\"'\n---\n", 2, "a text is expected"},
		"making objects": {ruleText("x", "process", "sherd.process{pid: 1}.pid == 1", named), 6, "no condition makes one"},
	} {
		t.Run(name, func(t *testing.T) {
			set := behaviour.New()
			own := len(set.Rules())
			loaded, refused := set.Add("mine.yaml", []byte(c.src+good))
			if name == "same id" { // the first of the two counts
				if loaded != 1 || len(refused) != 1 || !strings.Contains(refused[0].Why, c.why) {
					t.Errorf("loaded %d, refused %+v", loaded, refused)
				}
				return
			}
			if loaded != 1 || len(refused) != 1 || len(set.Rules()) != own+1 {
				t.Fatalf("loaded %d, refused %+v", loaded, refused)
			}
			r := refused[0]
			if r.File != "mine.yaml" || c.line != 0 && r.Line != c.line || !strings.Contains(r.Why, c.why) {
				t.Errorf("refused %+v, want line %d and %q", r, c.line, c.why)
			}
		})
	}
}

// What a file does to the YAML parser ends that file, and keeps what came before.
func TestHostileFiles(t *testing.T) {
	good := ruleText("good", "process", "process.uid == 0", named)
	for name, src := range map[string]string{
		"no YAML":      "a: [\n",
		"deep":         strings.Repeat("[", 200_000),
		"deep blocks":  deepBlocks(2_000),
		"cyclic":       "a: &a [*a, *a]\n",
		"billion":      "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c]\nid: *d\n",
		"binary":       "\x00\x01\x02\xff\xfe",
		"merge":        "id: x\n<<: {title: y}\n",
		"strange tags": "id: !!binary aGk=\ntitle: !!python/object x\n",
	} {
		t.Run(name, func(t *testing.T) {
			at := time.Now()
			set := behaviour.New()
			loaded, refused := set.Add("mine.yaml", []byte(good+src))
			// Bytes that no YAML has are seen before any rule is.
			if want := 1; loaded != want && name != "binary" || len(refused) == 0 {
				t.Errorf("loaded %d, refused %+v", loaded, refused)
			}
			if d := time.Since(at); d > 10*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
	if loaded, refused := behaviour.New().Add("big.yaml", make([]byte, 5<<20)); loaded != 0 || len(refused) != 1 {
		t.Errorf("a huge file: loaded %d, refused %+v", loaded, refused)
	}
}

func deepBlocks(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i%2000) + "- ")
	}
	return b.String()
}

// A condition that costs too much is blind, and soon; the others are asked all the same.
func TestCostBombs(t *testing.T) {
	s := detecttest.Busy()
	for i := range 400 {
		s.Process(5000+i, 100+i, 4001, "/app/server", record.ExeImage, after)
	}
	for name, when := range map[string]string{
		"all with all": "container.processes.all(a, container.processes.all(b, (a.exe + b.exe + a.comm).contains(process.comm) || a.pid >= 0))",
		"long text":    `container.processes.map(a, join(container.processes.map(b, b.exe + a.exe), ",")).size() > container.processes.map(a, join(container.processes.map(b, b.exe + a.exe), ",")).size()`,
		"regexp":       `container.processes.exists(a, container.processes.exists(b, (a.exe + b.exe).matches("(.*)(.*)(.*)(.*)[0-9]x")))`,
	} {
		t.Run(name, func(t *testing.T) {
			set := behaviour.New()
			if n, refused := set.Add("mine.yaml", []byte(ruleText("bomb", "process", when, named)+ruleText("good", "process", "process.first", named))); n != 2 {
				t.Fatalf("refused %+v", refused)
			}
			at := time.Now()
			got := answers(t, set, s)
			if a := got["bomb"]; a.State() != detect.Blind || len(a.Blind) > 20 {
				t.Errorf("the bomb is %s: %+v", a.State(), a)
			}
			if a := got["good"]; a.State() != detect.Hit {
				t.Errorf("the other is %s: %+v", a.State(), a)
			}
			t.Logf("%v", time.Since(at))
		})
	}
}

// What was not collected makes a condition blind, unless the rest of it decides.
func TestBlindnessIsThreeValued(t *testing.T) {
	s := detecttest.Busy()
	s.Process(4100, 20, 4001, "/app/server", record.ExeImage, after)
	delete(s.Env, 4100)
	for when, want := range map[string]detect.State{
		`"EVIL" in process.environment`:                                                          detect.Blind,
		`process.pid == 1 && "EVIL" in process.environment`:                                      detect.Clean,
		`"EVIL" in process.environment && process.pid == 1`:                                      detect.Clean,
		`"EVIL" in process.environment || process.pid == 20`:                                     detect.Hit,
		`has(process.environment) && "EVIL" in process.environment`:                              detect.Clean,
		`process.cmdline[7] == "x"`:                                                              detect.Blind,
		`process.cmdline.size() > 7 && process.cmdline[7] == "x"`:                                detect.Clean,
		`process.parent.pid == 77`:                                                               detect.Blind,
		`has(process.parent) && process.parent.pid == 77`:                                        detect.Clean,
		`process.ancestors.exists(a, a.first) && "EVIL" in process.environment`:                  detect.Blind,
		`process.ancestors.exists(a, a.pid == 77) && "EVIL" in process.environment`:              detect.Clean,
		`process.pid == 77 && process.ancestors.exists(a, a.first) && process.cmdline[7] == "x"`: detect.Clean,
		`process.pid == 20 && process.ancestors.exists(a, a.first) && process.uid > 0`:           detect.Hit,
		`process.ancestors.exists(a, a.first)`:                                                   detect.Hit,
		`container.told("hunter[0-9]") && process.first`:                                         detect.Hit,
		`process.started - container.started > duration("48h")`:                                  detect.Hit,
		`glob(process.exe, "/app/*") && !glob(process.exe, "/a*")`:                               detect.Hit,
		`within("10.1.2.3", "10.0.0.0/8") && !within("x", "10.0.0.0/8") && private("fd00::1") && link_local("169.254.1.1") && loopback("::ffff:127.0.0.1")`: detect.Hit,
		`container.holds(process.sha256) && inside(process.exe, ["/usr", "/app"]) && base(process.exe) == "server" && folder(process.exe) == "/app"`:        detect.Hit,
		`process.sockets.exists(s, s.inbound) && process.sockets.exists(s, s.listening && s.local_port in container.exposed)`:                               detect.Hit,
	} {
		set := behaviour.New()
		if n, refused := set.Add("mine.yaml", []byte(ruleText("mine", "process", when, named))); n != 1 {
			t.Errorf("%s: refused %+v", when, refused)
			continue
		}
		if a := answers(t, set, s)["mine"]; a.State() != want {
			t.Errorf("%s: is %s, want %s: %+v", when, a.State(), want, a)
		}
	}
}

// Names that an intruder chose can't steer a terminal, nor flood a statement; conditions see them as they are.
func TestStatementsAreFitToBeShown(t *testing.T) {
	s := detecttest.Busy()
	p := s.Process(4100, 20, 4001, "/app/server", record.ExeImage, after)
	p.Comm, p.Cmdline = "\x1b[2J\u202e", names([]string{strings.Repeat("A", 5000), "\xff\xfe"})
	set := behaviour.New()
	_, refused := set.Add("mine.yaml", []byte(ruleText("mine", "process", `process.comm.contains("\u001b") && process.cmdline[0].size() == 5000`, `process.comm + " " + join(process.cmdline, " ") + " by " + process.parent.exe`)))
	a := answers(t, set, s)["mine"]
	if len(refused) > 0 || len(a.Hits) != 1 {
		t.Fatalf("%+v %+v", refused, a)
	}
	h := a.Hits[0]
	if strings.ContainsAny(h.Statement, "\x1b\u202e\xff") || len(h.Statement) > 700 || !strings.HasPrefix(h.Statement, `\x1b[2J\u202e AAAA`) {
		t.Errorf("it says %q", h.Statement)
	}
	if len(h.Citations) != 2 {
		t.Errorf("the parent that it speaks of is not cited: %+v", h.Citations)
	}
	if h.Severity != verdict.Medium || h.Technique != "T1059" || h.PID != 4100 || h.When != after.UnixNano() {
		t.Errorf("%+v", h)
	}
}

func TestEvents(t *testing.T) {
	s := detecttest.Busy()
	p := s.Write(t)
	f, err := detect.Load(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	set := behaviour.New()
	src := ruleText("mine", "event", `event.kind == "container.exec" && event.attributes["user"] == "root"`, `"a command was run: " + event.message`, "needs: [config]")
	if n, refused := set.Add("mine.yaml", []byte(src)); n != 1 {
		t.Fatalf("%+v", refused)
	}
	row := event.Event{Kind: event.ContainerExec, Time: after.UnixNano(), Message: "exec \x1b", Artifact: "logs/0.log", Length: 10, Attributes: []byte(`{"user":"root","n":1}`)}
	other := event.Event{Kind: event.LogLine, Artifact: "logs/0.log"}
	broken := errors.New("the log is damaged")
	for name, c := range map[string]struct {
		events iter.Seq2[*event.Event, error]
		want   detect.State
		blind  int
	}{
		"none to be had": {nil, detect.Blind, 1},
		"hit":            {func(yield func(*event.Event, error) bool) { _ = yield(&other, nil) && yield(&row, nil) }, detect.Hit, 0},
		"clean":          {func(yield func(*event.Event, error) bool) { yield(&other, nil) }, detect.Clean, 0},
		"cut short":      {func(yield func(*event.Event, error) bool) { _ = yield(&row, nil) && yield(nil, broken) }, detect.Hit, 1},
	} {
		list, err := set.Answers(context.Background(), detect.Input{Facts: f, Package: p, Events: c.events})
		if err != nil {
			t.Fatal(err)
		}
		a := list[len(list)-1]
		if a.Rule.ID != "mine" || a.State() != c.want || len(a.Blind) != c.blind {
			t.Errorf("%s: is %s: %+v", name, a.State(), a)
		}
		if c.want == detect.Hit && (a.Hits[0].Citations[0].Artifact != "logs/0.log" || a.Hits[0].When != after.UnixNano() || strings.Contains(a.Hits[0].Statement, "\x1b")) {
			t.Errorf("%s: %+v", name, a.Hits[0])
		}
	}
}

func TestEndsWhenAsked(t *testing.T) {
	p := detecttest.Busy().Write(t)
	f, err := detect.Load(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := behaviour.New().Answers(ctx, detect.Input{Facts: f, Package: p}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func FuzzAdd(f *testing.F) {
	f.Add(ruleText("a", "process", "process.uid == 0", named))
	f.Add(ruleText("a", "change", `change.path.matches("^/tmp/") && has(change.now)`, "change.path", "once: change.path", "grades: [{when: 'change.now.elf', severity: low}]"))
	f.Add(ruleText("a", "event", "event.attributes.exists(k, k == 'a')", "event.message"))
	f.Add("id: &a x\ntitle: *a\n")
	p := detecttest.Busy().Write(f)
	facts, err := detect.Load(context.Background(), p)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, src string) {
		set := behaviour.New()
		own := len(set.Rules())
		loaded, refused := set.Add("fuzz.yaml", []byte(src))
		if len(set.Rules()) != own+loaded {
			t.Fatalf("%d loaded, %d are there", loaded, len(set.Rules())-own)
		}
		for _, r := range refused {
			if r.Why == "" || r.File != "fuzz.yaml" || r.Line < 0 {
				t.Errorf("refused %+v", r)
			}
		}
		if _, err := set.Answers(context.Background(), detect.Input{Facts: facts, Package: p}); err != nil {
			t.Fatal(err)
		}
	})
}

// manyRules are 300 rules of every kind that ranges over much.
func manyRules(b *testing.B) *behaviour.Set {
	set := behaviour.New()
	var src strings.Builder
	for i := range 100 {
		src.WriteString(ruleText(fmt.Sprint("p", i), "process", fmt.Sprintf(`process.comm == "x%d" && process.ancestors.exists(a, a.exe.endsWith("/bash"))`, i), named))
		src.WriteString(ruleText(fmt.Sprint("q", i), "process", fmt.Sprintf(`process.cmdline.exists(a, a.matches("^--key-%d=[0-9a-f]{32}$")) && process.uid == 0`, i), named))
		src.WriteString(ruleText(fmt.Sprint("c", i), "change", fmt.Sprintf(`change.kind == "added" && change.path.matches("^/var/lib/[^/]+/x%d[.]so$") && has(change.now) && change.now.elf`, i), "change.path"))
	}
	if n, refused := set.Add("many.yaml", []byte(src.String())); n != 300 {
		b.Fatal(n, refused)
	}
	return set
}

func bigScene(processes, changes int) *detecttest.Scene {
	s := detecttest.Busy()
	for i := range processes {
		p := s.Process(10_000+i, 100+i, 4001, "/app/server", record.ExeImage, after)
		p.Cmdline = names([]string{"/app/server", "--port", "8080", fmt.Sprint("--worker=", i)})
	}
	for i := range changes {
		s.Files = append(s.Files, record.File{Tree: record.TreeRoot, Path: record.Name(fmt.Sprintf("/var/lib/shop/cache/%02x/item-%d.html", i&255, i)), Type: record.TypeFile, Mode: 0o644, Size: 10,
			SHA256: detecttest.Hash(fmt.Sprint(i)), Magic: []byte("<!doctyp"), Layer: record.WritableLayer, Btime: after.UnixNano(), Ctime: after.UnixNano()})
	}
	return s
}

// BenchmarkAnswers asks 300 rules, and Sherd's own, of 5,000 processes and 50,000 changes.
func BenchmarkAnswers(b *testing.B) {
	var p *evidence.Package = bigScene(5000, 50_000).Write(b)
	f, err := detect.Load(context.Background(), p)
	if err != nil {
		b.Fatal(err)
	}
	set := manyRules(b)
	b.ResetTimer()
	for b.Loop() {
		if _, err := set.Answers(context.Background(), detect.Input{Facts: f, Package: p}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAdd compiles 300 rules.
func BenchmarkAdd(b *testing.B) {
	for b.Loop() {
		manyRules(b)
	}
}
