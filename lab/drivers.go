package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sherd-forensics/sherd/lab/image"
)

// driver is how one runtime does what every container wants.
type driver interface {
	// load puts the image into the runtime. The caller holds the lab's lock.
	load(ctx context.Context, s RunSpec, img image.Image) error
	// run starts c and fills in its ID, PID, Addr, Target and LogPath.
	run(ctx context.Context, c *Container, img image.Image) error
	stop(ctx context.Context, c *Container) error
	kill(ctx context.Context, c *Container) error
	pause(ctx context.Context, c *Container) error
	unpause(ctx context.Context, c *Container) error
	remove(ctx context.Context, c *Container) error
	logs(ctx context.Context, c *Container) (string, error)
}

func (l *Lab) driverOf(runtime string) (driver, error) {
	switch runtime {
	case Docker:
		return dockerDriver{l}, nil
	case Containerd:
		return containerdDriver{l}, nil
	case Podman:
		return podmanDriver{l}, nil
	case Runc:
		return runcDriver{l}, nil
	case Kubernetes:
		return kubernetesDriver{l}, nil
	}
	return nil, fmt.Errorf("unknown runtime %q: known are docker, containerd, podman, runc and kubernetes", runtime)
}

func (c *Container) driver() (driver, error) { return c.lab.driverOf(c.Runtime) }

// provide builds the image that s asks for and puts it into the runtime, once for each content.
func (l *Lab) provide(ctx context.Context, s RunSpec) (image.Image, error) {
	d, err := l.driverOf(s.Runtime)
	if err != nil {
		return image.Image{}, err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return image.Image{}, err
	}
	defer unlock()
	if s.Runtime == Docker && s.Storage != "" {
		if err := l.startDocker(ctx, s.Storage); err != nil {
			return image.Image{}, err
		}
	}
	img, err := l.build(ctx, s.Image)
	if err != nil {
		return img, err
	}
	if s.Runtime == Containerd && s.User != "" {
		if img, err = img.As(s.User); err != nil {
			return img, err
		}
	}
	return img, l.once(strings.Join([]string{s.Runtime, s.Snapshotter + s.Storage, filepath.Base(img.Ref)}, "-"), img, func() error {
		began := time.Now()
		if err := d.load(ctx, s, img); err != nil {
			return fmt.Errorf("putting %s into %s: %w", img.Ref, s.Runtime, err)
		}
		fmt.Fprintf(l.say, "lab: put %s into %s in %.1f s\n", img.Ref, s.Runtime, time.Since(began).Seconds())
		return nil
	})
}

// once loads an image into the runtime that mark names, unless that has it with this content.
func (l *Lab) once(mark string, img image.Image, load func() error) error {
	mark = filepath.Join(l.base, "loaded", mark)
	if b, err := os.ReadFile(mark); err == nil && string(b) == img.Digest {
		return nil
	}
	if err := load(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(mark), 0o755); err != nil {
		return err
	}
	return os.WriteFile(mark, []byte(img.Digest), 0o644)
}

// archived writes an image into a file for as long as use takes.
func (l *Lab) archived(img image.Image, use func(file string) error) error {
	file := filepath.Join(l.base, "images", img.Name+".tar")
	if err := img.Archive(file); err != nil {
		return err
	}
	defer os.Remove(file)
	return use(file)
}

// common are the flags that docker run and podman run share.
func common(c *Container) []string {
	s := c.Spec
	args := []string{"--name", c.Name}
	for _, e := range s.Env {
		args = append(args, "--env", e)
	}
	if s.ReadOnly {
		args = append(args, "--read-only")
	}
	for _, t := range s.Tmpfs {
		args = append(args, "--tmpfs", t+":rw,exec,nosuid,nodev,mode=1777")
	}
	for _, v := range s.Volumes {
		args = append(args, "--volume", v)
	}
	if s.User != "" {
		args = append(args, "--user", s.User)
	}
	for _, k := range sortedKeys(s.Labels) {
		args = append(args, "--label", k+"="+s.Labels[k])
	}
	for _, k := range s.CapAdd {
		args = append(args, "--cap-add", k)
	}
	if s.PIDOf != nil {
		args = append(args, "--pid", "container:"+s.PIDOf.ID)
	}
	return args
}

