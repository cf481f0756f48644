//go:build tools

// Package containerd pins the containerd that the lab's node runs: newer than Debian's, since its CRI can make checkpoints.
package containerd

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
)
