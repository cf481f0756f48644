package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sherd-forensics/sherd/lab/image"
)

// PodSpec is what a container needs to run as a pod of the lab's cluster.
type PodSpec struct {
	Namespace string // there already
	Account   string // of the service, "" is the namespace's own
	// Once leaves the container as it is when it has ended; otherwise the kubelet starts it again.
	Once bool
}

// podContainer is the name of the one container of a pod.
const podContainer = "app"

// emptyDir is the source of a volume that lives as long as its pod.
const emptyDir = "EMPTYDIR"

// kubernetesDriver runs each container as the only one of a pod, as the restricted profile of Pod Security wants it.
type kubernetesDriver struct{ *Lab }

func (d kubernetesDriver) load(ctx context.Context, _ RunSpec, img image.Image) error {
	return d.cluster().load(ctx, img)
}

func (d kubernetesDriver) run(ctx context.Context, c *Container, img image.Image) error {
	if c.Spec.Pod.Namespace == "" {
		return errors.New("a pod needs a namespace")
	}
	manifest, err := d.manifest(c, img.Ref)
	if err != nil {
		return err
	}
	if err := d.apply(ctx, c.Spec.Pod.Namespace, manifest); err != nil {
		return err
	}
	c.Target = "k8s://" + c.Spec.Pod.Namespace + "/" + c.Name + "/" + podContainer
	return d.learn(ctx, c)
}

// apply has the API server make what a manifest says.
func (l *Lab) apply(ctx context.Context, namespace string, manifest []byte) error {
	f, err := os.CreateTemp("", "manifest-*.yaml")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(manifest)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	args := []string{"create", "-f", f.Name()}
	if namespace != "" {
		args = append(args, "-n", namespace)
	}
	_, err = l.Kubectl(ctx, args...)
	return err
}

