// Package permission works out what RBAC lets a service account do, from bindings and roles as the API server lists them, by the rules
// that the server itself follows: https://kubernetes.io/docs/reference/access-authn-authz/rbac/.
//
// Other authorizers of a cluster (webhooks, the node authorizer) may allow more; no list of theirs can be asked for.
package permission

import (
	"cmp"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// Identity is somebody as the API server knows him.
type Identity struct {
	User   string
	Groups []string
}

// Account is the identity of a service account.
func Account(namespace, name string) Identity {
	return Identity{
		User:   "system:serviceaccount:" + namespace + ":" + name,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
}

// Grant is a binding that reaches an identity, and what it grants.
type Grant struct {
	Binding   string // "RoleBinding/shop/cart-view"
	Namespace string // in which it grants, "" for the whole cluster
	// Role is what it refers to: a ClusterRole, or a Role of its namespace.
	Role rbacv1.RoleRef
	// Rules are the role's. Absent says that there is no such role.
	Rules  []rbacv1.PolicyRule
	Absent bool
}

// Bindings gives those that reach id, without the rules of their roles, by name.
func Bindings(id Identity, cluster []rbacv1.ClusterRoleBinding, namespaced []rbacv1.RoleBinding) []Grant {
	var out []Grant
	for i := range cluster {
		if b := &cluster[i]; id.among(b.Subjects, "") {
			out = append(out, Grant{Binding: "ClusterRoleBinding/" + b.Name, Role: b.RoleRef})
		}
	}
	for i := range namespaced {
		if b := &namespaced[i]; id.among(b.Subjects, b.Namespace) {
			out = append(out, Grant{Binding: "RoleBinding/" + b.Namespace + "/" + b.Name, Namespace: b.Namespace, Role: b.RoleRef})
		}
	}
	slices.SortFunc(out, func(a, b Grant) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Binding, b.Binding))
	})
	return out
}

// among is how the server matches subjects: it looks at their kind and name alone, and an account without a namespace is the binding's.
func (id Identity) among(subjects []rbacv1.Subject, namespace string) bool {
	return slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool {
		switch s.Kind {
		case rbacv1.UserKind:
			return s.Name == id.User
		case rbacv1.GroupKind:
			return slices.Contains(id.Groups, s.Name)
		case rbacv1.ServiceAccountKind:
			ns := cmp.Or(s.Namespace, namespace)
			return ns != "" && id.User == "system:serviceaccount:"+ns+":"+s.Name
		}
		return false
	})
}

// RoleName names what a grant refers to: "ClusterRole/view", "Role/shop/cart".
func (g *Grant) RoleName() string {
	if g.Role.Kind == "Role" {
		return "Role/" + g.Namespace + "/" + g.Role.Name
	}
	return g.Role.Kind + "/" + g.Role.Name
}

// Work says what the grants come to.
func Work(id Identity, grants []Grant) *record.Permissions {
	p := &record.Permissions{Identity: id.User, Groups: id.Groups, Rules: []record.Permission{}, Dangers: []record.Danger{}, Tokens: []record.Token{}}
	for i := range grants {
		g := &grants[i]
		if g.Absent {
			p.Dangling = append(p.Dangling, g.Binding+": "+g.RoleName())
			continue
		}
		for _, r := range g.Rules {
			rule := record.Permission{Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames, URLs: r.NonResourceURLs,
				Namespace: g.Namespace, Role: g.RoleName(), Binding: g.Binding}
			if g.Namespace != "" {
				rule.URLs = nil // addresses are the cluster's: what a namespace grants of them has no effect
			}
			if len(rule.URLs) > 0 || len(rule.Resources) > 0 {
				p.Rules = append(p.Rules, rule)
			}
		}
	}
	p.Dangers = append(p.Dangers, dangers(p.Rules)...)
	return p
}

// Question is one that the API server asks of RBAC. URL is that of a request which is for no resource.
type Question struct {
	Verb, Namespace, Group, Resource, Sub, Name, URL string
}

// Allowed answers as the server would.
func Allowed(rules []record.Permission, q Question) bool {
	return slices.ContainsFunc(rules, func(r record.Permission) bool { return allows(&r, q) })
}

func allows(r *record.Permission, q Question) bool {
	if r.Namespace != "" && r.Namespace != q.Namespace || !has(r.Verbs, q.Verb) {
		return false
	}
	if q.URL != "" {
		return slices.ContainsFunc(r.URLs, func(u string) bool {
			return u == "*" || u == q.URL || strings.HasSuffix(u, "*") && strings.HasPrefix(q.URL, strings.TrimRight(u, "*"))
		})
	}
	return has(r.APIGroups, q.Group) && covers(r.Resources, q.Resource, q.Sub) && (len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, q.Name))
}

func has(list []string, s string) bool { return slices.Contains(list, "*") || slices.Contains(list, s) }

// covers reports whether a rule's resources have one among them: "*" is all with their subresources, "*/scale" that of all.
func covers(resources []string, resource, sub string) bool {
	full := resource
	if sub != "" {
		full += "/" + sub
	}
	return has(resources, full) || sub != "" && slices.Contains(resources, "*/"+sub)
}
