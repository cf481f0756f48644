package cluster

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestJob holds what runs on a node to the least that works: whatever is added here is a right on every node.
func TestJob(t *testing.T) {
	for name, o := range map[string]Options{
		"plain":  {Namespace: "sherd", Image: "i", Deadline: 30 * time.Minute},
		"frugal": {Namespace: "sherd", Image: "i", Deadline: 30 * time.Minute, frugal: true},
		"freeze": {Namespace: "sherd", Image: "i", Deadline: 30 * time.Minute, Freeze: true},
	} {
		j := job("abc", "n1", o)
		p := &j.Spec.Template.Spec
		c := &p.Containers[0]
		s := c.SecurityContext
		switch {
		case len(p.Containers) != 1 || p.NodeName != "n1" || p.RestartPolicy != corev1.RestartPolicyNever:
			t.Errorf("%s: %d containers on %q", name, len(p.Containers), p.NodeName)
		case p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken:
			t.Errorf("%s: it has a token of the cluster", name)
		case s.Privileged == nil || *s.Privileged || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || p.HostNetwork || p.HostIPC:
			t.Errorf("%s: it may do more than it needs: %+v", name, s)
		case !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(s.Capabilities.Add) != len(Capabilities):
			t.Errorf("%s: capabilities %v", name, s.Capabilities)
		case *j.Spec.ActiveDeadlineSeconds != 1800 || j.Spec.TTLSecondsAfterFinished == nil || *j.Spec.BackoffLimit != 0:
			t.Errorf("%s: it may stay: %+v", name, j.Spec)
		case j.Labels[ManagedBy] != Manager || j.Spec.Template.Labels[SessionLabel] != "abc":
			t.Errorf("%s: labels %v", name, j.Labels)
		case c.Resources.Limits.Memory().IsZero():
			t.Errorf("%s: it is not bounded", name)
		}
		for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			// What is left out is taken from the limit, so nothing must be written down.
			q, ok := c.Resources.Requests[r]
			if !ok || q.IsZero() != o.frugal {
				t.Errorf("%s: it asks for %s of %s (%t)", name, q.String(), r, ok)
			}
		}
		for _, v := range p.Volumes {
			if v.HostPath == nil {
				continue
			}
			m := c.VolumeMounts[slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == v.Name })]
			if v.HostPath.Path == "/" && !m.ReadOnly || v.HostPath.Path != "/" && !o.Freeze {
				t.Errorf("%s: the node's %s is mounted, read-only %t", name, v.HostPath.Path, m.ReadOnly)
			}
		}
	}
}
