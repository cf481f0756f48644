package evidence

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/sherd-forensics/sherd/evidence/record"
)

// recover builds from the frames themselves what the manifest would have said: for a package that was cut short. With salvage
// it also takes a package that was altered, up to the first damage.
func (p *Package) recover(salvage bool) error {
	frames, at, err := wholeFrames(p.src, p.src.size)
	if len(frames) == 0 && at == 0 {
		var bad *frameError
		if errors.As(err, &bad) {
			return &NotPackageError{p.path, "it does not begin with a zstd frame as packages do"}
		}
	}
	if err != nil && !errors.Is(err, errShort) && !salvage {
		return &AlteredError{Path: p.path, Problems: []string{err.Error()}}
	}
	if err == nil && at > 0 && !p.src.cut && !salvage && endsWithTable(p.src, p.src.size) {
		return &AlteredError{Path: p.path, Problems: []string{"the seek table that ends it is damaged"}}
	}
	set, err := newFrameSet(p.src, frames)
	if err != nil {
		return err
	}
	p.frames, p.m = set, &Manifest{Format: FormatVersion}
	whole, err := p.scan(salvage)
	if err != nil {
		return err
	}
	p.cut = &TruncatedError{Path: p.path, Frames: len(frames), Readable: set.end(), Size: p.src.size, Artifacts: whole}
	if p.cov.Collected == nil {
		p.cov = record.Coverage{Collected: map[string]string{}}
	}
	p.cov.Missed = append([]record.Miss{{What: "the rest of the package", Kind: "target", Reason: p.cut.Error(), Partial: true, Count: 1}}, p.cov.Missed...)
	return p.link(set.size())
}

// wholeFrames walks from frame to frame until the first that is not whole. It gives those with content, and the offset where it
// stopped; the error says why, nil at the file's end.
func wholeFrames(r io.ReaderAt, size int64) (frames []frameInfo, off int64, err error) {
	for off < size && len(frames) < maxFrames {
		f, err := parseFrame(r, off, size)
		if err != nil {
			return frames, off, err
		}
		if f.Skippable != 0 {
			off += int64(f.Compressed)
			if f.Skippable == signatureMagic {
				// What follows is the seek table, or what is left of it.
				if off < size {
					_, err = parseFrame(r, off, size)
				}
				return frames, off, err
			}
			return frames, off, nil
		}
		frames = append(frames, f.frameInfo)
		off += int64(f.Compressed)
	}
	return frames, off, nil
}

// endsWithTable reports whether a whole skippable frame for a seek table ends the file.
func endsWithTable(r io.ReaderAt, size int64) bool {
	for off := int64(0); off < size; {
		f, err := parseFrame(r, off, size)
		if err != nil {
			return false
		}
		off += int64(f.Compressed)
		if f.Skippable == seekMagic {
			return true
		}
	}
	return false
}

// scan reads the tar stream from its beginning, hashes every content, and lists what is whole. A dense file that was cut is
// listed with what there is of it.
func (p *Package) scan(salvage bool) (whole int, err error) {
	w := &tarWalker{src: &frameChunks{set: p.frames}}
	seen := map[string]string{}
	holes := int64(0)
	for {
		m, err := w.next()
		if err != nil {
			return whole, p.scanEnd(err, salvage)
		}
		if m.Type == tar.TypeXGlobalHeader {
			p.header(m.comment)
			continue
		}
		if m.Path == ManifestPath {
			// The manifest is there, but not its signature: nothing that it says counts for more than the frames themselves.
			continue
		}
		e := m.Entry
		if _, twice := seen[e.Path]; twice {
			return whole, &AlteredError{Path: p.path, Problems: []string{fmt.Sprintf("artifact %q stands twice", clip(e.Path))}}
		}
		seen[e.Path] = ""
		if e.Type != tar.TypeReg {
			e.Offset = 0
			p.m.Artifacts = append(p.m.Artifacts, e)
			whole++
			continue
		}
		if e.LinkTo != "" {
			i, ok := p.find(e.LinkTo)
			if !ok {
				return whole, &AlteredError{Path: p.path, Problems: []string{fmt.Sprintf("%q is a link to %q, which is not there", clip(e.Path), clip(e.LinkTo))}}
			}
			first := p.m.Artifacts[i]
			e.SHA256, e.Size, e.Offset = first.SHA256, first.Size, first.Offset
			p.m.Artifacts = append(p.m.Artifacts, e)
			whole++
			continue
		}
		cerr := p.hashMember(w, m, &e, &holes)
		if cerr == nil {
			whole++
		} else if e.Sparse != nil || e.Size == 0 {
			return whole, p.scanEnd(cerr, salvage)
		}
		p.m.Artifacts = append(p.m.Artifacts, e)
		p.m.Content += e.Size
		if e.Path == CoveragePath && cerr == nil {
			b := make([]byte, min(e.Size, maxCoverage))
			if err := readAt(p.frames, b, e.Offset); err == nil {
				_ = json.Unmarshal(b, &p.cov) // what can't be read is not believed
			}
		}
		if cerr != nil {
			return whole, p.scanEnd(cerr, salvage)
		}
	}
}

func (p *Package) find(path string) (int, bool) {
	if p.index == nil {
		p.index = map[string]int{}
	}
	for i := len(p.index); i < len(p.m.Artifacts); i++ {
		p.index[p.m.Artifacts[i].Path] = i
	}
	i, ok := p.index[path]
	return i, ok && p.m.Artifacts[i].LinkTo == "" && p.m.Artifacts[i].Type == tar.TypeReg
}

// scanEnd decides what an end of the tar stream means: being cut is what recover is for, damage is not.
func (p *Package) scanEnd(err error, salvage bool) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || salvage {
		return nil
	}
	return &AlteredError{Path: p.path, Problems: []string{err.Error()}}
}

// hashMember reads a member's content and fills in its hash; what was cut is noted in it.
func (p *Package) hashMember(w *tarWalker, m *member, e *Entry, holes *int64) error {
	h := sha256.New()
	n := int64(0)
	if e.Sparse != nil {
		hole := e.Size - m.stored
		if hole > maxHoles || *holes+hole > maxAllHoles {
			e.HashOf = "data"
		} else {
			*holes += hole
		}
	}
	s := &sparseSum{Hash: h, entry: e}
	for {
		b, err := w.content()
		if errors.Is(err, io.EOF) {
			s.finish()
			break
		}
		if err != nil {
			e.Errors = append(e.Errors, fmt.Sprintf("the package was cut short: %d of %d bytes are there", n, e.Size))
			if e.Sparse == nil {
				e.Size = n
			}
			e.SHA256 = hex.EncodeToString(h.Sum(nil))
			return err
		}
		s.add(b)
		n += int64(len(b))
	}
	e.SHA256 = hex.EncodeToString(h.Sum(nil))
	return nil
}

// header takes what the first header of the stream says about the package.
func (p *Package) header(comment string) {
	var h struct {
		Tool    string          `json:"tool"`
		ID      string          `json:"id"`
		Target  json.RawMessage `json:"target"`
		Started int64           `json:"started"`
	}
	if json.Unmarshal([]byte(comment), &h) == nil {
		p.m.Tool, p.m.ID, p.m.Target, p.m.Started = h.Tool, h.ID, h.Target, h.Started
	}
}
