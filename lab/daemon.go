package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// programs are what each runtime needs on the PATH, and setup.sh installs.
var programs = map[string][]string{
	Containerd: {"containerd", "ctr", "runc", "containerd-shim-runc-v2"},
	Docker:     {"dockerd", "docker", "containerd", "runc"},
	Podman:     {"podman", "conmon", "runc"},
	Runc:       {"runc"},
	Kubernetes: {"etcd", "runc", "ip"},
}

func (l *Lab) installed(runtime string) error {
	// Debian keeps dockerd and runc in sbin, which is not on everybody's PATH.
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path := os.Getenv("PATH"); !strings.Contains(":"+path+":", ":"+dir+":") {
			if err := os.Setenv("PATH", path+":"+dir); err != nil {
				return err
			}
		}
	}
	var missing []string
	for _, p := range programs[runtime] {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not installed: %s; run lab/setup.sh, which installs Debian's packages", strings.Join(missing, ", "))
	}
	return nil
}

// daemon starts a program that outlives this process, unless it answers already, and waits until its socket
// accepts.
func (l *Lab) daemon(ctx context.Context, name, socket string, env []string, argv ...string) error {
	return l.daemonUntil(ctx, name, "at "+socket, func() bool { return answers(socket) }, env, argv...)
}

// daemonUntil is daemon for a program that says in another way that it is ready, and where it then is.
func (l *Lab) daemonUntil(ctx context.Context, name, where string, ready func() bool, env []string, argv ...string) error {
	if ready() {
		return nil
	}
	pidFile := filepath.Join(l.run, name+".pid")
	if pid := l.daemonPID(name); pid != 0 {
		// It runs but does not accept: still starting, or hung.
		if waitFor(ctx, 5*time.Second, ready) {
			return nil
		}
		if err := end(pid, 10*time.Second); err != nil {
			return err
		}
	}
	logPath := filepath.Join(l.base, "log", name+".log")
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	began := time.Now()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	if err := os.WriteFile(pidFile, []byte(strconv.Itoa(pid)), 0o600); err != nil {
		return err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	deadline := time.After(60 * time.Second)
	for !ready() {
		select {
		case err := <-exited:
			return fmt.Errorf("%s ended at once (%w); the end of %s:\n%s", name, orExit(err), logPath, tail(logPath, 15))
		case <-deadline:
			return fmt.Errorf("%s does not answer %s after 60 s; the end of %s:\n%s", name, where, logPath, tail(logPath, 15))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	fmt.Fprintf(l.say, "lab: started %s (pid %d) %s in %.1f s\n", name, pid, where, time.Since(began).Seconds())
	return nil
}

func orExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// daemonPID is the pid in name's pid file if that process still is the lab's, else 0. A pid alone proves
// nothing: the number may have gone to another process since.
func (l *Lab) daemonPID(name string) int {
	b, err := os.ReadFile(filepath.Join(l.run, name+".pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 2 {
		return 0
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(cmdline), l.run+"/") && !strings.Contains(string(cmdline), l.base+"/") {
		return 0
	}
	return pid
}

// endDaemon ends one of the lab's daemons, if it runs.
func (l *Lab) endDaemon(name string) error {
	pid := l.daemonPID(name)
	if pid == 0 {
		return nil
	}
	if err := end(pid, 15*time.Second); err != nil {
		return err
	}
	fmt.Fprintf(l.say, "lab: ended %s (pid %d)\n", name, pid)
	return nil
}

func answers(socket string) bool {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// end terminates one process by its pid and waits until it is gone.
func end(pid int, patience time.Duration) error {
	gone := func() bool { return !alive(pid) }
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(pid, sig); errors.Is(err, syscall.ESRCH) {
			return nil
		} else if err != nil {
			return fmt.Errorf("ending process %d: %w", pid, err)
		}
		if waitFor(context.Background(), patience, gone) {
			return nil
		}
	}
	return fmt.Errorf("process %d survived SIGKILL", pid)
}

// alive reports whether the process exists and is not a zombie.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	s := string(b)
	i := strings.LastIndexByte(s, ')')
	return i >= 0 && len(s) > i+2 && s[i+2] != 'Z' && s[i+2] != 'X'
}

// waitFor polls until ok says yes; false when patience or ctx ends first.
func waitFor(ctx context.Context, patience time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(patience); ; {
		if ok() {
			return true
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// command runs a program to its end and returns its standard output; an error holds what it said.
func command(ctx context.Context, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		said := strings.TrimSpace(stderr.String())
		if said == "" {
			said = strings.TrimSpace(string(out))
		}
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, said)
	}
	return strings.TrimSpace(string(out)), nil
}
