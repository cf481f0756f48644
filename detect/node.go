package detect

import (
	"bytes"
	"cmp"
	"regexp"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/verdict"
)

// nodeSettings are files by which a machine starts programs or lets people in, below the root of its file system.
var nodeSettings = regexp.MustCompile(`^/(etc/(cron[^/]*/[^/]+|crontab|systemd/system/.+|init[.]d/[^/]+|rc[.]local|ld[.]so[.]preload|sudoers|sudoers[.]d/[^/]+|passwd|shadow|profile[.]d/[^/]+|kubernetes/manifests/[^/]+|cni/net[.]d/[^/]+|containerd/[^/]+|docker/daemon[.]json)|var/spool/cron/.+|(root|home/[^/]+)/[.]ssh/authorized_keys2?|(usr/)?lib/systemd/system/.+|proc/sys/(kernel/(core_pattern|modprobe|hotplug|poweroff_cmd|usermodehelper/.+)|fs/binfmt_misc/register)|sys/kernel/uevent_helper|sys/fs/cgroup/(.+/)?release_agent)$`)

// onNode is the path that a file on a mount has below what is mounted, "" if it is none by which a machine is steered.
func (f *Facts) onNode(r *File) string {
	m := f.mountOf(string(r.Path))
	if m == nil || !m.Writable || m.Kind != "host" && m.Kind != "volume" {
		return ""
	}
	inside := strings.TrimPrefix(string(r.Path), strings.TrimSuffix(string(m.Point), "/"))
	// What is mounted need not be the whole of the machine: /etc as /host-etc.
	for _, p := range []string{inside, strings.TrimSuffix(string(m.Root), "/") + inside} {
		if nodeSettings.MatchString(p) {
			return p
		}
	}
	return ""
}

func nodeFiles(f *Facts, a *Answer) {
	n := 0
	for i := range f.Files.Node {
		r := &f.Files.Node[i]
		at := max(r.Mtime, cmp.Or(r.Btime, r.Ctime))
		if !f.afterStart(at) || n >= perRule {
			continue
		}
		n++
		m := f.mountOf(string(r.Path))
		a.hit(Finding{
			Finding: verdict.Finding{Citations: f.rowCites(r),
				Statement: say(r.Path) + ", written after the container had started, is " + say(f.onNode(r)) + " of what is mounted at " + say(m.Point) + ", by which a machine starts programs or lets people in"},
			Path: string(r.Path), SHA256: r.SHA256, When: at, Foreign: true,
		})
	}
}

// kernelHelpers are settings by which the machine's kernel starts a program of its own accord, with where the collector keeps them.
var kernelHelpers = []struct{ artifact, when string }{
	{"host/core_pattern", "when a program crashes"},
	{"host/modprobe", "when a module is missing"},
}

func kernelHelper(f *Facts, a *Answer) {
	for _, h := range kernelHelpers {
		b, _, _ := bytes.Cut(f.Read(h.artifact, 0, 4096), []byte("\n"))
		line := string(b)
		if h.artifact == "host/core_pattern" {
			var pipe bool
			if line, pipe = strings.CutPrefix(line, "|"); !pipe {
				continue // a name for core files
			}
		}
		program, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !f.inContainer(program) {
			continue
		}
		c, ok := f.Cite(h.artifact, 0, int64(len(b)))
		if !ok {
			continue
		}
		a.hit(Finding{Foreign: true, Finding: verdict.Finding{Citations: []verdict.Citation{c},
			Statement: "the machine's kernel starts " + say(program) + " " + h.when + ", which lies in this container's files"}})
	}
}

// inContainer reports whether a path of the machine's leads into the container: to its writable layer or root, or through one of its processes.
func (f *Facts) inContainer(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	fs := &f.Container.Rootfs
	for _, dir := range []string{fs.Upper, fs.Merged} {
		if len(dir) > 1 && under(path, dir) {
			return true
		}
	}
	if len(f.Container.ID) >= 32 && strings.Contains(path, f.Container.ID) {
		return true
	}
	rest, ok := strings.CutPrefix(path, "/proc/")
	number, rest, _ := strings.Cut(rest, "/")
	pid, err := strconv.Atoi(number)
	if err != nil || !ok || !strings.HasPrefix(rest, "root/") {
		return false
	}
	return f.byPID[pid] != nil
}
