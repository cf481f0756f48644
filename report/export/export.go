// Package export writes events for other tools, one after the other, with nothing kept but what the format itself needs.
package export

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
)

// Meta is what a format may say about the whole.
type Meta struct {
	Tool string // name and version of the program
}

// Writer takes events in the order of time. The event is the caller's again when Write returns. Close ends the format; what it
// was written to stays the caller's.
type Writer interface {
	Write(e *event.Event) error
	Close() error
}

// Format is one that events can be written in.
type Format struct {
	Name, Title string
	open        func(w io.Writer, m Meta) (Writer, error)
}

// Formats lists them by name.
func Formats() []Format {
	return []Format{
		{"bodyfile", "a body file for mactime of The Sleuth Kit", newBody},
		{"cef", "ArcSight's Common Event Format", newCEF},
		{"csv", "our columns, as comma-separated values that no spreadsheet takes for formulas", newCSV},
		{"ecs", "the Elastic Common Schema 8.17, as NDJSON", newECS},
		{"jsonl", "our columns, one JSON object a line", newJSONL},
		{"l2tcsv", "log2timeline's CSV, as plaso writes it", newL2T},
		{"ocsf", "the Open Cybersecurity Schema Framework 1.3, as JSON lines", newOCSF},
		{"stix", "a STIX 2.1 bundle of observed data", newSTIX},
		{"timesketch", "Timesketch's JSON lines", newTimesketchJSONL},
		{"timesketch-csv", "Timesketch's CSV", newTimesketchCSV},
	}
}

// New begins a format on w.
func New(name string, w io.Writer, m Meta) (Writer, error) {
	all := Formats()
	i := slices.IndexFunc(all, func(f Format) bool { return f.Name == name })
	if i < 0 {
		var names []string
		for _, f := range all {
			names = append(names, f.Name)
		}
		return nil, fmt.Errorf("there is no format %q; known are %s", name, strings.Join(names, ", "))
	}
	return all[i].open(w, m)
}

type jsonl struct{ enc *json.Encoder }

func newJSONL(w io.Writer, _ Meta) (Writer, error) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return &jsonl{e}, nil
}

func (j *jsonl) Write(e *event.Event) error { return j.enc.Encode(e) }
func (j *jsonl) Close() error               { return nil }

type commas struct{ w *csv.Writer }

var header = []string{"time", "datetime", "time_kind", "kind", "message", "evidence_id", "container_id", "container", "image_digest", "pod", "namespace", "node", "pid", "ppid",
	"process", "cmdline", "user", "identity", "path", "sha256", "size", "src_ip", "src_port", "dst_ip", "dst_port", "protocol", "technique", "parser", "artifact", "offset",
	"length", "attributes"}

func newCSV(w io.Writer, _ Meta) (Writer, error) {
	c := &commas{csv.NewWriter(w)}
	return c, c.w.Write(header)
}

func (c *commas) Write(e *event.Event) error {
	n := func(v int64) string {
		if v == 0 {
			return ""
		}
		return strconv.FormatInt(v, 10)
	}
	row := []string{strconv.FormatInt(e.Time, 10), Datetime(e.Time), string(e.TimeKind), string(e.Kind), e.Message, e.EvidenceID, e.ContainerID, e.Container, e.ImageDigest, e.Pod,
		e.Namespace, e.Node, n(int64(e.PID)), n(int64(e.PPID)), e.Process, e.Cmdline, e.User, e.Identity, e.Path, e.SHA256, n(e.Size), e.SrcIP, n(int64(e.SrcPort)), e.DstIP,
		n(int64(e.DstPort)), e.Protocol, e.Technique, e.Parser, e.Artifact, strconv.FormatInt(e.Offset, 10), strconv.FormatInt(e.Length, 10), string(e.Attributes)}
	for i, s := range row {
		row[i] = Guard(s)
	}
	return c.w.Write(row)
}

func (c *commas) Close() error {
	c.w.Flush()
	return c.w.Error()
}
