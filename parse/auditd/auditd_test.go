package auditd

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestGolden(t *testing.T) {
	parsetest.Golden(t, Format, "testdata/audit.log", parsetest.Options{})
}

// TestJoin: records of two events that stand between each other become two events with all that theirs say.
func TestJoin(t *testing.T) {
	b, err := os.ReadFile("testdata/audit.log")
	if err != nil {
		t.Fatal(err)
	}
	got, skips := parsetest.Events(t, Format, b)
	if len(skips) != 0 {
		t.Errorf("skipped: %v", skips)
	}
	find := func(k event.Kind) event.Event {
		for _, e := range got {
			if e.Kind == k {
				return e
			}
		}
		t.Fatalf("no %s", k)
		return event.Event{}
	}
	if e := find(event.ProcessStarted); e.Cmdline != "/usr/lib/conv --pool 203 0 1" || e.PID != 4711 || e.User != "nonroot" || e.Identity != "" {
		t.Errorf("start: %+v", e)
	}
	if e := find(event.NetConnected); e.DstIP != "203.0.113.9" || e.DstPort != 4444 || e.Process != "kworker/0:1" || e.Identity != "1000" {
		t.Errorf("connection: %+v", e)
	}
	if e := find(event.FileCreated); e.Path != "/var/spool/cron/root" {
		t.Errorf("file: %+v", e)
	}
	if e := find(event.Sudo); e.Cmdline != "cat /etc/shadow" {
		t.Errorf("sudo: %+v", e)
	}
	if e := find(event.LoginFailed); e.User != "root" || e.SrcIP != "203.0.113.9" {
		t.Errorf("login: %+v", e)
	}
}

func TestDamage(t *testing.T) {
	b, err := os.ReadFile("testdata/audit.log")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(b); i += 7 {
		parsetest.Events(t, Format, b[:i])
		parsetest.Events(t, Format, append(bytes.Clone(b[:i]), "\x00\xff junk ='\"\n"...))
	}
	_, skips := parsetest.Events(t, Format, []byte("type=X msg=audit(1:1): a=b\nno record\nnor this\n\x00\x00\n"))
	if len(skips) != 2 || skips[0].Count != 2 || skips[0].Offset != 27 {
		t.Errorf("%+v", skips)
	}
	// Thousands that never end are bounded.
	got, _ := parsetest.Events(t, Format, []byte(strings.Repeat("type=SYSCALL msg=audit(1795489331.204:1): pid=1\n", 3000)))
	if len(got) != 1 {
		t.Errorf("%d events of one serial", len(got))
	}
}

func TestSniff(t *testing.T) {
	for s, want := range map[string]bool{"type=SYSCALL msg=audit(1795489331.204:1): pid=1\n": true, "type=x y\n": false, "": false, "Nov 24 03:02:11 h audit: type=1326\n": false} {
		if got := Format.Sniff([]byte(s)) > 0; got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func FuzzRead(f *testing.F) { parsetest.Fuzz(f, Format, "testdata/audit.log") }

func BenchmarkRead(b *testing.B) {
	c, err := os.ReadFile("testdata/audit.log")
	if err != nil {
		b.Fatal(err)
	}
	parsetest.Bench(b, Format, bytes.Repeat(c, 500))
}
