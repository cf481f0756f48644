// Package tracee reads the events of Tracee as its JSON output has them, in the older flat form and in the nested one (v1beta1).
//
// Specification: https://aquasecurity.github.io/tracee/latest/docs/outputs/event-structure/
//
// An event proves what the kernel reported, or (detections) that a signature matched such events. It does not prove that a call succeeded unless the
// return value says so, nor that the act was malicious; arguments are as the program passed them, and another thread can have changed
// them before the kernel read them.
package tracee

import (
	"context"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is Tracee's JSON lines.
var Format = parse.Format{
	Name:  "tracee",
	Title: "Tracee events",
	Spec:  "https://aquasecurity.github.io/tracee/latest/docs/outputs/event-structure/",
	Sniff: sniff,
	Read:  read,
}

func isFlat(root jsonrecords.Node) bool {
	return root.Get("eventName").Type() == jsonrecords.String && root.Get("processName").Exists() && root.Get("timestamp").Exists()
}

func isNested(root jsonrecords.Node) bool {
	return root.Get("name").Type() == jsonrecords.String && root.Get("timestamp").Exists() &&
		(root.Get("workload").Type() == jsonrecords.Object || root.Get("data").Type() == jsonrecords.Array && root.Get("policies").Exists())
}

func sniff(head []byte) parse.Confidence {
	sure := parse.No
	jsonrecords.Sniff(head, jsonrecords.Options{}, func(root jsonrecords.Node) bool {
		switch {
		case isFlat(root) && root.First("eventId", "hostProcessId", "args").Exists():
			sure = parse.Certain
		case isNested(root):
			sure = 85
		}
		return sure > parse.No
	})
	return sure
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	return jsonrecords.Events(ctx, in, emit, jsonrecords.Options{}, func(r *jsonrecords.Row, root jsonrecords.Node) bool {
		switch {
		case isFlat(root):
			flat(r, root)
		case isNested(root):
			nested(r, root)
		default:
			return false
		}
		return true
	})
}

var kinds = map[string]event.Kind{
	"execve": event.ProcessStarted, "execveat": event.ProcessStarted, "sched_process_exec": event.ProcessStarted, "sched_process_exit": event.ProcessExited,
	"open": event.FileOpened, "openat": event.FileOpened, "openat2": event.FileOpened, "security_file_open": event.FileOpened,
	"connect": event.NetConnected, "security_socket_connect": event.NetConnected, "net_tcp_connect": event.NetConnected,
	"accept": event.NetAccepted, "accept4": event.NetAccepted, "security_socket_accept": event.NetAccepted,
	"listen": event.NetListening, "security_socket_listen": event.NetListening,
	"unlink": event.FileDeleted, "unlinkat": event.FileDeleted, "security_inode_unlink": event.FileDeleted,
	"creat": event.FileCreated, "magic_write": event.FileModified, "vfs_write": event.FileModified, "file_modification": event.FileModified,
	"net_packet_dns": event.DNSQuery, "net_packet_dns_request": event.DNSQuery, "net_packet_http_request": event.HTTPRequest,
	"container_create": event.ContainerCreated, "container_remove": event.ContainerDeleted, "existing_container": event.ContainerObserved,
}

func flat(r *jsonrecords.Row, root jsonrecords.Node) {
	r.When(root.Get("timestamp"))
	r.PID, r.PPID = root.First("hostProcessId", "processId").Whole(), root.First("hostParentProcessId", "parentProcessId").Whole()
	r.Process, r.User = root.Get("processName").Text(), root.Get("userId").Text()
	r.Node = root.Get("hostName").Text()
	c := root.Get("container")
	if r.ContainerID = c.Get("id").Text(); r.ContainerID == "" {
		r.ContainerID = root.Get("containerId").Text()
	}
	r.Container = c.Get("name").Text()
	digest(r, c.Get("imageDigest").Text())
	r.Put("image", c.Get("image"))
	k := root.Get("kubernetes")
	r.Pod, r.Namespace = k.Get("podName").Text(), k.Get("podNamespace").Text()
	if n := root.Get("processId"); n.Whole() != r.PID {
		r.Put("pid_in_container", n)
	}
	name := root.Get("eventName").Text()
	exe := root.Get("executable", "path").Text()
	m := root.Get("metadata")
	p := m.Get("Properties")
	if p.Get("signatureID").Exists() || p.Get("signatureName").Exists() {
		r.Kind = event.Alert
		r.Technique = jsonrecords.Technique([]string{p.Get("external_id").Text()})
		if r.Message = p.Get("signatureName").Text(); r.Message == "" {
			r.Message = name
		}
		r.Message += ": " + m.Get("Description").Text()
		r.Put("rule", p.Get("signatureID"))
		r.Put("severity", p.Get("Severity"))
		r.Put("category", p.Get("Category"))
	}
	arguments(r, name, exe, root.Get("args"), root.Get("returnValue"))
	if s := root.Get("syscall"); !s.Is(name) {
		r.Put("syscall", s)
	}
	r.Put("policies", root.Get("matchedPolicies"))
}

func nested(r *jsonrecords.Row, root jsonrecords.Node) {
	r.When(root.Get("timestamp"))
	w := root.Get("workload")
	p := w.Get("process")
	thread := p.Get("thread")
	r.PID = p.First("hostPid", "host_pid", "pid").Whole()
	parent := p.Get("ancestors").At(0)
	r.PPID = parent.First("hostPid", "host_pid", "pid").Whole()
	r.Process = thread.Get("name").Text()
	user := p.First("realUser", "real_user")
	if r.User = user.Get("name").Text(); r.User == "" {
		r.User = user.Get("id").Text()
	}
	c := w.Get("container")
	r.ContainerID, r.Container = c.Get("id").Text(), c.Get("name").Text()
	image := c.Get("image")
	digest(r, image.First("repoDigests", "repo_digests").At(0).Text())
	if image.Type() == jsonrecords.String {
		r.Put("image", image)
	}
	r.Put("image", image.Get("name"))
	k := w.First("k8s", "kubernetes")
	r.Pod, r.Namespace = k.Get("pod", "name").Text(), k.Get("namespace", "name").Text()
	r.Put("workload", k.Get("deployment", "name"))
	if n := p.Get("pid"); n.Whole() != r.PID {
		r.Put("pid_in_container", n)
	}
	name := root.Get("name").Text()
	if t := root.Get("threat"); t.Type() == jsonrecords.Object {
		r.Kind = event.Alert
		technique := t.Get("mitre", "technique", "id").Text()
		r.Technique = jsonrecords.Technique([]string{technique})
		if r.Message = t.Get("name").Text(); r.Message == "" {
			r.Message = name
		}
		r.Message += ": " + t.Get("description").Text()
		r.Put("rule", t.Get("name"))
		r.Put("severity", t.Get("severity"))
		r.Put("category", t.Get("mitre", "tactic", "name"))
	}
	data := root.Get("data")
	returned := jsonrecords.Node{}
	data.Each(func(_ string, a jsonrecords.Node) bool {
		if a.Get("name").Is("returnValue") {
			returned = value(a)
		}
		return true
	})
	arguments(r, name, p.Get("executable", "path").Text(), data, returned)
	if s := thread.Get("syscall"); !s.Is(name) {
		r.Put("syscall", s)
	}
	r.Put("policies", root.Get("policies", "matched"))
}

func digest(r *jsonrecords.Row, s string) {
	if i := strings.Index(s, "sha256:"); i >= 0 {
		r.ImageDigest = s[i:]
	}
}

// value is an argument's value: under "value" in the older form, and in the newer one under the name of its type.
func value(a jsonrecords.Node) jsonrecords.Node {
	if v := a.Get("value"); v.Exists() {
		return v
	}
	var out jsonrecords.Node
	a.Each(func(name string, v jsonrecords.Node) bool {
		if name == "name" || name == "type" {
			return true
		}
		out = v
		return false
	})
	return out
}

// arguments fills the columns that an event's arguments tell, and says all of them in short.
func arguments(r *jsonrecords.Row, name, exe string, args, returned jsonrecords.Node) {
	var short []byte
	args.Each(func(_ string, a jsonrecords.Node) bool {
		n, v := a.Get("name").Text(), value(a)
		if n == "returnValue" || n == "triggeredBy" || len(n) > 64 {
			return true
		}
		if !argument(r, n, v) && len(short) < 1024 {
			if len(short) > 0 {
				short = append(short, ',')
			}
			short = append(jsonrecords.Quote(short, n), ':')
			short = v.Append(short, 256)
		}
		return true
	})
	if len(short) > 0 {
		r.Attr.Raw("args", append(append([]byte{'{'}, short...), '}'))
	}
	failed := false
	if v, ok := returned.Int(); ok {
		r.Attr.Int("return", v)
		failed = v < 0
	}
	r.Attr.String("event", jsonrecords.Clip(name))
	if k := kinds[name]; r.Kind == "" && k != "" && (!failed || strings.HasSuffix(name, "connect")) {
		r.Kind = k
	}
	switch r.Kind {
	case "":
		r.Kind = event.Syscall
	case event.ProcessStarted:
		r.TimeKind = event.Started
	case event.ProcessExited:
		r.TimeKind = event.Exited
	}
	if r.Path == "" {
		r.Path = exe
	} else if exe != r.Path {
		r.Attr.String("executable", jsonrecords.Clip(exe))
	}
	if r.Message == "" {
		r.Message = r.Process + ": " + name
		switch {
		case r.Cmdline != "":
			r.Message += " " + r.Cmdline
		case r.DstIP != "":
			r.Message += " to " + r.DstIP
		case r.Path != "" && r.Path != exe:
			r.Message += " " + r.Path
		}
	}
}

// argument reports whether a column says all of the argument.
func argument(r *jsonrecords.Row, name string, v jsonrecords.Node) bool {
	switch name {
	case "pathname", "file_path", "filename":
		if r.Path == "" {
			r.Path = v.Text()
		}
		return r.Path == v.Text()
	case "argv":
		if v.Get("value").Type() == jsonrecords.Array {
			v = v.Get("value")
		}
		r.Cmdline = strings.Join(jsonrecords.Strings(v), " ")
		return v.Len() < 64 && r.Cmdline != ""
	case "sha256":
		if s := v.Text(); len(s) == 64 {
			r.SHA256 = strings.ToLower(s)
			return true
		}
	case "remote_addr", "addr", "dst_addr":
		return address(v, &r.DstIP, &r.DstPort)
	case "local_addr", "src_addr":
		return address(v, &r.SrcIP, &r.SrcPort)
	case "src", "src_ip":
		r.SrcIP = jsonrecords.Address(v.Text())
	case "dst", "dst_ip":
		r.DstIP = jsonrecords.Address(v.Text())
	case "src_port":
		r.SrcPort = jsonrecords.Port(v)
	case "dst_port":
		r.DstPort = jsonrecords.Port(v)
	case "metadata": // of a packet
		r.SrcIP, r.SrcPort = jsonrecords.Address(v.First("src_ip", "srcIp").Text()), jsonrecords.Port(v.First("src_port", "srcPort"))
		r.DstIP, r.DstPort = jsonrecords.Address(v.First("dst_ip", "dstIp").Text()), jsonrecords.Port(v.First("dst_port", "dstPort"))
		switch v.Get("protocol").Text() {
		case "6":
			r.Protocol = "tcp"
		case "17":
			r.Protocol = "udp"
		}
		return r.SrcIP != ""
	case "query", "dns_questions":
		name := v.Text()
		if name == "" {
			name = v.At(0).Get("query").Text()
		}
		r.Attr.String("dns_name", jsonrecords.Clip(name))
		if r.Message == "" && name != "" {
			r.Message = r.Process + " asked for " + name
		}
	}
	return false
}

// address reads {"sa_family":"AF_INET","sin_addr":"1.2.3.4","sin_port":"80"}, also under the name of a type.
func address(v jsonrecords.Node, ip *string, port *int) bool {
	if v.Type() != jsonrecords.Object {
		return false
	}
	if s := v.Get("sockaddr"); s.Exists() {
		v = s
	}
	if a := jsonrecords.Address(v.First("sin_addr", "sin6_addr", "sinAddr", "sin6Addr").Text()); a != "" {
		*ip, *port = a, jsonrecords.Port(v.First("sin_port", "sin6_port", "sinPort", "sin6Port"))
		return true
	}
	return false
}
