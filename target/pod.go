package target

import "strings"

// The labels and annotations by which Kubernetes' runtimes name the pod: the kubelet's own, and those that
// containerd's CRI plugin puts into the OCI configuration.
var podKeys = struct{ name, namespace, uid, container []string }{
	name:      []string{"io.kubernetes.pod.name", "io.kubernetes.cri.sandbox-name"},
	namespace: []string{"io.kubernetes.pod.namespace", "io.kubernetes.cri.sandbox-namespace"},
	uid:       []string{"io.kubernetes.pod.uid", "io.kubernetes.cri.sandbox-uid"},
	container: []string{"io.kubernetes.container.name", "io.kubernetes.cri.container-name"},
}

// maxLabel bounds a name taken from a label; Kubernetes' own names end at 253 bytes.
const maxLabel = 512

// PodOf reads the Kubernetes pod from labels or annotations; nil if there is none. Anybody who may start a
// container may set them.
func PodOf(labels map[string]string) *Pod {
	get := func(keys []string) string {
		for _, k := range keys {
			if v := labels[k]; v != "" {
				return v[:min(len(v), maxLabel)]
			}
		}
		return ""
	}
	p := &Pod{Name: get(podKeys.name), Namespace: get(podKeys.namespace), UID: get(podKeys.uid), Container: get(podKeys.container)}
	if p.Name == "" {
		return nil
	}
	if p.Container == "POD" { // how dockershim and others name the sandbox itself
		p.Container = ""
	}
	return p
}

// PodLogDir is where the kubelet keeps the log files of one container, "" when a name can't be part of a path.
func (p *Pod) PodLogDir() string {
	if p == nil || p.Container == "" || p.UID == "" {
		return ""
	}
	for _, s := range []string{p.Name, p.Namespace, p.UID, p.Container} {
		if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\x00") {
			return ""
		}
	}
	return "/var/log/pods/" + p.Namespace + "_" + p.Name + "_" + p.UID + "/" + p.Container
}

// Warn notes that the runtime would not say something or contradicts itself.
func (c *Container) Warn(what string) { c.Warnings = append(c.Warnings, what) }
