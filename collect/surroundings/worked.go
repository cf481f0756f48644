package surroundings

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sherd-forensics/sherd/collect/surroundings/admission"
	"github.com/sherd-forensics/sherd/collect/surroundings/exposure"
	"github.com/sherd-forensics/sherd/collect/surroundings/permission"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

func kind(group, version, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
}

const (
	rbacGroup    = "rbac.authorization.k8s.io"
	gatewayGroup = "gateway.networking.k8s.io"
)

// The kinds that are asked for.
var (
	roles               = kind(rbacGroup, "v1", "roles")
	clusterRoles        = kind(rbacGroup, "v1", "clusterroles")
	roleBindings        = kind(rbacGroup, "v1", "rolebindings")
	clusterRoleBindings = kind(rbacGroup, "v1", "clusterrolebindings")
	services            = kind("", "v1", "services")
	endpointSlices      = kind("discovery.k8s.io", "v1", "endpointslices")
	ingresses           = kind("networking.k8s.io", "v1", "ingresses")
	networkPolicies     = kind("networking.k8s.io", "v1", "networkpolicies")
	quotas              = kind("", "v1", "resourcequotas")
	limitRanges         = kind("", "v1", "limitranges")
	mutatingHooks       = kind("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations")
	validatingHooks     = kind("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations")
)

const (
	workedOut   = "worked out from "
	maxSiblings = 200
	maxRoles    = 500
)

// named gives the objects of list that names has, which are "NAMESPACE/NAME".
func named(list []unstructured.Unstructured, keep func(i int) bool) (out []unstructured.Unstructured) {
	for i := range list {
		if keep(i) {
			out = append(out, list[i])
		}
	}
	return out
}

// permissions are those of the pod's service account, with the roles and bindings that say so.
func (g *gatherer) permissions(p *part) {
	account := cmp.Or(g.pod.Spec.ServiceAccountName, "default")
	id := permission.Account(g.pod.Namespace, account)
	var ofCluster, inNamespaces []unstructured.Unstructured
	var errs [2][]error
	together(2, func(n int) {
		if n == 0 {
			var err error
			if ofCluster, err = g.list(clusterRoleBindings, ""); err != nil {
				errs[0] = []error{err}
			}
			return
		}
		inNamespaces, errs[1] = g.wide(roleBindings)
	})
	missed := slices.Concat(errs[0], errs[1])
	for _, err := range missed {
		p.miss("bindings of roles, by which the account's permissions are known", err)
	}
	grants := permission.Bindings(id, typed[rbacv1.ClusterRoleBinding](p, "clusterrolebindings", ofCluster), typed[rbacv1.RoleBinding](p, "rolebindings", inNamespaces))
	if len(grants) > maxRoles {
		err := fmt.Errorf("%d bindings reach the account; the first %d were followed", len(grants), maxRoles)
		p.miss("roles", err)
		missed = append(missed, err)
		grants = grants[:maxRoles]
	}
	reaching := func(list []unstructured.Unstructured, prefix string) []unstructured.Unstructured {
		return named(list, func(i int) bool {
			name := prefix + list[i].GetName()
			if ns := list[i].GetNamespace(); ns != "" {
				name = prefix + ns + "/" + list[i].GetName()
			}
			return slices.ContainsFunc(grants, func(b permission.Grant) bool { return b.Binding == name })
		})
	}
	p.objects("bindings.json", "clusterrolebindings and rolebindings that reach "+id.User,
		slices.Concat(reaching(ofCluster, "ClusterRoleBinding/"), reaching(inNamespaces, "RoleBinding/")))
	raw := g.rules(p, grants, &missed)
	p.objects("roles.json", "clusterroles and roles that "+id.User+" is bound to", raw)
	// A role that could not be read grants something that is not known: it is no rule, and is missed.
	grants = slices.DeleteFunc(grants, func(b permission.Grant) bool { return b.Rules == nil && !b.Absent })
	w := permission.Work(id, grants)
	w.Tokens = permission.Tokens(g.pod)
	w.Cloud = permission.Cloud(g.pod, g.account(account))
	w.Missed = shorts(missed)
	p.put("permissions.json", workedOut+"roles.json, bindings.json, pod.json and serviceaccount.json", w)
}

