package contain

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// running are the containers of those meant that can be frozen.
func running(p *Pod) []*kubernetes.Instance {
	var out []*kubernetes.Instance
	for _, i := range p.Containers {
		if i.State == target.Running && i.ID != "" {
			out = append(out, i)
		}
	}
	return out
}

// killedBy says which probe has the kubelet kill a container that does not answer, and after how long; "" if none.
func killedBy(p *corev1.Pod, container string) string {
	for _, l := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range l {
			if l[i].Name != container || l[i].LivenessProbe == nil {
				continue
			}
			// What is not set is 10 s, three times, with a second for the answer (the API's defaults, which the server fills in).
			pr := l[i].LivenessProbe
			period, failures := max(pr.PeriodSeconds, 1), max(pr.FailureThreshold, 1)
			within := time.Duration(period*failures+max(pr.TimeoutSeconds, 1)) * time.Second
			return fmt.Sprintf("its liveness probe gets no answer then, and the kubelet kills it within %v: its memory would be lost", within)
		}
	}
	return ""
}

// freezeLimits is what freezing brings along.
const freezeLimits = "a frozen container answers nothing: readiness probes fail and its pod becomes not ready, clients run into timeouts, and connections stay open; " +
	"`kubectl exec` into it hangs"
