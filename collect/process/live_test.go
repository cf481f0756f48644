package process

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/lab"
	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/containerd"
	"github.com/sherd-forensics/sherd/target/docker"
	"github.com/sherd-forensics/sherd/target/podman"
	"github.com/sherd-forensics/sherd/target/procfs"
)

// Under every runtime an honest container's processes are found by its cgroup and are the image's, and nothing is missing.
func TestRuntimes(t *testing.T) {
	for name, s := range map[string]lab.RunSpec{
		"docker":            {Runtime: lab.Docker},
		"docker vfs":        {Runtime: lab.Docker, Storage: "vfs"},
		"containerd":        {Runtime: lab.Containerd},
		"containerd native": {Runtime: lab.Containerd, Snapshotter: "native"},
		"podman":            {Runtime: lab.Podman},
		"podman vfs":        {Runtime: lab.Podman, Storage: "vfs"},
		"runc":              {Runtime: lab.Runc},
	} {
		t.Run(name, func(t *testing.T) {
			l := lab.Need(t, s.Runtime)
			s.Image = "goweb"
			c := l.Run(t, s)
			found := find(t, l, s, c.Target)
			ps, err := subject.List(found, "/proc")
			check(t, err)
			if len(ps) == 0 || ps[0].Relation != record.InCgroup || ps[0].ContainerPID != 1 {
				t.Errorf("processes %+v", ps)
			}
			begin := time.Now()
			got := capture(t, subject.Subject{Container: found, Proc: "/proc", Processes: ps}, Options{})
			t.Logf("%d processes in %v", len(ps), time.Since(begin))
			for _, m := range got.p.Coverage().Missed {
				t.Errorf("missed %+v", m)
			}
			want := record.ExeImage
			if found.Rootfs.Driver == "" { // the kernel alone does not know how a root was made
				want = record.ExeUnknown
			}
			for _, r := range got.rows {
				if r.Exe.Origin != want || len(r.Errors) > 0 || r.Exe.SHA256 == "" {
					t.Errorf("row %+v", r)
				}
			}
		})
	}
}

func find(t *testing.T, l *lab.Lab, s lab.RunSpec, url string) *target.Container {
	t.Helper()
	p := target.Places{DockerHost: l.DockerHost(), ContainerdAddress: l.ContainerdAddress(), PodmanRoot: l.PodmanRoot(), PodmanRunRoot: l.PodmanRunRoot()}
	if s.Storage == "vfs" {
		p.DockerHost, p.PodmanRoot, p.PodmanRunRoot = l.DockerHostVFS(), p.PodmanRoot+"-vfs", p.PodmanRunRoot+"-vfs"
	}
	var r target.Runtime
	var err error
	switch s.Runtime {
	case lab.Docker:
		r, err = docker.New(p)
	case lab.Containerd:
		r, err = containerd.New(p)
	case lab.Podman:
		r, err = podman.New(p)
	default:
		r, err = procfs.New(p)
	}
	check(t, err)
	defer r.Close()
	_, ref, _ := strings.Cut(url, "://")
	found, err := r.Find(context.Background(), ref)
	check(t, err)
	return found
}
