package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"golang.org/x/sys/unix"
)

// Kubernetes is a cluster of one real node: etcd, the control plane, a kubelet, and a containerd with its CRI, each an
// ordinary process of this machine. It is brought up when named, and not among the runtimes that Up starts by itself:
// compiling it the first time takes minutes.
const Kubernetes = "kubernetes"

// NodeName is the name of the cluster's one node.
const NodeName = "lab-node"

//go:embed kubernetes/config
var clusterConfig embed.FS

// cluster says where the parts of the lab's Kubernetes are.
type cluster struct {
	*Lab
	// What the templates below kubernetes/config use.
	Root, State, Socket, CNI, Pause, Node, Pods, PKI, CgroupRoot, Manifests, Bridge, Run, Bin string

	address string // of the API server, host:port
}

func (l *Lab) cluster() cluster {
	base, run := filepath.Join(l.base, Kubernetes), filepath.Join(l.run, Kubernetes)
	// The lab's bridge takes the network 10.88.N; the node and the pods those beside it.
	third := strings.Split(l.bridge.prefix, ".")[2]
	c := cluster{
		Lab: l, Root: filepath.Join(base, "containerd"), State: filepath.Join(run, "containerd"), Socket: filepath.Join(run, "containerd.sock"),
		CNI: filepath.Join(run, "cni"), Node: fmt.Sprintf("10.89.%s.1", third), Pods: fmt.Sprintf("10.90.%s.0/24", third),
		PKI: filepath.Join(run, "pki"), CgroupRoot: "/", Manifests: filepath.Join(run, "manifests"), Bridge: l.bridge.tag + "k", Run: run, Bin: filepath.Join(l.base, "bin", Kubernetes),
	}
	if l.tag != "" {
		c.CgroupRoot = "/" + l.bridge.tag
	}
	c.address = net.JoinHostPort(c.Node, "6443")
	return c
}

// Kubeconfig is the path of an administrator's kubeconfig for the lab's cluster.
func (l *Lab) Kubeconfig() string { return filepath.Join(l.run, Kubernetes, "admin.kubeconfig") }

// KubernetesSocket is the socket of the node's containerd.
func (l *Lab) KubernetesSocket() string { return l.cluster().Socket }

// KubernetesState is the state directory of the node's containerd.
func (l *Lab) KubernetesState() string { return l.cluster().State }

// KubernetesRoot is the root directory of the node's containerd.
func (l *Lab) KubernetesRoot() string { return l.cluster().Root }

// KubernetesAudit is the API server's audit log.
func (l *Lab) KubernetesAudit() string { return filepath.Join(l.base, "log", "audit.log") }

// KubernetesLog is the log of one part of the cluster: etcd, apiserver, controller-manager, scheduler, kubelet or containerd.
func (l *Lab) KubernetesLog(part string) string {
	return filepath.Join(l.base, "log", "kubernetes-"+part+".log")
}

// startKubernetes brings the cluster up, from the lowest part to the highest, and waits until its node is ready.
func (l *Lab) startKubernetes(ctx context.Context) error {
	c := l.cluster()
	bin, err := l.compileKubernetes(ctx)
	if err != nil {
		return err
	}
	if err := l.compileCRIU(ctx, bin); err != nil {
		return err
	}
	if err := c.nodeAddress(ctx); err != nil {
		return fmt.Errorf("the node's address: %w", err)
	}
	pause, err := l.build(ctx, "pause")
	if err != nil {
		return err
	}
	c.Pause = pause.Ref
	if err := c.write(); err != nil {
		return err
	}
	if err := c.startNode(ctx, bin); err != nil {
		return err
	}
	if err := c.load(ctx, pause); err != nil {
		return err
	}
	if err := c.startControl(ctx, bin); err != nil {
		return err
	}
	return c.startKubelet(ctx, bin)
}

