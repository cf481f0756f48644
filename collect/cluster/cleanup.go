package cluster

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// Left is something of Sherd's in a cluster.
type Left struct {
	Kind, Namespace, Name string
	// Made is when, RFC 3339 UTC as the cluster says it.
	Made string
}

// Leftovers lists what captures left behind: collectors' jobs in namespace ns, and that namespace if a capture made it.
func Leftovers(ctx context.Context, c *kubernetes.Cluster, ns string) ([]Left, error) {
	var out []Left
	l, err := c.Resource(kubernetes.Jobs).Namespace(ns).List(ctx, metav1.ListOptions{LabelSelector: ManagedBy + "=" + Manager})
	if err != nil {
		return nil, c.Explain(err, "list", kubernetes.Jobs, "", ns)
	}
	for i := range l.Items {
		out = append(out, Left{"Job", ns, l.Items[i].GetName(), l.Items[i].GetCreationTimestamp().UTC().Format("2006-01-02T15:04:05Z")})
	}
	n, err := c.Resource(kubernetes.Namespaces).Get(ctx, ns, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return out, nil
	case err != nil:
		return out, c.Explain(err, "get", kubernetes.Namespaces, "", "")
	}
	if n.GetAnnotations()[CreatedMark] != "" {
		out = append(out, Left{"Namespace", "", ns, n.GetCreationTimestamp().UTC().Format("2006-01-02T15:04:05Z")})
	}
	return out, nil
}

// Clean removes what Leftovers lists.
func Clean(ctx context.Context, c *kubernetes.Cluster, left []Left) error {
	var errs error
	for _, x := range left {
		switch x.Kind {
		case "Job":
			errs = errors.Join(errs, removeJob(ctx, c, x.Namespace, x.Name))
		case "Namespace":
			errs = errors.Join(errs, removeNamespace(ctx, c, x.Name, ""))
		}
	}
	return errs
}
