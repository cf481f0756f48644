// Command score plays the lab's scenarios, has Sherd collect and investigate each, and compares with the truth.
//
//	score [-o docs/scoreboard.md] [-keep DIR] [NAME...]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/lab/score"
)

func main() {
	out := flag.String("o", "", "write the scoreboard to this file")
	keep := flag.String("keep", "", "keep the packages in this directory")
	sherd := flag.String("sherd", "bin/sherd", "the program that collects")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *sherd, *out, *keep, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "score:", err)
		os.Exit(1)
	}
}

type task struct {
	scenario *lab.Scenario
	variant  string
}

func run(ctx context.Context, sherd, out, keep string, names []string) error {
	all, err := lab.Scenarios()
	if err != nil {
		return err
	}
	var tasks []task
	for i := range all {
		if len(names) > 0 && !slices.Contains(names, all[i].Name) {
			continue
		}
		for _, v := range all[i].Variants {
			tasks = append(tasks, task{&all[i], v})
		}
	}
	if len(tasks) == 0 {
		return errors.New("no scenario is called that; lab/scenarios has them")
	}
	dir := keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "score"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	l := lab.Open(os.Stderr)
	if err := l.Up(ctx, lab.Docker, lab.Containerd, lab.Podman); err != nil {
		return err
	}
	var mu sync.Mutex
	var results []score.Result
	var errs error
	queue := make(chan task)
	var wait sync.WaitGroup
	for range 2 { // waiting is most of it
		wait.Go(func() {
			for t := range queue {
				r, err := one(ctx, l, sherd, dir, t)
				mu.Lock()
				if err != nil {
					errs = errors.Join(errs, err)
					fmt.Printf("%-28s %-8s FAILED %v\n", t.scenario.Name, t.variant, err)
				} else {
					results = append(results, r)
					show(&r)
				}
				mu.Unlock()
			}
		})
	}
	for _, t := range tasks {
		if ctx.Err() != nil {
			break
		}
		queue <- t
	}
	close(queue)
	wait.Wait()
	score.Sort(results)
	var sum score.Sum
	for i := range results {
		sum.Add(&results[i])
	}
	fmt.Printf("\n%d attacks: verdict %d, root cause %d right; recall %d/%d, precision %d/%d; %d of %d controls clean\n",
		sum.Attacks, sum.VerdictRight, sum.CauseRight, sum.Named, sum.Wanted, sum.Right, sum.Said, sum.ControlsClean, sum.Controls)
	if out != "" && errs == nil {
		f, err := os.Create(out)
		if err != nil {
			return err
		}
		errs = errors.Join(score.Markdown(f, results), f.Close())
	}
	return errs
}

func show(r *score.Result) {
	fmt.Printf("%-28s %-8s %-13s cause %-5v %.1f  recall %d/%d precision %d/%d  %.1f s\n", r.Scenario, r.Variant, r.Verdict, r.CauseRight, r.CauseConfidence,
		r.Named, r.Wanted, r.Right, r.Said, r.Seconds)
	for _, f := range r.Faults {
		fmt.Println("    " + f)
	}
}

func one(ctx context.Context, l *lab.Lab, sherd, dir string, t task) (score.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	p, err := l.Play(ctx, t.scenario, t.variant)
	if err != nil {
		return score.Result{}, err
	}
	defer p.Close()
	path := filepath.Join(dir, t.scenario.Name+"-"+t.variant+".sherd")
	cmd := exec.CommandContext(ctx, sherd, "collect", p.Container.Target, "-o", path, "--quiet", "--podman-root", l.PodmanRoot(), "--podman-runroot", l.PodmanRunRoot())
	cmd.Env = append(os.Environ(), append(l.Env(), "XDG_CONFIG_HOME="+dir)...)
	// Exit status 1 is of a capture that is not whole, which is judged all the same.
	if said, err := cmd.CombinedOutput(); err != nil && cmd.ProcessState.ExitCode() > 1 {
		return score.Result{}, fmt.Errorf("%s (%s): collecting: %w: %s", t.scenario.Name, t.variant, err, said)
	}
	pkg, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		return score.Result{}, err
	}
	defer pkg.Close()
	began := time.Now()
	r, err := investigate.Investigate(ctx, pkg, investigate.Options{})
	if err != nil {
		return score.Result{}, err
	}
	took := time.Since(began).Seconds()
	out := score.Judge(t.scenario, t.variant, p, &r.Verdict, pkg)
	out.Seconds = took
	return out, nil
}
