package journal

import (
	"slices"
	"strings"
)

// maxPending bounds the lines that wait for their last piece.
const maxPending = 64

// piece is a line of a container that came in pieces: Docker's and Podman's drivers cut what is longer than they like.
type piece struct {
	key   string
	first entry
	text  []byte
	more  bool // there was more than is kept
	count int
	last  int64 // where the last piece stands
}

// join adds an entry of a container to the line that it belongs to. The event cites the first piece: others stand between them.
func (w *writer) join(e *entry) error {
	// Docker gives the line a number; without one, pieces of one container and stream follow each other.
	key := strings.Join([]string{e.get("CONTAINER_ID_FULL"), e.get("PRIORITY"), e.get("CONTAINER_PARTIAL_ID")}, "\x00")
	goesOn := e.get("CONTAINER_PARTIAL_MESSAGE") == "true" && e.get("CONTAINER_PARTIAL_LAST") != "true"
	i := slices.IndexFunc(w.pending, func(p piece) bool { return p.key == key })
	if i < 0 {
		if !goesOn {
			return w.event(e, nil)
		}
		if len(w.pending) >= maxPending {
			if err := w.flush(0); err != nil {
				return err
			}
		}
		first := *e
		first.fields = slices.Clone(e.fields)
		w.pending = append(w.pending, piece{key: key, first: first})
		i = len(w.pending) - 1
	}
	p := &w.pending[i]
	text := e.get("MESSAGE")
	room := maxMessage - len(p.text)
	p.more = p.more || len(text) > room
	p.text = append(p.text, text[:min(len(text), room)]...)
	p.count++
	p.last = e.offset
	p.first.unread += min(e.unread, 1)
	if goesOn {
		return nil
	}
	return w.flush(i)
}

// flush emits the line at i of those that wait.
func (w *writer) flush(i int) error {
	p := w.pending[i]
	w.pending = slices.Delete(w.pending, i, i+1)
	e := p.first
	for i := range e.fields {
		if f := &e.fields[i]; f.name == "MESSAGE" {
			f.value, f.cut = string(p.text), f.cut || p.more
		}
	}
	return w.event(&e, &p)
}

// end emits what still waits when the content ends.
func (w *writer) end() error {
	for len(w.pending) > 0 {
		w.pending[0].first.cut = true
		if err := w.flush(0); err != nil {
			return err
		}
	}
	return nil
}
