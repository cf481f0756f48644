package inventory

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
)

// Parser is the name of this parser in events.
const Parser = "inventory"

// Events gives up to four events for each file that is the container's own: of its writable layer, or of a volume. The image's
// files bear the times of the image's making, which Events leaves out: their rows are in the inventory. A
// deletion leaves a mark whose own times are when it was deleted. Malformed lines are left out; Read tells about them.
func Events(p *evidence.Package, emit func(event.Event) error) error {
	for r, err := range Read(p) {
		var bad *LineError
		if errors.As(err, &bad) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range events(&r) {
			if err := emit(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func events(r *Row) []event.Event {
	if r.Tree != record.TreeRoot || r.Layer != record.WritableLayer {
		return nil
	}
	base := event.Event{
		Path: record.Escape(string(r.Path)), SHA256: r.SHA256, Size: r.Size, Parser: Parser,
		Artifact: r.Cite.Artifact, Offset: r.Cite.Offset, Length: r.Cite.Length, Attributes: attributes(r),
	}
	path := printable.Text(string(r.Path))
	var out []event.Event
	add := func(t int64, tk event.TimeKind, k event.Kind, format string) {
		if t == 0 {
			return
		}
		e := base
		e.Time, e.TimeKind, e.Kind, e.Message = t, tk, k, fmt.Sprintf(format, path)
		out = append(out, e)
	}
	if r.Type == record.TypeWhiteout {
		// A whiteout made by a link to a shared one keeps that one's birth; ctime is when this one was put in place.
		add(r.Ctime, event.Changed, event.FileDeleted, "%s of the image deleted")
		return out
	}
	what := map[string]string{
		record.TypeDir: "directory %s", record.TypeSymlink: "symbolic link %s", record.TypeFile: "%s",
	}[r.Type]
	if what == "" {
		what = r.Type + " %s"
	}
	if r.Type == record.TypeFile && r.Mode&0o111 != 0 {
		what = "executable %s"
	}
	add(r.Btime, event.Created, event.FileCreated, what+" created")
	if r.Mtime != r.Btime {
		add(r.Mtime, event.Modified, event.FileModified, what+" modified")
	}
	if r.Ctime != r.Mtime && r.Ctime != r.Btime {
		add(r.Ctime, event.Changed, event.FileChanged, what+": metadata changed")
	}
	if r.Atime != r.Mtime && r.Atime != r.Btime && r.Atime != r.Ctime {
		add(r.Atime, event.Accessed, event.FileAccessed, what+" read")
	}
	return out
}

// attributes are the facts that have no column.
func attributes(r *Row) json.RawMessage {
	b, err := json.Marshal(struct {
		Type   string      `json:"type"`
		Mode   string      `json:"mode"`
		UID    uint32      `json:"uid"`
		GID    uint32      `json:"gid"`
		Target record.Name `json:"target,omitempty"`
		Mount  record.Name `json:"mount,omitempty"`
	}{r.Type, fmt.Sprintf("%04o", r.Mode), r.UID, r.GID, r.Target, r.Mount})
	if err != nil {
		return nil // none of these can fail to encode
	}
	return b
}