// network is the path of the network namespace that it is to live in.
func (c *Container) network() string {
	if c.Spec.NetworkOf != nil {
		return fmt.Sprintf("/proc/%d/ns/net", c.Spec.NetworkOf.PID)
	}
	return c.net.path()
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

type dockerDriver struct{ *Lab }

// load lets Docker pull the image from a registry in this process, so that it knows the manifest's digest, as it
// does of any pulled image.
func (d dockerDriver) load(ctx context.Context, s RunSpec, img image.Image) error {
	host, stop, err := serveRegistry(img)
	if err != nil {
		return err
	}
	defer stop()
	pulled := host + "/lab/" + img.Name
	if _, err := d.docker(ctx, s.Storage, "pull", "--quiet", pulled+"@"+img.Digest); err != nil {
		return err
	}
	_, err = d.docker(ctx, s.Storage, "tag", pulled+"@"+img.Digest, img.Ref)
	return err
}

func (d dockerDriver) run(ctx context.Context, c *Container, img image.Image) error {
	args := append([]string{"run", "--detach"}, common(c)...)
	switch {
	case c.Spec.NetworkOf != nil:
		args = append(args, "--network", "container:"+c.Spec.NetworkOf.ID)
	case c.Spec.HostNetwork:
		args = append(args, "--network", "host")
	}
	if c.Spec.RotateAt != "" {
		args = append(args, "--log-opt", "max-size="+c.Spec.RotateAt, "--log-opt", "max-file=100")
	}
	id, err := d.docker(ctx, c.Spec.Storage, append(append(args, img.Ref), c.Spec.Args...)...)
	if err != nil {
		return err
	}
	c.ID, c.Target = id, "docker://"+c.Name
	return d.learn(ctx, c)
}

// learn asks for what changes with each start.
func (d dockerDriver) learn(ctx context.Context, c *Container) error {
	out, err := d.docker(ctx, c.Spec.Storage, "inspect", "--format", "{{.State.Pid}} {{.LogPath}} {{.NetworkSettings.IPAddress}}", c.ID)
	if err != nil {
		return err
	}
	f := append(strings.Fields(out), "")
	if len(f) < 3 || atoi(f[0]) == 0 {
		return fmt.Errorf("it does not run: docker inspect says %q", out)
	}
	c.PID, c.LogPath = atoi(f[0]), f[1]
	if !c.Spec.HostNetwork && c.Spec.NetworkOf == nil {
		c.Addr = f[2] + ":8080"
	}
	return nil
}

func (d dockerDriver) simple(ctx context.Context, c *Container, args ...string) error {
	_, err := d.docker(ctx, c.Spec.Storage, args...)
	return err
}
func (d dockerDriver) stop(ctx context.Context, c *Container) error {
	return d.simple(ctx, c, "stop", "--time", "2", c.Name)
}
func (d dockerDriver) kill(ctx context.Context, c *Container) error {
	return d.simple(ctx, c, "kill", c.Name)
}
func (d dockerDriver) pause(ctx context.Context, c *Container) error {
	return d.simple(ctx, c, "pause", c.Name)
}
func (d dockerDriver) unpause(ctx context.Context, c *Container) error {
	return d.simple(ctx, c, "unpause", c.Name)
}
func (d dockerDriver) remove(ctx context.Context, c *Container) error {
	err := d.simple(ctx, c, "rm", "--force", "--volumes", c.Name)
	if err != nil && strings.Contains(err.Error(), "No such container") {
		return nil
	}
	return err
}
func (d dockerDriver) logs(ctx context.Context, c *Container) (string, error) {
	return d.docker(ctx, c.Spec.Storage, "logs", c.Name)
}

type podmanDriver struct{ *Lab }

func (d podmanDriver) load(ctx context.Context, s RunSpec, img image.Image) error {
	host, stop, err := serveRegistry(img)
	if err != nil {
		return err
	}
	defer stop()
	pulled := host + "/lab/" + img.Name + "@" + img.Digest
	if _, err := d.podman(ctx, s.Storage, "pull", "--quiet", "--tls-verify=false", "--signature-policy", filepath.Join(d.Lab.run, "policy.json"), pulled); err != nil {
		return err
	}
	_, err = d.podman(ctx, s.Storage, "tag", pulled, img.Ref)
	return err
}

func (d podmanDriver) run(ctx context.Context, c *Container, img image.Image) error {
	args := append([]string{"run", "--detach", "--pull", "never"}, common(c)...)
	if c.Spec.HostNetwork {
		args = append(args, "--network", "host")
	} else {
		args = append(args, "--network", "ns:"+c.network())
	}
	id, err := d.podman(ctx, c.Spec.Storage, append(append(args, img.Ref), c.Spec.Args...)...)
	if err != nil {
		return err
	}
	c.ID, c.Target = id, "podman://"+c.Name
	out, err := d.podman(ctx, c.Spec.Storage, "inspect", "--format", "{{.State.Pid}} {{.HostConfig.LogConfig.Path}}", id)
	if err != nil {
		return err
	}
	pid, logPath, _ := strings.Cut(out, " ")
	c.PID, c.LogPath = atoi(pid), logPath
	if c.PID == 0 {
		return fmt.Errorf("it does not run: podman inspect says %q", out)
	}
	return nil
}

func (d podmanDriver) simple(ctx context.Context, c *Container, args ...string) error {
	_, err := d.podman(ctx, c.Spec.Storage, args...)
	return err
}
func (d podmanDriver) stop(ctx context.Context, c *Container) error {
	return d.simple(ctx, c, "stop", "--time", "2", c.Name)
}
func (d podmanDriver) kill(ctx context.Context, c *Container) error {
	return d.simple(ctx, c, "kill", c.Name)
}
func (d podmanDriver) pause(ctx context.Context, c *Container) error {
	return d.simple(ctx, c, "pause", c.Name)
}
func (d podmanDriver) unpause(ctx context.Context, c *Container) error {
	return d.simple(ctx, c, "unpause", c.Name)
}
func (d podmanDriver) remove(ctx context.Context, c *Container) error {
	return d.simple(ctx, c, "rm", "--force", "--ignore", "--volumes", "--time", "1", c.Name)
}
func (d podmanDriver) logs(ctx context.Context, c *Container) (string, error) {
	return d.podman(ctx, c.Spec.Storage, "logs", c.Name)
}

type containerdDriver struct{ *Lab }

func (d containerdDriver) load(ctx context.Context, s RunSpec, img image.Image) error {
	return d.archived(img, func(file string) error {
		_, err := d.ctr(ctx, "image", "import", "--snapshotter", snapshotter(s), file)
		return err
	})
}

func snapshotter(s RunSpec) string {
	if s.Snapshotter == "" {
		return "overlayfs"
	}
	return s.Snapshotter
}

func (d containerdDriver) run(ctx context.Context, c *Container, img image.Image) error {
	s := c.Spec
	c.LogPath = filepath.Join(d.base, "log", "containers", c.Name+".log")
	if err := os.MkdirAll(filepath.Dir(c.LogPath), 0o755); err != nil {
		return err
	}
	args := []string{"run", "--detach", "--snapshotter", snapshotter(s), "--log-uri", "file://" + c.LogPath}
	if s.HostNetwork {
		args = append(args, "--net-host")
	} else {
		args = append(args, "--with-ns", "network:"+c.network())
	}
	if s.PIDOf != nil {
		args = append(args, "--with-ns", fmt.Sprintf("pid:/proc/%d/ns/pid", s.PIDOf.PID))
	}
	for _, e := range s.Env {
		args = append(args, "--env", e)
	}
	for _, k := range sortedKeys(s.Labels) {
		args = append(args, "--label", k+"="+s.Labels[k])
	}
	if s.ReadOnly {
		args = append(args, "--read-only")
	}
	for _, k := range s.CapAdd {
		args = append(args, "--cap-add", "CAP_"+k)
	}
	for _, t := range s.Tmpfs {
		args = append(args, "--mount", "type=tmpfs,src=tmpfs,dst="+t+",options=rw:nosuid:nodev:mode=1777")
	}
	for _, v := range s.Volumes {
		src, dst, opts := splitVolume(v)
		args = append(args, "--mount", "type=bind,src="+src+",dst="+dst+",options=rbind:"+opts)
	}
	args = append(args, img.Ref, c.Name)
	if len(s.Args) > 0 {
		args = append(args, entrypoint(img, s.Args)...)
	}
	if _, err := d.ctr(ctx, args...); err != nil {
		return err
	}
	c.Target = "containerd://" + containerdNamespace + "/" + c.Name
	c.PID = d.pid(ctx, c)
	if c.PID == 0 {
		return errors.New("it does not run: ctr knows no task of it")
	}
	return nil
}

// pid reads ctr's table of tasks: TASK PID STATUS.
func (d containerdDriver) pid(ctx context.Context, c *Container) int {
	out, err := d.ctr(ctx, "task", "ls")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] == c.Name {
			return atoi(f[1])
		}
	}
	return 0
}

