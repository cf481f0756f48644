package containerd

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/ocispec"
)

// fill says everything about a container but Records.
func (r *Runtime) fill(ctx context.Context, f found, img *image) *target.Container {
	c := &target.Container{URL: "containerd://" + f.namespace + "/" + f.id, Runtime: "containerd", ID: f.id, Name: nameOf(f), Namespace: f.namespace,
		State: target.Created, Created: f.created, Labels: f.labels, Pod: target.PodOf(f.labels), Image: target.Image{Name: f.image}}
	if n, err := strconv.Atoi(f.labels["io.kubernetes.container.restart-count"]); err == nil {
		c.Restarts = n
	}
	if img != nil {
		c.Image.Digest, c.Image.ConfigID, c.Image.DiffIDs = img.manifestDigest, img.configDigest, img.diffs
	}
	r.task(c, f)
	if blind := target.Sandboxed(f.runtime); blind != "" {
		c.Warn(blind)
	}
	if len(f.spec.value) > 0 {
		if spec, err := ocispec.Parse(f.spec.value); err != nil {
			c.Warn(err.Error())
		} else {
			spec.Apply(c)
			c.Restarts = max(c.Restarts, atoi(spec.Annotations["io.kubernetes.container.restartCount"]))
		}
	} else {
		c.Warn("containerd has no OCI configuration for this container")
	}
	readOnly := c.Rootfs.ReadOnly
	fs, err := r.Rootfs(ctx, f.namespace, f.snapshotter, cmp.Or(f.snapshotKey, f.id))
	if err != nil && c.PID != 0 && r.kernel != nil {
		var notes []string
		var kerr error
		if fs, notes, kerr = r.kernel.Rootfs(c.PID); kerr == nil {
			c.Warnings = append(c.Warnings, notes...)
			c.Warn(fmt.Sprintf("containerd did not tell where the container's files lie (%v): taken from the mounts of process %d", err, c.PID))
			err = nil
		}
	}
	if err != nil {
		c.Warn("where the container's files lie is not known: " + err.Error())
	}
	fs.ReadOnly = fs.ReadOnly || readOnly
	c.Rootfs = fs
	label(c, img)
	r.logs(c, f)
	return c
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

func (r *Runtime) task(c *target.Container, f found) {
	if f.task == nil {
		if criFinished(f) { // a container without a task either never ran or has ended
			c.State = target.Exited
		}
		return
	}
	switch f.task.status {
	case taskCreated:
		c.State = target.Created
	case taskRunning:
		c.State = target.Running
	case taskPaused, taskPausing:
		c.State = target.Paused
	case taskStopped:
		c.State, c.ExitCode, c.Finished = target.Exited, f.task.exitStatus, f.task.exited
		return
	default:
		c.State = target.Unknown
	}
	c.PID = f.task.pid
	if c.PID == 0 || r.kernel == nil {
		return
	}
	path, warning := r.kernel.Confirm(c.PID, f.id)
	c.CgroupPath = path
	if warning != "" {
		c.Warn(warning)
		if path == "" {
			c.PID = 0
		}
	}
	if c.PID != 0 {
		c.Started = r.kernel.Started(c.PID)
	}
}

// criFinished reports whether Kubernetes' plugin knows the container: it deletes the task of one that ended.
func criFinished(f found) bool { return f.labels["io.cri-containerd.kind"] == "container" }

// label gives the layers the ids that the image's configuration and manifest name.
func label(c *target.Container, img *image) {
	if img == nil || len(img.diffs) == 0 {
		return
	}
	if n := len(c.Rootfs.Layers); n != len(img.diffs) {
		if n > 0 {
			c.Warn(fmt.Sprintf("the container has %d layers below its own and the image %d: the layers' ids are left out", n, len(img.diffs)))
		}
		return
	}
	for i := range c.Rootfs.Layers {
		c.Rootfs.Layers[i].DiffID = img.diffs[i]
		if len(img.layers) == len(img.diffs) {
			c.Rootfs.Layers[i].Digest = img.layers[i]
		}
	}
}

// logs finds where the container's output goes: the kubelet's files for a container of Kubernetes, or the file that
// the task was started with.
func (r *Runtime) logs(c *target.Container, f found) {
	if dir := c.Pod.PodLogDir(); dir != "" {
		c.Logs = []target.LogFile{{Path: fmt.Sprintf("%s/%d.log", dir, c.Restarts), Format: "cri"}}
		return
	}
	if f.labels["io.cri-containerd.kind"] == "sandbox" {
		return // a pod's pause container writes nothing
	}
	if f.task != nil {
		u, err := url.Parse(f.task.stdout)
		if err == nil && u.Scheme == "file" && filepath.IsAbs(u.Path) {
			c.Logs = []target.LogFile{{Path: u.Path, Format: "raw"}}
			return
		}
	}
	if path := f.labels["nerdctl/state-dir"]; filepath.IsAbs(path) { // nerdctl's json-file driver
		at := filepath.Join(path, f.id+"-json.log")
		if r.places.Exists(at) {
			c.Logs = []target.LogFile{{Path: at, Format: "json-file"}}
			return
		}
	}
	c.Warn("containerd keeps no log of this container: its output went to whatever started it")
}

// records keeps containerd's documents byte for byte.
func (r *Runtime) records(c *target.Container, f found, img *image) {
	add := func(name, origin string, b []byte) {
		if len(b) > 0 {
			c.Records = append(c.Records, target.Record{Name: name, Origin: origin, Data: b})
		}
	}
	add("config.json", "containerd containers.v1.Containers/List, namespace "+f.namespace+", field spec", f.spec.value)
	if b, err := json.MarshalIndent(describe(f), "", " "); err == nil {
		add("container.json", "containerd containers.v1.Containers/List and tasks.v1.Tasks/List, namespace "+f.namespace+", written as JSON", b)
	}
	for _, k := range slices.Sorted(maps.Keys(f.extensions)) {
		name := "extension-" + strings.Map(func(r rune) rune {
			if r < 0x80 && (r == '.' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
				return r
			}
			return '_'
		}, k[:min(len(k), 100)])
		add(name, "containerd containers.v1.Containers/List, extension "+k+" of type "+f.extensions[k].typeURL, f.extensions[k].value)
	}
	if img == nil {
		return
	}
	add("image-index.json", "containerd content "+img.indexDigest, img.index)
	add("image-manifest.json", "containerd content "+img.manifestDigest, img.manifest)
	add("image-config.json", "containerd content "+img.configDigest, img.config)
}

// describe is the API's record as a document: the wire form is not one.
func describe(f found) any {
	d := map[string]any{"id": f.id, "namespace": f.namespace, "image": f.image, "runtime": f.runtime, "snapshotter": f.snapshotter,
		"snapshot_key": f.snapshotKey, "created_at": f.created, "labels": f.labels, "sandbox": f.sandbox, "spec_type": f.spec.typeURL}
	if t := f.task; t != nil {
		d["task"] = map[string]any{"id": t.id, "pid": t.pid, "status": t.status, "stdout": t.stdout, "exit_status": t.exitStatus, "exited_at": t.exited}
	}
	return d
}
