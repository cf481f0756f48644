package lab

import (
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sherd-forensics/sherd/lab/image"
)

// defaultCaps are what the common runtimes grant to root in a container.
var defaultCaps = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}

// ociSpec is the runtime configuration of a container that runc alone runs.
func ociSpec(c *Container, img image.Image, cgroup string) (*specs.Spec, error) {
	i, err := img.Load()
	if err != nil {
		return nil, err
	}
	config, err := i.ConfigFile()
	if err != nil {
		return nil, err
	}
	s := c.Spec
	user := config.Config.User
	if s.User != "" {
		user = s.User
	}
	u, g, _ := strings.Cut(user, ":")
	uid, _ := strconv.ParseUint(u, 10, 32)
	gid, _ := strconv.ParseUint(g, 10, 32)
	caps := append([]string{}, defaultCaps...)
	for _, k := range s.CapAdd {
		caps = append(caps, "CAP_"+k)
	}
	granted := &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}
	if uid != 0 {
		granted = &specs.LinuxCapabilities{Bounding: caps}
	}
	spec := &specs.Spec{
		Version:  "1.0.2",
		Hostname: c.Name,
		Root:     &specs.Root{Path: "rootfs", Readonly: s.ReadOnly},
		Process: &specs.Process{
			Args: append(append([]string{}, config.Config.Entrypoint...), s.Args...), Env: append(append([]string{}, config.Config.Env...), s.Env...),
			Cwd: "/", User: specs.User{UID: uint32(uid), GID: uint32(gid)}, NoNewPrivileges: true, Capabilities: granted,
		},
		Annotations: s.Labels,
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: "/" + cgroup + "/" + c.Name,
			Resources:   &specs.LinuxResources{},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
			},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	if !s.HostNetwork {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: c.net.path()})
	}
	for _, t := range s.Tmpfs {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: t, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=1777"}})
	}
	for _, v := range s.Volumes {
		src, dst, opts := splitVolume(v)
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: dst, Type: "bind", Source: src, Options: []string{"rbind", opts}})
	}
	return spec, nil
}
