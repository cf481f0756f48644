package score_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/lab/score"
	"github.com/sherd-forensics/sherd/verdict"
)

// TestScenariosAreWhole reads all of them: techniques, verdicts, types and variants are of their vocabularies, and files that steps
// name are there.
func TestScenariosAreWhole(t *testing.T) {
	all, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	attacks, controls := 0, 0
	technique := regexp.MustCompile(`^T\d{4}([.]\d{3})?$`)
	for _, s := range all {
		if s.Control() {
			controls++
		} else {
			attacks++
			for _, e := range strings.Fields(s.Truth.Entry.Technique) {
				if !technique.MatchString(e) {
					t.Errorf("%s: technique %q", s.Name, e)
				}
			}
		}
		if !slices.Contains(lab.Images, s.Victim.Image) {
			t.Errorf("%s: no image %s", s.Name, s.Victim.Image)
		}
		for _, v := range s.Variants {
			if !slices.Contains([]string{"running", "noise", "exited", "restarted", "buried", "crashed"}, v) {
				t.Errorf("%s: variant %q", s.Name, v)
			}
		}
		names := []string{"", "victim"}
		for _, o := range s.Others {
			names = append(names, o.Name)
			if !slices.Contains(lab.Images, o.Image) {
				t.Errorf("%s: no image %s", s.Name, o.Image)
			}
			if _, err := os.Stat(filepath.Join(s.Dir, o.Code)); err != nil {
				t.Error(err)
			}
		}
		told, err := filepath.Glob(filepath.Join(s.Dir, "truth-*.yaml"))
		if err != nil || len(told) != len(s.OtherTruths) {
			t.Errorf("%s: %d truths of other containers are read, %q are there", s.Name, len(s.OtherTruths), told)
		}
		for _, name := range s.Order {
			if !slices.Contains(names, name) || name != "victim" && s.OtherTruths[name].Verdict == nil {
				t.Errorf("%s: no evidence is taken of %q, which its order names", s.Name, name)
			}
		}
		if inCluster := s.Victim.Runtime == lab.Kubernetes; inCluster != slices.Contains(s.Runtimes(), lab.Kubernetes) || !inCluster && s.Victim.Account != "" {
			t.Errorf("%s: it needs %q", s.Name, s.Runtimes())
		}
		for _, step := range s.Steps {
			if (step.Thief != "" || step.StartedAgain > 0) && s.Victim.Runtime != lab.Kubernetes {
				t.Errorf("%s: only pods have tokens and are started again", s.Name)
			}
			if f := strings.Fields(step.Thief); len(f) == 3 {
				if _, err := os.Stat(filepath.Join(s.Dir, f[2])); err != nil {
					t.Error(err)
				}
			}
			for _, name := range []string{step.In, step.Caller, step.Start} {
				if !slices.Contains(names, name) {
					t.Errorf("%s: no container %q", s.Name, name)
				}
			}
			for _, f := range []string{step.Python, step.Node, step.Java, step.Module, step.Body} {
				if _, err := os.Stat(filepath.Join(s.Dir, f)); f != "" && err != nil {
					t.Error(err)
				}
			}
		}
		types := []string{verdict.EntityProcess, verdict.EntityFile, verdict.EntityAddress, verdict.EntityDomain, verdict.EntityIdentity, verdict.EntityContainer, verdict.EntityNode, verdict.EntityCredential, verdict.EntityImage}
		facts := slices.Concat(s.Truth.Scope, s.Truth.May, s.Truth.Never)
		for _, t := range s.OtherTruths {
			facts = slices.Concat(facts, t.Scope, t.May, t.Never)
		}
		for _, f := range facts {
			if !slices.Contains(types, f.Type) || f.Value == "" {
				t.Errorf("%s: fact %+v", s.Name, f)
			}
		}
	}
	if attacks < 30 || controls < 14 {
		t.Errorf("%d attacks and %d controls", attacks, controls)
	}
}

