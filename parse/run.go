package parse

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
)

// Report says what was made of each artifact, and what was not.
type Report struct {
	Artifacts []ArtifactReport `json:"artifacts"`
	Skips     []Skip           `json:"skips,omitempty"`
	Events    int64            `json:"events"`
}

// ArtifactReport is of one artifact, or of all that one Artifacts parser read.
type ArtifactReport struct {
	Artifact string `json:"artifact"`
	Parser   string `json:"parser,omitempty"` // empty when it was not read
	Events   int64  `json:"events"`
	Why      string `json:"why,omitempty"` // it was not read
}

// Set is what is known to read evidence.
type Set struct {
	Formats   []Format
	Artifacts []Artifacts
	// Base fills the columns that all events of a package share.
	Base func(*evidence.Package) event.Event
}

// Options change how times are read.
type Options struct {
	Zone *time.Location // of times that don't name one; nil is UTC
	// Only, unless nil, says which artifacts of a package are read as logs.
	Only func(path string) bool
	// Progress, unless nil, is called now and then with the artifact that is read and the events so far.
	Progress func(artifact string, events int64)
}

// loose are the parts of a package that are searched for logs: everything in the first, and of the second what is surely one. What the API server
// of a cluster said lies beside what was worked out from it, which has no times.
var (
	logFolders  = []string{"logs/", "added/", "host/logs/"}
	fileFolders = []string{"filesystem/upper/", "volumes/", "target/kubernetes/"}
)

// collected are the collector's own lists, which are no logs.
var collected = regexp.MustCompile(`^logs/files(-[0-9]+)?\.jsonl$`)

// Choose gives the format that is most sure of content beginning with head, and how sure it is.
func (s *Set) Choose(head []byte) (*Format, Confidence) {
	var best *Format
	sure := No
	for i := range s.Formats {
		if c := s.Formats[i].Sniff(head); c > sure {
			best, sure = &s.Formats[i], c
		}
	}
	return best, sure
}

// Package emits all events of p: of what the collectors wrote, and of every log in it. It returns errors of the package and of emit;
// what could not be understood is in the report.
func (s *Set) Package(ctx context.Context, p *evidence.Package, o Options, emit Emit) (*Report, error) {
	r := &runner{set: s, o: o, emit: emit, report: &Report{}, read: map[string]string{}}
	if s.Base != nil {
		r.base = s.Base(p)
	}
	r.base.EvidenceID = p.ID()
	r.latest = time.Unix(0, p.Manifest().Sealed)
	if p.Manifest().Sealed == 0 { // it was cut short
		r.latest = time.Unix(0, p.Manifest().Started).Add(time.Hour)
	}
	r.boot = bootTime(p)
	there := claimed(p, s.Artifacts)
	for i := range s.Artifacts {
		if !there[i] {
			continue // of a capture that could read nothing of the kind
		}
		if err := r.artifacts(ctx, p, &s.Artifacts[i]); err != nil {
			return r.report, err
		}
	}
	for _, e := range p.Artifacts("") {
		sure, ok := r.wanted(&e)
		if !ok {
			continue
		}
		if first, ok := r.read[e.SHA256]; ok && e.SHA256 != "" {
			r.skipped(e.Path, "it has the same content as "+first)
			continue
		}
		if err := r.entry(ctx, p, e, sure); err != nil {
			return r.report, err
		}
		r.read[e.SHA256] = e.Path
	}
	return r.report, nil
}

// wanted reports whether an artifact is read as a log, and how sure its format must be.
func (r *runner) wanted(e *evidence.Entry) (Confidence, bool) {
	if e.Type != 0 && e.Type != '0' && e.Type != '1' || e.Size == 0 {
		return No, false
	}
	for i := range r.set.Artifacts {
		if r.set.Artifacts[i].Claims(e.Path) {
			return No, false
		}
	}
	if collected.MatchString(e.Path) || r.o.Only != nil && !r.o.Only(e.Path) {
		return No, false
	}
	for _, f := range logFolders {
		if strings.HasPrefix(e.Path, f) {
			return Fallback, true
		}
	}
	for _, f := range fileFolders {
		if strings.HasPrefix(e.Path, f) {
			return Likely, true
		}
	}
	return No, false
}

// bootTime is where the kernel's log counts from; 0 if the package does not say. Its clock stands still in suspend, so the difference
// to the monotonic clock is taken.
func bootTime(p *evidence.Package) int64 {
	h, ok := Host(p)
	if !ok || h.Realtime <= h.Monotonic || h.Monotonic < 0 {
		return 0
	}
	return h.Realtime - h.Monotonic
}

