package detect

import (
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/verdict"
)

// ChangedAt is when a path came to be what it is, in nanoseconds UTC, as far as the kernel's own times say: birth in the
// writable layer for what was added, modification for what was changed, the mark's own time for what was deleted. 0 is unknown.
func ChangedAt(c *inventory.Change) int64 { return changedAt(c) }

// ChangeCites are a change's rows, and the content that it left if that was kept.
func (f *Facts) ChangeCites(c *inventory.Change) []verdict.Citation { return f.fileCites(c) }

// FileCites are a file's row, and its content if that was kept.
func (f *Facts) FileCites(r *File) []verdict.Citation { return f.rowCites(r) }

// OtherRoot reports whether a process lives in another mount namespace than the container's first: a sidecar, or a debug container.
func (f *Facts) OtherRoot(p *Process) bool { return f.otherRoot(p) }

// BornOutside reports whether a process in the container's own pid namespace has a parent outside of it: the runtime started it.
func (f *Facts) BornOutside(p *Process) bool { return f.bornOutside(p) }

// RuntimeStage reports whether a process is the container runtime's own first stage, which lasts until the container's program runs.
func (f *Facts) RuntimeStage(p *Process) bool { return f.runcInit(p) == yes }

// Translates reports whether a process makes code while it runs, by its program or a library of the image.
func (f *Facts) Translates(p *Process) bool { return f.hasJIT(p) }

// MountOf is the mount that holds a path, nil for the root.
func (f *Facts) MountOf(path string) *Mount { return f.mountOf(path) }

// Told reports whether a setting of the image or the runtime, the value of a variable or an argument, says something.
func (f *Facts) Told(says func(string) bool) bool { return f.told(says) }

// Named reports whether image or runtime were told of a peer's address or port.
func (f *Facts) Named(s *Socket) bool { return f.named(s) }

// WellKnown reports whether a port is one of a service that applications call.
func WellKnown(port int) bool { return services[port] }

// HeardOf is the earliest moment at which a connection is known to have been there, in nanoseconds UTC, 0 if unknown.
func (f *Facts) HeardOf(s *Socket, p *Process) int64 { return f.heardOf(s, p) }

// Ask asks a rule of a language: blind when a fact that it needs is missing, else what check answers, in the order in which answers are
// given, and bounded.
func Ask(r *Rule, f *Facts, check func(*Answer)) Answer {
	asked := *r
	asked.check = func(_ *Facts, a *Answer) { check(a) }
	a := ask(&asked, f)
	a.Rule = r
	return a
}
