package generate

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
)

// world is who and what there is.
type world struct {
	evidence   string
	containers []container
	nodes      []string
	users      []string
	identities []string
	files      []string
	requests   []string
	addresses  []string
	agents     []string
	domains    []string
	hashes     []string
	offsets    map[string]*int64
	mixed      []uint8 // indexes of mix, each as often as its share

	logContainers, logUsers, logFiles, logRequests, logAddresses, logAgents, logDomains float64
}

type container struct {
	name, pod, namespace, node, id, image, log, ip string
	process                                        string
	port                                           int
}

const (
	containerCount = 200
	userCount      = 400
	fileCount      = 100_000
	requestCount   = 100_000
	addressCount   = 50_000
	agentCount     = 300
	domainCount    = 3000
	hashCount      = 2000
)

var (
	services   = strings.Fields("checkout cart payment catalog search frontend gateway auth session inventory shipping pricing recommend notify mailer ledger invoice fraud profile media thumbnail upload audit-sink scheduler worker queue-consumer reporting export import-batch webhook ratelimit geoip currency tax loyalty coupon review feed ads tracking metrics-proxy log-router cache redis postgres kafka zookeeper nats minio vault")
	namespaces = strings.Fields("shop payments search platform identity media data-eng observability ingress-nginx kube-system cert-manager vault batch staging qa partner-api crm logistics legal-archive ml-serving ml-training edge internal-tools sandbox")
	programs   = strings.Fields("java node python3 gunicorn nginx envoy server app redis-server postgres uvicorn dotnet ruby php-fpm main worker")
	segments   = strings.Fields("api v1 v2 orders users items cart checkout session login token search suggest products images static assets media thumbs reports export health ready metrics admin settings profile address invoice payment refund webhook events batch jobs status graphql callback oauth2 authorize")
	folders    = strings.Fields("usr lib share bin local opt app srv data var cache tmp home run log python3.11 site-packages node_modules dist static uploads sessions locale zoneinfo ssl certs java jre modules conf.d templates migrations vendor pkg internal")
	extensions = strings.Fields(".py .pyc .js .json .so .so.1 .yaml .conf .txt .log .png .html .css .jar .class .map .lock .tmp .db .pem .sh .mo")
	words      = strings.Fields("index main config handler client server utils model schema router cache worker session token parser writer reader buffer stream queue loader helper adapter driver plugin module bundle chunk vendor runtime common error types async pool batch report invoice order product user address payment currency rate image thumb sprite font theme locale message")
)

func newWorld(r *rng) *world {
	w := &world{evidence: r.hex(16), offsets: map[string]*int64{}}
	logOf := func(n int) float64 { return math.Log(float64(n + 1)) }
	w.logContainers, w.logUsers, w.logFiles, w.logRequests = logOf(containerCount), logOf(userCount), logOf(fileCount), logOf(requestCount)
	w.logAddresses, w.logAgents, w.logDomains = logOf(addressCount), logOf(agentCount), logOf(domainCount)
	for i := range 12 {
		w.nodes = append(w.nodes, fmt.Sprintf("node-%s-%02d", []string{"a", "b", "c"}[i%3], i))
	}
	for i := range userCount {
		if i < 8 {
			w.users = append(w.users, strings.Fields("nonroot root app www-data postgres deploy ubuntu admin")[i])
			continue
		}
		w.users = append(w.users, words[r.intn(len(words))][:2]+words[r.intn(len(words))]+fmt.Sprint(r.intn(90)))
	}
	for i := range 120 {
		ns := namespaces[i%len(namespaces)]
		w.identities = append(w.identities, "system:serviceaccount:"+ns+":"+services[r.intn(len(services))])
	}
	w.identities = append(w.identities, "system:node:"+w.nodes[0], "system:apiserver", "system:kube-scheduler", "kubernetes-admin", "system:anonymous")
	w.addresses = makeAddresses(r)
	for i := range containerCount {
		w.containers = append(w.containers, w.makeContainer(r, i))
	}
	w.files = makePaths(r, fileCount, folders, extensions, 2)
	w.requests = makePaths(r, requestCount, segments, []string{"", "", "", "", "/", ".js", ".png", ".css", ".json"}, 1)
	for i := range agentCount {
		w.agents = append(w.agents, makeAgent(r, i))
	}
	for i := range domainCount {
		zone := []string{"svc.cluster.local", "example.com", "example.org", "cdn.example.net", "storage.example.com", "internal.example"}[r.intn(6)]
		w.domains = append(w.domains, services[i%len(services)]+"-"+words[r.intn(len(words))]+fmt.Sprint(i%97)+"."+zone)
	}
	for range hashCount {
		w.hashes = append(w.hashes, r.hex(32))
	}
	for i := range mix {
		for range mix[i].share {
			w.mixed = append(w.mixed, uint8(i))
		}
	}
	return w
}

