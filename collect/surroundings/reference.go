package surroundings

import (
	"cmp"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// references gives the secrets and config maps that the pod's specification names, by kind and name.
func references(pod *corev1.Pod) *record.References {
	r := &referrer{pod: pod}
	for i := range pod.Spec.Volumes {
		r.volume(&pod.Spec.Volumes[i])
	}
	r.each(func(c *corev1.Container) {
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if s := e.ValueFrom.SecretKeyRef; s != nil {
				r.add(record.Reference{Kind: "secret", Name: s.Name, Keys: []string{s.Key}, As: "env", Variables: []string{e.Name}, Containers: []string{c.Name}, Optional: yes(s.Optional)})
			}
			if s := e.ValueFrom.ConfigMapKeyRef; s != nil {
				r.add(record.Reference{Kind: "configmap", Name: s.Name, Keys: []string{s.Key}, As: "env", Variables: []string{e.Name}, Containers: []string{c.Name}, Optional: yes(s.Optional)})
			}
		}
		for _, e := range c.EnvFrom {
			var prefix []string
			if e.Prefix != "" {
				prefix = []string{e.Prefix + "*"}
			}
			if s := e.SecretRef; s != nil {
				r.add(record.Reference{Kind: "secret", Name: s.Name, As: "env-from", Variables: prefix, Containers: []string{c.Name}, Optional: yes(s.Optional)})
			}
			if s := e.ConfigMapRef; s != nil {
				r.add(record.Reference{Kind: "configmap", Name: s.Name, As: "env-from", Variables: prefix, Containers: []string{c.Name}, Optional: yes(s.Optional)})
			}
		}
	})
	for _, s := range pod.Spec.ImagePullSecrets {
		r.add(record.Reference{Kind: "secret", Name: s.Name, As: "image-pull"})
	}
	slices.SortStableFunc(r.out, func(a, b record.Reference) int {
		return cmp.Or(cmp.Compare(b.Kind, a.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.As, b.As))
	})
	return &record.References{References: r.out}
}

// referrer gathers references; those to one object by one way are one.
type referrer struct {
	pod *corev1.Pod
	out []record.Reference
}

func yes(b *bool) bool { return b != nil && *b }

func (r *referrer) each(fn func(*corev1.Container)) {
	for i := range r.pod.Spec.InitContainers {
		fn(&r.pod.Spec.InitContainers[i])
	}
	for i := range r.pod.Spec.Containers {
		fn(&r.pod.Spec.Containers[i])
	}
	for i := range r.pod.Spec.EphemeralContainers {
		c := corev1.Container(r.pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		fn(&c)
	}
}

func (r *referrer) add(n record.Reference) {
	for i := range r.out {
		o := &r.out[i]
		if o.Kind == n.Kind && o.Name == n.Name && o.As == n.As && (len(o.Keys) == 0) == (len(n.Keys) == 0) {
			o.Keys, o.Paths, o.Variables, o.Containers = union(o.Keys, n.Keys), union(o.Paths, n.Paths), union(o.Variables, n.Variables), union(o.Containers, n.Containers)
			o.Optional = o.Optional && n.Optional
			return
		}
	}
	r.out = append(r.out, n)
}

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

// mounted says where containers have a volume, and which they are.
func (r *referrer) mounted(volume string) (paths, containers []string) {
	r.each(func(c *corev1.Container) {
		for _, m := range c.VolumeMounts {
			if m.Name == volume {
				paths, containers = union(paths, []string{path.Clean(m.MountPath)}), union(containers, []string{c.Name})
			}
		}
	})
	return paths, containers
}

func keys(items []corev1.KeyToPath) (out []string) {
	for _, i := range items {
		out = union(out, []string{i.Key})
	}
	return out
}

func (r *referrer) volume(v *corev1.Volume) {
	paths, containers := r.mounted(v.Name)
	put := func(kind, name, as string, k []string, optional *bool) {
		if name != "" {
			r.add(record.Reference{Kind: kind, Name: name, Keys: k, As: as, Paths: paths, Containers: containers, Optional: yes(optional)})
		}
	}
	driver := func(s *corev1.LocalObjectReference) {
		if s != nil {
			put("secret", s.Name, "volume-driver", nil, nil)
		}
	}
	switch {
	case v.Secret != nil:
		put("secret", v.Secret.SecretName, "volume", keys(v.Secret.Items), v.Secret.Optional)
	case v.ConfigMap != nil:
		put("configmap", v.ConfigMap.Name, "volume", keys(v.ConfigMap.Items), v.ConfigMap.Optional)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.Secret != nil {
				put("secret", s.Secret.Name, "projected", keys(s.Secret.Items), s.Secret.Optional)
			}
			if s.ConfigMap != nil {
				put("configmap", s.ConfigMap.Name, "projected", keys(s.ConfigMap.Items), s.ConfigMap.Optional)
			}
		}
	case v.CSI != nil && v.CSI.NodePublishSecretRef != nil:
		put("secret", v.CSI.NodePublishSecretRef.Name, "csi", nil, nil)
	case v.RBD != nil:
		driver(v.RBD.SecretRef)
	case v.CephFS != nil:
		driver(v.CephFS.SecretRef)
	case v.ISCSI != nil:
		driver(v.ISCSI.SecretRef)
	case v.ScaleIO != nil:
		driver(v.ScaleIO.SecretRef)
	case v.StorageOS != nil:
		driver(v.StorageOS.SecretRef)
	case v.Cinder != nil:
		driver(v.Cinder.SecretRef)
	case v.FlexVolume != nil:
		driver(v.FlexVolume.SecretRef)
	case v.AzureFile != nil:
		put("secret", v.AzureFile.SecretName, "volume-driver", nil, nil)
	}
}
