package investigate_test

import (
	"context"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/verdict"
)

// Secrets of tests are put together, so that no scanner takes this file for a leak.
var (
	hubToken     = "gh" + "p_" + strings.Repeat("aB3xZ9qLm0", 4)[:36]
	accountToken = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256"}`)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://kubernetes.default.svc","sub":"system:serviceaccount:shop:checkout","exp":1796000000}`)) + "." + strings.Repeat("aB3xZ9qLm0", 8)
	monero = "888tNkZrPN6JsEgekjMnABU4TBzc2Dt29EPAvkRxbANsAnjyPbb3iQ1YBRk1UXcdRsiKc9dhwMVgN5S9cQUiyoogDavup3H"
)

// remember gives a process a heap with content, kept in its core.
func remember(s *detecttest.Scene, pid int, content string) {
	s.Cores[pid] = []byte(content)
	for i := range s.Maps[pid] {
		m := &s.Maps[pid][i]
		if m.Path == "[heap]" {
			m.Segments = []record.Segment{{Addr: m.Start, Length: int64(len(content)), CoreOffset: 0}}
		}
	}
}

// compiled is a real program.
func compiled(t *testing.T) string {
	t.Helper()
	testenv.NeedTool(t, "gcc")
	dir := t.TempDir()
	src, out := filepath.Join(dir, "a.c"), filepath.Join(dir, "a")
	if err := os.WriteFile(src, []byte("#include <sys/ptrace.h>\nint main(void){return ptrace(0,0,0,0);}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command("gcc", "-o", out, src).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func broken(t *testing.T) *detecttest.Scene {
	t.Helper()
	program := compiled(t)
	s := detecttest.Busy()
	p := s.Foreign(4017, 17, 4001, "/usr/lib/conv", record.ExeDeleted, program, detecttest.Attack)
	s.Connect(p, 3, "203.0.113.9", 4444, 100, 200)
	remember(s, 4001, "upload: "+program+" token "+accountToken)
	remember(s, 4017, "GET http://203.0.113.9:4444/task?id=1\x00db postgres://shop:pa55word@db.example.com/x\x00"+hubToken+"\x00Authorization: Bearer "+accountToken+
		"\x00stratum+tcp://pool.example.net:3333\x00"+monero+"\x00")
	return s
}

func findings(r *investigate.Result, rule string) []verdict.Finding {
	var out []verdict.Finding
	for _, f := range r.Verdict.Findings {
		if f.Rule == rule {
			out = append(out, f)
		}
	}
	return out
}

func judged(t *testing.T, s *detecttest.Scene, o investigate.Options, without ...string) *investigate.Result {
	t.Helper()
	r, err := investigate.Investigate(context.Background(), s.Write(t, without...), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMemoryOfForeignProcess(t *testing.T) {
	r := judged(t, broken(t), investigate.Options{})
	for rule, words := range map[string][]string{
		"program-facts":           {"/usr/lib/conv is a dynamically linked C ELF for ", "not stripped", "trace processes", "needs libc.so.6"},
		"memory-program-carved":   {`process 1 "server" holds a program at 0x600008 in [heap], as a file (whole)`, "it is the same as /usr/lib/conv"},
		"memory-names-peer":       {"names its peer 203.0.113.9:4444: http://203.0.113.9:4444/task?id=1"},
		"memory-mentions":         {"postgres://shop:***@db.example.com/x"},
		"memory-holds-credential": {"GitHub token ghp_… (40 B, sha256 ", "Kubernetes service-account token eyJ…", "subject system:serviceaccount:shop:checkout"},
		"memory-names-pool":       {"the mining pool stratum+tcp://pool.example.net:3333", "the Monero wallet " + monero},
	} {
		all := ""
		for _, f := range findings(r, rule) {
			all += f.Statement + "\n"
			if f.Severity.Rank() > verdict.Low.Rank() {
				t.Errorf("%s is graded %s", rule, f.Severity)
			}
		}
		for _, w := range words {
			if !strings.Contains(all, w) {
				t.Errorf("%s does not say %q: %q", rule, w, all)
			}
		}
	}
	var held []string
	for _, e := range r.Verdict.Scope {
		if e.Role == "held" {
			held = append(held, e.Type+" "+e.Value)
		}
		if e.Type == verdict.EntityDomain || e.Value == "db.example.com" {
			t.Errorf("a mention became part of the scope: %+v", e)
		}
		if e.Type == verdict.EntityFile && e.Value == "/usr/lib/conv" && !strings.Contains(e.Why, "; dynamically linked C ELF") {
			t.Errorf("the file's entry does not say what it is: %q", e.Why)
		}
	}
	if len(held) != 2 || !strings.HasPrefix(held[0], "credential GitHub token sha256:") || held[1] != "credential system:serviceaccount:shop:checkout" {
		t.Errorf("held: %q", held)
	}
	kinds := ""
	for _, i := range r.Verdict.Impact {
		kinds += i.Type + ": " + i.Statement + "\n"
	}
	if !strings.Contains(kinds, "credential: held in memory: GitHub token") || !strings.Contains(kinds, "resource: the memory or program of process 17") {
		t.Errorf("impact: %s", kinds)
	}
}

// TestMemoryOfHonestProcess: what a server holds its clients sent, and its own tokens are its own.
func TestMemoryOfHonestProcess(t *testing.T) {
	s := detecttest.Busy()
	remember(s, 4001, compiled(t)+"\x00stratum+tcp://pool.example.net:3333\x00"+hubToken+"\x00"+monero+"\x00http://203.0.113.9:4444/x\x00")
	r, plain := judged(t, s, investigate.Options{}), judged(t, detecttest.Busy(), investigate.Options{})
	if r.Verdict.Verdict != plain.Verdict.Verdict || r.Verdict.Confidence != plain.Verdict.Confidence || len(r.Verdict.Findings) != len(plain.Verdict.Findings) {
		t.Errorf("%s %.2f %+v", r.Verdict.Verdict, r.Verdict.Confidence, r.Verdict.Findings)
	}
	// Beside an intruder it is still not his.
	s = broken(t)
	remember(s, 4001, hubToken+"\x00stratum+tcp://pool.example.net:3333\x00")
	remember(s, 4017, "nothing at all")
	r = judged(t, s, investigate.Options{})
	for _, rule := range []string{"memory-program-carved", "memory-names-peer", "memory-mentions", "memory-holds-credential", "memory-names-pool"} {
		if f := findings(r, rule); len(f) > 0 {
			t.Errorf("%s: %+v", rule, f)
		}
	}
}

func TestMemoryMissing(t *testing.T) {
	r := judged(t, broken(t), investigate.Options{}, "cores")
	blind := 0
	for i := range r.Answers {
		a := &r.Answers[i]
		if strings.HasPrefix(a.Rule.ID, "memory-") && a.State() == detect.Blind {
			blind++
		}
	}
	if blind != 5 {
		t.Errorf("%d rules are blind", blind)
	}
	if r.Verdict.Confidence > judged(t, broken(t), investigate.Options{}).Verdict.Confidence {
		t.Error("less evidence made the verdict surer")
	}
}

func TestSecretsAreNotSaid(t *testing.T) {
	s := broken(t)
	for i := range s.Processes {
		s.Processes[i].Cmdline = append(s.Processes[i].Cmdline, "--password", "hunter2", record.Name(strings.Repeat("x", 150)), record.Name(hubToken))
	}
	hidden, shown := judged(t, s, investigate.Options{}), judged(t, s, investigate.Options{Reveal: true})
	for _, p := range hidden.Processes {
		if strings.Contains(p.Cmdline, "hunter2") || strings.Contains(p.Cmdline, hubToken[4:12]) {
			t.Errorf("the command line says %q", p.Cmdline)
		}
	}
	if !strings.Contains(shown.Processes[0].Cmdline, "hunter2") {
		t.Errorf("revealed, the command line says %q", shown.Processes[0].Cmdline)
	}
	for _, f := range hidden.Verdict.Findings {
		if strings.Contains(f.Statement, hubToken[8:]) || strings.Contains(f.Statement, "pa55word") {
			t.Errorf("%s says %q", f.Rule, f.Statement)
		}
	}
}
