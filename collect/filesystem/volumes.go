package filesystem

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/collect/subject"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/internal/safefs"
)

// maxMountinfo bounds /proc/PID/mountinfo.
const maxMountinfo = 16 << 20

// A directory of the host may be the host's whole root: of each at most maxHostEntries are listed, and of all at most maxHostBytes taken.
const (
	maxHostEntries = 100_000
	maxHostBytes   = 512 << 20
)

// volumes takes the mounts of the container, all but its root.
func (w *walk) volumes(s subject.Subject, ew *evidence.Writer) error {
	c := s.Container
	pid := c.PID
	var list []mountPoint
	live := false
	if pid > 0 {
		raw, err := safefs.ReadProc(fmt.Sprintf("%s/%d/mountinfo", s.Proc, pid), maxMountinfo)
		if err == nil && !same(s, pid) {
			err = errors.New("the process is no longer the container's")
		}
		if err != nil {
			w.miss(record.Miss{What: "the mounts as the kernel shows them", Reason: err.Error(), Partial: len(c.Mounts) > 0})
		} else {
			live = true
			var bad int
			if list, bad = parseMountinfo(raw); bad > 0 {
				w.miss(record.Miss{What: "lines of mountinfo", Reason: "malformed, or too many", Partial: true, Count: bad})
			}
			annotate(list, c.Mounts)
		}
	}
	if !live {
		list = fromRuntime(c.Mounts)
	}
	lines := ew.Lines("volumes/mounts.jsonl", fmt.Sprintf("%s/%d/mountinfo", s.Proc, pid))
	w.upper = &budget{left: w.o.maxVolumes(), maxFile: w.o.maxFile()}
	all := w.upper
	host := &budget{left: min(maxHostBytes, w.o.maxVolumes()), maxFile: w.o.maxFile()}
	taken := map[string]bool{}
	var err error
	for _, m := range list {
		rec := m.record()
		w.upper, w.limit = all, w.o.maxEntries()
		if rec.Kind == mountHost {
			w.upper, w.limit = host, min(w.limit, w.entries+maxHostEntries)
		}
		if err = w.mount(s, m, &rec, live, taken); err != nil {
			break
		}
		if err = lines.Write(&rec); err != nil {
			break
		}
	}
	// Also when the capture was stopped: what was found until then is sealed.
	if cerr := lines.Close(); err == nil {
		err = cerr
	}
	return err
}

// same reports whether pid still is the process that the capture began with.
func same(s subject.Subject, pid int) bool {
	for _, p := range s.Processes {
		if p.PID != pid || p.StartTicks == 0 {
			continue
		}
		b, err := safefs.ReadProc(fmt.Sprintf("%s/%d/stat", s.Proc, pid), 4096)
		if err != nil {
			return false
		}
		// The name may hold anything, so fields count from the last parenthesis; the start is field 22.
		_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
		f := strings.Fields(rest)
		return len(f) > 19 && f[19] == strconv.FormatUint(p.StartTicks, 10)
	}
	return true
}

// mount does with one mount what its kind asks for, and says so in rec.
func (w *walk) mount(s subject.Subject, m mountPoint, rec *record.Mounted, live bool, taken map[string]bool) error {
	switch rec.Kind {
	case mountRoot:
		rec.Reason = "see filesystem/"
		return nil
	case mountKernel:
		rec.Reason = "made by the kernel: nothing is stored there"
		return nil
	case mountFUSE, mountNetwork:
		if !w.o.Remote {
			rec.Reason = "not entered: a " + m.fstype + " file system answers from elsewhere, may wait for ever and may notice"
			w.miss(record.Miss{What: "files below " + record.Escape(m.point), Reason: rec.Reason, Deliberate: true})
			return nil
		}
	}
	root, origin, err := w.openMount(s, m, live)
	if err != nil {
		rec.Reason = err.Error()
		w.miss(record.Miss{What: "files below " + record.Escape(m.point), Reason: rec.Reason})
		return nil
	}
	defer root.Close()
	if live && m.id != 0 && root.MountID() != 0 && root.MountID() != m.id {
		rec.Reason = fmt.Sprintf("covered by another mount (%d), which hides it", root.MountID())
		w.miss(record.Miss{What: "files below " + record.Escape(m.point), Reason: rec.Reason})
		return nil
	}
	if strings.HasSuffix(m.root, "//deleted") {
		rec.Reason = "its directory was deleted; taken as still mounted"
	}
	t := w.tree(m, rec, s, origin)
	if t.prefix != "" {
		for i := 0; nests(taken, t.prefix); i++ {
			t.prefix = fmt.Sprintf("volumes/@%d.%d%s", m.id, i, strings.TrimSuffix(m.point, "/"))
		}
		taken[t.prefix] = true
		rec.Dir = record.Escape(t.prefix)
	}
	files, bytes := w.upper.files, w.upper.bytes
	err = w.walkPlain(root, t)
	rec.Files, rec.Bytes = w.upper.files-files, w.upper.bytes-bytes
	if t.left.files > 0 {
		if rec.Reason == "" {
			rec.Reason = t.left.why
		}
		w.miss(record.Miss{What: "contents below " + record.Escape(m.point), Reason: t.left.why, Deliberate: true, Partial: rec.Files > 0, Count: t.left.files})
	}
	if errors.Is(err, errEntries) {
		w.miss(record.Miss{What: "files below " + record.Escape(m.point), Reason: err.Error(), Partial: true})
		return nil
	}
	return err
}

