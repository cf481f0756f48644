package exposure

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/sherd-forensics/sherd/evidence/record"
)

func read[T any](t *testing.T, s string) T {
	t.Helper()
	var out T
	if err := json.Unmarshal([]byte(s), &out); err != nil {
		t.Fatalf("%v: %s", err, s)
	}
	return out
}

const plain = `{"metadata":{"namespace":"shop","name":"cart","uid":"u1","labels":{"app":"cart","tier":"web"}},"spec":{"containers":[{"name":"app","ports":[{"name":"http","containerPort":8080},{"name":"dns","containerPort":53,"protocol":"UDP"}]}]},
 "status":{"podIP":"10.0.0.7","podIPs":[{"ip":"10.0.0.7"},{"ip":"fd00::7"}],"hostIP":"192.0.2.5"}}`

func show(ways []record.Way) []string {
	out := []string{}
	for _, w := range ways {
		s := fmt.Sprintf("%s %s %s %v:%d>%d/%s %s", w.Kind, w.Name, w.Type, w.Addresses, w.Port, w.Target, w.Protocol, w.Reach)
		if len(w.Hosts)+len(w.Paths) > 0 {
			s += fmt.Sprintf(" %v%v", w.Hosts, w.Paths)
		}
		if w.Via != "" {
			s += " via " + w.Via
		}
		if len(w.Sources) > 0 {
			s += fmt.Sprintf(" only %v", w.Sources)
		}
		out = append(out, s)
	}
	return out
}

