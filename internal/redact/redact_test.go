package redact

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
)

// Tokens of tests are put together here, so that no scanner takes this file for a leak.
func tail(n int) string { return strings.Repeat("aB3xZ9qLm0", 60)[:n] }

func token(claims string) string {
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(`{"alg":"RS256","kid":"k"}`)) + "." + e.EncodeToString([]byte(claims)) + "." + tail(86)
}

func TestFind(t *testing.T) {
	account := token(`{"iss":"https://kubernetes.default.svc","sub":"system:serviceaccount:shop:checkout","exp":1796000000}`)
	key := "-----BEGIN RSA " + "PRIVATE KEY-----\n" + tail(64) + "\n" + tail(64) + "\n-----END RSA " + "PRIVATE KEY-----"
	for _, c := range []struct{ in, kind, value, words string }{
		{"x=gh" + "p_" + tail(36) + " ", "GitHub token", "gh" + "p_" + tail(36), "GitHub token ghp_… (40 B, sha256 "},
		{`"AK` + "IA" + strings.ToUpper(tail(16)) + `"`, "AWS access key id", "AK" + "IA" + strings.ToUpper(tail(16)), "AWS access key id AKIA… (20 B"},
		{"glpat" + "-" + tail(20), "GitLab token", "glpat" + "-" + tail(20), ""},
		{"\x00xox" + "b-" + tail(40), "Slack token", "xox" + "b-" + tail(40), ""},
		{"//r/:_authToken=npm" + "_" + tail(36), "npm token", "npm" + "_" + tail(36), ""},
		{"h: " + account + "\n", "Kubernetes service-account token", account, "issuer https://kubernetes.default.svc, subject system:serviceaccount:shop:checkout, expires 2026-11-30T"},
		{"Authorization: Bearer " + token(`{"sub":"anna"}`), "JSON web token", token(`{"sub":"anna"}`), "subject anna"},
		{"authorization: bearer " + tail(40) + "\r\n", "bearer token", tail(40), "bearer token (40 B, sha256 "},
		{"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("anna:hunter2!")), "basic credentials", base64.StdEncoding.EncodeToString([]byte("anna:hunter2!")), "basic credentials (20 B)"},
		{key, "private key (RSA PRIVATE KEY)", key, "-----BEGIN RSA PRIVATE KEY-----…"},
		{strings.ReplaceAll(key, "\n", `\n`) + `"`, "private key (RSA PRIVATE KEY)", strings.ReplaceAll(key, "\n", `\n`), ""},
		{key[:120] + "\x00", "private key (RSA PRIVATE KEY), cut short", key[:120], ""},
		{"123456789:AA" + tail(33), "Telegram bot token", "123456789:AA" + tail(33), ""},
	} {
		got := Find([]byte(c.in))
		if len(got) != 1 {
			t.Errorf("%q: found %+v", c.in, got)
			continue
		}
		s := got[0]
		if v := c.in[s.Offset : s.Offset+s.Length]; s.Kind != c.kind || v != c.value {
			t.Errorf("%q: %s %q, want %s %q", c.in, s.Kind, v, c.kind, c.value)
		}
		if w := s.Words([]byte(c.in)); !strings.Contains(w, c.words) || strings.Contains(w, tail(20)) {
			t.Errorf("words %q, want %q", w, c.words)
		}
	}
}

func TestFindNothing(t *testing.T) {
	for _, in := range []string{
		"ghp_short", "xghp_" + tail(36), "AKIAIOSFODNN7EXAMPLE", "ghp_" + strings.Repeat("x", 36), "npm_config_registry=https://registry.example/", "eyJhbGciOiJub25lIn0", "eyJub3Q.eyJ.x",
		"-----BEGIN RSA PRIVATE KEY-----\x00-----BEGIN EC PRIVATE KEY-----", "-----BEGIN CERTIFICATE-----\n" + tail(64) + "\n-----END CERTIFICATE-----",
		"Bearer of good news is here today", "Basic instinct", "bearer authentication-is-not-supported-here", "e", "-", "B", "1", "123456789:AB" + tail(33), "sk-learn-is-a-library-for-python",
	} {
		if got := Find([]byte(in)); len(got) > 0 {
			t.Errorf("%q: %+v", in, got)
		}
	}
}

func TestBytes(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"PATH=/bin\x00DB_PASSWORD=hunter 2\x00HOME=/\x00", "PATH=/bin\x00DB_PASSWORD=********\x00HOME=/\x00"},
		{"DB_PASSWORD=hunter2", "DB_PASSWORD=*******"},
		{`{"Env":["API_KEY=a b","X=1"],"password": "p\"w","n":1}`, `{"Env":["API_KEY=***","X=1"],"password": "****","n":1}`},
		{"app\x00--password\x00hunter2\x00-v\x00", "app\x00--password\x00*******\x00-v\x00"},
		{`["app","--api-key","k1","-v"]`, `["app","--api-key","**","-v"]`},
		{"mysql --password=hunter2 -h db", "mysql --password=******* -h db"},
		{"postgres://anna:hunter2@db:5432/x", "postgres://anna:*******@db:5432/x"},
		{"GET /login?user=a&token=abc&x=1", "GET /login?user=a&token=***&x=1"},
		{"x gh" + "p_" + tail(36) + " y", "x ghp_" + strings.Repeat("*", 36) + " y"},
		{"nothing: here, at=all", "nothing: here, at=all"},
		{"p\x00a\x00s\x00s\x00w\x00o\x00r\x00d\x00=\x00a\x00b\x00c\x00 \x00x\x00y\x00z\x00x\x00y\x00z\x00", "p\x00a\x00s\x00s\x00w\x00o\x00r\x00d\x00=\x00****** \x00x\x00y\x00z\x00x\x00y\x00z\x00"},
	} {
		in := []byte(c.in)
		got, _ := Bytes(in)
		if string(got) != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
		if string(in) != c.in {
			t.Error("the input was changed")
		}
	}
}

