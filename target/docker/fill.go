package docker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/containerd"
	"github.com/sherd-forensics/sherd/target/ocispec"
	"github.com/sherd-forensics/sherd/target/procfs"
)

// fill says everything about a container but Records.
func (r *Runtime) fill(ctx context.Context, in *inspected) *target.Container {
	name := cmp.Or(strings.TrimPrefix(in.Name, "/"), in.ID)
	c := &target.Container{URL: "docker://" + name, Runtime: "docker", ID: in.ID, Name: name, State: state(in.State.Status),
		Created: stamp(in.Created), Started: stamp(in.State.StartedAt), Finished: stamp(in.State.FinishedAt),
		ExitCode: in.State.ExitCode, Restarts: in.RestartCount, PID: in.State.Pid, User: in.Config.User, Labels: in.Config.Labels}
	c.Pod = target.PodOf(c.Labels)
	c.Image = target.Image{Name: in.Config.Image, ConfigID: in.Image}
	if in.Path != "" {
		c.Entrypoint = append([]string{in.Path}, in.Args...)
	}
	if in.State.Error != "" {
		c.Warn("Docker notes an error of this container: " + in.State.Error)
	}
	if in.State.OOMKilled {
		c.Warn("Docker notes that the container ran out of memory")
	}
	img := r.image(ctx, c)
	r.process(c)
	r.rootfs(ctx, c, in, img)
	if in.HostConfig != nil {
		c.Rootfs.ReadOnly = in.HostConfig.ReadonlyRootfs
		if blind := target.Sandboxed(in.HostConfig.Runtime); blind != "" {
			c.Warn(blind)
		}
	}
	c.Mounts = mounts(in)
	c.Logs = r.logs(ctx, c, in)
	c.Privileges = privileges(in, c.Mounts)
	return c
}

// stamp reads Docker's times; year 1 means never.
func stamp(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC()
}

// process checks that the pid is the container's as we see processes, and finds its cgroup.
func (r *Runtime) process(c *target.Container) {
	if c.PID == 0 {
		return
	}
	if r.kernel == nil {
		c.Warn(fmt.Sprintf("Docker runs elsewhere (%s): its process %d can't be reached from here", r.socket, c.PID))
		c.PID = 0
		return
	}
	path, warning := r.kernel.Confirm(c.PID, c.ID)
	c.CgroupPath = path
	if warning != "" {
		c.Warn(warning)
		if path == "" {
			c.PID = 0
		}
	}
}

// rootfs tells how the root is put together.
func (r *Runtime) rootfs(ctx context.Context, c *target.Container, in *inspected, img *image) {
	var diffs []string
	if img != nil {
		diffs = img.RootFS.Layers
	}
	driver, data := in.Driver, map[string]string(nil)
	if g := in.GraphDriver; g != nil {
		driver, data = cmp.Or(g.Name, driver), g.Data
	}
	switch {
	case data["UpperDir"] != "":
		c.Rootfs = overlay(data)
	case driver == "vfs" && !r.remote:
		r.vfs(ctx, c)
	default:
		r.snapshot(ctx, c, in, driver)
	}
	label(c, diffs)
	r.digests(ctx, c, in.Driver)
}

// overlay reads what the overlay2 driver tells.
func overlay(data map[string]string) target.Rootfs {
	fs := target.Rootfs{Driver: "overlay", Upper: data["UpperDir"], Work: data["WorkDir"], Merged: data["MergedDir"]}
	lower := strings.Split(data["LowerDir"], ":")
	slices.Reverse(lower)
	for _, d := range lower {
		if d != "" {
			fs.Layers = append(fs.Layers, target.Layer{Dir: d, Init: procfs.IsInitLayer(d)})
		}
	}
	return fs
}

// label gives the image's layers their diff ids, where there are as many of them.
func label(c *target.Container, diffs []string) {
	c.Image.DiffIDs = diffs
	var own []*target.Layer
	for i := range c.Rootfs.Layers {
		if l := &c.Rootfs.Layers[i]; !l.Init {
			own = append(own, l)
		}
	}
	if len(own) == 0 || len(diffs) == 0 {
		return
	}
	if len(own) != len(diffs) {
		c.Warn(fmt.Sprintf("the container has %d layers below its own and the image %d: the layers' ids are left out", len(own), len(diffs)))
		return
	}
	for i, l := range own {
		l.DiffID = diffs[i]
	}
}

