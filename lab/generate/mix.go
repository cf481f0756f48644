package generate

import (
	"strconv"

	"github.com/sherd-forensics/sherd/event"
)

// source makes one sort of record. share is of all, in thousandths.
type source struct {
	share int
	make  func(*generator)
}

var mix = [...]source{
	{360, (*generator).application},
	{240, (*generator).httpRequest},
	{60, (*generator).connection},
	{50, (*generator).flow},
	{80, (*generator).k8sAudit},
	{50, (*generator).dns},
	{40, (*generator).fileTime},
	{50, (*generator).processRun},
	{30, (*generator).systemCall},
	{15, (*generator).system},
	{6, (*generator).kernel},
	{8, (*generator).login},
	{6, (*generator).cloud},
	{2, (*generator).service},
	{1, (*generator).containerLife},
	{1, (*generator).alert},
	{1, (*generator).k8sEvent},
}

// on fills what a container's own log says.
func (g *generator) on(c *container) {
	g.ev.Container, g.ev.ContainerID, g.ev.ImageDigest = c.name, c.id, c.image
	g.ev.Pod, g.ev.Namespace, g.ev.Node = c.pod, c.namespace, c.node
}

// observed is on for a sensor of the node.
func (g *generator) observed(c *container, sensor string) {
	g.on(c)
	g.ev.ImageDigest = ""
	g.ev.TimeKind = event.Observed
	g.ev.Parser, g.ev.Artifact = sensor, "host/logs/"+sensor+"/"+c.node+".json"
}

// hostLog fills what a log of a node says.
func (g *generator) hostLog(parser, file string) {
	g.ev.Node = g.node()
	g.ev.Parser, g.ev.Artifact = parser, "host/logs/"+g.ev.Node+"/"+file
}

// trace adds a random id to one line in ten.
func (g *generator) trace() {
	if g.one(10) {
		g.attr.String("trace_id", g.hex(16))
	}
}

func (g *generator) pid() int { return 1000 + g.zipf(60_000, 11) }

var (
	levels  = [...]string{"info", "info", "info", "info", "info", "info", "debug", "debug", "warn", "error"}
	callers = [...]string{"http.server", "db.pool", "cache", "worker", "auth.session", "payment.client", "queue.consumer", "scheduler"}
	methods = [...]string{"GET", "GET", "GET", "GET", "GET", "GET", "POST", "POST", "PUT", "DELETE"}
)

func (g *generator) application() {
	c := g.container()
	g.on(c)
	g.ev.Kind, g.ev.Parser, g.ev.Artifact = event.LogLine, "cri", c.log
	g.fill(appLines)
	g.attr.String("stream", [2]string{"stdout", "stderr"}[g.intn(5)/4])
	g.attr.String("level", levels[g.intn(len(levels))])
	g.attr.String("logger", callers[g.intn(len(callers))])
	g.trace()
}

func (g *generator) httpRequest() {
	c := g.container()
	g.on(c)
	g.ev.Kind, g.ev.Parser, g.ev.Artifact = event.HTTPRequest, "cri", c.log
	g.ev.SrcIP = g.address()
	g.ev.Size = int64(g.zipf(200_000, 12.2))
	method, path, status := methods[g.intn(len(methods))], g.request(), g.status()
	g.text(method).text(" ").text(path)
	if g.one(4) {
		g.text("?page=").num(g.intn(50)).text("&q=").text(words[g.intn(len(words))])
	}
	g.text(" HTTP/1.1 answered ").num(int(status)).text(" with ").num(int(g.ev.Size)).text(" bytes in ")
	g.duration()
	g.attr.String("http_method", method)
	g.attr.Int("http_status", status)
	g.attr.String("http_path", path)
	g.attr.String("http_user_agent", g.agent())
	g.trace()
}

