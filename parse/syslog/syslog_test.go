package syslog

import (
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func TestGolden(t *testing.T) {
	for _, f := range []string{"rfc5424.log", "rfc3164.log", "iso.log"} {
		t.Run(f, func(t *testing.T) { parsetest.Golden(t, Format, "testdata/"+f, parsetest.Options{}) })
	}
}

func TestForms(t *testing.T) {
	for _, c := range []struct{ in, node, process, message string }{
		{"107 <34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \ufeff'su root' failed", "mymachine.example.com", "su", "'su root' failed"},
		{`<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - [a x="]"][b] text`, "192.0.2.1", "myproc", "text"},
		{`<165>1 2003-08-24T05:14:15Z h p - - [a x="open text`, "h", "p", `[a x="open text`},
		{"<13>1 - - - - - -", "", "", ""},
		{"Nov 24 03:02:11 node-1 no tag here", "node-1", "", "no tag here"},
		{"Nov 24 03:02:11 node-1 what is: not a tag", "node-1", "", "what is: not a tag"},
		{"Nov 24 03:02:11 node-1 a[x]: not a pid", "node-1", "", "a[x]: not a pid"},
		{"a line of its own", "", "", "a line of its own"},
	} {
		got, _ := parsetest.Events(t, Format, []byte(c.in+"\n"))
		if len(got) != 1 || got[0].Node != c.node || got[0].Process != c.process || got[0].Message != c.message {
			t.Errorf("%q: %+v", c.in, got)
		}
	}
}

func TestDamage(t *testing.T) {
	content := "\x00\x00\x00\nNov 24 03:02:11 node-1 x: a\nhalf \xff\xfe line\n" + strings.Repeat("y", 3<<20) + "\nNov 24 03:02:12 node-1 x: b"
	got, skips := parsetest.Events(t, Format, []byte(content))
	if len(got) != 4 || got[3].Message != "b" || len(skips) != 1 {
		t.Errorf("%d events, %v", len(got), skips)
	}
	for i := range content[:60] {
		parsetest.Events(t, Format, []byte(content[:i]))
	}
}

func TestSniff(t *testing.T) {
	for s, want := range map[string]bool{
		"{\"a\":1}\n": false, "plain text\nmore\n": false, "2026-11-24T03:02:11Z stdout F x\n": false, "Nov 24 03:02:11 host sshd[1]: x\n": true, "": false,
		"type=SYSCALL msg=audit(1:2): x\n": false, "10.0.0.1 - - [24/Nov/2026:03:02:11 +0000] \"GET / HTTP/1.1\" 200 1\n": false,
	} {
		if got := Format.Sniff([]byte(s)) > 0; got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func FuzzRead(f *testing.F) {
	parsetest.Fuzz(f, Format, "testdata/rfc5424.log", "testdata/rfc3164.log", "testdata/iso.log")
}

func BenchmarkRead(b *testing.B) {
	parsetest.Bench(b, Format, []byte(strings.Repeat("Nov 24 03:02:11 node-1 sshd[4711]: Failed password for invalid user admin from 203.0.113.9 port 51512 ssh2\n", 5000)))
}
