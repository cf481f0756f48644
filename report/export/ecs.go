package export

import (
	"cmp"
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/event"
)

// ecs is the Elastic Common Schema 8.17 as NDJSON (https://www.elastic.co/docs/reference/ecs). What has no field there stands under sherd.
type ecs struct {
	enc  *json.Encoder
	tool string
}

func newECS(w io.Writer, m Meta) (Writer, error) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return &ecs{e, m.Tool}, nil
}

// categories are ECS's event.category and event.type for the first part of a kind, and for a whole one where it is more exact.
var categories = map[string][2]string{
	"file": {"file", "info"}, "file.created": {"file", "creation"}, "file.modified": {"file", "change"}, "file.changed": {"file", "change"}, "file.deleted": {"file", "deletion"},
	"file.accessed": {"file", "access"}, "file.opened": {"file", "access"},
	"process": {"process", "info"}, "process.started": {"process", "start"}, "process.exited": {"process", "end"},
	"net": {"network", "info"}, "net.connected": {"network", "connection"}, "net.accepted": {"network", "connection"}, "net.flow": {"network", "connection"},
	"dns": {"network", "protocol"}, "http": {"web", "access"},
	"auth": {"authentication", "info"}, "auth.login": {"authentication", "start"}, "auth.logout": {"authentication", "end"}, "auth.failed": {"authentication", "info"}, "auth.changed": {"iam", "change"},
	"container": {"host", "info"}, "image": {"package", "info"}, "k8s": {"configuration", "access"}, "cloud": {"configuration", "access"}, "alert": {"intrusion_detection", "info"},
	"system": {"host", "info"}, "service": {"host", "change"},
}

// put sets a dotted name unless the value is empty.
func put(m map[string]any, name string, v any) {
	switch x := v.(type) {
	case string:
		if x == "" {
			return
		}
	case int:
		if x == 0 {
			return
		}
	case int64:
		if x == 0 {
			return
		}
	case map[string]any:
		if len(x) == 0 {
			return
		}
	}
	for {
		head, rest, ok := strings.Cut(name, ".")
		if !ok {
			m[name] = v
			return
		}
		next, ok := m[head].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[head] = next
		}
		m, name = next, rest
	}
}

func (x *ecs) Write(e *event.Event) error {
	m := map[string]any{}
	kind := "event"
	if e.Kind == event.Alert {
		kind = "alert"
	} else if e.TimeKind == event.Observed {
		kind = "state"
	}
	put(m, "ecs.version", "8.17.0")
	at := time.Unix(0, e.Time).UTC().Format("2006-01-02T15:04:05.000000000Z") // @timestamp is required; a time that is not known is 1970
	put(m, "@timestamp", at)
	put(m, "message", e.Message)
	put(m, "event.kind", kind)
	put(m, "event.action", string(e.Kind))
	put(m, "event.module", "sherd")
	put(m, "event.dataset", "sherd."+e.Parser)
	c, ok := categories[string(e.Kind)]
	if !ok {
		head, _, _ := strings.Cut(string(e.Kind), ".")
		c, ok = categories[head]
	}
	if ok {
		put(m, "event.category", []string{c[0]})
		put(m, "event.type", []string{c[1]})
	}
	switch e.Kind {
	case event.Login:
		put(m, "event.outcome", "success")
	case event.LoginFailed:
		put(m, "event.outcome", "failure")
	}
	put(m, "host.name", e.Node)
	put(m, "container.id", e.ContainerID)
	put(m, "container.name", e.Container)
	if e.ImageDigest != "" {
		put(m, "container.image.hash.all", []string{e.ImageDigest})
	}
	put(m, "orchestrator.namespace", e.Namespace)
	if e.Pod != "" {
		put(m, "orchestrator.type", "kubernetes")
		put(m, "orchestrator.resource.type", "pod")
		put(m, "orchestrator.resource.name", e.Pod)
	}
	put(m, "process.pid", e.PID)
	put(m, "process.parent.pid", e.PPID)
	put(m, "process.name", e.Process)
	put(m, "process.command_line", e.Cmdline)
	put(m, "user.name", cmp.Or(e.User, e.Identity))
	if strings.HasPrefix(string(e.Kind), "process.") {
		put(m, "process.executable", e.Path)
		put(m, "process.hash.sha256", e.SHA256)
	} else {
		put(m, "file.path", e.Path)
		put(m, "file.hash.sha256", e.SHA256)
		put(m, "file.size", e.Size)
	}
	put(m, "source.ip", ip(e.SrcIP))
	put(m, "source.port", e.SrcPort)
	put(m, "destination.ip", ip(e.DstIP))
	put(m, "destination.port", e.DstPort)
	put(m, "network.transport", e.Protocol)
	if e.Technique != "" {
		put(m, "threat.framework", "MITRE ATT&CK")
		put(m, "threat.technique.id", []string{e.Technique})
	}
	put(m, "sherd.evidence_id", e.EvidenceID)
	put(m, "sherd.time_kind", string(e.TimeKind))
	put(m, "sherd.identity", e.Identity)
	put(m, "sherd.artifact", e.Artifact)
	put(m, "sherd.offset", e.Offset)
	put(m, "sherd.length", e.Length)
	if e.Time == 0 {
		put(m, "sherd.time_unknown", true)
	}
	if len(e.Attributes) > 0 && json.Valid(e.Attributes) {
		put(m, "sherd.attributes", e.Attributes)
	}
	return x.enc.Encode(m)
}

func (x *ecs) Close() error { return nil }
