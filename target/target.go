// Package target says what can be investigated. It has one noun, Container, and one folder per place where
// containers live; each folder fills in what its runtime knows, and whoever reads a Container needs no
// runtime any more.
package target

import (
	"context"
	"io"
	"time"
)

// State is a container's life stage, in Docker's words, which the other runtimes' map onto.
type State string

// The states of a container.
const (
	Created State = "created"
	Running State = "running"
	Paused  State = "paused"
	Exited  State = "exited"
	Unknown State = "unknown"
)

// Container is one container as found in one place. All paths are paths on the machine's own root; a
// collector that sees that root elsewhere (under /host in a pod) prefixes them itself. Strings come from
// runtimes and from labels that anybody may have set: escape them before showing.
type Container struct {
	URL       string    `json:"url"`     // docker://NAME and so on: what the user may type again
	Runtime   string    `json:"runtime"` // docker, containerd, podman, procfs
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Namespace string    `json:"namespace,omitempty"` // containerd's namespace
	Image     Image     `json:"image"`
	State     State     `json:"state"`
	Created   time.Time `json:"created,omitzero"`
	Started   time.Time `json:"started,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
	ExitCode  int       `json:"exit_code"`
	Restarts  int       `json:"restarts"`
	// PID is the container's first process as the host numbers it, 0 when none runs.
	PID int `json:"pid"`
	// Entrypoint is the command line that the runtime was told to start, from the OCI config.
	Entrypoint []string          `json:"entrypoint,omitempty"`
	User       string            `json:"user,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Pod        *Pod              `json:"pod,omitempty"`
	Rootfs     Rootfs            `json:"rootfs"`
	Mounts     []Mount           `json:"mounts,omitempty"`
	Logs       []LogFile         `json:"logs,omitempty"`
	// Inside says that the container is looked at from within its own pod: the first process in sight is none of the machine's, and
	// nothing of the machine is to be seen.
	Inside bool `json:"inside,omitempty"`
	// CgroupPath is relative to the root of each cgroup hierarchy, "/docker/<id>"; empty if unknown.
	CgroupPath string `json:"cgroup_path,omitempty"`
	// UIDMap and GIDMap say which ids outside those inside are, where the container has a user namespace of its own. What it wrote has those
	// outside; the files of its image have those inside.
	UIDMap []IDMap `json:"uid_map,omitempty"`
	GIDMap []IDMap `json:"gid_map,omitempty"`
	// Privileges that widen what an attacker could do, in words: "privileged", "host network", "CAP_SYS_ADMIN".
	Privileges []string `json:"privileges,omitempty"`
	// Records are the runtime's own documents, byte for byte, for the package's target/ folder.
	Records []Record `json:"-"`
	// Streams are what the runtime's API gives; only a capture without privileges asks for them.
	Streams []Stream `json:"-"`
	// Warnings are things that the runtime would not say or that contradict each other; each becomes coverage.
	Warnings []string `json:"warnings,omitempty"`
	// Distroless is the judgement of the root file system; nil when it was not looked at.
	Distroless *Distroless `json:"distroless,omitempty"`
}

// IDMap maps a range of ids.
type IDMap struct {
	Inside  uint32 `json:"inside"`
	Outside uint32 `json:"outside"`
	Size    uint32 `json:"size"`
}

// Image is what the container was made from.
type Image struct {
	Name     string   `json:"name"`                // as the user or the runtime names it
	Digest   string   `json:"digest,omitempty"`    // of the manifest, "sha256:…"; empty for an image that has none
	ConfigID string   `json:"config_id,omitempty"` // of the image's configuration, "sha256:…" (Docker's image id)
	DiffIDs  []string `json:"diff_ids,omitempty"`  // of the uncompressed layers, lowest first
}

// Pod names the Kubernetes (or Podman) pod, from the runtime's labels.
type Pod struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
	UID       string `json:"uid,omitempty"`
	Container string `json:"container,omitempty"` // the container's name inside the pod
}