// snapshot finds the root of a container whose layers containerd keeps (Docker's containerd image store, the default from
// version 29 on): from the running process, or from containerd itself.
func (r *Runtime) snapshot(ctx context.Context, c *target.Container, in *inspected, driver string) {
	if s := in.Storage; s != nil && s.RootFS != nil && s.RootFS.Snapshot != nil {
		driver = cmp.Or(s.RootFS.Snapshot.Name, driver)
	}
	if c.PID != 0 && r.kernel != nil {
		fs, notes, err := r.kernel.Rootfs(c.PID)
		if err == nil && fs.Driver != "" {
			c.Rootfs = fs
			c.Warnings = append(c.Warnings, notes...)
			return
		}
	}
	if r.remote {
		c.Warn("Docker runs elsewhere: the container's files can't be reached from here")
		return
	}
	p := r.places
	p.ContainerdNamespace = "moby"
	ctd, err := containerd.NewFor(p, "Docker")
	if err == nil {
		defer ctd.Close()
		ctx, cancel := context.WithTimeout(ctx, target.Asking)
		defer cancel()
		var fs target.Rootfs
		if fs, err = ctd.Rootfs(ctx, "moby", driver, c.ID); err == nil {
			c.Rootfs = fs
			return
		}
	}
	c.Warn(fmt.Sprintf("where the container's files lie is not known: Docker's driver %q does not tell, and containerd says: %v", driver, err))
}

func mounts(in *inspected) []target.Mount {
	var out []target.Mount
	for _, m := range in.Mounts {
		t := target.Mount{Type: string(m.Type), Source: m.Source, Destination: m.Destination, ReadOnly: !m.RW, Name: m.Name}
		if m.Mode != "" {
			t.Options = strings.Split(m.Mode, ",")
		}
		out = append(out, t)
	}
	if in.HostConfig != nil {
		for _, dst := range slices.Sorted(maps.Keys(in.HostConfig.Tmpfs)) {
			out = append(out, target.Mount{Type: "tmpfs", Destination: dst, Options: strings.Split(in.HostConfig.Tmpfs[dst], ",")})
		}
	}
	for dst, src := range map[string]string{"/etc/resolv.conf": in.ResolvConfPath, "/etc/hostname": in.HostnamePath, "/etc/hosts": in.HostsPath} {
		if src != "" {
			out = append(out, target.Mount{Type: "bind", Source: src, Destination: dst})
		}
	}
	slices.SortStableFunc(out, func(a, b target.Mount) int { return strings.Compare(a.Destination, b.Destination) })
	return out
}

func (r *Runtime) logs(ctx context.Context, c *target.Container, in *inspected) []target.LogFile {
	driver := "json-file"
	if in.HostConfig != nil && in.HostConfig.LogConfig.Type != "" {
		driver = in.HostConfig.LogConfig.Type
	}
	switch driver {
	case "json-file":
		if in.LogPath != "" {
			return []target.LogFile{{Path: in.LogPath, Format: "json-file"}}
		}
		if c.State != target.Created {
			c.Warn("Docker names no log file")
		}
		return nil
	case "local":
		dir := filepath.Dir(in.HostsPath)
		if in.HostsPath == "" {
			dir = filepath.Join(r.dataRoot(ctx), "containers", in.ID)
		}
		return []target.LogFile{{Path: filepath.Join(dir, "local-logs", "container.log"), Format: "local"}}
	case "journald":
		return []target.LogFile{{Path: "/var/log/journal", Format: "journald"}}
	case "none":
		c.Warn("Docker was told to keep no log of this container")
	default:
		c.Warn("Docker sends this container's log elsewhere, by its driver " + driver)
	}
	return nil
}

// privileges lists in words what the container may beyond a common one, sorted.
func privileges(in *inspected, ms []target.Mount) []string {
	h := in.HostConfig
	if h == nil {
		return nil
	}
	set := map[string]bool{}
	if h.Privileged {
		set["privileged"] = true
	} else {
		for _, k := range ocispec.Beyond(h.CapAdd) {
			set[k] = true
		}
	}
	for _, k := range []struct {
		is   bool
		word string
	}{{h.NetworkMode.IsHost(), "host network"}, {h.PidMode.IsHost(), "host pid"}, {h.IpcMode.IsHost(), "host ipc"}, {h.UTSMode.IsHost(), "host uts"}, {h.UsernsMode.IsHost(), "host user namespace"}} {
		if k.is {
			set[k.word] = true
		}
	}
	for _, o := range h.SecurityOpt {
		switch strings.Replace(o, ":", "=", 1) {
		case "seccomp=unconfined":
			set["no seccomp filter"] = true
		case "apparmor=unconfined":
			set["no AppArmor profile"] = true
		case "label=disable":
			set["no SELinux label"] = true
		}
	}
	for _, d := range h.Devices {
		set["device "+d.PathOnHost] = true
	}
	for _, m := range ms {
		if w := ocispec.Exposes(m.Source, m.Type == "bind", m.ReadOnly); w != "" {
			set[w] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}
