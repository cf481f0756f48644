package detect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/verdict"
)

// tokenElsewhereRule is public to nobody: investigations know its findings by TokenElsewhere.
var tokenElsewhereRule = Rule{
	ID: TokenElsewhere, Title: "The pod's token was used from an address that the pod does not have", Severity: verdict.High, Technique: "T1078.004",
	Rationale:   "The API server's audit log names the pod that a token was made for. The token lies in that pod alone, and the pod calls from its own address: who calls with it from another one has a copy.",
	FalseAlarms: "A way between pod and API server that changes addresses (a proxy, translation behind the node): then the pod's own calls come from there too, so it weighs only where others of its calls come from the pod or its node, and those from the other address began after the pod had called from home. Tools that lend developers a pod's identity do the same on purpose.",
	Needs:       []Fact{Audit}, Deeper: true, check: tokenElsewhere,
}

var startedAgainRule = Rule{
	ID: "pod-container-restarts", Title: "The kubelet started the container again after it had ended", Severity: verdict.Low, Technique: "T1489",
	Rationale:   "A program that is brought down, or an implant that breaks what it hooks, ends the container; what lies on the pod's volumes starts with the next one.",
	FalseAlarms: "Applications crash, run out of memory and fail their probes all by themselves: it never weighs.",
	Needs:       []Fact{PodStatus}, check: startedAgain,
}

// TokenElsewhere is the rule of tokens that are used from where their pod is not.
const TokenElsewhere = "identity-token-elsewhere"

func clusterRules() []Rule { return []Rule{tokenElsewhereRule, startedAgainRule} }

// Elsewhere are the calls with the pod's own token from addresses that are neither the pod's nor its node's, where others of its calls show
// that addresses are kept.
func (f *Facts) Elsewhere() []Call {
	c := f.Cluster
	if c == nil {
		return nil
	}
	home := f.firstFromHome()
	if home == 0 {
		return nil
	}
	var out []Call
	for i := range c.Calls {
		if x := &c.Calls[i]; x.Pod != "" && x.Pod == c.Pod.Metadata.Name && x.From != "" && !f.fromHome(x) && x.Time > home {
			out = append(out, *x)
		}
	}
	// An address from which the pod called before it ever did from home is one that its way has.
	return slices.DeleteFunc(out, func(x Call) bool {
		return slices.ContainsFunc(c.Calls, func(y Call) bool { return y.Pod == x.Pod && y.From == x.From && y.Time < home })
	})
}

func (f *Facts) fromHome(x *Call) bool {
	return f.Cluster.Home(x.From) || slices.ContainsFunc(f.Sockets, func(s Socket) bool { return !s.Shared && s.LocalIP == x.From })
}

// firstFromHome is when the pod first called from its own address or its node's; 0 if it never did.
func (f *Facts) firstFromHome() int64 {
	for i := range f.Cluster.Calls {
		if x := &f.Cluster.Calls[i]; x.Pod != "" && x.Pod == f.Cluster.Pod.Metadata.Name && f.fromHome(x) {
			return x.Time
		}
	}
	return 0
}

func tokenElsewhere(f *Facts, a *Answer) {
	calls := f.Elsewhere()
	var from []string
	for i := range calls {
		if !slices.Contains(from, calls[i].From) && len(from) < perRule {
			from = append(from, calls[i].From)
		}
	}
	for _, addr := range from {
		fd := Finding{Key: f.Cluster.Identity}
		n := 0
		var agents, did []string
		for i := range calls {
			x := &calls[i]
			if x.From != addr {
				continue
			}
			if n++; n == 1 {
				fd.When = x.Time
			}
			if len(fd.Citations) < 16 {
				fd.Citations = append(fd.Citations, x.Cite)
			}
			if !slices.Contains(agents, x.Agent) && x.Agent != "" {
				agents = append(agents, x.Agent)
			}
			if d := x.Did(); !slices.Contains(did, d) {
				did = append(did, d)
			}
		}
		fd.Statement = fmt.Sprintf("the token of pod %s was used from %s, which is neither the pod's address nor its node's: %s, %s", say(f.Cluster.Pod.Metadata.Name), say(addr), plural(int64(n), "call"), few(did, 4))
		if len(agents) > 0 {
			fd.Statement += ", by a client that calls itself " + few(agents, 2)
		}
		if f.Cluster.PodCite.SHA256 != "" {
			fd.Citations = append(fd.Citations, f.Cluster.PodCite)
		}
		a.hit(fd)
	}
}

// Did says in a few words what a call asked for: "get secret shop/payment".
func (c *Call) Did() string {
	if c.Verb == "" {
		return say(c.Words)
	}
	what := c.Resource
	if one, ok := strings.CutSuffix(what, "s"); ok && c.Name != "" && !strings.Contains(what, "/") {
		what = one
	}
	place := c.Name
	if c.Namespace != "" {
		place = c.Namespace + "/" + c.Name
		if c.Name == "" {
			place = "in " + c.Namespace
		}
	}
	return say(strings.TrimSpace(c.Verb + " " + what + " " + place))
}

func few(all []string, n int) string {
	for i := range all {
		all[i] = say(all[i])
	}
	if len(all) > n {
		return strings.Join(all[:n], ", ") + fmt.Sprintf(" and %d more", len(all)-n)
	}
	return strings.Join(all, ", ")
}

func startedAgain(f *Facts, a *Answer) {
	s := f.Status()
	if s == nil || s.RestartCount == 0 || f.Cluster.PodCite.SHA256 == "" {
		return
	}
	fd := Finding{Finding: verdict.Finding{Citations: []verdict.Citation{f.Cluster.PodCite}}}
	fd.Statement = "the kubelet has started the container " + say(s.Name) + " again " + plural(int64(s.RestartCount), "time")
	end := s.LastState.Terminated
	if s.State.Terminated != nil {
		end = s.State.Terminated
	}
	if end != nil {
		fd.Statement += fmt.Sprintf("; it ended the last time with exit code %d", end.ExitCode)
		if end.Reason != "" {
			fd.Statement += " (" + say(end.Reason) + ")"
		}
		if !end.StartedAt.IsZero() && !end.FinishedAt.IsZero() {
			fd.Statement += ", " + end.FinishedAt.Sub(end.StartedAt).String() + " after its start"
		}
		if !end.FinishedAt.IsZero() {
			fd.When = end.FinishedAt.UnixNano()
		}
	}
	if w := s.State.Waiting; w != nil && w.Reason != "" {
		fd.Statement += "; now it waits: " + say(w.Reason)
	}
	a.hit(fd)
}
