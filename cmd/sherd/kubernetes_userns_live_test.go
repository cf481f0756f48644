package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/verdict"
)

const usernsPod = `
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: sherd-test-userns}
handler: userns
---
apiVersion: v1
kind: Pod
metadata: {name: mapped}
spec:
  hostUsers: false
  runtimeClassName: sherd-test-userns
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 65532}
  containers:
    - {name: app, image: "GOWEB", imagePullPolicy: Never, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
`

// TestLiveClusterUserNamespace captures a pod whose users are others outside: the files of its image are mapped, what it wrote is not.
func TestLiveClusterUserNamespace(t *testing.T) {
	s := openShop(t, podNamed("cart", ""))
	s.kubectl(t, "label", "namespace", s.namespace, "pod-security.kubernetes.io/enforce-", "--overwrite")
	s.apply(t, usernsPod)
	t.Cleanup(func() { s.kubectl(t, "delete", "runtimeclass", "sherd-test-userns") })
	s.isReady(t, "mapped")
	before := s.objects(t)
	target := "k8s://" + s.namespace + "/mapped/app"
	pkg, _ := s.good(t, target)
	p, err := evidence.Open(pkg, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, want := range []string{"/uid_map", "/core", "filesystem/upper/data/goweb.pid"} {
		if !slices.ContainsFunc(p.Manifest().Artifacts, func(a evidence.Entry) bool { return strings.HasSuffix(a.Path, want) }) {
			t.Errorf("the package lacks %s", want)
		}
	}
	if m := string(p.Manifest().Target); !strings.Contains(m, `"uid_map"`) {
		t.Errorf("how users are mapped is not recorded: %s", m)
	}
	js := filepath.Join(t.TempDir(), "x.json")
	if status, _, _ := s.sherd(t, "investigate", pkg, "--json", js); status != 0 {
		t.Errorf("investigate ended with %d", status)
	}
	if slices.ContainsFunc(readVerdict(t, js).Findings, func(f verdict.Finding) bool { return f.Rule == "file-rights-changed" }) {
		t.Error("owners seem to have changed")
	}
	s.same(t, before)
}
