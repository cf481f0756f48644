package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Down removes all of the lab's containers, ends its daemons, and takes away what they left: mounts, network
// namespaces, the bridge, empty control groups, state. Packages and built images stay for the next time unless
// everything is asked for.
func (l *Lab) Down(ctx context.Context, everything bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready = map[string]bool{}
	if _, err := os.Stat(l.run); errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(l.base); errors.Is(err, os.ErrNotExist) {
			return nil
		}
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	// Errors of single steps do not keep the next from being tried: what matters is what is left at the end.
	var errs error
	if err := l.installed(Runc); err == nil {
		errs = errors.Join(errs, l.stopKubernetes(ctx))
		errs = errors.Join(errs, l.removeContainers(ctx))
	}
	for _, name := range []string{"c2", dockerName("vfs"), Docker, Containerd} {
		errs = errors.Join(errs, l.endDaemon(name))
	}
	errs = errors.Join(errs, l.endStrays(), l.unmountAll())
	for _, n := range l.bridge.namespaces() {
		errs = errors.Join(errs, n.remove())
	}
	errs = errors.Join(errs, l.bridge.down(), l.removeCgroups(), l.removeState(everything))
	return errs
}

// removeContainers asks each runtime that answers to remove everything that it has.
func (l *Lab) removeContainers(ctx context.Context) error {
	var errs error
	for _, storage := range []string{"", "vfs"} {
		if !answers(filepath.Join(l.run, dockerName(storage)+".sock")) {
			continue
		}
		ids, err := l.docker(ctx, storage, "ps", "--all", "--quiet", "--no-trunc")
		if err == nil && ids != "" {
			_, err = l.docker(ctx, storage, append([]string{"rm", "--force", "--volumes"}, strings.Fields(ids)...)...)
		}
		errs = errors.Join(errs, err)
	}
	if answers(l.ContainerdAddress()) {
		ids, err := l.ctr(ctx, "container", "ls", "--quiet")
		errs = errors.Join(errs, err)
		for _, id := range strings.Fields(ids) {
			c := &Container{Name: id, Runtime: Containerd, lab: l}
			errs = errors.Join(errs, c.Remove())
		}
	}
	if _, err := os.Stat(l.podmanConfig()); err == nil {
		for _, storage := range []string{"", "vfs"} {
			if root, _ := l.podmanDirs(storage); exists(root) {
				_, err := l.podman(ctx, storage, "rm", "--all", "--force", "--volumes", "--time", "0")
				errs = errors.Join(errs, err)
			}
		}
	}
	if exists(l.RuncRoot()) {
		ids, err := l.runc(ctx, "list", "--quiet")
		errs = errors.Join(errs, err)
		for _, id := range strings.Fields(ids) {
			c := &Container{Name: id, Runtime: Runc, lab: l}
			errs = errors.Join(errs, c.Remove())
		}
	}
	return errs
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// endStrays ends shims and monitors of this lab that outlived their container. They are known by the lab's own
// directories on their command lines; nobody else's process has these.
func (l *Lab) endStrays() error {
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	var errs error
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err != nil {
			continue // it ended meanwhile
		}
		args := strings.Split(string(b), "\x00")
		name := filepath.Base(args[0])
		if name != "conmon" && !strings.HasPrefix(name, "containerd-shim") {
			continue
		}
		ours := func(arg string) bool {
			return strings.HasPrefix(arg, l.run+"/") || strings.HasPrefix(arg, l.base+"/")
		}
		if slices.ContainsFunc(args[1:], ours) {
			errs = errors.Join(errs, end(atoi(filepath.Base(filepath.Dir(p))), 5*time.Second))
		}
	}
	return errs
}

// unmountAll takes away every mount below the lab's directories, the last made first.
func (l *Lab) unmountAll() error {
	var errs error
	mounts, err := l.mounts()
	if err != nil {
		return err
	}
	slices.Reverse(mounts)
	for _, m := range mounts {
		if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = errors.Join(errs, fmt.Errorf("unmounting %s: %w", m, err))
		}
	}
	return errs
}

// mounts are the mount points below the lab's directories, in the order they were made.
func (l *Lab) mounts() ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		// The kernel writes a blank in a path as \040; the lab's paths have none, but one below them might.
		point := strings.ReplaceAll(f[4], `\040`, " ")
		if strings.HasPrefix(point, l.base+"/") || strings.HasPrefix(point, l.run+"/") {
			out = append(out, point)
		}
	}
	return out, nil
}

// removeCgroups deletes the control groups above those of the containers, if nobody else's are in them.
func (l *Lab) removeCgroups() error {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		for _, name := range []string{"docker", containerdNamespace, l.bridge.tag, "libpod_parent/conmon", "libpod_parent"} {
			dirs, err := filepath.Glob(filepath.Join(root, name))
			if err != nil {
				return err
			}
			for _, d := range dirs {
				_ = unix.Rmdir(d) // refused where something is in it: then it is not the lab's alone
			}
		}
	}
	return nil
}

func (l *Lab) removeState(everything bool) error {
	if left, err := l.mounts(); err != nil || len(left) > 0 {
		return errors.Join(err, fmt.Errorf("still mounted, so nothing is deleted: %s", strings.Join(left, ", ")))
	}
	keep := map[string]bool{"packages": true, "images": true, "bin": true}
	entries, err := os.ReadDir(l.base)
	if err != nil {
		return err
	}
	var errs error
	for _, e := range entries {
		if everything || !keep[e.Name()] {
			errs = errors.Join(errs, os.RemoveAll(filepath.Join(l.base, e.Name())))
		}
	}
	if everything {
		errs = errors.Join(errs, os.Remove(l.base))
	}
	errs = errors.Join(errs, l.removeFootprints())
	return errors.Join(errs, os.RemoveAll(l.run))
}
