package behaviour

import (
	"encoding/json"
	"fmt"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/parse/inventory"
)

func socketFields() []field {
	type S = *detect.Socket
	f := func(name string, t *cel.Type, about string, get func(o *object, s S) (ref.Val, error)) field {
		return field{name: name, typ: t, about: about, get: as(get)}
	}
	return []field{
		f("family", textType, "inet, inet6, unix, packet, netlink, vsock", func(o *object, s S) (ref.Val, error) { return o.text(s.Family) }),
		f("protocol", textType, "tcp, mptcp, udp, udplite, sctp, icmp, raw, stream, dgram, seqpacket", func(o *object, s S) (ref.Val, error) { return o.text(s.Protocol) }),
		f("state", textType, "listen, established, time_wait … as the kernel names them", func(o *object, s S) (ref.Val, error) { return o.text(s.State) }),
		f("local_ip", textType, "", func(o *object, s S) (ref.Val, error) { return o.text(s.LocalIP) }),
		f("local_port", numberType, "", func(_ *object, s S) (ref.Val, error) { return number(s.LocalPort) }),
		f("remote_ip", textType, "", func(o *object, s S) (ref.Val, error) { return o.text(s.RemoteIP) }),
		f("remote_port", numberType, "", func(_ *object, s S) (ref.Val, error) { return number(s.RemotePort) }),
		f("local", textType, "its own end, ip:port", func(o *object, s S) (ref.Val, error) { return o.text(detect.Peer(s.LocalIP, s.LocalPort)) }),
		f("peer", textType, "the other end, ip:port; absent if it has none", func(o *object, s S) (ref.Val, error) {
			if s.RemotePort == 0 {
				return nil, errAbsent{"peer"}
			}
			return o.text(detect.Peer(s.RemoteIP, s.RemotePort))
		}),
		f("path", textType, "of a unix socket; an abstract one starts with a NUL byte", func(o *object, s S) (ref.Val, error) { return o.text(string(s.Path)) }),
		f("other", typeOf("socket"), "the other end of a unix socket, absent if it is not known", func(o *object, s S) (ref.Val, error) {
			x := o.in.byInode[s.PeerInode]
			return o.maybe(socketKind, x, s.PeerInode != 0 && x != nil, "known other end")
		}),
		f("remote", truthType, "whether it has a peer that is not the container itself", func(o *object, s S) (ref.Val, error) {
			return truth(detect.Remote(s) && !o.in.addresses[s.RemoteIP])
		}),
		f("listening", truthType, "whether it waits for connections over IP", func(_ *object, s S) (ref.Val, error) { return truth(detect.Listening(s)) }),
		f("inbound", truthType, "whether it is a connection to one of the ports on which the container listens", func(o *object, s S) (ref.Val, error) {
			return truth(detect.Remote(s) && o.in.listens(s.LocalPort))
		}),
		f("named", truthType, "whether image or runtime were told of its peer's address or port", func(o *object, s S) (ref.Val, error) {
			if why, missing := o.in.f.Missing[detect.Config]; missing {
				return nil, &unseen{"configuration of the image and the runtime", why}
			}
			return truth(o.in.f.Named(s))
		}),
		f("service", truthType, "whether its peer's port is one of a service that applications call", func(_ *object, s S) (ref.Val, error) { return truth(detect.WellKnown(s.RemotePort)) }),
		f("sent", numberType, "bytes sent; absent if the kernel did not say", func(_ *object, s S) (ref.Val, error) { return counter(s.BytesSent, "count of bytes sent") }),
		f("received", numberType, "bytes received; absent if the kernel did not say", func(_ *object, s S) (ref.Val, error) {
			return counter(s.BytesReceived, "count of bytes received")
		}),
		f("quiet", spanType, "how long before the capture data last went either way; absent if the kernel did not say", func(_ *object, s S) (ref.Val, error) {
			if s.LastSentMS == nil || s.LastReceivedMS == nil {
				return nil, errAbsent{"time of its last data"}
			}
			return span(time.Duration(min(*s.LastSentMS, *s.LastReceivedMS)) * time.Millisecond)
		}),
		f("uid", numberType, "the user that made it", func(_ *object, s S) (ref.Val, error) { return number(s.UID) }),
		f("shared", truthType, "whether no process of the container holds it and others use the same network", func(_ *object, s S) (ref.Val, error) { return truth(s.Shared) }),
		f("owners", cel.ListType(typeOf("process")), "the container's processes that hold it", func(o *object, s S) (ref.Val, error) { return objects(o, processKind, o.in.f.Owners(s)) }),
	}
}

func counter(n *uint64, what string) (ref.Val, error) {
	if n == nil {
		return nil, errAbsent{what}
	}
	return number(*n)
}

