package exposure

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// Gateway is what is needed of a Gateway of gateway.networking.k8s.io (https://gateway-api.sigs.k8s.io/reference/spec/). The names
// of fields are the API's, in all of its versions.
type Gateway struct {
	Metadata Metadata `json:"metadata"`
	Spec     struct {
		Class     string `json:"gatewayClassName"`
		Listeners []struct {
			Name     string `json:"name"`
			Hostname string `json:"hostname"`
			Port     int32  `json:"port"`
			Protocol string `json:"protocol"`
		} `json:"listeners"`
		Addresses []Address `json:"addresses"`
	} `json:"spec"`
	Status struct {
		Addresses []Address `json:"addresses"`
	} `json:"status"`
}

// Metadata names an object.
type Metadata struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// Address is one at which a gateway listens.
type Address struct {
	Value string `json:"value"`
}

// Route is an HTTPRoute, GRPCRoute, TLSRoute, TCPRoute or UDPRoute.
type Route struct {
	Kind     string   `json:"kind"`
	Metadata Metadata `json:"metadata"`
	Spec     struct {
		ParentRefs []Parent `json:"parentRefs"`
		Hostnames  []string `json:"hostnames"`
		Rules      []struct {
			Matches []struct {
				Path struct {
					Value string `json:"value"`
				} `json:"path"`
			} `json:"matches"`
			BackendRefs []Backend `json:"backendRefs"`
		} `json:"rules"`
	} `json:"spec"`
}

// Parent is the gateway of a route, or one of its listeners.
type Parent struct {
	Group       *string `json:"group"`
	Kind        *string `json:"kind"`
	Namespace   string  `json:"namespace"`
	Name        string  `json:"name"`
	SectionName string  `json:"sectionName"`
	Port        int32   `json:"port"`
}

// Backend is where a route leads.
type Backend struct {
	Group     *string `json:"group"`
	Kind      *string `json:"kind"`
	Namespace string  `json:"namespace"`
	Name      string  `json:"name"`
	Port      int32   `json:"port"`
}

func (b *Backend) is(s *corev1.Service, of *Route) bool {
	return (b.Group == nil || *b.Group == "") && (b.Kind == nil || *b.Kind == "Service") && b.Name == s.Name && cmp.Or(b.Namespace, of.Metadata.Namespace) == s.Namespace
}

func (p *Parent) is(g *Gateway, of *Route) bool {
	return (p.Kind == nil || *p.Kind == "Gateway") && p.Name == g.Metadata.Name && cmp.Or(p.Namespace, of.Metadata.Namespace) == g.Metadata.Namespace
}

// LeadsTo reports whether the route leads to one of the services.
func (r *Route) LeadsTo(to []*corev1.Service) bool {
	for _, rule := range r.Spec.Rules {
		for i := range rule.BackendRefs {
			if slices.ContainsFunc(to, func(s *corev1.Service) bool { return rule.BackendRefs[i].is(s, r) }) {
				return true
			}
		}
	}
	return false
}

// Of reports whether the gateway is one of a route's.
func (g *Gateway) Of(r *Route) bool {
	return slices.ContainsFunc(r.Spec.ParentRefs, func(p Parent) bool { return p.is(g, r) })
}

// route gives a route's ways to a service: one for each listener of its gateways and port of the pod.
func route(pod *corev1.Pod, s *corev1.Service, r *Route, gateways []Gateway) []record.Way {
	// What it leads to, and by which paths.
	var to []record.Way
	for _, rule := range r.Spec.Rules {
		for i := range rule.BackendRefs {
			b := &rule.BackendRefs[i]
			if !b.is(s, r) {
				continue
			}
			w := record.Way{Kind: "gateway", Name: r.Metadata.Namespace + "/" + r.Metadata.Name, Type: r.Kind, Hosts: r.Spec.Hostnames, Reach: Outside, Via: "service " + s.Namespace + "/" + s.Name}
			if p := port(s, b.Port, ""); p != nil {
				w.Target = target(pod, p)
			}
			same := slices.IndexFunc(to, func(o record.Way) bool { return o.Target == w.Target })
			if same < 0 {
				to = append(to, w)
				same = len(to) - 1
			}
			for _, m := range rule.Matches {
				to[same].Paths = add(to[same].Paths, m.Path.Value)
			}
		}
	}
	if len(to) == 0 {
		return nil
	}
	var out []record.Way
	for i := range gateways {
		g := &gateways[i]
		for _, p := range r.Spec.ParentRefs {
			if !p.is(g, r) {
				continue
			}
			for _, l := range g.Spec.Listeners {
				if p.SectionName != "" && p.SectionName != l.Name || p.Port != 0 && p.Port != l.Port {
					continue
				}
				for _, w := range to {
					w.Port, w.Protocol = int(l.Port), l.Protocol
					w.Via = "gateway " + g.Metadata.Namespace + "/" + g.Metadata.Name + ", " + w.Via
					w.Addresses = listens(g)
					if len(w.Hosts) == 0 && l.Hostname != "" {
						w.Hosts = []string{l.Hostname}
					}
					out = append(out, w)
				}
			}
		}
	}
	if len(out) == 0 { // of a gateway that is not there, or of a mesh
		for i := range to {
			to[i].Reach = Inside
		}
		return to
	}
	return out
}

func listens(g *Gateway) []string {
	list := g.Status.Addresses
	if len(list) == 0 {
		list = g.Spec.Addresses
	}
	var out []string
	for _, a := range list {
		out = add(out, a.Value)
	}
	return out
}