// connection is a socket as a sensor on the node saw it.
func (g *generator) connection() {
	c := g.container()
	g.observed(c, "tetragon")
	g.ev.Process, g.ev.PID, g.ev.Protocol = c.process, g.pid(), "tcp"
	if g.one(2) {
		g.ev.Kind = event.NetConnected
		g.ev.SrcIP, g.ev.SrcPort = c.ip, 32768+g.intn(28000)
		g.ev.DstIP, g.ev.DstPort = g.address(), [...]int{443, 443, 443, 80, 5432, 6379, 9092, 8080}[g.intn(8)]
	} else {
		g.ev.Kind = event.NetAccepted
		g.ev.SrcIP, g.ev.SrcPort = g.address(), 1024+g.intn(64000)
		g.ev.DstIP, g.ev.DstPort = c.ip, c.port
	}
	g.text(c.process).text(" (").num(g.ev.PID).text(") in ").text(c.pod).text(": tcp ").text(g.ev.SrcIP).text(":").num(g.ev.SrcPort).
		text(" -> ").text(g.ev.DstIP).text(":").num(g.ev.DstPort)
}

// flow is a record of the cloud's network.
func (g *generator) flow() {
	g.ev.Kind, g.ev.Parser, g.ev.Artifact = event.NetFlow, "vpcflow", "added/flow/vpc.log"
	g.ev.SrcIP, g.ev.SrcPort = g.address(), 1024+g.intn(64000)
	g.ev.DstIP, g.ev.DstPort, g.ev.Protocol = g.address(), [...]int{443, 443, 80, 22, 53, 8443}[g.intn(6)], "tcp"
	packets := 1 + g.zipf(3000, 8)
	g.ev.Size = int64(packets * (40 + g.intn(1400)))
	g.text("ACCEPT tcp ").text(g.ev.SrcIP).text(":").num(g.ev.SrcPort).text(" -> ").text(g.ev.DstIP).text(":").num(g.ev.DstPort).
		text(", ").num(packets).text(" packets, ").num(int(g.ev.Size)).text(" bytes")
	g.attr.Int("packets", int64(packets))
	g.attr.String("interface", "eni-0a1b2c3d4e5f60"+strconv.Itoa(10+g.intn(24)))
}

func (g *generator) dns() {
	c := g.container()
	g.observed(c, "tracee")
	g.ev.Kind, g.ev.Process, g.ev.PID = event.DNSQuery, c.process, g.pid()
	g.ev.SrcIP, g.ev.DstIP, g.ev.DstPort, g.ev.Protocol = c.ip, "10.96.0.10", 53, "udp"
	name := g.domain()
	g.text(c.process).text(" in ").text(c.pod).text(" asked for ").text(name).text(" (A), answered in ")
	g.duration()
	g.attr.String("dns_name", name)
	g.attr.String("dns_type", "A")
}

var (
	verbs     = [...]string{"get", "get", "get", "list", "list", "watch", "watch", "update", "patch", "create", "delete"}
	resources = [...]string{"pods", "pods", "leases", "leases", "configmaps", "secrets", "endpoints", "events", "nodes", "deployments", "serviceaccounts/token"}
)

func (g *generator) k8sAudit() {
	c := g.container()
	g.ev.Kind, g.ev.Parser, g.ev.Artifact = event.K8sAudit, "k8saudit", "host/logs/kube-apiserver/audit.log"
	g.ev.Identity, g.ev.SrcIP = g.identities[g.zipf(len(g.identities), 4.8)], g.address()
	g.ev.Namespace = c.namespace
	verb, resource := verbs[g.intn(len(verbs))], resources[g.intn(len(resources))]
	code := g.status()
	g.text(g.ev.Identity).text(" ").text(verb).text(" ").text(resource).text(" ").text(c.namespace).text("/").text(c.name).text(": ").num(int(code))
	g.attr.String("verb", verb)
	g.attr.String("resource", resource)
	g.attr.String("name", c.name)
	g.attr.Int("response_code", code)
	g.attr.String("audit_id", g.hex(16))
	g.attr.String("user_agent", "kubelet/v1.34.4 (linux/amd64) kubernetes/"+strconv.Itoa(g.intn(9)))
}