// account is the pod's service account, nil if it can't be had, which place says.
func (g *gatherer) account(name string) *corev1.ServiceAccount {
	u, err := g.get(kubernetes.ServiceAccounts, g.pod.Namespace, name)
	if err != nil {
		return nil
	}
	a := &corev1.ServiceAccount{}
	if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, a) != nil {
		return nil
	}
	return a
}

// rules fills the grants with those of their roles, and gives the roles.
func (g *gatherer) rules(p *part, grants []permission.Grant, missed *[]error) []unstructured.Unstructured {
	// Several bindings may refer to one role.
	var names []string
	at := map[string]int{}
	for i := range grants {
		if n := grants[i].RoleName(); !slices.Contains(names, n) {
			names = append(names, n)
			at[n] = i
		}
	}
	found := make([]*unstructured.Unstructured, len(names))
	errs := make([]error, len(names))
	together(len(names), func(n int) {
		b := &grants[at[names[n]]]
		switch b.Role.Kind {
		case "Role":
			found[n], errs[n] = g.get(roles, b.Namespace, b.Role.Name)
		case "ClusterRole":
			found[n], errs[n] = g.get(clusterRoles, "", b.Role.Name)
		default:
			errs[n] = fmt.Errorf("%s refers to a %s, which is no role", b.Binding, b.Role.Kind)
		}
	})
	var raw []unstructured.Unstructured
	for n, name := range names {
		var role struct {
			Rules []rbacv1.PolicyRule `json:"rules"`
		}
		gone := absent(errs[n])
		if err := errs[n]; err != nil && !gone {
			p.miss(name+", by which the account's permissions are known", err)
			*missed = append(*missed, fmt.Errorf("%s: %s", name, short(err)))
			continue
		}
		if !gone {
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found[n].Object, &role); err != nil {
				p.miss(name, err)
				*missed = append(*missed, fmt.Errorf("%s: %w", name, err))
				continue
			}
			raw = append(raw, *found[n])
		}
		for i := range grants {
			if grants[i].RoleName() == name {
				grants[i].Absent, grants[i].Rules = gone, append([]rbacv1.PolicyRule{}, role.Rules...)
			}
		}
	}
	return raw
}

