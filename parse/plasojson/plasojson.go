// Package plasojson reads what plaso's psort writes with -o json_line: one event on a line, with the attributes that its parser found.
//
// Specification: https://plaso.readthedocs.io/en/latest/sources/user/Output-and-formatting.html
//
// A line proves what plaso made of its evidence. It does not prove the fact; the evidence itself is elsewhere, and display_name says where.
package plasojson

import (
	"context"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
	"github.com/sherd-forensics/sherd/parse/l2tcsv"
)

// Format is plaso's JSON lines.
var Format = parse.Format{
	Name:  "plasojson",
	Title: "plaso JSON lines",
	Spec:  "https://plaso.readthedocs.io/en/latest/sources/user/Output-and-formatting.html",
	Sniff: func(head []byte) parse.Confidence {
		if jsonrecords.Sniff(head, jsonrecords.Options{}, is) {
			return parse.Certain
		}
		return parse.No
	},
	Read: func(ctx context.Context, in *parse.Input, emit parse.Emit) error {
		return jsonrecords.Events(ctx, in, emit, jsonrecords.Options{}, fill)
	},
}

func is(root jsonrecords.Node) bool {
	return root.Get("data_type").Exists() && root.Get("timestamp").Exists() && (root.Get("__container_type__").Exists() || root.Get("display_name").Exists() || root.Get("pathspec").Exists())
}

func fill(r *jsonrecords.Row, root jsonrecords.Node) bool {
	if !is(root) {
		return false
	}
	// Microseconds since 1970, of which small ones are not to be taken for another unit.
	if n, ok := root.Get("timestamp").Int(); ok && n != 0 && n > -9_000_000_000_000_000 && n < 9_000_000_000_000_000 {
		r.Time = n * 1000
	}
	r.Message = root.Get("message").Text()
	data := root.Get("data_type").Text()
	r.TimeKind, r.Kind = l2tcsv.Meaning("", root.Get("timestamp_desc").Text())
	if strings.HasPrefix(data, "fs:stat") {
		switch r.TimeKind {
		case event.Created:
			r.Kind = event.FileCreated
		case event.Modified:
			r.Kind = event.FileModified
		case event.Accessed:
			r.Kind = event.FileAccessed
		default:
			r.Kind = event.FileChanged
		}
	}
	r.Path = root.First("filename", "display_name").Text()
	r.Node, r.User = root.Get("hostname").Text(), root.Get("username").Text()
	r.SHA256 = strings.ToLower(root.Get("sha256_hash").Text())
	r.PID = root.Get("pid").Whole()
	r.Process = root.Get("reporter").Text()
	r.SrcIP = jsonrecords.Address(root.First("ip_address", "source_ip").Text())
	if n, ok := root.Get("file_size").Int(); ok && n > 0 {
		r.Size = n
	}
	for _, name := range []string{"data_type", "timestamp_desc", "parser", "inode", "display_name", "body", "severity", "http_response_code", "http_request", "http_request_user_agent", "command"} {
		out := name
		if name == "parser" {
			out = "plaso_parser"
		}
		r.Put(out, root.Get(name))
	}
	return true
}
