package score

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/verdict"
)

// Run plays a scenario, has the program sherd collect it into dir and investigate, as whoever runs it does, and compares: the victim first,
// then each other container of which something is known to be true.
func Run(ctx context.Context, l *lab.Lab, sherd, dir string, s *lab.Scenario, variant string) (out []Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	p, err := l.Play(ctx, s, variant)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	all := append([]lab.Taken{{Container: p.Container, Truth: p.Truth}}, p.Others...)
	// All are taken before one is judged: what goes on meanwhile is the same for each.
	paths := make([]string, len(all))
	for i, t := range all {
		paths[i] = filepath.Join(dir, strings.Trim(s.Name+"-"+t.Name, "-")+"-"+variant+".sherd")
		if err := os.Remove(paths[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err // an old package would be judged in its place
		}
		if err := collect(ctx, l, sherd, dir, t.Container, paths[i]); err != nil {
			return nil, fmt.Errorf("%s (%s): %w", s.Name, variant, err)
		}
	}
	for i, t := range all {
		r, err := one(ctx, environment(l, dir), sherd, s, variant, p, t, paths[i])
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	if len(s.Order) > 0 {
		v, err := investigated(ctx, environment(l, dir), sherd, paths...)
		if err != nil {
			return nil, fmt.Errorf("%s (%s), over all: %w", s.Name, variant, err)
		}
		ids := map[string]string{"victim": p.Container.ID}
		for _, t := range p.Others {
			ids[t.Name] = t.Container.ID
		}
		Ordered(&out[0], s.Order, ids, v)
	}
	return out, nil
}

// environment is what the program needs to find the lab's runtimes and nothing of the user's.
func environment(l *lab.Lab, dir string) []string {
	return append(os.Environ(), append(l.Env(), "XDG_CONFIG_HOME="+dir)...)
}

// cluster is held by the one capture in the cluster that is under way.
var cluster sync.Mutex

func collect(ctx context.Context, l *lab.Lab, sherd, dir string, c *lab.Container, path string) error {
	args := []string{"collect", c.Target, "-o", path, "--quiet", "--podman-root", l.PodmanRoot(), "--podman-runroot", l.PodmanRunRoot()}
	if c.Runtime == lab.Kubernetes {
		image, err := l.LoadKubernetes(ctx, lab.Collector)
		if err != nil {
			return err
		}
		args = append(args, "--kubeconfig", l.Kubeconfig(), "--collector-image", image, "--collector-pull", "Never", "--containerd-address", l.KubernetesSocket(),
			"--audit-log", l.KubernetesAudit())
		// Captures side by side would take Sherd's namespace from under each other.
		cluster.Lock()
		defer cluster.Unlock()
	}
	cmd := exec.CommandContext(ctx, sherd, args...)
	cmd.Env = environment(l, dir)
	// Exit status 1 is of a capture that is not whole, which is judged all the same.
	said, err := cmd.CombinedOutput()
	if _, there := os.Stat(path); err != nil && (cmd.ProcessState.ExitCode() > 1 || there != nil) {
		return fmt.Errorf("collecting %s: %w: %s", c.Target, err, said)
	}
	return nil
}

// one judges a single package.
func one(ctx context.Context, env []string, sherd string, s *lab.Scenario, variant string, p *lab.Played, t lab.Taken, path string) (Result, error) {
	pkg, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		return Result{}, err
	}
	defer pkg.Close()
	began := time.Now()
	v, err := investigated(ctx, env, sherd, path)
	if err != nil {
		return Result{}, fmt.Errorf("%s (%s): %w", s.Name, variant, err)
	}
	took := time.Since(began).Seconds()
	of := *p
	of.Container, of.Truth = t.Container, t.Truth
	out := Judge(s, variant, &of, v, pkg)
	out.Seconds = took
	if t.Name != "" {
		out.Scenario += "/" + t.Name
	}
	return out, nil
}

// investigated is the program's verdict on packages, as whoever runs it gets it.
func investigated(ctx context.Context, env []string, sherd string, paths ...string) (*verdict.Verdict, error) {
	cmd := exec.CommandContext(ctx, sherd, append(append([]string{"investigate"}, paths...), "--quiet", "--json", "-")...)
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
