// Package timesketch reads timelines made for Timesketch: JSON lines with message, datetime or timestamp, and timestamp_desc.
//
// Specification: https://timesketch.org/guides/user/import-from-json-csv/
//
// A line proves what the tool that wrote it made of its evidence. It does not prove the fact; the evidence itself is elsewhere.
package timesketch

import (
	"context"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
	"github.com/sherd-forensics/sherd/parse/l2tcsv"
)

// Format is Timesketch's JSON lines.
var Format = parse.Format{
	Name:  "timesketch",
	Title: "Timesketch JSON lines",
	Spec:  "https://timesketch.org/guides/user/import-from-json-csv/",
	Sniff: func(head []byte) parse.Confidence {
		if jsonrecords.Sniff(head, jsonrecords.Options{}, is) {
			return 88
		}
		return parse.No
	},
	Read: func(ctx context.Context, in *parse.Input, emit parse.Emit) error {
		return jsonrecords.Events(ctx, in, emit, jsonrecords.Options{}, fill)
	},
}

func is(root jsonrecords.Node) bool {
	return root.Get("message").Exists() && root.Get("timestamp_desc").Exists() && (root.Get("datetime").Exists() || root.Get("timestamp").Exists())
}

func fill(r *jsonrecords.Row, root jsonrecords.Node) bool {
	if !is(root) {
		return false
	}
	if !r.When(root.Get("datetime")) {
		r.When(root.Get("timestamp"))
	}
	r.Message = root.Get("message").Text()
	desc := root.Get("timestamp_desc").Text()
	r.TimeKind, r.Kind = l2tcsv.Meaning("", desc)
	root.Each(func(name string, v jsonrecords.Node) bool {
		switch name {
		case "message", "datetime", "timestamp", "__container_type__", "__type__", "_event_values_hash":
		case "kind":
			if k := v.Text(); strings.Contains(k, ".") && len(k) < 40 {
				r.Kind = event.Kind(k)
			}
		case "time_kind":
			r.TimeKind = event.TimeKind(v.Text())
		case "hostname", "node":
			r.Node = v.Text()
		case "username", "user":
			r.User = v.Text()
		case "filename", "path":
			r.Path = v.Text()
		case "container":
			r.Container = v.Text()
		case "pid":
			r.PID = v.Whole()
		case "process":
			r.Process = v.Text()
		case "src_ip":
			r.SrcIP = jsonrecords.Address(v.Text())
		case "dst_ip":
			r.DstIP = jsonrecords.Address(v.Text())
		case "sha256", "sha256_hash", "hash_sha256":
			r.SHA256 = strings.ToLower(v.Text())
		default:
			r.Put(name, v)
		}
		return true
	})
	return true
}
