package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/cmd/internal/acquire"
	"github.com/sherd-forensics/sherd/collect"
	"github.com/sherd-forensics/sherd/collect/relay"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/target"
)

// wait is the process of a collector's pod: it makes packages when `ask` beside it is told to, until its time is over.
func wait(ctx context.Context, places *acquire.Places, dir string, deadline, idle time.Duration) error {
	if err := hostCgroups(places.Proc()); err != nil {
		// The containers' members are still told by their namespaces.
		fmt.Fprintf(os.Stderr, "sherd-collector: cgroups are seen from a cgroup of its own: %v\n", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return serveAll(ctx, places, dir, deadline, idle)
}

// serveAll makes packages in dir, and keeps them, until the time is over or it is told to quit.
func serveAll(ctx context.Context, places *acquire.Places, dir string, deadline, idle time.Duration) error {
	socket := filepath.Join(dir, "sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // left by a process of this container that was killed
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("the collector's %s are over", deadline))
	defer cancel()
	s := &relay.Server{Dir: dir, Idle: idle, Questions: questions(places), Uploads: &relay.Uploader{Roots: certificates(places)}, Capture: func(ctx context.Context, r *relay.Request, w io.Writer, stage func(string)) (*relay.Result, error) {
		return serve(ctx, places, r, w, stage)
	}}
	return s.Serve(ctx, l)
}

// certificates are where distributions keep those by which the machine trusts others: the collector's image holds none.
func certificates(places *acquire.Places) []string {
	var out []string
	for _, f := range []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"} {
		if real, err := places.Real(f); err == nil {
			f = real
		}
		out = append(out, places.Host(f))
	}
	return out
}

// moved in the environment says that hostCgroups was tried.
const moved = "SHERD_COLLECTOR_MOVED"

// hostCgroups starts this program anew in the machine's cgroup namespace, if it has one of its own: in that, the paths of other containers'
// cgroups begin with "/../..", and none is found in the file system. Threads have the namespace each, which is why the program must
// start again (cgroup_namespaces(7)). The machine's is that of its first process, or where that is out of reach of the runtime's
// process that started us. It returns if there is nothing to do, or that failed.
func hostCgroups(proc string) error {
	ours, err := os.Readlink("/proc/self/ns/cgroup")
	if err != nil {
		return err
	}
	var theirs string
	var file string
	for _, pid := range []int{1, os.Getppid()} {
		file = fmt.Sprintf("%s/%d/ns/cgroup", proc, pid)
		if theirs, err = os.Readlink(file); err == nil {
			break
		}
	}
	switch {
	case err != nil:
		return err
	case theirs == ours:
		return nil
	case os.Getenv(moved) != "":
		return errors.New("entering the machine's cgroup namespace had no effect")
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("entering the machine's cgroup namespace: %w", err)
	}
	return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), moved+"=1"))
}

// told is the container as the cluster describes it, and as it is seen from beside it.
func told(cluster, seen *target.Container) *target.Container {
	c := *cluster
	c.PID, c.Inside, c.Rootfs, c.Distroless, c.CgroupPath = seen.PID, true, seen.Rootfs, seen.Distroless, seen.CgroupPath
	c.Warnings = append(slices.Clip(c.Warnings), seen.Warnings...)
	c.Streams = seen.Streams
	return &c
}

// serve captures what one request asks for. The package is signed with a key made for it alone: the pod has none, and whoever asked
// signs it again with his own.
func serve(ctx context.Context, places *acquire.Places, r *relay.Request, w io.Writer, stage func(string)) (*relay.Result, error) {
	capture := acquire.Capture{Memory: r.Capture.Memory, Freeze: r.Capture.Freeze, WithSecrets: r.Capture.WithSecrets, Remote: r.Capture.Remote, EncryptTo: r.Capture.EncryptTo, Partial: true, Checkpoint: r.Checkpoint}
	if capture.Memory == "" {
		capture.Memory = "private"
	}
	if err := capture.Check(); err != nil {
		return nil, err
	}
	stage("finding the container")
	src, why, err := find(ctx, places, r)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	captured := src.Container.URL
	if r.Container != nil {
		src.Container = told(r.Container, src.Container)
	}
	if r.URL != "" {
		src.Container.URL = r.URL
	}
	for _, l := range r.Logs {
		src.Container.Streams = append(src.Container.Streams, target.Stream{Path: "logs/" + path.Base(l.Name), Origin: l.Origin,
			Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(l.Data)), nil }})
	}
	for _, d := range r.Records {
		src.Container.Records = append(src.Container.Records, target.Record{Name: d.Name, Origin: d.Origin, Data: d.Data})
	}
	src.Container.Warnings = append(src.Container.Warnings, r.Warnings...)
	recipients, err := evidence.ParseRecipients(capture.EncryptTo)
	if err != nil {
		return nil, err
	}
	out, err := collect.NewWriter(w, src.Container, evidence.WriterOptions{Tool: "sherd-collector " + version, Recipients: recipients})
	if err != nil {
		return nil, err
	}
	res, err := src.Collect(ctx, out, capture, stage)
	if res == nil {
		return nil, err
	}
	s := res.Sealed
	got := &relay.Result{Size: s.Size, SHA256: s.SHA256, ID: s.ID, Artifacts: s.Artifacts, Processes: res.Processes, Missed: len(res.Coverage.Missed), KeyID: s.KeyID}
	if why != "" {
		got.Target, got.Why = captured, why
	}
	if err != nil {
		got.Stopped = err.Error()
	}
	return got, nil
}
