package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/lab"
)

const simplePod = `
apiVersion: v1
kind: Pod
metadata: {name: NAMEFINALIZERS}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - {name: app, image: "GOWEB", imagePullPolicy: Never, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
---`

func podNamed(name, finalizer string) string {
	f := ""
	if finalizer != "" {
		f = ", finalizers: [" + finalizer + "]"
	}
	return strings.NewReplacer("NAME", name, "FINALIZERS", f).Replace(simplePod)
}

func (s *shop) isReady(t *testing.T, pods ...string) {
	t.Helper()
	for _, p := range pods {
		s.kubectl(t, "wait", "-n", s.namespace, "--for=condition=Ready", "pod/"+p, "--timeout=90s")
	}
}

// good captures a target and verifies the package.
func (s *shop) good(t *testing.T, args ...string) (pkg, errOut string) {
	t.Helper()
	pkg = filepath.Join(t.TempDir(), "x.sherd")
	status, _, errOut := s.sherd(t, append(append([]string{"collect"}, args...), "-o", pkg)...)
	if status != 0 {
		t.Fatalf("ended with %d", status)
	}
	if status, _, errOut := sherd(t, s.l, "verify", pkg); status != 0 {
		t.Error(errOut)
	}
	return pkg, errOut
}

// bad is a capture that must fail with these words.
func (s *shop) bad(t *testing.T, args []string, want ...string) {
	t.Helper()
	pkg := filepath.Join(t.TempDir(), "x.sherd")
	status, _, errOut := s.sherd(t, append(append([]string{"collect"}, args...), "-o", pkg)...)
	for _, w := range want {
		if status != 1 || !strings.Contains(errOut, w) {
			t.Errorf("status %d, and the error lacks %q:\n%s", status, w, errOut)
		}
	}
	if left, _ := filepath.Glob(pkg + "*"); len(left) > 0 {
		t.Errorf("left here: %q", left)
	}
}

// coverageWords are the words of a package's coverage.
func coverageWords(t *testing.T, pkg string) string {
	t.Helper()
	p, err := evidence.Open(pkg, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var out []string
	for _, m := range p.Coverage().Missed {
		out = append(out, m.What+": "+m.Reason)
	}
	return strings.Join(out, "\n")
}

// TestLiveClusterOutage takes parts of the cluster away while, and before, something is captured.
func TestLiveClusterOutage(t *testing.T) {
	s := openShop(t, podNamed("cart", ""))
	s.isReady(t, "cart")
	before := s.objects(t)
	target := "k8s://" + s.namespace + "/cart/app"
	kill := func(t *testing.T, part string) (resume func()) {
		t.Helper()
		again, err := s.l.KillKubernetes(t.Context(), part)
		if err != nil {
			t.Error(err)
			return func() {}
		}
		return func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			if err := again(ctx); err != nil {
				t.Error(err)
			}
		}
	}
	t.Run("API server", func(t *testing.T) {
		slow, carried := startSlow(t, s.server())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for until := time.Now().Add(time.Minute); carried() < 60_000; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(until) {
					t.Error("no package came")
					return
				}
			}
			resume := kill(t, "apiserver")
			time.Sleep(3 * time.Second)
			resume()
		}()
		s.good(t, target, "--kubeconfig", s.throughAddress(t, slow))
		<-done
		s.same(t, before)
	})
	t.Run("kubelet", func(t *testing.T) {
		defer kill(t, "kubelet")()
		s.bad(t, []string{target, "--via", "node"}, "kubelet has not looked at its pod", "--collector-start 10m")
		s.same(t, before)
		// What the cluster itself says of such a node after a while, and of one without room.
		condition := func(kind, status, reason string) {
			s.kubectl(t, "patch", "node", lab.NodeName, "--subresource=status", "-p",
				`{"status":{"conditions":[{"type":"`+kind+`","status":"`+status+`","reason":"`+reason+`","message":"said by the test"}]}}`)
		}
		condition("Ready", "Unknown", "NodeStatusUnknown")
		began := time.Now()
		s.bad(t, []string{target, "--via", "node"}, "it is not ready since", "NodeStatusUnknown: said by the test")
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("that was known beforehand, and took %v", took)
		}
		condition("Ready", "True", "KubeletReady")
		condition("DiskPressure", "True", "KubeletHasDiskPressure")
		s.bad(t, []string{target, "--via", "node"}, "takes no more pods (DiskPressure")
		s.same(t, before)
	})
}

