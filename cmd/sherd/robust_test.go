package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/testenv"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/verdict"
)

// asProgram in the environment makes the test binary be the program: see TestMain.
const asProgram = "SHERD_TEST_AS_PROGRAM"

// program puts the program where every user may run it, for tests that kill it or take rights from it.
func program(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "sherd-under-test")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// flags are the lab's places.
func flags(l *lab.Lab) []string {
	return []string{"--docker-host", l.DockerHost(), "--containerd-address", l.ContainerdAddress(),
		"--podman-root", l.PodmanRoot(), "--podman-runroot", l.PodmanRunRoot()}
}

// start runs the real binary and returns it with its standard error.
func start(t *testing.T, l *lab.Lab, attr *syscall.SysProcAttr, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command(program(t, home), append(args, flags(l)...)...)
	for dir := home; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, asProgram+"=1")
	cmd.Dir = home
	cmd.SysProcAttr = attr
	var errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &errOut, &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &errOut
}

func status(t *testing.T, err error) int {
	t.Helper()
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return ee.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}

func openPackage(t *testing.T, path string) *evidence.Package {
	t.Helper()
	p, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func missed(p *evidence.Package, what string) *record.Miss {
	cov := p.Coverage()
	for i, m := range cov.Missed {
		if strings.Contains(m.What+" "+m.Reason, what) {
			return &cov.Missed[i]
		}
	}
	return nil
}

// TestRobustStates captures containers that do not run: what a state does not have is named, the rest is taken.
func TestRobustStates(t *testing.T) {
	l := lab.Need(t, "docker", "containerd", "podman")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, runtime := range []string{"docker", "containerd", "podman"} {
		t.Run(runtime+"/paused", func(t *testing.T) {
			c := l.Run(t, lab.RunSpec{Runtime: runtime, Image: "goweb", Name: "paused"})
			if err := c.Pause(); err != nil {
				t.Fatal(err)
			}
			got := investigateTarget(t, l, c.Target, 0)
			if p := openPackage(t, got.pkg); len(p.Artifacts("process/")) < 10 {
				t.Error("a paused container's processes were not taken")
			}
			if found := find(t, l, c.Target); found.State != "paused" {
				t.Errorf("after the capture it is %s, no longer paused", found.State)
			}
			if err := c.Unpause(); err != nil {
				t.Error(err)
			}
		})
		t.Run(runtime+"/exited", func(t *testing.T) {
			c := l.Run(t, lab.RunSpec{Runtime: runtime, Image: "goweb", Name: "exited"})
			attack(t, l, c, "drop")
			if err := c.Kill(); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the end of the container", func() bool { return find(t, l, c.Target).State != "running" })
			got := investigateTarget(t, l, c.Target, 3)
			p := openPackage(t, got.pkg)
			if missed(p, "not running") == nil && missed(p, "no process") == nil {
				t.Errorf("coverage does not say that nothing ran: %+v", p.Coverage().Missed)
			}
			if len(got.verdict.Gaps) == 0 {
				t.Error("a verdict without processes has no gap")
			}
		})
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 100 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

// TestRobustVanishing removes the container while it is captured, at different moments: the package is sealed all the same.
func TestRobustVanishing(t *testing.T) {
	l := lab.Need(t, "docker")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, after := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 120 * time.Millisecond} {
		c, err := l.Start(t.Context(), lab.RunSpec{Runtime: "docker", Image: "pyweb", Name: "vanishing"})
		if err != nil {
			t.Fatal(err)
		}
		pkg := filepath.Join(t.TempDir(), "x.sherd")
		cmd, out := start(t, l, nil, "collect", c.Target, "-o", pkg, "--memory", "full")
		time.Sleep(after)
		if err := c.Remove(); err != nil {
			t.Error(err)
		}
		switch got := status(t, cmd.Wait()); got {
		case 0:
			if _, err := evidence.Verify(t.Context(), pkg, evidence.VerifyOptions{NoCustody: true}); err != nil {
				var unknown *evidence.UnknownSignerError
				if !errors.As(err, &unknown) {
					t.Errorf("after %v: %v", after, err)
				}
			}
		case 1:
			// It was gone before it was looked up.
			if !strings.Contains(out.String(), "no Docker container named") && !strings.Contains(out.String(), "removed just now") {
				t.Errorf("after %v: %s", after, out)
			}
		default:
			t.Errorf("after %v: status %d: %s", after, got, out)
		}
	}
}

// TestRobustKilled kills the capture at different moments: nothing has the final name, what is there can be read, the next run
// works, and a frozen container thaws.
func TestRobustKilled(t *testing.T) {
	l := lab.Need(t, "docker")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "pyweb", Name: "killed"})
	dir := t.TempDir()
	partials := 0
	for i, after := range []time.Duration{30 * time.Millisecond, 80 * time.Millisecond, 130 * time.Millisecond, 180 * time.Millisecond} {
		pkg := filepath.Join(dir, fmt.Sprintf("x%d.sherd", i))
		cmd, _ := start(t, l, nil, "collect", c.Target, "-o", pkg, "--memory", "full", "--freeze")
		time.Sleep(after)
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		if cmd.Wait() == nil {
			continue // it was faster
		}
		if _, err := os.Stat(pkg); err == nil {
			if status, out, errOut := sherd(t, l, "verify", pkg); status != 0 && !strings.Contains(errOut, "not trusted") {
				t.Errorf("killed after %v, and %s is there but not whole: %s%s", after, pkg, out, errOut)
			}
		}
		if st, err := os.Stat(pkg + ".partial"); err == nil && st.Size() > 0 {
			partials++
			status, out, errOut := sherd(t, l, "show", pkg+".partial")
			if status != 0 && !strings.Contains(errOut, "cut short") {
				t.Errorf("the partial package of %d bytes can't be listed: %s%s", st.Size(), out, errOut)
			}
		}
	}
	waitFor(t, "the container to thaw", func() bool { return find(t, l, c.Target).State == "running" })
	if _, _, err := c.Get("/healthz"); err != nil {
		t.Errorf("the container does not answer after the kill: %v", err)
	}
	investigateTarget(t, l, c.Target, 0)
	t.Logf("%d partial packages", partials)
}