// exposure is who reaches the pod, with the services, ingresses, gateways and policies that say so.
func (g *gatherer) exposure(p *part) {
	ns := g.pod.Namespace
	asked := []schema.GroupVersionResource{services, endpointSlices, ingresses, networkPolicies}
	lists := make([][]unstructured.Unstructured, len(asked))
	errs := make([]error, len(asked))
	var gates, routes []unstructured.Unstructured
	var gateErrs []error
	served := false
	together(len(asked)+1, func(n int) {
		if n == len(asked) {
			gates, routes, served, gateErrs = g.gateways()
			return
		}
		lists[n], errs[n] = g.list(asked[n], ns)
	})
	var missed []error
	for n, err := range errs {
		if err != nil {
			p.miss(asked[n].Resource+" of namespace "+ns, err)
			missed = append(missed, err)
		}
	}
	for _, err := range gateErrs {
		p.miss("gateways and their routes", err)
	}
	missed = append(missed, gateErrs...)
	o := &exposure.Objects{
		Services: typed[corev1.Service](p, "services", lists[0]), Slices: typed[discoveryv1.EndpointSlice](p, "endpointslices", lists[1]),
		Ingresses: typed[networkingv1.Ingress](p, "ingresses", lists[2]), Policies: typed[networkingv1.NetworkPolicy](p, "networkpolicies", lists[3]),
		Gateways: typed[exposure.Gateway](p, "gateways", gates), Routes: typed[exposure.Route](p, "routes of gateways", routes),
	}
	selecting := exposure.Selecting(g.pod, o)
	is := func(u *unstructured.Unstructured, s *corev1.Service) bool { return u.GetName() == s.Name }
	if errs[0] == nil {
		p.objects("services.json", "services that lead to "+ns+"/"+g.pod.Name, named(lists[0], func(i int) bool {
			return slices.ContainsFunc(selecting, func(s *corev1.Service) bool { return is(&lists[0][i], s) })
		}))
	}
	keep(p, errs[1], "endpointslices.json", "endpointslices with "+ns+"/"+g.pod.Name, lists[1], o.Slices, func(e *discoveryv1.EndpointSlice) bool { return exposure.Holds(e, g.pod) })
	keep(p, errs[2], "ingresses.json", "ingresses that lead to "+ns+"/"+g.pod.Name, lists[2], o.Ingresses, func(i *networkingv1.Ingress) bool { return exposure.Leads(i, selecting) })
	keep(p, errs[3], "networkpolicies.json", "networkpolicies that select "+ns+"/"+g.pod.Name, lists[3], o.Policies, func(n *networkingv1.NetworkPolicy) bool { return exposure.Selects(n, g.pod) })
	if served {
		to := func(i int) bool { return len(o.Routes) == len(routes) && o.Routes[i].LeadsTo(selecting) }
		of := func(i int) bool {
			return len(o.Gateways) == len(gates) && slices.ContainsFunc(o.Routes, func(r exposure.Route) bool { return r.LeadsTo(selecting) && o.Gateways[i].Of(&r) })
		}
		p.objects("gateways.json", "routes that lead to "+ns+"/"+g.pod.Name+", and their gateways,", slices.Concat(named(gates, of), named(routes, to)))
	}
	w := exposure.Work(g.pod, o)
	w.Missed = shorts(missed)
	if errs[3] != nil { // what is not known is not said
		w.Ingress, w.Egress = "", ""
	}
	p.put("exposure.json", workedOut+"pod.json, services.json, endpointslices.json, ingresses.json, gateways.json and networkpolicies.json", w)
}

// keep adds those objects of a list that a pod has to do with. Where one could not be read, all are kept.
func keep[T any](p *part, err error, name, what string, raw []unstructured.Unstructured, list []T, fn func(*T) bool) {
	var cut *kubernetes.TruncatedError
	if err != nil && !errors.As(err, &cut) {
		return
	}
	p.objects(name, what, named(raw, func(i int) bool { return len(list) != len(raw) || fn(&list[i]) }))
}

// gateways are those of the Gateway API and their routes, if the cluster has it.
func (g *gatherer) gateways() (gates, routes []unstructured.Unstructured, served bool, errs []error) {
	versions, err := g.c.Versions(g.ctx, gatewayGroup)
	if err != nil {
		return nil, nil, false, []error{err}
	}
	if len(versions) == 0 {
		return nil, nil, false, nil
	}
	kinds := []string{"gateways", "httproutes", "grpcroutes", "tlsroutes", "tcproutes", "udproutes"}
	lists := make([][]unstructured.Unstructured, len(kinds))
	failed := make([][]error, len(kinds))
	together(len(kinds), func(n int) {
		// The newest in which the kind is served.
		for _, v := range []string{"v1", "v1beta1", "v1alpha3", "v1alpha2"} {
			if !slices.Contains(versions, v) {
				continue
			}
			list, err := g.wide(kind(gatewayGroup, v, kinds[n]))
			if slices.ContainsFunc(err, absent) {
				continue
			}
			lists[n], failed[n] = list, err
			return
		}
	})
	return lists[0], slices.Concat(lists[1:]...), true, slices.Concat(failed...)
}

// refers are the secrets and config maps that the pod names.
func (g *gatherer) refers(p *part) {
	r := references(g.pod)
	if r.References == nil {
		r.References = []record.Reference{}
	}
	p.put("references.json", workedOut+"pod.json", r)
}

// quota is what bounds the pod's namespace.
func (g *gatherer) quota(p *part) {
	var out []unstructured.Unstructured
	for _, gvr := range []schema.GroupVersionResource{quotas, limitRanges} {
		list, err := g.list(gvr, g.pod.Namespace)
		p.miss(gvr.Resource+" of namespace "+g.pod.Namespace, err)
		if err != nil {
			return
		}
		out = append(out, list...)
	}
	p.objects("quotas.json", "resourcequotas and limitranges of namespace "+g.pod.Namespace, out)
}

