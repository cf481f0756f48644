// Package vpcflow reads VPC flow logs of AWS as text: the default format with or without its header, any other format by the header that
// files in S3 begin with, and lines that an export from CloudWatch Logs put a time before.
//
// Specification: https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html
//
// A record proves that the network carried (ACCEPT) or refused (REJECT) so many packets between these addresses at this interface in the
// interval. It does not prove who opened the connection when both directions are recorded, nor what was said; for a pod behind address translation only
// pkt-srcaddr has its address. SKIPDATA means that flows are missing; traffic to the metadata service and the VPC's DNS is never recorded, so its
// absence does not prove anything.
package vpcflow

import (
	"bytes"
	"context"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/timestamp"
	"github.com/sherd-forensics/sherd/parse"
)

// Format is VPC flow logs as text.
var Format = parse.Format{
	Name:  "vpcflow",
	Title: "AWS VPC flow logs",
	Spec:  "https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html",
	Sniff: sniff,
	Read:  read,
}

// field is what stands in a place of a line.
type field uint8

const (
	other field = iota // becomes an attribute under its name
	ignored
	srcAddr
	dstAddr
	srcPort
	dstPort
	protocol
	packets
	size
	start
	end
	action
	status
	pktSrc
	pktDst
	containerID
	flags
	path
)

var known = map[string]field{
	"version": ignored, "srcaddr": srcAddr, "dstaddr": dstAddr, "srcport": srcPort, "dstport": dstPort, "protocol": protocol, "packets": packets, "bytes": size,
	"start": start, "end": end, "action": action, "log-status": status, "pkt-srcaddr": pktSrc, "pkt-dstaddr": pktDst, "ecs-container-id": containerID,
	"tcp-flags": flags, "type": ignored, "traffic-path": path,
}

// names of attributes that differ from the field's, beside hyphens.
var attributes = map[string]string{"account-id": "account", "interface-id": "interface", "vpc-id": "vpc", "subnet-id": "subnet", "instance-id": "instance", "flow-direction": "direction"}

const defaultHeader = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status"

const maxFields = 64

// layout is the order of the fields.
type layout struct {
	fields []field
	names  []string // of attributes
}

func parseHeader(line string) (*layout, bool) {
	words := strings.Fields(line)
	if len(words) < 3 || len(words) > maxFields {
		return nil, false
	}
	l := &layout{}
	found := 0
	for _, w := range words {
		w = strings.ReplaceAll(strings.Trim(w, "${}"), "_", "-")
		for _, c := range w {
			if (c < 'a' || c > 'z') && c != '-' {
				return nil, false
			}
		}
		f := known[w]
		if f != other {
			found++
		}
		name := attributes[w]
		if name == "" {
			name = strings.ReplaceAll(w, "-", "_")
		}
		l.fields = append(l.fields, f)
		l.names = append(l.names, name)
	}
	return l, found >= 3
}

func sniff(head []byte) parse.Confidence {
	for range 3 {
		line, rest, more := bytes.Cut(head, []byte{'\n'})
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if len(line) > 0 && len(line) < 4096 {
			text := string(line)
			if l, ok := parseHeader(text); ok && l.has(srcAddr, pktSrc) && l.has(dstAddr, pktDst) {
				return parse.Certain
			}
			if isDefault(strings.Fields(afterTime(text))) {
				return parse.Certain
			}
		}
		if !more {
			break
		}
		head = rest
	}
	return parse.No
}

func (l *layout) has(any ...field) bool {
	for _, f := range l.fields {
		for _, a := range any {
			if f == a {
				return true
			}
		}
	}
	return false
}

// isDefault recognises a whole record of version 2.
func isDefault(w []string) bool {
	return len(w) == 14 && w[0] == "2" && (len(w[1]) == 12 || w[1] == "unknown") && strings.HasPrefix(w[2], "eni-") &&
		(w[13] == "OK" || w[13] == "NODATA" || w[13] == "SKIPDATA") && (w[12] == "ACCEPT" || w[12] == "REJECT" || w[12] == "-")
}

// afterTime leaves the time out that an export put before the record.
func afterTime(s string) string {
	if len(s) > 21 && s[4] == '-' && s[10] == 'T' {
		if i := strings.IndexByte(s, ' '); i > 0 && i < 40 {
			if _, ok := timestamp.RFC3339(s[:i]); ok {
				return s[i+1:]
			}
		}
	}
	return s
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	fallback, _ := parseHeader(defaultHeader)
	r := reader{in: in, layout: fallback}
	n := 0
	for line, err := range in.Lines() {
		if err != nil {
			return err
		}
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if len(line.Data) == 0 {
			continue
		}
		if line.Cut || len(line.Data) > 16<<10 {
			in.Skip(line.Offset, line.Length, "the line is too long for a flow record")
			continue
		}
		text := string(line.Data)
		if text[0] == 'v' || text[0] >= 'a' && text[0] <= 'z' || text[0] == '$' {
			if l, ok := parseHeader(text); ok {
				r.layout = l
				continue
			}
		}
		if !r.fill(afterTime(text)) {
			in.Skip(line.Offset, line.Length, "the line is no flow record of the format that the header names")
			continue
		}
		r.ev.Offset, r.ev.Length = line.Offset, line.Length
		if err := emit(&r.ev); err != nil {
			return err
		}
	}
	return nil
}

type reader struct {
	in     *parse.Input
	layout *layout
	ev     event.Event
	attr   event.Attributes
	msg    []byte
	words  [maxFields]string
}

