package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	crypt "filippo.io/age"
	corev1 "k8s.io/api/core/v1"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/verdict"
)

// viaPods are one pod that can be looked into from within; one where a collector may write nothing; one that crashes again and again.
const viaPods = `
apiVersion: v1
kind: Pod
metadata: {name: cart}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  terminationGracePeriodSeconds: 1
  containers:
    - {name: app, image: "GOWEB", imagePullPolicy: Never, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: tight}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
  terminationGracePeriodSeconds: 1
  containers:
    - name: app
      image: "GOWEB"
      imagePullPolicy: Never
      resources: {limits: {ephemeral-storage: 64Mi}}
      securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - {name: app, image: "COLLECTOR", imagePullPolicy: Never, args: ["no-such-command"], securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
`

// TestLiveViaPod captures from within pods under the restricted profile: as the target's user and group, with one ephemeral container that
// ends by itself.
func TestLiveViaPod(t *testing.T) {
	s := openShop(t, viaPods)
	s.kubectl(t, "wait", "-n", s.namespace, "--for=condition=Ready", "pod/cart", "pod/tight", "--timeout=90s")
	t.Run("attacked", func(t *testing.T) { s.attackedFromWithin(t) })
	t.Run("cut", func(t *testing.T) { s.cut(t, "k8s://"+s.namespace+"/cart/app", 900_000, "--via", "pod") })
	t.Run("tight", func(t *testing.T) {
		pkg := filepath.Join(t.TempDir(), "x.sherd")
		if status, _, _ := s.sherd(t, "collect", "k8s://"+s.namespace+"/tight/app", "--via", "pod", "-o", pkg); status != 0 {
			t.Fatalf("ended with %d", status)
		}
		e := s.ephemeral(t, "tight")
		if len(e) != 1 || *e[0].SecurityContext.RunAsGroup != 1000 || !*e[0].SecurityContext.ReadOnlyRootFilesystem || slices.Contains(e[0].Args, "/tmp/sherd") {
			t.Errorf("the pod has %+v", e)
		}
		if have := artifacts(t, pkg); !have["process/1/core"] || !have["process/1/exe"] {
			t.Error("the package lacks memory or program")
		}
	})
	t.Run("ended", func(t *testing.T) {
		s.waitFor(t, "the end of the crashing container", func() bool {
			return s.kubectl(t, "get", "pod", "-n", s.namespace, "crash", "-o", "jsonpath={.status.containerStatuses[0].state.waiting.reason}") == "CrashLoopBackOff"
		})
		target := "k8s://" + s.namespace + "/crash/app"
		status, _, errOut := s.sherd(t, "collect", target, "--via", "pod", "-o", filepath.Join(t.TempDir(), "x.sherd"))
		if status != 1 || !strings.Contains(errOut, "it has ended") || !strings.Contains(errOut, "--via api") {
			t.Errorf("status %d: %s", status, errOut)
		}
		if e := s.ephemeral(t, "crash"); len(e) != 0 {
			t.Errorf("the pod has %+v", e)
		}
	})
	t.Run("plan", func(t *testing.T) {
		before := s.kubectl(t, "get", "pod", "-n", s.namespace, "tight", "-o", "json")
		status, out, _ := s.sherd(t, "collect", "k8s://"+s.namespace+"/tight/app", "--plan", "--via", "pod")
		for _, want := range []string{"pod   yes", "node  no     --via pod", "patch pods/ephemeralcontainers in namespace " + s.namespace, "for good", "as 65532:1000 (the container's status)", "admitted"} {
			if status != 0 || !strings.Contains(out, want) {
				t.Errorf("status %d, and the plan lacks %q", status, want)
			}
		}
		if after := s.kubectl(t, "get", "pod", "-n", s.namespace, "tight", "-o", "json"); after != before {
			t.Error("a plan changed the pod")
		}
	})
}

// ephemeral are the ephemeral containers of a pod's specification.
func (s *shop) ephemeral(t *testing.T, pod string) []corev1.EphemeralContainer {
	t.Helper()
	p := corev1.Pod{}
	if err := json.Unmarshal([]byte(s.kubectl(t, "get", "pod", "-n", s.namespace, pod, "-o", "json")), &p); err != nil {
		t.Fatal(err)
	}
	for _, st := range p.Status.EphemeralContainerStatuses {
		if st.State.Terminated == nil || st.State.Terminated.ExitCode != 0 {
			t.Errorf("the collector in %s has not ended well: %+v", pod, st.State)
		}
	}
	return p.Spec.EphemeralContainers
}

