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
	"os/signal"
	"slices"
	"sync"
	"syscall"

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
	// The cluster comes up only for those who need it.
	var runtimes []string
	for _, t := range tasks {
		for _, r := range t.scenario.Runtimes() {
			if !slices.Contains(runtimes, r) {
				runtimes = append(runtimes, r)
			}
		}
	}
	if err := l.Up(ctx, runtimes...); err != nil {
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
				rs, err := score.Run(ctx, l, sherd, dir, t.scenario, t.variant)
				mu.Lock()
				if err != nil {
					errs = errors.Join(errs, err)
					fmt.Printf("%-28s %-8s FAILED %v\n", t.scenario.Name, t.variant, err)
				} else {
					results = append(results, rs...)
					for i := range rs {
						show(&rs[i])
					}
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
	sum := score.Total(results)
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