// TestRobustInterrupted ends a capture by SIGTERM: what was taken is sealed, and said to be a part.
func TestRobustInterrupted(t *testing.T) {
	l := lab.Need(t, "docker")
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "pyweb", Name: "interrupted"})
	pkg := filepath.Join(t.TempDir(), "x.sherd")
	cmd, out := start(t, l, nil, "collect", c.Target, "-o", pkg, "--memory", "full")
	waitFor(t, "the capture to begin", func() bool { _, err := os.Stat(pkg + ".partial"); return err == nil })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	switch got := status(t, cmd.Wait()); got {
	case 0: // it was faster
	case 1:
		if !strings.Contains(out.String(), "stopped") {
			t.Errorf("message: %s", out)
		}
		if p := openPackage(t, pkg); missed(p, "stopped") == nil {
			t.Errorf("coverage does not say that it was stopped: %+v", p.Coverage().Missed)
		}
	default:
		t.Errorf("status %d: %s", got, out)
	}
}

// TestRobustRights runs without root and without a capability.
func TestRobustRights(t *testing.T) {
	l := lab.Need(t, "docker")
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "goweb", Name: "rights"})
	socket := strings.TrimPrefix(l.DockerHost(), "unix://")
	st, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	raw, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("no group")
	}
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: raw.Gid, NoSetGroups: false}}
	cmd, out := start(t, l, nobody, "collect", c.Target)
	if got := status(t, cmd.Wait()); got != 1 || !strings.Contains(out.String(), "needs root or CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH and CAP_SYS_ADMIN") ||
		!strings.Contains(out.String(), "--partial") {
		t.Errorf("without root: status %d: %s", got, out)
	}
	cmd, out = start(t, l, nobody, "investigate", c.Target, "--partial", "-o", "p.sherd")
	if got := status(t, cmd.Wait()); got != 0 || !strings.Contains(out.String(), "INCONCLUSIVE") {
		t.Errorf("partial: status %d: %s", got, out)
	}
	p := openPackage(t, filepath.Join(cmd.Dir, "p.sherd"))
	if _, ok := p.Artifact("logs/api.log"); !ok {
		t.Error("the API's logs were not taken")
	}
	if _, ok := p.Artifact("filesystem/changes.json"); !ok {
		t.Error("the API's list of changed files was not taken")
	}
	if missed(p, "CAP_SYS_PTRACE") == nil {
		t.Error("coverage does not name the missing capability")
	}

	testenv.NeedTool(t, "setpriv")
	dir := t.TempDir()
	args := append([]string{"--bounding-set", "-sys_ptrace", "--inh-caps", "-all", program(t, dir), "collect", c.Target, "-o", filepath.Join(dir, "x.sherd")}, flags(l)...)
	bare := exec.Command("setpriv", args...)
	bare.Env = append(os.Environ(), asProgram+"=1")
	b, err := bare.CombinedOutput()
	if got := status(t, err); got != 1 || !strings.Contains(string(b), "missing here: CAP_SYS_PTRACE)") {
		t.Errorf("without CAP_SYS_PTRACE: status %d: %s", got, b)
	}
}

