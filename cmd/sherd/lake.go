package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/sherd-forensics/sherd/cmd/internal/formats"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/printable"
	"github.com/sherd-forensics/sherd/lake"
	"github.com/sherd-forensics/sherd/lake/duckdb"
	"github.com/sherd-forensics/sherd/parse"
)

// lakeMemory is what the garbage collector aims to stay below while a lake is built; the whole process needs little more.
const lakeMemory = 400 << 20

// timeline is the events of packages and loose files, opened.
type timeline struct {
	lake.Engine
	lakes []*lake.Lake
	// packages are those among the sources, by evidence id.
	packages map[string]*evidence.Package
}

// Close closes the lakes and packages.
func (t *timeline) Close() error {
	var err error
	if t.Engine != nil {
		err = t.Engine.Close()
	}
	for _, l := range t.lakes {
		err = errors.Join(err, l.Close())
	}
	for _, p := range t.packages {
		err = errors.Join(err, p.Close())
	}
	return err
}

// errBegun, wrapped, keeps withTimeline from running use again: its output has begun.
var errBegun = errors.New("the output so far is not whole")

// withTimeline opens the events of paths (packages, files, and folders of them), building what is not built yet, and calls use. A lake
// that turns out to be damaged is built again, and use is called once more.
func (a *app) withTimeline(ctx context.Context, paths []string, use func(*timeline) error) error {
	for again := false; ; again = true {
		t, err := a.openTimeline(ctx, paths)
		if err != nil {
			return err
		}
		err = errors.Join(use(t), t.Close())
		var bad *lake.DamagedError
		if again || !errors.As(err, &bad) || errors.Is(err, errBegun) {
			return err
		}
		a.note("%v; it is built again", bad)
		for _, l := range t.lakes {
			if bad.Dir == "" || bad.Dir == l.Dir {
				if err := lake.Discard(l.Dir); err != nil {
					return err
				}
			}
		}
	}
}

func (a *app) openTimeline(ctx context.Context, paths []string) (_ *timeline, err error) {
	zone, err := a.zone()
	if err != nil {
		return nil, err
	}
	t := &timeline{packages: map[string]*evidence.Package{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	sources, err := a.sources(t, paths)
	if err != nil {
		return nil, err
	}
	line := a.progress(nil)
	defer line.Done()
	old := debug.SetMemoryLimit(lakeMemory)
	defer debug.SetMemoryLimit(old)
	set := &parse.Set{Formats: formats.All(), Artifacts: formats.Artifacts(), Base: formats.Base}
	for _, s := range sources {
		l, err := lake.Ensure(ctx, s, set, lake.Options{Version: lakeVersion(), Parse: parse.Options{Zone: zone, Progress: func(artifact string, n int64) {
			line.Stage(fmt.Sprintf("reading events: %d, now %s", n, printable.Clip(artifact, 40)))
		}}})
		if err != nil {
			return nil, err
		}
		t.lakes = append(t.lakes, l)
	}
	e, err := duckdb.Open(ctx, t.lakes...)
	if err != nil {
		return nil, err
	}
	t.Engine = e
	if !a.reveal {
		t.Engine = veiled{e}
	}
	return t, nil
}

// lakeVersion names the program, so that another one's parsers make another lake. A build without a version of its own is told by its file.
func lakeVersion() string {
	if version != "devel" {
		return version
	}
	path, err := os.Executable()
	if err != nil {
		return version
	}
	info, err := os.Stat(path)
	if err != nil {
		return version
	}
	return fmt.Sprintf("%s %d %d", version, info.Size(), info.ModTime().UnixNano())
}

// sources tells packages from loose files, which all go into one lake.
func (a *app) sources(t *timeline, paths []string) ([]lake.Source, error) {
	for _, p := range paths {
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("reading %s: %w", printable.Text(p), err)
		}
	}
	files, left, err := parse.Files(paths)
	if err != nil {
		return nil, err
	}
	var out []lake.Source
	loose := lake.Source{Left: left}
	for _, f := range files {
		if of, ok := strings.CutSuffix(f.Path, evidence.CustodyPath("")); ok {
			if _, err := os.Stat(of); err == nil {
				continue // the log of that package's handling
			}
		}
		p, err := a.open(f.Path)
		var not *evidence.NotPackageError
		switch {
		case errors.As(err, &not):
			loose.Files = append(loose.Files, f)
			continue
		case err != nil:
			return nil, err
		}
		if _, ok := t.packages[p.ID()]; ok {
			a.note("%s is the same evidence as another package, and is read once", printable.Text(f.Path))
			if err := p.Close(); err != nil {
				return nil, err
			}
			continue
		}
		t.packages[p.ID()] = p
		out = append(out, lake.Source{Package: p})
	}
	if len(loose.Files) > 0 || len(out) == 0 {
		out = append(out, loose)
	}
	return out, nil
}
