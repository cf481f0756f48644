// Package tetragon reads the JSON export of Tetragon.
//
// Specification: https://tetragon.io/docs/reference/grpc-api/ (GetEventsResponse, in the JSON form of protocol buffers)
//
// An event proves what the kernel reported for a process: that it was executed or ended, or that it reached the function that a tracing policy
// hooks, with these arguments. It does not prove that the function succeeded (unless "return" says so), and what no policy hooks or an
// export filter drops leaves no event. For a process_exec the process is the one that is executed, as it was at that time.
package tetragon

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is Tetragon's JSON lines.
var Format = parse.Format{
	Name:  "tetragon",
	Title: "Tetragon events",
	Spec:  "https://tetragon.io/docs/reference/grpc-api/",
	Sniff: sniff,
	Read:  read,
}

type kind struct {
	name string
	verb string // of the message
	kind event.Kind
}

var kinds = []kind{
	{"process_exec", "executed", event.ProcessStarted},
	{"process_exit", "exited", event.ProcessExited},
	{"process_kprobe", "called", event.Syscall},
	{"process_tracepoint", "reached", event.Syscall},
	{"process_uprobe", "called", event.Syscall},
	{"process_usdt", "reached", event.Syscall},
	{"process_lsm", "asked for", event.Syscall},
	{"process_loader", "loaded", event.FileOpened},
	{"process_throttle", "", event.LogLine},
	{"rate_limit_info", "", event.LogLine},
}

// body finds which event a record is.
func body(root jsonrecords.Node) (kind, jsonrecords.Node, bool) {
	for _, k := range kinds {
		n := root.Get(k.name)
		if n.Type() == jsonrecords.Object && (root.Get("time").Exists() || root.Get("node_name").Exists()) {
			return k, n, true
		}
	}
	return kind{}, jsonrecords.Node{}, false
}

func sniff(head []byte) parse.Confidence {
	if jsonrecords.Sniff(head, jsonrecords.Options{}, func(root jsonrecords.Node) bool {
		_, n, ok := body(root)
		return ok && (n.Get("process").Exists() || root.Get("node_name").Exists())
	}) {
		return parse.Certain
	}
	return parse.No
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	return jsonrecords.Events(ctx, in, emit, jsonrecords.Options{}, fill)
}

func fill(r *jsonrecords.Row, root jsonrecords.Node) bool {
	k, b, ok := body(root)
	if !ok {
		return false
	}
	r.Kind = k.kind
	p := b.Get("process")
	switch k.kind {
	case event.ProcessStarted:
		r.TimeKind = event.Started
	case event.ProcessExited:
		r.TimeKind = event.Exited
	}
	if !r.When(root.Get("time")) {
		r.When(p.Get("start_time"))
	}
	r.Node = root.Get("node_name").Text()
	process(r, p, b.Get("parent"))
	r.Put("policy", b.Get("policy_name"))
	if a := b.Get("action").Text(); a != "KPROBE_ACTION_POST" {
		r.Attr.String("action", a)
	}
	what := ""
	switch k.name {
	case "process_exec":
		what = r.Cmdline
		r.Put("ancestors", b.Get("ancestors"))
	case "process_exit":
		r.Put("signal", b.Get("signal"))
		r.Put("status", b.Get("status"))
	case "process_kprobe", "process_uprobe", "process_lsm":
		what = b.First("function_name", "symbol").Text()
		r.Attr.String("function", jsonrecords.Clip(what))
		arguments(r, what, b)
	case "process_tracepoint":
		what = b.Get("subsys").Text() + "/" + b.Get("event").Text()
		r.Attr.String("function", jsonrecords.Clip(what))
		arguments(r, b.Get("event").Text(), b)
	case "process_loader":
		r.Path = b.Get("path").Text()
		what = r.Path
		r.Put("buildid", b.Get("buildid"))
	}
	r.Put("description", b.Get("message"))
	r.Put("tags", b.Get("tags"))
	r.Technique = jsonrecords.Technique(jsonrecords.Strings(b.Get("tags")))
	message(r, k, b, p.Get("binary").Text(), what)
	return true
}

func message(r *jsonrecords.Row, k kind, b jsonrecords.Node, binary, what string) {
	switch {
	case k.verb == "":
		r.Message = "Tetragon: " + k.name + " " + string(b.Append(nil, 512))
	case k.kind == event.ProcessStarted:
		r.Message = binary + " was executed: " + what
	case k.kind == event.ProcessExited:
		r.Message = binary + " exited"
		if s := b.Get("signal").Text(); s != "" {
			r.Message += " by " + s
		}
	default:
		r.Message = binary + " " + k.verb + " " + what
		switch {
		case r.DstIP != "":
			r.Message += " to " + r.DstIP
		case r.Path != "" && r.Path != what:
			r.Message += " on " + r.Path
		}
	}
}

