// Package falco reads the alerts of Falco as its JSON output has them (json_output: true).
//
// Specification: https://falco.org/docs/concepts/outputs/formatting/ and https://falco.org/docs/reference/rules/supported-fields/
//
// An alert proves that a rule of the sensor matched an event that the kernel (or the plugin in "source") reported: the process, file and
// address in its fields were part of it. It does not prove that the act was malicious, that it succeeded (the rule may match on the entry to a
// system call), or that nothing else happened: events are dropped under load, and only what a rule matches is written.
package falco

import (
	"context"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is Falco's JSON lines.
var Format = parse.Format{
	Name:  "falco",
	Title: "Falco alerts",
	Spec:  "https://falco.org/docs/concepts/outputs/formatting/",
	Sniff: sniff,
	Read:  read,
}

func is(root jsonrecords.Node) bool {
	return root.Get("rule").Type() == jsonrecords.String && root.Get("priority").Type() == jsonrecords.String &&
		(root.Get("output_fields").Type() == jsonrecords.Object || root.Get("output").Exists() && root.Get("time").Exists())
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

// columns are the fields that have a place of their own in an event, and so are not repeated as attributes.
var columns = map[string]bool{
	"evt.time": true, "evt.rawtime": true, "evt.time.iso8601": true, "proc.pid": true, "proc.ppid": true, "proc.name": true, "proc.cmdline": true, "user.name": true,
	"container.id": true, "container.name": true, "k8s.pod.name": true, "k8s.ns.name": true, "fd.sip": true, "fd.cip": true, "fd.sport": true,
	"fd.cport": true, "fd.l4proto": true, "fd.lip": true, "fd.rip": true, "fd.lport": true, "fd.rport": true, "container.image.digest": true,
	"proc.exepath": true, "ka.user.name": true, "ka.target.namespace": true, "fd.name": true, "evt.hostname": true,
}

func fill(r *jsonrecords.Row, root jsonrecords.Node) bool {
	if !is(root) {
		return false
	}
	f := root.Get("output_fields")
	if !r.When(root.Get("time")) && !r.When(f.First("evt.rawtime", "evt.time", "evt.time.iso8601")) && !r.When(f.Get("jevt.time")) {
		r.Time = 0
	}
	r.Kind = event.Alert
	rule := root.Get("rule").Text()
	if r.Message = root.Get("output").Text(); r.Message == "" {
		r.Message = "Falco: " + rule
	}
	r.PID, r.PPID = f.Get("proc.pid").Whole(), f.Get("proc.ppid").Whole()
	r.Process, r.Cmdline = text(f, "proc.name"), text(f, "proc.cmdline")
	r.User = text(f, "user.name")
	r.Identity = text(f, "ka.user.name")
	if id := text(f, "container.id"); id != "" && id != "host" {
		r.ContainerID = id
		r.Container = text(f, "container.name")
	}
	if d := text(f, "container.image.digest"); strings.HasPrefix(d, "sha256:") {
		r.ImageDigest = d
	}
	r.Pod, r.Namespace = text(f, "k8s.pod.name"), first(f, "k8s.ns.name", "ka.target.namespace")
	if r.Node = root.Get("hostname").Text(); r.Node == "" {
		r.Node = text(f, "evt.hostname")
	}
	addresses(r, f)
	file(r, f)
	r.Attr.String("rule", jsonrecords.Clip(rule))
	r.Put("priority", root.Get("priority"))
	r.Put("source", root.Get("source"))
	r.Put("uuid", root.Get("uuid"))
	r.Put("tags", root.Get("tags"))
	r.Technique = jsonrecords.Technique(jsonrecords.Strings(root.Get("tags")))
	n := 0
	f.Each(func(name string, v jsonrecords.Node) bool {
		if v.Is("<NA>") || columns[name] || v.Type() == jsonrecords.Null || len(name) > 64 {
			return true
		}
		n++
		r.Put(strings.ReplaceAll(name, ".", "_"), v)
		return n < 48
	})
	return true
}

// text is a field's text; what Falco could not tell is nothing.
func text(f jsonrecords.Node, name string) string {
	s := f.Get(name).Text()
	if s == "<NA>" {
		return ""
	}
	return s
}

func first(f jsonrecords.Node, names ...string) string {
	for _, n := range names {
		if s := text(f, n); s != "" {
			return s
		}
	}
	return ""
}

// addresses takes client and server of a connection, from their fields or from fd.name, which has "client:port->server:port".
func addresses(r *jsonrecords.Row, f jsonrecords.Node) {
	r.Protocol = text(f, "fd.l4proto")
	r.SrcIP, r.SrcPort = jsonrecords.Address(text(f, "fd.cip")), jsonrecords.Port(f.Get("fd.cport"))
	r.DstIP, r.DstPort = jsonrecords.Address(text(f, "fd.sip")), jsonrecords.Port(f.Get("fd.sport"))
	if r.SrcIP == "" && r.DstIP == "" {
		r.SrcIP, r.SrcPort = jsonrecords.Address(text(f, "fd.lip")), jsonrecords.Port(f.Get("fd.lport"))
		r.DstIP, r.DstPort = jsonrecords.Address(text(f, "fd.rip")), jsonrecords.Port(f.Get("fd.rport"))
	}
	client, server, ok := strings.Cut(text(f, "fd.name"), "->")
	if !ok {
		return
	}
	if r.SrcIP == "" {
		r.SrcIP, r.SrcPort = jsonrecords.AddressPort(client)
	}
	if r.DstIP == "" {
		r.DstIP, r.DstPort = jsonrecords.AddressPort(server)
	}
}

// file takes the path that the alert is about: the file of the descriptor, and else the executable.
func file(r *jsonrecords.Row, f jsonrecords.Node) {
	name := text(f, "fd.name")
	exe := text(f, "proc.exepath")
	switch {
	case strings.HasPrefix(name, "/"):
		r.Path = name
		r.Attr.String("proc_exepath", jsonrecords.Clip(exe))
	case exe != "":
		r.Path = exe
		if name != "" && r.SrcIP == "" && r.DstIP == "" {
			r.Attr.String("fd_name", jsonrecords.Clip(name))
		}
	case name != "" && r.SrcIP == "" && r.DstIP == "":
		r.Attr.String("fd_name", jsonrecords.Clip(name))
	}
}