var fileKinds = [...]struct {
	kind event.Kind
	time event.TimeKind
	verb string
}{
	{event.FileModified, event.Modified, " was modified, "}, {event.FileChanged, event.Changed, ": its metadata changed, "}, {event.FileAccessed, event.Accessed, " was read, "},
	{event.FileCreated, event.Created, " was created, "}, {event.FileOpened, event.Observed, " was opened for writing, "}, {event.FileDeleted, event.Observed, " was deleted, "},
}

func (g *generator) fileTime() {
	c := g.container()
	g.on(c)
	k := &fileKinds[g.intn(len(fileKinds))]
	g.ev.Kind, g.ev.TimeKind, g.ev.Parser, g.ev.Artifact = k.kind, k.time, "inventory", "filesystem/inventory.jsonl"
	g.ev.Path, g.ev.Size = g.somePath(), int64(g.zipf(5_000_000, 15.4))
	if g.one(8) {
		g.ev.SHA256 = g.hash()
	}
	g.text(g.ev.Path).text(k.verb).num(int(g.ev.Size)).text(" bytes, mode 0644, owner 65532:65532")
	g.attr.String("layer", "upper")
	g.attr.Int("inode", int64(g.intn(2_000_000)))
}

// somePath is a path, sometimes of a temporary file with a name of chance.
func (g *generator) somePath() string {
	if g.one(15) {
		return "/tmp/." + g.hex(8)
	}
	return g.file()
}

func (g *generator) processRun() {
	c := g.container()
	g.observed(c, "tetragon")
	g.ev.PID, g.ev.PPID, g.ev.Process, g.ev.User = g.pid(), g.pid(), c.process, g.user()
	if g.one(3) {
		g.ev.Kind, g.ev.TimeKind = event.ProcessExited, event.Exited
		g.text(c.process).text(" (").num(g.ev.PID).text(") in ").text(c.pod).text(" ended with status ").num(g.intn(3)).text(" after ")
		g.duration()
		return
	}
	g.ev.Kind, g.ev.TimeKind = event.ProcessStarted, event.Started
	g.ev.Path = g.file()
	g.ev.Cmdline = c.process + " " + g.file() + " --config " + g.file() + " --port " + strconv.Itoa(c.port)
	if g.one(7) {
		g.ev.SHA256 = g.hash()
	}
	g.text(c.process).text(" (").num(g.ev.PID).text(") started in ").text(c.pod).text(" by ").text(g.ev.User).text(", parent ").num(g.ev.PPID)
}

var syscalls = [...]string{"execve", "openat", "connect", "unlinkat", "setuid", "ptrace", "mount", "chmod"}

func (g *generator) systemCall() {
	g.hostLog("auditd", "audit/audit.log")
	call := syscalls[g.zipf(len(syscalls), 2.2)]
	g.ev.Kind, g.ev.PID, g.ev.PPID, g.ev.User, g.ev.Process = event.Syscall, g.pid(), g.pid(), g.user(), programs[g.intn(len(programs))]
	g.ev.Path = g.file()
	exit := []int64{0, 0, 0, -13, -2}[g.intn(5)]
	g.text(call).text(" by ").text(g.ev.Process).text(" (").num(g.ev.PID).text(") of ").text(g.ev.User).text(" on ").text(g.ev.Path).text(" = ").num(int(exit))
	g.attr.Int("serial", g.ev.Time/1e9%10_000_000)
	g.attr.String("syscall", call)
	g.attr.Int("exit", exit)
	g.attr.String("key", [...]string{"exec", "files", "net", "priv"}[g.intn(4)])
}

func (g *generator) system() {
	g.hostLog("syslog", "syslog")
	g.ev.Kind = event.LogLine
	if g.one(2) {
		g.ev.Parser, g.ev.Artifact, g.ev.Process = "kubelet", "host/logs/"+g.ev.Node+"/kubelet.log", "kubelet"
		g.fill(kubeLines)
		return
	}
	g.ev.Process, g.ev.PID = "systemd", 1
	g.fill(systemLines)
	g.attr.String("facility", "daemon")
}

func (g *generator) kernel() {
	g.hostLog("kern", "kern.log")
	g.ev.Kind = event.KernelLine
	g.fill(kernelLines)
}

