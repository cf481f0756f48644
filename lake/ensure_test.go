package lake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
)

// lines is a format of one event a line; it counts how often it is asked to read.
func lines(reads *atomic.Int64, before func()) *parse.Set {
	return &parse.Set{Formats: []parse.Format{{
		Name: "lines", Title: "lines",
		Sniff: func(head []byte) parse.Confidence {
			if bytes.HasPrefix(head, []byte("junk")) {
				return parse.No
			}
			return parse.Likely
		},
		Read: func(ctx context.Context, in *parse.Input, emit parse.Emit) error {
			reads.Add(1)
			if before != nil {
				before()
			}
			n := int64(0)
			for l, err := range in.Lines() {
				if err != nil {
					return err
				}
				n++
				e := in.Base
				e.Time, e.Kind, e.Message, e.Offset, e.Length = n, event.LogLine, string(l.Data), l.Offset, l.Length
				if err := emit(&e); err != nil {
					return err
				}
			}
			return nil
		},
	}}}
}

func source(t *testing.T, files map[string]string) Source {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, left, err := parse.Files([]string{dir})
	if err != nil {
		t.Fatal(err)
	}
	return Source{Files: found, Left: left}
}

func ensure(t *testing.T, src Source, set *parse.Set, o Options) *Lake {
	t.Helper()
	l, err := Ensure(context.Background(), src, set, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestEnsure(t *testing.T) {
	var reads atomic.Int64
	set := lines(&reads, nil)
	o := Options{Root: t.TempDir()}
	src := source(t, map[string]string{"a.log": "one\ntwo\n", "b.log": "one\ntwo\n", "c.log": "three\n", "d": "junk", "empty": ""})
	l := ensure(t, src, set, o)
	if l.Events != 3 || reads.Load() != 2 {
		t.Errorf("%d events after %d reads: a duplicate is read once", l.Events, reads.Load())
	}
	why := map[string]string{}
	for _, a := range l.Report.Artifacts {
		why[filepath.Base(a.Artifact)] = a.Why
	}
	if !strings.Contains(why["b.log"], "same content") || !strings.Contains(why["d"], "no format") || !strings.Contains(why["empty"], "empty") {
		t.Errorf("the report says %v", why)
	}
	ensure(t, src, set, o)
	if reads.Load() != 2 {
		t.Error("a lake that was there was built again")
	}
	// A file that changed is other evidence.
	f := src.Files[0].Path
	if err := os.WriteFile(f, []byte("ONE\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l := ensure(t, src, set, o); l.Events != 5 {
		t.Errorf("%d events after a file was changed", l.Events)
	}
	if got, _ := filepath.Glob(filepath.Join(o.Root, "*"+partial)); len(got) > 0 {
		t.Errorf("%v was left behind", got)
	}
}

// TestDamage: whatever is done to a lake's files, it is built again and holds the same.
func TestDamage(t *testing.T) {
	var reads atomic.Int64
	set := lines(&reads, nil)
	src := source(t, map[string]string{"a.log": strings.Repeat("a line of a log\n", 5000)})
	o := Options{Root: t.TempDir()}
	first := ensure(t, src, set, o)
	damage := map[string]func(path string) error{
		"cut": func(p string) error {
			i, err := os.Stat(p)
			if err != nil {
				return err
			}
			return os.Truncate(p, i.Size()/2)
		},
		"emptied": func(p string) error { return os.Truncate(p, 0) },
		"missing": os.Remove,
		"flipped": func(p string) error {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b[len(b)/2] ^= 1
			return os.WriteFile(p, b, 0o600)
		},
		"a folder": func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
	}
	for _, name := range []string{manifestName, textName, "run-000001.parquet"} {
		for what, do := range damage {
			before := reads.Load()
			if err := do(filepath.Join(first.Dir, name)); err != nil {
				t.Fatal(err)
			}
			l := ensure(t, src, set, o)
			rebuilt := reads.Load() > before
			if l.Events != 5000 || len(rows(t, l)) != 5000 {
				t.Errorf("%s %s: %d events", name, what, l.Events)
			}
			if !rebuilt && (name != manifestName || what != "flipped") { // a flipped letter of a report is no damage to the events
				t.Errorf("%s %s was not noticed", name, what)
			}
		}
	}
	// A copy elsewhere has other inodes and times, and is as good.
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(first.Dir)); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(to); err != nil {
		t.Errorf("a faithful copy: %v", err)
	} else {
		l.Close()
	}
	if err := Discard(first.Dir); err != nil {
		t.Fatal(err)
	}
	if l := ensure(t, src, set, o); l.Events != 5000 {
		t.Errorf("%d events after it was discarded", l.Events)
	}
}

// TestTogether: of several that want the same lake at a time, one builds it.
func TestTogether(t *testing.T) {
	var reads atomic.Int64
	set := lines(&reads, func() { time.Sleep(50 * time.Millisecond) })
	src := source(t, map[string]string{"a.log": "one\n"})
	o := Options{Root: t.TempDir()}
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			l, err := Ensure(context.Background(), src, set, o)
			if err != nil {
				t.Error(err)
				return
			}
			if l.Events != 1 {
				t.Errorf("%d events", l.Events)
			}
			l.Close()
		}()
	}
	wg.Wait()
	if reads.Load() != 1 {
		t.Errorf("it was built %d times", reads.Load())
	}
}

// TestEnded: a build that was ended leaves nothing that looks whole, and what a killed process left is cleared.
func TestEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var reads atomic.Int64
	src := source(t, map[string]string{"a.log": strings.Repeat("x\n", 100_000)})
	o := Options{Root: t.TempDir()}
	if _, err := Ensure(ctx, src, lines(&reads, cancel), o); !errors.Is(err, context.Canceled) {
		t.Fatalf("the build ended with %v", err)
	}
	set := lines(&reads, nil)
	dir := filepath.Join(o.Root, o.Key(&src, set)[:32])
	if _, err := os.Stat(dir); err == nil {
		t.Fatal("a lake that was not finished is in place")
	}
	if err := os.MkdirAll(filepath.Join(dir+partial, "old"), 0o700); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(o.Root, fmt.Sprintf("%032x", 5))
	if err := os.MkdirAll(other+partial, 0o700); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(o.Root, fmt.Sprintf("%032x", 6))
	if err := os.MkdirAll(old, 0o700); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * unused)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(o.Root, "something else")
	if err := os.MkdirAll(mine, 0o700); err != nil {
		t.Fatal(err)
	}
	if l := ensure(t, src, set, o); l.Events != 100_000 {
		t.Errorf("%d events", l.Events)
	}
	for _, gone := range []string{dir + partial, other + partial, old} {
		if _, err := os.Stat(gone); err == nil {
			t.Errorf("%s was left", filepath.Base(gone))
		}
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error("a folder that is no lake was removed")
	}
}
