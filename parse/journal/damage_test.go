package journal

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/parse/parsetest"
)

func forms(t *testing.T, fn func(t *testing.T, compact bool)) {
	for _, compact := range []bool{false, true} {
		t.Run(fmt.Sprintf("compact=%v", compact), func(t *testing.T) { fn(t, compact) })
	}
}

func messages(events []event.Event) string {
	var out []string
	for _, e := range events {
		m := e.Message
		if bytes.Contains(e.Attributes, []byte(`"not_in_index":true`)) {
			m += "!"
		}
		if bytes.Contains(e.Attributes, []byte(`"covered":true`)) {
			m += "?"
		}
		if bytes.Contains(e.Attributes, []byte("altered_fields")) {
			m += "~"
		}
		if bytes.Contains(e.Attributes, []byte("altered_entry")) {
			m += "^"
		}
		out = append(out, m)
	}
	return strings.Join(out, " ")
}

func reasons(skips []parse.Skip) string {
	var out []string
	for _, s := range skips {
		out = append(out, s.Reason)
	}
	return strings.Join(out, "; ")
}

// TestTampered: what is hidden from the file's own index, or by it, is found and told.
func TestTampered(t *testing.T) {
	for _, c := range []struct {
		name, want, reason string
		change             func(f *built)
	}{
		{"whole", "one two three", "", func(*built) {}},
		{"a message that was changed", "one Xwo~^ three", "", func(f *built) { f.b[bytes.Index(f.b, []byte("MESSAGE=two"))+8] = 'X' }},
		{"a message of another entry", "one one^ three", "", func(f *built) { copy(f.b[f.entries[1]+64:], f.offset(nil, f.data["MESSAGE=one"])) }},
		{"taken out of the index", "one two! three", "", func(f *built) { f.list(1, 0) }},
		{"an object covers all that follows", "one?~^ two?~^ three?~^", "", func(f *built) {
			at := f.data["_PID=7"]
			le.PutUint64(f.b[at+8:], uint64(len(f.b)-at))
		}},
		{"an entry without a length", "one three", "it is no object of a journal; the index has an entry where none stands", func(f *built) { le.PutUint64(f.b[f.entries[1]+8:], 0) }},
		{"an object's length is beyond the end", "one An entry whose message was not read three", "it is no object of a journal", func(f *built) { le.PutUint64(f.b[f.data["MESSAGE=two"]+8:], 1<<60) }},
		{"the index goes in a circle", "one two three", "goes back, or in a circle", func(f *built) { le.PutUint64(f.b[f.array+16:], uint64(f.array)) }},
		{"the index goes outside", "one two three", "the index of entries breaks off", func(f *built) { le.PutUint64(f.b[f.array+16:], 1<<40) }},
		{"the index begins outside", "one two three", "the index of entries breaks off", func(f *built) { le.PutUint64(f.b[176:], 1<<63+8) }},
		{"no index", "one two three", "", func(f *built) { le.PutUint64(f.b[176:], 0) }},
		{"the index goes back", "one two! three", "the index of entries goes back", func(f *built) { f.list(1, f.entries[0]) }},
		{"the index has something else", "one two three", "the index has an entry where none stands", func(f *built) { f.list(3, f.entries[2]+8) }},
		{"zeros in the middle", "one three", "zero bytes where objects should stand; the index has an entry where none stands", func(f *built) {
			clear(f.b[f.data["MESSAGE=two"]:f.data["MESSAGE=three"]])
		}},
		{"the header's length", "one two three", "a length that can't be its own", func(f *built) { le.PutUint64(f.b[88:], 1<<63) }},
		{"new flags", "one two three", "flags of a newer format", func(f *built) { f.b[15] = 1 }},
		{"room that is not used", "one two three", "", func(f *built) { f.b = append(f.b, make([]byte, 300_000)...) }},
	} {
		forms(t, func(t *testing.T, compact bool) {
			f := small(compact)
			c.change(f)
			got, skips := parsetest.Events(t, Binary, f.b)
			if m := messages(got); m != c.want || !strings.Contains(reasons(skips), c.reason) || c.reason == "" && len(skips) != 0 {
				t.Errorf("%s: %q, %+v", c.name, m, skips)
			}
		})
	}
}