// split cuts the line at blanks.
func (r *reader) split(s string) int {
	n := 0
	for len(s) > 0 {
		i := strings.IndexByte(s, ' ')
		w := s
		if i >= 0 {
			w, s = s[:i], s[i+1:]
		} else {
			s = ""
		}
		if w == "" {
			continue
		}
		if n == maxFields {
			return -1
		}
		r.words[n] = w
		n++
	}
	return n
}

func (r *reader) fill(line string) bool {
	n := r.split(line)
	if n != len(r.layout.fields) {
		return false
	}
	r.ev = r.in.Base
	ev := &r.ev
	ev.Kind, ev.TimeKind = event.NetFlow, event.Started
	r.attr.Reset()
	var first, last, count int64 = -1, -1, -1
	verdict, state := "", ""
	var pktFrom, pktTo string
	for i, f := range r.layout.fields {
		w := r.words[i]
		if w == "-" || f == ignored {
			continue
		}
		ok := true
		switch f {
		case other:
			r.attr.String(r.layout.names[i], w)
		case srcAddr:
			ev.SrcIP, ok = address(w)
		case dstAddr:
			ev.DstIP, ok = address(w)
		case pktSrc:
			pktFrom, ok = address(w)
		case pktDst:
			pktTo, ok = address(w)
		case srcPort:
			ev.SrcPort, ok = number(w, 1<<16-1)
		case dstPort:
			ev.DstPort, ok = number(w, 1<<16-1)
		case protocol:
			var p int
			p, ok = number(w, 255)
			ev.Protocol = protocolName(p, w)
		case packets:
			count, ok = large(w)
		case size:
			ev.Size, ok = large(w)
		case start:
			first, ok = large(w)
		case end:
			last, ok = large(w)
		case action:
			verdict = w
		case status:
			state = w
		case containerID:
			ev.ContainerID = w
		case flags, path:
			var v int64
			v, ok = large(w)
			r.attr.Int(r.layout.names[i], v)
		}
		if !ok {
			return false
		}
	}
	r.packet(pktFrom, pktTo)
	if !r.times(first, last) {
		return false
	}
	r.say(verdict, state, count)
	ev.Attributes = r.attr.JSON()
	return true
}

// packet puts the packet's own addresses where the format has no others, and else beside those of the interface.
func (r *reader) packet(from, to string) {
	ev := &r.ev
	if ev.SrcIP == "" {
		ev.SrcIP = from
	} else if from != ev.SrcIP {
		r.attr.String("packet_src", from)
	}
	if ev.DstIP == "" {
		ev.DstIP = to
	} else if to != ev.DstIP {
		r.attr.String("packet_dst", to)
	}
}

// times are seconds since 1970.
func (r *reader) times(first, last int64) bool {
	const limit = 9_000_000_000 // of what nanoseconds can hold
	if first > limit || last > limit {
		return false
	}
	switch {
	case first >= 0:
		r.ev.Time = first * 1e9
		if last > first {
			r.attr.Int("seconds", last-first)
		}
	case last >= 0:
		r.ev.Time, r.ev.TimeKind = last*1e9, event.Logged
	}
	return true
}

// say writes the message, and the attributes that it repeats.
func (r *reader) say(verdict, state string, count int64) {
	ev := &r.ev
	r.attr.String("action", verdict)
	if count >= 0 {
		r.attr.Int("packets", count)
	}
	if state != "" && state != "OK" {
		ev.Kind = event.LogLine
		r.attr.String("log_status", state)
		switch state {
		case "NODATA":
			ev.Message = "no traffic at the interface in this interval"
		case "SKIPDATA":
			ev.Message = "flow records of this interval were lost"
		default:
			ev.Message = "flow log status " + state
		}
		return
	}
	b := r.msg[:0]
	b = append(b, verdict...)
	if verdict == "" {
		b = append(b, "flow"...)
	}
	b = append(b, ' ')
	b = append(b, ev.Protocol...)
	b = append(b, ' ')
	b = endpoint(b, ev.SrcIP, ev.SrcPort)
	b = append(b, " -> "...)
	b = endpoint(b, ev.DstIP, ev.DstPort)
	if count >= 0 {
		b = append(b, ", "...)
		b = strconv.AppendInt(b, count, 10)
		b = append(b, " packets, "...)
		b = strconv.AppendInt(b, ev.Size, 10)
		b = append(b, " bytes"...)
	}
	r.msg = b
	ev.Message = string(b)
}

func endpoint(b []byte, ip string, port int) []byte {
	v6 := strings.IndexByte(ip, ':') >= 0
	if v6 {
		b = append(b, '[')
	}
	b = append(b, ip...)
	if v6 {
		b = append(b, ']')
	}
	b = append(b, ':')
	return strconv.AppendInt(b, int64(port), 10)
}

func address(w string) (string, bool) {
	a, err := netip.ParseAddr(w)
	if err != nil || a.Zone() != "" {
		return "", false
	}
	if a.Is4() {
		return w, true
	}
	return a.Unmap().String(), true
}

func number(w string, most int) (int, bool) {
	v, err := strconv.Atoi(w)
	return v, err == nil && v >= 0 && v <= most
}

func large(w string) (int64, bool) {
	v, err := strconv.ParseInt(w, 10, 64)
	return v, err == nil && v >= 0
}

// protocolName is the keyword of IANA's number.
func protocolName(p int, w string) string {
	switch p {
	case 1:
		return "icmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 47:
		return "gre"
	case 50:
		return "esp"
	case 58:
		return "icmp6"
	case 132:
		return "sctp"
	}
	return w
}
