// Command lab brings up real container runtimes, builds distroless images, and breaks into containers, so that
// Sherd has something true to investigate. See lab/README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sherd-forensics/sherd/lab"
)

const usage = `usage: lab COMMAND
  up [docker containerd podman runc]   start runtimes (all), nothing if they run
  up kubernetes                        start a cluster of one real node; compiles it first, for minutes, once
  down [-all]                          end and delete everything; -all the packages and images too
  status                               what runs
  env                                  the environment by which programs find the lab: eval "$(lab env)"
  build [IMAGE...]                     build images (all): ` + "%s" + `
  load-kubernetes IMAGE                put an image into the cluster's node and print the name by which pods ask for it
  run RUNTIME IMAGE [NAME]             start a container and print its target
  attack [NAME [RUNTIME]]              break into a new container and print what is true of it; no NAME lists them
  demo [-env FILE] | demo-down         a shop's checkout, broken into, left running; FILE gets TARGET and the environment
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	var bad *usageError
	if errors.As(err, &bad) {
		fmt.Fprintf(os.Stderr, usage, strings.Join(lab.Images, " "))
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

type usageError struct{}

func (*usageError) Error() string { return "wrong usage" }

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return &usageError{}
	}
	l := lab.Open(os.Stderr)
	command, args := args[0], args[1:]
	switch command {
	case "up":
		began := time.Now()
		if err := l.Up(ctx, args...); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "lab: up after %.1f s; `lab env` prints how to reach it\n", time.Since(began).Seconds())
		return nil
	case "down":
		f := flag.NewFlagSet("down", flag.ContinueOnError)
		all := f.Bool("all", false, "delete packages and images too")
		if f.Parse(args) != nil {
			return &usageError{}
		}
		return l.Down(ctx, *all)
	case "status":
		for _, s := range l.Status(ctx) {
			fmt.Println(s)
		}
		return nil
	case "env":
		for _, e := range l.Env() {
			fmt.Println("export " + e)
		}
		return nil
	case "build":
		if len(args) == 0 {
			args = lab.Images
		}
		for _, name := range args {
			img, err := l.Image(ctx, name)
			if err != nil {
				return err
			}
			fmt.Println(img.Ref+"@"+img.Digest, img.Layout)
		}
		return nil
	case "run":
		return start(ctx, l, args)
	case "attack":
		return attack(ctx, l, args)
	case "demo":
		return demo(ctx, l, args)
	case "demo-down":
		return l.DemoDown(ctx)
	case "load-kubernetes":
		if len(args) != 1 {
			return &usageError{}
		}
		ref, err := l.LoadKubernetes(ctx, args[0])
		if err == nil {
			fmt.Println(ref)
		}
		return err
	case "c2":
		if len(args) != 2 {
			return &usageError{}
		}
		return lab.ServeC2(ctx, args[0], args[1])
	}
	return &usageError{}
}

func start(ctx context.Context, l *lab.Lab, args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return &usageError{}
	}
	s := lab.RunSpec{Runtime: args[0], Image: args[1]}
	if len(args) == 3 {
		s.Name, s.Exact = args[2], true
	}
	c, err := l.Start(ctx, s)
	if err != nil {
		return err
	}
	fmt.Println(c.Target, c.URL)
	return nil
}

// demo prints the target's URL, or writes it, with the lab's environment, to a file that a shell may source.
func demo(ctx context.Context, l *lab.Lab, args []string) error {
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	env := f.String("env", "", "write TARGET and the lab's environment to this file")
	if f.Parse(args) != nil || f.NArg() > 0 {
		return &usageError{}
	}
	c, _, err := l.Demo(ctx, os.Stderr)
	if err != nil {
		return err
	}
	if *env == "" {
		fmt.Println(c.Target)
		return nil
	}
	lines := append(l.Env(), "TARGET="+c.Target)
	return os.WriteFile(*env, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

// attack leaves the container running; the listener ends with this process.
func attack(ctx context.Context, l *lab.Lab, args []string) error {
	if len(args) == 0 {
		for _, a := range lab.Attacks() {
			fmt.Printf("%-12s %-8s %s\n", a.Name, a.Image, a.What)
		}
		return nil
	}
	runtime := lab.Docker
	if len(args) > 1 {
		runtime = args[1]
	}
	for _, a := range lab.Attacks() {
		if a.Name != args[0] {
			continue
		}
		s := lab.RunSpec{Runtime: runtime, Image: a.Image}
		if a.Root {
			s.User = "0:0"
		}
		c, err := l.Start(ctx, s)
		if err != nil {
			return err
		}
		c2, err := lab.ListenC2(c.Host())
		if err != nil {
			return err
		}
		defer c2.Close()
		truth, err := l.Attack(ctx, c, a.Name, c2)
		if err != nil {
			return errors.Join(err, c.Remove())
		}
		b, err := json.MarshalIndent(truth, "", "  ")
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", b)
		fmt.Println(c.Target)
		fmt.Fprintln(os.Stderr, "lab: the listener stays until this program is interrupted; `lab down` removes the container")
		<-ctx.Done()
		return nil
	}
	return fmt.Errorf("no attack is called %q; `lab attack` lists them", args[0])
}