// TestRobustDiskFull writes to a file system that is too small.
func TestRobustDiskFull(t *testing.T) {
	l := lab.Need(t, "docker")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "pyweb", Name: "full"})
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	pkg := filepath.Join(dir, "x.sherd")
	status, out, errOut := sherd(t, l, "collect", c.Target, "-o", pkg)
	if status != 1 || !strings.Contains(errOut, "no space left on device") || !strings.Contains(errOut, ".partial") {
		t.Errorf("status %d: %s%s", status, out, errOut)
	}
	if _, err := os.Stat(pkg); err == nil {
		t.Error("a file under the final name is there")
	}
	if status, out, errOut := sherd(t, l, "show", pkg+".partial"); status != 0 {
		t.Errorf("what was kept can't be listed: %s%s", out, errOut)
	}
}

// TestRobustHostileFiles captures while links, FIFOs and growing files take each other's names in the container's volume.
func TestRobustHostileFiles(t *testing.T) {
	l := lab.Need(t, "docker")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "goweb", Name: "hostile"})
	upper := find(t, l, c.Target).Rootfs.Upper
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	dir := filepath.Join(upper, "data")
	if err := os.WriteFile(filepath.Join(dir, "name\x1b[2J\n\xff"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/shadow", filepath.Join(dir, "outside")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../../../../../../../etc/shadow", filepath.Join(dir, "climbing")); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() {
		name := filepath.Join(dir, "changing")
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.RemoveAll(name) // each of these may lose its race: that is the point
			switch i % 4 {
			case 0:
				_ = os.WriteFile(name, bytes.Repeat([]byte("grow"), i%10000), 0o644)
			case 1:
				_ = os.Symlink("/etc/shadow", name)
			case 2:
				_ = syscall.Mkfifo(name, 0o644)
			case 3:
				_ = os.Mkdir(name, 0o755)
			}
		}
	})
	for range 3 {
		pkg := filepath.Join(t.TempDir(), "x.sherd")
		begin := time.Now()
		status, out, errOut := sherd(t, l, "collect", c.Target, "-o", pkg, "--memory", "none")
		if status != 0 || time.Since(begin) > 30*time.Second {
			t.Fatalf("status %d after %v: %s%s", status, time.Since(begin), out, errOut)
		}
		p := openPackage(t, pkg)
		for row, err := range inventory.Read(p) {
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(string(row.Path), "/data/outside") && row.Type != record.TypeSymlink {
				t.Errorf("a link was followed: %+v", row.File)
			}
		}
		shadow, err := os.ReadFile("/etc/shadow")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Artifacts("filesystem/upper/") {
			if e.Size == int64(len(shadow)) {
				if b, err := p.ReadFile(e.Path, 1<<20); err == nil && bytes.Equal(b, shadow) {
					t.Errorf("%q holds the host's /etc/shadow", e.Path)
				}
			}
		}
	}
}

// TestRobustPackages shows what the command line says of packages that are not as they were.
func TestRobustPackages(t *testing.T) {
	l := lab.Need(t, "docker")
	config := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", config)
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "goweb", Name: "packages"})
	dir := t.TempDir()
	pkg := filepath.Join(dir, "x.sherd")
	if status, out, errOut := sherd(t, l, "collect", c.Target, "-o", pkg); status != 0 {
		t.Fatalf("status %d: %s%s", status, out, errOut)
	}
	whole, err := os.ReadFile(pkg)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for _, x := range []struct{ name, path, want string }{
		{"flipped", write("flipped.sherd", flipped), "NOT as it was sealed"},
		{"cut", write("cut.sherd", whole[:len(whole)*2/3]), "cut short"},
		{"appended", write("appended.sherd", append(bytes.Clone(whole), 0)), ""},
		{"no package", write("text.sherd", []byte("hello, this is not a package")), ""},
		{"empty", write("empty.sherd", nil), ""},
	} {
		status, out, errOut := sherd(t, l, "verify", "--no-custody", x.path)
		t.Logf("%s: %s%s", x.name, out, errOut)
		if status != 1 || !strings.Contains(out+errOut, x.want) {
			t.Errorf("%s: status %d", x.name, status)
		}
	}
	if status, _, errOut := sherd(t, l, "investigate", filepath.Join(dir, "cut.sherd")); status != 0 && status != 3 {
		t.Errorf("a package that was cut short can't be investigated: %d %s", status, errOut)
	}
	if status, _, errOut := sherd(t, l, "collect", c.Target, "-o", pkg); status != 1 || !strings.Contains(errOut, "exists") {
		t.Errorf("overwriting: status %d: %s", status, errOut)
	}
	if b, err := os.ReadFile(pkg); err != nil || !bytes.Equal(b, whole) {
		t.Errorf("the package that was there has changed (%v)", err)
	}
	// Another key: intact, but not by whom one trusts.
	other := filepath.Join(dir, "other.sherd")
	if err := os.Rename(filepath.Join(config, "sherd", "key"), filepath.Join(config, "first")); err != nil {
		t.Fatal(err)
	}
	if status, out, errOut := sherd(t, l, "collect", c.Target, "-o", other); status != 0 {
		t.Fatalf("status %d: %s%s", status, out, errOut)
	}
	if err := os.Rename(filepath.Join(config, "first"), filepath.Join(config, "sherd", "key")); err != nil {
		t.Fatal(err)
	}
	if status, _, errOut := sherd(t, l, "verify", "--no-custody", other); status != 1 || !strings.Contains(errOut, "not trusted here") {
		t.Errorf("a package of another key: status %d: %s", status, errOut)
	}
	if status, out, errOut := sherd(t, l, "verify", pkg); status != 0 {
		t.Errorf("the first package: status %d: %s%s", status, out, errOut)
	}
}

