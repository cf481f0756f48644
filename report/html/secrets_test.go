package html

import (
	"bytes"
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/evidence/record"
	"github.com/sherd-forensics/sherd/investigate"
	"github.com/sherd-forensics/sherd/report"
)

// TestSecretsAreHidden: the bytes behind citations hold an environment, command lines and memory with secrets in them; the page shows none
// of them, neither as text nor in hex, unless it was asked to.
func TestSecretsAreHidden(t *testing.T) {
	token := "gh" + "p_" + strings.Repeat("aB3xZ9qLm0", 4)[:36]
	s := attacked()
	for i := range s.Processes {
		p := &s.Processes[i]
		p.Cmdline = append(p.Cmdline, "--password", "correct-horse", "--url=postgres://shop:pa55word@db/x")
	}
	s.Env[4017] = append(s.Env[4017], "LD_PRELOAD=/tmp/x.so", "GIT_TOKEN=battery-staple with a space")
	s.Cores[4017] = []byte("..." + token + "\x00")
	for i := range s.Maps[4017] {
		if m := &s.Maps[4017][i]; m.Path == "[heap]" {
			m.Segments = []record.Segment{{Addr: m.Start, Length: int64(len(s.Cores[4017]))}}
		}
	}
	secrets := []string{token[4:], "correct-horse", "pa55word", "hunter2"}
	for _, reveal := range []bool{false, true} {
		p := s.Write(t)
		r, err := investigate.Investigate(context.Background(), p, investigate.Options{Reveal: reveal})
		if err != nil {
			t.Fatal(err)
		}
		var b, text bytes.Buffer
		if err := Write(&b, r, p); err != nil {
			t.Fatal(err)
		}
		if err := report.Text(&text, r, report.Options{Verbose: true, Width: 120}); err != nil {
			t.Fatal(err)
		}
		if err := report.JSON(&text, &r.Verdict); err != nil {
			t.Fatal(err)
		}
		page := b.String()
		shown := 0
		for _, x := range secrets {
			if strings.Contains(text.String(), x) && !reveal {
				t.Errorf("the text or the JSON says %q", x)
			}
			// In hex a value is broken into lines of 16 bytes: three bytes side by side are enough to tell.
			spaced := ""
			for i := range 3 {
				spaced += hex.EncodeToString([]byte{x[i]}) + " "
			}
			if strings.Contains(page, x) || strings.Contains(page, spaced) {
				shown++
				if !reveal {
					t.Errorf("the page shows %q", x)
				}
			}
		}
		if reveal && shown < 3 {
			t.Errorf("asked to, the page shows %d of %d secrets", shown, len(secrets))
		}
		if !reveal && (!strings.Contains(page, "** ** **") || !strings.Contains(page, "secrets are hidden")) {
			t.Error("nothing says that something is hidden")
		}
	}
}

func TestHideInTheMiddle(t *testing.T) {
	whole := []byte("PATH=/bin\x00DB_PASSWORD=" + strings.Repeat("s3cret ", 300) + "\x00HOME=/\x00")
	b, masked, n := hide(bytes.NewReader(whole), 500, bytes.Clone(whole[500:600]))
	if n == 0 || string(b) != strings.Repeat("*", 100) || !masked[0] || !masked[99] {
		t.Errorf("a part of a secret shows: %q", b)
	}
	if b, _, n := hide(bytes.NewReader(whole), 0, bytes.Clone(whole[:9])); n != 0 || string(b) != "PATH=/bin" {
		t.Errorf("hidden: %q", b)
	}
}
