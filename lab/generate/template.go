package generate

import (
	"strconv"
	"strings"
)

// part is a piece of a template: words, and then a variable (0: none).
type part struct {
	words    string
	variable byte
}

// variables are what a template may hold in braces.
var variables = map[string]byte{
	"user": 'u', "file": 'f', "request": 'r', "ip": 'a', "n": 'n', "k": 'k', "id": 'i', "ms": 'm', "domain": 'd', "service": 's',
	"amount": 'e', "port": 'p', "node": 'o', "pod": 'P', "namespace": 'N', "hex": 'x', "code": 'c',
}

func compile(lines string) [][]part {
	var out [][]part
	for _, l := range strings.Split(strings.TrimSpace(lines), "\n") {
		var t []part
		for l != "" {
			before, rest, found := strings.Cut(l, "{")
			if !found {
				t = append(t, part{before, 0})
				break
			}
			name, after, _ := strings.Cut(rest, "}")
			t = append(t, part{before, variables[name]})
			l = after
		}
		out = append(out, t)
	}
	return out
}

// fill appends a template of the list to the message; the first ones are the commonest.
func (g *generator) fill(list [][]part) {
	// The lower of two draws: twice as common at the top, none forgotten.
	t := list[min(g.intn(len(list)), g.intn(len(list)))]
	for i := range t {
		g.msg = append(g.msg, t[i].words...)
		if v := t[i].variable; v != 0 {
			g.variable(v)
		}
	}
}

func (g *generator) variable(v byte) {
	switch v {
	case 'u':
		g.text(g.user())
	case 'f':
		g.text(g.file())
	case 'r':
		g.text(g.request())
	case 'a':
		g.text(g.address())
	case 'n':
		g.num(g.intn(100))
	case 'k':
		g.num(g.intn(10_000))
	case 'i':
		g.num(100_000 + g.intn(900_000))
	case 'm':
		g.duration()
	case 'd':
		g.text(g.domain())
	case 's':
		g.text(services[g.zipf(len(services), 4)])
	case 'e':
		g.num(1 + g.intn(300)).text(".").num(10 + g.intn(90))
	case 'p':
		g.num(1024 + g.intn(64000))
	case 'o':
		g.text(g.node())
	case 'P':
		g.text(g.container().pod)
	case 'N':
		g.text(namespaces[g.zipf(len(namespaces), 3.2)])
	case 'x':
		g.hexWord(g.u64())
	case 'c':
		g.num(int(g.status()))
	}
}

func (g *generator) text(s string) *generator {
	g.msg = append(g.msg, s...)
	return g
}

func (g *generator) num(n int) *generator {
	g.msg = strconv.AppendInt(g.msg, int64(n), 10)
	return g
}

// hexWord appends eight digits.
func (g *generator) hexWord(v uint64) {
	const digits = "0123456789abcdef"
	for range 8 {
		g.msg = append(g.msg, digits[v&15])
		v >>= 4
	}
}

// duration appends a time in milliseconds: mostly short.
func (g *generator) duration() { g.num(1 + g.zipf(5000, 8.5)).text("ms") }

var appLines = compile(`
request completed: user={user} path={request} status={code} took {ms}
order {id} of {user} accepted: {n} items, total {amount} EUR, shipping to zone {n}
payment {id} authorized by provider-{n} in {ms}, amount {amount} EUR, risk score {n}
cache miss for key session:{user}:{k}, loading from {domain}
cache hit ratio {n}% over the last {n} seconds, {k} keys, {k} evictions
query took {ms}: SELECT id, state, total FROM orders WHERE customer_id = {k} ORDER BY created_at DESC LIMIT {n}
connection to {domain}:{port} established after {ms}, pool size {n}
session of {user} renewed, expires in {n} minutes, remote address {ip}
consumed message {k} from topic orders.{service}, partition {n}, lag {k}, handled in {ms}
upstream {service} answered {code} in {ms}, attempt {n} of 3
healthcheck of {domain} passed in {ms}, {n} dependencies ok
user {user} updated profile from {ip}, fields changed: {n}, version {k}
job {id} finished: {k} rows read, {k} rows written, {n} rejected, {ms}
wrote {file} ({k} bytes) in {ms}
loaded configuration from {file}, {n} keys, revision {hex}
garbage collection paused for {ms}, heap {k} MiB of {k} MiB, {n} objects promoted
retrying call of {service} at {domain} after {ms}: connection reset by peer
rate limit reached for {ip}: {k} requests in {n} seconds, blocking for {n} seconds
token of {user} rejected: signature key {hex} is unknown, issuer {domain}
failed to open {file}: permission denied (uid {n})
deadline exceeded while calling {service} at {domain}:{port} after {ms}
invalid input in field email: value of {n} characters from {ip} refused
deprecated endpoint {request} called by {user} with version {n}
worker {n} picked task {id} of queue {service}, {k} waiting
inventory of item {id} is {n}, below threshold {n}, ordering {k} more
uploaded object {hex}{hex} of {k} KiB to bucket {service}-{n} in {ms}
feature flag {service}.{n} evaluated to true for {user} by rule {n}
websocket of {user} closed with code 10{n} after {k} seconds, {k} frames
e-mail {id} queued for {user}@example.com, template {service}-{n}, locale de-DE
java.lang.IllegalStateException: pool of {service} exhausted, {n} waiting at com.example.{service}.Pool.take(Pool.java:{k})
`)

