package graph

import "math"

// tally is how often root causes that rested on a rule were right, over the scenarios of the corpus (docs/scoreboard.md). Variants of one
// scenario are the same attack and count once.
type tally struct{ right, named int }

// corpus is the last tally. It is updated by hand from the table "by the evidence they rest on" of the scoreboard.
var corpus = map[string]tally{
	RequestNamesFile: {17, 17},
	RequestAlone:     {53, 53},
	RequestsOfOne:    {2, 2},
	RequestStandsOut: {9, 9},
}

// most bounds what a rule may claim whatever the corpus showed: its logs are quieter than a busy shop's, and nobody in it tried to
// deceive this program in particular. A request that names the file is above one that is merely alone.
var most = map[string]float64{RequestNamesFile: 0.95, RequestAlone: 0.9, RequestsOfOne: 0.8, RequestStandsOut: 0.7}

// CauseConfidence is the confidence of a root cause that rests on a rule: the share of right ones that the corpus shows at the least, which
// is the tenth percentile of the share under Jeffreys' prior, Beta(right+½, wrong+½), rounded down to hundredths. A rule that the corpus
// has not seen, and RequestNear, which names no cause, get 0.2.
func CauseConfidence(rule string) float64 {
	t, ok := corpus[rule]
	if !ok || t.named == 0 {
		return 0.2
	}
	return min(most[rule], math.Floor(100*AtLeast(t.right, t.named))/100)
}

// AtLeast is the tenth percentile of Beta(right+½, named-right+½): nine in ten, the true share lies above it.
func AtLeast(right, named int) float64 {
	a, b := float64(right)+0.5, float64(named-right)+0.5
	lo, hi := 0.0, 1.0
	for range 50 {
		mid := (lo + hi) / 2
		if betaCDF(a, b, mid) < 0.1 {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// betaCDF integrates the density of Beta(a, b) from 0 to x. The substitution t = sin²(u) takes the poles at both ends away for
// a, b ≥ ½, so that Simpson's rule serves.
func betaCDF(a, b, x float64) float64 {
	const steps = 512
	f := func(u float64) float64 {
		return 2 * math.Pow(math.Sin(u), 2*a-1) * math.Pow(math.Cos(u), 2*b-1)
	}
	area := func(top float64) float64 {
		h := top / steps
		sum := f(0) + f(top)
		for i := 1; i < steps; i++ {
			sum += f(float64(i)*h) * float64(2+2*(i%2))
		}
		return sum * h / 3
	}
	return area(math.Asin(math.Sqrt(x))) / area(math.Pi/2)
}
