package safefs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/internal/thread"
)

// cloneMount makes a detached clone of the mount below h that shows the same files and is read-only, noatime and
// nodev. It is in no namespace, so nobody else sees it, and it is gone when its descriptor is closed. With ns, the path of a
// mount namespace's file, the clone is made by a thread of ours that enters that namespace, because the kernel
// clones mounts of the caller's namespace only; the thread ends afterwards. (A child started with Pdeathsig dies with the
// thread that forked it, which may be that one: start such children from a goroutine that is locked to its thread.)
func cloneMount(g *guard, h *handle, ns string, recursive bool) (*handle, error) {
	return run(g, h, func(fd int) (*handle, error) {
		n, err := cloneHere(fd, recursive)
		if errors.Is(err, unix.EINVAL) && ns != "" {
			n, err = cloneThere(fd, ns, recursive)
		}
		if err != nil {
			return nil, fmt.Errorf("cloning the mount: %w", err)
		}
		return newHandle(n), nil
	}, func(h *handle) {
		if h != nil {
			h.close()
		}
	})
}

func cloneHere(fd int, recursive bool) (int, error) {
	flags, at := uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH), uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
		at |= unix.AT_RECURSIVE
	}
	n, err := unix.OpenTree(fd, "", flags)
	if err != nil {
		return -1, err
	}
	attr := unix.MountAttr{
		Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOATIME | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID,
		// The kernel wants the whole atime field cleared by whoever sets a part of it.
		Attr_clr:    unix.MOUNT_ATTR__ATIME,
		Propagation: unix.MS_PRIVATE,
	}
	if err := unix.MountSetattr(n, "", at, &attr); err != nil {
		unix.Close(n) //nolint:errcheck // nothing was written
		return -1, err
	}
	return n, nil
}

func cloneThere(fd int, ns string, recursive bool) (n int, err error) {
	thread.Apart(func() {
		n, err = func() (int, error) {
			nsfd, err := unix.Open(ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return -1, err
			}
			defer unix.Close(nsfd) //nolint:errcheck // opened for reading
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return -1, fmt.Errorf("a thread of its own for mount namespace %s: %w", ns, err)
			}
			if err := unix.Setns(nsfd, unix.CLONE_NEWNS); err != nil {
				return -1, fmt.Errorf("entering mount namespace %s: %w", ns, err)
			}
			return cloneHere(fd, recursive)
		}()
	})
	return n, err
}
