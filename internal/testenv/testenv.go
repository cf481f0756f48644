// Package testenv says what a test needs from the machine. A test that skips says so loudly and is counted:
// SHERD_NO_SKIP=1, which continuous integration sets, turns each skip into a failure.
package testenv

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// Skip ends the test as skipped, or as failed where skipping is forbidden.
func Skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("SHERD_NO_SKIP") != "" {
		t.Fatalf("SKIP FORBIDDEN: %s", why)
	}
	t.Skipf("SKIPPED, NOT TESTED: %s", why)
}

// NeedRoot skips unless the test runs as root on Linux.
func NeedRoot(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		Skip(t, "needs root on Linux")
	}
}

// NeedTool skips unless every named program is on the PATH.
func NeedTool(t testing.TB, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			Skip(t, "needs the program "+n)
		}
	}
}
