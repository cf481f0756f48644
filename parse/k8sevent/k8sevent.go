// Package k8sevent reads the events of Kubernetes: as kubectl get events -o json prints them, one object a line, or as a watch gives them.
//
// Specification: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/ and the older form of core/v1.
//
// An event proves that a component told the API server so. It does not prove that it happened, nor that nothing else did: events are
// dropped under load, repeated ones are counted together, they are gone after an hour, and whoever may create events can write any.
package k8sevent

import (
	"context"
	"fmt"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// Format is Kubernetes' events.
var Format = parse.Format{
	Name:  "k8sevent",
	Title: "Kubernetes events",
	Spec:  "https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/",
	Sniff: func(head []byte) parse.Confidence {
		if jsonrecords.Sniff(head, options, func(root jsonrecords.Node) bool { return object(root).Exists() }) {
			return parse.Certain
		}
		return parse.No
	},
	Read: func(ctx context.Context, in *parse.Input, emit parse.Emit) error {
		row := jsonrecords.NewRow(in)
		return jsonrecords.Read(ctx, in, options, func(rec jsonrecords.Record, root jsonrecords.Node) (bool, error) {
			o := object(root)
			if !o.Exists() {
				return false, nil
			}
			return true, events(row, in, rec, root, o, emit)
		})
	},
}

var options = jsonrecords.Options{Members: []string{"items"}}

// object is the event itself: in a watch it is wrapped. In a list its kind may be missing.
func object(root jsonrecords.Node) jsonrecords.Node {
	if t := root.Get("type").Text(); (t == "ADDED" || t == "MODIFIED" || t == "DELETED") && root.Get("object").Exists() {
		root = root.Get("object")
	}
	about := root.First("involvedObject", "regarding")
	if k := root.Get("kind"); k.Exists() && !k.Is("Event") || !about.Exists() || !root.Get("reason").Exists() {
		return jsonrecords.Node{}
	}
	return root
}

// events emits one event for the last time that it happened, and one for the first where that is another.
func events(r *jsonrecords.Row, in *parse.Input, rec jsonrecords.Record, root, o jsonrecords.Node, emit parse.Emit) error {
	last := o.First("lastTimestamp", "deprecatedLastTimestamp", "eventTime")
	if s := o.Get("series", "lastObservedTime"); s.Exists() {
		last = s
	}
	if !last.Exists() {
		last = o.Get("metadata", "creationTimestamp")
	}
	first := o.First("firstTimestamp", "deprecatedFirstTimestamp", "eventTime")
	if first.Exists() && first.Text() != last.Text() {
		fill(r, in, rec, root, o)
		r.When(first)
		r.Attr.String("occurrence", "first")
		if err := r.Emit(emit); err != nil {
			return err
		}
	}
	fill(r, in, rec, root, o)
	r.When(last)
	if n, ok := count(o); ok && n > 1 {
		r.Attr.Int("count", n)
	}
	return r.Emit(emit)
}

func count(o jsonrecords.Node) (int64, bool) {
	if n := o.Get("series", "count"); n.Exists() {
		return n.Int()
	}
	return o.First("count", "deprecatedCount").Int()
}

func fill(r *jsonrecords.Row, in *parse.Input, rec jsonrecords.Record, root, o jsonrecords.Node) {
	r.Begin(in, rec)
	r.TimeKind, r.Kind = event.Logged, event.K8sEvent
	about := o.First("involvedObject", "regarding")
	kind, name := about.Get("kind").Text(), about.Get("name").Text()
	r.Namespace = about.Get("namespace").Text()
	switch kind {
	case "Pod":
		r.Pod = name
		if c := about.Get("fieldPath").Text(); strings.HasPrefix(c, "spec.") {
			if _, c, ok := strings.Cut(c, "{"); ok {
				r.Container = strings.TrimSuffix(c, "}")
			}
		}
	case "Node":
		r.Node = name
	}
	source := o.First("source", "deprecatedSource")
	if h := source.Get("host").Text(); h != "" {
		r.Node = h
	}
	r.Process = source.Get("component").Text()
	if r.Process == "" {
		r.Process = o.First("reportingComponent", "reportingController").Text()
	}
	reason, note := o.Get("reason").Text(), o.First("message", "note").Text()
	r.Message = fmt.Sprintf("%s %s: %s", kind, name, reason)
	if note != "" {
		r.Message += ": " + strings.TrimSpace(note)
	}
	r.Put("reason", o.Get("reason"))
	if t := o.Get("type").Text(); t != "Normal" {
		r.Attr.String("type", t)
	}
	if kind != "Pod" && kind != "Node" {
		r.Attr.String("object", kind+"/"+name)
	}
	r.Put("action", o.Get("action"))
	if t := root.Get("type").Text(); root.Get("object").Exists() && t != "ADDED" {
		r.Attr.String("watch", t)
	}
}