func TestText(t *testing.T) {
	for _, c := range [][2]string{
		{"DB_PASSWORD and a service-account token: both were readable", "DB_PASSWORD and a service-account token: both were readable"},
		{"started as mysql --password=hunter2 -h db", "started as mysql --password=*** -h db"},
		{"started as x --token abc -h db", "started as x --token *** -h db"},
		{"POST /x?api_key=k&y=1 from 10.0.0.1", "POST /x?api_key=***&y=1 from 10.0.0.1"},
		{"runs with LD_PRELOAD=/tmp/x.so", "runs with LD_PRELOAD=/tmp/x.so"},
		{`the rule "An account listed secrets": system:serviceaccount:shop:cart`, `the rule "An account listed secrets": system:serviceaccount:shop:cart`},
		{`{"2fa_token": "abc", "db.password":"x"}`, `{"2fa_token": "***", "db.password":"***"}`},
	} {
		if got := Text(c[0]); got != c[1] {
			t.Errorf("%q: %q, want %q", c[0], got, c[1])
		}
	}
}

func FuzzFind(f *testing.F) {
	for _, s := range []string{"ghp_" + tail(36), token(`{"sub":"x"}`), "-----BEGIN PRIVATE KEY-----\n" + tail(80), "Bearer " + tail(30), "A=1\x00B_TOKEN=2\x00", "\"password\": \"x", "a://b:c@d"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		end := 0
		for _, s := range Find(b) {
			if s.Offset < end || s.Length <= 0 || s.Offset+s.Length > len(b) || s.Shown > s.Length {
				t.Fatalf("%+v of %d bytes", s, len(b))
			}
			end = s.Offset + s.Length
			_ = s.Words(b)
		}
		m, n := Bytes(b)
		if len(m) != len(b) || n == 0 && !bytes.Equal(m, b) {
			t.Fatal("hiding changed more than secrets")
		}
		_ = Text(string(b))
	})
}

// What Name takes for a secret's name is not passed over.
func TestTelling(t *testing.T) {
	for _, n := range []string{"PASS", "DB_PASS", "password", "passwd", "Passphrase", "client_secret", "X-Auth-Token", "api_key", "APIKEY", "access-key", "private_key",
		"encryption-key", "SIGNINGKEY", "credentials", "sentry_dsn", "DSN", "DATABASE_URL", "database-url", "connection_string", "ConnectionString", "GH_PAT", "gh-pat", "MONGO_URL",
		"mongodb_uri", "REDIS_URL", "redis-url", "amqp_url"} {
		if !Name(n) {
			t.Errorf("%s is no secret's name", n)
		}
		if !telling([]byte("a=b " + n)) {
			t.Errorf("%s is passed over", n)
		}
	}
	if telling([]byte(`10.0.0.1 - - "GET /shop/path?id=7 HTTP/1.1" 200 512`)) {
		t.Error("an ordinary line is looked at closely")
	}
}

func BenchmarkText(b *testing.B) {
	for name, s := range map[string]string{
		"ordinary": `10.88.77.1 - - [29/Nov/2026:00:42:47 +0000] "GET /shop/cart?id=7712&view=full HTTP/1.1" 200 5123 "-" "Mozilla/5.0 (X11; Linux x86_64)"`,
		"telling":  `level=info msg="connected" DATABASE_URL=postgres://shop:hunter2@db/shop attempt=3 took=12ms`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(s)))
			for b.Loop() {
				Text(s)
			}
		})
	}
}