type runner struct {
	set    *Set
	o      Options
	emit   Emit
	base   event.Event
	latest time.Time
	boot   int64
	report *Report
	read   map[string]string // content's hash to the artifact that was read
}

func (r *runner) skipped(artifact, why string) {
	r.report.Artifacts = append(r.report.Artifacts, ArtifactReport{Artifact: artifact, Why: why})
}

// progressEvery is how many events pass between two calls of Options.Progress.
const progressEvery = 1 << 14

// counted passes events on and counts them.
func (r *runner) counted(ctx context.Context, artifact string, n *int64) Emit {
	return func(e *event.Event) error {
		*n++
		r.report.Events++
		if r.report.Events%progressEvery == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if r.o.Progress != nil {
				r.o.Progress(artifact, r.report.Events)
			}
		}
		return r.emit(e)
	}
}

// claimed says of each parser whether the package holds anything that it reads.
func claimed(p *evidence.Package, of []Artifacts) []bool {
	out := make([]bool, len(of))
	left := len(of)
	for _, e := range p.Artifacts("") {
		for i := range of {
			if !out[i] && of[i].Claims(e.Path) {
				out[i] = true
				left--
			}
		}
		if left == 0 {
			break
		}
	}
	return out
}

func (r *runner) artifacts(ctx context.Context, p *evidence.Package, a *Artifacts) error {
	out := ArtifactReport{Parser: a.Name, Artifact: a.Title}
	emit := r.counted(ctx, a.Title, &out.Events)
	base := r.base
	err := a.Read(ctx, p, func(s Skip) { r.report.Skips = append(r.report.Skips, s) }, func(e *event.Event) error {
		e.EvidenceID, e.Container, e.Node = base.EvidenceID, cmp.Or(e.Container, base.Container), cmp.Or(e.Node, base.Node)
		e.ContainerID, e.ImageDigest = cmp.Or(e.ContainerID, base.ContainerID), cmp.Or(e.ImageDigest, base.ImageDigest)
		e.Pod, e.Namespace = cmp.Or(e.Pod, base.Pod), cmp.Or(e.Namespace, base.Namespace)
		return emit(e)
	})
	if err != nil {
		return fmt.Errorf("reading events of the %s: %w", a.Title, err)
	}
	if out.Events > 0 {
		r.report.Artifacts = append(r.report.Artifacts, out)
	}
	return nil
}

func (r *runner) entry(ctx context.Context, p *evidence.Package, e evidence.Entry, sure Confidence) error {
	a, err := p.Open(e.Path)
	if err != nil {
		return err
	}
	base := r.base
	base.Artifact = e.Path
	return r.content(ctx, a, base, r.latest, sure)
}

// content reads one artifact with the format that is most sure of it.
func (r *runner) content(ctx context.Context, c Content, base event.Event, latest time.Time, least Confidence) error {
	in, err := NewInput(c, base)
	if err != nil {
		return fmt.Errorf("reading %s: %w", base.Artifact, err)
	}
	defer in.Close()
	in.Latest, in.Zone, in.Boot = latest, r.o.Zone, r.boot
	f, sure := r.set.Choose(in.Head())
	if f == nil || sure < least {
		if least <= Fallback {
			why := "no format claims its content"
			if len(in.Head()) == 0 {
				why = "it is empty, or can't be expanded"
			}
			r.skipped(base.Artifact, why)
			r.report.Skips = append(r.report.Skips, in.Skips()...)
		}
		return nil
	}
	in.Base.Parser = f.Name
	out := ArtifactReport{Artifact: base.Artifact, Parser: f.Name}
	emit := r.counted(ctx, base.Artifact, &out.Events)
	if in.Compression != "" {
		emit = marked(in.Compression, emit)
	}
	err = f.Read(ctx, in, emit)
	r.report.Artifacts = append(r.report.Artifacts, out)
	r.report.Skips = append(r.report.Skips, in.Skips()...)
	if err != nil {
		return fmt.Errorf("reading %s as %s: %w", base.Artifact, f.Title, err)
	}
	return nil
}

// marked says in the attributes of events that their offsets are in the expanded content.
func marked(compression string, emit Emit) Emit {
	mark := []byte(`{"compression":"` + compression + `"`)
	var buf []byte
	return func(e *event.Event) error {
		own := e.Attributes
		buf = append(buf[:0], mark...)
		if len(own) > 2 && own[0] == '{' {
			buf = append(append(buf, ','), own[1:]...)
		} else {
			buf = append(buf, '}')
		}
		e.Attributes = buf
		err := emit(e)
		e.Attributes = own
		return err
	}
}

// maxLoose bounds the files below the folders that are named.
const maxLoose = 1_000_000

