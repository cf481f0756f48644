package investigate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// Of requests near what came, one alone that changes something, on a route that is hardly ever served, is likelier than those that ask.
func TestOneThatChangesStandsOut(t *testing.T) {
	s := detecttest.Busy()
	s.Foreign(4017, 17, 4001, "/memfd:x", record.ExeMemfd, implant, at)
	for i := range 5 {
		s.Request(at.Add(time.Duration(i)*time.Millisecond), "10.0.7.4"+string(rune('0'+i))+":9", "GET", "/rare/"+string(rune('a'+i)), 200)
	}
	s.Request(at.Add(7*time.Millisecond), "10.0.7.31:1", "POST", "/import", 200)
	rc := judge(t, s).Verdict.RootCause
	if rc == nil || !strings.Contains(rc.Statement, "POST /import") || !strings.Contains(rc.Statement, "only request") {
		t.Errorf("root cause %+v", rc)
	}
}

// heard gives the application a connection that nothing explains, last used a while before the capture.
func heard(s *scene, before time.Duration) {
	s.Connect(&s.Processes[0], 9, "203.0.113.9", 4444, 2048, 20)
	ms := uint32(before.Milliseconds())
	last := &s.Sockets[len(s.Sockets)-1]
	last.LastSentMS, last.LastReceivedMS = &ms, &ms
}

// That a connection was last used at a time does not say that it began then: an earlier request may have made it, a later one not.
func TestConnectionsFirstSignIsABound(t *testing.T) {
	for _, c := range []struct {
		name   string
		logged time.Time
		cause  bool
	}{
		{"long before", detecttest.Capture.Add(-10 * time.Minute), true},
		{"just then", detecttest.Capture.Add(-61 * time.Second), true},
		{"afterwards", detecttest.Capture.Add(-30 * time.Second), false},
	} {
		s := detecttest.Busy()
		s.Request(c.logged, "10.0.7.31:1", "POST", "/import", 200)
		heard(s, time.Minute)
		rc := judge(t, s).Verdict.RootCause
		if (rc != nil) != c.cause || rc != nil && !strings.Contains(rc.Statement, "POST /import") {
			t.Errorf("%s: root cause %+v", c.name, rc)
		}
	}
}

// The moment is counted from when the socket was seen: a capture takes its time.
func TestSocketsAreSeenLater(t *testing.T) {
	s := detecttest.Busy()
	s.Request(detecttest.Capture.Add(-50*time.Second), "10.0.7.31:1", "POST", "/import", 200)
	heard(s, time.Minute)
	s.Sockets[len(s.Sockets)-1].Observed = detecttest.Capture.Add(10 * time.Second).UnixNano()
	rc := judge(t, s).Verdict.RootCause
	if rc == nil || !strings.Contains(rc.Statement, "no other request") || !strings.Contains(rc.Statement, "POST /import") {
		t.Errorf("root cause %+v", rc)
	}
}

// A place where updates go excuses what the application puts there, not what a client's request names.
func TestRequestIntoThePlaceOfUpdates(t *testing.T) {
	update := func(s *scene) {
		s.Config = strings.Replace(s.Config, `"PATH=`, `"UPDATE_DIR=/app/lib","PATH=`, 1)
		s.Replace("/app/lib/libimg.so", elf+"other", at)
	}
	s := detecttest.Busy()
	update(s)
	if v := judge(t, s).Verdict; v.Verdict != verdict.Clean {
		t.Errorf("an update is judged %s: %+v", v.Verdict, v.Findings)
	}
	s = detecttest.Busy()
	update(s)
	s.Request(at.Add(5*time.Millisecond), "10.0.7.31:1", "POST", "/avatar?name=..%2F..%2Fapp%2Flib%2Flibimg.so", 201)
	v := judge(t, s).Verdict
	if v.Verdict != verdict.Compromised || v.RootCause == nil || !strings.Contains(v.RootCause.Statement, "POST /avatar") {
		t.Errorf("a request that put it there is judged %s, root cause %+v", v.Verdict, v.RootCause)
	}
}