// TestForged: an entry inside a message is found only after damage, and is then marked.
func TestForged(t *testing.T) {
	forms(t, func(t *testing.T, compact bool) {
		inner := small(compact)
		fake := inner.b[inner.entries[0] : inner.entries[0]+int(le.Uint64(inner.b[inner.entries[0]+8:]))]
		f := small(compact)
		at := f.field("MESSAGE="+strings.Repeat("x", 72-8-len("MESSAGE=")+8*9)+string(fake), 0)
		f.entry(at)
		got, _ := parsetest.Events(t, Binary, f.b)
		if len(got) != 4 {
			t.Fatalf("%d events", len(got))
		}
		f.b[at] = 0x7f
		got, skips := parsetest.Events(t, Binary, f.b)
		for _, e := range got {
			if int(e.Offset) > at && int(e.Offset) < f.entries[3] && !bytes.Contains(e.Attributes, []byte("not_in_index")) {
				t.Errorf("a forged entry counts: %+v", e)
			}
		}
		if len(skips) == 0 {
			t.Error("nothing is told")
		}
	})
}

func TestFields(t *testing.T) {
	forms(t, func(t *testing.T, compact bool) {
		got, skips := parsetest.Events(t, Binary, compressed(t, compact).b)
		if len(got) != 3 || len(got[0].Message) != maxMessage || !bytes.Contains(got[0].Attributes, []byte(`"cut":true`)) {
			t.Fatalf("%d events, %v", len(got), skips)
		}
		if m := got[1].Message; m != lz4Text[8:] || bytes.Contains(got[1].Attributes, []byte("altered")) {
			t.Errorf("%q", m)
		}
		if got[2].Process != "app" || !bytes.Contains(got[2].Attributes, []byte(`"unread_fields":1`)) || !strings.Contains(reasons(skips), "xz") {
			t.Errorf("%s, %v", got[2].Attributes, skips)
		}
		f := create(compact, 8)
		many := []int{f.field("MESSAGE=many", 0), 12, 1 << 30, f.array, f.field("NONAME", 0)}
		for i := range 2000 {
			many = append(many, f.field(fmt.Sprintf("F%d=%s", i, strings.Repeat("v", 5000)), 0))
		}
		f.entry(many...)
		got, skips = parsetest.Events(t, Binary, f.b)
		if len(got) != 1 || got[0].Message != "many" || len(got[0].Attributes) > maxEntry || !bytes.Contains(got[0].Attributes, []byte(`"unread_fields":4`)) {
			t.Errorf("%d events, %v, %.300s", len(got), skips, got[0].Attributes)
		}
	})
}

// TestCut: what stands before a cut, and what damage does not touch, stays.
func TestCut(t *testing.T) {
	forms(t, func(t *testing.T, compact bool) {
		f := small(compact)
		for cut := 0; cut < len(f.b); cut += 5 {
			got, skips := parsetest.Events(t, Binary, f.b[:cut])
			want := 0
			for _, at := range f.entries {
				if at+int(le.Uint64(f.b[at+8:])) <= cut {
					want++
				}
			}
			if len(got) != want || cut > 0 && cut < len(f.b)-8 && len(skips) == 0 {
				t.Fatalf("cut at %d: %d of %d events, %v", cut, len(got), want, skips)
			}
			for _, junk := range []string{"\x00", "\xff\xfe junk", strings.Repeat("\x01\x03\x06\x00", 50)} {
				b := bytes.Clone(f.b)
				copy(b[cut:], junk)
				got, _ := parsetest.Events(t, Binary, b)
				if len(got) < 1 && cut > 272 {
					t.Fatalf("%.10q at %d leaves nothing", junk, cut)
				}
				parsetest.Events(t, Binary, append(append(bytes.Clone(f.b[:cut]), junk...), f.b[cut:]...))
			}
		}
	})
}

