package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

// How long the kernel may take to stop every process of a container, and how long a container may be kept stopped.
const (
	freezeTimeout = 10 * time.Second
	freezeLimit   = 15 * time.Minute
)

// Freeze stops every process of the container by its cgroup's freezer (v1 or v2) until thaw is called. thaw may be called
// more than once; it writes process/freeze.json and returns an error if the container may still be frozen. Should this
// program be killed, or hold the container for more than a quarter of an hour, a second process thaws it: the
// program must pass its arguments to WatchdogMain when IsWatchdog says so.
//
// A container that somebody else had frozen or paused stays so. A cgroup that is the root, or that holds this program,
// one of its ancestors, the first process of the machine, or processes of somebody else is never frozen. The
// error says why nothing was frozen; it is in freeze.json too.
func Freeze(ctx context.Context, s subject.Subject, w *evidence.Writer) (thaw func() error, err error) {
	f := &freeze{timeout: freezeTimeout, limit: freezeLimit}
	f.rec.Asked = time.Now().UnixNano()
	write := func() error {
		b, err := json.MarshalIndent(f.rec, "", "  ")
		if err != nil {
			return err
		}
		_, err = w.Add(evidence.Meta{Path: "process/freeze.json", Origin: f.rec.Method}, append(b, '\n'))
		return err
	}
	if err := f.start(ctx, s); err != nil {
		f.rec.Error = err.Error()
		return nil, errors.Join(err, write())
	}
	var once sync.Once
	var result error
	return func() error {
		once.Do(func() {
			result = f.thaw()
			if result != nil {
				f.rec.Error = result.Error()
			}
			result = errors.Join(result, write())
		})
		return result
	}, nil
}

// freeze is one freezer held.
type freeze struct {
	cg      *freezer
	dog     *watchdog
	already bool // by somebody else
	timeout time.Duration
	limit   time.Duration
	rec     record.Freeze
}

// start freezes the container's cgroup and returns when it is frozen.
func (f *freeze) start(ctx context.Context, s subject.Subject) error {
	cg, err := findFreezer(s)
	if err != nil {
		return err
	}
	f.cg, f.rec.Method = cg, cg.dir
	state, err := cg.state()
	if err != nil {
		return err
	}
	if state != thawed {
		f.already = true
		f.rec.Frozen = time.Now().UnixNano()
		f.rec.Error = "it was frozen already, and was left so"
		return nil
	}
	if f.dog, err = startWatchdog(cg, f.limit); err != nil {
		return fmt.Errorf("starting the process that would thaw the container if this one died: %w", err)
	}
	if err := cg.set(true); err != nil {
		return errors.Join(err, f.undo())
	}
	if err := cg.reach(ctx, frozen, f.timeout); err != nil {
		return errors.Join(err, f.undo())
	}
	f.rec.Frozen = time.Now().UnixNano()
	return nil
}

// undo thaws after a freeze that did not come about.
func (f *freeze) undo() error {
	err := f.cg.set(false)
	f.rec.Thawed = time.Now().UnixNano()
	return errors.Join(err, f.dog.end(err == nil))
}

func (f *freeze) thaw() error {
	if f.already {
		return nil
	}
	var early error
	if state, err := f.cg.state(); err == nil && state == thawed {
		early = fmt.Errorf("it was thawed before its memory was read to the end, by somebody else or after the limit of %v", f.limit)
	}
	err := f.undo()
	held := time.Duration(f.rec.Thawed - f.rec.Frozen)
	f.rec.Seconds = strconv.FormatFloat(held.Seconds(), 'f', 6, 64)
	if err == nil && early != nil {
		f.rec.Error = early.Error()
	}
	return err
}

type freezerState int

const (
	thawed freezerState = iota
	freezing
	frozen
)

// freezer is one cgroup's directory in a hierarchy that can freeze.
type freezer struct {
	dir string
	v2  bool
}

// control is the file that freezes and thaws.
func (c *freezer) control() string {
	if c.v2 {
		return c.dir + "/cgroup.freeze"
	}
	return c.dir + "/freezer.state"
}

// words are what control is told.
func (c *freezer) words() (freeze, thaw string) {
	if c.v2 {
		return "1", "0"
	}
	return "FROZEN", "THAWED"
}

func (c *freezer) set(on bool) error {
	word, thaw := c.words()
	if !on {
		word = thaw
	}
	f, err := os.OpenFile(c.control(), os.O_WRONLY, 0)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) && !on {
			return nil // the cgroup is gone, and so is everybody in it
		}
		return err
	}
	_, err = f.WriteString(word)
	return errors.Join(err, f.Close())
}

