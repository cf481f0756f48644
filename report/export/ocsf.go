package export

import (
	"cmp"
	"encoding/json"
	"io"
	"strings"

	"github.com/sherd-forensics/sherd/event"
)

// ocsf is the Open Cybersecurity Schema Framework 1.3 as JSON lines (https://schema.ocsf.io/1.3.0). The class is chosen by the kind; what no class has is a Base
// Event.
type ocsf struct {
	enc  *json.Encoder
	tool string
}

func newOCSF(w io.Writer, m Meta) (Writer, error) {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return &ocsf{e, m.Tool}, nil
}

// class is a class and an activity of OCSF.
type class struct {
	category, class, activity int
	name                      string
}

var classes = map[string]class{
	"file.created": {1, 1001, 1, "File System Activity"}, "file.accessed": {1, 1001, 2, "File System Activity"}, "file.modified": {1, 1001, 3, "File System Activity"},
	"file.deleted": {1, 1001, 4, "File System Activity"}, "file.changed": {1, 1001, 6, "File System Activity"}, "file.opened": {1, 1001, 14, "File System Activity"},
	"process.started": {1, 1007, 1, "Process Activity"}, "process.exited": {1, 1007, 2, "Process Activity"}, "process.dumped": {1, 1007, 99, "Process Activity"},
	"net.connected": {4, 4001, 1, "Network Activity"}, "net.accepted": {4, 4001, 1, "Network Activity"}, "net.listening": {4, 4001, 7, "Network Activity"}, "net.flow": {4, 4001, 6, "Network Activity"},
	"dns.query": {4, 4003, 1, "DNS Activity"}, "http.request": {4, 4002, 99, "HTTP Activity"},
	"auth.login": {3, 3002, 1, "Authentication"}, "auth.failed": {3, 3002, 1, "Authentication"}, "auth.logout": {3, 3002, 2, "Authentication"},
	"k8s.audit": {6, 6003, 99, "API Activity"}, "cloud.api": {6, 6003, 99, "API Activity"},
	"alert.raised": {2, 2004, 1, "Detection Finding"},
}

