package score

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/verdict"
)

// Sum is the score of many.
type Sum struct {
	Attacks, Controls          int
	VerdictRight, CauseRight   int // of the attacks
	ControlsClean              int // judged no worse than clean, no finding above low
	Named, Wanted, Right, Said int
	Causes, Verdicts           Curve   // by the confidence of root causes, and of verdicts, controls' too
	Seconds                    float64 // the longest investigation
}

// Curve counts what was said with a confidence of a tenth and less than the next, and how much of it was right.
type Curve [11]struct{ Said, Right int }

func (c *Curve) add(confidence float64, right bool) {
	p := &c[min(max(int(confidence*10+1e-9), 0), 10)]
	p.Said++
	if right {
		p.Right++
	}
}

// markdown writes a curve as a table.
func (c *Curve) markdown(b *strings.Builder) {
	b.WriteString("| confidence | said | right |\n|---|---|---|\n")
	for i, p := range c {
		if p.Said > 0 {
			fmt.Fprintf(b, "| %.1f and more | %d | %s |\n", float64(i)/10, p.Said, share(p.Right, p.Said))
		}
	}
}

// Total sums results up.
func Total(results []Result) Sum {
	var s Sum
	for i := range results {
		s.add(&results[i])
	}
	return s
}

func (s *Sum) add(r *Result) {
	s.Seconds = max(s.Seconds, r.Seconds)
	s.Named, s.Wanted, s.Right, s.Said = s.Named+r.Named, s.Wanted+r.Wanted, s.Right+r.Right, s.Said+r.Said
	s.Verdicts.add(r.Confidence, r.VerdictRight)
	if r.Control {
		s.Controls++
		if r.VerdictRight && r.Gravest.Rank() <= verdict.Low.Rank() && r.CauseRight {
			s.ControlsClean++
		}
		return
	}
	s.Attacks++
	if r.VerdictRight {
		s.VerdictRight++
	}
	if r.CauseRight {
		s.CauseRight++
	}
	if r.CauseConfidence > 0 {
		s.Causes.add(r.CauseConfidence, r.CauseRight)
	}
}

// bases counts, by the inference rule that a root cause rests on, the scenarios in which one was named and those in which each was right.
// Variants of a scenario are the same attack and count once: it is what confidence is read off.
func bases(results []Result) (names []string, of map[string]struct{ Right, Named int }) {
	of = map[string]struct{ Right, Named int }{}
	type key struct{ basis, scenario string }
	right := map[key]bool{}
	for i := range results {
		r := &results[i]
		if r.Control || r.Basis == "" {
			continue
		}
		k := key{r.Basis, r.Scenario}
		was, known := right[k]
		right[k] = r.CauseRight && (was || !known)
	}
	for k, ok := range right {
		n := of[k.basis]
		n.Named++
		if ok {
			n.Right++
		}
		of[k.basis] = n
	}
	return slices.Sorted(maps.Keys(of)), of
}

func share(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%d of %d (%.1f %%)", n, of, 100*float64(n)/float64(of))
}

// Markdown writes the scoreboard.
func Markdown(w io.Writer, results []Result) error {
	sum := Total(results)
	var b strings.Builder
	b.WriteString(`# Scoreboard

What Sherd says of attacks and of honest work whose truth is known, each in a distroless container of its own under a real
runtime (lab/scenarios). ` + "`make score`" + ` plays all of them, collects, investigates, compares, and writes this page. Every wrong and every missing
word is listed. The investigator knows nothing of the scenarios: a test looks for their names, paths and ports in its code.

| | |
|---|---|
`)
	fmt.Fprintf(&b, "| attacks: verdict right | %s |\n", share(sum.VerdictRight, sum.Attacks))
	fmt.Fprintf(&b, "| attacks: root cause right (technique, time and cited request) | %s |\n", share(sum.CauseRight, sum.Attacks))
	fmt.Fprintf(&b, "| scope and impact: recall | %s |\n", share(sum.Named, sum.Wanted))
	fmt.Fprintf(&b, "| scope and impact: precision | %s |\n", share(sum.Right, sum.Said))
	fmt.Fprintf(&b, "| controls: clean, and no finding above low | %s |\n", share(sum.ControlsClean, sum.Controls))
	fmt.Fprintf(&b, "| longest investigation | %.1f s |\n", sum.Seconds)
	b.WriteString("\n## What confidence is worth\n\nOf the verdicts that bear a confidence, how many were right, attacks and controls together:\n\n")
	sum.Verdicts.markdown(&b)
	b.WriteString("\nOf the root causes:\n\n")
	sum.Causes.markdown(&b)
	if names, of := bases(results); len(names) > 0 {
		b.WriteString("\nRoot causes by the evidence they rest on, scenario by scenario (their variants are the same attack):\n\n| evidence | scenarios | right |\n|---|---|---|\n")
		for _, n := range names {
			fmt.Fprintf(&b, "| %s | %d | %s |\n", n, of[n].Named, share(of[n].Right, of[n].Named))
		}
	}
	for _, control := range []bool{false, true} {
		title := "\n## Attacks\n"
		if control {
			title = "\n## Controls\n"
		}
		b.WriteString(title + "\n| scenario | taken | verdict | root cause | recall | precision | wrong or missing |\n|---|---|---|---|---|---|---|\n")
		for i := range results {
			r := &results[i]
			if r.Control != control {
				continue
			}
			faults := make([]string, len(r.Faults))
			for k, f := range r.Faults {
				faults[k] = strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(f)
			}
			cause := mark(r.CauseRight)
			if r.CauseConfidence > 0 {
				cause += fmt.Sprintf(" %.2f", r.CauseConfidence)
			}
			fmt.Fprintf(&b, "| %s | %s | %s %s %.2f | %s | %d/%d | %d/%d | %s |\n", r.Scenario, r.Variant, mark(r.VerdictRight), r.Verdict, r.Confidence, cause, r.Named, r.Wanted, r.Right, r.Said,
				strings.Join(faults, "; "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func mark(ok bool) string {
	if ok {
		return "✓"
	}
	return "✗"
}

// Sort orders results by name and variant.
func Sort(results []Result) {
	slices.SortFunc(results, func(a, b Result) int { return strings.Compare(a.Scenario+" "+a.Variant, b.Scenario+" "+b.Variant) })
}
