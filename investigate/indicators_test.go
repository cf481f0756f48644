package investigate_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/detect/indicator"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/verdict"
)

// TestIndicators finds listed values where they are, graded by what they mean there, each with the bytes that hold it.
func TestIndicators(t *testing.T) {
	const program = "\x7fELF a program"
	at := detecttest.Capture.Add(-time.Minute)
	s := detecttest.Busy()
	s.Connect(s.Foreign(4017, 17, 4001, "/usr/lib/conv", record.ExeDrift, program, at), 3, "203.0.113.9", 4444, 10, 20)
	s.AddFile("/usr/lib/conv", program, 0o755, at)
	s.Env[4001] = append(s.Env[4001], "UPSTREAM=http://a.evil.example/x")
	s.Cores[4001] = []byte(strings.Repeat("\x00", 3<<20) + "seen 198.51.100.7 here")
	s.Request(at, "192.0.2.44", "GET", "/index.html", 200)
	p := s.Write(t)
	set := &indicator.Set{}
	list := "203.0.113.0/24;pool\n" + detecttest.Hash(program) + ";miner\nevil.example\n198.51.100.7\n192.0.2.44;scanner\n/nowhere/at/all\nwhat is this\n"
	if err := set.Read(strings.NewReader(list), "seen.txt"); err != nil {
		t.Fatal(err)
	}
	r, err := investigate.Investigate(context.Background(), p, investigate.Options{Indicators: set})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]verdict.Severity{
		"/usr/lib/conv is listed": verdict.High, "203.0.113.9:4444, which is listed": verdict.High, "the program of process": verdict.High,
		"the environment of": verdict.Medium, "the memory of": verdict.Low, "a line of the log": verdict.Low,
	}
	for _, f := range r.Verdict.Findings {
		if f.Rule != "indicator-match" {
			continue
		}
		known := false
		for w, sev := range want {
			if strings.Contains(f.Statement, w) && strings.Contains(f.Statement, "listed in seen.txt, entry ") {
				if known = true; f.Severity != sev {
					t.Errorf("%s: %s", f.Severity, f.Statement)
				}
				delete(want, w)
				break
			}
		}
		if !known {
			t.Errorf("unexpected: %s", f.Statement)
		}
		if strings.HasPrefix(f.Statement, "the memory of") {
			c := f.Citations[0]
			a, err := p.Open(c.Artifact)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, c.Length)
			if _, err := a.ReadAt(b, c.Offset); err != nil || string(b) != "198.51.100.7" {
				t.Errorf("the citation holds %q, %v", b, err)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
	told := false
	for _, g := range r.Verdict.Gaps {
		told = told || strings.Contains(g.What, "seen.txt")
	}
	if !told {
		t.Errorf("what was left out is no gap: %+v", r.Verdict.Gaps)
	}
	// Without a list nobody is asked.
	plain, err := investigate.Investigate(context.Background(), p, investigate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range plain.Verdict.Findings {
		if f.Rule == "indicator-match" {
			t.Errorf("%s", f.Statement)
		}
	}
}
