// Package detect holds the rules: questions to the sealed evidence of one container, each with three answers. A rule hits,
// or is clean, or is blind, because the facts that it needs were not collected. Rules see nothing but Facts, which
// come from the package alone, so the same bytes give the same answers in the same order.
package detect

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sherd-forensics/sherd/verdict"
)

// Fact names one kind of evidence that a rule may need.
type Fact string

// The facts.
const (
	Processes    Fact = "processes"    // process/processes.jsonl
	Environments Fact = "environments" // process/<pid>/environ
	Memory       Fact = "memory"       // process/<pid>/memory.jsonl
	Inventory    Fact = "inventory"    // filesystem/inventory.jsonl
	Baseline     Fact = "baseline"     // the image's files in the inventory, without which nothing can be called drift
	Mounts       Fact = "mounts"       // volumes/mounts.jsonl
	Sockets      Fact = "sockets"      // network/sockets.jsonl
	Node         Fact = "node"         // host/host.json and the machine's settings beside it
	Config       Fact = "config"       // target/: what the image and the runtime were told
	PodStatus    Fact = "pod"          // target/kubernetes/pod.json, of a pod
	Audit        Fact = "audit"        // target/kubernetes/audit.jsonl, of a pod
)

// Rule is one question to the evidence, as data that `sherd rules` can list, with the function that answers it.
type Rule struct {
	ID    string
	Title string
	// Severity is that of its gravest hit; a hit may be graded lower.
	Severity  verdict.Severity
	Technique string // MITRE ATT&CK id
	Rationale string // why a hit means what it is said to mean
	// FalseAlarms says what else looks like a hit, and how the rule tells it apart.
	FalseAlarms string
	Needs       []Fact
	// Language is that of a rule that is not Sherd's own Go: YARA, Sigma or CEL; "" for the rules of this package.
	Language string
	// Origin is the file that a rule came from, "" for what Sherd brings along. Rules of a user's hit and count like any other, but what
	// they were blind for says nothing of how well Sherd itself could see.
	Origin string
	// Deeper rules read what an interpreter keeps in its memory, in a form that changes with its versions, or what a cluster's own log says, which
	// few captures are given. What they can't tell is a gap and lowers the confidence, but is no reason not to call a container clean: what an
	// intruder in there does next is seen by other rules.
	Deeper bool
	check  func(*Facts, *Answer)
}

// State is a rule's answer in one word.
type State string

// The three answers. A rule that hit may have been blind for a part; Answer.Blind says for which.
const (
	Hit   State = "hit"
	Clean State = "clean"
	Blind State = "blind"
)

// Finding is one hit with what an investigation links it by.
type Finding struct {
	verdict.Finding
	PID    int    // as the collector's /proc numbers it, 0 if no process is concerned
	Path   string // of the file concerned, raw bytes, "" if none
	SHA256 string // of that file
	Peer   string // ip:port of the other end of a connection, "" if none is concerned
	When   int64  // nanoseconds UTC, 0 unknown: when it began
	// Container is the id of another container that is concerned, Key the name (never the value) of a credential.
	Container, Key string
	Foreign        bool // the process or file concerned is taken for the intruder's
}

// Blindness says what a rule could not look at.
type Blindness struct {
	What string
	Why  string
}

// Answer is what one rule has to say.
type Answer struct {
	Rule  *Rule
	Hits  []Finding
	Blind []Blindness
}

// State is the answer in one word: a hit outweighs blindness.
func (a *Answer) State() State {
	switch {
	case len(a.Hits) > 0:
		return Hit
	case len(a.Blind) > 0:
		return Blind
	}
	return Clean
}

// Gravest is the severity of the gravest hit, Info when there is none.
func (a *Answer) Gravest() verdict.Severity {
	s := verdict.Info
	for i := range a.Hits {
		if a.Hits[i].Severity.Rank() > s.Rank() {
			s = a.Hits[i].Severity
		}
	}
	return s
}

// Add notes a hit, filling in from the rule what f leaves open. It is for rules outside of this package, which link
// findings with logs.
func (a *Answer) Add(f Finding) { a.hit(f) }

func (a *Answer) hit(f Finding) {
	f.Rule = a.Rule.ID
	if f.Severity == "" {
		f.Severity = a.Rule.Severity
	}
	if f.Technique == "" {
		f.Technique = a.Rule.Technique
	}
	if f.Time == "" {
		f.Time = Time(f.When)
	}
	a.Hits = append(a.Hits, f)
}

func (a *Answer) blind(what, why string) {
	b := Blindness{what, why}
	if !slices.Contains(a.Blind, b) {
		a.Blind = append(a.Blind, b)
	}
}

// Rules is the list of all rules, in the order in which their answers are given.
func Rules() []Rule {
	var all []Rule
	all = append(all, processRules()...)
	all = append(all, sharingRules()...)
	all = append(all, memoryRules()...)
	all = append(all, evaluatedRules()...)
	all = append(all, javaRules()...)
	all = append(all, networkRules()...)
	all = append(all, orderRules()...)
	all = append(all, fileRules()...)
	all = append(all, environmentRules()...)
	all = append(all, clusterRules()...)
	return all
}

// Run asks every rule. Answers stand in the rules' order, hits by severity, then time, then place.
func Run(f *Facts) []Answer {
	rules := Rules()
	out := make([]Answer, len(rules))
	for i := range rules {
		out[i] = ask(&rules[i], f)
	}
	return out
}

func ask(r *Rule, f *Facts) Answer {
	a := Answer{Rule: r}
	for _, need := range r.Needs {
		if why, missing := f.Missing[need]; missing {
			a.blind(factNames[need], why)
		}
	}
	if len(a.Blind) > 0 {
		return a
	}
	r.check(f, &a)
	slices.SortStableFunc(a.Hits, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(y.Severity.Rank(), x.Severity.Rank()), cmp.Compare(x.When, y.When),
			cmp.Compare(x.PID, y.PID), cmp.Compare(x.Path, y.Path), cmp.Compare(x.Statement, y.Statement))
	})
	if rest := len(a.Hits) - maxHits; rest > 0 {
		f := a.Hits[maxHits]
		f.Statement = fmt.Sprintf("%d more like it, the next: %s", rest, f.Statement)
		a.Hits = append(a.Hits[:maxHits:maxHits], f)
	}
	return a
}

// maxHits bounds what one rule tells one by one; the gravest come first.
const maxHits = 200

var factNames = map[Fact]string{
	Processes: "processes", Environments: "environments of processes", Memory: "memory maps", Inventory: "files of the container and its image",
	Baseline: "files of the image", Mounts: "mounts", Sockets: "sockets", Node: "the machine's settings", Config: "configuration of the image and the runtime",
	PodStatus: "what the API server says of the pod", Audit: "calls in the API server's audit log",
}
