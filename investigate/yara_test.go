package investigate_test

import (
	"context"
	"testing"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/detect/yara"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/verdict"
)

const page = `<%@ page import="java.util.*" %><% Process p = Runtime.getRuntime().exec(request.getParameter("c")); %>`

// Sherd's own rules in YARA: an honest container stays clean, a page that takes commands is in scope, and with a part of the evidence
// gone the verdict is never a stronger one.
func TestYara(t *testing.T) {
	set := yara.New()
	judge := func(s *detecttest.Scene, without ...string) *verdict.Verdict {
		t.Helper()
		r, err := investigate.Investigate(context.Background(), s.Write(t, without...), investigate.Options{Languages: []detect.Language{set}})
		if err != nil {
			t.Fatal(err)
		}
		return &r.Verdict
	}
	honest := detecttest.Busy()
	honest.Cores[4001] = make([]byte, 8192)
	if v := judge(honest); v.Verdict != verdict.Clean {
		t.Errorf("an honest container is %s: %+v %+v", v.Verdict, v.Findings, v.Gaps)
	}
	if v := judge(honest, "cores"); v.Verdict == verdict.Compromised || v.Verdict == verdict.Suspicious {
		t.Errorf("without cores it is %s", v.Verdict)
	}
	attacked := detecttest.Busy()
	attacked.Cores[4001] = make([]byte, 8192)
	attacked.AddFile("/app/static/status.jsp", page, 0o644, detecttest.Attack)
	whole := judge(attacked)
	if whole.Verdict != verdict.Compromised {
		t.Errorf("with a page that takes commands it is %s", whole.Verdict)
	}
	found := false
	for _, e := range whole.Scope {
		found = found || e.Type == verdict.EntityFile && e.Value == "/app/static/status.jsp" && e.SHA256 == detecttest.Hash(page)
	}
	if !found {
		t.Errorf("the page is not in scope: %+v", whole.Scope)
	}
	for _, part := range detecttest.Parts {
		v := judge(attacked, part)
		if v.Verdict == verdict.Compromised && v.Confidence > whole.Confidence {
			t.Errorf("without %s the confidence rises from %v to %v", part, whole.Confidence, v.Confidence)
		}
	}
}
