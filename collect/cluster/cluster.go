// Package cluster captures containers of a Kubernetes cluster: it has a collector run on the container's node for as long as that takes,
// has it make the package, and brings the package here through the API server. The container's own pod is not touched.
//
// What is created is one Job in a namespace of Sherd's own, which owns the collector's pod: it has a deadline, and the cluster itself
// removes it and its pod when it has ended, even if whoever started it is gone.
package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// Labels of all that is created.
const (
	ManagedBy    = "app.kubernetes.io/managed-by"
	Manager      = "sherd"
	SessionLabel = "sherd.io/session"
	// CreatedMark is on a namespace that a capture made and takes away again.
	CreatedMark = "sherd.io/made-for-a-capture"
)

// Options choose how collectors run.
type Options struct {
	// Namespace is Sherd's own; it is made, and removed afterwards, if it is not there. One that another session made, or that is just
	// going away, is left to that: a session then makes one of its own, whose name begins with this one.
	Namespace string
	// Image is the collector's; Pull when the node fetches it.
	Image string
	Pull  corev1.PullPolicy
	// Secrets are names of secrets in Namespace by which the image is pulled.
	Secrets []string
	// Deadline is when the cluster ends a collector, whatever it does.
	Deadline time.Duration
	// Start is how long a collector may take to come up.
	Start time.Duration
	// Freeze lets collectors write to the node's control groups, which freezing takes; else they see nothing of the node writable.
	Freeze bool
	// ContainerdAddress is the node's socket, "" for the usual places.
	ContainerdAddress string
	// Preset lets the namespace's annotations choose Image, Pull and Secrets, if whoever installed it says so there.
	Preset bool
	// Stage is told what happens; may be nil.
	Stage func(string)

	frugal bool // asks the node for no resources
}

// Session is a collector on one node, for any number of captures there, or one beside a container in its pod.
type Session struct {
	ID   string
	Node string

	c    *kubernetes.Cluster
	o    Options
	room *room
	job  bool // there is one, or may be
	// Where the collector is, and how it is asked there.
	pod, container string
	ask            []string
	// beside is set for a collector that is an ephemeral container: it can't be taken away, only end.
	beside bool

	spoken atomic.Bool // the collector has answered before
}

// StartError says why no collector came up on a node.
type StartError struct {
	Node string
	Why  string
	Err  error

	full bool // the node has too little left for what the collector asks for
	lost bool // its job is gone
}

func (e *StartError) Error() string {
	s := "no collector came up on node " + e.Node + ": " + e.Why
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *StartError) Unwrap() error { return e.Err }