// File is a file that lies beside no package.
type File struct {
	Path string // to open it
	Name string // Event.Artifact
	Size int64
	// Modified is its own time: nothing in it should be later.
	Modified time.Time
}

// Files lists the regular files that paths name, those below folders in the order of their names. Symbolic links below folders are not
// followed; why has what was left out.
func Files(paths []string) (files []File, why []ArtifactReport, err error) {
	add := func(path string, info os.FileInfo) error {
		if !info.Mode().IsRegular() {
			why = append(why, ArtifactReport{Artifact: path, Why: "it is no regular file"})
			return nil
		}
		if len(files) >= maxLoose {
			return fmt.Errorf("more than %d files: name a folder further down", maxLoose)
		}
		files = append(files, File{path, path, info.Size(), info.ModTime()})
		return nil
	}
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, nil, err
		}
		if !info.IsDir() {
			if err := add(p, info); err != nil {
				return nil, nil, err
			}
			continue
		}
		err = filepath.WalkDir(p, func(path string, d os.DirEntry, err error) error {
			switch {
			case err != nil:
				why = append(why, ArtifactReport{Artifact: path, Why: err.Error()})
				return nil //nolint:nilerr // it is told, and the walk goes on
			case d.IsDir():
				return nil
			}
			info, err := d.Info()
			if err != nil {
				why = append(why, ArtifactReport{Artifact: path, Why: err.Error()})
				return nil //nolint:nilerr // it is told, and the walk goes on
			}
			return add(path, info)
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return files, why, nil
}

// Loose emits all events of files. A file that can't be read is in the report. base has the columns that they share.
func (s *Set) Loose(ctx context.Context, files []File, base event.Event, o Options, emit Emit) (*Report, error) {
	r := &runner{set: s, o: o, emit: emit, report: &Report{}, base: base}
	same, err := duplicates(ctx, files)
	if err != nil {
		return r.report, err
	}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return r.report, err
		}
		if d := same[f.Path]; d != "" {
			r.skipped(f.Name, "it has the same content as "+d)
			continue
		}
		if err := r.loose(ctx, f); err != nil {
			return r.report, err
		}
	}
	return r.report, nil
}

// DiskFile is a file that lies in no package, opened.
type DiskFile struct {
	*os.File
	size int64
}

// Size is what the file had when it was opened, in bytes.
func (d DiskFile) Size() int64 { return d.size }

// OpenFile opens a regular file without changing its access time where that is allowed, and without waiting where it is none.
func OpenFile(path string) (DiskFile, error) {
	f, err := openQuietly(path)
	if err != nil {
		return DiskFile{}, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		f.Close()
		return DiskFile{}, err
	}
	return DiskFile{f, info.Size()}, nil
}

func (r *runner) loose(ctx context.Context, f File) error {
	h, err := OpenFile(f.Path)
	if err != nil {
		r.skipped(f.Name, err.Error())
		return nil
	}
	defer h.Close()
	if h.Size() == 0 {
		r.skipped(f.Name, "it is empty")
		return nil
	}
	base := r.base
	base.Artifact = f.Name
	err = r.content(ctx, h, base, f.Modified, Fallback)
	if p := (*os.PathError)(nil); errors.As(err, &p) && p.Path == f.Path {
		r.report.Artifacts[len(r.report.Artifacts)-1].Why = "it can't be read further: " + p.Err.Error()
		return nil
	}
	return err
}

// openQuietly leaves the access time as it is where it may, and does not wait for the other end of a pipe.
func openQuietly(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // another user's file
		f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	return f, err
}

// duplicates maps files to an earlier one with the same content. Only files of the same length are read for it.
func duplicates(ctx context.Context, files []File) (map[string]string, error) {
	lengths := map[int64][]File{}
	for _, f := range files {
		lengths[f.Size] = append(lengths[f.Size], f)
	}
	out := map[string]string{}
	for size, group := range lengths {
		if len(group) < 2 || size == 0 {
			continue
		}
		seen := map[string]string{}
		// In the order of the list, so that the first is the one that is read.
		for _, f := range group {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			sum, err := contentHash(f.Path)
			if err != nil {
				continue // reading it says so
			}
			if d, ok := seen[sum]; ok {
				out[f.Path] = d
			} else {
				seen[sum] = f.Name
			}
		}
	}
	return out, nil
}

func contentHash(path string) (string, error) {
	f, err := openQuietly(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return string(h.Sum(nil)), nil
}

// Named finds a format by its name.
func (s *Set) Named(name string) (Format, bool) {
	i := slices.IndexFunc(s.Formats, func(f Format) bool { return f.Name == name })
	if i < 0 {
		return Format{}, false
	}
	return s.Formats[i], true
}
