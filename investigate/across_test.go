package investigate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/investigate"
)

// touched is a container with a foreign program that came at a time, has an address of its own, and calls peer.
func touched(t *testing.T, at time.Time, own, peer string) *investigate.Result {
	t.Helper()
	s := detecttest.Busy()
	p := s.Foreign(4017, 17, 4001, "/usr/lib/conv", record.ExeDrift, "\x7fELF of the intruder's", at)
	s.AddFile("/usr/lib/conv", "\x7fELF of the intruder's", 0o755, at)
	s.Connect(p, 3, peer, 8080, 10, 20)
	for i := range s.Sockets {
		if s.Sockets[i].RemotePort == 8080 {
			s.Sockets[i].LocalIP = own
		}
	}
	return judge(t, s)
}

// TestSequence tells who was first and who reached whom, and nothing of those that are clean.
func TestSequence(t *testing.T) {
	const shop, pay = "10.0.7.1", "10.0.7.2"
	first := detecttest.Capture.Add(-10 * time.Minute)
	second := touched(t, first.Add(5*time.Minute), pay, "203.0.113.9")
	results := []*investigate.Result{second, judge(t, detecttest.Busy()), touched(t, first, shop, pay)}
	order, moves := investigate.Sequence(results)
	if !slices.Equal(order, []int{2, 0}) {
		t.Errorf("order %v, firsts %d %d", order, results[0].First, results[2].First)
	}
	if len(moves) != 1 || moves[0].From != 2 || moves[0].To != 0 || !strings.Contains(moves[0].Why, pay+":8080") {
		t.Errorf("moves %+v; own %v %v", moves, results[0].Own, results[2].Own)
	}
}
