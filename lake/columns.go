package lake

import (
	"github.com/parquet-go/parquet-go"

	"github.com/sherd-forensics/sherd/event"
)

// text is a column of strings. Missing is the empty string: there are no nulls in a lake, so that NOT means the same everywhere.
type text struct {
	name string
	of   func(*event.Event) string
	set  func(*event.Event, string)
	// plain columns have values that hardly repeat; the others are dictionaries.
	plain bool
}

// number is a column of integers. Missing is 0.
type number struct {
	name  string
	of    func(*event.Event) int64
	set   func(*event.Event, int64)
	plain bool // values that differ from row to row by little
}

// texts and numbers are the columns of a lake but row, which numbers the events of a lake in the order in which they were written.
var texts = []text{
	{name: "time_kind", of: func(e *event.Event) string { return string(e.TimeKind) }, set: func(e *event.Event, s string) { e.TimeKind = event.TimeKind(s) }},
	{name: "kind", of: func(e *event.Event) string { return string(e.Kind) }, set: func(e *event.Event, s string) { e.Kind = event.Kind(s) }},
	{name: "message", plain: true, of: func(e *event.Event) string { return e.Message }, set: func(e *event.Event, s string) { e.Message = s }},
	{name: "evidence_id", of: func(e *event.Event) string { return e.EvidenceID }, set: func(e *event.Event, s string) { e.EvidenceID = s }},
	{name: "container_id", of: func(e *event.Event) string { return e.ContainerID }, set: func(e *event.Event, s string) { e.ContainerID = s }},
	{name: "container", of: func(e *event.Event) string { return e.Container }, set: func(e *event.Event, s string) { e.Container = s }},
	{name: "image_digest", of: func(e *event.Event) string { return e.ImageDigest }, set: func(e *event.Event, s string) { e.ImageDigest = s }},
	{name: "pod", of: func(e *event.Event) string { return e.Pod }, set: func(e *event.Event, s string) { e.Pod = s }},
	{name: "namespace", of: func(e *event.Event) string { return e.Namespace }, set: func(e *event.Event, s string) { e.Namespace = s }},
	{name: "node", of: func(e *event.Event) string { return e.Node }, set: func(e *event.Event, s string) { e.Node = s }},
	{name: "process", of: func(e *event.Event) string { return e.Process }, set: func(e *event.Event, s string) { e.Process = s }},
	{name: "cmdline", of: func(e *event.Event) string { return e.Cmdline }, set: func(e *event.Event, s string) { e.Cmdline = s }},
	{name: "user", of: func(e *event.Event) string { return e.User }, set: func(e *event.Event, s string) { e.User = s }},
	{name: "identity", of: func(e *event.Event) string { return e.Identity }, set: func(e *event.Event, s string) { e.Identity = s }},
	{name: "path", of: func(e *event.Event) string { return e.Path }, set: func(e *event.Event, s string) { e.Path = s }},
	{name: "sha256", of: func(e *event.Event) string { return e.SHA256 }, set: func(e *event.Event, s string) { e.SHA256 = s }},
	{name: "src_ip", of: func(e *event.Event) string { return e.SrcIP }, set: func(e *event.Event, s string) { e.SrcIP = s }},
	{name: "dst_ip", of: func(e *event.Event) string { return e.DstIP }, set: func(e *event.Event, s string) { e.DstIP = s }},
	{name: "protocol", of: func(e *event.Event) string { return e.Protocol }, set: func(e *event.Event, s string) { e.Protocol = s }},
	{name: "technique", of: func(e *event.Event) string { return e.Technique }, set: func(e *event.Event, s string) { e.Technique = s }},
	{name: "parser", of: func(e *event.Event) string { return e.Parser }, set: func(e *event.Event, s string) { e.Parser = s }},
	{name: "artifact", of: func(e *event.Event) string { return e.Artifact }, set: func(e *event.Event, s string) { e.Artifact = s }},
	{name: "attributes", plain: true, of: func(e *event.Event) string { return string(e.Attributes) }, set: func(e *event.Event, s string) {
		e.Attributes = nil
		if s != "" {
			e.Attributes = []byte(s)
		}
	}},
}

var numbers = []number{
	{name: "time", plain: true, of: func(e *event.Event) int64 { return e.Time }, set: func(e *event.Event, v int64) { e.Time = v }},
	{name: "pid", of: func(e *event.Event) int64 { return int64(e.PID) }, set: func(e *event.Event, v int64) { e.PID = int(v) }},
	{name: "ppid", of: func(e *event.Event) int64 { return int64(e.PPID) }, set: func(e *event.Event, v int64) { e.PPID = int(v) }},
	{name: "size", of: func(e *event.Event) int64 { return e.Size }, set: func(e *event.Event, v int64) { e.Size = v }},
	{name: "src_port", of: func(e *event.Event) int64 { return int64(e.SrcPort) }, set: func(e *event.Event, v int64) { e.SrcPort = int(v) }},
	{name: "dst_port", of: func(e *event.Event) int64 { return int64(e.DstPort) }, set: func(e *event.Event, v int64) { e.DstPort = int(v) }},
	{name: "offset", plain: true, of: func(e *event.Event) int64 { return e.Offset }, set: func(e *event.Event, v int64) { e.Offset = v }},
	{name: "length", of: func(e *event.Event) int64 { return e.Length }, set: func(e *event.Event, v int64) { e.Length = v }},
}

// schema is of the Parquet files. Version 1.
func schema() *parquet.Schema {
	g := parquet.Group{"row": parquet.Encoded(parquet.Int(64), &parquet.DeltaBinaryPacked)}
	for _, c := range texts {
		n := parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
		if c.plain {
			n = parquet.Encoded(parquet.String(), &parquet.DeltaLengthByteArray)
		}
		g[c.name] = n
	}
	for _, c := range numbers {
		n := parquet.Encoded(parquet.Int(64), &parquet.RLEDictionary)
		if c.plain {
			n = parquet.Encoded(parquet.Int(64), &parquet.DeltaBinaryPacked)
		}
		g[c.name] = n
	}
	return parquet.NewSchema("event", g)
}