// TestWays: a pod, the objects around it, and the ways that they make.
func TestWays(t *testing.T) {
	service := func(name, spec, status string) corev1.Service {
		return read[corev1.Service](t, `{"metadata":{"namespace":"shop","name":"`+name+`"},"spec":`+spec+`,"status":`+status+`}`)
	}
	web := service("web", `{"type":"ClusterIP","selector":{"app":"cart"},"clusterIP":"10.1.0.1","clusterIPs":["10.1.0.1"],"ports":[{"name":"main","port":80,"targetPort":"http"},{"name":"other","port":81,"targetPort":"none"}]}`, `{}`)
	for _, c := range []struct {
		name, pod string
		o         Objects
		want      []string
	}{
		{"alone", plain, Objects{}, nil},
		{"cluster", plain, Objects{Services: []corev1.Service{web}}, []string{"service shop/web ClusterIP [10.1.0.1]:80>8080/TCP cluster", "service shop/web ClusterIP [10.1.0.1]:81>0/TCP cluster"}},
		{"others", plain, Objects{Services: []corev1.Service{
			service("a", `{"selector":{"app":"other"},"ports":[{"port":80}]}`, `{}`), service("b", `{"selector":{"app":"cart","tier":"db"},"ports":[{"port":80}]}`, `{}`),
			service("c", `{"ports":[{"port":80}]}`, `{}`), service("d", `{"type":"ExternalName","externalName":"x.example","selector":{"app":"cart"},"ports":[{"port":80}]}`, `{}`),
			read[corev1.Service](t, `{"metadata":{"namespace":"other","name":"e"},"spec":{"selector":{"app":"cart"},"ports":[{"port":80}]}}`)}}, nil},
		{"headless", plain, Objects{Services: []corev1.Service{service("h", `{"selector":{"app":"cart"},"clusterIP":"None","clusterIPs":["None"],"ports":[{"port":80,"targetPort":8080}]}`, `{}`)}},
			[]string{"service shop/h Headless [10.0.0.7 fd00::7]:8080>8080/TCP cluster"}},
		{"node port", plain, Objects{Services: []corev1.Service{service("n", `{"type":"NodePort","selector":{"app":"cart"},"clusterIP":"10.1.0.2","ports":[{"port":53,"protocol":"UDP","targetPort":"dns","nodePort":30053}]}`, `{}`)}},
			[]string{"service shop/n NodePort []:30053>53/UDP nodes", "service shop/n NodePort [10.1.0.2]:53>53/UDP cluster"}},
		{"load balancer", plain, Objects{Services: []corev1.Service{service("l", `{"type":"LoadBalancer","selector":{"app":"cart"},"clusterIP":"10.1.0.3","externalIPs":["198.51.100.1"],"loadBalancerSourceRanges":["192.0.2.0/24"],"ports":[{"port":443,"targetPort":8080,"nodePort":30443}]}`,
			`{"loadBalancer":{"ingress":[{"ip":"203.0.113.1"},{"hostname":"lb.example"}]}}`)}}, []string{
			"service shop/l ExternalIPs [198.51.100.1]:443>8080/TCP outside", "service shop/l LoadBalancer [203.0.113.1 lb.example]:443>8080/TCP outside only [192.0.2.0/24]",
			"service shop/l NodePort []:30443>8080/TCP nodes", "service shop/l LoadBalancer [10.1.0.3]:443>8080/TCP cluster"}},
		{"slice", plain, Objects{Services: []corev1.Service{service("s", `{"clusterIP":"10.1.0.4","ports":[{"port":80}]}`, `{}`), service("r", `{"clusterIP":"10.1.0.5","ports":[{"port":80}]}`, `{}`)},
			Slices: []discoveryv1.EndpointSlice{read[discoveryv1.EndpointSlice](t, `{"metadata":{"namespace":"shop","name":"s-1","labels":{"kubernetes.io/service-name":"s"}},"endpoints":[{"addresses":["10.0.0.9"]},{"addresses":["10.0.0.7"]}]}`),
				read[discoveryv1.EndpointSlice](t, `{"metadata":{"namespace":"shop","name":"r-1","labels":{"kubernetes.io/service-name":"r"}},"endpoints":[{"addresses":["10.0.0.7"],"targetRef":{"kind":"Pod","name":"cart","uid":"another life"}}]}`)}},
			[]string{"service shop/s ClusterIP [10.1.0.4]:80>80/TCP cluster"}},
		{"ingress", plain, Objects{Services: []corev1.Service{web}, Ingresses: []networkingv1.Ingress{
			read[networkingv1.Ingress](t, `{"metadata":{"namespace":"shop","name":"i"},"spec":{"ingressClassName":"nginx","tls":[{"hosts":["*.shop.example"],"secretName":"t"}],"rules":[
			 {"host":"www.shop.example","http":{"paths":[{"path":"/cart","pathType":"Prefix","backend":{"service":{"name":"web","port":{"name":"main"}}}},{"path":"/x","backend":{"service":{"name":"other","port":{"number":80}}}},{"path":"/pay","backend":{"service":{"name":"web","port":{"number":80}}}}]}},
			 {"host":"plain.example","http":{"paths":[{"backend":{"service":{"name":"web","port":{"number":80}}}}]}}]},"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.2"}]}}}`),
			read[networkingv1.Ingress](t, `{"metadata":{"namespace":"shop","name":"d"},"spec":{"defaultBackend":{"service":{"name":"web","port":{"number":81}}}}}`),
			read[networkingv1.Ingress](t, `{"metadata":{"namespace":"other","name":"o"},"spec":{"defaultBackend":{"service":{"name":"web","port":{"number":80}}}}}`)}}, []string{
			"ingress shop/d  []:80>0/HTTP outside via service shop/web", "ingress shop/i nginx [203.0.113.2]:80>8080/HTTP outside [plain.example][/] via service shop/web",
			"ingress shop/i nginx [203.0.113.2]:443>8080/HTTPS outside [www.shop.example][/cart /pay] via service shop/web",
			"service shop/web ClusterIP [10.1.0.1]:80>8080/TCP cluster", "service shop/web ClusterIP [10.1.0.1]:81>0/TCP cluster"}},
		{"gateway", plain, Objects{Services: []corev1.Service{web}, Gateways: []Gateway{read[Gateway](t, `{"metadata":{"namespace":"gw","name":"g"},"spec":{"gatewayClassName":"c","listeners":[{"name":"http","port":80,"protocol":"HTTP"},{"name":"https","port":443,"protocol":"HTTPS","hostname":"*.example"}]},"status":{"addresses":[{"type":"IPAddress","value":"203.0.113.3"}]}}`)},
			Routes: []Route{
				read[Route](t, `{"kind":"HTTPRoute","metadata":{"namespace":"shop","name":"r"},"spec":{"parentRefs":[{"name":"g","namespace":"gw","sectionName":"https"}],"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/a"}}],"backendRefs":[{"name":"web","port":80}]},{"backendRefs":[{"name":"other","port":80}]}]}}`),
				read[Route](t, `{"kind":"TCPRoute","metadata":{"namespace":"other","name":"t"},"spec":{"parentRefs":[{"name":"g","namespace":"gw"}],"rules":[{"backendRefs":[{"name":"web","namespace":"shop","port":81}]}]}}`),
				read[Route](t, `{"kind":"HTTPRoute","metadata":{"namespace":"shop","name":"mesh"},"spec":{"parentRefs":[{"kind":"Service","name":"web"}],"rules":[{"backendRefs":[{"name":"web","port":80}]}]}}`)}},
			[]string{"gateway other/t TCPRoute [203.0.113.3]:80>0/HTTP outside via gateway gw/g, service shop/web", "gateway other/t TCPRoute [203.0.113.3]:443>0/HTTPS outside [*.example][] via gateway gw/g, service shop/web",
				"gateway shop/r HTTPRoute [203.0.113.3]:443>8080/HTTPS outside [*.example][/a] via gateway gw/g, service shop/web",
				"gateway shop/mesh HTTPRoute []:0>8080/ cluster via service shop/web",
				"service shop/web ClusterIP [10.1.0.1]:80>8080/TCP cluster", "service shop/web ClusterIP [10.1.0.1]:81>0/TCP cluster"}},
		{"host port", `{"metadata":{"namespace":"shop","name":"cart"},"spec":{"initContainers":[{"name":"once","ports":[{"containerPort":1,"hostPort":1}]},{"name":"side","restartPolicy":"Always","ports":[{"containerPort":9,"hostPort":9}]}],"containers":[{"name":"app","ports":[{"containerPort":8080,"hostPort":80,"hostIP":"0.0.0.0"},{"containerPort":1000}]}]},"status":{"hostIP":"192.0.2.5"}}`, Objects{},
			[]string{"host-port shop/cart  [192.0.2.5]:9>9/TCP nodes", "host-port shop/cart  [192.0.2.5]:80>8080/TCP nodes"}},
		{"host network", `{"metadata":{"namespace":"shop","name":"cart"},"spec":{"hostNetwork":true,"containers":[{"name":"app"}]},"status":{"hostIPs":[{"ip":"192.0.2.5"}]}}`, Objects{}, []string{"host-network shop/cart  [192.0.2.5]:0>0/ nodes"}},
	} {
		p := read[corev1.Pod](t, c.pod)
		e := Work(&p, &c.o)
		if got := show(e.Ways); !slices.Equal(got, c.want) && len(got)+len(c.want) > 0 {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
		if e.Ingress != All || e.Egress != All {
			t.Errorf("%s: without policies %s and %s", c.name, e.Ingress, e.Egress)
		}
	}
}

// TestPolicies: what policies leave, and how it is said.
func TestPolicies(t *testing.T) {
	policy := func(spec string) string { return `{"metadata":{"namespace":"shop","name":"p"},"spec":` + spec + `}` }
	for _, c := range []struct {
		name            string
		policies        []string
		ingress, egress string
		words           []string
	}{
		{"none", nil, All, All, nil},
		{"others", []string{policy(`{"podSelector":{"matchLabels":{"app":"db"}}}`), `{"metadata":{"namespace":"other","name":"p"},"spec":{"podSelector":{}}}`}, All, All, nil},
		{"deny all", []string{policy(`{"podSelector":{},"policyTypes":["Ingress","Egress"]}`)}, None, None, []string{"ingress: nothing", "egress: nothing"}},
		{"types are told by the rules", []string{policy(`{"podSelector":{},"egress":[{}]}`)}, None, All, []string{"ingress: nothing", "egress: to anywhere"}},
		{"egress alone", []string{policy(`{"podSelector":{},"policyTypes":["Egress"],"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.9.0.0/16"]}}],"ports":[{"port":443},{"protocol":"UDP","port":53},{"port":8000,"endPort":8100}]}]}`)},
			All, Some, []string{"egress: to 10.0.0.0/8 without 10.9.0.0/16, on TCP 443, UDP 53, TCP 8000-8100"}},
		{"pods", []string{policy(`{"podSelector":{"matchExpressions":[{"key":"tier","operator":"In","values":["web","api"]}]},"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"web"}}},{"namespaceSelector":{"matchLabels":{"team":"a"}}},{"namespaceSelector":{},"podSelector":{}}],"ports":[{"port":"http"}]}]}`)},
			Some, All, []string{"ingress: from pods with app=web of this namespace or pods of namespaces with team=a or pods of any namespace, on TCP http"}},
		{"everyone", []string{policy(`{"podSelector":{},"ingress":[{"from":[{"ipBlock":{"cidr":"0.0.0.0/0"}}]}]}`)}, All, All, []string{"ingress: from 0.0.0.0/0"}},
		{"everyone on a port", []string{policy(`{"podSelector":{},"ingress":[{"ports":[{"port":80}]}]}`)}, Some, All, []string{"ingress: from anywhere, on TCP 80"}},
		{"the widest counts", []string{policy(`{"podSelector":{}}`), policy(`{"podSelector":{"matchLabels":{"app":"cart"}},"ingress":[{}]}`)}, All, All, []string{"ingress: nothing", "ingress: from anywhere"}},
	} {
		p := read[corev1.Pod](t, plain)
		var o Objects
		for _, s := range c.policies {
			o.Policies = append(o.Policies, read[networkingv1.NetworkPolicy](t, s))
		}
		e := Work(&p, &o)
		var words []string
		for _, n := range e.Policies {
			words = append(words, n.Words...)
		}
		if e.Ingress != c.ingress || e.Egress != c.egress || !slices.Equal(words, c.words) {
			t.Errorf("%s: %s, %s, %q", c.name, e.Ingress, e.Egress, words)
		}
		p.Spec.HostNetwork = true
		if e := Work(&p, &o); e.Ingress != All || e.Egress != All {
			t.Errorf("%s: in the node's network %s and %s", c.name, e.Ingress, e.Egress)
		}
	}
}

// TestBounds: a cluster full of services does not fill a document.
func TestBounds(t *testing.T) {
	p := read[corev1.Pod](t, plain)
	var o Objects
	for i := range maxWays + 10 {
		o.Services = append(o.Services, read[corev1.Service](t, fmt.Sprintf(`{"metadata":{"namespace":"shop","name":"s%d"},"spec":{"selector":{"app":"cart"},"clusterIP":"10.1.0.1","ports":[{"port":80}]}}`, i)))
	}
	if e := Work(&p, &o); len(e.Ways) != maxWays || len(e.Notes) != 1 {
		t.Errorf("%d ways, %q", len(e.Ways), e.Notes)
	}
}
