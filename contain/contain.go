// Package contain keeps a pod of a cluster alive and keeps what is in it in: it takes the pod out of its services and its controller, denies
// it the network, keeps those away who would evict it, cordons its node and freezes its processes, and puts all of that back.
//
// What was before is recorded on the pod itself before anything is done, so that it can be put back from anywhere, also when whoever
// isolated it was interrupted. Nothing is run in the pod, and it is never deleted.
package contain

import (
	"context"
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// Label is on an isolated pod and on its network policy; its value is the isolation's id.
const Label = "sherd.io/isolated"

// Actions are what can be done with a pod.
type Actions struct {
	Detach, DenyNetwork, Keep, Cordon, Freeze bool
}

// Any reports whether anything is asked for.
func (a Actions) Any() bool { return a != Actions{} }

// Freezer stops the processes of a container on a node, or lets them go on. Container is its id as the pod's status has it,
// "containerd://…". It says in a word or two what became of it: one of the constants below.
type Freezer func(ctx context.Context, node, container string, thaw bool) (string, error)

// What a Freezer says.
const (
	Frozen        = "frozen"
	Thawed        = "thawed"
	FrozenAlready = "frozen already"
	Gone          = "gone"
)

// Options say how.
type Options struct {
	Actions
	// Allow are the exceptions from DenyNetwork.
	Allow []Allow
	// DryRun changes nothing: it has the server try.
	DryRun bool
	// Force freezes what would be killed for it, and gives a pod back to a controller that has one too many then.
	Force bool
	// Detached leaves the pod out of its services and its controller when the rest is released.
	Detached bool
	// Freezer is needed for Freeze, and to release what was frozen.
	Freezer Freezer
	// Tool goes into the record on the pod.
	Tool string
	// Note is called before each step with what will be done, and after it with how it went: for the chain of custody. An error
	// of it before the step keeps the step from being done.
	Note func(action, note string) error
	// Stage is told what is being waited for; may be nil.
	Stage func(string)
}

// State is how far a step came.
type State string

// The states of a step.
const (
	Planned State = "would be done" // by a dry run
	Done    State = "done"
	Already State = "already so"
	Failed  State = "failed"
)

// Step is one thing that was done, or was to be done.
type Step struct {
	Action string `json:"action"` // "detach", "deny-network", "keep", "cordon", "freeze" or "record"
	What   string `json:"what"`
	State  State  `json:"state"`
	// Request is what was sent: "PATCH pods shop/cart" and the document.
	Request  string          `json:"request,omitempty"`
	Document json.RawMessage `json:"document,omitempty"`
	// Changes are the same for people, one a line: "label app: web → isolated-…".
	Changes []string `json:"changes,omitempty"`
	// Trial is what the server said to a dry run.
	Trial string `json:"trial,omitempty"`
	Error string `json:"error,omitempty"`
	Err   error  `json:"-"`
}

// Report is what became of one pod.
type Report struct {
	Target string `json:"target"`
	Node   string `json:"node,omitempty"`
	ID     string `json:"id,omitempty"`
	Steps  []Step `json:"steps"`
	// Warnings are what the steps can't do, or what they bring along.
	Warnings []string `json:"warnings,omitempty"`
	// Verified is what was found to be so afterwards.
	Verified []string `json:"verified,omitempty"`
}

// Failed reports whether a step could not be done.
func (r *Report) Failed() bool {
	for _, s := range r.Steps {
		if s.State == Failed {
			return true
		}
	}
	return false
}

func (r *Report) warn(words string) {
	if !slices.Contains(r.Warnings, words) {
		r.Warnings = append(r.Warnings, words)
	}
}

// Pod is one pod with those of its containers that are meant.
type Pod struct {
	*corev1.Pod
	Containers []*kubernetes.Instance
}

// URL is what the user may type again.
func (p *Pod) URL() string {
	return "k8s://" + kubernetes.Ref{Namespace: p.Namespace, Name: p.Name}.String()
}

// Pods groups containers by their pods, in their order.
func Pods(found []*kubernetes.Instance) []*Pod {
	var out []*Pod
	at := map[string]*Pod{}
	for _, i := range found {
		key := i.Pod.Namespace + "/" + i.Pod.Name
		if at[key] == nil {
			at[key] = &Pod{Pod: i.Pod}
			out = append(out, at[key])
		}
		at[key].Containers = append(at[key].Containers, i)
	}
	return out
}
