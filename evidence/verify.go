package evidence

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"filippo.io/age"
)

// maxProblems bounds a report.
const maxProblems = 100

// VerifyOptions choose what a package is held against.
type VerifyOptions struct {
	// Identities open an encrypted package.
	Identities []age.Identity
	// Trusted are the keys that may have signed it, see LoadTrusted.
	Trusted []PublicKey
	// Progress is called now and then with how many bytes of the file are done; may be nil.
	Progress func(done, total int64)
	// NoCustody leaves out the chain of custody beside the package.
	NoCustody bool
}

// Report is the outcome of Verify.
type Report struct {
	Path      string
	ID        string
	SHA256    string // of the file's bytes
	Size      int64
	Artifacts int
	Content   int64 // bytes of all artifacts
	Frames    int
	Encrypted bool
	Truncated bool
	// Signer is the name under which the key is trusted here; of an unknown key, what the package claims.
	Signer    string
	KeyID     string
	Ephemeral bool
	Trusted   bool
	// Problems say what is not as it was sealed, and where; at most 100, Dropped counts the rest.
	Problems []string
	Dropped  int
	Custody  *CustodyReport // nil when there is no log or it was not asked for
}

func (r *Report) problem(format string, a ...any) {
	if len(r.Problems) >= maxProblems {
		r.Dropped++
		return
	}
	r.Problems = append(r.Problems, fmt.Sprintf(format, a...))
}

// Verify reads a whole package and recomputes all that can be. The error is nil only if every byte is as it was sealed, by a trusted
// key, and the chain of custody beside it holds; else it is an *AlteredError, *TruncatedError, *UnsignedError,
// *UnknownSignerError or *CustodyError with a report beside it, or, without one, what kept the file from being read.
//
// What it demands, in the order of the file: frames, each as its header says; a signature frame in its one form, whose
// statement's hash is that of all bytes before it; the seek table that follows from those frames; nothing more. Within the
// frames: a tar stream as a Writer writes it, with the manifest's artifacts in the manifest's order, each with size, place and
// hash as listed, and nothing beside them.
func Verify(ctx context.Context, path string, o VerifyOptions) (*Report, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &NotPackageError{path, "it is not a regular file"}
	}
	if st.Size() == 0 {
		return nil, &NotPackageError{path, "it is empty"}
	}
	src, err := openSource(f, path, st.Size(), o.Identities)
	var altered *AlteredError
	if errors.As(err, &altered) {
		return &Report{Path: path, Size: st.Size(), Encrypted: true, Problems: altered.Problems}, err
	}
	if err != nil {
		return nil, err
	}
	v := &verification{ctx: ctx, o: o, src: src, r: &Report{Path: path, Size: st.Size(), Encrypted: src.encrypted}, whole: newSHA256()}
	if err := v.run(f); err != nil {
		return nil, err
	}
	return v.r, v.judge()
}

// verification is one run of Verify.
type verification struct {
	ctx   context.Context
	o     VerifyOptions
	src   *source
	r     *Report
	whole *sha256sum // of the plain bytes as they are read

	table     []frameInfo // what the seek table says, nil if it can't be had
	frames    []frameInfo // what lies in the file
	st        *Statement
	signed    bool // a signature frame is there, be it good or not
	sealAt    int64
	sealSum   string // of the bytes before the signature frame
	sawTable  bool
	cut       bool // the file ends inside a frame, or before its seek table
	readable  int64
	pkg       *Package // for its manifest; nil if it can't be had
	artifacts int      // whole ones seen
	holes     int64    // bytes of holes hashed

	tableAfter []frameInfo // the seek table that must follow the signature
	tarShort   string      // how the tar stream ended too early
}

// run does the reading; its error means that reading could not go on for reasons that are not the package's.
func (v *verification) run(f *os.File) error {
	first, ferr := parseFrame(v.src, 0, v.src.size)
	var bad *frameError
	if errors.As(ferr, &bad) || first.Skippable != 0 {
		if why := v.begin(); why != nil {
			return why
		}
	}
	raw := make(chan string, 1)
	if v.src.encrypted {
		go func() { raw <- fileSum(f, v.r.Size) }()
	}
	v.prepare()
	err := v.walk()
	if v.src.encrypted {
		v.r.SHA256 = <-raw
	} else {
		v.r.SHA256 = hex.EncodeToString(v.whole.Sum(nil))
	}
	if err != nil {
		return err
	}
	if v.tarShort != "" && !v.cut {
		v.r.problem("%s", v.tarShort)
	}
	v.compare()
	if !v.o.NoCustody {
		return v.custody()
	}
	return nil
}

