package detect_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/verdict"
)

// logLines are the lines from one number to before another.
func logLines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "2026-11-23T03:%02d:%02dZ GET /?item=%d 200\n", i/60, i%60, i)
	}
	return b.String()
}

func TestCutLogs(t *testing.T) {
	hole := strings.Repeat("\x00", 4000)
	open := func(s *detecttest.Scene, size, pos int64, flags uint64) {
		s.Processes[0].FDs = append(s.Processes[0].FDs, record.FD{N: 9, Target: "/data/access.log", Kind: "file", Ino: 77, Size: size, Pos: pos, Flags: flags})
	}
	// held has the process hold a deleted log of the name open.
	held := func(s *detecttest.Scene, content string) {
		s.Extra["process/4001/fd/9"] = content
		s.Processes[0].FDs = append(s.Processes[0].FDs, record.FD{N: 9, Target: "/data/access.log (deleted)", Kind: "file", Deleted: true, Ino: 77, Flags: 1, Artifact: "process/4001/fd/9"})
	}
	for _, c := range []struct {
		name  string
		scene func(s *detecttest.Scene)
		want  verdict.Severity // Info is none
	}{
		{"a hole, and lines follow", func(s *detecttest.Scene) { s.AddFile("/data/access.log", hole+logLines(0, 9), 0o644, after) }, verdict.Medium},
		{"a hole on a volume", func(s *detecttest.Scene) {
			s.MountFile("/var/lib/shop", "/var/lib/shop/access.log", hole+logLines(0, 9), 0o644, after)
		}, verdict.Medium},
		{"a hole, and what was copied away lies beside", func(s *detecttest.Scene) {
			s.AddFile("/data/access.log", hole+logLines(0, 9), 0o644, after)
			s.AddFile("/data/access.log.1", logLines(0, 99), 0o644, after)
		}, verdict.Info},
		{"a hole, and what was copied away has its date before the ending", func(s *detecttest.Scene) {
			s.AddFile("/data/access.log", hole+logLines(0, 9), 0o644, after)
			s.AddFile("/data/access-20261122.log", logLines(0, 99), 0o644, after)
		}, verdict.Info},
		{"a hole, and an empty file beside", func(s *detecttest.Scene) {
			s.AddFile("/data/access.log", hole+logLines(0, 9), 0o644, after)
			s.AddFile("/data/access.log.1", "", 0o644, after)
		}, verdict.Medium},
		{"one that was copied away with its hole, and the log is empty again", func(s *detecttest.Scene) {
			s.AddFile("/data/access.log.1", hole+logLines(0, 9), 0o644, after)
			s.AddFile("/data/access.log", "", 0o644, after)
		}, verdict.Info},
		{"a log of a database, which is no text", func(s *detecttest.Scene) {
			s.AddFile("/data/000003.log", hole+"\x01\x02\x03\x04", 0o644, after)
		}, verdict.Info},
		{"set aside, nothing written yet", func(s *detecttest.Scene) { s.AddFile("/data/access.log", hole, 0o644, after) }, verdict.Info},
		{"written beyond its end", func(s *detecttest.Scene) {
			s.AddFile("/data/access.log", "", 0o644, after)
			open(s, 0, 9000, 1)
		}, verdict.Medium},
		{"read beyond its end", func(s *detecttest.Scene) {
			s.AddFile("/data/access.log", "", 0o644, after)
			open(s, 0, 9000, 0)
		}, verdict.Info},
		{"lines taken out", func(s *detecttest.Scene) {
			held(s, logLines(0, 60))
			s.AddFile("/data/access.log", logLines(0, 20)+logLines(21, 50), 0o644, after)
		}, verdict.High},
		{"rotated: the new one has lines of its own", func(s *detecttest.Scene) {
			held(s, logLines(0, 60))
			s.AddFile("/data/access.log", logLines(60, 90), 0o644, after)
		}, verdict.Info},
		{"copied as it is", func(s *detecttest.Scene) {
			held(s, logLines(0, 60))
			s.AddFile("/data/access.log", logLines(0, 50), 0o644, after)
		}, verdict.Info},
		{"too few lines to tell", func(s *detecttest.Scene) {
			held(s, "started\nready\nstopped\n")
			s.AddFile("/data/access.log", "started\nstopped\n", 0o644, after)
		}, verdict.Info},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := detecttest.Busy()
			c.scene(s)
			a := run(t, s)["file-log-cut"]
			if c.want == verdict.Info && a.State() != detect.Clean || a.Gravest() != c.want {
				t.Errorf("is %s %s, want %s: %+v", a.State(), a.Gravest(), c.want, a.Hits)
			}
		})
	}
}
