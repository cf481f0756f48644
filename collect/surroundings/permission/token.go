package permission

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// defaultSeconds is how long a projected token is valid whose specification does not say.
const defaultSeconds = 3600

// Tokens gives the service account tokens that the pod's volumes hold, the one that admission adds among them.
func Tokens(pod *corev1.Pod) []record.Token {
	out := []record.Token{}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken == nil {
				continue
			}
			t := record.Token{Audience: s.ServiceAccountToken.Audience, Seconds: defaultSeconds}
			if e := s.ServiceAccountToken.ExpirationSeconds; e != nil {
				t.Seconds = *e
			}
			out = append(out, places(pod, v.Name, s.ServiceAccountToken.Path, t)...)
		}
	}
	return out
}

// places gives the token once for each path at which containers see it; once without a path if none mounts it.
func places(pod *corev1.Pod, volume, file string, t record.Token) []record.Token {
	var out []record.Token
	each(pod, func(c *corev1.Container) {
		for _, m := range c.VolumeMounts {
			if m.Name != volume {
				continue
			}
			at := path.Join(m.MountPath, file)
			if sub := strings.Trim(path.Clean("/"+m.SubPath), "/"); sub != "" {
				rest, ok := strings.CutPrefix(file+"/", sub+"/")
				if !ok {
					continue
				}
				at = path.Join(m.MountPath, rest)
			}
			i := slices.IndexFunc(out, func(o record.Token) bool { return o.Path == at })
			if i < 0 {
				t.Path, t.Container = at, nil
				out = append(out, t)
				i = len(out) - 1
			}
			out[i].Container = append(out[i].Container, c.Name)
		}
	})
	if out == nil {
		t.Container = []string{}
		return []record.Token{t}
	}
	return out
}

// each calls fn with every container of the pod, in the order in which they start.
func each(pod *corev1.Pod, fn func(*corev1.Container)) {
	for i := range pod.Spec.InitContainers {
		fn(&pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		fn(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.EphemeralContainers {
		c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		fn(&c)
	}
}

// cloudMarks are annotations, labels and variables by which clouds tie an identity of theirs to a pod.
var cloudMarks = []struct{ where, key, provider string }{
	{"account", "eks.amazonaws.com/role-arn", "aws"},
	{"account", "iam.gke.io/gcp-service-account", "gcp"},
	{"account", "azure.workload.identity/client-id", "azure"},
	{"pod", "iam.amazonaws.com/role", "aws"}, // kube2iam, kiam
	{"pod", "azure.workload.identity/client-id", "azure"},
	{"label", "aadpodidbinding", "azure"},
	{"variable", "AWS_ROLE_ARN", "aws"},
	{"variable", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "aws"}, // EKS Pod Identity: its agent knows the role
	{"variable", "AZURE_CLIENT_ID", "azure"},
}

// Cloud gives the identities of clouds that the service account or the pod is tied to. account may be nil.
func Cloud(pod *corev1.Pod, account *corev1.ServiceAccount) []record.CloudRole {
	var out []record.CloudRole
	put := func(provider, role, from, tenant string) {
		if role != "" && !slices.ContainsFunc(out, func(c record.CloudRole) bool { return c.Provider == provider && c.Role == role }) {
			out = append(out, record.CloudRole{Provider: provider, Role: role, From: from, Tenant: tenant})
		}
	}
	notes := map[string]string{}
	if account != nil {
		notes = account.Annotations
	}
	for _, m := range cloudMarks {
		switch m.where {
		case "account":
			tenant := ""
			if m.provider == "azure" {
				tenant = notes["azure.workload.identity/tenant-id"]
			}
			put(m.provider, notes[m.key], "serviceaccount annotation "+m.key, tenant)
		case "pod":
			put(m.provider, pod.Annotations[m.key], "pod annotation "+m.key, "")
		case "label":
			put(m.provider, pod.Labels[m.key], "pod label "+m.key, "")
		case "variable":
			each(pod, func(c *corev1.Container) {
				for _, e := range c.Env {
					if e.Name != m.key {
						continue
					}
					role := e.Value
					if m.key == "AWS_CONTAINER_CREDENTIALS_FULL_URI" && role != "" {
						role = "by EKS Pod Identity, " + role
					}
					put(m.provider, role, "variable "+m.key+" of container "+c.Name, "")
				}
			})
		}
	}
	return out
}