func (s *shop) attackedFromWithin(t *testing.T) {
	c, err := s.l.Pod(t.Context(), s.namespace, "cart", "app", "goweb")
	if err != nil {
		t.Fatal(err)
	}
	c2, err := lab.ListenC2(s.l.NodeAddress())
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	truth, err := s.l.Attack(t.Context(), c, "drop", c2)
	if err != nil {
		t.Fatal(err)
	}
	pkg, js := filepath.Join(t.TempDir(), "x.sherd"), filepath.Join(t.TempDir(), "x.json")
	status, _, errOut := s.sherd(t, "investigate", "k8s://"+s.namespace+"/cart/app", "--via", "pod", "-o", pkg, "--json", js)
	if status != 3 || !strings.Contains(errOut, "can't be taken out of the pod's specification") {
		t.Errorf("ended with %d: %s", status, errOut)
	}
	e := s.ephemeral(t, "cart")
	if len(e) != 1 {
		t.Fatalf("the pod has %d ephemeral containers", len(e))
	}
	sc := e[0].SecurityContext
	if e[0].TargetContainerName != "app" || *sc.RunAsUser != 65532 || *sc.RunAsGroup != 65532 || !*sc.RunAsNonRoot || *sc.AllowPrivilegeEscalation ||
		!slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(sc.Capabilities.Add) > 0 {
		t.Errorf("the collector is %+v in %+v", e[0], sc)
	}
	if status, _, errOut := sherd(t, s.l, "verify", pkg); status != 0 {
		t.Error(errOut)
	}
	if v := readVerdict(t, js); v.Verdict != verdict.Compromised || v.RootCause == nil || v.RootCause.Technique != "T1190" {
		t.Errorf("judged %s, root cause %+v", v.Verdict, v.RootCause)
	}
	host, port, err := net.SplitHostPort(truth.C2)
	if err != nil {
		t.Fatal(err)
	}
	_, out, _ := sherd(t, s.l, "show", pkg, "network/sockets.jsonl", "--raw")
	if !strings.Contains(out, `"remote_ip":"`+host+`","remote_port":`+port) {
		t.Errorf("the connection with %s is not among the sockets: %s", truth.C2, out)
	}
	have := artifacts(t, pkg)
	for _, want := range []string{"process/1/core", "process/1/exe", "process/1/environ", "network/sockets.jsonl", "filesystem/inventory.jsonl", "logs/0.log", "target/kubernetes/pod.json"} {
		if !have[want] {
			t.Errorf("the package lacks %s", want)
		}
	}
	cov := coverageOf(t, pkg)
	for _, want := range []string{"the image's layers", "kernel lines", "access times as they were"} {
		if !slices.ContainsFunc(cov.Missed, func(m record.Miss) bool { return m.What == want }) {
			t.Errorf("the coverage does not speak of %s", want)
		}
	}
}

