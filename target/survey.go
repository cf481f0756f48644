package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Kinds of Anomaly.
const (
	HiddenContainer = "hidden-container"
	StrayProcess    = "stray-process"
	// EscapedProcess is one that the container's cgroup holds, but whose mounts and pids are the machine's.
	EscapedProcess = "escaped-process"
)

// Survey is everything that runs or lies here, as the runtimes and the kernel tell it.
type Survey struct {
	// Containers of all runtimes, none twice: of one that several know, the entry of the runtime that stands highest.
	Containers []*Container
	Anomalies  []Anomaly
	// Silent are the runtimes that could not be asked. While one is silent, a container that only the kernel shows
	// may be its, so it is listed without an anomaly where its cgroup or shim says so.
	Silent []error
}

// NewSurvey asks every runtime at once, the highest first in rts (Docker before the containerd below it), and compares with what
// the kernel shows. scan may be nil. Its error is that of ctx, or of the scan; a runtime that fails is in Silent.
func NewSurvey(ctx context.Context, rts []Runtime, scan Scanner) (*Survey, error) {
	lists := make([][]*Container, len(rts))
	errs := make([]error, len(rts))
	var wg sync.WaitGroup
	for i, rt := range rts {
		wg.Go(func() { lists[i], errs[i] = rt.List(ctx) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	sv := &Survey{}
	for i, err := range errs {
		var silent *SilentError
		switch {
		case errors.As(err, &silent): // it names its runtime
			sv.Silent = append(sv.Silent, err)
		case err != nil:
			sv.Silent = append(sv.Silent, fmt.Errorf("%s: %w", rts[i].Scheme(), err))
		}
	}
	sv.Containers = merge(lists)
	if scan == nil {
		return sv, nil
	}
	k, err := scan.Kernel(ctx)
	if err != nil {
		return sv, err
	}
	if 2*k.Unreadable > len(k.Processes) {
		sv.Silent = append(sv.Silent, fmt.Errorf("the kernel hides the namespaces of %d of %d processes from this user, so containers that run may be missing: run with sudo", k.Unreadable, len(k.Processes)))
	}
	hidden := sv.compare(k)
	if len(hidden) > 0 {
		// A container that was started between the two looks is not hidden: ask the runtimes again.
		for i, rt := range rts {
			if again, err := rt.List(ctx); err == nil {
				lists[i] = again
			}
		}
		sv.Containers = merge(lists)
		hidden = sv.compare(k)
	}
	again, err := scan.Kernel(ctx)
	if err != nil {
		return sv, err
	}
	for _, c := range hidden {
		if still := find(again.Containers, c); still != nil { // it may have ended
			sv.Containers = append(sv.Containers, c)
			if a, ok := sv.suspect(c, k); ok {
				sv.Anomalies = append(sv.Anomalies, a)
			}
		}
	}
	sv.Anomalies = append(sv.Anomalies, Strays(sv.Containers, k, again)...)
	return sv, nil
}

// merge puts the lists together; of a container that two runtimes know, the first one's entry stays.
func merge(lists [][]*Container) []*Container {
	var out []*Container
	seen := map[string]*Container{}
	for _, l := range lists {
		for _, c := range l {
			if first := seen[c.ID]; first != nil && first.Runtime != c.Runtime {
				if first.PID == 0 && c.PID != 0 {
					first.Warn(fmt.Sprintf("%s says that it does not run, %s says that it runs as process %d", first.Runtime, c.Runtime, c.PID))
				}
				continue
			}
			seen[c.ID] = c
			out = append(out, c)
		}
	}
	return out
}

// same reports whether a container of a runtime's and one that the kernel shows are one.
func same(c, shown *Container) bool {
	if c.PID != 0 && c.PID == shown.PID {
		return true
	}
	return c.ID == shown.ID && (c.Namespace == "" || shown.Namespace == "" || c.Namespace == shown.Namespace)
}

func find(cs []*Container, shown *Container) *Container {
	for _, c := range cs {
		if same(c, shown) {
			return c
		}
	}
	return nil
}

// compare gives the containers of the kernel's that no runtime told of, and lets what the kernel knows stand beside what the
// runtimes said of the others.
func (sv *Survey) compare(k *Kernel) []*Container {
	var hidden []*Container
	for _, shown := range k.Containers {
		c := find(sv.Containers, shown)
		if c == nil {
			hidden = append(hidden, shown)
			continue
		}
		if c.CgroupPath == "" {
			c.CgroupPath = shown.CgroupPath
		}
		if c.PID == 0 && (c.State == Exited || c.State == Created) {
			c.Warn(fmt.Sprintf("%s says that it does not run, but process %d does", c.Runtime, shown.PID))
			c.PID, c.State = shown.PID, shown.State
		}
	}
	return hidden
}

// suspect judges a container that no runtime told of. There is no anomaly when the runtime that owns it, by its shim or cgroup,
// could not be asked; nor for a sandbox that a program made with a user namespace of its own, which needs no
// privilege; nor for one inside a container that is known.
func (sv *Survey) suspect(c *Container, k *Kernel) (Anomaly, bool) {
	p := k.Processes[c.PID]
	for _, known := range sv.Containers {
		if known.PID != 0 && known.PID != c.PID && own(known.CgroupPath) && p.In(known.CgroupPath) {
			return Anomaly{}, false
		}
	}
	if p.NS.User != 0 && k.Host.User != 0 && p.NS.User != k.Host.User && !strings.Contains(c.CgroupPath, "kubepods") {
		return Anomaly{}, false
	}
	a := Anomaly{Kind: HiddenContainer, PID: c.PID, Container: c.URL}
	what := fmt.Sprintf("process %d (%s) runs in a container that no runtime here admits to", c.PID, p.Comm)
	if len(sv.Silent) > 0 {
		what = fmt.Sprintf("process %d (%s) runs in a container that none of the runtimes that answered admits to", c.PID, p.Comm)
		var silent *SilentError
		for _, err := range sv.Silent {
			if errors.As(err, &silent) && !silent.Absent && silent.owns(c) {
				return Anomaly{}, false
			}
		}
	}
	if c.CgroupPath != "" {
		what += ", in cgroup " + c.CgroupPath
	}
	if c.Namespace != "" {
		what += ", looked after by a shim for containerd's namespace " + c.Namespace
	}
	a.Statement = what
	return a, true
}

// owns reports whether a container of the kernel's looks like the silent runtime's.
func (e *SilentError) owns(c *Container) bool {
	switch e.Runtime {
	case "Docker":
		return strings.Contains(c.CgroupPath, "docker") || c.Namespace == "moby"
	case "containerd":
		return c.Namespace != "" || strings.Contains(c.CgroupPath, "containerd")
	case "Podman":
		return strings.Contains(c.CgroupPath, "libpod")
	}
	return false
}

func own(cgroup string) bool { return strings.Trim(cgroup, "/") != "" }

// Strays finds the processes in the namespaces of running containers that no container's cgroup holds, and those that a
// cgroup holds but whose mounts and pids are the machine's. Only what two scans agree on counts: while a
// runtime starts or joins a container, its own processes pass through such states.
func Strays(cs []*Container, first, again *Kernel) []Anomaly {
	var out []Anomaly
	for _, pid := range sorted(first.Processes) {
		p, q := first.Processes[pid], again.Processes[pid]
		a, ok := stray(cs, first, p)
		if !ok || p.StartTicks != q.StartTicks {
			continue
		}
		if b, still := stray(cs, again, q); still && b.Kind == a.Kind && b.Container == a.Container {
			out = append(out, b)
		}
	}
	return out
}

// Check finds the strays and escapes of one container.
func Check(ctx context.Context, c *Container, scan Scanner) ([]Anomaly, error) {
	first, err := scan.Kernel(ctx)
	if err != nil {
		return nil, err
	}
	again, err := scan.Kernel(ctx)
	if err != nil {
		return nil, err
	}
	cs := []*Container{c} // the others only explain whose cgroup a process is in
	for _, o := range first.Containers {
		if !same(c, o) {
			cs = append(cs, o)
		}
	}
	return slices.DeleteFunc(Strays(cs, first, again), func(a Anomaly) bool { return a.Container != c.URL }), nil
}

func sorted(m map[int]Process) []int {
	out := make([]int, 0, len(m))
	for pid := range m {
		out = append(out, pid)
	}
	slices.Sort(out)
	return out
}

func stray(cs []*Container, k *Kernel, p Process) (Anomaly, bool) {
	for _, c := range cs { // in one's cgroup: that container's, and sharing with others is by arrangement
		if c.PID == 0 || c.PID != p.PID && (!own(c.CgroupPath) || !p.In(c.CgroupPath)) {
			continue
		}
		first, ok := k.Processes[c.PID]
		if ok && p.PID != c.PID && p.NS.Mnt != 0 && p.NS.Mnt == k.Host.Mnt && p.NS.PID == k.Host.PID &&
			first.NS.Mnt != k.Host.Mnt && first.NS.PID != k.Host.PID && first.NS.PID != 0 && deepest(cs, p) == c {
			return Anomaly{Kind: EscapedProcess, PID: p.PID, Container: c.URL, Statement: fmt.Sprintf(
				"process %d (%s) is in the cgroup of %s, but sees the mounts and processes of the machine itself", p.PID, p.Comm, c.URL)}, true
		}
		return Anomaly{}, false
	}
	for _, c := range cs {
		first, ok := k.Processes[c.PID]
		if c.PID == 0 || !ok || !own(c.CgroupPath) && (descends(k, p, c.PID) || first.PPID > 1 && descends(k, p, first.PPID)) {
			continue // without a cgroup of its own, a container's are what its first process or its shim started
		}
		var shared []string
		for _, n := range []struct {
			name          string
			p, host, cont uint64
		}{{"pid", p.NS.PID, k.Host.PID, first.NS.PID}, {"mount", p.NS.Mnt, k.Host.Mnt, first.NS.Mnt}, {"network", p.NS.Net, k.Host.Net, first.NS.Net}} {
			if n.p != 0 && n.host != 0 && n.p == n.cont && n.p != n.host {
				shared = append(shared, n.name)
			}
		}
		if len(shared) == 0 {
			continue
		}
		if len(shared) == 1 && shared[0] == "network" && helper(p) {
			continue
		}
		return Anomaly{Kind: StrayProcess, PID: p.PID, Container: c.URL, Statement: fmt.Sprintf(
			"process %d (%s) is in the %s of %s, but no container's cgroup holds it", p.PID, p.Comm, spaces(shared), c.URL)}, true
	}
	return Anomaly{}, false
}

func spaces(kinds []string) string {
	if len(kinds) == 1 {
		return kinds[0] + " namespace"
	}
	return strings.Join(kinds[:len(kinds)-1], ", ") + " and " + kinds[len(kinds)-1] + " namespaces"
}

// deepest is the container whose cgroup is nearest to the process.
func deepest(cs []*Container, p Process) *Container {
	var best *Container
	for _, c := range cs {
		if own(c.CgroupPath) && p.In(c.CgroupPath) && (best == nil || cmp.Compare(len(c.CgroupPath), len(best.CgroupPath)) > 0) {
			best = c
		}
	}
	return best
}

// descends reports whether the process numbered of is p or an ancestor of it.
func descends(k *Kernel, p Process, of int) bool {
	for i := 0; p.PID > 1 && i < 1<<16; i++ {
		if p.PID == of {
			return true
		}
		p = k.Processes[p.PPID]
	}
	return false
}

// helper knows the programs that lend a rootless container its network from outside: they stand in its network namespace and
// with the machine's mounts.
func helper(p Process) bool {
	return slices.Contains([]string{"slirp4netns", "pasta", "pasta.avx2", "passt", "rootlessport", "rootlessport-ch", "rootlesskit", "vpnkit", "aardvark-dns"}, p.Comm)
}