// state reads how far it is: Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst, cgroup-v2.rst.
func (c *freezer) state() (freezerState, error) {
	b, err := safefs.ReadProc(c.control(), 4096)
	if err != nil {
		return thawed, err
	}
	word := strings.TrimSpace(string(b))
	if !c.v2 {
		switch word {
		case "THAWED":
			return thawed, nil
		case "FROZEN":
			return frozen, nil
		}
		return freezing, nil
	}
	if b, err = safefs.ReadProc(c.dir+"/cgroup.events", 4096); err != nil {
		return thawed, err
	}
	switch {
	case strings.Contains("\n"+string(b), "\nfrozen 1"): // also by an ancestor
		return frozen, nil
	case word == "1":
		return freezing, nil
	}
	return thawed, nil
}

// findFreezer gives the freezer of the container's cgroup, if it may be frozen.
func findFreezer(s subject.Subject) (*freezer, error) {
	if len(s.Processes) == 0 {
		return nil, errors.New("no process of it runs")
	}
	pid := s.Processes[0].PID
	for _, p := range s.Processes {
		if p.Relation == record.InCgroup {
			pid = p.PID
			break
		}
	}
	v1, v2, err := cgroupsOf(s.Proc + "/" + strconv.Itoa(pid))
	if err != nil {
		return nil, err
	}
	var refused error
	for _, try := range []struct {
		path string
		v2   bool
		tops []string
	}{
		{v1, false, []string{"/sys/fs/cgroup/freezer"}},
		{v2, true, []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}},
	} {
		path := try.path
		if c := s.Container; c != nil && c.CgroupPath != "" && (path == c.CgroupPath || strings.HasPrefix(path, c.CgroupPath+"/")) {
			path = c.CgroupPath // processes may have made cgroups of their own below the container's
		}
		if path == "" {
			continue
		}
		if path == "/" || strings.Contains(path+"/", "/../") {
			refused = errors.Join(refused, fmt.Errorf("its cgroup %q is not one of its own", path))
			continue
		}
		for _, top := range try.tops {
			c := &freezer{dir: filepath.Join(s.Host(top), path), v2: try.v2}
			if _, err := os.Stat(c.control()); err != nil {
				continue
			}
			if err := allowed(s, c, pid); err != nil {
				refused = errors.Join(refused, err)
				continue
			}
			return c, nil
		}
	}
	if refused != nil {
		return nil, refused
	}
	return nil, errors.New("no freezer was found for its cgroup")
}

// cgroupsOf reads the paths of a process's cgroup in the hierarchy of the v1 freezer and in v2's: cgroups(7).
func cgroupsOf(dir string) (v1, v2 string, err error) {
	b, err := safefs.ReadProc(dir+"/cgroup", 1<<16)
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(f) != 3:
		case f[0] == "0" && f[1] == "":
			v2 = f[2]
		case strings.Contains(","+f[1]+",", ",freezer,"):
			v1 = f[2]
		}
	}
	return v1, v2, nil
}

// allowed says why a cgroup must not be frozen: it isn't this container's alone.
func allowed(s subject.Subject, c *freezer, pid int) error {
	members, err := cgroupMembers(c.dir)
	if err != nil {
		return err
	}
	if !members[pid] {
		return fmt.Errorf("%s does not hold process %d: it is another hierarchy's view", c.dir, pid)
	}
	for p, n := os.Getpid(), 0; p > 0 && n < 64; n++ {
		if members[p] {
			return fmt.Errorf("%s holds process %d, which is this program or started it", c.dir, p)
		}
		st, err := readStat(s.Proc + "/" + strconv.Itoa(p))
		if err != nil {
			break
		}
		p = int(st.ppid)
	}
	if members[1] {
		return fmt.Errorf("%s holds process 1", c.dir)
	}
	ours := map[int]bool{}
	spaces := map[string]bool{}
	space := func(p int) string {
		l, err := os.Readlink(s.Proc + "/" + strconv.Itoa(p) + "/ns/mnt")
		if err != nil {
			return ""
		}
		return l
	}
	for _, p := range s.Processes {
		ours[p.PID] = true
		spaces[space(p.PID)] = true
	}
	for p := range members {
		// Whoever isn't listed was started since, in the container's mount namespace, or it is somebody else.
		if l := space(p); !ours[p] && l != "" && !spaces[l] {
			return fmt.Errorf("%s holds process %d too, which is not of this container", c.dir, p)
		}
	}
	return nil
}

// cgroupMembers lists the processes of a cgroup and of those below it.
func cgroupMembers(dir string) (map[int]bool, error) {
	const maxGroups = 10_000
	members := map[int]bool{}
	n := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			if errors.Is(err, os.ErrNotExist) {
				return nil // a cgroup that was removed meanwhile
			}
			return err
		}
		if n++; n > maxGroups {
			return fmt.Errorf("%s has more than %d cgroups below it", dir, maxGroups)
		}
		b, err := safefs.ReadProc(path+"/cgroup.procs", 16<<20)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		for line := range strings.Lines(string(b)) {
			if p, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				members[p] = true
			}
		}
		if err != nil && !strings.Contains(err.Error(), "not supported") { // a threaded cgroup does not list processes
			return err
		}
		return nil
	})
	return members, err
}
