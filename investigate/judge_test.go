package investigate

import (
	"testing"

	"github.com/sherd-forensics/sherd/investigate/graph"
)

// TestConfidenceIsSupported holds the constants to what the corpus showed: attacks by the gravest finding, honest work with none, verdicts that
// were right. Who changes a constant plays the corpus first, and counts.
func TestConfidenceIsSupported(t *testing.T) {
	const attacks, critical, high, medium, honest = 87.0, 41.0, 17.0, 29.0, 44
	most := 1 - graph.AtLeast(honest, honest) // of honest containers, at most this share would be accused
	for _, c := range []struct {
		name    string
		claimed float64
		support float64
	}{
		{"critical", weightCritical, (critical / attacks) / (critical/attacks + most)},
		{"high", weightHigh, (high / attacks) / (high/attacks + most)},
		{"medium", weightMedium, (medium / attacks) / (medium/attacks + most)},
		{"compromised", maxAny, graph.AtLeast(41, 41)},
		{"clean", maxClean, graph.AtLeast(44, 44)},
	} {
		if c.claimed > c.support+0.005 {
			t.Errorf("%s claims %.3f, the corpus supports %.3f", c.name, c.claimed, c.support)
		}
		if c.claimed < c.support-0.25 {
			t.Errorf("%s claims %.3f, far less than the corpus supports, %.3f", c.name, c.claimed, c.support)
		}
	}
	if weightMedium > weightHigh || weightHigh > weightCritical {
		t.Error("a graver finding weighs less")
	}
}
