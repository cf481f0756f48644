package cluster

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// Have says whether a right is granted.
type Have string

// The answers to whether a right is granted.
const (
	Granted Have = "yes"
	Denied  Have = "no"
	Unknown Have = "unknown" // the server did not say
	Spare   Have = "no, and not needed"
)

// Step is one thing that a capture does in the cluster.
type Step struct {
	What    string
	Right   string // "create jobs.batch in namespace sherd"
	Have    Have
	Changes string // what of the cluster changes, "nothing" for reading
	denied  *kubernetes.DeniedError
}

// Trial is something that the server was asked to do without doing it.
type Trial struct {
	What, Result string
	refused      bool
}

// Plan is what a capture would do.
type Plan struct {
	User   string // "you" if the server does not tell
	Image  string // of the collector, as the options or the namespace have it
	Steps  []Step
	Trials []Trial
}

// OK reports whether nothing speaks against a capture.
func (p *Plan) OK() bool {
	for _, s := range p.Steps {
		if s.Have == Denied {
			return false
		}
	}
	for _, t := range p.Trials {
		if t.refused {
			return false
		}
	}
	return true
}

// Against says in a few words what speaks against a capture, "" if nothing does.
func (p *Plan) Against() string {
	for _, s := range p.Steps {
		if s.Have == Denied {
			return p.User + " may not " + s.Right
		}
	}
	for _, t := range p.Trials {
		if t.refused {
			return t.What + " is " + t.Result
		}
	}
	return ""
}

// Grants tells of each right that is missing, with what grants it.
func (p *Plan) Grants() []string {
	var out []string
	for _, s := range p.Steps {
		if s.Have == Denied && s.denied != nil {
			out = append(out, s.denied.Error())
		}
	}
	return out
}

var accessReviews = schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"}
var selfReviews = schema.GroupVersionResource{Group: "authentication.k8s.io", Version: "v1", Resource: "selfsubjectreviews"}

// need is a step before it is known whether its right is granted.
type need struct {
	what, verb string
	gvr        schema.GroupVersionResource
	sub        string
	namespace  string // "" for the whole cluster
	changes    string
	spare      bool
}

// NewPlan asks the server which rights there are, and has it try what would be made, for collectors on nodes. Nothing is made.
func NewPlan(ctx context.Context, c *kubernetes.Cluster, nodes []string, o Options) (*Plan, error) {
	p := &Plan{User: whoami(ctx, c)}
	u, err := c.Resource(kubernetes.Namespaces).Get(ctx, o.Namespace, metav1.GetOptions{})
	there := apierrors.IsForbidden(err) || err == nil && installed(u)
	if err == nil && there {
		o = preset(o, u)
	} else if err == nil {
		o.Namespace += "-SESSION" // another capture's, or one that is going away
	}
	p.Image = o.Image
	if err != nil && !there && !apierrors.IsNotFound(err) {
		return nil, c.Explain(err, "get", kubernetes.Namespaces, "", "")
	}
	ns := o.Namespace
	needs := []need{{"see whether the node is fit", "get", kubernetes.Nodes, "", "", "nothing", true},
		{"look for Sherd's namespace", "get", kubernetes.Namespaces, "", "", "nothing", there}}
	if !there {
		needs = append(needs, need{"make the namespace " + ns, "create", kubernetes.Namespaces, "", "", "one namespace, until the end", false})
	}
	each := fmt.Sprintf("%d of them, each with one pod, until the end", len(nodes))
	if len(nodes) == 1 {
		each = "one job with one pod, until the end"
	}
	needs = append(needs,
		need{"start a collector", "create", kubernetes.Jobs, "", ns, each, false},
		need{"wait until it runs", "list", kubernetes.Pods, "", ns, "nothing", false},
		need{"wait without asking again and again", "watch", kubernetes.Pods, "", ns, "nothing", true},
		need{"speak with it (websocket)", "get", kubernetes.Pods, "exec", ns, "nothing; a command runs in the collector's own pod", false},
		need{"the same, where the server demands it", "create", kubernetes.Pods, "exec", ns, "nothing; a command runs in the collector's own pod", false},
		need{"tell a lost collector from a lost line", "get", kubernetes.Pods, "", ns, "nothing", true},
		need{"remove it", "delete", kubernetes.Jobs, "", ns, "the job and its pod are gone", false},
	)
	if !there {
		needs = append(needs, need{"see whether others use the namespace", "list", kubernetes.Jobs, "", ns, "nothing", true},
			need{"remove the namespace", "delete", kubernetes.Namespaces, "", "", "the namespace is gone", false})
	}
	p.rights(ctx, c, needs)
	return p, p.try(ctx, c, nodes, o, there)
}

