package exposure

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// What policies leave of a direction.
const (
	All  = "all"
	Some = "some"
	None = "none"
)

// maxWords bounds the rules of one policy that are put into words.
const maxWords = 64

// Selects reports whether the policy is about the pod.
func Selects(p *networkingv1.NetworkPolicy, pod *corev1.Pod) bool {
	s, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
	return err == nil && p.Namespace == pod.Namespace && s.Matches(labels.Set(pod.Labels))
}

// policies puts those that select the pod into words, and says what they leave together: what any of them allows.
func policies(pod *corev1.Pod, list []networkingv1.NetworkPolicy, e *record.Exposure) {
	for i := range list {
		p := &list[i]
		if !Selects(p, pod) {
			continue
		}
		n := record.NetworkPolicy{Name: p.Namespace + "/" + p.Name, Words: []string{}}
		if speaks(p, networkingv1.PolicyTypeIngress) {
			var rules []rule
			for _, r := range p.Spec.Ingress {
				rules = append(rules, rule{"from", r.From, r.Ports})
			}
			n.Ingress = judge("ingress", rules, &n.Words)
		}
		if speaks(p, networkingv1.PolicyTypeEgress) {
			var rules []rule
			for _, r := range p.Spec.Egress {
				rules = append(rules, rule{"to", r.To, r.Ports})
			}
			n.Egress = judge("egress", rules, &n.Words)
		}
		e.Policies = append(e.Policies, n)
	}
	slices.SortFunc(e.Policies, func(a, b record.NetworkPolicy) int { return cmp.Compare(a.Name, b.Name) })
	e.Ingress, e.Egress = together(e.Policies, func(n *record.NetworkPolicy) string { return n.Ingress }), together(e.Policies, func(n *record.NetworkPolicy) string { return n.Egress })
	if pod.Spec.HostNetwork {
		e.Ingress, e.Egress = All, All
		if len(e.Policies) > 0 {
			e.Notes = append(e.Notes, "the pod is in its node's network, for which most network plugins do not heed policies")
		}
	} else if len(e.Policies) > 0 {
		e.Notes = append(e.Notes, "policies hold only if the cluster's network plugin knows them, and connections that were open before a policy came may stay")
	}
}

// speaks reports whether a policy is about a direction: without types it is about ingress, and about egress if it has such rules.
func speaks(p *networkingv1.NetworkPolicy, t networkingv1.PolicyType) bool {
	if len(p.Spec.PolicyTypes) > 0 {
		return slices.Contains(p.Spec.PolicyTypes, t)
	}
	return t == networkingv1.PolicyTypeIngress || len(p.Spec.Egress) > 0
}

func together(list []record.NetworkPolicy, of func(*record.NetworkPolicy) string) string {
	out := ""
	for i := range list {
		switch s := of(&list[i]); {
		case s == All:
			return All
		case s == Some:
			out = Some
		case s == None && out == "":
			out = None
		}
	}
	return cmp.Or(out, All)
}

// rule is one of either direction.
type rule struct {
	word  string // from, to
	peers []networkingv1.NetworkPolicyPeer
	ports []networkingv1.NetworkPolicyPort
}

func judge(direction string, rules []rule, words *[]string) string {
	out := None
	if len(rules) == 0 {
		*words = append(*words, direction+": nothing")
	}
	for i, r := range rules {
		switch {
		case len(r.ports) == 0 && (len(r.peers) == 0 || slices.ContainsFunc(r.peers, everyone)):
			out = All
		case out == None:
			out = Some
		}
		if i < maxWords {
			*words = append(*words, direction+": "+r.words())
		} else if i == maxWords {
			*words = append(*words, fmt.Sprintf("%s: %d more rules", direction, len(rules)-maxWords))
		}
	}
	return out
}

// everyone reports whether a peer is every address of one family, which for a pod that has no other is everybody.
func everyone(p networkingv1.NetworkPolicyPeer) bool {
	return p.IPBlock != nil && (p.IPBlock.CIDR == "0.0.0.0/0" || p.IPBlock.CIDR == "::/0") && len(p.IPBlock.Except) == 0
}

func (r *rule) words() string {
	var peers, ports []string
	for i, p := range r.peers {
		if i == maxWords {
			peers = append(peers, fmt.Sprintf("%d more", len(r.peers)-maxWords))
			break
		}
		peers = append(peers, peer(&p))
	}
	for i, p := range r.ports {
		if i == maxWords {
			ports = append(ports, fmt.Sprintf("%d more", len(r.ports)-maxWords))
			break
		}
		w := "TCP"
		if p.Protocol != nil {
			w = string(*p.Protocol)
		}
		if p.Port != nil {
			w += " " + p.Port.String()
		}
		if p.EndPort != nil {
			w += fmt.Sprintf("-%d", *p.EndPort)
		}
		ports = append(ports, w)
	}
	s := r.word + " anywhere"
	if len(peers) > 0 {
		s = r.word + " " + strings.Join(peers, " or ")
	}
	if len(ports) > 0 {
		s += ", on " + strings.Join(ports, ", ")
	}
	return s
}

func peer(p *networkingv1.NetworkPolicyPeer) string {
	switch {
	case p.IPBlock != nil:
		s := p.IPBlock.CIDR
		if len(p.IPBlock.Except) > 0 {
			s += " without " + strings.Join(p.IPBlock.Except, ", ")
		}
		return s
	case p.NamespaceSelector == nil && p.PodSelector == nil:
		return "nobody" // which the server does not take
	}
	s := "pods"
	if p.PodSelector != nil && !blank(p.PodSelector) {
		s += " with " + metav1.FormatLabelSelector(p.PodSelector)
	}
	switch {
	case p.NamespaceSelector == nil:
		s += " of this namespace"
	case blank(p.NamespaceSelector):
		s += " of any namespace"
	default:
		s += " of namespaces with " + metav1.FormatLabelSelector(p.NamespaceSelector)
	}
	return s
}

func blank(s *metav1.LabelSelector) bool { return len(s.MatchLabels)+len(s.MatchExpressions) == 0 }
