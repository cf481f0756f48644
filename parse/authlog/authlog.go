// Package authlog understands what sshd and sudo write, whichever log carries their lines.
//
// The forms are those of OpenSSH (https://github.com/openssh/openssh-portable/blob/master/auth.c, sshd's messages) and of sudo
// (https://www.sudo.ws/docs/man/sudoers.man/#LOG_FORMAT).
//
// A line proves that the program wrote it, as far as the log that carries it is to be believed: any local process can send the same to
// syslog. It does not prove who sat at the other end. Names of users who failed to log in are the other end's choice.
package authlog

import (
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/event"
)

// Interpret fills columns of e, whose Message is a line of the program, and reports whether it knew the line. What has no column goes to a.
func Interpret(program string, e *event.Event, a *event.Attributes) bool {
	switch program {
	case "sshd", "sshd-session", "sshd-auth":
		return sshd(e, a)
	case "sudo":
		return sudo(e, a)
	}
	return false
}

// peer takes "… from ADDRESS port PORT …".
func peer(s string, e *event.Event) {
	i := strings.LastIndex(s, " from ")
	if i < 0 {
		return
	}
	f := strings.Fields(s[i+6:])
	if len(f) == 0 {
		return
	}
	e.SrcIP = strings.TrimSuffix(f[0], ":")
	if len(f) > 2 && f[1] == "port" {
		if n, err := strconv.ParseUint(strings.TrimRight(f[2], ":"), 10, 16); err == nil {
			e.SrcPort = int(n)
		}
	}
}

func sshd(e *event.Event, a *event.Attributes) bool {
	s := e.Message
	switch {
	case strings.HasPrefix(s, "Accepted "):
		method, rest, ok := strings.Cut(s[len("Accepted "):], " for ")
		if !ok {
			return false
		}
		e.Kind, e.Protocol = event.Login, "ssh"
		e.User = until(rest, " from ")
		peer(s, e)
		a.String("method", method)
		if i := strings.LastIndex(s, "SHA256:"); i >= 0 {
			a.String("key", strings.Fields(s[i:])[0])
		}
		return true
	case strings.HasPrefix(s, "Failed "):
		method, rest, ok := strings.Cut(s[len("Failed "):], " for ")
		if !ok {
			return false
		}
		e.Kind, e.Protocol = event.LoginFailed, "ssh"
		if name, bad := strings.CutPrefix(rest, "invalid user "); bad {
			rest = name
			a.Bool("invalid_user", true)
		}
		e.User = until(rest, " from ")
		peer(s, e)
		a.String("method", method)
		return true
	case strings.HasPrefix(s, "Invalid user "):
		e.Kind, e.Protocol = event.LoginFailed, "ssh"
		e.User = until(s[len("Invalid user "):], " from ")
		peer(s, e)
		a.Bool("invalid_user", true)
		return true
	case strings.HasPrefix(s, "Connection from ") || strings.HasPrefix(s, "Connection closed by ") || strings.HasPrefix(s, "Received disconnect from ") || strings.HasPrefix(s, "Disconnected from "):
		t := strings.Replace(s, "Connection closed by ", " from ", 1)
		for _, word := range []string{"authenticating user ", "invalid user ", "user "} {
			if i := strings.Index(t, word); i >= 0 {
				f := strings.Fields(t[i+len(word):])
				if len(f) > 3 && f[2] == "port" {
					e.User, t = f[0], " from "+strings.Join(f[1:], " ")
				}
				break
			}
		}
		peer(" "+t, e)
		e.Protocol = "ssh"
		if strings.HasPrefix(s, "Disconnected from user ") {
			e.Kind = event.Logout
		}
		return true
	case strings.HasPrefix(s, "pam_unix("):
		return session(e)
	}
	return false
}

// session takes "pam_unix(sshd:session): session opened for user root(uid=0) by (uid=0)".
func session(e *event.Event) bool {
	for words, kind := range map[string]event.Kind{"session opened for user ": event.Login, "session closed for user ": event.Logout} {
		if _, rest, ok := strings.Cut(e.Message, words); ok {
			e.Kind = kind
			e.User = until(until(rest, "("), " ")
			return true
		}
	}
	if strings.Contains(e.Message, "authentication failure") {
		e.Kind = event.LoginFailed
		if _, user, ok := strings.Cut(e.Message, " user="); ok {
			e.User = until(user, " ")
		}
		if _, host, ok := strings.Cut(e.Message, "rhost="); ok {
			e.SrcIP = until(host, " ")
		}
		return true
	}
	return false
}

func until(s, end string) string {
	if i := strings.Index(s, end); i >= 0 {
		return s[:i]
	}
	return s
}

// sudo takes "dana : TTY=pts/0 ; PWD=/home/dana ; USER=root ; COMMAND=/usr/bin/id", with a reason after the name when it was refused.
func sudo(e *event.Event, a *event.Attributes) bool {
	if strings.HasPrefix(e.Message, "pam_unix(") {
		return session(e)
	}
	user, rest, ok := strings.Cut(strings.TrimSpace(e.Message), " : ")
	if !ok || strings.ContainsAny(user, " \t") {
		return false
	}
	known := false
	for i, part := range strings.Split(rest, " ; ") {
		name, value, ok := strings.Cut(part, "=")
		switch {
		case ok && name == "COMMAND":
			// A command may itself have " ; ": all that is left is its.
			_, command, _ := strings.Cut(rest, "COMMAND=")
			e.Cmdline = command
			known = true
		case ok && name == "USER":
			a.String("as", value)
			known = true
		case ok && (name == "TTY" || name == "PWD" || name == "GROUP"):
			a.String(strings.ToLower(name), value)
			known = true
		case i == 0:
			a.String("refused", part)
		}
		if e.Cmdline != "" {
			break
		}
	}
	if !known {
		return false
	}
	e.Kind, e.User = event.Sudo, user
	e.Path = until(e.Cmdline, " ")
	return true
}