// TestInvestigatorKnowsNoScenario looks for what only the lab could have told: its names, paths, and payloads.
func TestInvestigatorKnowsNoScenario(t *testing.T) {
	all, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	words := []string{"sherd-lab", "/app/server", "goweb", "pyweb", "nodeweb", "cweb", "javaweb", "/data/plugins", "/avatar", "/session", "/render", "/convert", "/module", "/plugin", "10.88.", "HELLO pid", "SHERD-LAB", "RUNTIME_SOCKET"}
	// Paths that every system has are the rules' own business.
	common := regexp.MustCompile(`^/(etc|usr|dev|proc|var)/|^/usr/bin/`)
	for _, s := range all {
		if len(s.Name) > 8 && strings.Contains(s.Name, "-") {
			words = append(words, s.Name)
		}
		for _, f := range slices.Concat(s.Truth.Scope, s.Truth.May) {
			if f.Type == verdict.EntityFile && !common.MatchString(f.Value) && !strings.Contains(f.Value, "*") {
				words = append(words, f.Value)
			}
			if f.Type == verdict.EntityCredential && !strings.Contains(f.Value, "*") {
				words = append(words, f.Value)
			}
		}
	}
	root := filepath.Join("..", "..")
	for _, dir := range []string{"detect", "investigate", "verdict"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(p, "_test.go") || strings.Contains(p, "detecttest") {
				return err
			}
			b, err := os.ReadFile(p)
			for _, w := range words {
				if strings.Contains(string(b), w) {
					t.Errorf("%s knows %q of the lab", p, w)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestJudge says what counts as right, wrong and missing.
func TestJudge(t *testing.T) {
	began := time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	s := &lab.Scenario{Name: "x"}
	s.Truth = lab.ScenarioTruth{
		Verdict: []string{"compromised"}, Entry: &lab.Entry{Technique: "T1190"},
		Scope:  []lab.Fact{{Type: "process", Value: "/tmp/a"}, {Type: "file", Value: "/srv/*.locked"}},
		Never:  []lab.Fact{{Type: "file", Value: "/data/cache"}},
		Impact: []string{"execution", "destruction"}, MayImpact: []string{"persistence"},
	}
	p := &lab.Played{Truth: s.Truth, Began: began, Ended: began.Add(time.Second)}
	v := &verdict.Verdict{
		Verdict:   verdict.Compromised,
		RootCause: &verdict.RootCause{Technique: "T1190", Time: "2026-11-24T03:00:02.5Z", Confidence: 0.9},
		Scope:     []verdict.Entity{{Type: "process", Value: "/tmp/a", PID: 3}, {Type: "file", Value: "/srv/d/x.locked"}, {Type: "file", Value: "/data/cache"}, {Type: "address", Value: "203.0.113.9:1"}},
		Impact:    []verdict.Impact{{Type: "execution"}, {Type: "lateral"}},
	}
	r := score.Judge(s, "running", p, v, nil)
	if !r.VerdictRight || !r.CauseRight || r.Named != 3 || r.Wanted != 4 || r.Right != 3 || r.Said != 6 {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{"impact lacks destruction", "names file:/data/cache, which it must not", "names address:203.0.113.9:1, which is not true", "impact names lateral"} {
		if !strings.Contains(strings.Join(r.Faults, "\n"), want) {
			t.Errorf("no fault says %q: %q", want, r.Faults)
		}
	}
	v.RootCause.Time = "2026-11-24T03:00:09Z"
	if r := score.Judge(s, "running", p, v, nil); r.CauseRight {
		t.Error("a root cause at another time is right")
	}
	v.RootCause, v.Verdict = nil, verdict.Clean
	if r := score.Judge(s, "running", p, v, nil); r.CauseRight || r.VerdictRight {
		t.Error("nothing said is right")
	}
	s.Truth.Entry = nil
	p.Truth.Entry, p.Truth.Verdict = nil, []string{"clean"}
	v.Findings = []verdict.Finding{{Rule: "r", Severity: verdict.Medium}}
	if r := score.Judge(s, "running", p, v, nil); len(r.Faults) == 0 || !strings.Contains(r.Faults[0]+r.Faults[1], "accuses") && r.Gravest != verdict.Medium {
		t.Errorf("a control that is accused: %+v", r)
	}
}

// TestOrdered says what counts as right of a verdict over several containers.
func TestOrdered(t *testing.T) {
	ids := map[string]string{"victim": "aa", "store": "bb"}
	v := &verdict.Verdict{Containers: []verdict.Verdict{{Target: verdict.Target{ID: "aa"}}, {Target: verdict.Target{ID: "bb"}}},
		Impact: []verdict.Impact{{Type: "lateral", Statement: "from a to b: it called"}}}
	var r score.Result
	if score.Ordered(&r, []string{"victim", "store"}, ids, v); r.Named != 2 || r.Wanted != 2 || len(r.Faults) > 0 {
		t.Errorf("%+v", r)
	}
	r = score.Result{}
	if score.Ordered(&r, []string{"store", "victim"}, ids, v); r.Named != 1 || len(r.Faults) != 1 {
		t.Errorf("the other order: %+v", r)
	}
	v.Impact, r = nil, score.Result{}
	if score.Ordered(&r, []string{"victim", "store"}, ids, v); r.Named != 1 || len(r.Faults) != 1 {
		t.Errorf("no move: %+v", r)
	}
}

// TestPlay plays one attack and one control to the end; `make score` plays them all.
func TestPlay(t *testing.T) {
	l := lab.Need(t, lab.Docker)
	all, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	sherd, err := filepath.Abs(filepath.Join("..", "..", "bin", "sherd"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(sherd); err != nil {
		t.Fatalf("%v: make build first", err)
	}
	for _, name := range []string{"web-shell", "control-scanner"} {
		i := slices.IndexFunc(all, func(s lab.Scenario) bool { return s.Name == name })
		if i < 0 {
			t.Fatalf("no scenario %s", name)
		}
		got, err := score.Run(context.Background(), l, sherd, t.TempDir(), &all[i], "running")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range got {
			if len(r.Faults) > 0 {
				t.Errorf("%s: %q", name, r.Faults)
			}
		}
	}
}
