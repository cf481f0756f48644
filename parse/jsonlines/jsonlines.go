// Package jsonlines reads any JSON objects that have a time, on lines or in an array: what no more exact format claims.
//
// Specification: https://jsonlines.org/
//
// A record proves that it stands there. It does not prove what its fields mean, which is guessed from their names; the attributes keep all of them.
package jsonlines

import (
	"context"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is JSON with a time.
var Format = parse.Format{
	Name:  "jsonlines",
	Title: "JSON with a time",
	Spec:  "https://jsonlines.org/",
	Sniff: func(head []byte) parse.Confidence {
		if jsonrecords.Sniff(head, options, func(root jsonrecords.Node) bool { return when(root).Exists() }) {
			return parse.Maybe
		}
		return parse.No
	},
	Read: func(ctx context.Context, in *parse.Input, emit parse.Emit) error {
		return jsonrecords.Events(ctx, in, emit, options, fill)
	},
}

var options = jsonrecords.Options{Members: []string{"items", "records", "events", "entries", "results", "data"}}

// names of fields, the likeliest first.
var (
	times    = []string{"@timestamp", "timestamp", "time", "ts", "datetime", "eventTime", "event_time", "date", "created_at", "createdAt", "t", "_time", "logged_at"}
	messages = []string{"message", "msg", "event", "text", "log", "description", "summary", "body", "title"}
	levels   = []string{"level", "severity", "lvl", "loglevel", "log.level"}
	places   = map[string]func(*jsonrecords.Row, jsonrecords.Node){
		"host": node, "hostname": node, "node": node,
		"user": user, "username": user, "user_name": user,
		"pid":     func(r *jsonrecords.Row, n jsonrecords.Node) { r.PID = n.Whole() },
		"process": func(r *jsonrecords.Row, n jsonrecords.Node) { r.Process = n.Text() },
		"src_ip":  source, "source_ip": source, "client_ip": source, "remote_addr": source, "remote_ip": source, "ip": source, "clientip": source,
		"dst_ip":       func(r *jsonrecords.Row, n jsonrecords.Node) { r.DstIP = jsonrecords.Address(n.Text()) },
		"container_id": func(r *jsonrecords.Row, n jsonrecords.Node) { r.ContainerID = n.Text() },
		"container":    func(r *jsonrecords.Row, n jsonrecords.Node) { r.Container = n.Text() },
		"namespace":    func(r *jsonrecords.Row, n jsonrecords.Node) { r.Namespace = n.Text() },
		"pod":          func(r *jsonrecords.Row, n jsonrecords.Node) { r.Pod = n.Text() },
		"sha256":       func(r *jsonrecords.Row, n jsonrecords.Node) { r.SHA256 = strings.ToLower(n.Text()) },
		"path":         func(r *jsonrecords.Row, n jsonrecords.Node) { r.Path = n.Text() },
	}
)

func node(r *jsonrecords.Row, n jsonrecords.Node)   { r.Node = n.Text() }
func user(r *jsonrecords.Row, n jsonrecords.Node)   { r.User = n.Text() }
func source(r *jsonrecords.Row, n jsonrecords.Node) { r.SrcIP = jsonrecords.Address(n.Text()) }

func when(root jsonrecords.Node) jsonrecords.Node { return root.First(times...) }

func fill(r *jsonrecords.Row, root jsonrecords.Node) bool {
	at := when(root)
	if !at.Exists() {
		return false
	}
	if !r.When(at) {
		r.Put("time_text", at)
	}
	r.TimeKind, r.Kind = event.Logged, event.LogLine
	r.Message = root.First(messages...).Text()
	used := map[string]bool{}
	for _, list := range [][]string{times, messages} {
		for _, n := range list {
			if root.Get(n).Exists() {
				used[n] = true
				break
			}
		}
	}
	r.Put("level", root.First(levels...))
	left := 64
	root.Each(func(name string, v jsonrecords.Node) bool {
		if put := places[name]; put != nil && v.Text() != "" {
			put(r, v)
			return true
		}
		for _, l := range levels {
			if name == l {
				return true
			}
		}
		if !used[name] && name != "time_text" && name != "time_assumed" {
			r.Put(name, v)
			left--
		}
		return left > 0
	})
	if r.Message == "" {
		r.Message = string(root.Append(nil, 1024))
	}
	return true
}
