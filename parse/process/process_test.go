package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sherd-forensics/sherd/event"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/evidence/record"
	formats "github.com/sherd-forensics/sherd/parse"
	"github.com/sherd-forensics/sherd/verdict"
)

var update = flag.Bool("update", false, "write the golden files anew")

// seal makes a package of artifacts by path.
func seal(t testing.TB, artifacts map[string][]byte, errs ...string) *evidence.Package {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.sherd")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w, err := evidence.NewWriter(out, evidence.WriterOptions{Tool: "test", ID: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range artifacts {
		if _, err := w.Add(evidence.Meta{Path: name, Origin: "test", Errors: errs}, b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := evidence.Open(path, evidence.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile("testdata/"+name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(string(testdata(t, name)), string(got)); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", name, d)
	}
}

func TestGolden(t *testing.T) {
	p := seal(t, map[string][]byte{Path: testdata(t, "processes.jsonl")})
	var b bytes.Buffer
	for r, err := range Read(p) {
		if err != nil {
			fmt.Fprintf(&b, "error: %v\n", err)
			continue
		}
		fmt.Fprintf(&b, "%d %s %q %q %s @%d+%d\n", r.PID, r.State, r.Comm, r.Cmdline, r.Exe.Origin, r.Cite.Offset, r.Cite.Length)
	}
	golden(t, "rows.golden", b.Bytes())

	b.Reset()
	err := Events(p, func(formats.Skip) {}, func(e event.Event) error {
		j, err := json.Marshal(e)
		b.Write(append(j, '\n'))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "events.golden", b.Bytes())
}

// The bytes that a row cites are the row, and the hash is the artifact's.
func TestCitations(t *testing.T) {
	raw := testdata(t, "processes.jsonl")
	p := seal(t, map[string][]byte{Path: raw})
	e, _ := p.Artifact(Path)
	n := 0
	for r, err := range Read(p) {
		if bad := (*LineError)(nil); errors.As(err, &bad) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		got, err := parse(raw[r.Cite.Offset : r.Cite.Offset+r.Cite.Length])
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r.Process, got); d != "" || r.Cite.SHA256 != e.SHA256 || r.Cite.Artifact != Path {
			t.Errorf("%+v: %s", r.Cite, d)
		}
	}
	if n != 7 {
		t.Errorf("%d rows, want 7", n)
	}
}

func TestNoProcesses(t *testing.T) {
	p := seal(t, nil)
	var missing *evidence.MissingError
	for _, err := range Read(p) {
		if !errors.As(err, &missing) {
			t.Errorf("error %v", err)
		}
	}
	if err := Events(p, func(formats.Skip) {}, func(event.Event) error { return nil }); !errors.As(err, &missing) {
		t.Errorf("Events: %v", err)
	}
	if _, err := Environ(p, 1); !errors.As(err, &missing) {
		t.Errorf("Environ: %v", err)
	}
	// An empty list is no error: nothing ran.
	p = seal(t, map[string][]byte{Path: nil})
	for r, err := range Read(p) {
		t.Errorf("row %+v, error %v", r, err)
	}
}

// Whoever stops listening is heard.
func TestStop(t *testing.T) {
	p := seal(t, map[string][]byte{Path: testdata(t, "processes.jsonl")})
	stop := errors.New("enough")
	n := 0
	if err := Events(p, func(formats.Skip) {}, func(event.Event) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("%d events, error %v", n, err)
	}
	for r, err := range Read(p) {
		if r.PID != 4711 || err != nil {
			t.Errorf("the first row is %+v, %v", r, err)
		}
		break
	}
}

// A row that is too long is one lost row, not the end.
func TestLongLine(t *testing.T) {
	row := `{"pid":7,"dir":"process/7","exe":{"path":"/x","origin":"image"}}` + "\n"
	long := `{"pid":8,"dir":"process/8","comm":"` + strings.Repeat("a", maxLine) + "\"}\n"
	p := seal(t, map[string][]byte{Path: []byte(row + long + row)})
	var rows, bad int
	for _, err := range Read(p) {
		var le *LineError
		switch {
		case err == nil:
			rows++
		case errors.As(err, &le) && le.Offset == int64(len(row)):
			bad++
		default:
			t.Error(err)
		}
	}
	if rows != 2 || bad != 1 {
		t.Errorf("%d rows, %d bad lines", rows, bad)
	}
}

func TestCommand(t *testing.T) {
	args := []record.Name{record.Name(strings.Repeat("a", maxCommand-2)), "bcd"}
	s, cut := command(args)
	if !cut || len(s) != maxCommand || !strings.HasSuffix(s, "a b") {
		t.Errorf("%d bytes, cut %v, ends in %q", len(s), cut, s[len(s)-3:])
	}
	if s, cut := command([]record.Name{"a", "", "b"}); s != "a  b" || cut {
		t.Errorf("%q, %v", s, cut)
	}
	if s, cut := command(make([]record.Name, maxCommand+10)); len(s) > maxCommand+1 || !cut {
		t.Errorf("%d bytes of empty arguments, cut %v", len(s), cut)
	}
}

func TestEnviron(t *testing.T) {
	raw := []byte("PATH=/usr/bin\x00EMPTY=\x00\x00\x00BARE\x00A=1\x00A=2=3\x00=odd\x00BYTES=\xff\n\x1b\x00CUT=o")
	p := seal(t, map[string][]byte{"process/12/environ": raw, "process/13/environ": nil})
	got, err := Environ(p, 12)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := p.Artifact("process/12/environ")
	want := [][2]string{{"PATH", "/usr/bin"}, {"EMPTY", ""}, {"BARE", ""}, {"A", "1"}, {"A", "2=3"}, {"", "odd"}, {"BYTES", "\xff\n\x1b"}, {"CUT", "o"}}
	if len(got) != len(want) {
		t.Fatalf("%d variables: %+v", len(got), got)
	}
	for i, v := range got {
		cited := string(raw[v.Cite.Offset : v.Cite.Offset+v.Cite.Length])
		if v.Name != want[i][0] || v.Value != want[i][1] || cited != v.Name+"="+v.Value && cited != v.Name || v.Cite.SHA256 != e.SHA256 || v.Cite.Artifact != e.Path {
			t.Errorf("%+v cites %q", v, cited)
		}
	}
	if got, err := Environ(p, 13); len(got) != 0 || err != nil {
		t.Errorf("empty: %v, %v", got, err)
	}
}

// What is not whole says so, and gives what there is.
func TestEnvironIncomplete(t *testing.T) {
	p := seal(t, map[string][]byte{
		"process/1/environ": bytes.Repeat([]byte("A=1\x00"), maxVars+1),
		"process/2/environ": append([]byte("A=1\x00"), bytes.Repeat([]byte("x"), maxEnviron)...),
	})
	if got, err := Environ(p, 1); len(got) != maxVars || err == nil {
		t.Errorf("%d variables, %v", len(got), err)
	}
	if got, err := Environ(p, 2); len(got) != 2 || got[0].Value != "1" || err == nil {
		t.Errorf("%d variables, %v", len(got), err)
	}
	p = seal(t, map[string][]byte{"process/3/environ": []byte("A=1\x00")}, "input/output error")
	if got, err := Environ(p, 3); len(got) != 1 || err == nil || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	for line := range strings.Lines(string(testdata(f, "processes.jsonl"))) {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			return
		}
		j, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(j)
		if err != nil || again.Comm != r.Comm || again.Exe.Path != r.Exe.Path || again.PID != r.PID {
			t.Fatalf("%q\nbecame %q: %v", b, j, err)
		}
		e, err := started(&Row{Process: r}, parent{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{e.Message, e.Cmdline, e.Process, e.Path} {
			if strings.ContainsAny(s, "\x00\x1b\n\r\x7f") {
				t.Fatalf("control characters in %q", s)
			}
		}
	})
}

func FuzzEnviron(f *testing.F) {
	for _, s := range []string{"", "\x00", "A=1\x00B=2\x00", "no equals", "=\x00==", "A=1\x00\x00\x00title\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		vars, more := environ(b, verdict.Citation{})
		if more && len(vars) != maxVars {
			t.Fatal(len(vars))
		}
		end := int64(0)
		for _, v := range vars {
			if v.Cite.Offset < end || v.Cite.Length <= 0 || v.Cite.Offset+v.Cite.Length > int64(len(b)) {
				t.Fatalf("%+v of %d bytes", v, len(b))
			}
			end = v.Cite.Offset + v.Cite.Length
			if s := string(b[v.Cite.Offset:end]); s != v.Name+"="+v.Value && (s != v.Name || v.Value != "") {
				t.Fatalf("%+v cites %q", v, s)
			}
		}
	})
}
