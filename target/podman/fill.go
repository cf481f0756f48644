package podman

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/internal/boltcopy"
	"github.com/sherd-forensics/sherd/target/ocispec"
)

// book is what a storage's indexes say.
type book struct {
	images map[string]imageEntry
	layers map[string]layerEntry
	ctr    map[string]libpod
	notes  []string
}

type imageEntry struct {
	ID     string   `json:"id"`
	Digest string   `json:"digest"`
	Names  []string `json:"names"`
	Layer  string   `json:"layer"`
}

type layerEntry struct {
	ID         string `json:"id"`
	Parent     string `json:"parent"`
	DiffDigest string `json:"diff-digest"`
	Compressed string `json:"compressed-diff-digest"`
}

// libpod is what libpod's database says of one container.
type libpod struct {
	config, state []byte
	Config        struct {
		Name       string            `json:"name"`
		Pod        string            `json:"pod"`
		ImageID    string            `json:"rootfsImageID"`
		Image      string            `json:"rootfsImageName"`
		Labels     map[string]string `json:"labels"`
		Created    time.Time         `json:"createdTime"`
		LogDriver  string            `json:"logDriver"`
		LogPath    string            `json:"logPath"`
		User       string            `json:"user"`
		Privileged bool              `json:"privileged"`
		Volumes    []struct {
			Name string `json:"volumeName"`
			Dest string `json:"dest"`
		} `json:"namedVolumes"`
	}
	State struct {
		State    int       `json:"state"`
		RunDir   string    `json:"runDir"`
		Started  time.Time `json:"startedTime"`
		Finished time.Time `json:"finishedTime"`
		ExitCode int       `json:"exitCode"`
		PID      int       `json:"pid"`
		Restarts int       `json:"restartCount"`
	}
	pod string // the pod's name
}

// Values of libpod's ContainerStatus, libpod/define/containerstate.go.
const (
	stConfigured = 1
	stCreated    = 2
	stRunning    = 3
	stStopped    = 4
	stPaused     = 5
	stExited     = 6
	stStopping   = 8
)

// book reads a storage's indexes, once for each.
func (r *Runtime) book(books map[string]*book, s *store) *book {
	key := s.root + "\x00" + s.driver
	if b := books[key]; b != nil {
		return b
	}
	b := &book{images: map[string]imageEntry{}, layers: map[string]layerEntry{}, ctr: map[string]libpod{}}
	books[key] = b
	index := func(path string, optional bool, add func(json.RawMessage) error) {
		raw, err := r.places.ReadFile(path)
		if err != nil {
			if !optional {
				b.notes = append(b.notes, "Podman's index can't be read: "+err.Error())
			}
			return
		}
		var all []json.RawMessage
		if err := json.Unmarshal(raw, &all); err != nil {
			b.notes = append(b.notes, "Podman's "+path+" is damaged: "+err.Error())
			return
		}
		for _, one := range all {
			if err := add(one); err != nil {
				b.notes = append(b.notes, "an entry of Podman's "+path+" is damaged: "+err.Error())
			}
		}
	}
	index(filepath.Join(s.images(), "images.json"), false, func(raw json.RawMessage) error {
		var i imageEntry
		err := json.Unmarshal(raw, &i)
		b.images[i.ID] = i
		return err
	})
	for _, file := range []string{"layers.json", "volatile-layers.json"} {
		index(filepath.Join(s.layers(), file), file != "layers.json", func(raw json.RawMessage) error {
			var l layerEntry
			err := json.Unmarshal(raw, &l)
			b.layers[l.ID] = l
			return err
		})
	}
	r.database(s, b)
	return b
}

