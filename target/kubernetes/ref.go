package kubernetes

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Ref is a parsed k8s:// target: one container, a pod with all of its containers, or what a workload runs.
type Ref struct {
	Namespace string
	Kind      *Kind  // nil for a pod
	Name      string // of the pod or the workload
	Container string // "" for all
}

// Kind is a kind of workload.
type Kind struct {
	Name  string // as a person writes it: "deployment"
	GVR   schema.GroupVersionResource
	names []string
}

// kinds are the workloads of Kubernetes with the names that kubectl takes for them.
var kinds = []Kind{
	{"deployment", Deployments, []string{"deployment", "deployments", "deploy"}},
	{"statefulset", StatefulSets, []string{"statefulset", "statefulsets", "sts"}},
	{"daemonset", DaemonSets, []string{"daemonset", "daemonsets", "ds"}},
	{"replicaset", ReplicaSets, []string{"replicaset", "replicasets", "rs"}},
	{"job", Jobs, []string{"job", "jobs"}},
	{"cronjob", CronJobs, []string{"cronjob", "cronjobs", "cj"}},
	{"replicationcontroller", Controllers, []string{"replicationcontroller", "replicationcontrollers", "rc"}},
}

// ParseRef reads what stands behind k8s://: NAMESPACE/POD, NAMESPACE/POD/CONTAINER, NAMESPACE/KIND/NAME or
// NAMESPACE/KIND/NAME/CONTAINER. KIND is a workload's or "pod", which says that a pod is meant that is called like a kind.
func ParseRef(rest string) (Ref, error) {
	parts := strings.Split(rest, "/")
	bad := func(why string) (Ref, error) {
		return Ref{}, fmt.Errorf("k8s://%s: %s; a target is k8s://NAMESPACE/POD, k8s://NAMESPACE/POD/CONTAINER or k8s://NAMESPACE/deployment/NAME", rest, why)
	}
	if len(parts) < 2 || slices.Contains(parts, "") {
		return bad("a namespace and a name are needed")
	}
	r := Ref{Namespace: parts[0]}
	if why := validation.IsDNS1123Label(r.Namespace); len(why) > 0 {
		return bad(fmt.Sprintf("%q is no namespace's name", r.Namespace))
	}
	parts = parts[1:]
	if k := kindOf(parts[0]); len(parts) > 1 && (k != nil || isPod(parts[0])) {
		r.Kind, parts = k, parts[1:]
	}
	r.Name = parts[0]
	if why := validation.IsDNS1123Subdomain(r.Name); len(why) > 0 {
		return bad(fmt.Sprintf("%q is no name that an object can have", r.Name))
	}
	switch len(parts) {
	case 1:
	case 2:
		r.Container = parts[1]
		if why := validation.IsDNS1123Label(r.Container); len(why) > 0 {
			return bad(fmt.Sprintf("%q is no container's name", r.Container))
		}
	default:
		return bad("too many parts")
	}
	return r, nil
}

func isPod(s string) bool { return slices.Contains([]string{"pod", "pods", "po"}, strings.ToLower(s)) }

func kindOf(s string) *Kind {
	for i := range kinds {
		if slices.Contains(kinds[i].names, strings.ToLower(s)) {
			return &kinds[i]
		}
	}
	return nil
}

// String is the reference again, without the scheme.
func (r Ref) String() string {
	s := r.Namespace + "/"
	if r.Kind != nil {
		s += r.Kind.Name + "/"
	} else if kindOf(r.Name) != nil || isPod(r.Name) {
		s += "pod/"
	}
	s += r.Name
	if r.Container != "" {
		s += "/" + r.Container
	}
	return s
}
