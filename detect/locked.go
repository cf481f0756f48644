package detect

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/parse/inventory"
	"github.com/sherd-forensics/sherd/verdict"
)

// Locked are files that took the place of others: each has the whole name of one that is gone, and one more ending, the same for all.
type Locked struct {
	Ending      string // ".locked"
	Count       int
	First, Last int64  // births, nanoseconds UTC
	Samples     []File // some of them
	Notes       []File // files that came with them and are named as notes to a victim are
}

const (
	minLocked     = 10 // fewer are a person's backup copies
	maxCandidates = 200_000
)

var (
	// twoEndings matches a name with an ending after an ending: invoice.csv.locked.
	twoEndings = regexp.MustCompile(`^(.+[.][A-Za-z][A-Za-z0-9]{0,7})([.][A-Za-z0-9_\-]{2,16})$`)
	// honestEndings are those that programs add to whole names: compression, backups, rotation, temporaries, signatures, builds.
	honestEndings = regexp.MustCompile(`(?i)^[.](gz|bz2|xz|zst|lz4|lzma|br|z|zip|7z|tar|tgz|bak|backup|old|orig|save|sav|prev|tmp|temp|part|partial|swp|lock|log|map|json|ya?ml|txt|html?|md|sig|asc|gpg|pgp|age|enc|sha\d*|md5|crc|pem|crt|key|d|ts|js|css|py|pyc|so|idx|index|meta|info|wal|shm|journal|done|ok|\d+|dist|sample|example|template|tpl|tmpl|j2|erb|new|rpmsave|rpmnew|dpkg-\w+)$`)
	// notes matches names of notes to a victim.
	notes = regexp.MustCompile(`(?i)^[!_#@\- ]*((how|read|recover|restore|decrypt|unlock|help|instruction|ransom|your.?files|attention|warning)[^/]{0,60})[.](txt|html?|hta|md|png|bmp)$`)
)

// tally finds Locked while the inventory goes by.
type tally struct {
	byEnding map[string]*Locked
	waiting  map[string]string // a name that should be gone: its ending
	notes    []File
}

func (t *tally) add(f *Facts, r *File) {
	if r.Type != record.TypeFile || r.Tree != record.TreeRoot && r.Tree != record.TreeBoth {
		return
	}
	born := cmp.Or(r.Btime, r.Ctime)
	if !f.afterStart(born) {
		return
	}
	name := path.Base(string(r.Path))
	if notes.MatchString(name) && len(t.notes) < 1000 {
		t.notes = append(t.notes, *r)
	}
	m := twoEndings.FindStringSubmatch(name)
	if m == nil || honestEndings.MatchString(m[2]) || len(t.waiting) >= maxCandidates {
		return
	}
	if t.byEnding == nil {
		t.byEnding, t.waiting = map[string]*Locked{}, map[string]string{}
	}
	l := t.byEnding[m[2]]
	if l == nil {
		if len(t.byEnding) >= 1000 {
			return
		}
		l = &Locked{Ending: m[2]}
		t.byEnding[m[2]] = l
	}
	l.Count++
	if l.First == 0 || born < l.First {
		l.First = born
	}
	l.Last = max(l.Last, born)
	if len(l.Samples) < 8 {
		l.Samples = append(l.Samples, *r)
	}
	t.waiting[strings.TrimSuffix(string(r.Path), m[2])] = m[2]
}

// finish keeps what is many, and whose originals are gone: it reads the inventory again only where there are many.
func (t *tally) finish(ctx context.Context, f *Facts, p *evidence.Package) {
	many := false
	for _, l := range t.byEnding {
		many = many || l.Count >= minLocked
	}
	if !many {
		return
	}
	still := map[string]int{}
	for r, err := range inventory.Read(p) {
		if ctx.Err() != nil {
			return
		}
		if err != nil || r.Tree == record.TreeImage {
			continue
		}
		if e := t.waiting[string(r.Path)]; e != "" {
			still[e]++
		}
	}
	for e, l := range t.byEnding {
		if l.Count -= still[e]; l.Count < minLocked || still[e] > l.Count {
			continue
		}
		const slack = int64(10 * time.Minute)
		for _, n := range t.notes {
			if born := cmp.Or(n.Btime, n.Ctime); born >= l.First-slack && born <= l.Last+slack && len(l.Notes) < 8 {
				l.Notes = append(l.Notes, n)
			}
		}
		f.Files.Locked = append(f.Files.Locked, *l)
	}
	slices.SortFunc(f.Files.Locked, func(a, b Locked) int { return strings.Compare(a.Ending, b.Ending) })
}

func lockedFiles(f *Facts, a *Answer) {
	for i := range f.Files.Locked {
		l := &f.Files.Locked[i]
		first := l.Samples[0]
		fd := Finding{Path: string(first.Path), SHA256: first.SHA256, When: l.First, Foreign: true}
		fd.Severity = verdict.Medium
		fd.Statement = fmt.Sprintf("%d files, the first %s, took the place of files whose names they bear with %s added, within %s", l.Count, say(first.Path), say(l.Ending),
			time.Duration(l.Last-l.First).Round(time.Second))
		for _, s := range l.Samples {
			fd.Citations = append(fd.Citations, s.Cite)
		}
		if len(l.Notes) > 0 {
			n := l.Notes[0]
			fd.Severity, fd.Path, fd.SHA256 = verdict.High, string(n.Path), n.SHA256
			fd.Statement += "; " + say(n.Path) + ", named as a note to a victim is, came with them"
			fd.Citations = append(f.rowCites(&n), fd.Citations...)
		}
		a.hit(fd)
	}
}
