package score

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/verdict"
)

// Run plays a scenario, has the program sherd collect it into dir, and investigate the package, and compares.
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
	v, err := investigated(ctx, cmd.Env, sherd, path)
	if err != nil {
		return Result{}, fmt.Errorf("%s (%s): %w", s.Name, variant, err)
	}
	took := time.Since(began).Seconds()
	out = Judge(s, variant, p, v, pkg)
	out.Seconds = took
	return out, nil
}

// investigated is the program's verdict on a package, as whoever runs it gets it.
func investigated(ctx context.Context, env []string, sherd, path string) (*verdict.Verdict, error) {
	cmd := exec.CommandContext(ctx, sherd, "investigate", path, "--quiet", "--json", "-")
	cmd.Env = env
	var said bytes.Buffer
	cmd.Stderr = &said
	b, err := cmd.Output()
	// 3 is a verdict too.
	if err != nil && cmd.ProcessState.ExitCode() != 3 {
		return nil, fmt.Errorf("investigating: %w: %s", err, said.String())
	}
	v := &verdict.Verdict{}
	if err := json.Unmarshal(b, v); err != nil {
		return nil, fmt.Errorf("the verdict's JSON: %w", err)
	}
	return v, nil
}