// process takes who acted. The numbers are the host's.
func process(r *jsonrecords.Row, p, parent jsonrecords.Node) {
	r.PID, r.PPID = p.Get("pid").Whole(), parent.Get("pid").Whole()
	binary := p.Get("binary").Text()
	r.Process = binary[strings.LastIndexByte(binary, '/')+1:]
	if r.Kind == event.ProcessStarted || r.Kind == event.ProcessExited {
		r.Path = binary
	} else {
		r.Attr.String("binary", jsonrecords.Clip(binary))
	}
	r.Cmdline = strings.TrimSuffix(binary+" "+p.Get("arguments").Text(), " ")
	if u := p.Get("uid"); u.Exists() {
		r.User = u.Text()
	}
	if u := p.Get("process_credentials", "uid"); r.User == "" && u.Exists() {
		r.User = u.Text()
	}
	if name := p.Get("user", "name").Text(); name != "" {
		r.User = name
	}
	pod := p.Get("pod")
	r.Pod, r.Namespace = pod.Get("name").Text(), pod.Get("namespace").Text()
	c := pod.Get("container")
	id := c.Get("id").Text()
	if i := strings.Index(id, "://"); i >= 0 {
		id = id[i+3:]
	}
	if id == "" { // Tetragon alone knows a shortened one
		id = p.Get("docker").Text()
	}
	if id != "" {
		r.ContainerID = id
		r.Container = c.Get("name").Text()
	}
	image := c.Get("image", "id").Text()
	if i := strings.Index(image, "sha256:"); i >= 0 {
		r.ImageDigest = image[i:]
	}
	r.Put("image", c.Get("image", "name"))
	r.Put("workload", pod.Get("workload"))
	r.Put("cwd", p.Get("cwd"))
	r.Put("flags", p.Get("flags"))
	r.Put("exec_id", p.Get("exec_id"))
	r.Put("parent", parent.Get("binary"))
	r.Put("setuid", p.Get("binary_properties", "setuid"))
	if n := p.Get("binary_properties", "file", "inode", "links"); n.Text() == "0" {
		r.Attr.Bool("deleted", true) // the executable has no name in a directory
	}
	r.Put("capabilities", p.Get("cap", "effective"))
}

// arguments takes the hooked function's arguments: the socket and file into columns, and all in short.
func arguments(r *jsonrecords.Row, function string, b jsonrecords.Node) {
	var short []byte
	b.Get("args").Each(func(_ string, a jsonrecords.Node) bool {
		a.Each(func(name string, v jsonrecords.Node) bool {
			argument(r, name, v)
			if name != "label" && name != "sock_arg" && len(short) < 512 { // a socket is in columns
				if len(short) > 0 {
					short = append(short, ',')
				}
				if name == "bytes_arg" {
					short = append(short, quoted(v.Text())...)
				} else {
					short = v.Append(short, 256)
				}
			}
			return true
		})
		return true
	})
	if len(short) > 0 {
		r.Attr.Raw("args", append(append([]byte{'['}, short...), ']'))
	}
	r.Put("return", b.Get("return"))
	if strings.HasSuffix(b.Get("action").Text(), "_OVERRIDE") {
		return // it was called, but the policy made it fail
	}
	switch {
	case strings.HasSuffix(function, "tcp_connect") || strings.HasSuffix(function, "_connect") && r.DstIP != "":
		r.Kind = event.NetConnected
	case strings.Contains(function, "accept") && (r.SrcIP != "" || r.DstIP != ""):
		r.Kind = event.NetAccepted
	case strings.Contains(function, "listen") && (r.SrcIP != "" || r.DstIP != ""):
		r.Kind = event.NetListening
	case r.Path != "" && (strings.Contains(function, "open") || function == "fd_install"):
		r.Kind = event.FileOpened
	case r.Path != "" && strings.HasSuffix(function, "file_permission"): // each read and write
		r.Kind = event.FileAccessed
	case r.Path != "" && strings.Contains(function, "unlink"):
		r.Kind = event.FileDeleted
	}
}

func argument(r *jsonrecords.Row, name string, v jsonrecords.Node) {
	switch name {
	case "sock_arg", "skb_arg", "sockaddr_arg":
		if a := jsonrecords.Address(v.First("saddr", "addr").Text()); a != "" {
			r.SrcIP, r.SrcPort = a, jsonrecords.Port(v.First("sport", "port"))
		}
		if a := jsonrecords.Address(v.Get("daddr").Text()); a != "" {
			r.DstIP, r.DstPort = a, jsonrecords.Port(v.Get("dport"))
		}
		r.Protocol = strings.ToLower(strings.TrimPrefix(v.Get("protocol").Text(), "IPPROTO_"))
	case "file_arg", "path_arg":
		if s := v.Get("path").Text(); r.Path == "" {
			r.Path = s
		}
	case "linux_binprm_arg":
		r.Path = v.Get("path").Text()
	case "string_arg":
		if s := v.Text(); r.Path == "" && strings.HasPrefix(s, "/") {
			r.Path = s
		}
	}
}

// quoted is what bytes in base64 say, as a JSON string.
func quoted(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		b = []byte(s)
	}
	return jsonrecords.Quote(nil, string(b[:min(len(b), 256)]))
}
