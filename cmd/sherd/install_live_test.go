package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/lab"
)

// TestLiveInstall applies what is printed, gives each role to somebody, and finds that each can do its part and no more.
func TestLiveInstall(t *testing.T) {
	cart, _, _ := strings.Cut(strings.TrimPrefix(shopPods, "\n"), "---\n")
	s := openShop(t, cart)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	const ns = "sherd-installed"
	for role, user := range map[string]string{"look": "lara", "capture": "carl", "contain": "cora"} {
		status, out, _ := s.sherd(t, "install", "--print", "--namespace", ns, "--roles", role, "--user", user, "--image", s.collector, "--pull", "Never")
		if status != 0 {
			t.Fatalf("ended with %d", status)
		}
		file := filepath.Join(t.TempDir(), role+".yaml")
		if err := os.WriteFile(file, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		s.kubectl(t, "apply", "-f", file)
		t.Cleanup(func() {
			if _, err := s.l.Kubectl(context.Background(), "delete", "--ignore-not-found", "--wait=false", "-f", file); err != nil {
				t.Error(err)
			}
		})
	}
	s.kubectl(t, "wait", "-n", s.namespace, "--for=condition=Ready", "pod/cart", "--timeout=90s")
	target := "k8s://" + s.namespace + "/cart"
	// Without an image: the namespace names it.
	do := func(user string, args ...string) (int, string) {
		t.Helper()
		var out bytes.Buffer
		args = append(args, "--as", user, "--kubeconfig", s.l.Kubeconfig(), "--containerd-address", s.l.KubernetesSocket())
		status := run(args, strings.NewReader(""), &out, &out)
		t.Logf("%s: sherd %s: %d\n%s", user, strings.Join(args, " "), status, out.String())
		return status, out.String()
	}
	collect := []string{"collect", target + "/app", "--sherd-namespace", ns, "--via", "node", "-o"}
	isolate := []string{"isolate", target, "--detach", "--deny-network", "--keep", "--cordon"}
	for _, user := range []string{"lara", "carl", "cora"} {
		if status, out := do(user, "targets", "-n", s.namespace); status != 0 || !strings.Contains(out, target+"/app") {
			t.Errorf("%s may not look", user)
		}
		pkg := filepath.Join(t.TempDir(), "x.sherd")
		if status, _ := do(user, append(collect, pkg)...); (status == 0) != (user == "carl") {
			t.Errorf("a capture by %s ended with %d", user, status)
		} else if status == 0 {
			if _, missed, _ := sherd(t, s.l, "show", pkg, "coverage.json"); strings.Contains(missed, "may not") || missed == "" {
				t.Errorf("rights are missing for what surrounds the container:\n%s", missed)
			}
		}
		status, _ := do(user, isolate...)
		if (status == 0) != (user == "cora") {
			t.Errorf("an isolation by %s ended with %d", user, status)
		}
		if status == 0 {
			if status, _ := do(user, "release", target); status != 0 {
				t.Errorf("a release by %s ended with %d", user, status)
			}
		}
	}
	if got := s.jsonpath(t, `{.metadata.labels}{.metadata.annotations}`, "pod", "cart"); strings.Contains(got, "sherd.io/") {
		t.Errorf("left on the pod: %s", got)
	}
	if got := s.kubectl(t, "get", "namespace", ns, "-o", "name"); !strings.Contains(got, ns) {
		t.Error("a capture took the installed namespace away")
	}
	// What kustomize makes is taken by the server as well.
	kustomize, err := filepath.Abs("../../deploy/kustomize/example")
	if err != nil {
		t.Fatal(err)
	}
	if out := s.kubectl(t, "kustomize", kustomize); strings.Count(out, "kind: ClusterRoleBinding") < 5 {
		t.Error(out)
	}
}

// TestLivePlugin has kubectl run this program, as it runs all of its plugins.
func TestLivePlugin(t *testing.T) {
	l := lab.Need(t, lab.Kubernetes)
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, pluginFile)); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("../../scripts/kubectl_complete-sherd")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(script, filepath.Join(dir, "kubectl_complete-sherd")); err != nil {
		t.Fatal(err)
	}
	kubectl := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(l.KubectlPath(), args...)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "KUBECONFIG="+l.Kubeconfig(), asProgram+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("kubectl %q: %v", args, err)
		}
		return string(out)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"plugin", "list"}, pluginFile},
		{[]string{"sherd", "targets", "-A"}, "TARGET"},
		{[]string{"sherd", "--help"}, "kubectl sherd investigate docker://checkout"},
		{[]string{"sherd", "isolate", "--help"}, "kubectl sherd isolate TARGET... [flags]"},
		{[]string{"sherd", "isolate", "k8s://x/y"}, "`kubectl sherd isolate --help`"},
		{[]string{"sherd", "collect", "k8s://x/y", "--nonsense"}, "`kubectl sherd collect --help`"},
		{[]string{"__complete", "sherd", "iso"}, "isolate"},
	} {
		out := kubectl(tc.args...)
		empty := tc.want == "TARGET" && strings.Contains(out, "no container of the cluster")
		if !strings.Contains(out, tc.want) && !empty {
			t.Errorf("kubectl %s does not say %q:\n%s", strings.Join(tc.args, " "), tc.want, out)
		}
	}
}
