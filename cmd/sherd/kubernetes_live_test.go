package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/verdict"
)

// shop is a namespace of the lab's cluster under the restricted profile, with pods of each kind in it.
type shop struct {
	l         *lab.Lab
	namespace string
	collector string // the image
	images    *strings.Replacer
}

// shopPods are one pod with an init container that has ended, a sidecar and the application; one that ends at once and is started
// again and again; one that has ended for good; one of a deployment; one whose image nobody has.
const shopPods = `
apiVersion: v1
kind: Pod
metadata: {name: cart, labels: {app: cart}}
spec:
  securityContext: &safe {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  terminationGracePeriodSeconds: 1
  initContainers:
    - {name: setup, image: "COLLECTOR", imagePullPolicy: Never, args: ["--version"], securityContext: &bound {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
    - {name: proxy, image: "GOWEB", imagePullPolicy: Never, restartPolicy: Always, env: [{name: LISTEN, value: ":8081"}], securityContext: *bound}
  containers:
    - {name: app, image: "GOWEB", imagePullPolicy: Never, securityContext: *bound}
---
apiVersion: v1
kind: Pod
metadata: {name: crash, labels: {app: crash}}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - {name: app, image: "COLLECTOR", imagePullPolicy: Never, args: ["no-such-command"], securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: done}
spec:
  restartPolicy: Never
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - {name: app, image: "COLLECTOR", imagePullPolicy: Never, args: ["--version"], securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: never}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - {name: app, image: "sherd-lab/none:1", imagePullPolicy: Never, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
        - {name: app, image: "GOWEB", imagePullPolicy: Never, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
`

func openShop(t *testing.T, pods string) *shop {
	t.Helper()
	l := lab.Need(t, lab.Kubernetes)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	collector, err := l.LoadKubernetes(ctx, lab.Collector)
	if err != nil {
		t.Fatal(err)
	}
	web, err := l.LoadKubernetes(ctx, "goweb")
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{l: l, namespace: "shop-" + strings.ToLower(strings.TrimPrefix(t.Name(), "TestLive")), collector: collector,
		images: strings.NewReplacer("COLLECTOR", collector, "GOWEB", web)}
	s.kubectl(t, "create", "namespace", s.namespace)
	t.Cleanup(func() {
		if _, err := l.Kubectl(context.Background(), "delete", "namespace", s.namespace, "--timeout=60s"); err != nil {
			t.Error(err)
		}
	})
	s.kubectl(t, "label", "namespace", s.namespace, "pod-security.kubernetes.io/enforce=restricted")
	s.apply(t, pods)
	return s
}

