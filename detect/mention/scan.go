package mention

import (
	"context"

	"github.com/sherd-forensics/sherd/detect/core"
)

// Placed is a mention with its place in the memory of a process.
type Placed struct {
	Mention
	At      int64  // offset in the artifact
	Addr    uint64 // in memory; of a file the offset too
	Mapping int    // index into the image's Maps, -1 for a file
}

// maxPerWindow bounds what one window gives, so that a window full of short mentions doesn't fill memory.
const maxPerWindow = 50_000

// Scan hands take every mention of an image in the order of addresses, until take says false. progress may be nil.
func Scan(ctx context.Context, m *core.Image, take func(Placed) bool, progress func(done int64)) error {
	look := func(w core.Window) []Placed {
		var out []Placed
		Find(w.Bytes, w.From, w.To, func(x Mention) {
			if len(out) < maxPerWindow {
				out = append(out, Placed{x, w.Offset + int64(x.Offset), w.Addr + uint64(x.Offset), w.Run.Mapping})
			}
		})
		return out
	}
	return core.Scan(ctx, m, look, func(found []Placed) bool {
		for _, x := range found {
			if !take(x) {
				return false
			}
		}
		return true
	}, progress)
}