func (w *world) listens(port int) bool {
	for _, p := range w.listening {
		if p == port {
			return true
		}
	}
	return false
}

func changeFields() []field {
	type C = *inventory.Change
	f := func(name string, t *cel.Type, about string, get func(o *object, c C) (ref.Val, error)) field {
		return field{name: name, typ: t, about: about, get: as(get)}
	}
	return []field{
		f("path", textType, "", func(o *object, c C) (ref.Val, error) { return o.text(c.Path) }),
		f("kind", textType, "added, deleted, replaced (by another type), changed, setuid, caps, reowned, remoded, xattrs, hidden, unknown: the first that applies", func(o *object, c C) (ref.Val, error) {
			return o.text(string(c.Kind))
		}),
		f("kinds", textsType, "all that apply", func(o *object, c C) (ref.Val, error) { return texts(o, append([]inventory.Kind{c.Kind}, c.Also...)) }),
		f("now", typeOf("file"), "the file as it is; absent for what is gone", func(o *object, c C) (ref.Val, error) {
			return o.maybe(fileKind, c.After, c.After != nil, "file there now")
		}),
		f("was", typeOf("file"), "the file as the image has it; absent for what is new", func(o *object, c C) (ref.Val, error) {
			return o.maybe(fileKind, c.Before, c.Before != nil, "file in the image")
		}),
		f("runtime", truthType, "whether the container runtime did it, as it does for every container", func(_ *object, c C) (ref.Val, error) { return truth(c.Runtime) }),
		f("at", timeType, "when the path came to be what it is; absent if unknown", func(_ *object, c C) (ref.Val, error) { return moment(detect.ChangedAt(c), "time of the change") }),
	}
}

func fileFields() []field {
	type F = *detect.File
	f := func(name string, t *cel.Type, about string, get func(o *object, r F) (ref.Val, error)) field {
		return field{name: name, typ: t, about: about, get: as(get)}
	}
	bit := func(mask uint32) func(*object, F) (ref.Val, error) {
		return func(_ *object, r F) (ref.Val, error) { return truth(r.Mode&mask != 0) }
	}
	return []field{
		f("path", textType, "", func(o *object, r F) (ref.Val, error) { return o.text(string(r.Path)) }),
		f("type", textType, "file, dir, symlink, char, block, fifo, socket", func(o *object, r F) (ref.Val, error) { return o.text(r.Type) }),
		f("mode", textType, "its permission bits in octal, 4755", func(_ *object, r F) (ref.Val, error) { return types.String(fmt.Sprintf("%04o", r.Mode)), nil }),
		f("executable", truthType, "whether somebody may run it", bit(0o111)),
		f("setuid", truthType, "whether it is setuid or setgid", bit(0o6000)),
		f("world_writable", truthType, "whether everybody may write it", bit(0o002)),
		f("uid", numberType, "its owner", func(_ *object, r F) (ref.Val, error) { return number(r.UID) }),
		f("gid", numberType, "its group", func(_ *object, r F) (ref.Val, error) { return number(r.GID) }),
		f("size", numberType, "bytes", func(_ *object, r F) (ref.Val, error) { return number(r.Size) }),
		f("sha256", textType, "the hash of its content, empty if unknown", func(o *object, r F) (ref.Val, error) { return o.text(r.SHA256) }),
		f("elf", truthType, "whether it is an ELF file", func(_ *object, r F) (ref.Val, error) { return magic(r, "\x7fELF") }),
		f("script", truthType, "whether it starts as a script does", func(_ *object, r F) (ref.Val, error) { return magic(r, "#!") }),
		f("of_image", truthType, "whether its content is that of a program of the image", func(o *object, r F) (ref.Val, error) {
			return truth(r.SHA256 != "" && o.in.f.Files.Image[r.SHA256] != "")
		}),
		f("target", textType, "where a symbolic link leads", func(o *object, r F) (ref.Val, error) { return o.text(string(r.Target)) }),
		f("mount", textType, "the mount that it lies on, empty for the root", func(o *object, r F) (ref.Val, error) { return o.text(string(r.Mount)) }),
		f("capabilities", truthType, "whether it has file capabilities", func(_ *object, r F) (ref.Val, error) { return truth(len(r.Xattrs["security.capability"]) > 0) }),
		f("layer", numberType, "the image layer that has it, 0 the lowest, -1 the container's own", func(_ *object, r F) (ref.Val, error) { return number(r.Layer) }),
		f("modified", timeType, "its modification time, which its owner can set", func(_ *object, r F) (ref.Val, error) { return moment(r.Mtime, "modification time") }),
		f("changed", timeType, "when content, owner or mode last changed, as the kernel has it", func(_ *object, r F) (ref.Val, error) { return moment(r.Ctime, "change time") }),
		f("born", timeType, "when it was made, as the kernel has it", func(_ *object, r F) (ref.Val, error) { return moment(r.Btime, "time of birth") }),
	}
}

