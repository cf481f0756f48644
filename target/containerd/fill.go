package containerd

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/image-spec/specs-go/v1"

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

// image is what the content store has of an image.
type image struct {
	manifestDigest string
	manifest       []byte
	configDigest   string
	config         []byte
	index          []byte // nil when the name stands for the manifest itself
	indexDigest    string
	diffs          []string // of the uncompressed layers
	layers         []string // of the blobs
}

// image follows a name to the manifest that this machine's platform uses, and reads manifest and configuration.
func (r *Runtime) image(ctx context.Context, namespace, name string) (*image, error) {
	if name == "" {
		return nil, nil
	}
	d, err := r.api.image(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	raw, err := r.blob(ctx, namespace, d.digest)
	if err != nil {
		return nil, err
	}
	img := &image{manifestDigest: d.digest, manifest: raw}
	var doc struct {
		Manifests []v1.Descriptor
		Config    v1.Descriptor
		Layers    []v1.Descriptor
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.digest, err)
	}
	if len(doc.Manifests) > 0 {
		img.index, img.indexDigest = raw, d.digest
		if raw, img.manifestDigest, err = r.present(ctx, namespace, doc.Manifests); err != nil {
			return nil, err
		}
		img.manifest = raw
		doc.Config, doc.Layers = v1.Descriptor{}, nil
		if err := json.Unmarshal(raw, &doc); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", img.manifestDigest, err)
		}
	}
	for _, l := range doc.Layers[:min(len(doc.Layers), maxLayers)] {
		img.layers = append(img.layers, string(l.Digest))
	}
	img.configDigest = string(doc.Config.Digest)
	if img.config, err = r.blob(ctx, namespace, img.configDigest); err != nil {
		return nil, err
	}
	var cfg struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(img.config, &cfg); err != nil {
		return nil, fmt.Errorf("image configuration %s: %w", img.configDigest, err)
	}
	img.diffs = cfg.RootFS.DiffIDs[:min(len(cfg.RootFS.DiffIDs), maxLayers)]
	return img, nil
}

const maxLayers = 512

// present finds the manifest of an index whose configuration lies in the store: the one that was pulled for this machine.
func (r *Runtime) present(ctx context.Context, namespace string, ms []v1.Descriptor) ([]byte, string, error) {
	var last error
	for _, m := range ms[:min(len(ms), 64)] {
		if m.Platform != nil && (m.Platform.OS == "unknown" || m.Platform.OS == "windows") { // attestations, and what can't run here
			continue
		}
		raw, err := r.blob(ctx, namespace, string(m.Digest))
		if err != nil {
			last = err
			continue
		}
		var doc v1.Manifest
		if err := json.Unmarshal(raw, &doc); err != nil {
			last = err
			continue
		}
		if _, err := r.blob(ctx, namespace, string(doc.Config.Digest)); err != nil {
			last = err
			continue
		}
		return raw, string(m.Digest), nil
	}
	return nil, "", fmt.Errorf("none of the index's %d manifests is in the store: %w", len(ms), last)
}

// blob reads a document from the content store and checks its hash.
func (r *Runtime) blob(ctx context.Context, namespace, digest string) ([]byte, error) {
	want, ok := strings.CutPrefix(digest, "sha256:")
	if !ok {
		return nil, fmt.Errorf("the digest %q is not sha256", digest)
	}
	b, err := r.api.content(ctx, namespace, digest)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want {
		return nil, fmt.Errorf("the content store's %s has another hash", digest)
	}
	return b, nil
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
