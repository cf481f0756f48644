// Package runtimerecord reads what the runtime itself says of a container and its image, as the package keeps it byte for byte in
// target/: when the container was created, started and ended and how, what it was allowed to do, and when each layer of its image was made.
//
//   - inspect.json of Docker (https://docs.docker.com/reference/api/engine/) and Podman, Docker's config.v2.json, Podman's libpod and
//     containers/storage records, containerd's container and task
//   - config.json of the OCI runtime specification (https://github.com/opencontainers/runtime-spec/blob/main/config.md)
//   - image-config.json of the OCI image specification, with its history (https://github.com/opencontainers/image-spec/blob/main/config.md)
//   - target.json, Sherd's own summary, for what none of the others has
//
// What it proves: what the runtime had written down when the capture was made. It does not prove that this is so: whoever had root on the
// host could write these files, and the times of an image are those that its builder chose (many write 1970 or a fixed day).
package runtimerecord

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/internal/timestamp"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/internal/jsonrecords"
)

const (
	parser      = "runtimerecord"
	folder      = "target/"
	maxDocument = 16 << 20
	maxLayers   = 1024
	maxHealth   = 64
	maxMessage  = 1024
)

// Artifacts makes the runtime's records part of the timeline.
var Artifacts = parse.Artifacts{
	Name:  parser,
	Title: "records of the runtime",
	Claims: func(path string) bool {
		return strings.HasPrefix(path, folder) && !strings.HasPrefix(path, folder+"kubernetes/") // what a cluster says has formats of its own
	},
	Read: read,
}

// documents in the order in which they are believed: the first that has a time of a kind gives it.
var documents = []struct {
	name string
	read func(*reader, jsonrecords.Node)
}{
	{"inspect.json", (*reader).inspect},
	{"docker-config.v2.json", (*reader).inspect},
	{"libpod-state.json", (*reader).libpodState},
	{"container.json", (*reader).containerd},
	{"containers-entry.json", (*reader).storage},
	{"libpod-config.json", (*reader).libpodConfig},
	{"target.json", (*reader).target},
	{"config.json", (*reader).runtimeSpec},
	{"image-config.json", (*reader).image},
	{"image-inspect.json", (*reader).imageInspect},
}

func read(ctx context.Context, p *evidence.Package, skip func(parse.Skip), emit parse.Emit) error {
	r := &reader{emit: emit, seen: map[event.Kind]int64{}}
	for _, d := range documents {
		path := folder + d.name
		e, ok := p.Artifact(path)
		if !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.Size > maxDocument {
			skip(parse.Skip{Artifact: path, Bytes: e.Size, Count: 1, Reason: "it is too long for a record of a runtime"})
			continue
		}
		b, err := p.ReadFile(path, maxDocument)
		if err != nil {
			return err
		}
		if reason := r.document(path, b, d.read); reason != "" {
			skip(parse.Skip{Artifact: path, Bytes: int64(len(b)), Count: 1, Reason: reason})
		}
		if r.err != nil {
			return r.err
		}
	}
	return nil
}

// reader reads the documents of one container.
type reader struct {
	emit parse.Emit
	err  error
	path string
	tree jsonrecords.Tree
	seen map[event.Kind]int64 // time of the first event of a kind
}

// document reads one document and says what is wrong with it.
func (r *reader) document(path string, b []byte, each func(*reader, jsonrecords.Node)) string {
	r.path = path
	root, ok := r.tree.Parse(b)
	if root.Type() != jsonrecords.Object {
		return "it is no JSON object"
	}
	each(r, root)
	if !ok {
		return "it is damaged or breaks off"
	}
	return ""
}

// when is the time that n says, 0 when it says none: Go writes the year 1 for that.
func when(n jsonrecords.Node) int64 {
	at, ok := timestamp.RFC3339(n.Text())
	if !ok || strings.HasPrefix(n.Text(), "0001-") {
		return 0
	}
	return at
}

// add emits an event that cites n. Of created, started and exited only the first document's are taken.
func (r *reader) add(n jsonrecords.Node, at int64, k event.TimeKind, kind event.Kind, a *event.Attributes, format string, args ...any) {
	if r.err != nil || at == 0 {
		return
	}
	from, to := n.Span()
	e := event.Event{Time: at, TimeKind: k, Kind: kind, Parser: parser, Artifact: r.path, Offset: int64(from), Length: int64(to - from),
		Message: printable.Clip(fmt.Sprintf(format, args...), maxMessage)}
	if a != nil {
		e.Attributes = a.JSON()
	}
	r.err = r.emit(&e)
}

// life emits one of the container's turns, unless an earlier document had it.
func (r *reader) life(n jsonrecords.Node, k event.TimeKind, kind event.Kind, a *event.Attributes, message string) {
	at := when(n)
	if at == 0 {
		return
	}
	if _, ok := r.seen[kind]; ok {
		return
	}
	r.seen[kind] = at
	r.add(n, at, k, kind, a, "%s", message)
}

// exit tells how the container ended.
func (r *reader) exit(n, code, oom, text jsonrecords.Node) {
	var a event.Attributes
	message := "container ended"
	if c, ok := code.Int(); ok {
		a.Int("exit_code", c)
		message += fmt.Sprintf(" with exit code %d", c)
		if c > 128 && c < 128+65 {
			message += fmt.Sprintf(" (signal %d)", c-128)
		}
	}
	if oom.Bool() {
		a.Bool("oom_killed", true)
		message += ", killed for lack of memory"
	}
	if s := text.Text(); s != "" {
		a.String("error", jsonrecords.Clip(s))
		message += ": " + s
	}
	r.life(n, event.Exited, event.ContainerExited, &a, message)
}