// TestRobustFreeze freezes on request, records it, and leaves the container running.
func TestRobustFreeze(t *testing.T) {
	l := lab.Need(t, "docker", "containerd", "podman")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, runtime := range []string{"docker", "containerd", "podman"} {
		c := l.Run(t, lab.RunSpec{Runtime: runtime, Image: "goweb", Name: "frozen"})
		pkg := filepath.Join(t.TempDir(), "x.sherd")
		status, out, errOut := sherd(t, l, "collect", c.Target, "-o", pkg, "--freeze")
		if status != 0 {
			t.Fatalf("%s: status %d: %s%s", runtime, status, out, errOut)
		}
		b, err := openPackage(t, pkg).ReadFile("process/freeze.json", 1<<20)
		if err != nil || !strings.Contains(string(b), `"thawed"`) {
			t.Errorf("%s: no record of the freeze: %s %v", runtime, b, err)
		}
		if _, _, err := c.Get("/healthz"); err != nil {
			t.Errorf("%s: it does not answer any more: %v", runtime, err)
		}
	}
}

// TestRobustClean runs honest containers under load and accuses none.
func TestRobustClean(t *testing.T) {
	l := lab.Need(t, "docker", "containerd", "podman")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, runtime := range []string{"docker", "containerd", "podman"} {
		for _, image := range []string{"goweb", "pyweb", "nodeweb"} {
			t.Run(runtime+"/"+image, func(t *testing.T) {
				c := l.Run(t, lab.RunSpec{Runtime: runtime, Image: image, Name: "busy", Env: []string{"BUSY=1"}})
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				served := make(chan int)
				go func() {
					n, err := c.Busy(ctx)
					if err != nil && ctx.Err() == nil {
						t.Error(err)
					}
					served <- n
				}()
				time.Sleep(500 * time.Millisecond)
				defer func() {
					if n := <-served; n < 10 {
						t.Errorf("only %d requests were served: it was not busy", n)
					}
				}()
				got := investigateTarget(t, l, c.Target, 0)
				if got.verdict.Verdict != verdict.Clean {
					t.Errorf("judged %s", got.verdict.Verdict)
				}
				for _, f := range got.verdict.Findings {
					if f.Severity.Rank() > verdict.Low.Rank() {
						t.Errorf("%s %s: %s", f.Severity, f.Rule, f.Statement)
					}
				}
			})
		}
	}
}

// TestRobustHidden starts a container behind the runtimes' backs: it is reported, and can be taken by pid.
func TestRobustHidden(t *testing.T) {
	l := lab.Need(t)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c := l.Run(t, lab.RunSpec{Runtime: "runc", Image: "goweb", Name: "hidden"})
	status, out, errOut := sherd(t, l, "targets")
	if status != 0 || !strings.Contains(out, "! hidden-container: process "+strconv.Itoa(c.PID)) {
		t.Errorf("status %d: %s%s", status, out, errOut)
	}
	investigateTarget(t, l, fmt.Sprintf("pid://%d", c.PID), 0)
}

// TestRobustPipe streams a package to standard output, byte for byte a good one.
func TestRobustPipe(t *testing.T) {
	l := lab.Need(t, "docker")
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	c := l.Run(t, lab.RunSpec{Runtime: "docker", Image: "goweb", Name: "pipe"})
	status, out, errOut := sherd(t, l, "collect", c.Target, "-o", "-")
	if status != 0 {
		t.Fatalf("status %d: %s", status, errOut)
	}
	pkg := filepath.Join(t.TempDir(), "x.sherd")
	if err := os.WriteFile(pkg, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, out, errOut := sherd(t, l, "verify", pkg); status != 0 {
		t.Errorf("status %d: %s%s", status, out, errOut)
	}
}
