package jsonrecords

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/parse"
)

func all(t testing.TB, content string, o Options, slow bool) (recs []string, skips []parse.Skip) {
	t.Helper()
	in, err := parse.NewInput(strings.NewReader(content), event.Event{Artifact: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var r io.Reader = in
	if slow {
		r = iotest.OneByteReader(in)
	}
	s := &scanner{r: r, skip: in.Skip, o: o, indent: -1}
	for {
		rec, err := s.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := content[rec.Offset : rec.Offset+rec.Length]; got != string(rec.Data) {
			t.Fatalf("the record %q cites %q", rec.Data, got)
		}
		text := string(rec.Data)
		if rec.Cut {
			text = "CUT " + text
		}
		recs = append(recs, text)
	}
	return recs, in.Skips()
}

func TestEach(t *testing.T) {
	for _, c := range []struct {
		name, content string
		want          []string
		skipped       int64
	}{
		{"lines", "{\"a\":1}\n{\"a\":2}\r\n\n{\"a\":3}", []string{`{"a":1}`, `{"a":2}`, `{"a":3}`}, 0},
		{"array", `[{"a":[1,{"b":2}]}, {"a":"]},{"} ]`, []string{`{"a":[1,{"b":2}]}`, `{"a":"]},{"}`}, 0},
		{"member", `{"n":1,"Records":[{"a":1},{"a":{}}],"next":[1,{"x":"}"}]}` + "\n" + `{"Records":[{"a":3}]}`, []string{`{"a":1}`, `{"a":{}}`, `{"a":3}`}, 0},
		{"empty member", `{"Records":[]}{"a":1}`, []string{`{"a":1}`}, 0},
		{"member of a record stays", `{"Records":[{"Records":[{"a":1}]}]}`, []string{`{"Records":[{"a":1}]}`}, 0},
		{"member of another type", `{"Records":"x"}`, []string{`{"Records":"x"}`}, 0},
		{"pretty", "{\n  \"a\": [\n    {\n \"b\": 1}\n  ]\n}\n{\n}", []string{"{\n  \"a\": [\n    {\n \"b\": 1}\n  ]\n}", "{\n}"}, 0},
		{"junk line", "hello {\n{\"a\":1}\nbye", []string{`{"a":1}`}, 2},
		{"cut line in a string", "{\"a\":\"x\n{\"a\":2}", []string{`CUT {"a":"x`, `{"a":2}`}, 0},
		{"cut line after a value", "{\"a\":1\n{\"a\":2}", []string{`CUT {"a":1`, `{"a":2}`}, 0},
		{"cut line before a value", "{\"a\":\n{\"a\":2}\n{\"a\":3}", []string{`CUT {"a":`, `{"a":2}`, `{"a":3}`}, 0},
		{"cut at the end", "{\"a\":1}\n{\"a\":", []string{`{"a":1}`, `CUT {"a":`}, 0},
		{"damage in an array", `{"Records":[{"a":1},{"a":!!!,"c":4},{"a":3}]}`, []string{`{"a":1}`, `CUT {"a":`, `{"a":3}`}, 1},
		{"NULs before a line", "{\"a\":1}\n\x00\x00\x00{\"a\":2}", []string{`{"a":1}`, `{"a":2}`}, 0},
		{"byte order mark", "\xef\xbb\xbf{\"a\":1}", []string{`{"a":1}`}, 0},
		{"scalars", `[1,"x",{"a":1}]`, nil, 1},
		{"too long", `{"a":"` + strings.Repeat("x", 5000) + "\"}\n{\"a\":2}", []string{`{"a":2}`}, 1},
		{"too long and cut", `{"a":"` + strings.Repeat("x", 5000) + "\n{\"a\":2}", []string{`{"a":2}`}, 1},
		{"deep", strings.Repeat(`{"a":`, 600) + "1\n{\"a\":2}", []string{"CUT " + strings.Repeat(`{"a":`, 512), `{"a":2}`}, 1},
	} {
		for _, slow := range []bool{false, true} {
			o := Options{Members: []string{"Records"}, Max: 4096}
			got, skips := all(t, c.content, o, slow)
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s, slow %v:\n got %q\nwant %q", c.name, slow, got, c.want)
			}
			n := int64(0)
			for _, s := range skips {
				n += s.Count
			}
			if n != c.skipped {
				t.Errorf("%s: skipped %+v", c.name, skips)
			}
		}
	}
}

func TestTree(t *testing.T) {
	var tr Tree
	root, ok := tr.Parse([]byte(`{"a":{"b":[1,-2.5e3,"x\n\u00e4\ud83d\ude00",null,true]},"c":"443","d":{},"e":[]}`))
	if !ok {
		t.Fatal("not parsed")
	}
	if got := root.Get("a", "b").Len(); got != 5 {
		t.Errorf("%d elements", got)
	}
	if got := root.Get("a", "b").At(2).Text(); got != "x\nä😀" {
		t.Errorf("text %q", got)
	}
	if v, ok := root.Get("a", "b").At(1).Int(); !ok || v != -2500 {
		t.Errorf("number %d", v)
	}
	if root.Get("c").Whole() != 443 || root.Get("x", "y").Exists() || root.Get("a", "b").At(3).Exists() {
		t.Error("members")
	}
	if got := string(root.Append(nil, 1000)); got != `{"a":{"b":[1,-2.5e3,"x\u000aä😀",null,true]},"c":"443","d":{},"e":[]}` {
		t.Error(got)
	}
	cut, ok := tr.Parse([]byte(`{"a":{"b":1,"c":"x`))
	if ok || cut.Get("a", "b").Whole() != 1 {
		t.Error("of a record that breaks off, nothing is left")
	}
}

// FuzzTree agrees with encoding/json on what is valid, and on the values.
func FuzzTree(f *testing.F) {
	f.Add([]byte(`{"a":[1,2.0,{"b":"\u00e4\n"}],"c":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var tr Tree
		root, ok := tr.Parse(b)
		out := root.Append(nil, 1<<20)
		root.Each(func(_ string, v Node) bool { _, _ = v.Int(); return v.Text() != "no" })
		if !ok {
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q became %q", b, out)
		}
		if json.Valid(b) {
			var x, y any
			if json.Unmarshal(b, &x) == nil && json.Unmarshal(out, &y) == nil && !reflect.DeepEqual(x, y) && bytes.IndexByte(b, 0xff) < 0 {
				t.Fatalf("%q became %q", b, out)
			}
		}
	})
}

// FuzzRecords: no record outside the content, and what is valid JSON lines is found wholly.
func FuzzRecords(f *testing.F) {
	f.Add("{\"a\":1}\n{\"a\":2}", true)
	f.Add(`{"Records":[{"a":1},{"a":2}],"x":1}`, false)
	f.Fuzz(func(t *testing.T, content string, slow bool) {
		if strings.HasPrefix(content, "\x1f\x8b") || strings.HasPrefix(content, "\x28\xb5") {
			return
		}
		o := Options{Members: []string{"Records"}, Max: 256}
		got, _ := all(t, content, o, slow)
		if other, _ := all(t, content, o, !slow); !reflect.DeepEqual(got, other) {
			t.Fatalf("%q and %q", got, other)
		}
	})
}

func BenchmarkEach(b *testing.B) {
	var content bytes.Buffer
	for i := range 1000 {
		fmt.Fprintf(&content, `{"eventVersion":"1.08","n":%d,"userIdentity":{"type":"AssumedRole","arn":"arn:aws:sts::111122223333:assumed-role/x/y"},"list":[1,2,3],"text":"%s"}`+"\n", i, strings.Repeat("word ", 100))
	}
	b.SetBytes(int64(content.Len()))
	for b.Loop() {
		in, _ := parse.NewInput(bytes.NewReader(content.Bytes()), event.Event{})
		n := 0
		if err := Read(context.Background(), in, Options{Members: []string{"Records"}}, func(_ Record, root Node) (bool, error) {
			n += len(root.Get("text").Text())
			return true, nil
		}); err != nil || n == 0 {
			b.Fatal(err, n)
		}
	}
}
