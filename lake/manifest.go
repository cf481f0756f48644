package lake

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cespare/xxhash/v2"

	"github.com/sherd-forensics/sherd/parse"
)

const (
	// formatVersion is of the files of a lake. A lake of another version is built anew.
	formatVersion = 1

	manifestName = "lake.json"
	textName     = "text.index"

	// groupRows is how many rows a row group of a run has at most, and blockRows what the text index can tell apart.
	groupRows = 32 << 10
	blockRows = 4 << 10
	// bufferRows are sorted together, and buffersPerRun of them are one Parquet file: about half a million rows.
	bufferRows    = 4 * groupRows
	buffersPerRun = 4
)

// Manifest describes a lake. It is written last: a folder without it is no lake.
type Manifest struct {
	Version int    `json:"version"`
	Key     string `json:"key"` // what the lake was built from, and by which parsers
	Events  int64  `json:"events"`
	// First and Last are the times of the first and last event that has one, in nanoseconds UTC.
	First  int64   `json:"first"`
	Last   int64   `json:"last"`
	Files  []File  `json:"files"`
	Groups []Group `json:"groups"`
	// Report says what was read, and what of it was not.
	Report *parse.Report `json:"report"`
}

// File is a file of a lake as it was written.
type File struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	Hash uint64 `json:"xxh64,string"`
	// Modified and Inode tell a file that was touched since, which is then compared with Hash.
	Modified int64  `json:"modified"` // nanoseconds, UTC
	Changed  int64  `json:"changed"`  // nanoseconds, UTC
	Inode    uint64 `json:"inode"`
}

// Group is a row group: rows Row to Row+Rows-1, in the File with that number, between two times.
type Group struct {
	File int   `json:"f"`
	Row  int64 `json:"r"`
	Rows int64 `json:"n"`
	Min  int64 `json:"a"` // of time; 0 is an event without a time
	Max  int64 `json:"z"`
	// Text is where the sets of the group's blocks begin in the text index: of each block the short one and the long one. Widths is for
	// each block how many bits a hash of its long set has.
	Text   int64 `json:"t"`
	Widths []int `json:"w"`

	first int64 // time that is not 0
}

// DamagedError says that a lake is not as it was written. It is built again from its sources.
type DamagedError struct {
	Dir, File string
	Why       string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the index of events in %s is damaged: %s: %s", e.Dir, e.File, e.Why)
}

// ReadManifest reads the description of the lake in dir, and holds its files against it: their size always, their content when they
// were touched since they were written.
func ReadManifest(dir string) (*Manifest, error) {
	b, err := os.ReadFile(filepath.Join(dir, manifestName))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("opening the index of events: %w", err)
	}
	if err != nil {
		return nil, &DamagedError{dir, manifestName, err.Error()}
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, &DamagedError{dir, manifestName, err.Error()}
	}
	if m.Version != formatVersion {
		return nil, &DamagedError{dir, manifestName, fmt.Sprintf("it has version %d, this program reads %d", m.Version, formatVersion)}
	}
	for i := range m.Files {
		if err := m.Files[i].check(dir); err != nil {
			return nil, err
		}
	}
	for _, g := range m.Groups {
		ok := g.File >= 0 && g.File < len(m.Files) && g.Rows > 0 && int64(len(g.Widths)) == (g.Rows+blockRows-1)/blockRows
		for _, w := range g.Widths {
			ok = ok && w >= minLong && w <= longBits
		}
		if !ok {
			return nil, &DamagedError{dir, manifestName, "a row group is described that can't be"}
		}
	}
	return &m, nil
}

func (f *File) check(dir string) error {
	if filepath.Base(f.Name) != f.Name {
		return &DamagedError{dir, manifestName, "it names a file elsewhere"}
	}
	now, err := describe(filepath.Join(dir, f.Name))
	if errors.Is(err, os.ErrNotExist) {
		return &DamagedError{dir, f.Name, "it is missing"}
	}
	if err != nil {
		return &DamagedError{dir, f.Name, err.Error()}
	}
	if now.Size != f.Size {
		return &DamagedError{dir, f.Name, fmt.Sprintf("it has %d bytes and was written with %d", now.Size, f.Size)}
	}
	if now.Modified == f.Modified && now.Changed == f.Changed && now.Inode == f.Inode {
		return nil
	}
	h, err := hashFile(filepath.Join(dir, f.Name))
	if err != nil {
		return err
	}
	if h != f.Hash {
		return &DamagedError{dir, f.Name, "its content is not what was written"}
	}
	return nil
}

func hashFile(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := xxhash.New()
	if _, err := io.Copy(h, f); err != nil {
		return 0, fmt.Errorf("reading %s: %w", path, err)
	}
	return h.Sum64(), nil
}
