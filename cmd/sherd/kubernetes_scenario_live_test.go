package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/lab/score"
)

// TestLivePodScenario plays one of the corpus' scenarios that happen in a cluster, to the end: `make score` plays them all. It stands here, and
// not with the scorer's tests, since nothing else may change the cluster while this package's tests look at it.
func TestLivePodScenario(t *testing.T) {
	l := lab.Need(t, lab.Kubernetes)
	all, err := lab.Scenarios()
	if err != nil {
		t.Fatal(err)
	}
	sherd, err := filepath.Abs(filepath.Join("..", "..", "bin", "sherd"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(sherd); err != nil {
		t.Fatalf("%v: make build first", err)
	}
	i := slices.IndexFunc(all, func(s lab.Scenario) bool { return s.Name == "pod-token-theft" })
	if i < 0 {
		t.Fatal("no such scenario")
	}
	got, err := score.Run(t.Context(), l, sherd, t.TempDir(), &all[i], "running")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		if len(r.Faults) > 0 {
			t.Errorf("%q", r.Faults)
		}
	}
}
