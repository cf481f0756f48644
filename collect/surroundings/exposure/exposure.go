// Package exposure works out who reaches a pod by what the cluster is told: services, ingresses and gateways that lead to it, ports of
// its node, and the network policies that select it. Everything is taken from objects as the API server lists them; nothing is tried.
package exposure

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// How far a way reaches.
const (
	Outside = "outside" // a load balancer's, an ingress's or a gateway's address
	Nodes   = "nodes"   // any address of a node
	Inside  = "cluster"
)

// maxWays bounds what is told of one pod.
const maxWays = 512

// Objects are those among which the ways to a pod are looked for. Services, slices and policies are of its namespace; ingresses too, since
// they lead to services of their own namespace alone. Routes of gateways may be of any.
type Objects struct {
	Services  []corev1.Service
	Slices    []discoveryv1.EndpointSlice
	Ingresses []networkingv1.Ingress
	Gateways  []Gateway
	Routes    []Route
	Policies  []networkingv1.NetworkPolicy
}

// Work says who reaches the pod.
func Work(pod *corev1.Pod, o *Objects) *record.Exposure {
	e := &record.Exposure{Ways: []record.Way{}, Policies: []record.NetworkPolicy{}}
	e.Ways = append(e.Ways, onNode(pod)...)
	for _, s := range Selecting(pod, o) {
		e.Ways = append(e.Ways, service(pod, s)...)
		for i := range o.Ingresses {
			e.Ways = append(e.Ways, ingress(pod, s, &o.Ingresses[i])...)
		}
		for i := range o.Routes {
			e.Ways = append(e.Ways, route(pod, s, &o.Routes[i], o.Gateways)...)
		}
	}
	slices.SortStableFunc(e.Ways, func(a, b record.Way) int {
		return cmp.Or(cmp.Compare(far(a.Reach), far(b.Reach)), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port))
	})
	if n := len(e.Ways); n > maxWays {
		e.Ways = e.Ways[:maxWays]
		e.Notes = append(e.Notes, strconv.Itoa(n-maxWays)+" more ways to the pod are not told: "+strconv.Itoa(maxWays)+" are kept")
	}
	policies(pod, o.Policies, e)
	return e
}

func far(reach string) int { return slices.Index([]string{Outside, Nodes, Inside}, reach) }

// Selecting gives the services that lead to the pod: by their selector, or by an endpoint slice that somebody filled with it.
func Selecting(pod *corev1.Pod, o *Objects) []*corev1.Service {
	var out []*corev1.Service
	for i := range o.Services {
		s := &o.Services[i]
		if s.Namespace != pod.Namespace || s.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		selects := len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels))
		if selects || slices.ContainsFunc(o.Slices, func(e discoveryv1.EndpointSlice) bool {
			return e.Namespace == s.Namespace && e.Labels[discoveryv1.LabelServiceName] == s.Name && Holds(&e, pod)
		}) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *corev1.Service) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Holds reports whether the pod is among a slice's endpoints.
func Holds(e *discoveryv1.EndpointSlice, pod *corev1.Pod) bool {
	return slices.ContainsFunc(e.Endpoints, func(p discoveryv1.Endpoint) bool {
		if r := p.TargetRef; r != nil && r.Kind == "Pod" {
			return r.UID == pod.UID && pod.UID != "" || r.UID == "" && r.Name == pod.Name
		}
		return slices.ContainsFunc(addresses(pod), func(ip string) bool { return slices.Contains(p.Addresses, ip) })
	})
}

// addresses are the pod's own; one in its node's network has none.
func addresses(pod *corev1.Pod) []string {
	if pod.Spec.HostNetwork {
		return nil
	}
	var out []string
	for _, ip := range pod.Status.PodIPs {
		out = append(out, ip.IP)
	}
	if len(out) == 0 && pod.Status.PodIP != "" {
		out = []string{pod.Status.PodIP}
	}
	return out
}

func nodeAddresses(pod *corev1.Pod) []string {
	var out []string
	for _, ip := range pod.Status.HostIPs {
		out = append(out, ip.IP)
	}
	if len(out) == 0 && pod.Status.HostIP != "" {
		out = []string{pod.Status.HostIP}
	}
	return out
}

// containers are those that listen beside one another: ports of init containers count only if these stay.
func containers(pod *corev1.Pod) []corev1.Container {
	out := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			out = append(out, c)
		}
	}
	return out
}

// onNode gives ports of the pod's node that lead to it.
func onNode(pod *corev1.Pod) []record.Way {
	var out []record.Way
	name := pod.Namespace + "/" + pod.Name
	for _, c := range containers(pod) {
		for _, p := range c.Ports {
			w := record.Way{Name: name, Port: int(p.HostPort), Target: int(p.ContainerPort), Protocol: protocol(p.Protocol), Reach: Nodes, Addresses: nodeAddresses(pod)}
			switch {
			case pod.Spec.HostNetwork:
				w.Kind, w.Port = "host-network", int(p.ContainerPort)
			case p.HostPort == 0:
				continue
			default:
				w.Kind = "host-port"
				if ip := net.ParseIP(p.HostIP); ip != nil && !ip.IsUnspecified() {
					w.Addresses = []string{p.HostIP}
				}
			}
			out = append(out, w)
		}
	}
	if pod.Spec.HostNetwork && len(out) == 0 { // it may listen where it likes
		out = append(out, record.Way{Kind: "host-network", Name: name, Reach: Nodes, Addresses: nodeAddresses(pod)})
	}
	return out
}

func protocol(p corev1.Protocol) string { return cmp.Or(string(p), "TCP") }