// startSlow passes connections on to server, and what comes from there at a hundred kilobytes a second.
func startSlow(t *testing.T, server string) (addr string, carried func() int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var mu sync.Mutex
	var most int64
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
				for n := int64(0); ; time.Sleep(20 * time.Millisecond) {
					k, err := io.CopyN(in, out, 2_000)
					mu.Lock()
					n += k
					most = max(most, n)
					mu.Unlock()
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), func() int64 {
		mu.Lock()
		defer mu.Unlock()
		return most
	}
}

// TestLiveClusterTruth is what a cluster's status does not tell rightly, or no more.
func TestLiveClusterTruth(t *testing.T) {
	long := strings.Repeat("a-pod.with-a-long.name.", 8) + "e-" // more, and the kubelet can't name its folder of logs
	s := openShop(t, podNamed("cart", "")+podNamed("other", "")+podNamed(long+"1", "")+podNamed(long+"2", ""))
	s.isReady(t, "cart", "other", long+"1", long+"2")
	k8s := "k8s://" + s.namespace + "/"
	id := func(pod string) string {
		return strings.TrimPrefix(s.kubectl(t, "get", "pod", "-n", s.namespace, pod, "-o", "jsonpath={.status.containerStatuses[0].containerID}"), "containerd://")
	}
	before := s.objects(t)
	t.Run("ids", func(t *testing.T) {
		cart, other := id("cart"), id("other")
		lie := func(is string) {
			s.kubectl(t, "patch", "pod", "-n", s.namespace, "cart", "--subresource=status", "-p",
				`{"status":{"containerStatuses":[{"name":"app","image":"x","imageID":"x","ready":true,"restartCount":0,"containerID":"containerd://`+is+`","state":{"running":{}}}]}}`)
		}
		for _, is := range []string{other, strings.Repeat("0", 64)} {
			lie(is)
			pkg, errOut := s.good(t, k8s+"cart/app")
			if !strings.Contains(errOut, "Captured is containerd://k8s.io/"+cart) {
				t.Errorf("a status that names %s is not told of", is)
			}
			if words := coverageWords(t, pkg); !strings.Contains(words, "captured is containerd://k8s.io/"+cart) {
				t.Errorf("nor in the package:\n%s", words)
			}
			s.waitFor(t, "the truth", func() bool { return id("cart") == cart })
		}
		s.same(t, before)
	})
	t.Run("going", func(t *testing.T) {
		// Its object stays for a finalizer, so that it is listed when its container is gone; and it takes its time to end.
		s.apply(t, strings.NewReplacer("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 60",
			"imagePullPolicy: Never,", "imagePullPolicy: Never, lifecycle: {preStop: {sleep: {seconds: 50}}},").Replace(podNamed("going", "sherd.test/hold")))
		defer s.kubectl(t, "patch", "pod", "-n", s.namespace, "going", "-p", `{"metadata":{"finalizers":null}}`)
		s.isReady(t, "going")
		was := id("going")
		s.kubectl(t, "delete", "pod", "-n", s.namespace, "going", "--wait=false")
		s.good(t, k8s+"going/app")
		if _, err := s.l.Ctr(t.Context(), "task", "rm", "--force", was); err != nil {
			t.Logf("the kubelet was faster: %v", err)
		}
		s.waitFor(t, "its end", func() bool {
			if _, err := s.l.Ctr(t.Context(), "container", "rm", was); err == nil {
				return true
			}
			all, err := s.l.Ctr(t.Context(), "container", "ls", "-q")
			return err == nil && !strings.Contains(all, was)
		})
		s.bad(t, []string{k8s + "going/app"}, "that id is not on the node", "the runtime knows none by that name")
	})
	t.Run("deleted", func(t *testing.T) {
		// A container with the labels of a pod that the API server has never heard of, or no more.
		const name = "sherd-left-behind"
		image := s.images.Replace("GOWEB")
		if _, err := s.l.Ctr(t.Context(), "run", "-d", "--net-host", "--label", "io.kubernetes.pod.namespace="+s.namespace, "--label", "io.kubernetes.pod.name=ghost",
			"--label", "io.kubernetes.pod.uid=b7a0", "--label", "io.kubernetes.container.name=app", "--env", "LISTEN=127.0.0.1:18321", image, name); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_, err := s.l.Ctr(context.Background(), "task", "rm", "--force", name)
			_, rerr := s.l.Ctr(context.Background(), "container", "rm", name)
			if err := errors.Join(err, rerr); err != nil {
				t.Error(err)
			}
		}()
		s.bad(t, []string{k8s + "ghost/app"}, "--search-nodes", "--node")
		pkg, errOut := s.good(t, k8s+"ghost/app", "--search-nodes")
		if words := coverageWords(t, pkg); !strings.Contains(words, "the API server knows it no more") || !strings.Contains(errOut, "the API server knows this no more") {
			t.Errorf("it is not told: %s", words)
		}
		s.good(t, k8s+"ghost", "--node", lab.NodeName)
		s.bad(t, []string{k8s + "nobody/app", "--node", lab.NodeName}, "nothing of it was found on "+lab.NodeName)
		s.same(t, before)
	})
	t.Run("static", func(t *testing.T) {
		// The kubelet runs it by itself, and shows the API server a copy.
		file := filepath.Join(s.l.StaticPods(), "static.yaml")
		manifest := strings.Replace(s.images.Replace(podNamed("static", "")), "metadata: {name: static", "metadata: {namespace: "+s.namespace+", name: static", 1)
		if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
			t.Fatal(err)
		}
		pod := "static-" + lab.NodeName
		defer func() {
			if err := os.Remove(file); err != nil {
				t.Error(err)
			}
			s.same(t, before)
		}()
		s.waitFor(t, "the static pod", func() bool {
			out, err := s.l.Kubectl(t.Context(), "get", "pod", "-n", s.namespace, pod, "-o", "jsonpath={.status.containerStatuses[0].state.running}")
			return err == nil && out != ""
		})
		if _, errOut := s.good(t, k8s+pod+"/app"); errOut != "" {
			t.Errorf("something is said of it: %s", errOut)
		}
	})
	t.Run("names", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "all")
		if status, _, _ := s.sherd(t, "collect", k8s+long+"1", k8s+long+"2", "-o", dir); status != 0 {
			t.Errorf("ended with %d", status)
		}
		got, _ := filepath.Glob(dir + "/*.sherd")
		if len(got) != 2 {
			t.Errorf("%d packages of two pods: %q", len(got), got)
		}
		for _, pkg := range got {
			if n := len(filepath.Base(pkg)); n > 100 {
				t.Errorf("a name of %d bytes: %s", n, pkg)
			}
			if status, _, errOut := sherd(t, s.l, "verify", pkg); status != 0 {
				t.Error(errOut)
			}
		}
	})
}

