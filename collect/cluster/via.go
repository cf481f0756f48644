package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// Way is a way to a container.
type Way string

// The ways, the best first. Auto takes the first that is open.
const (
	Auto Way = "auto"
	Node Way = "node" // a collector's pod on the container's node
	Pod  Way = "pod"  // a collector in the container's own pod, as an ephemeral container
	API  Way = "api"  // nothing runs: what the API server says
)

// Ways are the ways that there are, the best first.
var Ways = []Way{Node, Pod, API}

// ParseWay reads a way.
func ParseWay(s string) (Way, error) {
	if w := Way(s); w == Auto || slices.Contains(Ways, w) {
		return w, nil
	}
	return "", fmt.Errorf("%q is no way in: it is node, pod, api or auto", s)
}

// Passes reports whether an error of a way's start speaks of the way alone, so that another one may do: rights, admission, a node that can't
// pull or run the collector. What is wrong with the target, the command line, the connection or the time is wrong on every way.
func Passes(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	var start *StartError
	var denied *kubernetes.DeniedError
	var unfit *UnfitError
	return errors.As(err, &start) || errors.As(err, &denied) || errors.As(err, &unfit)
}

// maxTrials bounds how many pods a plan tries to change.
const maxTrials = 8

// NewPodPlan is the plan of collectors beside containers, in their own pods. Nothing is changed.
func NewPodPlan(ctx context.Context, c *kubernetes.Cluster, of []*kubernetes.Instance, user *User, o Options) (*Plan, error) {
	p := &Plan{User: whoami(ctx, c)}
	var needs []need
	for _, ns := range namespaces(of) {
		needs = append(needs,
			need{"add a collector to the pod", "patch", kubernetes.Pods, "ephemeralcontainers", ns, "the pod's specification, for good: an ephemeral container can't be taken out of it", false},
			need{"wait until it runs", "get", kubernetes.Pods, "", ns, "nothing", false},
			need{"speak with it (websocket)", "get", kubernetes.Pods, "exec", ns, "nothing; a command runs in the collector's own container", false},
			need{"the same, where the server demands it", "create", kubernetes.Pods, "exec", ns, "nothing; a command runs in the collector's own container", false})
	}
	p.rights(ctx, c, append(needs, told(of)...))
	tried, fit := 0, 0
	var unfit error
	for _, i := range of {
		if err := FitBeside(i); err != nil {
			unfit = errors.Join(unfit, err)
			p.Trials = append(p.Trials, Trial{What: i.URL(), Result: "not possible: " + reason(err)})
			continue
		}
		fit++
		if tried++; tried > maxTrials {
			continue
		}
		u, err := UserFor(i, user)
		if err != nil {
			p.trial("an ephemeral container beside "+i.URL(), err)
			continue
		}
		body, err := patch(i, ephemeral(i, "plan", u, o))
		if err != nil {
			return nil, err
		}
		_, err = c.Resource(kubernetes.Pods).Namespace(i.Pod.Namespace).Patch(ctx, i.Pod.Name, types.StrategicMergePatchType, body,
			metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}, "ephemeralcontainers")
		p.trial(fmt.Sprintf("an ephemeral container beside %s, as %s (%s)", i.URL(), u, u.From), err)
	}
	if tried > maxTrials {
		p.Trials = append(p.Trials, Trial{What: fmt.Sprintf("%d more", tried-maxTrials), Result: "not tried: they are many"})
	}
	if fit == 0 && unfit != nil {
		p.Trials[0].refused = true
	}
	return p, nil
}

// reason is why a container is unfit, without its name.
func reason(err error) string {
	var u *UnfitError
	if errors.As(err, &u) {
		return u.Why
	}
	return err.Error()
}

// UserFor is whom a collector beside a container runs as: as told, or as the container.
func UserFor(i *kubernetes.Instance, told *User) (User, error) {
	if told != nil {
		return *told, nil
	}
	return UserOf(i)
}

// NewAPIPlan is the plan of packages that hold what the API server says. Only what can't be done without is a need: what may not be read is a
// line in the coverage.
func NewAPIPlan(ctx context.Context, c *kubernetes.Cluster, of []*kubernetes.Instance) *Plan {
	p := &Plan{User: whoami(ctx, c)}
	var needs []need
	for _, ns := range namespaces(of) {
		needs = append(needs, need{"read the pod and its status", "get", kubernetes.Pods, "", ns, "nothing", false})
	}
	p.rights(ctx, c, append(needs, told(of)...))
	return p
}

// told are the rights for what the API server says beside the pod.
func told(of []*kubernetes.Instance) []need {
	var out []need
	for _, ns := range namespaces(of) {
		for _, n := range []struct {
			what, verb string
			gvr        schema.GroupVersionResource
			sub        string
		}{{"read its output", "get", kubernetes.Pods, "log"}, {"read the events about it", "list", kubernetes.Events, ""}, {"read what was measured of it", "get", kubernetes.PodMetrics, ""}} {
			out = append(out, need{n.what, n.verb, n.gvr, n.sub, ns, "nothing", true})
		}
	}
	return out
}

// namespaces are those of the containers, sorted.
func namespaces(of []*kubernetes.Instance) []string {
	var out []string
	for _, i := range of {
		out = append(out, i.Pod.Namespace)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