// nodeAddress gives the node an address that is not loopback's, which a kubelet refuses: that of a bridge with nothing on it.
func (c cluster) nodeAddress(ctx context.Context) error {
	name := c.bridge.tag + "n"
	if !exists("/sys/class/net/" + name) {
		if _, err := command(ctx, "ip", "link", "add", name, "type", "bridge"); err != nil {
			return err
		}
	}
	for _, argv := range [][]string{{"ip", "addr", "replace", c.Node + "/24", "dev", name}, {"ip", "link", "set", name, "up"}} {
		if _, err := command(ctx, argv...); err != nil {
			return err
		}
	}
	return nil
}

const forwarding = "/proc/sys/net/ipv4/ip_forward"

// noteForwarding remembers whether the machine forwards packets: the pods' bridge makes it do so.
func (c cluster) noteForwarding() error {
	note := filepath.Join(c.Run, "ip_forward")
	if exists(note) {
		return nil
	}
	b, err := os.ReadFile(forwarding)
	if err != nil {
		return err
	}
	return os.WriteFile(note, b, 0o600)
}

func (c cluster) restoreForwarding() error {
	b, err := os.ReadFile(filepath.Join(c.Run, "ip_forward"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it was never turned on
	}
	if err != nil {
		return err
	}
	return os.WriteFile(forwarding, b, 0o644)
}

// write writes certificates and configuration, those that are not there.
func (c cluster) write() error {
	for _, dir := range []string{c.Run, c.CNI, c.Manifests, c.PKI} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	if err := c.noteForwarding(); err != nil {
		return err
	}
	if err := c.certificates(); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	for name, to := range map[string]string{"audit-policy.yaml": c.Run, "containerd.toml": c.Run, "kubelet.yaml": c.Run, "cni.json": c.CNI} {
		b, err := clusterConfig.ReadFile(path.Join("kubernetes/config", name))
		if err != nil {
			return err
		}
		t, err := template.New(name).Parse(string(b))
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if err := t.Execute(&text, c); err != nil {
			return err
		}
		if name == "cni.json" {
			name = "10-lab.conflist"
		}
		if err := os.WriteFile(filepath.Join(to, name), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (c cluster) startNode(ctx context.Context, bin string) error {
	// The shim is looked for beside containerd, and Debian's runc and CNI programs on the PATH.
	env := []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	return c.daemonUntil(ctx, "kubernetes-containerd", "at "+c.Socket, func() bool { return answers(c.Socket) }, env,
		filepath.Join(bin, "containerd"), "--config", filepath.Join(c.Run, "containerd.toml"))
}

func (c cluster) startControl(ctx context.Context, bin string) error {
	pki := func(name string) string { return filepath.Join(c.PKI, name) }
	etcd := "http://" + net.JoinHostPort(c.Node, "2379")
	data := filepath.Join(c.base, Kubernetes, "etcd")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	err := c.daemonUntil(ctx, "kubernetes-etcd", "at "+etcd, c.healthy(etcd+"/health"), nil, "etcd", "--name", NodeName,
		"--data-dir", data, "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
		"--listen-peer-urls", "http://"+net.JoinHostPort(c.Node, "2380"), "--initial-advertise-peer-urls", "http://"+net.JoinHostPort(c.Node, "2380"),
		"--initial-cluster", NodeName+"=http://"+net.JoinHostPort(c.Node, "2380"),
		// What is in the lab's etcd need not survive the machine: waiting for the disk is most of its time.
		"--unsafe-no-fsync")
	if err != nil {
		return err
	}
	api := "https://" + c.address
	err = c.daemonUntil(ctx, "kubernetes-apiserver", "at "+api, c.healthy(api+"/readyz"), nil, filepath.Join(bin, "kube-apiserver"),
		"--etcd-servers", etcd, "--bind-address", c.Node, "--advertise-address", c.Node, "--secure-port", "6443", "--cert-dir", c.PKI,
		"--tls-cert-file", pki("apiserver.crt"), "--tls-private-key-file", pki("apiserver.key"), "--client-ca-file", pki("ca.crt"),
		"--kubelet-client-certificate", pki("admin.crt"), "--kubelet-client-key", pki("admin.key"), "--kubelet-preferred-address-types", "InternalIP",
		"--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file", pki("accounts.key"), "--service-account-signing-key-file", pki("accounts.key"),
		"--service-cluster-ip-range", "10.91.0.0/16", "--authorization-mode", "Node,RBAC", "--anonymous-auth=true",
		"--enable-admission-plugins", "NodeRestriction,PodSecurity", "--allow-privileged",
		"--audit-policy-file", filepath.Join(c.Run, "audit-policy.yaml"), "--audit-log-path", c.KubernetesAudit(), "--audit-log-mode", "blocking",
		"--profiling=false")
	if err != nil {
		return err
	}
	manager := "https://" + net.JoinHostPort(c.Node, "10257")
	scheduler := "https://" + net.JoinHostPort(c.Node, "10259")
	return errors.Join(
		c.daemonUntil(ctx, "kubernetes-controller-manager", "at "+manager, c.healthy(manager+"/healthz"), nil, filepath.Join(bin, "kube-controller-manager"),
			"--kubeconfig", filepath.Join(c.Run, "controller-manager.kubeconfig"), "--leader-elect=false", "--bind-address", c.Node, "--cert-dir", c.PKI,
			"--service-account-private-key-file", pki("accounts.key"), "--root-ca-file", pki("ca.crt"), "--use-service-account-credentials",
			"--cluster-signing-cert-file", pki("ca.crt"), "--cluster-signing-key-file", pki("ca.key")),
		c.daemonUntil(ctx, "kubernetes-scheduler", "at "+scheduler, c.healthy(scheduler+"/healthz"), nil, filepath.Join(bin, "kube-scheduler"),
			"--kubeconfig", filepath.Join(c.Run, "scheduler.kubeconfig"), "--leader-elect=false", "--bind-address", c.Node, "--cert-dir", c.PKI))
}

func (c cluster) startKubelet(ctx context.Context, bin string) error {
	root := filepath.Join(c.base, Kubernetes, "kubelet")
	if c.CgroupRoot != "/" {
		if err := c.makeCgroups(); err != nil {
			return err
		}
	}
	env := []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
	err := c.daemonUntil(ctx, "kubernetes-kubelet", "on "+c.Node, c.healthy("http://"+net.JoinHostPort(c.Node, "10248")+"/healthz"), env, filepath.Join(bin, "kubelet"),
		"--kubeconfig", filepath.Join(c.Run, "kubelet.kubeconfig"), "--config", filepath.Join(c.Run, "kubelet.yaml"), "--root-dir", root,
		"--cert-dir", filepath.Join(root, "pki"), "--hostname-override", NodeName, "--node-ip", c.Node, "--v", "2")
	if err != nil {
		return err
	}
	began := time.Now()
	var last error
	ok := waitFor(ctx, 60*time.Second, func() bool {
		var out string
		out, last = c.kubectl(ctx, "get", "node", NodeName, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		// A pod is refused before its namespace has its service account.
		if last == nil && out == "True" {
			_, last = c.kubectl(ctx, "get", "serviceaccount", "default")
			return last == nil
		}
		time.Sleep(100 * time.Millisecond)
		return false
	})
	if !ok {
		return fmt.Errorf("the node is not ready after 60 s (%w); the end of %s:\n%s", orTimeout(ctx, last), c.KubernetesLog("kubelet"), tail(c.KubernetesLog("kubelet"), 15))
	}
	fmt.Fprintf(c.say, "lab: node %s is ready after %.1f s\n", NodeName, time.Since(began).Seconds())
	return nil
}

// makeCgroups makes the control groups below which the pods of a lab beside the first are put.
func (c cluster) makeCgroups() error {
	if exists("/sys/fs/cgroup/cgroup.controllers") {
		return os.MkdirAll(filepath.Join("/sys/fs/cgroup", c.CgroupRoot), 0o755)
	}
	roots, err := filepath.Glob("/sys/fs/cgroup/*")
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := os.Mkdir(filepath.Join(root, c.CgroupRoot), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if filepath.Base(root) == "cpuset" {
			// An empty set of processors takes no process.
			for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
				b, err := os.ReadFile(filepath.Join(root, name))
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(root, c.CgroupRoot, name), b, 0o644); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// healthy asks a part of the cluster whether it is well. Its certificate is not looked at: the question holds nothing.
func (c cluster) healthy(url string) func() bool {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	return func() bool {
		resp, err := client.Get(url)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
}

// Kubectl runs the lab's kubectl as the cluster's administrator and returns what it printed.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (string, error) {
	return l.cluster().kubectl(ctx, args...)
}

// KubectlPath is the program.
func (l *Lab) KubectlPath() string { return filepath.Join(l.base, "bin", Kubernetes, "kubectl") }

func (c cluster) kubectl(ctx context.Context, args ...string) (string, error) {
	return command(ctx, append([]string{c.KubectlPath(), "--kubeconfig", c.Kubeconfig()}, args...)...)
}

func (c cluster) ctr(ctx context.Context, args ...string) (string, error) {
	return command(ctx, append([]string{filepath.Join(c.base, "bin", Kubernetes, "ctr"), "--address", c.Socket, "--namespace", "k8s.io"}, args...)...)
}

// stopKubernetes ends the cluster: what was asked of it first, so that the kubelet takes its pods and their networks away,
// then the parts, then what is left of containers.
func (l *Lab) stopKubernetes(ctx context.Context) error {
	c := l.cluster()
	if !exists(c.Run) {
		return nil
	}
	var errs error
	if l.daemonPID("kubernetes-apiserver") != 0 && l.daemonPID("kubernetes-kubelet") != 0 {
		_, err := c.kubectl(ctx, "delete", "deployments,replicasets,statefulsets,daemonsets,jobs,cronjobs", "--all", "--all-namespaces", "--wait=false", "--ignore-not-found")
		errs = errors.Join(errs, err)
		_, err = c.kubectl(ctx, "delete", "pods", "--all", "--all-namespaces", "--grace-period=1", "--timeout=30s", "--ignore-not-found")
		errs = errors.Join(errs, err)
	}
	for _, part := range []string{"kubelet", "scheduler", "controller-manager", "apiserver", "etcd"} {
		errs = errors.Join(errs, l.endDaemon("kubernetes-"+part))
	}
	if answers(c.Socket) {
		ids, err := c.ctr(ctx, "container", "ls", "--quiet")
		errs = errors.Join(errs, err)
		for _, id := range strings.Fields(ids) {
			_, _ = c.ctr(ctx, "task", "rm", "--force", id) // most have ended
			_, err := c.ctr(ctx, "container", "rm", id)
			errs = errors.Join(errs, err)
		}
	}
	errs = errors.Join(errs, l.endDaemon("kubernetes-containerd"))
	return errors.Join(errs, c.removeTraces())
}

// removeTraces takes away what a cluster leaves outside the lab's directories.
func (c cluster) removeTraces() error {
	errs := c.restoreForwarding()
	namespaces, _ := filepath.Glob("/run/netns/cni-*")
	for _, n := range namespaces {
		// Another containerd's namespaces have a process in them, or another bridge: only what nothing uses goes.
		if pids, err := command(context.Background(), "ip", "netns", "pids", filepath.Base(n)); err == nil && pids == "" {
			_, err := command(context.Background(), "ip", "netns", "del", filepath.Base(n))
			errs = errors.Join(errs, err)
		}
	}
	for _, name := range []string{c.Bridge, c.bridge.tag + "n"} {
		if exists("/sys/class/net/" + name) {
			_, err := command(context.Background(), "ip", "link", "del", name)
			errs = errors.Join(errs, err)
		}
	}
	links, _ := filepath.Glob("/var/log/containers/*.log")
	for _, l := range links {
		if _, err := os.Stat(l); errors.Is(err, os.ErrNotExist) {
			errs = errors.Join(errs, os.Remove(l))
		}
	}
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		for _, name := range []string{"kubepods/*/*", "kubepods/*", "kubepods"} {
			dirs, _ := filepath.Glob(filepath.Join(root, c.CgroupRoot, name))
			for _, d := range dirs {
				_ = unix.Rmdir(d)
			}
		}
	}
	return errs
}
