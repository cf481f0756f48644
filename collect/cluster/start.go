package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

const (
	// willing is how long a start may be allowed to take without its asking for patience with a node that does not answer.
	willing = 2 * time.Minute
	// silence is how long a kubelet that is there may take to look at a new pod.
	silence = 25 * time.Second
	// relook is how often the pod is asked for again while it is watched.
	relook = 5 * time.Second
)

// Start has a collector run on a node and waits until it does. On an error nothing of it is left.
func Start(ctx context.Context, c *kubernetes.Cluster, node string, o Options) (*Session, error) {
	return startIn(ctx, c, node, o, &room{})
}

// startIn is Start in a namespace that sessions may share.
func startIn(ctx context.Context, c *kubernetes.Cluster, node string, o Options, r *room) (*Session, error) {
	s, err := start(ctx, c, node, o, r)
	var se *StartError
	if !errors.As(err, &se) || ctx.Err() != nil {
		return s, err
	}
	again := ""
	switch {
	case se.full:
		// A pod that asks for nothing runs on a node that has nothing left to promise. It gets less of the processor there.
		again, o.frugal = "the node has promised all that it has: a collector is started that asks for nothing", true
	case se.lost:
		again = "another capture took the namespace away meanwhile: it is made anew"
	default:
		return s, err
	}
	if o.Stage != nil {
		o.Stage(again)
	}
	return start(ctx, c, node, o, r)
}

// fit says why no pod can be started on the node, before one is tried. Who may not read nodes learns it in another way.
func (s *Session) fit(ctx context.Context) error {
	u, err := s.c.Resource(kubernetes.Nodes).Get(ctx, s.Node, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return &StartError{Node: s.Node, Why: "the cluster has no such node any more"}
	case err != nil:
		return nil //nolint:nilerr // nothing is known against it
	}
	n := &corev1.Node{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, n); err != nil {
		return nil //nolint:nilerr // nothing is known against it
	}
	why, waiting := unfit(n)
	if why == "" {
		return nil
	}
	if waiting && s.o.Start > willing {
		s.stage("waiting for node " + s.Node + ": " + why)
		return nil
	}
	return &StartError{Node: s.Node, Why: why}
}

// unfit says what keeps a node from starting pods, "" if nothing does, and whether waiting may help.
func unfit(n *corev1.Node) (why string, waiting bool) {
	for _, c := range n.Status.Conditions {
		since := ""
		if !c.LastTransitionTime.IsZero() {
			since = " since " + c.LastTransitionTime.UTC().Format(time.RFC3339)
		}
		switch {
		case c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue:
			return fmt.Sprintf("it is not ready%s (%s), and starts no pods. Its containers may run on all the same: wait for it with --collector-start 10m, or capture on the node itself with `sherd-collector collect`",
				since, strings.TrimSpace(c.Reason+": "+c.Message)), true
		case c.Type == corev1.NodeDiskPressure && c.Status == corev1.ConditionTrue, c.Type == corev1.NodePIDPressure && c.Status == corev1.ConditionTrue:
			return pressed(string(c.Type)+since, c.Message), false
		}
	}
	return "", false
}

// pressed tells of a node that takes no more pods.
func pressed(what, words string) string {
	if words != "" {
		what += ": " + words
	}
	return "it is under pressure and takes no more pods (" + what + "). Make room there, or capture on the node itself with `sherd-collector collect`; its kubelet may evict the container's pod meanwhile"
}

// passing tells an answer that may be another soon: a server that is not there, or has too much to do.
func passing(err error) bool {
	var u *url.Error
	var n net.Error
	return apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) ||
		apierrors.IsInternalError(err) || errors.As(err, &u) || errors.As(err, &n)
}

// persist does what is asked until it succeeds, is refused for good, or ctx ends.
func persist(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil || !passing(err) || pause(ctx, time.Second) != nil {
			return err
		}
	}
}

