// Package subject is what every collector is given: one container, where its host's files and processes can
// be seen from here, and the processes that belonged to it when the capture began.
package subject

import (
	"path/filepath"

	"github.com/sherd-forensics/sherd/target"
)

// Subject is the container under investigation as seen from the collector.
type Subject struct {
	Container *target.Container
	// HostRoot is where the machine's root is seen: "" on the machine itself, "/host" in a collector's pod.
	HostRoot string
	// Proc is where the machine's /proc is seen.
	Proc string
	// Processes are the container's at the start of the capture, in order of pid.
	Processes []Process
}

// Process identifies one process: a pid alone is not enough, since pids are used again.
type Process struct {
	PID          int
	ContainerPID int    // inside its own pid namespace, 0 if unknown
	StartTicks   uint64 // field 22 of /proc/<pid>/stat
	Relation     string // record.InCgroup, record.InNamespaces or record.Descendant
}

// Host maps a path on the machine's root to where it is seen from here.
func (s Subject) Host(path string) string {
	if s.HostRoot == "" {
		return path
	}
	return filepath.Join(s.HostRoot, path)
}
