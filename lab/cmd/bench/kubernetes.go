package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sherd-forensics/sherd/lab"
)

// clusterNamespace is where the benchmark's pods are.
const clusterNamespace = "sherd-bench"

const clusterPods = `
apiVersion: v1
kind: Pod
metadata: {name: cart}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: "GOWEB", imagePullPolicy: Never}]
---
apiVersion: v1
kind: Pod
metadata: {name: peer}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: "PEER", imagePullPolicy: Never, args: ["wait"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: large}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: "PEER", imagePullPolicy: Never, args: ["keep", "/blob", "MIB"], securityContext: {runAsUser: 0}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: REPLICAS
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: app, image: "GOWEB", imagePullPolicy: Never}]
`

// clusterBench is the lab's cluster with the pods that are captured.
type clusterBench struct {
	*bench
	l         *lab.Lab
	dir       string
	collector string
	pods      int
	mib       int
}

// kubernetes measures captures in the lab's cluster of one node.
func (b *bench) kubernetes() (err error) {
	ctx := context.Background()
	c := &clusterBench{bench: b, l: lab.Open(os.Stderr), pods: 20, mib: int(b.size >> 21)}
	if b.turns == 1 {
		c.pods = 4
	}
	if err := c.l.Up(ctx, lab.Kubernetes); err != nil {
		return err
	}
	images := map[string]string{}
	for _, name := range []string{lab.Collector, "goweb", "peer"} {
		if images[name], err = c.l.LoadKubernetes(ctx, name); err != nil {
			return err
		}
	}
	c.collector = images[lab.Collector]
	if c.dir, err = os.MkdirTemp("", "sherd-bench-cluster-"); err != nil {
		return err
	}
	defer os.RemoveAll(c.dir)
	file := filepath.Join(c.dir, "pods.yaml")
	text := strings.NewReplacer("GOWEB", images["goweb"], "PEER", images["peer"], "MIB", fmt.Sprint(c.mib), "REPLICAS", fmt.Sprint(c.pods)).Replace(clusterPods)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	if _, err := c.l.Kubectl(ctx, "create", "namespace", clusterNamespace); err != nil {
		return err
	}
	defer func() {
		if _, derr := c.l.Kubectl(ctx, "delete", "namespace", clusterNamespace, "--timeout=120s"); err == nil {
			err = derr
		}
	}()
	if _, err := c.l.Kubectl(ctx, "apply", "-n", clusterNamespace, "-f", file); err != nil {
		return err
	}
	if _, err := c.l.Kubectl(ctx, "wait", "-n", clusterNamespace, "--for=condition=Ready", "pod", "--all", "--timeout=300s"); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{c.one, c.several, c.overhead, c.stream} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sherd is a capture.
func (c *clusterBench) sherd(out string, args ...string) *exec.Cmd {
	args = append([]string{"collect", "--quiet", "--kubeconfig", c.l.Kubeconfig(), "--containerd-address", c.l.KubernetesSocket(), "--collector-image", c.collector, "-o", out}, args...)
	return exec.Command(filepath.Join(c.bin, "sherd"), args...)
}

// clean takes away what one turn wrote.
func clean(dir string) func() {
	return func() {
		os.RemoveAll(dir)
		_ = os.MkdirAll(dir, 0o700) // a package is not put into a folder that isn't there
	}
}

// one goes from the command to the sealed package of a small pod.
func (c *clusterBench) one(context.Context) error {
	out, turn := filepath.Join(c.dir, "one"), 0
	clean(out)()
	const byHand = `set -e; mkdir -p "${4%/*}"
k="$0 --kubeconfig $1 -n ` + clusterNamespace + `"
$k debug cart --image="$2" --image-pull-policy=Never --target=app --profile=sysadmin --container="$3" --quiet -- /peer wait >/dev/null
until $k get pod cart -o jsonpath="{.status.ephemeralContainerStatuses[?(@.name=='$3')].state.running.startedAt}" | grep -q .; do sleep 0.2; done
$k exec cart -c "$3" -- /peer tar /proc/1/root >"$4"
sha256sum "$4" >"$4.sum"`
	return c.run("a small running pod of the lab's cluster, from the command to a package with its hash", []*contestant{
		{name: "sherd collect: all, without touching the pod", clean: clean(out), make: func() *exec.Cmd {
			return c.sherd(filepath.Join(out, "x.sherd"), "k8s://"+clusterNamespace+"/cart/app")
		}},
		{name: "kubectl debug, exec tar: its files alone", clean: clean(out), make: func() *exec.Cmd {
			turn++
			return exec.Command("sh", "-c", byHand, c.l.KubectlPath(), c.l.Kubeconfig(), "registry.test/lab/peer:1", fmt.Sprintf("debug-%d-%d", os.Getpid(), turn), out+"/x.tar")
		}},
	})
}

// several captures many pods of one node.
func (c *clusterBench) several(ctx context.Context) error {
	out := filepath.Join(c.dir, "several")
	clean(out)()
	names, err := c.l.Kubectl(ctx, "get", "pods", "-n", clusterNamespace, "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}")
	if err != nil {
		return err
	}
	var each []string
	for i, n := range strings.Fields(names) {
		each = append(each, strings.Join(c.sherd(fmt.Sprintf("%s/%d.sherd", out, i), "k8s://"+clusterNamespace+"/"+n+"/app").Args, " "))
	}
	together := func(perNode string) func() *exec.Cmd {
		return func() *exec.Cmd {
			return c.sherd(out, "k8s://"+clusterNamespace+"/deployment/web", "--per-node", perNode, "--at-once", perNode)
		}
	}
	return c.run(fmt.Sprintf("%d pods of one node, whose processors the captures share with the cluster", len(each)), []*contestant{
		{name: "one command, 2 at once on a node (the default)", make: together("2"), clean: clean(out), turns: 1},
		{name: "one command, 8 at once on a node", make: together("8"), clean: clean(out), turns: 1},
		{name: "one command, one after another", make: together("1"), clean: clean(out), turns: 1},
		{name: "a command for each, one after another", turns: 1, clean: clean(out), make: func() *exec.Cmd {
			return exec.Command("sh", "-c", "set -e; mkdir -p "+out+"; "+strings.Join(each, "; "))
		}},
	})
}

// overhead asks a pod's service at a fixed pace, before and while it is captured again and again.
func (c *clusterBench) overhead(ctx context.Context) error {
	pod, err := c.l.Pod(ctx, clusterNamespace, "cart", "app", "goweb")
	if err != nil {
		return err
	}
	const pace, lasts = 200, 8 * time.Second
	before := load(pod.URL, pace, lasts)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	captures := 0
	var failed error
	wait.Go(func() {
		for failed == nil {
			select {
			case <-stop:
				return
			default:
			}
			out := filepath.Join(c.dir, fmt.Sprintf("load-%d.sherd", captures))
			failed = c.sherd(out, "k8s://"+clusterNamespace+"/cart/app").Run()
			os.Remove(out)
			captures++
		}
	})
	during := load(pod.URL, pace, 2*lasts)
	close(stop)
	wait.Wait()
	if failed != nil {
		return failed
	}
	fmt.Printf("\na pod's service, asked %d times a second, before and during %d captures of it\n", pace, captures)
	fmt.Printf("  %-44s %9s %9s %9s %9s\n", "", "per s", "median ms", "p99 ms", "failed")
	for _, r := range []struct {
		name string
		l    loaded
	}{{"before", before}, {"during", during}} {
		fmt.Printf("  %-44s %9.1f %9.2f %9.2f %9d\n", r.name, r.l.rate, r.l.at(0.5), r.l.at(0.99), r.l.failed)
	}
	fmt.Printf("  answered less: %.1f %%\n", 100*(1-during.rate/before.rate))
	return nil
}

// loaded is what came of asking.
type loaded struct {
	rate   float64
	took   []time.Duration
	failed int
}

// at gives a quantile in milliseconds.
func (l loaded) at(q float64) float64 {
	if len(l.took) == 0 {
		return 0
	}
	return float64(l.took[min(len(l.took)-1, int(q*float64(len(l.took))))]) / 1e6
}

func load(url string, pace int, lasts time.Duration) loaded {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	var mu sync.Mutex
	var out loaded
	var wait sync.WaitGroup
	began := time.Now()
	tick := time.NewTicker(time.Second / time.Duration(pace))
	defer tick.Stop()
	for time.Since(began) < lasts {
		<-tick.C
		wait.Go(func() {
			at := time.Now()
			resp, err := client.Get(url + "/")
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				out.failed++
				return
			}
			out.took = append(out.took, time.Since(at))
		})
	}
	wait.Wait()
	out.rate = float64(len(out.took)) / time.Since(began).Seconds()
	slices.Sort(out.took)
	return out
}

