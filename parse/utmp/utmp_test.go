package utmp

import (
	"bytes"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func load(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGolden(t *testing.T) {
	for _, f := range []string{"wtmp", "btmp", "login.wtmp", "login.btmp", "login.utmp"} {
		t.Run(f, func(t *testing.T) {
			name := ""
			if strings.HasSuffix(f, "btmp") {
				name = "var/log/btmp"
			}
			parsetest.Golden(t, Format, "testdata/"+f, parsetest.Options{Name: name})
			if c := Format.Sniff(load(t, f)); c != parse.Certain {
				t.Errorf("only %d sure", c)
			}
		})
	}
}

// TestName: a failed login that is written as a login is told by the file's name alone, and says so.
func TestName(t *testing.T) {
	b := load(t, "login.btmp")
	for name, want := range map[string]event.Kind{"sample": event.Login, "host/var/log/btmp.1": event.LoginFailed, "btmp-20261124": event.LoginFailed} {
		got, _ := parsetest.Read(t, Format, b, parsetest.Options{Name: name})
		if len(got) != 2 || got[0].Kind != want || got[1].User != "root" {
			t.Errorf("%s: %+v", name, got)
		}
		if judged := bytes.Contains(got[0].Attributes, []byte("judged_by")); judged != (want == event.LoginFailed) {
			t.Errorf("%s: %s", name, got[0].Attributes)
		}
	}
}

// widened is a record of b in arm64's layout.
func widened(b []byte) []byte {
	le := binary.LittleEndian
	out := make([]byte, 400)
	copy(out, b[:336])
	le.PutUint64(out[336:], uint64(le.Uint32(b[336:])))
	le.PutUint64(out[344:], uint64(le.Uint32(b[340:])))
	le.PutUint64(out[352:], uint64(le.Uint32(b[344:])))
	copy(out[360:], b[348:])
	return out
}

func TestWide(t *testing.T) {
	b := load(t, "wtmp")
	var w []byte
	for i := 0; i < len(b); i += 384 {
		w = append(w, widened(b[i:i+384])...)
	}
	if c := Format.Sniff(w); c != parse.Certain {
		t.Errorf("only %d sure", c)
	}
	want, _ := parsetest.Events(t, Format, b)
	got, skips := parsetest.Events(t, Format, w)
	if len(got) != len(want) || len(skips) != 0 {
		t.Fatalf("%d of %d events, %v", len(got), len(want), skips)
	}
	for i := range got {
		if got[i].Message != want[i].Message || got[i].Time != want[i].Time || got[i].SrcIP != want[i].SrcIP || got[i].Offset != int64(i)*400 || got[i].Length != 400 {
			t.Errorf("%+v\n%+v", got[i], want[i])
		}
	}
}

func TestDamage(t *testing.T) {
	b := load(t, "wtmp")
	n := len(b) / 384
	for cut := 0; cut <= len(b); cut += 13 {
		got, skips := parsetest.Events(t, Format, b[:cut])
		if len(got) != cut/384 || (len(skips) == 0) != (cut%384 == 0) {
			t.Fatalf("cut at %d: %d events, %v", cut, len(got), skips)
		}
		for _, junk := range []string{"\x00", "\xff\xfe junk", strings.Repeat("A", 1000), strings.Repeat("\xff\x00\n", 50_000)} {
			got, skips := parsetest.Events(t, Format, append(append(bytes.Clone(b[:cut]), junk...), b[cut:]...))
			if len(got) < n-1 || len(skips) == 0 {
				t.Fatalf("%.10q at %d: %d of %d events, %v", junk, cut, len(got), n, skips)
			}
		}
	}
	wiped := bytes.Clone(b)
	clear(wiped[5*384 : 6*384])
	got, skips := parsetest.Events(t, Format, wiped)
	if len(got) != n-1 || len(skips) != 1 || skips[0].Offset != 5*384 || skips[0].Bytes != 384 {
		t.Errorf("%d events, %v", len(got), skips)
	}
	if c := Format.Sniff(wiped); c != parse.Certain {
		t.Errorf("only %d sure of a wiped file", c)
	}
	if c := Format.Sniff(append(make([]byte, 100*384), b...)); c != parse.Certain {
		t.Errorf("only %d sure of a file whose beginning was wiped", c)
	}
	half := bytes.Clone(b)
	copy(half[4*384+44:], "x\x00")
	if got, _ := parsetest.Events(t, Format, half); !bytes.Contains(got[4].Attributes, []byte("bytes_after_text")) || got[4].User != "x" {
		t.Errorf("%+v", got[4])
	}
}

// TestHostileName: whoever fails to log in chooses the name, and must not hide the file by it.
func TestHostileName(t *testing.T) {
	b := bytes.Repeat(load(t, "btmp")[:384], 40)
	for i := 0; i < len(b); i += 384 {
		copy(b[i+44:], "\x1b[2J\xff\n")
	}
	got, skips := parsetest.Events(t, Format, b)
	if c := Format.Sniff(b); c != parse.Certain || len(got) != 40 || len(skips) != 0 {
		t.Errorf("%d sure, %d events, %v", c, len(got), skips)
	}
}

func TestSniff(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing": nil, "zeros": make([]byte, 4000), "text": bytes.Repeat([]byte("a line of text\n"), 100), "ELF": append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 4000)...),
		"small numbers": bytes.Repeat([]byte{1, 0, 0, 0}, 2000), "seven": append([]byte{7, 0, 0, 0}, make([]byte, 4000)...),
		"half of one": load(t, "wtmp")[:200],
	} {
		if c := Format.Sniff(b); c != parse.No {
			t.Errorf("%s: %d sure", name, c)
		}
	}
}

func FuzzRead(f *testing.F) {
	parsetest.Fuzz(f, Format, "testdata/wtmp", "testdata/btmp", "testdata/login.wtmp")
}

func BenchmarkRead(b *testing.B) {
	parsetest.Bench(b, Format, bytes.Repeat(load(b, "wtmp"), 1000))
}
