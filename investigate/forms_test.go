package investigate_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// ownTimes has a scene's application write the time of each line itself, to the nanosecond.
func ownTimes(s *scene) {
	for i := range s.Logs {
		s.Logs[i].Text = `{"time":"` + s.Logs[i].Time.Format("2006-01-02T15:04:05.000000000Z") + `",` + s.Logs[i].Text[1:]
	}
}

// stamped logs a request with the time that its writer states, in the writer's layout.
func stamped(s *scene, at time.Time, client, method, path, layout string) {
	s.Logs = append(s.Logs, detecttest.Log{Time: at, Text: fmt.Sprintf(`{"time":%q,"level":"info","msg":"request","remote":%q,"method":%q,"path":%q,"status":200}`, at.Format(layout), client, method, path)})
}

// Lines that only look like the application's are set aside, told as a finding that does not weigh, and never name the scope.
func TestForgedLines(t *testing.T) {
	s := detecttest.Busy()
	forgedLines(s)
	v := judge(t, s).Verdict
	if v.RootCause == nil || !strings.Contains(v.RootCause.Statement, "POST /session") || !strings.Contains(v.RootCause.Statement, "2 lines of that time set aside") {
		t.Fatalf("root cause %+v; gaps %+v", v.RootCause, v.Gaps)
	}
	if len(v.Candidates) != 3 || !strings.Contains(v.Candidates[0].Statement, "/session") || len(v.Candidates[1].Against) == 0 {
		t.Errorf("candidates %+v", v.Candidates)
	}
	for _, e := range v.Scope {
		if strings.HasPrefix(e.Value, "198.51.100.77") {
			t.Errorf("the scope names whom the forged lines blame: %+v", e)
		}
	}
	i := slices.IndexFunc(v.Findings, func(f verdict.Finding) bool { return f.Rule == "log-line-of-another-form" })
	if i < 0 || v.Findings[i].Severity != verdict.Low {
		t.Errorf("no low finding tells of the forged lines: %+v", v.Findings)
	}
}

// When every line near is strange, none can be preferred: what there is stays a candidate, with little weight.
func TestOnlyStrangeLines(t *testing.T) {
	s := detecttest.Busy()
	ownTimes(s)
	s.Foreign(4017, 17, 4001, "/memfd:x", record.ExeMemfd, implant, at)
	stamped(s, at.Add(10e6), "198.51.100.77:4000", "POST", "/admin/import", "2006-01-02T15:04:05Z")
	v := judge(t, s).Verdict
	if v.RootCause != nil && v.RootCause.Confidence > 0.2 {
		t.Errorf("root cause %+v", v.RootCause)
	}
}

// A line that states another time than the runtime stamped is set aside where all others agree with it.
func TestStatedTimes(t *testing.T) {
	for _, shifted := range []bool{false, true} {
		s := detecttest.Busy()
		ownTimes(s)
		s.Foreign(4017, 17, 4001, "/memfd:x", record.ExeMemfd, implant, at)
		stamped(s, at.Add(20e6), "10.0.7.31:40022", "POST", "/session", "2006-01-02T15:04:05.000000000Z")
		stamped(s, at.Add(-3*time.Hour), "198.51.100.77:1", "POST", "/admin", "2006-01-02T15:04:05.000000000Z")
		s.Logs[len(s.Logs)-1].Time = at.Add(30e6) // held back, or made up
		if shifted {                              // an application whose clock is an hour off contradicts nothing
			for i := range s.Logs[:len(s.Logs)-1] {
				s.Logs[i].Time = s.Logs[i].Time.Add(time.Hour)
			}
			s.Logs[len(s.Logs)-1].Time = s.Logs[len(s.Logs)-1].Time.Add(time.Hour)
		}
		v := judge(t, s).Verdict
		found := slices.ContainsFunc(v.Findings, func(f verdict.Finding) bool { return f.Rule == "log-time-contradicts" })
		if found == shifted {
			t.Errorf("shifted %v: contradiction told: %v", shifted, found)
		}
		if !shifted && (v.RootCause == nil || !strings.Contains(v.RootCause.Statement, "POST /session")) {
			t.Errorf("root cause %+v", v.RootCause)
		}
	}
}

// Fields that come and go with a request, and requests of an updated application, are not strange.
func TestHonestForms(t *testing.T) {
	for name, change := range map[string]func(*scene){
		"an error's field": func(s *scene) {
			stamped(s, at.Add(20e6), "10.0.7.31:40022", "POST", "/session", "2006-01-02T15:04:05.000000000Z")
			l := &s.Logs[len(s.Logs)-1]
			l.Text = strings.Replace(l.Text, `"status":200}`, `"status":500,"error":"EOF"}`, 1)
		},
		"many lines of a second logger": func(s *scene) {
			for i := range 30 {
				stamped(s, detecttest.Start.Add(time.Duration(i)*time.Hour), "10.0.7.40:1", "GET", "/metrics2", "2006-01-02T15:04:05Z")
			}
			stamped(s, at.Add(20e6), "10.0.7.31:40022", "POST", "/session", "2006-01-02T15:04:05Z")
		},
	} {
		s := detecttest.Busy()
		ownTimes(s)
		s.Foreign(4017, 17, 4001, "/memfd:x", record.ExeMemfd, implant, at)
		change(s)
		v := judge(t, s).Verdict
		if slices.ContainsFunc(v.Findings, func(f verdict.Finding) bool { return f.Rule == "log-line-of-another-form" }) {
			t.Errorf("%s is called strange", name)
		}
		if v.RootCause == nil || !strings.Contains(v.RootCause.Statement, "POST /session") || v.RootCause.Confidence < 0.8 {
			t.Errorf("%s: root cause %+v", name, v.RootCause)
		}
	}
}

// A foreign file whose time was set says so; one copied with its times by honest work is no finding that another does not make.
func TestSetTimes(t *testing.T) {
	s := detecttest.Busy()
	s.AddFile("/data/old", implant, 0o755, at).Mtime = detecttest.Start.Add(-9000 * time.Hour).UnixNano()
	s.AddFile("/data/kept.txt", "a page", 0o644, at).Mtime = detecttest.Start.Add(-9000 * time.Hour).UnixNano()
	s.AddFile("/data/new", implant, 0o755, at)
	n := 0
	for _, f := range judge(t, s).Verdict.Findings {
		if f.Rule == "file-times-contradict" {
			n++
			if !strings.Contains(f.Statement, "/data/old") {
				t.Errorf("%s", f.Statement)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d findings", n)
	}
}
