// Package csvtime reads tables in text, with commas, semicolons or tabs, whose first line names the columns and one of whose columns is a
// time: what spreadsheets and other tools export.
//
// Specification: https://www.rfc-editor.org/rfc/rfc4180
//
// A row proves that it stands there. It does not prove what its columns mean, which is guessed from their names; the attributes keep all
// that have no place of their own.
package csvtime

import (
	"bytes"
	"context"
	"encoding/csv"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/internal/timestamp"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

const (
	maxColumns = 256
	maxRow     = 1 << 20 // bytes; a longer one is a quote that is never closed
	maxMessage = 4096    // runes
)

// Format is CSV with a header that names a time.
var Format = parse.Format{
	Name:  "csvtime",
	Title: "CSV with a time",
	Spec:  "https://www.rfc-editor.org/rfc/rfc4180",
	Sniff: func(head []byte) parse.Confidence {
		h := header(head)
		if h == nil {
			return parse.No
		}
		return parse.Maybe
	},
	Read: read,
}

// table is what the header says.
type table struct {
	comma byte
	names []string
	time  int
	clock *timestamp.Resolver
}

// times are names of columns that hold a time, the likeliest first.
var times = []string{"timestamp", "time", "datetime", "date_time", "@timestamp", "_time", "ts", "event_time", "eventtime", "date", "created", "created_at", "start", "start_time",
	"logged_at", "first_seen", "last_seen", "modified"}

// header reads the first line of head, and takes it for one when a column is named as a time and the next row has a time there.
func header(head []byte) *table {
	head = bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	line, rest, ok := bytes.Cut(head, []byte{'\n'})
	if !ok || len(line) > 16<<10 || bytes.ContainsAny(line, "{}\x00") {
		return nil
	}
	line = bytes.TrimSuffix(line, []byte{'\r'})
	for _, comma := range []byte(",;\t|") {
		if bytes.IndexByte(line, comma) < 0 {
			continue
		}
		names := row(line, comma)
		if len(names) < 2 || len(names) > maxColumns {
			continue
		}
		for _, want := range times {
			for i, n := range names {
				if strings.EqualFold(strings.TrimSpace(n), want) || strings.EqualFold(strings.ReplaceAll(strings.TrimSpace(n), " ", "_"), want) {
					t := &table{comma: comma, names: names, time: i, clock: &timestamp.Resolver{}}
					if t.plausible(rest) {
						return t
					}
				}
			}
		}
	}
	return nil
}

// row splits one line without line feeds inside.
func row(line []byte, comma byte) []string {
	r := csv.NewReader(bytes.NewReader(line))
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = rune(comma), true, -1
	f, err := r.Read()
	if err != nil {
		return nil
	}
	return f
}

// plausible reports whether the first row has a time in its place.
func (t *table) plausible(rest []byte) bool {
	r := csv.NewReader(bytes.NewReader(rest))
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = rune(t.comma), true, -1
	f, err := r.Read()
	if err != nil || len(f) <= t.time || len(f) != len(t.names) {
		return false
	}
	_, _, ok := t.when(f[t.time])
	return ok
}

func (t *table) when(s string) (int64, timestamp.Mark, bool) {
	s = strings.TrimSpace(s)
	if len(s) < 4 {
		return 0, 0, false
	}
	if at, ok := timestamp.RFC3339(s); ok {
		return at, 0, true
	}
	if at, m, ok := t.clock.Parse(s); ok {
		return at, m, true
	}
	if len(s) >= 9 { // a shorter number is a count
		if at, ok := timestamp.Epoch(s); ok {
			return at, 0, true
		}
	}
	return 0, 0, false
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	t := header(in.Head())
	if t == nil {
		in.Skip(0, 0, "it has no header that names a time")
		return nil
	}
	t.clock = in.Resolver()
	var (
		a       event.Attributes
		whole   []byte // a row whose quotes hold line feeds
		at      int64
		first   = true
		rows, n int
	)
	for l, err := range in.Lines() {
		if err != nil {
			return err
		}
		if n++; n&0xfff == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if first {
			first = false
			continue
		}
		data := l.Data
		if len(whole) > 0 {
			whole = append(append(whole, '\n'), l.Data...)
			data = whole
		} else {
			at = l.Offset
			if len(bytes.TrimSpace(data)) == 0 {
				continue
			}
		}
		end := l.Offset + l.Length
		if open(data, t.comma) && !l.Cut && len(data) < maxRow {
			if len(whole) == 0 {
				whole = append(whole[:0], l.Data...)
			}
			continue
		}
		f := row(data, t.comma)
		whole = whole[:0]
		if rows++; l.Cut || len(f) == 0 || len(f) < t.time+1 {
			in.Skip(at, end-at, "a row that breaks off")
			continue
		}
		if err := t.emit(in, f, at, end-at, &a, emit); err != nil {
			return err
		}
	}
	if len(whole) > 0 {
		in.Skip(at, int64(len(whole)), "a quote that is never closed")
	}
	return nil
}

// open reports whether b ends inside quotes, so that the row goes on in the next line. Quotes inside a field that does not begin with one
// are text.
func open(b []byte, comma byte) bool {
	inside, start := false, true
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inside && c == '"' && i+1 < len(b) && b[i+1] == '"':
			i++
		case inside && c == '"':
			inside = false
		case inside:
		case c == '"' && start:
			inside, start = true, false
		case c == comma:
			start = true
		default:
			start = false
		}
	}
	return inside
}

