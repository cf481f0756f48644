package cluster

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func node(conditions ...corev1.NodeCondition) *corev1.Node {
	return &corev1.Node{Status: corev1.NodeStatus{Conditions: conditions}}
}

// TestUnfit: what a node says of itself before a collector is tried on it.
func TestUnfit(t *testing.T) {
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue}
	since := metav1.NewTime(time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC))
	for name, c := range map[string]struct {
		n       *corev1.Node
		want    string
		waiting bool
	}{
		"ready":    {node(ready), "", false},
		"unheard":  {node(corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, LastTransitionTime: since, Reason: "NodeStatusUnknown", Message: "Kubelet stopped posting node status."}), "not ready since 2026-11-29T03:00:00Z (NodeStatusUnknown: Kubelet stopped", true},
		"disk":     {node(ready, corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue, Message: "kubelet has disk pressure"}), "under pressure and takes no more pods (DiskPressure: kubelet has disk pressure)", false},
		"pids":     {node(ready, corev1.NodeCondition{Type: corev1.NodePIDPressure, Status: corev1.ConditionTrue}), "PIDPressure", false},
		"memory":   {node(ready, corev1.NodeCondition{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue}), "", false},
		"no state": {node(), "", false},
	} {
		if why, waiting := unfit(c.n); (why == "") != (c.want == "") || !strings.Contains(why, c.want) || waiting != c.waiting {
			t.Errorf("%s: %q, %t", name, why, waiting)
		}
	}
}

// TestLook: what is made of the states that a collector's pod goes through.
func TestLook(t *testing.T) {
	waits := func(reason, message string) corev1.PodStatus {
		return corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}}
	}
	for name, c := range map[string]struct {
		status corev1.PodStatus
		done   bool
		why    string // while waiting
		err    string
		full   bool
	}{
		"new":       {corev1.PodStatus{Phase: corev1.PodPending}, false, "", "", false},
		"creating":  {waits("ContainerCreating", ""), false, "ContainerCreating", "", false},
		"pull":      {waits("ImagePullBackOff", "no such host"), false, "", "the node can't pull the collector's image", false},
		"never":     {waits("ErrImageNeverPull", "not present"), false, "", "ErrImageNeverPull: not present", false},
		"running":   {corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}}, true, "", "", false},
		"full":      {corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfcpu", Message: "Node didn't have enough resource: cpu"}, false, "", "OutOfcpu", true},
		"pressure":  {corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node had condition: [DiskPressure]. "}, false, "", "under pressure and takes no more pods (Evicted: The node had condition: [DiskPressure]", false},
		"ended":     {corev1.PodStatus{Phase: corev1.PodFailed, ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 139, Reason: "Error"}}}}}, false, "", "exit status 139", false},
		"scheduled": {corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse, Message: "no sandbox"}}}, false, "no sandbox", "", false},
	} {
		o, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&corev1.Pod{Status: c.status})
		if err != nil {
			t.Fatal(err)
		}
		s := &Session{Node: "n1", o: Options{Image: "i"}}
		done, why, err := s.look(&unstructured.Unstructured{Object: o})
		var se *StartError
		switch {
		case done != c.done || why != c.why || (err == nil) != (c.err == ""):
			t.Errorf("%s: %t, %q, %v", name, done, why, err)
		case err != nil && (!errors.As(err, &se) || se.full != c.full || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPassing(t *testing.T) {
	gr := schema.GroupResource{Resource: "pods"}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"refused":     {&url.Error{Op: "Get", Err: errors.New("connection refused")}, true},
		"busy":        {apierrors.NewTooManyRequests("slow down", 1), true},
		"starting":    {apierrors.NewServiceUnavailable("etcd"), true},
		"internal":    {apierrors.NewInternalError(errors.New("etcdserver: leader changed")), true},
		"forbidden":   {apierrors.NewForbidden(gr, "x", errors.New("no")), false},
		"not found":   {apierrors.NewNotFound(gr, "x"), false},
		"something":   {errors.New("x"), false},
		"unwrappable": {nil, false},
	} {
		if got := passing(c.err); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
