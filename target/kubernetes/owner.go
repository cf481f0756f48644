package kubernetes

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// WorkloadOf is the resource of an owner that is one of Kubernetes's own workloads.
func WorkloadOf(o *metav1.OwnerReference) (schema.GroupVersionResource, bool) {
	gv, err := schema.ParseGroupVersion(o.APIVersion)
	if err != nil {
		return schema.GroupVersionResource{}, false
	}
	if k := kindOf(o.Kind); k != nil && k.GVR.Group == gv.Group {
		return k.GVR, true
	}
	return schema.GroupVersionResource{}, false
}
