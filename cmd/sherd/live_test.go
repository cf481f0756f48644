package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/verdict"
)

// sherd runs the command line in-process with the lab's sockets and a home of the test's own.
func sherd(t *testing.T, l *lab.Lab, args ...string) (status int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	args = append(args, "--docker-host", l.DockerHost(), "--containerd-address", l.ContainerdAddress(),
		"--podman-root", l.PodmanRoot(), "--podman-runroot", l.PodmanRunRoot())
	status = run(args, strings.NewReader(""), &o, &e)
	return status, o.String(), e.String()
}

// investigated is one container judged.
type investigated struct {
	pkg     string
	verdict verdict.Verdict
	text    string
}

func investigateTarget(t *testing.T, l *lab.Lab, url string, want int) investigated {
	t.Helper()
	dir := t.TempDir()
	pkg, js, page := filepath.Join(dir, "x.sherd"), filepath.Join(dir, "x.json"), filepath.Join(dir, "x.html")
	begin := time.Now()
	status, out, errOut := sherd(t, l, "investigate", url, "-o", pkg, "--json", js, "--html", page)
	t.Logf("%s: %v\n%s%s", url, time.Since(begin).Round(time.Millisecond), out, errOut)
	if status != want {
		t.Fatalf("sherd investigate %s ended with %d, want %d", url, status, want)
	}
	for i, c := range out {
		if c < 0x20 && c != '\n' || c == 0x7f {
			t.Fatalf("control character %q in the output at byte %d", c, i)
		}
	}
	b, err := os.ReadFile(js)
	if err != nil {
		t.Fatal(err)
	}
	got := investigated{pkg: pkg, text: out}
	if err := json.Unmarshal(b, &got.verdict); err != nil {
		t.Fatalf("the verdict is not JSON: %v\n%s", err, b)
	}
	if err := got.verdict.Check(); err != nil {
		t.Errorf("the verdict is not sound: %v", err)
	}
	checkCitations(t, got)
	if st, err := os.Stat(page); err != nil || st.Size() < 10_000 {
		t.Errorf("no report: %v", err)
	}
	if status, out, errOut := sherd(t, l, "verify", pkg); status != 0 {
		t.Errorf("verify ended with %d: %s%s", status, out, errOut)
	}
	return got
}

// checkCitations opens the bytes behind every citation.
func checkCitations(t *testing.T, got investigated) {
	t.Helper()
	p, err := evidence.Open(got.pkg, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var all []verdict.Citation
	if rc := got.verdict.RootCause; rc != nil {
		all = append(all, rc.Citations...)
	}
	for _, x := range got.verdict.Scope {
		all = append(all, x.Citations...)
	}
	for _, x := range got.verdict.Impact {
		all = append(all, x.Citations...)
	}
	for _, x := range got.verdict.Findings {
		all = append(all, x.Citations...)
	}
	for _, x := range got.verdict.Story {
		all = append(all, x.Citations...)
	}
	for _, c := range all {
		e, ok := p.Artifact(c.Artifact)
		if !ok {
			t.Errorf("citation of %q, which the package does not hold", c.Artifact)
			continue
		}
		if e.SHA256 != c.SHA256 || c.Offset+c.Length > e.Size {
			t.Errorf("citation %+v does not fit artifact %+v", c, e)
		}
	}
}

// has looks for an entity in the scope.
func (i investigated) has(kind, value string) *verdict.Entity {
	for k := range i.verdict.Scope {
		if e := &i.verdict.Scope[k]; e.Type == kind && e.Value == value {
			return e
		}
	}
	return nil
}

// scope renders the scope for a failure's message.
func (i investigated) scope() string {
	var b strings.Builder
	for _, e := range i.verdict.Scope {
		fmt.Fprintf(&b, "  %s %s pid %d %s (%s)\n", e.Type, e.Value, e.PID, e.SHA256, e.Role)
	}
	return b.String()
}

// TestLiveAttacks breaks into a real container of each runtime and holds the verdict against what was done.
func TestLiveAttacks(t *testing.T) {
	l := lab.Need(t, "docker", "containerd", "podman")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for k, runtime := range []string{"docker", "containerd", "podman"} {
		for n, a := range lab.Attacks() {
			// Under the race detector, which is after our code and not after theirs, each attack is carried out once.
			if os.Getenv("SHERD_RACE") != "" && n%3 != k {
				continue
			}
			t.Run(runtime+"/"+a.Name, func(t *testing.T) {
				spec := lab.RunSpec{Runtime: runtime, Image: a.Image, Name: "victim"}
				if a.Root {
					spec.User = "0:0"
				}
				c := l.Run(t, spec)
				truth := attack(t, l, c, a.Name)
				want := 3
				got := investigateTarget(t, l, c.Target, want)
				judge(t, got, truth)
			})
		}
	}
}

// TestLivePid investigates by pid alone, as when no runtime answers.
func TestLivePid(t *testing.T) {
	l := lab.Need(t, "containerd")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c := l.Run(t, lab.RunSpec{Runtime: "containerd", Image: "goweb", Name: "bypid"})
	truth := attack(t, l, c, lab.Attacks()[0].Name)
	got := investigateTarget(t, l, fmt.Sprintf("pid://%d", c.PID), 3)
	judge(t, got, truth)
}

// attack breaks into c and waits until the attack has done its work.
func attack(t *testing.T, l *lab.Lab, c *lab.Container, name string) *lab.Truth {
	t.Helper()
	c2, err := lab.ListenC2(c.Host())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c2.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	truth, err := l.Attack(ctx, c, name, c2)
	if err != nil {
		t.Fatal(err)
	}
	return truth
}

// judge holds a verdict against the truth.
func judge(t *testing.T, got investigated, truth *lab.Truth) {
	t.Helper()
	if got.verdict.Verdict != verdict.Compromised && got.verdict.Verdict != verdict.Suspicious {
		t.Errorf("judged %s", got.verdict.Verdict)
	}
	for _, path := range append(append([]string{}, truth.Dropped...), truth.Replaced...) {
		if got.has(verdict.EntityFile, path) == nil {
			t.Errorf("scope lacks the file %s:\n%s", path, got.scope())
		}
	}
	if truth.PID != 0 {
		found := false
		for _, e := range got.verdict.Scope {
			found = found || e.Type == verdict.EntityProcess && e.PID == truth.PID
		}
		if !found {
			t.Errorf("scope lacks process %d:\n%s", truth.PID, got.scope())
		}
	}
	if truth.C2 != "" && got.has(verdict.EntityAddress, truth.C2) == nil {
		t.Errorf("scope lacks the address %s:\n%s", truth.C2, got.scope())
	}
	if rc := got.verdict.RootCause; rc != nil && rc.Time != "" {
		at, err := time.Parse(time.RFC3339Nano, rc.Time)
		if err != nil || at.Before(truth.Began.Add(-2*time.Second)) || at.After(truth.Ended.Add(2*time.Second)) {
			t.Errorf("root cause at %s, but the attack went from %s to %s (%v)", rc.Time, truth.Began, truth.Ended, err)
		}
	}
}