// database reads libpod's bolt database: bucket "ctr" has a bucket for each container with "config" and "state" as
// JSON, and "pod" one for each pod (libpod/boltdb_state_internal.go). Podman 5 keeps SQLite instead.
func (r *Runtime) database(s *store, b *book) {
	path := filepath.Join(s.root, "libpod", "bolt_state.db")
	if !r.places.Exists(path) {
		if r.places.Exists(filepath.Join(s.root, "db.sql")) {
			b.notes = append(b.notes, "Podman's SQLite database is not read: labels, exit code and restarts are not known")
		} else {
			b.notes = append(b.notes, "Podman's database was not found: labels, exit code and restarts are not known")
		}
		return
	}
	err := boltcopy.View(r.places, path, func(tx *bolt.Tx) error {
		clear(b.ctr)
		pods := map[string]string{}
		if bkt := tx.Bucket([]byte("pod")); bkt != nil {
			if err := bkt.ForEachBucket(func(id []byte) error {
				var p struct {
					Name string `json:"name"`
				}
				if json.Unmarshal(bkt.Bucket(id).Get([]byte("config")), &p) == nil {
					pods[string(id)] = p.Name
				}
				return nil
			}); err != nil {
				return err
			}
		}
		ctrs := tx.Bucket([]byte("ctr"))
		if ctrs == nil {
			return fmt.Errorf("it has no containers' bucket")
		}
		return ctrs.ForEachBucket(func(id []byte) error {
			one := ctrs.Bucket(id)
			l := libpod{config: slices.Clone(one.Get([]byte("config"))), state: slices.Clone(one.Get([]byte("state")))}
			if err := json.Unmarshal(l.config, &l.Config); err != nil {
				return nil //nolint:nilerr // one damaged entry hides no other; this container is told of without it
			}
			if len(l.state) > 0 {
				if err := json.Unmarshal(l.state, &l.State); err != nil {
					l.State.State = 0
				}
			}
			l.pod = pods[l.Config.Pod]
			b.ctr[string(id)] = l
			return nil
		})
	})
	if err != nil {
		b.notes = append(b.notes, "Podman's database can't be read, so labels, exit code and restarts are not known: "+err.Error())
	}
}

// documents are the bytes that fill read on its way.
type documents struct {
	config     []byte
	configPath string
	db         libpod
	inDB       bool
}

// fill says everything about a container but Records.
func (r *Runtime) fill(e entry, b *book) (*target.Container, documents) {
	c := &target.Container{URL: "podman://" + e.name(), Runtime: "podman", ID: e.ID, Name: e.name(), Warnings: slices.Clone(b.notes)}
	var meta struct {
		Image   string `json:"image-name"`
		ImageID string `json:"image-id"`
		Pod     string `json:"pod-name"` // CRI-O's containers lie in the same kind of storage
	}
	if err := json.Unmarshal([]byte(e.Metadata), &meta); err != nil {
		c.Warn("the storage's metadata of the container is damaged: " + err.Error())
	}
	if t, err := time.Parse(time.RFC3339Nano, e.Created); err == nil {
		c.Created = t.UTC()
	}
	var d documents
	d.db, d.inDB = b.ctr[e.ID]
	c.Labels, c.Pod = d.db.Config.Labels, target.PodOf(d.db.Config.Labels)
	if c.Pod == nil && d.db.pod != "" {
		c.Pod = &target.Pod{Name: d.db.pod, UID: d.db.Config.Pod, Container: c.Name}
	}
	r.image(c, e, b, cmp.Or(meta.ImageID, e.Image), cmp.Or(d.db.Config.Image, meta.Image))
	r.rootfs(c, e, b)
	d.configPath = filepath.Join(e.store.containers(), e.ID, "userdata", "config.json")
	if raw, err := r.places.ReadFile(d.configPath); err == nil {
		d.config = raw
		if spec, err := ocispec.Parse(raw); err != nil {
			c.Warn(d.configPath + ": " + err.Error())
		} else {
			spec.Apply(c)
		}
	} else {
		c.Warn("the OCI configuration can't be read, or the container never ran: " + err.Error())
	}
	for i := range c.Mounts {
		for _, v := range d.db.Config.Volumes {
			if c.Mounts[i].Destination == v.Dest {
				c.Mounts[i].Type, c.Mounts[i].Name = "volume", v.Name
			}
		}
	}
	r.state(c, e, d)
	r.logs(c, e, d)
	return c, d
}

