// Package event holds the one row of the timeline and its vocabulary.
package event

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
)

// TimeKind says what Event.Time means for its source.
type TimeKind string

// The meanings a time can have.
const (
	Created  TimeKind = "created"
	Modified TimeKind = "modified"
	Changed  TimeKind = "changed"
	Accessed TimeKind = "accessed"
	Started  TimeKind = "started"
	Exited   TimeKind = "exited"
	Logged   TimeKind = "logged"
	Observed TimeKind = "observed"
)

// Kind names what happened, as noun.verb.
type Kind string

// The vocabulary. A parser takes the most exact that fits; LogLine where nothing says what happened.
const (
	FileCreated  Kind = "file.created"
	FileModified Kind = "file.modified"
	FileChanged  Kind = "file.changed"
	FileAccessed Kind = "file.accessed"
	FileDeleted  Kind = "file.deleted"
	FileOpened   Kind = "file.opened"

	ProcessStarted Kind = "process.started"
	ProcessExited  Kind = "process.exited"
	ProcessDumped  Kind = "process.dumped" // a core was taken
	Syscall        Kind = "process.syscall"

	NetConnected Kind = "net.connected"
	NetAccepted  Kind = "net.accepted"
	NetListening Kind = "net.listening"
	NetFlow      Kind = "net.flow" // counted by a network device or the cloud
	DNSQuery     Kind = "dns.query"
	HTTPRequest  Kind = "http.request"

	LogLine    Kind = "log.line"
	KernelLine Kind = "kernel.line"

	Login       Kind = "auth.login"
	Logout      Kind = "auth.logout"
	LoginFailed Kind = "auth.failed"
	Sudo        Kind = "auth.sudo"
	AuthChanged Kind = "auth.changed" // accounts, groups, credentials

	ContainerCreated  Kind = "container.created"
	ContainerStarted  Kind = "container.started"
	ContainerExited   Kind = "container.exited"
	ContainerExec     Kind = "container.exec"
	ContainerDeleted  Kind = "container.deleted"
	ContainerObserved Kind = "container.observed" // counters and states at the capture
	ImageBuilt        Kind = "image.built"
	ImageLayer        Kind = "image.layer"
	ImagePulled       Kind = "image.pulled"

	K8sAudit Kind = "k8s.audit"
	K8sEvent Kind = "k8s.event"
	K8sPod   Kind = "k8s.pod"

	K8sWorkload  Kind = "k8s.workload"  // what runs pods: deployments, replica sets, jobs
	K8sRBAC      Kind = "k8s.rbac"      // roles, bindings, accounts
	K8sNetwork   Kind = "k8s.network"   // services, ingresses, gateways, policies
	K8sNode      Kind = "k8s.node"      // nodes and their conditions
	K8sAdmission Kind = "k8s.admission" // webhooks and policies of admission
	K8sObject    Kind = "k8s.object"    // any other
	CloudAPI     Kind = "cloud.api"
	Alert        Kind = "alert.raised" // a sensor's or a cloud detector's judgement

	SystemBooted  Kind = "system.booted"
	SystemStopped Kind = "system.stopped"
	ServiceState  Kind = "service.changed"
)

// Event is one flat row of the timeline. Time is in nanoseconds since the Unix epoch, UTC. Artifact, Offset
// and Length point at the bytes in the evidence package that say so. PID is the host's number for a process
// of a live capture, as in the package's process/<pid> folder. SHA256 is lower-case hex.
type Event struct {
	Time        int64           `json:"time"`
	TimeKind    TimeKind        `json:"time_kind"`
	Kind        Kind            `json:"kind"`
	Message     string          `json:"message"`
	EvidenceID  string          `json:"evidence_id"`
	ContainerID string          `json:"container_id"`
	Container   string          `json:"container"`
	ImageDigest string          `json:"image_digest"`
	Pod         string          `json:"pod"`
	Namespace   string          `json:"namespace"`
	Node        string          `json:"node"`
	PID         int             `json:"pid"`
	PPID        int             `json:"ppid"`
	Process     string          `json:"process"`
	Cmdline     string          `json:"cmdline"`
	User        string          `json:"user"`
	Identity    string          `json:"identity"`
	Path        string          `json:"path"`
	SHA256      string          `json:"sha256"`
	Size        int64           `json:"size"`
	SrcIP       string          `json:"src_ip"`
	SrcPort     int             `json:"src_port"`
	DstIP       string          `json:"dst_ip"`
	DstPort     int             `json:"dst_port"`
	Protocol    string          `json:"protocol"`
	Technique   string          `json:"technique"`
	Parser      string          `json:"parser"`
	Artifact    string          `json:"artifact"`
	Offset      int64           `json:"offset"`
	Length      int64           `json:"length"`
	Attributes  json.RawMessage `json:"attributes,omitempty"`
}

// ID is a hash of the event's source, meaning, time and fact, so that reading the same package twice adds
// nothing: 16 bytes of SHA-256 in hex.
func (e *Event) ID() string {
	h := sha256.New()
	for _, s := range []string{
		e.EvidenceID, e.Artifact, strconv.FormatInt(e.Offset, 10), strconv.FormatInt(e.Length, 10),
		string(e.Kind), string(e.TimeKind), strconv.FormatInt(e.Time, 10), e.Path, e.Message,
	} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
