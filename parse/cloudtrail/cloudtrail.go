// Package cloudtrail reads the records of AWS CloudTrail: log files ({"Records":[…]}), one record a line, EventBridge events whose
// "detail" is a record, the answer of lookup-events, and CloudWatch Logs exports whose "message" is one.
//
// Specification: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
//
// A record proves that the AWS service was asked for this with the credentials of this identity, from this address as the service saw it, and what it answered:
// without errorCode it was done. It does not prove who held the credentials, and the address can be a proxy's or an AWS service's. The user agent is the
// caller's own word. Data events (S3 objects, Lambda calls) are only there when the trail was told to record them. The time is when the request
// ended, to the second.
package cloudtrail

import (
	"context"
	"net/netip"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is AWS CloudTrail.
var Format = parse.Format{
	Name:  "cloudtrail",
	Title: "AWS CloudTrail",
	Spec:  "https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html",
	Sniff: sniff,
	Read:  read,
}

var options = jsonrecords.Options{Members: []string{"Records", "Events", "events", "logEvents"}}

func is(root jsonrecords.Node) bool {
	return root.Get("eventName").Exists() && root.Get("eventSource").Exists() && root.Get("eventTime").Exists() &&
		root.First("eventVersion", "awsRegion", "userIdentity").Exists()
}

// unwrap finds the record in what was found in the file. inner is for records that stand in a text.
func unwrap(root jsonrecords.Node, inner *jsonrecords.Tree) (jsonrecords.Node, bool) {
	if is(root) {
		return root, true
	}
	if d := root.Get("detail"); d.Exists() {
		return d, is(d)
	}
	s := root.First("message", "CloudTrailEvent", "@message")
	if s.Type() != jsonrecords.String {
		return root, false
	}
	text := s.Text()
	if !strings.HasPrefix(text, "{") {
		return root, false
	}
	root, _ = inner.Parse([]byte(text))
	return root, is(root)
}

func sniff(head []byte) parse.Confidence {
	var t jsonrecords.Tree
	if jsonrecords.Sniff(head, options, func(root jsonrecords.Node) bool {
		_, ok := unwrap(root, &t)
		return ok
	}) {
		return parse.Certain
	}
	return parse.No
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	var t jsonrecords.Tree
	return jsonrecords.Events(ctx, in, emit, options, func(r *jsonrecords.Row, root jsonrecords.Node) bool {
		root, ok := unwrap(root, &t)
		if ok {
			fill(r, root)
		}
		return ok
	})
}

func fill(r *jsonrecords.Row, root jsonrecords.Node) {
	r.Kind = event.CloudAPI
	r.When(root.Get("eventTime"))
	name, source := root.Get("eventName").Text(), root.Get("eventSource").Text()
	service := strings.TrimSuffix(source, ".amazonaws.com")
	identity(r, root.Get("userIdentity"))
	from := root.Get("sourceIPAddress").Text()
	if a, err := netip.ParseAddr(from); err == nil {
		r.SrcIP = a.Unmap().WithZone("").String()
	} else {
		r.Attr.String("source", jsonrecords.Clip(from)) // a service, as ec2.amazonaws.com
	}
	r.Attr.String("service", jsonrecords.Clip(service))
	r.Attr.String("operation", jsonrecords.Clip(name))
	r.Put("region", root.Get("awsRegion"))
	r.Put("account", root.First("recipientAccountId", "accountId"))
	r.Put("http_user_agent", root.Get("userAgent"))
	failure := root.Get("errorCode").Text()
	r.Attr.String("error_code", jsonrecords.Clip(failure))
	r.Put("error_message", root.Get("errorMessage"))
	r.Put("read_only", root.Get("readOnly"))
	r.Put("event_id", root.Get("eventID"))
	r.Put("vpc_endpoint", root.Get("vpcEndpointId"))
	if t := root.Get("eventType"); !t.Is("AwsApiCall") {
		r.Put("event_type", t)
	}
	resource := resources(r, root)
	request(r, root.Get("requestParameters"), root.Get("responseElements"))
	if name == "ConsoleLogin" {
		switch root.Get("responseElements", "ConsoleLogin").Text() {
		case "Success":
			r.Kind = event.Login
		case "Failure":
			r.Kind = event.LoginFailed
		}
		r.Put("mfa", root.Get("additionalEventData", "MFAUsed"))
	}
	who := r.Identity
	if who == "" {
		who = "someone"
	}
	r.Message = who + " called " + service + ":" + name
	if resource != "" {
		r.Message += " on " + resource
	}
	if from != "" {
		r.Message += " from " + from
	}
	if failure == "" {
		failure = root.Get("errorMessage").Text() // a failed login has no code
	}
	if failure != "" {
		r.Message += ": " + failure
	}
}

// identity says whose credentials they were, and through which role and token they came.
func identity(r *jsonrecords.Row, u jsonrecords.Node) {
	issuer := u.Get("sessionContext", "sessionIssuer")
	for _, n := range []jsonrecords.Node{u.Get("arn"), u.Get("userName"), u.Get("invokedBy"), u.Get("principalId"), u.Get("accountId")} {
		if r.Identity = n.Text(); r.Identity != "" {
			break
		}
	}
	r.User = u.Get("userName").Text()
	r.Put("identity_type", u.Get("type"))
	r.Put("access_key", u.Get("accessKeyId"))
	if p := u.Get("principalId").Text(); p != r.Identity {
		r.Attr.String("principal", jsonrecords.Clip(p))
	}
	if !u.Get("invokedBy").Is(r.Identity) {
		r.Put("invoked_by", u.Get("invokedBy"))
	}
	r.Put("role", issuer.Get("arn"))
	r.Put("mfa", u.Get("sessionContext", "attributes", "mfaAuthenticated"))
	r.Put("session_created", u.Get("sessionContext", "attributes", "creationDate"))
	r.Put("ec2_role_delivery", u.Get("sessionContext", "ec2RoleDelivery"))
	r.Put("source_identity", u.Get("sessionContext", "sourceIdentity"))
	web := u.Get("sessionContext", "webIdFederationData")
	r.Put("federated_provider", web.Get("federatedProvider"))
	if p := u.Get("identityProvider"); p.Exists() {
		r.Put("federated_provider", p)
	}
	// A service account of a cluster that took a role: system:serviceaccount:NAMESPACE:NAME.
	for _, n := range []jsonrecords.Node{u.Get("userName"), web.Get("attributes", "sub")} {
		if account, ok := strings.CutPrefix(n.Text(), "system:serviceaccount:"); ok {
			r.Namespace, _, _ = strings.Cut(account, ":")
			if !strings.HasPrefix(r.User, "system:serviceaccount:") {
				r.User = n.Text()
			}
			break
		}
	}
}

// resources are what the call was about, the first of them for the message.
func resources(r *jsonrecords.Row, root jsonrecords.Node) string {
	var names []byte
	first := ""
	root.Get("resources").Each(func(_ string, n jsonrecords.Node) bool {
		arn := n.First("ARN", "arn", "ARNPrefix").Text()
		if arn == "" {
			return true
		}
		if first == "" {
			first = arn
		} else {
			names = append(names, ',')
		}
		names = jsonrecords.Quote(names, jsonrecords.Clip(arn))
		return len(names) < 1024
	})
	if first != "" {
		r.Attr.Raw("resources", append(append([]byte{'['}, names...), ']'))
	}
	return first
}

// parameters of requests that say what was touched, with the attributes that they become.
var parameters = []struct{ name, attribute string }{
	{"bucketName", "bucket"}, {"key", "key"}, {"roleArn", "role_requested"}, {"roleSessionName", "session_name"}, {"instanceId", "instance"}, {"imageId", "image_id"},
	{"userName", "target_user"}, {"roleName", "target_role"}, {"policyArn", "policy"}, {"policyName", "policy_name"}, {"groupName", "group"}, {"groupId", "security_group"},
	{"secretId", "secret"}, {"functionName", "function"}, {"keyId", "key_id"}, {"name", "name"}, {"clusterName", "cluster"}, {"repositoryName", "repository"},
	{"trailName", "trail"}, {"instanceType", "instance_type"}, {"snapshotId", "snapshot"}, {"volumeId", "volume"}, {"documentName", "document"},
}

func request(r *jsonrecords.Row, q, response jsonrecords.Node) {
	for _, p := range parameters {
		r.Put(p.attribute, q.Get(p.name))
	}
	var ids []string
	for _, set := range []jsonrecords.Node{q.Get("instancesSet", "items"), response.Get("instancesSet", "items")} {
		set.Each(func(_ string, n jsonrecords.Node) bool {
			if id := n.Get("instanceId").Text(); id != "" {
				ids = append(ids, id)
			}
			return len(ids) < 20
		})
	}
	r.Attr.String("instances", jsonrecords.Clip(strings.Join(ids, ",")))
	r.Put("issued_access_key", response.Get("credentials", "accessKeyId"))
	r.Put("created_access_key", response.Get("accessKey", "accessKeyId"))
	r.Put("assumed_role", response.Get("assumedRoleUser", "arn"))
	r.Put("token_subject", response.Get("subjectFromWebIdentityToken"))
	if account, ok := strings.CutPrefix(response.Get("subjectFromWebIdentityToken").Text(), "system:serviceaccount:"); ok && r.Namespace == "" {
		r.Namespace, _, _ = strings.Cut(account, ":")
	}
}
