package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/verdict"
)

// call is a line of the API server's audit log.
func call(second int, verb, resource string) string {
	return fmt.Sprintf(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"e%d","stage":"ResponseComplete","requestURI":"/x","verb":%q,"user":{"username":"system:serviceaccount:shop:shop"},"sourceIPs":["10.0.7.5"],"userAgent":"curl/8","objectRef":{"resource":%q,"namespace":"shop","apiVersion":"v1"},"responseStatus":{"code":200},"requestReceivedTimestamp":"2026-11-23T03:02:%02d.000000Z"}`+"\n",
		second, verb, resource, second)
}

// judged runs investigate and gives the verdict and the exit status.
func judged(t *testing.T, args ...string) (verdict.Verdict, int) {
	t.Helper()
	var out, errOut bytes.Buffer
	status := run(append([]string{"investigate", "--json", "-"}, args...), strings.NewReader(""), &out, &errOut)
	var v verdict.Verdict
	if err := json.Unmarshal(out.Bytes(), &v); err != nil {
		t.Fatalf("status %d, %v: %s", status, err, errOut.String())
	}
	return v, status
}

func finding(v *verdict.Verdict, rule string) *verdict.Finding {
	for i := range v.Findings {
		if v.Findings[i].Rule == rule {
			return &v.Findings[i]
		}
	}
	return nil
}

// TestInvestigateRules: rules over events have their part in a verdict, and their proofs are shown.
func TestInvestigateRules(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	plain := detecttest.Busy().Write(t).Path()
	before, status := judged(t, plain)
	if status != exitOK {
		t.Fatalf("%d %s %+v", status, before.Verdict, before.Findings)
	}
	s := detecttest.Busy()
	s.Extra["added/var/log/audit.log"] = call(1, "create", "selfsubjectrulesreviews") + call(5, "list", "secrets") + call(9, "get", "pods")
	with := s.Write(t).Path()
	v, status := judged(t, with)
	f := finding(&v, "k8s-rights-then-secrets")
	if f == nil || f.Severity != verdict.Medium || v.Verdict != verdict.Suspicious || status != exitVerdict {
		t.Fatalf("%d %s %+v", status, v.Verdict, v.Findings)
	}
	if len(f.Citations) != 2 || f.Citations[0].Artifact != "added/var/log/audit.log" || f.Citations[0].SHA256 == "" {
		t.Errorf("%+v", f)
	}
	// A user's rules, of which one is broken and one has nothing to look at.
	rules := t.TempDir()
	user := "title: Pods read\nname: pods-read\nlevel: high\nlogsource: {product: kubernetes, service: audit}\ndetection: {a: {verb: get, objectRef.resource: pods}, condition: a}\n" +
		"---\ntitle: Broken\nlogsource: {product: kubernetes, service: audit}\ndetection: {a: {verb|nonsense: get}, condition: a}\n" +
		"---\ntitle: Cloud\nlogsource: {product: aws, service: cloudtrail}\ndetection: {a: {eventName: x}, condition: a}\n" +
		"---\ntitle: Clients\nname: clients\nlevel: critical\nlogsource: {category: webserver}\ndetection: {a: {cs-uri-stem: /healthz}, condition: a}\n"
	if err := os.WriteFile(filepath.Join(rules, "r.yml"), []byte(user), 0o644); err != nil {
		t.Fatal(err)
	}
	v, _ = judged(t, with, "--rules", rules)
	if f := finding(&v, "pods-read"); f == nil || f.Severity != verdict.High || !strings.Contains(f.Statement, `match`) {
		t.Errorf("%+v", v.Findings)
	}
	if f := finding(&v, "clients"); f == nil || f.Severity != verdict.Low {
		t.Errorf("a request in a log proves a request in a log: %+v", f)
	}
	gaps, broken := 0, false
	for _, g := range v.Gaps {
		if g.What == "1 of 4 rules that were given" {
			broken = strings.Contains(g.Why, "can't be loaded")
		}
		if strings.Contains(g.What, "Sigma rule") {
			gaps++
			if g.What != "what 1 Sigma rule asks for" || !strings.Contains(g.Why, "aws cloudtrail (1 rule)") {
				t.Errorf("%+v", g)
			}
		}
	}
	if !broken {
		t.Errorf("the rule that can't be loaded is no gap: %+v", v.Gaps)
	}
	if gaps != 1 {
		t.Errorf("%d gaps of Sigma: %+v", gaps, v.Gaps)
	}
	// The same rules number the proofs in the same way.
	var text, shown, errOut bytes.Buffer
	run([]string{"investigate", with, "--rules", rules}, strings.NewReader(""), &text, &errOut)
	at := strings.Index(text.String(), "added/var/log/audit.log")
	if at < 0 {
		t.Fatalf("no proof of the audit log in\n%s", text.String())
	}
	head := text.String()[:at]
	n := head[strings.LastIndexByte(head, '[')+1 : strings.LastIndexByte(head, ']')]
	if status := run([]string{"show", with, n, "--rules", rules}, strings.NewReader(""), &shown, &errOut); status != 0 || !strings.HasPrefix(shown.String(), "added/var/log/audit.log  +") {
		t.Errorf("%d: show %s: %s %s", status, n, shown.String(), errOut.String())
	}
	// Twice the same.
	again, _ := judged(t, with, "--rules", rules)
	a, _ := json.Marshal(v)     //nolint:errchkjson // it was read from JSON
	b, _ := json.Marshal(again) //nolint:errchkjson // likewise
	if !bytes.Equal(a, b) {
		t.Error("the same package and rules give another verdict")
	}
}