// magic reports how a file begins; of one whose beginning could not be read that is not known.
func magic(r *detect.File, start string) (ref.Val, error) {
	if r.Type == record.TypeFile && len(r.Magic) == 0 && r.Error != "" {
		return nil, &unseen{"what " + printablePath(r) + " is", r.Error}
	}
	return truth(r.Type == record.TypeFile && len(r.Magic) >= len(start) && string(r.Magic[:len(start)]) == start)
}

func mountFields() []field {
	f := func(name string, t *cel.Type, about string, get func(o *object, m *detect.Mount) (ref.Val, error)) field {
		return field{name: name, typ: t, about: about, get: as(get)}
	}
	return []field{
		f("point", textType, "where it is in the container", func(o *object, m *detect.Mount) (ref.Val, error) { return o.text(string(m.Point)) }),
		f("fstype", textType, "overlay, ext4, tmpfs …", func(o *object, m *detect.Mount) (ref.Val, error) { return o.text(m.FSType) }),
		f("kind", textType, "root, tmpfs, volume, secret, runtime, kernel, host, fuse, network", func(o *object, m *detect.Mount) (ref.Val, error) { return o.text(m.Kind) }),
		f("source", textType, "what is mounted", func(o *object, m *detect.Mount) (ref.Val, error) { return o.text(string(m.Source)) }),
		f("root", textType, "which folder of what is mounted", func(o *object, m *detect.Mount) (ref.Val, error) { return o.text(string(m.Root)) }),
		f("options", textType, "as the kernel writes them, with commas", func(o *object, m *detect.Mount) (ref.Val, error) { return o.text(m.Options) }),
		f("writable", truthType, "", func(_ *object, m *detect.Mount) (ref.Val, error) { return truth(m.Writable) }),
		f("asked_for", truthType, "whether the runtime was told to make it, or something below or above it", func(o *object, m *detect.Mount) (ref.Val, error) {
			for i := range o.in.f.Container.Mounts {
				if d := o.in.f.Container.Mounts[i].Destination; d != "/" && (below(string(m.Point), d) || below(d, string(m.Point))) {
					return truth(true)
				}
			}
			return truth(false)
		}),
	}
}

func eventFields() []field {
	type E = *event.Event
	f := func(name string, t *cel.Type, about string, get func(o *object, e E) (ref.Val, error)) field {
		return field{name: name, typ: t, about: about, get: as(get)}
	}
	str := func(name, about string, get func(e E) string) field {
		return f(name, textType, about, func(o *object, e E) (ref.Val, error) { return o.text(get(e)) })
	}
	num := func(name, about string, get func(e E) int64) field {
		return f(name, numberType, about, func(_ *object, e E) (ref.Val, error) { return number(get(e)) })
	}
	return []field{
		f("time", timeType, "when it happened; absent if unknown", func(_ *object, e E) (ref.Val, error) { return moment(e.Time, "time") }),
		str("time_kind", "what the time means: created, modified, logged, observed …", func(e E) string { return string(e.TimeKind) }),
		str("kind", "what happened: file.created, net.connected, log.line, k8s.audit …", func(e E) string { return string(e.Kind) }),
		str("message", "it in words", func(e E) string { return e.Message }),
		str("process", "a process's name", func(e E) string { return e.Process }),
		str("cmdline", "its command line", func(e E) string { return e.Cmdline }),
		num("pid", "its number", func(e E) int64 { return int64(e.PID) }),
		num("ppid", "its parent's", func(e E) int64 { return int64(e.PPID) }),
		str("user", "", func(e E) string { return e.User }),
		str("identity", "who did it, for Kubernetes and clouds", func(e E) string { return e.Identity }),
		str("path", "the file, or the request's path", func(e E) string { return e.Path }),
		str("sha256", "", func(e E) string { return e.SHA256 }),
		num("size", "bytes", func(e E) int64 { return e.Size }),
		str("src_ip", "", func(e E) string { return e.SrcIP }),
		num("src_port", "", func(e E) int64 { return int64(e.SrcPort) }),
		str("dst_ip", "", func(e E) string { return e.DstIP }),
		num("dst_port", "", func(e E) int64 { return int64(e.DstPort) }),
		str("protocol", "", func(e E) string { return e.Protocol }),
		str("pod", "", func(e E) string { return e.Pod }),
		str("namespace", "", func(e E) string { return e.Namespace }),
		str("node", "", func(e E) string { return e.Node }),
		str("parser", "which format it was read by", func(e E) string { return e.Parser }),
		str("artifact", "where in the package it stands", func(e E) string { return e.Artifact }),
		secret(f("attributes", pairsType, "what else its source says; texts as they are, the rest as JSON", func(_ *object, e E) (ref.Val, error) {
			return types.NewStringStringMap(types.DefaultTypeAdapter, attributes(e)), nil
		})),
	}
}

