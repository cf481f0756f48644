package kubernetes

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sherd-forensics/sherd/target"
)

// Describe is the container in the words of target.Container, as far as the API server knows it: no process, no files.
func (i *Instance) Describe() *target.Container {
	runtime, id, _ := strings.Cut(i.ID, "://")
	c := &target.Container{URL: i.URL(), Runtime: runtime, ID: id, Name: i.Container, State: i.State, Restarts: i.Restarts,
		Image: target.Image{Name: i.Image, Digest: i.Digest()}, Created: i.Pod.CreationTimestamp.UTC(), Labels: maps.Clone(i.Pod.Labels),
		Pod: &target.Pod{Name: i.Pod.Name, Namespace: i.Pod.Namespace, UID: string(i.Pod.UID), Container: i.Container}}
	if s := i.Status(); s != nil {
		state := s.State
		if state.Running == nil && state.Terminated == nil {
			state = s.LastTerminationState
		}
		switch {
		case state.Running != nil:
			c.Started = state.Running.StartedAt.UTC()
		case state.Terminated != nil:
			c.Started, c.Finished, c.ExitCode = state.Terminated.StartedAt.UTC(), state.Terminated.FinishedAt.UTC(), int(state.Terminated.ExitCode)
		}
		if s.User != nil && s.User.Linux != nil {
			c.User = fmt.Sprintf("%d:%d", s.User.Linux.UID, s.User.Linux.GID)
		}
	}
	if spec := i.spec(); spec != nil {
		c.Entrypoint = append(slices.Clone(spec.Command), spec.Args...)
		c.Mounts = i.mounts(spec.VolumeMounts)
	}
	c.Privileges = i.privileges()
	return c
}

// spec is the container's own part of the specification, that of an ephemeral one too.
func (i *Instance) spec() *corev1.EphemeralContainerCommon {
	for _, l := range [][]corev1.Container{i.Pod.Spec.InitContainers, i.Pod.Spec.Containers} {
		for k := range l {
			if l[k].Name == i.Container {
				return &corev1.EphemeralContainerCommon{Name: l[k].Name, Command: l[k].Command, Args: l[k].Args, VolumeMounts: l[k].VolumeMounts, SecurityContext: l[k].SecurityContext}
			}
		}
	}
	for k := range i.Pod.Spec.EphemeralContainers {
		if e := &i.Pod.Spec.EphemeralContainers[k]; e.Name == i.Container {
			return &e.EphemeralContainerCommon
		}
	}
	return nil
}

// mounts are the volumes that the container mounts. A secret's, a token's and a config map's are named as such, so that who reads the mount
// knows what it is.
func (i *Instance) mounts(of []corev1.VolumeMount) []target.Mount {
	var out []target.Mount
	for _, m := range of {
		t := target.Mount{Type: "volume", Name: m.Name, Destination: path.Clean("/" + m.MountPath), ReadOnly: m.ReadOnly}
		for _, v := range i.Pod.Spec.Volumes {
			switch {
			case v.Name != m.Name:
			case v.Secret != nil, v.Projected != nil:
				t.Type = "secret"
			case v.HostPath != nil:
				t.Type, t.Source = "bind", v.HostPath.Path
			}
		}
		out = append(out, t)
	}
	return out
}

// privileges is what the specification gives beyond a container's own bounds.
func (i *Instance) privileges() []string {
	var out []string
	if s := i.Security(); s != nil {
		if s.Privileged != nil && *s.Privileged {
			out = append(out, "privileged")
		}
		if s.Capabilities != nil {
			for _, c := range s.Capabilities.Add {
				out = append(out, "CAP_"+strings.TrimPrefix(string(c), "CAP_"))
			}
		}
	}
	spec := &i.Pod.Spec
	for _, x := range []struct {
		is   bool
		word string
	}{{spec.HostNetwork, "host network"}, {spec.HostPID, "host pid"}, {spec.HostIPC, "host ipc"}} {
		if x.is {
			out = append(out, x.word)
		}
	}
	return out
}
