// Package azureactivity reads Azure's activity log: {"records":[…]} and lines as diagnostic settings export it to storage and event hubs, and the answers of the
// REST interface and of the command line (az monitor activity-log list).
//
// Specification: https://learn.microsoft.com/azure/azure-monitor/platform/activity-log-schema
//
// A record proves that the resource manager was asked for this operation with this identity's token and how far it came: an operation writes several
// (Started, Accepted, Succeeded or Failed). It does not prove who held the token. Reads are not in this log, nor is what was done inside a resource.
package azureactivity

import (
	"context"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is Azure's activity log.
var Format = parse.Format{
	Name:  "azureactivity",
	Title: "Azure activity log",
	Spec:  "https://learn.microsoft.com/azure/azure-monitor/platform/activity-log-schema",
	Sniff: sniff,
	Read:  read,
}

var options = jsonrecords.Options{Members: []string{"records", "value"}}

// categories of the activity log; other categories are other logs in the same envelope.
var categories = map[string]bool{
	"administrative": true, "security": true, "servicehealth": true, "alert": true, "autoscale": true, "policy": true, "recommendation": true, "resourcehealth": true,
	"write": true, "delete": true, "action": true, // in files of the storage account, older ones
}

// isExport is a record of a diagnostic setting, isAnswer one of the REST interface.
func isExport(n jsonrecords.Node) bool {
	return n.Get("operationName").Type() == jsonrecords.String && n.First("time", "Time").Exists() && n.First("resourceId", "resourceID").Exists() &&
		n.First("resultType", "resultSignature", "identity", "correlationId").Exists() && categories[strings.ToLower(n.Get("category").Text())]
}

func isAnswer(n jsonrecords.Node) bool {
	return n.Get("eventTimestamp").Exists() && n.Get("operationName").Exists() && n.First("resourceId", "resourceUri", "subscriptionId").Exists()
}

func sniff(head []byte) parse.Confidence {
	if jsonrecords.Sniff(head, options, func(n jsonrecords.Node) bool { return isExport(n) || isAnswer(n) }) {
		return parse.Certain
	}
	return parse.No
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	return jsonrecords.Events(ctx, in, emit, options, func(r *jsonrecords.Row, n jsonrecords.Node) bool {
		switch {
		case isExport(n):
			export(r, n)
		case isAnswer(n):
			answer(r, n)
		default:
			return false
		}
		return true
	})
}

func export(r *jsonrecords.Row, n jsonrecords.Node) {
	r.When(n.First("time", "Time"))
	id := n.Get("identity")
	claims(r, id.Get("claims"))
	authorization(r, id.Get("authorization"))
	r.SrcIP = jsonrecords.Address(n.Get("callerIpAddress").Text())
	r.Put("status_code", n.Get("properties", "statusCode"))
	r.Put("result_signature", n.Get("resultSignature"))
	if d := n.Get("durationMs"); d.Text() != "0" {
		r.Put("duration_ms", d)
	}
	r.Put("event_id", n.Get("properties", "eventDataId"))
	r.Put("region", n.Get("location"))
	say(r, n, n.Get("operationName").Text(), n.Get("category").Text(), n.First("resourceId", "resourceID").Text(), n.Get("resultType").Text())
}

func answer(r *jsonrecords.Row, n jsonrecords.Node) {
	r.When(n.Get("eventTimestamp"))
	claims(r, n.Get("claims"))
	if c := n.Get("caller").Text(); c != "" {
		r.Identity = c
	}
	authorization(r, n.Get("authorization"))
	h := n.Get("httpRequest")
	r.SrcIP = jsonrecords.Address(h.First("clientIpAddress", "clientIPAddress").Text())
	r.Put("http_method", h.Get("method"))
	r.Put("sub_status", n.Get("subStatus", "value"))
	r.Put("event_id", n.Get("eventDataId"))
	say(r, n, value(n.Get("operationName")), value(n.Get("category")), n.First("resourceId", "resourceUri").Text(), value(n.Get("status")))
}

// value is of {"value":…,"localizedValue":…}.
func value(n jsonrecords.Node) string {
	if v := n.Get("value"); v.Exists() {
		return v.Text()
	}
	return n.Text()
}

// The names of claims are addresses of schemas; these are their ends.
const (
	upn      = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn"
	fullName = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name"
	object   = "http://schemas.microsoft.com/identity/claims/objectidentifier"
)

// claims say who the token was of: a person's name, or the id of an application or managed identity.
func claims(r *jsonrecords.Row, c jsonrecords.Node) {
	r.Identity = c.First(upn, "upn", fullName, "unique_name", "name", "appid").Text()
	r.Put("app", c.Get("appid"))
	r.Put("object", c.First(object, "oid"))
	r.Put("managed_identity", c.Get("xms_mirid"))
	r.Put("auth_methods", c.First("http://schemas.microsoft.com/claims/authnmethodsreferences", "amr"))
	if ip := c.Get("ipaddr").Text(); ip != "" {
		r.Attr.String("token_ip", jsonrecords.Address(ip)) // where the person signed in
	}
	if r.Identity == "" {
		r.Identity = c.First(object, "oid").Text()
	}
}

func authorization(r *jsonrecords.Row, a jsonrecords.Node) {
	e := a.Get("evidence")
	r.Put("role", e.Get("role"))
	r.Put("role_scope", e.Get("roleAssignmentScope"))
	r.Put("principal_type", e.Get("principalType"))
	if r.Identity == "" {
		r.Identity = e.Get("principalId").Text()
	}
}

func say(r *jsonrecords.Row, n jsonrecords.Node, operation, category, resource, result string) {
	r.Kind = event.CloudAPI
	switch strings.ToLower(category) {
	case "security", "alert":
		r.Kind = event.Alert
	}
	r.Attr.String("operation", jsonrecords.Clip(operation))
	r.Attr.String("category", jsonrecords.Clip(category))
	r.Attr.String("resource", jsonrecords.Clip(resource))
	r.Attr.String("result", jsonrecords.Clip(result))
	r.Put("level", n.Get("level"))
	r.Put("correlation_id", n.Get("correlationId"))
	parts := strings.Split(resource, "/")
	for i := 0; i+1 < len(parts) && i < 16; i++ {
		if strings.EqualFold(parts[i], "subscriptions") {
			r.Attr.String("account", jsonrecords.Clip(parts[i+1]))
		}
	}
	who := r.Identity
	if who == "" {
		who = "someone"
	}
	r.Message = who + " asked for " + operation
	if r.Kind == event.Alert {
		r.Message = "Azure: " + operation
		if t := n.Get("properties").First("alertDisplayName", "title", "eventName", "description"); t.Exists() {
			r.Message = "Azure: " + t.Text()
		}
	}
	if resource != "" {
		r.Message += " on " + resource
	}
	if r.SrcIP != "" {
		r.Message += " from " + r.SrcIP
	}
	if result != "" {
		r.Message += ": " + result
	}
}