// nests reports whether a folder of the package would lie in one that another mount fills.
func nests(taken map[string]bool, prefix string) bool {
	for p := range taken {
		if p == prefix || strings.HasPrefix(prefix, p+"/") || strings.HasPrefix(p, prefix+"/") {
			return true
		}
	}
	return false
}

func (w *walk) openMount(s subject.Subject, m mountPoint, live bool) (*safefs.Root, string, error) {
	o := safefs.Options{NoXDev: true, Timeout: w.o.Timeout}
	if live {
		pid := s.Container.PID
		r, err := safefs.OpenIn(s.Proc, pid, m.point, o)
		return r, fmt.Sprintf("%s/%d/root%s", s.Proc, pid, m.point), err
	}
	switch {
	case m.fstype == "tmpfs":
		return nil, "", errors.New("the container does not run: a tmpfs is gone with it")
	case m.hostSource == "":
		return nil, "", errors.New("the container does not run, and the runtime names no directory of the host for it")
	}
	r, err := w.openHost(m.hostSource)
	return r, m.hostSource, err
}

// tree says what is taken of a mount:
//
//   - tmpfs, volumes and the runtime's own files: everything, up to the limits.
//   - secrets: names, sizes, times and hashes; contents with Options.WithSecrets only.
//   - a host's directory that the container may write to: contents of what changed since the container started,
//     metadata of the rest, which is the host's and can be very large.
//   - a host's directory that it can't write to: metadata.
func (w *walk) tree(m mountPoint, rec *record.Mounted, s subject.Subject, origin string) *plainTree {
	all := func(string, *ent) (bool, string) { return true, "" }
	t := &plainTree{
		point: strings.TrimSuffix(m.point, "/"), mount: m.point, origin: origin, prefix: "volumes" + strings.TrimSuffix(m.point, "/"),
		keep: all, hash: func(*ent) bool { return w.hashBudget() }, objects: func(*ent) bool { return true },
	}
	switch rec.Kind {
	case mountSecret:
		if !w.o.WithSecrets {
			t.prefix = ""
			t.left.why = "contents of secrets are taken only when asked for"
			t.hash = func(*ent) bool { return true }
			w.miss(record.Miss{What: "contents below " + record.Escape(m.point), Reason: t.left.why, Deliberate: true})
		}
	case mountHost:
		since := started(s)
		changed := func(e *ent) bool { return since == 0 || e.st.Ctime >= since || e.st.Btime >= since }
		if !rec.Writable {
			t.prefix = ""
			t.hash = changed
			rec.Reason = "a directory of the host that the container can't write to: names, times and owners only"
			return t
		}
		t.keep = func(_ string, e *ent) (bool, string) {
			if changed(e) {
				return true, ""
			}
			return false, "of a directory of the host, only what changed since the container started is taken"
		}
		t.hash = func(e *ent) bool { return e.st.Mode&0o111 != 0 && w.hashBudget() }
		t.objects = func(e *ent) bool { return e.st.IsDir() || changed(e) }
	}
	return t
}

// hashBudget says whether a file that is not kept may still be read for its hash: once the contents' limit is reached,
// reading on could take hours.
func (w *walk) hashBudget() bool { return w.upper.left > 0 }

// started is when the container began, in nanoseconds, 0 if unknown.
func started(s subject.Subject) int64 {
	c := s.Container
	switch {
	case !c.Started.IsZero():
		return c.Started.UnixNano()
	case !c.Created.IsZero():
		return c.Created.UnixNano()
	}
	return 0
}
