// Package ocispec reads what the OCI runtime configuration (config.json) says about a container:
// https://github.com/opencontainers/runtime-spec/blob/main/config.md. It proves what the runtime was told to start;
// what the container became since then, only the kernel can tell.
package ocispec

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sherd-forensics/sherd/target"
)

// ordinary are the capabilities that Docker, Podman and containerd give every container by default; what is beyond
// them widens what an attacker can do.
var ordinary = []string{"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"}

// privilegedAt is the number of capabilities beyond the ordinary ones from where on a list would only hide that it is
// all of them.
const privilegedAt = 20

// Spec is a parsed configuration.
type Spec struct{ specs.Spec }

// Parse reads config.json. Unknown members are ignored.
func Parse(raw []byte) (*Spec, error) {
	var s Spec
	if err := json.Unmarshal(raw, &s.Spec); err != nil {
		return nil, fmt.Errorf("OCI configuration: %w", err)
	}
	return &s, nil
}

// Apply fills in what the runtime above did not say: what is there already stays.
func (s *Spec) Apply(c *target.Container) {
	if s.Process != nil {
		if len(c.Entrypoint) == 0 {
			c.Entrypoint = slices.Clone(s.Process.Args)
		}
		if c.User == "" {
			c.User = strconv.FormatUint(uint64(s.Process.User.UID), 10) + ":" + strconv.FormatUint(uint64(s.Process.User.GID), 10)
		}
	}
	if s.Root != nil && s.Root.Readonly {
		c.Rootfs.ReadOnly = true
	}
	if len(c.Mounts) == 0 {
		c.Mounts = s.mounts()
	}
	if c.Pod == nil {
		c.Pod = target.PodOf(s.Annotations)
	}
	c.Privileges = s.Privileges()
	if s.Linux != nil {
		c.UIDMap, c.GIDMap = idMap(s.Linux.UIDMappings), idMap(s.Linux.GIDMappings)
	}
}

// maxRanges bounds a mapping; the kernel takes 340.
const maxRanges = 340

func idMap(ranges []specs.LinuxIDMapping) []target.IDMap {
	var out []target.IDMap
	for _, r := range ranges[:min(len(ranges), maxRanges)] {
		out = append(out, target.IDMap{Inside: r.ContainerID, Outside: r.HostID, Size: r.Size})
	}
	return out
}

func (s *Spec) mounts() []target.Mount {
	var out []target.Mount
	for _, m := range s.Mounts {
		if m.Destination == "" {
			continue
		}
		t := target.Mount{Type: m.Type, Destination: path.Clean("/" + m.Destination), Options: m.Options, ReadOnly: slices.Contains(m.Options, "ro")}
		if t.Type == "" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind") {
			t.Type = "bind"
		}
		if t.Type == "bind" {
			t.Source = m.Source
		}
		out = append(out, t)
	}
	return out
}

// Privileges lists in words what the configuration gives beyond a common container, sorted.
func (s *Spec) Privileges() []string {
	set := map[string]bool{}
	if s.Process != nil {
		if caps := s.Process.Capabilities; caps != nil {
			beyond := beyond(slices.Concat(caps.Bounding, caps.Effective, caps.Permitted, caps.Ambient))
			if len(beyond) >= privilegedAt {
				set["privileged"] = true
			} else {
				for _, k := range beyond {
					set[k] = true
				}
			}
		}
	}
	if s.Linux != nil {
		s.linux(set)
	}
	for _, m := range s.Mounts {
		if w := Exposes(m.Source, m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind"), slices.Contains(m.Options, "ro")); w != "" {
			set[w] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func (s *Spec) linux(set map[string]bool) {
	own := map[specs.LinuxNamespaceType]bool{}
	for _, ns := range s.Linux.Namespaces {
		own[ns.Type] = true
	}
	for _, k := range []struct {
		t    specs.LinuxNamespaceType
		word string
	}{{specs.NetworkNamespace, "host network"}, {specs.PIDNamespace, "host pid"}, {specs.IPCNamespace, "host ipc"}, {specs.MountNamespace, "host mounts"}} {
		if !own[k.t] {
			set[k.word] = true
		}
	}
	if s.Linux.Seccomp == nil {
		set["no seccomp filter"] = true
	}
	for _, d := range s.Linux.Devices {
		set["device "+d.Path] = true
	}
	if s.Linux.Resources != nil {
		for _, d := range s.Linux.Resources.Devices {
			if d.Allow && (d.Type == "a" || d.Type == "") && d.Major == nil && d.Minor == nil && d.Access == "rwm" {
				set["all devices"] = true
			}
		}
	}
}

// beyond gives the capabilities that a common container lacks, with their CAP_ prefix.
func beyond(caps []string) []string {
	set := map[string]bool{}
	for _, k := range caps {
		k = strings.ToUpper(k)
		if !strings.HasPrefix(k, "CAP_") {
			k = "CAP_" + k
		}
		if !slices.Contains(ordinary, k) {
			set[k] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// Beyond is beyond's result for a runtime's own list of added capabilities ("SYS_PTRACE", "ALL").
func Beyond(added []string) []string { return beyond(added) }

// Exposes says in words what a bind mount of the host's path opens to the container; "" if nothing special.
func Exposes(source string, bind, readOnly bool) string {
	if !bind || source == "" {
		return ""
	}
	source = path.Clean(source)
	if base := path.Base(source); slices.Contains([]string{"docker.sock", "containerd.sock", "podman.sock", "crio.sock", "dockershim.sock"}, base) {
		return "runtime socket " + source
	}
	for _, p := range []string{"/", "/etc", "/root", "/boot", "/proc", "/sys", "/dev", "/var/run", "/run", "/var/lib/kubelet", "/var/lib/docker", "/var/lib/containerd"} {
		if source == p {
			if readOnly {
				return "host path " + p + " (read-only)"
			}
			return "host path " + p
		}
	}
	return ""
}
