// Package guardduty reads findings of Amazon GuardDuty: exported to S3 (one a line), as answered by get-findings, and in EventBridge
// events.
//
// Specification: https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_finding-format.html
//
// A finding proves that the detector judged flows, queries, API calls or runtime events so, for this resource, between its first and last
// sighting. It does not prove that the resource is compromised, and it stands for many events ("count"): its time is the
// last that was seen. A list that is empty does not prove that nothing happened.
package guardduty

import (
	"context"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is GuardDuty's findings.
var Format = parse.Format{
	Name:  "guardduty",
	Title: "Amazon GuardDuty findings",
	Spec:  "https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_finding-format.html",
	Sniff: sniff,
	Read:  read,
}

var options = jsonrecords.Options{Members: []string{"Findings", "findings"}}

func is(n jsonrecords.Node) bool {
	return n.Fold("type").Type() == jsonrecords.String && n.Fold("severity").Exists() && n.Fold("resource").Type() == jsonrecords.Object &&
		(n.Fold("service").Type() == jsonrecords.Object || n.Fold("schemaVersion").Exists())
}

func unwrap(root jsonrecords.Node) (jsonrecords.Node, bool) {
	if d := root.Get("detail"); d.Exists() {
		root = d
	}
	return root, is(root)
}

func sniff(head []byte) parse.Confidence {
	if jsonrecords.Sniff(head, options, func(root jsonrecords.Node) bool {
		n, ok := unwrap(root)
		return ok && (n.Fold("arn").Exists() || n.Fold("accountId").Exists())
	}) {
		return parse.Certain
	}
	return parse.No
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	return jsonrecords.Events(ctx, in, emit, options, func(r *jsonrecords.Row, root jsonrecords.Node) bool {
		f, ok := unwrap(root)
		if ok {
			fill(r, f)
		}
		return ok
	})
}

func fill(r *jsonrecords.Row, f jsonrecords.Node) {
	r.Kind = event.Alert
	s, res := f.Fold("service"), f.Fold("resource")
	if !r.When(s.Fold("eventLastSeen")) && !r.When(f.Fold("updatedAt")) {
		r.When(f.Fold("createdAt"))
	}
	rule := f.Fold("type").Text()
	if r.Message = f.Fold("description").Text(); r.Message == "" {
		r.Message = f.Fold("title").Text()
	}
	r.Message = strings.TrimSuffix(rule+": "+r.Message, ": ")
	r.Attr.String("rule", jsonrecords.Clip(rule))
	r.Put("severity", f.Fold("severity"))
	r.Put("finding", f.Fold("id"))
	r.Put("account", f.Fold("accountId"))
	r.Put("region", f.Fold("region"))
	r.Put("first_seen", s.Fold("eventFirstSeen"))
	r.Put("count", s.Fold("count"))
	r.Put("archived", s.Fold("archived"))
	r.Put("threat_list", s.Fold("evidence", "threatIntelligenceDetails").At(0).Fold("threatListName"))
	resource(r, res)
	action(r, s.Fold("action"))
	runtime(r, s.Fold("runtimeDetails"))
	r.Technique = technique(f)
}

// technique is one that the finding names itself: attack sequences list theirs in their signals.
func technique(f jsonrecords.Node) string {
	found := ""
	f.Fold("service", "detection", "sequence", "sequenceIndicators").Each(func(_ string, n jsonrecords.Node) bool {
		if n.Fold("key").Is("ATTACK_TECHNIQUE") {
			for _, s := range jsonrecords.Strings(n.Fold("values")) {
				s = s[strings.LastIndexByte(s, '/')+1:]
				if found = jsonrecords.Technique([]string{s}); found != "" {
					return false
				}
			}
		}
		return true
	})
	return found
}

func resource(r *jsonrecords.Row, n jsonrecords.Node) {
	r.Put("resource_type", n.Fold("resourceType"))
	i := n.Fold("instanceDetails")
	r.Put("instance", i.Fold("instanceId"))
	r.Put("image_id", i.Fold("imageId"))
	r.Node = i.Fold("networkInterfaces").At(0).Fold("privateDnsName").Text()
	if a := jsonrecords.Address(i.Fold("networkInterfaces").At(0).Fold("privateIpAddress").Text()); a != "" {
		r.SrcIP = a
	}
	r.Put("instance_role", i.Fold("iamInstanceProfile", "arn"))
	k := n.Fold("accessKeyDetails")
	r.Identity = k.Fold("userName").Text()
	r.Put("identity_type", k.Fold("userType"))
	r.Put("principal", k.Fold("principalId"))
	r.Put("access_key", k.Fold("accessKeyId"))
	bucket := n.Fold("s3BucketDetails").At(0)
	r.Put("bucket", bucket.Fold("name"))
	r.Put("cluster", n.Fold("eksClusterDetails", "name"))
	if c := n.Fold("ecsClusterDetails", "name"); c.Exists() {
		r.Put("cluster", c)
	}
	r.Put("task", n.Fold("ecsClusterDetails", "taskDetails", "arn"))
	kube := n.Fold("kubernetesDetails")
	user := kube.Fold("kubernetesUserDetails")
	if u := user.Fold("username").Text(); u != "" {
		r.Identity = u
	}
	w := kube.Fold("kubernetesWorkloadDetails")
	r.Namespace = w.Fold("namespace").Text()
	if name := w.Fold("name").Text(); strings.EqualFold(w.Fold("type").Text(), "pods") || strings.EqualFold(w.Fold("type").Text(), "pod") {
		r.Pod = name
	} else {
		r.Attr.String("workload", jsonrecords.Clip(name))
	}
	r.Put("service_account", w.Fold("serviceAccountName"))
	for _, c := range []jsonrecords.Node{
		n.Fold("containerDetails"), w.Fold("containers").At(0), n.Fold("ecsClusterDetails", "taskDetails", "containers").At(0),
	} {
		if !c.Exists() {
			continue
		}
		id := c.Fold("id").Text()
		if i := strings.Index(id, "://"); i >= 0 {
			id = id[i+3:]
		}
		r.ContainerID, r.Container = id, c.Fold("name").Text()
		image := c.Fold("image").Text()
		if i := strings.Index(image, "@sha256:"); i >= 0 {
			r.ImageDigest = image[i+1:]
		}
		r.Attr.String("image", jsonrecords.Clip(image))
		break
	}
	r.Put("function", n.Fold("lambdaDetails", "functionName"))
	r.Put("database", n.Fold("rdsDbInstanceDetails", "dbInstanceIdentifier"))
}

func action(r *jsonrecords.Row, a jsonrecords.Node) {
	r.Put("action", a.Fold("actionType"))
	remote := func(n jsonrecords.Node) string {
		r.Put("country", n.Fold("country", "countryName"))
		if ip := jsonrecords.Address(n.Fold("ipAddressV4").Text()); ip != "" {
			return ip
		}
		return jsonrecords.Address(n.Fold("ipAddressV6").Text())
	}
	if c := a.Fold("networkConnectionAction"); c.Exists() {
		local := jsonrecords.Address(c.Fold("localIpDetails", "ipAddressV4").Text())
		if local == "" {
			local = r.SrcIP
		}
		r.SrcIP, r.SrcPort = local, jsonrecords.Port(c.Fold("localPortDetails", "port"))
		r.DstIP, r.DstPort = remote(c.Fold("remoteIpDetails")), jsonrecords.Port(c.Fold("remotePortDetails", "port"))
		if c.Fold("connectionDirection").Is("INBOUND") {
			r.SrcIP, r.SrcPort, r.DstIP, r.DstPort = r.DstIP, r.DstPort, r.SrcIP, r.SrcPort
		}
		r.Protocol = strings.ToLower(c.Fold("protocol").Text())
		r.Put("direction", c.Fold("connectionDirection"))
	}
	if c := a.Fold("awsApiCallAction"); c.Exists() {
		r.Put("service", c.Fold("serviceName"))
		r.Put("operation", c.Fold("api"))
		r.Put("error_code", c.Fold("errorCode"))
		if ip := remote(c.Fold("remoteIpDetails")); ip != "" {
			r.SrcIP = ip
		}
	}
	if c := a.Fold("dnsRequestAction"); c.Exists() {
		r.Put("dns_name", c.Fold("domain"))
		r.Protocol = strings.ToLower(c.Fold("protocol").Text())
	}
	if c := a.Fold("kubernetesApiCallAction"); c.Exists() {
		r.Put("request_uri", c.Fold("requestUri"))
		r.Put("verb", c.Fold("verb"))
		r.Put("http_user_agent", c.Fold("userAgent"))
		r.Put("http_status", c.Fold("statusCode"))
		if ip := remote(c.Fold("remoteIpDetails")); ip != "" {
			r.SrcIP = ip
		} else if ip := jsonrecords.Address(c.Fold("sourceIps").At(0).Text()); ip != "" {
			r.SrcIP = ip
		}
	}
	if c := a.Fold("portProbeAction", "portProbeDetails").At(0); c.Exists() {
		r.DstIP, r.DstPort = r.SrcIP, jsonrecords.Port(c.Fold("localPortDetails", "port"))
		r.SrcIP = remote(c.Fold("remoteIpDetails"))
	}
}

// runtime is what the agent on the node saw of the process.
func runtime(r *jsonrecords.Row, n jsonrecords.Node) {
	p := n.Fold("process")
	r.PID = p.Fold("pid").Whole()
	r.Process, r.Path, r.User = p.Fold("name").Text(), p.Fold("executablePath").Text(), p.Fold("user").Text()
	r.SHA256 = strings.ToLower(p.Fold("executableSha256").Text())
	if len(r.SHA256) != 64 {
		r.SHA256 = ""
	}
	r.PPID = p.Fold("lineage").At(0).Fold("pid").Whole()
	r.Put("pid_in_container", p.Fold("namespacePid"))
	r.Put("process_started", p.Fold("startTime"))
	r.Put("parent", p.Fold("lineage").At(0).Fold("executablePath"))
	r.Put("context", n.Fold("context"))
	if r.Path == "" {
		r.Path = n.Fold("context", "runcBinaryPath").Text()
	}
	if c := n.Fold("context", "commandLineExample").Text(); c != "" {
		r.Cmdline = c
	}
}
