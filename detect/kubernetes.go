package detect

import (
	"cmp"
	"context"
	"encoding/json"

	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/k8saudit"
	"github.com/sherd-forensics/sherd/verdict"
)

// Cluster is what the API server said of the container's pod when it was captured, as far as the package has it.
type Cluster struct {
	Pod     Pod
	PodCite verdict.Citation // zero where pod.json is not there
	// Identity is the full name of the pod's service account, "" if it is not known.
	Identity string
	// Node has the addresses of the pod's node.
	Node []string
	// What follows is nil where the package does not have it, or it could not be read.
	Permissions *record.Permissions
	Exposure    *record.Exposure
	Siblings    *record.Siblings
	References  *record.References
	// Calls are those under Identity that the audit log has, by time; Audited is true where there is an audit log. More counts calls beyond
	// the limit, the latest ones.
	Calls   []Call
	Audited bool
	More    int
}

// Where the package has what the API server said.
const (
	PodPath         = "target/kubernetes/pod.json"
	NodePath        = "target/kubernetes/node.json"
	PermissionsPath = "target/kubernetes/permissions.json"
	ExposurePath    = "target/kubernetes/exposure.json"
	SiblingsPath    = "target/kubernetes/siblings.json"
	ReferencesPath  = "target/kubernetes/references.json"
	AuditPath       = "target/kubernetes/audit.jsonl"
)

// maxKubeCalls bounds the calls that are held.
const maxKubeCalls = 100_000

// Pod is what is used of a pod's object. See https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
type Pod struct {
	Metadata struct {
		Name, Namespace, UID string
	}
	Spec struct {
		ServiceAccountName string
		NodeName           string
		HostNetwork        bool
	}
	Status struct {
		PodIP, HostIP string
		PodIPs        []struct{ IP string }
		HostIPs       []struct{ IP string }
		Conditions    []struct {
			Type, Status       string
			LastTransitionTime time.Time
		}
		ContainerStatuses []ContainerStatus
	}
}

// ContainerStatus is what the kubelet said of one container last.
type ContainerStatus struct {
	Name         string
	ContainerID  string
	RestartCount int
	State        ContainerState
	LastState    ContainerState
}

// ContainerState is one of its fields.
type ContainerState struct {
	Running    *struct{ StartedAt time.Time }
	Waiting    *struct{ Reason, Message string }
	Terminated *Termination
}

// Termination says how a container ended.
type Termination struct {
	ExitCode, Signal      int
	Reason                string
	StartedAt, FinishedAt time.Time
	ContainerID           string
}

// Call is one call of the API server, as its audit log has it.
type Call struct {
	Time     int64
	Identity string
	Verb     string
	Resource string // "pods/exec"
	Group    string
	// Namespace and Name are of what was asked for; "" is all of them.
	Namespace, Name string
	Code            int // of HTTP, 0 unknown
	From            string
	Agent           string
	Pod             string // that the token was made for, "" if the line does not say
	Words           string // the line in a sentence
	Cite            verdict.Citation
}

// Refused reports whether the API server did not do what was asked.
func (c *Call) Refused() bool { return c.Code >= 400 }

// CallOf makes a call of an event of an audit log.
func CallOf(e *event.Event, sha256 string) Call {
	c := Call{Time: e.Time, Identity: e.Identity, Namespace: e.Namespace, From: e.SrcIP, Words: e.Message,
		Cite: verdict.Citation{Artifact: e.Artifact, Offset: e.Offset, Length: e.Length, SHA256: sha256}}
	var more struct {
		Verb     string `json:"verb"`
		Resource string `json:"resource"`
		Group    string `json:"api_group"`
		Name     string `json:"name"`
		Agent    string `json:"http_user_agent"`
		Pod      string `json:"pod_of_user"`
		Code     int    `json:"response_code"`
	}
	if len(e.Attributes) > 0 && json.Unmarshal(e.Attributes, &more) == nil {
		c.Verb, c.Resource, c.Group, c.Name, c.Agent, c.Pod, c.Code = more.Verb, more.Resource, more.Group, more.Name, more.Agent, more.Pod, more.Code
	}
	return c
}