func (r *Runtime) image(c *target.Container, e entry, b *book, id, name string) {
	img, ok := b.images[id]
	c.Image = target.Image{Name: name}
	if id == "" {
		c.Warn("the container was made from a directory, not from an image")
		return
	}
	c.Image.ConfigID = "sha256:" + id
	if !ok {
		c.Warn("the image " + id + " is no longer in Podman's storage")
		return
	}
	c.Image.Digest = img.Digest
	if c.Image.Name == "" && len(img.Names) > 0 {
		c.Image.Name = img.Names[0]
	}
	raw, _, err := r.bigData(e.store, id, c.Image.ConfigID)
	if err != nil {
		c.Warn("the image's configuration can't be read: " + err.Error())
		return
	}
	var cfg struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(raw, &cfg); err != nil {
		c.Warn("the image's configuration is damaged: " + err.Error())
		return
	}
	c.Image.DiffIDs = cfg.RootFS.DiffIDs
}

// plainKey are the keys whose files bear their name; others are "=" and the key in base64 (storage/images.go).
var plainKey = regexp.MustCompile(`^[a-z0-9_.-]+$`)

// bigData reads one of the documents that the storage keeps with an image.
func (r *Runtime) bigData(s *store, image, key string) ([]byte, string, error) {
	if !isID(image) {
		return nil, "", fmt.Errorf("%q is no image id", image)
	}
	file := key
	if !plainKey.MatchString(key) || strings.HasPrefix(key, ".") {
		file = "=" + base64.StdEncoding.EncodeToString([]byte(key))
	}
	path := filepath.Join(s.images(), image, file)
	b, err := r.places.ReadFile(path)
	return b, path, err
}

// maxLayers bounds how far parents are followed; the kernel mounts 500.
const maxLayers = 512

// rootfs follows the container's layer to its parents.
func (r *Runtime) rootfs(c *target.Container, e entry, b *book) {
	s := e.store
	if !isID(e.Layer) {
		c.Warn("the storage names no layer for the container")
		return
	}
	dir := func(id string) string { return filepath.Join(s.root, "overlay", id, "diff") }
	whole := s.driver == "vfs"
	if whole {
		dir = func(id string) string { return filepath.Join(s.root, "vfs", "dir", id) }
		c.Rootfs = target.Rootfs{Driver: "vfs", Merged: dir(e.Layer)}
	} else {
		c.Rootfs = target.Rootfs{Driver: "overlay", Upper: dir(e.Layer), Work: filepath.Join(s.root, "overlay", e.Layer, "work"),
			Merged: filepath.Join(s.root, "overlay", e.Layer, "merged")}
	}
	at, ok := b.layers[e.Layer]
	if !ok {
		c.Warn("the container's layer " + e.Layer + " is missing from the storage's index")
	}
	for range maxLayers {
		if at.Parent == "" {
			break
		}
		parent, ok := b.layers[at.Parent]
		if !ok || !isID(parent.ID) {
			c.Warn("the layer " + at.Parent + " is missing from the storage's index: it may lie in an additional image store")
			break
		}
		c.Rootfs.Layers = append(c.Rootfs.Layers, target.Layer{Dir: dir(parent.ID), Whole: whole, DiffID: parent.DiffDigest, Digest: parent.Compressed})
		at = parent
	}
	slices.Reverse(c.Rootfs.Layers)
}

