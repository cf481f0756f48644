package cluster

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Capabilities are what a collector needs on a node, and why: nothing less works, and it is not privileged.
var Capabilities = []struct{ Name, Why string }{
	{"SYS_PTRACE", "memory and descriptors of other processes"},
	{"DAC_READ_SEARCH", "files whatever their owner and mode"},
	{"SYS_ADMIN", "a private read-only view of the container's layers, and its network namespace"},
	{"SYS_CHROOT", "mounts that lie below others, from the container's mount namespace"},
	{"FOWNER", "reading other users' files without changing when they were last read"},
	{"NET_ADMIN", "the connections that the kernel tracks"},
}

// container is the collector's name in its pod, spool where it keeps packages there.
const (
	container = "collector"
	spool     = "/spool/sherd"
)

func jobName(id string) string { return "sherd-collector-" + id }

// freezers gives a collector the node's control groups to write to: freezing a container is writing into one.
func freezers(p *corev1.PodSpec) {
	p.Volumes = append(p.Volumes, corev1.Volume{Name: "cgroups", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/sys/fs/cgroup"}}})
	c := &p.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "cgroups", MountPath: "/host/sys/fs/cgroup"})
}

// job is the collector's, pinned to a node: not scheduled, so that cordons and full nodes don't matter, tolerating every taint.
func job(id, node string, o Options) *batchv1.Job {
	zero, none, ttl, deadline := int32(0), int64(0), int32(60), int64(o.Deadline/time.Second)
	no, yes, root := false, true, int64(0)
	ifPossible := corev1.RecursiveReadOnlyIfPossible
	labels := map[string]string{ManagedBy: Manager, SessionLabel: id, "app.kubernetes.io/name": "sherd-collector"}
	args := []string{"wait", "--host-root", "/host", "--dir", spool, "--deadline", o.Deadline.String()}
	if o.ContainerdAddress != "" {
		args = append(args, "--containerd-address", o.ContainerdAddress)
	}
	var add []corev1.Capability
	for _, c := range Capabilities {
		add = append(add, corev1.Capability(c.Name))
	}
	var pulls []corev1.LocalObjectReference
	for _, s := range o.Secrets {
		pulls = append(pulls, corev1.LocalObjectReference{Name: s})
	}
	j := &batchv1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Name: jobName(id), Namespace: o.Namespace, Labels: labels},
		Spec: batchv1.JobSpec{
			BackoffLimit: &zero, TTLSecondsAfterFinished: &ttl, ActiveDeadlineSeconds: &deadline,
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					NodeName: node, HostPID: true, RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: &none,
					AutomountServiceAccountToken: &no, EnableServiceLinks: &no, ImagePullSecrets: pulls,
					Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
					Containers: []corev1.Container{{
						Name: container, Image: o.Image, ImagePullPolicy: o.Pull, Args: args,
						TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
						Resources: corev1.ResourceRequirements{
							Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi"), corev1.ResourceCPU: resource.MustParse("50m")},
							// The capture itself needs 75 MiB; pages of the package's file count too until they are written.
							Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("512Mi")},
						},
						SecurityContext: &corev1.SecurityContext{
							RunAsUser: &root, RunAsGroup: &root, ReadOnlyRootFilesystem: &yes, Privileged: &no,
							Capabilities:    &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: add},
							AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined},
						},
						VolumeMounts: []corev1.VolumeMount{
							{Name: "host", MountPath: "/host", ReadOnly: true, RecursiveReadOnly: &ifPossible},
							{Name: "spool", MountPath: "/spool"},
							{Name: "tmp", MountPath: "/tmp"},
						},
					}},
					Volumes: []corev1.Volume{
						{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}},
						{Name: "spool", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
						{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
					},
				},
			},
		},
	}
	if o.frugal {
		// Written down as nothing: left out, the limit would be asked for.
		requests := j.Spec.Template.Spec.Containers[0].Resources.Requests
		for name := range requests {
			requests[name] = resource.MustParse("0")
		}
	}
	if o.Freeze {
		freezers(&j.Spec.Template.Spec)
	}
	return j
}