var kubeLines = compile(`
"SyncLoop (PLEG): event for pod" pod="{namespace}/{pod}" event={"ID":"{hex}-{k}","Type":"ContainerStarted"}
"Probe failed" probeType="Readiness" pod="{namespace}/{pod}" containerName="{service}" probeResult="failure" output="HTTP probe failed with statuscode: {code}"
"Observed pod startup duration" pod="{namespace}/{pod}" podStartSLOduration={n}.{k} pullDuration="{ms}"
"RemoveContainer" containerID="{hex}{hex}{hex}{hex}" pod="{namespace}/{pod}"
"MountVolume.SetUp succeeded for volume" volumeName="kube-api-access-{hex}" pod="{namespace}/{pod}"
"Error syncing pod, skipping" err="failed to \"StartContainer\" for \"{service}\" with CrashLoopBackOff: back-off {n}s restarting" pod="{namespace}/{pod}"
"Updated ContainerNamespace" node="{node}" containers={n} images={n} freed={k}
`)

var systemLines = compile(`
Started Session {k} of User {user}.
Finished Daily apt download activities, consumed {ms} CPU time on {node}.
{service}.service: Main process exited, code=exited, status={n}/FAILURE after {k} seconds
Reloading configuration of {service} from {file}, requested by {user}
dhclient: bound to {ip} -- renewal in {k} seconds on interface eth{n}
(root) CMD (test -x {file} && /usr/lib/cron/run-parts --report /etc/cron.hourly {n})
chronyd: Selected source {ip} ({domain}), offset {n}.{k} seconds
containerd: shim disconnected id={hex}{hex}{hex}{hex} namespace=k8s.io pid={k}
dockerd: handled request for {domain}: level=info msg="ignoring event" container={hex}{hex} topic=/tasks/delete
`)

var kernelLines = compile(`
[{id}.{k}] IPv4: martian source {ip} from {ip}, on dev veth{hex}
[{id}.{k}] cni0: port {n}(veth{hex}) entered forwarding state, {k} packets queued
[{id}.{k}] audit: type=1400 apparmor="DENIED" operation="open" profile="cri-containerd" name="{file}" pid={k}
[{id}.{k}] Memory cgroup out of memory: Killed process {k} ({service}) total-vm:{id}kB, anon-rss:{id}kB, file-rss:{k}kB
[{id}.{k}] TCP: request_sock_TCP: Possible SYN flooding on port {port}. Sending cookies. Check SNMP counters.
`)

var alertLines = compile(`
Notice A shell was spawned in a container with an attached terminal (user={user} container={pod} cmdline=sh -c id)
Warning Sensitive file opened for reading by non-trusted program (user={user} file={file} container={pod})
Critical Executing binary not part of base image (user={user} proc_exepath={file} container={pod} image={service})
Notice Unexpected connection to the Kubernetes API server from a container (pod={pod} connection={ip}:{port}->10.96.0.1:443)
`)

var eventLines = compile(`
Readiness probe failed: HTTP probe failed with statuscode: {code} after {ms} (pod {pod})
Back-off restarting failed container {service} in pod {pod}_{namespace}({hex})
Successfully assigned {namespace}/{pod} to {node} after {n} attempts, score {k}
Container image "registry.example.com/{service}:{n}.{n}.{k}" already present on machine {node}
Created container {service} of {pod}, started by kubelet on {node} in {ms}
Scaled up replica set {service}-{hex} to {n} from {n}, reason: cpu resource utilization above target
`)