// admission is what is asked about pods like this one, and what was left on it.
func (g *gatherer) admission(p *part) {
	a := &record.Admission{Webhooks: []record.Webhook{}, Traces: admission.Traces(g.pod)}
	var lists [2][]unstructured.Unstructured
	var errs [3]error
	labels := map[string]string{}
	together(3, func(n int) {
		switch n {
		case 2:
			u, err := g.get(kubernetes.Namespaces, "", g.pod.Namespace)
			if err != nil {
				errs[2] = fmt.Errorf("the labels of the namespace, by which webhooks choose: %s", short(err))
				return
			}
			labels = u.GetLabels()
		default:
			lists[n], errs[n] = g.list([]schema.GroupVersionResource{mutatingHooks, validatingHooks}[n], "")
		}
	})
	if labels == nil {
		labels = map[string]string{}
	}
	for n, gvr := range []schema.GroupVersionResource{mutatingHooks, validatingHooks} {
		p.miss(gvr.Resource, errs[n])
	}
	for _, err := range errs {
		if err != nil {
			a.Missed = append(a.Missed, short(err))
		}
	}
	var raw []unstructured.Unstructured
	for _, c := range typed[admissionv1.MutatingWebhookConfiguration](p, "mutatingwebhookconfigurations", lists[0]) {
		a.Webhooks = append(a.Webhooks, admission.Mutating(&c, g.pod, labels)...)
	}
	for _, c := range typed[admissionv1.ValidatingWebhookConfiguration](p, "validatingwebhookconfigurations", lists[1]) {
		a.Webhooks = append(a.Webhooks, admission.Validating(&c, g.pod, labels)...)
	}
	for n, prefix := range []string{"MutatingWebhookConfiguration/", "ValidatingWebhookConfiguration/"} {
		raw = append(raw, named(lists[n], func(i int) bool {
			return slices.ContainsFunc(a.Webhooks, func(w record.Webhook) bool { return w.Configuration == prefix+lists[n][i].GetName() })
		})...)
	}
	if errs[0] == nil && errs[1] == nil {
		p.objects("webhooks.json", "mutatingwebhookconfigurations and validatingwebhookconfigurations that are asked about pods like "+g.pod.Namespace+"/"+g.pod.Name, raw)
	}
	p.put("admission.json", workedOut+"pod.json, namespace.json and webhooks.json", a)
}

// siblings are the other running containers of the same image.
func (g *gatherer) siblings(p *part) {
	s := &record.Siblings{Digest: g.i.Digest(), Siblings: []record.Sibling{}}
	if s.Digest == "" {
		p.missed = append(p.missed, "other containers of the same image: the pod's status does not name the image's digest")
		return
	}
	list, err := g.running("")
	var denied *kubernetes.DeniedError
	if err != nil {
		p.miss("pods, among which others of the same image are looked for", err)
		s.Missed = append(s.Missed, short(err))
	}
	if errors.As(err, &denied) {
		if list, err = g.running(g.pod.Namespace); err != nil {
			p.miss("pods of namespace "+g.pod.Namespace, err)
			s.Missed = append(s.Missed, short(err))
		}
	}
	for _, r := range list {
		if r.Digest != s.Digest || r.Namespace == g.pod.Namespace && r.Pod == g.pod.Name && r.Container == g.i.Container {
			continue
		}
		if len(s.Siblings) == maxSiblings {
			s.More++
			continue
		}
		id := r.ID
		if _, after, ok := strings.Cut(id, "://"); ok {
			id = after
		}
		s.Siblings = append(s.Siblings, record.Sibling{Namespace: r.Namespace, Pod: r.Pod, Container: r.Container, Node: r.Node, ID: id, Account: r.Account, Started: r.Started})
	}
	p.put("siblings.json", workedOut+"GET pods of the API server", s)
}

func (g *gatherer) running(namespace string) ([]kubernetes.Running, error) {
	g.slot <- struct{}{}
	defer func() { <-g.slot }()
	return g.c.Running(g.ctx, namespace)
}
