package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Status describes, one line each, the runtimes and how many containers they have.
func (l *Lab) Status(ctx context.Context) []string {
	line := func(name, where string, up bool, list func() (string, error)) string {
		if !up {
			return fmt.Sprintf("%-11s down", name)
		}
		out, err := list()
		if err != nil {
			return fmt.Sprintf("%-11s up at %s, but: %v", name, where, err)
		}
		pid := ""
		if p := l.daemonPID(name); p != 0 {
			pid = fmt.Sprintf(" (pid %d)", p)
		}
		return fmt.Sprintf("%-11s up at %s%s, containers: %d", name, where, pid, len(strings.Fields(out)))
	}
	podmanRoot, _ := l.podmanDirs("")
	if os.Getuid() != 0 {
		return []string{"the lab is root's; run this as root"}
	}
	if err := l.installed(Runc); err != nil {
		return []string{err.Error()}
	}
	return []string{
		line(Containerd, l.ContainerdAddress(), answers(l.ContainerdAddress()), func() (string, error) { return l.ctr(ctx, "container", "ls", "--quiet") }),
		line(Docker, l.DockerHost(), answers(filepath.Join(l.run, "docker.sock")), func() (string, error) { return l.docker(ctx, "", "ps", "--all", "--quiet") }),
		line(Podman, podmanRoot, exists(l.podmanConfig()), func() (string, error) { return l.podman(ctx, "", "ps", "--all", "--quiet") }),
		line(Runc, l.RuncRoot(), exists(l.RuncRoot()), func() (string, error) { return l.runc(ctx, "list", "--quiet") }),
	}
}
