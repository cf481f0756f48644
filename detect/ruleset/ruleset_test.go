package ruleset

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const rule = "title: T\nname: %\nlogsource: {product: linux, service: auditd}\ndetection: {a: {comm: x}, condition: a}\n"

func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestLoad: a folder's rules are loaded, what is none is passed over, what can't be loaded is named.
func TestLoad(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yml": strings.Replace(rule, "%", "a", 1), "deep/er/b.YAML": strings.Replace(rule, "%", "b", 1), "README.md": "detection: none", "config.yml": "x: 1",
		"bad.yml": "title: T\ndetection: [", ".git/c.yml": strings.Replace(rule, "%", "c", 1),
		"corr.yml": "title: C\ncorrelation: {type: event_count, rules: [b], timespan: 1m, condition: {gte: 1}}\n",
		"miss.yml": "title: M\ncorrelation: {type: event_count, rules: [nobody], timespan: 1m, condition: {gte: 1}}\n",
	})
	if err := os.Symlink(filepath.Join(dir, "a.yml"), filepath.Join(dir, "link.yml")); err != nil {
		t.Fatal(err)
	}
	s := Empty()
	if err := s.Load(dir); err != nil {
		t.Fatal(err)
	}
	var why []string
	for _, r := range s.Refused {
		why = append(why, filepath.Base(r.File)+" "+r.Why)
	}
	if s.Loaded["Sigma"] != 3 || len(why) != 2 || !strings.HasPrefix(why[0], "bad.yml it is no YAML") || why[1] != "miss.yml correlation: the rule nobody is not loaded" {
		t.Errorf("%v %q", s.Loaded, why)
	}
	if r := s.Rules(); len(r) != 2 || r[0].Origin != filepath.Join(dir, "a.yml") || r[1].Title != "C" {
		t.Errorf("%+v", r)
	}
	if l := s.Languages(); len(l) != 2 || l[0].Name() != "Sigma" || l[1].Name() != "rules" {
		t.Errorf("%v", l)
	}
	if f := s.Folders(); !slices.Contains(f, "added/") || slices.Contains(f, "logs/") {
		t.Errorf("events are looked for in %q", f)
	}
	if f := Empty().Folders(); f == nil || len(f) != 0 {
		t.Errorf("without rules, events of %q are read", f)
	}
}

// TestNothing: a folder without a rule, or without one that can be loaded, is an error.
func TestNothing(t *testing.T) {
	for want, dir := range map[string]string{
		"has no rules":          write(t, map[string]string{"x.txt": "x", "y.yml": "a: b"}),
		"no rule of":            write(t, map[string]string{"bad.yml": "title: T\ndetection: {}"}),
		"no such file":          "/nonexistent/rules",
		"neither a file nor":    "/dev/null",
		"it is no rule: YARA, ": filepath.Join(write(t, map[string]string{"x.txt": "hello"}), "x.txt"),
	} {
		if err := New().Load(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
}

// TestClassify: by name, then by content.
func TestClassify(t *testing.T) {
	for _, x := range []struct {
		ext, src string
		want     kind
	}{
		{".yar", "", isYARA}, {".yara", "", isYARA}, {".yml", "title: x\ndetection:\n", isSigma}, {".yml", "correlation: {}", isSigma},
		{".yml", "rules:\n  - id: x\n    when: process.uid == 0\n", isCEL}, {".yml", "- when: true", isCEL}, {".yaml", "a: b", none}, {".txt", "x", isUnknown},
	} {
		if got := classify(x.ext, []byte(x.src)); got != x.want {
			t.Errorf("%s %q: %q, want %q", x.ext, x.src, got, x.want)
		}
	}
}

// TestBehaviour: rules in CEL are loaded beside the others, and may look at events of any kind.
func TestBehaviour(t *testing.T) {
	src, err := os.ReadFile("../behaviour/rules/file.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := write(t, map[string]string{"mine.yaml": strings.Replace(strings.Split(string(src), "\n---")[0], "id: ", "id: mine-", 1)})
	s := Empty()
	if err := s.Load(dir); err != nil {
		t.Fatal(err)
	}
	if s.Loaded["behaviour"] != 1 || len(s.Refused) > 0 || s.Folders() != nil {
		t.Errorf("%v %v %q", s.Loaded, s.Refused, s.Folders())
	}
	if r := s.Rules(); len(r) != 1 || !strings.HasPrefix(r[0].ID, "mine-") {
		t.Errorf("%+v", r)
	}
}
