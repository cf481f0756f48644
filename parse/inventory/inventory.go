// Package inventory reads filesystem/inventory.jsonl and volumes/mounts.jsonl of an evidence package: which files the
// container's root and its image hold, and what follows from comparing the two. The format is
// docs/evidence-format.md's; the rows are record.File and record.Mounted.
//
// What it proves: that a file with this metadata and hash lay at this path when the capture read it, in the container's
// view (tree "root" or "both") or in the image as it lies extracted on this machine ("image", "both", "layer"); and thereby
// what the container changed.
//
// What it does not prove: who changed it, or when beyond what the times say. mtime and atime are whatever their owner last set
// them to; ctime and btime are the kernel's, but follow its clock, and an intruder on the host can set that. The image's
// extracted layers are compared as found: whether they still are what the registry serves, their digests in the manifest
// must tell. A file that came and went before the capture has no row at all.
package inventory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	formats "github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/verdict"
)

// Paths of the artifacts.
const (
	Path       = "filesystem/inventory.jsonl"
	MountsPath = "volumes/mounts.jsonl"
)

// maxLine bounds one row: paths of 16 KiB and attributes of 1 MiB, escaped.
const maxLine = 4 << 20

// Row is one line of the inventory and where it stands.
type Row struct {
	record.File
	Cite verdict.Citation
}

// LineError is a line that is not what it should be. Reading goes on after it.
type LineError = formats.LineError

// Read gives the rows in the order in which they were written (see package collect/filesystem): rows of one path are
// adjacent. A malformed line is yielded as a *LineError, beside a zero Row, and the next one follows; any other error is
// the last.
func Read(p *evidence.Package) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for f, err := range lines(p, Path, parse) {
			if !yield(Row{f.v, f.cite}, err) {
				return
			}
		}
	}
}

// Mount is one line of volumes/mounts.jsonl and where it stands.
type Mount struct {
	record.Mounted
	Cite verdict.Citation
}

// Mounts gives the container's mounts. Errors are as with Read.
func Mounts(p *evidence.Package) iter.Seq2[Mount, error] {
	return func(yield func(Mount, error) bool) {
		for m, err := range lines(p, MountsPath, parseMount) {
			if !yield(Mount{m.v, m.cite}, err) {
				return
			}
		}
	}
}

type cited[T any] struct {
	v    T
	cite verdict.Citation
}

func lines[T any](p *evidence.Package, path string, parse func([]byte) (T, error)) iter.Seq2[cited[T], error] {
	return func(yield func(cited[T], error) bool) {
		for l, err := range p.Lines(path) {
			if err != nil {
				yield(cited[T]{}, fmt.Errorf("reading %s: %w", path, err))
				return
			}
			v, err := parse(l.Data)
			if err != nil {
				if !yield(cited[T]{}, &LineError{Artifact: l.Artifact, Offset: l.Offset, Err: err}) {
					return
				}
				continue
			}
			c := verdict.Citation{Artifact: l.Artifact, Offset: l.Offset, Length: l.Length, SHA256: l.SHA256}
			if !yield(cited[T]{v, c}, nil) {
				return
			}
		}
	}
}

var (
	trees = map[string]bool{record.TreeBoth: true, record.TreeRoot: true, record.TreeImage: true, record.TreeLayer: true}
	types = map[string]bool{
		record.TypeFile: true, record.TypeDir: true, record.TypeSymlink: true, record.TypeChar: true, record.TypeBlock: true,
		record.TypeFIFO: true, record.TypeSocket: true, record.TypeWhiteout: true,
	}
)

// parse reads one line. It accepts only what a collector may have written.
func parse(line []byte) (record.File, error) {
	var f record.File
	if err := decode(line, &f); err != nil {
		return record.File{}, err
	}
	switch {
	case !trees[f.Tree]:
		return record.File{}, fmt.Errorf("unknown tree %q", f.Tree)
	case !types[f.Type]:
		return record.File{}, fmt.Errorf("unknown type %q", f.Type)
	case f.Path == "" || f.Path[0] != '/':
		return record.File{}, fmt.Errorf("path %q is not absolute", string(f.Path))
	case f.Size < 0:
		return record.File{}, errors.New("negative size")
	case f.SHA256 != "" && !isHash(f.SHA256):
		return record.File{}, errors.New("malformed sha256")
	}
	return f, nil
}

func parseMount(line []byte) (record.Mounted, error) {
	var m record.Mounted
	if err := decode(line, &m); err != nil {
		return record.Mounted{}, err
	}
	if m.Point == "" || m.Point[0] != '/' {
		return record.Mounted{}, fmt.Errorf("mount point %q is not absolute", string(m.Point))
	}
	return m, nil
}

func decode(line []byte, v any) error {
	if len(line) > maxLine {
		return fmt.Errorf("line of %d bytes", len(line))
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	if len(line) == 0 || line[0] != '{' {
		return errors.New("not a JSON object")
	}
	return json.Unmarshal(line, v)
}

func isHash(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
