package procfs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/ocispec"
)

// shim is a process of a runtime that stays on the host beside each container.
type shim struct {
	pid       int
	namespace string // containerd's
	id        string
	name      string // Podman's
	bundle    string // the directory of config.json, if the command line tells
	log       target.LogFile
	runtime   string // containerd or podman
}

// shim recognises containerd's and Podman's by name and arguments. A process inside a container can call itself
// anything, so only one with the machine's own namespaces counts.
func (s *scan) shim(p target.Process) *shim {
	if p.NS.PID != s.host.PID || s.foreign(p) {
		return nil
	}
	switch {
	case strings.HasPrefix(p.Comm, "containerd-shim"):
		args := s.r.cmdline(p.PID)
		sh := &shim{pid: p.PID, runtime: "containerd", namespace: flag(args, "-namespace"), id: flag(args, "-id")}
		if sh.id == "" {
			return nil
		}
		// The shim's working directory is the bundle.
		if cwd, err := os.Readlink(filepath.Join(s.r.proc, strconv.Itoa(p.PID), "cwd")); err == nil && filepath.IsAbs(cwd) {
			sh.bundle = cwd
		}
		return sh
	case p.Comm == "conmon":
		args := s.r.cmdline(p.PID)
		sh := &shim{pid: p.PID, runtime: "podman", id: cmp.Or(flag(args, "-c"), flag(args, "--cid")), name: cmp.Or(flag(args, "-n"), flag(args, "--name")),
			bundle: cmp.Or(flag(args, "-b"), flag(args, "--bundle"))}
		if sh.id == "" {
			return nil
		}
		if format, path, ok := strings.Cut(cmp.Or(flag(args, "-l"), flag(args, "--log-path")), ":"); ok && filepath.IsAbs(path) {
			if format == "k8s-file" {
				sh.log = target.LogFile{Path: path, Format: "k8s-file"}
			}
		}
		return sh
	}
	return nil
}

// flag finds the value of -name VALUE or -name=VALUE.
func flag(args []string, name string) string {
	for i, a := range args {
		if a == name && i+1 < len(args) {
			return args[i+1]
		}
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v
		}
	}
	return ""
}

// shimOf finds the shim above a container's first process. A shim of containerd's may look after a whole pod: its -id is
// then the pod's.
func (s *scan) shimOf(p target.Process) *shim {
	if sh := s.shims[p.PPID]; sh != nil {
		c := *sh
		if n := s.named[p.PID].ID; n != "" && n != sh.id {
			c.id = n
			if filepath.Base(c.bundle) == sh.id {
				c.bundle = filepath.Join(filepath.Dir(c.bundle), n)
			}
		}
		return &c
	}
	if n := s.named[p.PID].ID; n != "" {
		for _, sh := range s.shims {
			if sh.id == n {
				return sh
			}
		}
	}
	return nil
}

// stateDirs are where runtimes keep the state of running containers when nobody tells them otherwise. %s is containerd's
// namespace or Docker's "moby", and the container's id.
var stateDirs = []string{
	"/run/containerd/io.containerd.runtime.v2.task/%s/%s",
	"/run/k3s/containerd/io.containerd.runtime.v2.task/%s/%s",
	"/run/docker/containerd/daemon/io.containerd.runtime.v2.task/%s/%s",
	"/var/run/docker/containerd/daemon/io.containerd.runtime.v2.task/%s/%s",
	"/var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/%s/%s",
}

// runcRoots are where runc and crun keep their own state, when nobody tells them otherwise.
var runcRoots = []string{"/run/runc", "/run/crun"}

// documents fills in what OCI configurations, the state of runc, and Docker's own files say.
func (s *scan) documents(c *target.Container, g *group) {
	raw, path := s.config(c, g)
	if raw == nil {
		c.Warn("its OCI configuration was not found, so its image's name, mounts and privileges are not known")
		return
	}
	spec, err := ocispec.Parse(raw)
	if err != nil {
		c.Warn(path + ": " + err.Error())
		return
	}
	spec.Apply(c)
	c.Records = append(c.Records, target.Record{Name: "config.json", Origin: path, Data: raw})
	for _, k := range []string{"io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "io.podman.annotations.image-name", "nerdctl/image-name"} {
		c.Image.Name = cmp.Or(c.Image.Name, spec.Annotations[k])
	}
	if c.Pod != nil {
		c.Name = cmp.Or(c.Name, c.Pod.Container)
	}
	if dir := c.Pod.PodLogDir(); dir != "" && len(c.Logs) == 0 && s.r.places.Exists(dir) {
		c.Logs = []target.LogFile{{Path: dir + "/0.log", Format: "cri"}}
	}
	if spec.Root != nil && c.Rootfs.Driver == "" && c.Rootfs.Merged == "" {
		root := spec.Root.Path
		if !filepath.IsAbs(root) {
			root = filepath.Join(filepath.Dir(path), root)
		}
		if s.r.places.Exists(root) {
			c.Rootfs.Merged = root
		}
	}
	s.docker(c)
}