func (g *generator) login() {
	g.hostLog("authlog", "auth.log")
	g.ev.Process, g.ev.PID, g.ev.User, g.ev.SrcIP, g.ev.SrcPort = "sshd", g.pid(), g.user(), g.address(), 1024+g.intn(64000)
	switch g.intn(8) {
	case 0:
		g.ev.Kind = event.Login
		g.text("Accepted publickey for ")
	case 1:
		g.ev.Kind, g.ev.Process, g.ev.SrcIP, g.ev.SrcPort = event.Sudo, "sudo", "", 0
		g.ev.Cmdline = g.file() + " restart"
		g.text(g.ev.User).text(" : TTY=pts/").num(g.intn(4)).text(" ; PWD=/home/").text(g.ev.User).text(" ; USER=root ; COMMAND=").text(g.ev.Cmdline)
		return
	default:
		g.ev.Kind = event.LoginFailed
		g.text("Failed password for ")
		if g.one(2) {
			g.text("invalid user ")
		}
	}
	g.text(g.ev.User).text(" from ").text(g.ev.SrcIP).text(" port ").num(g.ev.SrcPort).text(" ssh2")
}

var calls = [...]string{"AssumeRole", "DescribeInstances", "GetObject", "PutObject", "ListBuckets", "GetSecretValue", "Decrypt", "CreateAccessKey"}

func (g *generator) cloud() {
	g.ev.Kind, g.ev.Parser, g.ev.Artifact = event.CloudAPI, "cloudtrail", "added/cloudtrail/trail.json"
	call := calls[g.zipf(len(calls), 2.2)]
	g.ev.Identity, g.ev.SrcIP = "arn:aws:sts::111122223333:assumed-role/"+services[g.intn(len(services))]+"/i-0a1b2c3d", g.address()
	g.text(g.ev.Identity).text(" called ").text(call).text(" from ").text(g.ev.SrcIP)
	g.attr.String("event_name", call)
	g.attr.String("region", [...]string{"eu-central-1", "eu-west-1", "us-east-1"}[g.intn(3)])
	g.attr.String("event_id", g.hex(16))
	g.attr.String("account", "111122223333")
}

func (g *generator) service() {
	g.hostLog("journal", "journal/system.journal")
	g.ev.Kind, g.ev.Process, g.ev.PID = event.ServiceState, "systemd", 1
	g.fill(systemLines)
	g.attr.String("unit", services[g.intn(len(services))]+".service")
}

func (g *generator) containerLife() {
	c := g.container()
	g.on(c)
	g.ev.Parser, g.ev.Artifact = "containerd", "host/logs/"+c.node+"/containerd.log"
	k := g.intn(3)
	g.ev.Kind = [...]event.Kind{event.ContainerCreated, event.ContainerStarted, event.ContainerExited}[k]
	g.text("container ").text(c.id[:12]).text(" of ").text(c.namespace).text("/").text(c.pod).text([...]string{" was created", " was started", " exited with status 137"}[k])
	g.text(", image registry.example.com/").text(c.name).text(", attempt ").num(g.intn(9))
}

func (g *generator) alert() {
	c := g.container()
	g.observed(c, "falco")
	g.ev.Kind, g.ev.User, g.ev.PID = event.Alert, g.user(), g.pid()
	g.ev.Technique = [...]string{"T1059.004", "T1552.001", "T1204.003", "T1613"}[g.intn(4)]
	g.fill(alertLines)
	g.attr.String("priority", [...]string{"Notice", "Warning", "Critical"}[g.intn(3)])
	g.attr.String("rule", "Terminal shell in container")
}

func (g *generator) k8sEvent() {
	c := g.container()
	g.on(c)
	g.ev.Kind, g.ev.Parser, g.ev.Artifact = event.K8sEvent, "k8sevent", "host/logs/events.json"
	g.fill(eventLines)
	g.attr.String("reason", [...]string{"Unhealthy", "BackOff", "Scheduled", "Pulled", "Created", "ScalingReplicaSet"}[g.intn(6)])
	g.attr.String("type", [...]string{"Normal", "Warning"}[g.intn(2)])
}
