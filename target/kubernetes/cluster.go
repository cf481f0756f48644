// Package kubernetes finds containers through a cluster's API server: which pods a reference means, which containers they have
// and had, on which node. It only reads. How a container found here is captured is package collect/cluster's business.
//
// The dynamic client is used, not the generated one: it is a third of the size, and leaves objects as the server sent them.
package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	_ "k8s.io/client-go/plugin/pkg/client/auth/oidc" // what kubectl accepts in a kubeconfig
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// Access says which cluster and as whom, as kubectl's flags of the same names do. The zero value is what kubectl does
// without flags: $KUBECONFIG, ~/.kube/config, then the account of the pod that this program runs in.
type Access struct {
	Kubeconfig string
	Context    string
	// As and AsGroups impersonate, for whoever may.
	As       string
	AsGroups []string
	// RequestTimeout bounds each question; 0 is 30 s.
	RequestTimeout time.Duration
}

// Cluster is one API server.
type Cluster struct {
	// Config is for streams, which the dynamic client does not do.
	Config *rest.Config
	// Context is the kubeconfig's, "" inside a cluster; Namespace is its default one.
	Context, Namespace string

	dynamic dynamic.Interface
	known   answers
}

// UnreachableError says that no cluster was there to ask.
type UnreachableError struct {
	Server string // "" if none is configured
	Err    error
}

func (e *UnreachableError) Error() string {
	if e.Server == "" {
		return fmt.Sprintf("no cluster is configured: %v; set KUBECONFIG, or name a file with --kubeconfig and a context with --context", e.Err)
	}
	return fmt.Sprintf("the cluster at %s does not answer: %v; is the context the right one (--context), and is the server reachable from here?", e.Server, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// silence keeps the client library from writing to standard error: what goes wrong comes back as an error, and is told once.
var silence = sync.OnceFunc(func() { klog.SetLogger(logr.Discard()) })

// Connect reads the configuration. The server is first asked when something is looked for.
func Connect(a Access) (*Cluster, error) {
	silence()
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: a.Context}
	overrides.AuthInfo.Impersonate = a.As
	overrides.AuthInfo.ImpersonateGroups = a.AsGroups
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	cfg, err := loader.ClientConfig()
	if err != nil {
		return nil, &UnreachableError{Err: err}
	}
	c := &Cluster{Config: cfg, Context: a.Context}
	if c.Namespace, _, err = loader.Namespace(); err != nil {
		return nil, &UnreachableError{Err: err}
	}
	if raw, err := loader.RawConfig(); err == nil && c.Context == "" {
		c.Context = raw.CurrentContext
	}
	cfg.Timeout = cmp.Or(a.RequestTimeout, 30*time.Second)
	// The server bounds who asks too much; the client's own default of 5 a second is for controllers.
	cfg.QPS, cfg.Burst = 50, 100
	cfg.UserAgent = "sherd"
	if c.dynamic, err = dynamic.NewForConfig(cfg); err != nil {
		return nil, &UnreachableError{Server: cfg.Host, Err: err}
	}
	return c, nil
}

// Resource is the dynamic client for one kind.
func (c *Cluster) Resource(gvr schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return c.dynamic.Resource(gvr)
}

// Streaming is a configuration without a limit of time, for what takes as long as it takes.
func (c *Cluster) Streaming() *rest.Config {
	cfg := rest.CopyConfig(c.Config)
	cfg.Timeout = 0
	return cfg
}

// The kinds that are asked for.
var (
	Pods         = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	Namespaces   = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	Nodes        = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	Jobs         = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
	CronJobs     = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "cronjobs"}
	Deployments  = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	ReplicaSets  = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}
	StatefulSets = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"}
	DaemonSets   = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}
	Controllers  = schema.GroupVersionResource{Version: "v1", Resource: "replicationcontrollers"}

	Events          = schema.GroupVersionResource{Version: "v1", Resource: "events"}
	ServiceAccounts = schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
)

// DeniedError names a right that is missing, with the rule that grants it.
type DeniedError struct {
	Verb      string
	Resource  schema.GroupResource
	Sub       string // subresource, "" if none
	Namespace string // "" for the whole cluster
	User      string // as the server names it, "" if it does not
}

func (e *DeniedError) what() string {
	if e.Sub == "" {
		return e.Resource.Resource
	}
	return e.Resource.Resource + "/" + e.Sub
}

func (e *DeniedError) Error() string {
	where, who := "in the whole cluster", cmp.Or(e.User, "you")
	kind, scope := "clusterrole", ""
	if e.Namespace != "" {
		where, kind, scope = "in namespace "+e.Namespace, "role", " -n "+e.Namespace
	}
	resource := e.what()
	if e.Resource.Group != "" {
		resource = e.Resource.Resource + "." + e.Resource.Group
		if e.Sub != "" {
			resource += "/" + e.Sub
		}
	}
	return fmt.Sprintf("%s may not %s %s %s. Who administers the cluster grants it with:\n"+
		"    kubectl create %s sherd-%s-%s%s --verb=%s --resource=%s\n"+
		"    kubectl create %sbinding sherd-%s-%s%s --%s=sherd-%s-%s --user=USER",
		who, e.Verb, e.what(), where,
		kind, e.Verb, e.Resource.Resource, scope, e.Verb, resource,
		kind, e.Verb, e.Resource.Resource, scope, kind, e.Verb, e.Resource.Resource)
}

// Explain turns a server's answer into one that helps: a missing right with what grants it, a server that is not there. Others stay
// as they are.
func (c *Cluster) Explain(err error, verb string, gvr schema.GroupVersionResource, sub, namespace string) error {
	var u *url.Error
	switch {
	case err == nil:
		return nil
	case apierrors.IsForbidden(err):
		return &DeniedError{Verb: verb, Resource: gvr.GroupResource(), Sub: sub, Namespace: namespace, User: userIn(err.Error())}
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("the cluster at %s does not accept these credentials (context %q): %w", c.Config.Host, c.Context, err)
	case errors.As(err, &u), errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		return &UnreachableError{Server: c.Config.Host, Err: err}
	}
	return err
}

// userIn takes the user out of `pods is forbidden: User "kira" cannot list …`, which is the only place where the server says it.
func userIn(message string) string {
	_, rest, ok := strings.Cut(message, `User "`)
	if !ok {
		return ""
	}
	user, _, ok := strings.Cut(rest, `"`)
	if !ok || len(user) > 253 {
		return ""
	}
	return user
}
