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

// logLines gives the container's log lines.
func logLines(p *evidence.Package) iter.Seq2[logLine, error] {
	return func(yield func(logLine, error) bool) {
		for _, e := range p.Artifacts("logs/") {
			for l, err := range p.Lines(e.Path) {
				if err != nil {
					yield(logLine{}, err)
					return
				}
				c := verdict.Citation{Artifact: l.Artifact, Offset: l.Offset, Length: l.Length, SHA256: l.SHA256}
				var j struct {
					Log  string
					Time time.Time
				}
				if json.Unmarshal(bytes.TrimSpace(l.Data), &j) == nil && !j.Time.IsZero() {
					if !yield(logLine{j.Time.UnixNano(), j.Log, c}, nil) {
						return
					}
					continue
				}
				if f := strings.SplitN(string(l.Data), " ", 4); len(f) == 4 {
					if t, err := time.Parse(time.RFC3339Nano, f[0]); err == nil {
						if !yield(logLine{t.UnixNano(), f[3], c}, nil) {
							return
						}
					}
				}
			}
		}
	}
}
