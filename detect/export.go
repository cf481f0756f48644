package detect

import "github.com/sherd-forensics/sherd/parse/inventory"

// ChangedAt is when a path came to be what it is, in nanoseconds UTC, as far as the kernel's own times say: birth in the
// writable layer for what was added, modification for what was changed, the mark's own time for what was deleted. 0 is unknown.
func ChangedAt(c *inventory.Change) int64 { return changedAt(c) }
