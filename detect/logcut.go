package detect

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

var cutLogsRule = Rule{
	ID: "file-log-cut", Title: "A log was cut behind its writer's back", Severity: verdict.High, Technique: "T1070.002",
	Rationale:   "A program that writes its log goes on where it was: a hole of NUL bytes at the beginning, or a place in it beyond its end, says that somebody else emptied it. A log that stands beside the one still open, and lacks lines from its midst, was written anew without them.",
	FalseAlarms: "Rotation by copying and emptying does the first too, and leaves the older lines in a file beside; an operator who empties a log to make room: graded medium. Rotation by renaming leaves files that share no lines.",
	Needs:       []Fact{Inventory}, check: cutLogs,
}

// logName matches files that are named as logs are, with what rotation adds.
var logName = regexp.MustCompile(`(?i)^/var/log/[^.]|[._\-]?log([.\-_][^/]*)?$`)

const (
	maxLogRead = 8 << 20
	// minHole is the number of NUL bytes at the beginning that are no accident.
	minHole = 32
	// minShared is how many lines two logs must have in common to be the same one.
	minShared = 5
)

func cutLogs(f *Facts, a *Answer) {
	n := 0
	for i := range f.Files.Logs {
		r := &f.Files.Logs[i]
		if n >= perRule {
			return
		}
		if fd, ok := f.rewrittenLog(r); ok {
			n++
			a.hit(fd)
			continue
		}
		if fd, ok := f.emptied(r); ok {
			n++
			a.hit(fd)
		}
	}
}

// emptied judges whether a log lost its beginning while its writer went on.
func (f *Facts) emptied(r *File) (Finding, bool) {
	if f.rotated(string(r.Path)) {
		return Finding{}, false
	}
	fd := Finding{Path: string(r.Path), SHA256: r.SHA256, Foreign: true}
	fd.Severity = verdict.Medium
	raw, err := record.Unescape(r.Artifact)
	if err == nil && raw != "" {
		b := f.Read(raw, 0, maxLogRead)
		hole := len(b) - len(bytes.TrimLeft(b, "\x00"))
		if rest := b[hole:]; hole >= minHole && text(rest) {
			fd.Statement = fmt.Sprintf("the first %d bytes of %s are empty, and lines follow: it was emptied while its writer went on where it was", hole, say(r.Path))
			fd.Citations = []verdict.Citation{r.Cite}
			if c, ok := f.Cite(raw, 0, int64(hole)); ok {
				fd.Citations = append(fd.Citations, c)
			}
			return fd, true
		}
	}
	for i := range f.Processes {
		p := &f.Processes[i]
		for j := range p.FDs {
			d := &p.FDs[j]
			const writes = 3 // O_WRONLY or O_RDWR
			if d.Target != r.Path || d.Deleted || d.Kind != "file" || d.Flags&writes == 0 || d.Pos <= d.Size || d.Ino != 0 && r.Ino != 0 && d.Ino != r.Ino {
				continue
			}
			fd.PID, fd.When = 0, 0
			fd.Statement = fmt.Sprintf("%s has written %s up to byte %d, and it has only %d: it was emptied behind its writer's back", Describe(p), say(r.Path), d.Pos, d.Size)
			fd.Citations = []verdict.Citation{r.Cite, p.Cite}
			return fd, true
		}
	}
	return Finding{}, false
}

// text reports whether b begins as lines of text do.
func text(b []byte) bool {
	b = b[:min(len(b), 512)]
	return len(b) > 0 && bytes.IndexByte(b, 0) < 0 && !slices.ContainsFunc(b, func(c byte) bool { return c < 0x20 && c != '\t' && c != '\n' && c != '\r' && c != 0x1b })
}

// rotated reports whether a file beside holds what rotation takes from a log: its name with more at the end, or with more before its ending.
func (f *Facts) rotated(name string) bool {
	stem := strings.TrimSuffix(name, path.Ext(name))
	return slices.ContainsFunc(f.Files.Logs, func(r File) bool {
		other := string(r.Path)
		if other == name || path.Dir(other) != path.Dir(name) {
			return false
		}
		if rest, ok := strings.CutPrefix(other, name); ok {
			return r.Size > 0 && strings.ContainsRune(".-_~", rune(rest[0]))
		}
		rest, ok := strings.CutPrefix(other, stem)
		// A rotated one has the log itself beside it.
		return ok && stem != path.Dir(name)+"/" && (rest == "" || r.Size > 0 && strings.ContainsRune(".-_", rune(rest[0])))
	})
}

// rewrittenLog judges whether a log took the place of one that is still open, and lacks lines from its midst.
func (f *Facts) rewrittenLog(r *File) (Finding, bool) {
	raw, err := record.Unescape(r.Artifact)
	if err != nil || raw == "" {
		return Finding{}, false
	}
	for i := range f.Processes {
		p := &f.Processes[i]
		for j := range p.FDs {
			d := &p.FDs[j]
			if !d.Deleted || d.Kind != "file" || d.Artifact == "" || strings.TrimSuffix(string(d.Target), " (deleted)") != string(r.Path) {
				continue
			}
			old := f.Read(d.Artifact, 0, maxLogRead)
			missing, first, length := lacks(old, f.Read(raw, 0, maxLogRead))
			if missing == 0 {
				continue
			}
			fd := Finding{Path: string(r.Path), SHA256: r.SHA256, When: cmp.Or(r.Btime, r.Ctime), Foreign: true}
			fd.Severity = verdict.High
			fd.Statement = fmt.Sprintf("%s took the place of the log that %s still writes, and lacks %s of its lines, the first: %s", say(r.Path), Describe(p), plural(int64(missing), "line"),
				say(string(bytes.TrimSpace(old[first:first+length]))))
			fd.Citations = []verdict.Citation{r.Cite, p.Cite}
			if c, ok := f.Cite(d.Artifact, int64(first), int64(length)); ok {
				fd.Citations = append([]verdict.Citation{c}, fd.Citations...)
			}
			return fd, true
		}
	}
	return Finding{}, false
}

// lacks counts the lines of old, before the last that both have, that now lacks, and gives the place of the first in old. It is 0 unless now
// holds hardly anything but lines of old: otherwise it is another log, and not the same one with lines taken out.
func lacks(old, now []byte) (missing, first, length int) {
	have := map[string]int{}
	lines, shared := 0, 0
	for l := range bytes.Lines(now) {
		have[string(l)]++
		lines++
	}
	last, off := 0, 0
	left := map[string]int{}
	for l := range bytes.Lines(old) {
		if off += len(l); left[string(l)] < have[string(l)] {
			left[string(l)]++
			shared++
			last = off
		}
	}
	if shared < minShared || shared*10 < lines*9 {
		return 0, 0, 0
	}
	off = 0
	for l := range bytes.Lines(old) {
		if off >= last {
			break
		}
		if have[string(l)] == 0 {
			if missing++; missing == 1 {
				first, length = off, len(l)
			}
		}
		off += len(l)
	}
	return missing, first, length
}