// stream compares how fast a large package comes through the API server with how fast bytes come through it at all, each from its first byte
// on: how long a collector takes to start is measured above.
func (c *clusterBench) stream(context.Context) error {
	fmt.Printf("\n%d MiB that don't compress, through the API server, from the first byte to the last\n  %-44s %9s %9s %10s\n", c.mib, "", "MB/s", "seconds", "peak MiB")
	for _, r := range []struct {
		name string
		make func() *exec.Cmd
	}{
		{"sherd: read, hash, compress, seal, fetch", func() *exec.Cmd { return c.sherd("-", "k8s://"+clusterNamespace+"/large/app") }},
		{"kubectl exec of a program that writes them", func() *exec.Cmd {
			return exec.Command(c.l.KubectlPath(), "--kubeconfig", c.l.Kubeconfig(), "-n", clusterNamespace, "exec", "peer", "--", "/peer", "random", fmt.Sprint(c.mib))
		}},
	} {
		var best measured
		for range c.turns {
			m, err := clocked(r.make())
			if err != nil {
				return err
			}
			if m.bytes < int64(c.mib)<<20 {
				return fmt.Errorf("%s: only %d bytes came", r.name, m.bytes)
			}
			if best.took == 0 || m.took < best.took {
				best = m
			}
		}
		fmt.Printf("  %-44s %9.0f %9.2f %10.0f\n", r.name, float64(best.bytes)/1e6/best.took.Seconds(), best.took.Seconds(), float64(best.rss)/(1<<20))
	}
	return nil
}

type measured struct {
	took  time.Duration
	bytes int64
	rss   int64
}

// clocked runs a command and measures what it writes, from its first byte on.
func clocked(cmd *exec.Cmd) (m measured, err error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return m, err
	}
	if err := cmd.Start(); err != nil {
		return m, err
	}
	first := make([]byte, 1)
	n, _ := io.ReadFull(out, first) // a command that writes nothing says why by its end
	began := time.Now()
	more, rerr := io.Copy(io.Discard, out)
	m.took, m.bytes = time.Since(began), int64(n)+more
	if err := errors.Join(rerr, cmd.Wait()); err != nil {
		return m, fmt.Errorf("%s: %w", cmd.Args[0], err)
	}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.rss = ru.Maxrss * 1024
	}
	return m, nil
}
