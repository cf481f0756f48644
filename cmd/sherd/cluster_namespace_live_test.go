package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestLiveClusterTogether: captures that begin at the same moment, or while the namespace of one before is going away, don't get into each
// other's way, and nothing is left of any.
func TestLiveClusterTogether(t *testing.T) {
	cart, _, _ := strings.Cut(strings.TrimPrefix(shopPods, "\n"), "---\n")
	s := openShop(t, cart)
	s.kubectl(t, "wait", "-n", s.namespace, "--for=condition=Ready", "pod/cart", "--timeout=90s")
	before := s.objects(t)
	dir := t.TempDir()
	together := func(names ...string) {
		t.Helper()
		var wait sync.WaitGroup
		for _, name := range names {
			wait.Go(func() {
				cmd := exec.Command("/proc/self/exe", s.args("collect", "k8s://"+s.namespace+"/cart/app", "-o", filepath.Join(dir, name))...)
				cmd.Env = append(os.Environ(), asProgram+"=1")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", name, err, out)
				}
			})
		}
		wait.Wait()
	}
	together("a.sherd", "b.sherd")
	if out := s.kubectl(t, "get", "namespaces", "-l", "app.kubernetes.io/managed-by=sherd", "-o", "jsonpath={.items[*].status.phase}"); strings.Contains(out, "Active") {
		t.Errorf("a namespace was not taken away: %s", out)
	} else if out == "" {
		t.Log("the cluster was faster than the next capture")
	}
	together("c.sherd")
	for _, name := range []string{"a.sherd", "b.sherd", "c.sherd"} {
		if status, _, errOut := sherd(t, s.l, "verify", filepath.Join(dir, name)); status != 0 {
			t.Errorf("%s: %s", name, errOut)
		}
	}
	s.same(t, before)
}