// manifest is the pod's. The API server is told by the variables that the kubelet sets too, but by the node's address: the lab's services
// have addresses that lead nowhere.
func (d kubernetesDriver) manifest(c *Container, ref string) ([]byte, error) {
	type object = map[string]any
	host, port, err := net.SplitHostPort(d.cluster().address)
	if err != nil {
		return nil, err
	}
	env := []object{{"name": "KUBERNETES_SERVICE_HOST", "value": host}, {"name": "KUBERNETES_SERVICE_PORT", "value": port}}
	for _, e := range c.Spec.Env {
		name, value, _ := strings.Cut(e, "=")
		env = append(env, object{"name": name, "value": value})
	}
	var mounts, volumes []object
	for i, v := range append(append([]string(nil), c.Spec.Volumes...), emptyDirs(c.Spec.Tmpfs)...) {
		source, at, _ := strings.Cut(v, ":")
		if source != emptyDir {
			return nil, fmt.Errorf("a pod's volumes are %s:/path here, not %q", emptyDir, v)
		}
		name := fmt.Sprintf("v%d", i)
		mounts, volumes = append(mounts, object{"name": name, "mountPath": at}), append(volumes, object{"name": name, "emptyDir": object{}})
	}
	if c.Spec.User != "" || len(c.Spec.CapAdd) > 0 || c.Spec.PIDOf != nil || c.Spec.NetworkOf != nil || c.Spec.HostNetwork {
		return nil, errors.New("the restricted profile does not allow what is asked for")
	}
	container := object{"name": podContainer, "image": ref, "imagePullPolicy": "Never", "env": env, "volumeMounts": mounts,
		"securityContext": object{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": c.Spec.ReadOnly, "capabilities": object{"drop": []string{"ALL"}}}}
	if len(c.Spec.Args) > 0 {
		container["args"] = c.Spec.Args
	}
	restart := "Always"
	if c.Spec.Pod.Once {
		restart = "Never"
	}
	labels := object{"app": strings.TrimSuffix(c.Name, c.Name[max(strings.LastIndex(c.Name, "-"), 0):])}
	for k, v := range c.Spec.Labels {
		labels[k] = v
	}
	spec := object{"restartPolicy": restart, "terminationGracePeriodSeconds": 1, "containers": []object{container}, "volumes": volumes,
		"securityContext": object{"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": object{"type": "RuntimeDefault"}}}
	if c.Spec.Pod.Account != "" {
		spec["serviceAccountName"] = c.Spec.Pod.Account
	}
	return json.Marshal(object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": c.Name, "labels": labels}, "spec": spec})
}

func emptyDirs(paths []string) []string {
	var out []string
	for _, p := range paths {
		out = append(out, emptyDir+":"+p)
	}
	return out
}

// learn waits until the container runs and asks for what changes with each start.
func (d kubernetesDriver) learn(ctx context.Context, c *Container) error {
	var last error
	ok := waitFor(ctx, 45*time.Second, func() bool {
		var now *Container
		if now, last = d.Pod(ctx, c.Spec.Pod.Namespace, c.Name, podContainer, c.Image); last != nil {
			time.Sleep(100 * time.Millisecond)
			return false
		}
		c.ID, c.PID, c.Addr = now.ID, now.PID, now.Addr
		return true
	})
	if !ok {
		return fmt.Errorf("the pod does not run: %w", orTimeout(ctx, last))
	}
	return nil
}

// status is a field of the container's status.
func (d kubernetesDriver) status(ctx context.Context, c *Container, field string) (string, error) {
	return d.Kubectl(ctx, "get", "pod", "-n", c.Spec.Pod.Namespace, c.Name, "-o", "jsonpath={.status.containerStatuses[0]."+field+"}")
}

// until waits for a field of the container's status to be as it should.
func (d kubernetesDriver) until(ctx context.Context, c *Container, field string, good func(string) bool) error {
	var out string
	var last error
	ok := waitFor(ctx, 60*time.Second, func() bool {
		if out, last = d.status(ctx, c, field); last == nil && good(out) {
			return true
		}
		time.Sleep(100 * time.Millisecond)
		return false
	})
	if !ok {
		return fmt.Errorf("%s of the pod is %q: %w", field, out, orTimeout(ctx, last))
	}
	return nil
}

func (d kubernetesDriver) stop(ctx context.Context, c *Container) error {
	if err := syscall.Kill(c.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	// A first process without a handler of its own does not hear it.
	waitFor(ctx, 2*time.Second, func() bool { return !exists(fmt.Sprintf("/proc/%d/exe", c.PID)) })
	return d.kill(ctx, c)
}

func (d kubernetesDriver) kill(ctx context.Context, c *Container) error {
	if err := syscall.Kill(c.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	if !c.Spec.Pod.Once {
		return nil
	}
	return d.until(ctx, c, "state.terminated.containerID", func(s string) bool { return strings.HasSuffix(s, c.ID) })
}

func (d kubernetesDriver) pause(context.Context, *Container) error {
	return errors.New("containers of pods are not paused here")
}

func (d kubernetesDriver) unpause(ctx context.Context, c *Container) error { return d.pause(ctx, c) }

func (d kubernetesDriver) remove(ctx context.Context, c *Container) error {
	_, err := d.Kubectl(ctx, "delete", "pod", "-n", c.Spec.Pod.Namespace, c.Name, "--grace-period=1", "--timeout=60s", "--ignore-not-found")
	return err
}

func (d kubernetesDriver) logs(ctx context.Context, c *Container) (string, error) {
	return d.Kubectl(ctx, "logs", "-n", c.Spec.Pod.Namespace, c.Name)
}

// startedAgain waits until the kubelet has started the container of a pod again n times, and learns the new one.
func (c *Container) startedAgain(ctx context.Context, n int) error {
	if c.Runtime != Kubernetes {
		return fmt.Errorf("%s does not start containers again", c.Runtime)
	}
	d := kubernetesDriver{c.lab}
	if err := d.until(ctx, c, "restartCount", func(s string) bool { return atoi(s) >= n }); err != nil {
		return err
	}
	if err := d.learn(ctx, c); err != nil {
		return err
	}
	return c.answer(ctx)
}

// crashed waits until the container of a pod has ended and the kubelet waits before it starts it again. One that ends only when it is asked for
// something is asked.
func (c *Container) crashed(ctx context.Context) error {
	if c.Runtime != Kubernetes {
		return fmt.Errorf("%s does not start containers again", c.Runtime)
	}
	d := kubernetesDriver{c.lab}
	return d.until(ctx, c, "state.waiting.reason", func(s string) bool {
		if s == "CrashLoopBackOff" {
			return true
		}
		_, _, _ = c.Get("/") // an error is what is waited for
		return false
	})
}