func (s *shop) apply(t *testing.T, manifest string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pods.yaml")
	if err := os.WriteFile(file, []byte(s.images.Replace(manifest)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.kubectl(t, "apply", "-n", s.namespace, "-f", file)
}

func (s *shop) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.l.Kubectl(context.Background(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *shop) args(args ...string) []string {
	args = append(args, "--containerd-address", s.l.KubernetesSocket())
	if !slices.Contains(args, "--kubeconfig") {
		args = append(args, "--kubeconfig", s.l.Kubeconfig())
	}
	if (args[0] == "collect" || args[0] == "investigate") && !slices.Contains(args, "--collector-image") {
		args = append(args, "--collector-image", s.collector)
	}
	return args
}

func (s *shop) sherd(t *testing.T, args ...string) (status int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	began := time.Now()
	status = run(s.args(args...), strings.NewReader(""), &o, &e)
	said := o.String()
	if slices.Contains(args, "-") {
		said = ""
	}
	t.Logf("sherd %s: %d after %v\n%s%s", strings.Join(args, " "), status, time.Since(began).Round(time.Millisecond), said, e.String())
	return status, o.String(), e.String()
}

// objects lists everything in the cluster but events and leases, which come and go by themselves.
func (s *shop) objects(t *testing.T) []string {
	t.Helper()
	var kinds []string
	for _, k := range strings.Fields(s.kubectl(t, "api-resources", "--verbs=list", "-o", "name")) {
		if !strings.HasPrefix(k, "events") && k != "leases.coordination.k8s.io" && k != "componentstatuses" {
			kinds = append(kinds, k)
		}
	}
	out := s.kubectl(t, "get", strings.Join(kinds, ","), "--all-namespaces", "--ignore-not-found", "-o",
		`jsonpath={range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name}{"\n"}{end}`)
	list := strings.Fields(out)
	slices.Sort(list)
	return list
}

// same waits until the cluster holds what it held before: what is deleted takes a moment to go.
func (s *shop) same(t *testing.T, before []string) {
	t.Helper()
	var after []string
	for range 60 {
		if after = s.objects(t); slices.Equal(before, after) {
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
	for _, o := range after {
		if !slices.Contains(before, o) {
			t.Errorf("left behind: %s", o)
		}
	}
	for _, o := range before {
		if !slices.Contains(after, o) {
			t.Errorf("gone: %s", o)
		}
	}
}

func (s *shop) waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 300 {
		if ok() {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Fatalf("%s did not come", what)
}

// TestLiveCluster breaks into a pod and has it investigated by one command; nothing of it is to be seen in the cluster, before or after.
func TestLiveCluster(t *testing.T) {
	s := openShop(t, shopPods)
	s.kubectl(t, "wait", "-n", s.namespace, "--for=condition=Ready", "pod/cart", "--timeout=90s")
	s.kubectl(t, "wait", "-n", s.namespace, "--for=condition=Available", "deployment/web", "--timeout=90s")
	s.waitFor(t, "an end of the crashing container", func() bool {
		return s.kubectl(t, "get", "pod", "-n", s.namespace, "crash", "-o", "jsonpath={.status.containerStatuses[0].restartCount}") > "0"
	})
	cart := s.namespace + "/cart/app"
	t.Run("attacked", func(t *testing.T) {
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
		before := s.objects(t)
		pod := s.kubectl(t, "get", "pod", "-n", s.namespace, "cart", "-o", "json")
		pkg, js := filepath.Join(t.TempDir(), "x.sherd"), filepath.Join(t.TempDir(), "x.json")
		status, _, _ := s.sherd(t, "investigate", "k8s://"+cart, "-o", pkg, "--json", js)
		if status != 3 {
			t.Fatalf("ended with %d", status)
		}
		if after := s.kubectl(t, "get", "pod", "-n", s.namespace, "cart", "-o", "json"); after != pod {
			t.Errorf("the pod is another now:\n%s\nbefore:\n%s", after, pod)
		}
		s.same(t, before)
		v := readVerdict(t, js)
		if v.Verdict != verdict.Compromised || v.RootCause == nil || v.RootCause.Technique != "T1190" {
			t.Errorf("judged %s, root cause %+v", v.Verdict, v.RootCause)
		}
		if !slices.ContainsFunc(v.Scope, func(e verdict.Entity) bool { return e.Value == truth.C2 }) {
			t.Errorf("the scope lacks %s", truth.C2)
		}
		if status, out, errOut := sherd(t, s.l, "verify", pkg); status != 0 {
			t.Errorf("verify ended with %d\n%s%s", status, out, errOut)
		}
		s.comparable(t, pkg, c)
	})
	t.Run("several", func(t *testing.T) { s.several(t) })
	t.Run("targets", func(t *testing.T) {
		status, out, _ := s.sherd(t, "targets", "-n", s.namespace)
		for _, want := range []string{"k8s://" + cart + " ", "sidecar", "exited (", "ErrImageNeverPull", lab.NodeName, "confined"} {
			if status != 0 || !strings.Contains(out, want) {
				t.Errorf("status %d, and the list lacks %q", status, want)
			}
		}
	})
}

func readVerdict(t *testing.T, file string) *verdict.Verdict {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := investigated{}
	if err := json.Unmarshal(b, &got.verdict); err != nil {
		t.Fatal(err)
	}
	return &got.verdict
}

// comparable holds a package that a collector made against one that is made on the node itself: nothing is missing in it.
func (s *shop) comparable(t *testing.T, pkg string, c *lab.Container) {
	t.Helper()
	local := filepath.Join(t.TempDir(), "local.sherd")
	if status, _, _ := s.sherd(t, "collect", "containerd://k8s.io/"+c.ID, "-o", local); status != 0 {
		t.Fatalf("the capture on the node ended with %d", status)
	}
	there, here := artifacts(t, pkg), artifacts(t, local)
	for name := range here {
		if !there[name] {
			t.Errorf("the collector did not get %s", name)
		}
	}
	for name := range there {
		if !here[name] && !strings.HasPrefix(name, "target/kubernetes/") {
			t.Logf("only the collector got %s", name)
		}
	}
	for _, want := range []string{"pod.json", "events.json", "node.json", "namespace.json", "serviceaccount.json"} {
		if !there["target/kubernetes/"+want] {
			t.Errorf("the package lacks %s", want)
		}
	}
}

func artifacts(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	p, err := evidence.Open(pkg, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	out := map[string]bool{}
	for _, a := range p.Manifest().Artifacts {
		out[a.Path] = true
	}
	return out
}

// several captures all of a namespace, then a deployment, and finds that one container which can't be had does not stop the rest.
func (s *shop) several(t *testing.T) {
	before := s.objects(t)
	dir := filepath.Join(t.TempDir(), "all")
	status, out, errOut := s.sherd(t, "collect", "-n", s.namespace, "-o", dir)
	if status != 0 {
		t.Errorf("ended with %d: %s", status, errOut)
	}
	got, err := filepath.Glob(dir + "/*.sherd")
	if err != nil || len(got) != 7 { // setup, proxy and app of cart, crash, done, and two of web
		t.Errorf("%d packages, not 7: %q", len(got), got)
	}
	for _, pkg := range got {
		if status, _, errOut := sherd(t, s.l, "verify", pkg); status != 0 {
			t.Errorf("%s: %s", pkg, errOut)
		}
	}
	for _, want := range []string{"/cart/setup", "/cart/proxy", "/crash/app", "/done/app", "nothing to take: never started"} {
		if !strings.Contains(out, want) {
			t.Errorf("the summary lacks %q", want)
		}
	}
	dir = filepath.Join(t.TempDir(), "deployment")
	if status, _, _ := s.sherd(t, "collect", "k8s://"+s.namespace+"/deploy/web", "-o", dir); status != 0 {
		t.Errorf("ended with %d", status)
	}
	if got, _ := filepath.Glob(dir + "/*.sherd"); len(got) != 2 {
		t.Errorf("%d packages of the deployment: %q", len(got), got)
	}
	s.same(t, before)
}

// TestLiveClusterFaults is what goes wrong in clusters. Nothing may be left of any of it.
func TestLiveClusterFaults(t *testing.T) {
	cart, _, _ := strings.Cut(strings.TrimPrefix(shopPods, "\n"), "---\n")
	s := openShop(t, cart)
	s.kubectl(t, "wait", "-n", s.namespace, "--for=condition=Ready", "pod/cart", "--timeout=90s")
	before := s.objects(t)
	target := "k8s://" + s.namespace + "/cart/app"
	fails := func(t *testing.T, want []string, args ...string) {
		t.Helper()
		pkg := filepath.Join(t.TempDir(), "x.sherd")
		status, _, errOut := s.sherd(t, append([]string{"collect", target, "-o", pkg}, args...)...)
		for _, w := range want {
			if status != 1 || !strings.Contains(errOut, w) {
				t.Errorf("status %d, and the error lacks %q:\n%s", status, w, errOut)
			}
		}
		if left, _ := filepath.Glob(pkg + "*"); len(left) > 0 {
			t.Errorf("left here: %q", left)
		}
		s.same(t, before)
	}
	t.Run("rights", func(t *testing.T) {
		fails(t, []string{"kira may not get pods in namespace " + s.namespace, "kubectl create role sherd-get-pods -n " + s.namespace + " --verb=get --resource=pods"}, "--as", "kira")
		status, out, errOut := s.sherd(t, "collect", target, "--plan", "--as", "kira")
		if status != 1 {
			t.Errorf("a plan without the right to look ended with %d: %s%s", status, out, errOut)
		}
	})
	t.Run("plan", func(t *testing.T) {
		status, out, _ := s.sherd(t, "collect", target, "--plan")
		for _, want := range []string{"create jobs.batch in namespace sherd", "get pods/exec", "admitted", "SYS_PTRACE"} {
			if status != 0 || !strings.Contains(out, want) {
				t.Errorf("status %d, and the plan lacks %q", status, want)
			}
		}
		s.same(t, before)
	})
	t.Run("image", func(t *testing.T) {
		fails(t, []string{"ErrImageNeverPull"}, "--via", "node", "--collector-image", "sherd-lab/none:1", "--collector-pull", "Never")
	})
	t.Run("admission", func(t *testing.T) {
		// The victim's own namespace is one that Pod Security does not let a collector into.
		fails(t, []string{"admission refuses", "violates PodSecurity"}, "--via", "node", "--sherd-namespace", s.namespace)
		status, out, _ := s.sherd(t, "collect", target, "--plan", "--via", "node", "--sherd-namespace", s.namespace)
		if status != 1 || !strings.Contains(out, "violates PodSecurity") {
			t.Errorf("the plan ended with %d and does not tell", status)
		}
	})
	t.Run("gone", func(t *testing.T) {
		status, _, errOut := s.sherd(t, "collect", "k8s://"+s.namespace+"/cart/ap")
		if status != 1 || !strings.Contains(errOut, `has no container "ap"; it has app, proxy, setup`) {
			t.Errorf("status %d", status)
		}
	})
	t.Run("cut", func(t *testing.T) { s.cut(t, target, 120_000, "--memory", "full"); s.same(t, before) })
	t.Run("interrupted", func(t *testing.T) { s.ended(t, target, syscall.SIGINT); s.same(t, before) })
	t.Run("killed", func(t *testing.T) {
		s.ended(t, target, syscall.SIGKILL)
		if slices.Equal(before, s.objects(t)) {
			t.Fatal("the program was killed too late: nothing is left to clean up")
		}
		if status, out, _ := s.sherd(t, "cleanup"); status != 0 || !strings.Contains(out, "removed: Job sherd/sherd-collector-") {
			t.Errorf("cleanup ended with %d", status)
		}
		s.same(t, before)
		if status, out, _ := s.sherd(t, "cleanup"); status != 0 || !strings.Contains(out, "nothing of Sherd's") {
			t.Errorf("a second cleanup ended with %d", status)
		}
	})
}

// ended starts a capture in a process of its own, by way of a proxy that holds the package's stream up, and sends it a signal then.
func (s *shop) ended(t *testing.T, target string, sig syscall.Signal) {
	dir := t.TempDir()
	// Answers about what surrounds the pod pass; the package is larger than they are together.
	p := startCutter(t, s.server(), 1_500_000, true)
	cmd := exec.Command("/proc/self/exe", s.args("collect", target, "--memory", "full", "-o", filepath.Join(dir, "x.sherd"), "--kubeconfig", s.through(t, p))...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.waitFor(t, "a part of the package", func() bool { return p.cuts.Load() > 0 })
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the capture was done before the signal came")
	}
	t.Log(said.String())
	if _, err := os.Stat(filepath.Join(dir, "x.sherd")); err == nil {
		t.Error("a package stands there as if it were whole")
	}
}

// cut captures by way of a proxy that breaks every connection which has carried a while's bytes.
func (s *shop) cut(t *testing.T, target string, after int64, more ...string) {
	p := startCutter(t, s.server(), after, false)
	pkg := filepath.Join(t.TempDir(), "x.sherd")
	if status, _, _ := s.sherd(t, append([]string{"collect", target, "-o", pkg, "--kubeconfig", s.through(t, p)}, more...)...); status != 0 {
		t.Fatalf("ended with %d", status)
	}
	if p.cuts.Load() == 0 {
		t.Error("nothing was cut")
	}
	t.Logf("cut %d times", p.cuts.Load())
	if status, _, errOut := sherd(t, s.l, "verify", pkg); status != 0 {
		t.Error(errOut)
	}
}

func (s *shop) server() string { return net.JoinHostPort(s.l.NodeAddress(), "6443") }

// through is a kubeconfig that leads through the proxy.
func (s *shop) through(t *testing.T, p *cutter) string {
	t.Helper()
	return s.throughAddress(t, p.addr)
}

// throughAddress is one that leads through what listens there.
func (s *shop) throughAddress(t *testing.T, addr string) string {
	t.Helper()
	config, err := os.ReadFile(s.l.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	through := strings.ReplaceAll(string(config), s.server(), addr)
	if through == string(config) {
		t.Fatal("the kubeconfig does not name the server")
	}
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(through), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

type cutter struct {
	addr string
	cuts atomic.Int32
}

// startCutter passes connections on to server, and cuts each after so many bytes from there; with stall it stays silent instead.
func startCutter(t *testing.T, server string, after int64, stall bool) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		l.Close()
	})
	c := &cutter{addr: l.Addr().String()}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := net.Dial("tcp", server)
				if err != nil {
					return
				}
				defer out.Close()
				go func() { _, _ = io.Copy(out, in); out.Close() }()
				if n, _ := io.CopyN(in, out, after); n == after {
					c.cuts.Add(1)
					if stall {
						<-ctx.Done()
					}
				}
			}()
		}
	}()
	return c
}