// Rootfs says how the container's root file system is put together.
type Rootfs struct {
	// Driver is how layers become a root: "overlay", "native" (containerd), "vfs" (Docker, Podman), or ""
	// when nothing is known, and only Merged can be read.
	Driver string `json:"driver"`
	// Upper is the writable layer's directory; empty when there is none (native, vfs: Merged is the copy).
	Upper string `json:"upper,omitempty"`
	Work  string `json:"work,omitempty"`
	// Layers are the image's layers, lowest first.
	Layers []Layer `json:"layers,omitempty"`
	// Merged is a host path that shows the whole root: a mount point, a snapshot's copy; empty when only
	// /proc/PID/root shows it.
	Merged string `json:"merged,omitempty"`
	// ReadOnly is true when the runtime mounted the root read-only.
	ReadOnly bool `json:"read_only,omitempty"`
}

// Layer is one image layer as it lies on this machine.
type Layer struct {
	// Dir is the extracted layer. With Whole it shows the complete tree up to and with this layer (native, vfs),
	// otherwise only this layer's own files with overlay whiteouts.
	Dir    string `json:"dir"`
	Whole  bool   `json:"whole,omitempty"`
	DiffID string `json:"diff_id,omitempty"` // "sha256:…" of the uncompressed layer, where the runtime knows it
	Digest string `json:"digest,omitempty"`  // of the layer's blob as the manifest names it
	// Init marks Docker's "-init" layer (empty /etc/hosts and the like): not of the image, made by the runtime.
	Init bool `json:"init,omitempty"`
}

// Mount is one mount that the runtime made besides the root.
type Mount struct {
	Type        string   `json:"type"`             // bind, volume, tmpfs, proc, …
	Source      string   `json:"source,omitempty"` // on the host
	Destination string   `json:"destination"`
	Options     []string `json:"options,omitempty"`
	ReadOnly    bool     `json:"read_only,omitempty"`
	// Name is the volume's name, if it has one.
	Name string `json:"name,omitempty"`
}

// LogFile is one file that the runtime writes the container's output to. Rotated and compressed siblings are
// found by the collector.
type LogFile struct {
	Path   string `json:"path"`
	Format string `json:"format"` // json-file, local, cri, k8s-file, journald
}

// Record is one document of the runtime's, as it gave it.
type Record struct {
	Name   string // inside target/, "inspect.json"
	Origin string // how it was obtained, "GET /containers/ID/json" or a path
	Data   []byte
}

// Stream is something of the container's that the runtime's API gives to whoever may ask it, for a capture that may not read
// files: the output, the list of changed files.
type Stream struct {
	Path   string // in the package, "logs/api.log"
	Origin string // "GET /containers/ID/logs"
	Open   func(ctx context.Context) (io.ReadCloser, error)
}

// Distroless says whether a root file system lacks what a shell session needs, and by which files one knows.
type Distroless struct {
	Distroless bool `json:"distroless"`
	// Reason is one short line: "no shell, 3 packages" or "/bin/sh → busybox".
	Reason          string   `json:"reason"`
	Shells          []string `json:"shells,omitempty"`
	PackageManagers []string `json:"package_managers,omitempty"`
	// Tools are programs that help an intruder although there is no shell: openssl, curl, perl, busybox.
	Tools        []string `json:"tools,omitempty"`
	Interpreters []string `json:"interpreters,omitempty"`
	Packages     int      `json:"packages"`
}

// Runtime is a place where containers live. Each folder below this package implements it once.
type Runtime interface {
	// Scheme is the URL scheme of its targets, "docker".
	Scheme() string
	// List returns every container in every state, with what one request gives; Records may be missing.
	List(ctx context.Context) ([]*Container, error)
	// Find returns one container with all that is known, Records included. ref is the URL without its
	// scheme. An unknown one is a *NotFoundError.
	Find(ctx context.Context, ref string) (*Container, error)
	Close() error
}

// Anomaly is a contradiction between what a runtime says and what the kernel shows.
type Anomaly struct {
	// Kind is "hidden-container" (namespaces and cgroup that no runtime owns up to) or "stray-process" (a
	// process in a container's namespaces that its cgroup does not hold).
	Kind      string `json:"kind"`
	PID       int    `json:"pid"`
	Container string `json:"container,omitempty"` // URL of the container that it belongs to, if any
	Statement string `json:"statement"`
}
