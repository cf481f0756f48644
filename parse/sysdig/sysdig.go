// Package sysdig reads the JSON output of the sysdig command (sysdig -j).
//
// Specification: https://github.com/draios/sysdig/wiki/Sysdig-User-Guide (output formatting; the names are the filter fields)
//
// A record proves that a thread entered (">") or left ("<") a system call, with the arguments in evt.info. An entry does not prove that the call
// succeeded: the result stands in the record of the exit. Dropped events are not told in this output.
package sysdig

import (
	"context"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is sysdig -j.
var Format = parse.Format{
	Name:  "sysdig",
	Title: "Sysdig system calls",
	Spec:  "https://github.com/draios/sysdig/wiki/Sysdig-User-Guide",
	Sniff: sniff,
	Read:  read,
}

func is(root jsonrecords.Node) bool {
	return root.Get("evt.type").Exists() && !root.Get("rule").Exists() &&
		(root.Get("evt.num").Exists() || root.Get("evt.dir").Exists() || root.Get("evt.outputtime").Exists() || root.Get("evt.time").Exists() || root.Get("evt.rawtime").Exists())
}

func sniff(head []byte) parse.Confidence {
	if jsonrecords.Sniff(head, jsonrecords.Options{}, is) {
		return parse.Certain
	}
	return parse.No
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	return jsonrecords.Events(ctx, in, emit, jsonrecords.Options{}, fill)
}

// kinds are of the exit from a call.
var kinds = map[string]event.Kind{
	"execve": event.ProcessStarted, "execveat": event.ProcessStarted, "procexit": event.ProcessExited,
	"open": event.FileOpened, "openat": event.FileOpened, "openat2": event.FileOpened, "open_by_handle_at": event.FileOpened, "creat": event.FileOpened,
	"connect": event.NetConnected, "accept": event.NetAccepted, "accept4": event.NetAccepted, "listen": event.NetListening,
	"unlink": event.FileDeleted, "unlinkat": event.FileDeleted,
}

func fill(r *jsonrecords.Row, root jsonrecords.Node) bool {
	if !is(root) {
		return false
	}
	r.When(root.First("evt.rawtime", "evt.outputtime", "evt.time", "evt.datetime", "evt.time.iso8601"))
	call, dir, info := root.Get("evt.type").Text(), root.Get("evt.dir").Text(), text(root, "evt.info")
	r.Kind = event.Syscall
	result := ""
	if dir == "<" {
		if result = field(info, "res="); result == "" {
			result = field(info, "fd=")
		}
	}
	if k, ok := kinds[call]; ok && (dir == "<" && !strings.HasPrefix(result, "-") || call == "procexit" || strings.HasPrefix(call, "connect") && strings.HasPrefix(result, "-115")) {
		r.Kind = k
	}
	r.PID, r.PPID = root.First("proc.pid", "thread.tid").Whole(), root.Get("proc.ppid").Whole()
	r.Process, r.Cmdline, r.User = text(root, "proc.name"), text(root, "proc.cmdline"), text(root, "user.name")
	if id := text(root, "container.id"); id != "" && id != "host" {
		r.ContainerID, r.Container = id, text(root, "container.name")
	}
	r.Pod, r.Namespace = text(root, "k8s.pod.name"), text(root, "k8s.ns.name")
	name := text(root, "fd.name")
	if name == "" {
		name = descriptor(info)
	}
	if client, server, ok := strings.Cut(name, "->"); ok {
		r.SrcIP, r.SrcPort = jsonrecords.AddressPort(client)
		r.DstIP, r.DstPort = jsonrecords.AddressPort(server)
	} else if strings.HasPrefix(name, "/") {
		r.Path = name
	}
	r.Message = strings.TrimSpace(r.Process + " " + dir + " " + call + " " + info)
	r.Attr.String("syscall", jsonrecords.Clip(call))
	r.Attr.String("direction", dir)
	r.Attr.String("result", jsonrecords.Clip(result))
	root.Each(func(name string, v jsonrecords.Node) bool {
		switch name {
		case "evt.rawtime", "evt.outputtime", "evt.time", "evt.datetime", "evt.type", "evt.dir", "evt.info", "evt.cpu", "evt.num", "proc.pid", "thread.tid", "proc.ppid",
			"proc.name", "proc.cmdline", "user.name", "container.id", "container.name", "k8s.pod.name", "k8s.ns.name", "fd.name":
			return true
		}
		if len(name) <= 64 && !v.Is("<NA>") {
			r.Put(strings.ReplaceAll(name, ".", "_"), v)
		}
		return r.Attr.Len() < 4096
	})
	return true
}

func text(root jsonrecords.Node, name string) string {
	s := root.Get(name).Text()
	if s == "<NA>" {
		return ""
	}
	return s
}

// field is the value after a name in evt.info, up to the next blank.
func field(info, name string) string {
	for from := 0; ; {
		i := strings.Index(info[from:], name)
		if i < 0 {
			return ""
		}
		i += from
		if i == 0 || info[i-1] == ' ' {
			v := info[i+len(name):]
			if j := strings.IndexByte(v, ' '); j >= 0 {
				v = v[:j]
			}
			return v
		}
		from = i + 1
	}
}

// descriptor is what fd=4(<f>/etc/passwd), name=/x or tuple=a:1->b:2 name.
func descriptor(info string) string {
	for _, name := range []string{"name=", "tuple=", "filename=", "path="} {
		if v := field(info, name); v != "" {
			if i := strings.IndexByte(v, '('); i > 0 && strings.HasSuffix(v, ")") {
				v = v[:i]
			}
			return v
		}
	}
	v := field(info, "fd=")
	if i := strings.IndexByte(v, '>'); i >= 0 && strings.Contains(v[:i], "(<") {
		return strings.TrimSuffix(v[i+1:], ")")
	}
	return ""
}
