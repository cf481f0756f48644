package score

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/lab"
)

// Run plays a scenario, has the program sherd collect it into dir, investigates the package, and compares.
func Run(ctx context.Context, l *lab.Lab, sherd, dir string, s *lab.Scenario, variant string) (out Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	p, err := l.Play(ctx, s, variant)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	path := filepath.Join(dir, s.Name+"-"+variant+".sherd")
	cmd := exec.CommandContext(ctx, sherd, "collect", p.Container.Target, "-o", path, "--quiet", "--podman-root", l.PodmanRoot(), "--podman-runroot", l.PodmanRunRoot())
	cmd.Env = append(os.Environ(), append(l.Env(), "XDG_CONFIG_HOME="+dir)...)
	// Exit status 1 is of a capture that is not whole, which is judged all the same.
	if said, err := cmd.CombinedOutput(); err != nil && cmd.ProcessState.ExitCode() > 1 {
		return Result{}, fmt.Errorf("%s (%s): collecting: %w: %s", s.Name, variant, err, said)
	}
	pkg, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		return Result{}, err
	}
	defer pkg.Close()
	began := time.Now()
	r, err := investigate.Investigate(ctx, pkg, investigate.Options{})
	if err != nil {
		return Result{}, err
	}
	took := time.Since(began).Seconds()
	out = Judge(s, variant, p, &r.Verdict, pkg)
	out.Seconds = took
	return out, nil
}