func coverageOf(t *testing.T, pkg string) record.Coverage {
	t.Helper()
	p, err := evidence.Open(pkg, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	b, err := p.ReadFile("coverage.json", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	cov := record.Coverage{}
	if err := json.Unmarshal(b, &cov); err != nil {
		t.Fatal(err)
	}
	return cov
}

// reader is a kubeconfig of somebody who may read in the namespace and nothing else.
func (s *shop) reader(t *testing.T) string {
	t.Helper()
	s.kubectl(t, "create", "serviceaccount", "-n", s.namespace, "reader")
	s.kubectl(t, "create", "role", "-n", s.namespace, "reader", "--verb=get,list", "--resource=pods,pods/log,events")
	s.kubectl(t, "create", "rolebinding", "-n", s.namespace, "reader", "--role=reader", "--serviceaccount="+s.namespace+":reader")
	file := filepath.Join(t.TempDir(), "reader.kubeconfig")
	b, err := os.ReadFile(s.l.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s.kubectl(t, "--kubeconfig", file, "config", "set-credentials", "reader", "--token="+strings.TrimSpace(s.kubectl(t, "create", "token", "-n", s.namespace, "reader")))
	s.kubectl(t, "--kubeconfig", file, "config", "set-context", "--current", "--user=reader")
	return file
}

// TestLiveViaAPI captures where nothing may run, and has the way chosen.
func TestLiveViaAPI(t *testing.T) {
	s := openShop(t, viaPods)
	s.kubectl(t, "wait", "-n", s.namespace, "--for=condition=Ready", "pod/cart", "--timeout=90s")
	s.waitFor(t, "an end of the crashing container", func() bool {
		return s.kubectl(t, "get", "pod", "-n", s.namespace, "crash", "-o", "jsonpath={.status.containerStatuses[0].restartCount}") > "0"
	})
	reader := s.reader(t)
	before := s.objects(t)
	pods := s.kubectl(t, "get", "pod", "-n", s.namespace, "cart", "-o", "json")
	cart, crash := "k8s://"+s.namespace+"/cart/app", "k8s://"+s.namespace+"/crash/app"
	t.Run("reader", func(t *testing.T) { s.readsOnly(t, crash, reader) })
	t.Run("plan of a reader", func(t *testing.T) {
		status, out, _ := s.sherd(t, "collect", cart, "--plan", "--kubeconfig", reader)
		for _, want := range []string{"node  no     system:serviceaccount:" + s.namespace + ":reader may not create", "pod   no", "api   yes", "read its output", "get pods/log in namespace"} {
			if status != 0 || !strings.Contains(out, want) {
				t.Errorf("status %d, and the plan lacks %q", status, want)
			}
		}
		if status, _, errOut := s.sherd(t, "collect", cart, "--plan", "--kubeconfig", reader, "--via", "node"); status != 1 || !strings.Contains(errOut, "would fail") {
			t.Errorf("the plan of a way that is closed ended with %d", status)
		}
	})
	t.Run("auto", func(t *testing.T) {
		for _, x := range []struct {
			name   string
			args   []string
			status int
			words  []string
		}{
			{"node", nil, 0, []string{"by the way node"}},
			{"image", []string{"--collector-image", "sherd-lab/none:1", "--collector-pull", "Never"}, 0, []string{"captured by the way api", "ErrImageNeverPull", "--allow-pod-change"}},
			{"admission", []string{"--sherd-namespace", s.namespace}, 0, []string{"captured by the way api", "violates PodSecurity"}},
			{"node asked for", []string{"--via", "node", "--collector-image", "sherd-lab/none:1", "--collector-pull", "Never"}, 1, []string{"ErrImageNeverPull", "--via pod"}},
			{"reader", []string{"--kubeconfig", reader, "--allow-pod-change"}, 0, []string{"captured by the way api", "patch pods/ephemeralcontainers"}},
			{"pod, not permitted", []string{"--kubeconfig", reader, "--via", "pod"}, 1, []string{"may not patch pods/ephemeralcontainers in namespace " + s.namespace}},
			{"checkpoint elsewhere", []string{"--via", "api", "--checkpoint"}, 2, []string{"--checkpoint needs the way node"}},
			{"no such way", []string{"--via", "door"}, 2, []string{"no way in"}},
		} {
			t.Run(x.name, func(t *testing.T) {
				status, out, errOut := s.sherd(t, append([]string{"collect", cart, "-o", filepath.Join(t.TempDir(), "x.sherd")}, x.args...)...)
				for _, want := range x.words {
					if status != x.status || !strings.Contains(out+errOut, want) {
						t.Errorf("ended with %d, and the words lack %q: %s%s", status, want, out, errOut)
					}
				}
			})
		}
		status, _, errOut := s.sherd(t, "collect", "k8s://"+s.namespace+"/cart/ap")
		if status != 1 || strings.Contains(errOut, "way api") {
			t.Errorf("a mistyped target ended with %d", status)
		}
	})
	if after := s.kubectl(t, "get", "pod", "-n", s.namespace, "cart", "-o", "json"); after != pods {
		t.Error("the pod was changed")
	}
	s.same(t, before)
	t.Run("auto, changing the pod", func(t *testing.T) {
		status, _, errOut := s.sherd(t, "collect", cart, "-o", filepath.Join(t.TempDir(), "x.sherd"), "--sherd-namespace", s.namespace, "--allow-pod-change")
		if status != 0 || !strings.Contains(errOut, "captured by the way pod; not by node, since") || len(s.ephemeral(t, "cart")) != 1 {
			t.Errorf("ended with %d: %s", status, errOut)
		}
	})
}

// readsOnly captures a crashing container as somebody who may only read.
func (s *shop) readsOnly(t *testing.T, crash, reader string) {
	dir := t.TempDir()
	pkg := filepath.Join(dir, "x.sherd")
	s.waitFor(t, "a package with the container's own words", func() bool {
		if err := os.RemoveAll(pkg); err != nil {
			t.Fatal(err)
		}
		if status, _, _ := s.sherd(t, "collect", crash, "--via", "api", "--kubeconfig", reader, "-o", pkg); status != 0 {
			t.Fatalf("ended with %d", status)
		}
		status, out, errOut := sherd(t, s.l, "timeline", pkg, "kind:log.line", "--format", "jsonl")
		if status != 0 {
			t.Fatalf("the timeline ended with %d: %s", status, errOut)
		}
		return strings.Contains(out, "TARGET is docker") && strings.Contains(out, "\"time\":17")
	})
	if status, _, errOut := sherd(t, s.l, "verify", pkg); status != 0 {
		t.Error(errOut)
	}
	js := filepath.Join(dir, "x.json")
	if status, out, errOut := sherd(t, s.l, "investigate", pkg, "--json", js); status != 0 {
		t.Errorf("investigate ended with %d: %s%s", status, out, errOut)
	}
	v := readVerdict(t, js)
	if v.Verdict != verdict.Inconclusive || !slices.ContainsFunc(v.Gaps, func(g verdict.Gap) bool { return g.What == "memory" && strings.Contains(g.Why, "--via api") }) {
		t.Errorf("judged %s with the gaps %+v", v.Verdict, v.Gaps)
	}
	cov := coverageOf(t, pkg)
	for _, kind := range []string{"process", "memory", "network", "filesystem", "volumes"} {
		if cov.Collected[kind] != "none" || !slices.ContainsFunc(cov.Missed, func(m record.Miss) bool { return m.Kind == kind }) {
			t.Errorf("the coverage does not say that there is no %s", kind)
		}
	}
	for _, want := range []string{"metrics", "node"} {
		if !slices.ContainsFunc(cov.Missed, func(m record.Miss) bool { return strings.Contains(m.Reason, want) }) {
			t.Errorf("the coverage does not say that %s could not be had", want)
		}
	}
	s.encrypted(t, crash, reader)
}

// encrypted has the package encrypted and streamed.
func (s *shop) encrypted(t *testing.T, target, kubeconfig string) {
	id, err := crypt.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, pkg := filepath.Join(dir, "id"), filepath.Join(dir, "e.sherd")
	if err := os.WriteFile(key, fmt.Appendln(nil, id), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, errOut := s.sherdQuietly("collect", target, "--via", "api", "--kubeconfig", kubeconfig, "--encrypt-to", id.Recipient().String(), "-o", "-")
	if status != 0 || !strings.HasPrefix(out, "age-encryption.org/") {
		t.Fatalf("ended with %d: %s", status, errOut)
	}
	if err := os.WriteFile(pkg, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, errOut := sherd(t, s.l, "verify", pkg, "--identity", key); status != 0 {
		t.Error(errOut)
	}
}

// sherdQuietly is sherd for output that is no text.
func (s *shop) sherdQuietly(args ...string) (status int, out, errOut string) {
	var o, e bytes.Buffer
	status = run(s.args(args...), strings.NewReader(""), &o, &e)
	return status, o.String(), e.String()
}

// TestLiveCheckpoint has the kubelet make a checkpoint, which is evidence beside ours, or say why it can't, and the capture goes on.
func TestLiveCheckpoint(t *testing.T) {
	cart, _, _ := strings.Cut(strings.TrimPrefix(viaPods, "\n"), "---\n")
	s := openShop(t, cart)
	s.kubectl(t, "wait", "-n", s.namespace, "--for=condition=Ready", "pod/cart", "--timeout=90s")
	pkg := filepath.Join(t.TempDir(), "x.sherd")
	status, _, errOut := s.sherd(t, "collect", "k8s://"+s.namespace+"/cart/app", "--checkpoint", "-o", pkg)
	if status != 0 {
		t.Fatalf("ended with %d", status)
	}
	if status, _, errOut := sherd(t, s.l, "verify", pkg); status != 0 {
		t.Error(errOut)
	}
	name := ""
	for a := range artifacts(t, pkg) {
		if strings.HasPrefix(a, "checkpoint/") {
			name = a
		}
	}
	if !s.l.CRIU() {
		if name != "" || !strings.Contains(errOut, "can't checkpoint") || !slices.ContainsFunc(coverageOf(t, pkg).Missed, func(m record.Miss) bool { return strings.Contains(m.Reason, "the kubelet's checkpoint") }) {
			t.Errorf("without CRIU on the node: %q, %s", name, errOut)
		}
		return
	}
	_, path, ok := strings.Cut(errOut, " as ")
	path, _, _ = strings.Cut(path, ",")
	if !ok || filepath.Base(path) != strings.TrimPrefix(name, "checkpoint/") {
		t.Fatalf("the package holds %q, and where the archive stays is not said: %s", name, errOut)
	}
	defer os.Remove(path) // the lab's node is this machine
	there, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := evidence.Open(pkg, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if here, err := p.ReadFile(name, 1<<30); err != nil || !bytes.Equal(here, there) {
		t.Errorf("the archive in the package is not the node's: %d and %d bytes, %v", len(here), len(there), err)
	}
}