// config finds config.json through the shim, the usual state directories, and runc's own.
func (s *scan) config(c *target.Container, g *group) ([]byte, string) {
	var dirs []string
	if g.shim != nil && filepath.IsAbs(g.shim.bundle) {
		dirs = append(dirs, g.shim.bundle)
	}
	if id := c.ID; id != "" && id != "." && id != ".." && !strings.Contains(id, "/") {
		namespaces := []string{"moby", "k8s.io", "default"}
		if n := c.Namespace; n != "" && !strings.Contains(n, "/") && n != ".." {
			namespaces = []string{n}
		}
		for _, n := range namespaces {
			for _, d := range stateDirs {
				dirs = append(dirs, fmt.Sprintf(d, n, id))
			}
		}
	}
	for _, d := range dirs {
		path := filepath.Join(d, "config.json")
		if b, err := s.r.places.ReadFile(path); err == nil {
			return b, path
		}
	}
	return s.runc(c, g)
}

// runcState is what of runc's state.json matters here (libcontainer's State).
type runcState struct {
	ID     string `json:"id"`
	PID    int    `json:"init_process_pid"`
	Start  uint64 `json:"init_process_start"`
	Config struct {
		Labels []string `json:"labels"`
	} `json:"config"`
}

// runc looks for the container's first process in runc's state directories.
func (s *scan) runc(c *target.Container, g *group) ([]byte, string) {
	roots := append([]string{}, runcRoots...)
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		roots = append(roots, filepath.Join(dir, "runc"), filepath.Join(dir, "crun"))
	}
	roots = append(roots, s.r.privateRoots()...)
	for _, root := range roots {
		ids, err := s.r.places.ReadDir(root)
		if err != nil {
			continue
		}
		for _, id := range ids {
			path := filepath.Join(root, id, "state.json")
			b, err := s.r.places.ReadFile(path)
			if err != nil {
				continue
			}
			var st runcState
			if json.Unmarshal(b, &st) != nil || st.PID != g.init.PID || st.Start != g.init.StartTicks {
				continue
			}
			c.ID = cmp.Or(c.ID, id)
			c.Records = append(c.Records, target.Record{Name: "runc-state.json", Origin: path, Data: b})
			for _, l := range st.Config.Labels {
				if bundle, ok := strings.CutPrefix(l, "bundle="); ok && filepath.IsAbs(bundle) {
					at := filepath.Join(bundle, "config.json")
					if b, err := s.r.places.ReadFile(at); err == nil {
						return b, at
					}
				}
			}
		}
	}
	return nil, ""
}

// privateRoots finds state directories of runtimes that were started on a root of their own below /run, where the
// first level is whatever their owner chose: /run/NAME/runc, and containerd's and Docker's with a level for the namespace.
func (r *Runtime) privateRoots() []string {
	var out []string
	names, err := r.places.ReadDir("/run")
	if err != nil {
		return nil
	}
	for _, n := range names[:min(len(names), 256)] {
		for _, k := range []string{"runc", "crun", "runtime-runc", "docker/runtime-runc"} {
			dir := filepath.Join("/run", n, k)
			sub, err := r.places.ReadDir(dir)
			if err != nil {
				continue
			}
			out = append(out, dir)
			if n == "containerd" || k == "runtime-runc" || k == "docker/runtime-runc" {
				for _, ns := range sub[:min(len(sub), 64)] {
					out = append(out, filepath.Join(dir, ns))
				}
			}
		}
	}
	return out
}

// dockerConfig is what of Docker's config.v2.json matters here.
type dockerConfig struct {
	ID      string
	Name    string
	Image   string // the image's id
	LogPath string
	Config  struct {
		Image  string
		Labels map[string]string
	}
}

// docker reads what Docker itself wrote about the container, which works with dockerd dead. The directory is where the
// container's /etc/hosts or /etc/hostname is mounted from.
func (s *scan) docker(c *target.Container) {
	for _, m := range c.Mounts {
		dir := filepath.Dir(m.Source)
		if m.Destination != "/etc/hosts" && m.Destination != "/etc/hostname" || c.ID == "" || filepath.Base(dir) != c.ID {
			continue
		}
		path := filepath.Join(dir, "config.v2.json")
		b, err := s.r.places.ReadFile(path)
		if err != nil {
			continue
		}
		var d dockerConfig
		if err := json.Unmarshal(b, &d); err != nil || d.ID != c.ID {
			continue
		}
		c.Name = cmp.Or(strings.TrimPrefix(d.Name, "/"), c.Name)
		c.Image.Name, c.Image.ConfigID = cmp.Or(c.Image.Name, d.Config.Image), d.Image
		c.Labels = d.Config.Labels
		if c.Pod == nil {
			c.Pod = target.PodOf(c.Labels)
		}
		if d.LogPath != "" && len(c.Logs) == 0 {
			c.Logs = []target.LogFile{{Path: d.LogPath, Format: "json-file"}}
		}
		c.Records = append(c.Records, target.Record{Name: "docker-config.v2.json", Origin: path, Data: b})
		if h, err := s.r.places.ReadFile(filepath.Join(dir, "hostconfig.json")); err == nil {
			c.Records = append(c.Records, target.Record{Name: "docker-hostconfig.json", Origin: filepath.Join(dir, "hostconfig.json"), Data: h})
		}
		return
	}
}

// records adds what the kernel says about the first process.
func (s *scan) records(c *target.Container, g *group) {
	for _, name := range []string{"mountinfo", "cgroup"} {
		path := filepath.Join(s.r.proc, strconv.Itoa(g.init.PID), name)
		if b, err := readSome(path, maxDocument); err == nil {
			c.Records = append(c.Records, target.Record{Name: "proc-" + name, Origin: path, Data: b})
		}
	}
}

const maxDocument = 16 << 20
