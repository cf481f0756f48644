package investigate

import (
	"math"
	"slices"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/verdict"
)

// How findings become one word and one number.
//
// The word: one critical finding, or high ones by two different rules, make compromised; one high or one medium
// makes suspicious; low and information never weigh. With none of these it is clean, if every rule that can weigh
// had its facts, and inconclusive if not: what was not looked at can't be called clean.
//
// The number is meant as: of all verdicts that bear it, at least that share are right. It is read off the corpus of real attacks and honest
// work (docs/scoreboard.md, docs/verdict.md), scenario by scenario, and never more than that supports:
//
//   - of 87 attacks the gravest finding was critical in 41, high alone in 17, medium alone in 29. Of 44 kinds of honest work none had such a
//     finding, so that nine to one at most 3 in 100 would. For somebody to whom an intrusion is as likely as not, a grade that is found in a
//     share s of attacks and at most in 0.03 of honest containers is right in s/(s+0.03): 0.94, 0.87 and 0.92. Medium is held below high.
//     These are the weights of a rule by the gravest of its findings; what several rules say is joined as if they erred independently.
//   - all 41 kinds of attack that were called compromised were: nine to one, at least 96 in 100 are. Nothing may claim more.
//   - all 44 kinds of honest work that were called clean were: at least 97 in 100 are. Clean is held at 0.90 all the same: who came and went
//     without a trace is in no corpus.
//
// TestConfidenceIsSupported holds the constants to the tallies.
const (
	weightCritical = 0.93
	weightHigh     = 0.85
	weightMedium   = 0.80
)

// Clean loses perMiss for each of up to maxMisses things that the capture missed against its will or that a deeper rule could not read. For inconclusive it is the share of the
// rules that could be asked, halved. All of them shrink by up to blindShare with the share of rules that were blind.
const (
	maxClean   = 0.90
	maxAny     = 0.96
	perMiss    = 0.03
	maxMisses  = 5
	blindShare = 0.15
)

func (w *work) judge() {
	highs, criticals, mediums := 0, 0, 0
	doubt := 1.0
	asked, sighted, deeper := 0.0, 0.0, 0
	for i := range w.answers {
		a := &w.answers[i]
		if a.Rule.Severity.Rank() >= verdict.Medium.Rank() && a.Rule.Origin == "" {
			asked++
			switch {
			case len(a.Blind) == 0:
				sighted++
			case a.Rule.Deeper:
				sighted++
				deeper++
			}
		}
		switch a.Gravest() {
		case verdict.Critical:
			criticals++
			doubt *= 1 - weightCritical
		case verdict.High:
			highs++
			doubt *= 1 - weightHigh
		case verdict.Medium:
			mediums++
			doubt *= 1 - weightMedium
		case verdict.Low, verdict.Info:
		}
	}
	share := sighted / asked
	v := &w.r.Verdict
	switch {
	case criticals > 0 || highs > 1:
		v.Verdict, v.Confidence = verdict.Compromised, 1-doubt
	case highs+mediums > 0:
		v.Verdict, v.Confidence = verdict.Suspicious, 1-doubt
	case share < 1 || w.p.Truncated() || len(w.essentialGaps()) > 0:
		v.Verdict, v.Confidence = verdict.Inconclusive, share/2
	default:
		v.Verdict, v.Confidence = verdict.Clean, maxClean-perMiss*float64(min(w.misses()+deeper, maxMisses))
	}
	v.Confidence *= 1 - blindShare*(1-share)
	v.Confidence = math.Round(100*min(v.Confidence, maxAny)) / 100
}

// essential are the kinds of evidence without which nothing is called clean.
var essential = []string{"process", "memory", "network", "filesystem"}

func (w *work) essentialGaps() []string {
	var out []string
	for _, kind := range essential {
		switch w.f.Coverage.Collected[kind] {
		case "complete", "partial":
		default:
			out = append(out, kind)
		}
	}
	return out
}

// misses counts what the capture missed of the essential kinds against its will.
func (w *work) misses() int {
	n := 0
	for _, m := range w.f.Coverage.Missed {
		if !m.Deliberate && slices.Contains(essential, m.Kind) {
			n++
		}
	}
	return n
}

// bad reports whether the verdict claims an intrusion.
func (w *work) bad() bool {
	return w.r.Verdict.Verdict == verdict.Compromised || w.r.Verdict.Verdict == verdict.Suspicious
}

// foreign are the processes that run what the image does not hold, and those that a grave finding takes for the intruder's.
func (w *work) foreign() []*detect.Process {
	var out []*detect.Process
	for i := range w.f.Processes {
		if p := &w.f.Processes[i]; w.f.Foreign(p) || w.victim(p.PID) {
			out = append(out, p)
		}
	}
	return out
}
