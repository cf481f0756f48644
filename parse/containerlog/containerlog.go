// Package containerlog reads the log files of an evidence package, logs/…: what a container wrote to its standard streams as its
// runtime kept it, and the kernel's lines about it.
//
// Each file is recognised by its content, whatever its name says:
//
//   - Docker's json-file: one JSON object a line (https://docs.docker.com/engine/logging/drivers/json-file/), lines longer than
//     16 KiB in pieces without a line feed at their end
//   - Docker's local: protobuf LogEntry messages, each between its length as 4 bytes, big-endian
//     (https://docs.docker.com/engine/logging/drivers/local/, api/types/plugins/logdriver/entry.proto of moby)
//   - CRI, which containerd, CRI-O and Podman's k8s-file write: "TIME STREAM TAG TEXT", tag P for a piece that goes on and F for
//     the end of a line (design-proposals-archive/node/kubelet-cri-logging.md of the Kubernetes community)
//   - records of /dev/kmsg (Documentation/ABI/testing/dev-kmsg of the kernel)
//   - plain text
//
// each also compressed with gzip or zstd.
//
// What it proves: that the container's processes wrote this text, when the runtime received it, by the clock of the host.
//
// What it does not prove: that the text is true. Any process of the container may write anything to the streams, lines that
// look like the application's requests included, and times inside the text are the writer's. Lines that were rotated away
// or never written are not missed here. A CRI log does not tell output that ended without a line feed from a piece of a line: when the
// container starts again and goes on in the same file, its first line is joined to that. Of compressed files the bytes of a single line can't be pointed at: the
// citation is the whole artifact, and Line.Position says where the line begins once it is decompressed.
package containerlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"slices"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// Formats, as Line.Format names them.
const (
	JSONFile = "json-file"
	Local    = "local"
	CRI      = "cri"
	Kmsg     = "kmsg"
	Plain    = "plain"
)

const (
	prefix    = "logs/"
	maxText   = 1 << 20 // of one line, joined from its pieces
	maxSource = 2 << 20 // bytes of a record in the file that are looked at
	// maxExpanded bounds what one compressed file may expand to.
	maxExpanded = 64 << 30
	// maxStreams bounds the lines that wait for their end at one time: streams have two names, more come from junk.
	maxStreams = 8
)

// lists are the collector's own rows about the files, which are no log.
var lists = regexp.MustCompile(`^logs/files(-[0-9]+)?\.jsonl$`)

// Line is one line of output, joined from its pieces.
type Line struct {
	Time   int64  // nanoseconds since the epoch, UTC, as the runtime or the kernel stamped it; of plain text its own; 0 if there is none
	Stream string // stdout, stderr, kernel, or empty when the format does not tell
	// Text is without its line feed, any bytes, at most 1 MiB; Cut is true when there was more.
	Text   string
	Cut    bool
	Format string
	// Position is where the line begins in the file as it is once decompressed.
	Position int64
	// Compressed is true when Cite is the whole artifact.
	Compressed bool
	// Cite is where the line stands. Between the pieces of a long line those of the other stream may stand, and are then in it too.
	Cite verdict.Citation
}

// Problem is a run of bytes in a log that could not be read as what they should be. Reading goes on after it.
type Problem struct {
	Artifact string
	// Offset and Length are in the decompressed file; Length is 0 where the end is unknown.
	Offset, Length int64
	Count          int // of lines or records in it
	Reason         string
}

func (e *Problem) Error() string {
	return fmt.Sprintf("%s at byte %d, %d bytes in %d pieces: %s", e.Artifact, e.Offset, e.Length, e.Count, e.Reason)
}

// Artifacts lists the logs of p in the order in which Read reads them.
func Artifacts(p *evidence.Package) []evidence.Entry {
	return slices.DeleteFunc(slices.Clone(p.Artifacts(prefix)), func(e evidence.Entry) bool {
		file := e.Type == 0 || e.Type == '0' || e.Type == '1' // a hard link is a file whose bytes another path has too
		return !file || lists.MatchString(e.Path)
	})
}

// Read gives the lines of all logs, file by file in the order of their names, and within a file in the order of their ends.
// What can't be read is yielded as a *Problem, beside a zero Line, and the next line follows; any other error is the last.
func Read(p *evidence.Package) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		boot := bootTime(p)
		for _, e := range Artifacts(p) {
			err := readArtifact(p, e, boot, yield)
			if errors.Is(err, errDone) {
				return
			}
			if err != nil {
				yield(Line{}, fmt.Errorf("reading %s: %w", e.Path, err))
				return
			}
		}
	}
}

