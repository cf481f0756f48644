package cluster

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// Left is something of Sherd's in a cluster.
type Left struct {
	Kind, Namespace, Name string
	// Made is when, RFC 3339 UTC as the cluster says it.
	Made string
	uid  types.UID
}

// Leftovers lists what captures left behind: the namespaces that they made, and collectors' jobs in those and in namespace ns.
func Leftovers(ctx context.Context, c *kubernetes.Cluster, ns string) ([]Left, error) {
	made, err := madeNamespaces(ctx, c, ns)
	if err != nil {
		return nil, err
	}
	in := []string{ns}
	for _, m := range made {
		if m.Name != ns {
			in = append(in, m.Name)
		}
	}
	var out []Left
	for _, n := range in {
		l, err := c.Resource(kubernetes.Jobs).Namespace(n).List(ctx, metav1.ListOptions{LabelSelector: ManagedBy + "=" + Manager})
		if err != nil {
			return nil, c.Explain(err, "list", kubernetes.Jobs, "", n)
		}
		for i := range l.Items {
			out = append(out, left("Job", n, &l.Items[i]))
		}
	}
	return append(out, made...), nil
}

// madeNamespaces lists the namespaces that captures made. Who may not list namespaces still hears of ns.
func madeNamespaces(ctx context.Context, c *kubernetes.Cluster, ns string) ([]Left, error) {
	var out []Left
	add := func(u *unstructured.Unstructured) {
		if u.GetAnnotations()[CreatedMark] != "" && u.GetDeletionTimestamp() == nil {
			out = append(out, left("Namespace", "", u))
		}
	}
	l, err := c.Resource(kubernetes.Namespaces).List(ctx, metav1.ListOptions{LabelSelector: ManagedBy + "=" + Manager})
	switch {
	case err == nil:
		for i := range l.Items {
			add(&l.Items[i])
		}
		return out, nil
	case !apierrors.IsForbidden(err):
		return nil, c.Explain(err, "list", kubernetes.Namespaces, "", "")
	}
	u, err := c.Resource(kubernetes.Namespaces).Get(ctx, ns, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, c.Explain(err, "get", kubernetes.Namespaces, "", "")
	}
	add(u)
	return out, nil
}

func left(kind, ns string, u *unstructured.Unstructured) Left {
	return Left{kind, ns, u.GetName(), u.GetCreationTimestamp().UTC().Format(time.RFC3339), u.GetUID()}
}

// Clean removes what Leftovers lists.
func Clean(ctx context.Context, c *kubernetes.Cluster, left []Left) error {
	var errs error
	for _, x := range left {
		switch x.Kind {
		case "Job":
			errs = errors.Join(errs, removeJob(ctx, c, x.Namespace, x.Name))
		case "Namespace":
			errs = errors.Join(errs, removeNamespace(ctx, c, x.Name, x.uid))
		}
	}
	return errs
}
