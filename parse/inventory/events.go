package inventory

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/printable"
	formats "github.com/sherd-forensics/sherd/parse"
)

// Parser is the name of this parser in events.
const Parser = "inventory"

// Events gives up to four events for each file that is the container's own: of its writable layer, or of a volume. The image's
// files bear the times of the image's making, which Events leaves out: their rows are in the inventory. A
// deletion leaves a mark whose own times are when it was deleted. Malformed lines are told with skip.
func Events(p *evidence.Package, skip func(formats.Skip), emit func(event.Event) error) error {
	var same []Row
	flush := func() error {
		var image *Row
		for i := range same {
			if same[i].Tree == record.TreeImage && same[i].Mount == "" {
				image = &same[i]
				break
			}
		}
		for i := range same {
			for _, e := range events(&same[i], image) {
				if err := emit(e); err != nil {
					return err
				}
			}
		}
		same = same[:0]
		return nil
	}
	for r, err := range Read(p) {
		var bad *LineError
		if errors.As(err, &bad) {
			skip(bad.Skip())
			continue
		}
		if err != nil {
			return err
		}
		if len(same) > 0 && same[0].Path != r.Path || len(same) >= maxSame {
			if err := flush(); err != nil {
				return err
			}
		}
		same = append(same, r)
	}
	return flush()
}

// maxSame bounds the rows of one path: it has one for each layer and view, and more than that is hostile.
const maxSame = 1024

// What overlayfs did with a file of the image, as the attribute "overlay" names it.
const (
	whiteout = "whiteout" // deleted
	copyUp   = "copy-up"  // copied into the writable layer, since it was opened for writing or its metadata set
	opaque   = "opaque"   // a directory made anew, in which nothing of the image shows
)

// events gives those of one row; image is the image's row of the same path, nil when it has none.
func events(r, image *Row) []event.Event {
	if r.Tree != record.TreeRoot || r.Layer != record.WritableLayer {
		return nil
	}
	overlay := ""
	switch {
	case r.Mount != "":
		image = nil
	case r.Type == record.TypeWhiteout:
		overlay = whiteout
	case image != nil && r.Opaque:
		overlay = opaque
	case image != nil:
		overlay = copyUp
	}
	base := event.Event{
		Path: record.Escape(string(r.Path)), SHA256: r.SHA256, Size: r.Size, Parser: Parser,
		Artifact: r.Cite.Artifact, Offset: r.Cite.Offset, Length: r.Cite.Length, Attributes: attributes(r, overlay),
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
	switch {
	case overlay == opaque:
		add(r.Btime, event.Created, event.FileDeleted, "directory %s of the image replaced: what the image has in it is hidden")
	case overlay == copyUp && r.Type == record.TypeFile && r.SHA256 != "" && image.SHA256 != "" && r.SHA256 != image.SHA256:
		add(r.Btime, event.Created, event.FileModified, what+" of the image copied into the writable layer; its content is another now")
	case overlay == copyUp:
		add(r.Btime, event.Created, event.FileChanged, what+" of the image copied into the writable layer")
	default:
		add(r.Btime, event.Created, event.FileCreated, what+" created")
	}
	if r.Mtime != r.Btime && (image == nil || r.Mtime != image.Mtime) { // a copy keeps the image's time until something is written
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
func attributes(r *Row, overlay string) json.RawMessage {
	b, err := json.Marshal(struct {
		Type   string      `json:"type"`
		Mode   string      `json:"mode"`
		UID    uint32      `json:"uid"`
		GID    uint32      `json:"gid"`
		Target record.Name `json:"target,omitempty"`
		Mount  record.Name `json:"mount,omitempty"`
		// Overlay is what overlayfs did with the image's file of that path.
		Overlay  string      `json:"overlay,omitempty"`
		Redirect record.Name `json:"redirect,omitempty"`
		Metacopy bool        `json:"metacopy,omitempty"`
	}{r.Type, fmt.Sprintf("%04o", r.Mode), r.UID, r.GID, r.Target, r.Mount, overlay, r.Redirect, r.Metacopy})
	if err != nil {
		return nil // none of these can fail to encode
	}
	return b
}