// state holds what Podman wrote against what the kernel shows.
func (r *Runtime) state(c *target.Container, e entry, d documents) {
	st := d.db.State
	c.Started, c.Finished, c.ExitCode, c.Restarts = utc(st.Started), utc(st.Finished), st.ExitCode, st.Restarts
	pid := st.PID
	for _, dir := range r.runDirs(e, d) {
		b, err := r.places.ReadFile(filepath.Join(dir, "pidfile"))
		if err != nil {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n > 0 {
			pid = n
			break
		}
	}
	c.State = target.Created
	switch st.State {
	case stStopped, stExited, stStopping:
		c.State = target.Exited
	case stConfigured, stCreated:
	case stRunning, stPaused:
		c.State = target.Exited // unless its process is there
	default:
		if d.config != nil && !d.inDB {
			c.State = target.Exited
		}
	}
	if pid == 0 || r.kernel == nil {
		return
	}
	if !r.kernel.Runs(pid, e.ID) {
		if st.State == stRunning || st.State == stPaused {
			c.Warn(fmt.Sprintf("Podman notes that it runs as process %d, which is not there or is another's", pid))
		}
		return
	}
	c.PID, c.State = pid, target.Running
	c.Finished, c.ExitCode = time.Time{}, 0
	path, warning := r.kernel.Confirm(pid, e.ID)
	c.CgroupPath = path
	if warning != "" {
		c.Warn(warning)
	}
	if st.State == stPaused || r.kernel.Frozen(path) {
		c.State = target.Paused
	}
	if c.Started.IsZero() {
		c.Started = r.kernel.Started(pid)
	}
}

func utc(t time.Time) time.Time {
	if t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC()
}

// runDirs are where the container's pidfile may be.
func (r *Runtime) runDirs(e entry, d documents) []string {
	var out []string
	if filepath.IsAbs(d.db.State.RunDir) {
		out = append(out, d.db.State.RunDir)
	}
	if e.store.runRoot != "" {
		out = append(out, filepath.Join(e.store.runRoot, e.store.driver+"-containers", e.ID, "userdata"))
	}
	return out
}

func (r *Runtime) logs(c *target.Container, e entry, d documents) {
	path := cmp.Or(d.db.Config.LogPath, filepath.Join(e.store.containers(), e.ID, "userdata", "ctr.log"))
	switch driver := d.db.Config.LogDriver; driver {
	case "k8s-file", "json-file": // json-file is k8s-file by another name
		c.Logs = []target.LogFile{{Path: path, Format: "k8s-file"}}
	case "journald":
		c.Logs = []target.LogFile{{Path: "/var/log/journal", Format: "journald"}}
	case "":
		if r.places.Exists(path) {
			c.Logs = []target.LogFile{{Path: path, Format: "k8s-file"}}
		} else {
			c.Warn("where Podman sends the container's log is not known")
		}
	case "none":
		c.Warn("Podman was told to keep no log of this container")
	default:
		c.Warn("Podman sends this container's log elsewhere, by its driver " + driver)
	}
	if dir := c.Pod.PodLogDir(); dir != "" && len(c.Logs) == 0 && r.places.Exists(dir) {
		c.Logs = []target.LogFile{{Path: dir + "/" + strconv.Itoa(c.Restarts) + ".log", Format: "cri"}}
	}
}

// records keeps Podman's documents byte for byte.
func (r *Runtime) records(ctx context.Context, c *target.Container, e entry, d documents) {
	add := func(name, origin string, b []byte) {
		if len(b) > 0 {
			c.Records = append(c.Records, target.Record{Name: name, Origin: origin, Data: b})
		}
	}
	if r.service != nil {
		b, err := r.service.get(ctx, "/containers/"+e.ID+"/json")
		if err != nil {
			c.Warn("Podman's service did not tell about the container: " + err.Error())
		}
		add("inspect.json", "GET /libpod/containers/"+e.ID+"/json", b)
	}
	add("containers-entry.json", filepath.Join(e.store.containers(), "containers.json")+", the entry of "+e.ID, e.raw)
	add("config.json", d.configPath, d.config)
	db := filepath.Join(e.store.root, "libpod", "bolt_state.db")
	add("libpod-config.json", db+", ctr/"+e.ID+"/config", d.db.config)
	add("libpod-state.json", db+", ctr/"+e.ID+"/state", d.db.state)
	image := strings.TrimPrefix(c.Image.ConfigID, "sha256:")
	for _, k := range []struct{ name, key string }{{"image-manifest.json", "manifest"}, {"image-config.json", c.Image.ConfigID}} {
		if !isID(image) {
			break
		}
		b, path, err := r.bigData(e.store, image, k.key)
		if err != nil {
			c.Warn(k.name + " can't be read: " + err.Error())
			continue
		}
		add(k.name, path, b)
	}
	artifacts := filepath.Join(e.store.containers(), e.ID, "userdata", "artifacts")
	names, err := r.places.ReadDir(artifacts)
	if err != nil {
		return
	}
	for _, n := range names[:min(len(names), 16)] { // such as create-command: how the user called podman
		if b, err := r.places.ReadFile(filepath.Join(artifacts, n)); err == nil && plainKey.MatchString(n) {
			add("artifact-"+n, filepath.Join(artifacts, n), b)
		}
	}
}
