package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/contain"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/lab"
)

// heldPods are a deployment behind a service with policies of its own, a stateful set, a daemon set, and a pod that its liveness probe would kill.
const heldPods = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, team: shop}, annotations: {note: "keep me"}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
        - {name: app, image: "GOWEB", imagePullPolicy: Never, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: team}
spec: {podSelector: {matchLabels: {team: shop}}, policyTypes: [Egress], egress: [{}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
        - {name: app, image: "GOWEB", imagePullPolicy: Never, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
        - {name: app, image: "GOWEB", imagePullPolicy: Never, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - {name: app, image: "GOWEB", imagePullPolicy: Never, livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 5}, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
`

// meta is what of a pod an isolation may change, and what it must not.
func (s *shop) meta(t *testing.T, pod string) string {
	t.Helper()
	var p struct {
		Metadata struct {
			Labels, Annotations map[string]string
			OwnerReferences     []any
		}
		Spec map[string]any
	}
	if err := json.Unmarshal([]byte(s.kubectl(t, "get", "pod", "-n", s.namespace, pod, "-o", "json")), &p); err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (s *shop) jsonpath(t *testing.T, path string, what ...string) string {
	t.Helper()
	return strings.TrimSpace(s.kubectl(t, append([]string{"get", "-n", s.namespace, "-o", "jsonpath=" + path}, what...)...))
}

// TestLiveIsolate takes a pod out of its service and its controller, cuts its network, cordons its node and freezes it; a clean pod takes its
// place, it lives on, and all of it is put back.
func TestLiveIsolate(t *testing.T) {
	s := openShop(t, heldPods)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	s.kubectl(t, "wait", "-n", s.namespace, "--for=condition=Available", "deployment/web", "--timeout=90s")
	s.kubectl(t, "wait", "-n", s.namespace, "--for=condition=Ready", "pod/probed", "--timeout=90s")
	s.kubectl(t, "rollout", "status", "-n", s.namespace, "statefulset/db", "--timeout=60s")
	s.kubectl(t, "rollout", "status", "-n", s.namespace, "daemonset/agent", "--timeout=60s")
	pod := s.jsonpath(t, "{.items[0].metadata.name}", "pods", "-l", "app=web")
	target := "k8s://" + s.namespace + "/" + pod
	cluster, before := s.objects(t), s.meta(t, pod)
	id := s.jsonpath(t, "{.status.containerStatuses[0].containerID}", "pod", pod)
	collector := []string{"--collector-image", s.collector}

	t.Run("dry run", func(t *testing.T) {
		whole := s.kubectl(t, "get", "pod", "-n", s.namespace, pod, "-o", "json")
		status, out, _ := s.sherd(t, append([]string{"isolate", target, "--detach", "--deny-network", "--keep", "--cordon", "--freeze", "--dry-run"}, collector...)...)
		for _, want := range []string{"would be isolated", "label app: web → isolated-", "label team: shop → isolated-", "leaves service web", "the server: admitted",
			"POST networkpolicies", "spec.unschedulable → true", `"cluster-autoscaler.kubernetes.io/safe-to-evict":"false"`, "established connections"} {
			if want == "established connections" {
				want = "connections that are open already"
			}
			if status != 0 || !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
				t.Errorf("status %d, and what is shown lacks %q", status, want)
			}
		}
		status, out, _ = s.sherd(t, "isolate", target, "--detach", "--deny-network", "--allow", "10.0.0.0/8:53", "--dry-run", "--json")
		var doc contained
		if err := json.Unmarshal([]byte(out), &doc); status != 0 || err != nil || len(doc.Pods) != 1 || len(doc.Pods[0].Steps) != 3 {
			t.Errorf("status %d, %v: %+v", status, err, doc)
		}
		for _, step := range doc.Pods[0].Steps {
			if step.State != contain.Planned || step.Trial != "admitted" || len(step.Document) == 0 {
				t.Errorf("%+v", step)
			}
		}
		if after := s.kubectl(t, "get", "pod", "-n", s.namespace, pod, "-o", "json"); after != whole {
			t.Error("a dry run changed the pod")
		}
		s.same(t, cluster)
	})
	t.Run("rights", func(t *testing.T) { s.isolateWithoutRights(t, target, before) })
	t.Run("probe", func(t *testing.T) {
		status, out, _ := s.sherd(t, append([]string{"isolate", "k8s://" + s.namespace + "/probed", "--freeze"}, collector...)...)
		if status != 1 || !strings.Contains(out, "liveness probe") || !strings.Contains(out, "--force") {
			t.Errorf("freezing what its liveness probe would kill ended with %d", status)
		}
		if status, _, _ := s.sherd(t, "release", "k8s://"+s.namespace+"/probed"); status != 0 {
			t.Errorf("its release ended with %d", status)
		}
	})
	t.Run("detached", func(t *testing.T) {
		status, out, _ := s.sherd(t, "isolate", target, "--detach", "--deny-network", "--keep")
		for _, want := range []string{"let go of the pod; the youngest of its own is web-", "no endpoint slice leads to the pod", "no network plugin is seen here"} {
			if status != 0 || !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
				t.Errorf("status %d, and what is told lacks %q", status, want)
			}
		}
		s.kubectl(t, "wait", "-n", s.namespace, "--for=condition=Available", "deployment/web", "--timeout=60s")
		if got := s.jsonpath(t, "{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.phase}", "pod", pod); got != id+" 0 Running" {
			t.Errorf("the pod did not live on: %s, not %s", got, id)
		}
		if got := s.jsonpath(t, "{.items[*].endpoints[*].targetRef.name}", "endpointslices"); strings.Contains(got, pod) || !strings.HasPrefix(got, "web-") {
			t.Errorf("the service leads to %q", got)
		}
		if got := s.jsonpath(t, "{.metadata.ownerReferences}", "pod", pod); got != "" {
			t.Errorf("its controller still has it: %s", got)
		}
		np := "sherd-isolate-" + s.jsonpath(t, `{.metadata.labels.sherd\.io/isolated}`, "pod", pod)
		if got := s.jsonpath(t, "{.spec}", "networkpolicy", np); !strings.Contains(got, `"policyTypes":["Ingress","Egress"]`) || strings.Contains(got, "egress\":") {
			t.Errorf("the policy: %s", got)
		}
		if status, _, _ := s.sherd(t, "isolate", target, "--detach", "--deny-network", "--keep"); status != 0 {
			t.Errorf("once more ended with %d", status)
		}
	})
	t.Run("surplus", func(t *testing.T) {
		status, _, errOut := s.sherd(t, "release", target)
		if status != 1 || !strings.Contains(errOut, "one too many") || s.jsonpath(t, "{.metadata.ownerReferences}", "pod", pod) != "" {
			t.Errorf("a release that might lose the pod ended with %d", status)
		}
		if status, out, _ := s.sherd(t, "release", target, "--force"); status != 0 || !strings.Contains(out, "labels are what they were before") || !strings.Contains(out, "has taken the pod back") {
			t.Errorf("ended with %d", status)
		}
		if after := s.meta(t, pod); after != before {
			t.Errorf("the pod is not what it was:\n%s\nbefore:\n%s", after, before)
		}
		s.same(t, cluster)
	})
	t.Run("frozen", func(t *testing.T) { s.freezeAndThaw(t, target, pod, before, collector) })
	s.same(t, cluster)
	t.Run("other controllers", func(t *testing.T) { s.otherControllers(t) })
	s.custody(t, filepath.Join(os.Getenv("XDG_STATE_HOME"), "sherd", "containment"), "isolated: detach", "released: record", "isolated: freeze")
}

// otherControllers are those that can't replace a pod, that replace it on its own node, and that want none any more.
func (s *shop) otherControllers(t *testing.T) {
	url := func(pod string) string { return "k8s://" + s.namespace + "/" + pod }
	before := s.meta(t, "db-0")
	if status, out, _ := s.sherd(t, "isolate", url("db-0"), "--detach"); status != 0 || !strings.Contains(out, "statefulset db let go") || !strings.Contains(out, "can't make the pod's successor") {
		t.Errorf("a stateful set's pod: %d", status)
	}
	if status, out, _ := s.sherd(t, "release", url("db-0")); status != 0 || !strings.Contains(out, "statefulset db has taken the pod back") || s.meta(t, "db-0") != before {
		t.Errorf("its release ended with %d", status)
	}
	agent := s.jsonpath(t, "{.items[0].metadata.name}", "pods", "-l", "app=agent")
	before = s.meta(t, agent)
	if status, out, _ := s.sherd(t, "isolate", url(agent), "--detach"); status != 0 || !strings.Contains(out, "daemonset agent let go") {
		t.Errorf("a daemon set's pod: %d", status)
	}
	s.kubectl(t, "rollout", "status", "-n", s.namespace, "daemonset/agent", "--timeout=60s")
	if status, _, errOut := s.sherd(t, "release", url(agent)); status != 1 || !strings.Contains(errOut, "--force") {
		t.Errorf("a release that might lose the pod ended with %d", status)
	}
	// What the controller wants none of any more is never given back.
	s.kubectl(t, "patch", "-n", s.namespace, "daemonset/agent", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"none":"such"}}}}}`)
	s.waitFor(t, "the end of the daemon set's other pod", func() bool { return s.jsonpath(t, "{.items}", "pods", "-l", "app=agent") == "[]" })
	if status, _, errOut := s.sherd(t, "release", url(agent), "--force"); status != 1 || !strings.Contains(errOut, "would be lost") {
		t.Errorf("a release that would lose the pod ended with %d", status)
	}
	if status, out, _ := s.sherd(t, "release", url(agent), "--leave-detached"); status != 0 || !strings.Contains(out, "stay changed") {
		t.Errorf("ended with %d", status)
	}
	if got := s.jsonpath(t, "{.metadata.ownerReferences}", "pod", agent); got != "" || s.meta(t, agent) == before {
		t.Errorf("it was given back: %s", got)
	}
}

// isolateWithoutRights lets somebody try who may look and mark pods, and no more: what is missing is named, what was done is undone.
func (s *shop) isolateWithoutRights(t *testing.T, target, before string) {
	role := "held-" + s.namespace
	s.kubectl(t, "create", "clusterrole", role, "--verb=get,list,patch", "--resource=pods")
	t.Cleanup(func() { s.kubectl(t, "delete", "clusterrole,clusterrolebinding", role) })
	s.kubectl(t, "create", "clusterrolebinding", role, "--clusterrole="+role, "--user=mara")
	status, out, _ := s.sherd(t, "isolate", target, "--deny-network", "--keep", "--as", "mara")
	for _, want := range []string{"✓ keep autoscalers", "✗ deny the pod the network", "mara may not create networkpolicies", "--verb=create --resource=networkpolicies.networking.k8s.io", "unknown"} {
		if status != 1 || !strings.Contains(out, want) {
			t.Errorf("status %d, and what is told lacks %q", status, want)
		}
	}
	if status, _, _ := s.sherd(t, "release", target); status != 0 {
		t.Errorf("the release of what was done in part ended with %d", status)
	}
	if after := s.meta(t, target[strings.LastIndex(target, "/")+1:]); after != before {
		t.Errorf("the pod is not what it was:\n%s", after)
	}
}

// freezeAndThaw freezes a pod on a cordoned node: it takes no processor time, also when the collector is gone, until it is released.
func (s *shop) freezeAndThaw(t *testing.T, target, pod, before string, collector []string) {
	c, err := s.l.Pod(t.Context(), s.namespace, pod, "app", "goweb")
	if err != nil {
		t.Fatal(err)
	}
	pkg := filepath.Join(t.TempDir(), "x.sherd")
	if status, _, _ := s.sherd(t, "collect", target+"/app", "-o", pkg); status != 0 {
		t.Fatalf("the capture ended with %d", status)
	}
	status, _, _ := s.sherd(t, append([]string{"isolate", target + "/app", "--freeze", "--cordon", "--evidence", pkg}, collector...)...)
	if status != 0 {
		t.Fatalf("ended with %d", status)
	}
	if got := s.jsonpath(t, "{.spec.unschedulable}", "node", lab.NodeName); got != "true" {
		t.Errorf("the node is not cordoned: %q", got)
	}
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func() error {
		r, err := client.Get(c.URL)
		if err == nil {
			r.Body.Close()
		}
		return err
	}
	ticks := cpuTicks(t, c.PID)
	if err := ask(); err == nil {
		t.Error("a frozen server answers")
	}
	if now := cpuTicks(t, c.PID); now != ticks {
		t.Errorf("a frozen process took %d ticks of processor time", now-ticks)
	}
	if got := freezerState(t, c.PID); got != "FROZEN" {
		t.Errorf("its freezer says %s", got)
	}
	frozen := filepath.Join(t.TempDir(), "frozen.sherd")
	if status, _, _ := s.sherd(t, "collect", target+"/app", "-o", frozen); status != 0 {
		t.Errorf("the capture of a frozen pod ended with %d", status)
	}
	if status, out, _ := s.sherd(t, append([]string{"release", target, "--evidence", pkg}, collector...)...); status != 0 || !strings.Contains(out, "✓ thaw the container app") {
		t.Errorf("the release ended with %d", status)
	}
	if err := ask(); err != nil {
		t.Errorf("the server does not answer after its release: %v", err)
	}
	if got := s.jsonpath(t, "{.spec.unschedulable}{.metadata.annotations}", "node", lab.NodeName); strings.Contains(got, "true") && strings.HasPrefix(got, "true") || strings.Contains(got, "sherd") {
		t.Errorf("the node: %s", got)
	}
	if after := s.meta(t, pod); after != before {
		t.Errorf("the pod is not what it was:\n%s\nbefore:\n%s", after, before)
	}
	s.custody(t, pkg, "collected", "isolated: cordon", "isolated: freeze", "released: freeze")
}

// custody checks a log's chain and what it tells.
func (s *shop) custody(t *testing.T, path string, want ...string) {
	t.Helper()
	if status, out, errOut := sherd(t, s.l, "verify", path+".custody.jsonl"); status != 0 || !strings.Contains(out, "the chain is whole") {
		t.Errorf("verify ended with %d: %s", status, errOut)
	}
	r, err := evidence.VerifyCustody(path, nil)
	if err != nil || len(r.Problems) > 0 {
		t.Fatalf("%v: %+v", err, r)
	}
	for _, w := range want {
		if !slices.ContainsFunc(r.Entries, func(e evidence.CustodyEntry) bool { return e.Action == w }) {
			t.Errorf("custody does not tell of %q: %+v", w, r.Entries)
		}
	}
}

// cpuTicks is the processor time of a process, in ticks (proc_pid_stat(5)).
func cpuTicks(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	n := 0
	for _, s := range f[11:13] {
		v, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		n += v
	}
	return n
}

// freezerState is what the kernel says of the control group that a process is in.
func freezerState(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && strings.Contains(f[1], "freezer") {
			state, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/freezer", f[2], "freezer.state"))
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(state))
		}
	}
	_, unified, _ := strings.Cut(string(b), "0::")
	state, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", strings.TrimSpace(unified), "cgroup.events"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(state), "frozen 1") {
		return "FROZEN"
	}
	return string(state)
}
