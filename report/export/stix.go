package export

import (
	"cmp"
	"crypto/sha1" //nolint:gosec // STIX identifies by UUIDv5, which is SHA-1
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/event"
)

// stix is a STIX 2.1 bundle of observed-data objects and what they refer to (https://docs.oasis-open.org/cti/stix/v2.1/). It is written as it comes; of
// cyber-observables the latest 65,536 are remembered, so that each stands in the bundle once, and rarely twice.
type stix struct {
	w     io.Writer
	begun bool
	err   error
	seen  [2]map[string]bool
	tool  string
}

const maxSeen = 1 << 15

func newSTIX(w io.Writer, m Meta) (Writer, error) {
	s := &stix{w: w, seen: [2]map[string]bool{{}, {}}, tool: m.Tool}
	_, err := fmt.Fprintf(w, "{\"type\":\"bundle\",\"id\":\"bundle--%s\",\"objects\":[", uuid("bundle", m.Tool))
	return s, err
}

// space is the namespace that STIX prescribes for identifiers of cyber-observables.
var space = [16]byte{0x00, 0xab, 0xed, 0xb4, 0xaa, 0x42, 0x46, 0x6c, 0x9c, 0x01, 0xfe, 0xd2, 0x33, 0x15, 0xa9, 0xb7}

// uuid identifies what STIX wants a UUIDv4 for. It is made from what the object is and not at random, so that exporting twice adds nothing.
func uuid(parts ...string) string {
	h := sha1.New() //nolint:gosec // see above
	h.Write([]byte(strings.Join(parts, "\x00")))
	b := h.Sum(nil)[:16]
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// observable gives an object its identifier, from the properties that the specification names for its type.
func observable(typ string, from map[string]any, all map[string]any) map[string]any {
	key, err := json.Marshal(from) // names in order
	if err != nil {
		key = []byte(typ)
	}
	h := sha1.New() //nolint:gosec // see above
	h.Write(space[:])
	h.Write(key)
	b := h.Sum(nil)[:16]
	b[6], b[8] = b[6]&0x0f|0x50, b[8]&0x3f|0x80
	all["type"], all["spec_version"] = typ, "2.1"
	all["id"] = fmt.Sprintf("%s--%x-%x-%x-%x-%x", typ, b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	return all
}

func (s *stix) object(m map[string]any) {
	if s.err != nil {
		return
	}
	b, err := json.Marshal(m)
	if err != nil {
		s.err = err
		return
	}
	if s.begun {
		b = append([]byte(",\n"), b...)
	} else {
		b = append([]byte("\n"), b...)
	}
	s.begun = true
	_, s.err = s.w.Write(b)
}

// refer writes an observable unless it stands there, and gives its identifier.
func (s *stix) refer(m map[string]any) string {
	id, _ := m["id"].(string)
	if s.seen[0][id] || s.seen[1][id] {
		return id
	}
	if len(s.seen[0]) >= maxSeen {
		s.seen[1], s.seen[0] = s.seen[0], map[string]bool{}
	}
	s.seen[0][id] = true
	s.object(m)
	return id
}

func (s *stix) address(a string) string {
	p, err := netip.ParseAddr(a)
	if err != nil {
		return ""
	}
	typ := "ipv6-addr"
	if p.Is4() {
		typ = "ipv4-addr"
	}
	v := map[string]any{"value": p.WithZone("").String()}
	return s.refer(observable(typ, v, map[string]any{"value": v["value"]}))
}

func (s *stix) Write(e *event.Event) error {
	var refs []string
	add := func(id string) {
		if id != "" {
			for _, r := range refs {
				if r == id {
					return
				}
			}
			refs = append(refs, id)
		}
	}
	src, dst := s.address(e.SrcIP), s.address(e.DstIP)
	add(src)
	add(dst)
	if dst != "" && strings.HasPrefix(string(e.Kind), "net.") {
		t := map[string]any{"dst_ref": dst, "protocols": []string{cmp.Or(strings.ToLower(e.Protocol), "tcp")}}
		if src != "" {
			t["src_ref"] = src
		}
		put(t, "src_port", e.SrcPort)
		put(t, "dst_port", e.DstPort)
		from := map[string]any{}
		for k, v := range t {
			from[k] = v
		}
		add(s.refer(observable("network-traffic", from, t)))
	}
	file := ""
	if e.Path != "" && strings.Trim(e.Path, "/") != "" {
		name := e.Path[strings.LastIndexByte(strings.TrimRight(e.Path, "/"), '/')+1:]
		f, from := map[string]any{"name": name}, map[string]any{"name": name}
		if len(e.SHA256) == 64 {
			f["hashes"] = map[string]string{"SHA-256": e.SHA256}
			from["hashes"] = f["hashes"]
		}
		if dir := strings.TrimSuffix(e.Path, name); dir != "" && dir != "/" {
			d := map[string]any{"path": strings.TrimRight(dir, "/")}
			ref := s.refer(observable("directory", d, map[string]any{"path": d["path"]}))
			f["parent_directory_ref"], from["parent_directory_ref"] = ref, ref
			add(ref)
		}
		file = s.refer(observable("file", from, f))
		add(file)
	}
	if e.PID != 0 || e.Cmdline != "" {
		p := map[string]any{}
		put(p, "pid", e.PID)
		put(p, "command_line", e.Cmdline)
		if file != "" && strings.HasPrefix(string(e.Kind), "process.") {
			p["image_ref"] = file
		}
		// A process has no identifying properties: what tells it apart here are its evidence and its number.
		p["type"], p["spec_version"] = "process", "2.1"
		p["id"] = "process--" + uuid("process", e.EvidenceID, strconv.Itoa(e.PID), e.Cmdline, file)
		add(s.refer(p))
	}
	if e.User != "" {
		add(s.refer(observable("user-account", map[string]any{"account_login": e.User}, map[string]any{"account_login": e.User})))
	}
	if len(refs) == 0 {
		// Observed data must refer to something: the log that holds the line is what was seen.
		f := map[string]any{"name": cmp.Or(e.Artifact, "unknown")}
		add(s.refer(observable("file", f, map[string]any{"name": f["name"]})))
	}
	at := time.Unix(0, e.Time).UTC().Format("2006-01-02T15:04:05.000000Z")
	o := map[string]any{"type": "observed-data", "spec_version": "2.1", "id": "observed-data--" + uuid("event", e.ID()), "created": at, "modified": at,
		"first_observed": at, "last_observed": at, "number_observed": 1, "object_refs": refs}
	if e.Technique != "" {
		o["labels"] = []string{string(e.Kind), e.Technique}
	} else {
		o["labels"] = []string{cmp.Or(string(e.Kind), "event")}
	}
	note := map[string]any{"type": "note", "spec_version": "2.1", "id": "note--" + uuid("note", e.ID()), "created": at, "modified": at, "abstract": cmp.Or(string(e.Kind), "event"),
		"content": cmp.Or(e.Message, "no message") + fmt.Sprintf("\n%s +%d (%d B)", e.Artifact, e.Offset, e.Length), "object_refs": []any{o["id"]}}
	s.object(o)
	s.object(note)
	return s.err
}

func (s *stix) Close() error {
	if s.err != nil {
		return s.err
	}
	_, err := io.WriteString(s.w, "\n]}\n")
	return err
}
