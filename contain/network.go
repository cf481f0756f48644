package contain

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// Allow is an exception from a network policy that denies everything: addresses, and a port or 0 for all.
type Allow struct {
	Prefix netip.Prefix
	Port   int
}

// ParseAllow reads CIDR, ADDRESS, either with :PORT; an IPv6 one with a port is in brackets.
func ParseAllow(s string) (Allow, error) {
	bad := func() (Allow, error) {
		return Allow{}, fmt.Errorf("%q is no exception: write 10.1.2.0/24, 10.1.2.3:443 or [2001:db8::/32]:443", s)
	}
	addr, port := s, ""
	switch {
	case strings.HasPrefix(s, "["):
		var ok bool
		if addr, port, ok = strings.Cut(s[1:], "]"); !ok || port != "" && !strings.HasPrefix(port, ":") {
			return bad()
		}
		port = strings.TrimPrefix(port, ":")
		if strings.HasSuffix(s, ":") {
			return bad()
		}
	case strings.Count(s, ":") == 1:
		if addr, port, _ = strings.Cut(s, ":"); port == "" {
			return bad()
		}
	}
	a := Allow{}
	var err error
	if !strings.Contains(addr, "/") {
		var ip netip.Addr
		if ip, err = netip.ParseAddr(addr); err == nil {
			a.Prefix, err = ip.Prefix(ip.BitLen())
		}
	} else {
		a.Prefix, err = netip.ParsePrefix(addr)
	}
	if err != nil || strings.Contains(addr, "%") || a.Prefix.Addr().Is4In6() {
		return bad()
	}
	a.Prefix = a.Prefix.Masked()
	if port != "" {
		if a.Port, err = strconv.Atoi(port); err != nil || a.Port < 1 || a.Port > 65535 {
			return bad()
		}
	}
	return a, nil
}

func (a Allow) String() string {
	if a.Port == 0 {
		return a.Prefix.String()
	}
	return "[" + a.Prefix.String() + "]:" + strconv.Itoa(a.Port)
}

// policy denies a pod the network, but for the exceptions. It goes with the pod: the cluster deletes it when the pod is gone.
func policy(p *corev1.Pod, id string, allow []Allow) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{
		TypeMeta: metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: policyName(id), Namespace: p.Namespace,
			Labels:          map[string]string{"app.kubernetes.io/managed-by": "sherd", Label: id},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID}},
		},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{Label: id}},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		},
	}
	for _, a := range allow {
		peer := []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: a.Prefix.String()}}}
		var ports []networkingv1.NetworkPolicyPort
		if a.Port != 0 {
			port := intstr.FromInt(a.Port)
			for _, proto := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
				ports = append(ports, networkingv1.NetworkPolicyPort{Protocol: &proto, Port: &port})
			}
		}
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: peer, Ports: ports})
		np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: peer, Ports: ports})
	}
	return np
}

// selects is one thing that selects pods by their labels.
type selects struct {
	what     string // "service web"
	selector labels.Selector
	// opens is of a network policy: it allows something. Policies add up, so that a deny-all beside it does not take that away.
	opens bool
	uid   types.UID
}

// policies are the network policies of a namespace.
func policies(ctx context.Context, c *kubernetes.Cluster, namespace string) ([]selects, error) {
	l, err := c.Resource(networkPolicies).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, explain(c, err, "list", networkPolicies, namespace)
	}
	var out []selects
	for i := range l.Items {
		np := &networkingv1.NetworkPolicy{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(l.Items[i].Object, np); err != nil {
			return nil, fmt.Errorf("networkpolicy %s can't be read: %w", l.Items[i].GetName(), err)
		}
		sel, err := metav1.LabelSelectorAsSelector(&np.Spec.PodSelector)
		if err != nil || np.Labels[Label] != "" {
			continue // ours
		}
		out = append(out, selects{what: "networkpolicy " + np.Name, selector: sel, opens: len(np.Spec.Ingress)+len(np.Spec.Egress) > 0, uid: np.UID})
	}
	return out, nil
}

// policyLimits is what no network policy cuts.
const policyLimits = "a network policy need not cut connections that are open already, which is up to the network plugin; traffic between the pod and its own node is never denied"

// enforcers are the daemon sets and node annotations of network plugins, and whether they enforce policies.
var enforcers = []struct {
	name     string
	daemon   string // a part of a daemon set's name
	node     string // how an annotation's or a label's key of a node begins
	enforces bool
}{
	{"Cilium", "cilium", "network.cilium.io/", true},
	{"Calico", "calico-node", "projectcalico.org/", true},
	{"Antrea", "antrea-agent", "node.antrea.io/", true},
	{"OVN-Kubernetes", "ovnkube-node", "k8s.ovn.org/", true},
	{"Kube-OVN", "kube-ovn-cni", "ovn.kubernetes.io/", true},
	{"kube-router", "kube-router", "kube-router.io/", true},
	{"Weave Net", "weave-net", "", true},
	{"GKE Dataplane V2", "anetd", "", true},
	{"Azure Network Policy Manager", "azure-npm", "", true},
	{"kube-network-policies", "kube-network-policies", "", true},
	{"K3s (kube-router built in)", "", "k3s.io/", true},
	{"RKE2", "", "rke2.io/", false},
	{"the AWS VPC CNI, which enforces policies only where its agent for them is turned on", "aws-node", "", false},
	{"kindnet, which enforces policies in recent versions only", "kindnet", "", false},
	{"Flannel, which enforces no policies by itself", "flannel", "flannel.alpha.coreos.com/", false},
}

// enforcement says which network plugin seems to enforce policies: by its daemon sets and what it writes on nodes.
func enforcement(ctx context.Context, c *kubernetes.Cluster, node string) string {
	var daemons, keys []string
	l, err := c.Resource(kubernetes.DaemonSets).List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		l, err = c.Resource(kubernetes.DaemonSets).Namespace("kube-system").List(ctx, metav1.ListOptions{})
	}
	seen := err == nil
	if err == nil {
		for i := range l.Items {
			daemons = append(daemons, l.Items[i].GetName())
		}
	}
	if u, err := c.Resource(kubernetes.Nodes).Get(ctx, node, metav1.GetOptions{}); err == nil {
		for _, m := range []map[string]string{u.GetAnnotations(), u.GetLabels()} {
			for k := range m {
				keys = append(keys, k)
			}
		}
	}
	return enforcer(daemons, keys, seen)
}

func enforcer(daemons, nodeKeys []string, seen bool) string {
	has := func(list []string, f func(string, string) bool, what string) bool {
		return what != "" && slices.ContainsFunc(list, func(s string) bool { return f(s, what) })
	}
	var idle string
	for _, e := range enforcers {
		if !has(daemons, strings.Contains, e.daemon) && !has(nodeKeys, strings.HasPrefix, e.node) {
			continue
		}
		if e.enforces {
			return "the network plugin seems to be " + e.name + ", which enforces network policies"
		}
		if idle == "" {
			idle = e.name
		}
	}
	switch {
	case idle != "":
		return "nothing is seen here that is known to enforce network policies (seen: " + idle + "): the policy may have no effect; try it"
	case seen:
		return "no network plugin is seen here that is known to enforce network policies: the policy may have no effect; try it"
	}
	return "whether anything here enforces network policies is unknown, since daemon sets may not be listed: the policy may have no effect; try it"
}
