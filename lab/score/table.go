package score

import (
	"fmt"
	"io"
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
	Causes                     int                           // named
	Curve                      [11]struct{ Said, Right int } // by tenths of the root cause's confidence
	Seconds                    float64                       // the longest investigation
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
		c := &s.Curve[int(r.CauseConfidence*10+0.5)]
		c.Said++
		if r.CauseRight {
			c.Right++
		}
	}
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
	b.WriteString("\n## What confidence is worth\n\nOf the root causes that were named with a confidence, how many were right:\n\n| confidence | named | right |\n|---|---|---|\n")
	for i, c := range sum.Curve {
		if c.Said > 0 {
			fmt.Fprintf(&b, "| %.1f | %d | %s |\n", float64(i)/10, c.Said, share(c.Right, c.Said))
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
				cause += fmt.Sprintf(" %.1f", r.CauseConfidence)
			}
			fmt.Fprintf(&b, "| %s | %s | %s %s | %s | %d/%d | %d/%d | %s |\n", r.Scenario, r.Variant, mark(r.VerdictRight), r.Verdict, cause, r.Named, r.Wanted, r.Right, r.Said,
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
