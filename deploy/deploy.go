// Package deploy holds what a cluster may have installed in advance: a namespace and roles, as kustomize and Helm have them, and makes
// manifests of them for one cluster.
package deploy

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed kustomize
var files embed.FS

// Role is a part of the work that somebody may be trusted with.
type Role struct {
	Name  string
	What  string
	local bool // to Sherd's own namespace
	looks bool // nobody does it without looking
}

// Roles are all of them.
var Roles = []Role{
	{Name: "look", What: "see which containers there are, and what surrounds them"},
	{Name: "capture", What: "run collectors on nodes, which makes root on every node", local: true, looks: true},
	{Name: "capture-pod", What: "run a collector as an ephemeral container, in any pod", looks: true},
	{Name: "contain", What: "isolate pods and release them", looks: true},
}

// Usual are the roles that are printed when none is named: those that most clusters need.
var Usual = []string{"look", "capture", "contain"}

// Options say for which cluster.
type Options struct {
	Namespace string
	Roles     []string
	// Users, Groups and Accounts ("NAMESPACE:NAME") are given all of the roles.
	Users, Groups, Accounts []string
	// Image, Pull and Secrets are what collectors use when whoever captures names nothing else.
	Image, Pull string
	Secrets     []string
}

// What the namespace says of collectors.
const (
	imageKey  = "sherd.io/collector-image"
	pullKey   = "sherd.io/collector-pull"
	secretKey = "sherd.io/collector-pull-secrets"
)

// Manifests are the objects, as YAML that kubectl applies.
func Manifests(o Options) ([]byte, error) {
	objects, err := o.objects()
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	for _, x := range objects {
		b, err := yaml.Marshal(x)
		if err != nil {
			return nil, err
		}
		out.WriteString("---\n" + string(b))
	}
	return []byte(out.String()), nil
}

func (o Options) objects() ([]map[string]any, error) {
	subjects, err := o.subjects()
	if err != nil {
		return nil, err
	}
	var out []map[string]any
	for _, name := range []string{"base/namespace.yaml", "base/quota.yaml"} {
		x, err := o.read(name)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	o.preset(out[0])
	chosen := slices.DeleteFunc(slices.Clone(Roles), func(r Role) bool { return !slices.Contains(o.Roles, r.Name) })
	for _, name := range o.Roles {
		if !slices.ContainsFunc(Roles, func(r Role) bool { return r.Name == name }) {
			return nil, fmt.Errorf("there is no role %q: known are look, capture, capture-pod and contain", name)
		}
	}
	// Whoever captures or contains looks, too.
	if len(chosen) > 0 && chosen[0].Name != "look" {
		x, err := o.read("look/role.yaml")
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	for _, r := range chosen {
		x, err := o.read(r.Name + "/role.yaml")
		if err != nil {
			return nil, err
		}
		out = append(out, x)
		if len(subjects) == 0 {
			continue
		}
		out = append(out, o.binding("sherd-"+r.Name, "sherd-"+r.Name, r.local, subjects))
		if r.looks {
			// Of its own name, so that who may only look, and who may capture, can be told by two commands.
			out = append(out, o.binding("sherd-"+r.Name+"-look", "sherd-look", false, subjects))
		}
	}
	return out, nil
}

// read gives one of the files' objects, in the namespace that is asked for.
func (o Options) read(name string) (map[string]any, error) {
	b, err := files.ReadFile("kustomize/" + name)
	if err != nil {
		return nil, err
	}
	x := map[string]any{}
	if err := yaml.UnmarshalStrict(b, &x); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	meta, ok := x["metadata"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s has no metadata", name)
	}
	if x["kind"] == "Namespace" {
		meta["name"] = o.Namespace
	}
	if _, local := meta["namespace"]; local {
		meta["namespace"] = o.Namespace
	}
	return x, nil
}

func (o Options) preset(namespace map[string]any) {
	annotations := map[string]any{}
	for key, v := range map[string]string{imageKey: o.Image, pullKey: o.Pull, secretKey: strings.Join(o.Secrets, ",")} {
		if v != "" {
			annotations[key] = v
		}
	}
	if len(annotations) > 0 {
		namespace["metadata"].(map[string]any)["annotations"] = annotations
	}
}

const group = "rbac.authorization.k8s.io"

func (o Options) subjects() ([]any, error) {
	var out []any
	for _, u := range o.Users {
		out = append(out, map[string]any{"kind": "User", "name": u, "apiGroup": group})
	}
	for _, g := range o.Groups {
		out = append(out, map[string]any{"kind": "Group", "name": g, "apiGroup": group})
	}
	for _, a := range o.Accounts {
		ns, name, ok := strings.Cut(a, ":")
		if !ok || ns == "" || name == "" {
			return nil, fmt.Errorf("a service account is NAMESPACE:NAME, not %q", a)
		}
		out = append(out, map[string]any{"kind": "ServiceAccount", "name": name, "namespace": ns})
	}
	return out, nil
}

func (o Options) binding(name, role string, local bool, subjects []any) map[string]any {
	meta := map[string]any{"name": name, "labels": map[string]any{"app.kubernetes.io/name": "sherd", "app.kubernetes.io/part-of": "sherd"}}
	kind, ref := "ClusterRoleBinding", "ClusterRole"
	if local {
		kind, ref = "RoleBinding", "Role"
		meta["namespace"] = o.Namespace
	}
	return map[string]any{"apiVersion": group + "/v1", "kind": kind, "metadata": meta,
		"roleRef": map[string]any{"apiGroup": group, "kind": ref, "name": role}, "subjects": subjects}
}
