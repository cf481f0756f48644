package memory

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// watchdogWord is the first argument of the process that thaws a container when the one that froze it dies.
const watchdogWord = "__thaw-watchdog"

// IsWatchdog reports whether a program's arguments (without its name) are those of the thawing process, which
// Freeze starts: the program must then do nothing but exit with WatchdogMain's status.
func IsWatchdog(args []string) bool { return len(args) > 0 && args[0] == watchdogWord }

// watchdog is the thawing process as seen by the one that started it.
type watchdog struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// startWatchdog starts this very program again, in a session of its own so that no terminal's signal reaches it, and
// returns when it stands by.
func startWatchdog(c *freezer, limit time.Duration) (*watchdog, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	_, thaw := c.words()
	cmd := exec.Command("/proc/self/exe", watchdogWord, c.control(), thaw, strconv.FormatInt(int64(limit), 10))
	cmd.Args[0] = os.Args[0]
	cmd.Stdin = in
	cmd.Dir = "/"
	cmd.Env = []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		out.Close()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		out.Close()
		return nil, err
	}
	w := &watchdog{cmd: cmd, pipe: out}
	line, err := within(10*time.Second, func() (string, error) {
		b := make([]byte, 64)
		n, err := ready.Read(b)
		return string(b[:n]), err
	})
	if !strings.HasPrefix(line, "ready") {
		return nil, errors.Join(fmt.Errorf("it did not get ready: %q", line), err, w.end(true))
	}
	return w, nil
}

// end lets the process go: without a further thaw if all is well.
func (w *watchdog) end(well bool) error {
	if w == nil {
		return nil
	}
	if well {
		if _, err := w.pipe.WriteString("done\n"); err != nil && !errors.Is(err, syscall.EPIPE) {
			return errors.Join(err, w.pipe.Close())
		}
	}
	w.pipe.Close()
	_, err := within(20*time.Second, func() (struct{}, error) { return struct{}{}, w.cmd.Wait() })
	if well {
		return nil // its status tells nothing: the container is thawed
	}
	return err
}

// WatchdogMain is the thawing process: it waits until standard input closes or the time is up, thaws, and returns the
// exit status. "done" on standard input means that there is nothing to thaw.
func WatchdogMain(args []string) int {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGTSTP)
	if len(args) != 4 {
		return 2
	}
	limit, err := strconv.ParseInt(args[3], 10, 64)
	if err != nil || args[2] != "THAWED" && args[2] != "0" {
		return 2
	}
	// Opened now: it works whatever becomes of the mounts.
	f, err := os.OpenFile(args[1], os.O_WRONLY, 0)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer f.Close()
	fmt.Println("ready")
	closed := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(os.Stdin, 16)) //nolint:errcheck // however it ends: the other side is gone
		closed <- string(b)
	}()
	select {
	case word := <-closed:
		if strings.HasPrefix(word, "done") {
			return 0
		}
	case <-time.After(time.Duration(limit)):
	}
	for wait := 10 * time.Millisecond; ; wait = min(wait*2, time.Second) {
		if _, err := f.WriteAt([]byte(args[2]), 0); err == nil || errors.Is(err, syscall.ENODEV) {
			return 0
		}
		if wait == time.Second {
			// The descriptor is of no use: try by name, as long as there is a cgroup.
			if err := os.WriteFile(args[1], []byte(args[2]), 0); err == nil || errors.Is(err, os.ErrNotExist) {
				return 0
			}
		}
		time.Sleep(wait)
	}
}