// ReadArtifact is Read for one of the Artifacts.
func ReadArtifact(p *evidence.Package, e evidence.Entry) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		if err := readArtifact(p, e, bootTime(p), yield); err != nil && !errors.Is(err, errDone) {
			yield(Line{}, fmt.Errorf("reading %s: %w", e.Path, err))
		}
	}
}

func readArtifact(p *evidence.Package, e evidence.Entry, boot int64, yield func(Line, error) bool) error {
	a, err := p.Open(e.Path)
	if err != nil {
		return err
	}
	return newReader(e, boot, yield).run(a)
}

// bootTime is the time of day, in nanoseconds, at which the kernel's log counts from; 0 if the package does not say. The
// kernel's log clock stands still in suspend, so the difference to the monotonic clock is taken.
func bootTime(p *evidence.Package) int64 {
	b, err := p.ReadFile("host/host.json", 1<<20)
	if err != nil {
		return 0
	}
	var h record.Host
	if json.Unmarshal(b, &h) != nil || h.Realtime <= h.Monotonic || h.Monotonic < 0 {
		return 0
	}
	return h.Realtime - h.Monotonic
}

var errDone = errors.New("the reader of lines has seen enough")

// reader reads one artifact.
type reader struct {
	entry      evidence.Entry
	boot       int64
	yield      func(Line, error) bool
	format     string
	compressed bool
	bad        Problem         // the current run
	pending    map[string]Line // by stream: pieces of a line that goes on
	ends       map[string]int64
	order      []string // streams in pending, by beginning
}

func newReader(e evidence.Entry, boot int64, yield func(Line, error) bool) *reader {
	return &reader{entry: e, boot: boot, yield: yield, pending: map[string]Line{}, ends: map[string]int64{}}
}

func (r *reader) run(a io.Reader) error {
	src, err := open(a)
	if err != nil {
		return err
	}
	defer src.close()
	r.compressed = src.compressed
	r.format = sniff(src.peek(sniffed))
	if r.format == Local {
		err = r.local(src)
	} else {
		err = r.lines(src)
	}
	if err != nil {
		return err
	}
	for len(r.order) > 0 {
		if err := r.flush(r.order[0]); err != nil {
			return err
		}
	}
	if src.broken != nil {
		if err := r.skip(src.offset, 0, "the compressed file can't be read further: "+src.broken.Error()); err != nil {
			return err
		}
	}
	return r.report()
}

// emit yields a line that ends at end.
func (r *reader) emit(l Line, end int64) error {
	if err := r.report(); err != nil {
		return err
	}
	l.Format, l.Compressed = r.format, r.compressed
	l.Cite = verdict.Citation{Artifact: r.entry.Path, Offset: l.Position, Length: end - l.Position, SHA256: r.entry.SHA256}
	if r.compressed {
		l.Cite.Offset, l.Cite.Length = 0, r.entry.Size
	}
	if !r.yield(l, nil) {
		return errDone
	}
	return nil
}

// piece takes a record that holds a whole line, or a part of one when more is true. end is where it ends in the file.
func (r *reader) piece(l Line, end int64, more bool) error {
	have, ok := r.pending[l.Stream]
	if !ok && !more {
		return r.emit(l, end)
	}
	if ok {
		room := maxText - len(have.Text)
		have.Cut = have.Cut || l.Cut || len(l.Text) > room
		have.Text += l.Text[:min(len(l.Text), room)]
	} else {
		if len(r.order) >= maxStreams {
			if err := r.flush(r.order[0]); err != nil {
				return err
			}
		}
		r.order = append(r.order, l.Stream)
		have = l
	}
	r.pending[l.Stream], r.ends[l.Stream] = have, end
	if more {
		return nil
	}
	return r.flush(l.Stream)
}

// flush emits what is pending of a stream.
func (r *reader) flush(stream string) error {
	l, end := r.pending[stream], r.ends[stream]
	delete(r.pending, stream)
	delete(r.ends, stream)
	r.order = slices.DeleteFunc(r.order, func(s string) bool { return s == stream })
	return r.emit(l, end)
}

// skip notes bytes that are not what they should be; runs of the same kind become one Problem.
func (r *reader) skip(offset, length int64, reason string) error {
	if r.bad.Count > 0 && r.bad.Reason == reason && r.bad.Offset+r.bad.Length == offset {
		r.bad.Length += length
		r.bad.Count++
		return nil
	}
	if err := r.report(); err != nil {
		return err
	}
	r.bad = Problem{Artifact: r.entry.Path, Offset: offset, Length: length, Count: 1, Reason: reason}
	return nil
}

// report yields the run of bad bytes that ended.
func (r *reader) report() error {
	if r.bad.Count == 0 {
		return nil
	}
	b := r.bad
	r.bad = Problem{}
	if !r.yield(Line{}, &b) {
		return errDone
	}
	return nil
}