func attributes(e *event.Event) map[string]string {
	var raw map[string]json.RawMessage
	out := map[string]string{}
	if json.Unmarshal(e.Attributes, &raw) != nil {
		return out
	}
	for k, v := range raw {
		var s string
		if json.Unmarshal(v, &s) != nil {
			s = string(v)
		}
		out[k] = s
	}
	return out
}

func containerFields() []field {
	type W = *world
	f := func(name string, t *cel.Type, about string, get func(o *object, w W) (ref.Val, error)) field {
		return field{name: name, typ: t, about: about, get: as(get)}
	}
	told := func(get func(o *object, w W) (ref.Val, error)) func(o *object, w W) (ref.Val, error) {
		return func(o *object, w W) (ref.Val, error) {
			if why, missing := w.f.Missing[detect.Config]; missing {
				return nil, &unseen{"configuration of the image and the runtime", why}
			}
			return get(o, w)
		}
	}
	return []field{
		f("name", textType, "", func(o *object, w W) (ref.Val, error) { return o.text(w.f.Container.Name) }),
		f("image", textType, "the image's name", func(o *object, w W) (ref.Val, error) { return o.text(w.f.Container.Image.Name) }),
		f("runtime", textType, "docker, containerd, podman, procfs", func(o *object, w W) (ref.Val, error) { return o.text(w.f.Container.Runtime) }),
		f("state", textType, "created, running, paused, exited, unknown", func(o *object, w W) (ref.Val, error) { return o.text(string(w.f.Container.State)) }),
		f("started", timeType, "when it began; absent if unknown", func(_ *object, w W) (ref.Val, error) { return moment(w.f.Started, "start") }),
		f("captured", timeType, "when the capture was taken; absent if unknown", func(_ *object, w W) (ref.Val, error) { return moment(w.f.Host.Realtime, "time of the capture") }),
		f("read_only", truthType, "whether its root is mounted read-only", func(_ *object, w W) (ref.Val, error) { return truth(w.f.Container.Rootfs.ReadOnly) }),
		f("distroless", truthType, "whether it has no shell and no package manager; absent if nobody looked", func(_ *object, w W) (ref.Val, error) {
			if d := w.f.Container.Distroless; d != nil {
				return truth(d.Distroless)
			}
			return nil, errAbsent{"judgement of its root"}
		}),
		f("privileges", textsType, "what widens its rights: privileged, host network, CAP_SYS_ADMIN …", func(o *object, w W) (ref.Val, error) { return texts(o, w.f.Container.Privileges) }),
		f("first", typeOf("process"), "its first process; absent if unknown", func(o *object, w W) (ref.Val, error) {
			return o.maybe(processKind, w.f.Init(), w.f.Init() != nil, "known first process")
		}),
		f("arguments", textsType, "commands and arguments that image and runtime were told", told(func(o *object, w W) (ref.Val, error) { return texts(o, w.f.Config.Args) })),
		f("exposed", cel.ListType(cel.IntType), "ports that the image declares", told(func(_ *object, w W) (ref.Val, error) {
			var out []int
			for p := range w.f.Config.Exposed {
				out = append(out, p)
			}
			return ports(out), nil
		})),
		f("listening", cel.ListType(cel.IntType), "ports on which something listens", func(_ *object, w W) (ref.Val, error) {
			if why, missing := w.f.Missing[detect.Sockets]; missing {
				return nil, &unseen{"sockets", why}
			}
			return ports(w.listening), nil
		}),
		f("resolvers", textsType, "its name servers", func(o *object, w W) (ref.Val, error) {
			if len(w.f.Resolvers) == 0 {
				return nil, &unseen{"its name servers", "its resolv.conf was not collected"}
			}
			return texts(o, w.f.Resolvers)
		}),
		f("processes", cel.ListType(typeOf("process")), "all processes", func(o *object, w W) (ref.Val, error) { return objects(o, processKind, pointers(w.f.Processes)) }),
		f("mounts", cel.ListType(typeOf("mount")), "all mounts", func(o *object, w W) (ref.Val, error) {
			if why, missing := w.f.Missing[detect.Mounts]; missing {
				return nil, &unseen{"mounts", why}
			}
			return objects(o, mountKind, pointers(w.f.Mounts))
		}),
		secret(f("environment", pairsType, "variables that image and runtime set", told(func(_ *object, w W) (ref.Val, error) {
			return types.NewStringStringMap(types.DefaultTypeAdapter, w.f.Config.Env), nil
		}))),
	}
}

func pointers[T any](list []T) []*T {
	out := make([]*T, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}
