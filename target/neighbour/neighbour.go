// Package neighbour finds a container from within its pod: from a process beside it that shares its pid namespace, as an ephemeral
// container with targetContainerName does. Nothing of the machine is seen from there, no runtime and no layers; what the cluster
// says of the container must be told by whoever asks.
//
// Formats: cgroups(7), proc_pid_status(5). Names and arguments of processes are chosen by the processes; the cgroup, by which a
// process is taken for the container's, is not.
package neighbour

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/target"
	"github.com/sherd-forensics/sherd/target/procfs"
)

// Scheme is that of this package's targets, neighbour://ID.
const Scheme = "neighbour"

// maxFile bounds a file of /proc that tells who a process is.
const maxFile = 1 << 20

// Runtime finds the container. It is a target.Runtime.
type Runtime struct{ proc string }

var _ target.Runtime = (*Runtime)(nil)

// New looks at the processes that are in sight of this one.
func New() *Runtime { return &Runtime{proc: "/proc"} }

// Scheme is "neighbour".
func (r *Runtime) Scheme() string { return Scheme }

// Close does nothing.
func (r *Runtime) Close() error { return nil }

// List gives nothing: which containers there are is for the cluster to say.
func (r *Runtime) List(context.Context) ([]*target.Container, error) { return nil, nil }

// process is what tells whose a process is.
type process struct {
	pid    int
	ticks  uint64
	cgroup string
	ids    string // "UID:GID", effective
	comm   string
}

// Find gives the container that the runtime calls id: the first process of its cgroup, or of the pid namespace where cgroups name none.
func (r *Runtime) Find(_ context.Context, id string) (*target.Container, error) {
	if len(id) < 12 || strings.ContainsAny(id, "/ ") {
		return nil, fmt.Errorf("neighbour://%s: a container's id is needed", id)
	}
	me, err := r.look("self")
	if err != nil {
		return nil, fmt.Errorf("looking at this process: %w", err)
	}
	entries, err := os.ReadDir(r.proc)
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var first, init *process
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		p, err := r.look(e.Name())
		if err != nil || p.pid == me.pid || me.cgroup != "" && p.cgroup == me.cgroup {
			continue // it has ended, or is our own container's
		}
		if strings.Contains(p.cgroup, id) && (first == nil || p.ticks < first.ticks) {
			first = p
		}
		if p.pid == 1 && p.comm != "pause" {
			init = p
		}
	}
	c := &target.Container{Runtime: Scheme, ID: id, State: target.Running, Inside: true}
	switch {
	case first != nil:
	case init != nil:
		first = init
		c.Warn("no process's cgroup names the container: the first process of the shared pid namespace was taken for it")
	default:
		return nil, fmt.Errorf("no process of the container %.12s is in sight from beside it: it has ended, or its runtime does not share its pid namespace with ephemeral containers", id)
	}
	c.PID, c.CgroupPath = first.pid, ""
	dir := filepath.Join(r.proc, strconv.Itoa(first.pid))
	if _, err := os.Stat(dir + "/root/."); err != nil {
		c.Warn(fmt.Sprintf("the memory, files and environment of the container's processes: process %d runs as %s and the collector beside it as %s, "+
			"and the kernel lets only the same user and group with no less rights look (%v)", first.pid, first.ids, me.ids, err))
	}
	return c, nil
}

func (r *Runtime) look(pid string) (*process, error) {
	dir := filepath.Join(r.proc, pid)
	status, err := read(dir + "/status")
	if err != nil {
		return nil, err
	}
	p := &process{}
	uid, gid := "?", "?"
	for line := range strings.Lines(status) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		f := strings.Fields(v)
		switch {
		case k == "Name":
			p.comm = strings.TrimSpace(v)
		case k == "Pid" && len(f) == 1:
			if p.pid, err = strconv.Atoi(f[0]); err != nil {
				return nil, fmt.Errorf("%s/status: %w", dir, err)
			}
		case k == "Uid" && len(f) == 4:
			uid = f[1]
		case k == "Gid" && len(f) == 4:
			gid = f[1]
		}
	}
	p.ids = uid + ":" + gid
	stat, err := read(dir + "/stat")
	if err != nil {
		return nil, err
	}
	// The name may hold anything: fields count from the last parenthesis; the start is field 22.
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 20 {
		return nil, fmt.Errorf("%s/stat has %d fields", dir, len(f))
	}
	if p.ticks, err = strconv.ParseUint(f[19], 10, 64); err != nil {
		return nil, fmt.Errorf("%s/stat: %w", dir, err)
	}
	group, err := read(dir + "/cgroup")
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, c := range procfs.ParseCgroup([]byte(group)) {
		paths = append(paths, c.Path)
	}
	p.cgroup = strings.Join(paths, "\n")
	return p, nil
}

func read(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	return string(b), err
}
