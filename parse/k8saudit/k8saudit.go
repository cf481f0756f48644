// Package k8saudit reads the audit log of a Kubernetes API server: Event objects of audit.k8s.io as lines or in an EventList, and the same
// events in the envelopes of clouds: Amazon EKS (CloudWatch Logs: logEvents of a subscription, or lines of an export), Google GKE (LogEntry
// objects whose service is k8s.io) and Azure AKS (diagnostic records of the categories kube-audit and kube-audit-admin).
//
// Specification: https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/
//
// An event proves that somebody who held the credentials of this user asked the API server for this, from which address the connection came, and what was
// answered. It does not prove who held them; the user agent, and all but the last of the addresses, are the caller's own word. Bodies are only
// there where the policy asks for them, and events below its level are missing.
package k8saudit

import (
	"context"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is the audit log of Kubernetes, in any envelope.
var Format = parse.Format{
	Name:  "k8saudit",
	Title: "Kubernetes audit log",
	Spec:  "https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/",
	Sniff: sniff,
	Read:  read,
}

var options = jsonrecords.Options{Members: []string{"items", "logEvents", "records", "entries"}}

func isEvent(root jsonrecords.Node) bool {
	return strings.HasPrefix(root.Get("apiVersion").Text(), "audit.k8s.io/") && root.Get("verb").Exists()
}

func isGKE(root jsonrecords.Node) bool { return root.Get("protoPayload", "serviceName").Is("k8s.io") }

func isAKS(root jsonrecords.Node) bool {
	return strings.HasPrefix(root.Get("category").Text(), "kube-audit") && root.Get("properties", "log").Exists()
}

// isEKS is an event of CloudWatch Logs whose message is an audit event.
func isEKS(root jsonrecords.Node) bool {
	return strings.Contains(root.Get("message").Text(), `"audit.k8s.io/`)
}

func is(root jsonrecords.Node) bool {
	return isEvent(root) || isGKE(root) || isAKS(root) || isEKS(root)
}

func sniff(head []byte) parse.Confidence {
	if jsonrecords.Sniff(head, options, is) {
		return parse.Certain
	}
	return parse.No
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	var inner jsonrecords.Tree
	return jsonrecords.Events(ctx, in, emit, options, func(r *jsonrecords.Row, root jsonrecords.Node) bool {
		text := ""
		switch {
		case isEvent(root):
			return fill(r, root)
		case isGKE(root):
			return gke(r, root)
		case isAKS(root):
			text = root.Get("properties", "log").Text()
			r.Node = root.Get("properties", "pod").Text()
		case isEKS(root):
			text = root.Get("message").Text()
		default:
			return false
		}
		audit, ok := inner.Parse([]byte(text))
		return ok && isEvent(audit) && fill(r, audit)
	})
}

// fill takes an Event of audit.k8s.io.
func fill(r *jsonrecords.Row, root jsonrecords.Node) bool {
	if !r.When(root.Get("requestReceivedTimestamp")) && !r.When(root.Get("stageTimestamp")) {
		r.When(root.Get("timestamp")) // v1beta1
	}
	verb := root.Get("verb").Text()
	ref := root.Get("objectRef")
	q := request{
		verb: verb, resource: ref.Get("resource").Text(), sub: ref.Get("subresource").Text(), group: ref.Get("apiGroup").Text(),
		namespace: ref.Get("namespace").Text(), name: ref.Get("name").Text(), uri: root.Get("requestURI").Text(), user: root.Get("user", "username").Text(),
		as: root.Get("impersonatedUser", "username").Text(), reason: root.Get("responseStatus", "message").Text(),
	}
	q.code, _ = root.Get("responseStatus", "code").Int()
	q.from = root.Get("sourceIPs").At(root.Get("sourceIPs").Len() - 1).Text()
	if q.name == "" && verb == "create" {
		q.name = root.Get("responseObject", "metadata", "name").Text()
	}
	if root.Get("sourceIPs").Len() > 1 {
		r.Attr.String("source_ips", jsonrecords.Clip(strings.Join(jsonrecords.Strings(root.Get("sourceIPs")), ",")))
	}
	r.Put("http_user_agent", root.Get("userAgent"))
	if s := root.Get("stage").Text(); s != "ResponseComplete" {
		r.Attr.String("stage", jsonrecords.Clip(s))
	}
	r.Attr.String("groups", jsonrecords.Clip(strings.Join(jsonrecords.Strings(root.Get("user", "groups")), ",")))
	r.Put("audit_id", root.Get("auditID"))
	notes := root.Get("annotations")
	r.Put("decision", notes.Get("authorization.k8s.io/decision"))
	r.Put("authorized_by", notes.Get("authorization.k8s.io/reason"))
	extra := root.Get("user", "extra")
	q.asker = extra.Get("authentication.kubernetes.io/pod-name").At(0).Text()
	r.Put("pod_of_user", extra.Get("authentication.kubernetes.io/pod-name").At(0))
	r.Put("node_of_user", extra.Get("authentication.kubernetes.io/node-name").At(0))
	containers(r, root.Get("requestObject"))
	q.put(r)
	return true
}

// containers names the images that a request would run.
func containers(r *jsonrecords.Row, object jsonrecords.Node) {
	spec := object.Get("spec")
	if t := spec.Get("template", "spec"); t.Exists() {
		spec = t
	}
	var images []string
	for _, list := range []string{"containers", "initContainers", "ephemeralContainers"} {
		spec.Get(list).Each(func(_ string, c jsonrecords.Node) bool {
			images = append(images, c.Get("image").Text())
			if c.Get("securityContext", "privileged").Bool() {
				r.Attr.Bool("privileged", true)
			}
			return len(images) < 16
		})
	}
	r.Attr.String("images", jsonrecords.Clip(strings.Join(images, ",")))
	if spec.Get("hostPID").Bool() || spec.Get("hostNetwork").Bool() {
		r.Attr.Bool("host_namespaces", true)
	}
}

// gke takes a LogEntry of Cloud Audit Logs.
func gke(r *jsonrecords.Row, root jsonrecords.Node) bool {
	r.When(root.Get("timestamp"))
	p := root.Get("protoPayload")
	q := request{user: p.Get("authenticationInfo", "principalEmail").Text(), from: p.Get("requestMetadata", "callerIp").Text(),
		reason: p.Get("status", "message").Text()}
	if q.code, _ = p.Get("response", "code").Int(); q.code == 0 {
		// The status is gRPC's: 7 is forbidden, 5 not found, 16 not authenticated.
		switch c, _ := p.Get("status", "code").Int(); c {
		case 7:
			q.code = 403
		case 5:
			q.code = 404
		case 16:
			q.code = 401
		}
	}
	// io.k8s.core.v1.pods.exec.create on core/v1/namespaces/shop/pods/cart/exec
	method := p.Get("methodName").Text()
	q.verb = method[strings.LastIndexByte(method, '.')+1:]
	parts := strings.Split(p.Get("resourceName").Text(), "/")
	if len(parts) > 2 {
		if parts[0] != "core" {
			q.group = parts[0]
		}
		parts = parts[2:]
		if len(parts) > 2 && parts[0] == "namespaces" {
			q.namespace, parts = parts[1], parts[2:]
		}
		for i, to := range []*string{&q.resource, &q.name, &q.sub} {
			if i < len(parts) {
				*to = parts[i]
			}
		}
	}
	r.Put("http_user_agent", p.Get("requestMetadata", "callerSuppliedUserAgent"))
	r.Put("cluster", root.Get("resource", "labels", "cluster_name"))
	r.Put("account", root.Get("resource", "labels", "project_id"))
	r.Put("decision", root.Get("labels", "authorization.k8s.io/decision"))
	r.Put("authorized_by", root.Get("labels", "authorization.k8s.io/reason"))
	containers(r, p.Get("request"))
	q.put(r)
	return true
}

// request is what all envelopes tell.
type request struct {
	verb, resource, sub, group, namespace, name, uri, user, as, from, reason string
	code                                                                     int64
	asker                                                                    string // the pod whose token asked
}

// pod is the one that the request is about, or else the one that made it.
func (q *request) pod() string {
	if q.resource == "pods" {
		return q.name
	}
	return q.asker
}

// put fills columns and the sentence.
func (q *request) put(r *jsonrecords.Row) {
	r.Kind = event.K8sAudit
	r.Identity, r.Namespace = q.user, q.namespace
	r.SrcIP = jsonrecords.Address(q.from)
	if pod := q.pod(); pod != r.Pod && (pod != "" || q.resource == "pods") {
		r.Pod = pod
		r.Container, r.ContainerID, r.ImageDigest = "", "", "" // those of the package's own pod
	}
	object := q.resource
	if q.sub != "" {
		object += "/" + q.sub
	}
	r.Attr.String("verb", jsonrecords.Clip(q.verb))
	r.Attr.String("resource", jsonrecords.Clip(object))
	r.Attr.String("name", jsonrecords.Clip(q.name))
	r.Attr.String("api_group", jsonrecords.Clip(q.group))
	r.Attr.String("impersonated", jsonrecords.Clip(q.as))
	if q.code != 0 {
		r.Attr.Int("response_code", q.code)
	}
	r.Technique = q.technique()
	var b strings.Builder
	who := q.user
	if who == "" {
		who = "somebody"
	}
	b.WriteString(who)
	if q.as != "" {
		b.WriteString(" as " + q.as)
	}
	b.WriteString(": " + q.what())
	if q.from != "" {
		b.WriteString(" from " + q.from)
	}
	if q.code >= 400 {
		b.WriteString(": refused with " + strconv.FormatInt(q.code, 10))
		if q.reason != "" {
			b.WriteString(", " + q.reason)
		}
	}
	r.Message = b.String()
}

// what says in words what was asked for.
func (q *request) what() string {
	place := q.name
	if q.namespace != "" {
		place = q.namespace + "/" + q.name
		if q.name == "" {
			place = "namespace " + q.namespace
		}
	}
	switch q.resource + "/" + q.sub {
	case "pods/exec":
		return "ran a command in pod " + place
	case "pods/attach":
		return "attached to pod " + place
	case "pods/portforward":
		return "forwarded a port of pod " + place
	case "pods/ephemeralcontainers":
		if q.verb != "get" {
			return "put a debug container into pod " + place
		}
	case "pods/log":
		return "read the log of pod " + place
	case "serviceaccounts/token":
		return "asked for a token of service account " + place
	case "/":
		return q.verb + " " + q.uri
	}
	s := q.verb + " " + q.resource
	if q.sub != "" {
		s += "/" + q.sub
	}
	if strings.Trim(place, "/") != "" {
		s += " " + place
	}
	return s
}

// technique is that of MITRE ATT&CK where the request itself is one, whoever made it.
func (q *request) technique() string {
	if q.code >= 400 {
		return ""
	}
	switch q.resource + "/" + q.sub {
	case "pods/exec", "pods/attach":
		return "T1609"
	case "pods/ephemeralcontainers":
		if q.verb == "patch" || q.verb == "update" {
			return "T1609"
		}
	case "secrets/":
		if q.verb == "list" {
			return "T1552.007"
		}
	}
	return ""
}
