package permission

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// danger is something that whoever takes an identity over can do with a right. The technique is MITRE ATT&CK's.
type danger struct {
	kind, technique string
	weight          int // the worst first
	verbs           []string
	group           string
	resources       []string // with their subresources
	do, things      string   // "read", "secrets"
	why             string   // what it leads to
	// cluster is for resources that belong to no namespace, in which a binding of a namespace grants nothing.
	cluster bool
	// only is the namespace in which it is one.
	only string
}

var (
	write  = []string{"create", "update", "patch"}
	alter  = []string{"update", "patch"}
	remove = []string{"delete", "deletecollection"}
)

// table is what counts as a danger. A right that most accounts have for honest work (reading pods, config maps) does not.
var table = []danger{
	{kind: "escalate", technique: "T1098.006", weight: 95, verbs: []string{"escalate"}, group: "rbac.authorization.k8s.io", resources: []string{"clusterroles"}, do: "put any right into", things: "cluster roles", cluster: true},
	{kind: "escalate", technique: "T1098.006", weight: 95, verbs: []string{"bind"}, group: "rbac.authorization.k8s.io", resources: []string{"clusterroles"}, do: "grant the rights of", things: "cluster roles"},
	{kind: "escalate", technique: "T1098.006", weight: 80, verbs: []string{"escalate", "bind"}, group: "rbac.authorization.k8s.io", resources: []string{"roles"}, do: "put any right into, or grant,", things: "roles"},
	{kind: "impersonate", technique: "T1078", weight: 94, verbs: []string{"impersonate"}, resources: []string{"users", "groups"}, do: "act as", things: "users or groups", cluster: true},
	{kind: "impersonate", technique: "T1078", weight: 90, verbs: []string{"impersonate"}, resources: []string{"serviceaccounts"}, do: "act as", things: "service accounts"},
	{kind: "secrets", technique: "T1552.007", weight: 88, verbs: []string{"get", "list", "watch"}, resources: []string{"secrets"}, do: "read", things: "secrets"},
	{kind: "tokens", technique: "T1528", weight: 86, verbs: []string{"create"}, resources: []string{"serviceaccounts/token"}, do: "get tokens of", things: "service accounts"},
	{kind: "exec", technique: "T1609", weight: 85, verbs: []string{"create", "get"}, resources: []string{"pods/exec", "pods/attach"}, do: "run commands in", things: "pods"},
	{kind: "exec", technique: "T1609", weight: 84, verbs: alter, resources: []string{"pods/ephemeralcontainers"}, do: "put debug containers into", things: "pods"},
	{kind: "run-pods", technique: "T1610", weight: 82, verbs: []string{"create"}, resources: []string{"pods"}, do: "start", things: "pods", why: "as any service account there, and on the node's files where admission lets them"},
	{kind: "run-pods", technique: "T1610", weight: 76, verbs: alter, resources: []string{"pods"}, do: "change the images of", things: "pods"},
	{kind: "run-pods", technique: "T1610", weight: 81, verbs: write, group: "apps", resources: []string{"deployments", "daemonsets", "statefulsets", "replicasets"}, do: "start or change", things: "workloads", why: "as any service account there, and on the node's files where admission lets them"},
	{kind: "run-pods", technique: "T1610", weight: 81, verbs: write, resources: []string{"replicationcontrollers"}, do: "start or change", things: "replication controllers", why: "as any service account there, and on the node's files where admission lets them"},
	{kind: "run-pods", technique: "T1053.007", weight: 81, verbs: write, group: "batch", resources: []string{"jobs", "cronjobs"}, do: "start or change", things: "jobs", why: "as any service account there, and on the node's files where admission lets them"},
	{kind: "nodes", technique: "T1609", weight: 92, verbs: []string{"get", "create"}, resources: []string{"nodes/proxy"}, do: "speak with the kubelets of", things: "nodes", why: "which run commands in their pods", cluster: true},
	{kind: "nodes", technique: "T1578", weight: 60, verbs: alter, resources: []string{"nodes"}, do: "change", things: "nodes", why: "which draws pods to one or drives them away", cluster: true},
	{kind: "webhooks", technique: "T1546", weight: 87, verbs: write, group: "admissionregistration.k8s.io", resources: []string{"mutatingwebhookconfigurations"}, do: "change what is created in the cluster, by", things: "mutating webhooks", cluster: true},
	{kind: "webhooks", technique: "T1557", weight: 70, verbs: write, group: "admissionregistration.k8s.io", resources: []string{"validatingwebhookconfigurations"}, do: "see or refuse what is created in the cluster, by", things: "validating webhooks", cluster: true},
	{kind: "webhooks", technique: "T1557", weight: 70, verbs: write, group: "apiregistration.k8s.io", resources: []string{"apiservices"}, do: "answer for the API server, by", things: "API services", cluster: true},
	{kind: "certificates", technique: "T1649", weight: 89, verbs: alter, group: "certificates.k8s.io", resources: []string{"certificatesigningrequests/approval", "certificatesigningrequests/status"}, do: "approve or sign", things: "requests for certificates", why: "which make any user or node", cluster: true},
	{kind: "certificates", technique: "T1649", weight: 75, verbs: []string{"approve", "sign"}, group: "certificates.k8s.io", resources: []string{"signers"}, do: "have certificates made by", things: "signers", cluster: true},
	{kind: "node-files", technique: "T1611", weight: 83, verbs: write, resources: []string{"persistentvolumes"}, do: "make", things: "persistent volumes", why: "of the files of nodes", cluster: true},
	{kind: "system-config", technique: "T1098", weight: 74, verbs: write, resources: []string{"configmaps"}, do: "change", things: "config maps", why: "by which the cluster's own parts are set up", only: "kube-system"},
	{kind: "roles", technique: "T1098.006", weight: 58, verbs: write, group: "rbac.authorization.k8s.io", resources: []string{"rolebindings", "clusterrolebindings"}, do: "hand on its own rights by", things: "bindings"},
	{kind: "roles", technique: "T1098.006", weight: 57, verbs: write, group: "rbac.authorization.k8s.io", resources: []string{"roles", "clusterroles"}, do: "put its own rights into", things: "roles"},
	{kind: "forward", technique: "T1572", weight: 55, verbs: []string{"create", "get"}, resources: []string{"pods/portforward", "pods/proxy", "services/proxy"}, do: "reach the ports of", things: "pods through the API server"},
	{kind: "defences", technique: "T1562.001", weight: 66, verbs: alter, resources: []string{"namespaces"}, do: "lift Pod Security, by the labels of", things: "namespaces"},
	{kind: "defences", technique: "T1562.001", weight: 65, verbs: append(slices.Clone(alter), remove...), group: "admissionregistration.k8s.io", resources: []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings", "validatingwebhookconfigurations"}, do: "switch off checks of admission, by", things: "policies and webhooks", cluster: true},
	{kind: "defences", technique: "T1562.004", weight: 62, verbs: append(slices.Clone(write), remove...), group: "networking.k8s.io", resources: []string{"networkpolicies"}, do: "change or delete", things: "network policies"},
	{kind: "traffic", technique: "T1557", weight: 56, verbs: write, resources: []string{"services", "endpoints"}, do: "draw traffic to itself by", things: "services"},
	{kind: "traffic", technique: "T1557", weight: 56, verbs: write, group: "discovery.k8s.io", resources: []string{"endpointslices"}, do: "draw traffic to itself by", things: "endpoint slices"},
	{kind: "traffic", technique: "T1557", weight: 54, verbs: write, group: "networking.k8s.io", resources: []string{"ingresses"}, do: "draw traffic to itself by", things: "ingresses"},
	{kind: "destroy", technique: "T1485", weight: 72, verbs: remove, resources: []string{"namespaces", "persistentvolumes", "persistentvolumeclaims", "secrets", "configmaps"}, do: "delete", things: "data (namespaces, volumes, secrets, config maps)"},
	{kind: "destroy", technique: "T1489", weight: 68, verbs: remove, resources: []string{"pods", "nodes", "services", "replicationcontrollers"}, do: "delete", things: "what runs (pods, nodes, services)"},
	{kind: "destroy", technique: "T1489", weight: 68, verbs: remove, group: "apps", resources: []string{"deployments", "daemonsets", "statefulsets", "replicasets"}, do: "delete", things: "workloads"},
	{kind: "destroy", technique: "T1489", weight: 50, verbs: alter, group: "apps", resources: []string{"deployments/scale", "statefulsets/scale", "replicasets/scale"}, do: "scale", things: "workloads to nothing"},
	{kind: "destroy", technique: "T1489", weight: 50, verbs: []string{"create"}, resources: []string{"pods/eviction"}, do: "evict", things: "pods"},
	{kind: "cover", technique: "T1070", weight: 48, verbs: remove, resources: []string{"events"}, do: "delete", things: "events", why: "which say what happened"},
}

// weighed is a danger as it is told, with its place among others.
type weighed struct {
	record.Danger
	weight int
}

// hit is a danger with what grants it in one namespace.
type hit struct {
	verbs, names []string
	rules        []int
}

// dangers finds those of the table that rules grant.
func dangers(rules []record.Permission) []record.Danger {
	var out []weighed
	namespaces := []string{""}
	for _, r := range rules {
		if !slices.Contains(namespaces, r.Namespace) {
			namespaces = append(namespaces, r.Namespace)
		}
	}
	slices.Sort(namespaces)
	// Who may do all need not be told each thing that is in it.
	all := map[string]bool{}
	for _, ns := range namespaces {
		var by []int
		for i := range rules {
			if r := &rules[i]; r.Namespace == ns && slices.Contains(r.Verbs, "*") && slices.Contains(r.APIGroups, "*") && slices.Contains(r.Resources, "*") && len(r.ResourceNames) == 0 {
				by = append(by, i)
			}
		}
		if len(by) > 0 && !all[""] {
			all[ns] = true
			out = append(out, weighed{record.Danger{What: "do everything " + where(ns), Kind: "everything", Technique: "T1078", Namespace: ns, Rules: by}, 100})
		}
	}
	for i := range table {
		d := &table[i]
		whole, _ := d.find(rules, "")
		for _, ns := range namespaces {
			if all[""] || all[ns] || d.cluster && ns != "" || d.only != "" && ns != "" && ns != d.only {
				continue
			}
			unnamed, named := d.find(rules, ns)
			if ns != "" {
				unnamed, named = unnamed.beyond(whole.verbs), named.beyond(whole.verbs)
			}
			named = named.beyond(unnamed.verbs)
			place := ns
			if d.only != "" {
				place = d.only
			}
			for _, h := range []hit{unnamed, named} {
				if len(h.rules) > 0 {
					out = append(out, weighed{record.Danger{What: d.words(h, place), Kind: d.kind, Technique: d.technique, Namespace: place, Rules: h.rules}, d.weight})
				}
			}
		}
	}
	if by := addresses(rules); len(by) > 0 && !all[""] {
		out = append(out, weighed{record.Danger{What: "ask the API server for every address beside its resources (metrics, logs, profiles)", Kind: "addresses", Technique: "T1613", Rules: by}, 40})
	}
	slices.SortStableFunc(out, func(a, b weighed) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.What, b.What))
	})
	var dangers []record.Danger
	for _, w := range out {
		dangers = append(dangers, w.Danger)
	}
	return dangers
}