// ready waits until the collector's pod runs, and says what keeps it from it.
func (s *Session) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.o.Start, fmt.Errorf("it did not run within %s", s.o.Start))
	defer cancel()
	pods := s.c.Resource(kubernetes.Pods).Namespace(s.o.Namespace)
	o := metav1.ListOptions{LabelSelector: SessionLabel + "=" + s.ID}
	last, began := "its job has made no pod yet", time.Now()
	for ctx.Err() == nil {
		o.ResourceVersion = ""
		l, err := pods.List(ctx, o)
		switch {
		case err != nil && ctx.Err() != nil:
			continue
		case err != nil && passing(err):
			last = s.c.Explain(err, "list", kubernetes.Pods, "", s.o.Namespace).Error()
			_ = pause(ctx, time.Second)
			continue
		case err != nil:
			return s.c.Explain(err, "list", kubernetes.Pods, "", s.o.Namespace)
		}
		heard := false
		for i := range l.Items {
			done, why, err := s.look(&l.Items[i])
			if done || err != nil {
				return err
			}
			if why != "" {
				last = why
			}
			_, started, _ := unstructured.NestedString(l.Items[i].Object, "status", "startTime")
			heard = heard || started
		}
		if len(l.Items) == 0 {
			// It takes a moment, or admission refuses it, which only an event about the job tells.
			if err := s.refused(ctx); err != nil {
				return err
			}
			if time.Since(began) > 2*time.Second && s.lost(ctx) {
				return &StartError{Node: s.Node, Why: "its job was deleted", lost: true}
			}
			_ = pause(ctx, 200*time.Millisecond)
			continue
		}
		if !heard && s.o.Start <= willing && time.Since(began) > silence {
			return &StartError{Node: s.Node, Why: fmt.Sprintf("the node's kubelet has not looked at its pod for %s: it may be stopped, or cut off from the API server. "+
				"Its containers may run on all the same: wait for it with --collector-start 10m, or capture on the node itself with `sherd-collector collect`", silence)}
		}
		o.ResourceVersion = l.GetResourceVersion()
		if done, why, err := s.watchOnce(ctx, o); done || err != nil {
			return err
		} else if why != "" {
			last = why
		}
	}
	// The kubelet tells in events what it waits for. Within the time that is over they can't be asked for.
	telling, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	return &StartError{Node: s.Node, Why: last + s.warned(telling), Err: context.Cause(ctx)}
}

// watchOnce watches the collector's pod for a while.
func (s *Session) watchOnce(ctx context.Context, o metav1.ListOptions) (done bool, why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, relook)
	defer cancel()
	w, err := s.c.Resource(kubernetes.Pods).Namespace(s.o.Namespace).Watch(ctx, o)
	if err != nil {
		// Watching is a right of its own: asking again does as well.
		_ = pause(ctx, 300*time.Millisecond)
		return false, "", nil
	}
	return s.watch(ctx, w)
}

// lost reports that the collector's job is gone: another capture's end took the namespace with it.
func (s *Session) lost(ctx context.Context) bool {
	l, err := s.c.Resource(kubernetes.Jobs).Namespace(s.o.Namespace).List(ctx, metav1.ListOptions{LabelSelector: SessionLabel + "=" + s.ID})
	return err == nil && len(l.Items) == 0
}

// warned is the last that the kubelet warned of about the collector's pod.
func (s *Session) warned(ctx context.Context) string {
	l, err := s.c.Resource(kubernetes.Events).Namespace(s.o.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.kind=Pod,type=Warning", Limit: 200})
	if err != nil {
		return ""
	}
	said := ""
	for i := range l.Items {
		of, _, _ := unstructured.NestedString(l.Items[i].Object, "involvedObject", "name")
		words, ok, _ := unstructured.NestedString(l.Items[i].Object, "message")
		if ok && strings.HasPrefix(of, jobName(s.ID)) {
			said = "; the kubelet says: " + words
		}
	}
	return said
}

// look says whether the collector runs, or what it waits for; an error is what waiting won't mend.
func (s *Session) look(u *unstructured.Unstructured) (done bool, why string, err error) {
	p := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, p); err != nil {
		return false, "", err
	}
	switch p.Status.Phase {
	case corev1.PodFailed, corev1.PodSucceeded:
		words := p.Status.Reason + " " + p.Status.Message
		for _, st := range p.Status.ContainerStatuses {
			if t := st.State.Terminated; t != nil {
				words += fmt.Sprintf(" %s (exit status %d) %s", t.Reason, t.ExitCode, t.Message)
			}
		}
		e := &StartError{Node: s.Node, Why: "it ended at once: " + strings.TrimSpace(words)}
		switch {
		case strings.HasPrefix(p.Status.Reason, "OutOf"):
			e.full = !s.o.frugal
		case p.Status.Reason == "Evicted":
			e.Why = pressed("Evicted", p.Status.Message)
		}
		return false, "", e
	case corev1.PodRunning:
		for _, st := range p.Status.ContainerStatuses {
			if st.State.Running != nil {
				s.pod = p.Name
				return true, "", nil
			}
		}
	case corev1.PodPending, corev1.PodUnknown:
	}
	for _, st := range p.Status.ContainerStatuses {
		if st.State.Waiting != nil {
			why, err := s.waiting(st.State.Waiting)
			return false, why, err
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Status == corev1.ConditionFalse && c.Message != "" {
			return false, c.Message, nil
		}
	}
	return false, "", nil
}

// waiting says what a collector's container waits for; an error is what waiting won't mend.
func (s *Session) waiting(w *corev1.ContainerStateWaiting) (string, error) {
	switch w.Reason {
	case "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		return "", &StartError{Node: s.Node, Why: w.Reason + ": " + w.Message}
	case "ImagePullBackOff", "ErrImagePull":
		return "", &StartError{Node: s.Node, Why: "the node can't pull the collector's image " + s.o.Image + ": " + w.Message + "; name one that it can with --collector-image"}
	}
	return strings.TrimSpace(w.Reason + " " + w.Message), nil
}
