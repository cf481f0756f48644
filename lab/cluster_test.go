package lab_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/lab"
)

const clusterPod = `apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - {name: web, image: "IMAGE", imagePullPolicy: Never, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
`

// TestKubernetes runs a distroless pod on the real node, under the restricted profile, and finds in it what the guides say is
// not there: a shell. What is privileged is refused, and the audit log tells both.
func TestKubernetes(t *testing.T) {
	l := lab.Need(t, lab.Kubernetes)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := l.Kubectl(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	refused := func(why string, args ...string) {
		t.Helper()
		if _, err := l.Kubectl(ctx, args...); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, which does not say %q", args, err, why)
		}
	}
	image, err := l.LoadKubernetes(ctx, "goweb")
	if err != nil {
		t.Fatal(err)
	}
	const ns = "lab-test"
	kubectl("create", "namespace", ns)
	t.Cleanup(func() {
		if _, err := l.Kubectl(context.Background(), "delete", "namespace", ns, "--timeout=60s"); err != nil {
			t.Error(err)
		}
	})
	kubectl("label", "namespace", ns, "pod-security.kubernetes.io/enforce=restricted")
	manifest := filepath.Join(t.TempDir(), "pod.yaml")
	if err := os.WriteFile(manifest, []byte(strings.NewReplacer("NAME", "web", "IMAGE", image).Replace(clusterPod)), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl("apply", "-n", ns, "-f", manifest)
	kubectl("wait", "-n", ns, "--for=condition=Ready", "pod/web", "--timeout=60s")
	if ip := kubectl("get", "pod", "-n", ns, "web", "-o", "jsonpath={.status.podIP}"); !strings.HasPrefix(ip, "10.90.") {
		t.Errorf("the pod's address is %q", ip)
	}
	logs, err := filepath.Glob("/var/log/pods/" + ns + "_web_*/web/0.log")
	if err != nil || len(logs) != 1 {
		t.Errorf("the kubelet's log of the container: %v, %v", logs, err)
	}
	refused("executable file not found", "exec", "-n", ns, "web", "--", "sh", "-c", "id")
	refused("violates PodSecurity", "run", "-n", ns, "bad", "--image", image, "--privileged")
	refused("forbidden", "get", "secrets", "-n", ns, "--as", "system:serviceaccount:"+ns+":default")
	audit, err := os.ReadFile(l.KubernetesAudit())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"subresource":"exec"`, "violates PodSecurity", "system:serviceaccount:" + ns + ":default"} {
		if !strings.Contains(string(audit), want) {
			t.Errorf("the audit log lacks %s", want)
		}
	}
}
