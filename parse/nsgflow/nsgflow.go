// Package nsgflow reads Azure's flow logs: of network security groups (versions 1 and 2) and of virtual networks.
//
// Specification: https://learn.microsoft.com/azure/network-watcher/nsg-flow-logs-overview and
// https://learn.microsoft.com/azure/network-watcher/vnet-flow-logs-overview
//
// A tuple proves that the platform let a flow pass or denied it at this interface, by this rule, and (version 2 and virtual networks) how much it had carried
// when it began, went on or ended. It does not prove what was said, nor which process or container spoke; the counts of a begin are not there, and those of
// a continuation are since the tuple before.
package nsgflow

import (
	"context"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/timestamp"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is Azure's flow logs.
var Format = parse.Format{
	Name:  "nsgflow",
	Title: "Azure network flow logs",
	Spec:  "https://learn.microsoft.com/azure/network-watcher/nsg-flow-logs-overview",
	Sniff: sniff,
	Read:  read,
}

var options = jsonrecords.Options{Members: []string{"records"}, Max: 32 << 20}

func is(n jsonrecords.Node) bool {
	return n.Get("properties", "flows").Type() == jsonrecords.Array || n.Get("flowRecords", "flows").Type() == jsonrecords.Array
}

func sniff(head []byte) parse.Confidence {
	if jsonrecords.Sniff(head, options, func(n jsonrecords.Node) bool {
		c := n.Get("category").Text()
		return is(n) && (c == "NetworkSecurityGroupFlowEvent" || c == "FlowLogFlowEvent" || n.Get("time").Exists())
	}) {
		return parse.Certain
	}
	return parse.No
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	r := &reader{in: in, emit: emit, row: jsonrecords.NewRow(in)}
	return jsonrecords.Read(ctx, in, options, func(rec jsonrecords.Record, root jsonrecords.Node) (bool, error) {
		if !is(root) {
			return false, nil
		}
		r.rec = rec
		r.resource = root.First("targetResourceID", "targetResourceId", "resourceId").Text()
		r.mac = root.Get("macAddress").Text()
		if v := root.Get("flowRecords", "flows"); v.Exists() {
			return true, r.virtual(v)
		}
		return true, r.group(root.Get("properties", "flows"))
	})
}

type reader struct {
	in            *parse.Input
	emit          parse.Emit
	row           *jsonrecords.Row
	rec           jsonrecords.Record
	resource, mac string
}

// group reads the flows of a security group: rules, and below them interfaces.
func (r *reader) group(flows jsonrecords.Node) error {
	var err error
	flows.Each(func(_ string, byRule jsonrecords.Node) bool {
		rule := byRule.Get("rule").Text()
		byRule.Get("flows").Each(func(_ string, f jsonrecords.Node) bool {
			mac := f.Get("mac").Text()
			if mac == "" {
				mac = r.mac
			}
			err = r.tuples(f.Get("flowTuples"), rule, mac, "", groupTuple)
			return err == nil
		})
		return err == nil
	})
	return err
}

// virtual reads the flows of a virtual network: access lists, and below them rules.
func (r *reader) virtual(flows jsonrecords.Node) error {
	var err error
	flows.Each(func(_ string, byList jsonrecords.Node) bool {
		list := byList.First("aclID", "aclId").Text()
		byList.Get("flowGroups").Each(func(_ string, f jsonrecords.Node) bool {
			err = r.tuples(f.Get("flowTuples"), f.Get("rule").Text(), r.mac, list, virtualTuple)
			return err == nil
		})
		return err == nil
	})
	return err
}

// tuple is a flow as both kinds have it.
type tuple struct {
	time                  string
	src, dst, sport, port string
	protocol              string
	direction             string
	state                 string
	decision              string
	encryption            string
	counts                []string // packets and bytes sent, packets and bytes received; may be empty
}

// groupTuple reads time,src,dst,sport,dport,T|U,I|O,A|D and in version 2 B|C|E and counts.
func groupTuple(f []string) (tuple, bool) {
	if len(f) < 8 {
		return tuple{}, false
	}
	t := tuple{time: f[0], src: f[1], dst: f[2], sport: f[3], port: f[4], protocol: f[5], direction: f[6], decision: f[7]}
	if len(f) > 8 {
		t.state, t.counts = f[8], f[9:]
	}
	switch t.decision {
	case "A":
		t.decision = "ACCEPT"
	case "D":
		t.decision = "DENY"
	default:
		return t, false
	}
	return t, true
}

// virtualTuple reads time,src,dst,sport,dport,protocol,I|O,B|C|E|D,encryption and counts.
func virtualTuple(f []string) (tuple, bool) {
	if len(f) < 9 {
		return tuple{}, false
	}
	t := tuple{
		time: f[0], src: f[1], dst: f[2], sport: f[3], port: f[4], protocol: f[5], direction: f[6], state: f[7], encryption: f[8], counts: f[9:],
		decision: "ACCEPT",
	}
	if t.state == "D" {
		t.decision, t.state = "DENY", ""
	}
	return t, true
}

func (r *reader) tuples(list jsonrecords.Node, rule, mac, acl string, parse func([]string) (tuple, bool)) error {
	var err error
	list.Each(func(_ string, n jsonrecords.Node) bool {
		from, to := n.Span()
		rec := r.rec
		rec.Offset += int64(from)
		rec.Length = int64(to - from)
		text := n.Text()
		var t tuple
		ok := len(text) < 1024
		if ok {
			t, ok = parse(strings.Split(text, ","))
		}
		r.row.Begin(r.in, rec)
		if !ok || !r.fill(t) {
			r.in.Skip(rec.Offset, rec.Length, "it is no flow tuple")
			return true
		}
		r.row.Attr.String("rule", jsonrecords.Clip(rule))
		r.row.Attr.String("mac", jsonrecords.Clip(mac))
		r.row.Attr.String("acl", jsonrecords.Clip(acl[strings.LastIndexByte(acl, '/')+1:]))
		r.row.Attr.String("resource", jsonrecords.Clip(r.resource))
		err = r.row.Emit(r.emit)
		return err == nil
	})
	return err
}

func (r *reader) fill(t tuple) bool {
	row := r.row
	row.Kind = event.NetFlow
	var ok bool
	if row.Time, ok = timestamp.Epoch(t.time); !ok {
		return false
	}
	src, err := netip.ParseAddr(t.src)
	if err != nil {
		return false
	}
	dst, err := netip.ParseAddr(t.dst)
	if err != nil {
		return false
	}
	row.SrcIP, row.DstIP = src.Unmap().WithZone("").String(), dst.Unmap().WithZone("").String()
	row.SrcPort, row.DstPort = port(t.sport), port(t.port)
	switch t.protocol {
	case "T", "6":
		row.Protocol = "tcp"
	case "U", "17":
		row.Protocol = "udp"
	case "1":
		row.Protocol = "icmp"
	case "58":
		row.Protocol = "icmp6"
	default:
		row.Protocol = t.protocol
	}
	direction := map[string]string{"I": "inbound", "O": "outbound"}[t.direction]
	state := map[string]string{"B": "began", "C": "goes on", "E": "ended"}[t.state]
	row.Attr.String("action", t.decision)
	row.Attr.String("direction", direction)
	row.Attr.String("state", state)
	row.Attr.String("encryption", jsonrecords.Clip(t.encryption))
	row.Message = t.decision + " " + row.Protocol + " " + end(row.SrcIP, row.SrcPort) + " -> " + end(row.DstIP, row.DstPort)
	if state != "" {
		row.Message += ", it " + state
	}
	if len(t.counts) >= 4 {
		var n [4]int64
		for i := range n {
			if v, err := strconv.ParseInt(t.counts[i], 10, 64); err == nil && v > 0 && v < 1<<60 {
				n[i] = v
			}
		}
		if row.Size = n[1] + n[3]; row.Size > 0 || n[0]+n[2] > 0 {
			row.Attr.Int("packets_sent", n[0])
			row.Attr.Int("bytes_sent", n[1])
			row.Attr.Int("packets_received", n[2])
			row.Attr.Int("bytes_received", n[3])
			row.Message += ", " + strconv.FormatInt(n[1], 10) + " bytes sent and " + strconv.FormatInt(n[3], 10) + " received"
		}
	}
	return true
}

func port(s string) int {
	v, err := strconv.Atoi(s)
	if err != nil || v < 0 || v > 1<<16-1 {
		return 0
	}
	return v
}

func end(ip string, port int) string {
	if strings.IndexByte(ip, ':') >= 0 {
		ip = "[" + ip + "]"
	}
	return ip + ":" + strconv.Itoa(port)
}