func (f *Facts) loadCluster(ctx context.Context, p *evidence.Package) {
	pod := f.Container.Pod
	_, there := p.Artifact(PodPath)
	if pod == nil && !there {
		return
	}
	c := &Cluster{}
	f.Cluster = c
	if decode(p, PodPath, &c.Pod) {
		c.PodCite, _ = f.Cite(PodPath, 0, 0)
	} else {
		f.Missing[PodStatus] = "it was captured on the node alone, or could not be read"
	}
	namespace := c.Pod.Metadata.Namespace
	if pod != nil {
		namespace = cmp.Or(namespace, pod.Namespace)
	}
	if a := c.Pod.Spec.ServiceAccountName; a != "" && namespace != "" {
		c.Identity = "system:serviceaccount:" + namespace + ":" + a
	}
	c.Permissions = readDocument[record.Permissions](p, PermissionsPath)
	c.Exposure = readDocument[record.Exposure](p, ExposurePath)
	c.Siblings = readDocument[record.Siblings](p, SiblingsPath)
	c.References = readDocument[record.References](p, ReferencesPath)
	if c.Permissions != nil {
		c.Identity = cmp.Or(c.Permissions.Identity, c.Identity)
	}
	c.loadNode(p)
	c.loadCalls(ctx, p)
	if !c.Audited {
		f.Missing[Audit] = "no audit log was given (`sherd collect --audit-log FILE`), or it could not be read"
	}
	// A pod's volumes outlive its containers: what lies there may be from an earlier one's time.
	if s := f.Status(); s != nil && s.RestartCount > 0 {
		for _, x := range c.Pod.Status.Conditions {
			if x.Type == "Initialized" && x.Status == "True" && !x.LastTransitionTime.IsZero() {
				f.Begun = x.LastTransitionTime.UnixNano()
			}
		}
	}
}

func decode(p *evidence.Package, path string, into any) bool {
	b, err := p.ReadFile(path, maxDocument)
	return err == nil && json.Unmarshal(b, into) == nil
}

func readDocument[T any](p *evidence.Package, path string) *T {
	v := new(T)
	if !decode(p, path, v) {
		return nil
	}
	return v
}

func (c *Cluster) loadNode(p *evidence.Package) {
	var node struct {
		Status struct {
			Addresses []struct{ Address string }
		}
	}
	_ = decode(p, NodePath, &node) // without it, the pod's own word on its node stays
	for _, a := range node.Status.Addresses {
		c.Node = append(c.Node, a.Address)
	}
	for _, a := range c.Pod.Status.HostIPs {
		c.Node = append(c.Node, a.IP)
	}
	c.Node = append(c.Node, c.Pod.Status.HostIP)
	c.Node = slices.DeleteFunc(c.Node, func(s string) bool { return s == "" })
}

func (c *Cluster) loadCalls(ctx context.Context, p *evidence.Package) {
	e, ok := p.Artifact(AuditPath)
	if !ok || e.SHA256 == "" || c.Identity == "" {
		return
	}
	a, err := p.Open(AuditPath)
	if err != nil {
		return
	}
	in, err := parse.NewInput(a, event.Event{Artifact: AuditPath})
	if err != nil {
		return
	}
	defer in.Close()
	c.Audited = true
	// What can't be read is told by the timeline; the lines before it count.
	_ = k8saudit.Format.Read(ctx, in, func(x *event.Event) error {
		if x.Kind != event.K8sAudit || x.Identity != c.Identity || ctx.Err() != nil {
			return ctx.Err()
		}
		if len(c.Calls) >= maxKubeCalls {
			c.More++
			return nil
		}
		call := CallOf(x, e.SHA256)
		if in.Compression != "" {
			call.Cite.Offset, call.Cite.Length = 0, e.Size
		}
		c.Calls = append(c.Calls, call)
		return nil
	})
	slices.SortStableFunc(c.Calls, func(a, b Call) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Cite.Offset, b.Cite.Offset))
	})
}

// Status is what the kubelet said of the container last, nil if it said nothing.
func (f *Facts) Status() *ContainerStatus {
	if f.Cluster == nil {
		return nil
	}
	all := f.Cluster.Pod.Status.ContainerStatuses
	for i := range all {
		if _, id, ok := strings.Cut(all[i].ContainerID, "://"); ok && id == f.Container.ID && id != "" {
			return &all[i]
		}
	}
	// It was started again between the question and the capture, or is the one before.
	for i := range all {
		if p := f.Container.Pod; p != nil && p.Container != "" && all[i].Name == p.Container {
			return &all[i]
		}
	}
	return nil
}

// Own reports whether an address is one of the pod's.
func (c *Cluster) Own(addr string) bool {
	s := &c.Pod.Status
	if addr == "" {
		return false
	}
	if addr == s.PodIP {
		return true
	}
	for _, x := range s.PodIPs {
		if x.IP == addr {
			return true
		}
	}
	return false
}

// Home reports whether calls of the pod's may come from an address: its own, its node's, which pods' traffic is often given, or the machine itself.
func (c *Cluster) Home(addr string) bool {
	if a, err := netip.ParseAddr(addr); err == nil && a.IsLoopback() {
		return true
	}
	return c.Own(addr) || slices.Contains(c.Node, addr)
}
