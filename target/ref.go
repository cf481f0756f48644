package target

import (
	"fmt"
	"slices"
	"strings"
)

// Schemes are the URL schemes that a target may have.
var Schemes = []string{"docker", "containerd", "podman", "crio", "pid", "k8s", "root", "checkpoint"}

// Ref is a parsed target URL.
type Ref struct {
	Scheme string
	Rest   string // all after "://"
}

// String is the URL again.
func (r Ref) String() string { return r.Scheme + "://" + r.Rest }

// ParseRef takes a target URL apart. Errors say what a URL looks like.
func ParseRef(s string) (Ref, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return Ref{}, fmt.Errorf("%q is not a target: a target is a URL such as docker://NAME, containerd://NAMESPACE/ID, podman://NAME or pid://PID; `sherd targets` lists what is here", s)
	}
	if !slices.Contains(Schemes, scheme) {
		return Ref{}, fmt.Errorf("unknown kind of target %q in %q: known are %s", scheme, s, strings.Join(Schemes, ", "))
	}
	if rest == "" {
		return Ref{}, fmt.Errorf("%q names no container; `sherd targets` lists what is here", s)
	}
	return Ref{scheme, rest}, nil
}

// IsRef reports whether s is meant as a target URL rather than as a file's name.
func IsRef(s string) bool {
	scheme, _, ok := strings.Cut(s, "://")
	return ok && slices.Contains(Schemes, scheme)
}

// NotFoundError says that a runtime answered and has no such container.
type NotFoundError struct {
	Runtime string   // as a person writes it: "Docker"
	Ref     string   // what was asked for
	Near    []string // names that resemble it, best first
	Others  int      // how many containers there are
}

func (e *NotFoundError) Error() string {
	near := ""
	if len(e.Near) > 0 {
		near = fmt.Sprintf(" (%s is running)", strings.Join(e.Near, ", "))
	}
	return fmt.Sprintf("no %s container named %q%s. `sherd targets` lists what is here.", e.Runtime, e.Ref, near)
}

// Near picks the names that resemble want: a shared prefix, or an edit distance of at most two, best first, at
// most three.
func Near(want string, names []string) []string {
	type cand struct {
		name string
		d    int
	}
	var cs []cand
	for _, n := range names {
		d := distance(strings.ToLower(want), strings.ToLower(n))
		if strings.HasPrefix(n, want) || strings.HasPrefix(want, n) && n != "" {
			d = min(d, 1)
		}
		if d <= 2 && d < max(len(want), 1) {
			cs = append(cs, cand{n, d})
		}
	}
	slices.SortStableFunc(cs, func(a, b cand) int { return a.d - b.d })
	var out []string
	for _, c := range cs[:min(len(cs), 3)] {
		out = append(out, c.name)
	}
	return out
}

// distance is Levenshtein's, over bytes, of strings cut to 64.
func distance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range a {
		cur := make([]int, len(b)+1)
		cur[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			cur[j+1] = min(prev[j+1]+1, cur[j]+1, prev[j]+cost)
		}
		prev = cur
	}
	return prev[len(b)]
}
