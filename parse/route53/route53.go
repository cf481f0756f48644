// Package route53 reads the query logs of the Route 53 Resolver, as written to S3 and exported from CloudWatch Logs.
//
// Specification: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/resolver-query-logs-format.html
//
// A record proves that a resource of the VPC asked the resolver for this name and what it was told. It does not prove that a connection
// followed, nor which process asked; questions that the resolver answered from its cache are not written, and DNS that goes elsewhere (over HTTPS, to
// another server) does not pass it.
package route53

import (
	"context"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is the resolver's query log.
var Format = parse.Format{
	Name:  "route53",
	Title: "Route 53 Resolver queries",
	Spec:  "https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/resolver-query-logs-format.html",
	Sniff: sniff,
	Read:  read,
}

var options = jsonrecords.Options{Members: []string{"events", "logEvents"}}

func is(n jsonrecords.Node) bool {
	return n.Get("query_name").Exists() && n.Get("query_timestamp").Exists() && n.First("vpc_id", "srcaddr", "rcode").Exists()
}

func unwrap(root jsonrecords.Node, inner *jsonrecords.Tree) (jsonrecords.Node, bool) {
	if s := root.First("message", "@message"); !is(root) && s.Type() == jsonrecords.String {
		if text := s.Text(); strings.HasPrefix(text, "{") {
			root, _ = inner.Parse([]byte(text))
		}
	}
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
	r.Kind = event.DNSQuery
	r.When(root.Get("query_timestamp"))
	r.SrcIP, r.SrcPort = jsonrecords.Address(root.Get("srcaddr").Text()), jsonrecords.Port(root.Get("srcport"))
	r.Protocol = strings.ToLower(root.Get("transport").Text())
	name := strings.TrimSuffix(root.Get("query_name").Text(), ".")
	kind, code := root.Get("query_type").Text(), root.Get("rcode").Text()
	var answers []string
	root.Get("answers").Each(func(_ string, n jsonrecords.Node) bool {
		data := n.First("Rdata", "rdata").Text()
		if data != "" {
			answers = append(answers, strings.TrimSuffix(data, "."))
		}
		return len(answers) < 16
	})
	from := r.SrcIP
	if from == "" {
		from = "something"
	}
	r.Message = from + " asked for " + name + " " + kind + ": " + code
	if len(answers) > 0 {
		r.Message += " " + strings.Join(answers, " ")
	}
	r.Attr.String("dns_name", jsonrecords.Clip(name))
	r.Attr.String("dns_type", jsonrecords.Clip(kind))
	r.Attr.String("dns_rcode", jsonrecords.Clip(code))
	r.Attr.String("dns_answers", jsonrecords.Clip(strings.Join(answers, " ")))
	r.Put("instance", root.Get("srcids", "instance"))
	r.Put("resolver_endpoint", root.Get("srcids", "resolver_endpoint"))
	r.Put("vpc", root.Get("vpc_id"))
	r.Put("account", root.Get("account_id"))
	r.Put("region", root.Get("region"))
	r.Put("firewall_action", root.Get("firewall_rule_action"))
	r.Put("firewall_domain_list", root.Get("firewall_domain_list_id"))
}
