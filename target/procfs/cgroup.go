package procfs

import (
	"bytes"
	"regexp"
	"strings"
)

// Cgroup is one line of /proc/PID/cgroup, cgroups(7).
type Cgroup struct {
	Controllers string // "memory", "name=systemd", "" for version 2
	Path        string
}

// ParseCgroup takes /proc/PID/cgroup apart; a path may hold colons.
func ParseCgroup(b []byte) []Cgroup {
	var out []Cgroup
	for line := range bytes.Lines(b) {
		if len(out) == 64 { // the kernel has some 14 hierarchies at most
			break
		}
		f := strings.SplitN(strings.TrimRight(string(line), "\n"), ":", 3)
		if len(f) == 3 && strings.HasPrefix(f[2], "/") {
			out = append(out, Cgroup{f[1], f[2]})
		}
	}
	return out
}

// CgroupOf picks the path that says most about a process: the deepest one, which all hierarchies that a container
// runtime manages share. The unified or memory hierarchy wins a tie.
func CgroupOf(cs []Cgroup) string {
	best, depth := "", -1
	for _, c := range cs {
		d := strings.Count(strings.TrimRight(c.Path, "/"), "/")
		if d > depth || d == depth && (c.Controllers == "" || strings.Contains(c.Controllers, "memory")) {
			best, depth = c.Path, d
		}
	}
	return best
}

// Named is a container as a cgroup's path names it.
type Named struct {
	ID     string
	Engine string // docker, containerd, crio, podman, or "" when the path does not say
	Path   string // up to the container's own cgroup; processes may sit in cgroups below it
}

var (
	hexID = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// scoped is what systemd's cgroup driver and libpod make: PREFIX-ID.scope, PREFIX-ID.
	scoped = regexp.MustCompile(`^([a-zA-Z][a-zA-Z0-9_-]*)-([0-9a-f]{64})(?:\.scope)?$`)
	// engines by the prefix in scope names.
	engines = map[string]string{"docker": "docker", "cri-containerd": "containerd", "nerdctl": "containerd", "crio": "crio", "libpod": "podman"}
)

// ContainerOf finds the container that a cgroup's path belongs to, by the forms that the known runtimes give their
// paths, on cgroup v1, v2 and both. The deepest match wins: a container may run in another. A runtime's own monitor
// (conmon) is no container.
func ContainerOf(path string) (Named, bool) {
	elements := strings.Split(path, "/")
	for i := len(elements) - 1; i > 0; i-- {
		n, ok := element(elements, i)
		if ok {
			n.Path = strings.Join(elements[:i+1], "/")
			return n, true
		}
	}
	return Named{}, false
}

func element(elements []string, i int) (Named, bool) {
	e := elements[i]
	// containerd with systemd's names on the cgroupfs driver: SLICE:cri-containerd:ID.
	if f := strings.Split(e, ":"); len(f) == 3 && hexID.MatchString(f[2]) {
		return Named{ID: f[2], Engine: engines[f[1]]}, true
	}
	if hexID.MatchString(e) {
		engine := ""
		if i > 0 && elements[i-1] == "docker" {
			engine = "docker"
		}
		return Named{ID: e, Engine: engine}, true
	}
	m := scoped.FindStringSubmatch(e)
	if m == nil || strings.HasSuffix(m[1], "conmon") {
		return Named{}, false
	}
	return Named{ID: m[2], Engine: engines[m[1]]}, true
}
