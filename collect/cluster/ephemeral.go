package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// spoolBeside is where a collector beside its target keeps packages: on the node's disk, in its own container's layer. Memory would be
// the pod's, whose limit may be small.
const spoolBeside = "/tmp/sherd"

// MaxLogBeside is how much of a log is sent to a collector beside its target: it lies in the pod's memory on the way.
const MaxLogBeside = 4 << 20

// UnfitError says why a container can't be captured from beside it.
type UnfitError struct{ URL, Why string }

func (e *UnfitError) Error() string {
	return e.URL + " can't be captured from within its pod: " + e.Why
}

// FitBeside says why a container can't be captured by an ephemeral container, nil if nothing speaks against it.
func FitBeside(i *kubernetes.Instance) error {
	bad := func(why string) error { return &UnfitError{i.URL(), why} }
	s := i.Status()
	switch {
	case i.Pod.Annotations["kubernetes.io/config.mirror"] != "":
		return bad("it is a static pod's, which is a file on its node: the cluster adds nothing to it")
	case i.Role == kubernetes.Ephemeral:
		return bad("it is itself an ephemeral container, and those share a pid namespace with none")
	case i.ID == "":
		return bad("it has not been started yet")
	case i.State != target.Running || s == nil || s.State.Running == nil:
		return bad("it has ended, and a collector beside it would find no process; its logs and what the cluster says of it are had by --via api, its files by --via node")
	case i.Pod.DeletionTimestamp != nil:
		return bad("its pod is being deleted")
	}
	return nil
}

// ephemeral is the collector as an ephemeral container beside the target.
func ephemeral(i *kubernetes.Instance, id string, u User, o Options) corev1.EphemeralContainer {
	args := []string{"wait", "--beside", "--dir", spoolFor(i.Pod), "--deadline", o.Deadline.String()}
	return corev1.EphemeralContainer{
		TargetContainerName: i.Container,
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: ephemeralName(id), Image: o.Image, ImagePullPolicy: o.Pull, Args: args,
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			SecurityContext:          Match(i, u),
		},
	}
}

func ephemeralName(id string) string { return "sherd-" + id }

// spoolFor is where a collector in pod p keeps packages, "" for nowhere: a pod with a limit of the node's disk is thrown out when what its
// containers write exceeds it.
func spoolFor(p *corev1.Pod) string {
	for _, l := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for k := range l {
			if _, limited := l[k].Resources.Limits[corev1.ResourceEphemeralStorage]; limited {
				return ""
			}
		}
	}
	return spoolBeside
}

// patch is the change of the pod: one more ephemeral container. The uid makes it fail for a pod of the same name that came after.
func patch(i *kubernetes.Instance, e corev1.EphemeralContainer) ([]byte, error) {
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": i.Pod.UID},
		"spec":     map[string]any{"ephemeralContainers": []corev1.EphemeralContainer{e}},
	})
}

// StartBeside has a collector run in the container's own pod, as an ephemeral container that shares its pid namespace, and waits until it
// does. The pod's specification is another from then on: an ephemeral container can't be taken out of it.
func StartBeside(ctx context.Context, c *kubernetes.Cluster, i *kubernetes.Instance, u User, o Options) (_ *Session, err error) {
	if err := FitBeside(i); err != nil {
		return nil, err
	}
	id, err := randomID()
	if err != nil {
		return nil, err
	}
	e := ephemeral(i, id, u, o)
	o.Namespace = i.Pod.Namespace
	s := &Session{ID: id, Node: i.Pod.Spec.NodeName, c: c, o: o, pod: i.Pod.Name, container: e.Name, beside: true,
		ask: []string{"/sherd-collector", "ask", "--beside", "--dir", spoolFor(i.Pod)}}
	body, err := patch(i, e)
	if err != nil {
		return nil, err
	}
	s.stage("adding a collector to the pod " + i.Pod.Namespace + "/" + i.Pod.Name)
	if _, err := c.Resource(kubernetes.Pods).Namespace(s.o.Namespace).Patch(ctx, s.pod, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "ephemeralcontainers"); err != nil {
		return nil, s.refusedBeside(err)
	}
	if err := s.readyBeside(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Session) refusedBeside(err error) error {
	switch {
	case apierrors.IsForbidden(err) && !missing(err):
		return &StartError{Node: s.Node, Why: "the cluster's admission refuses an ephemeral container in " + s.o.Namespace + "/" + s.pod, Err: err}
	case apierrors.IsNotFound(err):
		return fmt.Errorf("the pod %s/%s is gone: %w", s.o.Namespace, s.pod, err)
	}
	return s.c.Explain(err, "patch", kubernetes.Pods, "ephemeralcontainers", s.o.Namespace)
}

// readyBeside waits until the ephemeral container runs.
func (s *Session) readyBeside(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.Start, fmt.Errorf("it did not run within %s", s.o.Start))
	defer cancel()
	last := "the node has not begun to start it"
	for {
		u, err := s.c.Resource(kubernetes.Pods).Namespace(s.o.Namespace).Get(ctx, s.pod, metav1.GetOptions{})
		switch {
		case err != nil && ctx.Err() != nil:
			return &StartError{Node: s.Node, Why: last, Err: context.Cause(ctx)}
		case err != nil && passing(err):
			_ = pause(ctx, time.Second)
			continue
		case err != nil:
			return s.c.Explain(err, "get", kubernetes.Pods, "", s.o.Namespace)
		}
		done, why, err := s.lookBeside(u)
		if done || err != nil {
			return err
		}
		if why != "" {
			last = why
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return &StartError{Node: s.Node, Why: last, Err: err}
		}
	}
}

// lookBeside is look for an ephemeral container.
func (s *Session) lookBeside(u *unstructured.Unstructured) (done bool, why string, err error) {
	p := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, p); err != nil {
		return false, "", err
	}
	if p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded {
		return false, "", &StartError{Node: s.Node, Why: "the pod ended: " + p.Status.Reason}
	}
	for _, st := range p.Status.EphemeralContainerStatuses {
		if st.Name != s.container {
			continue
		}
		switch {
		case st.State.Running != nil:
			return true, "", nil
		case st.State.Terminated != nil:
			t := st.State.Terminated
			return false, "", &StartError{Node: s.Node, Why: fmt.Sprintf("it ended at once: %s (exit status %d) %s", t.Reason, t.ExitCode, strings.TrimSpace(t.Message))}
		case st.State.Waiting != nil:
			why, err := s.waiting(st.State.Waiting)
			return false, why, err
		}
	}
	return false, "", nil
}

// quit has a collector beside its target end, and waits a moment until it has. Whoever can't reach it leaves it to its own end.
func (s *Session) quit(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := s.question(ask, &relay.Request{Job: "quit", Quit: true}, io.Discard, nil)
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); {
		u, gerr := s.c.Resource(kubernetes.Pods).Namespace(s.o.Namespace).Get(ctx, s.pod, metav1.GetOptions{})
		if apierrors.IsNotFound(gerr) {
			return nil
		}
		if gerr != nil {
			break
		}
		if running, _, lerr := s.lookBeside(u); !running || lerr != nil {
			return nil
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			break
		}
	}
	return fmt.Errorf("the collector %s in pod %s/%s still runs; it ends by itself when nobody has spoken with it for five minutes, at the latest after %s: %w",
		s.container, s.o.Namespace, s.pod, s.o.Deadline, errors.Join(err, errRuns))
}

var errRuns = errors.New("it was told to end and has not")
