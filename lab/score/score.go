// Package score holds verdicts against what is known to be true of the lab's scenarios.
package score

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/verdict"
)

// Result is how one verdict stands to the truth.
type Result struct {
	Scenario, Variant string
	Control           bool
	Verdict           verdict.Judgement
	Confidence        float64
	// VerdictRight: it is one that the truth allows. CauseRight: technique, time and a cited line are the truth's, or nothing is said
	// where nothing can be known; true for controls that name none.
	VerdictRight, CauseRight bool
	CauseConfidence          float64 // 0 where none is named
	Basis                    string  // the inference rule that the root cause rests on
	// Named and Wanted count facts of scope and impact that must be named; Right and Said count what was said of which kind.
	Named, Wanted, Right, Said int
	// Gravest is that of the findings, for controls.
	Gravest verdict.Severity
	// Faults names each thing that is wrong or missing.
	Faults  []string
	Seconds float64 // of the investigation
}

// slack is how far a time may be off: logs are stamped after what they tell.
const slack = 2 * time.Second

// Judge compares a verdict with the truth. The package shows the bytes that the root cause cites.
func Judge(s *lab.Scenario, variant string, p *lab.Played, v *verdict.Verdict, pkg *evidence.Package) Result {
	r := Result{Scenario: s.Name, Variant: variant, Control: p.Truth.Entry == nil, Verdict: v.Verdict, Confidence: v.Confidence, Gravest: verdict.Info}
	fault := func(format string, args ...any) { r.Faults = append(r.Faults, fmt.Sprintf(format, args...)) }
	if r.VerdictRight = slices.Contains(p.Truth.Verdict, string(v.Verdict)); !r.VerdictRight {
		fault("verdict is %s, not %s", v.Verdict, strings.Join(p.Truth.Verdict, " or "))
	}
	for i := range v.Findings {
		if f := &v.Findings[i]; f.Severity.Rank() > r.Gravest.Rank() {
			r.Gravest = f.Severity
		}
	}
	if r.Control {
		for i := range v.Findings {
			if f := &v.Findings[i]; f.Severity.Rank() > verdict.Low.Rank() {
				fault("accuses: %s (%s): %s", f.Rule, f.Severity, f.Statement)
			}
		}
	}
	why := cause(&p.Truth, p, v.RootCause, pkg)
	r.CauseRight = why == ""
	if why != "" {
		fault("root cause: %s", why)
	}
	if v.RootCause != nil {
		r.CauseConfidence, r.Basis = v.RootCause.Confidence, v.RootCause.Basis
	}
	scope(&r, &p.Truth, v, fault)
	return r
}

// cause says what is wrong with a root cause, "" if nothing.
func cause(t *lab.ScenarioTruth, p *lab.Played, c *verdict.RootCause, pkg *evidence.Package) string {
	e := t.Entry
	switch {
	case e == nil || e.Unknown:
		if c != nil {
			return "named, where there is none to be known: " + c.Statement
		}
		return ""
	case c == nil && e.MayBeUnknown:
		return ""
	case c == nil:
		return "none is named"
	case !slices.Contains(strings.Fields(e.Technique), c.Technique):
		return "technique " + c.Technique + ", not " + e.Technique
	}
	at, err := time.Parse(time.RFC3339Nano, c.Time)
	if err != nil || at.Before(p.Began.Add(-slack)) || at.After(p.Ended.Add(slack)) {
		return fmt.Sprintf("at %q, not between %s and %s", c.Time, p.Began.Format(time.RFC3339Nano), p.Ended.Format(time.RFC3339Nano))
	}
	if e.Request == "" || cites(c.Citations, e.Request, pkg) {
		return ""
	}
	return "no cited bytes hold " + e.Request + ": " + c.Statement
}

// cites reports whether the words of a request, method and path, are in the bytes of a citation.
func cites(cs []verdict.Citation, request string, pkg *evidence.Package) bool {
	for _, c := range cs {
		a, err := pkg.Open(c.Artifact)
		if err != nil {
			continue
		}
		b := make([]byte, min(c.Length, 64<<10))
		n, _ := a.ReadAt(b, c.Offset)
		text := strings.ReplaceAll(string(b[:n]), `\u0026`, "&")
		if !slices.ContainsFunc(strings.Fields(request), func(w string) bool { return !strings.Contains(text, w) }) {
			return true
		}
	}
	return false
}

func scope(r *Result, t *lab.ScenarioTruth, v *verdict.Verdict, fault func(string, ...any)) {
	for _, f := range t.Scope {
		r.Wanted++
		if slices.ContainsFunc(v.Scope, func(e verdict.Entity) bool { return is(f, e) }) {
			r.Named++
		} else {
			fault("scope lacks %s %s %s", f.Type, f.Value, f.Role)
		}
	}
	for _, e := range v.Scope {
		r.Said++
		known := func(f lab.Fact) bool { return is(f, e) }
		switch {
		case slices.ContainsFunc(t.Never, known):
			fault("scope names %s, which it must not (%s: %s)", e.ID(), e.Role, e.Why)
		case slices.ContainsFunc(t.Scope, known) || slices.ContainsFunc(t.May, known):
			r.Right++
		default:
			fault("scope names %s, which is not true (%s: %s)", e.ID(), e.Role, e.Why)
		}
	}
	for _, kind := range t.Impact {
		r.Wanted++
		if slices.ContainsFunc(v.Impact, func(i verdict.Impact) bool { return i.Type == kind }) {
			r.Named++
		} else {
			fault("impact lacks %s", kind)
		}
	}
	for _, i := range v.Impact {
		r.Said++
		if slices.Contains(t.Impact, i.Type) || slices.Contains(t.MayImpact, i.Type) {
			r.Right++
		} else {
			fault("impact names %s, which is not true: %s", i.Type, i.Statement)
		}
	}
}

// Ordered holds a verdict over several containers against the order in which they were touched: it is two facts more of the first one's, who
// was first and that each was reached from the one before.
func Ordered(r *Result, order []string, ids map[string]string, v *verdict.Verdict) {
	fault := func(format string, args ...any) { r.Faults = append(r.Faults, fmt.Sprintf(format, args...)) }
	r.Wanted += 2
	var got, want []string
	for _, name := range order {
		want = append(want, ids[name])
	}
	for i := range v.Containers {
		got = append(got, v.Containers[i].Target.ID)
	}
	if slices.Equal(got, want) {
		r.Named++
	} else {
		fault("over all, the order is %q, not %q", got, want)
	}
	n := 0
	for _, i := range v.Impact {
		if i.Type == verdict.ImpactLateral && strings.HasPrefix(i.Statement, "from ") {
			n++
		}
	}
	if n >= len(order)-1 {
		r.Named++
	} else {
		fault("over all, %d of %d moves are told", n, len(order)-1)
	}
}

// is reports whether a fact is this entity.
func is(f lab.Fact, e verdict.Entity) bool {
	if f.Type != e.Type || f.Role != "" && !slices.Contains(strings.Fields(f.Role), e.Role) {
		return false
	}
	if f.Value == e.Value {
		return true
	}
	if !strings.Contains(f.Value, "*") {
		return false
	}
	// * stands for any text, slashes too.
	ok, err := path.Match(strings.ReplaceAll(f.Value, "/", "\x01"), strings.ReplaceAll(e.Value, "/", "\x01"))
	return err == nil && ok
}
