package graph

import (
	"math"
	"testing"
)

// TestAtLeast compares with quantiles of the beta distribution that are known: Beta(½, ½) is the arcsine's.
func TestAtLeast(t *testing.T) {
	if got, want := AtLeast(0, 0), math.Pow(math.Sin(0.1*math.Pi/2), 2); math.Abs(got-want) > 1e-6 {
		t.Errorf("nothing known: %v, want %v", got, want)
	}
	last := 0.0
	for _, n := range []int{1, 3, 14, 26, 200} {
		got := AtLeast(n, n)
		// The distribution function of what the estimate gives must be a tenth.
		if p := betaCDF(float64(n)+0.5, 0.5, got); math.Abs(p-0.1) > 1e-6 {
			t.Errorf("%d of %d: %v has %v below it", n, n, got, p)
		}
		if got <= last || got >= 1 {
			t.Errorf("%d of %d: %v does not grow", n, n, got)
		}
		last = got
		t.Logf("%d of %d: at least %.3f", n, n, got)
	}
	if AtLeast(9, 10) >= AtLeast(10, 10) {
		t.Error("a wrong one does not lower it")
	}
}

func TestConfidencesAreInOrder(t *testing.T) {
	last := 1.0
	for _, rule := range []string{RequestNamesFile, RequestAlone, RequestStandsOut, RequestsOfOne, RequestNear} {
		c := CauseConfidence(rule)
		t.Logf("%s %.2f", rule, c)
		if c > last {
			t.Errorf("%s claims %v, more than what should be preferred to it, %v", rule, c, last)
		}
		last = c
	}
}
