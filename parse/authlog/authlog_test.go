package authlog_test

import (
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse/authlog"
)

func TestInterpret(t *testing.T) {
	for _, c := range []struct {
		program, line, user, ip string
		kind                    event.Kind
		attributes              string
	}{
		{"sshd", "Accepted password for root from 203.0.113.9 port 51514 ssh2", "root", "203.0.113.9", event.Login, `{"method":"password"}`},
		{"sshd", "Failed password for invalid user a b from 203.0.113.9 from 192.0.2.1 port 7 ssh2", "a b", "192.0.2.1", event.LoginFailed, `{"invalid_user":true,"method":"password"}`},
		{"sshd", "Connection closed by authenticating user root 203.0.113.9 port 7 [preauth]", "root", "203.0.113.9", "", ""},
		{"sshd", "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.9  user=root", "root", "203.0.113.9", event.LoginFailed, ""},
		{"sshd", "Server listening on 0.0.0.0 port 22.", "", "", "", ""},
		{"sudo", "dana : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh -c a ; b", "dana", "", event.Sudo, `{"tty":"pts/0","pwd":"/","as":"root"}`},
		{"sudo", "not a line of sudo", "", "", "", ""},
		{"cron", "Accepted password for root from 203.0.113.9 port 51514 ssh2", "", "", "", ""},
	} {
		e := event.Event{Message: c.line}
		var a event.Attributes
		authlog.Interpret(c.program, &e, &a)
		if e.User != c.user || e.SrcIP != c.ip || e.Kind != c.kind || string(a.JSON()) != c.attributes {
			t.Errorf("%s: %q\n%q %q %q %s", c.program, c.line, e.User, e.SrcIP, e.Kind, a.JSON())
		}
	}
}

func FuzzInterpret(f *testing.F) {
	f.Add("sshd", "Accepted publickey for root from ::1 port 1 ssh2: RSA SHA256:x")
	f.Add("sudo", "a : b ; TTY=x ; COMMAND=y")
	f.Add("sshd", "Accepted x for  SHA256:")
	f.Fuzz(func(_ *testing.T, program, line string) {
		e := event.Event{Message: line}
		var a event.Attributes
		authlog.Interpret(program, &e, &a)
	})
}
