//go:build tools

// Package runc pins the runc by which the lab's node runs pods in user namespaces: Debian's is too old to map their files' owners.
package runc

import (
	_ "github.com/opencontainers/runc"
)
