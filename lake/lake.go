// Package lake keeps events so that they can be searched as fast as one thinks.
//
// A lake is a folder: runs of about half a million events as Parquet (zstd, sorted by time, row groups of 32,768 rows), an index of
// their text, and a description that is written last. It is derived from evidence and can be thrown away at any time. There is
// one lake for each package, and one for each set of loose files.
//
// The Parquet files are plain: any engine reads them. Columns are those of event.Event, by their JSON names, and row; integers are
// INT64, text is UTF-8 without NUL, attributes is JSON as text, and nothing is null: what is missing is 0 or empty. Engines are held to one
// meaning by laketest. The SQL that is used is kept to what DuckDB and Trino share: SELECT, WHERE with comparisons, IN, LIKE,
// lower, contains as strpos, regexp_like (regexp_matches of DuckDB), json_extract_scalar (json_extract_string of DuckDB), GROUP BY with
// grouping sets, ORDER BY and LIMIT; package query translates what differs.
//
// The text index has for each 4,096 rows the sets of 3- and 6-grams of their texts (see gram.go). It leaves out rows before any SQL
// is run, and never one that matches.
package lake

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Lake is one lake, opened. It may be used by several goroutines.
type Lake struct {
	Dir string
	Manifest
	text *os.File
	away string // removed when the lake is closed
}

// Open opens the lake in dir. A *DamagedError says that it must be built again.
func Open(dir string) (*Lake, error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, textName))
	if err != nil {
		return nil, fmt.Errorf("opening the index of events: %w", err)
	}
	return &Lake{Dir: dir, Manifest: *m, text: f}, nil
}

// Close closes the files, and removes a lake of encrypted evidence.
func (l *Lake) Close() error {
	err := l.text.Close()
	if l.away != "" {
		err = errors.Join(err, os.RemoveAll(l.away))
	}
	return err
}

// Runs are the paths of the Parquet files, in the order of Group.File.
func (l *Lake) Runs() []string {
	var out []string
	for _, f := range l.Files {
		if f.Name != textName {
			out = append(out, filepath.Join(l.Dir, f.Name))
		}
	}
	return out
}

// Span is rows From to To, both included, which lie in one row group.
type Span struct {
	Group    Group
	From, To int64
}

// Candidates gives, in the order of rows, where a row can be that contains, in any text column and without regard to case, at least one
// of each of the lists of needles. Needles are in lower case. It reports false when the needles are too short to tell.
func (l *Lake) Candidates(needles [][]string) ([]Span, bool, error) {
	var all [][]*gramBits
	for _, or := range needles {
		var list []*gramBits
		for _, n := range or {
			g := gramsOf(n)
			if g == nil {
				list = nil // too short to tell: the list says nothing
				break
			}
			list = append(list, g)
		}
		if len(list) > 0 {
			all = append(all, list)
		}
	}
	if len(all) == 0 {
		return nil, false, nil
	}
	var out []Span
	for _, g := range l.Groups {
		at := g.Text
		for b, width := range g.Widths {
			ok, err := l.matches(at, width, all)
			if err != nil {
				return nil, false, err
			}
			at += shortBytes + 1<<width/8
			if !ok {
				continue
			}
			from := g.Row + int64(b*blockRows)
			to := min(from+blockRows, g.Row+g.Rows) - 1
			if n := len(out); n > 0 && out[n-1].To+1 == from && out[n-1].Group.Row == g.Row {
				out[n-1].To = to
				continue
			}
			out = append(out, Span{g, from, to})
		}
	}
	return out, true, nil
}

// matches looks at the sets at an offset of the text index.
func (l *Lake) matches(at int64, width int, needles [][]*gramBits) (bool, error) {
	for _, or := range needles {
		some := false
		for _, n := range or {
			has, err := l.has(at, width, n)
			if err != nil {
				return false, err
			}
			if has {
				some = true
				break
			}
		}
		if !some {
			return false, nil
		}
	}
	return true, nil
}

const shortBytes = 1 << shortBits / 8

// has looks the grams up, the telling ones first.
func (l *Lake) has(at int64, width int, n *gramBits) (bool, error) {
	for _, bit := range n.long {
		if ok, err := l.bit(at+shortBytes, bit>>(longBits-width)); err != nil || !ok {
			return false, err
		}
	}
	for _, bit := range n.short {
		if ok, err := l.bit(at, bit); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// bit reads one bit of a set: little-endian words, so byte by byte from the lowest.
func (l *Lake) bit(set int64, bit uint32) (bool, error) {
	var b [1]byte
	if _, err := l.text.ReadAt(b[:], set+int64(bit>>3)); err != nil {
		if errors.Is(err, io.EOF) {
			return false, &DamagedError{l.Dir, textName, "it is shorter than it was"}
		}
		return false, fmt.Errorf("reading the index of text: %w", err)
	}
	return b[0]>>(bit&7)&1 == 1, nil
}
