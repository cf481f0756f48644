// Package gcpaudit reads Cloud Audit Logs of Google Cloud: LogEntry objects whose protoPayload is an AuditLog, as lines (a sink to Cloud Storage), as an
// array (gcloud logging read) or in the answer of entries.list.
//
// Specification: https://cloud.google.com/logging/docs/reference/audit/auditlog/rest/Shared.Types/AuditLog
//
// An entry proves that the service was asked for this method on behalf of this principal and what it answered: a status with a code is a refusal or
// failure. It does not prove who held the credentials; the caller's address is redacted or "private" for calls from within Google, and the user agent is the
// caller's own word. Data access is only there when it was switched on.
package gcpaudit

import (
	"context"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is Google Cloud's audit log. Entries of a cluster's API server (k8s.io) are left to the format of Kubernetes audit logs when a
// file begins with them.
var Format = parse.Format{
	Name:  "gcpaudit",
	Title: "Google Cloud audit log",
	Spec:  "https://cloud.google.com/logging/docs/reference/audit/auditlog/rest/Shared.Types/AuditLog",
	Sniff: sniff,
	Read:  read,
}

var options = jsonrecords.Options{Members: []string{"entries"}}

func is(root jsonrecords.Node) bool {
	p := root.Get("protoPayload")
	return p.Get("methodName").Exists() && p.Get("serviceName").Exists() && (root.Get("timestamp").Exists() || root.Get("logName").Exists())
}

// isCluster is an entry of a Kubernetes API server.
func isCluster(root jsonrecords.Node) bool {
	return root.Get("protoPayload", "serviceName").Is("k8s.io")
}

func sniff(head []byte) parse.Confidence {
	if jsonrecords.Sniff(head, options, func(root jsonrecords.Node) bool { return is(root) && !isCluster(root) }) {
		return 90 // a file of both kinds is the cluster's when it has its entries
	}
	return parse.No
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	return jsonrecords.Events(ctx, in, emit, options, fill)
}

func fill(r *jsonrecords.Row, root jsonrecords.Node) bool {
	if !is(root) {
		return false
	}
	r.Kind = event.CloudAPI
	if !r.When(root.Get("timestamp")) {
		r.When(root.Get("receiveTimestamp"))
	}
	p := root.Get("protoPayload")
	service, method := p.Get("serviceName").Text(), p.Get("methodName").Text()
	if isCluster(root) {
		r.Kind = event.K8sAudit
	}
	who := p.Get("authenticationInfo")
	if r.Identity = who.Get("principalEmail").Text(); r.Identity == "" {
		r.Identity = who.Get("principalSubject").Text()
	}
	meta := p.Get("requestMetadata")
	from := meta.Get("callerIp").Text()
	if r.SrcIP = jsonrecords.Address(from); r.SrcIP == "" {
		r.Attr.String("source", jsonrecords.Clip(from))
	}
	resource := p.Get("resourceName").Text()
	r.Attr.String("service", jsonrecords.Clip(service))
	r.Attr.String("operation", jsonrecords.Clip(method))
	r.Attr.String("resource", jsonrecords.Clip(resource))
	r.Put("http_user_agent", meta.Get("callerSuppliedUserAgent"))
	labels := root.Get("resource", "labels")
	r.Put("resource_type", root.Get("resource", "type"))
	r.Put("account", labels.Get("project_id"))
	r.Put("region", labels.First("location", "zone", "region"))
	r.Put("cluster", labels.Get("cluster_name"))
	r.Put("instance", labels.Get("instance_id"))
	r.Put("bucket", labels.Get("bucket_name"))
	r.Put("severity", root.Get("severity"))
	r.Put("event_id", root.Get("insertId"))
	if name := root.Get("logName").Text(); name != "" {
		name = name[strings.LastIndexByte(name, '/')+1:]
		r.Attr.String("log", jsonrecords.Clip(strings.ReplaceAll(name, "%2F", "/")))
	}
	r.Put("key", who.Get("serviceAccountKeyName"))
	if !who.Get("principalSubject").Is(r.Identity) {
		r.Put("principal", who.Get("principalSubject"))
	}
	delegation(r, who.Get("serviceAccountDelegationInfo"))
	granted(r, p.Get("authorizationInfo"))
	r.Put("policy_changes", p.Get("serviceData", "policyDelta", "bindingDeltas"))
	failure := ""
	if code, _ := p.Get("status", "code").Int(); code != 0 {
		failure = p.Get("status", "message").Text()
		if failure == "" {
			failure = "status " + p.Get("status", "code").Text()
		}
		r.Attr.Int("error_code", code)
		r.Attr.String("error_message", jsonrecords.Clip(failure))
	}
	name := r.Identity
	if name == "" {
		name = "someone"
	}
	if strings.HasPrefix(method, service) || strings.HasPrefix(method, "google.") {
		service = ""
	} else {
		service += ":"
	}
	r.Message = name + " called " + service + method
	if resource != "" {
		r.Message += " on " + resource
	}
	if from != "" {
		r.Message += " from " + from
	}
	if failure != "" {
		r.Message += ": " + failure
	}
	return true
}

// delegation is through whom the principal acts: the first is who began.
func delegation(r *jsonrecords.Row, n jsonrecords.Node) {
	var chain []string
	n.Each(func(_ string, d jsonrecords.Node) bool {
		s := d.Get("firstPartyPrincipal", "principalEmail").Text()
		if s == "" {
			s = d.Get("principalSubject").Text()
		}
		if s != "" {
			chain = append(chain, s)
		}
		return len(chain) < 16
	})
	r.Attr.String("delegation", jsonrecords.Clip(strings.Join(chain, ",")))
}

func granted(r *jsonrecords.Row, n jsonrecords.Node) {
	var yes, no []string
	n.Each(func(_ string, a jsonrecords.Node) bool {
		if a.Get("granted").Bool() {
			yes = append(yes, a.Get("permission").Text())
		} else {
			no = append(no, a.Get("permission").Text())
		}
		return len(yes)+len(no) < 16
	})
	r.Attr.String("granted", jsonrecords.Clip(strings.Join(yes, ",")))
	r.Attr.String("denied", jsonrecords.Clip(strings.Join(no, ",")))
}