func splitVolume(v string) (src, dst, opts string) {
	f := append(strings.Split(v, ":"), "", "")
	if f[2] == "" {
		f[2] = "rw"
	}
	return f[0], f[1], f[2]
}

// entrypoint puts the image's entrypoint before args, for the runtimes that would replace it.
func entrypoint(img image.Image, args []string) []string {
	i, err := img.Load()
	if err != nil {
		return args
	}
	c, err := i.ConfigFile()
	if err != nil {
		return args
	}
	return append(slices.Clone(c.Config.Entrypoint), args...)
}

func (d containerdDriver) signal(ctx context.Context, c *Container, sig syscall.Signal) error {
	_, err := d.ctr(ctx, "task", "kill", "--signal", strconv.Itoa(int(sig)), c.Name)
	return err
}

// stop leaves the container and its dead task, as the kubelet does for a while.
func (d containerdDriver) stop(ctx context.Context, c *Container) error {
	if err := d.signal(ctx, c, syscall.SIGTERM); err != nil {
		return err
	}
	if waitFor(ctx, 2*time.Second, func() bool { return !alive(c.PID) }) {
		return nil
	}
	return d.kill(ctx, c)
}
func (d containerdDriver) kill(ctx context.Context, c *Container) error {
	if err := d.signal(ctx, c, syscall.SIGKILL); err != nil {
		return err
	}
	if !waitFor(ctx, 10*time.Second, func() bool { return !alive(c.PID) }) {
		return fmt.Errorf("process %d survived SIGKILL", c.PID)
	}
	return nil
}
func (d containerdDriver) pause(ctx context.Context, c *Container) error {
	_, err := d.ctr(ctx, "task", "pause", c.Name)
	return err
}
func (d containerdDriver) unpause(ctx context.Context, c *Container) error {
	_, err := d.ctr(ctx, "task", "resume", c.Name)
	return err
}
func (d containerdDriver) remove(ctx context.Context, c *Container) error {
	_, terr := d.ctr(ctx, "task", "rm", "--force", c.Name)
	_, cerr := d.ctr(ctx, "container", "rm", c.Name)
	if c.LogPath != "" {
		if err := os.Remove(c.LogPath); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if cerr != nil && !strings.Contains(cerr.Error(), "not found") {
		return errors.Join(terr, cerr)
	}
	return nil
}
func (d containerdDriver) logs(_ context.Context, c *Container) (string, error) {
	b, err := os.ReadFile(c.LogPath)
	return string(b), err
}

type runcDriver struct{ *Lab }

func (d runcDriver) bundle(c *Container) string { return filepath.Join(d.base, "bundles", c.Name) }

// load needs nothing: each container unpacks the image for itself.
func (d runcDriver) load(context.Context, RunSpec, image.Image) error { return nil }

// run unpacks the image into a plain directory and starts it with no runtime above runc: what is found when no
// daemon answers.
func (d runcDriver) run(ctx context.Context, c *Container, img image.Image) error {
	dir := d.bundle(c)
	c.LogPath = filepath.Join(dir, "output.log")
	c.Target = ""
	if err := img.Unpack(filepath.Join(dir, "rootfs")); err != nil {
		return err
	}
	spec, err := ociSpec(c, img, c.lab.bridge.tag)
	if err != nil {
		return err
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o644); err != nil {
		return err
	}
	out, err := os.OpenFile(c.LogPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	pidFile := filepath.Join(dir, "pid")
	if err := detached(ctx, out, "runc", "--root", d.RuncRoot(), "run", "--detach", "--pid-file", pidFile, "--bundle", dir, c.Name); err != nil {
		return err
	}
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	c.PID = atoi(string(pid))
	c.Target = fmt.Sprintf("pid://%d", c.PID)
	return nil
}

func (d runcDriver) simple(ctx context.Context, args ...string) error {
	_, err := d.runc(ctx, args...)
	return err
}
func (d runcDriver) stop(ctx context.Context, c *Container) error {
	if err := d.simple(ctx, "kill", c.Name, "TERM"); err != nil {
		return err
	}
	if waitFor(ctx, 2*time.Second, func() bool { return !alive(c.PID) }) {
		return nil
	}
	return d.kill(ctx, c)
}
func (d runcDriver) kill(ctx context.Context, c *Container) error {
	if err := d.simple(ctx, "kill", c.Name, "KILL"); err != nil {
		return err
	}
	waitFor(ctx, 10*time.Second, func() bool { return !alive(c.PID) })
	return nil
}
func (d runcDriver) pause(ctx context.Context, c *Container) error {
	return d.simple(ctx, "pause", c.Name)
}
func (d runcDriver) unpause(ctx context.Context, c *Container) error {
	return d.simple(ctx, "resume", c.Name)
}
func (d runcDriver) remove(ctx context.Context, c *Container) error {
	err := d.simple(ctx, "delete", "--force", c.Name)
	if err != nil && strings.Contains(err.Error(), "does not exist") {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(d.bundle(c)))
}
func (d runcDriver) logs(_ context.Context, c *Container) (string, error) {
	b, err := os.ReadFile(c.LogPath)
	return string(b), err
}