const podLetters = "bcdfghjklmnpqrstvwxz2456789"

func podSuffix(r *rng, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = podLetters[r.intn(len(podLetters))]
	}
	return string(b)
}

func (w *world) makeContainer(r *rng, i int) container {
	c := container{name: services[i%len(services)], namespace: namespaces[r.intn(len(namespaces))], node: w.nodes[r.intn(len(w.nodes))]}
	c.pod = c.name + "-" + podSuffix(r, 9) + "-" + podSuffix(r, 5)
	c.id, c.image = r.hex(32), "sha256:"+r.hex(32)
	uid := r.hex(16)
	uid = uid[:8] + "-" + uid[8:12] + "-4" + uid[13:16] + "-a" + uid[17:20] + "-" + uid[20:32]
	c.log = "logs/pods/" + c.namespace + "_" + c.pod + "_" + uid + "/" + c.name + "/0.log"
	c.ip = fmt.Sprintf("10.244.%d.%d", i%12, 2+i/12)
	c.process = programs[r.intn(len(programs))]
	c.port = []int{8080, 8443, 3000, 5000, 9090, 50051, 5432, 6379, 9092}[r.intn(9)]
	return c
}

// makeAddresses has the cluster's own first, then those of clients, with some of IPv6.
func makeAddresses(r *rng) []string {
	out := make([]string, 0, addressCount)
	for i := range 600 {
		out = append(out, fmt.Sprintf("10.244.%d.%d", i%12, 2+i/12))
	}
	for len(out) < addressCount {
		v := r.u64()
		if r.one(20) {
			out = append(out, netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, byte(v), byte(v >> 8), 0, 0, 0, 0, 0, 0, byte(v >> 16), byte(v >> 24), byte(v >> 32), byte(v >> 40)}).String())
			continue
		}
		a := netip.AddrFrom4([4]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)})
		if a.Is4() && byte(v) > 10 && byte(v) < 200 && byte(v) != 127 {
			out = append(out, a.String())
		}
	}
	return out
}

func makePaths(r *rng, n int, parts, ends []string, least int) []string {
	out := make([]string, 0, n)
	var b []byte
	for i := range n {
		b = b[:0]
		for range least + r.intn(4) {
			b = append(append(b, '/'), parts[r.zipf(len(parts), math.Log(float64(len(parts)+1)))]...)
		}
		b = append(append(b, '/'), words[r.intn(len(words))]...)
		if i > 200 {
			b = fmt.Appendf(b, "-%x", i)
		}
		out = append(out, string(append(b, ends[r.intn(len(ends))]...)))
	}
	return out
}

func makeAgent(r *rng, i int) string {
	switch r.intn(6) {
	case 0:
		return fmt.Sprintf("Mozilla/5.0 (iPhone; CPU iPhone OS %d_%d like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/%d.0 Mobile/15E148 Safari/604.1", 15+i%4, i%7, 15+i%4)
	case 1:
		return fmt.Sprintf("Go-http-client/%d.1", 1+i%2)
	case 2:
		return fmt.Sprintf("python-requests/2.%d.%d", 20+i%12, i%5)
	case 3:
		return fmt.Sprintf("kube-probe/1.%d", 27+i%7)
	case 4:
		return fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64; rv:%d.0) Gecko/20100101 Firefox/%d.0", 100+i%40, 100+i%40)
	}
	return fmt.Sprintf("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.%d.%d Safari/537.36", 100+i%45, 4000+i*7, i%200)
}

func (g *generator) container() *container {
	return &g.containers[g.zipf(containerCount, g.logContainers)]
}
func (g *generator) user() string    { return g.users[g.zipf(userCount, g.logUsers)] }
func (g *generator) file() string    { return g.files[g.zipf(fileCount, g.logFiles)] }
func (g *generator) request() string { return g.requests[g.zipf(requestCount, g.logRequests)] }
func (g *generator) address() string { return g.addresses[g.zipf(addressCount, g.logAddresses)] }
func (g *generator) agent() string   { return g.agents[g.zipf(agentCount, g.logAgents)] }
func (g *generator) domain() string  { return g.domains[g.zipf(domainCount, g.logDomains)] }
func (g *generator) node() string    { return g.nodes[g.intn(len(g.nodes))] }

// hash is of a known file, or of one that is seen once.
func (g *generator) hash() string {
	if g.one(2) {
		return g.hex(32)
	}
	return g.hashes[g.intn(hashCount)]
}

// status is of an HTTP response.
func (g *generator) status() int64 {
	switch v := g.intn(1000); {
	case v < 860:
		return 200
	case v < 890:
		return 304
	case v < 920:
		return 201
	case v < 955:
		return 404
	case v < 970:
		return 302
	case v < 980:
		return 401
	case v < 988:
		return 403
	case v < 993:
		return 500
	case v < 997:
		return 502
	}
	return 503
}
