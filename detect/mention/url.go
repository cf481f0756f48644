package mention

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/sherd-forensics/sherd/internal/redact"
)

// schemes are those that lead to another machine.
var schemes = map[string]bool{
	"http": true, "https": true, "ws": true, "wss": true, "ftp": true, "ftps": true, "sftp": true, "ssh": true, "git": true, "tcp": true, "udp": true, "tls": true, "ssl": true,
	"socks": true, "socks4": true, "socks5": true, "socks5h": true, "redis": true, "rediss": true, "postgres": true, "postgresql": true, "mysql": true, "mongodb": true,
	"mongodb+srv": true, "amqp": true, "amqps": true, "kafka": true, "nats": true, "ldap": true, "ldaps": true, "rmi": true, "mqtt": true, "mqtts": true, "smb": true, "rsync": true,
	"stratum": true, "stratum+tcp": true, "stratum+ssl": true, "stratum+tls": true, "stratum2+tcp": true, "stratum1+tcp": true, "xmr": true, "grpc": true, "quic": true, "s3": true, "gs": true,
	"telnet": true, "vnc": true, "rdp": true, "irc": true, "ircs": true, "jdbc": true, "dns": true, "doh": true, "gopher": true, "tftp": true, "svn": true, "imap": true, "imaps": true, "smtp": true, "smtps": true,
}

// IsPool reports whether a scheme is that of miners' pools.
func IsPool(scheme string) bool { return strings.HasPrefix(scheme, "stratum") }

// url reads the URL whose "://" stands at e, and says how long it is from e on; 0 if it is none.
func (f *finder) url(e int) int {
	s := e
	for s > 0 && e-s < 20 && schemeByte[f.b[s-1]] {
		s--
	}
	scheme := string(f.b[s:e])
	for !schemes[scheme] { // something may stand before it: "x-http://"
		i := strings.IndexAny(scheme, "+-.")
		if i < 0 {
			return 0
		}
		s, scheme = s+i+1, scheme[i+1:]
	}
	end := e + 3
	for end < len(f.b) && end-s < maxURL && urlByte[f.b[end]] {
		end++
	}
	end = trim(f.b, e+3, end)
	rest := string(f.b[e+3 : end])
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	host, port, ok := hostPort(authority)
	if !ok || !possible(host, port != 0 || len(rest) > len(authority)) {
		return 0
	}
	raw := string(f.b[s:end])
	f.take(Mention{Kind: URL, Offset: s, Length: end - s, Value: redact.Text(raw), Raw: raw, Host: strings.ToLower(host), Port: port, Scheme: scheme, Sure: true})
	return end - e
}

// trim takes away from the end what belongs to the sentence around a URL.
func trim(b []byte, from, end int) int {
	for end > from {
		switch c := b[end-1]; {
		case strings.IndexByte(".,;:!*([", c) >= 0:
		case c == ')' && !contains(b[from:end], '('), c == ']' && !contains(b[from:end], '['):
		default:
			return end
		}
		end--
	}
	return end
}

func contains(b []byte, c byte) bool { return strings.IndexByte(string(b), c) >= 0 }

func hostPort(s string) (host string, port int, ok bool) {
	host, rest := s, ""
	if inner, after, found := strings.Cut(s, "]"); found && strings.HasPrefix(s, "[") {
		host, rest = inner[1:], after
	} else if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, rest = s[:i], s[i:]
	}
	if rest == "" {
		return host, 0, host != ""
	}
	port, err := strconv.Atoi(rest[1:])
	return host, port, host != "" && rest[0] == ':' && err == nil && port > 0 && port < 65536
}

// possible reports whether a host can be one: an address, a domain, or a name of one label where a port or a path follows.
func possible(h string, more bool) bool {
	if len(h) > 253 {
		return false
	}
	if _, err := netip.ParseAddr(h); err == nil {
		return true
	}
	labels := strings.Split(strings.TrimSuffix(h, "."), ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for i := range len(l) {
			if !hostByte[l[i]] {
				return false
			}
		}
	}
	last := labels[len(labels)-1]
	if len(labels) == 1 {
		return more && len(last) >= 2 && strings.IndexFunc(last, func(r rune) bool { return r >= 'a' && r <= 'z' }) >= 0
	}
	if strings.HasPrefix(last, "xn--") {
		return true
	}
	for i := range len(last) {
		if c := last[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return len(last) >= 2
}