func (x *ocsf) Write(e *event.Event) error {
	c, ok := classes[string(e.Kind)]
	if !ok {
		c = class{0, 0, 99, "Base Event"}
	}
	m := map[string]any{
		"class_uid": c.class, "category_uid": c.category, "activity_id": c.activity, "type_uid": c.class*100 + c.activity, "class_name": c.name,
		"time": e.Time / 1e6, "severity_id": 1, "status_id": 0,
	}
	put(m, "metadata.version", "1.3.0")
	put(m, "metadata.product.name", "Sherd")
	put(m, "metadata.product.vendor_name", "Sherd")
	put(m, "metadata.log_name", e.Artifact)
	put(m, "metadata.log_provider", e.Parser)
	put(m, "metadata.uid", e.ID())
	put(m, "message", e.Message)
	if c.activity == 99 {
		m["activity_name"] = string(e.Kind)
	}
	put(m, "device.hostname", e.Node)
	if e.Node != "" {
		put(m, "device.type_id", 1)
	}
	if e.Technique != "" {
		m["attacks"] = []any{map[string]any{"version": "17", "technique": map[string]any{"uid": e.Technique}}}
	}
	switch c.class {
	case 1001:
		put(m, "file.path", e.Path)
		put(m, "file.name", e.Path[strings.LastIndexByte(e.Path, '/')+1:])
		put(m, "file.size", e.Size)
		m2, _ := m["file"].(map[string]any)
		if m2 == nil {
			m2 = map[string]any{"name": "unknown"}
			m["file"] = m2
		}
		m2["type_id"] = 1
		hashes(m2, e.SHA256)
		m["actor"] = actor(e)
	case 1007:
		m["process"] = process(e)
		m["actor"] = actor(e)
	case 4001, 4002, 4003:
		endpoint(m, "src_endpoint", e.SrcIP, e.SrcPort)
		endpoint(m, "dst_endpoint", e.DstIP, e.DstPort)
		if c.class == 4002 {
			put(m, "http_request.http_method", attribute(e, "http_method"))
			put(m, "http_request.user_agent", attribute(e, "http_user_agent"))
			put(m, "http_request.url.url_string", cmp.Or(attribute(e, "http_path"), e.Path))
			put(m, "http_response.code", number(e, "http_status"))
			fallback(m, "http_request", map[string]any{"args": e.Message})
		}
		if c.class == 4003 {
			put(m, "query.hostname", cmp.Or(attribute(e, "query_name"), attribute(e, "query")))
			fallback(m, "query", map[string]any{"hostname": "unknown"})
		}
		if e.Protocol != "" {
			put(m, "connection_info.protocol_name", e.Protocol)
			put(m, "connection_info.direction_id", 0)
		}
	case 3002:
		m["user"] = map[string]any{"name": cmp.Or(e.User, "unknown")}
		endpoint(m, "src_endpoint", e.SrcIP, e.SrcPort)
		m["status_id"] = 1
		if e.Kind == event.LoginFailed {
			m["status_id"] = 2
		}
	case 6003:
		m["actor"] = map[string]any{"user": map[string]any{"name": cmp.Or(e.Identity, e.User, "unknown")}}
		m["api"] = map[string]any{"operation": cmp.Or(attribute(e, "operation"), attribute(e, "verb"), "unknown")}
		endpoint(m, "src_endpoint", e.SrcIP, e.SrcPort)
		fallback(m, "src_endpoint", map[string]any{"name": "unknown"})
	case 2004:
		m["finding_info"] = map[string]any{"title": e.Message, "uid": e.ID()}
		m["severity_id"] = 4
	}
	if e.Container != "" || e.ContainerID != "" {
		put(m, "unmapped.container.name", e.Container)
		put(m, "unmapped.container.uid", e.ContainerID)
	}
	put(m, "unmapped.offset", e.Offset)
	put(m, "unmapped.length", e.Length)
	put(m, "unmapped.time_kind", string(e.TimeKind))
	if len(e.Attributes) > 0 && json.Valid(e.Attributes) {
		put(m, "unmapped.attributes", e.Attributes)
	}
	return x.enc.Encode(m)
}

func (x *ocsf) Close() error { return nil }

// fallback sets a required object that nothing is known of.
func fallback(m map[string]any, name string, v any) {
	if _, ok := m[name]; !ok {
		m[name] = v
	}
}

func endpoint(m map[string]any, name, addr string, port int) {
	put(m, name+".ip", ip(addr))
	put(m, name+".port", port)
}

func hashes(m map[string]any, sha256 string) {
	if len(sha256) == 64 {
		m["hashes"] = []any{map[string]any{"algorithm_id": 3, "value": sha256}}
	}
}

func process(e *event.Event) map[string]any {
	p := map[string]any{}
	put(p, "pid", e.PID)
	put(p, "name", e.Process)
	put(p, "cmd_line", e.Cmdline)
	if e.Path != "" {
		f := map[string]any{"path": e.Path, "name": e.Path[strings.LastIndexByte(e.Path, '/')+1:], "type_id": 1}
		hashes(f, e.SHA256)
		p["file"] = f
	}
	put(p, "parent_process.pid", e.PPID)
	put(p, "user.name", e.User)
	if len(p) == 0 {
		p["name"] = "unknown"
	}
	return p
}

func actor(e *event.Event) map[string]any {
	a := map[string]any{}
	put(a, "process.pid", e.PID)
	put(a, "process.name", e.Process)
	put(a, "user.name", e.User)
	if len(a) == 0 {
		put(a, "user.name", "unknown")
	}
	return a
}

// attribute is a text of the attributes.
func attribute(e *event.Event, name string) string {
	var m map[string]any
	if json.Unmarshal(e.Attributes, &m) != nil {
		return ""
	}
	s, _ := m[name].(string)
	return s
}

func number(e *event.Event, name string) int64 {
	var m map[string]any
	if json.Unmarshal(e.Attributes, &m) != nil {
		return 0
	}
	f, _ := m[name].(float64)
	return int64(f)
}
