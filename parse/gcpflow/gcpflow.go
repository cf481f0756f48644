// Package gcpflow reads VPC Flow Logs of Google Cloud: LogEntry objects of vpc_flows, as lines, as an array or in the answer of entries.list.
//
// Specification: https://cloud.google.com/vpc/docs/about-flow-logs-records
//
// A record proves that the reporter's side of the network sampled packets between these addresses in the interval. It does not prove exact counts (they are
// scaled from a sample), and a flow that was not sampled leaves no record. Which side opened the connection is told for TCP by the order of source and
// destination only as well as the sampling allows.
package gcpflow

import (
	"context"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is Google Cloud's flow log.
var Format = parse.Format{
	Name:  "gcpflow",
	Title: "Google Cloud VPC flow logs",
	Spec:  "https://cloud.google.com/vpc/docs/about-flow-logs-records",
	Sniff: sniff,
	Read:  read,
}

var options = jsonrecords.Options{Members: []string{"entries"}}

func is(root jsonrecords.Node) bool {
	return root.Get("jsonPayload", "connection").First("src_ip", "dest_ip").Exists()
}

func sniff(head []byte) parse.Confidence {
	if jsonrecords.Sniff(head, options, is) {
		return parse.Certain
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
	p := root.Get("jsonPayload")
	r.Kind = event.NetFlow
	r.TimeKind = event.Started
	if !r.When(p.Get("start_time")) {
		r.TimeKind = event.Logged
		r.When(root.First("timestamp", "receiveTimestamp"))
	}
	c := p.Get("connection")
	r.SrcIP, r.SrcPort = jsonrecords.Address(c.Get("src_ip").Text()), jsonrecords.Port(c.Get("src_port"))
	r.DstIP, r.DstPort = jsonrecords.Address(c.Get("dest_ip").Text()), jsonrecords.Port(c.Get("dest_port"))
	r.Protocol = protocol(c.Get("protocol"))
	if v, ok := p.Get("bytes_sent").Int(); ok && v > 0 {
		r.Size = v
	}
	reporter := p.Get("reporter").Text()
	own := "src" // the side whose workload the row is about
	if strings.HasPrefix(reporter, "DEST") {
		own = "dest"
	}
	pod := p.Get(own+"_gke_details", "pod")
	r.Pod, r.Namespace = pod.First("pod_name", "name").Text(), pod.First("pod_namespace", "namespace").Text()
	r.Node = p.Get(own+"_instance", "vm_name").Text()
	r.Attr.String("reporter", jsonrecords.Clip(reporter))
	r.Put("end", p.Get("end_time"))
	r.Put("packets", p.Get("packets_sent"))
	r.Put("rtt_ms", p.Get("rtt_msec"))
	for _, side := range []string{"src", "dest"} {
		r.Put(side+"_instance", p.Get(side+"_instance", "vm_name"))
		r.Put(side+"_vpc", p.Get(side+"_vpc", "vpc_name"))
		r.Put(side+"_country", p.Get(side+"_location", "country"))
		r.Put(side+"_cluster", p.Get(side+"_gke_details", "cluster", "cluster_name"))
		if side != own {
			other := p.Get(side+"_gke_details", "pod")
			r.Put(side+"_pod", other.First("pod_name", "name"))
			r.Put(side+"_namespace", other.First("pod_namespace", "namespace"))
		}
		r.Put(side+"_service", p.Get(side+"_gke_details", "service").At(0).First("service_name", "name"))
	}
	r.Put("account", root.Get("resource", "labels", "project_id"))
	r.Put("subnet", root.Get("resource", "labels", "subnetwork_name"))
	r.Put("event_id", root.Get("insertId"))
	r.Message = "flow " + r.Protocol + " " + end(r.SrcIP, r.SrcPort) + " -> " + end(r.DstIP, r.DstPort) + ", " + count(p.Get("packets_sent")) + " packets, " + strconv.FormatInt(r.Size, 10) + " bytes"
	return true
}

func count(n jsonrecords.Node) string {
	v, _ := n.Int()
	return strconv.FormatInt(v, 10)
}

func end(ip string, port int) string {
	if strings.IndexByte(ip, ':') >= 0 {
		ip = "[" + ip + "]"
	}
	return ip + ":" + strconv.Itoa(port)
}

func protocol(n jsonrecords.Node) string {
	switch n.Whole() {
	case 1:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 58:
		return "icmp6"
	case 132:
		return "sctp"
	}
	return n.Text()
}