// TestTraps: small files can't ask for much work.
func TestTraps(t *testing.T) {
	start := time.Now()
	forms(t, func(t *testing.T, compact bool) {
		// An index of entries that overlap each other, each naming a thousand long fields.
		f := create(compact, 200_000)
		var many []int
		for i := range 1000 {
			many = append(many, f.field(fmt.Sprintf("MESSAGE=%d%s", i, strings.Repeat("m", 20_000)), 0))
		}
		at := f.entry(many...)
		for i := range 20_000 {
			o := at + 8*(i+1)
			f.list(i+1, o)
		}
		for range 200 {
			f.entry(many...)
		}
		// Entries inside an entry.
		for i := at + 64; i+24 < at+4000; i += 64 {
			f.b[i] = typeEntry
			le.PutUint64(f.b[i+8:], 4000)
		}
		parsetest.Events(t, Binary, f.b)
		// Arrays that begin within each other.
		f = create(compact, 8)
		first := len(f.b)
		le.PutUint64(f.b[176:], uint64(first))
		f.b = append(f.b, make([]byte, 4<<20)...)
		for i := first; i+32 < len(f.b); i += 32 {
			f.b[i] = typeArray
			le.PutUint64(f.b[i+8:], uint64(len(f.b)-i))
			le.PutUint64(f.b[i+16:], uint64(i+32))
		}
		parsetest.Events(t, Binary, f.b)
		// Frames that expand to very much.
		f = create(compact, 2000)
		for i := range 200 {
			f.entry(f.field(fmt.Sprintf("MESSAGE=%d%s", i, strings.Repeat("\x00", 1<<20)), flagZstd))
		}
		got, _ := parsetest.Events(t, Binary, f.b)
		if len(got) != 200 {
			t.Errorf("%d events", len(got))
		}
	})
	if d := time.Since(start); d > 60*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestExportDamage(t *testing.T) {
	b := load(t, "journal.export")
	whole, _ := parsetest.Events(t, Export, b)
	for cut := 0; cut < len(b); cut += 31 {
		got, _ := parsetest.Events(t, Export, b[:cut])
		before := 0
		for _, e := range whole {
			if e.Offset+e.Length <= int64(cut) {
				before++
			}
		}
		if len(got) < before {
			t.Fatalf("cut at %d: %d of %d events", cut, len(got), before)
		}
		for _, junk := range []string{"\x00\x00", "\xff\xfe{\n\n", "MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\x7f", "A\n\x10\x00\x00\x00\x00\x00\x00\x00", strings.Repeat("A", 70_000) + "\n"} {
			got, _ := parsetest.Events(t, Export, append(append(bytes.Clone(b[:cut]), junk...), b[cut:]...))
			if len(got) < len(whole)-2 {
				t.Fatalf("%.10q at %d: %d of %d events", junk, cut, len(got), len(whole))
			}
		}
	}
}

func TestJSONForms(t *testing.T) {
	for in, want := range map[string]string{
		`{"__REALTIME_TIMESTAMP":"1","_BOOT_ID":"b","MESSAGE":[104,105,0,255]}`:                   "hi\x00\xff",
		`{"__REALTIME_TIMESTAMP":"1","_BOOT_ID":"b","MESSAGE":["first","second"]}`:                "first",
		`{"__REALTIME_TIMESTAMP":"1","_BOOT_ID":"b","MESSAGE":[[104,105],"second"]}`:              "hi",
		`{"__REALTIME_TIMESTAMP":"1","_BOOT_ID":"b","MESSAGE":null}`:                              "An entry whose message was not read",
		`{"__REALTIME_TIMESTAMP":"99999999999999999999","_BOOT_ID":"b","MESSAGE":"no such time"}`: "no such time",
		`{"__REALTIME_TIMESTAMP":"1","_BOOT_ID":"b","MESSAGE":"x","LEVEL":"y","PRIORITY":"9"}`:    "x",
	} {
		got, skips := parsetest.Events(t, JSON, []byte(in+"\n"))
		if len(got) != 1 || got[0].Message != want || len(skips) != 0 {
			t.Errorf("%s: %+v %v", in, got, skips)
		}
		if c := JSON.Sniff([]byte(in)); c != parse.Certain {
			t.Errorf("%s: %d sure", in, c)
		}
	}
}

// TestPieces: lines that never end, and more of them than are kept.
func TestPieces(t *testing.T) {
	f := create(false, 1000)
	for i := range 200 {
		f.entry(f.field("MESSAGE=piece", 0), f.field(fmt.Sprintf("CONTAINER_ID_FULL=%d", i), 0), f.field("CONTAINER_PARTIAL_MESSAGE=true", 0))
	}
	for range 300 {
		f.entry(f.field("MESSAGE="+strings.Repeat("y", 1000), 0), f.field("CONTAINER_ID_FULL=199", 0), f.field("CONTAINER_PARTIAL_MESSAGE=true", 0))
	}
	got, _ := parsetest.Events(t, Binary, f.b)
	if len(got) != 200 {
		t.Fatalf("%d events", len(got))
	}
	if e := got[199]; len(e.Message) != maxMessage || !bytes.Contains(e.Attributes, []byte(`"pieces":301`)) || !bytes.Contains(e.Attributes, []byte(`"cut":true`)) {
		t.Errorf("%d bytes, %s", len(e.Message), e.Attributes)
	}
}

func TestCancelled(t *testing.T) {
	f := create(false, 20_000)
	for range 20_000 {
		f.entry(f.field("MESSAGE=x", 0))
	}
	ctx, cancel := context.WithCancel(t.Context())
	in, err := parse.NewInput(bytes.NewReader(f.b), event.Event{Artifact: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	n := 0
	err = Binary.Read(ctx, in, func(*event.Event) error {
		if n++; n == 10 {
			cancel()
		}
		return nil
	})
	if err == nil || n > 10_000 {
		t.Errorf("%v after %d events", err, n)
	}
}

func FuzzLZ4(f *testing.F) {
	f.Add(unhex(f, lz4Hex), 635)
	f.Add([]byte{0x10, 'a', 1, 0}, 100)
	f.Fuzz(func(t *testing.T, b []byte, room int) {
		room &= 0xffff
		out, ok := unLZ4(b, room)
		if len(out) > room || ok && len(out) < room && len(b) == 0 {
			t.Fatalf("%d bytes of %d", len(out), room)
		}
	})
}

func BenchmarkBinary(b *testing.B) {
	f := create(true, 20_000)
	for i := range 20_000 {
		f.entry(f.field(fmt.Sprintf("MESSAGE=request %d was served", i), 0), f.field("_COMM=app", 0), f.field("_PID=7", 0), f.field("_UID=0", 0), f.field("PRIORITY=6", 0),
			f.field("_BOOT_ID=5f0b2a1c7d3e4f60918273645546372a", 0), f.field("_HOSTNAME=node-1", 0), f.field("_TRANSPORT=stdout", 0), f.field("_SYSTEMD_UNIT=app.service", 0),
			f.field("_EXE=/opt/app", 0), f.field("_CMDLINE=/opt/app --serve", 0), f.field("SYSLOG_IDENTIFIER=app", 0))
	}
	parsetest.Bench(b, Binary, f.b)
}

func BenchmarkExport(b *testing.B) {
	parsetest.Bench(b, Export, bytes.Repeat(load(b, "journal.export"), 50))
}

func BenchmarkJSON(b *testing.B) {
	parsetest.Bench(b, JSON, bytes.Repeat(load(b, "journal.json"), 50))
}
