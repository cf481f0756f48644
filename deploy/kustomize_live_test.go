package deploy

import (
	"path/filepath"
	"testing"

	"github.com/sherd-forensics/sherd/lab"
)

// TestLiveKustomize has kubectl make the example, and finds what is printed.
func TestLiveKustomize(t *testing.T) {
	l := lab.Need(t, lab.Kubernetes)
	dir, err := filepath.Abs("kustomize/example")
	if err != nil {
		t.Fatal(err)
	}
	out, err := l.Kubectl(t.Context(), "kustomize", dir)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "kustomize", documents(t, []byte(out)), all(t))
}