// begin tells a file that never was a package from one whose first frame was damaged: that one still ends with a seek table.
func (v *verification) begin() error {
	if _, err := readSeekTable(v.src, v.src.size); errors.Is(err, errNoSeekTable) {
		head := make([]byte, min(4, v.src.size))
		if err := readAt(v.src, head, 0); err != nil {
			return err
		}
		if !bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
			return &NotPackageError{v.r.Path, "it does not begin with a zstd frame as packages do"}
		}
	}
	return nil
}

func fileSum(f *os.File, size int64) string {
	h := newSHA256()
	if _, err := io.CopyBuffer(h, io.NewSectionReader(f, 0, size), make([]byte, 1<<20)); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// prepare reads what stands at the end, so that the contents can be held against it as they come by.
func (v *verification) prepare() {
	if v.src.cut {
		v.cut = true
		return
	}
	table, err := readSeekTable(v.src, v.src.size)
	if err != nil {
		if !errors.Is(err, errNoSeekTable) {
			v.r.problem("%v", err)
		}
		return
	}
	v.table = table
	p := &Package{path: v.r.Path, src: v.src}
	switch err := p.loadSealed(table); {
	case err == nil:
		v.pkg = p
	case p.m != nil:
		v.r.problem("%v", err)
	default:
		var unsigned *UnsignedError
		if !errors.As(err, &unsigned) {
			v.r.problem("%v", err)
		}
	}
}

// compare holds the walk's sums against the statement.
func (v *verification) compare() {
	r := v.r
	if r.Frames = len(v.frames); v.st == nil {
		return
	}
	s := v.st.Predicate
	r.ID = s.ID
	if s.Frames != len(v.frames) || s.Bytes != v.sealAt {
		r.problem("the signed statement is about %d frames in %d bytes, and there are %d in %d", s.Frames, s.Bytes, len(v.frames), v.sealAt)
	}
	if want := v.st.Subject[0].Digest.SHA256; v.sealSum != want {
		what := "the package's bytes are not the signed ones"
		if len(r.Problems) == 0 {
			what += ", although they decompress to the sealed contents: a frame's own bytes were changed"
		}
		r.problem("%s: SHA-256 of the first %d bytes is %s instead of %s", what, v.sealAt, v.sealSum, clip(want))
	}
	if v.pkg == nil {
		return
	}
	if m := v.pkg.m; m.ID != s.ID || m.Tool != s.Tool || m.Sealed != s.Sealed || len(m.Artifacts) != s.Artifacts {
		r.problem("the manifest and the signed statement contradict each other")
	}
	for _, e := range v.pkg.m.Artifacts {
		if e.Type != tar.TypeSymlink {
			continue
		}
		if below := v.pkg.first(e.Path + "/"); below != "" {
			r.problem("artifact %q lies below the symbolic link %q: to unpack it would write elsewhere", clip(below), clip(e.Path))
		}
	}
}

// judge sums up.
func (v *verification) judge() error {
	r := v.r
	r.Truncated = v.cut
	r.Artifacts = v.artifacts
	var signer Signer
	if v.st != nil {
		signer = v.st.Predicate.Signer
		pub := PublicKey{Key: signer.PublicKey}
		r.Signer, r.KeyID, r.Ephemeral = clip(signer.Name), pub.ID(), signer.Ephemeral
		for _, t := range v.o.Trusted {
			if bytes.Equal(t.Key, pub.Key) {
				r.Trusted, r.Signer = true, t.Name
			}
		}
	}
	switch {
	case len(r.Problems) > 0:
		return &AlteredError{Path: r.Path, Problems: r.Problems}
	case v.cut:
		return &TruncatedError{Path: r.Path, Frames: len(v.frames), Readable: v.readable, Size: v.src.size, Artifacts: v.artifacts}
	case !v.signed:
		return &UnsignedError{r.Path}
	case !r.Trusted:
		return &UnknownSignerError{Path: r.Path, Signer: signer.Name, KeyID: r.KeyID, Ephemeral: signer.Ephemeral}
	case r.Custody != nil && len(r.Custody.Problems) > 0:
		r.Problems = r.Custody.Problems
		return &CustodyError{Path: CustodyPath(r.Path), Problems: r.Custody.Problems}
	}
	return nil
}

func (v *verification) custody() error {
	c, err := VerifyCustody(v.r.Path, v.o.Trusted)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	v.r.Custody = c
	for _, e := range c.Entries {
		if v.r.ID != "" && e.EvidenceID != "" && e.EvidenceID != v.r.ID {
			c.problem("entry %d is about other evidence, %s", e.Seq, clip(e.EvidenceID))
		} else if e.SHA256 != "" && e.SHA256 != v.r.SHA256 {
			c.problem("entry %d (%s) noted the package's SHA-256 as %s; it is %s now", e.Seq, clip(e.Action), clip(e.SHA256), v.r.SHA256)
		}
	}
	return nil
}
