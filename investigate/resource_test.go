package investigate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

func TestResource(t *testing.T) {
	const program = detecttest.ELF + "m"
	started := detecttest.Capture.Add(-20 * time.Second)
	for _, c := range []struct {
		name string
		make func(s *detecttest.Scene)
		want string // in the statement, "" if nothing is to be said
	}{
		{"a foreign program that computes", func(s *detecttest.Scene) {
			s.Foreign(4017, 17, 4001, "/tmp/x", record.ExeDrift, program, started).CPUTime = int64(12 * time.Second)
			s.Extra["host/cgroup/cpuacct/cpuacct.usage"] = "15000000000\n"
		}, "used 12.0 s of processor time in 20.0 s, 60 % of one processor; all of the container used 15.0 s"},
		{"the second version of control groups", func(s *detecttest.Scene) {
			s.Foreign(4017, 17, 4001, "/tmp/x", record.ExeDrift, program, started).CPUTime = int64(12 * time.Second)
			s.Extra["host/cgroup/cpu.stat"] = "usage_usec 15000000\nuser_usec 1\n"
		}, "all of the container used 15.0 s"},
		{"one that waits most of the time", func(s *detecttest.Scene) {
			s.Foreign(4017, 17, 4001, "/tmp/x", record.ExeDrift, program, started).CPUTime = int64(3 * time.Second)
		}, ""},
		{"one that has hardly begun", func(s *detecttest.Scene) {
			s.Foreign(4017, 17, 4001, "/tmp/x", record.ExeDrift, program, detecttest.Capture.Add(-time.Second)).CPUTime = int64(900 * time.Millisecond)
		}, ""},
		{"the image's own program, hard at work", func(s *detecttest.Scene) {
			s.Processes[0].CPUTime = int64(60 * time.Hour)
			s.AddFile("/tmp/x", program, 0o755, detecttest.Attack)
		}, ""},
		{"code in the image's own program that speaks with a pool", func(s *detecttest.Scene) {
			s.Connect(&s.Processes[0], 9, "203.0.113.9", 3333, 10, 20)
			s.Cores[4001] = []byte(`{"id":1,"method":"mining.subscribe"}{"id":2,"method":"mining.submit"}`)
		}, "mines with 203.0.113.9:3333 and used at most 2.0 s of processor time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := detecttest.Busy()
			c.make(s)
			r := judge(t, s)
			i := slices.IndexFunc(r.Verdict.Impact, func(i verdict.Impact) bool { return i.Type == verdict.ImpactResource })
			switch {
			case c.want == "" && i >= 0:
				t.Errorf("says %q", r.Verdict.Impact[i].Statement)
			case c.want != "" && (i < 0 || !strings.Contains(r.Verdict.Impact[i].Statement, c.want)):
				t.Errorf("impact: %+v", r.Verdict.Impact)
			}
		})
	}
}
