package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// set is a set of bytes.
type set [256]bool

func setOf(s string) (x set) {
	for i := range len(s) {
		x[s[i]] = true
	}
	return x
}

const (
	digits = "0123456789"
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

var (
	word     = setOf(digits + lower + upper + "_")
	alnum    = setOf(digits + lower + upper)
	bigAlnum = setOf(digits + upper)
	hexLow   = setOf(digits + "abcdef")
	base64u  = setOf(digits + lower + upper + "_-")
	base64s  = setOf(digits + lower + upper + "+/=")
	bearer   = setOf(digits + lower + upper + "-._~+/=")
	bech32   = setOf(digits + upper)
)

// form is a kind of token that begins with a prefix of its issuer's.
type form struct {
	kind     string
	prefix   string
	body     *set
	min, max int // bytes behind the prefix
	class    Class
}

// forms are those whose issuers made them recognisable. Longer prefixes stand before shorter ones that begin alike.
var forms = []form{
	{"AWS access key id", "AKIA", &bigAlnum, 16, 16, Token},
	{"AWS temporary access key id", "ASIA", &bigAlnum, 16, 16, Token},
	{"GitHub token", "github_pat_", &word, 50, 120, Token},
	{"GitHub token", "ghp_", &alnum, 36, 251, Token}, {"GitHub token", "gho_", &alnum, 36, 251, Token}, {"GitHub token", "ghu_", &alnum, 36, 251, Token},
	{"GitHub token", "ghs_", &alnum, 36, 251, Token}, {"GitHub token", "ghr_", &alnum, 36, 251, Token},
	{"GitLab token", "glpat-", &base64u, 20, 300, Token}, {"GitLab token", "gldt-", &base64u, 20, 300, Token}, {"GitLab token", "glrt-", &base64u, 20, 300, Token},
	{"GitLab token", "glptt-", &base64u, 20, 300, Token}, {"GitLab token", "glft-", &base64u, 20, 300, Token}, {"GitLab token", "glsoat-", &base64u, 20, 300, Token},
	{"GitLab token", "glcbt-", &base64u, 20, 300, Token}, {"GitLab token", "glagent-", &base64u, 20, 300, Token},
	{"Slack token", "xoxb-", &base64u, 24, 255, Token}, {"Slack token", "xoxp-", &base64u, 24, 255, Token}, {"Slack token", "xoxa-", &base64u, 24, 255, Token},
	{"Slack token", "xoxr-", &base64u, 24, 255, Token}, {"Slack token", "xoxs-", &base64u, 24, 255, Token}, {"Slack token", "xapp-", &base64u, 24, 255, Token},
	{"npm token", "npm_", &alnum, 36, 36, Token},
	{"PyPI token", "pypi-AgE", &base64u, 50, 500, Token},
	{"Docker Hub token", "dckr_pat_", &base64u, 24, 64, Token}, {"Docker Hub token", "dckr_oat_", &base64u, 24, 64, Token},
	{"Google API key", "AIza", &base64u, 35, 35, Token},
	{"Google OAuth token", "ya29.", &base64u, 40, 2048, Token},
	{"Stripe key", "sk_live_", &alnum, 24, 247, Token}, {"Stripe key", "rk_live_", &alnum, 24, 247, Token},
	{"Anthropic key", "sk-ant-", &base64u, 40, 200, Token}, {"OpenAI key", "sk-proj-", &base64u, 40, 250, Token}, {"OpenAI key", "sk-", &alnum, 48, 48, Token},
	{"SendGrid key", "SG.", &bearer, 60, 80, Token},
	{"Hugging Face token", "hf_", &alnum, 34, 40, Token},
	{"HashiCorp Vault token", "hvs.", &base64u, 24, 300, Token}, {"HashiCorp Vault token", "hvb.", &base64u, 24, 300, Token},
	{"DigitalOcean token", "dop_v1_", &hexLow, 64, 64, Token}, {"DigitalOcean token", "doo_v1_", &hexLow, 64, 64, Token},
	{"Databricks token", "dapi", &hexLow, 32, 32, Token},
	{"Shopify token", "shpat_", &hexLow, 32, 32, Token},
	{"age secret key", "AGE-SECRET-KEY-1", &bech32, 58, 58, Key},
}

// starts are the bytes with which a secret can begin.
var starts = func() (x set) {
	for _, f := range forms {
		x[f.prefix[0]] = true
	}
	for _, c := range []byte("e-Bb" + digits) {
		x[c] = true
	}
	return x
}()

// byFirst are the forms by their first byte.
var byFirst = func() (x [256][]form) {
	for _, f := range forms {
		x[f.prefix[0]] = append(x[f.prefix[0]], f)
	}
	return x
}()

// Starts reports whether a secret can begin with a byte.
func Starts(c byte) bool { return starts[c] }

// At gives the secret that begins at b[i], if one does. That no letter or digit stands before it is the caller's to see to. The
// secret's Offset may lie behind i: of a header, it is the value.
func At(b []byte, i int) (Secret, bool) {
	rest := b[i:]
	switch c := rest[0]; {
	case c == 'e':
		return jwt(b, i)
	case c == '-':
		return pem(b, i)
	case c == 'B' || c == 'b':
		return header(b, i)
	case c >= '0' && c <= '9':
		return telegram(b, i)
	default:
		for k := range byFirst[c] {
			f := &byFirst[c][k]
			if len(rest) < len(f.prefix)+f.min || string(rest[:len(f.prefix)]) != f.prefix {
				continue
			}
			n := run(rest[len(f.prefix):], f.body, f.max+1)
			body := rest[len(f.prefix) : len(f.prefix)+n]
			if n < f.min || n > f.max || plain(body) {
				continue
			}
			return Secret{Kind: f.kind, Class: f.class, Offset: i, Length: len(f.prefix) + n, Shown: len(f.prefix)}, true
		}
	}
	return Secret{}, false
}

func run(b []byte, in *set, limit int) int {
	n := 0
	for n < len(b) && n < limit && in[b[n]] {
		n++
	}
	return n
}

// plain reports whether a body is a placeholder: few different letters, or one that says so.
func plain(b []byte) bool {
	var seen set
	n := 0
	for _, c := range b {
		if !seen[c] {
			seen[c] = true
			n++
		}
	}
	return n < 8 || bytes.HasSuffix(b, []byte("EXAMPLE"))
}

const maxToken = 16 << 10

// jwt reads a JSON web token (RFC 7519): header, claims and signature in base64url. The claims are in clear; the signature makes it a
// secret.
func jwt(b []byte, i int) (Secret, bool) {
	rest := b[i:min(len(b), i+maxToken)]
	if len(rest) < 24 || string(rest[:3]) != "eyJ" {
		return Secret{}, false
	}
	head := run(rest, &base64u, 2048)
	if head >= len(rest) || rest[head] != '.' || head+4 > len(rest) || string(rest[head+1:head+4]) != "eyJ" {
		return Secret{}, false
	}
	claims := run(rest[head+1:], &base64u, maxToken)
	n := head + 1 + claims
	var h struct {
		Alg string `json:"alg"`
	}
	if !decode(rest[:head], &h) || h.Alg == "" {
		return Secret{}, false
	}
	if n < len(rest) && rest[n] == '.' {
		n += 1 + run(rest[n+1:], &base64u, 2048)
	}
	var c struct {
		Iss any     `json:"iss"`
		Sub any     `json:"sub"`
		Exp float64 `json:"exp"`
	}
	s := Secret{Kind: "JSON web token", Class: Token, Offset: i, Length: n, Shown: 3}
	if !decode(rest[head+1:head+1+claims], &c) {
		return s, true
	}
	var parts []string
	if iss, ok := c.Iss.(string); ok && iss != "" {
		parts = append(parts, "issuer "+cut(iss))
	}
	if sub, ok := c.Sub.(string); ok && sub != "" {
		s.Subject = cut(sub)
		if strings.HasPrefix(sub, "system:serviceaccount:") {
			s.Kind = "Kubernetes service-account token"
		}
		parts = append(parts, "subject "+s.Subject)
	}
	if c.Exp > 0 && c.Exp < 1<<40 {
		parts = append(parts, "expires "+time.Unix(int64(c.Exp), 0).UTC().Format(time.RFC3339))
	}
	s.Detail = strings.Join(parts, ", ")
	return s, true
}

func cut(s string) string { return s[:min(len(s), 200)] }

func decode(b []byte, into any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(string(bytes.TrimRight(b, "=")))
	return err == nil && json.Unmarshal(raw, into) == nil
}

// pem reads a private key in the form of RFC 7468, its lines broken as they are or by what JSON writes for a line's end.
func pem(b []byte, i int) (Secret, bool) {
	const begin, tail = "-----BEGIN ", "-----"
	rest := b[i:min(len(b), i+maxToken)]
	if !bytes.HasPrefix(rest, []byte(begin)) {
		return Secret{}, false
	}
	label, _, ok := bytes.Cut(rest[len(begin):min(len(rest), len(begin)+48)], []byte(tail))
	if !ok || !bytes.Contains(label, []byte("PRIVATE KEY")) {
		return Secret{}, false
	}
	head := len(begin) + len(label) + len(tail)
	n, letters := head, 0
	for n < len(rest) && rest[n] != '-' {
		switch c := rest[n]; {
		case base64s[c]:
			letters++
		case c == '\n', c == '\r', c == ' ', c == '\\', c == ':', c == ',', c == '\t':
		default:
			if letters < 64 {
				return Secret{}, false // a mark in a program that reads keys
			}
			return Secret{Kind: "private key (" + string(label) + "), cut short", Class: Key, Offset: i, Length: n, Shown: head}, true
		}
		n++
	}
	if letters < 40 {
		return Secret{}, false
	}
	kind := "private key (" + string(label) + ")"
	if end := "-----END " + string(label) + tail; bytes.HasPrefix(rest[n:], []byte(end)) {
		n += len(end)
	} else {
		kind += ", cut short"
	}
	return Secret{Kind: kind, Class: Key, Offset: i, Length: n, Shown: head}, true
}

// header reads the value of an Authorization header: RFC 6750 and RFC 7617.
func header(b []byte, i int) (Secret, bool) {
	rest := b[i:min(len(b), i+maxToken)]
	if len(rest) < 16 || rest[1] != 'e' && rest[1] != 'a' {
		return Secret{}, false
	}
	switch {
	case bytes.EqualFold(rest[:7], []byte("Bearer ")):
		if s, ok := jwt(b, i+7); ok && i+7 < len(b) {
			return s, true
		}
		n := run(rest[7:], &bearer, maxToken)
		v := rest[7 : 7+n]
		if n < 20 || plain(v) || !mixed(v) {
			return Secret{}, false
		}
		return Secret{Kind: "bearer token", Class: Token, Offset: i + 7, Length: n}, true
	case bytes.EqualFold(rest[:6], []byte("Basic ")):
		n := run(rest[6:], &base64s, 512)
		raw, err := base64.StdEncoding.DecodeString(string(rest[6 : 6+n]))
		user, pass, ok := bytes.Cut(raw, []byte{':'})
		if err != nil || !ok || n < 8 || len(pass) == 0 || !printableASCII(user) || !printableASCII(pass) {
			return Secret{}, false
		}
		return Secret{Kind: "basic credentials", Class: Password, Offset: i + 6, Length: n}, true
	}
	return Secret{}, false
}

func printableASCII(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return true
}

// mixed reports whether b has letters and digits, as made-up tokens have and words of prose have not.
func mixed(b []byte) bool {
	letters, numbers := 0, 0
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			numbers++
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			letters++
		}
	}
	return letters >= 4 && numbers >= 2
}

// telegram reads the token of a Telegram bot: its number, a colon, and 35 letters that begin with AA.
func telegram(b []byte, i int) (Secret, bool) {
	rest := b[i:min(len(b), i+64)]
	n := 0
	for n < len(rest) && n < 12 && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	if n < 8 || n > 10 || len(rest) < n+36 || string(rest[n:n+3]) != ":AA" {
		return Secret{}, false
	}
	if k := run(rest[n+1:], &base64u, 40); k != 35 || plain(rest[n+1:n+1+k]) {
		return Secret{}, false
	}
	return Secret{Kind: "Telegram bot token", Class: Token, Offset: i, Length: n + 36, Shown: n}, true
}
