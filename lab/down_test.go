package lab_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/lab"
)

// A second lab beside the first one: several processes bring it up at once, it runs containers, and nothing of it
// is left when it has gone down, though nobody removed these.
func TestUpAndDown(t *testing.T) {
	testenv.NeedRoot(t)
	first := lab.Open(nil)
	if _, err := first.Image(context.Background(), "goweb"); err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	for _, cache := range []string{"packages", "images"} {
		if out, err := exec.Command("cp", "-r", filepath.Join(first.Base(), cache), base).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	t.Setenv("SHERD_LAB", base)
	ctx := context.Background()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			// Each has a lock of its own on the file, as a process of its own would.
			if err := lab.Open(t.Output()).Up(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l := lab.Open(t.Output())
	t.Cleanup(func() {
		if err := l.Down(ctx, true); err != nil {
			t.Error(err)
		}
	})
	for _, runtime := range []string{lab.Docker, lab.Containerd, lab.Podman, lab.Runc} {
		if _, err := l.Start(ctx, lab.RunSpec{Runtime: runtime, Image: "goweb"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range l.Status(ctx) {
		if !strings.HasSuffix(s, "containers: 1") {
			t.Error(s)
		}
	}
	if _, _, err := l.Demo(ctx, t.Output()); err != nil {
		t.Fatal(err)
	}
	// The bridge and the network namespaces bear the run directory's suffix.
	bridge := "sherd" + strings.TrimPrefix(filepath.Base(filepath.Dir(l.RuncRoot())), "sherd-lab-")
	seen := strings.Join(traces(t), "\n")
	for _, want := range []string{"mount " + base, "interface " + bridge, "netns/" + bridge, "process containerd --config " + filepath.Dir(l.RuncRoot())} {
		if !strings.Contains(seen, want) {
			t.Errorf("before it goes down there is no %q, so the test would not see it left behind", want)
		}
	}
	if err := l.Down(ctx, true); err != nil {
		t.Fatal(err)
	}
	// Other tests' containers come and go meanwhile: only what is of this lab counts.
	for _, s := range traces(t) {
		if strings.Contains(s, base) || strings.Contains(s, filepath.Dir(l.RuncRoot())) || strings.Contains(s, bridge) {
			t.Errorf("left behind: %s", s)
		}
	}
	if _, err := os.Stat(base); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", base, err)
	}
	if _, err := os.Stat(filepath.Dir(l.RuncRoot())); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", filepath.Dir(l.RuncRoot()), err)
	}
	if err := l.Down(ctx, true); err != nil {
		t.Errorf("going down again: %v", err)
	}
}

// traces are what runtimes may leave on a machine: mounts, interfaces, network namespaces, processes.
func traces(t *testing.T) []string {
	t.Helper()
	var out []string
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 {
			out = append(out, "mount "+f[4])
		}
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		out = append(out, "interface "+i.Name)
	}
	namespaces, _ := filepath.Glob("/run/netns/*")
	out = append(out, namespaces...)
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range processes {
		if b, err := os.ReadFile(p); err == nil {
			out = append(out, "process "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return out
}