// start has a collector run on a node and waits until it does. On an error nothing of it is left.
func start(ctx context.Context, c *kubernetes.Cluster, node string, o Options, r *room) (_ *Session, err error) {
	id, err := randomID()
	if err != nil {
		return nil, err
	}
	s := &Session{ID: id, Node: node, c: c, o: o, room: r, container: container, ask: []string{"/sherd-collector", "ask", "--dir", spool}}
	r.enter()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.fit(ctx); err != nil {
		return nil, err
	}
	if err := s.namespace(ctx); err != nil {
		return nil, err
	}
	s.stage("starting a collector on " + node)
	if err := s.create(ctx); err != nil {
		return nil, err
	}
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// namespace has the collector's namespace be there.
func (s *Session) namespace(ctx context.Context) error {
	o, err := s.room.prepare(ctx, s.c, s.o)
	s.o = o
	return err
}

func (s *Session) stage(words string) {
	if s.o.Stage != nil {
		s.o.Stage(words)
	}
}

func randomID() (string, error) {
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return hex.EncodeToString(b[:]), nil
}

// create makes the collector's job.
func (s *Session) create(ctx context.Context) error {
	var err error
	// A namespace that is just made takes a moment.
	for until := time.Now().Add(time.Minute); ; {
		var obj map[string]any
		if obj, err = runtime.DefaultUnstructuredConverter.ToUnstructured(job(s.ID, s.Node, s.o)); err != nil {
			return err
		}
		s.job = true
		_, err = s.c.Resource(kubernetes.Jobs).Namespace(s.o.Namespace).Create(ctx, &unstructured.Unstructured{Object: obj}, metav1.CreateOptions{})
		if err == nil {
			return nil
		}
		// What the server refuses it has not made; of an answer that did not come that can't be told.
		var refused apierrors.APIStatus
		s.job = !errors.As(err, &refused) || refused.Status().Code >= 500
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) && !apierrors.IsNotFound(err) || time.Now().After(until) {
			break
		}
		// Somebody takes it away: another is made.
		if err := s.namespace(ctx); err != nil {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	if apierrors.IsForbidden(err) && !missing(err) {
		return &StartError{Node: s.Node, Why: "the cluster's admission refuses it", Err: err}
	}
	return s.c.Explain(err, "create", kubernetes.Jobs, "", s.o.Namespace)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// refused reports that the cluster does not let the job make its pod. Who may not read events learns it when the time is over.
func (s *Session) refused(ctx context.Context) error {
	l, err := s.c.Resource(kubernetes.Events).Namespace(s.o.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.kind=Job,involvedObject.name=" + jobName(s.ID) + ",reason=FailedCreate", Limit: 1})
	if err != nil || len(l.Items) == 0 {
		return nil //nolint:nilerr // nothing is known against it
	}
	why, _, err := unstructured.NestedString(l.Items[0].Object, "message")
	if err != nil {
		return nil //nolint:nilerr // nothing is known against it
	}
	hint := "; docs/kubernetes.md tells what a policy engine must let in"
	if strings.Contains(why, "PodSecurity") {
		hint = "; a collector needs a namespace that Pod Security lets be privileged, such as one that Sherd makes itself (--sherd-namespace)"
	}
	return &StartError{Node: s.Node, Why: "the cluster's admission refuses its pod: " + why + hint}
}

// watch looks at the collector's pod as it changes, until the watching ends.
func (s *Session) watch(ctx context.Context, w watch.Interface) (done bool, last string, err error) {
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, last, nil
		case e, ok := <-w.ResultChan():
			if !ok {
				return false, last, nil
			}
			u, is := e.Object.(*unstructured.Unstructured)
			if !is {
				return false, last, nil
			}
			done, why, err := s.look(u)
			if done || err != nil {
				return done, why, err
			}
			if why != "" {
				last = why
			}
		}
	}
}

// cleanupTime is how long taking away what was made may take, after a cancelled capture too.
const cleanupTime = 75 * time.Second

// Close removes the collector and the namespace that was made for it, unless other sessions of a fleet still share that. It works when
// the context that Start was given has ended.
func (s *Session) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
	defer cancel()
	if s.beside {
		return s.quit(ctx)
	}
	var err error
	if s.job {
		if err = removeJob(ctx, s.c, s.o.Namespace, jobName(s.ID)); err == nil {
			s.gone(ctx)
		}
	}
	return errors.Join(err, s.room.leave(ctx, s.c))
}

// gone waits a moment for the collector's pod to go, so that nothing is left when the program ends. Who may not list pods can't wait.
func (s *Session) gone(ctx context.Context) {
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); {
		l, err := s.c.Resource(kubernetes.Pods).Namespace(s.o.Namespace).List(ctx, metav1.ListOptions{LabelSelector: SessionLabel + "=" + s.ID})
		if err != nil || len(l.Items) == 0 || pause(ctx, 100*time.Millisecond) != nil {
			return
		}
	}
}

// removeJob takes away a job with its pod.
func removeJob(ctx context.Context, c *kubernetes.Cluster, ns, name string) error {
	now := int64(0)
	background := metav1.DeletePropagationBackground
	err := persist(ctx, func() error {
		return c.Resource(kubernetes.Jobs).Namespace(ns).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &now, PropagationPolicy: &background})
	})
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("the collector's job %s/%s is left behind until its deadline (`sherd cleanup` removes it): %w", ns, name, c.Explain(err, "delete", kubernetes.Jobs, "", ns))
}
