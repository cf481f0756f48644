// Package k8sobject reads objects of Kubernetes that are neither pods nor events, as kubectl get -o json prints them or one object a line: workloads and
// their rollouts, roles and bindings, services, ingresses, gateways and network policies, nodes and their conditions, webhooks of admission, and
// any other that says when it was made.
//
// Specification: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/ for what all have in common.
//
// An object proves what the API server held when it was asked: when the object was made, which client last changed which part of it
// (managedFields), and when its conditions changed last. It does not prove who stood behind a client's name, nor what the object was before;
// conditions are what a controller or a kubelet reported, and whoever may write an object's status can write any.
package k8sobject

import (
	"context"
	"fmt"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// maxEach bounds the conditions, managers, rules and subjects of one object that are told.
const maxEach = 256

// Format is objects of Kubernetes.
var Format = parse.Format{
	Name:  "k8sobject",
	Title: "Kubernetes objects",
	Spec:  "https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/",
	Sniff: func(head []byte) parse.Confidence {
		if jsonrecords.Sniff(head, options, func(root jsonrecords.Node) bool { return object(root).Exists() }) {
			return parse.Certain
		}
		return parse.No
	},
	Read: func(ctx context.Context, in *parse.Input, emit parse.Emit) error {
		r := &reader{row: jsonrecords.NewRow(in), in: in, emit: emit}
		return jsonrecords.Read(ctx, in, options, func(rec jsonrecords.Record, root jsonrecords.Node) (bool, error) {
			o := object(root)
			if !o.Exists() {
				return false, nil
			}
			r.rec, r.deleted = rec, root.Get("type").Is("DELETED")
			return true, r.read(o)
		})
	},
}

var options = jsonrecords.Options{Members: []string{"items"}}

// object is the object itself; in a watch it is wrapped. Pods and events have formats of their own.
func object(root jsonrecords.Node) jsonrecords.Node {
	if o := root.Get("object"); o.Exists() && root.Get("type").Exists() {
		root = o
	}
	kind := root.Get("kind").Text()
	if kind == "" || kind == "Pod" || kind == "Event" || strings.HasSuffix(kind, "List") || !root.Get("apiVersion").Exists() ||
		!root.Get("metadata", "name").Exists() || !root.Get("metadata", "creationTimestamp").Exists() {
		return jsonrecords.Node{}
	}
	return root
}

// reader makes the events of one object at a time.
type reader struct {
	row     *jsonrecords.Row
	in      *parse.Input
	emit    parse.Emit
	rec     jsonrecords.Record
	deleted bool
	err     error

	o          jsonrecords.Node
	kind, name string // "RoleBinding", "shop/cart"
	about      *about
}

// begin starts an event of the object.
func (r *reader) begin(when event.TimeKind) *jsonrecords.Row {
	w := r.row
	w.Begin(r.in, r.rec)
	w.Kind, w.TimeKind = r.about.kind, when
	meta := r.o.Get("metadata")
	if ns := meta.Get("namespace").Text(); ns != "" {
		w.Namespace = ns
	}
	if r.kind == "Node" {
		w.Node = meta.Get("name").Text()
	}
	w.Attr.String("object", jsonrecords.Clip(r.kind+"/"+meta.Get("name").Text()))
	return w
}

// end emits it at n's time, unless there is none.
func (r *reader) end(n jsonrecords.Node, format string, args ...any) {
	if r.err != nil || !n.Exists() || !r.row.When(n) {
		return
	}
	r.row.Message = r.kind + " " + r.name + " " + fmt.Sprintf(format, args...)
	r.err = r.row.Emit(r.emit)
}

func (r *reader) read(o jsonrecords.Node) error {
	r.err, r.o = nil, o
	meta := o.Get("metadata")
	r.kind, r.name = o.Get("kind").Text(), meta.Get("name").Text()
	if ns := meta.Get("namespace").Text(); ns != "" {
		r.name = ns + "/" + r.name
	}
	r.about = aboutOf(o)
	w := r.begin(event.Created)
	words := ""
	if r.about.words != nil {
		words = r.about.words(w, o)
	}
	if owner := meta.Get("ownerReferences").At(0); owner.Exists() {
		w.Attr.String("owner", jsonrecords.Clip(owner.Get("kind").Text()+"/"+owner.Get("name").Text()))
	}
	w.Put("uid", meta.Get("uid"))
	r.end(meta.Get("creationTimestamp"), "created%s", after(": ", words))

	word := "to be deleted"
	if r.deleted {
		word = "deleted"
	}
	r.begin(event.Changed)
	r.end(meta.Get("deletionTimestamp"), "%s", word)

	each(meta.Get("managedFields"), func(m jsonrecords.Node) {
		w := r.begin(event.Changed)
		w.Process = m.Get("manager").Text()
		w.Put("operation", m.Get("operation"))
		w.Put("subresource", m.Get("subresource"))
		r.end(m.Get("time"), "last changed by %s%s", w.Process, after(": ", m.Get("subresource").Text()))
	})
	r.conditions(o.Get("status", "conditions"))
	if r.about.more != nil {
		r.about.more(r)
	}
	return r.err
}

// conditions tell when each changed last, and where it stands now.
func (r *reader) conditions(list jsonrecords.Node) {
	each(list, func(c jsonrecords.Node) {
		w := r.begin(event.Changed)
		w.Put("reason", c.Get("reason"))
		w.Put("condition", c.Get("type"))
		w.Put("status", c.Get("status"))
		r.end(c.Get("lastTransitionTime"), "is %s: %s%s", c.Get("type").Text(), c.Get("status").Text(), after(": ", c.Get("message").Text()))
	})
}

func after(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func each(list jsonrecords.Node, fn func(jsonrecords.Node)) {
	left := maxEach
	list.Each(func(_ string, v jsonrecords.Node) bool {
		fn(v)
		left--
		return left > 0
	})
}

// texts joins the texts of an array.
func texts(n jsonrecords.Node) string { return strings.Join(jsonrecords.Strings(n), ", ") }

// list joins what fn makes of each element.
func list(n jsonrecords.Node, fn func(jsonrecords.Node) string) string {
	var out []string
	each(n, func(v jsonrecords.Node) {
		if s := fn(v); s != "" {
			out = append(out, s)
		}
	})
	return strings.Join(out, "; ")
}
