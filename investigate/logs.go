package investigate

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
	"time"

	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/verdict"
)

type logLine struct {
	Time int64
	Text string
	Cite verdict.Citation
}

// compressed reports whether an artifact is a rotated log in compressed form, whose lines have no place that a citation could
// point at.
func compressed(path string) bool {
	return strings.HasSuffix(path, ".gz") || strings.HasSuffix(path, ".zst") || strings.HasSuffix(path, ".bz2") || strings.HasSuffix(path, ".xz")
}

// logLines gives the container's log lines, as the runtimes' drivers write them (json-file, CRI) or as they came.
func logLines(p *evidence.Package) iter.Seq2[logLine, error] {
	return func(yield func(logLine, error) bool) {
		for _, e := range p.Artifacts("logs/") {
			if compressed(e.Path) {
				continue // told as a gap
			}
			for l, err := range p.Lines(e.Path) {
				if err != nil {
					yield(logLine{}, err)
					return
				}
				c := verdict.Citation{Artifact: l.Artifact, Offset: l.Offset, Length: l.Length, SHA256: l.SHA256}
				var j struct {
					Log, Stream string
					Time        time.Time
				}
				if json.Unmarshal(bytes.TrimSpace(l.Data), &j) == nil && !j.Time.IsZero() && j.Stream != "" {
					if !yield(logLine{j.Time.UnixNano(), j.Log, c}, nil) {
						return
					}
					continue
				}
				at, text := int64(0), string(l.Data)
				if f := strings.SplitN(text, " ", 4); len(f) == 4 && (f[1] == "stdout" || f[1] == "stderr") {
					if t, err := time.Parse(time.RFC3339Nano, f[0]); err == nil {
						at, text = t.UnixNano(), f[3]
					}
				}
				// Without one: output as it came, with no times but those that the application writes.
				if !yield(logLine{at, text, c}, nil) {
					return
				}
			}
		}
	}
}
