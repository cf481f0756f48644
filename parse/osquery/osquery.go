// Package osquery reads the results log of osqueryd: differential, snapshot and batched results.
//
// Specification: https://osquery.readthedocs.io/en/stable/deployment/logging/
//
// A result proves that a query gave (or no longer gave) this row when the daemon ran it. It does not prove when the fact came to be: a differential
// row says that it did between two runs, a snapshot only that it was so. Event tables (process_events, socket_events, file_events) carry
// a time of their own, and then that one is taken.
package osquery

import (
	"context"
	"sort"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is osqueryd.results.log.
var Format = parse.Format{
	Name:  "osquery",
	Title: "osquery results",
	Spec:  "https://osquery.readthedocs.io/en/stable/deployment/logging/",
	Sniff: sniff,
	Read:  read,
}

var options = jsonrecords.Options{Max: 32 << 20}

func is(root jsonrecords.Node) bool {
	return root.Get("name").Type() == jsonrecords.String && root.First("unixTime", "calendarTime").Exists() &&
		(root.Get("columns").Type() == jsonrecords.Object || root.Get("snapshot").Type() == jsonrecords.Array || root.Get("diffResults").Type() == jsonrecords.Object)
}

func sniff(head []byte) parse.Confidence {
	if jsonrecords.Sniff(head, options, is) {
		return parse.Certain
	}
	return parse.No
}

func read(ctx context.Context, in *parse.Input, emit parse.Emit) error {
	row := jsonrecords.NewRow(in)
	return jsonrecords.Read(ctx, in, options, func(rec jsonrecords.Record, root jsonrecords.Node) (bool, error) {
		// A snapshot's or batch's rows come before what says which query it was.
		rows := root.Get("snapshot").Type() == jsonrecords.Array || root.Get("diffResults").Type() == jsonrecords.Object
		if ok := is(root) || rec.Cut && rows; !ok {
			return false, nil
		}
		whole := rec
		one := func(columns jsonrecords.Node, action string) error {
			row.Begin(in, rec)
			fill(row, root, columns, action)
			return row.Emit(emit)
		}
		// each cites the row's own bytes.
		each := func(rows jsonrecords.Node, action string) error {
			var err error
			rows.Each(func(_ string, columns jsonrecords.Node) bool {
				from, to := columns.Span()
				rec.Offset, rec.Length = whole.Offset+int64(from), int64(to-from)
				err = one(columns, action)
				return err == nil
			})
			return err
		}
		if c := root.Get("columns"); c.Exists() {
			return true, one(c, root.Get("action").Text())
		}
		if s := root.Get("snapshot"); s.Exists() {
			return true, each(s, "snapshot")
		}
		d := root.Get("diffResults")
		if err := each(d.Get("added"), "added"); err != nil {
			return true, err
		}
		return true, each(d.Get("removed"), "removed")
	})
}

// placed are the columns of results that are columns of an event.
var placed = map[string]bool{
	"pid": true, "parent": true, "cmdline": true, "path": true, "target_path": true, "sha256": true, "username": true, "size": true, "remote_address": true, "remote_port": true,
	"local_address": true, "local_port": true, "time": true, "name": true, "address": true, "port": true,
}

func fill(r *jsonrecords.Row, root, c jsonrecords.Node, action string) {
	query := root.Get("name").Text()
	host := root.Get("hostIdentifier").Text()
	if !timed(query, c) || !r.When(c.Get("time")) {
		r.TimeKind = event.Observed
		if !r.When(root.Get("unixTime")) {
			r.When(root.Get("calendarTime"))
		}
	}
	r.Node = host
	r.PID, r.PPID = c.Get("pid").Whole(), c.Get("parent").Whole()
	r.Process, r.Cmdline = c.Get("name").Text(), c.Get("cmdline").Text()
	if r.User = c.Get("username").Text(); r.User == "" {
		r.User = c.First("uid", "user").Text()
	}
	if r.Path = c.Get("target_path").Text(); r.Path == "" {
		r.Path = c.Get("path").Text()
	}
	if s := c.Get("sha256").Text(); len(s) == 64 {
		r.SHA256 = strings.ToLower(s)
	}
	if v, ok := c.Get("size").Int(); ok && v > 0 {
		r.Size = v
	}
	r.SrcIP, r.SrcPort = jsonrecords.Address(c.First("local_address", "address").Text()), jsonrecords.Port(c.First("local_port", "port"))
	r.DstIP, r.DstPort = jsonrecords.Address(c.Get("remote_address").Text()), jsonrecords.Port(c.Get("remote_port"))
	if c.Get("docker_id").Exists() {
		r.ContainerID = c.Get("docker_id").Text()
	} else if strings.Contains(query, "docker_containers") {
		r.ContainerID, r.Container = c.Get("id").Text(), c.Get("name").Text()
	}
	r.Kind = kindOf(query, c, action)
	r.Attr.String("query", jsonrecords.Clip(query))
	r.Attr.String("action", jsonrecords.Clip(action))
	var short []string
	c.Each(func(name string, v jsonrecords.Node) bool {
		text := v.Text()
		if text == "" || len(name) > 64 {
			return true
		}
		if len(short) < 12 {
			short = append(short, name+"="+clip(text))
		}
		if !placed[name] && name != "action" && name != "query" && (name != "uid" || text != r.User) {
			r.Put(name, v)
		}
		return r.Attr.Len() < 8192
	})
	sort.Strings(short) // the order of columns is of no meaning, and differs between versions
	r.Message = "osquery " + query + " " + action + ": " + strings.Join(short, " ")
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// timed reports whether rows have the time of what happened.
func timed(query string, c jsonrecords.Node) bool {
	return c.Get("time").Exists() && (strings.Contains(query, "event") || c.Get("eid").Exists() || c.Get("action").Exists())
}

func kindOf(query string, c jsonrecords.Node, action string) event.Kind {
	has := func(name string) bool { return c.Get(name).Exists() }
	if !timed(query, c) || action == "removed" {
		return event.LogLine
	}
	switch {
	case has("target_path"):
		switch c.Get("action").Text() {
		case "CREATED":
			return event.FileCreated
		case "UPDATED":
			return event.FileModified
		case "DELETED":
			return event.FileDeleted
		case "ATTRIBUTES_MODIFIED":
			return event.FileChanged
		case "ACCESSED", "OPENED":
			return event.FileAccessed
		}
	case has("remote_address"):
		if c.Get("success").Is("0") {
			return event.Syscall
		}
		switch c.Get("action").Text() {
		case "accept":
			return event.NetAccepted
		case "connect":
			return event.NetConnected
		}
		return event.Syscall
	case has("cmdline") && has("pid"):
		return event.ProcessStarted
	}
	return event.LogLine
}