// emit makes the event of one row.
func (t *table) emit(in *parse.Input, f []string, at, length int64, a *event.Attributes, emit parse.Emit) error {
	e := in.Base
	e.TimeKind, e.Kind, e.Offset, e.Length = event.Logged, event.LogLine, at, length
	a.Reset()
	var mark timestamp.Mark
	var ok bool
	if e.Time, mark, ok = t.when(f[t.time]); !ok {
		e.Time = 0
		a.String("time_text", jsonrecords.Clip(f[t.time]))
	}
	a.String("time_assumed", mark.String())
	used := map[string]bool{"time_text": true, "time_assumed": true, "further_columns": true}
	var more []string
	for i, v := range f {
		if i == t.time || v == "" {
			continue
		}
		if i >= len(t.names) {
			more = append(more, v)
			continue
		}
		name := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(t.names[i])), " ", "_")
		if name == "" || used[name] {
			name = "column_" + strconv.Itoa(i+1)
		}
		used[name] = true
		if !place(&e, name, v) {
			a.String(name, jsonrecords.Clip(v))
		}
	}
	a.String("further_columns", jsonrecords.Clip(strings.Join(more, ", ")))
	if e.Message == "" {
		e.Message = strings.Join(f, " ")
	}
	e.Message = printable.Clip(e.Message[:min(len(e.Message), 4*maxMessage)], maxMessage)
	e.Attributes = a.JSON()
	return emit(&e)
}

// place puts a value into the column that its name means, and reports whether it fits there.
func place(e *event.Event, name, v string) bool {
	set := func(to *string) bool {
		if *to != "" {
			return false
		}
		*to = v
		return true
	}
	number := func(to *int, most int) bool {
		n, err := strconv.Atoi(strings.TrimSpace(v))
		if err != nil || n < 0 || n > most || *to != 0 {
			return false
		}
		*to = n
		return true
	}
	switch name {
	case "message", "msg", "description", "summary", "text", "log":
		return set(&e.Message)
	case "host", "hostname", "computer", "node":
		return set(&e.Node)
	case "user", "username", "user_name", "account":
		return set(&e.User)
	case "process", "process_name", "image_name", "program":
		return set(&e.Process)
	case "command_line", "cmdline", "commandline":
		return set(&e.Cmdline)
	case "path", "file", "filename", "file_path", "filepath":
		return set(&e.Path)
	case "src_ip", "source_ip", "srcip", "client_ip", "source_address", "src":
		return set(&e.SrcIP)
	case "dst_ip", "destination_ip", "dstip", "dest_ip", "destination_address", "dst":
		return set(&e.DstIP)
	case "protocol", "proto":
		return set(&e.Protocol)
	case "pod", "pod_name":
		return set(&e.Pod)
	case "namespace":
		return set(&e.Namespace)
	case "container", "container_name":
		return set(&e.Container)
	case "container_id":
		return set(&e.ContainerID)
	case "sha256":
		if len(v) != 64 {
			return false
		}
		v = strings.ToLower(v)
		return set(&e.SHA256)
	case "pid", "process_id":
		return number(&e.PID, 1<<31-1)
	case "ppid", "parent_pid":
		return number(&e.PPID, 1<<31-1)
	case "src_port", "source_port", "srcport":
		return number(&e.SrcPort, 65535)
	case "dst_port", "destination_port", "dstport", "dest_port":
		return number(&e.DstPort, 65535)
	}
	return false
}
