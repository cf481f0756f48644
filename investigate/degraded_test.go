package investigate_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/verdict"
)

// weaker holds a verdict on a part of the evidence against that on all of it: no stronger word, no more confidence, and nothing claimed
// that the whole did not show.
func weaker(t *testing.T, label any, full, v *verdict.Verdict) {
	t.Helper()
	if rank(v.Verdict) > rank(full.Verdict) || v.Verdict == verdict.Clean && full.Verdict != verdict.Clean {
		t.Errorf("%v: it is %s, with everything %s: %+v", label, v.Verdict, full.Verdict, v.Findings)
	}
	if v.Verdict == full.Verdict && v.Confidence > full.Confidence {
		t.Errorf("%v: the confidence is %v, with everything %v", label, v.Confidence, full.Confidence)
	}
	if v.RootCause != nil && (full.RootCause == nil || v.RootCause.Confidence > full.RootCause.Confidence) {
		t.Errorf("%v: there is a stronger root cause: %+v, with everything %+v", label, v.RootCause, full.RootCause)
	}
	for _, e := range v.Scope {
		if !slices.ContainsFunc(full.Scope, func(o verdict.Entity) bool { return o.Type == e.Type && o.Value == e.Value }) {
			t.Errorf("%v: the scope names %s (%s), which it does not with everything", label, e.ID(), e.Why)
		}
	}
	for _, i := range v.Impact {
		if !slices.ContainsFunc(full.Impact, func(o verdict.Impact) bool { return o.Type == i.Type }) {
			t.Errorf("%v: the impact names %s (%s), which it does not with everything", label, i.Type, i.Statement)
		}
	}
}

// only keeps these parts and takes all others away.
func only(keep ...string) []string {
	return slices.DeleteFunc(slices.Clone(detecttest.Parts), func(p string) bool { return slices.Contains(keep, p) })
}

// Whatever part of the evidence is missing, the verdict is never stronger than with it, never clean, and invents nothing.
func TestMissingPartsNeverStrengthen(t *testing.T) {
	scenes := map[string]func(*scene){"three requests, one of them forged": forgedLines, "a pod whose token is used": func(s *scene) { inCluster(s); stolenCalls(s) },
		"a pod that was started again": func(s *scene) { inCluster(s); s.AsPod(2); stolenCalls(s) }}
	for n, a := range attacks {
		scenes[n] = a.make
	}
	for n, h := range honest {
		scenes[n] = h
	}
	for name, make := range scenes {
		t.Run(name, func(t *testing.T) {
			s := detecttest.Busy()
			make(s)
			full := judge(t, s).Verdict
			for i, part := range detecttest.Parts {
				for _, without := range [][]string{{part}, {part, detecttest.Parts[(i+3)%len(detecttest.Parts)]}} {
					weaker(t, without, &full, &judge(t, s, without...).Verdict)
				}
			}
			for label, without := range map[string][]string{
				"the file system alone": only("inventory", "mounts", "upper", "target", "host", "coverage"),
				"processes alone":       only("processes", "environ", "programs", "target", "host", "coverage"),
				"the network alone":     only("sockets", "processes", "target", "host"),
				"logs alone":            only("logs", "target"),
			} {
				weaker(t, label, &full, &judge(t, s, without...).Verdict)
			}
		})
	}
}

// A package that was cut short is judged by what is left of it.
func TestCutShort(t *testing.T) {
	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			s := detecttest.Busy()
			a.make(s)
			// What compresses badly fills frames, so that a cut leaves some whole.
			seed := uint32(1)
			noise := make([]byte, 3<<20)
			for i := range noise {
				seed = seed*1664525 + 1013904223
				noise[i] = byte(seed >> 24)
			}
			s.Extra["filesystem/upper/data/blob"] = string(noise)
			p := s.Write(t)
			r, err := investigate.Investigate(context.Background(), p, investigate.Options{})
			if err != nil {
				t.Fatal(err)
			}
			whole, err := os.ReadFile(p.Path())
			if err != nil {
				t.Fatal(err)
			}
			opened := 0
			for _, tenth := range []int{3, 5, 7, 9} {
				path := filepath.Join(t.TempDir(), "cut.sherd")
				if err := os.WriteFile(path, whole[:len(whole)*tenth/10], 0o600); err != nil {
					t.Fatal(err)
				}
				cut, err := evidence.Open(path, evidence.OpenOptions{})
				if err != nil {
					continue // too little to be a package
				}
				opened++
				c, err := investigate.Investigate(context.Background(), cut, investigate.Options{})
				if err != nil {
					t.Fatal(err)
				}
				weaker(t, tenth, &r.Verdict, &c.Verdict)
				if !slices.ContainsFunc(c.Verdict.Gaps, func(g verdict.Gap) bool { return g.What == "the end of the package" }) {
					t.Error("no gap tells that it is cut")
				}
				cut.Close()
			}
			if opened == 0 {
				t.Error("no cut package could be opened")
			}
		})
	}
}

// forgedLines is an attack amid which the application's own log gets lines that blame somebody else.
func forgedLines(s *scene) {
	ownTimes(s)
	s.Foreign(4017, 17, 4001, "/memfd:x", record.ExeMemfd, implant, at)
	stamped(s, at.Add(20e6), "10.0.7.31:40022", "POST", "/session", "2006-01-02T15:04:05.000000000Z")
	for i := range 2 {
		stamped(s, at.Add(10e6), "198.51.100.77:4000"+string(rune('0'+i)), "POST", "/admin/import", "2006-01-02T15:04:05Z")
	}
}