// atOnce is how many questions of a plan are asked at the same time.
const atOnce = 8

// rights asks which of the needs are granted.
func (p *Plan) rights(ctx context.Context, c *kubernetes.Cluster, needs []need) {
	p.Steps = make([]Step, len(needs))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, n := range needs {
		g.Go(func() error {
			s := Step{What: n.what, Right: n.verb + " " + name(n.gvr, n.sub), Changes: n.changes, Have: allowed(ctx, c, n.verb, n.gvr, n.sub, n.namespace)}
			if n.namespace != "" {
				s.Right += " in namespace " + n.namespace
			}
			if s.Have == Denied {
				if n.spare {
					s.Have = Spare
				}
				s.denied = &kubernetes.DeniedError{Verb: n.verb, Resource: n.gvr.GroupResource(), Sub: n.sub, Namespace: n.namespace, User: p.User}
			}
			p.Steps[i] = s
			return nil
		})
	}
	_ = g.Wait() // none fails
}

func name(gvr schema.GroupVersionResource, sub string) string {
	s := gvr.GroupResource().String()
	if sub != "" {
		s += "/" + sub
	}
	return s
}

func allowed(ctx context.Context, c *kubernetes.Cluster, verb string, gvr schema.GroupVersionResource, sub, namespace string) Have {
	attributes := map[string]any{"verb": verb, "group": gvr.Group, "resource": gvr.Resource, "subresource": sub, "namespace": namespace}
	u, err := c.Resource(accessReviews).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": map[string]any{"resourceAttributes": attributes},
	}}, metav1.CreateOptions{})
	if err != nil {
		return Unknown
	}
	ok, found, err := unstructured.NestedBool(u.Object, "status", "allowed")
	switch {
	case err != nil || !found:
		return Unknown
	case ok:
		return Granted
	}
	return Denied
}

func whoami(ctx context.Context, c *kubernetes.Cluster) string {
	u, err := c.Resource(selfReviews).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}}, metav1.CreateOptions{})
	if err != nil {
		return "you"
	}
	if user, ok, err := unstructured.NestedString(u.Object, "status", "userInfo", "username"); err == nil && ok {
		return user
	}
	return "you"
}

// try has the server make the namespace, the job and the pod without keeping them, so that admission says what it thinks of them. Its
// answer about a pod is what counts: admission looks at the pod again when the job makes it.
func (p *Plan) try(ctx context.Context, c *kubernetes.Cluster, nodes []string, o Options, there bool) error {
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	if !there {
		_, err := c.Resource(kubernetes.Namespaces).Create(ctx, namespaceObject(strings.ToLower(o.Namespace)), dry)
		p.trial("the namespace "+o.Namespace, err)
		p.Trials = append(p.Trials, Trial{What: "the collector", Result: "can't be tried before its namespace is there"})
		return nil
	}
	for _, node := range nodes {
		j := job("plan", node, o)
		obj, err := runtime.DefaultUnstructuredConverter.ToUnstructured(j)
		if err != nil {
			return err
		}
		_, err = c.Resource(kubernetes.Jobs).Namespace(o.Namespace).Create(ctx, &unstructured.Unstructured{Object: obj}, dry)
		p.trial("the job on "+node, err)
		pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: j.Spec.Template.ObjectMeta, Spec: j.Spec.Template.Spec}
		pod.Name, pod.Namespace = j.Name, o.Namespace
		if obj, err = runtime.DefaultUnstructuredConverter.ToUnstructured(pod); err != nil {
			return err
		}
		_, err = c.Resource(kubernetes.Pods).Namespace(o.Namespace).Create(ctx, &unstructured.Unstructured{Object: obj}, dry)
		if missing(err) {
			// Jobs make pods by a right of their own.
			p.Trials = append(p.Trials, Trial{What: "its pod", Result: "not tried: you may not create pods, and need not"})
			continue
		}
		p.trial("its pod on "+node, err)
	}
	return nil
}

// missing tells a right that is not granted from a refusal by admission, both of which are Forbidden.
func missing(err error) bool {
	return apierrors.IsForbidden(err) && (strings.Contains(err.Error(), "cannot create resource") || strings.Contains(err.Error(), "cannot patch resource"))
}

func (p *Plan) trial(what string, err error) {
	switch {
	case err == nil:
		p.Trials = append(p.Trials, Trial{What: what, Result: "admitted"})
	case missing(err):
		p.Trials = append(p.Trials, Trial{What: what, Result: "not tried: you may not create it"})
	default:
		p.Trials = append(p.Trials, Trial{What: what, Result: "refused: " + err.Error(), refused: true})
	}
}
