package runtimerecord

import (
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// namespaces that a container usually has of its own; cgroup and user namespaces are seldom.
var namespaces = []string{"pid", "network", "mount", "ipc", "uts"}

// usual are the capabilities that Docker, containerd and Podman give to any container.
var usual = []string{"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW",
	"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"}

// runtimeSpec reads what the container was started with. It has no time: the event is at the container's creation.
func (r *reader) runtimeSpec(root jsonrecords.Node) {
	at := r.seen[event.ContainerCreated]
	process, linux := root.Get("process"), root.Get("linux")
	args := strings.Join(jsonrecords.Strings(process.Get("args")), " ")
	if at == 0 || !process.Exists() {
		return
	}
	var a event.Attributes
	uid, _ := process.Get("user", "uid").Int()
	a.String("command", jsonrecords.Clip(args))
	a.Int("uid", uid)
	var words []string
	if root.Get("root", "readonly").Bool() {
		a.Bool("read_only", true)
	}
	caps := jsonrecords.Strings(process.Get("capabilities", "bounding"))
	more := slices.DeleteFunc(slices.Clone(caps), func(c string) bool { return slices.Contains(usual, c) })
	if len(more) > 0 {
		a.String("capabilities", jsonrecords.Clip(strings.Join(more, " ")))
		words = append(words, "more capabilities than usual")
	}
	var own []string
	linux.Get("namespaces").Each(func(_ string, n jsonrecords.Node) bool {
		own = append(own, n.Get("type").Text())
		return len(own) < 32
	})
	var shared []string
	for _, n := range namespaces {
		if linux.Exists() && !slices.Contains(own, n) {
			shared = append(shared, n)
		}
	}
	if len(shared) > 0 {
		a.String("host_namespaces", strings.Join(shared, " "))
		words = append(words, "the host's "+strings.Join(shared, ", ")+" namespace")
	}
	if !linux.Get("seccomp").Exists() {
		a.Bool("no_seccomp", true)
	}
	if process.Get("noNewPrivileges").Bool() {
		a.Bool("no_new_privileges", true)
	}
	if binds := hostMounts(root.Get("mounts")); len(binds) > 0 {
		a.String("host_mounts", jsonrecords.Clip(strings.Join(binds, " ")))
		words = append(words, "folders of the host")
	}
	message := "configured to run " + args
	if len(words) > 0 {
		message += ", with " + strings.Join(words, ", ")
	}
	r.add(process.Get("args"), at, event.Created, event.ContainerObserved, &a, "%s", message)
}

// hostMounts are the host's folders in the container, but those that every runtime mounts.
func hostMounts(mounts jsonrecords.Node) []string {
	var out []string
	mounts.Each(func(_ string, m jsonrecords.Node) bool {
		source, at := m.Get("source").Text(), m.Get("destination").Text()
		bind := m.Get("type").Is("bind") || slices.Contains(jsonrecords.Strings(m.Get("options")), "rbind")
		switch at {
		case "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv", "/dev/shm", "/dev/termination-log", "/run/secrets":
			return true
		}
		if bind && strings.HasPrefix(source, "/") {
			out = append(out, source+":"+at)
		}
		return len(out) < 32
	})
	return out
}
