package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// DemoName is the name of the container that the demonstration breaks into.
const DemoName = "checkout"

// Demo starts goweb as "checkout" in Docker (or containerd, if Docker does not start), lets customers use it for
// a moment, and breaks into it. The container and the listener that its implant calls stay until DemoDown. One
// short line for each step goes to out.
func (l *Lab) Demo(ctx context.Context, out io.Writer) (*Container, *Truth, error) {
	runtime := Docker
	if err := l.Up(ctx, Docker); err != nil {
		fmt.Fprintf(out, "lab: Docker does not start here (%v); containerd it is\n", err)
		runtime = Containerd
	}
	if err := l.DemoDown(ctx); err != nil {
		return nil, nil, err
	}
	c, err := l.Start(ctx, RunSpec{
		Runtime: runtime, Image: "goweb", Name: DemoName, Exact: true, User: "0:0",
		Env: []string{"DB_PASSWORD=correct-horse-battery", "DB_HOST=db.internal.test"}, Labels: map[string]string{"team": "shop"},
	})
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(out, "started   %s  %s in %s: a Go web application on a distroless image, pid %d\n", c.Name, c.Ref, c.Runtime, c.PID)
	busy, cancel := context.WithTimeout(ctx, 700*time.Millisecond)
	n, err := c.Busy(busy)
	cancel()
	if err != nil {
		return c, nil, err
	}
	fmt.Fprintf(out, "customers %d requests answered\n", n)
	addr, err := l.startC2(ctx, c.Host())
	if err != nil {
		return c, nil, err
	}
	fmt.Fprintf(out, "intruder  listens at %s\n", addr)
	// The listener is another process, since this one ends: what it counts is asked of it there.
	truth, err := l.Attack(ctx, c, "deleted", attachC2(ctx, addr, filepath.Join(l.run, "c2")))
	if err != nil {
		return c, nil, err
	}
	for _, r := range truth.Requests {
		if len(r) > 72 {
			r = r[:69] + "..."
		}
		fmt.Fprintf(out, "intruder  %s\n", r)
	}
	fmt.Fprintf(out, "implant   process %d calls itself %q, is %s, sent %d bytes to %s\n", truth.PID, truth.Comm, truth.Exe, truth.Sent, truth.C2)
	return c, truth, l.saveDemo(c, truth)
}

type demoState struct {
	Runtime string `json:"runtime"`
	Target  string `json:"target"`
	URL     string `json:"url"`
	Network string `json:"network"` // the lab's network namespace, if the runtime has none of its own
	Truth   *Truth `json:"truth"`
}

func (l *Lab) demoFile() string { return filepath.Join(l.base, "demo.json") }

func (l *Lab) saveDemo(c *Container, truth *Truth) error {
	b, err := json.MarshalIndent(demoState{c.Runtime, c.Target, c.URL, c.net.name, truth}, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(l.demoFile(), append(b, '\n'), 0o600)
}

// DemoDown removes what Demo left running. Nothing there is no error.
func (l *Lab) DemoDown(ctx context.Context) error {
	if pid := l.daemonPID("c2"); pid != 0 {
		if err := end(pid, 5*time.Second); err != nil {
			return err
		}
	}
	for _, runtime := range []string{Docker, Containerd} {
		c := &Container{Name: DemoName, Runtime: runtime, lab: l}
		socket := filepath.Join(l.run, "docker.sock")
		if runtime == Containerd {
			socket = l.ContainerdAddress()
		}
		if answers(socket) {
			if err := c.Remove(); err != nil {
				return err
			}
		}
	}
	b, err := os.ReadFile(l.demoFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var s demoState
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("%s: %w", l.demoFile(), err)
	}
	return errors.Join(netns{name: s.Network}.remove(), os.Remove(l.demoFile()))
}

// startC2 starts a listener that outlives this process: a copy of the lab's own program.
func (l *Lab) startC2(ctx context.Context, host string) (string, error) {
	self, err := l.programFile(ctx, "cmd/lab")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(l.run, "c2")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "address")
	for _, old := range []string{file, filepath.Join(dir, "call-0.json")} {
		if err := os.Remove(old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	logFile, err := os.OpenFile(filepath.Join(l.base, "log", "c2.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return "", err
	}
	defer logFile.Close()
	cmd := exec.Command(self, "c2", host, dir)
	cmd.Stdout, cmd.Stderr, cmd.Dir = logFile, logFile, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(l.run, "c2.pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return "", err
	}
	go func() { _ = cmd.Wait() }()
	var addr []byte
	if !waitFor(ctx, 10*time.Second, func() bool { addr, err = os.ReadFile(file); return err == nil && len(addr) > 0 }) {
		return "", fmt.Errorf("the listener did not start: %s", tail(logFile.Name(), 5))
	}
	return string(addr), nil
}

// ServeC2 listens on host until ctx ends. It writes its address into dir, and there, for each caller, what it
// said and how much it sent: that is how a process that did not start it learns of calls.
func ServeC2(ctx context.Context, host, dir string) error {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return errors.New("the host is wanted without a port")
	}
	c, err := ListenC2(host)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := replaceFile(filepath.Join(dir, "address"), []byte(c.Addr)); err != nil {
		return err
	}
	for n := 0; ; n++ {
		s, err := c.Wait(ctx)
		if err != nil {
			return nil // told to end
		}
		for last := int64(-1); last != s.Received(); time.Sleep(50 * time.Millisecond) {
			last = s.Received()
		}
		b, err := json.Marshal(call{s.Remote, s.At, s.Hello, s.Received()})
		if err != nil {
			return err
		}
		if err := replaceFile(filepath.Join(dir, fmt.Sprintf("call-%d.json", n)), b); err != nil {
			return err
		}
	}
}

// call is a session as another process sees it.
type call struct {
	Remote   string
	At       time.Time
	Hello    map[string]string
	Received int64
}

// replaceFile writes a file that readers see whole or not at all.
func replaceFile(path string, b []byte) error {
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// attachC2 is a C2 that another process serves, see ServeC2.
func attachC2(ctx context.Context, addr, dir string) *C2 {
	c := &C2{Addr: addr, arrivals: make(chan *Session, 1)}
	go func() {
		for {
			b, err := os.ReadFile(filepath.Join(dir, "call-0.json"))
			var got call
			if err == nil && json.Unmarshal(b, &got) == nil {
				s := &Session{Remote: got.Remote, At: got.At, Hello: got.Hello}
				s.received.Store(got.Received)
				c.arrivals <- s
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return c
}