// target is the pod's port that a service's leads to, 0 if it names one that the pod's specification does not have.
func target(pod *corev1.Pod, p *corev1.ServicePort) int {
	switch {
	case p.TargetPort.Type == intstr.Int && p.TargetPort.IntVal == 0:
		return int(p.Port)
	case p.TargetPort.Type == intstr.Int:
		return int(p.TargetPort.IntVal)
	}
	for _, c := range containers(pod) {
		for _, cp := range c.Ports {
			if cp.Name == p.TargetPort.StrVal && protocol(cp.Protocol) == protocol(p.Protocol) {
				return int(cp.ContainerPort)
			}
		}
	}
	return 0
}

// service gives a service's ways: its own address, ports of nodes, external addresses, and a load balancer's.
func service(pod *corev1.Pod, s *corev1.Service) []record.Way {
	var out []record.Way
	headless := s.Spec.ClusterIP == corev1.ClusterIPNone
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		w := record.Way{Kind: "service", Name: s.Namespace + "/" + s.Name, Type: cmp.Or(string(s.Spec.Type), "ClusterIP"), Port: int(p.Port), Target: target(pod, p), Protocol: protocol(p.Protocol)}
		in := w
		in.Reach, in.Addresses = Inside, s.Spec.ClusterIPs
		if len(in.Addresses) == 0 && s.Spec.ClusterIP != "" {
			in.Addresses = []string{s.Spec.ClusterIP}
		}
		if headless {
			in.Type, in.Addresses, in.Port = "Headless", addresses(pod), in.Target
		}
		out = append(out, in)
		if p.NodePort != 0 {
			n := w
			n.Reach, n.Port, n.Type = Nodes, int(p.NodePort), "NodePort"
			out = append(out, n)
		}
		if len(s.Spec.ExternalIPs) > 0 {
			x := w
			x.Reach, x.Type, x.Addresses = Outside, "ExternalIPs", s.Spec.ExternalIPs
			out = append(out, x)
		}
		if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
			l := w
			l.Reach, l.Sources = Outside, s.Spec.LoadBalancerSourceRanges
			for _, a := range s.Status.LoadBalancer.Ingress {
				l.Addresses = append(l.Addresses, cmp.Or(a.IP, a.Hostname))
			}
			out = append(out, l)
		}
	}
	return out
}

// port finds a service's by number or name; nil if it has none such.
func port(s *corev1.Service, number int32, name string) *corev1.ServicePort {
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if number != 0 && p.Port == number || number == 0 && name != "" && p.Name == name {
			return p
		}
	}
	return nil
}

// Leads reports whether an ingress leads to one of the services.
func Leads(in *networkingv1.Ingress, to []*corev1.Service) bool {
	for _, b := range backends(in) {
		if slices.ContainsFunc(to, func(s *corev1.Service) bool { return s.Namespace == in.Namespace && s.Name == b.Name }) {
			return true
		}
	}
	return false
}

// backend is one of an ingress's rules.
type backend struct {
	*networkingv1.IngressServiceBackend
	host, path string
}

func backends(in *networkingv1.Ingress) []backend {
	var out []backend
	if b := in.Spec.DefaultBackend; b != nil && b.Service != nil {
		out = append(out, backend{b.Service, "", ""})
	}
	for _, r := range in.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for _, p := range r.HTTP.Paths {
			if p.Backend.Service != nil {
				out = append(out, backend{p.Backend.Service, r.Host, cmp.Or(p.Path, "/")})
			}
		}
	}
	return out
}

// ingress gives an ingress's ways to a service, one for each port of clients and of the service.
func ingress(pod *corev1.Pod, s *corev1.Service, in *networkingv1.Ingress) []record.Way {
	if in.Namespace != s.Namespace {
		return nil
	}
	var out []record.Way
	for _, b := range backends(in) {
		if b.Name != s.Name {
			continue
		}
		w := record.Way{Kind: "ingress", Name: in.Namespace + "/" + in.Name, Port: 80, Protocol: "HTTP", Reach: Outside, Via: "service " + s.Namespace + "/" + s.Name}
		if in.Spec.IngressClassName != nil {
			w.Type = *in.Spec.IngressClassName
		}
		if encrypted(in, b.host) {
			w.Port, w.Protocol = 443, "HTTPS"
		}
		if p := port(s, b.Port.Number, b.Port.Name); p != nil {
			w.Target = target(pod, p)
		}
		for _, a := range in.Status.LoadBalancer.Ingress {
			w.Addresses = append(w.Addresses, cmp.Or(a.IP, a.Hostname))
		}
		same := slices.IndexFunc(out, func(o record.Way) bool { return o.Port == w.Port && o.Target == w.Target })
		if same < 0 {
			out = append(out, w)
			same = len(out) - 1
		}
		out[same].Hosts = add(out[same].Hosts, b.host)
		out[same].Paths = add(out[same].Paths, b.path)
	}
	return out
}

func encrypted(in *networkingv1.Ingress, host string) bool {
	return slices.ContainsFunc(in.Spec.TLS, func(t networkingv1.IngressTLS) bool {
		return len(t.Hosts) == 0 || slices.ContainsFunc(t.Hosts, func(h string) bool { return matches(h, host) })
	})
}

// matches compares a host with a pattern whose first label may be "*".
func matches(pattern, host string) bool {
	if rest, ok := strings.CutPrefix(pattern, "*."); ok {
		_, domain, _ := strings.Cut(host, ".")
		return strings.EqualFold(rest, domain)
	}
	return strings.EqualFold(pattern, host)
}

func add(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
