package lake

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/parse"
)

// Source is what a lake is built from: a package, or loose files.
type Source struct {
	Package *evidence.Package
	Files   []parse.File
	// Left is what was found beside Files and can't be read.
	Left []parse.ArtifactReport
}

// Options are for Ensure.
type Options struct {
	// Root is the folder of all lakes; empty is DefaultRoot.
	Root string
	// Version names the program, so that another one's parsers make another lake.
	Version string
	Parse   parse.Options
}

// DefaultRoot is the user's cache folder for lakes, or what SHERD_LAKES names.
func DefaultRoot() string {
	if d := os.Getenv("SHERD_LAKES"); d != "" {
		return d
	}
	d, err := os.UserCacheDir()
	if err != nil {
		d = filepath.Join(os.TempDir(), fmt.Sprintf("sherd-%d", os.Getuid()))
	}
	return filepath.Join(d, "sherd", "lakes")
}

// Key is a hash of what the lake of src is made from: the id of a package, and the names, lengths, times and inodes of files.
func (o *Options) Key(src *Source, set *parse.Set) string {
	h := sha256.New()
	put := func(parts ...any) {
		for _, p := range parts {
			fmt.Fprintf(h, "%v\x00", p)
		}
	}
	put("sherd lake", formatVersion, o.Version, o.Parse.Zone)
	for _, f := range set.Formats {
		put(f.Name)
	}
	for _, a := range set.Artifacts {
		put(a.Name)
	}
	if p := src.Package; p != nil {
		// By its file: hashing gigabytes of memory takes longer than most questions.
		path := p.Path()
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
		d, _ := describe(path)
		put("package", p.ID(), p.Size(), p.Truncated(), path, d.Modified, d.Changed, d.Inode)
	}
	for _, f := range src.Files {
		abs, err := filepath.Abs(f.Path)
		if err != nil {
			abs = f.Path
		}
		if real, err := filepath.EvalSymlinks(abs); err == nil {
			abs = real
		}
		d, _ := describe(abs)
		put("file", abs, f.Name, f.Size, d.Modified, d.Changed, d.Inode)
	}
	for _, l := range src.Left {
		put("left", l.Artifact, l.Why)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Ensure opens the lake of src, and builds it first when there is none, or when it is damaged. Several processes may do so at a time: one
// builds, the others wait for it. The lake of an encrypted package is built in memory (/dev/shm, where there is such a place) and
// ends with Lake.Close, so that what was encrypted does not stay in the clear.
func Ensure(ctx context.Context, src Source, set *parse.Set, o Options) (*Lake, error) {
	root := o.Root
	if root == "" {
		root = DefaultRoot()
	}
	key := o.Key(&src, set)
	if src.Package != nil && src.Package.Encrypted() {
		return passing(ctx, &src, set, &o, key)
	}
	dir := filepath.Join(root, key[:32])
	if l, err := open(dir, key); err == nil {
		return l, nil
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("making a place for the index of events: %w (SHERD_LAKES names another)", err)
	}
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	l, err := open(dir, key)
	if err == nil {
		return l, nil // another process built it meanwhile
	}
	var bad *DamagedError
	if !errors.As(err, &bad) && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := sweep(root, dir); err != nil {
		return nil, err
	}
	if err := build(ctx, &src, set, &o, dir, key); err != nil {
		return nil, err
	}
	return open(dir, key)
}

func passing(ctx context.Context, src *Source, set *parse.Set, o *Options, key string) (*Lake, error) {
	place := "/dev/shm"
	if unix.Access(place, unix.W_OK) != nil {
		place = ""
	}
	tmp, err := os.MkdirTemp(place, "sherd-*")
	if err != nil {
		return nil, fmt.Errorf("making the index of events: %w", err)
	}
	dir := filepath.Join(tmp, key[:32])
	l, err := func() (*Lake, error) {
		if err := build(ctx, src, set, o, dir, key); err != nil {
			return nil, err
		}
		return open(dir, key)
	}()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(tmp))
	}
	l.away = tmp
	return l, nil
}

// Discard removes a lake that turned out to be damaged, so that Ensure builds it again.
func Discard(dir string) error {
	// Without its description it is no lake, whatever comes after.
	if err := os.Remove(filepath.Join(dir, manifestName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing a damaged index of events: %w", err)
	}
	return nil
}

func open(dir, key string) (*Lake, error) {
	l, err := Open(dir)
	if err != nil {
		return nil, err
	}
	if l.Key != key {
		l.Close()
		return nil, &DamagedError{dir, manifestName, "it is of other evidence"}
	}
	now := time.Now()
	_ = os.Chtimes(dir, now, now) // so that sweep knows that it is used; a read-only place is never swept
	return l, nil
}

// partial is the suffix of a folder in which a lake is being made. Its process holds the lock of the lake.
const partial = ".partial"

func build(ctx context.Context, src *Source, set *parse.Set, o *Options, dir, key string) (err error) {
	tmp := dir + partial
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("clearing what an earlier run left: %w", err)
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return fmt.Errorf("making the index of events: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(tmp) // the next run clears it too
		}
	}()
	sum, err := hex.DecodeString(key)
	if err != nil {
		return err
	}
	// 22 bits tell lakes apart, 40 number the rows of one.
	base := int64(binary.BigEndian.Uint32(sum)>>10) << 40
	w, err := NewWriter(tmp, base)
	if err != nil {
		return err
	}
	report, err := fill(ctx, w, src, set, o)
	if err != nil {
		w.Abort()
		return err
	}
	report.Artifacts = append(report.Artifacts, src.Left...)
	if _, err := w.Close(key, report); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("putting the index of events in place: %w", err)
	}
	return syncDir(filepath.Dir(dir))
}

func fill(ctx context.Context, w *Writer, src *Source, set *parse.Set, o *Options) (*parse.Report, error) {
	if src.Package != nil {
		return set.Package(ctx, src.Package, o.Parse, w.Write)
	}
	return set.Loose(ctx, src.Files, event.Event{}, o.Parse, w.Write)
}

// unused is how long a lake stays that nobody opens.
const unused = 30 * 24 * time.Hour

// sweep removes the lake in dir, which is damaged or not there, lakes that nobody used for long, and what killed processes left.
func sweep(root, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing a damaged index of events: %w", err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(root, e.Name())
		name := strings.TrimSuffix(strings.TrimSuffix(e.Name(), partial), ".lock")
		if path == dir || len(name) != 32 || strings.Trim(name, "0123456789abcdef") != "" || strings.HasSuffix(e.Name(), ".lock") {
			continue
		}
		info, err := e.Info()
		if err != nil || !e.IsDir() || time.Since(info.ModTime()) < unused && !strings.HasSuffix(e.Name(), partial) {
			continue
		}
		if path == dir+partial {
			continue // build clears it
		}
		// Only what nobody holds.
		f, err := tryLock(filepath.Join(root, name) + ".lock")
		if err != nil {
			continue
		}
		_ = os.RemoveAll(path) // the next sweep tries again
		f.Close()
	}
	return nil
}

func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lock waits until this process alone builds the lake. The file stays: removing it would let two hold it.
func lock(ctx context.Context, path string) (func(), error) {
	for {
		f, err := tryLock(path)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking the index of events: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Times are those of the first and last event of lakes, 0 and 0 when none has a time.
func Times(lakes []*Lake) (first, last int64) {
	for _, l := range lakes {
		if l.First == 0 && l.Last == 0 {
			continue
		}
		if first == 0 || l.First < first {
			first = l.First
		}
		if last == 0 || l.Last > last {
			last = l.Last
		}
	}
	return first, last
}
