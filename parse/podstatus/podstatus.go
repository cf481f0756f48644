// Package podstatus reads pods of Kubernetes as kubectl get pods -o json prints them, one object a line, or as a watch gives them: several
// versions of a pod, one after another, are its history.
//
// Specification: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
//
// A pod's status proves what its node's kubelet told the API server last: when containers started and ended and with what exit code, and in
// managedFields when which client changed the object. It does not prove more than the last two lives of each container, and whoever may
// write a pod's status can write any.
package podstatus

import (
	"context"
	"fmt"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

// maxEach bounds the containers, conditions and managers of one pod that are told.
const maxEach = 256

// Format is pods with their status.
var Format = parse.Format{
	Name:  "podstatus",
	Title: "Kubernetes pods",
	Spec:  "https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/",
	Sniff: func(head []byte) parse.Confidence {
		if jsonrecords.Sniff(head, options, func(root jsonrecords.Node) bool { return pod(root).Exists() }) {
			return parse.Certain
		}
		return parse.No
	},
	Read: func(ctx context.Context, in *parse.Input, emit parse.Emit) error {
		r := &reader{row: jsonrecords.NewRow(in), in: in, emit: emit}
		return jsonrecords.Read(ctx, in, options, func(rec jsonrecords.Record, root jsonrecords.Node) (bool, error) {
			p := pod(root)
			if !p.Exists() {
				return false, nil
			}
			r.rec, r.pod, r.deleted = rec, p, root.Get("type").Is("DELETED")
			return true, r.read()
		})
	},
}

var options = jsonrecords.Options{Members: []string{"items"}}

// pod is the object itself; in a watch it is wrapped, and in a PodList it has no kind.
func pod(root jsonrecords.Node) jsonrecords.Node {
	if o := root.Get("object"); o.Exists() && root.Get("type").Exists() {
		root = o
	}
	if k := root.Get("kind"); k.Exists() && !k.Is("Pod") || !root.Get("metadata", "name").Exists() || !root.Get("spec", "containers").Exists() {
		return jsonrecords.Node{}
	}
	return root
}

// reader makes the events of one pod at a time.
type reader struct {
	row     *jsonrecords.Row
	in      *parse.Input
	emit    parse.Emit
	rec     jsonrecords.Record
	pod     jsonrecords.Node
	deleted bool
	err     error
}

// begin starts an event of the pod.
func (r *reader) begin(kind event.Kind, when event.TimeKind) *jsonrecords.Row {
	w := r.row
	w.Begin(r.in, r.rec)
	w.Kind, w.TimeKind = kind, when
	meta := r.pod.Get("metadata")
	w.Pod, w.Namespace = meta.Get("name").Text(), meta.Get("namespace").Text()
	w.Node = r.pod.Get("spec", "nodeName").Text()
	return w
}

// end emits it at n's time, unless there is none.
func (r *reader) end(n jsonrecords.Node, format string, args ...any) {
	if r.err != nil || !n.Exists() || !r.row.When(n) {
		return
	}
	r.row.Message = fmt.Sprintf(format, args...)
	r.err = r.row.Emit(r.emit)
}

func (r *reader) read() error {
	r.err = nil
	meta, spec, status := r.pod.Get("metadata"), r.pod.Get("spec"), r.pod.Get("status")
	name := meta.Get("name").Text()
	w := r.begin(event.K8sPod, event.Created)
	r.privileges(w, spec)
	w.Identity = spec.Get("serviceAccountName").Text()
	if o := meta.Get("ownerReferences").At(0); o.Exists() {
		w.Attr.String("owner", o.Get("kind").Text()+"/"+o.Get("name").Text())
	}
	w.Put("uid", meta.Get("uid"))
	r.end(meta.Get("creationTimestamp"), "pod %s created", name)

	r.begin(event.K8sPod, event.Changed)
	word := "to be deleted"
	if r.deleted {
		word = "deleted"
	}
	r.end(meta.Get("deletionTimestamp"), "pod %s %s", name, word)

	w = r.begin(event.K8sPod, event.Started)
	w.Put("phase", status.Get("phase"))
	w.Put("pod_ip", status.Get("podIP"))
	w.Put("host_ip", status.Get("hostIP"))
	w.Put("reason", status.Get("reason"))
	r.end(status.Get("startTime"), "pod %s taken by the kubelet of %s, now %s", name, w.Node, status.Get("phase").Text())

	each(status.Get("conditions"), func(c jsonrecords.Node) {
		w := r.begin(event.K8sPod, event.Changed)
		w.Put("reason", c.Get("reason"))
		r.end(c.Get("lastTransitionTime"), "pod %s: %s is %s%s", name, c.Get("type").Text(), c.Get("status").Text(), after(": ", c.Get("message").Text()))
	})
	each(meta.Get("managedFields"), func(m jsonrecords.Node) {
		w := r.begin(event.K8sPod, event.Changed)
		w.Process = m.Get("manager").Text()
		w.Put("operation", m.Get("operation"))
		w.Put("subresource", m.Get("subresource"))
		r.end(m.Get("time"), "pod %s: %s%s last changed by %s", name, "object", after(" ", m.Get("subresource").Text()), w.Process)
	})
	for _, list := range []struct{ name, word string }{
		{"containerStatuses", "container"}, {"initContainerStatuses", "init container"}, {"ephemeralContainerStatuses", "ephemeral container"},
	} {
		each(status.Get(list.name), func(c jsonrecords.Node) { r.container(c, list.word) })
	}
	return r.err
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

// container tells the life that a container has now, and the one before it.
func (r *reader) container(c jsonrecords.Node, word string) {
	name := c.Get("name").Text()
	begin := func(kind event.Kind, when event.TimeKind, life jsonrecords.Node) *jsonrecords.Row {
		w := r.begin(kind, when)
		w.Container = name
		if id := life.Get("containerID").Text(); id != "" {
			_, w.ContainerID, _ = strings.Cut(id, "://")
		} else if id := c.Get("containerID").Text(); id != "" {
			_, w.ContainerID, _ = strings.Cut(id, "://")
		}
		if _, digest, ok := strings.Cut(c.Get("imageID").Text(), "@"); ok {
			w.ImageDigest = digest
		}
		w.Put("image", c.Get("image"))
		if n, ok := c.Get("restartCount").Int(); ok && n > 0 {
			w.Attr.Int("restarts", n)
		}
		return w
	}
	for _, field := range []string{"lastState", "state"} {
		state := c.Get(field)
		running, ended, waiting := state.Get("running"), state.Get("terminated"), state.Get("waiting")
		for _, life := range []jsonrecords.Node{running, ended} {
			begin(event.ContainerStarted, event.Started, life)
			r.end(life.Get("startedAt"), "%s %s started", word, name)
		}
		if ended.Exists() {
			w := begin(event.ContainerExited, event.Exited, ended)
			w.Put("exit_code", ended.Get("exitCode"))
			w.Put("signal", ended.Get("signal"))
			w.Put("reason", ended.Get("reason"))
			r.end(ended.Get("finishedAt"), "%s %s ended with exit code %s%s%s", word, name, ended.Get("exitCode").Text(), after(", ", ended.Get("reason").Text()),
				after(": ", strings.TrimSpace(ended.Get("message").Text())))
		}
		if waiting.Exists() && field == "state" { // it has no time of its own: the pod's newest condition is nearest
			w := begin(event.K8sPod, event.Observed, waiting)
			w.Put("reason", waiting.Get("reason"))
			r.end(r.newest(), "%s %s waits: %s%s", word, name, waiting.Get("reason").Text(), after(": ", waiting.Get("message").Text()))
		}
	}
}

// newest is the last time at which a condition of the pod changed. Times of Kubernetes compare as texts.
func (r *reader) newest() jsonrecords.Node {
	var out jsonrecords.Node
	each(r.pod.Get("status", "conditions"), func(c jsonrecords.Node) {
		if t := c.Get("lastTransitionTime"); t.Text() > out.Text() {
			out = t
		}
	})
	return out
}

// privileges are what of a pod's specification widens what an attacker could do.
func (r *reader) privileges(w *jsonrecords.Row, spec jsonrecords.Node) {
	for _, f := range []struct{ field, name string }{{"hostNetwork", "host_network"}, {"hostPID", "host_pid"}, {"hostIPC", "host_ipc"}} {
		if spec.Get(f.field).Bool() {
			w.Attr.Bool(f.name, true)
		}
	}
	var privileged, paths, images []string
	for _, list := range []string{"containers", "initContainers", "ephemeralContainers"} {
		each(spec.Get(list), func(c jsonrecords.Node) {
			if c.Get("securityContext", "privileged").Bool() {
				privileged = append(privileged, c.Get("name").Text())
			}
			images = append(images, c.Get("image").Text())
		})
	}
	each(spec.Get("volumes"), func(v jsonrecords.Node) {
		if p := v.Get("hostPath", "path").Text(); p != "" {
			paths = append(paths, p)
		}
	})
	w.Attr.String("privileged", jsonrecords.Clip(strings.Join(privileged, " ")))
	w.Attr.String("host_paths", jsonrecords.Clip(strings.Join(paths, " ")))
	w.Attr.String("images", jsonrecords.Clip(strings.Join(images, " ")))
}
