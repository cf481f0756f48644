// Package admission works out which webhooks are asked when a pod like this one is made, and which injectors left traces on it.
// Specification: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/.
package admission

import (
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// hook is what webhooks of both kinds have in common.
type hook struct {
	name                string
	client              admissionv1.WebhookClientConfig
	rules               []admissionv1.RuleWithOperations
	failure             *admissionv1.FailurePolicyType
	namespaces, objects *metav1.LabelSelector
	conditions          []admissionv1.MatchCondition
	mutating            bool
}

// Mutating gives the webhooks of a configuration that are asked about the pod. namespace has the labels of its namespace.
func Mutating(c *admissionv1.MutatingWebhookConfiguration, pod *corev1.Pod, namespace map[string]string) []record.Webhook {
	var out []record.Webhook
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		h := hook{name: w.Name, client: w.ClientConfig, rules: w.Rules, failure: w.FailurePolicy, namespaces: w.NamespaceSelector, objects: w.ObjectSelector, conditions: w.MatchConditions, mutating: true}
		out = h.about(out, "MutatingWebhookConfiguration/"+c.Name, pod, namespace)
	}
	return out
}

// Validating is Mutating for webhooks that only judge.
func Validating(c *admissionv1.ValidatingWebhookConfiguration, pod *corev1.Pod, namespace map[string]string) []record.Webhook {
	var out []record.Webhook
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		h := hook{name: w.Name, client: w.ClientConfig, rules: w.Rules, failure: w.FailurePolicy, namespaces: w.NamespaceSelector, objects: w.ObjectSelector, conditions: w.MatchConditions}
		out = h.about(out, "ValidatingWebhookConfiguration/"+c.Name, pod, namespace)
	}
	return out
}

func (h *hook) about(out []record.Webhook, configuration string, pod *corev1.Pod, namespace map[string]string) []record.Webhook {
	ops := h.operations()
	if len(ops) == 0 || !selects(h.namespaces, namespace) || !selects(h.objects, pod.Labels) {
		return out
	}
	w := record.Webhook{Configuration: configuration, Name: h.name, Mutating: h.mutating, Calls: calls(&h.client), Operations: ops, OnFailure: "Fail"}
	if h.failure != nil {
		w.OnFailure = string(*h.failure)
	}
	for _, c := range h.conditions {
		w.Conditions = append(w.Conditions, c.Name+": "+c.Expression)
	}
	return append(out, w)
}

// operations are those on pods that the webhook is asked about.
func (h *hook) operations() []string {
	var out []string
	for _, r := range h.rules {
		if !has(r.APIGroups, "") || !has(r.APIVersions, "v1") || r.Scope != nil && *r.Scope == admissionv1.ClusterScope {
			continue
		}
		if !slices.ContainsFunc(r.Resources, func(s string) bool {
			return s == "*" || s == "*/*" || s == "pods" || strings.HasPrefix(s, "pods/") || s == "*/ephemeralcontainers"
		}) {
			continue
		}
		for _, o := range r.Operations {
			if !slices.Contains(out, string(o)) {
				out = append(out, string(o))
			}
		}
	}
	slices.Sort(out)
	return out
}

func has(list []string, s string) bool { return slices.Contains(list, "*") || slices.Contains(list, s) }

// selects: no selector, or an empty one, is all.
func selects(s *metav1.LabelSelector, of map[string]string) bool {
	if s == nil {
		return true
	}
	l, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && l.Matches(labels.Set(of))
}

func calls(c *admissionv1.WebhookClientConfig) string {
	if c.URL != nil {
		return *c.URL
	}
	s := c.Service
	if s == nil {
		return ""
	}
	port, path := int32(443), ""
	if s.Port != nil {
		port = *s.Port
	}
	if s.Path != nil {
		path = *s.Path
	}
	return fmt.Sprintf("service %s/%s:%d%s", s.Namespace, s.Name, port, path)
}

// marks are what known injectors leave: annotations, labels and containers.
var marks = []struct{ where, key, by string }{
	{"annotation", "sidecar.istio.io/status", "Istio"},
	{"annotation", "linkerd.io/proxy-version", "Linkerd"},
	{"annotation", "kuma.io/sidecar-injected", "Kuma"},
	{"annotation", "consul.hashicorp.com/connect-inject-status", "Consul"},
	{"annotation", "vault.hashicorp.com/agent-inject-status", "Vault agent injector"},
	{"annotation", "sidecar.opentelemetry.io/injected", "OpenTelemetry operator"},
	{"annotation", "instrumentation.opentelemetry.io/injected", "OpenTelemetry operator"},
	{"annotation", "dapr.io/sidecar-injected", "Dapr"},
	{"annotation", "admission.datadoghq.com/injected", "Datadog"},
	{"annotation", "oneagent.dynatrace.com/injected", "Dynatrace"},
	{"annotation", "kubernetes.io/limit-ranger", "LimitRange"},
	{"annotation", "openshift.io/scc", "OpenShift security context constraints"},
	{"annotation", "kubernetes.io/psp", "Pod security policy"},
	{"annotation", "k8s.v1.cni.cncf.io/network-status", "Multus"},
	{"annotation", "policies.kyverno.io/last-applied-patches", "Kyverno"},
	{"label", "security.istio.io/tlsMode", "Istio"},
	{"label", "linkerd.io/control-plane-ns", "Linkerd"},
	{"label", "consul.hashicorp.com/connect-inject-status", "Consul"},
	{"container", "istio-proxy", "Istio"},
	{"container", "istio-init", "Istio"},
	{"container", "linkerd-proxy", "Linkerd"},
	{"container", "kuma-sidecar", "Kuma"},
	{"container", "consul-dataplane", "Consul"},
	{"container", "vault-agent", "Vault agent injector"},
	{"container", "vault-agent-init", "Vault agent injector"},
	{"container", "daprd", "Dapr"},
	{"container", "otc-container", "OpenTelemetry operator"},
	{"variable", "AWS_WEB_IDENTITY_TOKEN_FILE", "EKS pod identity webhook"},
	{"variable", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "EKS pod identity agent"},
	{"variable", "AZURE_FEDERATED_TOKEN_FILE", "Azure workload identity webhook"},
}

// maxValue bounds what is kept of an annotation: they may hold whole patches.
const maxValue = 512

// Traces gives what known injectors left on the pod. Whoever writes a pod can leave the same.
func Traces(pod *corev1.Pod) []record.Trace {
	out := []record.Trace{}
	containers := append(slices.Clone(pod.Spec.InitContainers), pod.Spec.Containers...)
	for _, m := range marks {
		switch m.where {
		case "annotation", "label":
			of := pod.Annotations
			if m.where == "label" {
				of = pod.Labels
			}
			if v, ok := of[m.key]; ok {
				out = append(out, record.Trace{By: m.by, From: m.where + " " + m.key, Value: clip(v)})
			}
		case "container":
			for i := range containers {
				if containers[i].Name == m.key {
					out = append(out, record.Trace{By: m.by, From: "container " + m.key, Value: clip(containers[i].Image)})
				}
			}
		case "variable":
			for i := range containers {
				for _, e := range containers[i].Env {
					if e.Name == m.key {
						out = append(out, record.Trace{By: m.by, From: "variable " + m.key + " of container " + containers[i].Name, Value: clip(e.Value)})
					}
				}
			}
		}
	}
	return out
}

func clip(s string) string {
	if len(s) <= maxValue {
		return s
	}
	return strings.ToValidUTF8(s[:maxValue], "") + "…"
}
