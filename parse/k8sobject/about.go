package k8sobject

import (
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// about is how objects of some kinds are told.
type about struct {
	kind event.Kind
	// words sum the object up for the event of its making, and may fill columns and attributes.
	words func(w *jsonrecords.Row, o jsonrecords.Node) string
	// more emits events that only objects of this kind have.
	more func(r *reader)
}

// kinds are those that are told in their own words, by group and kind.
var kinds = map[string]*about{
	"apps/Deployment":         {event.K8sWorkload, workload, rollout},
	"apps/ReplicaSet":         {event.K8sWorkload, workload, nil},
	"apps/StatefulSet":        {event.K8sWorkload, workload, rollout},
	"apps/DaemonSet":          {event.K8sWorkload, workload, rollout},
	"apps/ControllerRevision": {event.K8sWorkload, nil, nil},
	"/ReplicationController":  {event.K8sWorkload, workload, nil},
	"batch/Job":               {event.K8sWorkload, workload, job},
	"batch/CronJob":           {event.K8sWorkload, cronJob, cronJobRuns},

	"rbac.authorization.k8s.io/Role":               {event.K8sRBAC, role, nil},
	"rbac.authorization.k8s.io/ClusterRole":        {event.K8sRBAC, role, nil},
	"rbac.authorization.k8s.io/RoleBinding":        {event.K8sRBAC, binding, nil},
	"rbac.authorization.k8s.io/ClusterRoleBinding": {event.K8sRBAC, binding, nil},
	"/ServiceAccount":                              {event.K8sRBAC, account, nil},

	"/Service":                        {event.K8sNetwork, service, nil},
	"discovery.k8s.io/EndpointSlice":  {event.K8sNetwork, slice, nil},
	"networking.k8s.io/Ingress":       {event.K8sNetwork, ingress, nil},
	"networking.k8s.io/NetworkPolicy": {event.K8sNetwork, policy, nil},

	"/Node": {event.K8sNode, node, taints},

	"admissionregistration.k8s.io/MutatingWebhookConfiguration":   {event.K8sAdmission, webhooks, nil},
	"admissionregistration.k8s.io/ValidatingWebhookConfiguration": {event.K8sAdmission, webhooks, nil},

	"/Namespace": {event.K8sObject, namespace, nil},
}

// groups are kinds of which all are told alike.
var groups = map[string]*about{
	"gateway.networking.k8s.io":    {event.K8sNetwork, gateway, parents},
	"networking.k8s.io":            {event.K8sNetwork, nil, nil},
	"admissionregistration.k8s.io": {event.K8sAdmission, nil, nil},
	"rbac.authorization.k8s.io":    {event.K8sRBAC, nil, nil},
}

var other = &about{kind: event.K8sObject}

func aboutOf(o jsonrecords.Node) *about {
	group, _, ok := strings.Cut(o.Get("apiVersion").Text(), "/")
	if !ok {
		group = ""
	}
	if a := kinds[group+"/"+o.Get("kind").Text()]; a != nil {
		return a
	}
	if a := groups[group]; a != nil {
		return a
	}
	return other
}

func workload(w *jsonrecords.Row, o jsonrecords.Node) string {
	var images, privileged []string
	for _, l := range []string{"initContainers", "containers"} {
		each(o.Get("spec", "template", "spec", l), func(c jsonrecords.Node) {
			if s := c.Get("image").Text(); s != "" && len(images) < 16 {
				images = append(images, s)
			}
			if c.Get("securityContext", "privileged").Bool() {
				privileged = append(privileged, c.Get("name").Text())
			}
		})
	}
	w.Attr.String("privileged", jsonrecords.Clip(strings.Join(privileged, " ")))
	s := "runs " + strings.Join(images, ", ")
	if len(images) == 0 {
		s = ""
	}
	w.Attr.String("images", jsonrecords.Clip(strings.Join(images, " ")))
	if name := o.Get("spec", "template", "spec", "serviceAccountName").Text(); name != "" {
		w.Identity = "system:serviceaccount:" + w.Namespace + ":" + name
	}
	notes := o.Get("metadata", "annotations")
	if rev := notes.Get("deployment.kubernetes.io/revision").Text(); rev != "" {
		w.Attr.String("revision", jsonrecords.Clip(rev))
		if o.Get("kind").Is("ReplicaSet") {
			s = "rollout " + rev + after(" ", s)
		}
	}
	w.Put("change_cause", notes.Get("kubernetes.io/change-cause"))
	w.Put("replicas", o.Get("spec", "replicas"))
	return s
}

// rollout is a restart that somebody asked for: its time stands in the template.
func rollout(r *reader) {
	at := r.o.Get("spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt")
	r.begin(event.Changed)
	r.end(at, "was asked to restart its pods")
}

func job(r *reader) {
	status := r.o.Get("status")
	r.begin(event.Started)
	r.end(status.Get("startTime"), "started")
	w := r.begin(event.Exited)
	w.Put("succeeded", status.Get("succeeded"))
	w.Put("failed", status.Get("failed"))
	r.end(status.Get("completionTime"), "completed")
}

func cronJob(w *jsonrecords.Row, o jsonrecords.Node) string {
	w.Put("schedule", o.Get("spec", "schedule"))
	images := list(o.Get("spec", "jobTemplate", "spec", "template", "spec", "containers"), func(c jsonrecords.Node) string { return c.Get("image").Text() })
	w.Attr.String("images", jsonrecords.Clip(images))
	return "runs " + images + " at " + o.Get("spec", "schedule").Text()
}

func cronJobRuns(r *reader) {
	r.begin(event.Started)
	r.end(r.o.Get("status", "lastScheduleTime"), "last started a job")
	r.begin(event.Exited)
	r.end(r.o.Get("status", "lastSuccessfulTime"), "last had a job that succeeded")
}

func role(w *jsonrecords.Row, o jsonrecords.Node) string {
	s := list(o.Get("rules"), func(r jsonrecords.Node) string {
		what := texts(r.Get("resources"))
		if what == "" {
			what = texts(r.Get("nonResourceURLs"))
		}
		return texts(r.Get("verbs")) + " " + what + after(" named ", texts(r.Get("resourceNames")))
	})
	w.Attr.Int("rules", int64(o.Get("rules").Len()))
	return after("allows ", s)
}

func binding(w *jsonrecords.Row, o jsonrecords.Node) string {
	grants := o.Get("roleRef", "kind").Text() + "/" + o.Get("roleRef", "name").Text()
	accounts := 0
	subjects := list(o.Get("subjects"), func(s jsonrecords.Node) string {
		name := s.Get("name").Text()
		if s.Get("kind").Is("ServiceAccount") {
			ns := s.Get("namespace").Text()
			if ns == "" {
				ns = o.Get("metadata", "namespace").Text()
			}
			if accounts++; accounts == 1 {
				w.Identity = "system:serviceaccount:" + ns + ":" + name
			}
			name = ns + "/" + name
		}
		return s.Get("kind").Text() + " " + name
	})
	if accounts > 1 {
		w.Identity = ""
	}
	w.Attr.String("role", jsonrecords.Clip(grants))
	w.Attr.String("subjects", jsonrecords.Clip(subjects))
	if subjects == "" {
		subjects = "nobody"
	}
	return "grants " + grants + " to " + subjects
}

func account(w *jsonrecords.Row, o jsonrecords.Node) string {
	w.Identity = "system:serviceaccount:" + w.Namespace + ":" + o.Get("metadata", "name").Text()
	for _, key := range []string{"eks.amazonaws.com/role-arn", "iam.gke.io/gcp-service-account", "azure.workload.identity/client-id"} {
		if v := o.Get("metadata", "annotations", key).Text(); v != "" {
			w.Attr.String("cloud_identity", jsonrecords.Clip(v))
			return "stands for " + v + " in the cloud"
		}
	}
	return ""
}

func service(w *jsonrecords.Row, o jsonrecords.Node) string {
	spec := o.Get("spec")
	w.Put("selector", spec.Get("selector"))
	w.Put("cluster_ip", spec.Get("clusterIP"))
	w.Put("external_ips", spec.Get("externalIPs"))
	ports := list(spec.Get("ports"), func(p jsonrecords.Node) string {
		return p.Get("protocol").Text() + " " + p.Get("port").Text() + after(" at node port ", p.Get("nodePort").Text())
	})
	return spec.Get("type").Text() + after(" for ", ports)
}

func slice(w *jsonrecords.Row, o jsonrecords.Node) string {
	s := list(o.Get("endpoints"), func(e jsonrecords.Node) string {
		return texts(e.Get("addresses")) + after(" ", e.Get("targetRef", "name").Text())
	})
	w.Put("service", o.Get("metadata", "labels", "kubernetes.io/service-name"))
	return after("leads to ", s)
}

func ingress(w *jsonrecords.Row, o jsonrecords.Node) string {
	w.Put("class", o.Get("spec", "ingressClassName"))
	s := list(o.Get("spec", "rules"), func(r jsonrecords.Node) string {
		to := list(r.Get("http", "paths"), func(p jsonrecords.Node) string {
			return p.Get("path").Text() + " to service " + p.Get("backend", "service", "name").Text()
		})
		return r.Get("host").Text() + after(" ", to)
	})
	if d := o.Get("spec", "defaultBackend", "service", "name").Text(); d != "" {
		s = strings.TrimPrefix(s+"; anything else to service "+d, "; ")
	}
	return after("leads ", s)
}

func policy(w *jsonrecords.Row, o jsonrecords.Node) string {
	w.Put("pod_selector", o.Get("spec", "podSelector"))
	w.Attr.Int("ingress_rules", int64(o.Get("spec", "ingress").Len()))
	w.Attr.Int("egress_rules", int64(o.Get("spec", "egress").Len()))
	return after("bounds ", texts(o.Get("spec", "policyTypes")))
}

func gateway(w *jsonrecords.Row, o jsonrecords.Node) string {
	spec := o.Get("spec")
	w.Put("class", spec.Get("gatewayClassName"))
	w.Put("hostnames", spec.Get("hostnames"))
	if l := list(spec.Get("listeners"), func(l jsonrecords.Node) string {
		return l.Get("protocol").Text() + " " + l.Get("port").Text() + after(" for ", l.Get("hostname").Text())
	}); l != "" {
		return "listens for " + l
	}
	return after("leads to ", list(spec.Get("rules"), func(r jsonrecords.Node) string {
		return list(r.Get("backendRefs"), func(b jsonrecords.Node) string { return b.Get("name").Text() })
	}))
}

// parents are a route's gateways, each with conditions of its own.
func parents(r *reader) {
	each(r.o.Get("status", "parents"), func(p jsonrecords.Node) { r.conditions(p.Get("conditions")) })
}

func node(w *jsonrecords.Row, o jsonrecords.Node) string {
	info := o.Get("status", "nodeInfo")
	w.Put("kernel", info.Get("kernelVersion"))
	w.Put("runtime", info.Get("containerRuntimeVersion"))
	w.Put("boot_id", info.Get("bootID"))
	w.Attr.String("addresses", jsonrecords.Clip(list(o.Get("status", "addresses"), func(a jsonrecords.Node) string { return a.Get("address").Text() })))
	return after("", info.Get("osImage").Text()) + after(", kubelet ", info.Get("kubeletVersion").Text())
}

// taints are what keeps pods off a node, some with the time at which they came.
func taints(r *reader) {
	each(r.o.Get("spec", "taints"), func(t jsonrecords.Node) {
		r.begin(event.Changed)
		r.end(t.Get("timeAdded"), "was tainted: %s%s", t.Get("key").Text(), after(" ", t.Get("effect").Text()))
	})
}

func webhooks(w *jsonrecords.Row, o jsonrecords.Node) string {
	s := list(o.Get("webhooks"), func(h jsonrecords.Node) string {
		to := h.Get("clientConfig", "url").Text()
		if svc := h.Get("clientConfig", "service"); svc.Exists() {
			to = "service " + svc.Get("namespace").Text() + "/" + svc.Get("name").Text()
		}
		return h.Get("name").Text() + after(" at ", to)
	})
	w.Attr.Int("webhooks", int64(o.Get("webhooks").Len()))
	return after("asks ", s)
}

func namespace(w *jsonrecords.Row, o jsonrecords.Node) string {
	w.Namespace = o.Get("metadata", "name").Text()
	level := o.Get("metadata", "labels", "pod-security.kubernetes.io/enforce").Text()
	w.Attr.String("pod_security", jsonrecords.Clip(level))
	return after("Pod Security ", level)
}
