// Package evidence is the sealed package, "*.sherd": a tar stream in seekable zstd frames, written front to back, read
// at random, and signed over its bytes as written. docs/evidence-format.md describes it byte by byte.
//
// A package holds raw bytes as they were found. Writer never interprets and never refuses evidence because it is
// odd: what can't be kept as it is, is kept as far as possible and noted. Package and Verify take every byte of a file
// to be hostile: sizes, counts and names in it are bounded before they are used.
//
// Promise: a package of format version 1 can be read by every later version of this package.
package evidence

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"
)

// FormatVersion is the version of the format that Writer writes.
const FormatVersion = 1

// Names of the two documents that end every package.
const (
	CoveragePath = "coverage.json"
	ManifestPath = "manifest.json"
)

// Limits that a reader enforces and a writer therefore keeps to.
const (
	// FrameSize is how many bytes of the tar stream a frame holds; the last frame and the one before the manifest hold fewer.
	FrameSize = 1 << 20
	// maxFrameSize is what a reader accepts, so that a later writer may choose larger frames.
	maxFrameSize = 8 << 20
	// maxPath bounds an artifact's path. Linux bounds a single lookup at 4,096 bytes, but trees can be walked deeper.
	maxPath = 64 << 10
	// maxPAX bounds the extended header of one artifact, as archive/tar does.
	maxPAX = 1 << 20
	// maxManifest bounds manifest.json and maxCoverage coverage.json.
	maxManifest = 512 << 20
	maxCoverage = 64 << 20
	// maxArtifacts bounds their number. What is beyond it is noted as not collected.
	maxArtifacts = 2_000_000
	// maxSignature bounds the signature frame's content.
	maxSignature = 64 << 10
	// maxFrames bounds the seek table: the specification's ZSTD_SEEKABLE_MAXFRAMES.
	maxFrames = 0x8000000
	// maxExtents bounds a sparse file's map; a file with more is sealed dense by whoever collects it.
	maxExtents = 1 << 20
	// maxHoles bounds the zeros that are hashed for one sparse file, and maxAllHoles for the whole package; beyond them
	// only the data is hashed (see Entry.HashOf), or else a file of no content could cost hours.
	maxHoles    = 1 << 30
	maxAllHoles = 16 << 30
)

// Extent is a run of data in a sparse file.
type Extent struct {
	Offset int64
	Length int64
}

// Meta describes an artifact as handed to the Writer.
type Meta struct {
	// Path is the raw path in the package, "process/12/status". It may hold any byte but NUL, is never absolute and has no
	// empty, "." or ".." element; anything else is a programming error that the Writer refuses.
	Path string
	// Origin says where the bytes came from: "/proc/4711/status", "GET /containers/x/json".
	Origin string
	// Type is an archive/tar type flag; 0 means a regular file.
	Type byte
	// Mode holds the permission bits with setuid (04000), setgid (02000) and sticky (01000); 0 means 0600.
	Mode     int64
	UID, GID int
	// Times are nanoseconds since the Unix epoch, UTC; 0 is unknown.
	Mtime, Atime, Ctime, Btime int64
	Linkname                   string // a symbolic link's target
	DevMajor, DevMinor         int64
	Xattrs                     map[string]string // raw values, by name
	PAX                        map[string]string // further PAX records, with keys "SHERD.…"
	// Sparse are the data extents of a sparse regular file, in order; nil means dense. The size is then the real one, and
	// fill writes only the extents' bytes, one after another.
	Sparse []Extent
	// Key identifies the source ("dev:ino:ctime"): a second artifact with the same Key and size becomes a hard link to the first,
	// and fill isn't called. Empty means unknown.
	Key string
	// Volatile says that having it soon matters more than its size: while compression can't keep up with reading, its frames are
	// stored as they are.
	Volatile bool
	Errors   []string
}

// Entry is an artifact as sealed, as manifest.json lists it.
type Entry struct {
	Path string
	Type byte // archive/tar type flag; a hard link to identical content is TypeReg with LinkTo set
	// Size is that of the content, holes included.
	Size int64
	// SHA256 is that of the content, holes included, in lower-case hex; unless HashOf is "data": then it is that of the
	// stored bytes alone, because the holes are too large to be hashed.
	SHA256 string
	HashOf string
	// Offset is where the content's stored bytes begin in the tar stream; for a hard link, where the first copy's do.
	Offset int64
	Origin string
	// LinkTo is the path of the first copy, for content that is stored once.
	LinkTo string
	// Linkname is a symbolic link's target.
	Linkname string
	Sparse   []Extent
	Errors   []string
}

// stored is how many bytes of content lie in the tar stream.
func (e Entry) stored() int64 {
	if e.Type != tar.TypeReg {
		return 0
	}
	if e.Sparse == nil {
		return e.Size
	}
	return dataLength(e.Sparse)
}

func dataLength(x []Extent) (n int64) {
	for _, e := range x {
		n += e.Length
	}
	return n
}

// checkExtents says why extents are not ones of a file of that size: they must be in order, apart, and inside.
func checkExtents(x []Extent, size int64) error {
	if len(x) > maxExtents {
		return fmt.Errorf("%d extents, more than %d", len(x), maxExtents)
	}
	end := int64(0)
	for i, e := range x {
		if e.Offset < end || e.Length < 0 || e.Offset > size || e.Length > size-e.Offset {
			return fmt.Errorf("extent %d (%d bytes at %d) is out of order or outside a file of %d bytes", i, e.Length, e.Offset, size)
		}
		end = e.Offset + e.Length
	}
	return nil
}

var (
	errPathEmpty    = errors.New("is empty")
	errPathAbsolute = errors.New("is absolute")
	errPathNUL      = errors.New("holds a NUL byte")
	errPathElement  = errors.New(`has an empty, "." or ".." element`)
	errPathLong     = fmt.Errorf("is longer than %d bytes", maxPath)
)

// checkPath says why p can't be an artifact's path.
func checkPath(p string) error {
	switch {
	case p == "":
		return errPathEmpty
	case len(p) > maxPath:
		return errPathLong
	case p[0] == '/':
		return errPathAbsolute
	case strings.IndexByte(p, 0) >= 0:
		return errPathNUL
	}
	for rest, more := p, true; more; {
		var el string
		el, rest, more = strings.Cut(rest, "/")
		if el == "" || el == "." || el == ".." {
			return errPathElement
		}
	}
	return nil
}

// Names of the types in manifest.json.
var typeNames = map[byte]string{
	tar.TypeReg: "file", tar.TypeDir: "dir", tar.TypeSymlink: "symlink",
	tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeFifo: "fifo",
}
