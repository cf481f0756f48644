package detect_test

import (
	"testing"

	"github.com/sherd-forensics/sherd/detect"
	"github.com/sherd-forensics/sherd/detect/detecttest"
	"github.com/sherd-forensics/sherd/evidence/record"
)

// A process that ends while it is read is not there any more: it blinds nobody. One whose memory could not be had does.
func TestEndedProcessesBlindNobody(t *testing.T) {
	for _, c := range []struct {
		name  string
		scene func(s *detecttest.Scene, p *record.Process)
		want  detect.State
	}{
		{"its memory was missed, since it ended", func(s *detecttest.Scene, _ *record.Process) {
			s.Missed = append(s.Missed, record.Miss{Kind: "memory", What: "memory of process 4017", Reason: "the process ended before its memory was read", Count: 1})
		}, detect.Clean},
		{"it says itself that it ended", func(_ *detecttest.Scene, p *record.Process) {
			p.Errors = []string{"the process ended while it was read"}
		}, detect.Clean},
		{"the kernel showed no mapping", func(*detecttest.Scene, *record.Process) {}, detect.Clean},
		{"its memory was refused", func(s *detecttest.Scene, _ *record.Process) {
			s.Missed = append(s.Missed, record.Miss{Kind: "memory", What: "memory of process 4017", Reason: "permission denied: needs CAP_SYS_PTRACE", Count: 1})
		}, detect.Blind},
		{"memory was not asked for", func(s *detecttest.Scene, _ *record.Process) { s.Collected["memory"] = "skipped" }, detect.Blind},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := detecttest.Busy()
			p := s.Process(4017, 17, 4001, "/usr/bin/openssl", record.ExeImage, after)
			delete(s.Maps, 4017)
			c.scene(s, p)
			if a := run(t, s)["memory-text-changed"]; a.State() != c.want {
				t.Errorf("is %s, want %s: %+v", a.State(), c.want, a.Blind)
			}
		})
	}
}
