package lab_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/lab"
)

// Each attack works, and what it says of itself is what the kernel shows.
func TestAttacks(t *testing.T) {
	runtimes := []string{lab.Docker, lab.Containerd, lab.Podman, lab.Runc}
	for i, a := range lab.Attacks() {
		t.Run(a.Name, func(t *testing.T) {
			// Over the attacks every runtime has its turn.
			runtime := runtimes[i%len(runtimes)]
			l := lab.Need(t, runtime)
			s := lab.RunSpec{Runtime: runtime, Image: a.Image, Env: []string{"DB_PASSWORD=hunter2-lab"}}
			if a.Root {
				s.User = "0:0"
			}
			c := l.Run(t, s)
			c2, err := lab.ListenC2(c.Host())
			if err != nil {
				t.Fatal(err)
			}
			defer c2.Close()
			truth, err := l.Attack(context.Background(), c, a.Name, c2)
			if err != nil {
				logs, _ := c.Logs(context.Background())
				t.Fatalf("%v\n%s", err, logs)
			}
			check(t, c, truth)
			t.Logf("%+v", *truth)
		})
	}
}

func check(t *testing.T, c *lab.Container, truth *lab.Truth) {
	t.Helper()
	root := fmt.Sprintf("/proc/%d/root", c.PID)
	for _, p := range append(append([]string{}, truth.Dropped...), truth.Replaced...) {
		if _, err := os.Lstat(root + p); err != nil {
			t.Errorf("dropped %s: %v", p, err)
		}
	}
	for _, p := range truth.Deleted {
		if _, err := os.Lstat(root + p); !os.IsNotExist(err) {
			t.Errorf("deleted %s: %v", p, err)
		}
	}
	if len(truth.Requests) == 0 || !truth.Began.Before(truth.Ended) || time.Since(truth.Ended) > time.Minute {
		t.Errorf("requests %q from %s to %s", truth.Requests, truth.Began, truth.Ended)
	}
	// A victim answers before its line has gone through its runtime.
	missing, logs := truth.Requests, ""
	for range 100 {
		var err error
		if logs, err = c.Logs(context.Background()); err != nil {
			t.Fatal(err)
		}
		if missing = unlogged(truth.Requests, logs); len(missing) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, r := range missing {
		t.Errorf("the log has no %s:\n%s", r, logs)
	}
	if truth.HostPID == 0 {
		return
	}
	proc := fmt.Sprintf("/proc/%d/", truth.HostPID)
	if exe, err := os.Readlink(proc + "exe"); err != nil || exe != truth.Exe {
		t.Errorf("%sexe is %q (%v), not %q", proc, exe, err, truth.Exe)
	}
	if truth.Exe != "" && truth.SHA256 != "" && (strings.HasPrefix(truth.Exe, "/memfd:") || strings.Contains(truth.Exe, "conv")) {
		b, err := os.ReadFile(proc + "exe")
		if sum := sha256.Sum256(b); err != nil || hex.EncodeToString(sum[:]) != truth.SHA256 {
			t.Errorf("%sexe has another hash than the implant (%v)", proc, err)
		}
	}
	if truth.PatchedPID != 0 {
		pid, err := c.HostPID(truth.PatchedPID)
		if err != nil {
			t.Fatal(err)
		}
		mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
		if err != nil {
			t.Fatal(err)
		}
		defer mem.Close()
		b := make([]byte, 16)
		if _, err := mem.ReadAt(b, int64(truth.PatchedAddress)); err != nil || !strings.Contains(string(b), "SHERD-LAB-HK") {
			t.Errorf("memory at %#x is %q (%v)", truth.PatchedAddress, b, err)
		}
	}
	if truth.Sent == 0 {
		t.Error("nothing was sent")
	}
}

// unlogged are the requests that a log does not name.
func unlogged(requests []string, logs string) (out []string) {
	for _, r := range requests {
		method, path, _ := strings.Cut(r, " ")
		path = strings.ReplaceAll(path, "&", `\u0026`)
		if !strings.Contains(logs, path) && !strings.Contains(logs, strings.ReplaceAll(path, `\u0026`, "&")) || !strings.Contains(logs, method) {
			out = append(out, r)
		}
	}
	return out
}