// addresses are the rules that open all those of the API server that are no resource.
func addresses(rules []record.Permission) (by []int) {
	for i, r := range rules {
		if slices.Contains(r.URLs, "*") || slices.Contains(r.URLs, "/*") {
			by = append(by, i)
		}
	}
	return by
}

// find gives what of the danger rules grant in a namespace: for all objects, and for some by their names.
func (d *danger) find(rules []record.Permission, namespace string) (unnamed, named hit) {
	for i := range rules {
		r := &rules[i]
		if r.Namespace != namespace || !has(r.APIGroups, d.group) {
			continue
		}
		h := &unnamed
		if len(r.ResourceNames) > 0 {
			h = &named
		}
		granted := false
		for _, resource := range d.resources {
			name, sub, _ := strings.Cut(resource, "/")
			if !covers(r.Resources, name, sub) {
				continue
			}
			for _, v := range d.verbs {
				// What is created has no name yet, and a collection none at all: a rule for names does not let that through.
				if !has(r.Verbs, v) || h == &named && (v == "create" && sub == "" || v == "deletecollection") {
					continue
				}
				granted = true
				h.verbs = add(h.verbs, v)
			}
		}
		if granted {
			h.rules = append(h.rules, i)
			for _, n := range r.ResourceNames {
				h.names = add(h.names, n)
			}
		}
	}
	return unnamed, named
}

func add(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// beyond is the hit unless verbs hold all of its own.
func (h hit) beyond(verbs []string) hit {
	if len(h.verbs) > 0 && !slices.ContainsFunc(h.verbs, func(v string) bool { return !slices.Contains(verbs, v) }) {
		return hit{}
	}
	return h
}

// maxNames bounds the names in one sentence.
const maxNames = 8

func (d *danger) words(h hit, namespace string) string {
	s := d.do + " "
	switch {
	case len(h.names) > maxNames:
		s += fmt.Sprintf("the %s %s and %d more ", d.things, strings.Join(h.names[:maxNames], ", "), len(h.names)-maxNames)
	case len(h.names) > 0:
		s += "the " + d.things + " " + strings.Join(h.names, ", ") + " "
	default:
		s += d.things + " "
	}
	s += where(namespace) + " (" + strings.Join(h.verbs, ", ") + ")"
	if d.why != "" {
		s += ": " + d.why
	}
	return s
}

func where(namespace string) string {
	if namespace == "" {
		return "in the whole cluster"
	}
	return "in namespace " + namespace
}
