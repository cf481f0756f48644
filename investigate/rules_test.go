package investigate_test

import (
	"testing"

	"github.com/sherd-forensics/sherd/investigate"
)

// A rule is asked for by its name: each names one, in whatever language it is written.
func TestRulesHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]string{}
	for _, r := range investigate.Rules() {
		if other, taken := seen[r.ID]; taken {
			t.Errorf("%s is %q and %q", r.ID, other, r.Title)
		}
		seen[r.ID] = r.Title
		if r.Title == "" || r.Rationale == "" || r.FalseAlarms == "" {
			t.Errorf("%s does not say what, why and what resembles it", r.ID)
		}
	}
}
