package mention

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

func all(b []byte) []Mention {
	var out []Mention
	Find(b, 0, len(b), func(m Mention) { out = append(out, m) })
	return out
}

func TestFind(t *testing.T) {
	for _, c := range []struct{ in, kind, value, host string }{
		{"GET http://203.0.113.9:8080/x?a=1 HTTP/1.1", "url", "http://203.0.113.9:8080/x?a=1", "203.0.113.9"},
		{`{"u":"https://Evil.Example.com/a_(b)."}`, "url", "https://Evil.Example.com/a_(b)", "evil.example.com"},
		{"(see https://example.org/x).", "url", "https://example.org/x", "example.org"},
		{"\x00stratum+tcp://pool.example.net:3333\x00", "url", "stratum+tcp://pool.example.net:3333", "pool.example.net"},
		{"mongodb+srv://u:pa55@db.example.com/x", "url", "mongodb+srv://u:***@db.example.com/x", "db.example.com"},
		{"http://[2001:db8::17]:9/", "url", "http://[2001:db8::17]:9/", "2001:db8::17"},
		{"http://payments:8080/pay", "url", "http://payments:8080/pay", "payments"},
		{"connect 203.0.113.9:4444\n", "address", "203.0.113.9:4444", "203.0.113.9"},
		{"from=198.51.100.7,", "address", "198.51.100.7", "198.51.100.7"},
		{"via [2001:db8::1]:443!", "address", "[2001:db8::1]:443", "2001:db8::1"},
		{"src 2001:db8:0:1::5 dst", "address", "2001:db8:0:1::5", "2001:db8:0:1::5"},
		{"pay 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa now", "wallet", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", ""},
		{"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "wallet", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", ""},
		{"bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0", "wallet", "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0", ""},
		{"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "wallet", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", ""},
		{"-u 888tNkZrPN6JsEgekjMnABU4TBzc2Dt29EPAvkRxbANsAnjyPbb3iQ1YBRk1UXcdRsiKc9dhwMVgN5S9cQUiyoogDavup3H -p x", "wallet",
			"888tNkZrPN6JsEgekjMnABU4TBzc2Dt29EPAvkRxbANsAnjyPbb3iQ1YBRk1UXcdRsiKc9dhwMVgN5S9cQUiyoogDavup3H", ""},
	} {
		for _, form := range []string{"narrow", "wide"} {
			in := []byte(c.in)
			if form == "wide" {
				in = nil
				for _, u := range utf16.Encode([]rune("..letters " + c.in)) {
					in = append(in, byte(u), byte(u>>8))
				}
			}
			got := all(in)
			if len(got) != 1 || string(got[0].Kind) != c.kind || got[0].Value != c.value || got[0].Host != c.host || got[0].Wide != (form == "wide") {
				t.Errorf("%s %q: %+v", form, c.in, got)
			}
		}
	}
}

func TestFindNothing(t *testing.T) {
	for _, in := range []string{
		"http://%s:%d/", "http://", "https:///x", "x://y.example/", "std::vector::fed", "12:34:56", "aa:bb:cc:dd:ee:ff", "0:0:0:0:0:0:0:1", "50:01:43:80:00:00:00:01",
		"Chrome/120.0.0.0", "version 1.2.0.0", "v1.2.3.4", "1.2.3.4.5", "256.1.1.1", "127.0.0.1:80", "0.0.0.0:80", "255.255.255.0", "01.02.03.04", "1.2.3.4-rc1",
		"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", "0x0000000000000000000000000000000000000000",
		"888tNkZrPN6JsEgekjMnABU4TBzc2Dt29EPAvkRxbANsAnjyPbb3iQ1YBRk1UXcdRsiKc9dhwMVgN5S9cQUiyoogDavup3J", "file:///etc/passwd", "http://localhost.", "http://1.2.3",
	} {
		if got := all([]byte(in)); len(got) > 0 {
			t.Errorf("%q: %+v", in, got)
		}
	}
}

func TestSecretsAreDescribed(t *testing.T) {
	secret := "gh" + "p_" + strings.Repeat("aB3xZ9qLm0", 4)[:36]
	got := all([]byte("x " + secret + " y"))
	if len(got) != 1 || got[0].Kind != Token || !got[0].Secret() || strings.Contains(got[0].Value, secret[8:]) || got[0].Raw != secret || got[0].Sum == "" {
		t.Errorf("%+v", got)
	}
}

// TestRandom looks through what nobody wrote: nothing that is sure may be found in it.
func TestRandom(t *testing.T) {
	r := rand.NewChaCha8([32]byte{7})
	b := make([]byte, 8<<20)
	_, _ = r.Read(b) // never fails
	for _, m := range all(b) {
		t.Errorf("random bytes hold %+v", m)
	}
}

// TestWindows cuts the same bytes at every place: whatever is found whole is found once however they are cut.
func TestWindows(t *testing.T) {
	b := []byte("a stratum+tcp://pool.example.net:3333/x 203.0.113.9:4444 b\x00\x00 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa [2001:db8::1]:443 h\x00t\x00t\x00p\x00:\x00/\x00/\x00a\x00.\x00e\x00x\x00a\x00m\x00/\x00\x00\x00 end")
	want := []string{}
	for _, m := range all(b) {
		want = append(want, fmt.Sprint(m.Offset, m.Value))
	}
	if len(want) != 5 {
		t.Fatalf("%q", want)
	}
	for cut := 1; cut < len(b); cut++ {
		var got []string
		take := func(m Mention) { got = append(got, fmt.Sprint(m.Offset, m.Value)) }
		Find(b, 0, cut, take)
		Find(b, cut, len(b), take)
		for _, w := range want {
			if !slices.Contains(got, w) {
				t.Errorf("cut at %d %q: %q is lost: %q", cut, b[:cut], w, got)
			}
		}
	}
}

func FuzzFind(f *testing.F) {
	for _, s := range []string{"http://a.example/x", "stratum+tcp://1.2.3.4:5", "[2001:db8::1]:4", "2001:db8::1", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "h\x00t\x00t\x00p\x00:\x00/\x00/\x00a\x00.\x00b\x00c\x00/\x00"} {
		f.Add([]byte(s), 0)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		if cut < 0 || cut > len(b) {
			cut = 0
		}
		look := func(from, to int) {
			Find(b, from, to, func(m Mention) {
				if m.Offset < 0 || m.Length <= 0 || m.Offset+m.Length > len(b) {
					t.Fatalf("%+v in %d bytes", m, len(b))
				}
				if raw := b[m.Offset : m.Offset+m.Length]; !m.Wide && !bytes.Equal(raw, []byte(m.Raw)) {
					t.Fatalf("%q is not what stands there: %q", m.Raw, raw)
				}
			})
		}
		look(0, cut)
		look(cut, len(b))
	})
}

func BenchmarkFind(b *testing.B) {
	r := rand.NewChaCha8([32]byte{7})
	data := make([]byte, 4<<20)
	_, _ = r.Read(data[:1<<20])
	copy(data[1<<20:], strings.Repeat(`{"level":"info","msg":"request","remote":"10.0.7.40:51234","method":"GET","path":"/?item=1"}`+"\n", 1<<14)[:1<<20])
	for i := 2 << 20; i < 3<<20; i += 8 {
		data[i], data[i+1] = byte(i>>3), byte(i>>11)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		Find(data, 0, len(data), func(Mention) {})
	}
}