func (r *reader) start(n, restarts jsonrecords.Node) {
	var a event.Attributes
	message := "container started"
	if c, ok := restarts.Int(); ok && c > 0 {
		a.Int("restarts", c)
		message += fmt.Sprintf(", after %d restarts", c)
	}
	r.life(n, event.Started, event.ContainerStarted, &a, message)
}

// inspect reads Docker's and Podman's answer, and Docker's own file, which have the same names.
func (r *reader) inspect(root jsonrecords.Node) {
	host := root.Get("HostConfig")
	var a event.Attributes
	a.String("command", strings.Join(append([]string{root.Get("Path").Text()}, jsonrecords.Strings(root.Get("Args"))...), " "))
	a.String("restart_policy", host.Get("RestartPolicy", "Name").Text())
	if host.Get("Privileged").Bool() {
		a.Bool("privileged", true)
	}
	r.life(root.Get("Created"), event.Created, event.ContainerCreated, &a, "container created")
	state := root.Get("State")
	r.start(state.Get("StartedAt"), root.Get("RestartCount"))
	r.exit(state.Get("FinishedAt"), state.Get("ExitCode"), state.Get("OOMKilled"), state.Get("Error"))
	left := maxHealth
	state.Get("Health", "Log").Each(func(_ string, l jsonrecords.Node) bool {
		code, _ := l.Get("ExitCode").Int()
		if code != 0 {
			var a event.Attributes
			a.Int("exit_code", code)
			a.String("output", jsonrecords.Clip(l.Get("Output").Text()))
			r.add(l, cmp.Or(when(l.Get("End")), when(l.Get("Start"))), event.Observed, event.ContainerObserved, &a, "health check failed with exit code %d", code)
		}
		left--
		return left > 0
	})
}

func (r *reader) libpodState(root jsonrecords.Node) {
	r.start(root.Get("startedTime"), root.Get("restartCount"))
	r.exit(root.Get("finishedTime"), root.Get("exitCode"), root.Get("oomKilled"), root.Get("error"))
	r.add(root.Get("checkpointedTime"), when(root.Get("checkpointedTime")), event.Observed, event.ContainerObserved, nil, "container checkpointed")
	r.add(root.Get("restoredTime"), when(root.Get("restoredTime")), event.Started, event.ContainerStarted, nil, "container restored from a checkpoint")
}

func (r *reader) libpodConfig(root jsonrecords.Node) {
	r.life(root.Get("createdTime"), event.Created, event.ContainerCreated, nil, "container created")
}

func (r *reader) storage(root jsonrecords.Node) {
	r.life(root.Get("created"), event.Created, event.ContainerCreated, nil, "container created")
}

func (r *reader) containerd(root jsonrecords.Node) {
	var a event.Attributes
	a.String("runtime", root.Get("runtime").Text())
	a.String("snapshotter", root.Get("snapshotter").Text())
	r.life(root.Get("created_at"), event.Created, event.ContainerCreated, &a, "container created")
	task := root.Get("task")
	r.exit(task.Get("exited_at"), task.Get("exit_status"), jsonrecords.Node{}, jsonrecords.Node{})
}

// target reads Sherd's own summary, which has what the runtime's API alone said.
func (r *reader) target(root jsonrecords.Node) {
	r.life(root.Get("created"), event.Created, event.ContainerCreated, nil, "container created")
	r.start(root.Get("started"), root.Get("restarts"))
	r.exit(root.Get("finished"), root.Get("exit_code"), jsonrecords.Node{}, jsonrecords.Node{})
}

// imageInspect reads when the image came to this machine, or got its name.
func (r *reader) imageInspect(root jsonrecords.Node) {
	n := root.Get("Metadata", "LastTagTime")
	var a event.Attributes
	a.String("tags", strings.Join(jsonrecords.Strings(root.Get("RepoTags")), " "))
	r.add(n, when(n), event.Changed, event.ImagePulled, &a, "image pulled, loaded or tagged on this machine")
}

// image reads the image's own configuration: when it was built, and what made each layer.
func (r *reader) image(root jsonrecords.Node) {
	var a event.Attributes
	a.String("author", root.Get("author").Text())
	a.String("platform", strings.Trim(root.Get("os").Text()+"/"+root.Get("architecture").Text(), "/"))
	c := root.Get("config")
	a.String("user", c.Get("User").Text())
	a.String("entrypoint", jsonrecords.Clip(strings.Join(jsonrecords.Strings(c.Get("Entrypoint")), " ")))
	a.String("command", jsonrecords.Clip(strings.Join(jsonrecords.Strings(c.Get("Cmd")), " ")))
	r.add(root.Get("created"), when(root.Get("created")), event.Created, event.ImageBuilt, &a, "image built, by the time that its builder gave it")
	diffs, next, left := root.Get("rootfs", "diff_ids"), 0, maxLayers
	root.Get("history").Each(func(_ string, h jsonrecords.Node) bool {
		var a event.Attributes
		by := cmp.Or(h.Get("created_by").Text(), h.Get("comment").Text(), "unknown")
		what := "layer"
		if h.Get("empty_layer").Bool() {
			a.Bool("empty_layer", true)
			what = "setting"
		} else {
			if next < maxLayers {
				a.String("diff_id", diffs.At(next).Text())
			}
			a.Int("layer", int64(next))
			next++
		}
		a.String("comment", jsonrecords.Clip(h.Get("comment").Text()))
		a.String("author", h.Get("author").Text())
		r.add(h, when(h.Get("created")), event.Created, event.ImageLayer, &a, "image %s: %s", what, by)
		left--
		return left > 0
	})
}