// TestLiveClusterBusy captures where much else happens: on a node that has nothing left to promise, a container that ends again and again,
// and one that somebody else captures too.
func TestLiveClusterBusy(t *testing.T) {
	const filler = `
apiVersion: v1
kind: Pod
metadata: {name: filler}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - {name: app, image: "GOWEB", imagePullPolicy: Never, resources: {requests: {cpu: CPU}}, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
---`
	s := openShop(t, podNamed("cart", ""))
	s.isReady(t, "cart")
	cpu := s.kubectl(t, "get", "node", lab.NodeName, "-o", "jsonpath={.status.allocatable.cpu}")
	s.apply(t, strings.Replace(filler, "CPU", cpu, 1))
	s.apply(t, strings.NewReplacer("GOWEB", "COLLECTOR", "imagePullPolicy: Never,", `imagePullPolicy: Never, args: ["--version"],`).Replace(podNamed("loop", "")))
	s.isReady(t, "filler")
	before := s.objects(t)
	t.Run("loop", func(t *testing.T) {
		s.waitFor(t, "an end of the container", func() bool {
			return s.kubectl(t, "get", "pod", "-n", s.namespace, "loop", "-o", "jsonpath={.status.containerStatuses[0].restartCount}") > "0"
		})
		for range 3 {
			s.good(t, "k8s://"+s.namespace+"/loop/app")
		}
	})
	t.Run("twice", func(t *testing.T) {
		var both sync.WaitGroup
		for i := range 2 {
			both.Go(func() {
				time.Sleep(time.Duration(i) * 400 * time.Millisecond)
				pkg := filepath.Join(t.TempDir(), "x.sherd")
				if status, _, _ := s.sherd(t, "collect", "k8s://"+s.namespace+"/cart/app", "-o", pkg); status != 0 {
					t.Errorf("ended with %d", status)
				}
				if status, _, errOut := sherd(t, s.l, "verify", pkg); status != 0 {
					t.Error(errOut)
				}
			})
		}
		both.Wait()
	})
	t.Run("stream", func(t *testing.T) {
		status, out, errOut := s.sherd(t, "collect", "k8s://"+s.namespace+"/cart/app", "-o", "-")
		if status != 0 || !strings.Contains(errOut, "keeps the signature of the collector") || !strings.Contains(errOut, fmt.Sprintf("%x", sha256.Sum256([]byte(out)))) {
			t.Errorf("status %d", status)
		}
		pkg := filepath.Join(t.TempDir(), "x.sherd")
		if err := os.WriteFile(pkg, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, _, errOut := sherd(t, s.l, "verify", pkg); status != 1 || !strings.Contains(errOut, "intact, but signed with a key made for it alone") {
			t.Errorf("status %d: %s", status, errOut)
		}
	})
	s.same(t, before)
}
