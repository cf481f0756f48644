package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/sherd-forensics/sherd/lab/image"
)

// clusterModules are the modules that pin the programs of the lab's Kubernetes, below lab/kubernetes, and what is compiled of each.
var clusterModules = []struct {
	dir, version string // of the linker's flag that says the version
	programs     []string
	// apart puts the programs into a folder of the module's name, out of the way of the distribution's; they need a C compiler.
	apart bool
}{
	{"containerd", "github.com/containerd/containerd/v2/version.Version=2.4.2", []string{
		"github.com/containerd/containerd/v2/cmd/containerd", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
		"github.com/containerd/containerd/v2/cmd/ctr"}, false},
	{"control", "k8s.io/component-base/version.gitVersion=v1.34.4", []string{
		"k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kube-controller-manager", "k8s.io/kubernetes/cmd/kube-scheduler",
		"k8s.io/kubernetes/cmd/kubelet", "k8s.io/kubernetes/cmd/kubectl"}, false},
	{"runc", "main.version=1.4.3", []string{"github.com/opencontainers/runc"}, true},
}

// compileKubernetes compiles the cluster's programs, once for each content of their modules' files, and returns their directory.
// It stays over `lab down`: from nothing it takes two processors six minutes.
func (l *Lab) compileKubernetes(ctx context.Context) (string, error) {
	src, err := source()
	if err != nil {
		return "", err
	}
	out := filepath.Join(l.base, "bin", Kubernetes)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", err
	}
	for _, m := range clusterModules {
		dir := filepath.Join(src, Kubernetes, m.dir)
		sum := sha256.New()
		for _, name := range []string{"go.mod", "go.sum"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return "", err
			}
			sum.Write(b)
		}
		fmt.Fprintf(sum, "{%s %s %v}", m.dir, m.version, m.programs)
		key, mark := hex.EncodeToString(sum.Sum(nil)), filepath.Join(out, m.dir+".key")
		if b, err := os.ReadFile(mark); err == nil && string(b) == key {
			continue
		}
		goTool, err := goCommand(ctx, src)
		if err != nil {
			return "", err
		}
		to, cgo, tags := out, "0", ""
		if m.apart {
			to, cgo, tags = filepath.Join(out, m.dir), "1", "seccomp"
			if err := os.MkdirAll(to, 0o755); err != nil {
				return "", err
			}
		}
		began := time.Now()
		fmt.Fprintf(l.say, "lab: compiling %s for the cluster; this takes minutes, once\n", m.dir)
		cmd := exec.CommandContext(ctx, goTool, append([]string{"build", "-tags", tags, "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X " + m.version, "-o", to + "/"}, m.programs...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo, "GOFLAGS=-mod=readonly")
		if said, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("compiling the programs of lab/kubernetes/%s: %w: %s", m.dir, err, lastLines(string(said), 15))
		}
		if err := os.WriteFile(mark, []byte(key), 0o644); err != nil {
			return "", err
		}
		fmt.Fprintf(l.say, "lab: compiled %s in %.0f s\n", m.dir, time.Since(began).Seconds())
	}
	return out, nil
}

// LoadKubernetes builds one of the lab's images and puts it into the node's containerd. It returns the reference that pods name.
func (l *Lab) LoadKubernetes(ctx context.Context, name string) (string, error) {
	unlock, err := l.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	img, err := l.build(ctx, name)
	if err != nil {
		return "", err
	}
	return img.Ref, l.cluster().load(ctx, img)
}

func (c cluster) load(ctx context.Context, img image.Image) error {
	return c.once(Kubernetes+"-"+filepath.Base(img.Ref), img, func() error {
		return c.archived(img, func(file string) error {
			_, err := c.ctr(ctx, "image", "import", file)
			return err
		})
	})
}
