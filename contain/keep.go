package contain

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// deletionCost is by which a replica set chooses what it deletes: the highest last.
const deletionCost = "controller.kubernetes.io/pod-deletion-cost"

// keepers are the annotations by which those who move pods leave one alone.
var keepers = map[string]string{
	"cluster-autoscaler.kubernetes.io/safe-to-evict":     "false", // Cluster Autoscaler
	"karpenter.sh/do-not-disrupt":                        "true",  // Karpenter
	"descheduler.alpha.kubernetes.io/prefer-no-eviction": "true",  // descheduler
}

// annotationKeys are all that an isolation may change.
func annotationKeys() []string {
	return append(slices.Sorted(maps.Keys(keepers)), deletionCost)
}

// mortal says what ends a pod whatever is done here.
func mortal(p *corev1.Pod) []string {
	var out []string
	if p.DeletionTimestamp != nil {
		out = append(out, "the pod is being deleted already: its containers end by "+p.DeletionTimestamp.UTC().Format(time.RFC3339))
	}
	if s := p.Spec.ActiveDeadlineSeconds; s != nil {
		out = append(out, fmt.Sprintf("the pod ends %d s after its start (activeDeadlineSeconds), and that can't be lengthened", *s))
	}
	if _, ok := p.Annotations["descheduler.alpha.kubernetes.io/evict"]; ok {
		out = append(out, "the annotation descheduler.alpha.kubernetes.io/evict asks the descheduler to evict the pod, whatever else is said")
	}
	return out
}

// keepLimits is what the annotations don't bind.
const keepLimits = "the annotations bind autoscalers, not the kubelet under pressure, a higher priority, `kubectl drain --force`, or whoever deletes the pod or its namespace; " +
	"a descheduler obeys for certain only if its noEvictionPolicy is Mandatory"
